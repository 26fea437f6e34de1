//! The leak scan's file access: what the edit adds, and which texts of train tasks the coding agent could read.

use super::agent::{self, StagedAgent};
use super::session::Session;
use crate::error::Result;
use crate::guard::BaseTree;
use crate::guard::leaks::{Sought, TaskText, added, scan};
use crate::store::traces;

/// Larger traces are not searched: a task's text is at the beginning, and hardly that long.
const LARGEST_TRACE: usize = 1 << 20;

/// After this many bytes of traces, the remaining tasks are known only by their ids, so that the scan stays free.
const MOST: usize = 64 << 20;

/// What the edit copied from train tasks, and settings that it must not make; one line each. Nothing when it is switched off.
/// On a branch without a prepared experiment no train task is known, so only settings are found. Errors: usage when the base
/// commit has no agent file; infrastructure when files cannot be compared.
pub(super) fn findings(session: &Session, base: &BaseTree, agent: &StagedAgent) -> Result<Vec<String>> {
    let config = &session.config;
    if config.leak_scan.is_off() {
        return Ok(Vec::new());
    }
    let before = agent::files_of(session, base)?;
    let lines = added(&before, agent.files())?;
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let workspace = session.paths.workspace();
    let train = session.state.summary.prepared.iter().flat_map(|prepared| &prepared.split.train);
    let sought = Sought::new(&lines);
    let mut left = if sought.needs_texts() { MOST } else { 0 };
    let tasks: Vec<TaskText> = train
        .map(|id| {
            let mut task = TaskText { id: id.clone(), ..TaskText::default() };
            let documents = if left > 0 { traces::documents(&workspace, id, LARGEST_TRACE) } else { Vec::new() };
            for document in documents {
                left = left.saturating_sub(document.len());
                if let Ok(document) = serde_json::from_slice(&document) {
                    task.read(&document);
                }
            }
            task
        })
        .collect();
    let text: Vec<_> = before.values().map(|file| String::from_utf8_lossy(&file.bytes)).collect();
    let models: Vec<&str> =
        [&config.agent_model, &config.user_model].into_iter().flatten().map(String::as_str).collect();
    Ok(scan(&lines, &sought, &text.join("\n"), &tasks, &models))
}

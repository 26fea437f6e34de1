//! What the judged edits changed, for those that git still has.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::experiment::Experiment;
use crate::error::Result;
use crate::guard::agent_files::{agent_fingerprint, read_editable_from_tree};
use crate::guard::{Editable, EditableFiles, Repo, show_path};
use crate::report::history::History;
use crate::report::page::{Edit, room};
use crate::report::text::harmless;
use crate::store::event::Prepared;

/// The number of edits whose diff is shown, newest first.
const DIFFS: usize = 200;
/// The number of candidates searched for rejected edits, newest first.
const CANDIDATES: usize = 400;

/// What each edit changed: a recorded one by its commit, another one by the candidate that the loop kept of it. A commit that git
/// no longer has is left out, as is an edit that was not kept.
pub(super) fn edits(experiment: &Experiment, history: &History, prepared: &Prepared) -> Vec<Edit> {
    let paths = prepared.config["editable"].as_array().map_or(&[][..], Vec::as_slice);
    let paths: Vec<&str> = paths.iter().filter_map(serde_json::Value::as_str).collect();
    let Ok(editable) = Editable::new(&paths) else { return Vec::new() };
    let mut commits = Commits { repo: &experiment.repo, editable, read: HashMap::new() };
    let judged: Vec<usize> = history.judged().into_iter().rev().take(DIFFS).collect();
    let mut kept = commits.candidates(judged.iter().filter_map(|at| {
        let version = &history.versions[*at];
        version.recorded.is_none().then_some(version.agent.as_str())
    }));
    let (mut left, mut edits) = (room(), Vec::new());
    for (done, at) in judged.iter().enumerate() {
        let version = &history.versions[*at];
        let Some(verdict) = &version.verdict else { continue };
        let (commit, candidate) = match &version.recorded {
            Some(recorded) => (recorded.commit.clone(), None),
            None => match kept.remove(&version.agent) {
                Some((name, commit)) => (commit, Some(name)),
                None => continue,
            },
        };
        let (Ok(before), Ok(after)) = (commits.files(&verdict.base), commits.files(&commit)) else { continue };
        let subject = experiment.repo.subject(&commit).ok().flatten().unwrap_or_default();
        let mut edit = Edit::new(*at, commit, candidate, harmless(&subject).into_owned(), left / (judged.len() - done));
        for name in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
            let bytes = |files: &EditableFiles| files.get(name).map(|file| file.bytes.clone());
            edit.file(&show_path(name), bytes(&before).as_deref(), bytes(&after).as_deref());
        }
        left -= edit.size.min(left);
        edits.push(edit);
    }
    edits
}

/// The editable files of commits, each read once: rejected edits share their base.
struct Commits<'a> {
    repo: &'a Repo,
    editable: Editable,
    read: HashMap<String, Rc<EditableFiles>>,
}

impl Commits<'_> {
    fn files(&mut self, commit: &str) -> Result<Rc<EditableFiles>> {
        if let Some(files) = self.read.get(commit) {
            return Ok(Rc::clone(files));
        }
        let files = Rc::new(read_editable_from_tree(&self.repo.tree(commit)?, &self.editable)?);
        self.read.insert(commit.to_string(), Rc::clone(&files));
        Ok(files)
    }

    /// The names and commits of those candidates that are one of these agents. Any process may name a commit a candidate, so
    /// its files decide.
    fn candidates<'a>(&mut self, agents: impl Iterator<Item = &'a str>) -> HashMap<String, (String, String)> {
        let mut wanted: BTreeSet<&str> = agents.collect();
        let mut found = HashMap::new();
        for (name, commit) in self.repo.candidates().unwrap_or_default().into_iter().take(CANDIDATES) {
            if wanted.is_empty() {
                break;
            }
            let Ok(files) = self.files(&commit) else { continue };
            let agent = agent_fingerprint(&files);
            if wanted.remove(agent.as_str()) {
                found.insert(agent, (name, commit));
            }
        }
        found
    }
}

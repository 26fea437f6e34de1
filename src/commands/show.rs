//! `show`: the trace of a train task, or the table of those that fail.

use std::collections::BTreeMap;

use serde_json::json;

use super::experiment::Experiment;
use super::missing::unknown_task;
use crate::cli::{Global, Show};
use crate::error::{Code, EXIT_OK, Error, Result};
use crate::model::trial::Split;
use crate::report::columns;
use crate::report::evidence::left;
use crate::report::failing::{Failing, failing};
use crate::report::history::{History, marks};
use crate::report::show::{About, LINES, as_json, lines};
use crate::report::text::{name, one_line};
use crate::store::traces::{TracePlace, trial_numbers};
use crate::ui::Ui;

/// Larger traces are not read, in bytes.
const LARGEST: u64 = 128 << 20;
/// Agents whose marks are shown in a table.
const MARKS: usize = 24;
/// Longest name of a task in a table, in characters.
const TASK: usize = 48;

/// Errors: usage for a task that is not in train; infrastructure when the disk refuses.
pub(super) fn run(args: &Show, global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let history = experiment.read_history()?;
    let prepared = history.summary().prepared.as_ref().ok_or_else(super::missing::not_prepared)?;
    match &args.task {
        Some(task) if !history.is_train(task) => Err(unknown_task(task, Split::Train, &prepared.split.train)),
        Some(task) => one(args, task, &history, &experiment, ui),
        None => table(args, &history, &experiment, ui),
    }
}

fn one(args: &Show, task: &str, history: &History, experiment: &Experiment, ui: &Ui) -> Result<i32> {
    let workspace = experiment.paths.workspace();
    let place = if args.baseline { TracePlace::Baseline } else { TracePlace::Latest };
    let Some(found) = left(&workspace, place, task, args.trial, LARGEST)? else {
        let what = format!("there is no {} trace of `{}`, trial {}", place.as_str(), one_line(task, 200), args.trial);
        return Err(Error::usage(what)
            .code(Code::NothingToShow)
            .hint("`autoharness benchmark --task-ids ID` makes one."));
    };
    let of = |agent: &str| history.versions.iter().rposition(|version| !agent.is_empty() && version.agent == agent);
    let about = About {
        task: task.to_string(),
        in_suite: history.summary().suite().contains(task),
        whose: of(&found.result.agent)
            .map_or_else(|| "an agent that the ledger does not know".into(), |place| history.label(place)),
        history: marks(&history.columns(), task),
        trials: trial_numbers(&workspace, place, task)?,
    };
    ui.json(&as_json(&about, &found, args.full));
    lines(&about, &found, args.full).iter().for_each(|line| ui.line(line));
    Ok(EXIT_OK)
}

fn table(args: &Show, history: &History, experiment: &Experiment, ui: &Ui) -> Result<i32> {
    let found = failing(history, &experiment.paths.workspace());
    let of = history.summary().train_results.len();
    let mut by_signature: BTreeMap<String, Vec<&Failing>> = BTreeMap::new();
    for each in &found {
        by_signature.entry(each.signature.to_string()).or_default().push(each);
        ui.json(&json!({"type": "failing", "task": each.task, "reward": each.reward, "signature": each.signature.to_string(),
            "outcome": each.signature.outcome, "exception": each.signature.exception, "check": each.signature.check,
            "tool_error": each.signature.tool_error, "history": each.history, "older_trace": each.is_older, "directory": each.place}));
    }
    let past = |marks: &str| {
        let skipped = marks.chars().count().saturating_sub(if args.full { usize::MAX } else { MARKS });
        let newest: String = marks.chars().skip(skipped).collect();
        if skipped > 0 { format!("…{newest}") } else { newest }
    };
    let shown = if args.full { found.len() } else { LINES - 5 };
    let mut earlier = String::new();
    let rows = found.iter().take(shown).map(|each| {
        let signature = each.signature.to_string();
        let same = if signature == earlier { "\"".to_string() } else { one_line(&signature, 160) };
        let older = if each.is_older { " (its trace is of another trial)" } else { "" };
        earlier = signature;
        [name(&each.task, TASK), past(&each.history), format!("{same}{older}")]
    });
    if !found.is_empty() {
        columns::lines(["task", "history", "signature"], rows).iter().for_each(|line| ui.line(line));
    }
    if found.len() > shown {
        ui.line(format!("and {} more (--full)", found.len() - shown));
    }
    if !found.is_empty() {
        ui.line("history: one mark per agent, the newest last: . passes, x fails, ? no evidence, - not run");
    }
    ui.line(format!("show: failing={} of={of} signatures={}", found.len(), by_signature.len()));
    ui.json(&json!({"type": "show", "failing": found.len(), "of": of, "signatures": by_signature.len()}));
    if let Some(first) = found.first() {
        ui.hint(format!("`autoharness show {}` shows the first one's trace.", shell_word(&first.task)));
    }
    Ok(EXIT_OK)
}

/// A task's id as it is typed into a shell.
fn shell_word(task: &str) -> String {
    crate::guard::shell_path(task.as_bytes())
}

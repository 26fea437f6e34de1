//! `suite`: what must keep passing, how it fared, and why some of it does not count. Only a human should change it by hand;
//! such changes are in the ledger, and `status` counts them.

use serde_json::json;

use super::experiment::Experiment;
use super::missing::{not_prepared, unknown_task};
use super::session::{Reading, Session};
use crate::cli::{Global, SuiteAction, SuiteArgs, SuiteTasks};
use crate::error::{EXIT_OK, Error, Result};
use crate::model::score::passes;
use crate::model::suite::{SuiteChange, TaskHistory};
use crate::model::trial::{Split, show};
use crate::store::comparison::{WhatCounts, histories};
use crate::store::event::{By, Event, SuiteChanged};
use crate::store::state::timestamp;
use crate::store::summary::{Aside, Summary};
use crate::ui::Ui;

/// Errors: usage when the experiment is not prepared, or a task is no train task or not in the suite.
pub(super) fn run(args: &SuiteArgs, global: &Global, ui: &Ui) -> Result<i32> {
    let (change, tasks) = match &args.action {
        None | Some(SuiteAction::List) => return list(global, ui),
        Some(SuiteAction::Add(tasks)) => (SuiteChange::Add, tasks),
        Some(SuiteAction::Quarantine(tasks)) => (SuiteChange::Quarantine, tasks),
        Some(SuiteAction::Retire(tasks)) => (SuiteChange::Retire, tasks),
    };
    let mut session = Session::open(Experiment::find(global, ui)?, Reading::Summary)?;
    session.require_views()?;
    session.prepared()?;
    let changed = changed(change, tasks, &session)?;
    let summary = &session.state.summary;
    // What it brought in by itself it passed, though no record says so.
    let own = summary.recorded_agent.as_ref().and_then(|agent| summary.pending.get(agent));
    let has_passed = |task: &String| {
        passes(summary.accepted_results.get(task).copied().flatten()) || own.is_some_and(|own| own.contains(task))
    };
    for task in changed.iter().filter(|_| change == SuiteChange::Add) {
        if !has_passed(task) {
            ui.warn(format!(
                "{} did not pass with the recorded agent when last run: until it does, gates count it as broken",
                show(task)
            ));
        }
    }
    if changed.is_empty() {
        ui.line("suite: nothing to change");
        return Ok(EXIT_OK);
    }
    session.append(Event::SuiteChanged(SuiteChanged {
        change,
        tasks: changed.clone(),
        reason: tasks.reason.trim().to_string(),
        by: By::Hand,
    }))?;
    session.finish()?;
    let names: Vec<String> = changed.iter().map(|task| show(task)).collect();
    ui.line(format!("suite: {} {}", change.as_str(), names.join(", ")));
    ui.json(&json!({"type": "suite_changed", "change": change, "tasks": changed}));
    Ok(EXIT_OK)
}

/// The tasks that are not in that state yet.
fn changed(change: SuiteChange, asked: &SuiteTasks, session: &Session) -> Result<Vec<String>> {
    if asked.reason.trim().is_empty() {
        return Err(Error::usage("a change of the suite needs a reason").hint("say why: --reason \"flaky since …\"."));
    }
    let summary = &session.state.summary;
    let train = &session.prepared()?.split.train;
    let suite = summary.suite_for(summary.recorded_agent.as_deref().unwrap_or_default());
    let mut tasks = Vec::new();
    for task in &asked.tasks {
        // A hold-out task is as unknown as any other word.
        if train.binary_search(task).is_err() {
            return Err(unknown_task(task, Split::Train, train));
        }
        let is_in = suite.contains(task) || summary.retired.contains_key(task);
        let is_aside = summary.quarantined.contains_key(task) || summary.retired.contains_key(task);
        let is_new = match change {
            // What only the recorded agent itself must keep is not yet what every agent must keep.
            SuiteChange::Add => !summary.kept.contains(task) || is_aside,
            SuiteChange::Quarantine => !summary.quarantined.contains_key(task),
            SuiteChange::Retire => !summary.retired.contains_key(task),
        };
        if change == SuiteChange::Retire && !is_in {
            return Err(
                Error::usage(format!("{} is not in the suite", show(task))).hint("`autoharness suite` lists it.")
            );
        }
        if is_new && !tasks.contains(task) {
            tasks.push(task.clone());
        }
    }
    Ok(tasks)
}

/// Where a task of the suite stands.
fn standing<'s>(summary: &'s Summary, task: &str) -> (&'static str, Option<&'s Aside>) {
    match (summary.retired.get(task), summary.quarantined.get(task)) {
        (Some(aside), _) => ("retired", Some(aside)),
        (None, Some(aside)) => ("quarantined", Some(aside)),
        (None, None) => ("counted", None),
    }
}

fn list(global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let state = experiment.read_state()?;
    let summary = &state.summary;
    let prepared = summary.prepared.as_ref().ok_or_else(not_prepared)?;
    let tasks: Vec<String> = summary
        .suite()
        .into_iter()
        .chain(summary.retired.keys().cloned())
        .filter(|task| prepared.split.of(task) == Some(Split::Train))
        .collect();
    let timeouts = summary.scoring().policy;
    let histories = histories(&state, &WhatCounts { protocol: &prepared.trial_protocol, timeouts }, &tasks);
    let aside = |kind: &str| tasks.iter().filter(|task| standing(summary, task).0 == kind).count();
    let (quarantined, retired) = (aside("quarantined"), aside("retired"));
    let counted = tasks.len() - quarantined - retired;
    ui.line(format!("suite: {counted} tasks count, {quarantined} in quarantine, {retired} retired"));
    ui.json(&json!({"type": "suite", "counted": counted, "quarantined": quarantined, "retired": retired}));
    for task in &tasks {
        let (kind, aside) = standing(summary, task);
        let TaskHistory { passed, of } = histories.get(task).copied().unwrap_or_default();
        let last = summary.suite_results.get(task).copied().flatten();
        let now = if passes(last) {
            "passes"
        } else if last.is_some() {
            "fails"
        } else {
            "-"
        };
        let why = aside.map(|aside| format!("  since {}: {}", timestamp(aside.at), aside.reason)).unwrap_or_default();
        ui.line(format!("{kind:<11}  {now:<6}  {passed:>2}/{of:<2}  {}{why}", show(task)));
        ui.json(&json!({"type": "suite_task", "task": task, "standing": kind, "last_result": last, "passed": passed,
            "of": of, "since": aside.map(|aside| timestamp(aside.at)), "reason": aside.map(|aside| &aside.reason),
            "by": aside.map(|aside| aside.by)}));
    }
    if !tasks.is_empty() {
        ui.hint("passes/trials: with accepted agents, the last ten.");
    }
    Ok(EXIT_OK)
}

//! `report`: the night in one HTML file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::experiment::Experiment;
use super::missing::not_prepared;
use super::output_file;
use super::report_edits::edits;
use crate::cli::{Global, ReportArgs};
use crate::error::{Code, EXIT_OK, Error, Result};
use crate::files;
use crate::report::evidence::{Left, left};
use crate::report::failing::{failing, of_the_failure};
use crate::report::history::History;
use crate::report::learnings;
use crate::report::page::{Inputs, TaskTraces, all, document, render, share, weight};
use crate::store::atomic;
use crate::store::event::Prepared;
use crate::store::state::timestamp;
use crate::store::traces::TracePlace;
use crate::ui::Ui;

/// Larger traces are named, not shown, in bytes.
const LARGEST: u64 = 16 << 20;
/// Larger learnings are left out, in bytes.
const LEARNINGS: u64 = 4 << 20;

/// Errors: usage before the experiment is prepared, and when the file cannot be placed there; infrastructure when the disk refuses.
pub(super) fn run(args: &ReportArgs, global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    output_file::refuse_ours(&experiment, args.out.as_deref())?;
    let history = experiment.read_history()?;
    let prepared = history.summary().prepared.as_ref().ok_or_else(not_prepared)?;
    let place = args.out.clone().unwrap_or_else(|| experiment.paths.workspace().join("report.html"));
    if place.is_dir() {
        return Err(Error::usage(format!("{} is a directory", place.display()))
            .code(Code::ReportUnwritable)
            .hint("name a file in it."));
    }
    let page = page(&experiment, &history, prepared, None, ui)?;
    atomic::replace(&place, page.as_bytes())?;
    ui.line(format!("report: {}", place.display()));
    ui.json(&json!({"type": "report", "file": place, "bytes": page.len(), "tasks": history.train().len()}));
    if args.open {
        open(&place, ui);
    }
    Ok(EXIT_OK)
}

/// The page; with a number it is a served one, which newer ones follow.
pub(super) fn page(
    experiment: &Experiment,
    history: &History,
    prepared: &Prepared,
    number: Option<u64>,
    ui: &Ui,
) -> Result<String> {
    let workspace = experiment.paths.workspace();
    let failing = failing(history, &workspace);
    let learnings = files::read_text_if_there(&experiment.paths.learnings(), LEARNINGS).unwrap_or_else(|error| {
        ui.warn(format!("the learnings are left out: {error}"));
        None
    });
    let name = experiment
        .paths
        .root
        .file_name()
        .map_or_else(|| "experiment".into(), |name| name.to_string_lossy().into_owned());
    let failing_tasks: BTreeSet<&String> = failing.iter().map(|each| &each.task).collect();
    let fails = |task: &String| failing_tasks.contains(task);
    // Those that fail now come first: they are the ones people look at, and get the room.
    let mut tasks: Vec<&String> = history.train().iter().collect();
    tasks.sort_by_key(|task| !fails(task));
    let (mut room, mut count) = (all(), tasks.len() * 2);
    let mut traces = Vec::new();
    for task in tasks {
        let mut read = TaskTraces { task: task.clone(), fails: fails(task), latest: None, baseline: None };
        let mut newest = None;
        for place in [TracePlace::Latest, TracePlace::Baseline] {
            // A link in the way hides one task's trace, and says so in the page.
            let found = match place {
                TracePlace::Latest if read.fails => of_the_failure(&workspace, task),
                _ => left(&workspace, place, task, 0, LARGEST),
            };
            let found = found.unwrap_or_else(|error| Some(Left::unreadable(place, &error.to_string())));
            // Before the first edit both are the same trial.
            let is_same =
                newest.is_some() && found.as_ref().map(|found| (found.result.clone(), found.trace.clone())) == newest;
            if let Some(found) = found.filter(|_| !is_same) {
                let shown = document(&found, &whose(history, &found.result.agent), share(room, count, read.fails));
                room = room.saturating_sub(weight(&shown));
                if place == TracePlace::Latest {
                    newest = Some((found.result, found.trace));
                    read.latest = Some(shown);
                } else {
                    read.baseline = Some(shown);
                }
            }
            count -= 1;
        }
        traces.push(read);
    }
    let inputs = Inputs {
        history,
        name,
        made: timestamp(chrono::Utc::now()),
        edits: edits(experiment, history, prepared),
        learnings: learnings.map(|text| learnings::sections(&text)).unwrap_or_default(),
        failing,
        traces,
    };
    Ok(render(&inputs, number))
}

fn whose(history: &History, agent: &str) -> String {
    let place = history.versions.iter().rposition(|version| !agent.is_empty() && version.agent == agent);
    place.map_or_else(|| "an unknown agent".into(), |place| history.label(place))
}

/// Opens the file, or the address, with the program that shows such things here. It is the user's program and outlives this command.
pub(super) fn open(place: &Path, ui: &Ui) {
    let program: PathBuf = if cfg!(target_os = "macos") { "open".into() } else { "xdg-open".into() };
    let nothing = std::process::Stdio::null;
    let started =
        std::process::Command::new(&program).arg(place).stdin(nothing()).stdout(nothing()).stderr(nothing()).spawn();
    if let Err(error) = started {
        ui.warn(format!("cannot open the report with {}: {error}", program.display()));
    }
}

//! `verify`: re-derives every verdict and view from the ledger, and every record from git.

use std::collections::BTreeMap;

use serde_json::json;

use super::experiment::Experiment;
use super::rederive;
use super::rederive_verdict;
use crate::cli::{Global, Verify};
use crate::error::{Code, EXIT_OK, EXIT_REJECTED, Error, Result};
use crate::guard::agent_files::read_editable_from_tree;
use crate::guard::{Editable, Violation, agent_fingerprint, compare_trees, violations};
use crate::model::gate::Status;
use crate::model::score::Scoring;
use crate::model::split::{SPLIT_SEED, stratified};
use crate::store::checkpoint::Checkpoint;
use crate::store::event::{Event, Prepared, Recorded};
use crate::store::ledger::{self, Tip};
use crate::store::lock::Lock;
use crate::store::state::{State, timestamp};
use crate::store::views::{self, Written};
use crate::ui::Ui;

#[derive(Default)]
struct Findings {
    problems: Vec<String>,
    verdicts: usize,
    records: usize,
    trials: usize,
    /// Highest score by protocol, which verdicts of the first rules had to reach.
    highest: BTreeMap<String, f64>,
}

/// Errors: usage when there is no ledger; a broken chain is a finding like any other (exit 1).
pub(super) fn run(args: &Verify, global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let path = experiment.paths.ledger();
    let checkpoint = Checkpoint::load(&experiment.paths.checkpoint());
    // A command that stopped before it wrote anything leaves an empty file.
    if fs_err::metadata(&path).map_or(0, |metadata| metadata.len()) == 0 && checkpoint.is_none() {
        return Err(Error::usage(format!("there is no ledger here: {}", path.display()))
            .code(Code::NotPrepared)
            .hint("run `autoharness prepare` first."));
    }
    // Restoring writes, so no other command may run; checking must not read a half-written state.
    let _lock = Lock::take(&experiment.paths.lock(), "autoharness verify", timestamp(chrono::Utc::now()))?;
    let mut findings = Findings::default();
    if let Some(Err(error)) = checkpoint.as_ref().map(|checkpoint| checkpoint.require_continued(&path)) {
        findings.problems.push(error.to_string());
    }
    let mut state = State::default();
    let read = ledger::read(&path, &Tip::genesis(), |entry| {
        let seq = entry.seq;
        match &entry.event {
            Event::Verdict(verdict) => {
                findings.verdicts += 1;
                let highest = findings.highest.get(&verdict.protocol).copied();
                for what in rederive_verdict::verdict(verdict, &state, highest) {
                    findings.wrong(seq, what);
                }
            }
            Event::Prepared(prepared) => findings.prepared(seq, prepared, &state),
            Event::Recorded(recorded) => findings.recorded(seq, recorded, &state, &experiment),
            Event::Confirmed(confirmed) => {
                for what in rederive::confirmed(confirmed, &state, &experiment) {
                    findings.wrong(seq, what);
                }
            }
            Event::Calibrated(calibrated) => {
                for what in rederive::calibrated(calibrated, &state, &experiment) {
                    findings.wrong(seq, what);
                }
            }
            Event::Resampled(resampled) => {
                for what in rederive::resampled(resampled, &state, &experiment) {
                    findings.wrong(seq, what);
                }
            }
            Event::Trial(_) => findings.trials += 1,
            _ => {}
        }
        state.apply(entry);
        Ok(())
    });
    match read {
        Err(error) => findings.problems.push(error.to_string()),
        Ok(report) => {
            if report.torn > 0 {
                ui.warn(format!("{}: a torn last line of {} bytes is not counted", path.display(), report.torn));
            }
            if report.newer {
                ui.warn("a newer autoharness wrote lines that this version cannot verify");
            }
            let remembered = checkpoint.filter(|checkpoint| checkpoint.is_understood() && checkpoint.tip == report.tip);
            if remembered.is_some_and(|checkpoint| json!(checkpoint.summary) != json!(state.summary)) {
                let path = experiment.paths.checkpoint();
                if args.restore {
                    fs_err::remove_file(&path)?;
                    ui.line("removed checkpoint.json, which is made again from the ledger");
                } else {
                    findings.problems.push(format!("{} is not what the ledger adds up to", path.display()));
                }
            }
            let now = views::render(&state.summary)?;
            let workspace = experiment.paths.workspace();
            let mut written = Written::load(&experiment.paths.written_views(), &workspace);
            let comparison = views::compare(&workspace, &now, &written)?;
            if !comparison.stale.is_empty() {
                ui.status(format!("not up to date, as a killed command leaves it: {}", comparison.stale.join(", ")));
            }
            let different: Vec<&str> = comparison.changed.iter().chain(&comparison.missing).copied().collect();
            if args.restore {
                views::write(&workspace, &now, &mut written)?;
                different.iter().for_each(|name| ui.line(format!("restored {name}")));
            } else {
                let view = |name: &&str| format!("workspace/{name} is not what the ledger adds up to");
                findings.problems.extend(different.iter().map(view));
            }
        }
    }
    if state.summary.adopted_rows > 0 {
        let rows = state.summary.adopted_rows;
        ui.warn(format!("{rows} rows of the history were adopted from an earlier workspace and cannot be verified"));
    }
    print(ui, &findings);
    if findings.problems.is_empty() {
        return Ok(EXIT_OK);
    }
    ui.hint("`autoharness verify --restore` rewrites changed views; nothing rewrites a ledger.");
    Ok(EXIT_REJECTED)
}

fn print(ui: &Ui, findings: &Findings) {
    for problem in &findings.problems {
        ui.line(format!("wrong  {problem}"));
        ui.json(&json!({"type": "problem", "problem": problem}));
    }
    let status = if findings.problems.is_empty() { "ok" } else { "failed" };
    ui.line(format!(
        "verify: {status} trials={} verdicts={} records={} problems={}",
        findings.trials,
        findings.verdicts,
        findings.records,
        findings.problems.len()
    ));
    ui.json(&json!({"type": "verify", "status": status, "trials": findings.trials, "verdicts": findings.verdicts,
        "records": findings.records, "problems": findings.problems.len()}));
}

impl Findings {
    fn wrong(&mut self, seq: u64, what: impl std::fmt::Display) {
        self.problems.push(format!("ledger line {}: {what}", seq + 1));
    }

    fn raise(&mut self, protocol: &str, val_score: f64) {
        let highest = self.highest.entry(protocol.to_string()).or_insert(val_score);
        *highest = highest.max(val_score);
    }

    fn prepared(&mut self, seq: u64, prepared: &Prepared, state: &State) {
        let scoring = scoring(prepared);
        let rewards =
            |tasks: &[String]| state.trials.rewards(&prepared.agent, &prepared.trial_protocol, tasks, scoring);
        let score = rewards(prepared.split.tasks(prepared.gate_split())).score();
        if score.mean != Some(prepared.baseline.val_score) {
            self.wrong(seq, "the baseline's score is not the mean of its trials");
        }
        self.raise(&prepared.protocol, prepared.baseline.val_score);
        let is_taken_over = prepared.adopted.as_ref().is_some_and(|adopted| adopted.split);
        if prepared.split_drawn && !is_taken_over && state.summary.prepared.is_none() {
            let all: Vec<String> = prepared.split.train.iter().chain(&prepared.split.test).cloned().collect();
            let drawn = stratified(&rewards(&all).0, SPLIT_SEED);
            if (&drawn.train, &drawn.test) != (&prepared.split.train, &prepared.split.test) {
                self.wrong(seq, "the split is not the one the baseline's results give");
            }
        }
        if state.summary.prepared.is_none() && !rederive::is_sealed_by_chance(prepared) {
            self.wrong(seq, "the sealed split is not the one that the tasks give");
        }
    }

    /// The row repeats a passing receipt, and the commit holds the agent that was measured.
    fn recorded(&mut self, seq: u64, recorded: &Recorded, state: &State, experiment: &Experiment) {
        self.records += 1;
        self.raise(&recorded.protocol, recorded.row.val_score);
        let receipt = state.summary.last_decided.as_ref().filter(|receipt| receipt.seq == recorded.receipt);
        let Some(receipt) = receipt else {
            return self.wrong(seq, "recorded without a receipt");
        };
        let (decision, row) = (&receipt.verdict.decision, &recorded.row);
        if decision.status != Status::Passed
            || decision.val_score != Some(row.val_score)
            || (decision.evals_passed, decision.evals_total) != (row.evals_passed, row.evals_total)
            || receipt.verdict.agent != recorded.agent
        {
            self.wrong(seq, "the recorded row is not what its receipt says");
        }
        let editable = state.summary.prepared.as_ref().map(|prepared| prepared.config["editable"].clone());
        let editable: Vec<String> = editable.and_then(|list| serde_json::from_value(list).ok()).unwrap_or_default();
        let fingerprint = || -> Result<String> {
            let tree = experiment.repo.tree(&recorded.commit)?;
            Ok(agent_fingerprint(&read_editable_from_tree(&tree, &Editable::new(&editable)?)?))
        };
        match fingerprint() {
            Ok(found) if found == recorded.agent => self.guarded(seq, recorded, state, experiment, &editable),
            Ok(_) => self.wrong(seq, format!("commit {} does not hold the agent that was measured", row.commit)),
            Err(error) => self.wrong(seq, format!("commit {} cannot be read: {error}", row.commit)),
        }
    }

    /// From one base commit to the next only editable files changed.
    fn guarded(&mut self, seq: u64, recorded: &Recorded, state: &State, experiment: &Experiment, editable: &[String]) {
        let summary = &state.summary;
        let guarded = summary.prepared.as_ref().is_some_and(|prepared| prepared.config["file_guard"] == true);
        let Some(base) = summary.base.as_deref().filter(|_| guarded) else { return };
        let changes = || -> Result<Vec<Violation>> {
            let (before, after) = (experiment.repo.tree(base)?, experiment.repo.tree(&recorded.commit)?);
            Ok(violations(&compare_trees(&before, &after), &Editable::new(editable)?))
        };
        let commit = &recorded.row.commit;
        match changes() {
            Ok(found) => {
                if let Some(first) = found.first() {
                    self.wrong(seq, format!("commit {commit} changes guarded files: {first}"));
                }
            }
            Err(error) => self.wrong(seq, format!("commit {base} cannot be read: {error}")),
        }
    }
}

fn scoring(prepared: &Prepared) -> Scoring {
    crate::store::summary::Summary { prepared: Some(prepared.clone()), ..Default::default() }.scoring()
}

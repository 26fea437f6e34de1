//! `status`: where the experiment stands, in one screen.

use std::collections::BTreeMap;

use serde_json::json;

use super::experiment::Experiment;
use super::in_force;
use super::measure::PROTOCOL_VERSION;
use crate::cli::Global;
use crate::error::{EXIT_OK, Result};
use crate::guard::agent_files::{read_editable_from_disk, read_editable_from_tree};
use crate::guard::{Editable, agent_fingerprint};
use crate::model::gate::Status;
use crate::model::score::passes;
use crate::model::usage::in_dollars;
use crate::report::bill::bill;
use crate::report::resampling::Resampling;
use crate::report::spark::spark;
use crate::store::claims::LastClaim;
use crate::store::lock::Lock;
use crate::store::proposals::Proposals;
use crate::store::state::timestamp;
use crate::store::summary::Summary;
use crate::store::views;
use crate::ui::{Ui, duration};

/// Iterations without improvement after which PROGRAM.md tells the coding agent to stop.
pub(super) const PATIENCE: u32 = 5;
/// Rows of the history shown.
const ROWS: usize = 8;
/// Scores in the line of blocks.
const LINE: usize = 60;
/// Gates in a row without a decision after which PROGRAM.md has the coding agent turn to the human.
const UNDECIDED: u32 = 3;
const OTHER_RULES: &str = "            -- other rules from here on: scores above are not comparable --";

pub(super) fn run(global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let summary = &experiment.read_summary()?;
    let holder = Lock::holder(&experiment.paths.lock());
    // A running command updates the views at its end.
    let changed = match &holder {
        Some(_) => Vec::new(),
        None => {
            let workspace = experiment.paths.workspace();
            let written = views::Written::load(&experiment.paths.written_views(), &workspace);
            views::compare(&workspace, &views::render(summary)?, &written)?.changed
        }
    };
    let next = match (holder.is_some(), changed.is_empty()) {
        (true, _) => "a command is running; wait for it".into(),
        (false, false) => "autoharness verify --restore: views of the ledger were changed".into(),
        // The gate will report an agent that cannot be read; here it is merely unknown.
        (false, true) => next_step(summary, &Agents::look(&experiment, summary).unwrap_or_default()),
    };
    let running = holder.as_ref().map(|holder| holder.command.as_str());
    ui.json(&as_json(summary, running, &changed, &next));
    let Some(prepared) = &summary.prepared else {
        ui.line(format!("experiment  {} (not prepared)", experiment.paths.root.display()));
        ui.line(format!("next        {next}"));
        return Ok(EXIT_OK);
    };
    let benchmark = prepared.config["benchmark"].as_str().unwrap_or("?");
    ui.line(format!("experiment  {}", experiment.paths.root.display()));
    let (train, test) = (prepared.split.train.len(), prepared.split.test.len());
    let sealed = match (prepared.split.sealed.len(), summary.claims.openings) {
        (0, _) => String::new(),
        (tasks, 0) => format!("; {tasks} are sealed"),
        (tasks, 1) => format!("; {tasks} were sealed, and opened once"),
        (tasks, times) => format!("; {tasks} were sealed, and opened {times} times"),
    };
    ui.line(format!("benchmark   {benchmark}, {train} train and {test} test tasks{sealed}"));
    if let Some(best) = summary.best(&prepared.protocol) {
        let baseline = prepared.baseline.val_score;
        let noise = noise_words(summary);
        ui.line(format!(
            "best        val_score {:.4} ({}), baseline {baseline:.4}{noise}",
            best.val_score, best.source
        ));
    }
    claim_lines(summary, ui);
    if let Some(resampling) = Resampling::of(summary) {
        ui.line(format!("luck        {}", resampling.sentence()));
    }
    train_lines(summary, ui);
    if let Some(receipt) = &summary.last_decided {
        let decision = receipt.verdict.told();
        let score = decision.val_score.map_or_else(|| "-".into(), |score| format!("{score:.4}"));
        ui.line(format!(
            "last gate   {} (val_score {score}); gates so far: {}",
            decision.status.as_str(),
            summary.gates
        ));
    }
    let spent = &summary.spent;
    let mut cost = format!("{} trials, {} of trial time", spent.trials, duration(spent.seconds));
    if spent.tokens > 0 {
        cost.push_str(&format!(", {} tokens", spent.tokens));
    }
    if spent.cost_usd > 0.0 {
        cost.push_str(&format!(", {}", in_dollars(spent.cost_usd)));
    }
    if spent.unpriced > 0 {
        cost.push_str(&format!(" ({} trials reported no dollars)", spent.unpriced));
    }
    ui.line(format!("spent       {cost}"));
    proposal_lines(&summary.proposals, ui);
    if summary.adopted_rows > 0 {
        ui.line(format!("adopted     {} rows from an earlier workspace, not verified", summary.adopted_rows));
    }
    if summary.accepted > 0 {
        ui.line(format!("accepted    {} times a human accepted changes of the rules or files", summary.accepted));
    }
    if summary.rerolls > 0 {
        ui.line(format!("re-measured {} times the hold-out was run again (all trials are averaged)", summary.rerolls));
    }
    if summary.answers > 0 {
        let times = if summary.answers == 1 { "once".into() } else { format!("{} times", summary.answers) };
        ui.line(format!("hold-out    asked {times} by gates; each answer tells a little of it"));
    }
    if summary.looks > 0 {
        ui.line(format!("looks       {} at per-task hold-out results", summary.looks));
    }
    ui.line(format!("scores      {}", scores(summary)));
    let without = summary.gates_without_improvement;
    ui.line(format!("stop rule   after {PATIENCE} gates without improvement; {without} so far"));
    ui.line("history     iteration  val_score  commit    passed");
    let skipped = summary.rows.len().saturating_sub(ROWS);
    for (number, row) in summary.rows.iter().enumerate().skip(skipped) {
        if summary.protocol_changes.contains(&number) {
            ui.line(OTHER_RULES);
        }
        let passed = if row.iteration == 0 { "-".into() } else { format!("{}/{}", row.evals_passed, row.evals_total) };
        ui.line(format!("            {:<9}  {:<9.4}  {:<8}  {passed}", row.iteration, row.val_score, row.commit));
    }
    if summary.protocol_changes.contains(&summary.rows.len()) {
        ui.line(OTHER_RULES);
    }
    if !changed.is_empty() {
        let names: Vec<String> = changed.iter().map(|name| format!("workspace/{name}")).collect();
        ui.line(format!("changed     {} (not by autoharness)", names.join(", ")));
    }
    if let Some(command) = running {
        ui.line(format!("running     {command}"));
    }
    ui.line(format!("next        {next}"));
    Ok(EXIT_OK)
}

/// How far a score strays by chance, where `calibrate` measured that.
fn noise_words(summary: &Summary) -> String {
    let Some(last) = &summary.claims.noise else { return String::new() };
    let of = if last.agent.is_at(summary.base.as_ref()) { "" } else { ", of an earlier agent" };
    format!("; noise floor ±{:.1} points (9 of 10 measurements{of})", 100.0 * last.noise.band)
}

/// What the last `confirm` said about the hold-out and the sealed split, and about which agent.
fn claim_lines(summary: &Summary, ui: &Ui) {
    for (word, last) in [("confirmed", &summary.claims.last), ("sealed", &summary.claims.last_sealed)] {
        let Some(last) = last else { continue };
        ui.line(format!("{word:<10}  {}; {}", last.words(summary.base.as_ref()), timestamp(last.at)));
    }
}

fn claim_json(summary: &Summary, last: Option<&LastClaim>) -> serde_json::Value {
    json!(last.map(|last| json!({
        "at": timestamp(last.at),
        "finding": last.claim.finding,
        "lift": last.claim.lift,
        "interval": last.claim.interval,
        "p": last.claim.p,
        "baseline_commit": last.baseline.commit,
        "best_commit": last.best.commit,
        "of_best": last.best.is_at(summary.base.as_ref()),
        "trials": last.trials,
        "look": last.look,
    })))
}

/// The recorded scores as a line of blocks, with a bar where the rules changed, because scores on its two sides are not comparable.
fn scores(summary: &Summary) -> String {
    let all: Vec<f64> = summary.rows.iter().map(|row| row.val_score).collect();
    let from = all.len().saturating_sub(LINE);
    let blocks = spark(&all[from..]);
    let mut line = String::new();
    for (place, block) in (from..).zip(blocks.chars()) {
        if place > from && summary.protocol_changes.contains(&place) {
            line.push('|');
        }
        line.push(block);
    }
    let end = |score: Option<&f64>| score.map_or_else(|| "-".into(), |score| format!("{score:.4}"));
    format!("{line} {} to {}", end(all.get(from)), end(all.last()))
}

/// What coding agents proposed to the loop, what it cost, and how far their predictions can be trusted.
fn proposal_lines(proposals: &Proposals, ui: &Ui) {
    if proposals.count() == 0 {
        return;
    }
    let Proposals { accepted, rejected, unusable, usage, predictions, came_true, unpredicted, .. } = proposals;
    ui.line(format!(
        "proposals   {}: {accepted} accepted, {rejected} rejected, {unusable} unusable",
        proposals.count()
    ));
    ui.line(format!("            {}", bill(usage)));
    if *predictions > 0 {
        ui.line(format!(
            "            {came_true} of {predictions} predicted fixes came true; {unpredicted} fixes were not predicted"
        ));
    }
    let won: Vec<String> = proposals
        .surfaces
        .iter()
        .map(|(surface, (tried, won))| format!("{} {won}/{tried}", surface.as_str()))
        .collect();
    if !won.is_empty() {
        ui.line(format!("            accepted by surface: {}", won.join(", ")));
    }
    let won: Vec<String> =
        proposals.groups.iter().map(|(name, (tried, won))| format!("{name} {won}/{tried}")).collect();
    if !won.is_empty() {
        ui.line(format!("            accepted by what they touched: {}", won.join(", ")));
    }
}

/// Train and suite are counted at different times and of different agents: `benchmark` runs train with the agent on disk,
/// gates run the suite with an edit, and results of a recorded edit are results of the committed agent.
fn train_lines(summary: &Summary, ui: &Ui) {
    let passing = |rewards: &BTreeMap<String, Option<f64>>| rewards.values().filter(|reward| passes(**reward)).count();
    let (now, of) = (passing(&summary.train_results), summary.train_results.len());
    let at = summary.train_timestamp.map(|at| format!(" when last run, {}", timestamp(at))).unwrap_or_default();
    let since = match passing(&summary.accepted_results) {
        known if known > now => format!("; {known}/{of} with what gates have seen since"),
        _ => String::new(),
    };
    ui.line(format!("train       {now}/{of} pass{at}{since}"));
    let held =
        summary.suite().iter().filter(|task| passes(summary.suite_results.get(*task).copied().flatten())).count();
    ui.line(match summary.suite().len() {
        0 => "suite       empty".to_string(),
        size => format!("suite       {size} tasks; {held} pass in the last gate{}", aside(summary)),
    });
}

/// Which suite tasks are not counted or not run, and how often the suite was changed by hand.
fn aside(summary: &Summary) -> String {
    let parts = [
        (summary.quarantined.len(), "in quarantine"),
        (summary.retired.len(), "retired"),
        (summary.suite_by_hand as usize, "changes by hand"),
    ];
    parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("; {count} {what}")).collect()
}

/// Fingerprints of the agent on disk; `None` where it was not needed or cannot be read.
#[derive(Default)]
struct Agents {
    on_disk: Option<String>,
    committed: Option<String>,
}

impl Agents {
    /// Looks only if the next step depends on it: after a pass that is not recorded, or a gate that decided nothing.
    fn look(experiment: &Experiment, summary: &Summary) -> Result<Agents> {
        let (Some(prepared), Some(base)) = (&summary.prepared, &summary.base) else { return Ok(Agents::default()) };
        if waiting(summary).is_none() && summary.last_status != Some(Status::Undecided) {
            return Ok(Agents::default());
        }
        let paths = prepared.config["editable"].as_array().map_or(&[][..], Vec::as_slice);
        let paths: Vec<String> = paths.iter().filter_map(|path| path.as_str().map(str::to_string)).collect();
        let editable = Editable::new(&paths)?;
        let base = experiment.repo.tree(base)?;
        let on_disk = agent_fingerprint(&read_editable_from_disk(&experiment.repo, &base, &editable)?);
        let head = experiment.repo.head()?.map(|head| experiment.repo.tree(&head)).transpose()?;
        let committed = head.map(|tree| read_editable_from_tree(&tree, &editable)).transpose()?;
        Ok(Agents { on_disk: Some(on_disk), committed: committed.as_ref().map(agent_fingerprint) })
    }
}

/// The agent that passed the last gate, when `record` would still take it.
fn waiting(summary: &Summary) -> Option<&str> {
    let receipt = summary.last_decided.as_ref()?;
    let verdict = &receipt.verdict;
    let takes = verdict.decision.status == Status::Passed
        && summary.last_recorded_receipt != Some(receipt.seq)
        && summary.recorded_agent.as_ref() != Some(&verdict.agent)
        && in_force::is_current(receipt, summary);
    takes.then_some(verdict.agent.as_str())
}

fn next_step(summary: &Summary, agents: &Agents) -> String {
    let Some(prepared) = &summary.prepared else { return "autoharness prepare".into() };
    if prepared.protocol_version != PROTOCOL_VERSION {
        return "tell the human: prepared by another version (autoharness prepare --accept measures anew)".into();
    }
    let here = |agent: &str| agents.on_disk.as_deref().is_none_or(|on_disk| on_disk == agent);
    if let Some(passed) = waiting(summary).filter(|agent| here(agent)) {
        return match agents.committed.as_deref() == Some(passed) {
            true => "autoharness record: the edit that passed the gate is committed".into(),
            false => "commit the edit that passed the gate, then autoharness record".into(),
        };
    }
    if summary.last_status == Some(Status::Undecided) && summary.last_judged.as_deref().is_none_or(here) {
        return match summary.undecided_in_a_row {
            ..UNDECIDED => "autoharness gate again: the last one decided nothing".into(),
            many => format!("tell the human: {many} gates in a row decided nothing (autoharness doctor)"),
        };
    }
    if summary.gates_without_improvement >= PATIENCE {
        return format!("stop: {} gates without improvement", summary.gates_without_improvement);
    }
    "read the traces of failing train tasks, edit the agent, autoharness gate".into()
}

fn as_json(summary: &Summary, running: Option<&str>, changed: &[&str], next: &str) -> serde_json::Value {
    let prepared = summary.prepared.as_ref();
    let best = prepared.and_then(|prepared| summary.best(&prepared.protocol));
    json!({
        "type": "status",
        "prepared": prepared.is_some(),
        "benchmark": prepared.map(|prepared| &prepared.config["benchmark"]),
        "train_tasks": prepared.map(|prepared| prepared.split.train.len()),
        "test_tasks": prepared.map(|prepared| prepared.split.test.len()),
        "base": summary.base,
        "baseline": prepared.map(|prepared| prepared.baseline.val_score),
        "best": best.map(|best| best.val_score),
        "best_source": best.map(|best| &best.source),
        "iterations": summary.rows.last().map(|row| row.iteration),
        "train_results_at": summary.train_timestamp.map(timestamp),
        "train_passed": summary.train_results.values().filter(|reward| passes(**reward)).count(),
        "suite_size": summary.suite().len(),
        "protocol_changes": summary.protocol_changes,
        "gates": summary.gates,
        "gates_without_improvement": summary.gates_without_improvement,
        "stop_after": PATIENCE,
        "scores": summary.rows.iter().map(|row| row.val_score).collect::<Vec<_>>(),
        "last_gate": summary.last_decided.as_ref().map(|receipt| receipt.verdict.decision.status),
        "trials": summary.spent.trials,
        "tokens": summary.spent.tokens,
        "cost_usd": summary.spent.cost_usd,
        "looks": summary.looks,
        "holdout_answers": summary.answers,
        "quarantined": summary.quarantined.len(),
        "retired": summary.retired.len(),
        "suite_changed_by_hand": summary.suite_by_hand,
        "accepted": summary.accepted,
        "holdout_remeasured": summary.rerolls,
        "adopted_rows": summary.adopted_rows,
        "confirmed": claim_json(summary, summary.claims.last.as_ref()),
        "confirmed_sealed": claim_json(summary, summary.claims.last_sealed.as_ref()),
        "sealed_tasks": prepared.map(|prepared| prepared.split.sealed.len()),
        "sealed_openings": summary.claims.openings,
        "noise": summary.claims.noise.as_ref().map(|last| json!({
            "at": timestamp(last.at),
            "sd": last.noise.sd,
            "band": last.noise.band,
            "agent_commit": last.agent.commit,
            "of_best": last.agent.is_at(summary.base.as_ref()),
        })),
        "confirmations": summary.claims.count,
        "resampling": Resampling::of(summary).map(|resampling| resampling.as_json()),
        "proposals": (summary.proposals.count() > 0).then_some(&summary.proposals),
        "running": running,
        "changed": changed,
        "next": next,
    })
}

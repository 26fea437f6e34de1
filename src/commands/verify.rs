//! `verify`: re-derives every verdict and view from the ledger, and every record from git.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::experiment::Experiment;
use super::rederive;
use crate::cli::{Global, Verify};
use crate::error::{Code, EXIT_OK, EXIT_REJECTED, Error, Result};
use crate::guard::staging::read_editable_from_tree;
use crate::guard::{Editable, Violation, agent_fingerprint, compare_trees, violations};
use crate::model::gate::{Decision, RULES, Status, decide};
use crate::model::paired::{Pairs, Rule};
use crate::model::score::Rewards;
use crate::model::split::{SPLIT_SEED, TaskSplit, stratified};
use crate::model::trial::Split;
use crate::store::checkpoint::Checkpoint;
use crate::store::comparison::{Sides, Tried, at_best, at_worst, confirmed, promotion_numbers, suite_known};
use crate::store::event::{Event, Prepared, Recorded, Verdict};
use crate::store::ledger::{self, Tip};
use crate::store::lock::Lock;
use crate::store::state::{State, timestamp};
use crate::store::views::{self, Written};
use crate::ui::Ui;

/// What verification found.
#[derive(Default)]
struct Findings {
    problems: Vec<String>,
    verdicts: usize,
    records: usize,
    trials: usize,
    /// Highest score by protocol, which is what verdicts of the first rules had to reach.
    highest: BTreeMap<String, f64>,
}

/// Runs the command.
///
/// # Errors
/// Usage when there is no ledger; a broken chain is a finding like any other (exit 1).
pub fn run(args: &Verify, global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let path = experiment.paths.ledger();
    let checkpoint = Checkpoint::load(&experiment.paths.checkpoint());
    // A command that stopped before it wrote anything leaves an empty file.
    if fs_err::metadata(&path).map_or(0, |metadata| metadata.len()) == 0 && checkpoint.is_none() {
        return Err(Error::usage(format!("there is no ledger here: {}", path.display()))
            .code(Code::NotPrepared)
            .hint("run `autoharness prepare` first."));
    }
    // Restoring writes, so it must be alone; checking must not read a half-written command.
    let _lock = Lock::take(&experiment.paths.lock(), "autoharness verify", timestamp(chrono::Utc::now()))?;
    let mut findings = Findings::default();
    if let Some(Err(error)) = checkpoint.as_ref().map(|checkpoint| checkpoint.require_continued(&path)) {
        findings.problems.push(error.to_string());
    }
    let mut state = State::default();
    let read = ledger::read(&path, &Tip::genesis(), |entry| {
        let seq = entry.seq;
        match &entry.event {
            Event::Verdict(verdict) => findings.verdict(seq, verdict, &state),
            Event::Prepared(prepared) => findings.prepared(seq, prepared, &state),
            Event::Recorded(recorded) => findings.recorded(seq, recorded, &state, &experiment),
            Event::Confirmed(confirmed) => {
                for what in rederive::confirmed(confirmed, &state, &experiment) {
                    findings.wrong(seq, &what);
                }
            }
            Event::Calibrated(calibrated) => {
                for what in rederive::calibrated(calibrated, &state, &experiment) {
                    findings.wrong(seq, &what);
                }
            }
            Event::Resampled(resampled) => {
                for what in rederive::resampled(resampled, &state, &experiment) {
                    findings.wrong(seq, &what);
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

/// Where the trials of a comparison are; `None` for verdicts by the rule `best`.
fn sides<'a>(verdict: &'a Verdict, state: &State) -> Option<Sides<'a>> {
    let policy = &verdict.evidence.policy;
    let paired = policy.paired?;
    let incumbent = verdict.evidence.compared.as_ref().map_or("", |compared| compared.incumbent.as_str());
    Some(Sides {
        candidate: &verdict.agent,
        incumbent,
        is_first: state.summary.first_agent.as_deref() == Some(incumbent),
        protocol: &verdict.trial_protocol,
        timeouts: policy.timeout_policy,
        trials: policy.trials,
        confirm_trials: paired.confirm_trials,
        max_rounds: paired.max_rounds,
    })
}

fn tasks_of(pairs: &Pairs, split: Split) -> Vec<String> {
    pairs.iter().filter(|(_, pair)| pair.split == split).map(|(task, _)| task.clone()).collect()
}

/// Where the stored comparison says that a trial was run and gave no evidence.
fn tried(pairs: &Pairs) -> Tried {
    let mut tried = Tried::new();
    for (task, pair) in pairs {
        if pair.candidate.first == [None] {
            tried.insert((u32::from(pair.split == Split::Test), task.clone()));
        }
        for (round, (candidate, incumbent)) in (2..).zip(pair.candidate.rounds.iter().zip(&pair.incumbent.rounds)) {
            if candidate.is_none() || incumbent.is_none() {
                tried.insert((round, task.clone()));
            }
        }
    }
    tried
}

impl Findings {
    fn wrong(&mut self, seq: u64, what: &str) {
        self.problems.push(format!("ledger line {}: {what}", seq + 1));
    }

    fn raise(&mut self, protocol: &str, val_score: f64) {
        let highest = self.highest.entry(protocol.to_string()).or_insert(val_score);
        *highest = highest.max(val_score);
    }

    /// The decision from its stored inputs, and the inputs from the trials before it.
    fn verdict(&mut self, seq: u64, verdict: &Verdict, state: &State) {
        self.verdicts += 1;
        if !same_decision(&decide(&verdict.evidence), &verdict.decision) {
            self.wrong(seq, "the gate's rules applied to the stored evidence give another verdict");
        }
        let evidence = &verdict.evidence;
        if evidence.rules > RULES {
            self.wrong(seq, "the verdict was given by the rules of a newer version");
        }
        let none = Rewards::default();
        let steps = [
            ("regression suite", &evidence.suite, &evidence.suite_least),
            ("hold-out", &evidence.holdout, &evidence.holdout_least),
            ("promotion", &evidence.promotion, &none),
        ];
        for (name, stored, stored_least) in steps {
            let tasks: Vec<String> = stored.0.keys().cloned().collect();
            let (agent, protocol, policy) = (&verdict.agent, &verdict.trial_protocol, &evidence.policy);
            let (trials, timeouts) = (policy.trials, policy.timeout_policy);
            let sides = sides(verdict, state);
            let rewards = match (&sides, name) {
                (Some(sides), "regression suite") => at_best(&state.trials, sides, &tasks),
                (Some(sides), "hold-out") => confirmed(&state.trials, sides, &tasks),
                (Some(sides), _) => {
                    let again = policy.paired.map_or(0..0, |paired| promotion_numbers(&paired, trials));
                    at_worst(&state.trials, sides, &tasks, again)
                }
                (None, _) => state.trials.rewards(agent, protocol, &tasks, trials, timeouts),
            };
            // What trials were lacking, the first rules did not ask; nor does a promotion.
            let asked = evidence.rules > 0 && name != "promotion" && sides.is_none();
            let least =
                if asked { state.trials.least(agent, protocol, &tasks, trials, timeouts) } else { none.clone() };
            if !same_rewards(stored, &rewards) || !same_rewards(stored_least, &least) {
                self.wrong(seq, &format!("the rewards of the {name} are not those of its trials"));
            }
        }
        self.compared(seq, verdict, state);
        self.suite(seq, verdict, state);
        if verdict.base_ref.is_none() && !verdict.evidence.is_stopped() {
            let stored = evidence.best.as_ref();
            let is_best = match state.summary.best(&verdict.protocol) {
                _ if evidence.rules == 0 => {
                    stored.map(|best| best.val_score) == self.highest.get(&verdict.protocol).copied()
                }
                None => stored.is_none(),
                Some(best) => {
                    stored.is_some_and(|it| it.val_score == best.val_score && same_rewards(&it.rewards, &best.rewards))
                }
            };
            if !is_best {
                self.wrong(seq, "the score to beat was not the best recorded");
            }
            self.tasks(seq, verdict, state);
        }
    }

    /// What was known of the suite, and which of its tasks did not count.
    fn suite(&mut self, seq: u64, verdict: &Verdict, state: &State) {
        let evidence = &verdict.evidence;
        let tasks: Vec<String> = evidence.suite.0.keys().cloned().collect();
        if evidence.quarantined != state.summary.quarantined_of(&tasks) {
            self.wrong(seq, "the tasks in quarantine are not those of that time");
        }
        let Some(known) = &evidence.suite_known else { return };
        let incumbent = evidence.compared.as_ref().map(|compared| compared.incumbent.as_str());
        let recorded = state.summary.recorded_agent.as_deref().filter(|_| verdict.base_ref.is_none());
        let Some(incumbent) = incumbent.or(recorded) else { return };
        let sides = sides(verdict, state).map(|sides| Sides {
            incumbent,
            is_first: state.summary.first_agent.as_deref() == Some(incumbent),
            ..sides
        });
        if sides.is_none_or(|sides| suite_known(state, &sides, &tasks) != *known) {
            self.wrong(seq, "what was known of the regression suite is not what its trials earned");
        }
    }

    /// What the rule `paired` compared is what the trials earned.
    fn compared(&mut self, seq: u64, verdict: &Verdict, state: &State) {
        let (Some(compared), Some(sides)) = (&verdict.evidence.compared, sides(verdict, state)) else { return };
        let policy = &verdict.evidence.policy;
        let rule = policy.paired.map(|paired| Rule::new(paired.spent(), paired.max_rounds, policy.min_evidence));
        if rule != Some(compared.rule) {
            self.wrong(seq, "the comparison's rule does not follow from the configuration");
        }
        let is_same = compared.incumbent == verdict.agent;
        if is_same != compared.pairs.is_empty() {
            self.wrong(seq, "an agent was compared with itself, or with none");
        }
        let (train, test) = (tasks_of(&compared.pairs, Split::Train), tasks_of(&compared.pairs, Split::Test));
        let sealed = state.summary.prepared.as_ref().map(|prepared| prepared.split.sealed.clone()).unwrap_or_default();
        let split = TaskSplit { train, test, sealed };
        if verdict.base_ref.is_none() && !is_same {
            let prepared = state.summary.prepared.as_ref().map(|prepared| &prepared.split);
            if prepared != Some(&split) {
                self.wrong(seq, "the comparison was not made on the whole split");
            }
            if state.summary.recorded_agent.as_ref() != Some(&compared.incumbent) {
                self.wrong(seq, "the agent to beat was not the one recorded last");
            }
        }
        if sides.pairs(&state.trials, &split, &tried(&compared.pairs)) != compared.pairs {
            self.wrong(seq, "the rewards of the comparison are not those of its trials");
        }
    }

    /// The steps covered exactly the tasks the rules name.
    fn tasks(&mut self, seq: u64, verdict: &Verdict, state: &State) {
        let Some(prepared) = &state.summary.prepared else {
            return self.wrong(seq, "a verdict before `prepared`");
        };
        let in_train = |suite: BTreeSet<String>| -> BTreeSet<String> {
            suite.into_iter().filter(|task| prepared.split.of(task) == Some(Split::Train)).collect()
        };
        let suite: BTreeSet<String> = verdict.evidence.suite.0.keys().cloned().collect();
        let is_suite = match verdict.evidence.rules {
            // Of what unrecorded edits brought in, the first rules left out only what the last of them did.
            0 => {
                let kept = in_train(state.summary.kept.clone());
                let pending = in_train(state.summary.pending.values().flatten().cloned().collect());
                kept.is_subset(&suite) && suite.iter().all(|task| kept.contains(task) || pending.contains(task))
            }
            _ => suite == in_train(state.summary.suite_for(&verdict.agent)),
        };
        if !is_suite {
            self.wrong(seq, "the regression suite that was run is not the suite of that time");
        }
        // By the rule `paired` it holds what was run afresh of an edit that was accepted.
        let has_holdout = verdict.evidence.policy.paired.is_none() || verdict.decision.val_score.is_some();
        if has_holdout
            && !verdict.evidence.holdout.0.keys().eq(prepared.split.tasks(verdict.evidence.policy.gate_split))
        {
            self.wrong(seq, "the hold-out that was run is not the whole gate split");
        }
        // Candidates are listed by name, as rewards are.
        let waiting = state.summary.waiting(&suite);
        if verdict.decision.status == Status::Passed && !verdict.evidence.promotion.0.keys().eq(&waiting) {
            self.wrong(seq, "the tasks tried for promotion are not those that were waiting");
        }
        let policy = &verdict.evidence.policy;
        let rules =
            json!([policy.threshold, policy.min_evidence, policy.timeout_policy, policy.gate_split, policy.trials]);
        let configured = ["threshold", "min_evidence", "timeout_policy", "gate_split", "trials"];
        // An experiment of before there was a scan does not say what its findings do.
        let scan = prepared.config.get("leak_scan").is_none_or(|scan| *scan == json!(policy.leak_scan));
        let rule =
            policy.paired.map(|paired| json!(["paired", paired.alpha, paired.max_rounds, paired.confirm_trials]));
        let keys = ["gate_rule", "alpha", "max_rounds", "confirm_trials"];
        let is_rule = match rule {
            Some(rule) => rule == json!(keys.map(|key| &prepared.config[key])),
            None => prepared.config.get("gate_rule").is_none_or(|rule| rule == "best"),
        };
        // Keys of later versions are not in the snapshots of earlier ones, nor in their verdicts.
        let is_as_configured =
            |key: &str, used: serde_json::Value| prepared.config.get(key).is_none_or(|it| *it == used);
        let spent = policy.paired.and_then(|paired| paired.candidate);
        let is_rule = is_rule
            && is_as_configured("holdout_disclosure", json!(policy.holdout_disclosure))
            && policy.paired.is_none_or(|paired| is_as_configured("promote_after", json!(paired.promote_after)))
            && policy.paired.is_none_or(|_| is_as_configured("alpha_spending", json!(spent.is_some())))
            && spent.is_none_or(|candidate| candidate == state.summary.candidates.saturating_add(1));
        if rules != json!(configured.map(|key| &prepared.config[key])) || !scan || !is_rule {
            self.wrong(seq, "the gate's rules were not those prepared with");
        }
    }

    fn prepared(&mut self, seq: u64, prepared: &Prepared, state: &State) {
        let (trials, policy) = counting(prepared);
        let rewards =
            |tasks: &[String]| state.trials.rewards(&prepared.agent, &prepared.trial_protocol, tasks, trials, policy);
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
            Ok(_) => self.wrong(seq, &format!("commit {} does not hold the agent that was measured", row.commit)),
            Err(error) => self.wrong(seq, &format!("commit {} cannot be read: {error}", row.commit)),
        }
    }
}

impl Findings {
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
                    self.wrong(seq, &format!("commit {commit} changes guarded files: {first}"));
                }
            }
            Err(error) => self.wrong(seq, &format!("commit {base} cannot be read: {error}")),
        }
    }
}

fn counting(prepared: &Prepared) -> (u32, crate::model::score::TimeoutPolicy) {
    crate::store::summary::Summary { prepared: Some(prepared.clone()), ..Default::default() }.counting()
}

/// Wording may differ between versions; what was decided may not.
fn same_decision(a: &Decision, b: &Decision) -> bool {
    let steps = |decision: &Decision| -> Vec<(String, Status)> {
        decision.steps.iter().map(|step| (step.name.clone(), step.status)).collect()
    };
    a.status == b.status
        && steps(a) == steps(b)
        && a.val_score == b.val_score
        && (a.evals_passed, a.evals_total) == (b.evals_passed, b.evals_total)
        && a.promoted == b.promoted
}

fn same_rewards(a: &Rewards, b: &Rewards) -> bool {
    let close = |(a, b): (&Option<f64>, &Option<f64>)| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-12,
        (None, None) => true,
        _ => false,
    };
    let (a, b): (&BTreeMap<_, _>, &BTreeMap<_, _>) = (&a.0, &b.0);
    a.keys().eq(b.keys()) && a.values().zip(b.values()).all(close)
}

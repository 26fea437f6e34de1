//! What the ledger adds up to. Replaying the events gives the [`State`]; its [`Summary`] is kept as a checkpoint, so that
//! commands that decide nothing need not read a long history.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::atomic;
use super::claims::Claims;
use super::event::{By, Event, Prepared, Purpose, Recorded, Row, RunFinished, SuiteChanged, Trial, Verdict};
use super::gates::GateTrials;
use super::ledger::{self, Entry, ReadReport, Tip};
use super::proposals::Proposals;
use super::trials::Trials;
use crate::error::{Code, Context as _, Error, Result};
use crate::files;
use crate::model::compare::{Comparison, EPSILON, Reference};
use crate::model::gate::Status;
use crate::model::hash::hash;
use crate::model::paired::Pair;
use crate::model::score::{Rewards, TimeoutPolicy};
use crate::model::suite::Change;
use crate::model::trial::Split;

/// Larger than any checkpoint, in bytes.
const LARGEST_CHECKPOINT: u64 = 1 << 30;

/// Everything the views and `status` need.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Summary {
    /// The last `prepared` event.
    pub prepared: Option<Prepared>,
    /// The base commit: of the last `recorded`, `accepted` or `prepared` event.
    pub base: Option<String>,
    /// Rows of results.tsv.
    pub rows: Vec<Row>,
    /// Best score by protocol fingerprint.
    pub references: BTreeMap<String, Reference>,
    /// The regression suite of every agent: what recorded edits brought in.
    #[serde(default)]
    pub kept: BTreeSet<String>,
    /// What edits that passed and are not recorded brought in, by agent. It binds that agent only, or reverting the edit
    /// would leave a suite that no agent can pass.
    #[serde(default)]
    pub pending: BTreeMap<String, BTreeSet<String>>,
    /// Tasks of the suite that are run and not counted, and why.
    #[serde(default)]
    pub quarantined: BTreeMap<String, Aside>,
    /// Tasks that were taken out of the suite, and why.
    #[serde(default)]
    pub retired: BTreeMap<String, Aside>,
    /// How often somebody changed the suite by hand.
    #[serde(default)]
    pub suite_by_hand: u32,
    /// Rewards of the suite's tasks when last run.
    pub suite_results: BTreeMap<String, Option<f64>>,
    /// train_results.json.
    pub train_results: BTreeMap<String, Option<f64>>,
    /// When train_results.json was last updated.
    pub train_timestamp: Option<DateTime<Utc>>,
    /// Train rewards of the accepted agents, newest first known: what "failed last time" means for promotion.
    pub accepted_results: BTreeMap<String, Option<f64>>,
    /// The last verdict that decided something.
    pub last_decided: Option<Receipt>,
    /// The last verdict of all, decided or not.
    pub last_status: Option<Status>,
    /// The agent it was about.
    #[serde(default)]
    pub last_judged: Option<String>,
    /// Verdicts that decided nothing since the last one that did.
    #[serde(default)]
    pub undecided_in_a_row: u32,
    /// Places in `rows` before which the protocol changed: scores on both sides of one are not comparable.
    #[serde(default)]
    pub protocol_changes: BTreeSet<usize>,
    /// `seq` of the receipt of the last record.
    pub last_recorded_receipt: Option<u64>,
    /// Verdicts with a val_score since the last one that raised it: when to stop (PROGRAM.md).
    pub gates_without_improvement: u32,
    /// Verdicts that decided something.
    pub gates: u32,
    /// Gates whose answer depended on the hold-out.
    #[serde(default)]
    pub answers: u32,
    /// Edits that the rule `paired` compared.
    #[serde(default)]
    pub candidates: u32,
    /// How often per-task hold-out results were looked at.
    pub looks: u32,
    /// How often the hold-out was measured again with `--fresh`.
    pub rerolls: u32,
    /// How often a human accepted changes.
    pub accepted: u32,
    /// Rows taken over from a workspace of the Python original.
    pub adopted_rows: usize,
    /// The agent recorded last, or the baseline's.
    pub recorded_agent: Option<String>,
    /// The accepted agents, in order: that of each `prepare`, and those recorded.
    #[serde(default)]
    pub accepted_agents: Vec<String>,
    /// Where in that list the agents begin that tell how reliable a task of the suite is: earlier ones did not solve it.
    #[serde(default)]
    pub joined: BTreeMap<String, usize>,
    /// The agent that the experiment began with: no trial of it chose it.
    #[serde(default)]
    pub first_agent: Option<String>,
    /// What was measured beside the search, and where the experiment began.
    #[serde(default)]
    pub claims: Claims,
    /// Trials in the ledger, with their cost.
    pub spent: Spent,
    /// Those of them that the search ran under the present protocol: gates and `benchmark`.
    #[serde(default)]
    pub searched: Spent,
    /// Those that ran the unchanged agent again, to see what luck alone makes of it.
    #[serde(default)]
    pub resampled: Spent,
    /// Of these, what gates took.
    #[serde(default)]
    pub gate_trials: GateTrials,
    /// What the loop had proposed.
    #[serde(default)]
    pub proposals: Proposals,
}

/// Why a task of the suite is not counted, or not run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Aside {
    /// Since when.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// Who did it.
    pub by: By,
}

/// What the trials cost so far.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Spent {
    /// Trials run.
    pub trials: u64,
    /// Seconds of trials, added up.
    pub seconds: f64,
    /// Tokens read and written by the agent's model.
    pub tokens: u64,
    /// US dollars.
    pub cost_usd: f64,
    /// Trials that reported tokens and no dollars: unknown is not nothing.
    #[serde(default)]
    pub unpriced: u64,
    /// Tokens of those.
    #[serde(default)]
    pub unpriced_tokens: u64,
}

impl Spent {
    /// Both together.
    #[must_use]
    pub fn plus(self, more: Spent) -> Spent {
        Spent {
            trials: self.trials + more.trials,
            seconds: (self.seconds + more.seconds).min(f64::MAX),
            tokens: self.tokens.saturating_add(more.tokens),
            cost_usd: (self.cost_usd + more.cost_usd).min(f64::MAX),
            unpriced: self.unpriced + more.unpriced,
            unpriced_tokens: self.unpriced_tokens.saturating_add(more.unpriced_tokens),
        }
    }

    /// US dollars, and how many trials are not among them. Those without dollars count at the mean price of a token of the others.
    pub fn dollars(&self) -> (f64, u64) {
        let priced = self.tokens.saturating_sub(self.unpriced_tokens);
        if self.unpriced == 0 || priced == 0 || self.cost_usd <= 0.0 {
            return (self.cost_usd, self.unpriced);
        }
        ((self.cost_usd * self.tokens as f64 / priced as f64).min(f64::MAX), 0)
    }

    /// Adds a trial.
    pub fn add(&mut self, trial: &Trial<'_>) {
        self.trials += 1;
        // A benchmark may say anything; sums stay finite, for JSON knows nothing else.
        self.seconds = (self.seconds + trial.seconds.unwrap_or(0.0)).min(f64::MAX);
        for tokens in [trial.tokens_in, trial.tokens_out] {
            self.tokens = self.tokens.saturating_add(tokens.unwrap_or(0));
        }
        self.cost_usd = (self.cost_usd + trial.cost_usd.unwrap_or(0.0)).min(f64::MAX);
        let used = trial.tokens_in.unwrap_or(0).saturating_add(trial.tokens_out.unwrap_or(0));
        if used > 0 && trial.cost_usd.is_none() {
            self.unpriced += 1;
            self.unpriced_tokens = self.unpriced_tokens.saturating_add(used);
        }
    }
}

/// A verdict with its place in the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Receipt {
    /// `seq` of the verdict.
    pub seq: u64,
    /// When it was given.
    pub at: DateTime<Utc>,
    /// The verdict.
    pub verdict: Verdict,
    /// The judged agent's train rewards at that moment; merged into `accepted_results` when it is recorded.
    pub train: BTreeMap<String, Option<f64>>,
}

impl Receipt {
    /// Whether a line of the ledger holds this very verdict. Quotes in a string are escaped, so that no text can look like it.
    fn stands_in(&self, line: &[u8]) -> bool {
        let Ok(verdict) = serde_json::to_string(&self.verdict) else { return false };
        memchr::memmem::find(line, format!(r#","event":{{"verdict":{verdict}}},"sum":""#).as_bytes()).is_some()
    }
}

/// The replayed ledger.
#[derive(Debug, Default)]
pub struct State {
    /// Everything but single trials.
    pub summary: Summary,
    /// Single trials.
    pub trials: Trials,
}

/// The summary as of some tip of the ledger.
#[derive(Debug)]
pub struct Checkpoint {
    /// Where the ledger ended.
    pub tip: Tip,
    /// What it added up to there; nothing when the checkpoint is of another format.
    pub summary: Summary,
    /// SHA-256 (hex) of the summary as it is stored.
    digest: String,
}

/// A checkpoint as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored<S> {
    /// The ledger's format version. A newer build's checkpoint is not read: its ledger must not be written to.
    v: u32,
    /// The rules of adding up, see [`FORMAT`].
    #[serde(default)]
    format: u32,
    tip: Tip,
    summary: S,
}

fn stored_bytes(path: &Path) -> Option<Vec<u8>> {
    files::read_if_there(path, LARGEST_CHECKPOINT).ok().flatten()
}

/// What a summary holds and how it is added up. A checkpoint of another format is made again from the ledger.
const FORMAT: u32 = 5;

impl State {
    /// Replays the whole ledger, checking its chain.
    ///
    /// # Errors
    /// As [`ledger::read`].
    pub fn replay(path: &Path) -> Result<(State, ReadReport)> {
        let mut state = State::default();
        let report = ledger::read(path, &Tip::genesis(), |entry| {
            state.apply(entry);
            Ok(())
        })?;
        Ok((state, report))
    }

    /// Takes one event in.
    pub fn apply(&mut self, entry: Entry<'_>) {
        let Entry { seq, at, event, .. } = entry;
        match event {
            Event::Trial(trial) => {
                self.summary.spent.add(&trial);
                if trial.purpose.is_search() {
                    self.summary.searched.add(&trial);
                } else if trial.purpose == Purpose::Resample {
                    self.summary.resampled.add(&trial);
                }
                self.summary.gate_trials.ran(&trial);
                self.trials.insert(&trial);
            }
            Event::RunFinished(run) => self.run_finished(&run, at),
            Event::Prepared(prepared) => self.prepared(*prepared, at),
            Event::Verdict(verdict) => self.verdict(seq, at, *verdict),
            Event::Recorded(recorded) => self.recorded(recorded),
            Event::Accepted(accepted) => {
                self.summary.accepted += 1;
                self.summary.base = Some(accepted.to);
            }
            Event::Revealed(_) => self.summary.looks += 1,
            Event::SuiteChanged(changed) => self.summary.suite_changed(changed, at),
            Event::Calibrated(calibrated) => self.summary.claims.calibrated(*calibrated, at),
            Event::Confirmed(confirmed) => self.summary.claims.confirmed(*confirmed, at),
            Event::Proposed(proposed) => self.summary.proposals.add(&proposed),
            Event::Resampled(resampled) => self.summary.claims.resampled(*resampled),
        }
    }

    fn run_finished(&mut self, run: &RunFinished, at: DateTime<Utc>) {
        self.trials.run_finished(&run.agent, &run.protocol, &run.run, &run.tasks, run.void);
        if run.tokenless {
            self.trials.forget(&run.agent, &run.protocol, &run.tasks);
        }
        if run.fresh && run.split == Some(Split::Test) && !run.purpose.is_aside() {
            self.summary.rerolls += 1;
        }
        if run.purpose == Purpose::Benchmark && run.split == Some(Split::Train) {
            let (trials, policy) = self.summary.counting();
            let rewards = self.trials.rewards(&run.agent, &run.protocol, &run.tasks, trials, policy);
            self.summary.train_results.extend(rewards.0);
            self.summary.train_timestamp = Some(at);
        }
    }

    fn prepared(&mut self, prepared: Prepared, at: DateTime<Utc>) {
        let summary = &mut self.summary;
        summary.base = Some(prepared.base.clone());
        summary.recorded_agent = Some(prepared.agent.clone());
        summary.accept(&prepared.agent);
        if summary.prepared.is_none() {
            summary.first_agent = Some(prepared.agent.clone());
            summary.claims.first_base = Some(prepared.base.clone());
        }
        if let Some(adopted) = &prepared.adopted {
            summary.rows.clone_from(&adopted.rows);
            summary.adopted_rows = adopted.rows.len();
            summary.kept.clear();
            summary.keep(adopted.suite.iter().cloned().collect());
            summary.suite_results.clone_from(&adopted.suite_results);
        }
        (summary.last_status, summary.undecided_in_a_row) = (None, 0);
        let changed = summary.prepared.as_ref().is_some_and(|earlier| earlier.protocol != prepared.protocol);
        if changed {
            // What was found under other rules is compared with nothing that is found now.
            (summary.searched, summary.resampled) = Default::default();
        }
        if !summary.rows.is_empty() && (changed || prepared.adopted.is_some()) {
            summary.protocol_changes.insert(summary.rows.len());
        }
        let source = if summary.prepared.is_none() && summary.rows.is_empty() { "baseline" } else { "prepare" };
        if summary.rows.is_empty() {
            summary.rows.push(Row {
                iteration: 0,
                val_score: prepared.baseline.val_score,
                commit: "baseline".into(),
                evals_passed: 0,
                evals_total: 0,
                timestamp: timestamp(at),
            });
        }
        // A human made this agent the one to start from. What other edits promised under the conditions of before is void.
        let own = summary.pending.remove(&prepared.agent).unwrap_or_default();
        summary.keep(own);
        summary.pending.clear();
        // Tasks that left the split (an accepted change of the benchmark) can neither be kept nor promoted.
        let train: BTreeSet<&String> = prepared.split.train.iter().collect();
        summary.kept.retain(|task| train.contains(task));
        summary.joined.retain(|task, _| train.contains(task));
        summary.quarantined.retain(|task, _| train.contains(task));
        summary.retired.retain(|task, _| train.contains(task));
        summary.suite_results.retain(|task, _| train.contains(task));
        summary.prepared = Some(prepared.clone());
        let (trials, policy) = summary.counting();
        let of = |tasks: &[String]| {
            let Prepared { agent, trial_protocol, .. } = &prepared;
            let rewards = self.trials.rewards(agent, trial_protocol, tasks, trials, policy);
            let least = self.trials.least(agent, trial_protocol, tasks, trials, policy);
            (rewards, least)
        };
        let (holdout, least) = of(prepared.split.tasks(prepared.gate_split()));
        self.summary.raise_reference(
            &prepared.protocol,
            Reference {
                val_score: prepared.baseline.val_score,
                source: source.to_string(),
                rewards: holdout.overlaid(&least),
            },
        );
        let (rewards, _) = of(&prepared.split.train);
        self.summary.train_results.clone_from(&rewards.0);
        self.summary.accepted_results = rewards.0;
        self.summary.train_timestamp = Some(at);
    }

    fn verdict(&mut self, seq: u64, at: DateTime<Utc>, verdict: Verdict) {
        let summary = &mut self.summary;
        summary.gate_trials.judged(&verdict.agent);
        // What was judged against a branch says nothing about the experiment's own history.
        if verdict.base_ref.is_some() {
            return;
        }
        summary.last_status = Some(verdict.decision.status);
        summary.last_judged = Some(verdict.agent.clone());
        if verdict.decision.status == Status::Undecided {
            summary.undecided_in_a_row += 1;
            return;
        }
        summary.undecided_in_a_row = 0;
        summary.gates += 1;
        summary.answers += u32::from(asked_the_holdout(&verdict));
        summary.candidates += u32::from(verdict.evidence.compared.as_ref().is_some_and(|one| !one.pairs.is_empty()));
        if !verdict.evidence.suite.0.is_empty() {
            summary.suite_results.extend(verdict.evidence.suite.0.clone());
        }
        let mut train = BTreeMap::new();
        let improved = verdict.decision.status == Status::Passed && improved(&verdict);
        // A gate that stopped before the hold-out says nothing about the edit: the same one comes again, fixed. And the
        // recorded agent judged again is no edit.
        let edited = summary.recorded_agent.as_ref() != Some(&verdict.agent);
        let measured = match verdict.evidence.policy.paired {
            Some(_) => !verdict.evidence.is_stopped(),
            None => verdict.decision.val_score.is_some(),
        };
        if edited && measured {
            summary.gates_without_improvement = if improved { 0 } else { summary.gates_without_improvement + 1 };
        }
        if verdict.decision.status == Status::Passed {
            for task in &verdict.decision.promoted {
                let reward = verdict.evidence.promotion.0.get(task).copied().flatten();
                summary.suite_results.insert(task.clone(), reward);
            }
            // By the first rules an agent could be judged by more than we would judge it by; recorded, it answers for that.
            let judged_by = verdict.evidence.suite.0.keys().chain(&verdict.decision.promoted);
            let own = judged_by.filter(|task| !summary.kept.contains(*task)).cloned().collect();
            summary.pending.insert(verdict.agent.clone(), own);
            if let Some(prepared) = &summary.prepared {
                let policy = &verdict.evidence.policy;
                let seen = |task: &&String| {
                    self.trials.evidence(&verdict.agent, &verdict.trial_protocol, task, policy.trials).next().is_some()
                };
                let seen: Vec<String> = prepared.split.train.iter().filter(seen).cloned().collect();
                train = self
                    .trials
                    .rewards(&verdict.agent, &verdict.trial_protocol, &seen, policy.trials, policy.timeout_policy)
                    .0;
            }
        }
        summary.last_decided = Some(Receipt { seq, at, verdict, train });
    }

    fn recorded(&mut self, recorded: Recorded) {
        let summary = &mut self.summary;
        let (mut rewards, mut is_paired) = (Rewards::default(), false);
        if let Some(receipt) = summary.last_decided.as_ref().filter(|receipt| receipt.seq == recorded.receipt) {
            summary.accepted_results.extend(receipt.train.clone());
            let evidence = &receipt.verdict.evidence;
            rewards = evidence.holdout.overlaid(&evidence.holdout_least);
            is_paired = evidence.policy.paired.is_some();
        }
        let Row { val_score, commit, .. } = &recorded.row;
        let reference = Reference { val_score: *val_score, source: commit.clone(), rewards };
        if is_paired {
            // Fresh trials of a better agent may well earn less than lucky ones of another did.
            summary.references.insert(recorded.protocol.clone(), reference);
        } else {
            summary.raise_reference(&recorded.protocol, reference);
        }
        let own = summary.pending.remove(&recorded.agent).unwrap_or_default();
        summary.accept(&recorded.agent);
        summary.keep(own);
        summary.base = Some(recorded.commit);
        summary.last_recorded_receipt = Some(recorded.receipt);
        summary.recorded_agent = Some(recorded.agent);
        summary.rows.push(recorded.row);
    }
}

impl Summary {
    /// SHA-256 (hex) of this summary as a checkpoint stores it.
    ///
    /// # Errors
    /// Only when serialisation fails, which is infrastructure.
    pub fn digest(&self) -> Result<String> {
        Ok(hash(&serde_json::to_vec(self).infra(|| "cannot render the summary of the ledger".into())?))
    }

    /// How trials are counted under the prepared configuration: trials per task, timeout policy.
    pub fn counting(&self) -> (u32, TimeoutPolicy) {
        let config = self.prepared.as_ref().map(|prepared| &prepared.config);
        let trials = config.and_then(|config| config["trials"].as_u64()).and_then(|trials| u32::try_from(trials).ok());
        let policy = config.and_then(|config| TimeoutPolicy::deserialize(&config["timeout_policy"]).ok());
        (trials.unwrap_or(1), policy.unwrap_or(TimeoutPolicy::Agent))
    }

    /// Which of these tasks are run and not counted.
    pub fn quarantined_of(&self, suite: &[String]) -> BTreeSet<String> {
        suite.iter().filter(|task| self.quarantined.contains_key(*task)).cloned().collect()
    }

    fn accept(&mut self, agent: &str) {
        self.accepted_agents.push(agent.to_string());
    }

    /// Tasks that the agent accepted last brought in.
    fn keep(&mut self, tasks: BTreeSet<String>) {
        let since = self.accepted_agents.len().saturating_sub(1);
        for task in tasks {
            self.joined.entry(task.clone()).or_insert(since);
            self.kept.insert(task);
        }
    }

    /// The accepted agents whose trials of this task count, newest first.
    pub fn agents_since_joined(&self, task: &str) -> Vec<&str> {
        let since = self.joined.get(task).copied().unwrap_or(self.accepted_agents.len());
        let mut agents: Vec<&str> = Vec::new();
        for agent in self.accepted_agents.iter().skip(since).rev() {
            if !agents.contains(&agent.as_str()) {
                agents.push(agent);
            }
        }
        agents
    }

    fn suite_changed(&mut self, changed: SuiteChanged, at: DateTime<Utc>) {
        let SuiteChanged { change, tasks, reason, by } = changed;
        self.suite_by_hand += u32::from(by == By::Hand);
        for task in tasks {
            self.quarantined.remove(&task);
            self.retired.remove(&task);
            let aside = Aside { at, reason: reason.clone(), by };
            match change {
                // Whoever adds it by hand knows how it fared until now.
                Change::Add => {
                    self.joined.insert(task.clone(), self.accepted_agents.len());
                    self.kept.insert(task);
                }
                Change::Quarantine => {
                    self.kept.insert(task.clone());
                    self.quarantined.insert(task, aside);
                }
                Change::Retire => {
                    self.retired.insert(task, aside);
                }
            }
        }
    }

    fn raise_reference(&mut self, protocol: &str, reference: Reference) {
        if self.references.get(protocol).is_none_or(|known| known.gives_way_to(&reference)) {
            self.references.insert(protocol.to_string(), reference);
        }
    }

    /// The best score under a protocol fingerprint.
    pub fn best(&self, protocol: &str) -> Option<&Reference> {
        self.references.get(protocol)
    }

    /// The suite an agent is judged by: what recorded edits brought in, and what the agent itself did when it passed.
    pub fn suite_for(&self, agent: &str) -> BTreeSet<String> {
        let all = self.kept.iter().chain(self.pending.get(agent).into_iter().flatten());
        all.filter(|task| !self.retired.contains_key(*task)).cloned().collect()
    }

    /// The suite of the agent that was judged last, which is what suite.json shows.
    pub fn suite(&self) -> BTreeSet<String> {
        self.suite_for(self.last_decided.as_ref().map_or("", |receipt| &receipt.verdict.agent))
    }

    /// Train tasks waiting to be fixed: not in the agent's suite, and not known to pass with the accepted agent.
    pub fn promotion_candidates(&self, agent: &str) -> Vec<String> {
        self.waiting(&self.suite_for(agent))
    }

    /// The same for a suite.
    pub fn waiting(&self, suite: &BTreeSet<String>) -> Vec<String> {
        let Some(prepared) = &self.prepared else { return Vec::new() };
        let train = prepared.split.train.iter();
        let waits = |task: &&String| {
            !suite.contains(*task)
                && !self.retired.contains_key(*task)
                && !crate::model::score::passes(self.accepted_results.get(*task).copied().flatten())
        };
        train.filter(waits).cloned().collect()
    }
}

/// Whether the answer depended on the hold-out.
fn asked_the_holdout(verdict: &Verdict) -> bool {
    let evidence = &verdict.evidence;
    let pairs = evidence.compared.iter().flat_map(|compared| compared.pairs.values());
    let has_run = |pair: &Pair| pair.split == Split::Test && !pair.candidate.first.is_empty();
    evidence.policy.gate_split == Split::Test && (!evidence.holdout.is_empty() || pairs.into_iter().any(has_run))
}

/// Whether a passing verdict's score is above the one it had to reach.
fn improved(verdict: &Verdict) -> bool {
    let evidence = &verdict.evidence;
    if evidence.policy.paired.is_some() {
        return evidence.compared.as_ref().is_some_and(|compared| !compared.pairs.is_empty());
    }
    match (verdict.decision.val_score, &evidence.best) {
        (Some(_), Some(best)) if !best.rewards.is_empty() => {
            let least = evidence.holdout.overlaid(&evidence.holdout_least);
            Comparison::new(&evidence.holdout, &least, &best.rewards).is_surely_better()
        }
        (Some(score), Some(best)) => score > best.val_score + EPSILON,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

impl Checkpoint {
    /// Reads the checkpoint; `None` when it is missing or not understood, for it can always be made again.
    pub fn load(path: &Path) -> Option<Checkpoint> {
        let stored: Stored<Box<RawValue>> = serde_json::from_slice(&stored_bytes(path)?).ok()?;
        // Of another format the tip is all that is believed: an empty digest agrees with no line of a ledger.
        let (summary, digest) = match stored.format {
            FORMAT => (serde_json::from_str(stored.summary.get()).ok()?, hash(stored.summary.get().as_bytes())),
            _ => Default::default(),
        };
        (stored.v <= ledger::VERSION).then_some(Checkpoint { tip: stored.tip, summary, digest })
    }

    /// False when it is of another format, of which the tip is all that is believed.
    pub fn is_understood(&self) -> bool {
        !self.digest.is_empty()
    }

    /// Writes it, without taking the state apart. Durably: the next command notices by it when lines were taken away.
    ///
    /// # Errors
    /// Infrastructure when the disk refuses.
    pub fn save(path: &Path, tip: &Tip, summary: &Summary) -> Result<()> {
        let bytes = serde_json::to_vec(&Stored { v: ledger::VERSION, format: FORMAT, tip: tip.clone(), summary })
            .infra(|| "cannot render the checkpoint".into())?;
        atomic::replace(path, &bytes)
    }

    /// True when the ledger ends exactly where this checkpoint was taken, and its last line says that this is what it adds
    /// up to. A checkpoint is never believed by itself: whoever forges one must forge the ledger's last line too, which is
    /// no less work than forging the ledger. Where the last line says nothing (a trial, or an older version wrote it), the
    /// ledger is replayed.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn is_current(&self, ledger: &Path) -> Result<bool> {
        let length = fs_err::metadata(ledger).map(|metadata| metadata.len()).unwrap_or(0);
        Ok(length == self.tip.length && ledger::sum_at(ledger, &self.tip)?.as_ref() == Some(&self.digest))
    }

    /// Has the whole chain confirm a checkpoint that [`Checkpoint::is_current`]: every line is hashed and none is replayed. `None`
    /// when it does not: the receipt is not the verdict that stands in the ledger, or the ledger ends elsewhere.
    ///
    /// # Errors
    /// As [`ledger::read`], for a break of the chain.
    pub fn confirm(&self, ledger: &Path) -> Result<Option<ReadReport>> {
        let receipt = self.summary.last_decided.as_ref();
        let mut is_there = receipt.is_none();
        let report = ledger::read_links(ledger, |seq, line| {
            if let Some(receipt) = receipt.filter(|receipt| receipt.seq == seq) {
                is_there = receipt.stands_in(line);
            }
        })?;
        Ok((is_there && !report.newer && report.torn == 0 && report.tip == self.tip).then_some(report))
    }

    /// Makes sure that the ledger goes on from where this checkpoint was taken. A chain alone does not show that its last
    /// lines are gone; a checkpoint is written after the ledger has reached the disk, so it is never ahead of it.
    ///
    /// # Errors
    /// Usage when lines are missing or others than those the last command left.
    pub fn require_continued(&self, ledger: &Path) -> Result<()> {
        if ledger::tip_holds(ledger, &self.tip)? {
            return Ok(());
        }
        Err(Error::usage(format!(
            "{} is not the ledger that the last command left: lines at its end are missing or were changed",
            ledger.display()
        )).code(Code::LedgerBroken)
        .hint(format!(
            "restore it from a backup; to start a new history instead, move it and {} away and run `autoharness prepare`.",
            ledger.with_file_name("checkpoint.json").display()
        )))
    }
}

/// Time stamps in views, as Python's `isoformat` writes UTC: `2026-01-31T12:00:00+00:00`.
pub fn timestamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

#[cfg(test)]
mod tests;

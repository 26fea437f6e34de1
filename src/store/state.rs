//! What the ledger adds up to. Replaying the events gives the [`State`]; its [`Summary`] is kept as a checkpoint, so that
//! commands that decide nothing need not read a long history.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{DateTime, Utc};

use super::event::{Event, Prepared, Purpose, Recorded, Row, RunFinished, Verdict};
use super::ledger::{self, Entry, ReadReport, Tip};
use super::summary::{Receipt, Summary};
use super::trials::Trials;
use crate::error::Result;
use crate::model::compare::{Comparison, EPSILON, Reference};
use crate::model::gate::Status;
use crate::model::paired::{Pair, lead_on_holdout};
use crate::model::score::Rewards;
use crate::model::trial::Split;

/// The replayed ledger.
#[derive(Debug, Default)]
pub struct State {
    /// Everything but single trials.
    pub summary: Summary,
    pub trials: Trials,
}

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

    pub fn apply(&mut self, entry: Entry<'_>) {
        let Entry { seq, at, event, .. } = entry;
        self.trials.apply(&event);
        match event {
            Event::Trial(trial) => {
                self.summary.spent.add(&trial.usage);
                if trial.purpose.is_search() {
                    self.summary.searched.add(&trial.usage);
                } else if trial.purpose == Purpose::Resample {
                    self.summary.resampled.add(&trial.usage);
                }
                self.summary.gate_trials.ran(&trial);
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
        if run.fresh && run.split == Some(Split::Test) && !run.purpose.is_aside() {
            self.summary.rerolls += 1;
        }
        if run.purpose == Purpose::Benchmark && run.split == Some(Split::Train) {
            let scoring = self.summary.scoring();
            let rewards = self.trials.rewards(&run.agent, &run.protocol, &run.tasks, scoring);
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
            // Results under other rules are never compared with present ones.
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
        // A human made this agent the one to start from. Promotions of other edits under the earlier conditions are void.
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
        let scoring = summary.scoring();
        let of = |tasks: &[String]| {
            let Prepared { agent, trial_protocol, .. } = &prepared;
            let rewards = self.trials.rewards(agent, trial_protocol, tasks, scoring);
            let least = self.trials.least(agent, trial_protocol, tasks, scoring);
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
        // A verdict against a branch says nothing about the experiment's own history.
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
        if let Some(compared) = verdict.evidence.compared.as_ref().filter(|compared| !compared.pairs.is_empty()) {
            summary.compared(&verdict.agent, &compared.incumbent, verdict.evidence.rules);
        }
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
            // By the first rules an agent could be judged by a larger suite than ours; once recorded, it answers for that suite.
            let judged_by = verdict.evidence.suite.0.keys().chain(&verdict.decision.promoted);
            let own = judged_by.filter(|task| !summary.kept.contains(*task)).cloned().collect();
            summary.pending.insert(verdict.agent.clone(), own);
            if let Some(prepared) = &summary.prepared {
                let policy = &verdict.evidence.policy;
                let seen = |task: &&String| {
                    self.trials.evidence(&verdict.agent, &verdict.trial_protocol, task, policy.trials).next().is_some()
                };
                let seen: Vec<String> = prepared.split.train.iter().filter(seen).cloned().collect();
                train = self.trials.rewards(&verdict.agent, &verdict.trial_protocol, &seen, policy.scoring()).0;
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
        let compared = evidence.compared.as_ref().filter(|compared| !compared.pairs.is_empty());
        // A lead on train alone raises no score, however often it passes.
        return compared.is_some_and(|compared| lead_on_holdout(&compared.pairs).is_none_or(|lead| lead > EPSILON));
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

/// Time stamps in views, as Python's `isoformat` writes UTC: `2026-01-31T12:00:00+00:00`.
pub(crate) fn timestamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

#[cfg(test)]
mod tests;

//! The ledger as a history: the agents in order, and what each earned on train.
//!
//! For the hold-out it keeps only what verdicts say and sums of cost. What a single hold-out task earned stays in the trials.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use chrono::{DateTime, Utc};

use crate::error::Result;
use crate::model::gate::{Disclosure, GateRule, Status};
use crate::model::outcomes::exception_class;
use crate::model::paired::first_on_holdout;
use crate::model::score::{Rewards, passes};
use crate::model::trial::{Outcome, Split};
use crate::store::event::{Event, SessionUsage, Verdict};
use crate::store::ledger::{self, Entry, Tip};
use crate::store::spent::Spent;
use crate::store::state::State;
use crate::store::summary::Summary;
use crate::store::trials::plain;

/// The ledger, read for people.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// What it adds up to, single trials included.
    pub state: State,
    /// The agents that were measured or judged, in the order they appeared.
    pub versions: Vec<AgentVersion>,
    /// The cost of all trials when a score was recorded, with that score; the first one is the baseline's.
    pub milestones: Vec<(Spent, f64)>,
    /// How the newest trial of each train task ended, and its exception's class; graded or not.
    newest: HashMap<String, (Outcome, Option<String>)>,
    places: HashMap<(String, String), usize>,
    took: HashMap<String, Took>,
}

/// How long the trials of a task took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Took {
    /// Trials that say how long they took.
    pub trials: u32,
    /// Their seconds, added up.
    pub seconds: f64,
    /// The longest of them.
    pub longest: f64,
}

/// An agent under one set of conditions.
#[derive(Debug, Clone)]
pub(crate) struct AgentVersion {
    /// Agent fingerprint.
    pub agent: String,
    /// Fingerprint of what one trial depends on.
    pub protocol: String,
    /// When its first trial ended, or its verdict was given.
    pub first: DateTime<Utc>,
    /// The last verdict of the experiment itself about it.
    pub verdict: Option<Judged>,
    /// The row and the commit that it was recorded as.
    pub recorded: Option<RecordedAgent>,
    /// The groups of editable paths that the edit touched, if the loop handled it and they have names.
    pub touched: Vec<String>,
    /// Whether it was measured as a baseline.
    pub is_baseline: bool,
    /// What its trials cost, by the word of their purpose.
    pub spent: BTreeMap<&'static str, Spent>,
    /// What the coding agent in the loop said about the edit, and what its sessions used.
    pub proposed: Option<Offer>,
}

/// How an edit came about in the loop.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    /// What the coding agent is called.
    pub by: String,
    /// Its hypothesis, in its own words.
    pub hypothesis: Option<String>,
    /// What its sessions used.
    pub usage: SessionUsage,
}

#[derive(Debug, Clone)]
pub(crate) struct RecordedAgent {
    /// Its number in results.tsv.
    pub iteration: u32,
    /// The full commit.
    pub commit: String,
    pub short: String,
}

/// A verdict without its single hold-out tasks.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub at: DateTime<Utc>,
    pub status: Status,
    /// The score that it showed, if any.
    pub val_score: Option<f64>,
    /// Hold-out tasks that pass, and those with evidence.
    pub evals: (usize, usize),
    /// Under the rule `paired`, what an accepted edit's first trials earned on the hold-out: they chose it, and `val_score`
    /// was measured afresh.
    pub selected: Option<f64>,
    /// The commit that it was compared with.
    pub base: String,
    /// The agent recorded last at that time.
    pub incumbent: Option<String>,
    /// The steps: name, status, why.
    pub steps: Vec<(String, Status, String)>,
    /// Whether it was judged by the rule `paired`.
    pub is_paired: bool,
    /// The line that the gate printed last.
    pub line: String,
}

impl Judged {
    fn of(verdict: &Verdict, at: DateTime<Utc>, incumbent: Option<String>) -> Judged {
        let (evidence, decision) = (&verdict.evidence, verdict.told());
        Judged {
            at,
            status: decision.status,
            val_score: decision.val_score,
            evals: (decision.evals_passed, decision.evals_total),
            selected: chosen_at(verdict),
            base: verdict.base.clone(),
            incumbent,
            steps: decision.steps.iter().map(|step| (step.name.clone(), step.status, step.detail.clone())).collect(),
            is_paired: evidence.policy.paired.is_some(),
            line: decision.line(),
        }
    }
}

/// What an accepted edit's first trials earned on the hold-out under the rule `paired`: they chose it.
pub(crate) fn chosen_at(verdict: &Verdict) -> Option<f64> {
    let compared = verdict.evidence.compared.as_ref().filter(|_| verdict.decision.status == Status::Passed)?;
    first_on_holdout(&compared.pairs)
}

impl History {
    /// Reads the ledger, checking its chain, and shows each line to `also`. Takes no lock: a line that is being written is not
    /// counted.
    pub(crate) fn read(path: &Path, mut also: impl FnMut(&Entry<'_>)) -> Result<History> {
        let mut history = History::default();
        ledger::read(path, &Tip::genesis(), |entry| {
            also(&entry);
            history.take(&entry.event, entry.at);
            history.state.apply(entry);
            Ok(())
        })?;
        Ok(history)
    }

    fn take(&mut self, event: &Event<'_>, at: DateTime<Utc>) {
        match event {
            Event::Trial(trial) => {
                let version = self.version(&trial.agent, &trial.protocol, at);
                version.spent.entry(trial.purpose.as_str()).or_default().add(&trial.usage);
                version.is_baseline |= trial.purpose.is_baseline();
                if trial.split != Some(Split::Test) {
                    let class = trial.error.as_deref().and_then(exception_class).map(str::to_string);
                    if let Some(seconds) = trial.usage.seconds {
                        let took = self.took.entry(trial.task.to_string()).or_default();
                        took.trials += 1;
                        took.seconds = (took.seconds + seconds).min(f64::MAX);
                        took.longest = took.longest.max(seconds);
                    }
                    // A failure in a measurement outside the search is not one to fix.
                    if !trial.purpose.is_aside() {
                        self.newest.insert(trial.task.to_string(), (trial.outcome, class));
                    }
                }
            }
            Event::Prepared(prepared) => {
                self.version(&prepared.agent, &prepared.trial_protocol, at).is_baseline = true;
                if self.milestones.is_empty() {
                    self.milestones.push((self.state.summary.spent, prepared.baseline.val_score));
                }
            }
            Event::Verdict(verdict) if verdict.base_ref.is_none() => {
                // A gate that stopped early had no protocol yet: it belongs to the agent's known protocol, or to the present one.
                let protocol = match (verdict.trial_protocol.as_str(), &self.state.summary.prepared) {
                    ("", Some(prepared)) => prepared.trial_protocol.clone(),
                    (protocol, _) => protocol.to_string(),
                };
                let incumbent = self.state.summary.recorded_agent.clone();
                self.version(&verdict.agent, &protocol, at).verdict = Some(Judged::of(verdict, at, incumbent));
            }
            Event::Recorded(recorded) => {
                self.milestones.push((self.state.summary.spent, recorded.row.val_score));
                let protocol = self.state.summary.prepared.as_ref().map(|prepared| prepared.trial_protocol.clone());
                let recorded_as = RecordedAgent {
                    iteration: recorded.row.iteration,
                    commit: recorded.commit.clone(),
                    short: recorded.row.commit.clone(),
                };
                self.version(&recorded.agent, &protocol.unwrap_or_default(), at).recorded = Some(recorded_as);
            }
            Event::Proposed(proposed) => {
                // The newest: the same edit may have been proposed under other conditions before.
                let own = |version: &&mut AgentVersion| proposed.agent.as_ref() == Some(&version.agent);
                if let Some(version) = self.versions.iter_mut().rfind(own) {
                    let hypothesis = proposed.proposal.as_ref().map(|proposal| proposal.hypothesis.clone());
                    version.proposed = Some(Offer { by: proposed.by.clone(), hypothesis, usage: proposed.usage });
                    version.touched.clone_from(&proposed.touched);
                }
            }
            _ => {}
        }
    }

    /// The version of an agent. Trials that only a comparison may find belong to it as well.
    fn version(&mut self, agent: &str, protocol: &str, at: DateTime<Utc>) -> &mut AgentVersion {
        let protocol = plain(protocol);
        let next = self.versions.len();
        let place = *self.places.entry((agent.to_string(), protocol.to_string())).or_insert(next);
        if place == next {
            self.versions.push(AgentVersion {
                agent: agent.to_string(),
                protocol: protocol.to_string(),
                first: at,
                verdict: None,
                recorded: None,
                touched: Vec::new(),
                is_baseline: false,
                spent: BTreeMap::new(),
                proposed: None,
            });
        }
        &mut self.versions[place]
    }

    pub(crate) fn summary(&self) -> &Summary {
        &self.state.summary
    }

    /// The train tasks, sorted; none before the experiment is prepared.
    pub(crate) fn train(&self) -> &[String] {
        self.summary().prepared.as_ref().map_or(&[], |prepared| &prepared.split.train)
    }

    /// Whether this is a train task. A hold-out task is not, just like one that does not exist.
    pub(crate) fn is_train(&self, task: &str) -> bool {
        self.train().binary_search_by(|known| known.as_str().cmp(task)).is_ok()
    }

    /// What a version earned on the train tasks that it was run on.
    pub(crate) fn train_rewards(&self, version: &AgentVersion) -> Rewards {
        let scoring = self.summary().scoring();
        let known = &self.state.trials;
        let ran = |task: &&String| {
            !known.values(&version.agent, &version.protocol, task, 0..scoring.trials, scoring.policy).is_empty()
        };
        let tasks: Vec<&String> = self.train().iter().filter(ran).collect();
        known.rewards(&version.agent, &version.protocol, tasks, scoring)
    }

    /// The train rewards of every version that has any, or was judged, with its place in `versions`.
    pub(crate) fn columns(&self) -> Vec<(usize, Rewards)> {
        let all = self.versions.iter().enumerate().map(|(at, version)| (at, self.train_rewards(version)));
        all.filter(|(at, rewards)| !rewards.is_empty() || self.versions[*at].verdict.is_some()).collect()
    }

    /// How the newest trial of a train task ended, and the class of its exception.
    pub(crate) fn newest(&self, task: &str) -> Option<(Outcome, Option<&str>)> {
        let (outcome, class) = self.newest.get(task).filter(|_| self.is_train(task))?;
        Some((*outcome, class.as_deref()))
    }

    /// Whether this agent's hold-out score may be shown. The rule `paired` shows no number of an edit that it did not accept,
    /// and a configuration may forbid it: each would be a look at the hold-out.
    pub(crate) fn is_told(&self, agent: &str) -> bool {
        let config = self.summary().prepared.as_ref().map(|prepared| &prepared.config);
        let keeps_back = config.is_some_and(|config| {
            config["gate_rule"] == GateRule::Paired.as_str()
                || config.get("holdout_disclosure").is_some_and(|told| *told != Disclosure::Score.as_str())
        });
        let own = || self.versions.iter().filter(|version| version.agent == agent);
        let accepted = own().any(|version| version.recorded.is_some() || version.is_baseline);
        let judged = own().any(|version| version.verdict.as_ref().is_some_and(|verdict| verdict.is_paired));
        accepted || !(keeps_back || judged)
    }

    /// How long a train task took, over all its trials.
    pub(crate) fn took(&self, task: &str) -> Option<Took> {
        self.took.get(task).filter(|_| self.is_train(task)).copied()
    }

    /// The places of the versions that the experiment's gate judged, in the order of their verdicts.
    pub(crate) fn judged(&self) -> Vec<usize> {
        let mut judged: Vec<usize> =
            (0..self.versions.len()).filter(|at| self.versions[*at].verdict.is_some()).collect();
        judged.sort_by_key(|at| self.versions[*at].verdict.as_ref().map(|verdict| verdict.at));
        judged
    }

    /// What to call a version: by its record, or by its number among the edits.
    pub(crate) fn label(&self, place: usize) -> String {
        let version = &self.versions[place];
        match &version.recorded {
            Some(recorded) => format!("#{} {}", recorded.iteration, recorded.short),
            None if self.summary().first_agent.as_ref() == Some(&version.agent) => "baseline".into(),
            None if version.is_baseline && version.verdict.is_none() => "prepared".into(),
            None => format!("edit {}", version.agent.chars().take(7).collect::<String>()),
        }
    }
}

/// The history of a task as a line: a mark for each version, in order. `.` passes, `x` fails, `?` gave no evidence, `-` was not
/// run.
pub(crate) fn marks(columns: &[(usize, Rewards)], task: &str) -> String {
    let mark = |rewards: &Rewards| match rewards.0.get(task) {
        None => '-',
        Some(None) => '?',
        Some(reward) if passes(*reward) => '.',
        Some(_) => 'x',
    };
    columns.iter().map(|(_, rewards)| mark(rewards)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::usage::Usage;
    use crate::store::event::{Purpose, Trial};

    /// Trials that only a comparison may find make no new version, and measurements outside the search are no failures of
    /// the task.
    #[test]
    fn an_agent_is_one_version_whatever_it_was_run_for() {
        let mut history = History::default();
        for (protocol, purpose, outcome) in [
            ("p", Purpose::Benchmark, Outcome::Passed),
            ("p versus b", Purpose::Round, Outcome::Passed),
            ("p confirmed against b", Purpose::Claim, Outcome::Failed),
            ("p again", Purpose::Calibrate, Outcome::Failed),
        ] {
            let usage = Usage { seconds: Some(2.0), ..Usage::default() };
            let trial = Trial { purpose, protocol: protocol.into(), outcome, usage, ..Trial::example() };
            history.take(&Event::Trial(trial), DateTime::UNIX_EPOCH);
        }
        assert_eq!((history.versions.len(), history.versions[0].protocol.as_str()), (1, "p"));
        assert_eq!(history.versions[0].spent.values().map(|spent| spent.trials).sum::<u64>(), 4);
        assert_eq!(history.newest["t"].0, Outcome::Passed);
    }
}

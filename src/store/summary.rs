//! What the ledger adds up to, without single trials: everything that views, `status` and most commands need.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::claims::Claims;
use super::event::{By, Prepared, Row, SuiteChanged, Verdict};
use super::gates::GateTrials;
use super::proposals::Proposals;
use super::spent::Spent;
use crate::error::{Context as _, Result};
use crate::model::compare::Reference;
use crate::model::gate::Status;
use crate::model::hash::hash;
use crate::model::score::{Scoring, TimeoutPolicy};
use crate::model::suite::SuiteChange;

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
    /// How often the suite was changed by hand.
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
    /// Positions in `rows` before which the protocol changed: scores on its two sides are not comparable.
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
    /// What the rule `paired` compared, in order: an edit and the agent to beat. By earlier rules it is there as often as it was
    /// compared.
    #[serde(default)]
    pub compared: Vec<String>,
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
    /// The position in that list from which agents show how reliable a task of the suite is: earlier ones did not solve it.
    #[serde(default)]
    pub joined: BTreeMap<String, usize>,
    /// The agent that the experiment began with: no trial of it chose it.
    #[serde(default)]
    pub first_agent: Option<String>,
    /// Measurements outside the search, and where the experiment began.
    #[serde(default)]
    pub claims: Claims,
    /// Trials in the ledger, with their cost.
    pub spent: Spent,
    /// Those of them that the search ran under the present protocol: gates and `benchmark`.
    #[serde(default)]
    pub searched: Spent,
    /// Those that ran the unchanged agent again, to see what luck alone does to its score.
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
    pub reason: String,
    pub by: By,
}

/// A verdict with its place in the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Receipt {
    /// `seq` of the verdict.
    pub seq: u64,
    pub at: DateTime<Utc>,
    pub verdict: Verdict,
    /// The judged agent's train rewards at that moment; merged into `accepted_results` when it is recorded.
    pub train: BTreeMap<String, Option<f64>>,
}

impl Receipt {
    /// Whether a line of the ledger holds this very verdict. Quotes in a string are escaped, so that no text can imitate it.
    pub(super) fn stands_in(&self, line: &[u8]) -> bool {
        let Ok(verdict) = serde_json::to_string(&self.verdict) else { return false };
        memchr::memmem::find(line, format!(r#","event":{{"verdict":{verdict}}},"sum":""#).as_bytes()).is_some()
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

    /// Whether nothing chose an agent, because the experiment began with it. Accepted again after another one, it was chosen; earlier
    /// rules did not look at that.
    pub fn is_first(&self, agent: &str, rules: u32) -> bool {
        let mut later = self.accepted_agents.iter().skip_while(|accepted| *accepted == agent);
        self.first_agent.as_deref() == Some(agent) && (rules < 2 || !later.any(|accepted| accepted == agent))
    }

    /// The number of a comparison among those of the rule `paired`, from 1: its own when it was made before, except by earlier
    /// rules.
    pub fn candidate_number(&self, agent: &str, incumbent: &str, rules: u32) -> u32 {
        let this = format!("{agent} {incumbent}");
        let own = self.compared.iter().rposition(|compared| *compared == this).filter(|_| rules > 1);
        u32::try_from(own.unwrap_or(self.compared.len())).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// An edit was compared with an agent to beat.
    pub(super) fn compared(&mut self, agent: &str, incumbent: &str, rules: u32) {
        let this = format!("{agent} {incumbent}");
        if rules < 2 || !self.compared.contains(&this) {
            self.compared.push(this);
        }
    }

    /// How trials are counted under the prepared configuration: trials per task, timeout policy.
    pub fn scoring(&self) -> Scoring {
        let config = self.prepared.as_ref().map(|prepared| &prepared.config);
        let trials = config.and_then(|config| config["trials"].as_u64()).and_then(|trials| u32::try_from(trials).ok());
        let policy = config.and_then(|config| TimeoutPolicy::deserialize(&config["timeout_policy"]).ok());
        Scoring { trials: trials.unwrap_or(1), policy: policy.unwrap_or(TimeoutPolicy::Agent) }
    }

    /// Which of these tasks are run and not counted.
    pub fn quarantined_of(&self, suite: &[String]) -> BTreeSet<String> {
        suite.iter().filter(|task| self.quarantined.contains_key(*task)).cloned().collect()
    }

    pub(super) fn accept(&mut self, agent: &str) {
        self.accepted_agents.push(agent.to_string());
    }

    /// Tasks that the agent accepted last brought in.
    pub(super) fn keep(&mut self, tasks: BTreeSet<String>) {
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

    pub(super) fn suite_changed(&mut self, changed: SuiteChanged, at: DateTime<Utc>) {
        let SuiteChanged { change, tasks, reason, by } = changed;
        self.suite_by_hand += u32::from(by == By::Hand);
        for task in tasks {
            self.quarantined.remove(&task);
            self.retired.remove(&task);
            let aside = Aside { at, reason: reason.clone(), by };
            match change {
                // Those who add a task by hand know how it fared until now.
                SuiteChange::Add => {
                    self.joined.insert(task.clone(), self.accepted_agents.len());
                    self.kept.insert(task);
                }
                SuiteChange::Quarantine => {
                    self.kept.insert(task.clone());
                    self.quarantined.insert(task, aside);
                }
                SuiteChange::Retire => {
                    self.retired.insert(task, aside);
                }
            }
        }
    }

    pub(super) fn raise_reference(&mut self, protocol: &str, reference: Reference) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_agent_accepted_again_after_another_one_was_chosen() {
        let is_first = |accepted: &[&str], rules: u32| {
            let accepted_agents = accepted.iter().map(ToString::to_string).collect();
            let summary = Summary { first_agent: Some("a".into()), accepted_agents, ..Summary::default() };
            (summary.is_first("a", rules), summary.is_first("b", rules))
        };
        assert_eq!(is_first(&["a"], 2), (true, false));
        assert_eq!(is_first(&["a", "a", "b"], 2), (true, false));
        assert_eq!(is_first(&["a", "b", "a"], 2), (false, false));
        assert_eq!(is_first(&["a", "b", "a"], 1), (true, false));
    }
}

//! Everything that the gate's decision depends on.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::policy::{LeakScan, Policy};
use crate::model::compare::Reference;
use crate::model::paired::{Pairs, Rule};
use crate::model::score::Rewards;
use crate::model::suite::KnownTask;

/// The version of the rules in this build. Evidence has the version it was decided by, so that old verdicts are decided
/// again as they were: version 0 compared val_scores whatever they were means of, and ignored what a step left out. Version 1
/// let a task join the suite whose missing trials might have failed, and by the rule `paired` it took a task as run that was
/// not run to the end, let trials without evidence count for nothing, and counted trials that were run again.
pub const RULES: u32 = 2;

/// What the rule `paired` decides by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Fingerprint of the agent to beat.
    pub incumbent: String,
    /// The rule, with the numbers that follow from the configuration.
    pub rule: Rule,
    /// Both agents, task by task. Empty when they are the same agent.
    pub pairs: Pairs,
}

/// Everything the decision depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The version of the rules, see [`RULES`].
    #[serde(default)]
    pub rules: u32,
    /// The rules as configured.
    pub policy: Policy,
    /// What the file guard found, one line each.
    pub guard: Vec<String>,
    /// What the leak scan found, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaks: Vec<String>,
    /// Why the agent file cannot be imported, when it cannot.
    pub preflight: Option<String>,
    /// Rewards of the suite's tasks; empty when the suite is empty.
    pub suite: Rewards,
    /// For suite tasks with missing trials: their rewards with each missing trial counted 0.0.
    #[serde(default, skip_serializing_if = "Rewards::is_empty")]
    pub suite_least: Rewards,
    /// Tasks of the suite that are run and not counted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub quarantined: BTreeSet<String>,
    /// By the rule `paired`: what is known of the suite's tasks. `None`: not recorded, as in the first verdicts by this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite_known: Option<BTreeMap<String, KnownTask>>,
    /// Rewards of the gate split; empty when an earlier step cost the edit its run.
    pub holdout: Rewards,
    /// For gate split tasks with missing trials: their rewards with each missing trial counted 0.0.
    #[serde(default, skip_serializing_if = "Rewards::is_empty")]
    pub holdout_least: Rewards,
    /// Candidate and incumbent, if the rule is `paired` and the suite did not already fail the edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
    /// The score to reach, when one exists under this protocol.
    pub best: Option<Reference>,
    /// Rewards of the promotion candidates; empty unless the first two steps passed.
    pub promotion: Rewards,
}

impl Compared {
    /// The number of tasks that both agents have evidence for, and of all tasks.
    pub fn evaluated(&self) -> (usize, usize) {
        let both = self.pairs.values().filter(|pair| pair.candidate.is_known() && pair.incumbent.is_known());
        (both.count(), self.pairs.len())
    }
}

impl Evidence {
    /// Nothing found and nothing measured, by the rules of today.
    pub fn new(policy: Policy) -> Evidence {
        Evidence {
            rules: RULES,
            policy,
            guard: Vec::new(),
            leaks: Vec::new(),
            preflight: None,
            suite: Rewards::default(),
            suite_least: Rewards::default(),
            quarantined: BTreeSet::new(),
            suite_known: None,
            holdout: Rewards::default(),
            holdout_least: Rewards::default(),
            compared: None,
            best: None,
            promotion: Rewards::default(),
        }
    }

    /// Whether one of the free steps fails the edit: then nothing is run.
    pub fn is_stopped(&self) -> bool {
        let leaks = self.policy.leak_scan == LeakScan::Fail && !self.leaks.is_empty();
        !self.guard.is_empty() || leaks || self.preflight.is_some()
    }
}

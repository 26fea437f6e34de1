//! The rules of the gate as configured. They go into the ledger with every verdict.

use serde::{Deserialize, Serialize};

use crate::model::score::{Scoring, TimeoutPolicy};
use crate::model::trial::Split;

/// What a finding of the leak scan does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeakScan {
    /// It is printed and kept, and has no effect on the verdict.
    Warn,
    /// It fails the edit before anything is run.
    Fail,
    /// Nothing is scanned. Verdicts from before the scan existed have this.
    #[default]
    Off,
}

impl LeakScan {
    /// The word used in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            LeakScan::Warn => "warn",
            LeakScan::Fail => "fail",
            LeakScan::Off => "off",
        }
    }

    /// Whether nothing is scanned.
    pub fn is_off(&self) -> bool {
        *self == LeakScan::Off
    }
}

/// How the gate decides whether an agent is better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateRule {
    /// val_score must reach the best recorded, as in the Python original.
    #[default]
    Best,
    /// Candidate and incumbent are compared task by task, in rounds: [`paired`](crate::model::paired).
    Paired,
}

impl GateRule {
    /// The word used in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            GateRule::Best => "best",
            GateRule::Paired => "paired",
        }
    }
}

/// The rules a gate applies, as configured when it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Share of the suite that must pass, 0–1.
    pub threshold: f64,
    /// Share of a step's expected tasks that must be evaluated, 0–1.
    pub min_evidence: f64,
    /// What an agent timeout counts as.
    pub timeout_policy: TimeoutPolicy,
    /// The split that gives val_score.
    pub gate_split: Split,
    /// Trials per task.
    pub trials: u32,
    /// What a finding of the leak scan does.
    #[serde(default, skip_serializing_if = "LeakScan::is_off")]
    pub leak_scan: LeakScan,
    /// What the gate discloses about the hold-out.
    #[serde(default, skip_serializing_if = "Disclosure::is_score")]
    pub holdout_disclosure: Disclosure,
    /// The rule `paired` as configured; `None`: the rule is `best`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paired: Option<PairedPolicy>,
}

/// The policy of a configuration that does not mention the gate.
impl Default for Policy {
    fn default() -> Policy {
        Policy {
            threshold: 0.8,
            min_evidence: 0.9,
            timeout_policy: TimeoutPolicy::Agent,
            gate_split: Split::Test,
            trials: 1,
            leak_scan: LeakScan::Off,
            holdout_disclosure: Disclosure::Score,
            paired: None,
        }
    }
}

impl Policy {
    /// How trials add up to the reward of a task.
    pub fn scoring(&self) -> Scoring {
        Scoring { trials: self.trials, policy: self.timeout_policy }
    }
}

/// The configuration of the rule `paired`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedPolicy {
    /// Chance that an edit which changes nothing is accepted, over all rounds.
    pub alpha: f64,
    pub max_rounds: u32,
    /// How often each task is run afresh once an edit is accepted.
    pub confirm_trials: u32,
    /// How often in a row a task must pass to join the suite; `None`: two more than configured, as in the first verdicts by
    /// this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote_after: Option<u32>,
    /// The candidate's number in the experiment, from 1, when `alpha` is spread over all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<u32>,
}

impl PairedPolicy {
    /// The chance of error of this one comparison. When spread over all candidates, the j-th may spend 6 alpha / (pi^2 j^2),
    /// which adds up to alpha however many follow.
    pub fn spent(&self) -> f64 {
        let share = |candidate: u32| {
            let j = f64::from(candidate.max(1));
            6.0 * self.alpha / (std::f64::consts::PI * std::f64::consts::PI * j * j)
        };
        self.candidate.map_or(self.alpha, share)
    }
}

/// What the coding agent is told about the hold-out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disclosure {
    /// The score of every gate.
    #[default]
    Score,
    /// The score of an edit that is accepted; of any other only that it is not better (after Blum and Hardt 2015).
    Ladder,
    /// Accepted or not.
    Bit,
}

impl Disclosure {
    /// The word used in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Disclosure::Score => "score",
            Disclosure::Ladder => "ladder",
            Disclosure::Bit => "bit",
        }
    }

    /// Whether nothing is held back.
    pub fn is_score(&self) -> bool {
        *self == Disclosure::Score
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check values: STATISTICS d7, alpha 0.10.
    #[test]
    fn alpha_is_spent_over_the_candidates() {
        let spent = |candidate| {
            let policy = PairedPolicy { alpha: 0.1, max_rounds: 3, confirm_trials: 1, promote_after: None, candidate };
            (policy.spent() * 1e5).round() / 1e5
        };
        assert_eq!(spent(None), 0.1);
        assert_eq!([1, 2, 3, 4, 5].map(|j| spent(Some(j))), [0.06079, 0.0152, 0.00675, 0.0038, 0.00243]);
    }
}

//! How an experiment began: the basis of all later numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::split::TaskSplit;
use crate::model::trial::Split;

/// `prepared`: configuration snapshot, fingerprints, base commit, split, digests, baseline.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prepared {
    /// Resolved configuration, without secrets.
    pub config: serde_json::Value,
    /// SHA-256 of experiment_config.yaml's bytes.
    pub config_digest: String,
    /// Commit the file guard compares with.
    pub base: String,
    /// Fingerprint of the agent that was measured.
    pub agent: String,
    /// Fingerprint of what one trial depends on beside the agent.
    pub trial_protocol: String,
    /// Version of the inputs of `trial_protocol`.
    #[serde(default = "first_protocol")]
    pub protocol_version: u32,
    /// Protocol fingerprint: `trial_protocol` and everything else that a score depends on (split, timeout policy, trials).
    pub protocol: String,
    /// Task ids of both splits.
    pub split: TaskSplit,
    /// True when the split was drawn here from the baseline, false when the benchmark brought it.
    pub split_drawn: bool,
    /// SHA-256 of each provisioned file or directory, by configured path.
    pub data: BTreeMap<String, String>,
    pub baseline: Baseline,
    /// A version of the benchmark's upstream that we never tested with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untried: Option<String>,
    /// Rows of an adopted workspace of the Python original; they could not be verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<Adopted>,
}

impl Prepared {
    /// The split that gives val_score, as configured.
    pub fn gate_split(&self) -> Split {
        if self.config["gate_split"] == Split::Train.as_str() { Split::Train } else { Split::Test }
    }
}

/// Ledgers without a version are of the first one.
fn first_protocol() -> u32 {
    1
}

/// The baseline's score on the gate split.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Baseline {
    /// Mean reward on the gate split.
    pub val_score: f64,
    /// Its tasks that pass.
    pub evals_passed: usize,
    /// Its tasks with evidence.
    pub evals_total: usize,
}

/// What was taken over from a workspace of the Python original.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Adopted {
    /// Rows of results.tsv.
    pub rows: Vec<Row>,
    /// Tasks of suite.json that exist in train.
    pub suite: Vec<String>,
    /// `last_results` of suite.json.
    pub suite_results: BTreeMap<String, Option<f64>>,
    /// True when the split comes from its split file, and was not drawn from the baseline measured here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub split: bool,
}

/// A row of results.tsv.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// 0 is the baseline.
    pub iteration: u32,
    /// Mean reward on the gate split.
    pub val_score: f64,
    /// Short commit, or `baseline`.
    pub commit: String,
    /// Tasks that pass.
    pub evals_passed: usize,
    /// Tasks evaluated.
    pub evals_total: usize,
    /// When, as written in the file.
    pub timestamp: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledgers_that_name_no_version_of_the_protocol_are_of_the_first() {
        let old = serde_json::json!({
            "config": {}, "config_digest": "d", "base": "b", "agent": "a", "trial_protocol": "t", "protocol": "p",
            "split": {"train": [], "test": []}, "split_drawn": true, "data": {},
            "baseline": {"val_score": 0.5, "evals_passed": 1, "evals_total": 2},
        });
        let read: Prepared = serde_json::from_value(old).unwrap();
        assert_eq!(read.protocol_version, 1);
        assert!(read.untried.is_none() && read.adopted.is_none());
    }
}

//! Trials, and the runs that they belong to.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::purpose::Purpose;
use crate::model::trial::{Outcome, Split};
use crate::model::usage::Usage;

#[cfg(test)]
impl Trial<'static> {
    /// A trial of `a` that passed, for tests to change.
    pub(crate) fn example() -> Trial<'static> {
        Trial {
            run: "r".into(),
            purpose: Purpose::Benchmark,
            agent: "a".into(),
            protocol: "p".into(),
            split: Some(Split::Train),
            task: "t".into(),
            trial: 0,
            outcome: Outcome::Passed,
            reward: Some(1.0),
            usage: Usage::default(),
            error: None,
            silent: false,
            trace_lost: false,
        }
    }
}

#[cfg(test)]
impl RunFinished {
    /// The end of a run of `a` over nothing, for tests to change.
    pub(crate) fn example() -> RunFinished {
        RunFinished {
            run: "r".into(),
            purpose: Purpose::Benchmark,
            agent: "a".into(),
            protocol: "p".into(),
            split: Some(Split::Train),
            tasks: Vec::new(),
            run_trials: 0,
            fresh: false,
            reused_trials: 0,
            failure: None,
            fence: Vec::new(),
            void: false,
            tokenless: false,
        }
    }
}

/// `trial`: one execution of one task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trial<'a> {
    #[serde(borrow)]
    pub run: Cow<'a, str>,
    /// Why the run was made.
    pub purpose: Purpose,
    /// Agent fingerprint.
    #[serde(borrow)]
    pub agent: Cow<'a, str>,
    /// Fingerprint of what one trial depends on beside the agent.
    #[serde(borrow)]
    pub protocol: Cow<'a, str>,
    /// Split; none while it is not drawn yet.
    pub split: Option<Split>,
    #[serde(borrow)]
    pub task: Cow<'a, str>,
    /// Trial number, from 0.
    pub trial: u32,
    pub outcome: Outcome,
    /// 0.0–1.0, or null.
    pub reward: Option<f64>,
    #[serde(flatten)]
    pub usage: Usage,
    /// Why it did not pass; train only.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'a, str>>,
    /// True when it reported no tokens although its benchmark always does: this means that it used none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
    /// True when the disk refused its trace. The trial counts; `benchmark` runs it again for a trace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trace_lost: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunFinished {
    pub run: String,
    pub purpose: Purpose,
    /// Agent fingerprint.
    pub agent: String,
    /// Fingerprint of what one trial depends on beside the agent.
    pub protocol: String,
    /// Split; none while it is not drawn yet.
    pub split: Option<Split>,
    /// The tasks it was about, those whose trials were already in the ledger included.
    pub tasks: Vec<String>,
    pub run_trials: usize,
    /// True when trials already in the ledger were run again on purpose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// Trials found in the ledger and not paid for again.
    pub reused_trials: usize,
    /// What interrupted it, if anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The layers of the fence around its agents; none when there was no fence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fence: Vec<String>,
    /// True when no trial showed any model activity, or the benchmark reported what it could not know: all trials of the run
    /// are infrastructure errors.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub void: bool,
    /// True when it was a baseline and no trial of its agent on these tasks ever used a model token: the trials of earlier
    /// runs are infrastructure errors, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tokenless: bool,
}

#[cfg(test)]
mod tests {
    use super::super::Event;

    #[test]
    fn a_trial_is_written_byte_for_byte_as_ever() {
        // The ledger is a chain of hashes over these bytes.
        let full = r#"{"trial":{"run":"r","purpose":"benchmark","agent":"a","protocol":"p","split":"train","task":"t","trial":2,"outcome":"failed","reward":0.25,"seconds":1.5,"tokens_in":10,"tokens_out":18446744073709551615,"cost_usd":0.1,"error":"no","silent":true,"trace_lost":true}}"#;
        let bare = r#"{"trial":{"run":"r","purpose":"baseline","agent":"a","protocol":"p","split":null,"task":"t","trial":0,"outcome":"infra_error","reward":null}}"#;
        let some = r#"{"trial":{"run":"r","purpose":"hold_out","agent":"a","protocol":"p","split":"test","task":"t","trial":0,"outcome":"passed","reward":1.0,"tokens_out":7,"silent":true}}"#;
        for line in [full, bare, some] {
            let read: Event<'_> = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), line);
        }
    }
}

//! What was judged, recorded, accepted and measured again.

use serde::{Deserialize, Serialize};

use super::Row;
use crate::model::calibrate::{Noise, Repeated};
use crate::model::claim::{Claim, Measured};
use crate::model::gate::{Decision, Evidence};
use crate::model::simulate::Forecast;
use crate::model::suite::SuiteChange;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Verdict {
    /// Fingerprint of the agent that was judged.
    pub agent: String,
    /// Fingerprint of what one trial depends on.
    pub trial_protocol: String,
    /// Protocol fingerprint.
    pub protocol: String,
    /// Base commit of the file guard.
    pub base: String,
    /// The ref given with `--base`, when one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_ref: Option<String>,
    /// Everything the decision depends on.
    pub evidence: Evidence,
    pub decision: Decision,
}

impl Verdict {
    /// The part of the decision that the coding agent may see.
    pub fn told(&self) -> Decision {
        self.decision.told(&self.evidence.policy)
    }
}

/// `recorded`: the row, and the receipt it stands on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recorded {
    /// The row of results.tsv.
    pub row: Row,
    /// Full commit hash; the new base commit.
    pub commit: String,
    /// `seq` of the verdict.
    pub receipt: u64,
    /// Fingerprint of the agent committed there.
    pub agent: String,
    /// Protocol fingerprint of the score.
    pub protocol: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Accepted {
    /// Base commit before.
    pub from: String,
    /// Base commit after.
    pub to: String,
    /// What changed, one line each.
    pub changes: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Revealed {
    /// The command line.
    pub command: String,
    /// How many hold-out tasks were shown.
    pub tasks: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SuiteChanged {
    pub change: SuiteChange,
    /// Train tasks.
    pub tasks: Vec<String>,
    pub reason: String,
    pub by: By,
}

/// Who changed the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The gate, by the trials of accepted agents.
    Gate,
    /// A human, with the command `suite`.
    Hand,
}

/// An agent as it is in a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Committed {
    /// Its fingerprint.
    pub agent: String,
    /// The commit that holds it.
    pub commit: String,
}

impl Committed {
    /// Whether it is the agent of this commit.
    pub fn is_at(&self, commit: Option<&String>) -> bool {
        commit == Some(&self.commit)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Confirmed {
    /// The agent to compare with.
    pub baseline: Committed,
    /// The ref given with `--against`, when one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// The best recorded agent.
    pub best: Committed,
    /// Fingerprint of what one trial depends on.
    pub trial_protocol: String,
    /// True when it was made on the sealed split, which it opened.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sealed: bool,
    /// Trials of each task that were asked for.
    pub trials: u32,
    /// How often these two agents were looked at like this, each time with more trials than before; 1 for the first.
    pub look: u32,
    /// Everything the claim depends on.
    pub measured: Measured,
    pub claim: Claim,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Calibrated {
    /// The agent, which was the recorded one.
    pub agent: Committed,
    /// Fingerprint of what one trial depends on.
    pub trial_protocol: String,
    /// Trials of each task that were asked for.
    pub trials: u32,
    /// What it earned.
    pub measured: Repeated,
    pub noise: Noise,
    /// How far the rates were shrunk towards their mean before the gate was simulated with them, 0–1.
    pub shrunk: f64,
    /// What the simulation came to.
    pub forecast: Forecast,
}

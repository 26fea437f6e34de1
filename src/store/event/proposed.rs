//! What a coding agent proposed to the loop, and what luck alone would have achieved.

use serde::{Deserialize, Serialize};

use crate::model::usage::plus;

use super::Committed;
use crate::model::proposal::{PredictionOutcome as Predicted, Proposal, Surface};

/// `resampled`: one more measurement of the unchanged agent. No gate, score or view uses it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resampled {
    /// Which run of this agent it is, from 1.
    pub run: u32,
    /// The agent, which is the one that the experiment began with.
    pub agent: Committed,
    /// Fingerprint of what one trial depends on.
    pub trial_protocol: String,
    /// Protocol fingerprint of the score.
    pub protocol: String,
    /// Mean reward on the gate split.
    pub val_score: f64,
    /// Its tasks that pass.
    pub evals_passed: usize,
    /// Its tasks with evidence.
    pub evals_total: usize,
}

/// `proposed`: one iteration of the loop, whatever came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Proposed {
    /// Number of the iteration, from 1.
    pub iteration: u32,
    /// What the coding agent is called.
    pub by: String,
    /// Base commit of the edit.
    pub base: String,
    /// Fingerprint of the proposed agent; none where there was no edit to judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// `seq` of the gate's verdict; none where the edit did not reach the gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<u64>,
    pub end: End,
    /// Why it did not reach the gate, in this tool's words, not the coding agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the coding agent said about its edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<Proposal>,
    /// How its predictions turned out, by train trials alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Predicted>,
    /// What its sessions used.
    pub usage: SessionUsage,
    /// The groups of editable paths (`surfaces` in the configuration) that the edit touched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub touched: Vec<String>,
    /// Further candidates of the iteration, which were behind this one on train.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outdone: Vec<Outdone>,
}

/// A candidate that did not reach the gate because another one of its iteration did better on train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outdone {
    /// Its fingerprint.
    pub agent: String,
    pub hypothesis: String,
    pub surface: Surface,
    /// Its mean reward on the train tasks that were run.
    pub train: Option<f64>,
}

/// How an iteration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The gate passed it, and it is recorded.
    Accepted,
    Rejected,
    /// There was nothing to judge: no edit, other files, no valid proposal, twice.
    Unusable,
}

impl End {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            End::Accepted => "accepted",
            End::Rejected => "rejected",
            End::Unusable => "unusable",
        }
    }
}

/// What sessions of a coding agent used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionUsage {
    /// Sessions started.
    pub sessions: u32,
    /// Wall seconds.
    pub seconds: f64,
    /// Turns of its model, where they were counted.
    #[serde(default)]
    pub turns: u64,
    /// Tokens read and written by its model.
    #[serde(default)]
    pub tokens: u64,
    /// US dollars of the sessions that reported them.
    #[serde(default)]
    pub cost_usd: f64,
    /// Sessions that reported no dollars: unknown is not nothing.
    #[serde(default)]
    pub unpriced: u32,
}

impl SessionUsage {
    #[must_use]
    pub fn plus(self, more: SessionUsage) -> SessionUsage {
        SessionUsage {
            sessions: self.sessions.saturating_add(more.sessions),
            seconds: plus(self.seconds, more.seconds),
            turns: self.turns.saturating_add(more.turns),
            tokens: self.tokens.saturating_add(more.tokens),
            cost_usd: plus(self.cost_usd, more.cost_usd),
            unpriced: self.unpriced.saturating_add(more.unpriced),
        }
    }
}

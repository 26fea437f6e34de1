//! What the ledger can say. Externally tagged JSON: `{"trial": {…}}`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::calibrate::{Noise, Repeated};
use crate::model::claim::{Claim, Measured};
use crate::model::gate::{Decision, Evidence};
use crate::model::proposal::{Outcome as Predicted, Proposal, Surface};
use crate::model::simulate::Forecast;
use crate::model::split::TaskSplit;
use crate::model::suite::Change;
use crate::model::trial::{Outcome, Split};

/// One ledger event.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event<'a> {
    /// `prepare` finished: what all later numbers stand on.
    Prepared(Box<Prepared>),
    /// A trial finished.
    #[serde(borrow)]
    Trial(Trial<'a>),
    /// A run ended, completely or not.
    RunFinished(RunFinished),
    /// The gate spoke: every input of the decision, and the decision. The receipt that `record` needs.
    Verdict(Box<Verdict>),
    /// A passing edit was recorded.
    Recorded(Recorded),
    /// A human accepted changes to guarded files or to the configuration.
    Accepted(Accepted),
    /// Per-task results of the hold-out were looked at.
    Revealed(Revealed),
    /// Tasks of the regression suite were added, put in quarantine or retired.
    SuiteChanged(SuiteChanged),
    /// Baseline and best were run afresh, and this is what may be claimed.
    Confirmed(Box<Confirmed>),
    /// The recorded agent was run again, unchanged.
    Calibrated(Box<Calibrated>),
    /// The loop has had an edit proposed, and this is what became of it.
    Proposed(Box<Proposed>),
    /// The agent that the experiment began with was measured once more, as a gate measures an edit.
    Resampled(Box<Resampled>),
}

impl Event<'_> {
    /// The first format version whose programs know this event: what its line says of itself.
    pub fn version(&self) -> u32 {
        match self {
            Event::SuiteChanged(_)
            | Event::Confirmed(_)
            | Event::Calibrated(_)
            | Event::Proposed(_)
            | Event::Resampled(_) => 2,
            _ => 1,
        }
    }
}

/// Why a run was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The baseline, or the reference measured after an accepted change.
    Baseline,
    /// `autoharness benchmark`.
    Benchmark,
    /// Step 1 of the gate.
    Suite,
    /// Step 2 of the gate.
    HoldOut,
    /// Step 3 of the gate.
    Promotion,
    /// The base commit's agent, for `gate --base`.
    Base,
    /// A round of the rule `paired`: what is in doubt, for both agents alike.
    Round,
    /// Afresh, once an agent was chosen (or is where an experiment starts): what its score stands on.
    Confirm,
    /// `autoharness confirm`: what is claimed stands on it, and nothing else does.
    Claim,
    /// `autoharness calibrate`: how noisy an agent is.
    Calibrate,
    /// `autoharness loop --arm resample`: what luck alone makes of the unchanged agent.
    Resample,
}

impl Purpose {
    /// Whether other agents are compared with what this measures.
    pub fn is_baseline(self) -> bool {
        matches!(self, Purpose::Baseline | Purpose::Base)
    }

    /// Whether its trials leave traces where the coding agent reads them. Those of a comparison do not: what they tell is
    /// told already, and they would take the place of newer ones.
    pub fn leaves_traces(self) -> bool {
        !self.is_aside() && !matches!(self, Purpose::Round | Purpose::Confirm)
    }

    /// Whether it is beside the search: no gate, score or view knows of its trials.
    pub fn is_aside(self) -> bool {
        matches!(self, Purpose::Claim | Purpose::Calibrate | Purpose::Resample)
    }

    /// Whether the search for a better agent pays for it: what gates and `benchmark` run.
    pub fn is_search(self) -> bool {
        !self.is_aside() && !self.is_baseline()
    }

    /// The word used in run names.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Baseline => "baseline",
            Purpose::Benchmark => "benchmark",
            Purpose::Suite => "suite",
            Purpose::HoldOut => "hold-out",
            Purpose::Promotion => "promotion",
            Purpose::Base => "base",
            Purpose::Round => "round",
            Purpose::Confirm => "confirm",
            Purpose::Claim => "claim",
            Purpose::Calibrate => "calibrate",
            Purpose::Resample => "resample",
        }
    }
}

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
    /// Version of what `trial_protocol` is made of.
    #[serde(default = "first_protocol")]
    pub protocol_version: u32,
    /// Protocol fingerprint: `trial_protocol` and what a score depends on beside it (split, timeout policy, trials).
    pub protocol: String,
    /// Task ids of both splits.
    pub split: TaskSplit,
    /// True when the split was drawn here from the baseline, false when the benchmark brought it.
    pub split_drawn: bool,
    /// SHA-256 of each provisioned file or directory, by configured path.
    pub data: BTreeMap<String, String>,
    /// The measured baseline.
    pub baseline: Baseline,
    /// A version of the benchmark's upstream that this program was never tried with.
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
    /// True when the split is the one of its split file, which was not drawn from the baseline measured here.
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
            seconds: None,
            tokens_in: None,
            tokens_out: None,
            cost_usd: None,
            error: None,
            silent: false,
            trace_lost: false,
        }
    }
}

/// `trial`: one execution of one task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trial<'a> {
    /// Run name.
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
    /// Task id.
    #[serde(borrow)]
    pub task: Cow<'a, str>,
    /// Trial number, from 0.
    pub trial: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// 0.0–1.0, or null.
    pub reward: Option<f64>,
    /// Wall seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Tokens read by the agent's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_in: Option<u64>,
    /// Tokens written by the agent's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_out: Option<u64>,
    /// US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Why it did not pass; train only.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'a, str>>,
    /// True when it named no tokens although its benchmark always does: silence means that none was used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
    /// True when the disk refused its trace. The trial counts; `benchmark` runs it again for a trace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trace_lost: bool,
}

/// `run_finished`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunFinished {
    /// Run name.
    pub run: String,
    /// Why it was made.
    pub purpose: Purpose,
    /// Agent fingerprint.
    pub agent: String,
    /// Fingerprint of what one trial depends on beside the agent.
    pub protocol: String,
    /// Split; none while it is not drawn yet.
    pub split: Option<Split>,
    /// The tasks it was about, those whose trials were already in the ledger included.
    pub tasks: Vec<String>,
    /// Trials run.
    pub run_trials: usize,
    /// True when trials already in the ledger were run again on purpose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// Trials found in the ledger and not paid for again.
    pub reused_trials: usize,
    /// What broke it off, when something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The layers of the fence that its agents could be put behind; none when there was no fence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fence: Vec<String>,
    /// True when no trial showed any model activity, or the benchmark said what it could not know: all trials of the run
    /// are infrastructure errors.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub void: bool,
    /// True when it was a baseline and no trial of its agent on these tasks ever used a model token: the trials of earlier
    /// runs are infrastructure errors, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tokenless: bool,
}

/// `verdict`.
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
    /// The decision.
    pub decision: Decision,
}

impl Verdict {
    /// What of the decision the coding agent may hear.
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

/// `accepted`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Accepted {
    /// Base commit before.
    pub from: String,
    /// Base commit after.
    pub to: String,
    /// What changed, one line each.
    pub changes: Vec<String>,
}

/// `revealed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Revealed {
    /// The command line.
    pub command: String,
    /// How many hold-out tasks were shown.
    pub tasks: usize,
}

/// `suite_changed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SuiteChanged {
    /// What was done.
    pub change: Change,
    /// Train tasks.
    pub tasks: Vec<String>,
    /// Why.
    pub reason: String,
    /// Who did it.
    pub by: By,
}

/// Who changed the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The gate, by the trials of accepted agents.
    Gate,
    /// Somebody, with the command `suite`.
    Hand,
}

/// An agent as a commit has it.
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

/// `confirmed`.
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
    /// The claim.
    pub claim: Claim,
}

/// `calibrated`.
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
    /// How noisy that is.
    pub noise: Noise,
    /// By which part the rates were drawn to their mean before the gate was simulated with them.
    pub shrunk: f64,
    /// What the simulation came to.
    pub forecast: Forecast,
}

/// `resampled`: one more measurement of the unchanged agent. No gate, score or view knows of it.
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
    /// `seq` of the gate's verdict; none where the edit did not come before the gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<u64>,
    /// What became of it.
    pub end: End,
    /// Why, where it did not come before the gate. By this tool, not by the coding agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it said of its edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<Proposal>,
    /// What became of its predictions, by train trials alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Predicted>,
    /// What its sessions used.
    pub usage: Usage,
    /// The groups of editable paths (`surfaces` in the configuration) that the edit touched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub touched: Vec<String>,
    /// Further candidates of the iteration, which were behind this one on train.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outdone: Vec<Outdone>,
}

/// A candidate that did not come before the gate because another one of its iteration did better on train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outdone {
    /// Its fingerprint.
    pub agent: String,
    /// What it supposed.
    pub hypothesis: String,
    /// What it worked on.
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
    /// The gate did not.
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
pub struct Usage {
    /// Sessions started.
    pub sessions: u32,
    /// Wall seconds.
    pub seconds: f64,
    /// Turns of its model, as far as they were counted.
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

impl Usage {
    /// Both together.
    #[must_use]
    pub fn plus(self, more: Usage) -> Usage {
        Usage {
            sessions: self.sessions.saturating_add(more.sessions),
            // Sums stay finite, for JSON knows nothing else.
            seconds: (self.seconds + more.seconds).min(f64::MAX),
            turns: self.turns.saturating_add(more.turns),
            tokens: self.tokens.saturating_add(more.tokens),
            cost_usd: (self.cost_usd + more.cost_usd).min(f64::MAX),
            unpriced: self.unpriced.saturating_add(more.unpriced),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_have_words_and_baselines_are_compared_with() {
        for (purpose, word, is_baseline) in [
            (Purpose::Baseline, "baseline", true),
            (Purpose::Benchmark, "benchmark", false),
            (Purpose::Suite, "suite", false),
            (Purpose::HoldOut, "hold-out", false),
            (Purpose::Promotion, "promotion", false),
            (Purpose::Base, "base", true),
            (Purpose::Round, "round", false),
            (Purpose::Confirm, "confirm", false),
            (Purpose::Claim, "claim", false),
            (Purpose::Calibrate, "calibrate", false),
            (Purpose::Resample, "resample", false),
        ] {
            assert_eq!((purpose.as_str(), purpose.is_baseline()), (word, is_baseline));
        }
    }

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

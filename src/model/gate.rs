//! The gate: a pure function of evidence and policy. Commands gather the evidence and carry out the verdict.
//!
//! The whole input goes into the ledger with the verdict, so that `verify` can decide again, years later.

mod evidence;
mod hold_out;
mod policy;
mod step;
mod suite;

use serde::{Deserialize, Serialize};

pub(crate) use self::evidence::Compared;
pub use self::evidence::{Evidence, RULES};
pub use self::policy::Policy;
pub(crate) use self::policy::{Disclosure, GateRule, LeakScan, PairedPolicy};
use self::step::step;
pub(crate) use self::step::{GateStep, Status};
pub(crate) use self::suite::suite_status;
use super::score::{Rewards, passes};
use super::trial::Split;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub status: Status,
    /// The steps, in order.
    pub steps: Vec<GateStep>,
    /// Mean reward on the gate split, when it was measured.
    pub val_score: Option<f64>,
    /// Tasks of the gate split that pass.
    pub evals_passed: usize,
    /// Tasks of the gate split with evidence.
    pub evals_total: usize,
    /// Tasks that join the suite, sorted.
    pub promoted: Vec<String>,
}

/// Decides. Call it once with an empty `promotion` to learn whether steps 1 and 2 pass, then with the promotion's rewards.
pub fn decide(evidence: &Evidence) -> Decision {
    let mut steps = vec![file_guard(evidence)];
    if steps[0].status == Status::Passed {
        steps.extend(leak_scan(evidence));
    }
    if steps.iter().all(|step| step.status == Status::Passed) {
        steps.extend(evidence.preflight.as_ref().map(|reason| step("preflight", Status::Failed, reason.clone())));
    }
    if steps.iter().any(|step| step.status == Status::Failed) {
        return Decision {
            status: Status::Failed,
            steps,
            val_score: None,
            evals_passed: 0,
            evals_total: 0,
            promoted: Vec::new(),
        };
    }
    let suite = suite::regression_suite(evidence);
    let score = evidence.holdout.score();
    let holdout = match evidence.policy.paired {
        Some(_) => hold_out::by_paired(evidence, suite.status, score),
        None => hold_out::by_best(evidence, score),
    };
    // By the rule `paired` an edit that is not accepted has no score: trials that chose among edits measure none of them.
    let is_paired = evidence.policy.paired.is_some();
    let score = if is_paired && holdout.status != Status::Passed { Rewards::default().score() } else { score };
    let status = combine(suite.status, holdout.status);
    steps.extend([suite, holdout]);
    let mut promoted = Vec::new();
    if status == Status::Passed {
        promoted =
            evidence.promotion.0.iter().filter(|(_, reward)| passes(**reward)).map(|(id, _)| id.clone()).collect();
        steps.push(suite::promotion(evidence, &promoted));
    }
    Decision {
        status,
        steps,
        val_score: score.mean,
        evals_passed: score.passed,
        evals_total: score.evaluated,
        promoted,
    }
}

impl Decision {
    /// The last line that the gate prints, which PROGRAM.md has the coding agent copy.
    pub fn line(&self) -> String {
        let score = self.val_score.map_or_else(|| "-".into(), |score| format!("{score:.4}"));
        let Decision { evals_passed, evals_total, .. } = self;
        format!(
            "gate: {} val_score={score} evals_passed={evals_passed} evals_total={evals_total}",
            self.status.as_str()
        )
    }

    /// The part of the verdict that the coding agent may see: each number of the hold-out is a look at it. The ledger keeps all of it.
    pub fn told(&self, policy: &Policy) -> Decision {
        let is_accepted = self.status == Status::Passed;
        let is_told = match policy.holdout_disclosure {
            Disclosure::Score => true,
            Disclosure::Ladder => is_accepted,
            Disclosure::Bit => false,
        };
        if is_told || policy.gate_split == Split::Train {
            return self.clone();
        }
        // The rule `paired` already says nothing derived from the hold-out about an edit that is not accepted.
        let is_silent = |step: &GateStep| policy.paired.is_some() && step.status != Status::Passed;
        let steps = self.steps.iter().map(|step| match step.name == hold_out::NAME && !is_silent(step) {
            true => hold_out::untold(step, is_accepted),
            false => step.clone(),
        });
        Decision { steps: steps.collect(), val_score: None, evals_passed: 0, evals_total: 0, ..self.clone() }
    }
}

/// A failed step rejects the edit, whatever else is missing; otherwise missing evidence decides nothing.
fn combine(suite: Status, holdout: Status) -> Status {
    match (suite, holdout) {
        (Status::Failed, _) | (_, Status::Failed) => Status::Failed,
        (Status::Undecided, _) | (_, Status::Undecided) => Status::Undecided,
        _ => Status::Passed,
    }
}

fn file_guard(evidence: &Evidence) -> GateStep {
    match summed(&evidence.guard) {
        None => step("file_guard", Status::Passed, "only editable files differ from the base commit".into()),
        Some(found) => step("file_guard", Status::Failed, found),
    }
}

/// `None` when nothing was found: a step with nothing to say is one line too many.
fn leak_scan(evidence: &Evidence) -> Option<GateStep> {
    let found = summed(&evidence.leaks)?;
    Some(match evidence.policy.leak_scan {
        LeakScan::Fail => step("leak_scan", Status::Failed, found),
        LeakScan::Warn | LeakScan::Off => step("leak_scan", Status::Passed, format!("warning: {found}")),
    })
}

/// The first of these lines, and the number of the rest. The last line may stand for many.
fn summed(lines: &[String]) -> Option<String> {
    let (first, rest) = lines.split_first()?;
    let more = match rest.last().and_then(|line| left_off(line)) {
        Some(count) => rest.len() - 1 + count,
        None => rest.len(),
    };
    Some(if more == 0 { first.clone() } else { format!("{first}; and {more} more") })
}

/// At most this many violations are printed and kept; a directory that is not ignored may hold tens of thousands.
pub(crate) const VIOLATIONS_SHOWN: usize = 20;

/// At most this many findings of the leak scan are printed and kept: the first few say what kind of edit it is.
pub(crate) const LEAKS_SHOWN: usize = 5;

/// The first lines, at most so many, and how many more there are.
pub(crate) fn shortened(mut lines: Vec<String>, most: usize) -> Vec<String> {
    let more = lines.len().saturating_sub(most);
    if more > 0 {
        lines.truncate(most);
        lines.push(format!("and {more} more"));
    }
    lines
}

fn left_off(line: &str) -> Option<usize> {
    line.strip_prefix("and ")?.strip_suffix(" more")?.parse().ok()
}

#[cfg(test)]
mod tests;

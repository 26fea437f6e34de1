//! How a verdict is reported: on the screen, and by the exit code.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::evaluate::no_evidence;
use super::file_guard::GuardFindings;
use super::session::Session;
use super::step::StepReport;
use super::{flips, hints, outcomes};
use crate::error::{EXIT_OK, EXIT_REJECTED, Result};
use crate::guard::BaseTree;
use crate::model::compare::EPSILON;
use crate::model::gate::{Decision, Evidence, Status};
use crate::model::paired::lead_on_holdout;
use crate::model::score::Rewards;
use crate::model::trial::Split;
use crate::report::flips::Flips;
use crate::store::event::Verdict;

/// Prints the verdict: a line for each step, the outcomes of the trials, the decision, what to do next.
pub(super) fn print(
    session: &Session,
    verdict: &Verdict,
    base: &BaseTree,
    found: &GuardFindings,
    flips: Option<&Flips>,
) {
    let decision = &verdict.told();
    for step in &decision.steps {
        session.ui.line(format!("{:<17} {:<9} {}", step.name, step.status.as_str(), step.detail));
        // All of them, not only the first: the reader has to check or undo each.
        let found = match step.name.as_str() {
            "file_guard" => &*verdict.evidence.guard,
            "leak_scan" => &*verdict.evidence.leaks,
            _ => &[],
        };
        for line in found.iter().skip(1) {
            session.ui.line(format!("{:<17} {:<9} {line}", "", ""));
        }
        session.ui.json(&json!({"type": "step", "step": step.name, "status": step.status, "detail": step.detail}));
    }
    flips::tell(&session.ui, flips);
    tell_outcomes(session, verdict);
    if leads_on_train_alone(verdict) {
        session.ui.warn(
            "the lead is on train alone: on the hold-out the edit is not ahead. A table of train answers looks like this; read \
             the edit before you believe it",
        );
    }
    session.ui.line(decision.line());
    let mut words = json!({
        "type": "verdict",
        "status": decision.status,
        "val_score": decision.val_score,
        "evals_passed": decision.evals_passed,
        "evals_total": decision.evals_total,
        "best": verdict.evidence.best.as_ref().map(|best| best.val_score),
        "violations": verdict.evidence.guard,
        "promoted": decision.promoted,
        "agent": verdict.agent,
    });
    if let Some(flips) = flips {
        words["flips"] = flips.as_json();
    }
    if !verdict.evidence.leaks.is_empty() {
        words["leaks"] = json!(verdict.evidence.leaks);
    }
    session.ui.json(&words);
    found.hints.iter().for_each(|hint| session.ui.hint(hint));
    if let Some(hint) = hints::after(session, verdict, base, found) {
        session.ui.hint(hint);
    }
}

/// Whether the rule `paired` passed an edit for what it does on train. Only when the score of the hold-out is told, which says
/// as much.
fn leads_on_train_alone(verdict: &Verdict) -> bool {
    let decision = &verdict.decision;
    let is_told = decision.status == Status::Passed && verdict.told().val_score == decision.val_score;
    let compared = verdict.evidence.compared.as_ref().filter(|_| is_told);
    compared.and_then(|compared| lead_on_holdout(&compared.pairs)).is_some_and(|lead| lead <= EPSILON)
}

fn tell_outcomes(session: &Session, verdict: &Verdict) {
    let evidence = &verdict.evidence;
    let mut by_split = BTreeMap::<Split, BTreeSet<&String>>::new();
    let gate_split = evidence.policy.gate_split;
    // The number of trials that passed is a score as well.
    let none = Rewards::default();
    let is_told = verdict.told().val_score == verdict.decision.val_score;
    let holdout = if is_told { &evidence.holdout } else { &none };
    for (split, rewards) in
        [(Split::Train, &evidence.suite), (Split::Train, &evidence.promotion), (gate_split, holdout)]
    {
        by_split.entry(split).or_default().extend(rewards.0.keys());
    }
    for (split, tasks) in by_split {
        let tasks: Vec<String> = tasks.into_iter().cloned().collect();
        outcomes::tell(session, split.as_str(), &verdict.agent, &verdict.trial_protocol, &tasks);
    }
}

/// How the command ends. Errors: infrastructure when nothing was decided, with how much evidence was missing.
pub(super) fn conclude(decision: &Decision, evidence: &Evidence, reports: &[StepReport]) -> Result<i32> {
    match decision.status {
        Status::Passed | Status::Skipped => Ok(EXIT_OK),
        Status::Failed => Ok(EXIT_REJECTED),
        Status::Undecided => {
            let report = reports.iter().find(|report| report.failure.is_some() || report.void).or(reports.first());
            let suite =
                decision.steps.iter().any(|step| step.name == "regression_suite" && step.status == decision.status);
            // Once the comparison has passed, the missing trials are those run afresh.
            if let Some(compared) = evidence.compared.as_ref().filter(|_| !suite && evidence.holdout.is_empty()) {
                let (evaluated, expected) = compared.evaluated();
                return Err(no_evidence(&report.cloned().unwrap_or_default(), evaluated, expected));
            }
            let (rewards, least) = match suite {
                true => (&evidence.suite, &evidence.suite_least),
                false => (&evidence.holdout, &evidence.holdout_least),
            };
            let score = rewards.score();
            // If no task is missing, it depends on those that lack some of their trials.
            let evaluated = if score.missing() > 0 { score.evaluated } else { score.evaluated - least.0.len() };
            Err(no_evidence(&report.cloned().unwrap_or_default(), evaluated, score.expected))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gate::{Compared, decide};
    use crate::model::paired::{Arm, Pair, Rule};

    /// The message names what was really missing: the comparison's trials, or the fresh ones of the agent it chose.
    #[test]
    fn an_undecided_comparison_counts_the_trials_that_were_lacking() {
        let arm = |reward| Arm { first: vec![reward], rounds: Vec::new() };
        let pair = |reward| Pair { split: Split::Test, candidate: arm(reward), incumbent: arm(Some(0.0)) };
        let pairs = |rewards: [Option<f64>; 3]| {
            rewards.into_iter().enumerate().map(|(at, reward)| (format!("h{at}"), pair(reward))).collect()
        };
        let rule = Rule::new(0.1, 1, 0.9);
        for (rewards, holdout, said) in [
            ([Some(1.0), None, None], json!({}), "only 1 of 3 tasks"),
            ([Some(1.0); 3], json!({"h0": 1.0, "h1": 1.0, "h2": null}), "only 2 of 3 tasks"),
        ] {
            let compared = Compared { incumbent: "i".into(), rule, pairs: pairs(rewards) };
            let evidence: Evidence = serde_json::from_value(json!({
                "policy": {"threshold": 0.8, "min_evidence": 0.9, "timeout_policy": "agent", "gate_split": "test", "trials": 1,
                           "paired": {"alpha": 0.1, "max_rounds": 1, "confirm_trials": 1}},
                "guard": [], "preflight": null, "suite": {}, "holdout": holdout, "compared": compared, "best": null,
                "promotion": {},
            }))
            .unwrap();
            let decision = decide(&evidence);
            let decision = Decision { status: Status::Undecided, ..decision };
            let error = conclude(&decision, &evidence, &[]).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}

//! The steps of the regression suite: what must keep passing, and what joins it.

use super::evidence::Evidence;
use super::step::{GateStep, MISSING, Status, left_out, list, step, too_little};
use crate::model::compare::EPSILON;
use crate::model::score::{Rewards, passes};
use crate::model::suite::{KnownTask, is_worse};

/// What the regression suite says so far.
pub(crate) fn suite_status(evidence: &Evidence) -> Status {
    regression_suite(evidence).status
}

pub(super) fn regression_suite(evidence: &Evidence) -> GateStep {
    let name = "regression_suite";
    let threshold = evidence.policy.threshold;
    if evidence.suite.is_empty() {
        return step(name, Status::Skipped, "the suite is empty".into());
    }
    let failing = |task: &&String| {
        let reward = evidence.suite.0.get(*task).copied().flatten();
        reward.is_some() && !passes(reward)
    };
    let (counts, doubted): (Vec<&String>, Vec<&String>) = evidence
        .suite
        .0
        .keys()
        .filter(|task| !evidence.quarantined.contains(*task))
        .partition(|task| !failing(task) || is_reliable(evidence, task));
    let only = |rewards: &Rewards| {
        let own = |task: &&String| Some(((*task).clone(), *rewards.0.get(*task)?));
        counts.iter().filter_map(own).collect::<Rewards>()
    };
    let counted = only(&evidence.suite);
    let score = counted.score();
    if score.expected == 0 {
        let detail = format!("no task counts{}", aside(evidence, &doubted));
        return step(name, Status::Skipped, detail);
    }
    if !score.is_enough(evidence.policy.min_evidence) {
        return too_little(name, score, evidence.policy.min_evidence);
    }
    let share = score.pass_share();
    let reaches = |share: f64| share + EPSILON >= threshold;
    let (mut status, sign) = if reaches(share) { (Status::Passed, ">=") } else { (Status::Failed, "<") };
    let broken: Vec<&str> = counts.iter().filter(|task| failing(task)).map(|task| task.as_str()).collect();
    let mut detail = format!("{}/{} tasks pass, {share:.2} {sign} {threshold:.2}", score.passed, score.evaluated);
    if !broken.is_empty() {
        let each = if evidence.policy.paired.is_some() { " each time" } else { "" };
        detail.push_str(&format!("; now failing{each}: {}", list(&broken, 10)));
    }
    detail.push_str(&aside(evidence, &doubted));
    detail.push_str(&left_out(score));
    if status == Status::Passed
        && is_worse(known(evidence).filter(|(task, _)| !evidence.quarantined.contains(*task)).map(|(_, known)| known))
    {
        status = Status::Failed;
        detail.push_str("; taken together they do worse than with the recorded agent, by more than chance explains");
    }
    // An edit must not pass by spoiling the trials that would show what it broke.
    let least = counted.overlaid(&only(&evidence.suite_least)).score();
    if evidence.rules > 0 && status == Status::Passed && !reaches(least.passed as f64 / score.expected as f64) {
        status = Status::Undecided;
        detail.push_str(MISSING);
    }
    step(name, status, detail)
}

fn known(evidence: &Evidence) -> impl Iterator<Item = (&String, &KnownTask)> {
    evidence.suite_known.iter().flatten()
}

/// Whether a failure of this task counts against the edit. By the rule `best` every failure does.
fn is_reliable(evidence: &Evidence, task: &str) -> bool {
    evidence.suite_known.as_ref().and_then(|known| known.get(task)).is_none_or(|known| known.history.is_reliable())
}

/// What failed and is not counted.
fn aside(evidence: &Evidence, doubted: &[&String]) -> String {
    let mut words = String::new();
    if !doubted.is_empty() {
        let names: Vec<&str> = doubted.iter().map(|task| task.as_str()).collect();
        words.push_str(&format!("; failing, but accepted agents fail it too, so not counted: {}", list(&names, 10)));
    }
    if !evidence.quarantined.is_empty() {
        words.push_str(&format!("; {} in quarantine", evidence.quarantined.len()));
    }
    words
}

pub(super) fn promotion(evidence: &Evidence, promoted: &[String]) -> GateStep {
    let candidates = evidence.promotion.0.len();
    if candidates == 0 {
        return step("promotion", Status::Skipped, "no train task was waiting to be fixed".into());
    }
    let names: Vec<&str> = promoted.iter().map(String::as_str).collect();
    let detail = match promoted.len() {
        0 => format!("none of {candidates} failing train tasks passes now{}", left_out(evidence.promotion.score())),
        n => format!("{n} of {candidates} failing train tasks pass now and join the suite: {}", list(&names, 10)),
    };
    step("promotion", Status::Passed, detail)
}

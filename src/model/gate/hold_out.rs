//! The hold-out's step, by either rule.

use super::evidence::Evidence;
use super::step::{GateStep, MISSING, Status, left_out, step, too_little};
use crate::model::compare::{Comparison, EPSILON};
use crate::model::paired::{self, Answer, Pairs, first_on_holdout};
use crate::model::score::Score;

pub(super) const NAME: &str = "hold_out";

/// The step without its numbers.
pub(super) fn untold(told: &GateStep, is_accepted: bool) -> GateStep {
    let detail = match told.status {
        Status::Passed if is_accepted => "accepted",
        Status::Passed => "not told: the edit is not accepted",
        Status::Failed => "not better than the recorded agent",
        Status::Undecided if told.detail.contains("val_score") => "nothing is decided, for lack of evidence",
        Status::Undecided | Status::Skipped => &told.detail,
    };
    step(NAME, told.status, detail.into())
}

/// The hold-out's step by the rule `paired`. It names no task, and shows no hold-out number of an edit that is not better.
pub(super) fn by_paired(evidence: &Evidence, suite: Status, fresh: Score) -> GateStep {
    let Some(compared) = &evidence.compared else {
        let status =
            if suite == Status::Passed || suite == Status::Skipped { Status::Undecided } else { Status::Skipped };
        return step(NAME, status, "not run".into());
    };
    if compared.pairs.is_empty() {
        return step(NAME, Status::Skipped, "this is the recorded agent itself: there is nothing to compare".into());
    }
    let ruling = match paired::decide(&compared.rule, &compared.pairs) {
        Answer::Ruled(ruling) => ruling,
        Answer::Measure(_) => return step(NAME, Status::Undecided, "the comparison was not run to its end".into()),
    };
    match ruling.verdict {
        paired::PairedVerdict::NoEvidence => step(NAME, Status::Undecided, ruling.detail),
        paired::PairedVerdict::Failed | paired::PairedVerdict::Undecided => {
            let detail = unaccepted(&ruling, is_told(evidence)) + &first_trials(evidence, &compared.pairs);
            step(NAME, Status::Failed, detail)
        }
        paired::PairedVerdict::Passed => match fresh.mean.filter(|_| fresh.is_enough(evidence.policy.min_evidence)) {
            None => too_little(NAME, fresh, evidence.policy.min_evidence),
            Some(mean) => step(
                NAME,
                Status::Passed,
                format!(
                    "better than the recorded agent: {}; run afresh: val_score {mean:.4} ({}/{} pass){}",
                    ruling.detail,
                    fresh.passed,
                    fresh.evaluated,
                    left_out(fresh)
                ),
            ),
        },
    }
}

/// Whether numbers of an edit that is not accepted may be shown.
fn is_told(evidence: &Evidence) -> bool {
    evidence.policy.holdout_disclosure.is_score()
}

/// What it earned on the hold-out before anything was run again, if that may be shown.
fn first_trials(evidence: &Evidence, pairs: &Pairs) -> String {
    if !is_told(evidence) {
        return String::new();
    }
    first_on_holdout(pairs)
        .map(|mean| format!("; its first trials on the hold-out earned {mean:.4}"))
        .unwrap_or_default()
}

/// Why an edit was not accepted; how far away that was is a number of the hold-out.
fn unaccepted(ruling: &paired::Ruling, is_told: bool) -> String {
    let rounds = ruling.looks.last().map_or(0, |look| look.round);
    let after = format!("after {rounds} {}", if rounds == 1 { "round" } else { "rounds" });
    match (ruling.verdict, rounds) {
        (paired::PairedVerdict::Undecided, _) => {
            let needed = ruling
                .needed
                .filter(|_| is_told)
                .map(|needed| format!("; about {needed} more trials would have settled it"));
            format!("undecided {after}, so not accepted{}", needed.unwrap_or_default())
        }
        (_, 0) => format!("not better than the recorded agent: {}", ruling.detail),
        _ => format!("not better than the recorded agent, {after}"),
    }
}

pub(super) fn by_best(evidence: &Evidence, score: Score) -> GateStep {
    let Some(mean) = score.mean.filter(|_| score.is_enough(evidence.policy.min_evidence)) else {
        return too_little(NAME, score, evidence.policy.min_evidence);
    };
    let counts = format!("val_score {mean:.4} ({}/{} pass)", score.passed, score.evaluated);
    let left_out = left_out(score);
    let Some(best) = &evidence.best else {
        return step(NAME, Status::Passed, format!("{counts} no record under this protocol yet{left_out}"));
    };
    let plainly = mean + EPSILON >= best.val_score;
    let sign = if plainly { ">=" } else { "<" };
    let detail = format!("{counts} {sign} best {:.4} ({}){left_out}", best.val_score, best.source);
    if evidence.rules == 0 || best.rewards.is_empty() {
        return step(NAME, if plainly { Status::Passed } else { Status::Failed }, detail);
    }
    let least = evidence.holdout.overlaid(&evidence.holdout_least);
    compare(&Comparison::new(&evidence.holdout, &least, &best.rewards), evidence, detail)
}

/// The hold-out's step if we know which tasks the best score is made of.
fn compare(compared: &Comparison, evidence: &Evidence, mut detail: String) -> GateStep {
    let (common, known) = (compared.common, compared.known);
    if !compared.is_enough(evidence.policy.min_evidence) {
        let needed = evidence.policy.min_evidence;
        let detail = format!(
            "{common} of the {known} tasks of the best score gave evidence, {needed:.2} of them is needed; nothing is decided"
        );
        return step(NAME, Status::Undecided, detail);
    }
    let reaches = compared.reaches();
    if common < evidence.holdout.0.len() {
        let sign = if reaches { ">=" } else { "<" };
        let (own, best) = (compared.candidate_mean(), compared.reference_mean());
        detail.push_str(&format!(
            "; compared on the {common} tasks that both gave evidence for: {own:.4} {sign} {best:.4}"
        ));
    }
    let status = match (reaches, compared.surely_reaches()) {
        (false, _) => Status::Failed,
        (true, true) => Status::Passed,
        (true, false) => {
            detail.push_str(MISSING);
            Status::Undecided
        }
    };
    step(NAME, status, detail)
}

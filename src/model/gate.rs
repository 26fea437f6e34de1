//! The gate: a pure function of evidence and policy. Commands gather the evidence and carry out the verdict.
//!
//! The whole input goes into the ledger with the verdict, so that `verify` can decide again, years later.

use serde::{Deserialize, Serialize};

use super::compare::{Comparison, EPSILON, Reference};
use super::paired::{self, Answer, Pairs, Rule};
use super::score::{Rewards, Score, TimeoutPolicy, passes};
use super::trial::{Split, show};

/// The rules this build decides by. Evidence says by which ones it was decided, so that old verdicts are decided again as
/// they were: 0 compared val_scores whatever they were means of, and never asked what a step left out.
pub const RULES: u32 = 1;

/// What a finding of the leak scan does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeakScan {
    /// It is printed and kept; nothing hangs on it.
    Warn,
    /// It fails the edit before anything is run.
    Fail,
    /// Nothing is scanned. Verdicts from before there was a scan say nothing else.
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
    /// Candidate and incumbent are compared task by task, in rounds: [`super::paired`].
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
    /// What an agent timeout counts for.
    pub timeout_policy: TimeoutPolicy,
    /// The split that gives val_score.
    pub gate_split: Split,
    /// Trials per task.
    pub trials: u32,
    /// What a finding of the leak scan does.
    #[serde(default, skip_serializing_if = "LeakScan::is_off")]
    pub leak_scan: LeakScan,
    /// The rule `paired` as configured; `None`: the rule is `best`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paired: Option<PairedPolicy>,
}

/// What the configuration says of the rule `paired`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedPolicy {
    /// Chance that an edit which changes nothing is accepted, over all rounds.
    pub alpha: f64,
    /// Most rounds.
    pub max_rounds: u32,
    /// How often each task is run afresh once an edit is accepted.
    pub confirm_trials: u32,
}

/// What the rule `paired` decides by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Fingerprint of the agent to beat.
    pub incumbent: String,
    /// The rule, with the numbers that follow from the configuration.
    pub rule: Rule,
    /// Both agents, task by task. Empty when they are the same agent.
    pub pairs: Pairs,
}

/// Everything the decision depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The version of the rules, see [`RULES`].
    #[serde(default)]
    pub rules: u32,
    /// The rules as configured.
    pub policy: Policy,
    /// What the file guard found, one line each.
    pub guard: Vec<String>,
    /// What the leak scan found, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaks: Vec<String>,
    /// Why the agent file cannot be imported, when it cannot.
    pub preflight: Option<String>,
    /// Rewards of the suite's tasks; empty when the suite is empty.
    pub suite: Rewards,
    /// Of the suite's tasks that lack trials: their rewards with each lacking trial counted 0.0.
    #[serde(default, skip_serializing_if = "Rewards::is_empty")]
    pub suite_least: Rewards,
    /// Rewards of the gate split; empty when an earlier step cost the edit its run.
    pub holdout: Rewards,
    /// Of the gate split's tasks that lack trials: their rewards with each lacking trial counted 0.0.
    #[serde(default, skip_serializing_if = "Rewards::is_empty")]
    pub holdout_least: Rewards,
    /// Candidate and incumbent, where the rule is `paired` and the suite let it come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
    /// The score to reach, when one exists under this protocol.
    pub best: Option<Reference>,
    /// Rewards of the promotion candidates; empty unless the first two steps passed.
    pub promotion: Rewards,
}

impl Compared {
    /// How many tasks both agents have evidence for, and how many there are.
    pub fn evaluated(&self) -> (usize, usize) {
        let any = |arm: &paired::Arm| arm.first.iter().any(Option::is_some);
        let both = self.pairs.values().filter(|pair| any(&pair.candidate) && any(&pair.incumbent));
        (both.count(), self.pairs.len())
    }
}

impl Evidence {
    /// Whether one of the steps that cost nothing fails the edit: then nothing is run.
    pub fn is_stopped(&self) -> bool {
        let leaks = self.policy.leak_scan == LeakScan::Fail && !self.leaks.is_empty();
        !self.guard.is_empty() || leaks || self.preflight.is_some()
    }
}

/// How a step or the gate ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The edit survives this step.
    Passed,
    /// The edit is rejected.
    Failed,
    /// Nothing to do here.
    Skipped,
    /// Not enough evidence; nothing is decided.
    Undecided,
}

impl Status {
    /// The word printed and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Passed => "passed",
            Status::Failed => "failed",
            Status::Skipped => "skipped",
            Status::Undecided => "undecided",
        }
    }
}

/// One step of the gate, with a sentence for people and coding agents. Never names a hold-out task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `file_guard`, `leak_scan`, `preflight`, `regression_suite`, `hold_out` or `promotion`.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// Why, in one line.
    pub detail: String,
}

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Passed, failed or undecided.
    pub status: Status,
    /// The steps, in order.
    pub steps: Vec<Step>,
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
    let suite = regression_suite(evidence);
    let score = evidence.holdout.score();
    let holdout = match evidence.policy.paired {
        Some(_) => hold_out_paired(evidence, suite.status, score),
        None => hold_out(evidence, score),
    };
    // What an edit earned that was not accepted is nobody's to know: each such number is a look at the hold-out.
    let untold = evidence.policy.paired.is_some() && holdout.status != Status::Passed;
    let score = if untold { Rewards::default().score() } else { score };
    let status = combine(suite.status, holdout.status);
    steps.extend([suite, holdout]);
    let mut promoted = Vec::new();
    if status == Status::Passed {
        promoted =
            evidence.promotion.0.iter().filter(|(_, reward)| passes(**reward)).map(|(id, _)| id.clone()).collect();
        steps.push(promotion(evidence, &promoted));
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

/// The hold-out's step by the rule `paired`. Names no task, and of an edit that is not better no number of the hold-out's.
fn hold_out_paired(evidence: &Evidence, suite: Status, fresh: Score) -> Step {
    let name = "hold_out";
    let Some(compared) = &evidence.compared else {
        let status =
            if suite == Status::Passed || suite == Status::Skipped { Status::Undecided } else { Status::Skipped };
        return step(name, status, "not run".into());
    };
    if compared.pairs.is_empty() {
        return step(name, Status::Skipped, "this is the recorded agent itself: there is nothing to compare".into());
    }
    let ruling = match paired::decide(&compared.rule, &compared.pairs) {
        Answer::Ruled(ruling) => ruling,
        Answer::Measure(_) => return step(name, Status::Undecided, "the comparison was not run to its end".into()),
    };
    match ruling.verdict {
        paired::Verdict::NoEvidence => step(name, Status::Undecided, ruling.detail),
        paired::Verdict::Failed | paired::Verdict::Undecided => step(name, Status::Failed, unaccepted(&ruling)),
        paired::Verdict::Passed => match fresh.mean.filter(|_| fresh.is_enough(evidence.policy.min_evidence)) {
            None => too_little(name, fresh, evidence.policy.min_evidence),
            Some(mean) => step(
                name,
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

/// Why an edit was not accepted, without a number that the hold-out went into.
fn unaccepted(ruling: &paired::Ruling) -> String {
    let rounds = ruling.looks.last().map_or(0, |look| look.round);
    let after = format!("after {rounds} {}", if rounds == 1 { "round" } else { "rounds" });
    match (ruling.verdict, rounds) {
        (paired::Verdict::Undecided, _) => {
            let needed = ruling.needed.map(|needed| format!("; about {needed} more trials would have settled it"));
            format!("undecided {after}, so not accepted{}", needed.unwrap_or_default())
        }
        (_, 0) => format!("not better than the recorded agent: {}", ruling.detail),
        _ => format!("not better than the recorded agent, {after}"),
    }
}

/// What the regression suite says so far.
pub fn suite_status(evidence: &Evidence) -> Status {
    regression_suite(evidence).status
}

/// A failed step rejects, whatever else is missing; missing evidence then decides nothing.
fn combine(suite: Status, holdout: Status) -> Status {
    match (suite, holdout) {
        (Status::Failed, _) | (_, Status::Failed) => Status::Failed,
        (Status::Undecided, _) | (_, Status::Undecided) => Status::Undecided,
        _ => Status::Passed,
    }
}

fn step(name: &str, status: Status, detail: String) -> Step {
    Step { name: name.to_string(), status, detail }
}

fn file_guard(evidence: &Evidence) -> Step {
    match summed(&evidence.guard) {
        None => step("file_guard", Status::Passed, "only editable files differ from the base commit".into()),
        Some(found) => step("file_guard", Status::Failed, found),
    }
}

/// `None` when nothing was found: a step that never says anything is one line too many.
fn leak_scan(evidence: &Evidence) -> Option<Step> {
    let found = summed(&evidence.leaks)?;
    Some(match evidence.policy.leak_scan {
        LeakScan::Fail => step("leak_scan", Status::Failed, found),
        LeakScan::Warn | LeakScan::Off => step("leak_scan", Status::Passed, format!("warning: {found}")),
    })
}

/// The first of these lines, and how many more there are. The last line may stand for many.
fn summed(lines: &[String]) -> Option<String> {
    let (first, rest) = lines.split_first()?;
    let more = match rest.last().and_then(|line| left_off(line)) {
        Some(count) => rest.len() - 1 + count,
        None => rest.len(),
    };
    Some(if more == 0 { first.clone() } else { format!("{first}; and {more} more") })
}

/// At most this many violations are printed and kept; a directory that is not ignored may hold tens of thousands.
pub const VIOLATIONS_SHOWN: usize = 20;

/// At most this many findings of the leak scan are printed and kept: the first few say what kind of edit it is.
pub const LEAKS_SHOWN: usize = 5;

/// The first lines, at most so many, and how many more there are.
pub fn shortened(mut lines: Vec<String>, most: usize) -> Vec<String> {
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

fn too_little(name: &str, score: Score, min_evidence: f64) -> Step {
    let detail = format!(
        "{} of {} tasks gave evidence, {min_evidence:.2} of them is needed; nothing is decided",
        score.evaluated, score.expected
    );
    step(name, Status::Undecided, detail)
}

fn left_out(score: Score) -> String {
    match score.missing() {
        0 => String::new(),
        missing => format!("; {missing} left out for lack of evidence"),
    }
}

fn regression_suite(evidence: &Evidence) -> Step {
    let name = "regression_suite";
    let (score, threshold) = (evidence.suite.score(), evidence.policy.threshold);
    if score.expected == 0 {
        return step(name, Status::Skipped, "the suite is empty".into());
    }
    if !score.is_enough(evidence.policy.min_evidence) {
        return too_little(name, score, evidence.policy.min_evidence);
    }
    let share = score.pass_share();
    let reaches = |share: f64| share + EPSILON >= threshold;
    let (mut status, sign) = if reaches(share) { (Status::Passed, ">=") } else { (Status::Failed, "<") };
    let broken: Vec<&str> =
        evidence.suite.0.iter().filter(|(_, r)| r.is_some() && !passes(**r)).map(|(id, _)| id.as_str()).collect();
    let mut detail = format!("{}/{} tasks pass, {share:.2} {sign} {threshold:.2}", score.passed, score.evaluated);
    if !broken.is_empty() {
        let each = if evidence.policy.paired.is_some() { " each time" } else { "" };
        detail.push_str(&format!("; now failing{each}: {}", list(&broken, 10)));
    }
    detail.push_str(&left_out(score));
    // Who makes the trials fail that show what broke must not pass by that.
    let least = evidence.suite.overlaid(&evidence.suite_least).score();
    if evidence.rules > 0 && status == Status::Passed && !reaches(least.passed as f64 / score.expected as f64) {
        status = Status::Undecided;
        detail.push_str(MISSING);
    }
    step(name, status, detail)
}

/// Why a step decides nothing that looks as if it passed.
const MISSING: &str = "; whether it passes hangs on trials without evidence, so nothing is decided";

fn hold_out(evidence: &Evidence, score: Score) -> Step {
    let name = "hold_out";
    let Some(mean) = score.mean.filter(|_| score.is_enough(evidence.policy.min_evidence)) else {
        return too_little(name, score, evidence.policy.min_evidence);
    };
    let counts = format!("val_score {mean:.4} ({}/{} pass)", score.passed, score.evaluated);
    let left_out = left_out(score);
    let Some(best) = &evidence.best else {
        return step(name, Status::Passed, format!("{counts} no record under this protocol yet{left_out}"));
    };
    let plainly = mean + EPSILON >= best.val_score;
    let sign = if plainly { ">=" } else { "<" };
    let detail = format!("{counts} {sign} best {:.4} ({}){left_out}", best.val_score, best.source);
    if evidence.rules == 0 || best.rewards.is_empty() {
        return step(name, if plainly { Status::Passed } else { Status::Failed }, detail);
    }
    let least = evidence.holdout.overlaid(&evidence.holdout_least);
    compare(&Comparison::new(&evidence.holdout, &least, &best.rewards), evidence, detail)
}

/// The hold-out's step where it is known which tasks the best score is made of.
fn compare(compared: &Comparison, evidence: &Evidence, mut detail: String) -> Step {
    let name = "hold_out";
    let (common, known) = (compared.common, compared.known);
    if !compared.is_enough(evidence.policy.min_evidence) {
        let needed = evidence.policy.min_evidence;
        let detail = format!(
            "{common} of the {known} tasks of the best score gave evidence, {needed:.2} of them is needed; nothing is decided"
        );
        return step(name, Status::Undecided, detail);
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
    step(name, status, detail)
}

fn promotion(evidence: &Evidence, promoted: &[String]) -> Step {
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

/// At most `limit` task ids, then how many more.
fn list(names: &[&str], limit: usize) -> String {
    let shown: Vec<String> = names.iter().take(limit).map(|name| show(name)).collect();
    match names.len().saturating_sub(limit) {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;

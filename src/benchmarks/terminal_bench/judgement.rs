//! What one trial of Harbor is evidence of: its `result.json` and a few facts about its files become an outcome.
//!
//! Pure. Harbor's exit status says nothing, and most of its exceptions are about Harbor, the sandbox or the grader, not
//! about the agent: this file says which is which.

use serde_json::{Map, Value};

use super::exception::{provider_failure, raised_by_sandbox, sandbox_failed};
use super::file::{AgentFailure, ExceptionInfo, Phase, StepFile, TrialFile, VerifierResult};
pub use super::reason;
use crate::model::trial::{Outcome, PASS_THRESHOLD};

/// What `result.json` does not say.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Facts {
    /// `verifier/reward.json` exists.
    pub reward_json: bool,
    /// `verifier/reward.txt` lies beside it.
    pub reward_txt: bool,
    /// Whether the task's own tests write `reward.json`; `None`: their text does not tell.
    pub tests_write_json: Option<bool>,
    /// Harbor removed both files before it graded, as it does since 0.26.
    pub cleared: bool,
    /// `verifier/test-stdout.txt` exists: Harbor itself writes it whenever the tests ran.
    pub test_output: bool,
    /// The agent's limit in seconds, when it has one.
    pub limit: Option<f64>,
    /// What this program saw of the model's provider when the trial ended.
    pub provider: Provider,
}

/// What this program itself saw of the model's provider. An exception's class and traceback are only the agent's word: it can
/// raise whatever it likes, or call a dead address.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Nothing: we did not ask, or no model is configured.
    #[default]
    Unknown,
    Answers,
    /// It does not, for this reason.
    Fails(&'static str),
}

impl Facts {
    /// A `reward.json` that is not the tests'. Harbor prefers it to `reward.txt`, and before 0.26 even one that the agent left
    /// there: <https://github.com/valbaudo/dawn/issues/14>.
    fn is_forged(&self) -> bool {
        self.reward_json
            && match self.tests_write_json {
                Some(theirs) => !theirs,
                None => self.reward_txt && !self.cleared,
            }
    }
}

/// What a trial is evidence of.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    pub outcome: Outcome,
    /// 0.0 to 1.0; `None` exactly when the outcome is no evidence, or for a timeout that was not graded.
    pub reward: Option<f64>,
    /// Why, free of anything the task or the agent said; the same words for the same cause, so that they can be counted.
    pub reason: Option<&'static str>,
    /// The exception's own words, or further details. May quote the conversation: for train only.
    pub note: Option<String>,
}

/// Says what a trial is evidence of.
pub fn judge(file: &TrialFile, facts: Facts) -> Judgement {
    let failed = file.agent_failures().find_map(|failure| agent_failed(file, facts, failure));
    let result = failed.unwrap_or_else(|| match &file.verifier_result {
        Some(verifier) => graded(file, verifier, facts),
        None => ungraded(file, facts),
    });
    let note = result.note.or_else(|| said(file));
    Judgement { note, ..result }
}

/// The trouble with the model's provider that the trial's agent claims, and the class it claims it with. This is only a
/// claim: see [`Provider`].
pub fn provider_claim(file: &TrialFile) -> Option<(&'static str, &str)> {
    file.agent_failures()
        .find_map(|failure| Some((provider_failure(failure.info)?, failure.info.exception_type.as_str())))
}

/// What an exception out of `run()` means; `None` where the tests decide. Harbor 0.24 grades only after exceptions of some
/// classes, 0.26 after most: the outcome must not depend on that.
fn agent_failed(file: &TrialFile, facts: Facts, failure: AgentFailure<'_>) -> Option<Judgement> {
    let (info, kind) = (failure.info, failure.info.exception_type.as_str());
    let is_graded = file.verifier_result.is_some();
    if kind == "CancelledError" {
        return Some(none(Outcome::InfraError, reason::CANCELLED));
    }
    if let Some(claim) = provider_failure(info) {
        return match facts.provider {
            Provider::Fails(seen) => Some(none(Outcome::InfraError, seen)),
            // Tests that confirm the work leave no gain from cheating; of several steps, only some were worked on.
            _ if has_reward(file) && file.steps().is_empty() && claim != reason::MCP && is_harbors(kind) => None,
            _ => Some(none(Outcome::AgentError, reason::UNCONFIRMED)),
        };
    }
    if kind == "AgentTimeoutError" {
        if is_graded {
            return None;
        }
        // Any class can have that name: Harbor's own comes only when the limit is over.
        let late = |limit: f64| failure.took.is_none_or(|took| took >= 0.8 * limit - 1.0);
        return Some(match facts.limit.is_some_and(late) {
            true => Judgement {
                outcome: Outcome::AgentTimeout,
                reward: None,
                reason: Some("the agent ran out of time and was not graded"),
                note: None,
            },
            false => none(Outcome::AgentError, reason::RAISED),
        });
    }
    if GRADED_EXITS.contains(&kind) && is_graded {
        return None;
    }
    let outcome = if sandbox_failed(file, info) { Outcome::InfraError } else { Outcome::AgentError };
    Some(none(outcome, if outcome == Outcome::InfraError { reason::SANDBOX } else { reason::RAISED }))
}

/// Ways for an agent to end after which the tests decide, in every version of Harbor.
const GRADED_EXITS: [&str; 6] = [
    "NonZeroAgentExitCodeError",
    "ContextWindowExceededError",
    "ContextLengthExceededError",
    "OutputTokenExceededError",
    "OutputLengthExceededError",
    "AgentSafetyRefusalError",
];

/// Whether a claim has one of the names after which every version of Harbor grades.
fn is_harbors(kind: &str) -> bool {
    kind.starts_with("Api") || matches!(kind, "UnknownApiError" | "NetworkConnectionError")
}

fn has_reward(file: &TrialFile) -> bool {
    let rewards = file.verifier_result.as_ref().and_then(|result| result.rewards.as_ref());
    rewards.and_then(|rewards| rewards.get("reward")).and_then(Value::as_f64).is_some_and(|reward| reward > 0.0)
}

/// `KeyError: 'x'`, when there was an exception.
fn said(file: &TrialFile) -> Option<String> {
    let steps = || file.steps().iter().find_map(|step| step.exception_info.as_ref());
    let info = file.exception_info.as_ref().or_else(steps)?;
    Some(match info.exception_message.trim() {
        "" => info.exception_type.clone(),
        message => format!("{}: {message}", info.exception_type),
    })
}

fn none(outcome: Outcome, reason: &'static str) -> Judgement {
    let reward = (outcome == Outcome::AgentError).then_some(0.0);
    Judgement { outcome, reward, reason: Some(reason), note: None }
}

fn graded(file: &TrialFile, verifier: &VerifierResult, facts: Facts) -> Judgement {
    if facts.is_forged() {
        return none(Outcome::AgentError, reason::FORGED);
    }
    if let Some((step, info)) = file.step_failure() {
        return step_failed(file, step, info);
    }
    if !facts.test_output {
        return none(Outcome::VerifierError, reason::NOT_GRADED);
    }
    let rewards = verifier.rewards.as_ref();
    let value = match rewards.and_then(|rewards| rewards.get("reward")) {
        Some(Value::Bool(passed)) => f64::from(u8::from(*passed)),
        Some(value) => match value.as_f64() {
            Some(number) if (0.0..=1.0).contains(&number) => number,
            Some(_) => return none(Outcome::VerifierError, "the tests gave a reward outside 0 to 1"),
            None => return none(Outcome::VerifierError, "the tests gave a reward that is no number"),
        },
        None if rewards.is_none_or(Map::is_empty) => {
            return none(Outcome::VerifierError, "the tests gave no reward");
        }
        None => return none(Outcome::VerifierError, "the tests gave rewards, but none that is called `reward`"),
    };
    let scored = if value >= PASS_THRESHOLD { Outcome::Passed } else { Outcome::Failed };
    let score = |outcome, reason, note| Judgement { outcome, reward: Some(value), reason, note };
    let took = file.agent_execution.as_ref().and_then(Phase::seconds);
    if file.exception_type() == "AgentTimeoutError" {
        let limit = facts.limit.or_else(|| limit_in(&file.exception_info.as_ref()?.exception_message));
        if let (Some(took), Some(limit)) = (took, limit)
            && took < 0.8 * limit - 1.0
        {
            // Harbor takes every TimeoutError for its own: it catches asyncio's, which since Python 3.11 is the built-in one
            // (https://github.com/python/cpython/issues/86579).
            let note = format!("run() raised a TimeoutError after {took:.1} s, long before its limit of {limit:.0} s");
            return score(scored, Some("run() raised a TimeoutError of its own"), Some(note));
        }
        // Work that was done in time counts, whatever the agent did after it.
        let outcome = if value > 0.0 { scored } else { Outcome::AgentTimeout };
        return score(outcome, Some("the agent ran out of time"), None);
    }
    if file.agent_failures().any(|failure| failure.info.exception_type == "AgentTimeoutError") {
        let outcome = if value > 0.0 { scored } else { Outcome::AgentTimeout };
        return score(outcome, Some("the agent ran out of time in one of the steps"), None);
    }
    if let (Some(took), Some(limit), None) = (took, facts.limit, &file.exception_info)
        && took > 1.5 * limit + 10.0
    {
        let note = format!("the agent ran {took:.0} s with a limit of {limit:.0} s: it blocks Harbor's event loop");
        return score(scored, None, Some(note));
    }
    score(scored, None, None)
}

/// The number in `Agent execution timed out after 180.0 seconds`.
fn limit_in(message: &str) -> Option<f64> {
    message.split_whitespace().find_map(|word| word.parse().ok())
}

fn ungraded(file: &TrialFile, facts: Facts) -> Judgement {
    if facts.is_forged() {
        return none(Outcome::AgentError, reason::FORGED);
    }
    let Some(info) = &file.exception_info else {
        if let Some((step, info)) = file.step_failure() {
            return step_failed(file, step, info);
        }
        return match file.ended_harbor() {
            true => none(Outcome::AgentError, reason::ENDED_HARBOR),
            false => none(Outcome::InfraError, reason::CANCELLED),
        };
    };
    if info.exception_type == "CancelledError" {
        return none(Outcome::InfraError, reason::CANCELLED);
    }
    match (&file.agent_setup, &file.agent_execution, &file.verifier) {
        (None, _, _) => none(Outcome::InfraError, "the sandbox did not start"),
        (Some(_), None, _) if !file.steps().is_empty() => {
            none(Outcome::InfraError, "Harbor or the sandbox failed between the steps of the task")
        }
        (Some(_), None, _) => none(Outcome::AgentError, "setup() of the agent failed or did not end"),
        // What `run()` raised has already been judged.
        _ => grading_failed(file, info),
    }
}

/// A step that the agent did not fail: its preparation, or its tests.
fn step_failed(file: &TrialFile, step: &StepFile, info: &ExceptionInfo) -> Judgement {
    match step.agent_execution {
        None => none(Outcome::InfraError, "a step of the task could not be prepared"),
        Some(_) => grading_failed(file, info),
    }
}

fn grading_failed(file: &TrialFile, info: &ExceptionInfo) -> Judgement {
    match info.exception_type.as_str() {
        "VerifierTimeoutError" => none(Outcome::VerifierError, "the tests did not end in time"),
        "RewardFileNotFoundError" => none(Outcome::VerifierError, "the tests wrote no reward"),
        "RewardFileEmptyError" => none(Outcome::VerifierError, "the tests wrote an empty reward"),
        "VerifierOutputParseError" => none(Outcome::VerifierError, "the tests wrote a reward that makes no sense"),
        "DownloadVerifierDirError" | "AddTestsDirError" => {
            none(Outcome::InfraError, "the sandbox failed while the tests ran")
        }
        _ if raised_by_sandbox(file, info) => none(Outcome::InfraError, "the sandbox failed while the tests ran"),
        _ => none(Outcome::VerifierError, "grading failed"),
    }
}

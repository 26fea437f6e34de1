//! A trial's `result.json`, as Harbor writes it.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::{Map, Value};

/// The fields of a `result.json` that matter. Unknown ones are ignored: every version of Harbor adds some.
#[derive(Debug, Deserialize)]
pub struct TrialFile {
    /// The task's own name: from its settings, else its directory.
    pub task_name: String,
    /// `<task>__<7 characters>`; sandboxes are called after it.
    pub trial_name: String,
    /// What the trial was asked to do.
    #[serde(default)]
    pub config: TrialConfig,
    /// What the agent put into its context.
    #[serde(default)]
    pub agent_result: Option<AgentResult>,
    #[serde(default)]
    pub verifier_result: Option<VerifierResult>,
    #[serde(default)]
    pub exception_info: Option<ExceptionInfo>,
    #[serde(default)]
    pub started_at: Option<String>,
    /// When it ended; the file is final then.
    #[serde(default)]
    pub finished_at: Option<String>,
    /// Building and starting the sandbox.
    #[serde(default)]
    pub environment_setup: Option<Phase>,
    #[serde(default)]
    pub agent_setup: Option<Phase>,
    #[serde(default)]
    pub agent_execution: Option<Phase>,
    #[serde(default)]
    pub verifier: Option<Phase>,
    /// One for each step, of tasks that have several.
    #[serde(default)]
    pub step_results: Option<Vec<StepFile>>,
}

/// One step of a task that has several. Its exception is here only: the trial's own may be null.
#[derive(Debug, Deserialize)]
pub struct StepFile {
    /// What the agent put into its context.
    #[serde(default)]
    pub agent_result: Option<AgentResult>,
    /// What the grader said about the step.
    #[serde(default)]
    pub verifier_result: Option<VerifierResult>,
    /// What went wrong in it.
    #[serde(default)]
    pub exception_info: Option<ExceptionInfo>,
    #[serde(default)]
    pub agent_execution: Option<Phase>,
    #[serde(default)]
    pub verifier: Option<Phase>,
}

/// The parts of a trial's configuration that matter.
#[derive(Debug, Default, Deserialize)]
pub struct TrialConfig {
    #[serde(default)]
    pub task: TaskReference,
    #[serde(default)]
    pub environment: EnvironmentReference,
}

/// Where the task came from.
#[derive(Debug, Default, Deserialize)]
pub struct TaskReference {
    /// A directory on this machine or in a repository.
    #[serde(default)]
    pub path: Option<String>,
    /// A package, `org/name`.
    #[serde(default)]
    pub name: Option<String>,
}

/// The class of the environment.
#[derive(Debug, Default, Deserialize)]
pub struct EnvironmentReference {
    /// `module:Class`, when it is not one of Harbor's own.
    #[serde(default)]
    pub import_path: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub struct AgentResult {
    #[serde(default, deserialize_with = "if_it_makes_sense")]
    n_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "if_it_makes_sense")]
    n_output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "if_it_makes_sense")]
    cost_usd: Option<f64>,
    #[serde(default, deserialize_with = "if_it_makes_sense")]
    model_usage: Option<BTreeMap<String, ModelUsage>>,
}

impl AgentResult {
    fn models(&self, one: fn(&ModelUsage) -> Option<u64>) -> Option<u64> {
        self.model_usage.iter().flat_map(BTreeMap::values).filter_map(one).reduce(u64::saturating_add)
    }

    fn cost(&self) -> Option<f64> {
        let models = self.model_usage.iter().flat_map(BTreeMap::values);
        self.cost_usd.or_else(|| models.filter_map(|usage| usage.cost_usd).reduce(|a, b| a + b))
    }
}

/// Use of one model, read by Harbor from a trajectory.
#[derive(Debug, Default, Deserialize)]
struct ModelUsage {
    #[serde(default, deserialize_with = "if_it_makes_sense")]
    n_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "if_it_makes_sense")]
    n_output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "if_it_makes_sense")]
    cost_usd: Option<f64>,
}

/// What the agent reported, if it is of the right kind: other values must not make the whole file unreadable.
fn if_it_makes_sense<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

#[derive(Debug, Deserialize)]
pub struct VerifierResult {
    /// Named rewards; the one called `reward` is the task's.
    #[serde(default)]
    pub rewards: Option<Map<String, Value>>,
}

/// An exception that ended a trial.
#[derive(Debug, Deserialize)]
pub struct ExceptionInfo {
    /// The name of its class.
    #[serde(default)]
    pub exception_type: String,
    /// Its text; may quote the conversation.
    #[serde(default)]
    pub exception_message: String,
    #[serde(default)]
    pub exception_traceback: String,
    #[serde(default)]
    pub occurred_at: Option<String>,
}

impl ExceptionInfo {
    /// Whether it was noted before the tests began. Since 0.26 Harbor grades after most exceptions of an agent, and keeps
    /// the agent's exception when grading also fails: only the time shows whose it is.
    fn precedes(&self, verifier: Option<&Phase>) -> bool {
        let Some(tests) = verifier else { return true };
        match (tests.started_at.as_deref().and_then(time), self.occurred_at.as_deref().and_then(time)) {
            (Some(tests), Some(own)) => own <= tests,
            _ => false,
        }
    }
}

/// An exception out of the agent's `run()`.
#[derive(Debug, Clone, Copy)]
pub struct AgentFailure<'a> {
    pub info: &'a ExceptionInfo,
    /// How long the agent had been at work, in seconds; `None` in a step of several.
    pub took: Option<f64>,
}

/// One phase of a trial.
#[derive(Debug, Deserialize)]
pub struct Phase {
    #[serde(default)]
    started_at: Option<String>,
    #[serde(default)]
    finished_at: Option<String>,
}

impl Phase {
    /// How long it took; `None` while it runs.
    pub fn seconds(&self) -> Option<f64> {
        seconds_between(self.started_at.as_deref()?, self.finished_at.as_deref()?)
    }
}

fn time(text: &str) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc3339(text).ok()
}

fn seconds_between(start: &str, end: &str) -> Option<f64> {
    let seconds = time(end)?.signed_duration_since(time(start)?).as_seconds_f64();
    (seconds >= 0.0).then_some(seconds)
}

impl TrialFile {
    /// Reads a `result.json`. `None` while it is being written: Harbor does not write it atomically.
    pub fn parse(bytes: &[u8]) -> Option<TrialFile> {
        let file: TrialFile = serde_json::from_slice(bytes).ok()?;
        file.finished_at.is_some().then_some(file)
    }

    /// The whole trial's wall time.
    pub fn seconds(&self) -> Option<f64> {
        seconds_between(self.started_at.as_deref()?, self.finished_at.as_deref()?)
    }

    /// Names under which the task may be known, best first.
    pub fn task_names(&self) -> impl Iterator<Item = &str> {
        let task = &self.config.task;
        let directory = task.path.as_deref().and_then(|path| path.trim_end_matches('/').rsplit('/').next());
        let plain = self.task_name.rsplit('/').next();
        [Some(self.task_name.as_str()), task.name.as_deref(), directory, plain].into_iter().flatten()
    }

    /// Tokens read, tokens written, and US dollars, where the agent reported them; for several steps, the sums.
    pub fn usage(&self) -> (Option<u64>, Option<u64>, Option<f64>) {
        let steps = || self.steps().iter().filter_map(|step| step.agent_result.as_ref());
        let said: Vec<&AgentResult> = match &self.agent_result {
            Some(result) => vec![result],
            None => steps().collect(),
        };
        let sum = |one: fn(&AgentResult) -> Option<u64>| {
            said.iter().filter_map(|result| one(result)).reduce(u64::saturating_add)
        };
        let cost = said.iter().filter_map(|result| result.cost()).reduce(|a, b| a + b);
        (
            sum(|result| result.n_input_tokens.or_else(|| result.models(|usage| usage.n_input_tokens))),
            sum(|result| result.n_output_tokens.or_else(|| result.models(|usage| usage.n_output_tokens))),
            cost.filter(|cost| cost.is_finite() && *cost >= 0.0),
        )
    }

    /// The steps of a task that has several.
    pub fn steps(&self) -> &[StepFile] {
        self.step_results.as_deref().unwrap_or_default()
    }

    /// Exceptions out of the agent's `run()`, of all steps.
    pub fn agent_failures(&self) -> impl Iterator<Item = AgentFailure<'_>> {
        let own = self.exception_info.as_ref().zip(self.agent_execution.as_ref());
        let own = own.filter(|(info, _)| info.precedes(self.verifier.as_ref()));
        let own = own.map(|(info, phase)| AgentFailure { info, took: phase.seconds() });
        let steps = self.steps().iter().filter(|step| step.agent_execution.is_some());
        let steps =
            steps.filter_map(|step| step.exception_info.as_ref().filter(|i| i.precedes(step.verifier.as_ref())));
        own.into_iter().chain(steps.map(|info| AgentFailure { info, took: None }))
    }

    /// An exception of a step that is not the agent's: of its preparation, or of its tests.
    pub fn step_failure(&self) -> Option<(&StepFile, &ExceptionInfo)> {
        self.steps().iter().find_map(|step| {
            let info = step.exception_info.as_ref()?;
            (step.agent_execution.is_none() || !info.precedes(step.verifier.as_ref())).then_some((step, info))
        })
    }

    /// Whether the agent was at work at all.
    fn agent_began(&self) -> bool {
        self.agent_execution.is_some() || self.steps().iter().any(|step| step.agent_execution.is_some())
    }

    /// The class of the exception, or an empty text.
    pub fn exception_type(&self) -> &str {
        self.exception_info.as_ref().map_or("", |info| &info.exception_type)
    }

    /// True when the trial was cut off from outside: it says nothing about the agent.
    pub fn is_cancelled(&self) -> bool {
        self.verifier_result.is_none() && self.exception_type() == "CancelledError"
    }

    /// True when `run()` ended Harbor's whole process, as `sys.exit()` does: neither grade nor exception.
    pub fn ended_harbor(&self) -> bool {
        let raised = self.exception_info.is_some() || self.steps().iter().any(|step| step.exception_info.is_some());
        self.verifier_result.is_none() && !raised && self.agent_began()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_cannot_make_its_result_unreadable() {
        for (tokens, cost) in [("-1", "-0.5"), ("1e30", "\"much\""), ("[[]]", "{}"), ("true", "null")] {
            let text = format!(
                r#"{{"task_name": "t", "trial_name": "t__1", "agent_result": {{"n_input_tokens": {tokens}, "n_output_tokens": 7,
                "cost_usd": {cost}, "model_usage": {tokens}}}}}"#
            );
            let file: TrialFile = serde_json::from_str(&text).unwrap();
            assert_eq!(file.usage(), (None, Some(7), None), "{text}");
        }
    }
}

//! Harbor, installed and set up for an experiment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use super::fenced::FencedSide;
use super::job::JobSettings;
use super::listing::{Dataset, ListedTask, Listing};
use super::probe::{Asker, Probe};
use crate::benchmarks::runner::RunRequest;
use crate::model::hash::hash;
use crate::model::trial::Split;
use crate::process::{Redactor, Supervisor};
use crate::provision::python::Version;

/// From SIGTERM to SIGKILL: Harbor closes every sandbox in between, which takes up to a minute.
const GRACE: Duration = Duration::from_secs(100);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HarborInstall {
    pub harbor: PathBuf,
    /// The interpreter it runs in.
    pub python: PathBuf,
    pub version: String,
}

/// The versions we tested with. Harbor changes how it records and grades from one version to the next.
const TRIED: [Version; 2] = [Version(0, 24, 0), Version(0, 26, 0)];

/// The first Harbor that removes the reward files before it grades.
const CLEARS_REWARDS: Version = Version(0, 26, 0);

impl HarborInstall {
    /// The warning about an untested version: its results may mean something else.
    pub fn untried(&self) -> Option<String> {
        if Version::parse(&self.version).is_some_and(|version| TRIED.contains(&version)) {
            return None;
        }
        let tried: Vec<String> = TRIED.iter().map(ToString::to_string).collect();
        Some(format!("harbor {} was never tried with this program (tried: {})", self.version, tried.join(", ")))
    }

    /// Whether a reward file that is there after grading was made while the tests ran.
    pub fn clears_rewards(&self) -> bool {
        Version::parse(&self.version).is_some_and(|version| version >= CLEARS_REWARDS)
    }
}

#[derive(Debug)]
pub struct HarborRunner {
    pub install: HarborInstall,
    pub dataset: Dataset,
    /// What every job has in common.
    pub job: JobSettings,
    pub reasoning_effort: Option<String>,
    /// Further arguments of `harbor run`.
    pub arguments: Vec<String>,
    /// The agent file, relative to the staged copy.
    pub agent_file: PathBuf,
    /// Harbor's complete environment, except for what differs between runs.
    pub environment: Vec<(OsString, OsString)>,
    /// Directory below the state directory for downloads and lists of tasks.
    pub state: PathBuf,
    pub supervisor: Supervisor,
    /// Hides secrets in the output of Harbor and the agent.
    pub redactor: Redactor,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// The tasks, once they are listed.
    pub listing: OnceCell<Listing>,
    /// Asks the model's provider when an agent blames it.
    pub probe: Probe,
    /// What keeps the agent out of Harbor's process; `None` where it runs there.
    pub fenced: Option<FencedSide>,
}

impl HarborRunner {
    /// The default of `grace`.
    pub const GRACE: Duration = GRACE;

    /// Who asks the model's provider.
    pub(super) fn asker(&self) -> Asker<'_> {
        Asker {
            model: self.job.model.as_deref(),
            python: &self.install.python,
            environment: &self.environment,
            state: &self.state,
            supervisor: &self.supervisor,
        }
    }

    /// An environment with what an agent reads the models from.
    pub(super) fn with_models(&self, mut environment: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
        for (name, value) in [("AGENT_MODEL", &self.job.model), ("AGENT_REASONING_EFFORT", &self.reasoning_effort)] {
            environment.retain(|(known, _)| known != name);
            environment.push((name.into(), value.clone().unwrap_or_default().into()));
        }
        environment
    }

    pub(super) fn environment_of(&self, request: &RunRequest) -> Vec<(OsString, OsString)> {
        let mut environment = self.with_models(self.environment.clone());
        let mut set = |name: &str, value: OsString| {
            environment.retain(|(known, _)| known != name);
            environment.push((name.into(), value));
        };
        match &self.fenced {
            Some(fenced) => {
                for (name, value) in fenced.environment(request, &self.job.env_provider) {
                    set(name, value);
                }
            }
            None => set("PYTHONPATH", request.staging.clone().into()),
        }
        let tasks = self.listing.get().map(|listing| request.tasks.iter().filter_map(|task| listing.find(task)));
        set("AGENT_TIME_LIMITS", time_limits(tasks.into_iter().flatten(), request.timeout_s).into());
        // Nothing of a hold-out conversation may be kept, not even by the agent.
        set("HARNESS_SAVE_TRACE", if is_held_out(request) { "0" } else { "1" }.into());
        // Plain tracebacks and whole lines, because this program reads them.
        for (name, value) in
            [("_TYPER_STANDARD_TRACEBACK", "1"), ("NO_COLOR", "1"), ("TERM", "dumb"), ("COLUMNS", "1000")]
        {
            set(name, value.into());
        }
        environment
    }
}

/// Whether nothing of the run's conversations may be kept anywhere.
pub(super) fn is_held_out(request: &RunRequest) -> bool {
    !request.keep_traces || request.split == Some(Split::Test)
}

/// The agent's limit in each of these tasks, as JSON, for the agent: Harbor does not pass it on
/// (<https://github.com/tetsuo-ai/agenc-core/pull/2517>). Tasks are identified by a digest of the name of their sandbox,
/// because other processes can see an environment. The limits of steps are left out.
fn time_limits<'a>(tasks: impl Iterator<Item = &'a ListedTask>, configured: Option<f64>) -> String {
    let limits: Map<String, Value> = tasks
        .filter(|task| task.steps.is_none_or(|steps| steps == 1))
        .filter_map(|task| {
            let name = task.id.rsplit('/').next().unwrap_or(&task.id);
            let limit = configured.or(task.agent_timeout_sec)?;
            Some((hash(name.as_bytes()).chars().take(16).collect(), json!(limit)))
        })
        .collect();
    Value::Object(limits).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_told_its_limit_and_no_name() {
        let task = |id: &str, limit: Option<f64>, steps| ListedTask {
            id: id.into(),
            aliases: Vec::new(),
            config: Map::new(),
            agent_timeout_sec: limit,
            verifier_timeout_sec: None,
            build_timeout_sec: None,
            steps,
            tests_write_json: None,
        };
        let tasks = [
            task("org/fix-git", Some(900.0), None),
            task("free", None, Some(1)),
            task("in-steps", Some(60.0), Some(2)),
        ];
        // The beginning of `printf fix-git | sha256sum`, which the template computes.
        assert_eq!(time_limits(tasks.iter(), None), r#"{"3225a7280bb650dc":900.0}"#);
        let configured: Value = serde_json::from_str(&time_limits(tasks.iter(), Some(7.5))).unwrap_or_default();
        assert_eq!(configured["3225a7280bb650dc"], 7.5);
        assert_eq!(configured.as_object().map(Map::len), Some(2));
    }
}

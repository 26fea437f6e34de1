//! Any Harbor dataset, through the real `harbor run`: one process per run, read while it works.
//!
//! Harbor's exit status proves nothing. What counts is its files: `watch` follows them, `judgement` judges
//! them, `job` writes what Harbor is asked, `log` reads what it said when the files are missing, and
//! `run` keeps one run going and ends it in order.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use super::job::{self, JobSettings};
use super::listing::{Dataset, Lister, Listing, Task};
use super::probe::Probe;
use super::run::Run;
use crate::benchmarks::agent_python::{AgentPython, Import, Way, module_name};
use crate::benchmarks::runner::{BenchmarkRunner, BoxFuture, RunReport, RunRequest, Sink, TaskInfo};
use crate::error::{Error, Result};
use crate::model::hash::hash;
use crate::model::trial::Split;
use crate::process::signals::Cancel;
use crate::process::{Redactor, Supervisor};
use crate::provision::python::Version;

/// The class that the agent file must define.
pub const AGENT_CLASS: &str = "HarnessAgent";

/// From SIGTERM to SIGKILL: Harbor closes every sandbox in between, which takes up to a minute.
const GRACE: Duration = Duration::from_secs(100);

/// An installed Harbor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HarborInstall {
    /// The program.
    pub harbor: PathBuf,
    /// The interpreter it runs in.
    pub python: PathBuf,
    /// Its version.
    pub version: String,
}

/// What this program was tried with. Harbor changes how it records and grades from one version to the next.
const TRIED: [Version; 2] = [Version(0, 24, 0), Version(0, 26, 0)];

/// The first Harbor that removes the reward files before it grades.
const CLEARS_REWARDS: Version = Version(0, 26, 0);

impl HarborInstall {
    /// What a human should know about a version that was never tried: its results may mean something else.
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

/// Any Harbor dataset.
#[derive(Debug)]
pub struct HarborRunner {
    /// Harbor.
    pub install: HarborInstall,
    /// The tasks.
    pub dataset: Dataset,
    /// What every job has in common.
    pub job: JobSettings,
    /// The agent's reasoning effort.
    pub reasoning_effort: Option<String>,
    /// Further arguments of `harbor run`.
    pub arguments: Vec<String>,
    /// The agent file, relative to the staged copy.
    pub agent_file: PathBuf,
    /// Harbor's complete environment, but for what differs between runs.
    pub environment: Vec<(OsString, OsString)>,
    /// Directory below the state directory for downloads and lists of tasks.
    pub state: PathBuf,
    /// Starts Harbor.
    pub supervisor: Supervisor,
    /// Hides secrets in what Harbor and the agent say.
    pub redactor: Redactor,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// The tasks, once they are listed.
    pub listing: OnceCell<Listing>,
    /// Asks the model's provider when an agent blames it.
    pub probe: Probe,
}

impl HarborRunner {
    /// The default of `grace`.
    pub const GRACE: Duration = GRACE;

    async fn listing(&self, cancel: &Cancel) -> Result<&Listing> {
        self.listing
            .get_or_try_init(|| async {
                let lister = Lister {
                    python: &self.install.python,
                    version: &self.install.version,
                    environment: self.environment.clone(),
                    state: &self.state,
                    supervisor: &self.supervisor,
                };
                lister.list(&self.dataset, cancel).await
            })
            .await
    }

    async fn list(&self, cancel: &Cancel) -> Result<Vec<TaskInfo>> {
        let listing = self.listing(cancel).await?;
        let info = |task: &Task| TaskInfo { id: task.id.clone(), split: None, limit_s: task.agent_timeout_sec };
        Ok(listing.tasks.iter().map(info).collect())
    }

    async fn run_trials(&self, request: &RunRequest, sink: Sink, cancel: &Cancel) -> Result<RunReport> {
        cancel.check()?;
        let listing = self.listing(cancel).await?;
        let tasks = find_all(listing, request)?;
        let import_path = job::import_path(&self.agent_file, AGENT_CLASS)?;
        Run::new(self, request, listing, tasks, import_path, sink)?.carry_out(cancel).await
    }

    /// An environment with what an agent reads the models from.
    fn with_models(&self, mut environment: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
        for (name, value) in [("AGENT_MODEL", &self.job.model), ("AGENT_REASONING_EFFORT", &self.reasoning_effort)] {
            environment.retain(|(known, _)| known != name);
            environment.push((name.into(), value.clone().unwrap_or_default().into()));
        }
        environment
    }

    /// The environment of one run.
    pub(super) fn environment_of(&self, request: &RunRequest) -> Vec<(OsString, OsString)> {
        let mut environment = self.with_models(self.environment.clone());
        let mut set = |name: &str, value: OsString| {
            environment.retain(|(known, _)| known != name);
            environment.push((name.into(), value));
        };
        set("PYTHONPATH", request.staging.clone().into());
        let tasks = self.listing.get().map(|listing| request.tasks.iter().filter_map(|task| listing.find(task)));
        set("AGENT_TIME_LIMITS", time_limits(tasks.into_iter().flatten(), request.timeout_s).into());
        // Of a hold-out conversation nothing may be kept, by the agent neither.
        set("HARNESS_SAVE_TRACE", if is_held_out(request) { "0" } else { "1" }.into());
        // Plain tracebacks and whole lines: they are read by this program.
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

/// The tasks of a request.
/// The agent's limit in each of these tasks, as JSON, for the agent: Harbor tells it to nobody. Tasks go by a digest of the
/// name that Harbor gives their sandbox, since an environment shows to others. The limits of steps are left out.
fn time_limits<'a>(tasks: impl Iterator<Item = &'a Task>, configured: Option<f64>) -> String {
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

fn find_all<'a>(listing: &'a Listing, request: &RunRequest) -> Result<Vec<&'a Task>> {
    let unknown: Vec<&String> = request.tasks.iter().filter(|task| listing.find(task).is_none()).collect();
    let Some(first) = unknown.first() else {
        return Ok(request.tasks.iter().filter_map(|task| listing.find(task)).collect());
    };
    let message = if is_held_out(request) {
        format!("{} task(s) of this run do not exist in the dataset (any more)", unknown.len())
    } else {
        let more = unknown.len() - 1;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        format!("the dataset has no task `{first}`{more}")
    };
    let error = Error::usage(message);
    Err(match listing.nearest(first).filter(|_| !is_held_out(request)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("if the dataset has changed, a human runs `autoharness prepare --accept`."),
    })
}

impl BenchmarkRunner for HarborRunner {
    fn protocol(&self) -> Result<Value> {
        Ok(json!({
            "harbor": self.install.version,
            "dataset": self.dataset.protocol()?,
            "env_provider": self.job.env_provider,
            "environment_kwargs": self.job.environment_kwargs,
            "agent_env": self.job.agent_env,
            "verifier_env": self.job.verifier_env,
            "arguments": self.arguments,
        }))
    }

    fn agent_symbol(&self) -> Option<&str> {
        Some(AGENT_CLASS)
    }

    fn agent_python(&self) -> Option<AgentPython> {
        let environment = self.with_models(self.environment.clone());
        // From the top of the copy, which is on Harbor's PYTHONPATH.
        let import = Import {
            first: vec![PathBuf::new()],
            ways: vec![Way::Module(module_name(&self.agent_file)?)],
            ..Import::default()
        };
        Some(AgentPython::new(&self.install.python, environment, import))
    }

    fn reports_tokens(&self) -> bool {
        true
    }

    fn untried(&self) -> Option<String> {
        self.install.untried()
    }

    fn tasks<'a>(
        &'a self,
        _staging: &'a Path,
        _log: &'a Path,
        cancel: &'a Cancel,
    ) -> BoxFuture<'a, Result<Vec<TaskInfo>>> {
        Box::pin(self.list(cancel))
    }

    fn run<'a>(&'a self, request: &'a RunRequest, sink: Sink, cancel: &'a Cancel) -> BoxFuture<'a, Result<RunReport>> {
        Box::pin(self.run_trials(request, sink, cancel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_told_its_limit_and_no_name() {
        let task = |id: &str, limit: Option<f64>, steps| Task {
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

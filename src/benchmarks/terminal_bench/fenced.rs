//! Runs the agent in its own process behind the fence: Harbor gets an agent of ours, which passes Harbor's calls to that
//! process. The helper is the Python side.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::json;

use crate::benchmarks::fencing::Fencing;
use crate::benchmarks::helper::{Helper, helper};
use crate::benchmarks::runner::RunRequest;
use crate::error::Result;
use crate::provision::model_keys;

/// The package that Harbor imports in the agent's place.
pub(crate) const HELPER: Helper = helper!("terminal_bench":
    "__init__.py",
    "agent_side.py",
    "asked_for.py",
    "fence.py",
    "fenced_agent.py",
    "frames.py",
    "nursery.py",
    "processes.py",
    "trees.py",
);

/// The class that Harbor is given.
const CLASS: &str = "terminal_bench.fenced_agent:FencedAgent";

/// The variable that names the stand-in's file.
const JOB: &str = "AUTOHARNESS_AGENT_JOB";

/// What every run tells the agent.
const TOLD: [&str; 6] = [
    "AGENT_MODEL",
    "AGENT_REASONING_EFFORT",
    "AGENT_TIME_LIMITS",
    "HARBOR_TELEMETRY",
    "HARNESS_SAVE_TRACE",
    "LITELLM_LOCAL_MODEL_COST_MAP",
];

/// What starts agents behind the fence.
#[derive(Debug)]
pub struct FencedSide {
    pub fencing: Fencing,
    /// Whether no agent may run without it.
    pub required: bool,
    /// The directory with the package.
    pub packages: PathBuf,
    /// Names of the variables that an agent gets.
    pub variables: BTreeSet<String>,
}

impl FencedSide {
    /// The variables' names: what any child may have, the keys of the model, and what the configuration passes on. The keys of
    /// the sandboxes' provider and of the tests are not among them.
    pub fn variables(harmless: &[(OsString, OsString)], model: Option<&str>, passed: &[String]) -> BTreeSet<String> {
        let harmless = harmless.iter().map(|(name, _)| name.to_string_lossy().into_owned());
        let keys = model_keys::variables(model).into_iter().chain(TOLD).map(String::from);
        harmless.chain(keys).chain(passed.iter().cloned()).collect()
    }

    /// Harbor loads an agent of ours, a stand-in for the real one. Writes a file that names the real one for one run, and
    /// returns the import path of the stand-in.
    ///
    /// # Errors
    /// Infrastructure when it cannot be written.
    pub fn stand_in(
        &self,
        request: &RunRequest,
        agent: &str,
        in_steps: bool,
        save_trace: bool,
    ) -> Result<&'static str> {
        let job = json!({
            "agent": agent,
            "agent_file": request.agent_file,
            "staging": request.staging,
            "scratch": request.scratch,
            "fence": self.fencing.prefix(),
            "required": self.required,
            "env": self.variables,
            "save_trace": save_trace,
            "in_steps": in_steps,
        });
        fs_err::write(job_file(request), job.to_string())?;
        Ok(CLASS)
    }

    /// The variables of Harbor's environment for one run: where it imports from (our package and, if the user's own
    /// environment class comes from the copy, that too), and where the stand-in's file is.
    pub fn environment(&self, request: &RunRequest, env_provider: &str) -> [(&'static str, OsString); 2] {
        let mut path = OsString::from(&self.packages);
        if env_provider.contains(':') {
            path.push(":");
            path.push(&request.staging);
        }
        [("PYTHONPATH", path), (JOB, job_file(request).into())]
    }
}

fn job_file(request: &RunRequest) -> PathBuf {
    request.scratch.join("stand-in.json")
}

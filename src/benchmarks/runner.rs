//! Runners: each turns "these tasks, this many trials" into a stream of finished trials.
//!
//! A runner knows nothing of gates, suites, ledgers or views.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use tokio::sync::mpsc;

use super::agent_python::AgentPython;
use crate::error::Result;
use crate::fence::Layers;
use crate::model::trial::{Split, TrialResult};
use crate::process::signals::Cancel;

/// A boxed future, so that [`BenchmarkRunner`] can be a trait object.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What [`Benchmark::runner`](super::Benchmark::runner) makes.
pub(crate) type NewRunner<'a> = BoxFuture<'a, Result<Box<dyn BenchmarkRunner>>>;

/// A task as the benchmark lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskInfo {
    /// The task's id, exactly as the benchmark knows it.
    pub id: String,
    /// The split the benchmark itself puts it in, when it has splits.
    pub split: Option<Split>,
    /// The limit that the benchmark itself sets the agent, in seconds, when it sets one.
    pub limit_s: Option<f64>,
}

/// What a benchmark consists of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalogue {
    /// Its tasks, train and hold-out.
    pub tasks: Vec<TaskInfo>,
    /// Texts that all tasks share, such as a policy or the available tools, with their file names: the coding agent may read
    /// them.
    pub context: Vec<(String, String)>,
}

/// What a runner is asked to run. All paths are absolute.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// Unique name of this run, safe as a file name.
    pub run: String,
    /// Task ids, in the order to start them (longest first where durations are known). Never empty, no duplicates.
    pub tasks: Vec<String>,
    /// How many trials of each task; the runner numbers them from 0.
    pub trials: u32,
    /// The split all tasks belong to; `None` while no split exists (a baseline that draws one).
    pub split: Option<Split>,
    /// How many trials may be in flight at once, at least 1.
    pub concurrency: u32,
    /// Base seed; trial `i` should derive its randomness from `seed + i`.
    pub seed: u64,
    /// Limit of one trial in seconds, when configured.
    pub timeout_s: Option<f64>,
    /// Whether traces are wanted. False for the hold-out: then nothing of a conversation may be kept anywhere.
    pub keep_traces: bool,
    /// Staged copy of the experiment (base commit's files plus the editable files). Children run here.
    pub staging: PathBuf,
    /// The staged agent file (first entry of `editable`), below `staging`.
    pub agent_file: PathBuf,
    /// Private scratch directory of this run, outside the work tree; removed after the run.
    pub scratch: PathBuf,
    /// File that receives the benchmark's own log output (its stderr). Outside the work tree.
    pub log: PathBuf,
}

/// What a runner reports while it works.
#[derive(Debug)]
pub enum RunEvent {
    Started {
        task: String,
        trial: u32,
    },
    /// A trial ended. Sent once per (task, trial).
    Finished(Box<TrialResult>),
    /// Something worth telling the user, already free of secrets. On hold-out runs it must not name a task.
    Log {
        /// True for warnings and worse.
        warning: bool,
        /// One line.
        message: String,
    },
}

/// Where a runner sends its events. Bounded: a slow consumer slows the runner, memory stays flat.
pub(crate) type Sink = mpsc::Sender<RunEvent>;

/// How a run ended, besides its trials.
#[derive(Debug, Default)]
pub struct RunReport {
    /// Set when the benchmark broke off or misbehaved: a sentence that says what happened and where to look. Trials that
    /// were expected and not reported are then infrastructure errors.
    pub failure: Option<String>,
    /// True when the benchmark reported what it could not know (a trial that was not asked for, or the same one twice), or failed after
    /// it had reported trials. The agent may be speaking in its name, so no trial of this run is believed.
    pub untrusted: bool,
}

/// A benchmark that can be run.
pub trait BenchmarkRunner {
    /// Everything about this benchmark that makes two scores comparable (its part of the protocol fingerprint): names,
    /// versions, options, digests of data. Must not contain secrets. Errors: when a file that belongs to the protocol
    /// cannot be read.
    fn protocol(&self) -> Result<serde_json::Value>;

    /// The Python name (class or function) the agent file must define at top level, when the benchmark imports one.
    fn agent_symbol(&self) -> Option<&str>;

    /// The Python that imports the agent file; `None` where that is not known, or no Python does.
    fn agent_python(&self) -> Option<AgentPython> {
        None
    }

    /// True when trials always report model tokens, so that a run without a single token is known to be infrastructure.
    fn reports_tokens(&self) -> bool {
        false
    }

    /// Which layers of the fence stand around the agents of this runner; `None` where there is no fence.
    fn fence(&self) -> Option<&Layers> {
        None
    }

    /// A warning for the ledger when the benchmark's upstream has a version that we never tested with.
    fn untried(&self) -> Option<String> {
        None
    }

    /// Lists every task. `staging` is a staged copy of the experiment, `log` receives the benchmark's stderr. Errors:
    /// infrastructure when the benchmark cannot be started or breaks off; usage when its answer makes no sense.
    fn tasks<'a>(
        &'a self,
        staging: &'a std::path::Path,
        log: &'a std::path::Path,
        cancel: &'a Cancel,
    ) -> BoxFuture<'a, Result<Catalogue>>;

    /// Runs trials and sends each to `sink` the moment it ends. Returns when every process it started for them is gone.
    /// Errors: only when nothing could be started at all, or `Interrupted` after a cancellation; a benchmark that breaks off half way is
    /// reported through [`RunReport::failure`], because the trials already sent count.
    fn run<'a>(&'a self, request: &'a RunRequest, sink: Sink, cancel: &'a Cancel) -> BoxFuture<'a, Result<RunReport>>;

    /// Ends what the runner keeps running between runs, and waits until it is gone. Called once, after the last run of a
    /// command, however that ended.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

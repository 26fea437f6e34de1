//! One start of the benchmark: the copy that it runs in, what it was asked, what it answered and how it ended. The caller
//! decides what becomes of the trials.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tokio::sync::mpsc;

use super::agent::{StagedAgent, StagedCopy};
use super::session::Session;
use crate::benchmarks::runner::{BenchmarkRunner, RunEvent, RunReport, RunRequest};
use crate::error::{Error, Result};
use crate::model::trial::{Outcome, Split, TrialResult};
use crate::model::usage::Usage;
use crate::process::signals::Cancel;
use crate::ui::{Progress, Ui};

/// Trials that one start runs.
pub(super) struct Batch {
    /// The number of the first; the benchmark calls it 0.
    pub first: u32,
    /// How many of each task.
    pub trials: u32,
    pub tasks: Vec<String>,
}

/// What a start is made for.
pub(super) struct Order {
    /// Its name, which is unique and safe as a file name.
    pub id: String,
    pub batch: Batch,
    /// The split of their tasks; `None` while it is not drawn.
    pub split: Option<Split>,
    /// Most trials in flight.
    pub concurrency: u32,
    /// Whether the benchmark may keep conversations.
    pub keep_traces: bool,
    /// Whether the benchmark's own log outlives the start.
    pub keep_log: bool,
}

/// A start, from its staging to its end.
pub(super) struct Start<'a> {
    /// How many trials were asked for.
    pub total: usize,
    copy: StagedCopy<'a>,
    scratch: PathBuf,
    first: u32,
    /// Trials that have not ended, by task and the benchmark's number.
    missing: BTreeSet<(String, u32)>,
}

pub(super) struct EndedStart {
    /// What the benchmark says about it.
    pub report: RunReport,
    /// Trials that were asked for and not reported.
    pub unreported: Vec<TrialResult>,
    /// Why none of the trials count, when the copy was changed while the benchmark ran.
    pub altered: Option<String>,
}

impl<'a> Start<'a> {
    /// Stages a copy of the agent, and says what the benchmark has to run in it.
    pub(super) fn stage(session: &Session, agent: &'a StagedAgent, order: Order) -> Result<(Start<'a>, RunRequest)> {
        let Session { paths, config, .. } = session;
        let Order { id, batch: Batch { first, trials, tasks }, split, concurrency, keep_traces, keep_log } = order;
        let scratch = paths.scratch().join(&id);
        fs_err::create_dir_all(&scratch)?;
        fs_err::create_dir_all(paths.logs())?;
        let copy = agent.copy(paths.copies().join(&id))?;
        let request = RunRequest {
            log: if keep_log { paths.logs().join(format!("{id}.log")) } else { scratch.join("program.log") },
            run: id,
            trials,
            split,
            concurrency,
            seed: config.seed + u64::from(first),
            timeout_s: config.per_task_timeout,
            keep_traces,
            staging: copy.staging.clone(),
            agent_file: copy.file.clone(),
            scratch: scratch.clone(),
            tasks,
        };
        let missing: BTreeSet<_> =
            request.tasks.iter().flat_map(|task| (0..trials).map(move |trial| (task.clone(), trial))).collect();
        Ok((Start { total: missing.len(), copy, scratch, first, missing }, request))
    }

    /// A trial that has ended, under its number in the experiment; `None` when it was not asked for, or came before.
    pub(super) fn owed(&mut self, mut result: TrialResult) -> Option<TrialResult> {
        let owed = self.missing.remove(&(result.task.clone(), result.trial));
        result.trial += self.first;
        owed.then_some(result)
    }

    /// Judges the start as a whole. Nothing runs in its copy by now. `unkept`: why not all that it sent could be kept.
    /// Errors: `unkept`; the benchmark's own; when the copy cannot be read.
    pub(super) fn end(self, ended: Result<RunReport>, unkept: Option<Error>) -> Result<EndedStart> {
        let _ = fs_err::remove_dir_all(self.scratch);
        unkept.map_or(Ok(()), Err)?;
        let report = ended?;
        let why = report.failure.as_deref().unwrap_or("the benchmark did not report this trial");
        let unreported = |(task, trial)| unreported(task, self.first + trial, why.to_string());
        let unreported = self.missing.into_iter().map(unreported).collect();
        let altered = self.copy.altered()?.first().map(|change| {
            format!("the staged copy was changed while the benchmark ran ({change}); none of its trials count")
        });
        Ok(EndedStart { report, unreported, altered })
    }
}

/// Has the benchmark run what it is asked for; `hear` gets what it says.
pub(super) async fn run(
    runner: &dyn BenchmarkRunner,
    request: &RunRequest,
    cancel: &Cancel,
    mut hear: impl AsyncFnMut(RunEvent),
) -> Result<RunReport> {
    let (sink, mut events) = mpsc::channel(64);
    let listen = async {
        while let Some(event) = events.recv().await {
            hear(event).await;
        }
    };
    let (ended, ()) = tokio::join!(runner.run(request, sink, cancel), listen);
    ended
}

/// Passes on the benchmark's messages for people.
pub(super) fn tell(ui: &Ui, progress: &Progress, warning: bool, message: String) {
    progress.suspend(|| if warning { ui.warn(message) } else { ui.detail(message) });
}

/// A trial that the benchmark was asked for and did not report.
fn unreported(task: String, trial: u32, error: String) -> TrialResult {
    TrialResult {
        task,
        trial,
        outcome: Outcome::InfraError,
        reward: None,
        usage: Usage::default(),
        error: Some(error),
        trace: None,
        detail: None,
    }
}

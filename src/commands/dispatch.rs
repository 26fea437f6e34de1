//! The one loop of a measurement. Only this loop stages copies, appends to the ledger and stops runs; a run of the benchmark
//! only sends it events.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tracing::{debug, info};

use super::plan::Plan;
use super::session::Session;
use super::start::{self, Batch, EndedStart, Order, Start};
use super::step::{Measurement, Step, StepReport};
use crate::benchmarks::runner::{BenchmarkRunner, RunEvent, RunReport, RunRequest};
use crate::error::{Error, Result};
use crate::model::trial::{Split, TrialResult};
use crate::process::signals::{Cancel, Trigger};
use crate::store::event::{Event, Purpose, Trial};
use crate::store::task_name::directory_name;
use crate::store::traces;
use crate::ui::Progress;

/// How often the log counts the trials that ended.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// A step on its way through its starts.
struct StepRun<'a> {
    step: &'a Step,
    name: &'a str,
    concurrency: u32,
    attempt: u32,
    /// What this attempt has not started yet, and its number of starts so far.
    waiting: VecDeque<Batch>,
    starts: usize,
    current: Option<Start<'a>>,
    /// Why not all that it sent could be kept.
    unkept: Option<Error>,
    over: bool,
    report: StepReport,
}

/// What a start says to the loop.
enum StartMessage {
    Event(RunEvent),
    /// The last message: every process of the start is gone.
    Ended(Result<RunReport>),
}

/// Has the benchmark run what was asked, passing on its messages.
async fn conduct(
    runner: &dyn BenchmarkRunner,
    number: usize,
    request: RunRequest,
    cancel: &Cancel,
    out: mpsc::Sender<(usize, StartMessage)>,
) {
    // The loop listens until every start has ended.
    let pass_on = async |event| drop(out.send((number, StartMessage::Event(event))).await);
    let ended = start::run(runner, &request, cancel, pass_on).await;
    let _ = out.send((number, StartMessage::Ended(ended))).await;
}

/// Owns a measurement from its first start to the end of its last one.
pub(super) struct Dispatcher<'a> {
    session: &'a mut Session,
    measurement: &'a Measurement<'a>,
    progress: Progress,
    /// How many trials have begun and ended, and when the log was last told.
    begun: usize,
    ended: usize,
    told: Instant,
    /// Stops whatever runs, as a signal does.
    stop: Trigger,
    cancel: Cancel,
    runs: Vec<StepRun<'a>>,
    /// Whether the steps run at the same time.
    together: bool,
    failure: Option<Error>,
}

impl<'a> Dispatcher<'a> {
    /// `shares`: how many trials of each step may be in flight; none of a step with work means one step after the other.
    pub(super) fn new(
        session: &'a mut Session,
        measurement: &'a Measurement<'a>,
        what: &str,
        steps: &'a [Step],
        names: &'a [String],
        plans: Vec<Plan>,
        shares: &[u32],
    ) -> Dispatcher<'a> {
        let together = plans.iter().zip(shares).all(|(plan, share)| *share > 0 || plan.count() == 0);
        let progress = session.ui.progress(what, plans.iter().map(Plan::count).sum());
        let runs =
            steps.iter().zip(names).zip(plans.into_iter().zip(shares)).map(|((step, name), (plan, share))| StepRun {
                step,
                name,
                concurrency: if together { *share } else { measurement.concurrency }.max(1),
                attempt: 0,
                report: StepReport { reused: plan.reused, ..StepReport::default() },
                waiting: batches(plan),
                starts: 0,
                current: None,
                unkept: None,
                over: false,
            });
        let (stop, cancel) = measurement.cancel.linked();
        Dispatcher {
            runs: runs.collect(),
            session,
            measurement,
            progress,
            begun: 0,
            ended: 0,
            told: Instant::now(),
            stop,
            cancel,
            together,
            failure: None,
        }
    }

    /// Runs everything. If something fails, it stops the rest and waits for it, so that its processes are gone and its
    /// finished trials kept.
    pub(super) async fn run(mut self) -> Result<Vec<StepReport>> {
        let (out, mut inbox) = mpsc::channel(64);
        let (runner, cancel) = (self.measurement.runner, self.cancel.clone());
        let mut running = FuturesUnordered::new();
        loop {
            for (number, request) in self.starts() {
                running.push(conduct(runner, number, request, &cancel, out.clone()));
            }
            if self.runs.iter().all(|run| run.over) {
                break;
            }
            tokio::select! {
                Some((number, said)) = inbox.recv() => self.hear(number, said),
                // Its end is in the inbox.
                Some(()) = running.next() => {}
            }
        }
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self.runs.into_iter().map(|run| run.report).collect()),
        }
    }

    /// What can be started now.
    fn starts(&mut self) -> Vec<(usize, RunRequest)> {
        let mut list = Vec::new();
        for number in 0..self.runs.len() {
            if !self.runs[number].over && self.runs[number].current.is_none() {
                match self.next_start(number) {
                    Ok(request) => list.extend(request.map(|request| (number, request))),
                    Err(error) => self.fail(number, error),
                }
            }
            if !self.together && !self.runs[number].over {
                break;
            }
        }
        list
    }

    /// Ends a step and stops the others.
    fn fail(&mut self, number: usize, error: Error) {
        self.stop.fire(15);
        error.keep_in(&mut self.failure);
        self.runs[number].over = true;
    }

    /// The next start of a step; `None` when it is over.
    fn next_start(&mut self, number: usize) -> Result<Option<RunRequest>> {
        loop {
            if let Some(batch) = self.runs[number].waiting.pop_front() {
                self.cancel.check()?;
                return self.start(number, batch).map(Some);
            }
            let (session, run) = (&*self.session, &mut self.runs[number]);
            let (tasks, trials) = (&run.step.tasks, &session.state.trials);
            let again = (run.attempt < session.config.infra_retries)
                .then(|| Plan::new(tasks, &self.measurement.conditions(session, run.step, Some(run.name)), trials))
                .filter(|plan| plan.count() > 0);
            let Some(plan) = again else {
                let (agent, protocol) = (&self.measurement.agent.fingerprint, self.measurement.trial_protocol);
                run.report.void = trials.is_void(agent, protocol, tasks, self.measurement.runner.reports_tokens());
                run.over = true;
                return Ok(None);
            };
            (run.attempt, run.starts) = (run.attempt + 1, 0);
            let (count, purpose) = (plan.count(), run.step.purpose.as_str());
            self.progress.suspend(|| {
                session.ui.status(format!("{purpose}: {count} trials gave no evidence, running them again"));
            });
            info!(step = purpose, trials = count, attempt = run.attempt, "running again what gave no evidence");
            self.progress.extend(count);
            run.waiting = batches(plan);
        }
    }

    /// Stages a copy for these trials.
    fn start(&mut self, number: usize, batch: Batch) -> Result<RunRequest> {
        let run = &mut self.runs[number];
        let id = format!("{}-{}-{}", run.name, run.attempt, run.starts);
        let is_kept = !self.session.is_for_reading;
        run.starts += 1;
        let order = Order {
            id,
            batch,
            split: run.step.split,
            concurrency: run.concurrency,
            // Before the split is drawn, nobody knows what is hold-out, so traces are kept privately.
            keep_traces: is_kept && run.step.split != Some(Split::Test) && run.step.purpose.leaves_traces(),
            // The log may quote hold-out tasks; then it is in the scratch directory and removed with it, even after a kill.
            keep_log: is_kept && run.step.split == Some(Split::Train),
        };
        let (start, request) = Start::stage(self.session, self.measurement.agent, order)?;
        info!(run = request.run, trials = start.total, concurrency = run.concurrency, "benchmark starts");
        (run.current, run.unkept) = (Some(start), None);
        Ok(request)
    }

    fn hear(&mut self, number: usize, said: StartMessage) {
        match said {
            StartMessage::Event(RunEvent::Started { .. }) => {
                self.begun += 1;
                self.tell();
            }
            StartMessage::Event(RunEvent::Log { warning, message }) => {
                start::tell(&self.session.ui, &self.progress, warning, message);
            }
            StartMessage::Event(RunEvent::Finished(result)) => {
                let Some(start) = &mut self.runs[number].current else { return };
                if let Some(result) = start.owed(*result)
                    && let Err(error) = self.take(number, result)
                {
                    // Pay for nothing that cannot be kept, but still try to keep what has already arrived.
                    self.stop.fire(15);
                    error.keep_in(&mut self.runs[number].unkept);
                }
            }
            StartMessage::Ended(ended) => {
                if let Some(start) = self.runs[number].current.take()
                    && let Err(error) = self.ended(number, start, ended)
                {
                    self.fail(number, error);
                }
            }
        }
    }

    /// Judges a start as a whole. Nothing runs in its copy by now.
    fn ended(&mut self, number: usize, start: Start<'_>, ended: Result<RunReport>) -> Result<()> {
        let total = start.total;
        let EndedStart { report: ended, unreported, altered } = start.end(ended, self.runs[number].unkept.take())?;
        let unreported_trials = unreported.len();
        for result in unreported {
            self.take(number, result)?;
        }
        if let Some(failure) = &ended.failure {
            self.progress.suspend(|| self.session.ui.warn(failure));
        }
        let run = &mut self.runs[number];
        let (failed, untrusted) = (ended.failure.is_some(), ended.untrusted);
        info!(
            run = run.name,
            attempt = run.attempt,
            trials = total,
            unreported = unreported_trials,
            failed,
            untrusted,
            "benchmark ended"
        );
        let report = &mut run.report;
        report.run += total;
        report.untrusted |= ended.untrusted || altered.is_some();
        report.failure = altered.or(ended.failure).or(report.failure.take());
        run.over = report.untrusted;
        Ok(())
    }

    /// Writes one finished trial into the ledger, and keeps its trace if that is allowed.
    fn take(&mut self, number: usize, mut result: TrialResult) -> Result<()> {
        let (session, StepRun { step, name, .. }) = (&mut *self.session, &self.runs[number]);
        // Trace and ledger both hold what the trial counts as.
        result.reward = result.evidence().value(session.config.timeout_policy);
        let no_tokens = result.usage.tokens().is_none() && !result.outcome.is_no_evidence();
        let agent = self.measurement.agent.fingerprint.as_str();
        // Before the ledger knows the trial, or a kill in between would leave an older trace for good.
        let traced = keep_trace(session, step, agent, &result);
        let trial = Trial {
            run: (*name).into(),
            purpose: step.purpose,
            agent: agent.into(),
            protocol: self.measurement.trial_protocol.into(),
            split: step.split,
            task: result.task.as_str().into(),
            trial: result.trial,
            outcome: result.outcome,
            reward: result.reward,
            usage: result.usage.priced(session.config.trial_prices),
            error: result.error.as_deref().filter(|_| step.split == Some(Split::Train)).map(Into::into),
            silent: no_tokens && self.measurement.runner.reports_tokens(),
            trace_lost: traced.as_ref().is_err_and(|(_, lost)| *lost),
        };
        session.append(Event::Trial(trial))?;
        // One line per trial would cost more than some trials do, and would reveal too much of the hold-out.
        if result.outcome.is_no_evidence() && step.split == Some(Split::Train) {
            debug!(task = result.task, trial = result.trial, outcome = result.outcome.as_str(), "no evidence");
        }
        self.runs[number].report.ended.add(result.outcome, None);
        self.ended += 1;
        self.tell();
        self.progress.advance();
        traced.map_err(|(error, _)| error)
    }

    /// Counts trials in the log, now and then.
    fn tell(&mut self) {
        if self.told.elapsed() >= TELL_EVERY {
            info!(begun = self.begun, ended = self.ended, "trials are under way");
            self.told = Instant::now();
        }
    }
}

fn batches(plan: Plan) -> VecDeque<Batch> {
    plan.groups.into_iter().map(|((first, trials), tasks)| Batch { first, trials, tasks }).collect()
}

/// Keeps a trial's trace. A trace that cannot be written is no reason to forget a trial that was paid for: the error then
/// says whether the trace is lost, or kept where the next command finds it.
fn keep_trace(session: &Session, step: &Step, agent: &str, result: &TrialResult) -> Result<(), (Error, bool)> {
    let paths = &session.paths;
    match step.split {
        Some(Split::Test) => Ok(()),
        _ if session.is_for_reading || !step.purpose.leaves_traces() => Ok(()),
        None => {
            let directory = paths.private_traces().join(directory_name(&result.task));
            traces::write(&directory, agent, result).map_err(|error| (error, true))
        }
        Some(Split::Train) => {
            let committed =
                step.purpose == Purpose::Baseline || session.state.summary.recorded_agent.as_deref() == Some(agent);
            traces::keep(&paths.workspace(), agent, committed, result).map_err(|error| {
                let aside = paths.pending_traces().join(directory_name(&result.task));
                if traces::write(&aside, agent, result).is_ok() {
                    return (error.hint("the trace is kept aside; the next command writes it there."), false);
                }
                (
                    error.hint("the trial counts, its trace is lost; `autoharness benchmark` runs it again for one."),
                    true,
                )
            })
        }
    }
}

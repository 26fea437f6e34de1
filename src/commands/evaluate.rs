//! Gets the trials a step needs: reuses what the ledger has, runs the rest, retries what gave no evidence, and appends
//! every trial to the ledger the moment it finishes.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::PathBuf;

use chrono::Utc;
use futures_util::future::join_all;

use super::agent::StagedAgent;
use super::plan::{Conditions, Plan, share};
use super::session::Session;
use crate::benchmark::{BenchmarkRunner, RunEvent, RunReport, RunRequest};
use crate::error::{Error, Result};
use crate::model::score::{Evidence, TimeoutPolicy};
use crate::model::trial::{Outcome, Split, TrialResult};
use crate::process::signals::{Cancel, Trigger};
use crate::store::event::{Event, Purpose, RunFinished, Trial};
use crate::store::ledger::Writer;
use crate::store::state::State;
use crate::store::traces;
use crate::store::trials::Of;
use crate::ui::{Progress, Ui};

/// A set of tasks to be measured.
#[derive(Debug, Clone)]
pub struct Step {
    /// Why.
    pub purpose: Purpose,
    /// Their split; `None` while it is not drawn.
    pub split: Option<Split>,
    /// The tasks.
    pub tasks: Vec<String>,
}

/// How a step went.
#[derive(Debug, Default, Clone)]
pub struct StepReport {
    /// Trials run now.
    pub run: usize,
    /// Trials the ledger already had.
    pub reused: usize,
    /// What broke the run off, when something did.
    pub failure: Option<String>,
    /// True when no trial showed any model activity.
    pub void: bool,
    /// True when the benchmark, or somebody in its name, said what it could not know.
    pub untrusted: bool,
}

/// What is measured, and under which conditions.
pub struct Measurement<'a> {
    /// The benchmark.
    pub runner: &'a dyn BenchmarkRunner,
    /// The agent, staged.
    pub agent: &'a StagedAgent,
    /// Fingerprint of what one trial depends on beside the agent.
    pub trial_protocol: &'a str,
    /// Most trials in flight, over all steps.
    pub concurrency: u32,
    /// Run again what the ledger has.
    pub fresh: bool,
    /// Fires on Ctrl-C and the like.
    pub cancel: &'a Cancel,
}

/// What the concurrent runs of a step share; one thread, so a `RefCell` is enough.
struct Recorder<'a> {
    ui: &'a Ui,
    writer: &'a mut Writer,
    state: &'a mut State,
    progress: Progress,
}

/// Runs the steps at the same time, sharing the concurrency in proportion to their work.
///
/// # Errors
/// `Interrupted` after a signal, infrastructure when nothing could be started or the ledger cannot be written. Trials
/// that finished before are in the ledger in any case.
pub async fn evaluate(session: &mut Session, measurement: &Measurement<'_>, steps: &[Step]) -> Result<Vec<StepReport>> {
    // One step's failure stops the others. All are waited for: then their processes are gone and their trials kept.
    let (stop, cancel) = measurement.cancel.linked();
    let common = Common {
        stop,
        cancel,
        scratch: session.paths.scratch(),
        logs: session.paths.logs(),
        workspace: session.paths.workspace(),
        private_traces: session.paths.private_traces(),
        timeout_s: session.config.per_task_timeout,
        timeout_policy: session.config.timeout_policy,
        seed: session.config.seed,
        retries: session.config.infra_retries,
        trials: session.config.trials,
        base_name: session.writer.tip().next_seq,
    };
    let conditions = common.conditions(measurement, None);
    let plans: Vec<Plan> =
        steps.iter().map(|step| Plan::new(&step.tasks, &conditions, &session.state.trials)).collect();
    let work: Vec<usize> = plans.iter().map(Plan::count).collect();
    let total: usize = work.iter().sum();
    let mut names: Vec<&str> = steps.iter().map(|step| step.purpose.as_str()).collect();
    names.dedup();
    let what = names.join(" + ");
    if total > 0 {
        let reused: usize = plans.iter().map(|plan| plan.reused).sum();
        let kept = if reused > 0 { format!(" ({reused} more are in the ledger already)") } else { String::new() };
        session.ui.status(format!("{what}: running {total} trials{kept}"));
    } else {
        session.ui.status(format!("{what}: nothing to run, the ledger has these trials already"));
    }
    let shares = share(measurement.concurrency, &work);
    let recorder = RefCell::new(Recorder {
        progress: session.ui.progress(&what, total),
        ui: &session.ui,
        writer: &mut session.writer,
        state: &mut session.state,
    });
    let failure = RefCell::new(None);
    let run_one = async |(step, plan), share| match run_step(step, plan, measurement, share, &common, &recorder).await {
        Ok(report) => report,
        Err(error) => {
            common.stop.fire(15);
            error.keep_in(&mut failure.borrow_mut());
            StepReport::default()
        }
    };
    let mut reports = Vec::new();
    let work_of_steps = steps.iter().zip(plans);
    if shares.iter().zip(&work).any(|(share, work)| *share == 0 && *work > 0) {
        for one in work_of_steps {
            reports.push(run_one(one, measurement.concurrency).await);
        }
    } else {
        reports = join_all(work_of_steps.zip(&shares).map(|(one, share)| run_one(one, *share))).await;
    }
    let Recorder { writer, progress, .. } = recorder.into_inner();
    drop(progress);
    let synced = writer.sync();
    if let Some(error) = failure.into_inner() {
        let kept = "finished trials are in the ledger: the same command again runs only the others.";
        return Err(match measurement.cancel.signal() {
            Some(signal) => Error::interrupted(signal).hint(kept),
            None => error.hint(kept),
        });
    }
    synced?;
    let baseline = steps.iter().filter(|step| step.purpose.is_baseline()).flat_map(|step| step.tasks.clone());
    let tokenless = session.state.trials.is_tokenless(
        &measurement.agent.fingerprint,
        measurement.trial_protocol,
        &baseline.collect::<Vec<_>>(),
        measurement.runner.reports_tokens(),
    );
    for (step, report) in steps.iter().zip(&mut reports) {
        report.void |= tokenless;
        let finished = RunFinished {
            run: run_name(common.base_name, step.purpose),
            purpose: step.purpose,
            agent: measurement.agent.fingerprint.clone(),
            protocol: measurement.trial_protocol.to_string(),
            split: step.split,
            tasks: step.tasks.clone(),
            fresh: measurement.fresh,
            run_trials: report.run,
            reused_trials: report.reused,
            failure: report.failure.clone(),
            void: report.void || report.untrusted,
            tokenless,
        };
        session.append(Event::RunFinished(finished))?;
    }
    Ok(reports)
}

/// Names a run so that it is unique in the ledger and safe as a file name.
fn run_name(seq: u64, purpose: Purpose) -> String {
    format!("run-{seq:06}-{}", purpose.as_str())
}

/// Everything the steps of one call have in common.
struct Common {
    stop: Trigger,
    cancel: Cancel,
    scratch: PathBuf,
    logs: PathBuf,
    workspace: PathBuf,
    private_traces: PathBuf,
    timeout_s: Option<f64>,
    seed: u64,
    retries: u32,
    timeout_policy: TimeoutPolicy,
    trials: u32,
    base_name: u64,
}

impl Common {
    /// `current`: the run under way, when it is planned what it has to run again.
    fn conditions<'a>(&self, measurement: &Measurement<'a>, current: Option<&'a str>) -> Conditions<'a> {
        let of = Of {
            agent: &measurement.agent.fingerprint,
            protocol: measurement.trial_protocol,
            policy: self.timeout_policy,
        };
        Conditions { of, trials: self.trials, fresh: measurement.fresh && current.is_none(), current }
    }
}

async fn run_step(
    step: &Step,
    mut plan: Plan,
    measurement: &Measurement<'_>,
    concurrency: u32,
    common: &Common,
    recorder: &RefCell<Recorder<'_>>,
) -> Result<StepReport> {
    let name = run_name(common.base_name, step.purpose);
    let mut report = StepReport { reused: plan.reused, ..StepReport::default() };
    for attempt in 0..=common.retries {
        if plan.groups.is_empty() {
            break;
        }
        if attempt > 0 {
            let recorder = &mut *recorder.borrow_mut();
            let (again, ui) = (plan.count(), recorder.ui);
            recorder.progress.suspend(|| {
                ui.status(format!("{}: {again} trials gave no evidence, running them again", step.purpose.as_str()));
            });
            recorder.progress.extend(again);
        }
        for (number, ((first, count), tasks)) in plan.groups.iter().enumerate() {
            common.cancel.check()?;
            let id = format!("{name}-{attempt}-{number}");
            let scratch = common.scratch.join(&id);
            // What is logged may quote tasks of the hold-out; then it goes with the scratch directory, even after a kill.
            let log = match step.split {
                Some(Split::Train) => common.logs.join(format!("{id}.log")),
                _ => scratch.join("program.log"),
            };
            let request = RunRequest {
                run: id.clone(),
                tasks: tasks.clone(),
                trials: *count,
                split: step.split,
                concurrency: concurrency.max(1),
                seed: common.seed + u64::from(*first),
                timeout_s: common.timeout_s,
                // Before the split is drawn nobody knows what is hold-out: traces are kept privately then.
                keep_traces: step.split != Some(Split::Test),
                staging: measurement.agent.staging.clone(),
                agent_file: measurement.agent.file.clone(),
                scratch,
                log,
            };
            measurement.agent.refresh()?;
            let group = Group { step, run: &name, first: *first, request: &request };
            let (ran, ended) = run_group(&group, measurement, common, recorder).await?;
            report.run += ran;
            report.untrusted |= ended.untrusted;
            report.failure = ended.failure.or(report.failure);
            if let Some(first) = measurement.agent.altered()?.first() {
                report.untrusted = true;
                report.failure = Some(format!(
                    "the staged copy was changed while the benchmark ran ({first}); none of its trials count"
                ));
            }
            if report.untrusted {
                return Ok(report);
            }
        }
        let recorder = recorder.borrow();
        plan = Plan::new(&step.tasks, &common.conditions(measurement, Some(&name)), &recorder.state.trials);
    }
    let (agent, protocol) = (&measurement.agent.fingerprint, measurement.trial_protocol);
    let reports_tokens = measurement.runner.reports_tokens();
    report.void = recorder.borrow().state.trials.is_void(agent, protocol, &step.tasks, reports_tokens);
    Ok(report)
}

/// Trials that one start of the benchmark runs.
struct Group<'a> {
    step: &'a Step,
    run: &'a str,
    /// What the benchmark calls trial 0.
    first: u32,
    request: &'a RunRequest,
}

/// Returns how many trials were taken in, and what broke the run off.
async fn run_group(
    group: &Group<'_>,
    measurement: &Measurement<'_>,
    common: &Common,
    recorder: &RefCell<Recorder<'_>>,
) -> Result<(usize, RunReport)> {
    let request = group.request;
    let total = request.tasks.len() * request.trials as usize;
    fs_err::create_dir_all(&request.scratch)?;
    fs_err::create_dir_all(&common.logs)?;
    let (sink, mut events) = tokio::sync::mpsc::channel(64);
    let mut missing: HashSet<(String, u32)> =
        request.tasks.iter().flat_map(|task| (0..request.trials).map(move |trial| (task.clone(), trial))).collect();
    let run = measurement.runner.run(request, sink, &common.cancel);
    let pump = async {
        let mut kept = Ok(());
        while let Some(event) = events.recv().await {
            match event {
                RunEvent::Started { .. } => {}
                RunEvent::Log { warning, message } => {
                    let recorder = recorder.borrow();
                    let ui = recorder.ui;
                    recorder.progress.suspend(|| if warning { ui.warn(message) } else { ui.detail(message) });
                }
                RunEvent::Finished(result) => {
                    let expected = missing.remove(&(result.task.clone(), result.trial));
                    if expected && let Err(error) = take(group, *result, measurement, common, recorder) {
                        // Pay for nothing that cannot be kept; what has arrived already is still worth a try.
                        common.stop.fire(15);
                        kept = kept.and(Err(error));
                    }
                }
            }
        }
        kept
    };
    let (report, kept) = tokio::join!(run, pump);
    let _ = fs_err::remove_dir_all(&request.scratch);
    kept?;
    let report = report?;
    for (task, trial) in missing {
        let error = report.failure.clone().unwrap_or_else(|| "the benchmark did not report this trial".into());
        let result = TrialResult {
            task,
            trial,
            outcome: Outcome::InfraError,
            reward: None,
            seconds: None,
            tokens_in: None,
            tokens_out: None,
            cost_usd: None,
            error: Some(error),
            trace: None,
            detail: None,
        };
        take(group, result, measurement, common, recorder)?;
    }
    if let Some(failure) = &report.failure {
        let recorder = recorder.borrow();
        let ui = recorder.ui;
        recorder.progress.suspend(|| ui.warn(failure));
    }
    Ok((total, report))
}

/// Writes one finished trial into the ledger and keeps its trace where it may be kept.
fn take(
    group: &Group<'_>,
    mut result: TrialResult,
    measurement: &Measurement<'_>,
    common: &Common,
    recorder: &RefCell<Recorder<'_>>,
) -> Result<()> {
    let step = group.step;
    result.trial += group.first;
    // What is kept is what it counts for, in the trace as in the ledger.
    result.reward = Evidence { outcome: result.outcome, reward: result.reward }.value(common.timeout_policy);
    let no_tokens = result.tokens_in.is_none() && result.tokens_out.is_none() && !result.outcome.is_no_evidence();
    // Before the ledger knows the trial, or a kill in between would leave an older trace for good. A trace that cannot be
    // written is no reason to forget a trial that was paid for.
    let agent = measurement.agent.fingerprint.as_str();
    let traced = match step.split {
        Some(Split::Train) => traces::keep(&common.workspace, agent, &result),
        Some(Split::Test) => Ok(()),
        None => traces::write(&common.private_traces.join(traces::directory_name(&result.task)), agent, &result),
    };
    let trial = Trial {
        run: group.run.into(),
        purpose: step.purpose,
        agent: measurement.agent.fingerprint.as_str().into(),
        protocol: measurement.trial_protocol.into(),
        split: step.split,
        task: result.task.as_str().into(),
        trial: result.trial,
        outcome: result.outcome,
        reward: result.reward,
        seconds: result.seconds,
        tokens_in: result.tokens_in,
        tokens_out: result.tokens_out,
        cost_usd: result.cost_usd,
        error: result.error.as_deref().filter(|_| step.split == Some(Split::Train)).map(Into::into),
        silent: no_tokens && measurement.runner.reports_tokens(),
    };
    let recorder = &mut *recorder.borrow_mut();
    super::session::append(recorder.writer, recorder.state, Event::Trial(trial), Utc::now())?;
    recorder.progress.advance();
    traced
}

/// The error for a run that gave too little evidence to say anything.
pub fn no_evidence(report: &StepReport, evaluated: usize, expected: usize) -> Error {
    let mut error =
        Error::infrastructure(format!("only {evaluated} of {expected} tasks gave evidence; nothing was decided"));
    if report.void {
        error = error.hint("no trial used a single model token: check the model's name, its key and the network.");
    }
    if let Some(failure) = &report.failure {
        error = error.because(anyhow::anyhow!("{failure}"));
    }
    error.hint("do not revert; mend the cause (`autoharness doctor`) and run the same command again: finished trials are kept.")
}

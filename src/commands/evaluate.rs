//! Gets the trials that a step needs: reuses those in the ledger, runs the rest, retries those without evidence, and
//! appends every trial to the ledger the moment it finishes.

use std::time::Instant;

use tracing::info;

use super::dispatch::Dispatcher;
use super::log;
use super::measure;
use super::plan::{Plan, share};
use super::session::Session;
use super::step::{Measurement, Step, StepReport};
use crate::error::{Code, Error, Result};
use crate::model::trial::Split;
use crate::store::event::{Event, RunFinished};
use crate::store::traces;

/// Runs the steps at the same time, sharing the concurrency in proportion to their work.
/// Errors: `Interrupted` after a signal, infrastructure when nothing could be started or the ledger cannot be written. Trials that
/// finished before are in the ledger in any case.
pub(super) async fn evaluate(
    session: &mut Session,
    measurement: &Measurement<'_>,
    steps: &[Step],
) -> Result<Vec<StepReport>> {
    // A listing or a check may have left something in it.
    measurement.agent.refresh()?;
    ready_traces(session, steps)?;
    let plans: Vec<Plan> = steps
        .iter()
        .map(|step| Plan::new(&step.tasks, &measurement.conditions(session, step, None), &session.state.trials))
        .collect();
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
    let untraced: usize = plans.iter().map(|plan| plan.untraced).sum();
    if untraced > 0 {
        session.ui.status(format!("{what}: {untraced} of them only because the disk refused their traces"));
    }
    let shares = share(measurement.concurrency, &work);
    for ((step, plan), share) in steps.iter().zip(&plans).zip(&shares) {
        let (name, split) = (step.purpose.as_str(), step.split.map(Split::as_str));
        let (to_run, reused, tasks) = (plan.count(), plan.reused, step.tasks.len());
        info!(step = name, split, tasks, to_run, reused, concurrency = share, fresh = measurement.fresh, "step began");
    }
    let began = Instant::now();
    let base = session.writer.tip().next_seq;
    let names = run_names(base, steps);
    let ended = Dispatcher::new(session, measurement, &what, steps, &names, plans, &shares).run().await;
    let synced = session.writer.sync();
    let changed = if total > 0 { measure::data_change(session, measurement.data) } else { None };
    let (mut reports, broken_off) = match ended {
        Ok(reports) => (reports, None),
        Err(error) if changed.is_some() => (vec![StepReport::default(); steps.len()], Some(error)),
        Err(error) => return Err(interrupted(session, measurement, error)),
    };
    synced?;
    let baseline = steps.iter().filter(|step| step.purpose.is_baseline()).flat_map(|step| step.tasks.clone());
    let tokenless = session.state.trials.is_tokenless(
        &measurement.agent.fingerprint,
        measurement.trial_protocol,
        &baseline.collect::<Vec<_>>(),
        measurement.runner.reports_tokens(),
    );
    for ((step, name), report) in steps.iter().zip(names).zip(&mut reports) {
        report.void |= tokenless;
        if changed.is_some() && (report.run > 0 || broken_off.is_some()) {
            (report.untrusted, report.failure) = (true, changed.clone());
        }
        let StepReport { run, reused, ended, failure, void, untrusted } = report;
        let (failed, ended) = (failure.is_some(), ended.counts());
        let seconds = log::seconds(began);
        info!(step = step.purpose.as_str(), run, reused, ?ended, failed, void, untrusted, seconds, "step ended");
        session.append(Event::RunFinished(finished(measurement, step, name, report, tokenless)))?;
    }
    match changed {
        None => Ok(reports),
        Some(changed) => Err(on_changed_data(session, measurement, changed, broken_off)),
    }
}

/// The error of a run on data that changed meanwhile. Whatever else happened to the run, nothing of it counts.
fn on_changed_data(
    session: &Session,
    measurement: &Measurement<'_>,
    changed: String,
    broken_off: Option<Error>,
) -> Error {
    let error = match measurement.cancel.signal() {
        Some(signal) => {
            session.ui.warn(changed);
            Error::interrupted(signal)
        }
        None => {
            if let Some(error) = broken_off {
                session.ui.warn(error);
            }
            Error::infrastructure(changed).code(Code::DataChanged)
        }
    };
    error.hint("do not revert; restore the data, then run the same command again: it runs these trials again.")
}

/// The end of a step's run.
fn finished(
    measurement: &Measurement<'_>,
    step: &Step,
    run: String,
    report: &StepReport,
    tokenless: bool,
) -> RunFinished {
    RunFinished {
        run,
        purpose: step.purpose,
        agent: measurement.agent.fingerprint.clone(),
        protocol: measurement.trial_protocol.to_string(),
        split: step.split,
        tasks: step.tasks.clone(),
        fresh: measurement.fresh,
        run_trials: report.run,
        reused_trials: report.reused,
        failure: report.failure.clone(),
        fence: measurement.runner.fence().map(|layers| layers.held.clone()).unwrap_or_default(),
        void: report.void || report.untrusted,
        tokenless,
    }
}

/// The error of a run that broke off, with what the same command would do.
fn interrupted(session: &Session, measurement: &Measurement<'_>, error: Error) -> Error {
    // `--fresh` reuses nothing, not even what the run before it left.
    let kept = if session.is_for_reading {
        "nothing of this run is kept."
    } else if measurement.fresh {
        "finished trials are in the ledger. The same command runs all of them again; without --fresh it would run only \
         those without evidence."
    } else {
        "finished trials are in the ledger: the same command again runs only the others."
    };
    match measurement.cancel.signal() {
        Some(signal) => Error::interrupted(signal).hint(kept),
        None => error.hint(kept),
    }
}

/// Before anything is paid for, writes what an earlier command could not write into the workspace, and makes sure that no
/// link leads new traces elsewhere.
fn ready_traces(session: &Session, steps: &[Step]) -> Result<()> {
    let train: Vec<&Step> = steps.iter().filter(|step| step.split == Some(Split::Train)).collect();
    if train.is_empty() {
        return Ok(());
    }
    let workspace = session.paths.workspace();
    traces::refuse_links(&workspace, train.iter().flat_map(|step| &step.tasks))?;
    let (pending, committed) = (session.paths.pending_traces(), session.state.summary.recorded_agent.as_deref());
    traces::publish_pending(&pending, &workspace, committed)
        .map_err(|error| error.hint("traces of trials that ended are kept aside until they can be written there."))
}

/// Names the steps' runs so that they are unique in the ledger, and safe as file names.
fn run_names(seq: u64, steps: &[Step]) -> Vec<String> {
    let alone = |step: &Step| steps.iter().filter(|other| other.purpose == step.purpose).count() == 1;
    let split = |step: &Step| step.split.filter(|_| !alone(step)).map_or_else(String::new, |split| format!("-{split}"));
    steps.iter().map(|step| format!("run-{seq:06}-{}{}", step.purpose.as_str(), split(step))).collect()
}

/// The error for a run that gave too little evidence to say anything.
pub(super) fn no_evidence(report: &StepReport, evaluated: usize, expected: usize) -> Error {
    let what = match evaluated < expected {
        true => format!("only {evaluated} of {expected} tasks gave evidence"),
        false => "the answer hangs on trials that gave no evidence".into(),
    };
    let mut error = Error::infrastructure(format!("{what}; nothing was decided")).code(Code::NoEvidence);
    if report.void {
        error = error.hint("no trial used a single model token: check the model's name, its key and the network.");
    }
    if let Some(failure) = &report.failure {
        error = error.because(anyhow::anyhow!("{failure}"));
    }
    let kept = if report.untrusted { "none of its trials count" } else { "finished trials are kept" };
    error.hint(format!("do not revert; fix the cause (`autoharness doctor`) and run the same command again: {kept}."))
}

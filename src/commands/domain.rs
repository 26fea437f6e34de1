//! `benchmark --domain`: the agent on another domain of tau-bench than the configured one, to see whether an edit carries
//! over. Such a run is only for reading: it is no evidence for this experiment, so it leaves nothing in the ledger, the
//! views or the traces.

use serde_json::json;

use super::agent;
use super::measure;
use super::session::Session;
use super::start::{self, Batch, Ended, Order, Start};
use crate::benchmarks::runner::RunEvent;
use crate::cli::BenchmarkArgs;
use crate::config::Config;
use crate::error::{Code, EXIT_OK, Error, Result};
use crate::guard::BaseTree;
use crate::model::score::{Rewards, passes, task_reward};
use crate::model::trial::{Split, TrialResult, show};
use crate::process::signals::Cancel;

/// Runs the agent on another domain and prints what it scores there.
/// Errors: usage for wrong tasks; infrastructure when too few trials gave evidence.
pub(super) async fn run(
    session: &mut Session,
    domain: &str,
    config: Config,
    args: &BenchmarkArgs,
    base: &BaseTree,
    cancel: &Cancel,
) -> Result<i32> {
    if args.reveal_held_out {
        return Err(Error::usage("--reveal-held-out is for the configured domain: looks are counted in its ledger"));
    }
    // In memory only: everything below sees the other domain, and nothing is written.
    session.config = config;
    session.require_surroundings()?;
    let agent = agent::from_disk(session, base)?;
    let runner = measure::runner(session, base, cancel).await?;
    if let Some(failure) = agent::preflight(session, &agent, runner.as_ref(), Some(base), cancel).await? {
        return Err(agent::refused(&failure));
    }
    let (config, ui) = (&session.config, &session.ui);
    fs_err::create_dir_all(session.paths.logs())?;
    let known = runner.tasks(&agent.staging, &session.paths.logs().join("list.log"), cancel).await?;
    // In a domain without its own split everything is train: nothing is held out.
    let has = |split: Option<Split>| split.unwrap_or(Split::Train) == args.split;
    let mut tasks: Vec<String> = known.tasks.into_iter().filter(|task| has(task.split)).map(|task| task.id).collect();
    tasks.sort();
    if !args.task_ids.is_empty() {
        if args.split == Split::Test {
            return Err(Error::usage("the hold-out is run as a whole: a subset would reveal single tasks")
                .code(Code::HoldOutSubset));
        }
        if let Some(unknown) = args.task_ids.iter().find(|task| tasks.binary_search(task).is_err()) {
            return Err(Error::usage(format!("{domain} has no {} task `{}`", args.split, show(unknown)))
                .code(Code::UnknownTask));
        }
        tasks.retain(|task| args.task_ids.contains(task));
    }
    if tasks.is_empty() {
        return Err(Error::usage(format!("{domain} has no {} task", args.split)));
    }
    ui.status(format!(
        "{domain}: running {} trials; this is not the configured domain, so nothing of it is recorded",
        tasks.len() * config.trials as usize
    ));
    let batch = Batch { first: 0, trials: config.trials, tasks: tasks.clone() };
    let order = Order {
        id: format!("domain-{}", std::process::id()),
        batch,
        split: Some(args.split),
        concurrency: args.in_flight.or(config.max_concurrency),
        keep_traces: false,
        keep_log: false,
    };
    agent.refresh()?;
    let (mut start, request) = Start::stage(session, &agent, order)?;
    let mut progress = ui.progress(domain, start.total);
    let mut trials: Vec<TrialResult> = Vec::new();
    let ended = start::run(runner.as_ref(), &request, cancel, async |event| match event {
        RunEvent::Started { .. } => {}
        RunEvent::Log { warning, message } => start::tell(ui, &progress, warning, message),
        RunEvent::Finished(result) => {
            progress.advance();
            trials.extend(start.owed(*result));
        }
    })
    .await;
    runner.close().await;
    drop(progress);
    let Ended { report, unreported: _, altered } = start.end(ended, None)?;
    for failure in report.failure.iter().chain(&altered) {
        ui.warn(failure);
    }
    if report.untrusted || altered.is_some() {
        return Err(Error::infrastructure("none of this run's trials count").code(Code::NoEvidence));
    }
    let reward = |task: &String| {
        let evidence = trials.iter().filter(|trial| trial.task == *task).map(TrialResult::evidence);
        task_reward(evidence, config.scoring())
    };
    let rewards = Rewards(tasks.iter().map(|task| (task.clone(), reward(task))).collect());
    let score = rewards.score();
    if args.split == Split::Train {
        for (task, reward) in &rewards.0 {
            ui.json(
                &json!({"type": "task", "domain": domain, "task": task, "reward": reward, "passed": passes(*reward)}),
            );
            if !passes(*reward) {
                let reward = reward.map_or_else(|| "no evidence".into(), |reward| format!("{reward:.2}"));
                ui.line(format!("failed  {reward}  {}", show(task)));
            }
        }
    }
    let mean = score.mean.map_or_else(|| "-".into(), |mean| format!("{mean:.4}"));
    ui.line(format!(
        "benchmark: {domain} {} score={mean} passed={} evaluated={} expected={}",
        args.split, score.passed, score.evaluated, score.expected
    ));
    ui.json(&json!({
        "type": "benchmark", "domain": domain, "split": args.split, "score": score.mean, "passed": score.passed,
        "evaluated": score.evaluated, "expected": score.expected,
    }));
    if score.is_enough(config.min_evidence) {
        Ok(EXIT_OK)
    } else {
        let (evaluated, expected) = (score.evaluated, score.expected);
        Err(Error::infrastructure(format!("only {evaluated} of {expected} tasks gave evidence"))
            .code(Code::NoEvidence)
            .hint("`autoharness doctor` finds what is missing; the same command runs them all again."))
    }
}

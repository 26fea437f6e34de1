//! `benchmark --domain`: the agent on another domain of tau-bench than the configured one, to see whether an edit carries
//! over. Such a run is for reading: it is no evidence for this experiment, so the ledger, the views and the traces
//! do not hear of it.

use serde_json::json;
use tokio::sync::mpsc;

use super::agent;
use super::measure;
use super::session::Session;
use crate::benchmarks::runner::{RunEvent, RunRequest};
use crate::cli::BenchmarkArgs;
use crate::config::Config;
use crate::error::{Code, EXIT_OK, Error, Result};
use crate::guard::BaseTree;
use crate::model::score::{Evidence, Rewards, passes, task_reward};
use crate::model::trial::{Split, show};
use crate::process::signals::Cancel;

/// Runs the agent on another domain and prints what it scores there.
///
/// # Errors
/// Usage for wrong tasks; infrastructure when too few trials gave evidence.
pub async fn run(
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
    // A domain without a split of its own is train as a whole: nothing is held out.
    let has = |split: Option<Split>| split.unwrap_or(Split::Train) == args.split;
    let mut tasks: Vec<String> = known.tasks.into_iter().filter(|task| has(task.split)).map(|task| task.id).collect();
    tasks.sort();
    if !args.task_ids.is_empty() {
        if args.split == Split::Test {
            return Err(Error::usage("the hold-out is run as a whole: a subset of it would tell about single tasks")
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
    let name = format!("domain-{}", std::process::id());
    let scratch = session.paths.scratch();
    fs_err::create_dir_all(scratch.join(&name))?;
    agent.refresh()?;
    let copy = agent.copy(session.paths.copies().join(&name))?;
    let request = RunRequest {
        run: name.clone(),
        tasks: tasks.clone(),
        trials: config.trials,
        split: Some(args.split),
        concurrency: args.concurrency.unwrap_or(config.max_concurrency),
        seed: config.seed,
        timeout_s: config.per_task_timeout,
        keep_traces: false,
        staging: copy.staging.clone(),
        agent_file: copy.file.clone(),
        scratch: scratch.join(&name),
        log: session.paths.logs().join(format!("{name}.log")),
    };
    let (sink, mut events) = mpsc::channel(64);
    let mut progress = ui.progress(domain, tasks.len() * config.trials as usize);
    let mut ended: Vec<(String, Evidence)> = Vec::new();
    let listen = async {
        while let Some(event) = events.recv().await {
            match event {
                RunEvent::Started { .. } => {}
                RunEvent::Log { warning, message } => {
                    progress.suspend(|| if warning { ui.warn(message) } else { ui.detail(message) });
                }
                RunEvent::Finished(result) => {
                    progress.advance();
                    ended.push((result.task, Evidence { outcome: result.outcome, reward: result.reward }));
                }
            }
        }
    };
    let (report, ()) = tokio::join!(runner.run(&request, sink, cancel), listen);
    runner.close().await;
    drop(progress);
    let _ = fs_err::remove_dir_all(&request.scratch);
    let _ = fs_err::remove_file(&request.log);
    let report = report?;
    if let Some(failure) = &report.failure {
        ui.warn(failure);
    }
    if report.untrusted {
        return Err(Error::infrastructure("none of this run's trials count").code(Code::NoEvidence));
    }
    let reward = |task: &String| {
        let evidence = ended.iter().filter(|(ended, _)| ended == task).map(|(_, evidence)| *evidence);
        task_reward(evidence, config.trials, config.timeout_policy)
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

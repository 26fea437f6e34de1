//! `benchmark --domain`: the agent on another domain of the benchmark than the configured one, to see whether an edit carries
//! over. Such a run is only for reading: it is no evidence for this experiment, so it leaves nothing in the ledger, the
//! views or the traces.

use serde_json::json;

use super::agent;
use super::evaluate::evaluate;
use super::measure;
use super::session::Session;
use super::step::{Measurement, Step};
use crate::cli::BenchmarkArgs;
use crate::config::Config;
use crate::error::{Code, EXIT_OK, Error, Result};
use crate::guard::BaseTree;
use crate::model::score::passes;
use crate::model::trial::{Split, show};
use crate::process::signals::Cancel;
use crate::store::event::Purpose;

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
    session.ui.status(format!("{domain} is not the configured domain: nothing of this run is recorded"));
    session.read_only();
    let data = measure::data_digests(session)?;
    let measurement = Measurement {
        runner: runner.as_ref(),
        agent: &agent,
        trial_protocol: domain,
        data: &data,
        concurrency: args.in_flight.or(session.config.max_concurrency),
        fresh: false,
        cancel,
    };
    let step = Step::whole(&session.config, Purpose::Benchmark, Some(args.split), tasks.clone());
    let reports = evaluate(session, &measurement, &[step]).await;
    runner.close().await;
    if reports?.iter().any(|report| report.untrusted) {
        return Err(Error::infrastructure("none of this run's trials count").code(Code::NoEvidence));
    }
    let (config, ui) = (&session.config, &session.ui);
    let rewards = session.state.trials.rewards(&agent.fingerprint, domain, &tasks, config.scoring());
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

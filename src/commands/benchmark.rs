//! `benchmark`: run tasks, keep the traces of train, print what the coding agent needs next.

use serde_json::json;

use super::agent;
use super::domain;
use super::evaluate::{evaluate, no_evidence};
use super::experiment::Experiment;
use super::flips;
use super::measure;
use super::missing::unknown_task;
use super::outcomes;
use super::session::{Session, command_line};
use super::step::{Measurement, Step};
use crate::benchmarks;
use crate::cli::{BenchmarkArgs, Global};
use crate::error::{Code, EXIT_OK, Error, Result};
use crate::guard::{BaseTree, Editable, scan, violations};
use crate::model::score::{Rewards, passes};
use crate::model::trial::{Split, show};
use crate::report::flips::Flips;
use crate::store::event::{Event, Purpose, Revealed};
use crate::store::traces;
use crate::store::trials::apart;
use crate::ui::Ui;

/// The number of failing tasks shown; the rest are only counted.
const SHOWN: usize = 20;

/// The number of edited files named; the rest are only counted.
const SHOWN_EDITS: usize = 5;

/// Errors: usage for wrong tasks or state; infrastructure when too few trials gave evidence.
pub(super) async fn run(args: &BenchmarkArgs, global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let (mut session, prepared, cancel) = measure::open(experiment)?;
    if let Some(domain) = &args.domain
        && let Some(config) = benchmarks::of(&session.config).with_domain(&session.config, domain)?
    {
        let base = session.repo.base_tree(session.state.summary.base.as_deref().unwrap_or(&prepared.base))?;
        return domain::run(&mut session, domain, config, args, &base, &cancel).await;
    }
    if args.apart && args.split != Split::Train {
        return Err(Error::usage("--apart is for train: edits are not chosen by the hold-out")
            .hint("leave out --apart, or --split."));
    }
    let tasks = select(args, &prepared.split)?;
    session.require_surroundings()?;
    let base = session.repo.base_tree(session.state.summary.base.as_deref().unwrap_or(&prepared.base))?;
    warn_of_edits(&session, &base);
    let agent = agent::from_disk(&session, &base)?;
    let runner = measure::runner(&session, &base, &cancel).await?;
    if let Some(failure) = agent::preflight(&session, &agent, runner.as_ref(), Some(&base), &cancel).await? {
        return Err(agent::refused(&failure));
    }
    let data = measure::data_digests(&session)?;
    let protocol = measure::trial_protocol(&session, runner.as_ref(), &base, &data)?;
    let trial_protocol = if args.apart { apart(&protocol) } else { protocol.clone() };
    let measurement = Measurement {
        runner: runner.as_ref(),
        agent: &agent,
        trial_protocol: &trial_protocol,
        data: &data,
        concurrency: args.in_flight.or(session.config.max_concurrency),
        fresh: args.fresh,
        cancel: &cancel,
    };
    let step = Step::whole(&session.config, Purpose::Benchmark, Some(args.split), tasks.clone());
    let reports = async {
        measure::require_same_conditions(&prepared, &protocol, &data)?;
        evaluate(&mut session, &measurement, &[step]).await
    }
    .await;
    runner.close().await;
    let report = reports?.into_iter().next().unwrap_or_default();
    let rewards = session.state.trials.rewards(&agent.fingerprint, &trial_protocol, &tasks, session.config.scoring());
    if args.reveal_held_out && args.split == Split::Test {
        ui.warn(
            "showing per-task results of the hold-out. This is for humans: what a coding agent learns from them is \
                 no longer held out. The look is written to the ledger.",
        );
        session.append(Event::Revealed(Revealed { command: command_line(), tasks: tasks.len() }))?;
    }
    session.finish()?;
    if args.split == Split::Train && report.reused > 0 {
        warn_of_other_traces(&session, &agent.fingerprint, &rewards);
    }
    let incumbent = agent::fingerprint(&session, &base)?;
    let flips = (args.split == Split::Train)
        .then(|| flips::known(&session, &incumbent, &agent.fingerprint, &protocol, &prepared.split.train))
        .flatten();
    print(&session, args, &agent.fingerprint, &rewards, flips.as_ref(), &|| {
        outcomes::tell(&session, args.split.as_str(), &agent.fingerprint, &trial_protocol, &tasks);
    });
    let score = rewards.score();
    if score.is_enough(session.config.min_evidence) {
        Ok(EXIT_OK)
    } else {
        Err(no_evidence(&report, score.evaluated, score.expected))
    }
}

/// Only committed files are scored: an edit to anything but the agent does not affect the run.
fn warn_of_edits(session: &Session, base: &BaseTree) {
    let changes = scan(&session.repo, base).and_then(|changes| Ok((changes, Editable::new(&session.config.editable)?)));
    // If they cannot be compared, the gate will say so.
    let Ok((changes, editable)) = changes else { return };
    let found = violations(&changes, &editable);
    if found.is_empty() {
        return;
    }
    let shown: Vec<String> = found.iter().take(SHOWN_EDITS).map(ToString::to_string).collect();
    let more = found.len().saturating_sub(SHOWN_EDITS);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    session.ui.warn(format!(
        "what runs is commit {} with your agent file, without these changes: {}{more}",
        session.repo.short_id(base.commit()).unwrap_or_else(|_| base.commit().to_string()),
        shown.join(", ")
    ));
}

/// Trials that were already in the ledger did not run again, so the newest trace of their task may be of a later,
/// rejected agent.
fn warn_of_other_traces(session: &Session, agent: &str, rewards: &Rewards) {
    let workspace = session.paths.workspace();
    let failing = rewards.0.iter().filter(|(_, reward)| !passes(**reward)).map(|(task, _)| task);
    let count = failing.filter(|task| traces::place_of(&workspace, task, agent).is_none()).count();
    if count > 0 {
        session.ui.warn(format!(
            "the traces of {count} failing tasks are of another agent (`agent` in their result.json), or missing"
        ));
        session.ui.hint(
            "`autoharness benchmark --fresh --task-ids ID` runs a task again: its new trace becomes the latest, and its \
             new result counts, unless it gives no evidence.",
        );
    }
}

/// The tasks to run, sorted and without repetition.
fn select(args: &BenchmarkArgs, split: &crate::model::split::TaskSplit) -> Result<Vec<String>> {
    if args.task_ids.is_empty() {
        let tasks = split.tasks(args.split).to_vec();
        return if tasks.is_empty() {
            Err(Error::usage(format!("the {} split has no tasks", args.split)))
        } else {
            Ok(tasks)
        };
    }
    if args.split == Split::Test && !args.reveal_held_out {
        return Err(Error::usage("the hold-out is run as a whole: a subset would reveal single tasks")
            .code(Code::HoldOutSubset)
            .hint("leave out --task-ids; --reveal-held-out is for humans, and is written to the ledger."));
    }
    let mut tasks = args.task_ids.clone();
    tasks.sort();
    tasks.dedup();
    let known = split.tasks(args.split);
    if let Some(unknown) = tasks.iter().find(|task| known.binary_search(task).is_err()) {
        return Err(unknown_task(unknown, args.split, known));
    }
    Ok(tasks)
}

fn print(
    session: &Session,
    args: &BenchmarkArgs,
    agent: &str,
    rewards: &Rewards,
    flips: Option<&Flips>,
    tell_outcomes: &dyn Fn(),
) {
    let (ui, workspace) = (&session.ui, session.paths.workspace());
    let score = rewards.score();
    let per_task = args.split == Split::Train || args.reveal_held_out;
    if per_task {
        for (task, reward) in &rewards.0 {
            ui.json(&json!({"type": "task", "task": task, "reward": reward, "passed": passes(*reward)}));
        }
        let failing: Vec<_> = rewards.0.iter().filter(|(_, reward)| !passes(**reward)).collect();
        for (task, reward) in failing.iter().take(SHOWN) {
            let reward = reward.map_or_else(|| "no evidence".into(), |reward| format!("{reward:.2}"));
            let trace = match args.split {
                Split::Train => {
                    let place = traces::place_of(&workspace, task, agent).unwrap_or_else(|| traces::latest(task));
                    format!("  workspace/{}", place.display())
                }
                Split::Test => String::new(),
            };
            ui.line(format!("failed  {reward}  {}{trace}", show(task)));
        }
        if failing.len() > SHOWN {
            ui.line(format!("and {} more failing tasks (workspace/train_results.json)", failing.len() - SHOWN));
        }
    }
    flips::tell(ui, flips);
    tell_outcomes();
    let mean = score.mean.map_or_else(|| "-".into(), |mean| format!("{mean:.4}"));
    let name = if args.split == session.config.gate_split { "val_score" } else { "train_score" };
    ui.line(format!(
        "benchmark: {} {name}={mean} passed={} evaluated={} expected={}",
        args.split, score.passed, score.evaluated, score.expected
    ));
    let mut words = json!({
        "type": "benchmark",
        "split": args.split,
        name: score.mean,
        "passed": score.passed,
        "evaluated": score.evaluated,
        "expected": score.expected,
    });
    if let Some(flips) = flips {
        words["flips"] = flips.as_json();
    }
    ui.json(&words);
}

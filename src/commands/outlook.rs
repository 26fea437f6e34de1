//! What `prepare` says before any money is spent on a baseline: whether the benchmark works, how far its gate can be believed, what
//! it may take.

use super::agent::StagedAgent;
use super::session::Session;
use crate::benchmarks::runner::TaskInfo;
use crate::benchmarks::{self, Rehearsal};
use crate::error::Result;
use crate::files;
use crate::model::simulate::passes_by_chance;
use crate::model::trial::Split;
use crate::process::signals::Cancel;
use crate::provision::{self, Cost, Finding, Level};
use crate::templates;

/// What the benchmark can try for nothing.
pub(super) async fn rehearse(session: &Session, agent: &StagedAgent, cancel: &Cancel) -> Result<()> {
    let supervisor = session.supervisor()?;
    let benchmark = benchmarks::of(&session.config);
    let template = templates::agent_template(&session.paths.root, benchmark).unwrap_or_default();
    let is_template = files::read(&agent.file, files::LARGEST)? == template.as_bytes();
    let rehearsal = Rehearsal { staging: &agent.staging, is_template };
    let ground = session.ground(&supervisor, cancel);
    let finding = benchmark.rehearse(&ground, &rehearsal, &|message| session.ui.status(message)).await?;
    match finding {
        Some(Finding { level: Level::Ok, detail, .. }) => session.ui.status(format!("canary: {detail}")),
        Some(Finding { detail, fix, .. }) => {
            session.ui.warn(format!("canary: {detail}"));
            fix.into_iter().for_each(|fix| session.ui.hint(fix));
        }
        None => {}
    }
    Ok(())
}

/// How far a gate with this many tasks can be believed, in one line, before any money is spent.
pub(super) fn forecast(session: &Session, tasks: usize) -> String {
    let (trials, alpha) = (session.config.trials, session.config.alpha);
    let tenths = (10.0 * passes_by_chance(tasks, trials)).round();
    let often =
        if (1.0 / alpha).fract() < 1e-9 { format!("1 in {:.0}", 1.0 / alpha) } else { format!("{alpha} of all") };
    let split = if session.config.gate_split == Split::Train { "train" } else { "hold-out" };
    let (s, each) =
        (if tasks == 1 { "" } else { "s" }, if trials == 1 { "1 trial".into() } else { format!("{trials} trials") });
    format!(
        "forecast: with {tasks} {split} task{s} and {each}, an edit that changes nothing passes about {tenths:.0} times in 10 \
         under `best`, unless trials are never noisy; under `paired` at most {often}. `autoharness calibrate` measures it"
    )
}

/// What the baseline may take, in one line.
pub(super) fn expectation<'t>(session: &Session, tasks: impl Iterator<Item = &'t TaskInfo>) -> String {
    let (config, spent) = (&session.config, &session.state.summary.spent);
    let cost = match &config.agent_model {
        None => Cost::Free,
        Some(_) if spent.cost_usd > 0.0 => Cost::PerTrial(spent.cost_usd / spent.trials.max(1) as f64),
        Some(_) => Cost::Unknown,
    };
    let limits: Vec<Option<f64>> = tasks.map(|task| config.per_task_timeout.or(task.limit_s)).collect();
    provision::estimate(config.trials, config.max_concurrency, &limits, cost)
}

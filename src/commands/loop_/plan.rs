//! What an iteration is likely to take, from what the ledger holds: said before the first cent.

use std::collections::BTreeSet;

use serde_json::json;

use crate::config::Config;
use crate::drive::budget::Budget;
use crate::drive::drivers::Driver;
use crate::drive::spending::Spending;
use crate::error::{EXIT_OK, Result};
use crate::model::gate::GateRule;
use crate::model::trial::Split;
use crate::store::state::Summary;
use crate::ui::{Ui, duration};

/// Trials that a gate may run: suite, hold-out and what waits for promotion.
pub(super) fn gate_trials(summary: &Summary) -> u64 {
    let (train, holdout) = gate_tasks(summary);
    (train.len() + holdout.len()) as u64 * u64::from(summary.counting().0)
}

/// The tasks that a gate may run: of train, where they are not those that give the score, and those.
pub(super) fn gate_tasks(summary: &Summary) -> (Vec<String>, Vec<String>) {
    let Some(prepared) = &summary.prepared else { return Default::default() };
    let suite = summary.suite();
    let train: BTreeSet<String> = match prepared.gate_split() {
        Split::Train => BTreeSet::new(),
        Split::Test if prepared.config["gate_rule"] == GateRule::Paired.as_str() => {
            prepared.split.train.iter().cloned().collect()
        }
        Split::Test => summary.waiting(&suite).into_iter().chain(suite).collect(),
    };
    (train.into_iter().collect(), prepared.split.tasks(prepared.gate_split()).to_vec())
}

/// What a gate takes.
pub(super) fn gate_cost(summary: &Summary) -> Spending {
    cost(summary, gate_trials(summary))
}

/// What so many trials take, by the mean of all trials so far.
pub(super) fn cost(summary: &Summary, trials: u64) -> Spending {
    let spent = &summary.spent;
    let share = trials as f64 / spent.trials.max(1) as f64;
    Spending { usd: spent.cost_usd * share, tokens: (spent.tokens as f64 * share) as u64, trials, unpriced: 0 }
}

/// Prints plan and estimate, and begins nothing.
pub(super) fn print(
    ui: &Ui,
    config: &Config,
    summary: &Summary,
    driver: &Driver,
    budget: &Budget,
    allowance: u64,
) -> Result<i32> {
    let (trials, spent, usage) = (gate_trials(summary), &summary.spent, &summary.proposals.usage);
    let of_gate = seconds(config, summary, trials);
    let sessions = f64::from(usage.sessions);
    let of_session = (usage.sessions > 0).then(|| usage.seconds / sessions);
    let priced = usage.sessions - usage.unpriced.min(usage.sessions);
    let session_usd = (priced > 0).then(|| usage.cost_usd / f64::from(priced));
    let gate_usd = (spent.cost_usd > 0.0).then(|| gate_cost(summary).usd);
    let ends = ends(budget, Some(budget.patience)).join(", or ");
    let dollars = |known: Option<f64>| known.map_or_else(|| "dollars unknown".into(), |usd| format!("about ${usd:.2}"));
    ui.line(format!(
        "agent       {}, one session of at most {}",
        driver.name(),
        duration(f64::from(config.loop_timeout))
    ));
    ui.line(format!("edits       {}", config.editable.join(", ")));
    ui.line(format!("ends after  {ends}"));
    let time = of_session.map_or_else(|| "time unknown".into(), |seconds| format!("about {}", duration(seconds)));
    let tries = if allowance == 0 { String::new() } else { format!(", up to {allowance} trials of its own") };
    ui.line(format!("session     {time}, {}{tries}", dollars(session_usd)));
    ui.line(format!("gate        up to {trials} trials, about {}, {}", duration(of_gate), dollars(gate_usd)));
    ui.json(&json!({
        "type": "plan", "with": driver.name(), "editable": config.editable, "iterations": budget.iterations,
        "hours": budget.hours, "budget_usd": budget.usd, "budget_trials": budget.trials,
        "budget_tokens": budget.tokens, "patience": budget.patience, "target": budget.target,
        "session_trials": allowance, "session_seconds": of_session, "session_usd": session_usd, "gate_trials": trials, "gate_seconds": of_gate,
        "gate_usd": gate_usd,
    }));
    Ok(EXIT_OK)
}

/// What ends a loop, in words.
pub(super) fn ends(budget: &Budget, patience: Option<u32>) -> Vec<String> {
    [
        budget.iterations.map(|most| format!("{most} iterations")),
        budget.hours.map(|hours| format!("{hours} h")),
        budget.usd.map(|usd| format!("${usd:.2}")),
        budget.trials.map(|trials| format!("{trials} trials")),
        budget.tokens.map(|tokens| format!("{tokens} tokens")),
        budget.target.map(|score| format!("val_score {score}")),
        patience.map(|most| format!("{most} iterations in a row without an accepted edit")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Seconds that so many trials take, by the mean of all trials so far.
pub(super) fn seconds(config: &Config, summary: &Summary, trials: u64) -> f64 {
    let spent = &summary.spent;
    spent.seconds / (spent.trials.max(1) as f64) * trials as f64 / f64::from(config.max_concurrency)
}

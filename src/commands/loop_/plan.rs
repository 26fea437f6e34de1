//! What an iteration is likely to take, estimated from the ledger and shown before the first cent is spent.

use std::collections::BTreeSet;

use serde_json::json;

use crate::config::Config;
use crate::drive::budget::Budget;
use crate::drive::drivers::Driver;
use crate::drive::spending::Spending;
use crate::error::{EXIT_OK, Result};
use crate::model::gate::{GateRule, PairedPolicy};
use crate::model::trial::Split;
use crate::model::usage::in_dollars;
use crate::store::comparison::{again_numbers, promotion_numbers};
use crate::store::summary::Summary;
use crate::ui::{Ui, duration};

/// Trials that one gate runs once on suite, hold-out and promotion candidates.
pub(super) fn look_trials(summary: &Summary) -> u64 {
    let (train, holdout) = gate_tasks(summary);
    (train.len() + holdout.len()) as u64 * u64::from(summary.scoring().trials)
}

/// The tasks that a gate may run: train tasks, unless they give the score, and those that give it.
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

/// What a gate may have to measure.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Tasks of train.
    train: u64,
    /// Tasks of the hold-out.
    hold_out: u64,
    /// Tasks of the suite.
    suite: u64,
    /// Tasks that may join it.
    waiting: u64,
    /// Trials of each, unless something asks for more.
    trials: u32,
}

impl Sizes {
    fn of(summary: &Summary) -> Option<Sizes> {
        let prepared = summary.prepared.as_ref()?;
        let suite = summary.suite();
        Some(Sizes {
            train: prepared.split.train.len() as u64,
            hold_out: prepared.split.tasks(prepared.gate_split()).len() as u64,
            suite: suite.len() as u64,
            waiting: summary.waiting(&suite).len() as u64,
            trials: summary.scoring().trials,
        })
    }

    /// The most trials that a gate runs.
    fn most(&self, paired: Option<&PairedPolicy>) -> u64 {
        let Sizes { train, hold_out, suite, waiting, .. } = *self;
        let trials = u64::from(self.trials);
        let Some(paired) = paired else { return (hold_out + suite + waiting) * trials };
        let of = |numbers: std::ops::Range<u32>| numbers.len() as u64;
        let again = of(promotion_numbers(paired, self.trials));
        // A first look at the candidate, rounds of both agents on the tasks in doubt, and one of them afresh.
        let looks = trials + 2 * u64::from(paired.max_rounds.saturating_sub(1)) + 2 * u64::from(paired.confirm_trials);
        (train + hold_out) * looks + suite * (trials + of(again_numbers())) + waiting * (trials + again)
    }
}

/// Trials of a gate: what gates took so far; before the first one, the most that it may take.
fn gate_trials(config: &Config, summary: &Summary) -> u64 {
    let most = || Sizes::of(summary).map_or(0, |sizes| sizes.most(config.paired().as_ref()));
    summary.gate_trials.mean().unwrap_or_else(most)
}

pub(super) fn gate_cost(config: &Config, summary: &Summary) -> Spending {
    cost(summary, gate_trials(config, summary))
}

/// What this many trials take, by the mean of all trials so far.
pub(super) fn cost(summary: &Summary, trials: u64) -> Spending {
    let spent = &summary.spent;
    let share = trials as f64 / spent.trials.max(1) as f64;
    Spending { usd: spent.dollars().0 * share, tokens: (spent.tokens as f64 * share) as u64, trials, unpriced: 0 }
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
    let (trials, spent, usage) = (gate_trials(config, summary), &summary.spent, &summary.proposals.usage);
    let of_gate = seconds(config, summary, trials);
    let sessions = f64::from(usage.sessions);
    let of_session = (usage.sessions > 0).then(|| usage.seconds / sessions);
    let priced = usage.sessions - usage.unpriced.min(usage.sessions);
    let session_usd = (priced > 0).then(|| usage.cost_usd / f64::from(priced));
    let gate_usd = (spent.cost_usd > 0.0).then(|| gate_cost(config, summary).usd);
    let ends = ends(budget, Some(budget.patience)).join(", or ");
    let dollars = |known: Option<f64>| {
        known.map_or_else(|| "dollars unknown".into(), |known| format!("about {}", in_dollars(known)))
    };
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
    let up_to = if summary.gate_trials.mean().is_some() { "about" } else { "up to" };
    ui.line(format!("gate        {up_to} {trials} trials, about {}, {}", duration(of_gate), dollars(gate_usd)));
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
        budget.usd.map(in_dollars),
        budget.trials.map(|trials| format!("{trials} trials")),
        budget.tokens.map(|tokens| format!("{tokens} tokens")),
        budget.target.map(|score| format!("val_score {score}")),
        patience.map(|most| format!("{most} iterations in a row without an accepted edit")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Seconds that this many trials take, by the mean of all trials so far.
pub(super) fn seconds(config: &Config, summary: &Summary, trials: u64) -> f64 {
    let spent = &summary.spent;
    spent.seconds / (spent.trials.max(1) as f64) * trials as f64 / f64::from(config.max_concurrency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_and_what_is_run_afresh_are_part_of_a_gate() {
        let sizes = Sizes { train: 45, hold_out: 27, suite: 10, waiting: 5, trials: 1 };
        assert_eq!(sizes.most(None), 42);
        let paired = |max_rounds, confirm_trials| PairedPolicy {
            alpha: 0.1,
            max_rounds,
            confirm_trials,
            promote_after: Some(3),
            candidate: None,
        };
        let suite = |policy| sizes.most(Some(&policy)) - 72 * 3;
        assert_eq!(suite(paired(1, 1)), 10 * (1 + again_numbers().len() as u64) + 5 * 3);
        assert_eq!(
            sizes.most(Some(&paired(3, 1))) - sizes.most(Some(&paired(1, 1))),
            72 * 2 * 2,
            "rounds of both agents"
        );
        assert_eq!(sizes.most(Some(&paired(1, 3))) - sizes.most(Some(&paired(1, 1))), 72 * 2 * 2, "both afresh");
    }
}

//! Turns the ledger's trials into the evidence of the rule `paired`. The gate builds it from what it just ran, `verify` from
//! what the ledger holds; both do it here, so that they cannot differ.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::state::State;
use super::trials::{Trials, versus};
use crate::model::gate::PairedPolicy;
use crate::model::paired::{Arm, Pair, Pairs};
use crate::model::score::{Rewards, TimeoutPolicy, passes};
use crate::model::split::TaskSplit;
use crate::model::suite::{KnownTask, TaskHistory};
use crate::model::trial::Split;

/// The first number of trials that are run afresh after an agent was chosen. A configuration asks for at most 100 trials, so
/// these numbers and their seeds are never those that chose it.
const CONFIRM: u32 = 1_000;
/// The same for rounds of a comparison.
const ROUNDS: u32 = 2_000;
/// The same for trials that show whether a failure or a success was chance.
const AGAIN: u32 = 3_000;
/// How often a task of the suite that failed is run again.
const TIMES_AGAIN: u32 = 2;

/// Numbers of the trials that are run afresh.
pub(crate) fn confirm_numbers(count: u32) -> Range<u32> {
    CONFIRM..CONFIRM + count
}

/// Number of the one trial of a round.
pub(crate) fn round_numbers(round: u32) -> Range<u32> {
    ROUNDS + round..ROUNDS + round + 1
}

/// Numbers of the trials that show whether a failure was chance.
pub(crate) fn again_numbers() -> Range<u32> {
    AGAIN..AGAIN + TIMES_AGAIN
}

/// Numbers of the trials that show whether a task that is about to join the suite passed by chance.
pub(crate) fn promotion_numbers(policy: &PairedPolicy, trials: u32) -> Range<u32> {
    AGAIN..AGAIN + policy.promote_after.map_or(TIMES_AGAIN, |times| times.saturating_sub(trials))
}

/// Where the trials of one comparison are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sides<'a> {
    /// Fingerprint of the agent that is judged.
    pub candidate: &'a str,
    /// Fingerprint of the agent to beat.
    pub incumbent: &'a str,
    /// True when nothing chose the incumbent, because the experiment began with it. Then its first trials are as good as fresh ones.
    pub is_first: bool,
    /// Fingerprint of what one trial depends on.
    pub protocol: &'a str,
    /// What an agent timeout counts for.
    pub timeouts: TimeoutPolicy,
    /// Trials of each task as configured.
    pub trials: u32,
    /// Trials afresh of each task as configured.
    pub confirm_trials: u32,
    pub max_rounds: u32,
}

/// Rounds and tasks that this command has already run: a trial that gave no evidence then is not run once more.
pub(crate) type AlreadyRun = BTreeSet<(u32, String)>;

impl Sides<'_> {
    /// How many trials afresh the incumbent needs of each task.
    pub(crate) fn incumbent_fresh(&self) -> u32 {
        if self.is_first { self.confirm_trials.saturating_sub(self.trials) } else { self.confirm_trials }
    }

    /// Both agents on every task of the split. Trials without evidence count as not run, except where they were tried.
    pub(crate) fn pairs(&self, known: &Trials, split: &TaskSplit, tried: &AlreadyRun) -> Pairs {
        let both = [Split::Train, Split::Test];
        let tasks = both.iter().flat_map(|part| split.tasks(*part).iter().map(|task| (*part, task)));
        tasks.map(|(part, task)| (task.clone(), self.pair(known, part, task, tried))).collect()
    }

    fn pair(&self, known: &Trials, split: Split, task: &str, tried: &AlreadyRun) -> Pair {
        let values = |agent: &str, protocol: &str, numbers| known.values(agent, protocol, task, numbers, self.timeouts);
        let evidence = |values: Vec<Option<f64>>| values.into_iter().filter(Option::is_some).collect::<Vec<_>>();
        let mut first = evidence(values(self.candidate, self.protocol, 0..self.trials));
        let began = if split == Split::Train { 0 } else { 1 };
        if first.is_empty() && tried.contains(&(began, task.to_string())) {
            first.push(None);
        }
        let own = if self.is_first { values(self.incumbent, self.protocol, 0..self.trials) } else { Vec::new() };
        let fresh = values(self.incumbent, self.protocol, confirm_numbers(self.confirm_trials));
        let mut pair = Pair {
            split,
            candidate: Arm { first, rounds: Vec::new() },
            incumbent: Arm { first: evidence([own, fresh].concat()), rounds: Vec::new() },
        };
        for round in 2..=self.max_rounds {
            let of = |agent: &str, other: &str| {
                let found = evidence(values(agent, &versus(self.protocol, other), round_numbers(round)));
                found.first().copied().or_else(|| tried.contains(&(round, task.to_string())).then_some(None))
            };
            let (Some(candidate), Some(incumbent)) =
                (of(self.candidate, self.incumbent), of(self.incumbent, self.candidate))
            else {
                break;
            };
            pair.candidate.rounds.push(candidate);
            pair.incumbent.rounds.push(incumbent);
        }
        pair
    }
}

/// What the suite's tasks earned at best: a task is broken when it fails each time.
pub(crate) fn at_best(known: &Trials, sides: &Sides<'_>, tasks: &[String]) -> Rewards {
    chance(known, sides, tasks, again_numbers(), |values| values.into_iter().reduce(f64::max))
}

/// What tasks that are to join the suite earned at worst: they join it when they pass each time. A task that was not run
/// again keeps what it earned.
pub(crate) fn at_worst(known: &Trials, sides: &Sides<'_>, tasks: &[String], again: Range<u32>) -> Rewards {
    chance(known, sides, tasks, again, |values| values.into_iter().reduce(f64::min))
}

fn chance(
    known: &Trials,
    sides: &Sides<'_>,
    tasks: &[String],
    again: Range<u32>,
    pick: impl Fn(Vec<f64>) -> Option<f64>,
) -> Rewards {
    let (agent, protocol) = (sides.candidate, sides.protocol);
    let reward = |task: &String| {
        let numbers = [0..sides.trials, again.clone()];
        let values =
            numbers.into_iter().flat_map(|numbers| known.values(agent, protocol, task, numbers, sides.timeouts));
        pick(values.flatten().collect())
    };
    Rewards(tasks.iter().map(|task| (task.clone(), reward(task))).collect())
}

/// The means of an agent's trials afresh.
pub(crate) fn confirmed(known: &Trials, sides: &Sides<'_>, tasks: &[String]) -> Rewards {
    let reward = |task: &String| {
        let numbers = confirm_numbers(sides.confirm_trials);
        let values: Vec<f64> = known
            .values(sides.candidate, sides.protocol, task, numbers, sides.timeouts)
            .into_iter()
            .flatten()
            .collect();
        let enough = values.len() * 2 >= sides.confirm_trials as usize && !values.is_empty();
        enough.then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    Rewards(tasks.iter().map(|task| (task.clone(), reward(task))).collect())
}

/// What an agent earned on a task in trials that did not choose it, one by one: for the first agent all of them, for a chosen
/// one those run afresh.
pub(crate) fn unchosen(
    known: &Trials,
    agent: &str,
    is_first: bool,
    protocol: &str,
    task: &str,
    timeouts: TimeoutPolicy,
) -> Vec<f64> {
    let begin = if is_first { 0 } else { CONFIRM };
    known.values(agent, protocol, task, begin..ROUNDS, timeouts).into_iter().flatten().collect()
}

/// How tasks fared with accepted agents since they joined the suite, under one protocol. [`unchosen`] says which trials
/// count.
pub(crate) fn histories(state: &State, of: &WhatCounts<'_>, tasks: &[String]) -> BTreeMap<String, TaskHistory> {
    let history = |task: &String| {
        let newest = state.summary.agents_since_joined(task).into_iter().flat_map(|agent| {
            let is_first = state.summary.first_agent.as_deref() == Some(agent);
            let mut values = unchosen(&state.trials, agent, is_first, of.protocol, task, of.timeouts);
            values.reverse();
            values
        });
        (task.clone(), TaskHistory::of(newest.map(|reward| passes(Some(reward)))))
    };
    tasks.iter().map(history).collect()
}

/// What is known of the suite's tasks when a candidate is judged.
pub(crate) fn suite_known(state: &State, sides: &Sides<'_>, tasks: &[String]) -> BTreeMap<String, KnownTask> {
    let of = WhatCounts { protocol: sides.protocol, timeouts: sides.timeouts };
    let mut known: BTreeMap<String, KnownTask> = histories(state, &of, tasks)
        .into_iter()
        .map(|(task, history)| (task, KnownTask { history, ..KnownTask::default() }))
        .collect();
    for (task, known) in &mut known {
        let Sides { candidate, incumbent, is_first, protocol, timeouts, trials, .. } = *sides;
        known.candidate =
            state.trials.values(candidate, protocol, task, 0..trials, timeouts).into_iter().flatten().collect();
        if candidate != incumbent {
            known.incumbent = unchosen(&state.trials, incumbent, is_first, protocol, task, timeouts);
        }
    }
    known
}

/// Which trials count, and for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WhatCounts<'a> {
    /// Fingerprint of what one trial depends on.
    pub protocol: &'a str,
    /// What an agent timeout counts for.
    pub timeouts: TimeoutPolicy,
}

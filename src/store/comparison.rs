//! Turns the ledger's trials into the evidence of the rule `paired`. The gate builds it from what it just ran, `verify` from
//! what the ledger holds; both do it here, so that they cannot differ.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::state::State;
use super::trials::{Trials, aside, versus};
use crate::model::gate::PairedPolicy;
use crate::model::paired::{Arm, Pair, Pairs};
use crate::model::score::{Rewards, TimeoutPolicy, by_task, mean_of, passes};
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
    /// The version of the rules, see [`RULES`](crate::model::gate::RULES).
    pub rules: u32,
}

/// Rounds and tasks that this command has already run: a trial that gave no evidence then is not run once more.
pub(crate) type AlreadyRun = BTreeSet<(u32, String)>;

impl Sides<'_> {
    /// How many trials afresh the incumbent needs of each task.
    pub(crate) fn incumbent_fresh(&self) -> u32 {
        if self.is_first { self.confirm_trials.saturating_sub(self.trials) } else { self.confirm_trials }
    }

    /// The protocols of the rounds: the candidate's and the incumbent's. When the incumbent is judged in its turn, what it did
    /// in this role does not count for it; by earlier rules it did.
    pub(crate) fn round_protocols(&self) -> [String; 2] {
        let of_incumbent = match self.rules {
            0..=1 => versus(self.protocol, self.candidate),
            _ => aside(self.protocol, &format!("against {}", self.candidate)),
        };
        [versus(self.protocol, self.incumbent), of_incumbent]
    }

    /// What an agent earned in these trials, as far as it counts. Run again until it looks well, a trial would carry its luck into
    /// the verdict; by earlier rules it did.
    fn values(
        &self,
        known: &Trials,
        (agent, protocol): (&str, &str),
        task: &str,
        numbers: Range<u32>,
    ) -> Vec<Option<f64>> {
        match self.rules {
            0..=1 => known.values(agent, protocol, task, numbers, self.timeouts),
            _ => known.first_values(agent, protocol, task, numbers, self.timeouts),
        }
    }

    /// The tasks of which the incumbent lacks first trials that no fresh ones stand for: lost when the experiment began, or never run
    /// because the task came later.
    pub(crate) fn incumbent_lacks(&self, known: &Trials, tasks: &[String]) -> Vec<String> {
        let has = |task: &&String| {
            let first = known.first_values(self.incumbent, self.protocol, task, 0..self.trials, self.timeouts);
            first.iter().flatten().count() >= self.trials as usize
        };
        tasks.iter().filter(|task| self.is_first && !has(task)).cloned().collect()
    }

    /// Both agents on every task of the split. Trials without evidence count as not run, except where they were tried. A task
    /// that the candidate has not all of its first trials of was not run, either.
    pub(crate) fn pairs(&self, known: &Trials, split: &TaskSplit, tried: &AlreadyRun) -> Pairs {
        let both = [Split::Train, Split::Test];
        let tasks = both.iter().flat_map(|part| split.tasks(*part).iter().map(|task| (*part, task)));
        tasks.map(|(part, task)| (task.clone(), self.pair(known, part, task, tried))).collect()
    }

    fn pair(&self, known: &Trials, split: Split, task: &str, tried: &AlreadyRun) -> Pair {
        let values = |agent: &str, protocol: &str, numbers| self.values(known, (agent, protocol), task, numbers);
        let evidence = |values: Vec<Option<f64>>| values.into_iter().filter(Option::is_some).collect::<Vec<_>>();
        let was_tried = tried.contains(&(if split == Split::Train { 0 } else { 1 }, task.to_string()));
        let own = |numbers: Range<u32>| values(self.candidate, self.protocol, numbers);
        let first = if self.rules < 2 {
            let first = evidence(own(0..self.trials));
            if first.is_empty() && was_tried { vec![None] } else { first }
        } else {
            let first = (0..self.trials).map(|number| own(number..number + 1).into_iter().flatten().next());
            Some(first.collect::<Vec<_>>()).filter(|first| was_tried || !first.contains(&None)).unwrap_or_default()
        };
        let its = |numbers: Range<u32>| values(self.incumbent, self.protocol, numbers);
        let chosen_by_nobody = if self.is_first { its(0..self.trials) } else { Vec::new() };
        let fresh = its(confirm_numbers(self.confirm_trials));
        let mut of_incumbent = [chosen_by_nobody, fresh].concat();
        if self.rules < 2 {
            of_incumbent.retain(Option::is_some);
        }
        let mut pair = Pair {
            split,
            candidate: Arm { first, rounds: Vec::new() },
            incumbent: Arm { first: of_incumbent, rounds: Vec::new() },
        };
        let roles = self.round_protocols();
        for round in 2..=self.max_rounds {
            let of = |agent: &str, protocol: &str| {
                let found = evidence(values(agent, protocol, round_numbers(round)));
                found.first().copied().or_else(|| tried.contains(&(round, task.to_string())).then_some(None))
            };
            let (Some(candidate), Some(incumbent)) = (of(self.candidate, &roles[0]), of(self.incumbent, &roles[1]))
            else {
                break;
            };
            pair.candidate.rounds.push(candidate);
            pair.incumbent.rounds.push(incumbent);
        }
        pair
    }
}

/// What the suite's tasks earned at best so far.
pub(crate) fn so_far(known: &Trials, sides: &Sides<'_>, tasks: &[String]) -> Rewards {
    Rewards(by_task(tasks, |task| TaskTrials::of(known, sides, task, again_numbers()).best()))
}

/// What the suite's tasks earned at best: a task is broken when it fails each time. Whether one that failed is broken is
/// unknown until it was run again.
pub(crate) fn at_best(known: &Trials, sides: &Sides<'_>, tasks: &[String]) -> Rewards {
    Rewards(by_task(tasks, |task| {
        let earned = TaskTrials::of(known, sides, task, again_numbers());
        earned.best().filter(|best| sides.rules < 2 || passes(Some(*best)) || !earned.lacks_again)
    }))
}

/// What tasks that are to join the suite earned at worst: they join it when they pass each time. A task that failed keeps
/// what it earned; whether any other one passes is unknown until it was run as often as it has to.
pub(crate) fn at_worst(known: &Trials, sides: &Sides<'_>, tasks: &[String], again: Range<u32>) -> Rewards {
    Rewards(by_task(tasks, |task| {
        let earned = TaskTrials::of(known, sides, task, again.clone());
        let lacks = earned.lacks_first || earned.lacks_again;
        earned.worst().filter(|worst| sides.rules < 2 || !passes(Some(*worst)) || !lacks)
    }))
}

/// What the candidate earned on a task in its first trials and in those that show whether that was chance.
struct TaskTrials {
    values: Vec<f64>,
    /// Some of the first trials gave no evidence, or were not run.
    lacks_first: bool,
    /// The same of the others.
    lacks_again: bool,
}

impl TaskTrials {
    fn of(known: &Trials, sides: &Sides<'_>, task: &str, again: Range<u32>) -> TaskTrials {
        let evidence = |number: u32| -> Vec<f64> {
            let of = (sides.candidate, sides.protocol);
            sides.values(known, of, task, number..number + 1).into_iter().flatten().collect()
        };
        let (first, again): (Vec<_>, Vec<_>) =
            ((0..sides.trials).map(evidence).collect(), again.map(evidence).collect());
        let lacks = |numbers: &[Vec<f64>]| numbers.iter().any(Vec::is_empty);
        let (lacks_first, lacks_again) = (lacks(&first), lacks(&again));
        TaskTrials { values: [first, again].concat().concat(), lacks_first, lacks_again }
    }

    fn best(&self) -> Option<f64> {
        self.values.iter().copied().reduce(f64::max)
    }

    fn worst(&self) -> Option<f64> {
        self.values.iter().copied().reduce(f64::min)
    }
}

/// The means of an agent's trials afresh.
pub(crate) fn confirmed(known: &Trials, sides: &Sides<'_>, tasks: &[String]) -> Rewards {
    let reward = |task: &String| {
        let numbers = confirm_numbers(sides.confirm_trials);
        let values = known.values(sides.candidate, sides.protocol, task, numbers, sides.timeouts);
        mean_of(values.into_iter().flatten(), sides.confirm_trials)
    };
    Rewards(by_task(tasks, reward))
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
        TaskHistory::of(newest.map(|reward| passes(Some(reward))))
    };
    by_task(tasks, history)
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
        let earned = sides.values(&state.trials, (candidate, protocol), task, 0..trials);
        known.candidate = earned.into_iter().flatten().collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gate::RULES;
    use crate::model::trial::Outcome;
    use crate::store::event::Trial;

    /// What each number of a task earned, in the order it was run.
    fn known(trials: &[(u32, Option<f64>)]) -> Trials {
        let mut known = Trials::default();
        for (number, reward) in trials {
            let outcome = match reward {
                Some(reward) if passes(Some(*reward)) => Outcome::Passed,
                Some(_) => Outcome::Failed,
                None => Outcome::InfraError,
            };
            let split = Some(Split::Train);
            known.insert(&Trial {
                agent: "a".into(),
                protocol: "p".into(),
                task: "t".into(),
                split,
                trial: *number,
                outcome,
                reward: *reward,
                ..Trial::example()
            });
        }
        known
    }

    fn sides(rules: u32) -> Sides<'static> {
        Sides {
            candidate: "a",
            incumbent: "b",
            is_first: false,
            protocol: "p",
            timeouts: TimeoutPolicy::Agent,
            trials: 1,
            confirm_trials: 1,
            max_rounds: 1,
            rules,
        }
    }

    #[test]
    fn a_task_of_the_suite_is_broken_only_when_it_fails_each_time() {
        let best = |trials: &[_], rules| at_best(&known(trials), &sides(rules), &["t".into()]).0["t"];
        let (lost, failed) =
            ([(0, Some(0.0)), (AGAIN, None), (AGAIN + 1, None)], [(0, Some(0.0)), (AGAIN, Some(0.25))]);
        assert_eq!(best(&lost, RULES), None);
        assert_eq!(best(&lost, 1), Some(0.0));
        assert_eq!(best(&failed, RULES), None);
        assert_eq!(best(&[&failed[..], &[(AGAIN + 1, Some(0.0))]].concat(), RULES), Some(0.25));
        assert_eq!(best(&[&failed[..], &[(AGAIN + 1, Some(1.0))]].concat(), RULES), Some(1.0));
        // Run again by hand until it passes, it has failed.
        assert_eq!(
            best(&[&[(0, Some(0.0)), (0, Some(1.0))], &failed[1..], &[(AGAIN + 1, Some(0.0))]].concat(), RULES),
            Some(0.25)
        );
    }

    #[test]
    fn rounds_that_chose_an_agent_are_not_found_when_it_is_the_one_to_beat() {
        let (one, turned) = (sides(RULES), Sides { candidate: "b", incumbent: "a", ..sides(RULES) });
        let ([candidate, incumbent], [turned_candidate, turned_incumbent]) =
            (one.round_protocols(), turned.round_protocols());
        assert!(candidate != turned_incumbent && incumbent != turned_candidate);
    }

    #[test]
    fn what_the_first_agent_lacks_is_known() {
        let known = known(&[(0, None), (0, Some(1.0)), (1, None)]);
        let lacks = |is_first: bool, trials: u32| {
            let sides = Sides { incumbent: "a", is_first, trials, ..sides(RULES) };
            sides.incumbent_lacks(&known, &["t".into(), "new".into()])
        };
        assert_eq!(lacks(true, 1), ["new"]);
        assert_eq!(lacks(true, 2), ["t", "new"]);
        assert_eq!(lacks(false, 2), Vec::<String>::new());
    }

    #[test]
    fn a_task_joins_the_suite_only_when_it_passes_each_time() {
        let worst =
            |trials: &[_], rules| at_worst(&known(trials), &sides(rules), &["t".into()], again_numbers()).0["t"];
        let passed = [(0, Some(1.0)), (AGAIN, Some(0.75)), (AGAIN + 1, Some(1.0))];
        assert_eq!(worst(&passed, RULES), Some(0.75));
        for lost in 0..passed.len() {
            let mut trials = passed;
            trials[lost].1 = None;
            assert_eq!(worst(&trials, RULES), None);
            assert!(worst(&trials, 1).is_some());
        }
        assert_eq!(worst(&passed[..2], RULES), None);
        assert_eq!(worst(&[(0, Some(0.0))], RULES), Some(0.0));
        assert_eq!(worst(&[&[(0, Some(0.0))], &passed[..]].concat(), RULES), Some(0.0));
    }
}

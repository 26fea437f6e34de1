//! The rule `paired`: candidate and incumbent compared task by task, in rounds, with a stated chance of error.
//!
//! The incumbent is the last recorded agent; only its trials run afresh after it was chosen count. The rounds:
//!
//! - *Round 0* screens on the train trials that the loop has anyway. A candidate that is behind never looks at the hold-out.
//! - *Round 1* adds the candidate's first trial of every hold-out task.
//! - *Each further round* runs the tasks in doubt once more, for both agents alike. In doubt is a task whose trials did not
//!   all earn the same.
//!
//! After each round the candidate is accepted when train and hold-out together put it ahead at the rule's level and the
//! hold-out alone does not point the other way; it is given up when acceptance is out of reach. A candidate that is neither
//! after the last round is undecided. If no task shows any difference, nothing is accepted.
//!
//! Every round of every task is a stratum of its own (see [`mantel`]): which tasks are run again depends on what they
//! earned before, and pooled with it the new trials would look steadier than they are. For the same reason the
//! incumbent's trials in the rounds do not count for later candidates.
//!
//! [`decide`] is a pure function. Given incomplete evidence, it says what to measure next; given the evidence of a verdict,
//! it goes through the same rounds to the same verdict. `examples/gate_simulation.rs` measures its error rates and its gain,
//! and the numbers chosen here are those that won there.

pub(crate) mod mantel;
pub(crate) mod rule;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::mantel::{Chance, Mantel, Stratum, millionths, points};
pub use self::rule::Rule;
use super::compare::EPSILON;
use super::trial::Split;

/// The trials of one agent on one task: rewards in the order they were run, `None` for a trial that gave no evidence.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Candidate: its trials up to round 1. Incumbent: its trials since it was recorded.
    pub first: Vec<Option<f64>>,
    /// One trial for each further round that ran this task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<Option<f64>>,
}

impl Arm {
    /// Whether at least half of the first trials gave evidence: one lucky trial never stands for three.
    pub(crate) fn is_known(&self) -> bool {
        let known = self.first.iter().flatten().count();
        known > 0 && known * 2 >= self.first.len()
    }

    /// The trials up to a round that gave evidence.
    fn until(&self, round: u32) -> impl Iterator<Item = f64> + '_ {
        self.first.iter().chain(self.rounds.iter().take(further(round))).flatten().copied()
    }
}

/// What is known of both agents on one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    pub split: Split,
    /// The agent that is judged.
    pub candidate: Arm,
    /// The agent to beat.
    pub incumbent: Arm,
}

/// Both agents on all tasks, by task id.
pub(crate) type Pairs = BTreeMap<String, Pair>;

/// A round of trials that the decision waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Round {
    /// Its number; 0 is train alone.
    pub number: u32,
    /// Their tasks, sorted.
    pub tasks: Vec<String>,
    /// True when the incumbent runs them, too: one trial each, to [`Arm::rounds`]. Otherwise only the candidate runs
    /// them, as often as configured, to [`Arm::first`].
    pub both: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairedVerdict {
    /// Better, at the rule's level.
    Passed,
    /// Not better, or out of reach.
    Failed,
    /// The rounds are used up without either.
    Undecided,
    /// The answer depends on trials without evidence: nothing is decided.
    NoEvidence,
}

/// The state of the comparison after one round. Aggregates only.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Look {
    /// 0 is train alone.
    pub round: u32,
    /// Trials of both agents so far that gave evidence.
    pub trials: usize,
    /// Tasks, counted once a round, that show a difference or could have.
    pub informative: usize,
    /// How much better the candidate is on average, in rewards.
    pub effect: f64,
    /// The same on the hold-out alone.
    pub holdout_effect: f64,
    /// Standard deviations by which the candidate is ahead.
    pub z: f64,
    /// The same on the hold-out alone.
    pub holdout_z: f64,
    /// The chance that equally good agents would look like this (mid-p); absent where the candidate was not ahead enough
    /// to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// True when every deal was counted, false for the normal approximation.
    pub exact: bool,
}

/// How a comparison ended, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ruling {
    pub verdict: PairedVerdict,
    /// What was seen after each round.
    pub looks: Vec<Look>,
    /// About how many more trials, of both agents together, would settle it if the difference is what it looks like now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<u64>,
    /// Why, in one line that names no task.
    pub detail: String,
}

/// What the rule says about the evidence.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// Run these and ask again.
    Measure(Round),
    Ruled(Ruling),
}

impl Pair {
    /// The first trials of both, then one stratum for each further round up to `round`. With `least`, trials that the
    /// candidate lacks count 0.0.
    fn strata(&self, round: u32, least: bool) -> impl Iterator<Item = Stratum> + '_ {
        let own = move |trials: &[Option<f64>]| -> Vec<i64> {
            trials.iter().filter_map(|reward| reward.or(least.then_some(0.0))).map(millionths).collect()
        };
        let other = |trials: &[Option<f64>]| trials.iter().flatten().copied().map(millionths).collect();
        let first = Stratum { candidate: own(&self.candidate.first), incumbent: other(&self.incumbent.first) };
        let rounds = self.candidate.rounds.iter().zip(&self.incumbent.rounds).take(further(round));
        std::iter::once(first).chain(rounds.map(move |(candidate, incumbent)| Stratum {
            candidate: own(std::slice::from_ref(candidate)),
            incumbent: other(std::slice::from_ref(incumbent)),
        }))
    }

    /// Whether a further round runs it: while it is in doubt. A task that one of the agents has no evidence of says nothing about
    /// them however often it is run; earlier rules ran it.
    fn is_asked(&self, rule: &Rule, round: u32) -> bool {
        self.is_in_doubt(round - 1) && (!rule.of_all || (self.candidate.is_known() && self.incumbent.is_known()))
    }

    /// True when the trials up to `round` did not all earn the same.
    fn is_in_doubt(&self, round: u32) -> bool {
        let mut all = self.candidate.until(round).chain(self.incumbent.until(round)).map(millionths);
        let first = all.next();
        all.any(|reward| Some(reward) != first)
    }
}

/// Rounds beyond the first.
fn further(round: u32) -> usize {
    round.saturating_sub(1) as usize
}

/// The mean over the hold-out's tasks of what the candidate's first trials earned, before anything was run again.
pub(crate) fn first_on_holdout(pairs: &Pairs) -> Option<f64> {
    let of_task = |pair: &Pair| {
        let rewards: Vec<f64> = pair.candidate.first.iter().flatten().copied().collect();
        (!rewards.is_empty()).then(|| rewards.iter().sum::<f64>() / rewards.len() as f64)
    };
    let means: Vec<f64> = pairs.values().filter(|pair| pair.split == Split::Test).filter_map(of_task).collect();
    (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
}

/// How far the candidate is ahead on the hold-out alone, by all trials of the comparison: a difference of mean rewards. `None`
/// without a hold-out.
pub(crate) fn lead_on_holdout(pairs: &Pairs) -> Option<f64> {
    let mut held_out = pairs.values().filter(|pair| pair.split == Split::Test).peekable();
    held_out.peek()?;
    let strata: Vec<Stratum> = held_out.flat_map(|pair| pair.strata(u32::MAX, false)).collect();
    Some(Mantel::of(&strata).effect)
}

/// What the rule says. It asks for the hold-out once the screen is passed.
pub(crate) fn decide(rule: &Rule, pairs: &Pairs) -> Answer {
    let mut looks: Vec<Look> = Vec::new();
    for round in 0..=rule.max_rounds {
        if let Some(wanted) = wanted(rule, pairs, round) {
            return Answer::Measure(wanted);
        }
        if let Some(detail) = too_little(rule, pairs, round) {
            return Answer::Ruled(Ruling { verdict: PairedVerdict::NoEvidence, looks, needed: None, detail });
        }
        let look = look(rule, pairs, round, false);
        looks.push(look);
        if let Some((verdict, detail)) = settle(rule, pairs, &look) {
            return Answer::Ruled(Ruling { verdict, looks, needed: None, detail });
        }
    }
    Answer::Ruled(at_the_limit(rule, looks))
}

/// What must be run before a round can be judged.
fn wanted(rule: &Rule, pairs: &Pairs, round: u32) -> Option<Round> {
    let run = further(round);
    let lacks = |pair: &Pair| match round {
        0 => pair.split == Split::Train && pair.candidate.first.is_empty(),
        1 => pair.split == Split::Test && pair.candidate.first.is_empty(),
        // A task once in doubt stays in doubt: its trials already differ.
        _ => (pair.candidate.rounds.len() < run || pair.incumbent.rounds.len() < run) && pair.is_asked(rule, round),
    };
    let tasks: Vec<String> = pairs.iter().filter(|(_, pair)| lacks(pair)).map(|(task, _)| task.clone()).collect();
    (!tasks.is_empty()).then_some(Round { number: round, tasks, both: round > 1 })
}

/// Why a round decides nothing, when it lacks evidence.
fn too_little(rule: &Rule, pairs: &Pairs, round: u32) -> Option<String> {
    // Earlier rules looked at the tasks that the incumbent has any evidence of, and at no further rounds.
    let has = |arm: &Arm| match round {
        0 | 1 if rule.of_all => arm.is_known(),
        0 | 1 => arm.first.iter().any(Option::is_some),
        _ => matches!(arm.rounds.get(further(round) - 1), Some(Some(_))),
    };
    let (split, word) = match round {
        0 => (Some(Split::Train), "train"),
        1 => (Some(Split::Test), "hold-out"),
        _ if rule.of_all => (None, "repeated"),
        _ => return None,
    };
    let is_asked = |pair: &&Pair| match split {
        Some(split) => pair.split == split && (rule.of_all || has(&pair.incumbent)),
        None => pair.is_asked(rule, round),
    };
    let asked: Vec<&Pair> = pairs.values().filter(is_asked).collect();
    let edit = asked.iter().filter(|pair| has(&pair.candidate)).count();
    let beaten = asked.iter().filter(|pair| has(&pair.incumbent)).count();
    let (least, whose) = if edit <= beaten { (edit, "the edit") } else { (beaten, "the agent to beat") };
    let (all, needed) = (asked.len(), rule.min_evidence);
    // Of a few tasks that run again, one that is lost for good must not hold up everything; but an outage does.
    let few =
        split.is_none() && least * 2 >= all && (all - least) as f64 <= (1.0 - needed) * pairs.len() as f64 + EPSILON;
    // Without train there is no screen, and if nothing is in doubt nothing runs again; without a hold-out nothing can be believed.
    if few || (all == 0 && round != 1) || (all > 0 && least as f64 >= needed * all as f64 - EPSILON) {
        return None;
    }
    Some(format!(
        "{least} of {all} {word} tasks gave evidence of {whose}, {needed:.2} of them is needed; nothing is decided"
    ))
}

/// The comparison after a round. With `least`, trials that the candidate lacks count 0.0.
fn look(rule: &Rule, pairs: &Pairs, round: u32, least: bool) -> Look {
    let of = |split: Split| -> Vec<Stratum> {
        let those = pairs.values().filter(|pair| pair.split == split);
        those.flat_map(|pair| pair.strata(round, least)).collect()
    };
    let (mut strata, holdout) = (of(Split::Train), if round == 0 { Vec::new() } else { of(Split::Test) });
    let alone = Mantel::of(&holdout);
    strata.extend(holdout);
    let both = Mantel::of(&strata);
    let chance = (round > 0 && both.z() >= rule.floor(round)).then(|| Chance::of(&strata));
    Look {
        round,
        trials: strata.iter().map(|stratum| stratum.candidate.len() + stratum.incumbent.len()).sum(),
        informative: both.informative,
        effect: both.effect,
        holdout_effect: alone.effect,
        z: both.z(),
        holdout_z: alone.z(),
        p: chance.map(|chance| chance.mid),
        exact: chance.is_some_and(|chance| chance.exact),
    }
}

/// The verdict that a round settles, if it does.
fn settle(rule: &Rule, pairs: &Pairs, look: &Look) -> Option<(PairedVerdict, String)> {
    if look.z < rule.floor(look.round) {
        let detail = match look.round {
            0 => format!("train alone is behind the incumbent ({}), so the hold-out was not run", points(look.effect)),
            round => format!("{}: out of reach after {}", points(look.effect), rounds(round)),
        };
        return Some((PairedVerdict::Failed, detail));
    }
    let accepts = |look: &Look| look.p.is_some_and(|p| p <= rule.level) && look.holdout_z >= -rule.bound;
    if accepts(look) {
        // A candidate must not pass by spoiling the trials that would count against it.
        let surely = accepts(&self::look(rule, pairs, look.round, true));
        return Some(if surely {
            let after = rounds(look.round);
            let seen = format!("{} ({} after {after})", points(look.effect), chance(look.p.unwrap_or(1.0)));
            (PairedVerdict::Passed, seen)
        } else {
            // No number: the edit is not accepted.
            let hangs = "whether it is better hangs on trials without evidence; nothing is decided";
            (PairedVerdict::NoEvidence, hangs.into())
        });
    }
    let other_way = look.p.is_some_and(|p| p <= rule.level) && look.round == rule.max_rounds;
    other_way.then(|| {
        let behind = points(look.holdout_effect);
        (PairedVerdict::Failed, format!("better on train only: the hold-out alone points the other way ({behind})"))
    })
}

/// The rounds are used up, and the last one settled nothing.
fn at_the_limit(rule: &Rule, looks: Vec<Look>) -> Ruling {
    let mut detail = format!("still in doubt after {}", rounds(rule.max_rounds));
    let needed = looks.last().filter(|look| look.z > 0.0).map(|last| {
        let times = (rule.goal / last.z).powi(2) - 1.0;
        // At least one: a lead that reaches the goal was held up by something else.
        (last.trials as f64 * times.max(0.0)).ceil().max(1.0) as u64
    });
    if let (Some(last), Some(needed)) = (looks.last(), needed) {
        detail = format!("{}, {detail}; about {needed} more trials would have settled it", points(last.effect));
    }
    Ruling { verdict: PairedVerdict::Undecided, looks, needed, detail }
}

/// A difference of mean rewards in words. A p-value in words: even one that rounds to 0 is no certainty.
fn chance(p: f64) -> String {
    if p < 0.0001 { "p < 0.0001".into() } else { format!("p {p:.4}") }
}

fn rounds(count: u32) -> String {
    if count == 1 { "1 round".into() } else { format!("{count} rounds") }
}

#[cfg(test)]
mod tests;

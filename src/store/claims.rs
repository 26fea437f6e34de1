//! Measurements outside the search: where their trials are, and what they add up to. No gate, score or view may find these
//! trials, so they have a protocol and numbers of their own.

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::event::{Calibrated, Committed, Confirmed, Resampled};
use super::trials::{Trials, aside};
use crate::model::calibrate::{Earned, Noise, Repeated};
use crate::model::claim::{Arms, Claim, MOST};
use crate::model::score::{Rewards, Scoring, TimeoutPolicy, by_task, mean_of};
use crate::model::split::TaskSplit;

/// Where the numbers of these trials begin, so that no gate uses their seeds.
const ASIDE: u32 = 4_000;
/// The same of runs of the unchanged agent, of which there may be many.
const RUNS: u32 = 10_000;

/// Numbers of the trials `range`, counted from 0.
pub(crate) fn numbers(range: Range<u32>) -> Range<u32> {
    ASIDE + range.start..ASIDE + range.end
}

/// The protocol of an agent's trials that are run afresh against `other`.
pub(crate) fn against(protocol: &str, other: &str) -> String {
    aside(protocol, &format!("confirmed against {other}"))
}

/// Both agents on each of these tasks, with all such trials ever run: choosing among them would be choosing the result.
pub(crate) fn arms(
    known: &Trials,
    baseline: &str,
    best: &str,
    protocol: &str,
    tasks: &[String],
    policy: TimeoutPolicy,
) -> BTreeMap<String, Arms> {
    let of = |agent: &str, other: &str, task: &str| {
        known.values(agent, &against(protocol, other), task, numbers(0..MOST), policy)
    };
    let both = |task: &String| Arms { baseline: of(baseline, best, task), best: of(best, baseline, task) };
    by_task(tasks, both)
}

/// The protocol of trials that run an agent again, unchanged, to see how noisy it is.
pub(crate) fn again(protocol: &str) -> String {
    aside(protocol, "again")
}

/// Both splits as the agent earned them then, with all such trials.
pub(crate) fn repeated(
    known: &Trials,
    agent: &str,
    protocol: &str,
    split: &TaskSplit,
    policy: TimeoutPolicy,
    min_evidence: f64,
) -> Repeated {
    let protocol = again(protocol);
    let earned = |tasks: &[String]| -> Earned {
        let values = |task: &String| known.values(agent, &protocol, task, numbers(0..MOST), policy);
        by_task(tasks, values)
    };
    Repeated { min_evidence, train: earned(&split.train), test: earned(&split.test) }
}

/// The protocol of trials that run an agent again and again to see what luck does to its score. `protocol`: that of the
/// score.
pub(crate) fn resampled(trial_protocol: &str, protocol: &str) -> String {
    aside(trial_protocol, &format!("resampled for {protocol}"))
}

/// Numbers of the trials of a run, counted from 1, with so many trials of each task.
pub(crate) fn run_numbers(run: u32, trials: u32) -> Range<u32> {
    let first = RUNS.saturating_add(run.saturating_sub(1).saturating_mul(trials));
    first..first.saturating_add(trials)
}

/// What each task earned in a run: the mean over its trials; `None` where fewer than half of them gave evidence.
pub(crate) fn run_rewards(known: &Trials, of: &Resampled, tasks: &[String], scoring: Scoring) -> Rewards {
    let protocol = resampled(&of.trial_protocol, &of.protocol);
    let reward = |task: &String| {
        let numbers = run_numbers(of.run, scoring.trials);
        let values = known.values(&of.agent.agent, &protocol, task, numbers, scoring.policy);
        mean_of(values.into_iter().flatten(), scoring.trials)
    };
    Rewards(by_task(tasks, reward))
}

/// The tasks that are measured on.
pub(crate) fn tasks(split: &TaskSplit, sealed: bool) -> &Vec<String> {
    if sealed { &split.sealed } else { &split.test }
}

/// What these measurements add up to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// The commit that the experiment began with.
    pub first_base: Option<String>,
    /// The last `confirmed` on the hold-out.
    pub last: Option<LastClaim>,
    /// The last one on the sealed split.
    pub last_sealed: Option<LastClaim>,
    /// How many there are, of both.
    pub count: u32,
    /// How often the sealed split was opened.
    pub openings: u32,
    /// The last `calibrated`.
    pub noise: Option<LastNoise>,
    /// Runs of the unchanged agent, by the protocol fingerprint of their scores.
    pub runs: BTreeMap<String, Runs>,
    /// How often each pair of agents was looked at, and with how many trials the last time.
    looks: BTreeMap<String, Looks>,
}

/// The last `confirmed`, without its trials.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LastClaim {
    pub at: DateTime<Utc>,
    /// The agent to compare with.
    pub baseline: Committed,
    /// The ref given for it, when one was.
    pub against: Option<String>,
    /// The agent that was the best recorded then.
    pub best: Committed,
    /// Trials of each task that were asked for.
    pub trials: u32,
    /// How often these two were looked at.
    pub look: u32,
    pub claim: Claim,
}

/// The last `calibrated`, without its trials.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LastNoise {
    pub at: DateTime<Utc>,
    pub agent: Committed,
    pub noise: Noise,
}

impl LastClaim {
    /// In words, for people; `base` is the commit of the best agent now.
    pub fn words(&self, base: Option<&String>) -> String {
        let words = self.claim.words(self.against.as_deref().unwrap_or("the baseline"));
        words + if self.best.is_at(base) { "" } else { " (of an earlier best)" }
    }
}

/// All runs of the unchanged agent under one protocol: leaving one out would be choosing the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Runs {
    pub agent: Committed,
    pub count: u32,
    /// The highest val_score of them.
    pub best: f64,
    /// Their val_scores, added up.
    sum: f64,
}

impl Runs {
    /// The mean of their val_scores.
    pub fn mean(&self) -> f64 {
        self.sum / f64::from(self.count.max(1))
    }
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Looks {
    count: u32,
    trials: usize,
}

impl Claims {
    /// The number of this look at these two agents, with so many trials. Printing the same trials again is the same look.
    pub fn look(&self, confirmed: &Confirmed) -> u32 {
        let looks = self.looks.get(&key(confirmed)).copied().unwrap_or_default();
        let is_same = looks.count > 0 && looks.trials == confirmed.measured.trials();
        if is_same { looks.count } else { looks.count + 1 }
    }

    pub(super) fn calibrated(&mut self, calibrated: Calibrated, at: DateTime<Utc>) {
        self.noise = Some(LastNoise { at, agent: calibrated.agent, noise: calibrated.noise });
    }

    /// The runs of this agent under this protocol.
    pub fn runs_of(&self, agent: &str, protocol: &str) -> Option<&Runs> {
        self.runs.get(protocol).filter(|runs| runs.agent.agent == agent)
    }

    /// Which run of the agent the next one is, from 1.
    pub fn next_run(&self, agent: &str, protocol: &str) -> u32 {
        self.runs_of(agent, protocol).map_or(1, |runs| runs.count.saturating_add(1))
    }

    pub(super) fn resampled(&mut self, resampled: Resampled) {
        let Resampled { agent, protocol, val_score, .. } = resampled;
        let before = self.runs_of(&agent.agent, &protocol);
        let (count, best, sum) = before.map_or((0, val_score, 0.0), |runs| (runs.count, runs.best, runs.sum));
        let runs = Runs { agent, count: count.saturating_add(1), best: best.max(val_score), sum: sum + val_score };
        self.runs.insert(protocol, runs);
    }

    pub(super) fn confirmed(&mut self, confirmed: Confirmed, at: DateTime<Utc>) {
        let looks = Looks { count: confirmed.look, trials: confirmed.measured.trials() };
        self.looks.insert(key(&confirmed), looks);
        self.count += 1;
        self.openings += u32::from(confirmed.sealed);
        let place = if confirmed.sealed { &mut self.last_sealed } else { &mut self.last };
        let Confirmed { baseline, against, best, trials, look, claim, .. } = confirmed;
        *place = Some(LastClaim { at, baseline, against, best, trials, look, claim });
    }
}

fn key(of: &Confirmed) -> String {
    let tasks = if of.sealed { "sealed" } else { "hold-out" };
    format!("{} {} {} {tasks}", of.baseline.agent, of.best.agent, of.trial_protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_an_agent_add_up_and_share_no_trial() {
        let run = |run, agent: &str, val_score| Resampled {
            run,
            agent: Committed { agent: agent.into(), commit: "c".into() },
            trial_protocol: "t".into(),
            protocol: "p".into(),
            val_score,
            evals_passed: 1,
            evals_total: 2,
        };
        let mut claims = Claims::default();
        assert_eq!(claims.next_run("a", "p"), 1);
        for (number, score) in [(1, 0.5), (2, 0.75), (3, 0.25)] {
            claims.resampled(run(number, "a", score));
        }
        let runs = claims.runs_of("a", "p").unwrap();
        assert_eq!((runs.count, runs.best, runs.mean(), claims.next_run("a", "p")), (3, 0.75, 0.5, 4));
        assert!(claims.runs_of("b", "p").is_none() && claims.runs_of("a", "q").is_none());
        claims.resampled(run(1, "b", 0.1));
        assert_eq!(claims.runs_of("b", "p").map(|runs| (runs.count, runs.best)), Some((1, 0.1)));
        assert_eq!((run_numbers(1, 3), run_numbers(2, 3)), (10_000..10_003, 10_003..10_006));
        assert!(numbers(0..MOST).end < RUNS);
    }
}

//! What running one agent twice shows: how far its val_score strays by chance, which tasks flip, and how often it may solve
//! each.
//!
//! Everything is counted as if one more task had been run and had flipped: even if no task flipped in a few trials, some
//! task may.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::compare::EPSILON;
use super::paired::mantel::millionths;
use super::simulate::{Agent, mean};
use super::trial::Split;

/// Standard deviations within which 9 of 10 values of a normal variable lie.
const NINE_OF_TEN: f64 = 1.6449;
/// What that extra task earned on average, and the variance of its trials.
const FLIPPED: (f64, f64) = (0.5, 0.5);

/// The trials of one task: rewards, `None` for one that gave no evidence.
pub(crate) type Earned = BTreeMap<String, Vec<Option<f64>>>;

/// Trials of one agent, run for nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repeated {
    /// Share of the tasks of a split that must have two trials with evidence, 0–1.
    pub min_evidence: f64,
    pub train: Earned,
    /// On the hold-out.
    pub test: Earned,
}

/// How noisy the agent is. Aggregates only.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Mean reward on the gate split.
    pub val_score: f64,
    /// Standard deviation of one val_score with the configured number of trials.
    pub sd: f64,
    /// How far from its mean 9 of 10 measured val_scores lie at most.
    pub band: f64,
    /// Trials of each task that a val_score is the mean of.
    pub trials: u32,
    /// Train tasks whose trials did not all earn the same, and all train tasks with two trials.
    pub train: (usize, usize),
    /// The same of the hold-out.
    pub test: (usize, usize),
}

/// The agent to simulate with, and what was done to its rates.
#[derive(Debug, Clone)]
pub struct Rates {
    /// Rates as the simulation takes them.
    pub agent: Agent,
    /// How far the measured rates were shrunk towards their mean, 0–1.
    pub shrunk: f64,
}

/// What the trials of one task say.
#[derive(Clone, Copy)]
struct TaskNoise {
    mean: f64,
    variance: f64,
    trials: f64,
    flips: bool,
}

impl TaskNoise {
    /// `None` with fewer than two trials.
    fn of(trials: &[Option<f64>]) -> Option<TaskNoise> {
        let known: Vec<f64> = trials.iter().flatten().copied().collect();
        if known.len() < 2 {
            return None;
        }
        let (mean, count) = (mean(&known), known.len() as f64);
        let variance = known.iter().map(|reward| (reward - mean) * (reward - mean)).sum::<f64>() / (count - 1.0);
        let flips = known.iter().any(|reward| millionths(*reward) != millionths(known[0]));
        Some(TaskNoise { mean, variance, trials: count, flips })
    }
}

impl Repeated {
    fn split(&self, split: Split) -> &Earned {
        if split == Split::Train { &self.train } else { &self.test }
    }

    fn tasks(&self, split: Split) -> impl Iterator<Item = TaskNoise> + '_ {
        self.split(split).values().filter_map(|trials| TaskNoise::of(trials))
    }

    /// Tasks of the split with two trials, and all of them.
    pub fn evaluated(&self, split: Split) -> (usize, usize) {
        (self.tasks(split).count(), self.split(split).len())
    }

    /// Whether enough of both splits gave evidence to say anything.
    pub fn is_enough(&self) -> bool {
        let enough = |split: Split| {
            let (known, all) = self.evaluated(split);
            all == 0 || (known > 0 && known as f64 >= self.min_evidence * all as f64 - EPSILON)
        };
        enough(Split::Train) && enough(Split::Test)
    }

    /// Tasks of the split whose trials did not all earn the same.
    pub fn flaky(&self, split: Split) -> Vec<&String> {
        let flips = |trials: &Vec<Option<f64>>| TaskNoise::of(trials).is_some_and(|task| task.flips);
        self.split(split).iter().filter(|(_, trials)| flips(trials)).map(|(task, _)| task).collect()
    }

    /// How noisy a val_score with this many trials per task is; `None` when there is too little evidence.
    pub fn noise(&self, gate_split: Split, trials: u32) -> Option<Noise> {
        let (known, _) = self.evaluated(gate_split);
        if !self.is_enough() || known == 0 {
            return None;
        }
        let tasks: Vec<TaskNoise> = self.tasks(gate_split).collect();
        let within = (tasks.iter().map(|task| task.variance).sum::<f64>() + FLIPPED.1) / (known + 1) as f64;
        let sd = libm::sqrt(within / f64::from(trials.max(1)) / known as f64);
        let counted = |split: Split| (self.flaky(split).len(), self.evaluated(split).0);
        Some(Noise {
            val_score: mean(&tasks.iter().map(|task| task.mean).collect::<Vec<_>>()),
            sd,
            band: NINE_OF_TEN * sd,
            trials,
            train: counted(Split::Train),
            test: counted(Split::Test),
        })
    }

    /// The agent as it may really be. Measured rates scatter more than true ones, because each was lucky or unlucky, so they
    /// are shrunk towards their mean until the simulated trials are as noisy as the measured ones.
    pub fn rates(&self) -> Rates {
        let all: Vec<TaskNoise> = self.tasks(Split::Train).chain(self.tasks(Split::Test)).collect();
        let count = all.len() as f64 + 1.0;
        let over = |of: &dyn Fn(&TaskNoise) -> f64, more: f64| (all.iter().map(of).sum::<f64>() + more) / count;
        let middle = over(&|task| task.mean, FLIPPED.0);
        let within = over(&|task| task.variance, FLIPPED.1);
        let off = |mean: f64| (mean - middle) * (mean - middle);
        let between = over(&|task| off(task.mean), off(FLIPPED.0));
        let trials = all.iter().map(|task| task.trials).sum::<f64>() / (all.len().max(1)) as f64;
        let kept = match between * trials {
            scatter if scatter > 0.0 => libm::sqrt((1.0 - within / scatter).max(0.0)),
            _ => 0.0,
        };
        let drawn = |split: Split| -> Vec<f64> {
            self.tasks(split).map(|task| (middle + kept * (task.mean - middle)).clamp(0.0, 1.0)).collect()
        };
        let (train, test) = (drawn(Split::Train), drawn(Split::Test));
        let tosses = [&*train, &*test].concat().iter().map(|rate| rate * (1.0 - rate)).sum::<f64>() / count;
        let rewards = || self.train.values().chain(self.test.values()).flatten().flatten();
        let passes_or_fails = rewards().all(|reward| [0, millionths(1.0)].contains(&millionths(*reward)));
        // Partial rewards stray less than a coin with their mean.
        let noise = match passes_or_fails || tosses <= 0.0 {
            true => 1.0,
            false => libm::sqrt(within / tosses).min(1.0),
        };
        Rates { agent: Agent { train, test, noise }, shrunk: 1.0 - kept }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trials of each task, one digit per trial, `x` for no evidence.
    fn repeated(train: &[&str], test: &[&str]) -> Repeated {
        let earned = |tasks: &[&str]| {
            let trials = |pattern: &&str| pattern.chars().map(|c| c.to_digit(10).map(f64::from)).collect();
            tasks.iter().enumerate().map(|(at, pattern)| (format!("t{at:02}"), trials(pattern))).collect()
        };
        Repeated { min_evidence: 0.9, train: earned(train), test: earned(test) }
    }

    #[test]
    fn the_noise_floor_is_that_of_the_flips() {
        let found = repeated(&["11", "10", "00"], &["11", "01", "10", "00"]).noise(Split::Test, 1).unwrap();
        // Variances 0, 1/2, 1/2, 0 and that of the task more, 1/2: mean 0.3 over 4 tasks.
        assert!((found.sd - (0.3f64 / 4.0).sqrt()).abs() < 1e-12 && (found.val_score - 0.5).abs() < 1e-12);
        assert!((found.band - 1.6449 * found.sd).abs() < 1e-12);
        assert_eq!((found.train, found.test), ((1, 3), (2, 4)));
        // The mean of four trials strays half as far.
        let four = repeated(&["11"], &["11", "01", "10", "00"]).noise(Split::Test, 4).unwrap();
        assert!((four.sd - 0.5 * found.sd).abs() < 1e-12);
        // Nothing flipped: the floor is low, and not zero.
        let calm = repeated(&["11"; 10], &["11"; 10]).noise(Split::Test, 1).unwrap();
        assert!(calm.sd > 0.0 && calm.sd < 0.1 && calm.test == (0, 10), "{calm:?}");
    }

    #[test]
    fn missing_evidence_says_nothing() {
        assert!(repeated(&["11"], &["1x", "11", "11", "11"]).noise(Split::Test, 1).is_none());
        assert!(repeated(&["1x"], &["11"]).noise(Split::Test, 1).is_none());
        assert!(repeated(&[], &["11"]).noise(Split::Test, 1).is_some());
        assert!(repeated(&["11"], &[]).noise(Split::Test, 1).is_none());
        let some = repeated(&["11", "101x"], &["11"]);
        assert_eq!((some.evaluated(Split::Train), some.flaky(Split::Train).len()), ((2, 2), 1));
    }

    #[test]
    fn a_task_that_passed_twice_is_not_surely_solved_and_the_noise_stays_what_it_was() {
        let tasks: Vec<&str> = [["11"; 20].to_vec(), ["10"; 10].to_vec(), ["00"; 9].to_vec()].concat();
        let found = repeated(&tasks, &tasks);
        let Rates { agent, shrunk } = found.rates();
        assert!(shrunk > 0.05 && shrunk < 0.4 && agent.noise == 1.0, "{shrunk}");
        assert!(agent.test[0] < 1.0 && agent.test[0] > 0.9 && agent.test[38] > 0.0, "{:?}", agent.test);
        // As many trials flip in it as flipped when they were measured.
        let tosses: f64 = agent.test.iter().map(|rate| rate * (1.0 - rate)).sum::<f64>() / 39.0;
        assert!((tosses - 5.0 / 39.0).abs() < 0.01, "{tosses}");
        // A task that never flipped is nearly as sure as it looks; one that always does is a coin.
        let calm = repeated(&[["11"; 40].to_vec(), ["00"; 20].to_vec()].concat(), &["11"; 20]).rates();
        assert!(calm.shrunk < 0.03 && calm.agent.test[0] > 0.98, "{}", calm.shrunk);
        let coins = repeated(&["10"; 20], &["01"; 20]).rates();
        assert!((coins.agent.test[0] - 0.5).abs() < 1e-9);
        let solved = repeated(&["11"; 20], &["11"; 20]).rates();
        assert!(solved.agent.test.iter().all(|rate| *rate > 0.97 && *rate < 1.0));
    }

    #[test]
    fn partial_rewards_stray_less_than_coins() {
        let earned = |values: [f64; 2]| vec![Some(values[0]), Some(values[1])];
        let tasks: Earned = (0..30).map(|at| (format!("t{at}"), earned([0.5, 0.6]))).collect();
        let found = Repeated { min_evidence: 0.9, train: tasks.clone(), test: tasks }.rates();
        assert!(found.agent.noise < 0.5 && found.agent.noise > 0.0, "{}", found.agent.noise);
    }
}

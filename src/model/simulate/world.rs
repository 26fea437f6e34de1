//! What is simulated: agents as a rate of success per task, edits that change these rates, and trials that draw from them.

use rand_mt::Mt64;

use crate::model::trial::Split;

/// Random numbers, the same ones every time.
pub struct Random(Mt64);

impl Random {
    /// Those that belong to a seed.
    pub fn new(seed: u64) -> Random {
        Random(Mt64::new(seed))
    }

    /// Uniform in 0–1.
    pub fn share(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One trial of a task with this rate: with noise 1 it passes or fails, with less it keeps nearer to the rate.
    pub fn trial(&mut self, rate: f64, noise: f64) -> f64 {
        let tossed = f64::from(u8::from(self.share() < rate));
        if noise < 1.0 { rate + noise * (tossed - rate) } else { tossed }
    }
}

/// An agent, reduced to how often it solves each task.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Rates on train.
    pub train: Vec<f64>,
    /// Rates on the hold-out.
    pub test: Vec<f64>,
    /// How far a trial strays from its rate: 1 where trials pass or fail.
    pub noise: f64,
}

impl Agent {
    /// Its true score on the hold-out.
    pub fn truth(&self) -> f64 {
        mean(&self.test)
    }

    /// Its rates on a split.
    pub fn rates(&self, split: Split) -> &[f64] {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }

    /// The same agent with its mean rate moved by exactly `by` on both splits: a `share` of the tasks, drawn at random, goes
    /// the same part of its way to always or to never.
    pub fn moved(&self, by: f64, share: f64, random: &mut Random) -> Agent {
        self.moved_apart(by, by, share, random)
    }

    /// The same with another move on each split.
    pub fn moved_apart(&self, train: f64, test: f64, share: f64, random: &mut Random) -> Agent {
        let (train, test) = (moved(&self.train, train, share, random), moved(&self.test, test, share, random));
        Agent { train, test, noise: self.noise }
    }
}

fn moved(rates: &[f64], by: f64, share: f64, random: &mut Random) -> Vec<f64> {
    let touched: Vec<bool> = rates.iter().map(|_| random.share() < share).collect();
    let room = |rate: f64| if by > 0.0 { 1.0 - rate } else { rate };
    let all: f64 = rates.iter().zip(&touched).filter(|(_, touched)| **touched).map(|(rate, _)| room(*rate)).sum();
    let part = if all > 0.0 { (by.abs() * rates.len() as f64 / all).min(1.0) } else { 0.0 };
    let one = |(rate, touched): (&f64, &bool)| if *touched { rate + part * room(*rate) * by.signum() } else { *rate };
    rates.iter().zip(&touched).map(one).collect()
}

/// The mean of these values; 0 of none.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

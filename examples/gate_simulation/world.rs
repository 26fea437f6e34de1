//! What is simulated: agents as a rate of success per task, edits that change these rates, and trials that draw from them.

use autoharness::model::trial::Split;
use rand_mt::Mt64;

/// Published rates of 59 tasks.
const TB2: &str = include_str!("../../benches/data/tb2_rates.txt");

/// Random numbers, the same ones every time.
pub(crate) struct Random(Mt64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(Mt64::new(seed))
    }

    /// Uniform in 0–1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One trial of a task with this rate.
    pub(crate) fn trial(&mut self, rate: f64) -> f64 {
        f64::from(u8::from(self.share() < rate))
    }
}

/// Where the rates of a panel's tasks come from.
#[derive(Clone, Copy)]
pub(crate) enum Rates {
    /// Drawn from those of Terminal-Bench 2: most tasks are always solved or never.
    Tb2,
    /// Uniform in 0–1: most tasks are in between.
    Uniform,
}

impl Rates {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Rates::Tb2 => "tb2",
            Rates::Uniform => "uniform",
        }
    }
}

/// How many tasks.
#[derive(Clone, Copy)]
pub(crate) struct Panel {
    pub(crate) train: usize,
    pub(crate) test: usize,
}

pub(crate) const PANELS: [Panel; 4] = [
    Panel { train: 28, test: 12 },
    Panel { train: 62, test: 27 },
    Panel { train: 74, test: 40 },
    Panel { train: 200, test: 86 },
];

/// An agent is what it solves how often.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) train: Vec<f64>,
    pub(crate) test: Vec<f64>,
}

impl Agent {
    pub(crate) fn draw(panel: Panel, rates: Rates, random: &mut Random) -> Agent {
        let published: Vec<f64> = TB2.lines().filter_map(rate).collect();
        let mut some = |count: usize| -> Vec<f64> {
            let mut one = || match rates {
                Rates::Uniform => random.share(),
                Rates::Tb2 => published[(random.share() * published.len() as f64) as usize],
            };
            (0..count).map(|_| one()).collect()
        };
        Agent { train: some(panel.train), test: some(panel.test) }
    }

    /// Its true score on the hold-out.
    pub(crate) fn truth(&self) -> f64 {
        mean(&self.test)
    }

    pub(crate) fn rates(&self, split: Split) -> &[f64] {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }

    /// The same agent with its mean rate moved by exactly `by` on both splits: a `share` of the tasks, drawn at random, goes
    /// the same part of its way to always or to never.
    pub(crate) fn moved(&self, by: f64, share: f64, random: &mut Random) -> Agent {
        self.moved_apart(by, by, share, random)
    }

    fn moved_apart(&self, train: f64, test: f64, share: f64, random: &mut Random) -> Agent {
        Agent { train: moved(&self.train, train, share, random), test: moved(&self.test, test, share, random) }
    }

    /// What a coding agent does to it: 55 of 100 edits have no effect, 18 are good, 18 are bad, 9 are good on train and a
    /// third as bad on the hold-out. An effect is 1 to 5 points, on a third of the tasks.
    pub(crate) fn edited(&self, random: &mut Random) -> Agent {
        let (kind, size) = (random.share(), 0.01 + 0.04 * random.share());
        match kind {
            kind if kind < 0.55 => self.clone(),
            kind if kind < 0.73 => self.moved(size, 1.0 / 3.0, random),
            kind if kind < 0.91 => self.moved(-size, 1.0 / 3.0, random),
            _ => self.moved_apart(size, -size / 3.0, 1.0 / 3.0, random),
        }
    }
}

fn rate(line: &str) -> Option<f64> {
    let mut numbers = line.split_whitespace().skip(1).map(str::parse::<f64>);
    Some(numbers.next()?.ok()? / numbers.next()?.ok()?)
}

fn moved(rates: &[f64], by: f64, share: f64, random: &mut Random) -> Vec<f64> {
    let touched: Vec<bool> = rates.iter().map(|_| random.share() < share).collect();
    let room = |rate: f64| if by > 0.0 { 1.0 - rate } else { rate };
    let all: f64 = rates.iter().zip(&touched).filter(|(_, touched)| **touched).map(|(rate, _)| room(*rate)).sum();
    let part = if all > 0.0 { (by.abs() * rates.len() as f64 / all).min(1.0) } else { 0.0 };
    let one = |(rate, touched): (&f64, &bool)| if *touched { rate + part * room(*rate) * by.signum() } else { *rate };
    rates.iter().zip(&touched).map(one).collect()
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

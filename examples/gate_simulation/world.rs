//! The agents and edits that the simulation plays with.

use autoharness::internals::model::simulate::{Agent, Random};

/// Published rates of 59 tasks.
const TB2: &str = include_str!("../../benches/data/tb2_rates.txt");

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

/// An agent whose trials pass or fail.
pub(crate) fn draw(panel: Panel, rates: Rates, random: &mut Random) -> Agent {
    let published: Vec<f64> = TB2.lines().filter_map(rate).collect();
    let mut some = |count: usize| -> Vec<f64> {
        let mut one = || match rates {
            Rates::Uniform => random.share(),
            Rates::Tb2 => published[(random.share() * published.len() as f64) as usize],
        };
        (0..count).map(|_| one()).collect()
    };
    Agent { train: some(panel.train), test: some(panel.test), noise: 1.0 }
}

/// What a coding agent does to an agent: 55 of 100 edits have no effect, 18 are good, 18 are bad, 9 are good on train and a
/// third as bad on the hold-out. An effect is 1 to 5 points, on a third of the tasks.
pub(crate) fn edited(agent: &Agent, random: &mut Random) -> Agent {
    let (kind, size) = (random.share(), 0.01 + 0.04 * random.share());
    match kind {
        kind if kind < 0.55 => agent.clone(),
        kind if kind < 0.73 => agent.moved(size, 1.0 / 3.0, random),
        kind if kind < 0.91 => agent.moved(-size, 1.0 / 3.0, random),
        _ => agent.moved_apart(size, -size / 3.0, 1.0 / 3.0, random),
    }
}

fn rate(line: &str) -> Option<f64> {
    let mut numbers = line.split_whitespace().skip(1).map(str::parse::<f64>);
    Some(numbers.next()?.ok()? / numbers.next()?.ok()?)
}

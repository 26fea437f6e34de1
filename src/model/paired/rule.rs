//! The numbers that the rule `paired` decides by: how sure it must be in each round, and when it gives up.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::mantel::upper_tail;

/// Width of the cells that [`crossing`] integrates over, and how far down they reach, in standard deviations.
const CELL: f64 = 0.05;
const FAR: f64 = 5.0;

/// The rule as it was applied. All of it goes into the verdict, so that a later build decides old evidence the same way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// The chance, over all rounds together, to accept an edit that changes nothing.
    pub alpha: f64,
    /// Rounds after which an edit that is still in doubt is left undecided, at least 1.
    pub max_rounds: u32,
    /// The chance at or below which a round accepts; follows from the two above.
    pub level: f64,
    /// Standard deviations at which `level` is reached.
    pub goal: f64,
    /// The hold-out alone must not be behind by more standard deviations than this.
    pub bound: f64,
    /// Share of the tasks for which each agent must have evidence, 0–1.
    pub min_evidence: f64,
    /// Whether that is a share of all tasks; by earlier rules it was one of those with any evidence of the incumbent, which was not
    /// asked for it in further rounds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_all: bool,
}

impl Rule {
    /// The rule for a chance of error in 0–0.5 and a number of rounds; both are clamped to their range.
    pub fn new(alpha: f64, max_rounds: u32, min_evidence: f64) -> Rule {
        let (alpha, max_rounds) = (alpha.clamp(1e-6, 0.5), max_rounds.clamp(1, 10));
        let level = level(alpha, max_rounds);
        Rule { alpha, max_rounds, level, goal: quantile(level), bound: 0.5, min_evidence, of_all: true }
    }

    /// Standard deviations below which a round gives the edit up: 0 for train alone, then rising in even steps towards
    /// the goal, so that an edit no better than chance gets one more round to move.
    pub fn floor(&self, round: u32) -> f64 {
        self.goal * f64::from(round) / f64::from(2 * self.max_rounds + 1)
    }
}

/// The chance at which each of several looks at growing evidence may accept, for `alpha` over all of them (Pocock 1977):
/// every look adds as much evidence as the first had. If later ones add less, the error is smaller.
///
/// A ledger asks for the same few at every verdict, and each takes the integral below two dozen times: they are kept.
fn level(alpha: f64, looks: u32) -> f64 {
    static KEPT: Mutex<BTreeMap<(u64, u32), f64>> = Mutex::new(BTreeMap::new());
    let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = (alpha.to_bits(), looks);
    if let Some(known) = kept().get(&asked) {
        return *known;
    }
    let found = level_by_halving(alpha, looks);
    kept().insert(asked, found);
    found
}

fn level_by_halving(alpha: f64, looks: u32) -> f64 {
    let (mut low, mut high) = (alpha / f64::from(looks), alpha);
    for _ in 0..24 {
        let middle = 0.5 * (low + high);
        if crossing(quantile(middle), looks) > alpha { high = middle } else { low = middle }
    }
    low
}

/// The chance that a sum of standard normal variables is, after any of `looks` of them, `goal` or more of its standard
/// deviations above 0 (recursion of Armitage, McPherson and Rowe 1969).
fn crossing(goal: f64, looks: u32) -> f64 {
    let spread = |look: u32| libm::sqrt(f64::from(look));
    let density = |x: f64| libm::exp(-0.5 * x * x) / libm::sqrt(2.0 * std::f64::consts::PI);
    // Where a sum that has not crossed yet may be: middles of the cells below the boundary.
    let cells = |look: u32| {
        let count = ((goal + FAR) * spread(look) / CELL).ceil() as u32;
        (0..count).map(move |at| goal * spread(look) - (f64::from(at) + 0.5) * CELL)
    };
    let mut crossed = upper_tail(goal);
    let mut masses: Vec<(f64, f64)> = cells(1).map(|x| (x, density(x) * CELL)).collect();
    for look in 2..=looks {
        crossed += masses.iter().map(|(x, mass)| mass * upper_tail(goal * spread(look) - x)).sum::<f64>();
        let reached = |to: f64| masses.iter().map(|(x, mass)| mass * density(to - x)).sum::<f64>() * CELL;
        masses = cells(look).map(|to| (to, reached(to))).collect();
    }
    crossed
}

/// Standard deviations that a standard normal variable exceeds with this chance.
fn quantile(chance: f64) -> f64 {
    let (mut low, mut high) = (-10.0, 10.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if upper_tail(middle) > chance { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_pocock() {
        // Nominal two-sided levels for 0.05 over all looks (Pocock 1977; Jennison and Turnbull 2000, table 2.1).
        for (looks, two_sided) in [(1, 0.05), (2, 0.0294), (3, 0.0221), (4, 0.0182), (5, 0.0158)] {
            let rule = Rule::new(0.025, looks, 0.9);
            assert!((rule.level - two_sided / 2.0).abs() < 6e-5, "{looks}: {}", rule.level);
            assert!((upper_tail(rule.goal) - rule.level).abs() < 1e-9);
        }
    }

    #[test]
    fn what_makes_no_sense_is_moved_into_range() {
        let rule = Rule::new(7.0, 0, 0.9);
        assert_eq!((rule.alpha, rule.max_rounds), (0.5, 1));
        assert!((rule.level - 0.5).abs() < 1e-9);
    }

    #[test]
    fn giving_up_gets_easier_round_by_round_and_never_reaches_the_goal() {
        for rounds in 1..=6 {
            let rule = Rule::new(0.1, rounds, 0.9);
            assert_eq!(rule.floor(0), 0.0);
            assert!((0..rounds).all(|round| rule.floor(round) < rule.floor(round + 1)));
            assert!(rule.floor(rounds) < rule.goal);
        }
    }
}

//! How often a gate, as it is configured or could be, is wrong about edits of one agent.

use serde::{Deserialize, Serialize};

use super::parallel::all;
use super::rules::{PlayedSearch, RuleKind};
use super::world::{Agent, Random, mean};
use crate::model::gate::GateRule;
use crate::model::paired::{PairedVerdict, Rule};

/// Edits in a row after which the recorded score is compared with the truth.
const EDITS: usize = 20;
/// One run in this many goes on to all those edits: a mean needs fewer runs than a share.
const GOES_ON: usize = 4;
/// Runs times tasks up to which a simulation takes a few seconds, and the largest number of runs.
const WORK: usize = 36_000;
const RUNS: (usize, usize) = (20, 400);
/// A gate that accepts edits that change nothing at most this often does no great harm.
const HARMLESS: f64 = 0.2;
/// Differences between two rows that are more than the luck of the simulation.
const CLEAR: f64 = 0.07;

/// The part of the gate's configuration that the simulation uses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Configured {
    pub rule: GateRule,
    /// Trials of each task.
    pub trials: u32,
    /// Rounds of the rule `paired`.
    pub max_rounds: u32,
    /// Trials afresh by the rule `paired`.
    pub confirm_trials: u32,
    /// Chance of error of the rule `paired`.
    pub alpha: f64,
    /// Share of the suite that must pass, by the rule `best`.
    pub threshold: f64,
    /// Share of the tasks that must give evidence.
    pub min_evidence: f64,
}

/// What one configuration does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Odds {
    pub of: Configured,
    /// Share of edits that change nothing which are accepted.
    pub noop: f64,
    /// Share of edits worth 5 points which are accepted.
    pub plus5: f64,
    /// Share of edits worth 10 points which are accepted.
    pub plus10: f64,
    /// By how much the recorded score is above the truth after 20 edits that change nothing.
    pub inflation: f64,
    /// Trials that a gate runs for an edit that changes nothing.
    pub cost: f64,
}

/// What the simulation came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Runs that the shares are of.
    pub runs: usize,
    /// The gate as it is configured, then as it could be.
    pub odds: Vec<Odds>,
}

impl Configured {
    pub fn name(&self) -> String {
        let Configured { trials, max_rounds, .. } = self;
        match self.rule {
            GateRule::Best => format!("best, trials {trials}"),
            GateRule::Paired => format!("paired, trials {trials}, max_rounds {max_rounds}"),
        }
    }

    fn kind(&self) -> RuleKind {
        let trials = self.trials as usize;
        match self.rule {
            GateRule::Best => RuleKind::Best { trials, suite_threshold: Some(self.threshold) },
            GateRule::Paired => {
                let rule = Rule::new(self.alpha, self.max_rounds, self.min_evidence);
                RuleKind::Paired { rule, trials, confirm: self.confirm_trials as usize }
            }
        }
    }

    /// This one, the other rule, and this rule with other numbers.
    fn variants(&self) -> Vec<Configured> {
        let other = if self.rule == GateRule::Best { GateRule::Paired } else { GateRule::Best };
        let mut variants = vec![*self, Configured { rule: other, ..*self }];
        variants.extend([1, 3, 5].map(|trials| Configured { trials, ..*self }));
        if self.rule == GateRule::Paired {
            variants.extend([1, 3, 5].map(|max_rounds| Configured { max_rounds, ..*self }));
        }
        let mut different: Vec<Configured> = Vec::new();
        for variant in variants {
            if !different.contains(&variant) {
                different.push(variant);
            }
        }
        different
    }
}

/// Plays the gate with this agent.
pub(crate) fn forecast(agent: &Agent, configured: &Configured) -> Forecast {
    let tasks = agent.train.len() + agent.test.len();
    played(agent, configured, (WORK / tasks.max(1)).clamp(RUNS.0, RUNS.1))
}

fn played(agent: &Agent, configured: &Configured, runs: usize) -> Forecast {
    let variants = configured.variants();
    // Small jobs, so that no core is left with a large one.
    let jobs: Vec<(usize, usize)> = (0..variants.len()).flat_map(|row| (0..runs).map(move |run| (row, run))).collect();
    let kinds: Vec<RuleKind> = variants.iter().map(Configured::kind).collect();
    let found = all(&jobs, |(row, run)| play(kinds[*row], agent, *run));
    let odds = variants.iter().zip(found.chunks(runs)).map(|(of, runs)| {
        let share = |of: fn(&Played) -> f64| mean(&runs.iter().map(of).collect::<Vec<f64>>());
        let inflation: Vec<f64> = runs.iter().filter_map(|run| run.inflation).collect();
        Odds {
            of: *of,
            noop: share(|run| run.noop),
            plus5: share(|run| run.better[0]),
            plus10: share(|run| run.better[1]),
            inflation: mean(&inflation),
            cost: share(|run| run.cost),
        }
    });
    Forecast { runs, odds: odds.collect() }
}

struct Played {
    noop: f64,
    better: [f64; 2],
    inflation: Option<f64>,
    cost: f64,
}

fn play(kind: RuleKind, agent: &Agent, run: usize) -> Played {
    let random = &mut Random::new(run as u64);
    let passes = |verdict: PairedVerdict| f64::from(verdict == PairedVerdict::Passed);
    let mut experiment = PlayedSearch::begin(kind, agent, random);
    let before = experiment.spent;
    let noop = passes(experiment.judge(agent, random));
    let cost = (experiment.spent - before) as f64;
    let inflation = run.is_multiple_of(GOES_ON).then(|| {
        for _ in 1..EDITS {
            experiment.judge(agent, random);
        }
        experiment.recorded - agent.truth()
    });
    let better = [0.05, 0.10].map(|by| {
        let edited = agent.moved(by, 1.0, random);
        passes(PlayedSearch::begin(kind, agent, random).judge(&edited, random))
    });
    Played { noop, better, inflation, cost }
}

impl Forecast {
    /// The row that would clearly do better than the configured one, if there is one: of those that seldom accept an edit
    /// which changes nothing, the one that misses least.
    pub fn advice(&self) -> Option<&Odds> {
        let now = self.odds.first()?;
        let harmless = self.odds.iter().filter(|odds| odds.noop <= HARMLESS);
        let best = harmless.max_by(|one, other| one.plus10.total_cmp(&other.plus10))?;
        let is_clear = now.noop > HARMLESS || best.plus10 > now.plus10 + CLEAR;
        (best.of != now.of && is_clear).then_some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(rule: GateRule) -> Configured {
        let (trials, max_rounds, confirm_trials, alpha, threshold, min_evidence) = (1, 3, 3, 0.1, 0.8, 0.9);
        Configured { rule, trials, max_rounds, confirm_trials, alpha, threshold, min_evidence }
    }

    fn agent(rates: [f64; 3]) -> Agent {
        let some = |count: usize| (0..count).map(|at| rates[at % 3]).collect();
        Agent { train: some(30), test: some(15), noise: 1.0 }
    }

    #[test]
    fn a_noisy_agent_has_best_accept_what_changes_nothing_and_paired_not() {
        let noisy = agent([0.3, 0.6, 0.9]);
        let found = played(&noisy, &configured(GateRule::Best), 100);
        let names: Vec<String> = found.odds.iter().map(|odds| odds.of.name()).collect();
        assert_eq!(names, ["best, trials 1", "paired, trials 1, max_rounds 3", "best, trials 3", "best, trials 5"]);
        let (best, paired, five) = (found.odds[0], found.odds[1], found.odds[3]);
        assert!(best.noop > 0.4 && best.noop < 0.75 && best.inflation > 0.08, "{best:?}");
        // Alpha and two standard errors of 100 runs.
        assert!(paired.noop <= 0.16 && paired.inflation < 0.05, "{paired:?}");
        assert!(five.inflation < best.inflation && five.plus10 > best.plus10);
        assert!(paired.plus10 > paired.plus5 && paired.plus5 > paired.noop);
        assert_eq!((best.cost, found.advice().unwrap().of.rule), (45.0, GateRule::Paired));
        // The same numbers every time.
        let few = played(&noisy, &configured(GateRule::Best), 3);
        assert_eq!(few, played(&noisy, &configured(GateRule::Best), 3));
    }

    #[test]
    fn an_agent_without_noise_is_judged_without_error() {
        let found = played(&agent([0.0, 1.0, 1.0]), &configured(GateRule::Paired), 3);
        let (paired, best) = (found.odds[0], found.odds[1]);
        assert_eq!((paired.noop, paired.inflation, best.inflation), (0.0, 0.0, 0.0));
        assert_eq!(best.noop, 1.0, "what is no worse passes");
        assert_eq!(found.odds.len(), 6);
    }
}

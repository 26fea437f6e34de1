//! The rules under test. Both call the gate's own functions; the code here only gathers evidence.

use std::collections::BTreeMap;

use crate::model::compare::Reference;
use crate::model::gate::{Evidence, Policy, Status, decide as decide_best};
use crate::model::paired::{Answer, Arm, Pair, PairedVerdict, Pairs, Rule, decide as decide_paired};
use crate::model::score::Rewards;
use crate::model::trial::Split;

use super::world::{Agent, Random, mean};

const SPLITS: [Split; 2] = [Split::Train, Split::Test];

/// What an experiment with one rule has come to.
pub struct PlayedSearch {
    /// The agent that was accepted last.
    pub incumbent: Agent,
    /// Trials paid for.
    pub spent: usize,
    /// The val_score recorded for the incumbent.
    pub recorded: f64,
    rule: Judge,
}

/// A rule and what it remembers.
enum Judge {
    Best { trials: usize, suite_threshold: Option<f64>, best: Rewards, suite: Vec<usize>, failing: Vec<usize> },
    Paired { rule: Rule, trials: usize, confirm: usize, known: BTreeMap<String, Vec<Option<f64>>> },
}

/// A rule as it is configured.
#[derive(Debug, Clone, Copy)]
pub enum RuleKind {
    /// `gate_rule: best`.
    Best {
        /// Trials of each task.
        trials: usize,
        /// Share of the suite that must pass; `None`: there is no suite.
        suite_threshold: Option<f64>,
    },
    /// `gate_rule: paired`.
    Paired {
        rule: Rule,
        /// First trials of the candidate on each task.
        trials: usize,
        /// Trials afresh of each task once an agent is accepted.
        confirm: usize,
    },
}

impl RuleKind {
    /// The rule in a few words.
    pub fn name(self) -> String {
        match self {
            RuleKind::Best { trials, suite_threshold: Some(_) } => format!("best, trials {trials}"),
            RuleKind::Best { trials, suite_threshold: None } => format!("best, trials {trials}, no suite"),
            RuleKind::Paired { .. } => "paired".into(),
        }
    }
}

impl PlayedSearch {
    /// Measures the baseline.
    pub fn begin(kind: RuleKind, baseline: &Agent, random: &mut Random) -> PlayedSearch {
        let rule = match kind {
            RuleKind::Best { trials, suite_threshold } => Judge::Best {
                trials,
                suite_threshold,
                best: Rewards::default(),
                suite: Vec::new(),
                failing: (0..baseline.train.len()).collect(),
            },
            RuleKind::Paired { rule, trials, confirm } => {
                Judge::Paired { rule, trials, confirm, known: BTreeMap::new() }
            }
        };
        let mut begun = PlayedSearch { incumbent: baseline.clone(), spent: 0, recorded: 0.0, rule };
        match &mut begun.rule {
            Judge::Best { trials, best, failing, .. } => {
                let (train, test) =
                    (rewards(baseline, Split::Train, *trials, random), rewards(baseline, Split::Test, *trials, random));
                failing.retain(|task| train[*task] < 0.5);
                (begun.recorded, *best) = (mean(&test), named(&test));
                begun.spent += *trials * (train.len() + test.len());
            }
            Judge::Paired { .. } => begun.confirm(random),
        }
        begun
    }

    /// Judges a candidate; it is the incumbent afterwards when it passed.
    pub fn judge(&mut self, candidate: &Agent, random: &mut Random) -> PairedVerdict {
        let PlayedSearch { incumbent, spent, recorded, rule } = self;
        match rule {
            Judge::Best { trials, suite_threshold, best, suite, failing } => {
                let train = rewards(candidate, Split::Train, *trials, random);
                let test = rewards(candidate, Split::Test, *trials, random);
                *spent += *trials * (train.len() + test.len());
                let some =
                    |tasks: &[usize]| tasks.iter().map(|task| (id(*task), Some(train[*task]))).collect::<Rewards>();
                let waiting: Vec<usize> = failing.iter().copied().filter(|task| !suite.contains(task)).collect();
                let evidence = Evidence {
                    suite: if suite_threshold.is_some() { some(suite) } else { Rewards::default() },
                    holdout: named(&test),
                    best: Some(Reference { val_score: *recorded, source: "best".into(), rewards: best.clone() }),
                    promotion: some(&waiting),
                    ..Evidence::new(Policy {
                        threshold: suite_threshold.unwrap_or(0.0),
                        trials: *trials as u32,
                        ..Policy::default()
                    })
                };
                let decision = decide_best(&evidence);
                if decision.status != Status::Passed {
                    return PairedVerdict::Failed;
                }
                suite.extend(waiting.into_iter().filter(|task| decision.promoted.contains(&id(*task))));
                *failing = (0..train.len()).filter(|task| train[*task] < 0.5).collect();
                (*recorded, *best, *incumbent) = (mean(&test), evidence.holdout, candidate.clone());
                PairedVerdict::Passed
            }
            Judge::Paired { rule, trials, known, .. } => {
                let verdict = in_rounds(rule, *trials, known, incumbent, candidate, spent, random);
                if verdict == PairedVerdict::Passed {
                    self.incumbent = candidate.clone();
                    self.confirm(random);
                }
                verdict
            }
        }
    }

    /// Measures the incumbent afresh, as `paired` does with a baseline and after each pass.
    fn confirm(&mut self, random: &mut Random) {
        let Judge::Paired { confirm, known, .. } = &mut self.rule else { return };
        known.clear();
        for split in SPLITS {
            for (task, rate) in self.incumbent.rates(split).iter().enumerate() {
                let mut fresh = || Some(random.trial(*rate, self.incumbent.noise));
                known.insert(named_task(split, task), (0..*confirm).map(|_| fresh()).collect());
                self.spent += *confirm;
            }
        }
        let test = known.iter().filter(|(task, _)| split_of(task) == Split::Test);
        self.recorded = mean(&test.flat_map(|(_, trials)| trials.iter().flatten().copied()).collect::<Vec<f64>>());
    }
}

/// Runs what the rule asks for until it rules.
fn in_rounds(
    rule: &Rule,
    trials: usize,
    known: &BTreeMap<String, Vec<Option<f64>>>,
    incumbent: &Agent,
    candidate: &Agent,
    spent: &mut usize,
    random: &mut Random,
) -> PairedVerdict {
    let of = |task: &String, first: &Vec<Option<f64>>| Pair {
        split: split_of(task),
        candidate: Arm::default(),
        incumbent: Arm { first: first.clone(), rounds: Vec::new() },
    };
    let mut pairs: Pairs = known.iter().map(|(task, first)| (task.clone(), of(task, first))).collect();
    loop {
        let wanted = match decide_paired(rule, &pairs) {
            Answer::Ruled(ruling) => return ruling.verdict,
            Answer::Measure(wanted) => wanted,
        };
        for (task, pair) in pairs.iter_mut().filter(|(task, _)| wanted.tasks.binary_search(task).is_ok()) {
            let mut trial = |agent: &Agent| {
                *spent += 1;
                Some(random.trial(agent.rates(split_of(task))[index(task)], agent.noise))
            };
            if wanted.both {
                pair.candidate.rounds.push(trial(candidate));
                pair.incumbent.rounds.push(trial(incumbent));
            } else {
                pair.candidate.first.extend((0..trials).map(|_| trial(candidate)));
            }
        }
    }
}

/// Mean rewards of every task of a split.
fn rewards(agent: &Agent, split: Split, trials: usize, random: &mut Random) -> Vec<f64> {
    let mut of = |rate: f64| (0..trials).map(|_| random.trial(rate, agent.noise)).sum::<f64>() / trials as f64;
    agent.rates(split).iter().map(|rate| of(*rate)).collect()
}

fn id(task: usize) -> String {
    format!("{task:04}")
}

fn named(rewards: &[f64]) -> Rewards {
    rewards.iter().enumerate().map(|(task, reward)| (id(task), Some(*reward))).collect()
}

/// `r0001` is a task of train, `t0001` one of the hold-out.
fn named_task(split: Split, task: usize) -> String {
    format!("{}{task:04}", if split == Split::Train { 'r' } else { 't' })
}

fn split_of(task: &str) -> Split {
    if task.starts_with('r') { Split::Train } else { Split::Test }
}

fn index(task: &str) -> usize {
    task[1..].bytes().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}

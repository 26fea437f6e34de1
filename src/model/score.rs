//! From trials to rewards per task and a score per step. A missing trial is never dropped silently: it is counted as missing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::trial::{Outcome, PASS_THRESHOLD, TrialResult};

/// What an agent that ran out of time counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeoutPolicy {
    /// The agent's fault: 0.0 (default).
    Agent,
    /// Evidence of nothing: left out, and reported.
    Infra,
}

impl TimeoutPolicy {
    /// The word used in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            TimeoutPolicy::Agent => "agent",
            TimeoutPolicy::Infra => "infra",
        }
    }
}

/// How trials add up to the reward of a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scoring {
    /// How many of each task there should be.
    pub trials: u32,
    /// What an agent timeout counts for.
    pub policy: TimeoutPolicy,
}

/// The evidence in one trial, as the ledger holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrialEvidence {
    pub outcome: Outcome,
    /// Its reward, when it was graded.
    pub reward: Option<f64>,
}

impl TrialEvidence {
    /// What the trial counts for: 0.0–1.0, or `None` when it is left out (DESIGN §5, Scoring).
    pub fn value(self, policy: TimeoutPolicy) -> Option<f64> {
        match self.outcome {
            Outcome::Passed | Outcome::Failed => self.reward,
            Outcome::AgentError => Some(0.0),
            Outcome::AgentTimeout => match policy {
                TimeoutPolicy::Agent => Some(0.0),
                TimeoutPolicy::Infra => None,
            },
            Outcome::InfraError | Outcome::VerifierError => None,
        }
    }
}

impl TrialResult {
    /// What it is evidence of.
    pub fn evidence(&self) -> TrialEvidence {
        TrialEvidence { outcome: self.outcome, reward: self.reward }
    }
}

/// A task's reward: the mean over its trials that count. `None` when fewer than half of the expected trials do, so that
/// one lucky trial never stands for three.
pub fn task_reward(trials: impl IntoIterator<Item = TrialEvidence>, scoring: Scoring) -> Option<f64> {
    mean_of(trials.into_iter().filter_map(|trial| trial.value(scoring.policy)), scoring.trials)
}

/// What each of these tasks has.
pub(crate) fn by_task<T>(tasks: &[String], value: impl Fn(&String) -> T) -> BTreeMap<String, T> {
    let mut all = BTreeMap::new();
    all.extend(tasks.iter().map(|task| (task.clone(), value(task))));
    all
}

/// The mean of what the trials earned that gave evidence; `None` when those are fewer than half of the expected ones.
pub(crate) fn mean_of(values: impl Iterator<Item = f64>, expected: u32) -> Option<f64> {
    let (mut sum, mut counted) = (0.0, 0u32);
    for value in values {
        sum += value;
        counted += 1;
    }
    (counted > 0 && counted * 2 >= expected).then(|| sum / f64::from(counted))
}

/// The reward of a task with every missing trial counted 0.0; `None` when none is missing, or too many are for a reward.
/// `numbers` are the evidence of each trial number; a number may have been run more than once, or not at all.
pub(crate) fn least_reward<N: Iterator<Item = TrialEvidence>>(
    numbers: impl IntoIterator<Item = N>,
    scoring: Scoring,
) -> Option<f64> {
    let (mut sum, mut counted, mut had) = (0.0, 0u32, 0u32);
    for number in numbers {
        let before = counted;
        for value in number.filter_map(|trial| trial.value(scoring.policy)) {
            sum += value;
            counted += 1;
        }
        had += u32::from(counted > before);
    }
    let lacking = scoring.trials.saturating_sub(had);
    // Half of the trials is at least one, because the missing one was expected.
    (lacking > 0 && counted * 2 >= scoring.trials).then(|| sum / f64::from(counted + lacking))
}

/// True when a task with this reward passes.
pub(crate) fn passes(reward: Option<f64>) -> bool {
    reward.is_some_and(|value| value >= PASS_THRESHOLD)
}

/// Rewards of the tasks a step was to run; every expected task has an entry.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rewards(pub BTreeMap<String, Option<f64>>);

/// The score of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Mean reward over the evaluated tasks; `None` when none was evaluated.
    pub mean: Option<f64>,
    /// Tasks that pass.
    pub passed: usize,
    /// Tasks with evidence.
    pub evaluated: usize,
    /// Tasks that were to be run.
    pub expected: usize,
}

impl FromIterator<(String, Option<f64>)> for Rewards {
    fn from_iter<I: IntoIterator<Item = (String, Option<f64>)>>(rewards: I) -> Rewards {
        let mut all = Rewards::default();
        // `BTreeMap::from_iter` sorts first, with a sort of its own, 10 kB of program, for every caller.
        all.0.extend(rewards);
        all
    }
}

impl Rewards {
    /// True when no task has an entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These rewards without those that pass only because missing trials are left out; `least` has them counted 0.0.
    pub(crate) fn sure(mut self, least: &Rewards) -> Rewards {
        for (task, least) in &least.0 {
            if !passes(*least)
                && let Some(reward) = self.0.get_mut(task).filter(|reward| passes(**reward))
            {
                *reward = None;
            }
        }
        self
    }

    /// These rewards, replaced where `other` has an entry.
    pub fn overlaid(&self, other: &Rewards) -> Rewards {
        let mut rewards = self.clone();
        rewards.0.extend(other.0.iter().map(|(task, reward)| (task.clone(), *reward)));
        rewards
    }

    pub fn score(&self) -> Score {
        let rewards: Vec<f64> = self.0.values().copied().flatten().collect();
        Score {
            mean: (!rewards.is_empty()).then(|| rewards.iter().sum::<f64>() / rewards.len() as f64),
            passed: rewards.iter().filter(|&&reward| passes(Some(reward))).count(),
            evaluated: rewards.len(),
            expected: self.0.len(),
        }
    }
}

impl Score {
    /// Whether enough of the expected tasks were evaluated to decide anything.
    pub fn is_enough(&self, min_evidence: f64) -> bool {
        self.expected == 0
            || (self.evaluated > 0 && self.evaluated as f64 >= min_evidence * self.expected as f64 - 1e-9)
    }

    /// Share of the evaluated tasks that pass; 0 when none was evaluated.
    pub fn pass_share(&self) -> f64 {
        if self.evaluated == 0 { 0.0 } else { self.passed as f64 / self.evaluated as f64 }
    }

    /// Expected tasks that gave no evidence.
    pub fn missing(&self) -> usize {
        self.expected - self.evaluated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(outcome: Outcome, reward: Option<f64>) -> TrialEvidence {
        TrialEvidence { outcome, reward }
    }

    fn of(trials: u32) -> Scoring {
        Scoring { trials, policy: TimeoutPolicy::Agent }
    }

    #[test]
    fn crashing_never_raises_a_score() {
        let crash = evidence(Outcome::AgentError, None);
        assert_eq!(crash.value(TimeoutPolicy::Agent), Some(0.0));
        assert_eq!(crash.value(TimeoutPolicy::Infra), Some(0.0));
    }

    #[test]
    fn timeouts_follow_the_policy() {
        let timeout = evidence(Outcome::AgentTimeout, Some(0.0));
        assert_eq!(timeout.value(TimeoutPolicy::Agent), Some(0.0));
        assert_eq!(timeout.value(TimeoutPolicy::Infra), None);
    }

    #[test]
    fn the_policy_is_stored_as_it_is_configured() {
        for (policy, word) in [(TimeoutPolicy::Agent, "agent"), (TimeoutPolicy::Infra, "infra")] {
            assert_eq!((policy.as_str(), serde_json::to_value(policy).unwrap()), (word, word.into()));
        }
    }

    #[test]
    fn infrastructure_is_left_out_and_counted() {
        let rewards = Rewards(BTreeMap::from([("a".into(), Some(1.0)), ("b".into(), None), ("c".into(), Some(0.0))]));
        let score = rewards.score();
        assert_eq!((score.mean, score.passed, score.evaluated, score.expected), (Some(0.5), 1, 2, 3));
        assert_eq!(score.missing(), 1);
        assert!(!score.is_enough(0.9));
        assert!(score.is_enough(0.6));
    }

    #[test]
    fn a_task_is_the_mean_of_its_counted_trials() {
        let trials = [
            evidence(Outcome::Passed, Some(1.0)),
            evidence(Outcome::InfraError, None),
            evidence(Outcome::Failed, Some(0.0)),
        ];
        assert_eq!(task_reward(trials, of(3)), Some(0.5));
        assert_eq!(task_reward(trials, of(5)), None);
        assert_eq!(task_reward([evidence(Outcome::VerifierError, None)], of(1)), None);
    }

    #[test]
    fn one_lucky_trial_never_stands_for_three() {
        for (counted, expected, has_reward) in [
            (0, 0, false),
            (0, 1, false),
            (1, 1, true),
            (1, 2, true),
            (1, 3, false),
            (2, 3, true),
            (2, 4, true),
            (2, 5, false),
            (3, 6, true),
            (3, 7, false),
        ] {
            let trials = vec![evidence(Outcome::Passed, Some(1.0)); counted];
            let reward = task_reward(trials, of(expected));
            assert_eq!(reward, has_reward.then_some(1.0), "{counted} of {expected}");
        }
    }

    #[test]
    fn nine_of_ten_is_enough_at_nine_tenths() {
        let score = Score { mean: Some(1.0), passed: 9, evaluated: 9, expected: 10 };
        assert!(score.is_enough(0.9));
        assert!(!Score { evaluated: 0, passed: 0, mean: None, expected: 10 }.is_enough(0.0));
    }

    #[test]
    fn lacking_trials_count_for_nothing_at_least() {
        let (pass, none) = (evidence(Outcome::Passed, Some(1.0)), evidence(Outcome::InfraError, None));
        let late = evidence(Outcome::AgentTimeout, None);
        let agent = TimeoutPolicy::Agent;
        // evidence by trial number, expected trials, policy, least
        for (numbers, expected, policy, least) in [
            (vec![vec![pass], vec![pass]], 2, agent, None),
            (vec![vec![pass], vec![none]], 2, agent, Some(0.5)),
            (vec![vec![pass]], 2, agent, Some(0.5)),
            (vec![vec![pass, pass], vec![]], 2, agent, Some(2.0 / 3.0)),
            (vec![vec![pass, none], vec![none, pass]], 2, agent, None),
            (vec![vec![pass]], 3, agent, None),
            (vec![vec![none]], 1, agent, None),
            (vec![], 1, agent, None),
            (vec![vec![pass], vec![late]], 2, agent, None),
            (vec![vec![pass], vec![late]], 2, TimeoutPolicy::Infra, Some(0.5)),
        ] {
            let trials = || numbers.iter().map(|number: &Vec<TrialEvidence>| number.iter().copied());
            assert_eq!(least_reward(trials(), Scoring { trials: expected, policy }), least, "{numbers:?} {expected}");
            let reward = task_reward(trials().flatten(), Scoring { trials: expected, policy });
            assert!(least.is_none_or(|least| reward.is_some_and(|reward| least <= reward)), "{numbers:?}");
        }
    }

    #[test]
    fn an_overlay_replaces_and_keeps() {
        let of = |list: &[(&str, f64)]| Rewards(list.iter().map(|(task, r)| (task.to_string(), Some(*r))).collect());
        assert_eq!(of(&[("a", 1.0), ("b", 1.0)]).overlaid(&of(&[("b", 0.5)])), of(&[("a", 1.0), ("b", 0.5)]));
        assert!(Rewards::default().is_empty() && !of(&[("a", 1.0)]).is_empty());
    }
}

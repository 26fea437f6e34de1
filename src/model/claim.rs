//! What may be claimed about two agents that were run afresh on the same tasks: how much better one is, how surely, and in which words.
//!
//! The *lift* is the mean over the tasks of the difference between the agents' mean rewards. Its interval treats the task as
//! the unit: trials of one task are alike, so the standard error is that of the differences per task, with the quantile of
//! Student's t. If fewer than two tasks show any difference, or all show the same, no interval is claimed: an interval
//! without width would claim certainty. The p-value comes from Mantel's test, as in the rule `paired`.
//!
//! Nothing chose the trials, so no look has to be paid for, and all trials of a task are one stratum.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::compare::EPSILON;
use super::paired::mantel::{Chance, Stratum, points};
use super::score::mean_of;

/// A difference is claimed when equally good agents would look like this, or more so, at most this often (one-sided). It is
/// the level of a 90 % interval that leaves 0 out.
pub(crate) const LEVEL: f64 = 0.05;
/// The largest number of trials per task that can be requested.
pub(crate) const MOST: u32 = 100;
/// The share of the interval.
pub(crate) const INTERVAL: f64 = 0.90;

/// The trials of both agents on one task: rewards, `None` for a trial that gave no evidence.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Arms {
    /// What the agent to compare with earned.
    pub baseline: Vec<Option<f64>>,
    /// What the best recorded agent earned.
    pub best: Vec<Option<f64>>,
}

/// Everything the claim depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Share of the tasks that must have evidence of both agents, 0–1.
    pub min_evidence: f64,
    /// Both agents, by task.
    pub tasks: BTreeMap<String, Arms>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// The best agent is better.
    Better,
    /// It is better on these very tasks, but the interval, which is about tasks like them, contains 0.
    BetterOnTheseTasks,
    Worse,
    /// Neither can be claimed.
    NoDifference,
    /// It looks better, but the answer depends on trials without evidence.
    Hangs,
}

impl Conclusion {
    /// The word that is printed and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Conclusion::Better => "better",
            Conclusion::BetterOnTheseTasks => "better_on_these_tasks",
            Conclusion::Worse => "worse",
            Conclusion::NoDifference => "no_difference",
            Conclusion::Hangs => "hangs",
        }
    }
}

/// What may be claimed. Aggregates only.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    pub finding: Conclusion,
    /// Mean reward of the agent to compare with, over the tasks that both have evidence for.
    pub baseline: f64,
    /// The same of the best agent.
    pub best: f64,
    /// The mean of the differences.
    pub lift: f64,
    /// Where the lift is with 90 % confidence, when that can be said.
    pub interval: Option<(f64, f64)>,
    /// The chance that equally good agents would put the best at least as far ahead.
    pub p: f64,
    /// True when every deal was counted, false for the normal approximation.
    pub exact: bool,
    /// Tasks with evidence of both.
    pub tasks: usize,
    /// Those whose trials did not all earn the same.
    pub informative: usize,
}

impl Measured {
    /// Tasks with enough evidence of both agents.
    pub fn evaluated(&self) -> usize {
        self.tasks.values().filter(|arms| arms.difference().is_some()).count()
    }

    /// Trials that gave evidence.
    pub fn trials(&self) -> usize {
        self.tasks.values().map(|arms| arms.baseline.iter().chain(&arms.best).flatten().count()).sum()
    }

    /// What may be claimed; `None` when too few tasks have evidence.
    pub fn claim(&self) -> Option<Claim> {
        let expected = self.tasks.len();
        let evaluated = self.evaluated();
        if evaluated == 0 || (evaluated as f64) < self.min_evidence * expected as f64 - EPSILON {
            return None;
        }
        let claim = self.seen(false);
        // An agent must not win by spoiling the trials that would count against it.
        let is_up = matches!(claim.finding, Conclusion::Better | Conclusion::BetterOnTheseTasks);
        let hangs = is_up && self.seen(true).finding != claim.finding;
        Some(if hangs { Claim { finding: Conclusion::Hangs, ..claim } } else { claim })
    }

    /// What was seen. With `least`, missing trials of the best agent count 0.0.
    fn seen(&self, least: bool) -> Claim {
        let arms: Vec<Arms> = self
            .tasks
            .values()
            .map(|arms| match least {
                true => Arms { best: arms.best.iter().map(|reward| reward.or(Some(0.0))).collect(), ..arms.clone() },
                false => arms.clone(),
            })
            .filter(|arms| arms.difference().is_some())
            .collect();
        let known = |trials: &[Option<f64>]| trials.iter().flatten().copied().collect::<Vec<_>>();
        let strata: Vec<Stratum> =
            arms.iter().map(|arms| Stratum::of(&known(&arms.best), &known(&arms.baseline))).collect();
        let turned: Vec<Stratum> = strata.iter().map(Stratum::turned).collect();
        let informative = strata.iter().filter(|stratum| stratum.informs()).count();
        let differences: Vec<f64> = arms.iter().filter_map(Arms::difference).collect();
        let of = |pick: fn(&Arms) -> &[Option<f64>]| average(arms.iter().filter_map(|arms| mean(pick(arms))));
        let (lift, chance, other) = (average(differences.iter().copied()), Chance::of(&strata), Chance::of(&turned));
        let interval = if informative < 2 { None } else { interval(&differences) };
        let finding = if chance.p <= LEVEL {
            match interval {
                Some((low, _)) if low <= 0.0 => Conclusion::BetterOnTheseTasks,
                _ => Conclusion::Better,
            }
        } else if other.p <= LEVEL {
            Conclusion::Worse
        } else {
            Conclusion::NoDifference
        };
        Claim {
            finding,
            baseline: of(|arms| &arms.baseline),
            best: of(|arms| &arms.best),
            lift,
            interval,
            p: chance.p,
            exact: chance.exact,
            tasks: arms.len(),
            informative,
        }
    }
}

impl Claim {
    /// In plain words. `baseline` is what the other agent is called.
    pub fn words(&self, baseline: &str) -> String {
        let numbers = format!("{}, {}, {}", points(self.lift), self.interval_words(), p_words(self.p));
        match self.finding {
            Conclusion::Better => format!("best is better than {baseline}: {numbers}"),
            Conclusion::BetterOnTheseTasks => format!(
                "best is better than {baseline} on these very tasks, but too few of them differ to claim it of others: \
                 {numbers}"
            ),
            Conclusion::Worse => {
                format!("best is WORSE than {baseline}: {}, {}", points(self.lift), self.interval_words())
            }
            Conclusion::NoDifference => format!("no difference from {baseline} can be claimed: {numbers}"),
            Conclusion::Hangs => format!(
                "no difference from {baseline} can be claimed: whether best is better hangs on trials without evidence \
                 ({numbers})"
            ),
        }
    }

    /// The interval, or why there is none.
    pub fn interval_words(&self) -> String {
        match self.interval {
            Some((low, high)) => format!("90 % interval {:+.1} to {:+.1}", 100.0 * low, 100.0 * high),
            None if self.informative == 0 => "no interval can be claimed (no task shows a difference)".into(),
            None if self.informative == 1 => "no interval can be claimed (a single task shows a difference)".into(),
            None => "no interval can be claimed (all tasks differ by the same)".into(),
        }
    }
}

/// A p-value; a small one is not zero.
pub(crate) fn p_words(p: f64) -> String {
    if p < 0.0001 { "p < 0.0001".into() } else { format!("p = {p:.4}") }
}

impl Arms {
    /// Difference of the mean rewards; `None` where one of the agents lacks evidence.
    fn difference(&self) -> Option<f64> {
        Some(mean(&self.best)? - mean(&self.baseline)?)
    }
}

/// The mean reward; `None` when fewer than half of the trials gave evidence.
fn mean(trials: &[Option<f64>]) -> Option<f64> {
    mean_of(trials.iter().flatten().copied(), u32::try_from(trials.len()).unwrap_or(u32::MAX))
}

fn average(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
}

/// Where the mean of the differences lies, task by task; `None` where they do not vary.
fn interval(differences: &[f64]) -> Option<(f64, f64)> {
    let (least, most) =
        differences.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), one| (low.min(*one), high.max(*one)));
    let count = differences.len();
    if count < 2 || most - least < EPSILON {
        return None;
    }
    let lift = average(differences.iter().copied());
    let squares: f64 = differences.iter().map(|one| (one - lift) * (one - lift)).sum();
    let half = t_quantile(count as u32 - 1) * libm::sqrt(squares / (count as f64 - 1.0) / count as f64);
    // A mean of differences of rewards cannot lie further out.
    Some(((lift - half).max(-1.0), (lift + half).min(1.0)))
}

/// How many standard errors a mean lies from the truth at most, with the confidence of [`INTERVAL`].
fn t_quantile(degrees: u32) -> f64 {
    let (mut low, mut high) = (0.0, 10.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if within(middle, degrees) < INTERVAL { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The chance of Student's t between `-t` and `t`: the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4.
fn within(t: f64, degrees: u32) -> f64 {
    let angle = libm::atan(t / libm::sqrt(f64::from(degrees)));
    let (sine, square) = (libm::sin(angle), libm::cos(angle) * libm::cos(angle));
    let is_odd = degrees % 2 == 1;
    let (mut term, mut sum) = if is_odd { (libm::cos(angle), 0.0) } else { (1.0, 0.0) };
    let first = if is_odd { 2 } else { 1 };
    for factor in (first..degrees).step_by(2) {
        sum += term;
        term *= f64::from(factor) / f64::from(factor + 1) * square;
    }
    match is_odd {
        true => (angle + sine * sum) * 2.0 / std::f64::consts::PI,
        false => sine * sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rewards of the baseline and of the best, `x` for no evidence.
    fn measured(tasks: &[(&str, &str)]) -> Measured {
        let arm = |pattern: &str| pattern.chars().map(|c| c.to_digit(10).map(f64::from)).collect();
        let arms = |(baseline, best): &(&str, &str)| Arms { baseline: arm(baseline), best: arm(best) };
        let tasks = tasks.iter().enumerate().map(|(at, pair)| (format!("h{at:02}"), arms(pair))).collect();
        Measured { min_evidence: 0.9, tasks }
    }

    #[test]
    fn quantiles_are_those_of_students_tables() {
        for (degrees, quantile) in
            [(1, 6.3138), (2, 2.9200), (3, 2.3534), (5, 2.0150), (10, 1.8125), (26, 1.7056), (120, 1.6577)]
        {
            assert!((t_quantile(degrees) - quantile).abs() < 5.1e-5, "{degrees}: {}", t_quantile(degrees));
        }
        assert!((t_quantile(20_000) - 1.6449).abs() < 2e-4);
    }

    #[test]
    fn a_plain_gain_is_claimed_with_its_interval() {
        let tasks = [[("000", "111"); 3].to_vec(), [("000", "011"); 2].to_vec(), [("111", "111"); 5].to_vec()].concat();
        let claim = measured(&tasks).claim().unwrap();
        assert_eq!((claim.finding, claim.tasks, claim.informative, claim.exact), (Conclusion::Better, 10, 5, true));
        assert!((claim.lift - 13.0 / 30.0).abs() < 1e-12 && (claim.best - claim.baseline - claim.lift).abs() < 1e-12);
        // Differences 1, 1, 1, 2/3, 2/3 and five times 0: deviation 0.472712, standard error 0.149485, times 1.833113.
        let (low, high) = claim.interval.unwrap();
        assert!((low - 0.159311).abs() < 2e-5 && (high - 0.707356).abs() < 2e-5, "{low} {high}");
        // (1/20)^3 for the first, (1/5)^2 for the others.
        assert!((claim.p - 1.0 / 8000.0 / 25.0).abs() < 1e-12, "{}", claim.p);
        let words = claim.words("baseline");
        assert_eq!(words, "best is better than baseline: +43.3 points, 90 % interval +15.9 to +70.7, p < 0.0001");
        // The other way round it is worse, and by as much.
        let turned: Vec<_> = tasks.iter().map(|(baseline, best)| (*best, *baseline)).collect();
        let other = measured(&turned).claim().unwrap();
        assert_eq!((other.finding, other.lift), (Conclusion::Worse, -claim.lift));
        assert!(other.words("baseline").starts_with("best is WORSE than baseline: -43.3 points"));
    }

    #[test]
    fn what_is_sure_of_few_tasks_is_not_claimed_of_others() {
        let few = [[("000", "111"); 2].to_vec(), [("111", "111"); 8].to_vec()].concat();
        let claim = measured(&few).claim().unwrap();
        assert_eq!(claim.finding, Conclusion::BetterOnTheseTasks);
        assert!((claim.p - 1.0 / 400.0).abs() < 1e-12);
        assert!(claim.interval.unwrap().0 < 0.0 && claim.words("baseline").contains("on these very tasks"));
    }

    #[test]
    fn no_interval_has_no_width() {
        let equal = measured(&[("111", "111"), ("000", "000")]).claim().unwrap();
        assert_eq!((equal.finding, equal.interval, equal.p, equal.lift), (Conclusion::NoDifference, None, 1.0, 0.0));
        assert!(equal.words("baseline").contains("(no task shows a difference)"), "{}", equal.words("baseline"));
        let one = measured(&[("000", "111"), ("000", "000"), ("111", "111")]).claim().unwrap();
        assert_eq!((one.interval, one.informative), (None, 1));
        assert!(one.interval_words().contains("a single task"));
        // Everything the same step better: sure, and of unknown width.
        let all = measured(&[("000", "111"); 4]).claim().unwrap();
        assert_eq!((all.finding, all.interval), (Conclusion::Better, None));
        assert!(all.interval_words().contains("all tasks differ by the same"));
        let third = measured(&[("000", "001"); 4]).claim().unwrap();
        assert_eq!((third.finding, third.interval), (Conclusion::NoDifference, None));
    }

    #[test]
    fn what_differs_by_chance_is_not_claimed() {
        let claim = measured(&[("010", "110"), ("101", "001"), ("000", "010"), ("111", "111")]).claim().unwrap();
        assert_eq!(claim.finding, Conclusion::NoDifference);
        let (low, high) = claim.interval.unwrap();
        assert!(low < 0.0 && high > 0.0 && claim.p > 0.3);
        assert!(claim.words("v1").starts_with("no difference from v1 can be claimed: +8.3 points, 90 % interval -"));
    }

    #[test]
    fn missing_evidence_claims_nothing_and_is_no_way_up() {
        let mut tasks = vec![("111", "111"); 9];
        tasks.push(("111", "xxx"));
        assert_eq!(measured(&tasks).evaluated(), 9);
        assert!(measured(&tasks).claim().is_some(), "nine of ten is enough");
        tasks.push(("1xx", "111"));
        assert!(measured(&tasks).claim().is_none(), "one of three trials is not");
        assert!(measured(&[]).claim().is_none());
        // It spoiled the trials that it would have failed: if they count 0.0, no lead is left.
        let mut tasks = vec![("000", "111"); 3];
        tasks.extend(vec![("111", "111"); 30]);
        assert_eq!(measured(&tasks).claim().unwrap().finding, Conclusion::Better);
        tasks.extend(vec![("111", "xxx"); 3]);
        let claim = measured(&tasks).claim().unwrap();
        assert_eq!(claim.finding, Conclusion::Hangs);
        assert!(claim.words("baseline").contains("hangs on trials without evidence"));
    }
}

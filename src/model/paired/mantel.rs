//! Mantel's statistic: compares two agents task by task with what chance alone would give.
//!
//! Each task is a stratum. Within it the trials of both agents are pooled; were the agents equally good, every way to deal
//! the same rewards out to the same numbers of trials would be equally likely. So the candidate's sum of rewards has a
//! known expectation and variance, and, where few tasks inform, a known distribution. With rewards of 0 and 1 this is the
//! Cochran-Mantel-Haenszel test (one-sided, no continuity correction), with others its extension by Mantel (1963).
//!
//! A task informs when both agents have trials there and not all of them earned the same. The others drop out by
//! themselves: they add neither difference nor variance.
//!
//! Rewards are whole millionths, so that sums are exact and a verdict does not depend on the order of additions.

/// A reward of 1.0.
pub(crate) const ONE: i64 = 1_000_000;

/// Sums of rewards that the exact distribution may span, on its lattice.
const SPAN: usize = 4096;
/// Tasks that inform times the span of their sum, up to which the distribution is computed; with rewards of 0 and 1 about
/// 150 tasks. With more of them the normal approximation is as good.
const WORK: usize = 25_000;
/// Deals that are enumerated one by one where rewards lie on no lattice.
const DEALS: usize = 1 << 16;
/// Trials of a task up to which the number of deals is a finite float.
const TRIALS: usize = 1000;

/// A reward as a whole number of millionths.
pub(crate) fn millionths(reward: f64) -> i64 {
    (reward.clamp(0.0, 1.0) * ONE as f64).round() as i64
}

/// The trials of both agents on one task, as rewards in millionths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stratum {
    /// What the candidate earned, trial by trial.
    pub candidate: Vec<i64>,
    /// What the incumbent earned, trial by trial.
    pub incumbent: Vec<i64>,
}

impl Stratum {
    /// Of rewards.
    pub(crate) fn of(candidate: &[f64], incumbent: &[f64]) -> Stratum {
        let units = |rewards: &[f64]| rewards.iter().copied().map(millionths).collect();
        Stratum { candidate: units(candidate), incumbent: units(incumbent) }
    }

    /// The agents swapped: the test asks whether the candidate is ahead.
    #[must_use]
    pub(crate) fn turned(&self) -> Stratum {
        Stratum { candidate: self.incumbent.clone(), incumbent: self.candidate.clone() }
    }

    /// True when the stratum says anything about a difference.
    pub(crate) fn informs(&self) -> bool {
        !self.candidate.is_empty() && !self.incumbent.is_empty() && self.is_mixed()
    }

    /// True when not all trials earned the same.
    pub(crate) fn is_mixed(&self) -> bool {
        let first = self.pooled().next();
        self.pooled().any(|reward| Some(reward) != first)
    }

    fn pooled(&self) -> impl Iterator<Item = i64> + '_ {
        self.candidate.iter().chain(&self.incumbent).copied()
    }

    /// Trials of the candidate, of both, and the weight of the stratum's difference of means.
    fn sizes(&self) -> (f64, f64, f64) {
        let (own, other) = (self.candidate.len() as f64, self.incumbent.len() as f64);
        (own, own + other, own * other / (own + other))
    }

    /// The candidate's sum of rewards above its expectation when the agents are equally good.
    fn delta(&self) -> f64 {
        let (own, all, _) = self.sizes();
        let (earned, pooled) = (self.candidate.iter().sum::<i64>(), self.pooled().sum::<i64>());
        // One division of whole numbers, so that a difference of nothing is exactly zero.
        (earned as f64 * all - own * pooled as f64) / all / ONE as f64
    }

    /// The variance of that sum.
    fn variance(&self) -> f64 {
        let (_, all, weight) = self.sizes();
        let (sum, squares) = self.pooled().fold((0.0, 0.0), |(sum, squares), reward| {
            let reward = reward as f64 / ONE as f64;
            (sum + reward, squares + reward * reward)
        });
        weight * ((squares - sum * sum / all) / (all - 1.0)).max(0.0)
    }

    /// How likely each sum of the candidate's rewards is: (sum above the least possible one in steps of `step`, share of
    /// deals), ascending.
    fn sums(&self, step: i64) -> Vec<(usize, f64)> {
        let mut rewards: Vec<i64> = self.pooled().collect();
        rewards.sort_unstable();
        let (own, least) = (self.candidate.len(), rewards[0]);
        let steps: Vec<usize> = rewards.iter().map(|reward| ((reward - least) / step) as usize).collect();
        let width = steps.iter().rev().take(own).sum::<usize>() + 1;
        // ways[n][s]: number of choices of n trials that sum to s.
        let mut ways = vec![vec![0.0f64; width]; own + 1];
        ways[0][0] = 1.0;
        for (seen, &value) in steps.iter().enumerate() {
            for taken in (1..=own.min(seen + 1)).rev() {
                let (fewer, more) = ways.split_at_mut(taken);
                for sum in (value..width).rev() {
                    more[0][sum] += fewer[taken - 1][sum - value];
                }
            }
        }
        let all: f64 = ways[own].iter().sum();
        let least = steps.iter().take(own).sum::<usize>();
        let counted = ways[own].iter().enumerate().filter(|(_, ways)| **ways > 0.0);
        counted.map(|(sum, ways)| (sum - least, ways / all)).collect()
    }
}

/// Both agents compared over many tasks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mantel {
    /// Tasks that inform.
    pub informative: usize,
    /// Sum over the tasks of the candidate's rewards above expectation; above 0 the candidate is ahead.
    pub delta: f64,
    /// The variance of `delta` were the agents equally good.
    pub variance: f64,
    /// Difference of mean rewards per task that both have trials of, weighted as the statistic weights it.
    pub effect: f64,
}

impl Mantel {
    /// Compares over the strata that inform; the effect covers all tasks that both agents have trials of.
    pub(crate) fn of<'a>(strata: impl IntoIterator<Item = &'a Stratum>) -> Mantel {
        let (mut found, mut weights) = (Mantel { informative: 0, delta: 0.0, variance: 0.0, effect: 0.0 }, 0.0);
        for stratum in strata.into_iter().filter(|s| !s.candidate.is_empty() && !s.incumbent.is_empty()) {
            weights += stratum.sizes().2;
            if stratum.is_mixed() {
                found.informative += 1;
                found.delta += stratum.delta();
                found.variance += stratum.variance();
            }
        }
        found.effect = if weights > 0.0 { found.delta / weights } else { 0.0 };
        found
    }

    /// Standard deviations by which the candidate is ahead; 0 when no task informs.
    pub(crate) fn z(&self) -> f64 {
        if self.variance > 0.0 { self.delta / self.variance.sqrt() } else { 0.0 }
    }
}

/// The chance of a standard normal variable at or above `z`.
pub(crate) fn upper_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z / std::f64::consts::SQRT_2)
}

/// The chance that equally good agents would put the candidate at least as far ahead, and how it was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Chance {
    /// One-sided p-value; 1 when no task informs.
    pub p: f64,
    /// The same with half the chance of exactly what was seen: unbiased, whereas `p` is conservative.
    pub mid: f64,
    /// True when every deal was counted, false for the normal approximation.
    pub exact: bool,
}

impl Chance {
    /// Exact where few tasks inform or rewards lie on a lattice, such as 0 and 1; normal otherwise.
    pub(crate) fn of(strata: &[Stratum]) -> Chance {
        let informing: Vec<&Stratum> = strata.iter().filter(|stratum| stratum.informs()).collect();
        if informing.is_empty() {
            return Chance { p: 1.0, mid: 1.0, exact: true };
        }
        if let Some((above, at)) = on_a_lattice(&informing).or_else(|| one_by_one(&informing)) {
            // Rounding must not lift a certainty above 1.
            return Chance { p: (above + at).min(1.0), mid: (above + 0.5 * at).min(1.0), exact: true };
        }
        let p = upper_tail(Mantel::of(informing).z());
        Chance { p, mid: p, exact: false }
    }
}

/// The chances of a sum above the candidate's and of exactly this sum, by convolution of the tasks' distributions.
fn on_a_lattice(strata: &[&Stratum]) -> Option<(f64, f64)> {
    let mut step = 0;
    for stratum in strata {
        let least = stratum.pooled().min()?;
        step = stratum.pooled().fold(step, |step, reward| gcd(step, reward - least));
    }
    let (mut span, mut seen) = (1usize, 0i64);
    for stratum in strata {
        if stratum.candidate.len() + stratum.incumbent.len() > TRIALS {
            return None;
        }
        let mut rewards: Vec<i64> = stratum.pooled().collect();
        rewards.sort_unstable();
        let own = stratum.candidate.len();
        let (low, high): (i64, i64) = (rewards.iter().take(own).sum(), rewards.iter().rev().take(own).sum());
        span = span.saturating_add(((high - low) / step) as usize);
        seen += (stratum.candidate.iter().sum::<i64>() - low) / step;
        if span > SPAN {
            return None;
        }
    }
    if span.saturating_mul(strata.len()) > WORK {
        return None;
    }
    let mut chances = vec![1.0];
    for stratum in strata {
        let sums = stratum.sums(step);
        let width = sums.last().map_or(0, |(sum, _)| *sum);
        let mut next = vec![0.0; chances.len() + width];
        for (at, chance) in chances.iter().enumerate() {
            for (sum, share) in &sums {
                next[at + sum] += chance * share;
            }
        }
        chances = next;
    }
    let seen = seen as usize;
    // From the far end, where the numbers are small.
    Some((chances[seen + 1..].iter().rev().sum(), chances[seen]))
}

/// The same where the rewards lie on no lattice: every deal of every task, when there are few.
fn one_by_one(strata: &[&Stratum]) -> Option<(f64, f64)> {
    let mut sums: Vec<(i64, f64)> = vec![(0, 1.0)];
    for stratum in strata {
        let own = deals(stratum, DEALS / sums.len())?;
        sums = sums
            .iter()
            .flat_map(|(sum, chance)| own.iter().map(move |(more, share)| (sum + more, chance * share)))
            .collect();
    }
    let seen: i64 = strata.iter().flat_map(|stratum| &stratum.candidate).sum();
    let of = |wanted: std::cmp::Ordering| {
        let those = sums.iter().filter(|(sum, _)| sum.cmp(&seen) == wanted);
        those.map(|(_, chance)| chance).sum::<f64>()
    };
    Some((of(std::cmp::Ordering::Greater), of(std::cmp::Ordering::Equal)))
}

/// The candidate's sum in every deal of one task and its share; `None` when there are more than `limit`.
fn deals(stratum: &Stratum, limit: usize) -> Option<Vec<(i64, f64)>> {
    let rewards: Vec<i64> = stratum.pooled().collect();
    let mut partial: Vec<(usize, i64)> = vec![(0, 0)];
    let own = stratum.candidate.len();
    for (seen, reward) in rewards.iter().enumerate() {
        let left = rewards.len() - seen - 1;
        let mut next = Vec::with_capacity(partial.len() * 2);
        for (taken, sum) in partial {
            if taken + left >= own {
                next.push((taken, sum));
            }
            if taken < own {
                next.push((taken + 1, sum + reward));
            }
        }
        if next.len() > limit {
            return None;
        }
        partial = next;
    }
    let share = 1.0 / partial.len() as f64;
    Some(partial.into_iter().map(|(_, sum)| (sum, share)).collect())
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A difference of mean rewards, in words.
pub(crate) fn points(difference: f64) -> String {
    format!("{:+.1} points", 100.0 * difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stratum(own: &[f64], other: &[f64]) -> Stratum {
        let units = |trials: &[f64]| trials.iter().copied().map(millionths).collect();
        Stratum { candidate: units(own), incumbent: units(other) }
    }

    /// Solved and trials of the candidate, then of the incumbent.
    fn counts(of: [usize; 4]) -> Stratum {
        let arm = |solved: usize, trials: usize| [vec![1.0; solved], vec![0.0; trials - solved]].concat();
        stratum(&arm(of[0], of[1]), &arm(of[2], of[3]))
    }

    #[test]
    fn agrees_with_cochran_mantel_haenszel() {
        // statsmodels: StratifiedTable.test_null_odds(correction=False).
        let strata: Vec<Stratum> =
            [[5, 5, 3, 5], [4, 5, 2, 5], [3, 5, 3, 5], [5, 5, 5, 5], [0, 5, 0, 5], [2, 5, 1, 5], [1, 1, 3, 3]]
                .map(counts)
                .into();
        let found = Mantel::of(&strata);
        assert_eq!((found.delta, found.informative), (2.5, 4));
        assert!((found.variance - 2.361111).abs() < 1e-6 && (found.z() - 1.626978).abs() < 1e-6);
        assert!((found.z().powi(2) - 2.647059).abs() < 1e-6);
        assert!((upper_tail(found.z()) - 0.051871).abs() < 1e-6);
    }

    #[test]
    fn agrees_with_mcnemar_where_each_agent_has_one_trial() {
        // Tasks only the candidate solves, tasks only the incumbent solves, one-sided p, two-sided mid-p.
        for (wins, losses, p, mid) in [
            (3, 0, 0.125, 0.125),
            (5, 0, 0.03125, 0.03125),
            (5, 1, 0.109375, 0.125),
            (8, 2, 0.054688, 0.065430),
            (9, 1, 0.010742, 0.011719),
            (10, 3, 0.046143, 0.057373),
            (13, 2, 0.003693, 0.004181),
        ] {
            let mut strata = vec![counts([1, 1, 0, 1]); wins];
            strata.extend(vec![counts([0, 1, 1, 1]); losses]);
            strata.extend([counts([1, 1, 1, 1]), counts([0, 1, 0, 1])]);
            let found = Chance::of(&strata);
            assert!(found.exact && (found.p - p).abs() < 6e-7, "{wins} {losses}: {found:?}");
            assert!((2.0 * found.mid - mid).abs() < 1.1e-6, "{wins} {losses}: {found:?}");
        }
    }

    #[test]
    fn agrees_with_fisher_on_one_task() {
        // Two-sided in the source, and symmetric: twice the one-sided.
        for (other, two_sided) in [(3, 0.444444), (1, 0.047619), (0, 0.007937)] {
            let found = Chance::of(&[counts([5, 5, other, 5])]);
            assert!((2.0 * found.p - two_sided).abs() < 1e-6, "{other}: {found:?}");
        }
        assert!((Chance::of(&[counts([13, 15, 10, 15])]).p - 0.389847 / 2.0).abs() < 1e-6);
    }

    #[test]
    fn fractional_rewards_are_dealt_out_exactly_on_a_lattice_and_off_it() {
        let strata = [stratum(&[1.0, 0.5], &[0.25]), stratum(&[0.75], &[0.0, 0.5])];
        let lattice = Chance::of(&strata);
        // Both have their best deal: one of three each.
        assert!(lattice.exact && (lattice.p - 1.0 / 9.0).abs() < 1e-12, "{lattice:?}");
        let off = [stratum(&[0.999999, 0.500001], &[0.25]), stratum(&[0.75], &[0.0, 0.5])];
        assert!(on_a_lattice(&off.iter().collect::<Vec<_>>()).is_none());
        let off = Chance::of(&off);
        assert!(off.exact && (off.p - 1.0 / 9.0).abs() < 1e-12 && (off.mid - 1.0 / 18.0).abs() < 1e-12, "{off:?}");
        // Many of them: the normal approximation.
        let many: Vec<Stratum> =
            (0..40).map(|task| stratum(&[0.5 + f64::from(task) / 100.1], &[0.4, f64::from(task % 7) / 9.7])).collect();
        let found = Chance::of(&many);
        assert!(!found.exact && found.p == upper_tail(Mantel::of(&many).z()));
    }

    #[test]
    fn enumerating_and_convolving_agree() {
        let strata =
            [counts([2, 3, 1, 4]), counts([1, 2, 1, 2]), counts([0, 1, 3, 3]), stratum(&[0.5, 1.0], &[0.0, 0.5])];
        let those: Vec<&Stratum> = strata.iter().collect();
        let (one, other) = (on_a_lattice(&those).unwrap(), one_by_one(&those).unwrap());
        assert!((one.0 - other.0).abs() < 1e-12 && (one.1 - other.1).abs() < 1e-12, "{one:?} {other:?}");
    }

    #[test]
    fn the_approximation_is_close_where_it_takes_over() {
        let strata: Vec<Stratum> = (0..140)
            .map(|task| {
                counts([usize::from(task % 9 < 5), 1, usize::from(task % 9 >= 5) + usize::from(task % 2 == 0), 3])
            })
            .collect();
        let found = Chance::of(&strata);
        let normal = upper_tail(Mantel::of(&strata).z());
        assert!(found.exact && (found.mid - normal).abs() < 0.005, "{found:?} {normal}");
    }

    #[test]
    fn nothing_to_compare_is_no_difference() {
        for strata in [vec![], vec![counts([1, 1, 1, 1])], vec![counts([1, 1, 0, 0])], vec![counts([0, 0, 0, 1])]] {
            let found = Mantel::of(&strata);
            assert_eq!((found.z(), found.effect, found.informative), (0.0, 0.0, 0), "{strata:?}");
            assert_eq!(Chance::of(&strata), Chance { p: 1.0, mid: 1.0, exact: true });
        }
    }
}

//! What can be said about a gate before anything is run, from the number of tasks and trials alone.
//!
//! Nothing is known of the agent yet. Each task is assumed to have its own solve rate, drawn from Jeffreys' prior: most are
//! solved nearly always or hardly ever, as in published rates, and some are in between.

/// Trials of all tasks together, up to which the distribution of the difference is computed. Beyond, ties are rare, and the
/// normal approximation is as good.
const EXACT: usize = 400;
/// Both parameters of Jeffreys' prior.
const PRIOR: f64 = 0.5;

/// The chance that an edit which changes nothing reaches the score of the agent it was made of, by the rule `best`: all but
/// the ties are even.
pub(crate) fn passes_by_chance(tasks: usize, trials: u32) -> f64 {
    let one = difference(trials);
    let tie = if tasks * trials as usize <= EXACT {
        // The distribution for the sum of that many tasks, from the least possible difference up.
        let mut sums = vec![1.0];
        for _ in 0..tasks {
            let mut next = vec![0.0; sums.len() + one.len() - 1];
            for (at, chance) in sums.iter().enumerate() {
                for (more, share) in one.iter().enumerate() {
                    next[at + more] += chance * share;
                }
            }
            sums = next;
        }
        sums[sums.len() / 2]
    } else {
        let middle = (one.len() / 2) as f64;
        let variance: f64 = one.iter().enumerate().map(|(at, share)| share * (at as f64 - middle).powi(2)).sum();
        1.0 / libm::sqrt(2.0 * std::f64::consts::PI * variance * tasks as f64)
    };
    0.5 + 0.5 * tie
}

/// How likely each difference is of the trials that two equal agents pass of one task, from `-trials` to `trials`.
fn difference(trials: u32) -> Vec<f64> {
    let k = trials as usize;
    let ways = |some: usize| libm::exp(ways_to_choose(k, some));
    let mut shares = vec![0.0; 2 * k + 1];
    for own in 0..=k {
        for other in 0..=k {
            let (passed, all) = ((own + other) as f64, 2.0 * k as f64);
            let mixed = libm::exp(beta(passed + PRIOR, all - passed + PRIOR) - beta(PRIOR, PRIOR));
            shares[own + k - other] += ways(own) * ways(other) * mixed;
        }
    }
    shares
}

/// The logarithm of Euler's beta function.
fn beta(a: f64, b: f64) -> f64 {
    libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b)
}

/// The logarithm of the number of ways to choose some of so many.
fn ways_to_choose(of: usize, some: usize) -> f64 {
    let factorial = |number: usize| libm::lgamma(number as f64 + 1.0);
    factorial(of) - factorial(some) - factorial(of - some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_share_of_two_draws_of_one_agent() {
        // One task, once: a tie but where one passes and the other fails, twice 1/8.
        assert!((passes_by_chance(1, 1) - 0.875).abs() < 1e-12);
        // Two tasks: 9/16 for two ties, 2/64 for two that make up for each other.
        assert!((passes_by_chance(2, 1) - (0.5 + 0.5 * (9.0 / 16.0 + 2.0 / 64.0))).abs() < 1e-12);
        for trials in [1, 2, 5, 20] {
            let shares = difference(trials);
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{trials}");
            let turned: Vec<f64> = shares.iter().rev().copied().collect();
            assert!(shares.iter().zip(&turned).all(|(one, other)| (one - other).abs() < 1e-12));
        }
        // Variance of the difference of two draws of one trial: 2 (1/8).
        let spread: f64 = [1.0, 0.0, 1.0].iter().zip(difference(1)).map(|(square, share)| square * share).sum();
        assert!((spread - 0.25).abs() < 1e-12);
    }

    #[test]
    fn more_tasks_and_more_trials_make_it_a_coin() {
        let mut before = 1.0;
        for tasks in [1, 5, 27, 89, 399, 401, 2_000] {
            let now = passes_by_chance(tasks, 1);
            assert!(now < before && now > 0.5, "{tasks}: {now}");
            before = now;
        }
        assert!(passes_by_chance(27, 3) < passes_by_chance(27, 1));
        // Where the approximation takes over it says the same.
        assert!((passes_by_chance(400, 1) - passes_by_chance(401, 1)).abs() < 1e-4);
        assert!((passes_by_chance(27, 1) - 0.577).abs() < 0.002, "{}", passes_by_chance(27, 1));
    }
}

//! What a run may take, estimated before it starts.

use crate::model::usage::{in_dollars, trial_in_dollars};
use crate::ui::duration;

/// What is known about the cost of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cost {
    /// No model is configured: nothing to say.
    Free,
    /// No earlier trial reported one.
    Unknown,
    /// The mean of earlier trials, in US dollars.
    PerTrial(f64),
}

/// One line: trials, the longest the agents may take, and what is known about the cost.
///
/// `limits` has one entry per task, in seconds, `None` for a task without a known limit.
pub(crate) fn estimate(trials: u32, concurrency: u32, limits: &[Option<f64>], cost: Cost) -> String {
    let count = limits.len() as u64 * u64::from(trials);
    let times = if trials == 1 { String::new() } else { format!(" x {trials} trials = {count}") };
    let mut text = format!("{} tasks{times}, {concurrency} at once; ", limits.len());
    match limits.iter().copied().collect::<Option<Vec<f64>>>() {
        Some(known) if !known.is_empty() => {
            let longest = known.iter().copied().fold(0.0, f64::max);
            let shortest = known.iter().copied().fold(f64::INFINITY, f64::min);
            let total: f64 = known.iter().sum::<f64>() * f64::from(trials);
            // No order of starts can be worse than this: all but the last one evenly spread, then the longest.
            let all_at_once = count <= u64::from(concurrency);
            let wall = if all_at_once { longest } else { longest + (total - longest) / f64::from(concurrency.max(1)) };
            let range = if shortest < longest {
                format!("{} to {}", duration(shortest), duration(longest))
            } else {
                duration(longest)
            };
            text.push_str(&format!(
                "agents take at most {} (limit {range} each; builds, set-up and verification come on top)",
                duration(wall)
            ));
        }
        _ => {
            let without = limits.iter().filter(|limit| limit.is_none()).count();
            text.push_str(&format!(
                "no bound on the time is known ({without} of {} tasks have no known limit)",
                limits.len()
            ));
        }
    }
    match cost {
        Cost::Free => {}
        Cost::Unknown => text.push_str("; cost unknown (no earlier trial reported one)"),
        Cost::PerTrial(each) => {
            text.push_str(&format!(
                "; cost about {} (earlier trials: {} each)",
                in_dollars(each * count as f64),
                trial_in_dollars(each)
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_whatever_the_order() {
        let line = estimate(1, 2, &[Some(600.0), Some(600.0), Some(3600.0)], Cost::Unknown);
        // Worst order: both short ones first, side by side, then the long one alone: 4,200 s = 70 min.
        assert_eq!(
            line,
            "3 tasks, 2 at once; agents take at most 70 min (limit 10 min to 60 min each; builds, set-up and \
             verification come on top); cost unknown (no earlier trial reported one)"
        );
        let line = estimate(3, 50, &[Some(60.0); 10], Cost::PerTrial(0.05));
        assert!(line.starts_with("10 tasks x 3 trials = 30, 50 at once; agents take at most"), "{line}");
        assert!(line.ends_with("cost about $1.50 (earlier trials: $0.0500 each)"), "{line}");
    }

    #[test]
    fn trials_that_start_together_take_as_long_as_the_longest() {
        let line = estimate(1, 8, &[Some(30.0); 8], Cost::Free);
        assert!(line.contains("agents take at most 30 s"), "{line}");
    }

    #[test]
    fn a_task_without_a_limit_leaves_no_bound() {
        let line = estimate(1, 4, &[Some(600.0), None], Cost::Free);
        assert!(line.contains("no bound on the time is known (1 of 2 tasks have no known limit)"), "{line}");
    }
}

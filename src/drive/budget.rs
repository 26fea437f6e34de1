//! When to stop: pure, over what was done and spent.

use chrono::{DateTime, Utc};

use super::state::Night;

/// What a loop may use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Budget {
    /// Iterations.
    pub iterations: Option<u32>,
    /// Hours since it was begun.
    pub hours: Option<f64>,
    /// US dollars since it was begun, of trials and sessions together.
    pub usd: Option<f64>,
    /// Iterations in a row without an accepted edit.
    pub patience: u32,
    /// The val_score that is enough.
    pub target: Option<f64>,
}

/// What was spent since the loop was begun.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spending {
    /// US dollars.
    pub usd: f64,
    /// Sessions that reported no dollars.
    pub unpriced: u32,
}

/// Why a loop ends as it was asked to.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// As many iterations as wanted.
    Iterations(u32),
    /// The time is over.
    Hours(f64),
    /// The money is spent, or the next step might cost more than is left: spent, budget, next step.
    Usd(f64, f64, f64),
    /// No longer known how much is spent.
    Unpriced,
    /// Too many iterations in a row without an accepted edit.
    Patience(u32),
    /// The score is reached.
    Target(f64),
}

impl Reason {
    /// The word for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Reason::Iterations(_) => "iterations",
            Reason::Hours(_) => "hours",
            Reason::Usd(..) => "budget",
            Reason::Unpriced => "unpriced",
            Reason::Patience(_) => "patience",
            Reason::Target(_) => "target",
        }
    }

    /// For people.
    pub fn sentence(&self) -> String {
        match self {
            Reason::Iterations(count) => format!("{count} iterations done"),
            Reason::Hours(hours) => format!("{hours} h are over"),
            Reason::Usd(spent, budget, 0.0) => format!("${spent:.2} of ${budget:.2} are spent"),
            Reason::Usd(spent, budget, next) => {
                format!("${spent:.2} of ${budget:.2} are spent, and the next step costs about ${next:.2}")
            }
            Reason::Unpriced => "a session reported no dollars, so the budget cannot be kept".into(),
            Reason::Patience(count) => format!("{count} iterations in a row without an accepted edit"),
            Reason::Target(score) => format!("val_score {score:.4} is reached"),
        }
    }
}

impl Budget {
    /// Whether to begin another iteration. `best`: the val_score so far.
    pub fn before_iteration(&self, night: &Night, best: Option<f64>) -> Option<Reason> {
        if let (Some(target), Some(best)) = (self.target, best)
            && best >= target
        {
            return Some(Reason::Target(best));
        }
        if self.iterations.is_some_and(|most| night.done >= most) {
            return Some(Reason::Iterations(night.done));
        }
        (night.without >= self.patience).then_some(Reason::Patience(night.without))
    }

    /// Whether the next paid step may begin. `next`: what it costs by all that is known, in US dollars.
    pub fn before_step(&self, night: &Night, now: DateTime<Utc>, spent: Spending, next: f64) -> Option<Reason> {
        if self.seconds_left(night, now).is_some_and(|left| left <= 0.0) {
            return self.hours.map(Reason::Hours);
        }
        let budget = self.usd?;
        if spent.unpriced > 0 {
            return Some(Reason::Unpriced);
        }
        if spent.usd >= budget {
            return Some(Reason::Usd(spent.usd, budget, 0.0));
        }
        (spent.usd + next > budget).then_some(Reason::Usd(spent.usd, budget, next))
    }

    /// Seconds until the time is over.
    pub fn seconds_left(&self, night: &Night, now: DateTime<Utc>) -> Option<f64> {
        let gone = (now - night.began).num_milliseconds() as f64 / 1000.0;
        Some(self.hours? * 3600.0 - gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn night(done: u32, without: u32) -> Night {
        let began = DateTime::UNIX_EPOCH;
        Night { began, spent_before: 0.0, unpriced_before: 0, done, accepted: 0, without, failures: 0 }
    }

    #[test]
    fn it_ends_as_it_was_asked_to() {
        let budget = Budget { iterations: Some(3), patience: 2, target: Some(0.9), ..Budget::default() };
        for (done, without, best, expected) in [
            (0, 0, None, None),
            (2, 1, Some(0.89), None),
            (3, 0, None, Some(Reason::Iterations(3))),
            (2, 2, Some(0.5), Some(Reason::Patience(2))),
            (0, 0, Some(0.9), Some(Reason::Target(0.9))),
        ] {
            assert_eq!(budget.before_iteration(&night(done, without), best), expected);
        }
        let endless = Budget { patience: 5, ..Budget::default() };
        assert_eq!(endless.before_iteration(&night(1000, 4), Some(1.0)), None);
    }

    #[test]
    fn no_step_begins_that_may_cost_more_than_is_left() {
        let budget = Budget { usd: Some(10.0), hours: Some(1.0), patience: 5, ..Budget::default() };
        let at = |seconds: i64| DateTime::from_timestamp(seconds, 0).unwrap();
        let spent = |usd, unpriced| Spending { usd, unpriced };
        for (now, spent, next, expected) in [
            (3599, spent(9.0, 0), 1.0, None),
            (3600, spent(0.0, 0), 0.0, Some(Reason::Hours(1.0))),
            (0, spent(9.0, 0), 1.01, Some(Reason::Usd(9.0, 10.0, 1.01))),
            (0, spent(10.0, 0), 0.0, Some(Reason::Usd(10.0, 10.0, 0.0))),
            (0, spent(0.0, 1), 0.0, Some(Reason::Unpriced)),
        ] {
            assert_eq!(budget.before_step(&night(0, 0), at(now), spent, next), expected);
        }
        assert_eq!(Budget::default().before_step(&night(0, 0), at(1 << 30), spent(1e9, 9), 1e9), None);
        assert_eq!(budget.seconds_left(&night(0, 0), at(600)), Some(3000.0));
    }
}

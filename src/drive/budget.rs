//! When to stop: pure functions of what was done and spent.

use chrono::{DateTime, Utc};

use super::spending::Spending;
use super::state::Night;
use crate::model::usage::in_dollars;

/// What a loop may use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Budget {
    pub iterations: Option<u32>,
    /// Hours since it was begun.
    pub hours: Option<f64>,
    /// US dollars since the loop began, of trials and sessions together.
    pub usd: Option<f64>,
    /// Tokens since the loop began, of trials and sessions together.
    pub tokens: Option<u64>,
    /// Trials since it was begun.
    pub trials: Option<u64>,
    /// Iterations in a row without an accepted edit.
    pub patience: u32,
    /// The val_score that is enough.
    pub target: Option<f64>,
}

/// Why a loop ends as it was asked to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reason {
    /// As many iterations as wanted.
    Iterations(u32),
    /// The time is over.
    Hours(f64),
    /// The money is spent, or the next step might cost more than is left: spent, budget, next step.
    Usd(f64, f64, f64),
    /// The tokens are used, or the next step might take more than are left: used, budget, next step.
    Tokens(u64, u64, u64),
    /// The same of trials.
    Trials(u64, u64, u64),
    /// It is no longer known how much was spent.
    Unpriced,
    /// Too many iterations in a row without an accepted edit.
    Patience(u32),
    /// The score is reached.
    Target(f64),
    /// Another run of the unchanged agent would take more than the search has: trials taken, those of the search, next run.
    Matched(u64, u64, u64),
}

impl Reason {
    /// The word for programs.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Reason::Iterations(_) => "iterations",
            Reason::Hours(_) => "hours",
            Reason::Usd(..) | Reason::Tokens(..) | Reason::Trials(..) => "budget",
            Reason::Unpriced => "unpriced",
            Reason::Patience(_) => "patience",
            Reason::Target(_) => "target",
            Reason::Matched(..) => "matched",
        }
    }

    /// For people.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Reason::Iterations(count) => format!("{count} iterations done"),
            Reason::Hours(hours) => format!("{hours} h are over"),
            Reason::Usd(spent, budget, 0.0) => format!("{} of {} are spent", in_dollars(*spent), in_dollars(*budget)),
            Reason::Usd(spent, budget, next) => {
                format!(
                    "{} of {} are spent, and the next step costs about {}",
                    in_dollars(*spent),
                    in_dollars(*budget),
                    in_dollars(*next)
                )
            }
            Reason::Tokens(spent, budget, next) => counted("tokens", *spent, *budget, *next),
            Reason::Trials(spent, budget, next) => counted("trials", *spent, *budget, *next),
            Reason::Unpriced => "sessions or trials reported no dollars, so the budget cannot be kept".into(),
            Reason::Patience(count) => format!("{count} iterations in a row without an accepted edit"),
            Reason::Target(score) => format!("val_score {score:.4} is reached"),
            Reason::Matched(taken, search, next) => {
                format!("{taken} trials are taken, the search took {search}, and the next run takes {next}")
            }
        }
    }
}

fn counted(what: &str, spent: u64, budget: u64, next: u64) -> String {
    if spent >= budget || next == 0 {
        return format!("{spent} of {budget} {what} are used");
    }
    format!("{spent} of {budget} {what} are used, and the next step takes about {next}")
}

impl Budget {
    /// Whether anything but patience ends it.
    pub(crate) fn is_limited(&self) -> bool {
        let Budget { iterations, hours, usd, tokens, trials, target, .. } = self;
        let counts = iterations.is_some() || trials.is_some() || tokens.is_some();
        counts || hours.is_some() || usd.is_some() || target.is_some()
    }

    /// Whether the score to reach is reached. `best`: the val_score so far.
    pub(crate) fn at_target(&self, best: Option<f64>) -> Option<Reason> {
        let best = best.filter(|best| self.target.is_some_and(|target| *best >= target));
        best.map(Reason::Target)
    }

    /// Whether to begin another iteration. `best`: the val_score so far.
    pub(crate) fn before_iteration(&self, night: &Night, best: Option<f64>) -> Option<Reason> {
        if let Some(reason) = self.at_target(best) {
            return Some(reason);
        }
        if self.iterations.is_some_and(|most| night.done >= most) {
            return Some(Reason::Iterations(night.done));
        }
        (night.without >= self.patience).then_some(Reason::Patience(night.without))
    }

    /// Whether the next paid step may begin. `next`: its known or estimated cost.
    pub(crate) fn before_step(
        &self,
        night: &Night,
        now: DateTime<Utc>,
        spent: Spending,
        next: Spending,
    ) -> Option<Reason> {
        if self.seconds_left(night, now).is_some_and(|left| left <= 0.0) {
            return self.hours.map(Reason::Hours);
        }
        let over = |budget: Option<u64>, spent: u64, next: u64| {
            budget.filter(|most| spent >= *most || spent.saturating_add(next) > *most)
        };
        if let Some(most) = over(self.trials, spent.trials, next.trials) {
            return Some(Reason::Trials(spent.trials, most, next.trials));
        }
        if let Some(most) = over(self.tokens, spent.tokens, next.tokens) {
            return Some(Reason::Tokens(spent.tokens, most, next.tokens));
        }
        let budget = self.usd?;
        if spent.unpriced > 0 {
            return Some(Reason::Unpriced);
        }
        if spent.usd >= budget {
            return Some(Reason::Usd(spent.usd, budget, 0.0));
        }
        (spent.usd + next.usd > budget).then_some(Reason::Usd(spent.usd, budget, next.usd))
    }

    /// Seconds until the time is up.
    pub(crate) fn seconds_left(&self, night: &Night, now: DateTime<Utc>) -> Option<f64> {
        let gone = (now - night.began).num_milliseconds() as f64 / 1000.0;
        Some(self.hours? * 3600.0 - gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn night(done: u32, without: u32) -> Night {
        let began = DateTime::UNIX_EPOCH;
        let before = Spending::default();
        Night { began, before, done, accepted: 0, without, failures: 0 }
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
        let budget = Budget {
            usd: Some(10.0),
            hours: Some(1.0),
            tokens: Some(1000),
            trials: Some(100),
            patience: 5,
            ..Budget::default()
        };
        let at = |seconds: i64| DateTime::from_timestamp(seconds, 0).unwrap();
        let spent = |usd, unpriced| Spending { usd, unpriced, ..Spending::default() };
        let counted = |tokens, trials| Spending { tokens, trials, ..Spending::default() };
        for (now, spent, next, expected) in [
            (3599, spent(9.0, 0), spent(1.0, 0), None),
            (3600, spent(0.0, 0), spent(0.0, 0), Some(Reason::Hours(1.0))),
            (0, spent(9.0, 0), spent(1.01, 0), Some(Reason::Usd(9.0, 10.0, 1.01))),
            (0, spent(10.0, 0), spent(0.0, 0), Some(Reason::Usd(10.0, 10.0, 0.0))),
            (0, spent(0.0, 1), spent(0.0, 0), Some(Reason::Unpriced)),
            (0, counted(900, 90), counted(100, 10), None),
            (0, counted(0, 90), counted(0, 11), Some(Reason::Trials(90, 100, 11))),
            (0, counted(0, 100), counted(0, 0), Some(Reason::Trials(100, 100, 0))),
            (0, counted(1, 0), counted(u64::MAX, 0), Some(Reason::Tokens(1, 1000, u64::MAX))),
        ] {
            assert_eq!(budget.before_step(&night(0, 0), at(now), spent, next), expected);
        }
        assert_eq!(Budget::default().before_step(&night(0, 0), at(1 << 30), spent(1e9, 9), spent(1e9, 0)), None);
        assert_eq!(budget.seconds_left(&night(0, 0), at(600)), Some(3000.0));
    }
}

//! Whether the search has beaten plain resampling, which spends the same trials on running the unchanged agent again and again.

use serde_json::{Value, json};

use crate::model::gate::GateRule;
use crate::model::paired::mantel::points;
use crate::model::usage::in_dollars;
use crate::store::claims::Runs;
use crate::store::event::SessionUsage;
use crate::store::spent::Spent;
use crate::store::summary::Summary;

/// Both sides, under the present protocol.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Resampling {
    /// Runs of the unchanged agent.
    pub runs: u32,
    /// The highest val_score of them.
    pub best: f64,
    pub mean: f64,
    /// Trials of these runs, interrupted ones included.
    pub trials: u64,
    /// What they cost, in US dollars.
    pub cost_usd: f64,
    /// The best recorded val_score; none while no edit is recorded.
    pub search: Option<f64>,
    /// Trials that the search has run.
    pub search_trials: u64,
    /// What they and the coding agent's sessions cost, in US dollars.
    pub search_usd: f64,
    /// Sessions of the coding agent, and those that reported no dollars.
    pub sessions: (u32, u32),
    /// How many measurements the search's best is the best of.
    pub tries: u32,
}

impl Resampling {
    /// What the ledger has of it; nothing before a first run.
    pub(crate) fn of(summary: &Summary) -> Option<Resampling> {
        let prepared = summary.prepared.as_ref()?;
        let Runs { count, best, .. } = summary.claims.runs.get(&prepared.protocol)?;
        let recorded = |source: &str| !matches!(source, "baseline" | "prepare");
        let found = summary.best(&prepared.protocol).filter(|found| recorded(&found.source));
        let (Spent { trials, cost_usd, .. }, searched) = (summary.resampled, summary.searched);
        let SessionUsage { sessions, unpriced, cost_usd: paid, .. } = summary.proposals.usage;
        // A score measured afresh after the edit was chosen is one measurement.
        let is_paired = prepared.config["gate_rule"] == GateRule::Paired.as_str();
        Some(Resampling {
            runs: *count,
            best: *best,
            mean: summary.claims.runs[&prepared.protocol].mean(),
            trials,
            cost_usd,
            search: found.map(|found| found.val_score),
            search_trials: searched.trials,
            search_usd: searched.cost_usd + paid,
            sessions: (sessions, unpriced),
            tries: if is_paired { 1 } else { summary.gates.max(1) },
        })
    }

    /// How often edits that change nothing would be ahead or level, 0–1: among equally good measurements each is equally
    /// often the highest.
    pub(crate) fn by_luck(&self) -> f64 {
        f64::from(self.tries) / f64::from(self.tries.saturating_add(self.runs))
    }

    /// One sentence that cannot be misread.
    pub(crate) fn sentence(&self) -> String {
        let runs = match self.runs {
            1 => "one run".to_string(),
            count => format!("best of {count} runs"),
        };
        let paid = |amount: f64| if amount > 0.0 { format!(", {}", in_dollars(amount)) } else { String::new() };
        let sessions = match self.sessions {
            (0, _) => String::new(),
            (all, 0) => format!(" and {all} sessions"),
            (all, unpriced) => format!(" and {all} sessions ({unpriced} reported no dollars)"),
        };
        let spent = format!("{} trials{sessions}{}", self.search_trials, paid(self.search_usd));
        let search = match self.search {
            None => format!("the search has recorded nothing for {spent}"),
            Some(found) => format!("the search's best {found:.4} for {spent}: {}", self.verdict(found)),
        };
        format!(
            "plain resampling: {runs} of the same agent {:.4} (mean {:.4}) for {} trials{}; {search}",
            self.best,
            self.mean,
            self.trials,
            paid(self.cost_usd)
        )
    }

    fn verdict(&self, found: f64) -> String {
        if found <= self.best {
            return "the search has NOT beaten plain resampling".into();
        }
        format!(
            "the search is ahead by {}, as edits that change nothing would be with a chance of {:.0} %",
            points(found - self.best).trim_start_matches('+'),
            100.0 * self.by_luck()
        )
    }

    /// For programs. Aggregates only.
    pub(crate) fn as_json(&self) -> Value {
        json!({
            "runs": self.runs, "best": self.best, "mean": self.mean, "trials": self.trials, "cost_usd": self.cost_usd,
            "search_best": self.search, "search_trials": self.search_trials, "search_cost_usd": self.search_usd,
            "sessions": self.sessions.0, "sessions_unpriced": self.sessions.1,
            "ahead": self.search.map(|found| found > self.best), "by_luck": self.by_luck(),
            "sentence": self.sentence(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(search: Option<f64>) -> Resampling {
        Resampling {
            runs: 12,
            best: 0.8021,
            mean: 0.765,
            trials: 480,
            cost_usd: 0.0,
            search,
            search_trials: 502,
            search_usd: 0.0,
            sessions: (0, 0),
            tries: 4,
        }
    }

    #[test]
    fn the_sentence_says_who_is_ahead_and_what_luck_would_do() {
        assert_eq!(
            found(Some(0.841)).sentence(),
            "plain resampling: best of 12 runs of the same agent 0.8021 (mean 0.7650) for 480 trials; the search's best \
             0.8410 for 502 trials: the search is ahead by 3.9 points, as edits that change nothing would be with a chance \
             of 25 %"
        );
        for search in [0.8021, 0.7] {
            assert!(found(Some(search)).sentence().ends_with("the search has NOT beaten plain resampling"));
        }
        let paid = Resampling { runs: 1, cost_usd: 1.5, search_usd: 2.25, sessions: (3, 1), ..found(None) };
        assert_eq!(
            paid.sentence(),
            "plain resampling: one run of the same agent 0.8021 (mean 0.7650) for 480 trials, $1.50; the search has \
             recorded nothing for 502 trials and 3 sessions (1 reported no dollars), $2.25"
        );
        assert!((found(None).by_luck() - 0.25).abs() < 1e-12);
    }
}

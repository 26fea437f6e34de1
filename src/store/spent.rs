//! What trials have cost.

use serde::{Deserialize, Serialize};

use super::event::Trial;

/// What the trials cost so far.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Spent {
    /// Trials run.
    pub trials: u64,
    /// Seconds of trials, added up.
    pub seconds: f64,
    /// Tokens read and written by the agent's model.
    pub tokens: u64,
    /// US dollars.
    pub cost_usd: f64,
    /// Trials that reported tokens and no dollars: unknown is not nothing.
    #[serde(default)]
    pub unpriced: u64,
    /// Tokens of those.
    #[serde(default)]
    pub unpriced_tokens: u64,
}

impl Spent {
    /// Both together.
    #[must_use]
    pub fn plus(self, more: Spent) -> Spent {
        Spent {
            trials: self.trials + more.trials,
            seconds: (self.seconds + more.seconds).min(f64::MAX),
            tokens: self.tokens.saturating_add(more.tokens),
            cost_usd: (self.cost_usd + more.cost_usd).min(f64::MAX),
            unpriced: self.unpriced + more.unpriced,
            unpriced_tokens: self.unpriced_tokens.saturating_add(more.unpriced_tokens),
        }
    }

    /// US dollars, and how many trials are not among them. Those without dollars count at the mean price of a token of the others.
    pub fn dollars(&self) -> (f64, u64) {
        let priced = self.tokens.saturating_sub(self.unpriced_tokens);
        if self.unpriced == 0 || priced == 0 || self.cost_usd <= 0.0 {
            return (self.cost_usd, self.unpriced);
        }
        ((self.cost_usd * self.tokens as f64 / priced as f64).min(f64::MAX), 0)
    }

    /// Adds a trial.
    pub fn add(&mut self, trial: &Trial<'_>) {
        self.trials += 1;
        // A benchmark may say anything; sums stay finite, for JSON knows nothing else.
        self.seconds = (self.seconds + trial.seconds.unwrap_or(0.0)).min(f64::MAX);
        for tokens in [trial.tokens_in, trial.tokens_out] {
            self.tokens = self.tokens.saturating_add(tokens.unwrap_or(0));
        }
        self.cost_usd = (self.cost_usd + trial.cost_usd.unwrap_or(0.0)).min(f64::MAX);
        let used = trial.tokens_in.unwrap_or(0).saturating_add(trial.tokens_out.unwrap_or(0));
        if used > 0 && trial.cost_usd.is_none() {
            self.unpriced += 1;
            self.unpriced_tokens = self.unpriced_tokens.saturating_add(used);
        }
    }
}

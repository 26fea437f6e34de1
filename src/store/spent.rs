//! What trials have cost.

use serde::{Deserialize, Serialize};

use crate::model::usage::{Usage, plus};

/// What the trials cost so far.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Spent {
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
    #[must_use]
    pub fn plus(self, more: Spent) -> Spent {
        Spent {
            trials: self.trials + more.trials,
            seconds: plus(self.seconds, more.seconds),
            tokens: self.tokens.saturating_add(more.tokens),
            cost_usd: plus(self.cost_usd, more.cost_usd),
            unpriced: self.unpriced + more.unpriced,
            unpriced_tokens: self.unpriced_tokens.saturating_add(more.unpriced_tokens),
        }
    }

    /// US dollars, and how many trials they do not cover. Those without dollars count at the mean price of a token of the others.
    pub fn dollars(&self) -> (f64, u64) {
        let priced = self.tokens.saturating_sub(self.unpriced_tokens);
        if self.unpriced == 0 || priced == 0 || self.cost_usd <= 0.0 {
            return (self.cost_usd, self.unpriced);
        }
        ((self.cost_usd * self.tokens as f64 / priced as f64).min(f64::MAX), 0)
    }

    /// Adds a trial that used this.
    pub fn add(&mut self, usage: &Usage) {
        self.trials += 1;
        let tokens = usage.tokens().unwrap_or(0);
        self.seconds = plus(self.seconds, usage.seconds.unwrap_or(0.0));
        self.tokens = self.tokens.saturating_add(tokens);
        self.cost_usd = plus(self.cost_usd, usage.cost_usd.unwrap_or(0.0));
        if tokens > 0 && usage.cost_usd.is_none() {
            self.unpriced += 1;
            self.unpriced_tokens = self.unpriced_tokens.saturating_add(tokens);
        }
    }
}

//! What the event stream of a session has said so far.

use serde::{Deserialize, Serialize};

use crate::model::usage::dollars;
use crate::store::event::SessionUsage;

/// Sums and signs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Seen {
    /// What the coding agent calls the session.
    pub session: Option<String>,
    /// Turns of its model, or what comes closest to them.
    pub turns: u64,
    /// Tokens read and written.
    pub tokens: u64,
    /// Of these, those written, where they are told apart.
    pub tokens_out: u64,
    /// US dollars; none if the stream did not report them.
    pub cost_usd: Option<f64>,
    /// The answer whose tokens were counted last: streams repeat it.
    pub counted: Option<String>,
    /// The error that it ended with, in its own words.
    pub error: Option<String>,
    /// Tools that it was not allowed to use.
    pub denied: Vec<String>,
    /// Whether the tokens are those of all runs of the session, not of this one alone.
    pub adds_up: bool,
}

/// What was already counted of a session whose stream adds up all its runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// What the coding agent calls the session.
    session: String,
    tokens: u64,
    tokens_out: u64,
}

impl Seen {
    /// What this session used. `seconds`: of wall time.
    pub(crate) fn usage(&self, seconds: f64) -> SessionUsage {
        SessionUsage {
            sessions: 1,
            seconds,
            turns: self.turns,
            tokens: self.tokens,
            cost_usd: self.cost_usd.unwrap_or(0.0),
            unpriced: u32::from(self.cost_usd.is_none()),
        }
    }

    /// Subtracts what was counted when the same session ran before. `counted`: of the session that ran last.
    pub(crate) fn count_once(&mut self, counted: &mut Option<Counted>) {
        let Some(session) = self.session.clone().filter(|_| self.adds_up) else { return };
        let all = Counted { session, tokens: self.tokens, tokens_out: self.tokens_out };
        if let Some(before) = counted.replace(all).filter(|before| Some(&before.session) == self.session.as_ref()) {
            self.tokens = self.tokens.saturating_sub(before.tokens);
            self.tokens_out = self.tokens_out.saturating_sub(before.tokens_out);
        }
    }

    /// Adds dollars that the stream reports piece by piece.
    pub(in crate::drive) fn pay(&mut self, dollars: Option<f64>) {
        if let Some(dollars) = dollars.filter(|dollars| dollars.is_finite() && *dollars >= 0.0) {
            self.cost_usd = Some(self.cost_usd.unwrap_or(0.0) + dollars);
        }
    }

    /// If the stream reports no dollars: what the tokens cost, by prices in dollars for a million of them read and written.
    pub(crate) fn price(&mut self, input: f64, output: f64) {
        if self.cost_usd.is_none() && self.tokens > 0 {
            let read = self.tokens.saturating_sub(self.tokens_out);
            self.cost_usd = Some(dollars((input, output), read, self.tokens_out));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_that_nobody_reported_are_not_nothing() {
        let mut seen = Seen { tokens: 3_000_000, tokens_out: 1_000_000, ..Seen::default() };
        assert_eq!((seen.usage(1.0).unpriced, seen.usage(1.0).cost_usd), (1, 0.0));
        seen.price(1.0, 10.0);
        assert_eq!((seen.usage(1.0).unpriced, seen.usage(1.0).cost_usd), (0, 12.0));
        seen.price(100.0, 100.0);
        assert_eq!(seen.cost_usd, Some(12.0), "what is known stays");
        seen.pay(Some(f64::NAN));
        seen.pay(Some(0.5));
        assert_eq!(seen.cost_usd, Some(12.5));
    }
}

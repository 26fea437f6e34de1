//! What trials and sessions use: seconds, tokens, dollars.

use serde::{Deserialize, Serialize};

/// What one trial used, if its benchmark says so. When serialised, its fields stand among those of the trial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Wall seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Tokens read by the agent's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_in: Option<u64>,
    /// Tokens written by the agent's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_out: Option<u64>,
    /// US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

impl Usage {
    /// Tokens read and written; `None` when neither was reported.
    pub fn tokens(&self) -> Option<u64> {
        [self.tokens_in, self.tokens_out].into_iter().flatten().reduce(u64::saturating_add)
    }

    /// The same with dollars, where there are tokens, but no dollars, and prices for them.
    #[must_use]
    pub fn priced(self, prices: Option<(f64, f64)>) -> Usage {
        let tokens = || (self.tokens_in.unwrap_or(0), self.tokens_out.unwrap_or(0));
        let by_tokens = || self.tokens().and(prices).map(|prices| dollars(prices, tokens().0, tokens().1));
        Usage { cost_usd: self.cost_usd.or_else(by_tokens), ..self }
    }
}

/// What so many tokens cost in US dollars, by the prices of a million tokens read, and written.
pub(crate) fn dollars((input, output): (f64, f64), read: u64, written: u64) -> f64 {
    (read as f64 * input + written as f64 * output) / 1e6
}

/// Above this, only an amount's order of magnitude is shown: no night costs that much, and a benchmark may report anything.
const LARGEST_SPELT_OUT: f64 = 1e12;

/// US dollars for people: `$1.50`.
pub(crate) fn in_dollars(amount: f64) -> String {
    if amount < LARGEST_SPELT_OUT { format!("${amount:.2}") } else { format!("${amount:.1e}") }
}

/// US dollars of one trial for people, which may be a fraction of a cent: `$0.0050`.
pub(crate) fn trial_in_dollars(amount: f64) -> String {
    if amount < LARGEST_SPELT_OUT { format!("${amount:.4}") } else { in_dollars(amount) }
}

/// Both amounts together. A benchmark may report anything; sums stay finite, because JSON has no infinity.
pub(crate) fn plus(amount: f64, more: f64) -> f64 {
    (amount + more).min(f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_were_not_told_are_not_none_used() {
        for (tokens_in, tokens_out, both) in [
            (None, None, None),
            (Some(0), None, Some(0)),
            (Some(3), Some(4), Some(7)),
            (Some(u64::MAX), Some(1), Some(u64::MAX)),
        ] {
            assert_eq!(Usage { tokens_in, tokens_out, ..Usage::default() }.tokens(), both);
        }
    }

    #[test]
    fn no_amount_fills_the_screen() {
        for (amount, told) in [(0.0, "$0.00"), (12.345, "$12.35"), (1e308, "$1.0e308"), (f64::MAX, "$1.8e308")] {
            assert_eq!(in_dollars(amount), told);
        }
        assert_eq!((trial_in_dollars(0.005).as_str(), trial_in_dollars(1e300).as_str()), ("$0.0050", "$1.0e300"));
    }

    #[test]
    fn prices_stand_in_for_dollars_that_were_not_told() {
        let usage = |tokens_in, cost_usd| Usage { tokens_in, cost_usd, ..Usage::default() };
        for (told, prices, cost) in [
            (usage(Some(2_000_000), None), Some((1.5, 9.0)), Some(3.0)),
            (usage(Some(2_000_000), Some(0.5)), Some((1.5, 9.0)), Some(0.5)),
            (usage(None, None), Some((1.5, 9.0)), None),
            (usage(Some(2_000_000), None), None, None),
        ] {
            assert_eq!(told.priced(prices).cost_usd, cost, "{told:?}");
        }
    }
}

//! What was paid for: by the coding agent, where the loop drove it, and for the trials of one command.

use crate::store::event::{Trial, Usage};
use crate::ui::duration;

/// Its sessions in words. Dollars that were not reported are not nothing.
pub fn bill(usage: &Usage) -> String {
    let dollars = if usage.unpriced < usage.sessions { format!(", ${:.2}", usage.cost_usd) } else { String::new() };
    let unpriced =
        if usage.unpriced > 0 { format!(" ({} reported no dollars)", usage.unpriced) } else { String::new() };
    format!("{} sessions, {}, {} tokens{dollars}{unpriced}", usage.sessions, duration(usage.seconds), usage.tokens)
}

/// What the trials of one command cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Paid {
    /// Trials run.
    pub trials: u64,
    /// Tokens of the agent's model.
    pub tokens: u64,
    /// Trials that reported tokens.
    counted: u64,
    /// US dollars.
    pub cost_usd: f64,
    /// Trials that reported dollars.
    priced: u64,
}

impl Paid {
    /// Adds a trial.
    pub fn add(&mut self, trial: &Trial<'_>) {
        self.trials += 1;
        if trial.tokens_in.is_some() || trial.tokens_out.is_some() {
            self.counted += 1;
        }
        for tokens in [trial.tokens_in, trial.tokens_out] {
            self.tokens = self.tokens.saturating_add(tokens.unwrap_or(0));
        }
        if let Some(dollars) = trial.cost_usd {
            self.priced += 1;
            // A benchmark may say anything.
            self.cost_usd = (self.cost_usd + dollars).min(f64::MAX);
        }
    }

    /// In words. What only some of the trials reported is called that, for it is not all of it.
    pub fn words(&self) -> String {
        if self.trials == 0 {
            return "no trials were run".into();
        }
        let some = |said: u64, words: String| match said {
            said if said == self.trials => words,
            said => format!("{words} (reported by {said} of them)"),
        };
        let tokens = match self.counted {
            0 => "tokens not reported".into(),
            said => some(said, format!("{} tokens", self.tokens)),
        };
        let dollars = match self.priced {
            0 => "dollars not reported".into(),
            said => some(said, format!("${:.2}", self.cost_usd)),
        };
        format!("{} trials, {tokens}, {dollars}", self.trials)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_reported_is_not_nothing() {
        for (paid, words) in [
            (Paid::default(), "no trials were run"),
            (Paid { trials: 3, ..Paid::default() }, "3 trials, tokens not reported, dollars not reported"),
            (Paid { trials: 3, tokens: 9, counted: 3, cost_usd: 0.0, priced: 3 }, "3 trials, 9 tokens, $0.00"),
            (
                Paid { trials: 3, tokens: 9, counted: 2, cost_usd: 0.5, priced: 1 },
                "3 trials, 9 tokens (reported by 2 of them), $0.50 (reported by 1 of them)",
            ),
        ] {
            assert_eq!(paid.words(), words);
        }
    }
}

//! What was spent: on the coding agent, where the loop drove it, and on the trials of one command.

use crate::model::usage::{Usage, in_dollars};
use crate::store::event::SessionUsage;
use crate::store::spent::Spent;
use crate::ui::duration;

/// Its sessions in words. Dollars that were not reported are not nothing.
pub(crate) fn bill(usage: &SessionUsage) -> String {
    let dollars =
        if usage.unpriced < usage.sessions { format!(", {}", in_dollars(usage.cost_usd)) } else { String::new() };
    let unpriced =
        if usage.unpriced > 0 { format!(" ({} reported no dollars)", usage.unpriced) } else { String::new() };
    format!("{} sessions, {}, {} tokens{dollars}{unpriced}", usage.sessions, duration(usage.seconds), usage.tokens)
}

/// What the trials of one command cost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paid {
    /// All of it together.
    spent: Spent,
    /// Trials that reported tokens.
    counted: u64,
    /// Trials that reported dollars.
    priced: u64,
}

impl Paid {
    /// Adds a trial that used this.
    pub(crate) fn add(&mut self, usage: &Usage) {
        self.spent.add(usage);
        self.counted += u64::from(usage.tokens().is_some());
        self.priced += u64::from(usage.cost_usd.is_some());
    }

    /// In words. If only some of the trials reported it, the text says so, because it is not the whole amount.
    pub(crate) fn words(&self) -> String {
        let Spent { trials, tokens, cost_usd, .. } = self.spent;
        if trials == 0 {
            return "no trials were run".into();
        }
        let some = |said: u64, words: String| match said {
            said if said == trials => words,
            said => format!("{words} (reported by {said} of them)"),
        };
        let counted = match self.counted {
            0 => "tokens not reported".into(),
            said => some(said, format!("{tokens} tokens")),
        };
        let priced = match self.priced {
            0 => "dollars not reported".into(),
            said => some(said, in_dollars(cost_usd)),
        };
        format!("{trials} trials, {counted}, {priced}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_reported_is_not_nothing() {
        let paid = |tokens, counted, cost_usd, priced| {
            let spent = Spent { trials: 3, tokens, cost_usd, ..Spent::default() };
            Paid { spent, counted, priced }
        };
        for (paid, words) in [
            (Paid::default(), "no trials were run"),
            (paid(0, 0, 0.0, 0), "3 trials, tokens not reported, dollars not reported"),
            (paid(9, 3, 0.0, 3), "3 trials, 9 tokens, $0.00"),
            (paid(9, 2, 0.5, 1), "3 trials, 9 tokens (reported by 2 of them), $0.50 (reported by 1 of them)"),
        ] {
            assert_eq!(paid.words(), words);
        }
    }
}

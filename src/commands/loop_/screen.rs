//! What a terminal shows while the loop works: one screen, updated in place.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::context::Loop;
use crate::cli::LoopArm;
use crate::drive::budget::Budget;
use crate::drive::spending::Spending;
use crate::drive::state::Night;
use crate::model::usage::in_dollars;
use crate::report::resampling::Resampling;
use crate::store::summary::Summary;

/// How often it is updated at most.
const PAUSE: Duration = Duration::from_secs(2);
/// Reading a long ledger for it may take one part in this many of the time.
const SHARE: u32 = 50;

impl Loop<'_> {
    /// Updates the screen. What cannot be read now is shown the next time.
    pub(super) fn show(&self) {
        if !self.ui.has_screen() {
            return;
        }
        if let Ok(summary) = self.summary()
            && let Ok(night) = self.night()
            && let Ok(spent) = self.spent(&summary)
        {
            let hours = (Utc::now() - night.began).num_milliseconds() as f64 / 3_600_000.0;
            let done = match self.args.arm {
                LoopArm::Search => iterations(night, &self.budget),
                LoopArm::Resample => of(u64::from(night.done), self.budget.iterations.map(u64::from), "runs"),
            };
            self.ui.facts(vec![
                ("best", best(&summary, self.args.arm)),
                ("done", done),
                ("spent", spending(&spent, hours, &self.budget)),
            ]);
        }
    }

    /// Waits for a step and updates the screen meanwhile.
    pub(super) async fn watched<T>(&self, step: impl Future<Output = T>) -> T {
        let mut step = pin!(step);
        if !self.ui.has_screen() {
            return step.await;
        }
        let mut pause = PAUSE;
        loop {
            tokio::select! {
                done = &mut step => return done,
                () = tokio::time::sleep(pause) => {
                    let began = Instant::now();
                    self.show();
                    pause = PAUSE.max(began.elapsed() * SHARE);
                }
            }
        }
    }
}

fn best(summary: &Summary, arm: LoopArm) -> String {
    if arm == LoopArm::Resample {
        return Resampling::of(summary).map_or_else(
            || "no run of the unchanged agent yet".into(),
            |known| {
                format!("{:.4}, best of {} (mean {:.4}), of the unchanged agent", known.best, known.runs, known.mean)
            },
        );
    }
    let Some(prepared) = &summary.prepared else { return "-".into() };
    let baseline = prepared.baseline.val_score;
    summary.best(&prepared.protocol).map_or_else(
        || "-".into(),
        |best| format!("val_score {:.4} ({}), baseline {baseline:.4}", best.val_score, best.source),
    )
}

fn iterations(night: &Night, budget: &Budget) -> String {
    let Night { done, accepted, without, .. } = night;
    let done = of(u64::from(*done), budget.iterations.map(u64::from), "iterations");
    format!("{done}, {accepted} accepted; {without} of {} in a row without", budget.patience)
}

/// What is spent, each against its cap where it has one.
fn spending(spent: &Spending, hours: f64, budget: &Budget) -> String {
    let cap = |most: f64| format!(" of {}", in_dollars(most));
    let dollars = format!("{}{}", in_dollars(spent.usd), budget.usd.map(cap).unwrap_or_default());
    let is_paid = spent.usd > 0.0 || budget.usd.is_some();
    let dollars = match (is_paid, spent.unpriced) {
        (true, 0) => Some(dollars),
        (true, _) => Some(format!("{dollars} and what was not reported")),
        (false, 0) => None,
        (false, _) => Some("dollars not reported".into()),
    };
    let tokens = (spent.tokens > 0 || budget.tokens.is_some()).then(|| of(spent.tokens, budget.tokens, "tokens"));
    let hours = format!("{hours:.1}{} h", budget.hours.map(|most| format!(" of {most}")).unwrap_or_default());
    let parts = [dollars, Some(of(spent.trials, budget.trials, "trials")), tokens, Some(hours)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn of(count: u64, most: Option<u64>, what: &str) -> String {
    most.map_or_else(|| format!("{count} {what}"), |most| format!("{count} of {most} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_stands_against_its_cap() {
        let spent = |usd, unpriced| Spending { usd, unpriced, tokens: 900, trials: 30 };
        let capped =
            Budget { usd: Some(25.0), hours: Some(8.0), tokens: Some(1000), trials: Some(40), ..Budget::default() };
        for (spent, hours, budget, expected) in [
            (spent(3.2, 0), 1.25, capped, "$3.20 of $25.00, 30 of 40 trials, 900 of 1000 tokens, 1.2 of 8 h"),
            (spent(3.2, 1), 0.0, Budget::default(), "$3.20 and what was not reported, 30 trials, 900 tokens, 0.0 h"),
            (spent(0.0, 1), 0.0, Budget::default(), "dollars not reported, 30 trials, 900 tokens, 0.0 h"),
            (Spending::default(), 0.5, Budget::default(), "0 trials, 0.5 h"),
        ] {
            assert_eq!(spending(&spent, hours, &budget), expected);
        }
    }
}

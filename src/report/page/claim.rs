//! What may be claimed: the best agent against the baseline, and how far that may be believed.

use maud::{Markup, html};

use super::inputs::percent;
use crate::model::gate::GateRule;
use crate::model::interval::wilson;
use crate::model::score::Scoring;
use crate::model::trial::Split;
use crate::report::flips::{Counting, Flips};
use crate::report::history::History;
use crate::report::resampling::Resampling;
use crate::store::claims::LastClaim;
use crate::store::event::Prepared;

pub(super) fn section(history: &History) -> Markup {
    let Some(prepared) = &history.summary().prepared else {
        return html! { p { "Nothing is measured yet: run " code { "autoharness prepare" } "." } };
    };
    html! {
        p class="claim" { (sentence(history, prepared)) }
        (doubts(history, prepared))
    }
}

/// One sentence that cannot be misread.
fn sentence(history: &History, prepared: &Prepared) -> String {
    let summary = history.summary();
    let baseline = &prepared.baseline;
    let of = |score: f64, count: usize| {
        let (low, high) = wilson(score, count);
        format!("{} (95 % interval {} to {}, {count} tasks)", percent(score), percent(low), percent(high))
    };
    let split = if prepared.gate_split() == Split::Train {
        "on the train tasks themselves, for nothing is held out,"
    } else {
        "on the held-out tasks"
    };
    let start =
        format!("the agent that the experiment started from scores {}", of(baseline.val_score, baseline.evals_total));
    let best = summary.best(&prepared.protocol).filter(|best| !matches!(best.source.as_str(), "baseline" | "prepare"));
    let Some(best) = best else {
        return format!("No edit has been recorded under the present rules: {split} {start}.");
    };
    let count = best.rewards.score().evaluated;
    let count = if count > 0 { count } else { prepared.split.tasks(prepared.gate_split()).len() };
    let compared = compare(history, prepared, &best.source).map(|flips| {
        let points = 100.0 * (flips.means.1 - flips.means.0);
        format!(" Task by task on {} of them the difference is {points:+.1} points; {}.", flips.compared, flips.noise())
    });
    format!(
        "The agent recorded as {} scores {} {split} and {start}.{}",
        best.source,
        of(best.val_score, count),
        compared.unwrap_or_default()
    )
}

/// The recorded agent against the one started from, as a sum over the gate split.
fn compare(history: &History, prepared: &Prepared, source: &str) -> Option<Flips> {
    let best =
        history.versions.iter().rfind(|version| version.recorded.as_ref().is_some_and(|it| it.short == source))?;
    let Scoring { trials: each, policy } = history.summary().scoring();
    let first = history.summary().first_agent.as_deref();
    let counting = Counting { trials: &history.state.trials, protocol: &prepared.trial_protocol, first, each, policy };
    let flips = Flips::of(&counting, first?, &best.agent, prepared.split.tasks(prepared.gate_split()));
    (flips.compared > 0).then_some(flips)
}

/// What `confirm` said last.
fn confirmed(history: &History, last: Option<&LastClaim>, of: &str) -> Option<String> {
    Some(format!("{of}: {}.", last?.words(history.summary().base.as_ref())))
}

/// What weakens or supports it.
fn doubts(history: &History, prepared: &Prepared) -> Markup {
    let summary = history.summary();
    let is_paired = prepared.config["gate_rule"] == GateRule::Paired.as_str();
    let times = |count: u32, once: &str, often: &str| match count {
        0 => None,
        1 => Some(once.to_string()),
        many => Some(format!("{often} {many} times")),
    };
    let notes = [
        Some(match is_paired {
            true => "The score was measured afresh after the edit was chosen (gate_rule: paired), so choosing did not raise it.".to_string(),
            false => format!(
                "The score is the best of {} gates on the same tasks (gate_rule: best): choosing it raised it by itself, so expect less of a fresh measurement.",
                summary.gates
            ),
        }),
        Some(times(summary.looks, "Single results of the hold-out were looked at once", "Single results of the hold-out were looked at").map_or_else(|| "Single results of the hold-out were never looked at.".into(), |note| format!("{note}; each look is in the ledger."))),
        times(summary.rerolls, "The hold-out was run again on purpose once", "The hold-out was run again on purpose").map(|note| format!("{note}; all trials are averaged.")),
        times(summary.accepted, "A human accepted changed files or rules once", "A human accepted changed files or rules").map(|note| format!("{note}; scores on both sides are not comparable.")),
        (summary.adopted_rows > 0).then(|| format!("{} rows come from an earlier workspace and cannot be verified.", summary.adopted_rows)),
        Some(confirmed(history, summary.claims.last.as_ref(), "Run afresh for this alone (confirm)").unwrap_or_else(|| "No measurement was made for this claim alone (confirm was not run).".into())),
        confirmed(history, summary.claims.last_sealed.as_ref(), "On the sealed tasks, which no gate ever saw"),
        Some(match (prepared.split.sealed.len(), times(summary.claims.openings, "were opened once", "were opened")) {
            (0, _) => "No task is sealed: there is none that no gate ever saw.".into(),
            (count, opened) => format!("{count} tasks are sealed, which no gate ever saw; they {}.", opened.unwrap_or_else(|| "were never opened".into())),
        }),
        Some(summary.claims.noise.as_ref().map_or_else(
            || "The noise floor is not measured (calibrate): how far one agent's score strays by chance is told by the intervals alone.".into(),
            |last| format!("Noise floor (calibrate): 9 of 10 measurements of one agent stray by at most {:.1} points.", 100.0 * last.noise.band),
        )),
        Resampling::of(summary).map(|resampling| format!("Held against luck ({}).", resampling.sentence())),
        times(summary.answers, "A gate asked the hold-out once", "Gates asked the hold-out").map(|note| note + "; each answer tells a little of it."),
    ];
    html! { ul { @for note in notes.iter().flatten() { li { (note) } } } }
}

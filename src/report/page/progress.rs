//! How it went, verdict by verdict: scores, flips, cost, outcomes.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::plots::{self, Point, PointKind};
use crate::model::gate::Status;
use crate::model::interval::wilson;
use crate::model::score::{Rewards, Scoring};
use crate::model::usage::in_dollars;
use crate::report::bill::bill;
use crate::report::flips::{Counting, Flips};
use crate::report::history::{AgentVersion, History};
use crate::report::text::one_line;
use crate::store::spent::Spent;
use crate::ui::duration;

/// Rows of tables of edits; the newest are shown.
const ROWS: usize = 200;
/// Tasks named in a cell.
const NAMED: usize = 12;
/// Tasks in the table of the slowest.
const SLOWEST: usize = 15;
/// Outcomes in the order of a bar, with their classes.
const OUTCOMES: [(&str, &str); 6] = [
    ("passed", "c4"),
    ("failed", "c0"),
    ("agent_error", "o-error"),
    ("agent_timeout", "o-time"),
    ("infra_error", "c-lost"),
    ("verifier_error", "o-ver"),
];

fn kind(version: &AgentVersion, status: Status) -> PointKind {
    match (status, &version.recorded) {
        (_, Some(_)) => PointKind::Recorded,
        (Status::Passed | Status::Skipped, None) => PointKind::Passed,
        (Status::Failed, None) => PointKind::Rejected,
        (Status::Undecided, None) => PointKind::Undecided,
    }
}

fn points(history: &History) -> Vec<Point> {
    let baseline = history.summary().prepared.as_ref().map(|prepared| {
        let first = history.summary().rows.first();
        // Of the first baseline only the score is known once the rules have changed.
        let score = first.map_or(prepared.baseline.val_score, |row| row.val_score);
        let same = (score - prepared.baseline.val_score).abs() < 1e-12;
        Point {
            label: "0".into(),
            kind: PointKind::Baseline,
            score: Some(score),
            interval: same.then(|| wilson(score, prepared.baseline.evals_total)),
            selected: None,
        }
    });
    let judged = history.judged().into_iter().filter_map(|at| {
        let version = &history.versions[at];
        let verdict = version.verdict.as_ref()?;
        let differs = |selected: &f64| verdict.val_score.is_some_and(|score| (score - selected).abs() > 1e-9);
        Some(Point {
            label: history.label(at),
            kind: kind(version, verdict.status),
            score: verdict.val_score,
            interval: verdict.val_score.map(|score| wilson(score, verdict.evals.1)),
            selected: verdict.selected.filter(differs),
        })
    });
    baseline.into_iter().chain(judged).collect()
}

pub(super) fn scores(history: &History) -> Markup {
    let points = points(history);
    html! {
        @if points.len() < 2 { p { "No edit was judged yet." } }
        (plots::scores(&points, history.summary().claims.noise.as_ref().map(|last| last.noise.band)))
        p class="key" {
            @for kind in [PointKind::Baseline, PointKind::Recorded, PointKind::Passed, PointKind::Rejected, PointKind::Undecided] {
                span class=(format!("dot {}", kind.class())) { (kind.word()) }
            }
            span { "Lines up and down are 95 % intervals, the stepped line is the recorded score, a small square the score that an edit was chosen by where it was measured afresh; a cross is a rejected edit, a ring an undecided one; what stands below the axis told no score. A band is the noise floor around the recorded score (calibrate)." }
        }
        details {
            summary { "as a table" }
            table {
                thead { tr { th { "no." } th { "agent" } th { "verdict" } th { "val_score" } th { "95 % interval" } th { "chosen at" } } }
                tbody {
                    @for (at, point) in points.iter().enumerate() {
                        tr {
                            td { (at) } td { (point.label) } td { (point.kind.word()) }
                            td { (point.score.map_or_else(|| "–".into(), |score| format!("{score:.4}"))) }
                            td { @if let Some((low, high)) = point.interval { (format!("{low:.2}–{high:.2}")) } }
                            td { @if let Some(selected) = point.selected { (format!("{selected:.4}")) } }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn flips(history: &History) -> Markup {
    let Scoring { trials: each, policy } = history.summary().scoring();
    let compared = |at: &usize| {
        let version = &history.versions[*at];
        let verdict = version.verdict.as_ref()?;
        let incumbent = verdict.incumbent.as_ref().filter(|incumbent| **incumbent != version.agent)?;
        let first = history.summary().first_agent.as_deref();
        let counting = Counting { trials: &history.state.trials, protocol: &version.protocol, first, each, policy };
        let flips = Flips::of(&counting, incumbent, &version.agent, history.train());
        (flips.compared > 0).then_some((*at, verdict.status, flips))
    };
    let all: Vec<(usize, Status, Flips)> = history.judged().iter().filter_map(compared).collect();
    let names = |tasks: &[String]| {
        let shown: Vec<String> = tasks.iter().take(NAMED).map(|task| one_line(task, 60)).collect();
        let more = tasks.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        format!("{}: {}{more}", tasks.len(), shown.join(", "))
    };
    html! {
        @if all.is_empty() { p { "No edit has train tasks in common with the agent that it was to replace." } }
        @else {
            p { "Each edit against the agent that was recorded at that time. The chance is that two equally good agents would differ as much." }
            div class="wide" { table {
                thead { tr { th { "agent" } th { "verdict" } th { "fixed" } th { "broken" } th { "compared" } th { "difference" } th { "chance" } } }
                tbody {
                    @for (at, status, flips) in all.iter().rev().take(ROWS) {
                        tr {
                            td { (history.label(*at)) } td { (status.as_str()) }
                            td class="names" { @if !flips.fixed.is_empty() { (names(&flips.fixed)) } }
                            td class="names" { @if !flips.broken.is_empty() { (names(&flips.broken)) } }
                            td { (flips.compared) }
                            td { (format!("{:+.1} points", 100.0 * (flips.means.1 - flips.means.0))) }
                            td { (flips.noise()) }
                        }
                    }
                }
            } }
        }
    }
}

/// Seconds of one trial, which may be few.
fn short(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.2} s") } else { duration(seconds) }
}

fn total<'s>(parts: impl IntoIterator<Item = &'s Spent>) -> Spent {
    parts.into_iter().fold(Spent::default(), |sum, part| sum.plus(*part))
}

pub(super) fn cost(history: &History) -> Markup {
    let mut by_step: BTreeMap<&str, Vec<Spent>> = BTreeMap::new();
    for (step, spent) in history.versions.iter().flat_map(|version| &version.spent) {
        by_step.entry(*step).or_default().push(*spent);
    }
    let all = total(&by_step.values().flatten().copied().collect::<Vec<_>>());
    let is_paid = all.cost_usd > 0.0;
    let unit = if is_paid { "dollars" } else { "trials" };
    let worth = |spent: &Spent| if is_paid { spent.cost_usd } else { spent.trials as f64 };
    let mut line: Vec<(f64, f64)> = history.milestones.iter().map(|(spent, score)| (worth(spent), *score)).collect();
    // Nothing was recorded for what was spent since then.
    line.extend(line.last().map(|(_, score)| (worth(&all), *score)));
    let row = |name: &str, spent: &Spent| {
        html! { tr { td { (name) } td { (spent.trials) } td { (duration(spent.seconds)) } td { (tokens(spent)) } td { (dollars(spent)) } } }
    };
    let head = |first: &str| html! { thead { tr { th { (first) } th { "trials" } th { "trial time" } th { "tokens" } th { "dollars" } } } };
    let usage = &history.summary().proposals.usage;
    html! {
        p { "What the trials cost, as the benchmark reports it (–: it reports nothing). " @if usage.sessions == 0 { "The coding agent's own bill is not in the ledger: no loop drove it." } @else { "The coding agent: " (bill(usage)) "." } }
        @if line.len() > 2 { (plots::spending(&line, unit)) p class="key" { span { "The recorded score over " (unit) " spent." } } }
        div class="wide" { table { (head("step")) tbody {
            @for (step, parts) in &by_step { (row(step, &total(parts))) }
            (row("all", &all))
        } } }
        details { summary { "by agent" } div class="wide" { table {
            thead { tr { th { "agent" } th { "step" } th { "trials" } th { "time" } th { "tokens" } th { "dollars" } } }
            tbody { @for (at, version) in history.versions.iter().enumerate().rev().take(ROWS) {
                @for (number, (step, spent)) in version.spent.iter().enumerate() { tr {
                    td { @if number == 0 { (history.label(at)) } }
                    td { (step) } td { (spent.trials) } td { (duration(spent.seconds)) } td { (tokens(spent)) } td { (dollars(spent)) }
                } }
                @if let Some(offer) = &version.proposed { tr {
                    td { @if version.spent.is_empty() { (history.label(at)) } }
                    td { "coding agent" } td { "–" } td { (duration(offer.usage.seconds)) } td { (offer.usage.tokens) }
                    td { @if offer.usage.unpriced < offer.usage.sessions { (in_dollars(offer.usage.cost_usd)) } @else { "not reported" } }
                } }
            } }
        } } }
    }
}

fn tokens(spent: &Spent) -> String {
    if spent.tokens == 0 { "–".into() } else { spent.tokens.to_string() }
}

/// Unreported cost is not zero cost.
fn dollars(spent: &Spent) -> String {
    match (spent.cost_usd > 0.0, spent.unpriced) {
        (true, 0) => in_dollars(spent.cost_usd),
        (true, more) => format!("{}, not reported by {more}", in_dollars(spent.cost_usd)),
        (false, 0) => "–".into(),
        (false, _) => "not reported".into(),
    }
}

/// Parts of a whole as one bar: (class, share, what).
fn bar(parts: &[(&'static str, usize, &str)]) -> Markup {
    let all = parts.iter().map(|(_, count, _)| count).sum::<usize>().max(1) as f64;
    let mut from = 0.0;
    let placed: Vec<(&str, f64, f64, String)> = parts
        .iter()
        .filter(|(_, count, _)| *count > 0)
        .map(|(class, count, what)| {
            let width = 200.0 * *count as f64 / all;
            from += width;
            (*class, from - width, width, format!("{count} {what}"))
        })
        .collect();
    html! {
        svg class="bar" viewBox="0 0 200 12" preserveAspectRatio="none" role="img" aria-label=(parts.iter().filter(|part| part.1 > 0).map(|(_, count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")) {
            @for (class, x, width, what) in placed {
                rect class=(class) x=(format!("{x:.1}")) y="0" width=(format!("{width:.1}")) height="12" { title { (what) } }
            }
        }
    }
}

pub(super) fn outcomes(history: &History, columns: &[(usize, Rewards)]) -> Markup {
    let each = history.summary().scoring().trials;
    let of = |at: usize, rewards: &Rewards| {
        let version = &history.versions[at];
        let tasks: Vec<String> = rewards.0.keys().cloned().collect();
        history.state.trials.outcomes(&version.agent, &version.protocol, &tasks, each).counts()
    };
    let rows: Vec<(usize, BTreeMap<&'static str, usize>)> =
        columns.iter().rev().take(ROWS).map(|(at, rewards)| (*at, of(*at, rewards))).collect();
    let mut slow: Vec<(&String, crate::report::history::Took)> =
        history.train().iter().filter_map(|task| Some((task, history.took(task)?))).collect();
    let mean = |took: &crate::report::history::Took| took.seconds / f64::from(took.trials.max(1));
    slow.sort_unstable_by(|one, other| mean(&other.1).total_cmp(&mean(&one.1)).then_with(|| one.0.cmp(other.0)));
    html! {
        p class="key" { @for (word, class) in OUTCOMES { span class=(format!("dot {class}")) { (word) } } }
        div class="wide" { table {
            thead { tr { th { "agent" } th { "trials" } @for (word, _) in OUTCOMES { th { (word) } } } }
            tbody { @for (at, counts) in &rows { tr {
                td { (history.label(*at)) }
                td { (bar(&OUTCOMES.map(|(word, class)| (class, counts.get(word).copied().unwrap_or(0), word)))) }
                @for (word, _) in OUTCOMES { td { (counts.get(word).copied().unwrap_or(0)) } }
            } } }
        } }
        @if !slow.is_empty() {
            h3 { "Where the time goes" }
            div class="wide" { table {
                thead { tr { th { "train task" } th { "mean" } th { "longest" } th { "trials" } } }
                tbody { @for (task, took) in slow.iter().take(SLOWEST) { tr {
                    td { (one_line(task, 120)) } td { (short(mean(took))) } td { (short(took.longest)) } td { (took.trials) }
                } } }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_reported_costs_not_nothing() {
        let spent = |tokens, cost_usd, unpriced| Spent { trials: 3, tokens, cost_usd, unpriced, ..Spent::default() };
        for (spent, told) in [
            (spent(0, 0.0, 0), ["–", "–"]),
            (spent(9, 0.0, 3), ["9", "not reported"]),
            (spent(9, 0.5, 0), ["9", "$0.50"]),
            (spent(9, 0.5, 1), ["9", "$0.50, not reported by 1"]),
        ] {
            assert_eq!([tokens(&spent), dollars(&spent)], told);
        }
    }
}

//! The plots: SVG without scripts or styles of its own; the page's classes give the colours.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::report::text::one_line;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 40.0;
/// Where verdicts stand that told no score: below the axis, so that nobody takes them for a score of nothing.
const UNTOLD: f64 = HEIGHT - 28.0;

/// How a point ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Baseline,
    Recorded,
    Passed,
    Rejected,
    Undecided,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Baseline => "baseline",
            Kind::Recorded => "recorded",
            Kind::Passed => "passed, not recorded",
            Kind::Rejected => "rejected",
            Kind::Undecided => "undecided",
        }
    }

    pub(super) fn class(self) -> &'static str {
        match self {
            Kind::Baseline => "k-base",
            Kind::Recorded => "k-rec",
            Kind::Passed => "k-pass",
            Kind::Rejected => "k-rej",
            Kind::Undecided => "k-und",
        }
    }
}

/// A verdict in the plot of scores.
pub(super) struct Point {
    pub(super) label: String,
    pub(super) kind: Kind,
    pub(super) score: Option<f64>,
    pub(super) interval: Option<(f64, f64)>,
    /// What its first trials earned, where the score was measured afresh.
    pub(super) selected: Option<f64>,
}

fn x(at: usize, count: usize) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * (at as f64 + 0.5) / count.max(1) as f64
}

fn y(value: f64) -> f64 {
    TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - value.clamp(0.0, 1.0))
}

fn n(value: f64) -> String {
    format!("{value:.1}")
}

fn grid() -> Markup {
    html! {
        @for tenth in [0u8, 2, 4, 6, 8, 10] {
            @let at = y(f64::from(tenth) / 10.0);
            line class="grid" x1=(n(LEFT)) x2=(n(WIDTH - RIGHT)) y1=(n(at)) y2=(n(at)) {}
            text class="axis" x=(n(LEFT - 6.0)) y=(n(at + 4.0)) text-anchor="end" { (format!("{:.1}", f64::from(tenth) / 10.0)) }
        }
    }
}

/// val_score over the verdicts, with the recorded score as a stepped line. `band`: how far a measurement strays by chance.
pub(super) fn scores(points: &[Point], band: Option<f64>) -> Markup {
    let count = points.len();
    let is_recorded = |point: &&Point| matches!(point.kind, Kind::Baseline | Kind::Recorded);
    let last = points.iter().rfind(is_recorded).and_then(|point| point.score);
    let band = band.zip(last).map(|(band, last)| (y((last + band).min(1.0)), y((last - band).max(0.0))));
    let mut path = String::new();
    for (at, point) in
        points.iter().enumerate().filter(|(_, point)| matches!(point.kind, Kind::Baseline | Kind::Recorded))
    {
        let Some(score) = point.score else { continue };
        let step = if path.is_empty() { "M" } else { "H" };
        match step {
            "M" => path.push_str(&format!("M{} {}", n(x(at, count)), n(y(score)))),
            _ => path.push_str(&format!("H{}V{}", n(x(at, count)), n(y(score)))),
        }
    }
    if !path.is_empty() {
        path.push_str(&format!("H{}", n(WIDTH - RIGHT)));
    }
    let every = count.div_ceil(25).max(1);
    html! {
        svg class="plot" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label="val_score over the verdicts" {
            (grid())
            @if let Some((top, bottom)) = band {
                rect class="band" x=(n(LEFT)) width=(n(WIDTH - LEFT - RIGHT)) y=(n(top)) height=(n(bottom - top)) {}
            }
            path class="step" d=(path) {}
            @for (at, point) in points.iter().enumerate() {
                @let place = x(at, count);
                g class=(point.kind.class()) {
                    title { (title(point)) }
                    @if let Some((low, high)) = point.interval {
                        line class="whisker" x1=(n(place)) x2=(n(place)) y1=(n(y(low))) y2=(n(y(high))) {}
                    }
                    @if let Some(selected) = point.selected {
                        rect class="selected" x=(n(place - 3.0)) y=(n(y(selected) - 3.0)) width="6" height="6" {}
                    }
                    @let height = point.score.map_or(UNTOLD, y);
                    @if point.kind == Kind::Rejected {
                        path class="cross" d=(format!("M{0} {2}L{1} {3}M{0} {3}L{1} {2}", n(place - 4.0), n(place + 4.0), n(height - 4.0), n(height + 4.0))) {}
                    } @else {
                        circle cx=(n(place)) cy=(n(height)) r="4.5" {}
                    }
                }
                @if at % every == 0 {
                    text class="axis" x=(n(place)) y=(n(HEIGHT - 8.0)) text-anchor="middle" { (at) }
                }
            }
        }
    }
}

fn title(point: &Point) -> String {
    let score = point.score.map_or_else(|| "no score told".into(), |score| format!("val_score {score:.4}"));
    let interval = point.interval.map(|(low, high)| format!(", 95 % {low:.2}–{high:.2}")).unwrap_or_default();
    let selected = point.selected.map(|selected| format!(", chosen at {selected:.4}")).unwrap_or_default();
    format!("{}: {}, {score}{interval}{selected}", point.label, point.kind.word())
}

/// The recorded score against what was spent until then, both in order.
pub(super) fn spending(points: &[(f64, f64)], unit: &str) -> Markup {
    let most = points.iter().map(|(spent, _)| *spent).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let at = |spent: f64| LEFT + (WIDTH - LEFT - RIGHT) * (spent / most).clamp(0.0, 1.0);
    let mut path = String::new();
    for (spent, score) in points {
        let step = match path.is_empty() {
            true => format!("M{} {}", n(at(*spent)), n(y(*score))),
            false => format!("H{}V{}", n(at(*spent)), n(y(*score))),
        };
        path.push_str(&step);
    }
    html! {
        svg class="plot" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(format!("recorded score over {unit} spent")) {
            (grid())
            path class="step" d=(path) {}
            text class="axis" x=(n(LEFT)) y=(n(HEIGHT - 8.0)) { "0" }
            text class="axis" x=(n(WIDTH - RIGHT)) y=(n(HEIGHT - 8.0)) text-anchor="end" { (amount(most, unit)) }
        }
    }
}

/// An amount of dollars or trials.
pub(super) fn amount(value: f64, unit: &str) -> String {
    if unit == "dollars" { format!("${value:.2}") } else { format!("{value:.0} {unit}") }
}

/// Parts of a whole as one bar: (class, share, what).
pub(super) fn bar(parts: &[(&'static str, usize, &str)]) -> Markup {
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
                rect class=(class) x=(n(x)) y="0" width=(n(width)) height="12" { title { (what) } }
            }
        }
    }
}

/// The history of a task as cells of one row: adjacent cells of one kind are one rectangle.
pub(super) fn cells(marks: &[Cell]) -> Markup {
    // One path a colour: an element a cell would be a hundred thousand in a long history, and every click slow.
    let mut paths: BTreeMap<&'static str, String> = BTreeMap::new();
    for (at, cell) in marks.iter().enumerate() {
        paths.entry(cell.class()).or_default().push_str(&format!("M{} 0h8", at * 9));
    }
    let text: String = marks.iter().map(|cell| cell.mark()).collect();
    html! {
        svg class="cells" width=(marks.len() * 9) height="14" viewBox=(format!("0 -7 {} 14", marks.len() * 9)) role="img" aria-label=(one_line(&text, 400)) {
            @for (class, d) in paths { path class=(class) d=(d) {} }
        }
    }
}

/// A task under an agent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell {
    NotRun,
    NoEvidence,
    Earned(f64),
}

impl Cell {
    fn class(self) -> &'static str {
        match self {
            Cell::NotRun => "c-none",
            Cell::NoEvidence => "c-lost",
            Cell::Earned(reward) => match (reward.clamp(0.0, 1.0) * 4.0).floor() as u8 {
                0 => "c0",
                1 => "c1",
                2 => "c2",
                3 => "c3",
                _ => "c4",
            },
        }
    }

    fn mark(self) -> char {
        match self {
            Cell::NotRun => '-',
            Cell::NoEvidence => '?',
            Cell::Earned(reward) if crate::model::score::passes(Some(reward)) => '.',
            Cell::Earned(_) => 'x',
        }
    }
}

//! The train tasks and the agents: who passes what.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use crate::model::score::Rewards;
use crate::report::history::{History, marks};
use crate::report::text::one_line;

/// The train tasks in the order of the table: what always fails first, then by history.
pub(super) fn order(history: &History, columns: &[(usize, Rewards)]) -> Vec<String> {
    let mut rows: Vec<(usize, String, String)> = Vec::new();
    for task in history.train() {
        let marks = marks(columns, task);
        let passes = marks.matches('.').count();
        rows.push((passes, marks, task.clone()));
    }
    rows.sort_unstable();
    rows.into_iter().map(|(_, _, task)| task).collect()
}

/// Where a task stands with the suite.
fn standing(history: &History, suite: &BTreeSet<String>, task: &String) -> &'static str {
    let summary = history.summary();
    match (summary.retired.contains_key(task), summary.quarantined.contains_key(task), suite.contains(task)) {
        (true, ..) => "retired",
        (_, true, true) => "quarantine",
        (.., true) => "suite",
        _ => "",
    }
}

pub(super) fn section(history: &History, columns: &[(usize, Rewards)], rows: &[String]) -> Markup {
    let suite: BTreeSet<String> = history.summary().suite();
    let holdout = history.summary().prepared.as_ref().map_or(0, |prepared| prepared.split.test.len());
    html! {
        p { "A row is a train task, a column an agent in the order they appeared: " (columns.len()) " of them. A task opens its traces. The " (holdout) " held-out tasks are not here: nobody is told of single ones." }
        p class="key" {
            span class="dot c0" { "fails" } span class="dot c2" { "passes at times" } span class="dot c4" { "passes" }
            span class="dot c-lost" { "no evidence" } span class="dot c-none" { "not run" }
        }
        div class="wide" { table class="matrix" {
            thead { tr { th { "task" } th { "agents, the oldest first" } th { "passes" } th { "suite" } } }
            tbody { @for (number, task) in rows.iter().enumerate() {
                @let all: Vec<Cell> = columns.iter().map(|(_, rewards)| cell(rewards, task)).collect();
                @let ran = all.iter().filter(|cell| matches!(cell, Cell::Earned(_))).count();
                @let passed = all.iter().filter(|cell| matches!(cell, Cell::Earned(reward) if crate::model::score::passes(Some(*reward)))).count();
                tr {
                    th scope="row" { a href=(format!("#task={number}")) { (one_line(task, 120)) } }
                    td { a class="open" tabindex="-1" aria-hidden="true" href=(format!("#task={number}")) { (cells(&all)) } }
                    td { (passed) "/" (ran) }
                    td { (standing(history, &suite, task)) }
                }
            } }
        } }
        details { summary { "the columns" } ol {
            @for (at, _) in columns {
                @let version = &history.versions[*at];
                li { (history.label(*at)) ", " (version.first.format("%Y-%m-%d %H:%M")) @if let Some(verdict) = &version.verdict { ", " (verdict.status.as_str()) } }
            }
        } }
    }
}

fn cell(rewards: &Rewards, task: &str) -> Cell {
    match rewards.0.get(task) {
        None => Cell::NotRun,
        Some(None) => Cell::NoEvidence,
        Some(Some(reward)) => Cell::Earned(*reward),
    }
}

/// The history of a task as cells of one row: adjacent cells of one kind are one rectangle.
fn cells(marks: &[Cell]) -> Markup {
    // One path per colour: one element per cell would make a hundred thousand in a long history, and every click slow.
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
enum Cell {
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

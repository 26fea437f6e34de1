//! The edits: what changed, what the gate said, what was learned.

use maud::{Markup, html};

use super::diff::Edit;
use super::inputs::Inputs;
use crate::report::learnings::about;
use crate::report::text::{cut, harmless, one_line};

/// Longest learnings of one edit, in bytes.
const LEARNED: usize = 6000;
/// How many edits are shown, newest first.
const SHOWN: usize = 200;

pub(super) fn section(inputs: &Inputs<'_>) -> Markup {
    let history = inputs.history;
    let mut used = Vec::new();
    let mut shown = Vec::new();
    for at in history.judged() {
        let Some(verdict) = &history.versions[at].verdict else { continue };
        let learned = about(&inputs.learnings, &used, &verdict.line);
        used.extend(learned);
        shown.push((at, verdict, learned, inputs.edits.iter().find(|edit| edit.version == at)));
    }
    let rest: Vec<usize> = (0..inputs.learnings.len()).filter(|at| !used.contains(at)).collect();
    html! {
        @if shown.is_empty() { p { "No edit was judged yet." } }
        @for (at, verdict, learned, edit) in shown.iter().rev().take(SHOWN) {
            details class="edit" {
                summary {
                    b { (history.label(*at)) } " " (verdict.status.as_str())
                    @if let Some(score) = verdict.val_score { (format!(", val_score {score:.4}")) }
                    @let touched = &history.versions[*at].touched;
                    @if !touched.is_empty() { ", touched " (one_line(&touched.join(", "), 120)) }
                    @if let Some(edit) = edit { " – " (one_line(&edit.subject, 120)) }
                }
                @if let Some(offer) = &history.versions[*at].proposed {
                    p { b { "Hypothesis: " } (offer.hypothesis.as_deref().map_or_else(|| "none was given".into(), |said| one_line(said, 1000))) " (" (one_line(&offer.by, 60)) ")" }
                }
                ul { @for (name, status, detail) in &verdict.steps { li { code { (name) } " " (status.as_str()) ": " (harmless(detail)) } } }
                @if let Some(section) = learned.and_then(|at| inputs.learnings.get(at)) { (learnings(section)) }
                @match edit {
                    Some(edit) => (diff(edit)),
                    None => { p class="meta" { "No commit that is known here has it: of an edit that was gated by hand and not recorded nothing is kept." } }
                }
            }
        }
        @if !rest.is_empty() {
            details { summary { "Learnings that quote no verdict (" (rest.len()) ")" }
                @for at in rest.iter().rev().take(SHOWN) { (learnings(&inputs.learnings[*at])) }
            }
        }
    }
}

fn learnings(section: &crate::report::learnings::LearningCard) -> Markup {
    let (text, is_cut) = cut(&section.text, LEARNED);
    html! {
        h3 { (section.title) }
        pre class="said" { (text) }
        @if is_cut { p class="meta" { "The whole is in workspace/learnings.md." } }
    }
}

fn diff(edit: &Edit) -> Markup {
    let place = match &edit.candidate {
        Some(name) => name,
        None => &edit.commit,
    };
    html! {
        @if edit.candidate.is_some() { p class="meta" { "Not recorded; git keeps it as " code { (harmless(place)) } "." } }
        pre class="diff" tabindex="0" {
            @for (mark, line) in &edit.lines {
                @let class = match mark { '+' => "add", '-' => "del", '@' => "at", _ => "same" };
                span class=(class) { (mark) (line) "\n" }
            }
        }
        @if edit.left_out > 0 { p class="meta" { (edit.left_out) " more lines: git show " (harmless(place)) } }
    }
}

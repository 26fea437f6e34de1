//! `learnings`: what was tried and what became of it, from `workspace/learnings.md`.

use serde_json::json;

use super::experiment::Experiment;
use crate::cli::{Global, LearningsArgs};
use crate::drive::learnings::{Learning, Learnings, NotedVerdict};
use crate::error::{EXIT_OK, Error, Result};
use crate::files;
use crate::ui::Ui;

/// Larger than any such file, in bytes.
pub(super) const LARGEST: u64 = 16 << 20;
/// Problems that a message names.
const SHOWN: usize = 10;

/// Errors: usage when sections are not in the format of PROGRAM.md, after the others were listed.
pub(super) fn run(args: &LearningsArgs, global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let path = experiment.paths.learnings();
    let text = files::read_text_if_there(&path, LARGEST)?.unwrap_or_default();
    let read = Learnings::parse(&text);
    let wanted = |section: &&Learning| {
        (!args.kept || section.verdict() == NotedVerdict::Kept)
            && (!args.rejected || section.verdict() == NotedVerdict::Rejected)
            && args.surface.is_none_or(|surface| section.surface == Some(surface))
    };
    let sections: Vec<&Learning> = read.sections.iter().filter(wanted).collect();
    for section in &sections {
        let surface = section.surface.map(|surface| surface.as_str());
        ui.line(format!(
            "{:<4} {:<8}  {:<16}  {}",
            section.number,
            section.verdict().as_str(),
            surface.unwrap_or("-"),
            section.title
        ));
        if !section.learned.is_empty() {
            ui.line(format!("     {}", section.learned));
        }
        ui.json(&json!({
            "type": "learning", "number": section.number, "title": section.title, "verdict": section.verdict().as_str(),
            "surface": surface, "touched": section.touched, "hypothesis": section.hypothesis, "change": section.change, "result": section.result,
            "learned": section.learned,
        }));
    }
    ui.line(format!("learnings: {} of {} sections", sections.len(), read.sections.len()));
    ui.json(&json!({"type": "learnings", "shown": sections.len(), "sections": read.sections.len(),
        "problems": read.problems.len()}));
    if read.problems.is_empty() {
        return Ok(EXIT_OK);
    }
    let mut lines: Vec<String> =
        read.problems.iter().take(SHOWN).map(|(line, what)| format!("line {line}: {what}")).collect();
    if read.problems.len() > SHOWN {
        lines.push(format!("and {} more", read.problems.len() - SHOWN));
    }
    Err(Error::usage(format!("workspace/learnings.md is not in its format: {}", lines.join("; ")))
        .hint("PROGRAM.md shows the format under `learnings.md`; nothing but these lines has to be changed."))
}

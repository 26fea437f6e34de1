//! Takes over a workspace of the Python original: the part of its history and suite that can be believed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Context, Error, Result};
use crate::files;
use crate::model::split::TaskSplit;
use crate::model::trial::Split;
use crate::store::event::{Adopted, Row};
use crate::store::views::RESULTS_HEADER;
use crate::ui::Ui;

#[derive(Deserialize)]
struct OriginalSuite {
    tasks: Vec<Id>,
    #[serde(default)]
    last_results: BTreeMap<String, Option<f64>>,
}

/// The original writes ids as strings or as numbers.
struct Id(String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Id(text)),
            serde_json::Value::Number(number) => Ok(Id(number.to_string())),
            other => Err(serde::de::Error::custom(format!("a task id must be a string, found {other}"))),
        }
    }
}

/// A workspace of the original, read but not yet fitted to this experiment's split.
#[derive(Debug)]
pub(super) struct OriginalWorkspace {
    rows: Vec<Row>,
    suite: Vec<String>,
    suite_results: BTreeMap<String, Option<f64>>,
}

/// Reads results.tsv and suite.json where they exist; `None` when there is nothing to adopt. Runs before anything else,
/// so that a broken file costs nothing. Errors: usage, naming file and line, when a file is not what the original
/// writes.
pub(super) fn read(workspace: &Path) -> Result<Option<OriginalWorkspace>> {
    let (results, suite) = (workspace.join("results.tsv"), workspace.join("suite.json"));
    if !results.exists() && !suite.exists() {
        return Ok(None);
    }
    let mut found = OriginalWorkspace { rows: Vec::new(), suite: Vec::new(), suite_results: BTreeMap::new() };
    if results.exists() {
        found.rows = rows(&results)?;
    }
    if suite.exists() {
        let bytes = files::read(&suite, files::LARGEST)?;
        let parsed: OriginalSuite = serde_json::from_slice(&bytes)
            .usage(|| format!("{} is not a suite", suite.display()))
            .map_err(|error| error.hint("fix the file, or move it away to start with an empty suite."))?;
        found.suite = parsed.tasks.into_iter().map(|id| id.0).collect();
        found.suite_results = parsed.last_results;
    }
    Ok(Some(found))
}

impl OriginalWorkspace {
    /// Keeps what fits the split, and says what was taken over and what could not be verified.
    pub(super) fn adopt(self, split: &TaskSplit, ui: &Ui) -> Adopted {
        let (known, others): (Vec<String>, Vec<String>) =
            self.suite.into_iter().partition(|id| split.of(id) == Some(Split::Train));
        // It must not show which of them are held out.
        let (held_out, unknown): (Vec<String>, Vec<String>) =
            others.into_iter().partition(|id| split.of(id).is_some() || split.sealed.contains(id));
        if !unknown.is_empty() {
            ui.warn(format!("left out of the suite, because they are no tasks here: {}", unknown.join(", ")));
        }
        if !held_out.is_empty() {
            ui.warn(format!("left out of the suite, because they are held out here: {} tasks", held_out.len()));
        }
        let (rows, tasks) = (self.rows.len(), known.len());
        ui.status(format!("adopted {rows} rows of results.tsv and a suite of {tasks} tasks from this workspace"));
        ui.warn(
            "adopted scores could not be verified: which agent, model and split they stand for is unknown. They stay in \
             results.tsv, but the score to beat is the one measured now.",
        );
        let suite_results = self.suite_results.into_iter().filter(|(id, _)| known.contains(id)).collect();
        Adopted { rows: self.rows, suite: known, suite_results, split: false }
    }
}

fn rows(path: &Path) -> Result<Vec<Row>> {
    let wrong = |line: u64, what: String| {
        Error::usage(format!("{}:{line}: {what}", path.display()))
            .hint("fix the line, or move the file away to start a new history.")
    };
    let bytes = files::read(path, files::LARGEST)?;
    let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').flexible(true).from_reader(&*bytes);
    let headers = reader.headers().map_err(|error| wrong(1, error.to_string()))?;
    if !headers.iter().eq(RESULTS_HEADER) {
        return Err(wrong(1, format!("expected the header {}", RESULTS_HEADER.join(" "))));
    }
    let mut rows: Vec<Row> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| wrong(rows.len() as u64 + 2, error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let field = |index: usize| record.get(index).unwrap_or_default();
        let number = |index: usize| {
            field(index).parse().map_err(|_| {
                wrong(line, format!("{} is not a whole number: `{}`", RESULTS_HEADER[index], field(index)))
            })
        };
        let val_score: f64 = field(1)
            .parse()
            .ok()
            .filter(|score| (0.0..=1.0).contains(score))
            .ok_or_else(|| wrong(line, format!("val_score is not between 0 and 1: `{}`", field(1))))?;
        rows.push(Row {
            iteration: u32::try_from(number(0)?).map_err(|_| wrong(line, "iteration is too large".into()))?,
            val_score,
            commit: field(2).to_string(),
            evals_passed: number(3)?,
            evals_total: number(4)?,
            timestamp: field(5).to_string(),
        });
    }
    Ok(rows)
}

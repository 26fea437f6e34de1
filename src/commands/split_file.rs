//! `task_split.json` in the directory that a benchmark names for it: the split for scripts written for the Python original, in
//! its place and format. Written from the ledger; read once, when a workspace of the original is taken over.
//!
//! It names the hold-out's tasks, as the original's does. The tasks of these benchmarks are public, and `train_results.json`
//! says which of them are train, so a coding agent learns nothing new from it.

use std::path::PathBuf;

use chrono::Utc;
use serde::{Deserialize, Serialize};

use super::session::Session;
use crate::benchmarks;
use crate::error::{Code, Context, Error, Result};
use crate::guard::BaseTree;
use crate::model::split::{SPLIT_SEED, TaskSplit};
use crate::store::atomic;
use crate::store::state::timestamp;

const NAME: &str = "task_split.json";
/// No split file comes near this size.
const LARGEST: u64 = 16 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct SplitFile {
    train: Vec<String>,
    test: Vec<String>,
    #[serde(default)]
    metadata: serde_json::Value,
}

#[derive(Serialize)]
struct Metadata {
    created: String,
    total_tasks: usize,
    seed: u32,
}

impl SplitFile {
    /// The split, if it is one of exactly these tasks (sorted ids).
    fn fitting(self, ids: &[String]) -> Option<TaskSplit> {
        let mut split = TaskSplit { train: self.train, test: self.test, ..TaskSplit::default() };
        split.train.sort();
        split.test.sort();
        let mut all: Vec<&String> = split.train.iter().chain(&split.test).collect();
        all.sort();
        all.into_iter().eq(ids).then_some(split)
    }

    fn holds(&self, split: &TaskSplit) -> bool {
        self.train == split.train && self.test == split.test
    }
}

fn path(session: &Session) -> Option<PathBuf> {
    Some(session.paths.root.join(benchmarks::of(&session.config).split_directory()?).join(NAME))
}

/// What is there; `None` if nothing is. A pipe or a device is not opened.
fn load(path: &std::path::Path) -> Result<Option<SplitFile>> {
    let unusable = |what: &str| {
        Error::usage(format!("{} is no split file: {what}", path.display()))
            .code(Code::SplitInvalid)
            .hint("fix it, or move it away: then the split is drawn from the baseline.")
    };
    match fs_err::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= LARGEST => {}
        Ok(_) => return Err(unusable("not a regular file of sane size")),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    }
    serde_json::from_slice(&fs_err::read(path)?).map(Some).map_err(|error| unusable(&error.to_string()))
}

/// The split that the original left behind, where it is one of exactly these tasks (sorted ids). Called before anything is
/// run. Errors: usage when the file is not what the original writes.
pub(super) fn adopt(session: &Session, ids: &[String]) -> Result<Option<TaskSplit>> {
    let Some(path) = path(session) else { return Ok(None) };
    let Some(found) = load(&path)? else { return Ok(None) };
    let fitting = found.fitting(ids).filter(|split| !split.tasks(session.config.gate_split).is_empty());
    let Some(split) = fitting else {
        session.ui.warn(format!(
            "{} is not a split of this benchmark's {} tasks, so another one is drawn from the baseline and replaces it",
            path.display(),
            ids.len()
        ));
        return Ok(None);
    };
    session.ui.status(format!(
        "kept the split of {}: {} train, {} test",
        path.display(),
        split.train.len(),
        split.test.len()
    ));
    Ok(Some(split))
}

/// Updates the file from the ledger if they differ, unless the file guard would take it for a change: then a warning says
/// what to ignore.
pub(super) fn write(session: &Session, base: &BaseTree) -> Result<()> {
    let (Some(path), Some(directory)) = (path(session), benchmarks::of(&session.config).split_directory()) else {
        return Ok(());
    };
    let Some(prepared) = &session.state.summary.prepared else { return Ok(()) };
    if load(&path).ok().flatten().is_some_and(|found| found.holds(&prepared.split)) {
        return Ok(());
    }
    let relative = format!("{directory}/{NAME}");
    let is_committed = base.get(relative.as_bytes()).is_some();
    let is_ignored = base.ignores(relative.as_bytes(), false) || base.ignores(directory.as_bytes(), true);
    if session.config.file_guard && (is_committed || !is_ignored) {
        session.ui.warn(format!(
            "{relative} is not written, because git does not ignore it and the file guard would refuse it"
        ));
        session.ui.hint(format!("add `/{directory}/` to .gitignore, commit, and run `autoharness prepare --accept`."));
        return Ok(());
    }
    atomic::replace(&path, &render(&prepared.split, timestamp(Utc::now()))?)
}

fn render(split: &TaskSplit, created: String) -> Result<Vec<u8>> {
    let failed = || format!("cannot render {NAME}");
    let TaskSplit { train, test, .. } = split.clone();
    let metadata = Metadata { created, total_tasks: train.len() + test.len(), seed: SPLIT_SEED };
    let metadata = serde_json::to_value(metadata).infra(failed)?;
    let mut bytes = serde_json::to_vec_pretty(&SplitFile { train, test, metadata }).infra(failed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_string).collect()
    }

    #[test]
    fn it_has_the_originals_format_and_order() {
        let split = TaskSplit { train: ids("a c"), test: ids("b"), sealed: ids("z") };
        let text = String::from_utf8(render(&split, "2026-01-31T12:00:00+00:00".into()).unwrap()).unwrap();
        let squeezed: String = text.split_whitespace().collect();
        let metadata = r#""metadata":{"created":"2026-01-31T12:00:00+00:00","total_tasks":3,"seed":42}"#;
        // Nor does it name what is sealed.
        assert_eq!(squeezed, format!(r#"{{"train":["a","c"],"test":["b"],{metadata}}}"#));
        let again: SplitFile = serde_json::from_str(&text).unwrap();
        assert!(again.holds(&split));
    }

    #[test]
    fn one_of_the_original_is_taken_over_where_it_is_about_these_tasks() {
        let found = |text: &str| serde_json::from_str::<SplitFile>(text).unwrap();
        let original = r#"{"train": ["c", "a"], "test": ["b"], "metadata": {"created": "x", "total_tasks": 3, "seed": 42, "more": 1}}"#;
        assert_eq!(
            found(original).fitting(&ids("a b c")),
            Some(TaskSplit { train: ids("a c"), test: ids("b"), ..TaskSplit::default() })
        );
        for (text, tasks) in [
            (original, "a b c d"),
            (original, "a b"),
            (r#"{"train": ["a", "b"], "test": ["b", "c"]}"#, "a b c"),
            (r#"{"train": [], "test": []}"#, "a"),
        ] {
            assert_eq!(found(text).fitting(&ids(tasks)), None, "{text} {tasks}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        assert!(load(&path).unwrap().is_none());
        fs_err::create_dir(&path).unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("not a regular file"));
        fs_err::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(load(&path).is_err());
        fs_err::remove_file(&path).unwrap();
        fs_err::write(&path, "{").unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("is no split file"));
    }
}

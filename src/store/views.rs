//! `suite.json`, `train_results.json`, `results.tsv`, `gate.json`: what the ledger adds up to, in the formats the Python
//! original's users know. They are written atomically, checked before use, and refused when anything else changed them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use super::atomic;
use super::state::timestamp;
use super::summary::Summary;
use crate::error::{Code, Context, Error, Result};
use crate::files;
use crate::model::gate::GateStep;
use crate::model::hash::hash;
use crate::model::trial::Split;

pub const RESULTS_HEADER: [&str; 6] = ["iteration", "val_score", "commit", "evals_passed", "evals_total", "timestamp"];

pub(crate) const NAMES: [&str; 4] = ["suite.json", "train_results.json", "results.tsv", "gate.json"];

/// Stands for a view that was not there when it was about to be written.
const NOT_YET: &str = "nothing";

/// File name → content. A view that does not exist yet is absent.
pub(crate) type Views = BTreeMap<&'static str, Vec<u8>>;

#[derive(Serialize)]
struct SuiteView<'a> {
    tasks: &'a BTreeSet<String>,
    threshold: &'a serde_json::Value,
    last_results: BTreeMap<&'a String, &'a Option<f64>>,
}

#[derive(Serialize)]
struct TrainResults<'a> {
    split: Split,
    timestamp: String,
    results: &'a BTreeMap<String, Option<f64>>,
}

/// Renders every view.
///
/// # Errors
/// Only when serialisation fails, which is infrastructure.
pub fn render(summary: &Summary) -> Result<Views> {
    let mut views = Views::new();
    let Some(prepared) = &summary.prepared else { return Ok(views) };
    let tasks = summary.suite();
    let last_results = summary.suite_results.iter().filter(|(task, _)| tasks.contains(*task)).collect();
    let suite = SuiteView { tasks: &tasks, threshold: &prepared.config["threshold"], last_results };
    views.insert("suite.json", pretty(&suite)?);
    if let Some(at) = summary.train_timestamp {
        let results = TrainResults { split: Split::Train, timestamp: timestamp(at), results: &summary.train_results };
        views.insert("train_results.json", pretty(&results)?);
    }
    views.insert("results.tsv", results_tsv(summary)?);
    if let Some(gate) = gate(summary) {
        views.insert("gate.json", pretty(&gate)?);
    }
    Ok(views)
}

/// What gate.json says: the part of the last verdict that decided something which may be disclosed.
pub(crate) fn gate(summary: &Summary) -> Option<serde_json::Value> {
    let receipt = summary.last_decided.as_ref()?;
    let decision = receipt.verdict.told();
    let step = |step: &GateStep| json!({"step": step.name, "status": step.status, "detail": step.detail});
    Some(json!({
        "status": decision.status,
        "timestamp": timestamp(receipt.at),
        "val_score": decision.val_score,
        "evals_passed": decision.evals_passed,
        "evals_total": decision.evals_total,
        "best": receipt.verdict.evidence.best.as_ref().map(|best| best.val_score),
        "suite_size": summary.suite().len(),
        "promoted": decision.promoted.len(),
        "agent": receipt.verdict.agent,
        "steps": decision.steps.iter().map(step).collect::<Vec<_>>(),
    }))
}

fn pretty(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).infra(|| "cannot render a view".into())?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn results_tsv(summary: &Summary) -> Result<Vec<u8>> {
    let failed = || "cannot render results.tsv".to_string();
    let mut writer = csv::WriterBuilder::new().delimiter(b'\t').from_writer(Vec::new());
    writer.write_record(RESULTS_HEADER).infra(failed)?;
    for row in &summary.rows {
        writer
            .write_record([
                &row.iteration.to_string(),
                &format!("{:.4}", row.val_score),
                &row.commit,
                &row.evals_passed.to_string(),
                &row.evals_total.to_string(),
                &row.timestamp,
            ])
            .infra(failed)?;
    }
    writer.into_inner().map_err(|error| Error::infrastructure(failed()).because(anyhow::anyhow!("{error}")))
}

/// What the files on disk say, compared with what the ledger says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ViewsOnDisk {
    /// Views that are not there.
    pub missing: Vec<&'static str>,
    /// Views as an earlier command left them: ours, only older (a killed command, or another work tree of the same
    /// repository).
    pub stale: Vec<&'static str>,
    /// Views that something else changed.
    pub changed: Vec<&'static str>,
}

/// The digests of the views that this tool last wrote into each workspace, to tell an older view of ours from a forged
/// one.
#[derive(Debug)]
pub(crate) struct Written {
    path: PathBuf,
    workspace: String,
    digests: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl Written {
    /// Reads the digests from `path`. Without them only current views are believed.
    pub(crate) fn load(path: &Path, workspace: &Path) -> Written {
        let bytes = files::read_if_there(path, files::LARGEST).ok().flatten();
        let digests = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Written { path: path.to_path_buf(), workspace: workspace.display().to_string(), digests }
    }

    /// Whether a view must be there: it was written, not just about to be when a command was killed.
    fn has(&self, name: &str) -> bool {
        let known = self.digests.get(&self.workspace).and_then(|names| names.get(name));
        known.is_some_and(|known| !known.iter().any(|digest| digest == NOT_YET))
    }

    fn knows(&self, name: &str, content: &[u8]) -> bool {
        let known = self.digests.get(&self.workspace).and_then(|names| names.get(name));
        known.is_some_and(|known| known.contains(&hash(content)))
    }

    /// Remembers `views`; with `also_earlier` in addition to what is remembered already, because a kill may leave either.
    fn remember(&mut self, views: &Views, also_earlier: bool) -> Result<()> {
        let names = self.digests.entry(self.workspace.clone()).or_default();
        for (name, content) in views {
            let known = names.entry((*name).to_string()).or_default();
            if !also_earlier {
                known.clear();
            } else if known.is_empty() {
                known.push(NOT_YET.into());
            }
            known.push(hash(content));
        }
        let bytes = serde_json::to_vec(&self.digests).infra(|| "cannot render the digests of the views".into())?;
        // These digests must be on the disk before the views are replaced, or our own views would look foreign after a power
        // cut. Old digests that come back do no harm.
        if also_earlier { atomic::replace(&self.path, &bytes) } else { atomic::replace_unsynced(&self.path, &bytes) }
    }

    /// Remembers the files that exist before anything is prepared. Errors: when one cannot be read.
    pub(crate) fn remember_disk(&mut self, workspace: &Path) -> Result<()> {
        let mut views = Views::new();
        for name in NAMES {
            if let ViewOnDisk::File(content) = read(&workspace.join(name))? {
                views.insert(name, content);
            }
        }
        if views.is_empty() { Ok(()) } else { self.remember(&views, false) }
    }
}

/// Compares the files in `workspace` with `now`.
/// Errors: when a file exists and cannot be read.
pub(crate) fn compare(workspace: &Path, now: &Views, written: &Written) -> Result<ViewsOnDisk> {
    let mut comparison = ViewsOnDisk::default();
    for (name, content) in now {
        match read(&workspace.join(name))? {
            // Not written yet, rather than removed.
            ViewOnDisk::Nothing if !written.has(name) => comparison.stale.push(name),
            ViewOnDisk::Nothing => comparison.missing.push(name),
            ViewOnDisk::File(found) if found == *content => {}
            ViewOnDisk::File(found) if written.knows(name, &found) => comparison.stale.push(name),
            ViewOnDisk::File(_) | ViewOnDisk::Other => comparison.changed.push(name),
        }
    }
    // A view that should not exist yet was made by something else, unless nothing is prepared and it awaits adoption.
    for name in NAMES {
        if !now.is_empty() && !now.contains_key(name) && !matches!(read(&workspace.join(name))?, ViewOnDisk::Nothing) {
            comparison.changed.push(name);
        }
    }
    Ok(comparison)
}

/// What is at a view's place.
enum ViewOnDisk {
    Nothing,
    File(Vec<u8>),
    Other,
}

fn read(path: &Path) -> Result<ViewOnDisk> {
    match fs_err::symlink_metadata(path) {
        // Opening a pipe would wait forever; and we wrote no link, no directory and no file of many GB.
        Ok(metadata) if !metadata.is_file() || metadata.len() > files::LARGEST => Ok(ViewOnDisk::Other),
        Ok(_) => Ok(files::read_if_there(path, files::LARGEST)?.map_or(ViewOnDisk::Nothing, ViewOnDisk::File)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(ViewOnDisk::Nothing),
        Err(error) => Err(error.into()),
    }
}

/// Writes the views that differ from what is on disk; removes those that should not exist.
/// Errors: infrastructure when the disk refuses; each file is then the old one or the new one.
pub(crate) fn write(workspace: &Path, views: &Views, written: &mut Written) -> Result<()> {
    let mut different = Vec::new();
    for (name, content) in views {
        match read(&workspace.join(name))? {
            ViewOnDisk::File(found) if found == *content => {}
            found => different.push((workspace.join(name), content, found)),
        }
    }
    if !different.is_empty() {
        written.remember(views, true)?;
    }
    for (path, content, found) in &different {
        if matches!(found, ViewOnDisk::Other) {
            remove(path)?;
        }
        atomic::replace(path, content)?;
    }
    for name in NAMES.iter().filter(|name| !views.is_empty() && !views.contains_key(*name)) {
        if !matches!(read(&workspace.join(name))?, ViewOnDisk::Nothing) {
            remove(&workspace.join(name))?;
        }
    }
    if different.is_empty() { Ok(()) } else { written.remember(views, false) }
}

fn remove(path: &Path) -> Result<()> {
    if path.is_dir() && !path.is_symlink() {
        fs_err::remove_dir_all(path)?
    } else {
        fs_err::remove_file(path)?
    }
    Ok(())
}

/// The error for views that something else changed.
pub(crate) fn refused(workspace: &Path, changed: &[&str]) -> Error {
    let names: Vec<String> = changed.iter().map(|name| workspace.join(name).display().to_string()).collect();
    Error::usage(format!("changed outside of autoharness, so not to be trusted: {}", names.join(", ")))
        .code(Code::ViewsChanged)
        .hint("these files are views of the ledger; `autoharness verify --restore` rewrites them from it.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_that_a_killed_command_did_not_get_to_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let (workspace, digests) = (directory.path().join("workspace"), directory.path().join("views.json"));
        let now = |text: &str| Views::from([("results.tsv", text.as_bytes().to_vec())]);
        let look = |views: &Views| compare(&workspace, views, &Written::load(&digests, &workspace)).unwrap();
        // Killed between the digests and the first view.
        Written::load(&digests, &workspace).remember(&now("one"), true).unwrap();
        assert_eq!(look(&now("one")), ViewsOnDisk { stale: vec!["results.tsv"], ..ViewsOnDisk::default() });
        write(&workspace, &now("one"), &mut Written::load(&digests, &workspace)).unwrap();
        assert_eq!(look(&now("one")), ViewsOnDisk::default());
        fs_err::remove_file(workspace.join("results.tsv")).unwrap();
        assert_eq!(look(&now("one")), ViewsOnDisk { missing: vec!["results.tsv"], ..ViewsOnDisk::default() });
        // Killed twice before a later view: the first one may still lie there.
        write(&workspace, &now("one"), &mut Written::load(&digests, &workspace)).unwrap();
        for later in ["two", "three"] {
            Written::load(&digests, &workspace).remember(&now(later), true).unwrap();
            assert_eq!(look(&now(later)), ViewsOnDisk { stale: vec!["results.tsv"], ..ViewsOnDisk::default() });
        }
    }

    #[test]
    fn what_is_no_view_is_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("results.tsv");
        let written = Written::load(&directory.path().join("views.json"), directory.path());
        let views = Views::from([("results.tsv", b"one".to_vec())]);
        let changed = ViewsOnDisk { changed: vec!["results.tsv"], ..ViewsOnDisk::default() };
        assert!(std::process::Command::new("mkfifo").arg(&place).status().unwrap().success());
        assert_eq!(compare(directory.path(), &views, &written).unwrap(), changed);
        fs_err::remove_file(&place).unwrap();
        fs_err::File::create(&place).unwrap().set_len(10 << 30).unwrap();
        assert_eq!(compare(directory.path(), &views, &written).unwrap(), changed);
    }
}

//! Step 0 of the gate: what differs from the base commit and may not, one line each.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::session::Session;
use super::{agent, measure};
use crate::error::{Code, Error, Result};
use crate::guard::{
    BaseTree, Difference, Editable, Violation, causes, compare_trees, scan, shell_path, show_path, violations,
};

/// What the files are compared with.
pub(super) struct FileGuard<'a> {
    pub session: &'a Session,
    pub base: &'a BaseTree,
    /// Reports that this command itself writes; they are no edit.
    pub reports: &'a [PathBuf],
}

#[derive(Default)]
pub(super) struct GuardFindings {
    /// One line each, for people and the ledger; not yet shortened.
    pub lines: Vec<String>,
    /// Those of them that are files.
    pub files: Vec<Violation>,
    /// Why they differ although git sees no difference, with the way out.
    pub hints: Vec<String>,
}

/// How our own JUnit reports begin.
pub(super) const JUNIT_START: &str =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"autoharness gate\"";

impl FileGuard<'_> {
    fn paths(&self) -> Result<GuardFindings> {
        let session = self.session;
        if !session.config.file_guard {
            return Ok(GuardFindings::default());
        }
        let editable = Editable::new(&session.config.editable)?;
        let mut files = violations(&scan(&session.repo, self.base)?, &editable);
        let reports = self.report_paths();
        files.retain(|found| {
            let fresh = matches!(found.difference, Difference::Added | Difference::AddedSpecial);
            let full = session.repo.experiment().join(OsStr::from_bytes(&found.path));
            !(fresh && (reports.contains(&full) || starts_as_report(&full)))
        });
        let hints = causes(&session.repo, self.base, &files).hints;
        Ok(GuardFindings { lines: files.iter().map(ToString::to_string).collect(), files, hints })
    }

    /// This command's reports: the paths as named, and the targets of links there.
    fn report_paths(&self) -> Vec<PathBuf> {
        let named = self.reports.iter().filter_map(|report| std::path::absolute(report).ok());
        named.chain(self.reports.iter().filter_map(|report| fs_err::canonicalize(report).ok())).collect()
    }

    /// Compares with what the experiment was prepared with: files, configuration and provisioned data.
    /// Errors: usage when the experiment is not prepared; infrastructure when something cannot be read.
    pub(super) fn of_the_experiment(&self) -> Result<GuardFindings> {
        let session = self.session;
        let mut found = self.paths()?;
        if let Some(changes) = session.config_changes()? {
            found.lines.push(format!("{} is not the one prepared with: {changes}", session.paths.config.display()));
        }
        let digests = measure::data_digests(session)?;
        for path in measure::changed_data(session.prepared()?, &digests) {
            found.lines.push(format!("data {path} is not what the experiment was prepared with"));
        }
        Ok(found)
    }

    /// A branch must not choose how it is judged: a tracked configuration must be the base commit's. An untracked one comes
    /// from the user who runs the gate. Errors: usage when the editable files are not committed as they lie here;
    /// infrastructure when something cannot be read.
    pub(super) fn on_a_branch(&self, reference: &str) -> Result<GuardFindings> {
        let session = self.session;
        let mut found = self.paths()?;
        let head = session.repo.head()?.map(|head| session.repo.tree(&head)).transpose()?;
        if session.config.file_guard {
            let editable = Editable::new(&session.config.editable)?;
            // Merged is what is committed, whatever lies on the disk.
            let committed = head.iter().flat_map(|head| compare_trees(self.base, head)).collect::<Vec<_>>();
            let known: BTreeSet<Vec<u8>> = found.files.iter().map(|file| file.path.clone()).collect();
            for violation in violations(&committed, &editable) {
                if !known.contains(&violation.path) {
                    found.lines.push(format!("{violation}, in the branch's commits"));
                    found.files.push(violation);
                }
            }
            let lost = session.repo.thrown_away(self.base.commit(), reference)?;
            if !lost.is_empty() {
                found.hints.push(format!(
                    "{reference} counts this branch as merged, yet took nothing of it over (`merge -s ours`): \
                     `git merge {}` has the branch judged by the files that are there.",
                    shell_path(reference.as_bytes())
                ));
            }
            let word = format!("{reference} merged this branch without it, so it is no file to judge by");
            found.lines.extend(lost.iter().map(|path| format!("{}: {word}", show_path(path))));
        }
        if let Ok(path) = session.paths.config.strip_prefix(&session.paths.root) {
            let path = path.as_os_str().as_bytes();
            let known = self.base.get(path).is_some() || head.as_ref().is_some_and(|head| head.get(path).is_some());
            if known && self.base.read(path)?.as_deref() != Some(session.config.text.as_bytes()) {
                found.lines.push(format!(
                    "{} is not the base commit's: a branch is judged by the rules of its base",
                    show_path(path)
                ));
            }
        }
        let committed = match &head {
            Some(head) => agent::fingerprint(session, head)?,
            None => String::new(),
        };
        if committed != agent::from_disk(session, self.base)?.fingerprint {
            return Err(Error::usage(
                "the editable files are not committed as they lie here, so this is not the branch's agent",
            )
            .code(Code::AgentNotCommitted)
            .hint("commit them (or check the branch out anew) and run the gate again."));
        }
        Ok(found)
    }
}

/// Whether a gate before this one wrote the file as its JUnit report.
pub(super) fn starts_as_report(path: &Path) -> bool {
    let xml = path.extension() == Some(OsStr::new("xml"));
    if !xml || !fs_err::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return false;
    }
    let mut start = Vec::new();
    let read = fs_err::File::open(path).and_then(|file| file.take(JUNIT_START.len() as u64).read_to_end(&mut start));
    read.is_ok() && start == JUNIT_START.as_bytes()
}

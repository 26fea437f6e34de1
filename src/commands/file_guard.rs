//! Step 0 of the gate: what differs from the base commit and may not, one line each.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::session::Session;
use super::{agent, measure};
use crate::error::{Error, Result};
use crate::guard::{BaseTree, Difference, Editable, scan, show_path, violations};

/// What the files are compared with.
pub struct FileGuard<'a> {
    /// The experiment.
    pub session: &'a Session,
    /// The base commit's files.
    pub base: &'a BaseTree,
    /// Reports this very command writes; they are nobody's edit.
    pub reports: &'a [PathBuf],
}

impl FileGuard<'_> {
    fn paths(&self) -> Result<Vec<String>> {
        let editable = Editable::new(&self.session.config.editable)?;
        let ours = |path: &[u8]| {
            let full = self.session.paths.root.join(OsStr::from_bytes(path));
            self.reports.iter().any(|report| std::path::absolute(report).is_ok_and(|report| report == full))
        };
        let found = violations(&scan(&self.session.repo, self.base)?, &editable);
        let found = found.iter().filter(|found| found.difference != Difference::Added || !ours(&found.path));
        Ok(found.map(ToString::to_string).collect())
    }

    /// Compares with what the experiment was prepared with: files, configuration and provisioned data.
    ///
    /// # Errors
    /// Usage when the experiment is not prepared; infrastructure when something cannot be read.
    pub fn of_the_experiment(&self) -> Result<Vec<String>> {
        let session = self.session;
        let mut found = if session.config.file_guard { self.paths()? } else { Vec::new() };
        if let Some(changes) = session.config_changes()? {
            found.push(format!("{} is not the one prepared with: {changes}", session.paths.config.display()));
        }
        let digests = measure::data_digests(session)?;
        for (path, digest) in &session.prepared()?.data {
            if digests.get(path) != Some(digest) {
                found.push(format!("data {path} is not what the experiment was prepared with"));
            }
        }
        Ok(found)
    }

    /// A branch must not choose how it is judged: a configuration that git knows has to be the base commit's. One that git
    /// does not know comes from whoever runs the gate.
    ///
    /// # Errors
    /// Usage when the editable files are not committed as they lie here; infrastructure when something cannot be read.
    pub fn on_a_branch(&self) -> Result<Vec<String>> {
        let session = self.session;
        let mut found = if session.config.file_guard { self.paths()? } else { Vec::new() };
        if let Ok(path) = session.paths.config.strip_prefix(&session.paths.root) {
            let path = path.as_os_str().as_bytes();
            let head = session.repo.head()?.map(|head| session.repo.tree(&head)).transpose()?;
            let known = self.base.get(path).is_some() || head.is_some_and(|head| head.get(path).is_some());
            if known && self.base.read(path)?.as_deref() != Some(session.config.text.as_bytes()) {
                found.push(format!(
                    "{} is not the base commit's: a branch is judged by the rules of its base",
                    show_path(path)
                ));
            }
        }
        let committed = match session.repo.head()? {
            Some(head) => agent::fingerprint(session, &session.repo.tree(&head)?)?,
            None => String::new(),
        };
        if committed != agent::from_disk(session, self.base)?.fingerprint {
            return Err(Error::usage(
                "the editable files are not committed as they lie here, so this is not the branch's agent",
            )
            .hint("commit them (or check the branch out anew) and run the gate again."));
        }
        Ok(found)
    }
}

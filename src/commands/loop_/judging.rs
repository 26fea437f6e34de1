//! The gate, the commit and the record of a candidate, each by this program's own commands in the main work tree.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tracing::info;

use super::check::title;
use super::context::Loop;
use super::iteration::{base_of, ended, require_others_kept};
use super::plan::gate_cost;
use crate::commands::agent;
use crate::commands::session::{Reading, Session};
use crate::drive::budget::Reason;
use crate::drive::state::{Current, Stage};
use crate::error::{EXIT_OK, EXIT_REJECTED, Error, Result};
use crate::guard::agent_files::{read_editable_from_disk, read_editable_from_tree};
use crate::guard::{Editable, EditableFiles, differing};
use crate::model::gate::Status;
use crate::process::git::Git;
use crate::store::atomic;
use crate::store::event::End;

impl Loop<'_> {
    /// Has the gate judge the candidate, or says why it may not begin.
    pub(super) async fn gate(&mut self) -> Result<Option<Reason>> {
        let Some(mut current) = self.state.current.clone() else { return Ok(None) };
        if let Some(reason) = self.over(|summary| gate_cost(&self.config, summary))? {
            return Ok(Some(reason));
        }
        let mut verdict = {
            let session = self.open(Reading::Summary)?;
            require_others_kept(&session)?;
            let candidate = candidate_files(&session, &current)?;
            put_files(&session, &current, &candidate)?;
            judged(&session, &current)
        };
        if verdict.is_none() {
            self.ui.status(format!("iteration {}: gate", current.iteration));
            let said = self.own(&["gate"]).await?;
            match said.code {
                EXIT_OK | EXIT_REJECTED => {}
                3 => return self.failed(&format!("gate: {}", said.message)).map(|()| None),
                code => return Err(ended(code, "gate", &said.message)),
            }
            verdict = judged(&self.open(Reading::Summary)?, &current);
        }
        let Some(status) = verdict else {
            return Err(Error::usage(
                "the gate judged an agent other than the candidate: another process edits here, too",
            )
            .hint("leave the work tree to the loop while it is at work."));
        };
        self.went_well();
        if status == Status::Passed {
            current.stage = Stage::Passed;
        } else {
            (current.stage, current.end) = (Stage::Ended, Some(End::Rejected));
        }
        self.state.current = Some(current);
        self.save().map(|()| None)
    }

    /// Commits what passed.
    pub(super) async fn commit(&mut self) -> Result<()> {
        let Some(mut current) = self.state.current.clone() else { return Ok(()) };
        let (is_committed, paths) = {
            let session = self.open(Reading::Summary)?;
            let candidate = candidate_files(&session, &current)?;
            put_files(&session, &current, &candidate)?;
            let head = session.repo.tree(&session.repo.require_head()?)?;
            let was = agent::files_of(&session, &head)?;
            (was == candidate, differing(&was, &candidate).into_iter().map(literal).collect::<Vec<_>>())
        };
        if !is_committed {
            self.ui.status(format!("iteration {}: commit", current.iteration));
            let (supervisor, environment, cancel) = (&self.supervisor, &self.environment, &self.now);
            let git = Git { supervisor, environment, directory: &self.paths.root, cancel };
            git.ensure_identity().await?;
            let add = ["add", "--all", "--force", "--"].iter().map(OsString::from);
            git.run(&add.chain(paths.iter().cloned()).collect::<Vec<_>>()).await?;
            git.commit(&message(&current), &paths).await?;
        }
        current.stage = Stage::Committed;
        self.state.current = Some(current);
        self.save()
    }

    /// Writes the score next to the commit.
    pub(super) async fn record(&mut self) -> Result<()> {
        let Some(mut current) = self.state.current.clone() else { return Ok(()) };
        self.ui.status(format!("iteration {}: record", current.iteration));
        let said = self.own(&["record"]).await?;
        match said.code {
            EXIT_OK => {}
            3 => return self.failed(&format!("record: {}", said.message)),
            code => return Err(ended(code, "record", &said.message)),
        }
        (current.stage, current.end) = (Stage::Ended, Some(End::Accepted));
        self.state.current = Some(current);
        self.save()
    }
}

/// A path as git takes it literally: a name may contain what it reads as a pattern, and need not be UTF-8.
fn literal(path: &[u8]) -> OsString {
    OsString::from_vec([b":(literal)", path].concat())
}

/// The candidate's editable files, as its commit has them.
pub(super) fn candidate_files(session: &Session, current: &Current) -> Result<EditableFiles> {
    files_of(session, current.candidate.as_deref().unwrap_or(&current.base))
}

/// The editable files of a commit that was kept.
pub(super) fn files_of(session: &Session, commit: &str) -> Result<EditableFiles> {
    let tree = session.repo.tree(commit).map_err(|error| {
        error.hint(format!("the candidate is gone; remove {} to give it up.", session.paths.loop_state().display()))
    })?;
    read_editable_from_tree(&tree, &Editable::new(&session.config.editable)?)
}

/// Writes these editable files into the main work tree, replacing only the base commit's or the candidate's. Errors:
/// usage when something else is there.
pub(super) fn put_files(session: &Session, current: &Current, wanted: &EditableFiles) -> Result<()> {
    let editable = Editable::new(&session.config.editable)?;
    let base = session.repo.base_tree(&current.base)?;
    let on_disk = read_editable_from_disk(&session.repo, &base, &editable)?;
    if on_disk == *wanted {
        return Ok(());
    }
    let mut known = vec![read_editable_from_tree(&base, &editable)?, candidate_files(session, current)?];
    for rival in &current.rivals {
        known.push(files_of(session, &rival.candidate)?);
    }
    // A kill in between leaves some files of one and some of the other.
    let strange = on_disk.iter().find(|(path, file)| !known.iter().any(|known| known.get(*path) == Some(*file)));
    if let Some((path, _)) = strange {
        return Err(Error::usage(format!("{} was edited while the loop was at work", crate::guard::show_path(path)))
            .hint("take that edit back, then run the loop again: it goes on where it stopped."));
    }
    let root = &session.paths.root;
    let full = |path: &[u8]| root.join(Path::new(std::ffi::OsStr::from_bytes(path)));
    for path in on_disk.keys().filter(|path| !wanted.contains_key(*path)) {
        fs_err::remove_file(full(path))?;
    }
    for (path, file) in wanted.iter().filter(|(path, file)| on_disk.get(*path) != Some(*file)) {
        let full = full(path);
        atomic::replace(&full, &file.bytes)?;
        let mode = if file.executable { 0o755 } else { 0o644 };
        fs_err::set_permissions(&full, std::fs::Permissions::from_mode(mode))?;
    }
    info!(files = wanted.len(), "editable files written");
    Ok(())
}

/// What the gate said about the candidate, once it has.
fn judged(session: &Session, current: &Current) -> Option<Status> {
    let receipt = session.state.summary.last_decided.as_ref()?;
    let is_new = current.receipt_before.is_none_or(|before| receipt.seq > before);
    let is_it = Some(&receipt.verdict.agent) == current.agent.as_ref() && receipt.verdict.base_ref.is_none();
    (is_new && is_it).then_some(receipt.verdict.decision.status)
}

fn message(current: &Current) -> String {
    let proposal = current.proposal.as_ref();
    let (title, change) = proposal.map_or_else(
        || (format!("iteration {}", current.iteration), String::new()),
        |proposal| (title(proposal), proposal.change.clone()),
    );
    let change = if change.is_empty() { change } else { format!("{change}\n\n") };
    let surface = proposal.map_or(String::new(), |one| format!("Autoharness-Surface: {}\n", one.surface.as_str()));
    format!("{title}\n\n{change}Autoharness-Iteration: {}\nAutoharness-Verdict: passed\n{surface}", current.iteration)
}

/// Brings the base commit's agent back.
pub(super) fn restore(session: &Session, current: &Current) -> Result<()> {
    let base = base_of(session)?;
    let was = read_editable_from_tree(&base, &Editable::new(&session.config.editable)?)?;
    put_files(session, current, &was)
}

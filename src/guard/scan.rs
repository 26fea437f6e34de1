//! Compares the experiment's directory, byte by byte, with a commit.
//!
//! The walk covers the directory it was given, follows no link, and leaves out only what this file names. Every tracked
//! file is hashed every time: size and time stamps can be forged.

use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use fs_err as fs;
use git2::{ObjectType, Oid};

use super::base::BaseTree;
use super::change::{Change, Difference};
use super::entries::{Entries, Mode, TreeEntry};
use super::index::staged;
use super::repo::Repo;
use super::{caches, convert, files};
use crate::error::Result;

/// Above this size the recorded size is compared first, so that memory stays bounded by what the commit holds.
const ASK_SIZE_FIRST: u64 = 1 << 20;

/// Every difference between the experiment (files on disk, then the index) and the base commit, sorted by path.
///
/// A path that differs on disk is not named again for the index, except when the index holds something worse than a
/// file.
///
/// # Errors
/// When the disk or the index cannot be read for reasons other than a file's permissions.
pub fn scan(repo: &Repo, base: &BaseTree) -> Result<Vec<Change>> {
    let walk =
        Walk { entries: base.entries(), root: repo.experiment(), experiment: Some((repo, base)), changes: vec![] };
    let mut changes = walk.run()?;
    let on_disk = changes.len();
    for change in staged(repo, base)? {
        let known = changes[..on_disk].binary_search_by(|known| known.path.cmp(&change.path)).is_ok();
        if change.difference != Difference::Staged || !known {
            changes.push(change);
        }
    }
    changes.sort_unstable();
    changes.dedup();
    Ok(changes)
}

/// Differences between a directory that should hold exactly these files and what it does hold; nothing is left out.
pub(super) fn compare_export(root: &Path, entries: &Entries) -> Result<Vec<Change>> {
    Walk { entries, root, experiment: None, changes: Vec::new() }.run()
}

/// Differences from one commit to another, for `record`: what was committed since the base commit.
pub fn compare_trees(base: &BaseTree, head: &BaseTree) -> Vec<Change> {
    let mut changes = Vec::new();
    for (path, was) in base.iter() {
        let difference = match head.get(path) {
            None => Difference::Deleted,
            Some(is) if is == was => continue,
            Some(is) if is.mode.is_regular() != was.mode.is_regular() => Difference::TypeChanged,
            Some(is) if !is.mode.is_regular() && is.mode != was.mode => Difference::TypeChanged,
            Some(is) if is.oid != was.oid => Difference::Modified,
            Some(_) => Difference::ModeChanged,
        };
        changes.push(Change::new(path, difference));
    }
    for (path, is) in head.iter().filter(|(path, _)| base.get(path).is_none()) {
        let difference = if is.mode.is_regular() { Difference::Added } else { Difference::AddedSpecial };
        changes.push(Change::new(path, difference));
    }
    changes.sort_unstable();
    changes
}

/// What the guard does not look at on disk: `workspace/` holds results, which the ledger vouches for. It does look in the
/// index and in commits: committed results would travel with the agent, past its fingerprint.
pub(super) fn is_outside(path: &[u8]) -> bool {
    path.starts_with(b"workspace/")
}

struct Walk<'a> {
    entries: &'a Entries,
    root: &'a Path,
    /// Set when the experiment itself is walked; `None` for an export, where nothing is left out.
    experiment: Option<(&'a Repo, &'a BaseTree)>,
    changes: Vec<Change>,
}

impl Walk<'_> {
    fn run(mut self) -> Result<Vec<Change>> {
        let entries = self.entries;
        let mut seen = vec![false; entries.len()];
        // An explicit stack: endlessly nested directories must not crash the process.
        let ignored = self.experiment.is_some_and(|(_, base)| base.ignores_experiment());
        let mut pending = vec![(Vec::new(), ignored)];
        while let Some((directory, ignored)) = pending.pop() {
            let listing = match fs::read_dir(files::join(self.root, &directory)) {
                Ok(listing) => listing,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.report(&directory, Difference::Unreadable);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.is_empty() => continue,
                Err(error) => return Err(error.into()),
            };
            for item in listing {
                let item = item?;
                let path = files::join_bytes(&directory, item.file_name().as_bytes());
                let kind = item.file_type()?;
                if let Some(position) = entries.find(&path) {
                    let (_, entry) = entries.at(position);
                    seen[position] = self.compare(&path, entry, kind)?;
                } else if kind.is_dir() {
                    self.directory(path, ignored, &mut pending);
                } else {
                    self.untracked(&path, ignored, kind);
                }
            }
        }
        for (position, seen) in seen.into_iter().enumerate() {
            let (path, entry) = entries.at(position);
            // A submodule that is not checked out may lack even its empty directory.
            if !seen && entry.mode != Mode::Submodule && !(self.experiment.is_some() && is_outside(path)) {
                self.report(path, Difference::Deleted);
            }
        }
        self.changes.sort_unstable();
        Ok(self.changes)
    }

    fn report(&mut self, path: &[u8], difference: Difference) {
        self.changes.push(Change::new(path, difference));
    }

    /// A directory where the commit has no file: walk it, unless nothing in it can matter.
    fn directory(&mut self, path: Vec<u8>, ignored: bool, pending: &mut Vec<(Vec<u8>, bool)>) {
        let Some((repo, base)) = self.experiment else {
            pending.push((path, false));
            return;
        };
        if path == b"workspace" || (path == b".git" && repo.prefix().is_empty()) {
            return;
        }
        let ignored = ignored || base.ignores_by_name(&path, true);
        if ignored && !self.entries.any_below(&path) {
            return;
        }
        if !self.entries.any_below(&path) && caches::is_tool_cache(self.root, &path) {
            return;
        }
        if is_git_name(&path) {
            self.report(&path, Difference::NestedRepository);
        } else {
            pending.push((path, ignored));
        }
    }

    fn untracked(&mut self, path: &[u8], ignored: bool, kind: std::fs::FileType) {
        if self.entries.any_below(path) {
            return self.report(path, Difference::TypeChanged);
        }
        if let Some((repo, base)) = self.experiment {
            let own_git_file = path == b".git" && repo.prefix().is_empty();
            // The configuration may be git-ignored or not, as the user likes; its digest is checked elsewhere.
            let own_config = path == b"experiment_config.yaml" && kind.is_file();
            if own_git_file || own_config || ignored || base.ignores_by_name(path, false) {
                return;
            }
            if is_git_name(path) {
                return self.report(path, Difference::NestedRepository);
            }
        }
        self.report(path, if kind.is_file() { Difference::Added } else { Difference::AddedSpecial });
    }

    /// Compares a tracked path. `false` when it vanished in the meantime.
    fn compare(&mut self, path: &[u8], entry: TreeEntry, kind: std::fs::FileType) -> Result<bool> {
        let full = files::join(self.root, path);
        let difference = match entry.mode {
            Mode::File | Mode::Executable if kind.is_file() => self.compare_file(&full, path, entry),
            Mode::Symlink if kind.is_symlink() => compare_link(&full, entry),
            Mode::Submodule if kind.is_dir() => {
                let empty = fs::read_dir(&full).map(|mut listing| listing.next().is_none());
                empty.map(|empty| (!empty).then_some(Difference::Submodule)).map_err(Into::into)
            }
            _ => Ok(Some(Difference::TypeChanged)),
        };
        match difference {
            Ok(difference) => {
                if let Some(difference) = difference {
                    self.report(path, difference);
                }
                Ok(true)
            }
            Err(Failed::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.report(path, Difference::Unreadable);
                Ok(true)
            }
            Err(Failed::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(Failed::Io(error)) => Err(error.into()),
            Err(Failed::Git(error)) => Err(error),
        }
    }

    fn compare_file(&self, full: &Path, path: &[u8], entry: TreeEntry) -> Result<Option<Difference>, Failed> {
        let Some((file, metadata)) = files::open_regular(full)? else {
            return Ok(Some(Difference::TypeChanged));
        };
        let length = metadata.len();
        let converted = self.experiment.map(|(_, base)| (base, base.attributes_of(path)));
        let converted = converted.filter(|(_, attributes)| attributes.converts());
        if let Some((_, base)) = self.experiment
            && length > ASK_SIZE_FIRST
        {
            let size = base.size(entry).map_err(Failed::Git)?;
            // Line endings at most double a file.
            if length != size && (converted.is_none() || length > 2 * size + 4096) {
                return Ok(Some(Difference::Modified));
            }
        }
        // A file that grows while it is read has changed.
        let Some(bytes) = files::read_up_to(file, length)? else {
            return Ok(Some(Difference::Modified));
        };
        if blob_id(&bytes)? != entry.oid {
            let same = match converted {
                Some((base, attributes)) => is_checkout_of(&bytes, path, entry, base, attributes)?,
                None => false,
            };
            if !same {
                return Ok(Some(Difference::Modified));
            }
        }
        let executable = entry.mode == Mode::Executable;
        Ok((files::is_executable(&metadata) != executable).then_some(Difference::ModeChanged))
    }
}

/// Whether these are the bytes of a checkout that the commit's own `.gitattributes` ask for: other line endings, and
/// exactly git's text in `$Id$`. Anything else there could be code.
fn is_checkout_of(
    bytes: &[u8],
    path: &[u8],
    entry: TreeEntry,
    base: &BaseTree,
    attributes: super::attributes::PathAttributes,
) -> Result<bool, Failed> {
    let committed = base.content(path, entry).map_err(Failed::Git)?;
    let plain = if attributes.text { convert::without_crlf(bytes) } else { bytes.to_vec() };
    Ok(plain == committed || (attributes.ident && plain == convert::expanded_ident(&committed, entry.oid)))
}

fn compare_link(full: &Path, entry: TreeEntry) -> Result<Option<Difference>, Failed> {
    let target = fs::read_link(full)?.into_os_string().into_vec();
    Ok((blob_id(&target)? != entry.oid).then_some(Difference::Modified))
}

/// The id that git gives to these bytes as they are, without filters or line-ending conversion.
fn blob_id(bytes: &[u8]) -> Result<Oid, Failed> {
    Oid::hash_object(ObjectType::Blob, bytes).map_err(|error| Failed::Git(error.into()))
}

fn is_git_name(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    name.eq_ignore_ascii_case(b".git")
}

enum Failed {
    Io(io::Error),
    Git(crate::error::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Failed::Io(error)
    }
}

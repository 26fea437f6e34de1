//! What is scored: the base commit's files plus the editable files' bytes, exported to a directory of its own.
//!
//! Nothing else of the work tree gets there, so no stray `.pyc` and no ignored file can have made a score.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use git2::{ObjectType, Oid};

use super::base::{BaseTree, check_name};
use super::change::{Change, Difference};
use super::editable_files::EditableFiles;
use super::entries::{Entries, Mode, TreeEntry};
use super::files::{self, show_path};
use super::policy::Editable;
use super::scan::{compare_export, is_outside};
use crate::error::{Context, Error, Result};

/// Prefix of copies that are still being made.
pub(crate) const UNFINISHED: &str = ".tmp-staging-";

/// Something uncommitted that an export links to: provisioned data, which may be large.
#[derive(Debug, Clone)]
pub struct Link {
    /// Where the link is, relative to the export. A committed file there wins.
    pub path: PathBuf,
    /// What it leads to, absolute.
    pub to: PathBuf,
}

/// Exports the base commit's files plus `editable` ones to `target`, with links to what is not committed. Editable files that
/// are not in `files` are absent, even when the base commit has them. A target that already holds exactly this is kept; any
/// other is replaced: the new export is made beside the old one and takes its place once complete, and no link is ever
/// removed before.
///
/// Permissions are 0644 or 0755 whatever the umask, so that a container's user can read them too.
///
/// # Errors
/// Usage errors for links that lead out of the export; otherwise what the disk or the repository says.
pub fn stage(base: &BaseTree, editable: &Editable, files: &EditableFiles, links: &[Link], target: &Path) -> Result<()> {
    let wanted = wanted(base, editable, files)?;
    let exists = match fs::symlink_metadata(target) {
        Ok(metadata) if metadata.is_dir() && holds(target, &wanted, links)? => return Ok(()),
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error.into()),
    };
    let parent = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let fresh = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(parent)?;
    let root = fresh.path().join("new");
    export(&wanted, &root, |path, entry, full| {
        let bytes = match files.get(path) {
            Some(file) => &file.bytes,
            // Its commit is in another repository; here it is an empty directory.
            None if entry.mode == Mode::Submodule => &Vec::new(),
            None => &base.content(path, entry)?,
        };
        write_entry(path, entry.mode, full, bytes)
    })?;
    add_links(links, None, &root)?;
    if exists {
        fs::rename(target, fresh.path().join("old"))?;
    }
    fs::rename(&root, target)?;
    Ok(())
}

/// Copies an export that [`stage`] made, and nothing else in it, to the new directory `target`. The file system shares the
/// bytes of files if it can (reflinks). Files are never hard-linked, because writing into one copy would write into all.
/// Symbolic links are hard-linked: they cannot be written into, and thousands cost next to nothing.
///
/// # Errors
/// When the disk refuses.
pub fn copy(
    base: &BaseTree,
    editable: &Editable,
    files: &EditableFiles,
    links: &[Link],
    source: &Path,
    target: &Path,
) -> Result<()> {
    export(&wanted(base, editable, files)?, target, |path, entry, full| {
        let original = files::join(source, path);
        match entry.mode {
            Mode::File | Mode::Executable => fs::copy(original, full).map(drop).map_err(Into::into),
            Mode::Symlink => write_entry(path, entry.mode, full, fs::read_link(original)?.as_os_str().as_bytes()),
            Mode::Submodule => make_directory(full),
        }
    })?;
    add_links(links, Some(source), target)
}

/// Makes the new directory `root` and, with `write`, every entry in it.
fn export(wanted: &Entries, root: &Path, mut write: impl FnMut(&[u8], TreeEntry, &Path) -> Result<()>) -> Result<()> {
    fs::create_dir(root)?;
    set_mode(root, 0o755)?;
    let mut made = HashSet::new();
    // Links come last, so that no file is ever written through one.
    let (symlinks, plain): (Vec<_>, Vec<_>) = wanted.iter().partition(|(_, entry)| entry.mode == Mode::Symlink);
    for (path, entry) in plain.into_iter().chain(symlinks) {
        for directory in files::ancestors(path) {
            if made.insert(directory) {
                make_directory(&files::join(root, directory))?;
            }
        }
        write(path, entry, &files::join(root, path))?;
    }
    Ok(())
}

/// Adds what is not committed; `source` has these links already.
fn add_links(links: &[Link], source: Option<&Path>, root: &Path) -> Result<()> {
    for link in links {
        let place = root.join(&link.path);
        if !link.to.exists() || place.symlink_metadata().is_ok() {
            continue;
        }
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        // A benchmark may have put another link there, so its target counts.
        if source.is_some_and(|source| fs::hard_link(source.join(&link.path), &place).is_ok()) {
            if place.read_link().is_ok_and(|to| to == link.to) {
                continue;
            }
            fs::remove_file(&place)?;
        }
        fs::os::unix::fs::symlink(&link.to, place)?;
    }
    Ok(())
}

/// Whether an export holds exactly this.
fn holds(target: &Path, wanted: &Entries, links: &[Link]) -> Result<bool> {
    let led = |link: &&Link| target.join(&link.path).read_link().is_ok_and(|to| to == link.to);
    let linked: HashSet<&[u8]> = links.iter().filter(led).map(|link| link.path.as_os_str().as_bytes()).collect();
    let ours = |change: &Change| change.difference == Difference::AddedSpecial && linked.contains(&change.path[..]);
    let changes = compare_export(target, wanted)?;
    let there = |link: &Link| !link.to.exists() || target.join(&link.path).symlink_metadata().is_ok();
    Ok(changes.iter().all(ours) && links.iter().all(there))
}

/// Files of the base commit that no agent may read while it is scored, because they may change without changing the fingerprint.
pub(crate) fn is_unscored(path: &[u8]) -> bool {
    path == super::policy::PROGRAM || is_outside(path)
}

/// What was changed in an export since [`stage`] made it: files modified, removed or replaced. New files do not count,
/// because benchmarks may leave some, and the next [`stage`] removes them. Errors: when the export or the repository cannot
/// be read.
pub(crate) fn altered(
    base: &BaseTree,
    editable: &Editable,
    files: &EditableFiles,
    target: &Path,
) -> Result<Vec<String>> {
    let changes = compare_export(target, &wanted(base, editable, files)?)?;
    let grave =
        changes.iter().filter(|change| !matches!(change.difference, Difference::Added | Difference::AddedSpecial));
    Ok(grave.map(|change| format!("{}: {}", show_path(&change.path), change.difference.describe())).collect())
}

/// What the export must hold.
fn wanted(base: &BaseTree, editable: &Editable, files: &EditableFiles) -> Result<Entries> {
    let mut list: Vec<(Vec<u8>, TreeEntry)> = base
        .iter()
        .filter(|(path, _)| !editable.contains(path) && !is_unscored(path))
        .map(|(path, entry)| (path.to_vec(), entry))
        .collect();
    for (path, file) in files {
        if !editable.contains(path) {
            return Err(Error::usage(format!("{} is not editable", show_path(path))));
        }
        for name in path.split(|byte| *byte == b'/') {
            check_name(name, path)?;
        }
        let mode = if file.executable { Mode::Executable } else { Mode::File };
        list.push((path.clone(), TreeEntry { mode, oid: Oid::hash_object(ObjectType::Blob, &file.bytes)? }));
    }
    Ok(Entries::new(list))
}

fn write_entry(path: &[u8], mode: Mode, full: &Path, content: &[u8]) -> Result<()> {
    match mode {
        Mode::Submodule => make_directory(full),
        Mode::Symlink => {
            if !stays_inside(path, content) {
                return Err(Error::usage(format!("the link {} leads out of the experiment", show_path(path)))
                    .hint("commit a copy of what it points to, or a relative link inside the experiment."));
            }
            fs::os::unix::fs::symlink(OsStr::from_bytes(content), full)?;
            Ok(())
        }
        Mode::File | Mode::Executable => {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).open(full)?;
            file.write_all(content)?;
            let mode = if mode == Mode::Executable { 0o755 } else { 0o644 };
            file.set_permissions(std::fs::Permissions::from_mode(mode))?;
            Ok(())
        }
    }
}

fn make_directory(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Ok(()) => set_mode(path, 0o755),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error).infra(|| "cannot export the experiment".into()),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Into::into)
}

/// Whether a link at `path` stays in the export. `..` is allowed only at the start, where it climbs real directories:
/// after a name it could climb from wherever another link leads.
fn stays_inside(path: &[u8], target: &[u8]) -> bool {
    let mut depth = files::ancestors(path).count();
    let mut named = false;
    for component in Path::new(OsStr::from_bytes(target)).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(_) => named = true,
            Component::ParentDir if !named && depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_may_not_lead_out() {
        assert!(stays_inside(b"a/b/link", b"../other/file"));
        assert!(stays_inside(b"link", b"./file"));
        assert!(!stays_inside(b"link", b"../file"));
        assert!(!stays_inside(b"link", b"/etc/passwd"));
        assert!(!stays_inside(b"a/link", b"other/../../.."));
        assert!(!stays_inside(b"a/link", b"other/.."));
    }
}

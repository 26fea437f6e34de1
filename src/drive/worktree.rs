//! Where a coding agent edits: a directory of its own, outside the experiment, with the base commit's files, what it may know
//! of train, and a git repository that contains only this one commit.
//!
//! It is no linked work tree of the experiment's repository: the ledger and every ref would then be a `cd` away.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::Environment;
use crate::error::{Error, Result};
use crate::guard::BaseTree;
use crate::model::hash::hash;
use crate::process::git::Git;
use crate::process::signals::Cancel;
use crate::process::{Limits, Supervisor};

/// How long packing a repository's files may take.
const PACKING: Limits = Limits { time: Duration::from_secs(600), ..Limits::SMALL };
/// How deep directories may be nested.
const DEPTH: usize = 100;
/// The parts of `workspace/` that the coding agent gets a copy of.
const EVIDENCE: [&str; 7] =
    ["task_context", "learnings.md", "suite.json", "train_results.json", "results.tsv", "gate.json", "traces"];

/// What is needed to make one.
pub(crate) struct Maker<'a> {
    pub supervisor: &'a Supervisor,
    pub environment: &'a Environment,
    pub cancel: &'a Cancel,
    /// Where the last pack is kept, out of the coding agent's reach.
    pub packs: &'a Path,
}

/// The directory below which an experiment's work trees are made. `home`: the user's. Errors: usage when no home is
/// known.
pub(crate) fn place(root: &Path, cache: Option<&str>, home: Option<&str>) -> Result<PathBuf> {
    let absolute = |path: Option<&str>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute(cache).or_else(|| Some(absolute(home)?.join(".cache")));
    let cache = cache.ok_or_else(|| {
        Error::usage("neither HOME nor XDG_CACHE_HOME is set: there is no place for the coding agent's work tree")
            .hint("set HOME.")
    })?;
    let name: String = hash(root.as_os_str().as_encoded_bytes()).chars().take(16).collect();
    Ok(cache.join("autoharness").join("loop").join(name))
}

impl Maker<'_> {
    /// Makes a work tree at `directory`, from the one [retired](retire) last if there is one; it replaces one that a killed loop
    /// left half made. Errors: infrastructure when the disk or git refuses.
    pub(crate) async fn make(&self, directory: &Path, base: &BaseTree, program: &str, workspace: &Path) -> Result<()> {
        let began = Instant::now();
        remove(directory)?;
        // Built beside it, so that an existing one is always complete.
        let new = directory.with_extension("new");
        remove(&new)?;
        // Writing many files, and removing as many, can take seconds; looking at each of them takes little.
        if fs_err::rename(retired(directory), &new).is_ok() && base.weed(&new).is_err() {
            remove(&new)?;
        }
        BaseTree::clear_ground(&new)?;
        self.pack(base, &new.join(".git/objects/pack")).await?;
        base.plant(&new, ("PROGRAM.md", program))?;
        for name in EVIDENCE {
            copy(&workspace.join(name), &new.join("workspace").join(name))?;
        }
        fs_err::rename(&new, directory)?;
        tracing::info!(files = base.iter().count(), seconds = began.elapsed().as_secs_f64(), "work tree made");
        Ok(())
    }

    /// Packs the files of a commit, and nothing else: a repository that shared objects with the experiment's would have all of them.
    /// `into`: the directory of packs. Packing files that were committed one by one takes long, so the last pack is kept and reused.
    async fn pack(&self, base: &BaseTree, into: &Path) -> Result<()> {
        fs_err::create_dir_all(into)?;
        let kept = self.packs.join("objects/pack");
        let attempt = match base.lend_objects(self.packs) {
            Ok(()) => self.packed(base, self.packs, &kept).await,
            Err(error) => Err(error),
        };
        let name = match attempt {
            Ok(name) => name,
            Err(error) if error.is_interruption() => return Err(error),
            // What a killed loop left there may be useless.
            Err(_) => {
                remove(self.packs)?;
                return self.packed(base, &base.git_directory(), into).await.map(drop);
            }
        };
        for entry in fs_err::read_dir(&kept)? {
            let path = entry?.path();
            if path.file_stem() == Some(&name) {
                fs_err::copy(&path, into.join(path.file_name().unwrap_or_default()))?;
            } else {
                fs_err::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Has git pack the files of a commit, as the repository at `place` sees them; returns the pack's name.
    async fn packed(&self, base: &BaseTree, place: &Path, into: &Path) -> Result<OsString> {
        let at = into.join("pack").display().to_string();
        // Fast rather than small: it lives only as long as the iteration.
        let words = ["--git-dir=.", "pack-objects", "-q", "--window=0", "--compression=1", &at];
        let Maker { supervisor, environment, cancel, .. } = *self;
        let git = Git { supervisor, environment, directory: place, cancel };
        let said = git.run_within(PACKING, base.objects(), &words).await?;
        Ok(format!("pack-{}", String::from_utf8_lossy(&said.stdout).trim()).into())
    }
}

/// Where the work tree waits, beside `directory`, from which the next one is made.
fn retired(directory: &Path) -> PathBuf {
    directory.with_file_name("retired")
}

/// Removes a work tree, if there is one, and keeps what the next one can be made from.
pub(crate) fn retire(directory: &Path) -> Result<()> {
    let place = retired(directory);
    remove(&place)?;
    // The coding agent that worked there may have put something else in its place.
    if !fs_err::symlink_metadata(directory).is_ok_and(|metadata| metadata.is_dir()) {
        return remove(directory);
    }
    Ok(fs_err::rename(directory, &place)?)
}

/// Removes a work tree, when there is one.
/// Errors: infrastructure when something in it cannot be removed.
pub(crate) fn remove(directory: &Path) -> Result<()> {
    use std::io::ErrorKind::NotFound;
    if fs_err::symlink_metadata(directory).is_ok_and(|metadata| !metadata.is_dir()) {
        return Ok(fs_err::remove_file(directory)?);
    }
    // The coding agent may have locked directories, and nested a thousand of them.
    let removed = fs_err::remove_dir_all(directory).or_else(|_| {
        unlock(directory, DEPTH)?;
        flatten(directory)?;
        fs_err::remove_dir_all(directory)
    });
    match removed {
        Err(error) if error.kind() != NotFound => {
            Err(Error::from(error).hint("remove that directory by hand; nothing in it is needed."))
        }
        _ => Ok(()),
    }
}

/// Moves deeply nested entries of a directory up into it: descending takes a descriptor per level, and the length of a path is limited.
fn flatten(directory: &Path) -> std::io::Result<()> {
    let names = (0u64..).map(|number| directory.join(format!(".deep-{number}")));
    let mut free = names.filter(|path| fs_err::symlink_metadata(path).is_err());
    while let Some(deep) = too_deep(directory) {
        let to = free.next().ok_or(std::io::ErrorKind::AlreadyExists)?;
        fs_err::rename(deep, to)?;
    }
    Ok(())
}

/// A directory with more nesting than anyone needs.
pub(crate) fn too_deep(directory: &Path) -> Option<PathBuf> {
    let deep = walkdir::WalkDir::new(directory).min_depth(DEPTH).max_depth(DEPTH).into_iter().flatten();
    deep.filter(|entry| entry.file_type().is_dir()).map(walkdir::DirEntry::into_path).next()
}

/// Gives us access to every directory there, `depth` levels down.
fn unlock(directory: &Path, depth: usize) -> std::io::Result<()> {
    if depth == 0 || !fs_err::symlink_metadata(directory)?.is_dir() {
        return Ok(());
    }
    fs_err::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
    fs_err::read_dir(directory)?.try_for_each(|entry| unlock(&entry?.path(), depth - 1))
}

/// Removes every work tree below [`place`] but one.
pub(crate) fn sweep(place: &Path, but: Option<&Path>) -> Result<()> {
    let Ok(entries) = fs_err::read_dir(place) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if Some(path.as_path()) != but {
            remove(&path)?;
        }
    }
    // Only when it is empty.
    let _ = fs_err::remove_dir(place);
    Ok(())
}

/// Copies files and directories and leaves out everything else.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let Ok(metadata) = fs_err::symlink_metadata(from) else { return Ok(()) };
    if metadata.is_file() {
        if let Some(parent) = to.parent() {
            fs_err::create_dir_all(parent)?;
        }
        fs_err::copy(from, to)?;
    } else if metadata.is_dir() {
        fs_err::create_dir_all(to)?;
        for entry in fs_err::read_dir(from)? {
            let name: OsString = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_experiment_has_a_place_of_its_own() {
        let at = |root: &str| place(Path::new(root), None, Some("/home/me")).unwrap();
        assert!(at("/a").starts_with("/home/me/.cache/autoharness/loop") && at("/a") != at("/b"));
        assert!(place(Path::new("/a"), Some("/c"), None).unwrap().starts_with("/c/autoharness/loop"));
        assert_eq!(place(Path::new("/a"), Some("relative"), None).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_locked_directory_goes_too() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("1-1");
        fs_err::create_dir_all(place.join("a/b")).unwrap();
        fs_err::write(place.join("a/b/file"), "").unwrap();
        for (part, mode) in [("a/b", 0o000), ("a", 0o500)] {
            fs_err::set_permissions(place.join(part), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        // Root can read it without any permission bits.
        unlock(&place, DEPTH).unwrap();
        for part in ["a", "a/b"] {
            assert_eq!(fs_err::metadata(place.join(part)).unwrap().permissions().mode() & 0o7777, 0o700);
        }
        remove(&place).unwrap();
        assert!(!place.exists());
    }

    #[test]
    fn what_lies_deep_goes_too() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("1-1");
        // Longer than a path may be, so it is created from the inside.
        let mut inner = directory.path().join("made");
        for _ in 0..40 {
            let around = directory.path().join("around");
            let deep: PathBuf = std::iter::repeat_n("directory", 90).collect();
            fs_err::create_dir_all(around.join(&deep)).unwrap();
            if inner.exists() {
                fs_err::rename(&inner, around.join(&deep).join("x")).unwrap();
            }
            inner = directory.path().join("made");
            fs_err::rename(&around, &inner).unwrap();
        }
        fs_err::rename(&inner, &place).unwrap();
        assert!(too_deep(&place).is_some());
        flatten(&place).unwrap();
        assert_eq!(too_deep(&place), None);
        remove(&place).unwrap();
        assert!(!place.exists());
    }

    #[test]
    fn what_stands_in_its_place_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let [place, other] = ["1-1", "other"].map(|name| directory.path().join(name));
        fs_err::create_dir(&other).unwrap();
        fs_err::write(other.join("mine"), "").unwrap();
        for _ in 0..2 {
            std::os::unix::fs::symlink(&other, &place).unwrap();
            retire(&place).unwrap();
            assert!(fs_err::symlink_metadata(&place).is_err() && fs_err::symlink_metadata(retired(&place)).is_err());
        }
        fs_err::write(&place, "").unwrap();
        retire(&place).unwrap();
        assert!(!place.exists() && other.join("mine").exists());
    }

    #[test]
    fn what_is_left_over_goes_but_for_one() {
        let directory = tempfile::tempdir().unwrap();
        let [kept, gone] = ["1", "2"].map(|name| directory.path().join("loop").join(name));
        fs_err::create_dir_all(&kept).unwrap();
        fs_err::create_dir_all(gone.join("deep")).unwrap();
        let place = directory.path().join("loop");
        sweep(&place, Some(&kept)).unwrap();
        assert!(kept.exists() && !gone.exists());
        sweep(&place, None).unwrap();
        sweep(&place, None).unwrap();
        assert!(!place.exists());
    }
}

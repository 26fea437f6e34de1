//! Private directories of checks, in the state directory. `doctor` does not lock the experiment, so each directory has its
//! own lock: the operating system releases it with the process, however and wherever that ended.

use std::fs::TryLockError;
use std::path::Path;

use fs_err::File;

use crate::error::{Context as _, Result};

const PREFIX: &str = "checks-";
/// Held while a directory is made or leftovers are removed, so that a sweep never sees a directory without its lock.
const DOOR: &str = "checks.lock";

/// A directory that is removed with the value; [`sweep`] removes it when its process was killed.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: tempfile::TempDir,
    _held: File,
}

impl Scratch {
    /// Makes one in the state directory.
    /// Errors: infrastructure when it cannot be made.
    pub(crate) fn new(state: &Path) -> Result<Scratch> {
        let _door = door(state)?;
        let cannot = || format!("cannot make a directory for checks in {}", state.display());
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(state).infra(cannot)?;
        let held = File::open(directory.path())?;
        held.file().lock().infra(cannot)?;
        Ok(Scratch { directory, _held: held })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes what killed checks left: copies of a benchmark with its tasks. Those of a living process stay.
/// Errors: infrastructure when the state directory cannot be read, or one of its leftovers not removed.
pub(crate) fn sweep(state: &Path) -> Result<()> {
    let _door = door(state)?;
    for entry in fs_err::read_dir(state)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let left = match File::open(entry.path()) {
            Ok(left) => left,
            // Its checks have just ended and removed it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        match left.file().try_lock() {
            Err(TryLockError::WouldBlock) => {}
            // On a file system without locks, better to remove a leftover too early than to keep tasks forever.
            Ok(()) | Err(TryLockError::Error(_)) => fs_err::remove_dir_all(entry.path())?,
        }
    }
    Ok(())
}

fn door(state: &Path) -> Result<File> {
    let door = fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(state.join(DOOR))?;
    // Without locks there is no holder to wait for.
    let _ = door.file().lock();
    Ok(door)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_removed() {
        let state = tempfile::tempdir().expect("a temporary directory");
        let left = state.path().join(format!("{PREFIX}left"));
        fs_err::create_dir(&left).expect("writable");
        fs_err::write(left.join("tasks"), "secret").expect("writable");
        fs_err::create_dir(state.path().join("logs")).expect("writable");
        let held = Scratch::new(state.path()).expect("a scratch directory");
        let path = held.path().to_path_buf();
        sweep(state.path()).expect("readable");
        assert!(!left.exists() && path.is_dir() && state.path().join("logs").is_dir());
        drop(held);
        assert!(!path.exists());
    }
}

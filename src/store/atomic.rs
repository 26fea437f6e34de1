//! Files that are either the old or the new version, even if we are killed.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Context, Result};

/// Prefix of temporary files; [`sweep`] removes those a killed process left.
pub(super) const PREFIX: &str = ".autoharness-tmp-";

/// Replaces `path` atomically and durably: temporary file in the same directory, fsync, rename, fsync of the directory.
/// The file is world-readable (0644), because users' scripts read views. Errors: infrastructure, naming the path; the
/// old file is then untouched.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = || format!("cannot write {}", path.display());
    fs_err::create_dir_all(directory)?;
    let mut file = tempfile::Builder::new()
        .prefix(PREFIX)
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(directory)
        .infra(failed)?;
    // The process's umask may have taken bits away from the mode asked for.
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).infra(failed)?;
    file.write_all(content)?;
    file.as_file().sync_all().infra(failed)?;
    file.persist(path).infra(failed)?;
    fs_err::File::open(directory)?.sync_all()?;
    Ok(())
}

/// Replaces `path` atomically, without waiting for the disk: for traces, of which there are many. A killed process leaves
/// the old file or the new one; a power cut may leave neither. Only the holder of the lock may call it: the temporary
/// file has a fixed name, so that what a killed process left is gone after the next attempt.
pub(crate) fn replace_unsynced(path: &Path, content: &[u8]) -> Result<()> {
    use fs_err::os::unix::fs::OpenOptionsExt;
    let mut name = std::ffi::OsString::from(PREFIX);
    name.push(path.file_name().unwrap_or_default());
    let temporary = path.with_file_name(name);
    let create = || fs_err::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary);
    let created = match create() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs_err::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            create()
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            fs_err::remove_file(&temporary)?;
            create()
        }
        created => created,
    };
    let written = created.and_then(|mut file| file.write_all(content)).and_then(|()| fs_err::rename(&temporary, path));
    if written.is_err() {
        // Best effort; the next attempt removes it otherwise.
        let _ = fs_err::remove_file(&temporary);
    }
    Ok(written?)
}

/// Removes temporary files a killed process left in `directory`. Call only while holding the lock.
/// Errors: when the directory cannot be read; a missing directory is fine.
pub(crate) fn sweep(directory: &Path) -> Result<()> {
    if !directory.is_dir() {
        return Ok(());
    }
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        // A directory of that name is not ours.
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && !entry.file_type()?.is_dir() {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_file_is_whole_and_readable_by_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/view.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"two");
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs_err::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_process_left_does_not_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("task/trace.json");
        replace_unsynced(&path, b"one").unwrap();
        fs_err::write(path.with_file_name(format!("{PREFIX}trace.json")), "torn, and longer than what follows")
            .unwrap();
        replace_unsynced(&path, b"two").unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"two");
        assert_eq!(fs_err::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn sweeping_removes_only_our_leftovers() {
        let directory = tempfile::tempdir().unwrap();
        fs_err::write(directory.path().join(format!("{PREFIX}abc")), "torn").unwrap();
        fs_err::write(directory.path().join("mine"), "keep").unwrap();
        sweep(directory.path()).unwrap();
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 1);
        fs_err::create_dir(directory.path().join(format!("{PREFIX}directory"))).unwrap();
        sweep(directory.path()).unwrap();
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 2);
        sweep(&directory.path().join("missing")).unwrap();
    }
}

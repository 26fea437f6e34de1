//! One command at a time holds the experiment. The operating system releases the lock with the process that held it.

use std::fs::TryLockError;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};
use crate::files;

/// The most that is read of the lock file, in bytes.
const LONGEST: u64 = 64 << 10;

/// Who holds the lock, for the message a second command prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub pid: u32,
    /// The command line.
    pub command: String,
    /// Since when (UTC).
    pub since: String,
    /// Where `pid` is a process number; 0 when the kernel does not say.
    #[serde(default)]
    namespace: u64,
}

impl Holder {
    /// The process as messages should name it: a process number of another container means nothing to `kill`.
    pub(crate) fn process(&self) -> String {
        let elsewhere = self.namespace != 0 && self.namespace != crate::process::namespace();
        format!("process {}{}", self.pid, if elsewhere { " in another container, or on the host" } else { "" })
    }
}

/// The held lock; released when dropped, or by the operating system when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    file: std::fs::File,
}

impl Lock {
    /// Takes the lock in `path`.
    /// Errors: usage when another live process holds it, saying which.
    pub(crate) fn take(path: &Path, command: &str, since: String) -> Result<Lock> {
        // If the file is removed while we wait for it, we hold a lock that no other command will ever see.
        let (mut file, locked) = settle(path, || try_once(path))?;
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = (&file).take(LONGEST).read_to_string(&mut text);
                let who = match serde_json::from_str::<Holder>(&text) {
                    Ok(holder) => format!("`{}` ({}, since {})", holder.command, holder.process(), holder.since),
                    Err(_) => "another command".to_string(),
                };
                return Err(Error::usage(format!("this experiment is in use by {who}"))
                    .code(Code::InUse)
                    .hint("wait until it has finished, or stop it with Ctrl-C; finished trials are kept."));
            }
            Err(TryLockError::Error(error)) => {
                return Err(Error::infrastructure(format!("cannot lock {}", path.display())).because(error));
            }
        }
        let namespace = crate::process::namespace();
        let holder = Holder { pid: std::process::id(), command: command.to_string(), since, namespace };
        let text = serde_json::to_string(&holder).unwrap_or_default();
        // Only for the message of a second command: code that needs the space reports a full disk with a better message.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        Ok(Lock { file })
    }

    /// Who holds the lock now, without taking it.
    pub(crate) fn holder(path: &Path) -> Option<Holder> {
        let file = files::open_if_there(path).ok()??.0.into_file();
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {}
            _ => return None,
        }
        let mut text = String::new();
        (&file).take(LONGEST).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }
}

type Attempt = (std::fs::File, Result<(), TryLockError>);

/// Tries until the file that was locked is the one that is there.
fn settle(path: &Path, mut attempt: impl FnMut() -> Result<Attempt>) -> Result<Attempt> {
    loop {
        let (file, locked) = attempt()?;
        if locked.is_err() || is_at(&file, path) {
            return Ok((file, locked));
        }
    }
}

/// Opens the file and tries to lock it.
fn try_once(path: &Path) -> Result<Attempt> {
    if let Ok(metadata) = fs_err::symlink_metadata(path)
        && !metadata.is_file()
    {
        return Err(files::not_a_file(path, metadata.file_type()));
    }
    let options = fs_err::OpenOptions::new().create(true).read(true).write(true).truncate(false).clone();
    // This is the first file that a command writes, so a read-only directory shows here.
    let file = options.open(path).map_err(Error::unwritten)?.into_file();
    let locked = patiently(&file);
    Ok((file, locked))
}

/// Whether `path` still names this file.
fn is_at(file: &std::fs::File, path: &Path) -> bool {
    match (file.metadata(), fs_err::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// [`Lock::holder`] takes the lock for a moment; that must not be mistaken for a command.
fn patiently(file: &std::fs::File) -> Result<(), TryLockError> {
    const LOOK_AGAIN: Duration = Duration::from_millis(5);
    for _ in 0..10 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK_AGAIN),
            result => return result,
        }
    }
    file.try_lock()
}

impl Drop for Lock {
    fn drop(&mut self) {
        // An empty file says that it is free; failing to say so is harmless.
        let _ = self.file.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_who_holds_the_lock_keeps_nobody_from_taking_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        drop(Lock::take(&path, "first", String::new()).unwrap());
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        Lock::holder(&path);
                    }
                });
            }
            let refused = (0..500).filter(|_| Lock::take(&path, "gate", String::new()).is_err()).count();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(refused, 0);
        });
    }

    #[test]
    fn a_lock_file_that_was_removed_and_made_again_is_taken_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let (stale, locked) = try_once(&path).unwrap();
        assert!(locked.is_ok() && is_at(&stale, &path));
        fs_err::remove_file(&path).unwrap();
        assert!(!is_at(&stale, &path), "removed");
        let mut attempts = vec![try_once(&path).unwrap(), (stale, Ok(()))];
        let (held, locked) = settle(&path, || Ok(attempts.pop().unwrap())).unwrap();
        assert!(locked.is_ok() && is_at(&held, &path) && attempts.is_empty());
        assert!(Lock::take(&path, "gate", String::new()).is_err(), "the one that is there is held");
    }

    #[test]
    fn a_pipe_at_its_place_keeps_nobody_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert_eq!(Lock::take(&path, "gate", String::new()).unwrap_err().exit_code(), 2);
        assert!(Lock::holder(&path).is_none());
    }

    #[test]
    fn a_second_command_learns_who_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::take(&path, "autoharness gate", "noon".into()).unwrap();
        let error = Lock::take(&path, "autoharness record", String::new()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("`autoharness gate` (process "), "{error}");
        let holder = Lock::holder(&path).unwrap();
        assert_eq!(holder.command, "autoharness gate");
        assert_eq!(holder.process(), format!("process {}", std::process::id()));
        let elsewhere = Holder { pid: 7, namespace: 1, ..holder };
        assert_eq!(elsewhere.process(), "process 7 in another container, or on the host");
        drop(held);
        assert!(Lock::holder(&path).is_none());
    }
}

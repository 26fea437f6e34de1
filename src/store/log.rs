//! `autoharness.log` in the state directory: what the commands that held the experiment did and waited for. Never a task of the
//! hold-out, never text from an agent or a benchmark. A log that cannot be written is no reason to fail.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::OFlags;
use tracing_subscriber::fmt::MakeWriter;

use crate::error::Result;
use crate::files;
use crate::process::Redactor;

/// A log of this size, in bytes, becomes `autoharness.log.1`; the previous one is deleted.
const LARGEST: u64 = 5 << 20;

/// One for the whole process: events in threads and deep in `process` belong to the current command, too.
static OPEN: Mutex<Option<OpenLog>> = Mutex::new(None);

struct OpenLog {
    path: PathBuf,
    file: fs_err::File,
    length: u64,
    largest: u64,
    redactor: Redactor,
}

/// Writes into this file from now on, instead of any other.
/// Errors: when the file cannot be opened, or is none; then nothing is written.
pub(crate) fn begin(path: &Path, redactor: Redactor) -> Result<()> {
    let opened = OpenLog::new(path, LARGEST, redactor);
    let (open, result) = match opened {
        Ok(open) => (Some(open), Ok(())),
        Err(error) => (None, Err(error)),
    };
    *lock() = open;
    result
}

/// Stops writing.
pub(crate) fn end() {
    *lock() = None;
}

fn lock() -> MutexGuard<'static, Option<OpenLog>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenLog {
    fn new(path: &Path, largest: u64, redactor: Redactor) -> Result<OpenLog> {
        let (file, length) = open(path)?;
        Ok(OpenLog { path: path.to_path_buf(), file, length, largest, redactor })
    }

    fn line(&mut self, bytes: &[u8]) -> Result<()> {
        if self.length >= self.largest {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            fs_err::rename(&self.path, PathBuf::from(old))?;
            (self.file, self.length) = open(&self.path)?;
        }
        let text = String::from_utf8_lossy(bytes);
        let text = self.redactor.redact(&text);
        self.file.write_all(text.as_bytes())?;
        self.length += text.len() as u64;
        Ok(())
    }
}

/// Opens a regular file for appending, not through a link, for its owner only.
fn open(path: &Path) -> Result<(fs_err::File, u64)> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = fs_err::OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(files::not_a_file(path, metadata.file_type()));
    }
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok((file, metadata.len()))
}

/// What [`tracing_subscriber`] writes to: the open log, if there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogFile;

impl MakeWriter<'_> for LogFile {
    type Writer = LogFile;

    fn make_writer(&self) -> LogFile {
        LogFile
    }
}

impl Write for LogFile {
    /// Takes a line as a whole.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = lock();
        // A full disk stays full: one attempt is enough.
        if log.as_mut().is_some_and(|open| open.line(bytes).is_err()) {
            *log = None;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_redacted_and_its_owners() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("autoharness.log");
        let redactor = || Redactor::new(["sk-secret".to_string()]);
        for round in 0..4 {
            let mut open = OpenLog::new(&path, 200, redactor()).unwrap();
            for line in 0..4 {
                open.line(format!("round {round} line {line}: the key is sk-secret\n").as_bytes()).unwrap();
            }
        }
        let newest = fs_err::read_to_string(&path).unwrap();
        assert!(newest.ends_with("round 3 line 3: the key is ***\n") && !newest.contains("sk-secret"), "{newest}");
        let names: std::collections::BTreeSet<_> =
            fs_err::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["autoharness.log", "autoharness.log.1"].map(Into::into).into());
        for name in names {
            let metadata = fs_err::metadata(directory.path().join(name)).unwrap();
            assert!(metadata.len() < 300, "{metadata:?}");
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_log_is_written_through_no_link_and_into_no_pipe() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs_err::write(path("file"), "").unwrap();
        fs_err::os::unix::fs::symlink("file", path("link")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        for name in ["link", "pipe"] {
            assert!(OpenLog::new(&path(name), 200, Redactor::default()).is_err(), "{name}");
        }
        assert!(OpenLog::new(&path("file"), 200, Redactor::default()).is_ok());
    }

    #[test]
    fn a_full_disk_ends_the_log_and_nothing_else() {
        let Ok(full) = fs_err::OpenOptions::new().write(true).open("/dev/full") else { return };
        let redactor = Redactor::default();
        *lock() = Some(OpenLog { path: "/dev/full".into(), file: full, length: 0, largest: 200, redactor });
        LogFile.write_all(b"a line\n").unwrap();
        assert!(lock().is_none());
        LogFile.write_all(b"another\n").unwrap();
    }
}

//! A child's log file: free of secrets and bounded, whatever the child writes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fs_err as fs;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::error::Result;
use crate::process::redact::{RedactStream, Redactor};

/// The size at which a log is cut off unless the caller says otherwise, in bytes.
pub const DEFAULT_CAP: u64 = 16 * 1024 * 1024;

/// A log file, shared by everyone who writes into it. Clones write into the same file.
#[derive(Debug, Clone)]
pub struct Log {
    path: PathBuf,
    redactor: Redactor,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    /// `None` once the file is full or the disk is: from then on output is discarded, because a child that is blocked
    /// on its output would never end.
    file: Option<fs::File>,
    left: u64,
    at_line_start: bool,
}

impl Log {
    /// Opens `path` for appending and lets it grow by `cap` bytes.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path, cap: u64, redactor: Redactor) -> Result<Log> {
        let file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        let inner = Inner { file: Some(file), left: cap, at_line_start: true };
        Ok(Log { path: path.to_owned(), redactor, inner: Arc::new(Mutex::new(inner)) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one line of our own, redacted.
    pub fn line(&self, text: &str) {
        let mut inner = self.lock();
        if !inner.at_line_start {
            inner.write(b"\n");
        }
        inner.write(self.redactor.redact(text).as_bytes());
        inner.write(b"\n");
    }

    /// Copies a child's output into the log until it ends. Never fails: a log that cannot be written is no reason to
    /// lose a run.
    pub(crate) async fn copy(self, mut output: impl AsyncRead + Unpin) {
        let mut stream = self.redactor.stream();
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(length) = output.read(&mut chunk).await {
            if length == 0 {
                break;
            }
            self.push(&mut stream, &chunk[..length]);
        }
        let rest = stream.finish();
        self.lock().write(&rest);
    }

    fn push(&self, stream: &mut RedactStream, bytes: &[u8]) {
        let mut inner = self.lock();
        if inner.file.is_some() {
            let clean = stream.push(bytes);
            inner.write(&clean);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, bytes: &[u8]) {
        let (Some(file), Some(&last)) = (&mut self.file, bytes.last()) else { return };
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let mut result = file.write_all(&bytes[..fits]);
        self.left -= fits as u64;
        self.at_line_start = last == b'\n';
        if fits < bytes.len() {
            result = result.and_then(|()| file.write_all(b"\n[truncated: the log is full, the rest was dropped]\n"));
        }
        if result.is_err() || fits < bytes.len() {
            self.file = None;
        }
    }
}

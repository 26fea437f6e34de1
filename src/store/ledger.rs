//! ledger.jsonl: append-only, hash-chained, one JSON object a line. The source of truth.
//!
//! Line format, version 1: `{"v":1,"seq":N,"prev":"<sha256 of the previous line>","at":"<UTC>","event":{…}}`; the first
//! line's `prev` is 64 zeros; the hash covers the line without its newline. Lines other than trials may have a `"sum"` at
//! their end: the SHA-256 of what the ledger adds up to with them, by which a checkpoint is believed (see
//! [`super::checkpoint::Checkpoint`]).

mod chain;
mod index;
mod line;
mod written;

use std::fs::TryLockError;
use std::io::Write;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::value::RawValue;

pub use chain::{read, read_links, tip_holds};
pub(crate) use chain::{read_of, sum_at};
pub use index::Index;
pub use line::{Entry, GENESIS, ReadReport, Tip, VERSION};

use super::event::Event;
use crate::error::{Code, Error, Result};
use crate::files;
use crate::model::hash::hash;

/// Longest time between a trial and its arrival on the disk itself. A killed process loses nothing either way; this
/// bounds what a power cut can destroy.
const SYNC_EVERY: Duration = Duration::from_millis(500);

/// Appends to the ledger. Only the holder of the lock may have one.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: fs_err::File,
    /// Device and number of the file, which no other one gets while it is open.
    identity: (u64, u64),
    tip: Tip,
    unsynced_since: Option<Instant>,
    /// A half-written line may be at the end, because the disk refused to remove it.
    torn: bool,
}

impl Writer {
    /// Opens the ledger for appending after a complete read; a torn last line is cut off.
    ///
    /// # Errors
    /// Usage when a newer build wrote to it; infrastructure when it cannot be opened.
    pub fn open(path: &Path, report: &ReadReport) -> Result<Writer> {
        if report.newer {
            return Err(Error::usage(format!("{} was written by a newer autoharness", path.display()))
                .code(Code::LedgerNewer)
                .hint("upgrade autoharness; this version reads the ledger but does not write to it."));
        }
        if let Ok(metadata) = fs_err::metadata(path)
            && !metadata.is_file()
        {
            return Err(files::not_a_file(path, metadata.file_type()));
        }
        let new = !path.exists();
        let file = fs_err::OpenOptions::new().create(true).append(true).read(true).open(path)?;
        // The command's lock keeps other commands out, unless its file is removed.
        match file.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::usage(format!("{} is being written by another command", path.display()))
                    .code(Code::LedgerMoved)
                    .hint("wait until it has finished: the lock that it holds was removed."));
            }
            Err(TryLockError::Error(error)) => {
                return Err(Error::infrastructure(format!("cannot lock {}", path.display())).because(error));
            }
        }
        if new && let Some(directory) = path.parent() {
            // Otherwise a power cut could destroy the whole file, however often its content is synced.
            fs_err::File::open(directory)?.sync_all()?;
        }
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        let (path, tip) = (path.to_path_buf(), report.tip.clone());
        let writer = Writer { path, file, identity, tip, unsynced_since: None, torn: false };
        writer.require_in_place(report.tip.length + report.torn)?;
        if report.torn > 0 {
            writer.file.set_len(report.tip.length)?;
            writer.file.sync_all()?;
        }
        Ok(writer)
    }

    /// Makes sure that the file we write is still the one at its path, and ends where we left it: a line of another process
    /// there, or a line of ours elsewhere, would break the chain.
    fn require_in_place(&self, length: u64) -> Result<()> {
        let what = match fs_err::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) != self.identity => "was replaced by another file",
            Ok(there) if there.len() < length => "was cut short",
            Ok(there) if there.len() > length => "was written by another program",
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "was removed",
            Err(error) => return Err(error.into()),
        };
        Err(Error::usage(format!("{} {what} while this command was running", self.path.display())).code(Code::LedgerMoved).hint(
            "nothing was written to it. Put the right file back (a backup), then run the same command again; two commands \
             must not share a state directory without its lock.",
        ))
    }

    /// Appends one event and returns its `seq`. The line reaches the operating system at once and the disk within half a
    /// second, or at [`Writer::sync`].
    ///
    /// # Errors
    /// Infrastructure (a full disk, say); a half-written line is removed. Usage when the file is no longer the one that was
    /// opened.
    pub fn append(&mut self, event: &Event<'_>, at: DateTime<Utc>) -> Result<u64> {
        self.append_line(event.version(), event, at, None)
    }

    /// As [`Writer::append`] for an event of format version `v`, with the digest of what the ledger adds up to with it.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn append_with_sum(&mut self, v: u32, event: &RawValue, at: DateTime<Utc>, sum: &str) -> Result<u64> {
        self.append_line(v, event, at, Some(sum))
    }

    fn append_line(
        &mut self,
        v: u32,
        event: &(impl Serialize + ?Sized),
        at: DateTime<Utc>,
        sum: Option<&str>,
    ) -> Result<u64> {
        #[derive(Serialize)]
        struct Line<'a, E: ?Sized> {
            v: u32,
            seq: u64,
            prev: &'a str,
            at: String,
            event: &'a E,
            #[serde(skip_serializing_if = "Option::is_none")]
            sum: Option<&'a str>,
        }
        let seq = self.tip.next_seq;
        let line =
            Line { v, seq, prev: &self.tip.last_hash, at: at.to_rfc3339_opts(SecondsFormat::Millis, true), event, sum };
        let mut bytes = serde_json::to_vec(&line)
            .map_err(|error| Error::infrastructure(format!("cannot write {}", self.path.display())).because(error))?;
        let next = Tip { next_seq: seq + 1, last_hash: hash(&bytes), length: self.tip.length + bytes.len() as u64 + 1 };
        bytes.push(b'\n');
        // A line after a torn one would break the chain for good; a torn one at the end is dropped by the next reader.
        if self.torn {
            self.file.set_len(self.tip.length)?;
        }
        self.require_in_place(self.tip.length)?;
        self.torn = true;
        if let Err(error) = self.file.write_all(&bytes) {
            self.torn = self.file.set_len(self.tip.length).is_err();
            return Err(error.into());
        }
        self.torn = false;
        self.tip = next;
        let since = *self.unsynced_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(seq)
    }

    /// Puts everything appended so far on the disk.
    ///
    /// # Errors
    /// Infrastructure when the disk refuses.
    pub fn sync(&mut self) -> Result<()> {
        if self.unsynced_since.take().is_some() {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Where the chain ends now.
    pub fn tip(&self) -> &Tip {
        &self.tip
    }
}

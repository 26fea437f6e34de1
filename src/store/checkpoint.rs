//! The summary as a file, so that commands that decide nothing need not read a long history. It is believed only where the
//! ledger confirms it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::atomic;
use super::ledger::{self, Index, ReadReport, Tip};
use super::summary::Summary;
use crate::error::{Code, Context as _, Error, Result};
use crate::files;
use crate::model::hash::hash;

/// Larger than any checkpoint, in bytes.
const LARGEST_CHECKPOINT: u64 = 1 << 30;

/// The summary as of some tip of the ledger.
#[derive(Debug)]
pub struct Checkpoint {
    pub tip: Tip,
    /// What it added up to there; nothing when the checkpoint is of another format.
    pub summary: Summary,
    /// SHA-256 (hex) of the summary as it is stored.
    digest: String,
}

/// A checkpoint as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredCheckpoint<S> {
    /// The ledger's format version. A newer build's checkpoint is not read: its ledger must not be written to.
    v: u32,
    /// The rules of adding up, see [`FORMAT`].
    #[serde(default)]
    format: u32,
    tip: Tip,
    summary: S,
}

fn stored_bytes(path: &Path) -> Option<Vec<u8>> {
    files::read_if_there(path, LARGEST_CHECKPOINT).ok().flatten()
}

/// What a summary holds and how it is added up. A checkpoint of another format is made again from the ledger.
const FORMAT: u32 = 7;

impl Checkpoint {
    /// Reads the checkpoint; `None` when it is missing or not understood, because it can always be made again.
    pub fn load(path: &Path) -> Option<Checkpoint> {
        let stored: StoredCheckpoint<Box<RawValue>> = serde_json::from_slice(&stored_bytes(path)?).ok()?;
        // From another format only the tip is believed: an empty digest matches no line of a ledger.
        let (summary, digest) = match stored.format {
            FORMAT => (serde_json::from_str(stored.summary.get()).ok()?, hash(stored.summary.get().as_bytes())),
            _ => Default::default(),
        };
        (stored.v <= ledger::VERSION).then_some(Checkpoint { tip: stored.tip, summary, digest })
    }

    /// False when it is of another format, from which only the tip is believed.
    pub fn is_understood(&self) -> bool {
        !self.digest.is_empty()
    }

    /// Writes it, without taking the state apart. It is written durably, because it shows the next command when lines were removed.
    ///
    /// # Errors
    /// Infrastructure when the disk refuses.
    pub fn save(path: &Path, tip: &Tip, summary: &Summary) -> Result<()> {
        let bytes =
            serde_json::to_vec(&StoredCheckpoint { v: ledger::VERSION, format: FORMAT, tip: tip.clone(), summary })
                .infra(|| "cannot render the checkpoint".into())?;
        atomic::replace(path, &bytes)
    }

    /// True when the ledger ends exactly where this checkpoint was taken, and its last line says that this is what it adds
    /// up to. A checkpoint is never believed by itself: forging one means forging the ledger's last line too, which is no
    /// less work than forging the ledger. If the last line has no digest (a trial, or a line of an older version), the
    /// ledger is replayed.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn is_current(&self, ledger: &Path) -> Result<bool> {
        let length = fs_err::metadata(ledger).map(|metadata| metadata.len()).unwrap_or(0);
        Ok(length == self.tip.length && ledger::sum_at(ledger, &self.tip)?.as_ref() == Some(&self.digest))
    }

    /// Checks a checkpoint that [`Checkpoint::is_current`] against the whole chain: every line is hashed and none is replayed.
    /// `None` when the check fails: the receipt is not the verdict in the ledger, or the ledger ends elsewhere. The index says
    /// where single trials can be read.
    ///
    /// # Errors
    /// As [`ledger::read`], for a break of the chain.
    pub(crate) fn confirm(&self, ledger: &Path) -> Result<Option<(ReadReport, Index)>> {
        let receipt = self.summary.last_decided.as_ref();
        let mut is_there = receipt.is_none();
        let (report, index) = ledger::read_links(ledger, |seq, line| {
            if let Some(receipt) = receipt.filter(|receipt| receipt.seq == seq) {
                is_there = receipt.stands_in(line);
            }
        })?;
        Ok((is_there && !report.newer && report.torn == 0 && report.tip == self.tip).then_some((report, index)))
    }

    /// Makes sure that the ledger goes on from where this checkpoint was taken. A chain alone does not show that its last
    /// lines are gone; a checkpoint is written after the ledger has reached the disk, so it is never ahead of it.
    ///
    /// # Errors
    /// Usage when lines are missing or differ from those that the last command left.
    pub fn require_continued(&self, ledger: &Path) -> Result<()> {
        if ledger::tip_holds(ledger, &self.tip)? {
            return Ok(());
        }
        Err(Error::usage(format!(
            "{} is not the ledger that the last command left: lines at its end are missing or were changed",
            ledger.display()
        )).code(Code::LedgerBroken)
        .hint(format!(
            "restore it from a backup; to start a new history instead, move it and {} away and run `autoharness prepare`.",
            ledger.with_file_name("checkpoint.json").display()
        )))
    }
}

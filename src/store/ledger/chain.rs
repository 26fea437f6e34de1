//! Reading the ledger: line after line, each checked against the one before.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use super::index::{Index, Stretch};
use super::line::{ChainPlace, Entry, GENESIS, LONGEST_LINE, ReadReport, Tip, VERSION};
use super::written;
use crate::error::{Code, Error, Result};
use crate::files;
use crate::model::hash::{hash, hash_digits};

/// The fields every version has, for lines a newer build wrote.
#[derive(Deserialize)]
struct AnyHeader<'a> {
    v: u32,
    seq: u64,
    #[serde(borrow)]
    prev: Cow<'a, str>,
}

fn is_known(version: u32) -> bool {
    (1..=VERSION).contains(&version)
}

/// Reads the ledger from `from` on, checks the chain, and hands every event to `visit` in order. A missing file is an
/// empty ledger. `from` must be [`Tip::genesis`] or the tip of an earlier read of the same file.
///
/// # Errors
/// Usage, naming file and line, for any break of the chain but a torn last line.
pub fn read(path: &Path, from: &Tip, mut visit: impl FnMut(Entry<'_>) -> Result<()>) -> Result<ReadReport> {
    lines(path, from.into(), u64::MAX, &mut |line, chain, _| chain.event(line, &mut visit))
}

/// Checks the chain from the first line to the last and hands every line to `visit`, with its number. It does not read the
/// events: a caller that needs them must have them from elsewhere, confirmed by the last line. The index says where single
/// trials can be read.
///
/// # Errors
/// As [`read`].
pub fn read_links(path: &Path, mut visit: impl FnMut(u64, &[u8])) -> Result<(ReadReport, Index)> {
    let mut index = Index::default();
    let report = lines(path, (&Tip::genesis()).into(), u64::MAX, &mut |line, chain, to| {
        let after_time = match written::header(line) {
            Some((header, after_time)) => {
                chain.check(header.seq, header.prev)?;
                Some(after_time)
            }
            None => {
                let header = match serde_json::from_slice::<AnyHeader<'_>>(line) {
                    Ok(header) if is_known(header.v) => header,
                    result => chain.newer_header(line, result.err().as_ref())?,
                };
                chain.check(header.seq, &header.prev)?;
                None
            }
        };
        index.add(after_time, Stretch { from: chain.at, to });
        visit(chain.at.next_seq, line);
        Ok(())
    })?;
    Ok((report, index))
}

/// Hands the lines of these agents to `visit`, in order, and some others between them.
///
/// # Errors
/// As [`read`]; infrastructure when the ledger is not the one that was indexed.
pub(crate) fn read_of(
    path: &Path,
    index: &Index,
    agents: &BTreeSet<&str>,
    visit: &mut dyn FnMut(Entry<'_>) -> Result<()>,
) -> Result<()> {
    for Stretch { from, to } in index.of(agents) {
        let report = lines(path, from, to.length, &mut |line, chain, _| chain.event(line, visit))?;
        if report.tip != to.into() {
            return Err(Error::infrastructure(format!("{} was changed while it was read", path.display())));
        }
    }
    Ok(())
}

/// The chain up to the line that is being read.
struct Chain<'p> {
    path: &'p Path,
    at: ChainPlace,
    newer: bool,
}

impl Chain<'_> {
    fn broken(&self, what: String) -> Error {
        Error::usage(format!("{}:{}: {what}", self.path.display(), self.at.next_seq + 1)).code(Code::LedgerBroken).hint(
            "the ledger was changed. Restore it from a backup; to start a new history instead, move it and the \
             checkpoint.json beside it away and run `autoharness prepare`.",
        )
    }

    fn check(&self, seq: u64, prev: &str) -> Result<()> {
        let ChainPlace { next_seq, last_hash, .. } = &self.at;
        if seq != *next_seq {
            return Err(self.broken(format!("seq is {seq}, expected {next_seq}: lines are missing or were moved")));
        }
        if prev.as_bytes() != last_hash {
            return Err(self.broken("prev does not match the line before: one of the two was changed".into()));
        }
        Ok(())
    }

    /// Checks a line and hands its event to `visit`, if this version understands it.
    fn event(&mut self, line: &[u8], visit: &mut dyn FnMut(Entry<'_>) -> Result<()>) -> Result<()> {
        let text = std::str::from_utf8(line).map_err(|_| self.broken("the line is not UTF-8".into()))?;
        let entry = match written::trial(text).map_or_else(|| serde_json::from_str(text), Ok) {
            Ok(entry) if is_known(entry.v) => entry,
            result => {
                let newer = self.newer_header(line, result.as_ref().err())?;
                self.check(newer.seq, &newer.prev)?;
                return result.map_or(Ok(()), visit);
            }
        };
        self.check(entry.seq, &entry.prev)?;
        visit(entry)
    }

    /// The header of a line that this version does not understand; an error unless a newer version wrote it.
    fn newer_header<'l>(&mut self, line: &'l [u8], why: Option<&serde_json::Error>) -> Result<AnyHeader<'l>> {
        let header: AnyHeader<'_> =
            serde_json::from_slice(line).map_err(|error| self.broken(format!("not a ledger line: {error}")))?;
        if header.v <= VERSION {
            let why = why.map_or_else(|| format!("unknown version {}", header.v), ToString::to_string);
            return Err(self.broken(format!("not a ledger event: {why}")));
        }
        self.newer = true;
        Ok(header)
    }
}

/// Takes a line with the chain before it and the place after it.
type OnLine<'a> = dyn FnMut(&[u8], &mut Chain<'_>, ChainPlace) -> Result<()> + 'a;

/// Hands over the whole lines from `from` to the byte `until`, and hashes them.
fn lines(path: &Path, from: ChainPlace, until: u64, visit: &mut OnLine<'_>) -> Result<ReadReport> {
    let mut chain = Chain { path, at: from, newer: false };
    let mut file = match files::open_if_there(path)? {
        Some((file, _)) => file,
        None if from.length == 0 => return Ok(ReadReport { tip: from.into(), torn: 0, newer: false }),
        None => return Err(Error::infrastructure(format!("{} is gone", path.display()))),
    };
    file.seek(SeekFrom::Start(from.length))?;
    let mut take = |line: &[u8], chain: &mut Chain<'_>| {
        let ChainPlace { next_seq, length, .. } = chain.at;
        let after =
            ChainPlace { next_seq: next_seq + 1, last_hash: hash_digits(line), length: length + line.len() as u64 + 1 };
        visit(line, chain, after)?;
        chain.at = after;
        Ok::<_, Error>(())
    };
    let wanted = until.saturating_sub(from.length);
    let buffer = usize::try_from(wanted).unwrap_or(usize::MAX).min(1 << 18);
    let mut reader = BufReader::with_capacity(buffer, file.take(wanted));
    // Of a line that began in an earlier buffer.
    let mut begun = Vec::new();
    loop {
        let buffer = reader.fill_buf()?;
        let length = buffer.len();
        if length == 0 {
            break;
        }
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', buffer) {
            let line = &buffer[from..end];
            from = end + 1;
            if begun.is_empty() {
                take(line, &mut chain)?;
            } else {
                begun.extend_from_slice(line);
                take(&begun, &mut chain)?;
                begun.clear();
            }
        }
        begun.extend_from_slice(&buffer[from..]);
        if begun.len() as u64 >= LONGEST_LINE {
            return Err(Error::usage(format!(
                "{}:{}: longer than {LONGEST_LINE} bytes",
                path.display(),
                chain.at.next_seq + 1
            ))
            .code(Code::LedgerBroken)
            .hint("no event is so long: the ledger was changed. Restore it from a backup."));
        }
        reader.consume(length);
    }
    Ok(ReadReport { tip: chain.at.into(), torn: begun.len() as u64, newer: chain.newer })
}

/// True when the last whole line before `tip` is still the one the tip was taken from.
///
/// # Errors
/// When the file cannot be read.
pub fn tip_holds(path: &Path, tip: &Tip) -> Result<bool> {
    if tip.length == 0 {
        return Ok(tip.last_hash == GENESIS);
    }
    Ok(line_before(path, tip.length)?.is_some_and(|line| hash(&line) == tip.last_hash))
}

/// The digest that the last line before `tip` gives of what the ledger adds up to; `None` when that line is another one,
/// or gives none.
/// Errors: when the file cannot be read.
pub(crate) fn sum_at(path: &Path, tip: &Tip) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Sum {
        sum: Option<String>,
    }
    let line = line_before(path, tip.length)?.filter(|line| hash(line) == tip.last_hash);
    Ok(line.and_then(|line| serde_json::from_slice::<Sum>(&line).ok()?.sum))
}

/// The line that ends, with its newline, at `end`; `None` when none does.
fn line_before(path: &Path, end: u64) -> Result<Option<Vec<u8>>> {
    let Some((mut file, metadata)) = files::open_if_there(path)? else { return Ok(None) };
    if end == 0 || metadata.len() < end {
        return Ok(None);
    }
    // Lines are short but for verdicts; widen the window until the line's start is in it.
    let mut window = 4096;
    loop {
        let start = end.saturating_sub(window);
        file.seek(SeekFrom::Start(start))?;
        let mut tail = vec![0; usize::try_from(end - start).unwrap_or(usize::MAX)];
        file.read_exact(&mut tail)?;
        if tail.pop() != Some(b'\n') {
            return Ok(None);
        }
        match tail.iter().rposition(|byte| *byte == b'\n') {
            Some(newline) => return Ok(Some(tail.split_off(newline + 1))),
            None if start == 0 => return Ok(Some(tail)),
            None if window > LONGEST_LINE => return Ok(None),
            None => window *= 8,
        }
    }
}

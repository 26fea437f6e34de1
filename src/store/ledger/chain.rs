//! Reading the ledger: line after line, each checked against the one before.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use super::line::{Entry, GENESIS, LONGEST_LINE, ReadReport, Tip, VERSION};
use super::written;
use crate::error::{Code, Error, Result};
use crate::files;
use crate::model::hash::{hash, hash_digits};

/// The fields every version has, for lines a newer build wrote.
#[derive(Deserialize)]
struct Header<'a> {
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
    lines(path, from, |line, chain| {
        let text = std::str::from_utf8(line).map_err(|_| chain.broken("the line is not UTF-8".into()))?;
        let entry = match written::trial(text).map_or_else(|| serde_json::from_str(text), Ok) {
            Ok(entry) if is_known(entry.v) => entry,
            result => {
                let newer = chain.newer_header(line, result.as_ref().err())?;
                chain.check(newer.seq, &newer.prev)?;
                return result.map_or(Ok(()), &mut visit);
            }
        };
        chain.check(entry.seq, &entry.prev)?;
        visit(entry)
    })
}

/// Checks the chain from the first line to the last and hands every line to `visit`, with its number. It does not read the
/// events: a caller that needs them must have them from elsewhere, confirmed by the last line.
///
/// # Errors
/// As [`read`].
pub fn read_links(path: &Path, mut visit: impl FnMut(u64, &[u8])) -> Result<ReadReport> {
    lines(path, &Tip::genesis(), |line, chain| {
        match written::header(line) {
            Some(header) => chain.check(header.seq, header.prev)?,
            None => {
                let header = match serde_json::from_slice::<Header<'_>>(line) {
                    Ok(header) if is_known(header.v) => header,
                    result => chain.newer_header(line, result.err().as_ref())?,
                };
                chain.check(header.seq, &header.prev)?;
            }
        }
        visit(chain.seq, line);
        Ok(())
    })
}

/// The chain up to the line that is being read.
struct Chain<'p> {
    path: &'p Path,
    seq: u64,
    last_hash: [u8; 64],
    newer: bool,
}

impl Chain<'_> {
    fn broken(&self, what: String) -> Error {
        Error::usage(format!("{}:{}: {what}", self.path.display(), self.seq + 1)).code(Code::LedgerBroken).hint(
            "the ledger was changed. Restore it from a backup; to start a new history instead, move it and the \
             checkpoint.json beside it away and run `autoharness prepare`.",
        )
    }

    fn check(&self, seq: u64, prev: &str) -> Result<()> {
        if seq != self.seq {
            return Err(self.broken(format!("seq is {seq}, expected {}: lines are missing or were moved", self.seq)));
        }
        if prev.as_bytes() != self.last_hash {
            return Err(self.broken("prev does not match the line before: one of the two was changed".into()));
        }
        Ok(())
    }

    /// The header of a line that this version does not understand; an error unless a newer version wrote it.
    fn newer_header<'l>(&mut self, line: &'l [u8], why: Option<&serde_json::Error>) -> Result<Header<'l>> {
        let header: Header<'_> =
            serde_json::from_slice(line).map_err(|error| self.broken(format!("not a ledger line: {error}")))?;
        if header.v <= VERSION {
            let why = why.map_or_else(|| format!("unknown version {}", header.v), ToString::to_string);
            return Err(self.broken(format!("not a ledger event: {why}")));
        }
        self.newer = true;
        Ok(header)
    }
}

/// Hands over the whole lines from `from` on, and hashes them.
fn lines(path: &Path, from: &Tip, mut visit: impl FnMut(&[u8], &mut Chain<'_>) -> Result<()>) -> Result<ReadReport> {
    let mut report = ReadReport { tip: from.clone(), torn: 0, newer: false };
    let mut file = match files::open_if_there(path)? {
        Some((file, _)) => file,
        None if from.length == 0 => return Ok(report),
        None => return Err(Error::infrastructure(format!("{} is gone", path.display()))),
    };
    file.seek(SeekFrom::Start(from.length))?;
    let mut last_hash = [0; 64];
    last_hash.iter_mut().zip(from.last_hash.bytes()).for_each(|(digit, byte)| *digit = byte);
    let mut chain = Chain { path, seq: from.next_seq, last_hash, newer: false };
    let mut take = |line: &[u8], chain: &mut Chain<'_>| {
        visit(line, chain)?;
        chain.last_hash = hash_digits(line);
        chain.seq += 1;
        report.tip.length += line.len() as u64 + 1;
        Ok::<_, Error>(())
    };
    let mut reader = BufReader::with_capacity(1 << 18, file);
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
                chain.seq + 1
            ))
            .code(Code::LedgerBroken)
            .hint("no event is so long: the ledger was changed. Restore it from a backup."));
        }
        reader.consume(length);
    }
    report.torn = begun.len() as u64;
    report.newer = chain.newer;
    report.tip.next_seq = chain.seq;
    report.tip.last_hash = String::from_utf8_lossy(&chain.last_hash).into_owned();
    Ok(report)
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

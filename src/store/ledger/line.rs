//! One line of the ledger, and where a read ended.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Deserializer, Serialize};

use crate::store::event::Event;

/// The newest format version that this build understands. A line has the version of its event ([`Event::version`]), so that
/// an older build goes on with a ledger that has nothing new in it.
pub const VERSION: u32 = 2;
/// `prev` of the first line.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Longer than any line, in bytes: a file with a longer one is no ledger.
pub(super) const LONGEST_LINE: u64 = 1 << 30;

/// One line, parsed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// Format version.
    pub v: u32,
    /// Line number, from 0.
    pub seq: u64,
    /// SHA-256 (hex) of the previous line.
    #[serde(borrow)]
    pub prev: Cow<'a, str>,
    #[serde(deserialize_with = "time")]
    pub at: DateTime<Utc>,
    #[serde(borrow)]
    pub event: Event<'a>,
}

/// A time as [`Writer`](super::Writer) writes it, read without chrono's parser, which takes longer than the rest of the line. Any other
/// form is left to chrono.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    let text = <Cow<'de, str>>::deserialize(deserializer)?;
    match written_time(text.as_bytes()) {
        Some(at) => Ok(at),
        None => DateTime::<Utc>::deserialize(serde::de::value::StrDeserializer::new(&text)),
    }
}

/// `2026-01-31T12:00:00.000Z`.
pub(super) fn written_time(text: &[u8]) -> Option<DateTime<Utc>> {
    let number = |from: usize, to: usize| {
        let digits = text[from..to].iter();
        digits
            .map(|digit| digit.is_ascii_digit().then(|| u32::from(digit - b'0')))
            .try_fold(0, |sum, digit| Some(sum * 10 + digit?))
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (23, b'Z')];
    if text.len() != 24 || separators.iter().any(|(place, byte)| text[*place] != *byte) {
        return None;
    }
    let day = NaiveDate::from_ymd_opt(number(0, 4)?.cast_signed(), number(5, 7)?, number(8, 10)?)?;
    // A leap second is chrono's to read.
    let time = day.and_hms_milli_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 23)?)?;
    Some(time.and_utc())
}

/// Where the chain ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// `seq` of the next line.
    pub next_seq: u64,
    /// SHA-256 (hex) of the last line.
    pub last_hash: String,
    /// Bytes of whole lines.
    pub length: u64,
}

impl Tip {
    /// The tip of an empty ledger.
    pub fn genesis() -> Tip {
        Tip { next_seq: 0, last_hash: GENESIS.to_string(), length: 0 }
    }
}

/// A place between two lines, as [`Tip`] has it for the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChainPlace {
    pub next_seq: u64,
    pub last_hash: [u8; 64],
    pub length: u64,
}

impl From<&Tip> for ChainPlace {
    fn from(tip: &Tip) -> ChainPlace {
        let mut last_hash = [0; 64];
        last_hash.iter_mut().zip(tip.last_hash.bytes()).for_each(|(digit, byte)| *digit = byte);
        ChainPlace { next_seq: tip.next_seq, last_hash, length: tip.length }
    }
}

impl From<ChainPlace> for Tip {
    fn from(ChainPlace { next_seq, last_hash, length }: ChainPlace) -> Tip {
        Tip { next_seq, last_hash: String::from_utf8_lossy(&last_hash).into_owned(), length }
    }
}

/// What reading found besides the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadReport {
    pub tip: Tip,
    /// Bytes of a torn last line that was dropped, 0 when none was.
    pub torn: u64,
    /// True when a newer build wrote lines: read, but do not write.
    pub newer: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_chrono_reads_them() {
        #[derive(Debug, Deserialize)]
        struct Line {
            #[serde(deserialize_with = "time")]
            at: DateTime<Utc>,
        }
        let read = |text: &str| serde_json::from_value::<Line>(serde_json::json!({ "at": text })).map(|line| line.at);
        for text in [
            "2026-01-31T12:00:00.000Z",
            "2024-02-29T23:59:59.999Z",
            "2016-12-31T23:59:60.250Z",
            "0001-01-01T00:00:00.001Z",
        ] {
            assert_eq!(read(text).unwrap(), text.parse::<DateTime<Utc>>().unwrap());
        }
        // Not as we write them, but times.
        for text in ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123456Z", "2026-01-31T13:00:00.000+01:00"] {
            assert_eq!(read(text).unwrap(), text.parse::<DateTime<Utc>>().unwrap());
            assert_eq!(written_time(text.as_bytes()), None);
        }
        for text in [
            "",
            "2026-02-30T12:00:00.000Z",
            "2026-01-31T24:00:00.000Z",
            "2026-01-31T12:61:00.000Z",
            "x026-01-31T12:00:00.000Z",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}

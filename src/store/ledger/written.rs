//! Lines in the very form in which [`Writer`](super::Writer) writes them, read without a parser for all of JSON: most lines
//! of a long ledger are trials. What has any other form is `None` here and left to that parser, which gives the same answer.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde::de::value::{Error, StrDeserializer};

use super::line::{Entry, GENESIS, written_time};
use crate::model::usage::Usage;
use crate::store::event::{Event, Trial};

/// What comes before a line's time.
pub(super) struct Header<'a> {
    pub seq: u64,
    pub prev: &'a str,
}

/// Whose trials a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose<'a> {
    Agent(&'a str),
    /// It has no trial, nor the end of a run.
    Nobody,
    /// It has another form.
    Unknown,
}

/// The header of a line of version 1, and what comes after its time, as far as [`whose`] needs it.
pub(super) fn header(line: &[u8]) -> Option<(Header<'_>, &str)> {
    // More than comes before the end of an agent's fingerprint; what is cut off is unknown.
    let end = line.len().min(512);
    let text = std::str::from_utf8(&line[..end]).or_else(|error| std::str::from_utf8(&line[..error.valid_up_to()]));
    let mut rest = Rest(text.ok()?);
    let header = rest.header()?;
    rest.text()?;
    Some((header, rest.0))
}

/// Whose trial or run a line has that goes on like this after its time, and how many bytes of it say so.
pub(super) fn whose(after_time: &str) -> (Whose<'_>, usize) {
    let mut rest = Rest(after_time);
    let whose = rest.whose().unwrap_or(Whose::Unknown);
    (whose, after_time.len() - rest.0.len())
}

/// A line with a trial.
pub(super) fn trial(line: &str) -> Option<Entry<'_>> {
    let mut rest = Rest(line);
    let Header { seq, prev } = rest.header()?;
    let at = written_time(rest.text()?.as_bytes())?;
    let trial = Trial {
        run: rest.named(r#","event":{"trial":{"run":"#)?.text()?.into(),
        purpose: rest.named(r#","purpose":"#)?.word()?,
        agent: rest.named(r#","agent":"#)?.text()?.into(),
        protocol: rest.named(r#","protocol":"#)?.text()?.into(),
        split: match rest.named(r#","split":"#)?.named("null") {
            Some(_) => None,
            None => Some(rest.word()?),
        },
        task: rest.named(r#","task":"#)?.text()?.into(),
        trial: rest.named(r#","trial":"#)?.number()?,
        outcome: rest.named(r#","outcome":"#)?.word()?,
        reward: match rest.named(r#","reward":"#)?.named("null") {
            Some(_) => None,
            None => Some(rest.number()?),
        },
        usage: Usage {
            seconds: rest.number_if_there(r#","seconds":"#)?,
            tokens_in: rest.number_if_there(r#","tokens_in":"#)?,
            tokens_out: rest.number_if_there(r#","tokens_out":"#)?,
            cost_usd: rest.number_if_there(r#","cost_usd":"#)?,
        },
        error: match rest.named(r#","error":"#) {
            Some(rest) => Some(rest.text()?.into()),
            None => None,
        },
        silent: rest.named(r#","silent":true"#).is_some(),
        trace_lost: rest.named(r#","trace_lost":true"#).is_some(),
    };
    (rest.0 == "}}}").then_some(Entry { v: 1, seq, prev: Cow::Borrowed(prev), at, event: Event::Trial(trial) })
}

/// What has not been read of a line.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Steps over this text, when it comes next.
    fn named(&mut self, text: &str) -> Option<&mut Self> {
        self.0 = self.0.strip_prefix(text)?;
        Some(self)
    }

    /// The line up to its time.
    fn header(&mut self) -> Option<Header<'a>> {
        let seq = self.named(r#"{"v":1,"seq":"#)?.number()?;
        let prev = self.named(r#","prev":"#)?.text().filter(|prev| prev.len() == GENESIS.len())?;
        self.named(r#","at":"#)?;
        Some(Header { seq, prev })
    }

    /// Whose trial or run it is, after the line's time.
    fn whose(&mut self) -> Option<Whose<'a>> {
        match self.named(r#","event":{"#)?.text()? {
            "trial" | "run_finished" => {}
            _ => return Some(Whose::Nobody),
        }
        self.named(r#":{"run":"#)?.text()?;
        self.named(r#","purpose":"#)?.text()?;
        Some(Whose::Agent(self.named(r#","agent":"#)?.text()?))
    }

    /// A string that stands for itself.
    fn text(&mut self) -> Option<&'a str> {
        let rest = self.0.strip_prefix('"')?;
        let (text, rest) = rest.split_at(memchr::memchr2(b'"', b'\\', rest.as_bytes())?);
        self.0 = rest.strip_prefix('"')?;
        text.bytes().all(|byte| byte >= b' ').then_some(text)
    }

    /// One of a few words.
    fn word<T: Deserialize<'a>>(&mut self) -> Option<T> {
        T::deserialize(StrDeserializer::<Error>::new(self.text()?)).ok()
    }

    fn number<T: DeserializeOwned>(&mut self) -> Option<T> {
        let end = self.0.bytes().position(|byte| matches!(byte, b',' | b'}'))?;
        let (number, rest) = self.0.split_at(end);
        self.0 = rest;
        serde_json::from_str(number).ok()
    }

    /// The number of a field that may be missing; `None` when what stands there is none.
    fn number_if_there<T: DeserializeOwned>(&mut self, name: &str) -> Option<Option<T>> {
        match self.named(name) {
            Some(rest) => Some(Some(rest.number()?)),
            None => Some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn rendered(entry: &Entry<'_>) -> String {
        serde_json::to_string(entry).unwrap()
    }

    /// What is read here, the parser for all of JSON reads in the same way.
    fn require_same(line: &str) -> bool {
        if let Some((header, after_time)) = header(line.as_bytes()) {
            let (whose, _) = whose(after_time);
            let parsed: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            assert!(parsed.is_null() || (parsed["seq"] == header.seq && parsed["prev"] == header.prev));
            if let Ok(entry) = serde_json::from_str::<Entry<'_>>(line) {
                let agent = entry.event.agent_run();
                assert!(whose == Whose::Unknown || whose == agent.map_or(Whose::Nobody, Whose::Agent), "{line}");
            }
        }
        let read = trial(line);
        if let Some(entry) = &read {
            assert_eq!(rendered(&serde_json::from_str(line).unwrap()), rendered(entry), "{line}");
        }
        read.is_some()
    }

    prop_compose! {
        fn line()(seq in any::<u64>(), task in "[ -~é\n]{0,8}", split in option::of(any::<bool>()), number in any::<u32>(),
                  reward in option::of(any::<f64>()), seconds in option::of(0.0..1e9), tokens in option::of(any::<u64>()),
                  cost in option::of(0.0..9.0), error in option::of("[ -~é]{0,8}"), silent in any::<bool>()) -> String {
            let split = split.map(|train| if train { "train" } else { "test" });
            let mut trial = serde_json::json!({
                "run": "r-1", "purpose": "hold_out", "agent": "a", "protocol": "p versus q", "split": split,
                "task": task, "trial": number, "outcome": "agent_timeout", "reward": reward,
            });
            let told: [(&str, Option<serde_json::Value>); 5] = [
                ("seconds", seconds.map(Into::into)), ("tokens_in", tokens.map(Into::into)),
                ("cost_usd", cost.map(Into::into)), ("error", error.map(Into::into)), ("silent", silent.then(|| true.into())),
            ];
            let told = told.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
            trial.as_object_mut().unwrap().extend(told);
            let (prev, at) = ("ab".repeat(32), "2026-01-31T12:00:00.000Z");
            format!(r#"{{"v":1,"seq":{seq},"prev":"{prev}","at":"{at}","event":{{"trial":{trial}}}}}"#)
        }
    }

    proptest! {
        #[test]
        fn a_trial_is_read_as_the_parser_reads_it(line in line()) {
            // An escape is the parser's to read.
            prop_assert_eq!(require_same(&line), !line.contains('\\'));
        }

        #[test]
        fn no_damaged_line_is_read_otherwise(
            line in line(), at in any::<prop::sample::Index>(), with in "[ -~é\n]{0,3}", gone in 0..4usize,
        ) {
            let mut characters: Vec<char> = line.chars().collect();
            let at = at.index(characters.len());
            let end = (at + gone).min(characters.len());
            characters.splice(at..end, with.chars());
            require_same(&characters.into_iter().collect::<String>());
        }
    }
}

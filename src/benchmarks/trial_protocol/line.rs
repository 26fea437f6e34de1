//! One line of the trial protocol: from bytes to an event. Pure, and never panics whatever the bytes.
//!
//! Lenient where Python is (bare `NaN`, lone surrogates, unknown fields, odd token counts), strict where a mistake could
//! change a score.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::python::fix;
use crate::model::trial::{Outcome, PASS_THRESHOLD, Split, TrialResult};
use crate::model::usage::Usage;

/// Longer messages are cut: they are meant for one line of a terminal or a log.
const LONGEST_MESSAGE: usize = 1000;

/// What a benchmark program said in one line.
#[derive(Debug)]
pub enum ProtocolEvent {
    /// A task of the list.
    Task {
        /// Its id; never empty.
        id: String,
        /// The split the benchmark puts it in.
        split: Option<Split>,
    },
    /// A text that all tasks share.
    Context {
        /// A plain file name.
        name: String,
        text: String,
    },
    Started {
        task: String,
        trial: u32,
    },
    /// A trial ended.
    Trial {
        /// What it counts as; a nonsensical reward has become a `verifier_error`.
        result: Box<TrialResult>,
        /// What was wrong with its reward or outcome: our words, free of the program's.
        problem: Option<String>,
        /// The field that should hold a number and does not; it is left out.
        odd: Option<&'static str>,
    },
    /// Something to tell the user.
    Log {
        /// True for warnings and worse.
        warning: bool,
        /// As the program wrote it; see [`one_line`].
        message: String,
    },
}

#[derive(Deserialize)]
struct LineFields<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    task: Option<&'a RawValue>,
    split: Option<&'a RawValue>,
    trial: Option<&'a RawValue>,
    reward: Option<&'a RawValue>,
    outcome: Option<&'a RawValue>,
    seconds: Option<&'a RawValue>,
    tokens_in: Option<&'a RawValue>,
    tokens_out: Option<&'a RawValue>,
    cost_usd: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    trace: Option<&'a RawValue>,
    detail: Option<&'a RawValue>,
    level: Option<&'a RawValue>,
    message: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
    text: Option<&'a RawValue>,
}

/// Parses one line. `None` for a line of white space, which says nothing.
///
/// # Errors
/// What is wrong with the line, as the end of a sentence that begins with "line 7"; it never quotes the line.
pub fn parse(line: &[u8]) -> Result<Option<ProtocolEvent>, &'static str> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Ok(None);
    }
    if !text.starts_with('{') {
        return Err(if serde_json::from_str::<&RawValue>(text).is_ok() {
            "is not a JSON object"
        } else {
            "is not JSON"
        });
    }
    // A lone surrogate is JSON as long as the string is not looked into, so it is fixed even where parsing works.
    let fixed;
    let text = match fix(text) {
        Cow::Borrowed(text) => text,
        Cow::Owned(other) => {
            fixed = other;
            fixed.as_str()
        }
    };
    let fields: LineFields<'_> = serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => "names a field twice",
        _ => "is not JSON",
    })?;
    let event = fields.event.ok_or("has no `event`")?;
    match string(Some(event)).as_deref() {
        Some("task") => task(&fields),
        Some("started") => Ok(ProtocolEvent::Started { task: task_id(&fields)?, trial: trial_number(&fields)? }),
        Some("trial") => trial(&fields),
        Some("log") => log(&fields),
        Some("context") => context(&fields),
        _ => Err("has an unknown `event`"),
    }
    .map(Some)
}

fn task(fields: &LineFields<'_>) -> Result<ProtocolEvent, &'static str> {
    let split = match fields.split {
        None => None,
        some => match string(some).as_deref() {
            Some("train") => Some(Split::Train),
            Some("test") => Some(Split::Test),
            _ => return Err("has a `split` that is neither train nor test"),
        },
    };
    Ok(ProtocolEvent::Task { id: task_id(fields)?, split })
}

fn context(fields: &LineFields<'_>) -> Result<ProtocolEvent, &'static str> {
    let name = string(fields.name).filter(|name| is_plain(name));
    let name =
        name.ok_or("has no `name` of 1 to 64 letters, digits, `-`, `_` and `.` that begins with none of the last")?;
    Ok(ProtocolEvent::Context { name, text: string(fields.text).ok_or("has no `text`")? })
}

/// Whether a name can be that of a file, on any machine.
fn is_plain(name: &str) -> bool {
    let known = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.chars().all(known)
}

fn log(fields: &LineFields<'_>) -> Result<ProtocolEvent, &'static str> {
    let level = string(fields.level).unwrap_or_default().to_lowercase();
    let warning = matches!(level.as_str(), "warn" | "warning" | "error" | "critical" | "fatal");
    let message = string(fields.message).ok_or("has no `message`")?;
    Ok(ProtocolEvent::Log { warning, message })
}

fn trial(fields: &LineFields<'_>) -> Result<ProtocolEvent, &'static str> {
    let (outcome, reward, problem) = grade(fields);
    let mut odd = None;
    let seconds = amount(fields.seconds).unwrap_or_else(|()| left_out("seconds", &mut odd));
    let cost_usd = amount(fields.cost_usd).unwrap_or_else(|()| left_out("cost_usd", &mut odd));
    let tokens_in = count(fields.tokens_in).unwrap_or_else(|()| left_out("tokens_in", &mut odd));
    let tokens_out = count(fields.tokens_out).unwrap_or_else(|()| left_out("tokens_out", &mut odd));
    let result = TrialResult {
        task: task_id(fields)?,
        trial: trial_number(fields)?,
        outcome,
        reward,
        usage: Usage { seconds, tokens_in, tokens_out, cost_usd },
        error: string(fields.error).filter(|error| !error.trim().is_empty()),
        trace: fields.trace.map(ToOwned::to_owned),
        detail: fields.detail.map(ToOwned::to_owned),
    };
    Ok(ProtocolEvent::Trial { result: Box::new(result), problem, odd })
}

/// What a trial counts as. A reward that makes no sense is the grader's failure, never a score. A trial that ran out of time
/// but was graded above 0 counts as graded: work done in time is done. Every runner does the same, so that `agent_timeout`
/// always means that nothing came of it.
fn grade(fields: &LineFields<'_>) -> (Outcome, Option<f64>, Option<String>) {
    let verifier_error = |problem: String| (Outcome::VerifierError, None, Some(problem));
    let word = match fields.outcome {
        None => None,
        some => match string(some).as_deref().and_then(Outcome::parse) {
            None => return verifier_error("unknown outcome".into()),
            known => known,
        },
    };
    match word {
        Some(outcome) if outcome.is_no_evidence() => return (outcome, None, None),
        Some(Outcome::AgentError) => return (Outcome::AgentError, Some(0.0), None),
        _ => {}
    }
    let Some(raw) = fields.reward else {
        return match word {
            None => (Outcome::InfraError, None, Some("no reward given".into())),
            Some(Outcome::AgentTimeout) => (Outcome::AgentTimeout, None, None),
            Some(outcome) => verifier_error(format!("outcome {}, but no reward given", outcome.as_str())),
        };
    };
    let Some(reward) = read::<f64>(Some(raw)) else {
        return verifier_error("the reward is not a finite number".into());
    };
    if !(0.0..=1.0).contains(&reward) {
        return verifier_error("the reward is not between 0 and 1".into());
    }
    let reward = reward.abs(); // -0.0 is in range and prints badly.
    let graded = if reward >= PASS_THRESHOLD { Outcome::Passed } else { Outcome::Failed };
    match word {
        Some(Outcome::AgentTimeout) if reward == 0.0 => (Outcome::AgentTimeout, Some(reward), None),
        Some(Outcome::AgentTimeout) => (graded, Some(reward), None),
        Some(outcome) if outcome != graded => {
            verifier_error(format!("outcome {} contradicts the reward", outcome.as_str()))
        }
        _ => (graded, Some(reward), None),
    }
}

fn task_id(fields: &LineFields<'_>) -> Result<String, &'static str> {
    match string(fields.task) {
        None => Err("has no `task`"),
        Some(id) if id.is_empty() => Err("has an empty `task`"),
        Some(id) => Ok(id),
    }
}

fn trial_number(fields: &LineFields<'_>) -> Result<u32, &'static str> {
    read(fields.trial).ok_or("has no `trial` number")
}

fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

fn string(raw: Option<&RawValue>) -> Option<String> {
    read(raw)
}

/// A number, or a string that holds one: data frame pipelines write either.
fn amount(raw: Option<&RawValue>) -> Result<Option<f64>, ()> {
    let Some(raw) = raw else { return Ok(None) };
    let number = read::<f64>(Some(raw)).or_else(|| string(Some(raw))?.trim().parse().ok());
    number.filter(|amount| amount.is_finite() && *amount >= 0.0).map(|amount| Some(amount.abs())).ok_or(())
}

/// A whole number, also one written as 1200.0.
fn count(raw: Option<&RawValue>) -> Result<Option<u64>, ()> {
    // A double would not hold the largest ones.
    if let Some(number) = read::<u64>(raw).or_else(|| string(raw)?.trim().parse().ok()) {
        return Ok(Some(number));
    }
    let whole = |number: f64| number.fract() == 0.0 && number <= u64::MAX as f64;
    amount(raw)?.map(|number| if whole(number) { Ok(number as u64) } else { Err(()) }).transpose()
}

/// Remembers the first field that should hold a number and does not.
fn left_out<T>(field: &'static str, odd: &mut Option<&'static str>) -> Option<T> {
    odd.get_or_insert(field);
    None
}

/// Makes a text fit for one line: no line breaks, no terminal escapes, not endless. Redact first: half a secret would
/// not be recognised.
pub(crate) fn one_line(text: &str) -> String {
    let clean: String = text.chars().take(LONGEST_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graded(fields: &str) -> (Outcome, Option<f64>, Option<String>) {
        let line = format!(r#"{{"event":"trial","task":"a","trial":0,{fields}}}"#);
        match parse(line.as_bytes()) {
            Ok(Some(ProtocolEvent::Trial { result, problem, .. })) => (result.outcome, result.reward, problem),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn rewards_and_outcomes_are_graded() {
        for (fields, outcome, reward) in [
            (r#""reward":1"#, Outcome::Passed, Some(1.0)),
            (r#""reward":0.5"#, Outcome::Passed, Some(0.5)),
            (r#""reward":0.49,"outcome":"failed""#, Outcome::Failed, Some(0.49)),
            (r#""reward":-0.0"#, Outcome::Failed, Some(0.0)),
            (r#""reward":0.1,"outcome":"passed""#, Outcome::VerifierError, None),
            (r#""reward":0.9,"outcome":"failed""#, Outcome::VerifierError, None),
            (r#""outcome":"passed""#, Outcome::VerifierError, None),
            (r#""reward":1,"outcome":"great""#, Outcome::VerifierError, None),
            (r#""reward":1,"outcome":7"#, Outcome::VerifierError, None),
            (r#""reward":NaN"#, Outcome::VerifierError, None),
            (r#""reward":-Infinity"#, Outcome::VerifierError, None),
            (r#""reward":1e999"#, Outcome::VerifierError, None),
            (r#""reward":1.01"#, Outcome::VerifierError, None),
            (r#""reward":-1"#, Outcome::VerifierError, None),
            (r#""reward":true"#, Outcome::VerifierError, None),
            (r#""reward":"1.0""#, Outcome::VerifierError, None),
            (r#""reward":null"#, Outcome::InfraError, None),
            (r#""seconds":1"#, Outcome::InfraError, None),
            (r#""reward":1,"outcome":"agent_error""#, Outcome::AgentError, Some(0.0)),
            (r#""outcome":"agent_error""#, Outcome::AgentError, Some(0.0)),
            (r#""reward":1,"outcome":"agent_timeout""#, Outcome::Passed, Some(1.0)),
            (r#""reward":0.25,"outcome":"agent_timeout""#, Outcome::Failed, Some(0.25)),
            (r#""reward":0,"outcome":"agent_timeout""#, Outcome::AgentTimeout, Some(0.0)),
            (r#""reward":2,"outcome":"agent_timeout""#, Outcome::VerifierError, None),
            (r#""outcome":"agent_timeout""#, Outcome::AgentTimeout, None),
            (r#""reward":1,"outcome":"infra_error""#, Outcome::InfraError, None),
            (r#""reward":1,"outcome":"verifier_error""#, Outcome::VerifierError, None),
        ] {
            let (got, got_reward, problem) = graded(fields);
            assert_eq!((got, got_reward), (outcome, reward), "{fields}");
            assert!(got_reward.is_none_or(|reward| reward.is_sign_positive()), "{fields}");
            let own_verdict = fields.contains(&format!("\"{}\"", got.as_str()));
            assert_eq!(problem.is_some(), got.is_no_evidence() && !own_verdict, "{fields}");
        }
    }

    #[test]
    fn lines_that_are_no_event_say_why() {
        for (line, why) in [
            ("Traceback (most recent call last):", "is not JSON"),
            (r#"{"event":"log","mess"#, "is not JSON"),
            (r#"["log"]"#, "is not a JSON object"),
            (r#"{"task":"a"}"#, "has no `event`"),
            (r#"{"event":"done"}"#, "has an unknown `event`"),
            (r#"{"event":7}"#, "has an unknown `event`"),
            (r#"{"event":"trial","trial":0,"reward":1}"#, "has no `task`"),
            (r#"{"event":"trial","task":"a","trial":-1,"reward":1}"#, "has no `trial` number"),
            (r#"{"event":"trial","task":"a","task":"b","trial":0}"#, "names a field twice"),
            (r#"{"event":"task","task":""}"#, "has an empty `task`"),
            (r#"{"event":"task","task":"a","split":"dev"}"#, "has a `split` that is neither train nor test"),
            (r#"{"event":"log"}"#, "has no `message`"),
        ] {
            assert_eq!(parse(line.as_bytes()).expect_err(line), why, "{line}");
        }
        assert!(matches!(parse(b" \r"), Ok(None)));
    }

    #[test]
    fn counts_are_kept_however_they_are_written() {
        let parsed = |fields: &str| {
            let line = format!(r#"{{"event":"trial","task":"a","trial":0,"reward":1,{fields}}}"#);
            match parse(line.as_bytes()) {
                Ok(Some(ProtocolEvent::Trial { result, odd, .. })) => (result.usage.tokens_in, odd),
                other => panic!("{line}: {other:?}"),
            }
        };
        for (written, count) in [
            ("1200", 1200),
            ("1200.0", 1200),
            ("1.2e3", 1200),
            ("\"1200\"", 1200),
            ("\" 1200.0 \"", 1200),
            ("0", 0),
            ("-0.0", 0),
            ("18446744073709551615", u64::MAX),
            ("\"18446744073709551614\"", u64::MAX - 1),
        ] {
            assert_eq!(parsed(&format!("\"tokens_in\":{written}")), (Some(count), None), "{written}");
        }
        for written in
            ["1.5", "-1", "\"many\"", "\"\"", "true", "[1]", "1e20", "NaN", "Infinity", "\"nan\"", "1e999", "\"inf\""]
        {
            assert_eq!(parsed(&format!("\"tokens_in\":{written}")), (None, Some("tokens_in")), "{written}");
        }
        assert_eq!(parsed("\"tokens_in\":null"), (None, None));
        assert_eq!(parsed("\"tokens_in\":1,\"cost_usd\":\"0.5\",\"seconds\":-1"), (Some(1), Some("seconds")));
        assert_eq!(parsed("\"tokens_in\":1,\"cost_usd\":\"free\""), (Some(1), Some("cost_usd")));
        assert_eq!(parsed("\"tokens_out\":1.5"), (None, Some("tokens_out")));
    }

    #[test]
    fn context_has_a_plain_name() {
        let of = |name: &str| {
            parse(serde_json::json!({"event": "context", "name": name, "text": "x"}).to_string().as_bytes())
        };
        for name in ["policy.md", "A-1_b", &"a".repeat(64)] {
            assert!(matches!(of(name), Ok(Some(ProtocolEvent::Context { .. }))), "{name}");
        }
        for name in ["", ".env", "..", "a/b", "/etc/passwd", "a b", "\u{e4}", "a\0", &"a".repeat(65)] {
            assert!(of(name).is_err(), "{name:?}");
        }
        assert!(parse(b"{\"event\":\"context\",\"name\":\"a\"}").is_err());
    }

    #[test]
    fn what_python_writes_is_understood() {
        let line = "\u{feff}{\"event\":\"trial\",\"task\":\"NaN \\\"-Infinity\",\"trial\":0,\"reward\":1.0,\"seconds\":Infinity,\
            \"tokens_in\":-4,\"tokens_out\":7,\"cost_usd\":-Infinity,\"error\":\"a\\ud800b\\ud83d\\ude00\\nc\",\
            \"trace\":[NaN,{\"x\":\"\\udfff\"}],\"new\":{}}\r";
        let Ok(Some(ProtocolEvent::Trial { result, .. })) = parse(line.as_bytes()) else { panic!("not understood") };
        assert_eq!(result.task, "NaN \"-Infinity");
        assert_eq!(result.usage, Usage { tokens_out: Some(7), ..Usage::default() });
        assert_eq!(result.error.as_deref(), Some("a\u{fffd}b\u{1f600}\nc"));
        assert_eq!(result.trace.expect("a trace").get(), "[\"NaN\",{\"x\":\"\u{fffd}\"}]");
        assert!(matches!(parse(b"{\"event\":\"log\",\"message\":\"\xff\"}"), Ok(Some(ProtocolEvent::Log { .. }))));
    }
}

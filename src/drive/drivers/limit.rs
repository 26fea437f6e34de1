//! Whether a session ended because its provider wants us to wait, and for how long.

use std::time::Duration;

/// How long to wait if the message does not say; doubled each time in a row.
const FIRST: Duration = Duration::from_secs(60);
/// Never longer than this at a time: the message may be wrong.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// What such errors say.
const SIGNS: [&str; 7] = [
    "rate limit",
    "rate_limit",
    "too many requests",
    "usage limit",
    "session limit",
    "overloaded_error",
    "resource_exhausted",
];

/// How they say for how long.
const WAITS: [&str; 5] = ["retry after", "retry-after:", "try again in", "retry in", "resets in"];
/// Words before a 429 that make it an answer of a server: `API Error: 429`, `status: 429`, `Request rejected (429)`,
/// `"code":429`. Any other may be a line of a program, or a count.
const ANSWERS: [&str; 11] = [
    "status",
    "statuscode",
    "status_code",
    "code",
    "http",
    "error",
    "rejected",
    "response",
    "returned",
    "got",
    "received",
];

/// How long to wait after an error with this text; `None` when it is no such error. `now`: seconds since 1970. `waits`: how
/// often we have waited in a row already.
pub(crate) fn wait(error: &str, now: i64, waits: u32) -> Option<Duration> {
    let text = error.to_ascii_lowercase();
    if !SIGNS.iter().any(|sign| text.contains(sign)) && !is_answered(&text) {
        return None;
    }
    let said = until(&text, now).or_else(|| after(&text));
    Some(said.unwrap_or_else(|| FIRST.saturating_mul(1 << waits.min(10))).min(LONGEST))
}

/// Whether the text has the status 429 as a server's answer: the number alone may be anything.
fn is_answered(text: &str) -> bool {
    let asks = WAITS.iter().any(|start| text.contains(start));
    text.match_indices("429").any(|(at, number)| {
        let (before, behind) = (&text[..at], &text[at + number.len()..]);
        if before.ends_with(|c: char| c.is_alphanumeric() || c == '.') || behind.starts_with(char::is_alphanumeric) {
            return false;
        }
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        // `HTTP/1.1 429`
        let before = before.trim_end_matches(|c: char| !c.is_alphabetic());
        let start = before.rfind(|c| !is_part(c)).map_or(0, |at| at + 1);
        let word = before.get(start..).unwrap_or_default();
        ANSWERS.contains(&word) || (asks && word != "line")
    })
}

/// `usage limit reached|1764460800`: Claude Code names the second.
fn until(text: &str, now: i64) -> Option<Duration> {
    let (_, rest) = text.split_once('|')?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let at: i64 = digits.parse().ok().filter(|at| *at > 1_000_000_000)?;
    // A second or two late rather than early.
    Some(Duration::from_secs(u64::try_from(at - now).unwrap_or(0) + 2))
}

/// `retry after 20 s`, `try again in 3 minutes`, `Retry-After: 7`.
fn after(text: &str) -> Option<Duration> {
    let rest = WAITS.iter().find_map(|start| text.split_once(start))?.1.trim_start();
    let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let number: f64 = digits.trim_end_matches('.').parse().ok()?;
    let unit = rest[digits.len()..].trim_start();
    let scale = match unit {
        unit if unit.starts_with("ms") => 0.001,
        unit if unit.starts_with('m') => 60.0,
        unit if unit.starts_with('h') => 3600.0,
        _ => 1.0,
    };
    Duration::try_from_secs_f64(number * scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_patience_gets_it() {
        let seconds = Duration::from_secs;
        for (error, expected) in [
            ("API Error: 429 {\"type\":\"rate_limit_error\"}", Some(seconds(60))),
            ("exceeded retry limit, last status: 429 Too Many Requests", Some(seconds(60))),
            ("Claude AI usage limit reached|1764460860", Some(seconds(62))),
            ("Claude AI usage limit reached|1764460000", Some(seconds(2))),
            ("Rate limit: try again in 3 minutes", Some(seconds(180))),
            ("too many requests; retry after 0.5 s.", Some(Duration::from_millis(500))),
            ("429, Retry-After: 7", Some(seconds(7))),
            ("429, try again in 900 h", Some(LONGEST)),
            ("429, try again in 99999999999999999999999 h", Some(seconds(60))),
            ("API Error: 500 Internal Server Error", None),
            ("request 14290 failed", None),
            ("API Error: Request rejected (429)", Some(seconds(60))),
            ("{\"error\":{\"code\":429,\"message\":\"slow down\"}}", Some(seconds(60))),
            ("unexpected status 429", Some(seconds(60))),
            ("HTTP/1.1 429", Some(seconds(60))),
            ("AI_APICallError: statusCode: 429", Some(seconds(60))),
            ("File \"propose.py\", line 429, in <module>\nKeyError: 3", None),
            ("KeyError: 429", None),
            ("an error in propose.js:429:7", None),
            ("429 files were read", None),
            ("1.429 s", None),
            ("429", None),
            ("invalid API key", None),
        ] {
            assert_eq!(wait(error, 1_764_460_800, 0), expected, "{error}");
        }
        assert_eq!(wait("HTTP 429", 0, 3), Some(seconds(480)));
        assert_eq!(wait("HTTP 429", 0, 40), Some(LONGEST));
    }
}

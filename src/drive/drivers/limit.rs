//! Whether a session ended because its provider wants us to wait, and for how long.

use std::time::Duration;

/// How long to wait if the message does not say; doubled each time in a row.
const FIRST: Duration = Duration::from_secs(60);
/// Never longer than this at a time: the message may be wrong.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// What such errors say.
const SIGNS: [&str; 8] = [
    "429",
    "rate limit",
    "rate_limit",
    "too many requests",
    "usage limit",
    "session limit",
    "overloaded_error",
    "resource_exhausted",
];

/// How long to wait after an error with this text; `None` when it is no such error. `now`: seconds since 1970. `waits`: how
/// often we have waited in a row already.
pub(crate) fn wait(error: &str, now: i64, waits: u32) -> Option<Duration> {
    let text = error.to_ascii_lowercase();
    if !SIGNS.iter().any(|sign| has_word(&text, sign)) {
        return None;
    }
    let said = until(&text, now).or_else(|| after(&text));
    Some(said.unwrap_or_else(|| FIRST.saturating_mul(1 << waits.min(10))).min(LONGEST))
}

/// Whether `sign` occurs, but not inside a longer number.
fn has_word(text: &str, sign: &str) -> bool {
    let digit = |at: Option<char>| at.is_some_and(|c| c.is_ascii_digit());
    text.match_indices(sign).any(|(at, _)| {
        !(sign == "429" && (digit(text[..at].chars().next_back()) || digit(text[at + 3..].chars().next())))
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
    let starts = ["retry after", "retry-after:", "try again in", "retry in", "resets in"];
    let rest = starts.iter().find_map(|start| text.split_once(start))?.1.trim_start();
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
            ("invalid API key", None),
        ] {
            assert_eq!(wait(error, 1_764_460_800, 0), expected, "{error}");
        }
        assert_eq!(wait("429", 0, 3), Some(seconds(480)));
        assert_eq!(wait("429", 0, 40), Some(LONGEST));
    }
}

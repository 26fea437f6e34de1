//! What Python's `json` writes and JSON does not know.

use std::borrow::Cow;

/// Makes what Python writes into JSON: bare `NaN` and `Infinity` become strings, lone surrogates U+FFFD.
pub(crate) fn fix(text: &str) -> Cow<'_, str> {
    // Cheap enough for every line, and almost every line stops here.
    if !["NaN", "Infinity", "\\ud", "\\uD"].iter().any(|suspect| text.contains(suspect)) {
        return Cow::Borrowed(text);
    }
    let mut fixed = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut in_string = false;
    while let Some(first) = rest.chars().next() {
        let mut taken = first.len_utf8();
        let mut replacement = None;
        match first {
            '"' => in_string = !in_string,
            '\\' if in_string => {
                let lone;
                (taken, lone) = escape(rest);
                replacement = lone.then(|| "\u{fffd}".to_owned());
            }
            'N' | 'I' | '-' if !in_string => {
                if let Some(token) = ["NaN", "Infinity", "-Infinity"].iter().find(|token| rest.starts_with(**token)) {
                    taken = token.len();
                    replacement = Some(format!("\"{token}\""));
                }
            }
            _ => {}
        }
        let (head, tail) = rest.split_at(taken);
        fixed.push_str(replacement.as_deref().unwrap_or(head));
        rest = tail;
    }
    Cow::Owned(fixed)
}

/// Length of the escape sequence `text` begins with (a surrogate pair is one), and whether it is a lone surrogate.
fn escape(text: &str) -> (usize, bool) {
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    match (unit(0), unit(6)) {
        (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, false),
        (Some(0xd800..=0xdfff), _) => (6, true),
        _ => (1 + text[1..].chars().next().map_or(0, char::len_utf8), false),
    }
}

//! Keeps secrets out of logs, messages and traces: every known secret value is replaced by `***`.

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::RawValue;

/// Shorter values are left alone: replacing `1` or `true` everywhere would destroy a log and hide nothing.
const SHORTEST_SECRET: usize = 6;

const MASK: &[u8] = b"***";

/// The secret values to hide, longest first, so that a secret containing another is hidden whole.
#[derive(Clone, Default)]
pub struct Redactor(Vec<String>);

impl std::fmt::Debug for Redactor {
    /// Shows how many secrets there are, never which.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} secrets)", self.0.len())
    }
}

impl Redactor {
    /// Hides these values. Values shorter than 6 bytes are ignored.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Redactor {
        let mut secrets: Vec<String> = secrets.into_iter().filter(|secret| secret.len() >= SHORTEST_SECRET).collect();
        secrets.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Redactor(secrets)
    }

    /// The text with every secret replaced by `***`.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !self.0.iter().any(|secret| text.contains(secret.as_str())) {
            return Cow::Borrowed(text);
        }
        let mut stream = self.stream();
        let mut clean = stream.push(text.as_bytes());
        clean.extend(stream.finish());
        Cow::Owned(String::from_utf8_lossy(&clean).into_owned())
    }

    /// Hides secrets inside JSON without breaking it, also where escapes disguise them. JSON without secrets comes back
    /// byte for byte; otherwise strings (and keys) are rewritten.
    pub fn redact_json(&self, json: Box<RawValue>) -> Box<RawValue> {
        let text = json.get();
        if self.0.is_empty() {
            return json;
        }
        let plain = self.0.iter().any(|secret| text.contains(secret.as_str()));
        if !plain && !text.contains('\\') {
            return json;
        }
        let Ok(mut value) = serde_json::from_str::<Value>(text) else {
            // Too deep to walk. Better an empty trace than one that might hold a secret.
            return RawValue::NULL.to_owned();
        };
        if !self.redact_value(&mut value) {
            return json;
        }
        serde_json::value::to_raw_value(&value).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }

    fn redact_value(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => match self.redact(text) {
                Cow::Borrowed(_) => false,
                Cow::Owned(clean) => {
                    *text = clean;
                    true
                }
            },
            Value::Number(number) => match self.redact(&number.to_string()) {
                Cow::Borrowed(_) => false,
                Cow::Owned(clean) => {
                    *value = Value::String(clean);
                    true
                }
            },
            // `fold` and not `any`: every item must be visited.
            Value::Array(items) => items.iter_mut().fold(false, |changed, item| self.redact_value(item) | changed),
            Value::Object(fields) => {
                let mut changed = fields.values_mut().fold(false, |changed, field| self.redact_value(field) | changed);
                if fields.keys().any(|key| matches!(self.redact(key), Cow::Owned(_))) {
                    let taken = std::mem::take(fields);
                    fields.extend(taken.into_iter().map(|(key, field)| (self.redact(&key).into_owned(), field)));
                    changed = true;
                }
                changed
            }
            Value::Null | Value::Bool(_) => false,
        }
    }

    /// A redactor for bytes that arrive in pieces: a secret cut in two by a buffer is still found.
    pub fn stream(&self) -> RedactStream {
        let mut first = [false; 256];
        for secret in &self.0 {
            first[usize::from(secret.as_bytes()[0])] = true;
        }
        RedactStream { secrets: self.0.clone(), first: Box::new(first), pending: Vec::new() }
    }
}

/// See [`Redactor::stream`]. Holds back only bytes that may be the beginning of a secret.
#[derive(Debug)]
pub struct RedactStream {
    secrets: Vec<String>,
    first: Box<[bool; 256]>,
    pending: Vec<u8>,
}

impl RedactStream {
    /// Takes the next bytes and returns what is known to be clean.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(bytes);
        self.scan(false)
    }

    /// Returns the rest.
    pub fn finish(&mut self) -> Vec<u8> {
        self.scan(true)
    }

    fn scan(&mut self, last: bool) -> Vec<u8> {
        let mut clean = Vec::with_capacity(self.pending.len());
        let mut at = 0;
        'bytes: while at < self.pending.len() {
            let rest = &self.pending[at..];
            if self.first[usize::from(rest[0])] {
                for secret in self.secrets.iter().map(String::as_bytes) {
                    if rest.starts_with(secret) {
                        clean.extend_from_slice(MASK);
                        at += secret.len();
                        continue 'bytes;
                    }
                    if !last && secret.starts_with(rest) {
                        break 'bytes;
                    }
                }
            }
            clean.push(rest[0]);
            at += 1;
        }
        self.pending.drain(..at);
        clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        Redactor::new([
            "sk-secret".into(),
            "sk-secret-long".into(),
            "no".into(),
            "12345678".into(),
            "a\"b\"c\"d".into(),
        ])
    }

    #[test]
    fn secrets_vanish_and_the_longest_wins() {
        assert_eq!(redactor().redact("x sk-secret-long sk-secret no"), "x *** *** no");
        assert!(!format!("{:?}", redactor()).contains("sk-"));
    }

    #[test]
    fn a_secret_cut_anywhere_is_found() {
        let text = b"begin sk-secret-long end sk-secre";
        for cut in 0..text.len() {
            let mut stream = redactor().stream();
            let mut clean = stream.push(&text[..cut]);
            clean.extend(stream.push(&text[cut..]));
            clean.extend(stream.finish());
            assert_eq!(String::from_utf8_lossy(&clean), "begin *** end sk-secre", "cut at {cut}");
        }
    }

    #[test]
    fn json_stays_json() {
        let json = |text: &str| RawValue::from_string(text.into()).expect("test JSON");
        let clean = redactor().redact_json(json(r#"{"sk-secret": 12345678, "t": ["a\"b\"c\"d", "\u0073k-secret"]}"#));
        assert_eq!(clean.get(), r#"{"***":"***","t":["***","***"]}"#);
        let untouched = r#"{ "x" : 1e-07, "y": "\n" }"#;
        assert_eq!(redactor().redact_json(json(untouched)).get(), untouched);
    }
}

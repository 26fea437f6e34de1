//! A long conversation message by message: as one JSON value it takes twenty times the memory of its file.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Map;
use serde_json::value::RawValue;

use super::conversation::Trace;
use super::messages::{MessageReader, finish, place_in};

/// An object's members as they stand in the file.
struct Members<'a>(Vec<(String, &'a RawValue)>);

/// The trace of bytes that are an object with messages, or a list of them, unless an earlier form fits.
pub(super) fn read(bytes: &[u8]) -> Option<Trace> {
    let start = bytes.iter().find(|byte| !byte.is_ascii_whitespace())?;
    if *start == b'[' {
        return conversation(&serde_json::from_slice::<Vec<&RawValue>>(bytes).ok()?);
    }
    let Members(members) = serde_json::from_slice(bytes).ok()?;
    let is_list = |raw: &RawValue| raw.get().starts_with('[');
    let other = ["steps", "adk_events", "tool_trajectory", "dialogue_history"];
    if members.iter().any(|(name, raw)| other.contains(&name.as_str()) && is_list(raw)) {
        return None;
    }
    let list = |name: &str| members.iter().find(|(known, raw)| known == name && is_list(raw)).map(|(_, raw)| *raw);
    let place = place_in(|name| list(name).is_some())?;
    let mut trace = conversation(&serde_json::from_str::<Vec<&RawValue>>(list(place)?.get()).ok()?)?;
    let mut fields = Map::new();
    for (name, raw) in members.iter().filter(|(name, _)| name != place) {
        fields.insert(name.clone(), serde_json::from_str(raw.get()).ok()?);
    }
    finish(&mut trace, &fields, place);
    Some(trace)
}

fn conversation(items: &[&RawValue]) -> Option<Trace> {
    let mut reader = MessageReader::default();
    for item in items {
        reader.take(&serde_json::from_str(item.get()).ok()?);
    }
    reader.trace()
}

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members: Vec<(String, &'de RawValue)> = Vec::new();
                let mut places: HashMap<String, usize> = HashMap::new();
                while let Some((name, raw)) = map.next_entry::<String, &RawValue>()? {
                    // If a name occurs twice, the last one counts, as everywhere.
                    match places.get(&name) {
                        Some(place) => members[*place].1 = raw,
                        None => {
                            places.insert(name.clone(), members.len());
                            members.push((name, raw));
                        }
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn piece_by_piece_it_is_the_same_conversation() {
        let message =
            r#"{"role": "assistant", "content": "a", "tool_calls": [{"id": "c", "name": "f", "arguments": {"x": 1}}]}"#;
        let answer = r#"{"role": "tool", "tool_call_id": "c", "content": "exit code: 1"}"#;
        let timeline = r#"[{"what": "model call", "step": 1, "seconds": 2}]"#;
        for (text, is_read) in [
            (format!(" [{message},\n{answer}, {{\"printed\": \"p\"}}]"), true),
            (
                format!(
                    "{{\"z\": 1, \"messages\": [{message}, {answer}], \"a\": \"x\\ny\", \"timeline\": {timeline}}}"
                ),
                true,
            ),
            (format!("{{\"messages\": 1, \"steps\": 2, \"items\": [{message}], \"adk_events\": null}}"), true),
            (format!("{{\"messages\": [], \"a\": 1, \"messages\": [{message}], \"a\": 2}}"), true),
            (format!("{{\"messages\": [7], \"history\": [{message}]}}"), false),
            (format!("{{\"steps\": [{{\"source\": \"user\"}}], \"messages\": [{message}]}}"), false),
            (format!("{{\"dialogue_history\": [], \"messages\": [{message}]}}"), false),
            ("[1, 2]".into(), false),
            ("{}".into(), false),
            ("17".into(), false),
        ] {
            let value: Value = serde_json::from_str(&text).unwrap();
            let pieces = read(text.as_bytes());
            assert_eq!(pieces.is_some(), is_read, "{text}");
            assert_eq!(Trace::read(text.as_bytes()), Trace::of(&value), "{text}");
        }
        for broken in ["", "[", "{\"messages\": [{\"role\": }]}", "\u{feff}[]"] {
            assert_eq!(read(broken.as_bytes()), None);
        }
    }
}

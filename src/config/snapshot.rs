//! The configuration as the ledger keeps it, and what changed between two of them.

use serde_json::{Map, Value};

use super::Config;
use super::keys::keys_of;
use super::secret::{is_secret, is_secret_name, secrets_inside};

/// What stands in for a value that looks like a secret.
pub const HIDDEN: &str = "(hidden)";
/// Longer values are cut in a diff, which is for reading.
const LONGEST_SHOWN: usize = 80;

pub(super) fn snapshot(config: &Config) -> Value {
    let mut copy = config.clone();
    keys_of(config.benchmark).map(|key| (key.name.to_string(), key.get(&mut copy))).collect::<Map<_, _>>().into()
}

/// Hides texts under names such as `api_key`. Numbers stay: `max_tokens: 4096` is no secret.
pub(super) fn hide_values(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(text) if is_secret(name, text) => *value = HIDDEN.into(),
                    value => hide_values(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_values),
        Value::String(text) => *text = hide_inside(text),
        _ => {}
    }
}

/// Hides passwords in addresses and the like.
fn hide_inside(text: &str) -> String {
    let mut secrets = secrets_inside(text);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.iter().fold(text.to_string(), |text, secret| text.replace(secret, HIDDEN))
}

/// Hides the values of arguments such as `--api-key x` and `--api-key=x`.
pub fn hide_arguments(arguments: &[String]) -> Vec<String> {
    let mut shown = Vec::with_capacity(arguments.len());
    let mut expects_secret = false;
    for argument in arguments {
        let number = argument.parse::<f64>().is_ok();
        shown.push(match argument.split_once('=') {
            Some((name, value)) if is_secret_name(name) && value.parse::<f64>().is_err() => format!("{name}={HIDDEN}"),
            _ if expects_secret && !number && !argument.starts_with('-') => HIDDEN.into(),
            _ => hide_inside(argument),
        });
        expects_secret = argument.starts_with('-') && !argument.contains('=') && is_secret_name(argument);
    }
    shown
}

pub(super) fn diff(old: &Value, new: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", Some(old), Some(new), &mut lines);
    lines
}

fn compare(at: &str, old: Option<&Value>, new: Option<&Value>, lines: &mut Vec<String>) {
    if old == new {
        return;
    }
    if let (Some(Value::Object(before)), Some(Value::Object(after))) = (old, new) {
        let added = after.keys().filter(|key| !before.contains_key(*key));
        for key in before.keys().chain(added) {
            let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            compare(&at, before.get(key), after.get(key), lines);
        }
        return;
    }
    lines.push(format!("{at}: {} -> {}", shown(old), shown(new)));
}

fn shown(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => return "(not set)".into(),
        Some(value) => value.to_string(),
    };
    if text.chars().count() <= LONGEST_SHOWN {
        return text;
    }
    text.chars().take(LONGEST_SHOWN).chain("...".chars()).collect()
}

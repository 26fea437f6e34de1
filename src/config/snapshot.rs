//! The configuration as the ledger keeps it, and what changed between two of them.

use std::path::Path;

use serde_json::{Map, Value};

use super::common::COMMON;
use super::key::{Config, Section};
use super::keys::keys_of;

/// Longer values are cut in a diff, which is for reading.
const LONGEST_SHOWN: usize = 80;

pub(super) fn snapshot(config: &Config) -> Value {
    let mut copy = config.clone();
    keys_of(config.benchmark).map(|key| (key.name.to_string(), key.get(&mut copy))).collect::<Map<_, _>>().into()
}

/// The common keys that a benchmark gives another default, each with it.
pub fn own_defaults(benchmark: &'static dyn Section) -> Vec<(&'static str, String)> {
    let usual = Config::usual(Path::new(""), benchmark).snapshot();
    let own = Config::defaults(Path::new(""), benchmark).snapshot();
    let names = COMMON.iter().map(|key| key.name).filter(|name| usual[*name] != own[*name]);
    names.map(|name| (name, own[name].to_string().trim_end_matches(".0").to_string())).collect()
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

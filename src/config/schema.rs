//! The table of keys as a JSON Schema (draft 7), for editors.

use serde_json::{Map, Value, json};

use super::common::COMMON;
use super::key::Config;
use super::keys::{Sections, keys};
use crate::config::snapshot::snapshot;

/// What a configuration may hold. Keys of all benchmarks stand side by side; each benchmark has its own list of
/// required ones.
pub(crate) fn schema(sections: Sections<'_>) -> Value {
    let mut properties = Map::new();
    for (owner, key) in keys(sections) {
        let mut schema = key.schema();
        if let Some(owner) = owner {
            schema["description"] = format!("{} ({owner})", key.doc).into();
        }
        properties
            .entry(key.name)
            .and_modify(|known| *known = json!({"anyOf": [known.take(), schema.clone()]}))
            .or_insert(schema);
    }
    let names: Vec<&str> = sections.iter().map(|section| section.name()).collect();
    properties.insert("benchmark".into(), json!({"enum": names, "description": "what scores the agent"}));
    let rules: Vec<Value> = sections
        .iter()
        .map(|section| {
            let defaults = snapshot(&Config::defaults(std::path::Path::new(""), *section));
            let own = |name: &str| section.keys().iter().any(|key| key.name == name);
            let foreign = keys(sections).filter(|(owner, key)| owner.is_some() && !own(key.name));
            let mut allowed: Map<String, Value> =
                foreign.map(|(_, key)| (key.name.to_string(), Value::Bool(false))).collect();
            for key in COMMON.iter().chain(section.keys()) {
                let default = Some(&defaults[key.name]).filter(|default| !key.required && !default.is_null());
                allowed.insert(key.name.into(), default.map_or(Value::Bool(true), |value| json!({"default": value})));
            }
            let required: Vec<&str> = section.keys().iter().filter(|key| key.required).map(|key| key.name).collect();
            json!({
                "if": {"properties": {"benchmark": {"const": section.name()}}, "required": ["benchmark"]},
                "then": {"properties": allowed, "required": required},
            })
        })
        .collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "experiment_config.yaml of autoharness",
        "type": "object",
        "properties": properties,
        "required": ["benchmark"],
        "additionalProperties": false,
        "allOf": rules,
    })
}

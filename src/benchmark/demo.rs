//! The embedded demo: an ordinary `command` benchmark.

use std::path::Path;

use serde_json::{Value, json};

use crate::helpers::DEMO;

/// The command that runs the demo's helper.
pub fn command(helper: &Path) -> Vec<String> {
    vec!["python3".into(), helper.join("bench.py").to_string_lossy().into_owned()]
}

/// The demo's part of the protocol fingerprint.
pub fn protocol() -> Value {
    json!({"program": DEMO.fingerprint()})
}

//! The embedded demo: an ordinary `command` benchmark.

use std::path::Path;

use serde_json::{Value, json};

use super::protocol::ProtocolRunner;
use super::{AgentPython, Import, Way};
use crate::helpers::DEMO;

/// The command that runs the demo's helper.
pub fn command(helper: &Path) -> Vec<String> {
    vec!["python3".into(), helper.join("bench.py").to_string_lossy().into_owned()]
}

/// The Python that runs the agent.
pub fn agent_python(runner: &ProtocolRunner) -> AgentPython {
    let beside = runner.agent_file.parent().unwrap_or(Path::new("")).to_path_buf();
    let import = Import { last: vec![beside], ways: vec![Way::File("agent".into())], ..Import::default() };
    AgentPython::new("python3", runner.environment.clone(), import)
}

/// The demo's part of the protocol fingerprint.
pub fn protocol() -> Value {
    json!({"program": DEMO.fingerprint()})
}

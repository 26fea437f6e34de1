//! tau-bench: the trial protocol and a Python helper that is written out of the binary.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::config::TauBenchSettings;
use crate::error::Result;
use crate::model::hash::hash;
use crate::store::atomic;

/// The class that the agent file must define.
pub const AGENT_CLASS: &str = "HarnessAgent";

/// The helper's directory must have this name: its modules import each other by it.
const DIRECTORY: &str = "tau_bench";

macro_rules! helper {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../agent/helpers/tau_bench/", $name)))),*]
    };
}

/// The files of the helper.
const HELPER: &[(&str, &str)] = helper![
    "__init__.py",
    "agent_side.py",
    "bench.py",
    "classify.py",
    "fence.py",
    "models.py",
    "pool.py",
    "processes.py",
    "protocol.py",
    "runner.py",
    "stand_in.py",
    "tasks.py",
    "trace.py",
    "vault.py",
    "warm.py",
];

/// Writes the helper below `directory` (outside the work tree) and returns the command that runs it with `python`.
///
/// # Errors
/// Infrastructure when it cannot be written.
pub fn command(python: &Path, directory: &Path) -> Result<Vec<String>> {
    let package = directory.join(DIRECTORY);
    fs_err::create_dir_all(&package)?;
    for (name, text) in HELPER {
        let path = package.join(name);
        // Anything else found there was tampered with, or belongs to another version.
        if fs_err::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            atomic::replace(&path, text.as_bytes())?;
        }
    }
    let program: PathBuf = package.join("bench.py");
    Ok(vec![python.to_string_lossy().into_owned(), "-B".into(), program.to_string_lossy().into_owned()])
}

/// What the helper is told beside the models and limits that every benchmark has.
pub fn options(settings: &TauBenchSettings, base_seed: u64, data: &Path) -> Map<String, Value> {
    let options = json!({
        "domain": settings.domain,
        "judge_model": settings.judge_model,
        "max_steps": settings.max_steps,
        "max_errors": settings.max_errors,
        "trace_gold": settings.trace_gold,
        "base_seed": base_seed,
        "retrieval_config": settings.retrieval_config,
        "data_dir": data.to_string_lossy(),
    });
    match options {
        Value::Object(options) => options,
        _ => Map::new(),
    }
}

/// tau-bench's part of the protocol fingerprint. `code` is the digest of tau2's own source, which grades. What a trace
/// shows (`trace_gold`) and where tau2 lies change no score and are not in it.
pub fn protocol(settings: &TauBenchSettings, release: &str, code: &str) -> Value {
    let helper: Vec<_> = HELPER.iter().map(|(name, text)| (name, hash(text.as_bytes()))).collect();
    json!({
        "domain": settings.domain,
        "judge_model": settings.judge_model,
        "max_steps": settings.max_steps,
        "max_errors": settings.max_errors,
        "retrieval_config": settings.retrieval_config,
        "tau2": release,
        "code": code,
        "helper": hash(json!(helper).to_string().as_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_helper_is_embedded() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("agent/helpers/tau_bench");
        let entries = fs_err::read_dir(directory).expect("the helper is part of the sources");
        let mut found: Vec<String> = entries
            .map(|entry| entry.expect("a readable directory").file_name().to_string_lossy().into_owned())
            .filter(|name| name.ends_with(".py"))
            .collect();
        found.sort();
        let embedded: Vec<&str> = HELPER.iter().map(|(name, _)| *name).collect();
        assert_eq!(found, embedded);
    }
}

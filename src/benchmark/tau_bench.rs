//! tau-bench: the trial protocol, spoken by a Python helper.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::config::TauBenchSettings;
use crate::helpers::TAU_BENCH;

/// The class that the agent file must define.
pub const AGENT_CLASS: &str = "HarnessAgent";

/// The command that runs the helper in this directory with `python`.
pub fn command(python: &Path, helper: &Path) -> Vec<String> {
    [python, Path::new("-B"), &helper.join("bench.py")].map(|word| word.to_string_lossy().into_owned()).into()
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
    json!({
        "domain": settings.domain,
        "judge_model": settings.judge_model,
        "max_steps": settings.max_steps,
        "max_errors": settings.max_errors,
        "retrieval_config": settings.retrieval_config,
        "tau2": release,
        "code": code,
        "helper": TAU_BENCH.fingerprint(),
    })
}

//! tau-bench: the trial protocol, spoken by a Python helper.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::config::TauBenchSettings;
use crate::benchmarks::agent_python::{AgentPython, Before, Import, Way};
use crate::benchmarks::helper::{Helper, helper};
use crate::benchmarks::trial_protocol::ProtocolRunner;
use crate::config::{FenceMode, is_secret_name};

/// Runs tau2's own loop around the agent.
pub(crate) const HELPER: Helper = helper!("tau_bench":
    "__init__.py",
    "agent_side.py",
    "bench.py",
    "classify.py",
    "fence.py",
    "models.py",
    "pool.py",
    "processes.py",
    "protocol.py",
    "request.py",
    "runner.py",
    "stand_in.py",
    "tasks.py",
    "trace.py",
    "vault.py",
    "warm.py",
    "wire.py",
);

/// The class that the agent file must define.
pub(super) const AGENT_CLASS: &str = "HarnessAgent";

/// The command that runs the helper in this directory with `python`.
pub(super) fn command(python: &Path, helper: &Path) -> Vec<String> {
    [python, Path::new("-B"), &helper.join("bench.py")].map(|word| word.to_string_lossy().into_owned()).into()
}

/// What the helper is told besides the models and limits that every benchmark has.
pub(super) fn options(
    settings: &TauBenchSettings,
    base_seed: u64,
    data: &Path,
    fence: FenceMode,
) -> Map<String, Value> {
    object(json!({
        "domain": settings.domain,
        "judge_model": settings.judge_model,
        "max_steps": settings.max_steps,
        "max_errors": settings.max_errors,
        "trace_gold": settings.trace_gold,
        "base_seed": base_seed,
        "retrieval_config": settings.retrieval_config,
        "data_dir": data.to_string_lossy(),
        "fenced": fence != FenceMode::Off,
    }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The Python that runs the agent. Its process has no key, and a fence around it: model calls are made by another one.
pub(super) fn agent_python(python: &Path, helper: &Path, data: &Path, runner: &ProtocolRunner) -> AgentPython {
    let mut environment = runner.environment.clone();
    environment.retain(|(name, _)| !is_secret_name(&name.to_string_lossy()));
    for (name, value) in
        [("AGENT_MODEL", &runner.agent.model), ("AGENT_REASONING_EFFORT", &runner.agent.reasoning_effort)]
    {
        environment.push((name.into(), value.clone().unwrap_or_default().into()));
    }
    let import = Import {
        first: vec![runner.agent_file.parent().unwrap_or(Path::new("")).to_path_buf()],
        ways: vec![Way::File("harness_agent".into())],
        before: Some(Before {
            modules: helper.parent().unwrap_or(helper).into(),
            code: include_str!("before_agent.py"),
            arguments: object(json!({"data": data, "fenced": runner.options["fenced"]})),
        }),
        behind: Vec::new(),
        ..Import::default()
    };
    AgentPython::new(python, environment, import)
}

/// tau-bench's part of the protocol fingerprint. `code` is the digest of tau2's own source, which grades. What a trace
/// shows (`trace_gold`) and where tau2 is change no score, so they are left out.
pub(super) fn protocol(settings: &TauBenchSettings, release: &str, code: &str) -> Value {
    json!({
        "domain": settings.domain,
        "judge_model": settings.judge_model,
        "max_steps": settings.max_steps,
        "max_errors": settings.max_errors,
        "retrieval_config": settings.retrieval_config,
        "tau2": release,
        "code": code,
        "helper": HELPER.fingerprint(),
    })
}

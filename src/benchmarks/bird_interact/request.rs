//! BIRD-Interact: an ordinary program that speaks the trial protocol.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::config::BirdInteractSettings;
use crate::benchmarks::agent_python::{AgentPython, Import, Way, module_name, stem};
use crate::benchmarks::fencing::Fencing;
use crate::benchmarks::helper::{Helper, helper};
use crate::benchmarks::trial_protocol::{ProtocolRunner, WaitLimits};
use crate::error::Result;
use crate::model::hash::hash;

/// Runs BIRD-Interact's services, orchestrators and the agent.
pub(crate) const HELPER: Helper = helper!("bird_interact":
    "bench.py",
    "calls.py",
    "dataset.py",
    "doctor.py",
    "door.py",
    "environment.py",
    "fence.py",
    "first_call.py",
    "guard.py",
    "host.py",
    "launch.py",
    "link.py",
    "local_http.py",
    "nurse.py",
    "nursery.py",
    "postgres.py",
    "pretended.py",
    "processes.py",
    "proxy.py",
    "redirect.py",
    "reference.py",
    "report.py",
    "requirements.txt",
    "roles.py",
    "run.py",
    "seal.py",
    "service.py",
    "services.py",
    "smoke.py",
    "sockets.py",
    "sql.py",
    "verdict.py",
);

/// The function that the agent file must define.
pub(super) const AGENT_SYMBOL: &str = "build_agent";

/// What the services' environment holds: one tested set of versions.
pub(super) const REQUIREMENTS: &str = include_str!("helper/requirements.txt");

/// From SIGTERM to SIGKILL: services end and copies of databases are dropped in between.
pub(super) const GRACE: Duration = Duration::from_secs(60);

/// The helper's own limit of a trial is 50 minutes if none is configured; it can then be silent that long. Services and
/// the first call of a model take time to start.
pub(super) const LIMITS: WaitLimits =
    WaitLimits { silence: Duration::from_secs(3600), slack: Duration::from_secs(240), exit: Duration::from_secs(5) };

/// What the helper's exit statuses mean; bench.py has the list.
pub(super) const EXITS: &[(i32, &str)] = &[
    (3, "PostgreSQL cannot be used; `autoharness doctor` looks at it"),
    (4, "a port that the configuration names is in use"),
    (5, "a model refuses every request: its name, its key or its credit"),
];

/// Where everything is that a run depends on. All paths are absolute.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The interpreter of the helper and of the services.
    pub python: PathBuf,
    /// The directory BIRD-Interact-ADK.
    pub adk: PathBuf,
    /// The file with the tasks.
    pub data: PathBuf,
}

pub(super) fn options(settings: &BirdInteractSettings, places: &Places) -> Map<String, Value> {
    let ports = [("agent", settings.agent_port), ("user", settings.user_port), ("db", settings.db_port)];
    let ports: Map<String, Value> =
        ports.into_iter().filter_map(|(name, port)| Some((name.to_string(), json!(port?)))).collect();
    let options = json!({
        "mode": settings.mode.as_str(),
        "dataset": settings.dataset.as_str(),
        "patience": settings.patience,
        "adk_dir": places.adk,
        "data_path": places.data,
        "python": places.python,
        "pg": {
            "host": settings.host(),
            "port": settings.port(),
            "user": settings.pg_user,
            "password_env": settings.pg_password_env,
        },
        "ports": ports,
    });
    match options {
        Value::Object(options) => options,
        _ => Map::new(),
    }
}

/// The option `fence`. `staging` holds what agents are imported from, and what they may read.
pub(super) fn fence(fence: &Fencing, staging: &Path) -> Value {
    json!({"words": fence.words, "hosts": fence.hosts, "alone": fence.layers.has("namespaces"), "staging": staging})
}

/// The Python that runs the agent. Its process knows the models and their keys, but nothing of PostgreSQL; what is behind
/// the services' ports is not passed on yet.
pub(super) fn agent_python(settings: &BirdInteractSettings, places: &Places, runner: &ProtocolRunner) -> AgentPython {
    let mut environment = runner.environment.clone();
    environment.retain(|(name, _)| {
        let name = name.to_string_lossy();
        !name.starts_with("PG") && !name.starts_with("AUTOHARNESS_") && name != settings.pg_password_env.as_str()
    });
    let model = runner.agent.model.clone().unwrap_or_default();
    let effort = runner.agent.reasoning_effort.clone().unwrap_or_default();
    let known = [
        ("AGENT_MODEL", model.as_str()),
        ("SYSTEM_AGENT_MODEL", model.as_str()),
        ("AGENT_REASONING_EFFORT", effort.as_str()),
        ("USER_SIM_PORT", "9"),
        ("DB_ENV_PORT", "9"),
        ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
        ("DATASET", settings.dataset.as_str()),
        ("PATIENCE", &settings.patience.to_string()),
    ];
    environment.extend(known.map(|(name, value)| (name.into(), value.into())));
    // As a module of the package in its directory, if that can be one.
    let directory = runner.agent_file.parent().unwrap_or(Path::new(""));
    let name = stem(&runner.agent_file);
    let package = directory.file_name().map(|package| Path::new(package).join(format!("{name}.py")));
    let way = match package.as_deref().and_then(module_name) {
        Some(module) => Way::Module(module),
        None => Way::File(name),
    };
    let above = directory.parent().unwrap_or(Path::new("")).to_path_buf();
    let behind = runner.fence.as_ref().map(|fence| fence.words.clone()).unwrap_or_default();
    let import = Import { first: vec![above], ways: vec![way], behind, ..Import::default() };
    AgentPython::new(&places.python, environment, import)
}

/// What makes two scores comparable: the way of asking, the benchmark's code, the tasks with their schemas, the databases (digests
/// of their templates), the versions. Where they are does not count, and neither does the server that holds the same databases.
/// Errors: infrastructure when a file cannot be read.
pub(super) fn protocol(
    settings: &BirdInteractSettings,
    places: &Places,
    revision: Option<String>,
    templates: &BTreeMap<String, String>,
) -> Result<Value> {
    let code = ["orchestrator", "shared", "db_environment", "user_simulator", "system_agent"];
    let code = code.iter().map(|name| places.adk.join(name)).collect::<Vec<_>>();
    let beside = places.data.parent().map(Path::to_path_buf);
    let own = places.adk.join(format!("bird-interact-{}", settings.dataset.as_str()));
    let mut knowledge: Vec<PathBuf> = beside.into_iter().chain([own]).collect();
    knowledge.dedup();
    let described = |name: &str| {
        ["_schema.txt", "_column_meaning_base.json", "_kb.jsonl"].iter().any(|ending| name.ends_with(ending))
    };
    Ok(json!({
        "mode": settings.mode.as_str(),
        "dataset": settings.dataset.as_str(),
        "patience": settings.patience,
        "revision": revision,
        "code": digest(&code, 16, &|name| !name.ends_with(".pyc"))?,
        "tasks": hash(&fs_err::read(&places.data)?),
        "schemas": digest(&knowledge, 2, &described)?,
        "databases": templates,
        "versions": hash(REQUIREMENTS.as_bytes()),
        "helper": HELPER.fingerprint(),
    }))
}

/// One hash over the files below `directories` whose names are wanted; hidden directories do not count.
fn digest(directories: &[PathBuf], depth: usize, setup: &dyn Fn(&str) -> bool) -> Result<String> {
    let mut list = Vec::new();
    for directory in directories.iter().filter(|directory| directory.is_dir()) {
        let shown = |entry: &walkdir::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
        let below =
            walkdir::WalkDir::new(directory).min_depth(1).max_depth(depth).follow_links(true).sort_by_file_name();
        for entry in below.into_iter().filter_entry(shown).flatten() {
            if entry.file_type().is_file() && setup(&entry.file_name().to_string_lossy()) {
                let relative =
                    entry.path().strip_prefix(directory).unwrap_or(entry.path()).to_string_lossy().into_owned();
                list.push((relative, hash(&fs_err::read(entry.path())?)));
            }
        }
    }
    Ok(hash(json!(list).to_string().as_bytes()))
}

//! What is measured under which conditions: the configured runner and the protocol fingerprints.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::session::Session;
use crate::benchmark::bird_interact as bird;
use crate::benchmark::bird_runner::BirdRunner;
use crate::benchmark::harbor::HarborRunner;
use crate::benchmark::harbor_job::JobSettings;
use crate::benchmark::harbor_listing::Dataset;
use crate::benchmark::harbor_probe::Probe;
use crate::benchmark::protocol::{AgentSettings, Limits, ProtocolRunner};
use crate::benchmark::{AgentPython, BenchmarkRunner, TaskInfo, demo, tau_bench};
use crate::config::{Benchmark, Settings, TauBenchSettings, TerminalBenchSettings};
use crate::error::{Error, Result};
use crate::guard::staging::is_unscored;
use crate::guard::{BaseTree, Editable, NotRead, digest_path, show_path};
use crate::helpers;
use crate::model::hash::hash;
use crate::model::split::TaskSplit;
use crate::model::trial::Split;
use crate::process::Redactor;
use crate::process::signals::Cancel;
use crate::provision::Surroundings;
use crate::provision::harbor::{self, Wanted};
use crate::provision::python_env::installed_packages;
use crate::provision::tau2;
use crate::provision::{bird_interact, bird_templates};

/// How long a benchmark program may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(10);

/// The runner the configuration asks for.
///
/// # Errors
/// Usage when the benchmark cannot be run by this version; infrastructure when its files cannot be written out or what it
/// stands on is not installed.
pub async fn runner(session: &Session, base: &BaseTree, cancel: &Cancel) -> Result<Box<dyn BenchmarkRunner>> {
    let config = &session.config;
    let mut runner = ProtocolRunner {
        name: config.benchmark.as_str().into(),
        command: Vec::new(),
        environment: session.environment.for_child(&config.pass_env, &[]),
        options: serde_json::Map::new(),
        agent: agent_settings(session),
        agent_file: config.agent_file().into(),
        symbol: None,
        agent_python: None,
        protocol: Value::Null,
        reports_tokens: false,
        exits: &[],
        grace: GRACE,
        limits: Limits::default(),
        supervisor: session.supervisor()?,
        redactor: session.redactor(),
    };
    match &config.settings {
        Settings::Demo => {
            runner.command = demo::command(&helpers::DEMO.write(&session.paths.embedded())?);
            runner.symbol = Some("HarnessAgent".into());
            runner.agent_python = Some(demo::agent_python(&runner));
            runner.protocol = demo::protocol();
        }
        Settings::Command(settings) => {
            runner.command.clone_from(&settings.command);
            let program = program_of(session, &mut runner.command, base)?;
            runner.options.clone_from(&settings.options);
            runner.symbol.clone_from(&settings.agent_symbol);
            runner.agent_python = AgentPython::of_command(&runner.command, &runner.environment, &runner.agent_file);
            if let Some(python) = runner.agent_python.as_mut().filter(|_| !settings.import_agent) {
                python.import = None;
            }
            runner.protocol = json!({
                "command": settings.command,
                "options": settings.options,
                "program": program,
            });
        }
        Settings::TerminalBench(settings) => {
            return Ok(Box::new(harbor_runner(session, settings, cancel).await?));
        }
        Settings::TauBench(settings) => tau_bench_runner(session, settings, &mut runner, cancel).await?,
        Settings::BirdInteract(_) => {
            bird_runner(session, &mut runner, cancel).await?;
            return Ok(Box::new(BirdRunner {
                bench: runner,
                scratch: session.paths.scratch().join("services"),
                log: session.paths.logs().join("services.log"),
                host: tokio::sync::Mutex::new(None),
            }));
        }
    }
    Ok(Box::new(runner))
}

/// BIRD-Interact as `prepare` left it.
async fn bird_runner(session: &Session, runner: &mut ProtocolRunner, cancel: &Cancel) -> Result<()> {
    let (paths, environment) = (&session.paths, &session.environment);
    let missing = || {
        Error::infrastructure("BIRD-Interact is not installed").hint("run `autoharness prepare`, which installs it.")
    };
    let wanted = bird_interact::Wanted::of(&session.config, &paths.root, environment).ok_or_else(missing)?;
    let places = wanted.places(&paths.state).ok_or_else(missing)?;
    let program = helpers::BIRD_INTERACT.write(&paths.embedded())?.join("bench.py");
    runner.command = [&places.python, Path::new("-B"), &program].map(|word| word.to_string_lossy().into_owned()).into();
    runner.environment = wanted.environment(environment);
    runner.options = bird::options(wanted.settings, &places);
    runner.symbol = Some(bird::AGENT_SYMBOL.into());
    runner.agent_python = Some(bird::agent_python(wanted.settings, &places, runner));
    let supervisor = session.supervisor()?;
    let around = Surroundings { root: &paths.root, state: &paths.state, environment, supervisor: &supervisor, cancel };
    let templates = bird_templates::digests(&wanted, &wanted.databases(), &around).await?;
    runner.protocol = bird::protocol(wanted.settings, &places, wanted.revision(), &templates)?;
    runner.reports_tokens = true;
    runner.exits = bird::EXITS;
    runner.grace = bird::GRACE;
    runner.limits = bird::LIMITS;
    let written = wanted.settings.pg_password.iter().map(|secret| secret.reveal().to_string());
    runner.redactor = Redactor::new(environment.secret_values().into_iter().chain(written));
    Ok(())
}

/// Harbor as `prepare` installed it, with the keys that it needs and no others.
async fn harbor_runner(session: &Session, settings: &TerminalBenchSettings, cancel: &Cancel) -> Result<HarborRunner> {
    let (config, paths, environment) = (&session.config, &session.paths, &session.environment);
    let supervisor = session.supervisor()?;
    let missing =
        || Error::infrastructure("harbor is not installed").hint("run `autoharness prepare`, which installs it.");
    let around = Surroundings { root: &paths.root, state: &paths.state, environment, supervisor: &supervisor, cancel };
    let wanted = Wanted::of(config, &paths.root, environment).ok_or_else(missing)?;
    let install = harbor::locate(&wanted, &around).await?.ok_or_else(missing)?;
    let mut pass: Vec<String> = harbor::child_variables(&settings.env_provider, config.agent_model.as_deref())
        .into_iter()
        .map(str::to_string)
        .collect();
    pass.extend(settings.referenced_variables());
    pass.extend(config.pass_env.iter().cloned());
    let telemetry = environment.get(harbor::TELEMETRY).filter(|value| !value.is_empty()).unwrap_or("0");
    let mut variables = environment.for_child(&pass, &[]);
    for (name, value) in [(harbor::TELEMETRY, telemetry), ("LITELLM_LOCAL_MODEL_COST_MAP", "True")] {
        variables.retain(|(known, _)| known != name);
        variables.push((name.into(), value.into()));
    }
    let local = |path: &str| match (path.strip_prefix("~/"), crate::provision::need::home(environment)) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => paths.root.join(path),
    };
    Ok(HarborRunner {
        install,
        dataset: match (&settings.dataset_path, &settings.registry_path) {
            (Some(path), _) => Dataset::Local(local(path)),
            (None, Some(registry)) => Dataset::Registry { name: settings.dataset.clone(), registry: local(registry) },
            (None, None) => Dataset::Remote(settings.dataset.clone()),
        },
        job: JobSettings {
            env_provider: settings.env_provider.clone(),
            environment_kwargs: settings.environment_kwargs.clone(),
            model: config.agent_model.clone(),
            agent_env: settings.agent_env.clone(),
            verifier_env: settings.verifier_env.clone(),
        },
        reasoning_effort: config.reasoning_effort.clone(),
        arguments: settings.harbor_args.clone(),
        agent_file: config.agent_file().into(),
        environment: variables,
        state: paths.state.join("harbor"),
        supervisor,
        redactor: session.redactor(),
        grace: HarborRunner::GRACE,
        listing: tokio::sync::OnceCell::new(),
        probe: Probe::default(),
    })
}

/// How long a conversation may take that has no configured limit: the helper's own bound, with grading.
const LONGEST_CONVERSATION: Duration = Duration::from_secs(3600 + 3600 / 4 + 15);

/// The helper in tau2's own environment, with the keys of the three models and no others.
async fn tau_bench_runner(
    session: &Session,
    settings: &TauBenchSettings,
    runner: &mut ProtocolRunner,
    cancel: &Cancel,
) -> Result<()> {
    let (config, paths, environment) = (&session.config, &session.paths, &session.environment);
    let missing =
        || Error::infrastructure("tau2 is not installed").hint("run `autoharness prepare`, which installs it.");
    let supervisor = session.supervisor()?;
    let around = Surroundings { root: &paths.root, state: &paths.state, environment, supervisor: &supervisor, cancel };
    let wanted = tau2::Wanted::of(config, &paths.root, environment).ok_or_else(missing)?;
    let install = tau2::locate(&wanted, &around).await?.ok_or_else(missing)?;
    let mut pass = wanted.child_variables();
    pass.extend(config.pass_env.iter().cloned());
    // litellm would otherwise ask the network for prices at every start.
    let own = [
        (tau2::DATA_VARIABLE.into(), install.data.clone().into()),
        ("LITELLM_LOCAL_MODEL_COST_MAP".into(), "True".into()),
    ];
    runner.environment = environment.for_child(&pass, &own);
    let helper = helpers::TAU_BENCH.write(&paths.embedded())?;
    runner.command = tau_bench::command(&install.python, &helper);
    runner.options = tau_bench::options(settings, config.seed, &install.data);
    runner.symbol = Some(tau_bench::AGENT_CLASS.into());
    runner.agent_python = Some(tau_bench::agent_python(&install.python, &helper, &install.data, runner));
    runner.protocol = tau_bench::protocol(settings, &install.release, &install.code);
    runner.reports_tokens = true;
    // Importing tau2 and litellm takes up to a quarter of a minute, much more on a busy machine.
    runner.limits.slack = Duration::from_secs(300);
    runner.limits.silence = LONGEST_CONVERSATION + runner.limits.slack;
    Ok(())
}

fn agent_settings(session: &Session) -> AgentSettings {
    let config = &session.config;
    AgentSettings {
        model: config.agent_model.clone(),
        user_model: config.user_model.clone(),
        reasoning_effort: config.reasoning_effort.clone(),
    }
}

/// Where the program is found and what it is, so that another one in its place changes the protocol. A program below the
/// experiment that is not committed (a virtual environment's python, say) is made absolute and known by its bytes.
fn program_of(session: &Session, command: &mut [String], base: &BaseTree) -> Result<Value> {
    let Some(program) = command.first_mut() else { return Ok(Value::Null) };
    if !program.contains('/') {
        let path = session.environment.get("PATH").map(std::ffi::OsString::from);
        return Ok(json!(which::which_in(&*program, path, &session.paths.root).ok()));
    }
    if program.starts_with('/') {
        return Ok(json!(program));
    }
    if base.get(program.trim_start_matches("./").as_bytes()).is_some() {
        return Ok(json!("committed"));
    }
    let path = session.paths.root.join(&*program);
    if !path.is_file() {
        return Err(Error::usage(format!(
            "the program `{program}` does not exist in {}",
            session.paths.root.display()
        ))
        .hint("commit it, or name another one in `command:`."));
    }
    let digest = digest_path(&fs_err::canonicalize(&path)?)?;
    *program = path.to_string_lossy().into_owned();
    Ok(json!({"path": program, "sha256": digest}))
}

/// One hash over every committed file in the copy that is run, but the agent's own: whatever is there, the benchmark or the
/// agent may read.
fn committed_files(session: &Session, base: &BaseTree) -> Result<String> {
    let editable = Editable::new(&session.config.editable)?;
    let base = base.without(&NotRead::new(&session.config.not_read)?);
    let list: Vec<(String, String)> = base
        .iter()
        .filter(|(path, _)| !editable.contains(path) && !is_unscored(path))
        .map(|(path, entry)| (show_path(path), format!("{:?} {}", entry.mode, entry.oid)))
        .collect();
    Ok(hash(json!(list).to_string().as_bytes()))
}

/// The packages of the Python that runs the agent, where it belongs to the benchmark. The system's own Python holds much that
/// has nothing to do with it.
fn packages(session: &Session, runner: &dyn BenchmarkRunner) -> Vec<String> {
    let Some(python) = runner.agent_python() else { return Vec::new() };
    let path = session.paths.root.join(&python.program);
    let of_its_own = path.ancestors().nth(2).is_some_and(|prefix| prefix.join("pyvenv.cfg").is_file());
    if of_its_own || !matches!(session.config.benchmark, Benchmark::Command | Benchmark::Demo) {
        return installed_packages(&path);
    }
    Vec::new()
}

/// SHA-256 of every provisioned file or directory.
///
/// # Errors
/// Usage when one is missing.
pub fn data_digests(session: &Session) -> Result<BTreeMap<String, String>> {
    let mut digests = BTreeMap::new();
    for path in &session.config.data {
        let full = session.paths.root.join(path);
        if full.symlink_metadata().is_err() {
            return Err(Error::usage(format!("data `{path}` does not exist: {}", full.display()))
                .hint("provide it, or remove it from `data:` in the configuration."));
        }
        digests.insert(path.clone(), digest_path(&full)?);
    }
    if let Some(wanted) = tau2::Wanted::of(&session.config, &session.paths.root, &session.environment) {
        for (name, path) in wanted.data_paths() {
            if !path.exists() {
                return Err(Error::usage(format!("tau2's data is not there: {}", path.display()))
                    .hint("`autoharness prepare` provides it; with `tau2_python` set, `tau2_data_dir` names it."));
            }
            digests.insert(name, digest_path(&path)?);
        }
    }
    Ok(digests)
}

/// Version of what the fingerprint is made of. An experiment prepared under another one is measured anew, because nobody
/// knows whether what was not in it has changed since.
pub const PROTOCOL_VERSION: u32 = 2;

/// Fingerprint of what one trial depends on beside the agent: benchmark, models, reasoning effort, time limit, seed, data,
/// upstream version, every other committed file. Trials are reused only under the same one.
///
/// # Errors
/// As the runner's part of it.
pub fn trial_protocol(
    session: &Session,
    runner: &dyn BenchmarkRunner,
    base: &BaseTree,
    data: &BTreeMap<String, String>,
) -> Result<String> {
    let config = &session.config;
    let protocol = json!({
        "version": PROTOCOL_VERSION,
        "benchmark": config.benchmark.as_str(),
        "runner": runner.protocol()?,
        "files": committed_files(session, base)?,
        "packages": packages(session, runner),
        "agent_model": config.agent_model,
        "user_model": config.user_model,
        "reasoning_effort": config.reasoning_effort,
        "per_task_timeout": config.per_task_timeout,
        "seed": config.seed,
        "data": data,
    });
    Ok(hash(protocol.to_string().as_bytes()))
}

/// Refuses an experiment that an earlier version prepared: its fingerprint left out what this version counts, so a score
/// under it cannot be compared with one of now.
///
/// # Errors
/// Usage when the experiment is not prepared, or was prepared under another version of the protocol.
pub fn require_version(session: &Session) -> Result<()> {
    if session.prepared()?.protocol_version == PROTOCOL_VERSION {
        return Ok(());
    }
    Err(Error::usage(format!(
        "this experiment was prepared by another version of autoharness, and {}",
        version_changed()
    ))
    .hint("a human runs `autoharness prepare --accept`, which measures the score to beat anew; nothing was judged."))
}

/// What another version of the protocol means, for people.
pub fn version_changed() -> &'static str {
    "what a score stands on is counted more closely now (every committed file, links in `data`, packages)"
}

/// The error for an experiment whose surroundings changed since it was prepared (another program, another upstream
/// version): its scores would not be comparable, and "no record yet" would let anything pass.
pub fn other_protocol() -> Error {
    Error::usage("the benchmark is not the one this experiment was prepared with (its program, version or files changed)")
        .hint("undo the change; a human who wants it runs `autoharness prepare --accept`, which measures the score to beat anew.")
}

/// The protocol fingerprint of a score: that of its trials, the split, how trials are counted.
pub fn protocol(session: &Session, trial_protocol: &str, split: &TaskSplit) -> String {
    let config = &session.config;
    let protocol = json!({
        "version": 1,
        "trials_run_under": trial_protocol,
        "split": split,
        "gate_split": config.gate_split,
        "timeout_policy": config.timeout_policy,
        "trials": config.trials,
    });
    hash(protocol.to_string().as_bytes())
}

/// The split the benchmark itself brings; `None` when its tasks have none.
///
/// # Errors
/// Usage when only some tasks have a split, or when the gate split is empty.
pub fn given_split(benchmark: Benchmark, tasks: &[TaskInfo], gate_split: Split) -> Result<Option<TaskSplit>> {
    let mut split = TaskSplit::default();
    let mut without = Vec::new();
    for task in tasks {
        match task.split {
            Some(Split::Train) => split.train.push(task.id.clone()),
            Some(Split::Test) => split.test.push(task.id.clone()),
            None => without.push(&task.id),
        }
    }
    if without.len() == tasks.len() {
        return Ok(None);
    }
    if let Some(task) = without.first() {
        return Err(Error::usage(format!(
            "the {benchmark} benchmark puts {} tasks into a split but not `{task}`",
            tasks.len() - without.len()
        ))
        .hint("give every task a split, or none: then a 70/30 split is drawn from the baseline."));
    }
    split.train.sort();
    split.test.sort();
    if split.tasks(gate_split).is_empty() {
        return Err(Error::usage(format!(
            "the {benchmark} benchmark lists no {gate_split} task, so nothing can be gated"
        ))
        .hint(
            "list hold-out tasks with split \"test\", or set `gate_split: train` knowing that nothing is held out.",
        ));
    }
    Ok(Some(split))
}

//! What is measured under which conditions: the configured runner and the protocol fingerprints.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::experiment::Experiment;
use super::session::{Reading, Session};
use crate::benchmarks;
use crate::benchmarks::runner::{BenchmarkRunner, TaskInfo};
use crate::config::Section;
use crate::error::{Code, Error, Result};
use crate::guard::staging::is_unscored;
use crate::guard::{BaseTree, Editable, NotRead, digest_path, show_path};
use crate::model::hash::hash;
use crate::model::split::TaskSplit;
use crate::model::trial::Split;
use crate::process::signals::Cancel;
use crate::provision::python_env::installed_packages;
use crate::store::event::Prepared;

/// The runner that the configuration asks for.
pub(super) async fn runner(session: &Session, base: &BaseTree, cancel: &Cancel) -> Result<Box<dyn BenchmarkRunner>> {
    let supervisor = session.supervisor()?;
    benchmarks::of(&session.config).runner(&session.ground(&supervisor, cancel), base).await
}

/// One hash over every committed file in the copy that is run, except the agent's own: the benchmark or the agent may read
/// any of them.
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

/// The packages of the Python that runs the agent, where it belongs to the benchmark. The system's own Python has many
/// packages that do not matter.
fn packages(session: &Session, runner: &dyn BenchmarkRunner) -> Vec<String> {
    let Some(python) = runner.agent_python() else { return Vec::new() };
    let path = session.paths.root.join(&python.program);
    let of_its_own = path.ancestors().nth(2).is_some_and(|prefix| prefix.join("pyvenv.cfg").is_file());
    if of_its_own || benchmarks::of(&session.config).brings_python() {
        return installed_packages(&path);
    }
    Vec::new()
}

/// SHA-256 of every provisioned file or directory.
/// Errors: usage when one is missing.
pub(super) fn data_digests(session: &Session) -> Result<BTreeMap<String, String>> {
    let mut digests = BTreeMap::new();
    for path in &session.config.data {
        let full = session.paths.root.join(path);
        if full.symlink_metadata().is_err() {
            return Err(Error::usage(format!("data `{path}` does not exist: {}", full.display()))
                .code(Code::DataChanged)
                .hint("provide it, or remove it from `data:` in the configuration."));
        }
        digests.insert(path.clone(), digest_path(&full)?);
    }
    let benchmark = benchmarks::of(&session.config);
    for (name, path) in benchmark.data_paths(&session.config, &session.paths.root, &session.environment)? {
        digests.insert(name, digest_path(&path)?);
    }
    Ok(digests)
}

/// What changed of the provisioned data since these digests were taken: a run takes hours.
pub(super) fn data_change(session: &Session, before: &BTreeMap<String, String>) -> Option<String> {
    let what = match data_digests(session) {
        Ok(now) => {
            let differs = |path: &&String| now.get(*path) != before.get(*path);
            let changed: BTreeSet<&String> = now.keys().chain(before.keys()).filter(differs).collect();
            changed.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        }
        Err(error) => error.to_string(),
    };
    (!what.is_empty())
        .then(|| format!("provisioned data was changed while the benchmark ran ({what}); none of its trials count"))
}

/// Version of the fingerprint's inputs. An experiment prepared under another one is measured anew, because inputs that were
/// not in it may have changed since.
pub(super) const PROTOCOL_VERSION: u32 = 2;

/// Fingerprint of what one trial depends on beside the agent: benchmark, models, reasoning effort, time limit, seed, data,
/// upstream version, every other committed file. Trials are reused only under the same one.
pub(super) fn trial_protocol(
    session: &Session,
    runner: &dyn BenchmarkRunner,
    base: &BaseTree,
    data: &BTreeMap<String, String>,
) -> Result<String> {
    let config = &session.config;
    let protocol = json!({
        "version": PROTOCOL_VERSION,
        "benchmark": config.benchmark.name(),
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

/// Opens a prepared experiment for a command that runs trials on it. Errors: usage when it is not prepared, or when its views, its
/// configuration or this program differ from those it was prepared with.
pub(super) fn open(experiment: Experiment) -> Result<(Session, Prepared, Cancel)> {
    let session = Session::open(experiment, Reading::Trials)?;
    let cancel = Cancel::on_signals()?;
    session.require_views()?;
    require_version(&session)?;
    session.require_same_config()?;
    let prepared = session.prepared()?.clone();
    Ok((session, prepared, cancel))
}

/// Refuses an experiment that an earlier version prepared: its fingerprint left out inputs that this version counts, so its
/// scores cannot be compared with present ones. Errors: usage when the experiment is not prepared, or was prepared under
/// another version of the protocol.
pub(super) fn require_version(session: &Session) -> Result<()> {
    if session.prepared()?.protocol_version == PROTOCOL_VERSION {
        return Ok(());
    }
    Err(Error::usage(format!(
        "this experiment was prepared by another version of autoharness, and {}",
        version_changed()
    ))
    .code(Code::OtherVersion)
    .hint("a human runs `autoharness prepare --accept`, which measures the score to beat anew; nothing was judged."))
}

/// What another version of the protocol means, for people.
pub(super) fn version_changed() -> &'static str {
    "what a score stands on is counted more closely now (every committed file, links in `data`, packages)"
}

/// The data that are not those prepared with.
pub(super) fn changed_data<'p>(
    prepared: &'p Prepared,
    now: &BTreeMap<String, String>,
) -> impl Iterator<Item = &'p String> {
    prepared.data.iter().filter_map(|(path, digest)| (now.get(path) != Some(digest)).then_some(path))
}

/// Refuses data other than that prepared with. Errors: usage, naming it.
pub(super) fn require_same_data(prepared: &Prepared, now: &BTreeMap<String, String>) -> Result<()> {
    let Some(path) = changed_data(prepared, now).next() else { return Ok(()) };
    Err(Error::usage(format!("data `{path}` is not what this experiment was prepared with"))
        .code(Code::DataChanged)
        .hint("restore it; a human who wants the change runs `autoharness prepare --accept`."))
}

/// Refuses to run trials under other conditions than those prepared with: no gate would find them. Errors: usage, naming the
/// data that differ.
pub(super) fn require_same_conditions(
    prepared: &Prepared,
    trial_protocol: &str,
    data: &BTreeMap<String, String>,
) -> Result<()> {
    require_same_data(prepared, data)?;
    if trial_protocol == prepared.trial_protocol { Ok(()) } else { Err(other_protocol()) }
}

/// The error for an experiment whose surroundings changed since it was prepared (another program, another upstream
/// version): its scores would not be comparable, and "no record yet" would let anything pass.
pub(super) fn other_protocol() -> Error {
    Error::usage("the benchmark is not the one this experiment was prepared with (its program, version or files changed)").code(Code::BenchmarkChanged)
        .hint("undo the change; a human who wants it runs `autoharness prepare --accept`, which measures the score to beat anew.")
}

/// The protocol fingerprint of a score: that of its trials, the split, how trials are counted.
pub(super) fn protocol(session: &Session, trial_protocol: &str, split: &TaskSplit) -> String {
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
/// Errors: usage when only some tasks have a split, or when the gate split is empty.
pub(super) fn given_split(
    benchmark: &'static dyn Section,
    tasks: &[TaskInfo],
    gate_split: Split,
) -> Result<Option<TaskSplit>> {
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
        .code(Code::SplitInvalid)
        .hint("give every task a split, or none: then a 70/30 split is drawn from the baseline."));
    }
    split.train.sort();
    split.test.sort();
    if split.tasks(gate_split).is_empty() {
        let hint = match gate_split {
            Split::Train => "list train tasks with split \"train\", or set `gate_split: test`.",
            Split::Test => {
                "list hold-out tasks with split \"test\", or set `gate_split: train` (by the rule `best` alone) knowing that \
                 nothing is held out."
            }
        };
        return Err(nothing_to_gate(&format!("the {benchmark} benchmark lists no {gate_split} task")).hint(hint));
    }
    Ok(Some(split))
}

/// Refuses a split drawn here that has nothing to gate on: measuring again would not change that. Errors: usage.
pub(super) fn require_gate_tasks(split: &TaskSplit, gate_split: Split) -> Result<()> {
    if !split.tasks(gate_split).is_empty() {
        return Ok(());
    }
    let tasks = match split.train.len() + split.test.len() {
        1 => "1 task".into(),
        tasks => format!("{tasks} tasks"),
    };
    let other = if gate_split == Split::Train { Split::Test } else { Split::Train };
    Err(nothing_to_gate(&format!("the split drawn from {tasks} has no {gate_split} task"))
        .hint(format!("give the benchmark more tasks, or set `gate_split: {other}`.")))
}

fn nothing_to_gate(why: &str) -> Error {
    Error::usage(format!("{why}, so nothing can be gated")).code(Code::SplitInvalid)
}

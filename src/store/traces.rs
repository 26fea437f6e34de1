//! Traces of train tasks: `traces/latest/<task>/` the newest, `traces/baseline/<task>/` the first ever seen,
//! `traces/best/<task>/` the newest of an agent that was recorded (or is the baseline's).

use std::borrow::Borrow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use walkdir::WalkDir;

use super::beneath::Dir;
use super::task_name::directory_name;
use crate::error::{Context, Kind, Result};
use crate::model::trial::{Outcome, TrialResult};
use crate::model::usage::Usage;

/// Where traces are, below the workspace.
/// Where traces are, below the workspace.
pub(crate) const DIRECTORY: &str = "traces";
const LATEST: &str = "traces/latest";
const BASELINE: &str = "traces/baseline";
const BEST: &str = "traces/best";

/// Keeps the trace and the result of one train trial. The first trace of a task becomes its baseline for good; that of a
/// `committed` agent is kept while others come and go. Trial 0 gives `trace.json` and `result.json`; further trials of the
/// same task `trace.1.json`, `result.1.json` and so on. Errors: usage when a link is in the way; infrastructure when the
/// disk refuses.
pub(crate) fn keep(workspace: &Path, agent: &str, committed: bool, result: &TrialResult) -> Result<()> {
    let files = Files::of(agent, result)?;
    let (workspace, name) = (Dir::make(workspace)?, directory_name(&result.task));
    let latest = workspace.make_below(&Path::new(LATEST).join(&name))?;
    files.write(&latest)?;
    keep_first(&workspace, &name, files.trial, || Ok(Some(&files)))?;
    if committed { share(&latest, files.trial, &workspace, &Path::new(BEST).join(&name)) } else { Ok(()) }
}

/// Writes a trial's files into the baseline, unless there are some. These are always separate files: writing into the
/// files of another place must not change the first ones.
fn keep_first<'f, F: Borrow<Files> + 'f>(
    workspace: &Dir,
    name: &Path,
    trial: u32,
    files: impl FnOnce() -> Result<Option<F>>,
) -> Result<()> {
    let baseline = workspace.make_below(&Path::new(BASELINE).join(name))?;
    if baseline.has(&file_name("result", trial)) {
        return Ok(());
    }
    files()?.map_or(Ok(()), |files| files.borrow().write(&baseline))
}

/// Puts a trial's files into another place as well.
fn share(from: &Dir, trial: u32, workspace: &Dir, place: &Path) -> Result<()> {
    let to = workspace.make_below(place)?;
    let trace = file_name("trace", trial);
    if !from.share(&trace, &to)? {
        // An older trial's trace beside the new result would mislead.
        to.remove(&trace)?;
    }
    from.share(&file_name("result", trial), &to).map(drop)
}

/// `result.json`, its fields in order.
#[derive(Serialize)]
struct ResultFile<'a> {
    task: &'a str,
    trial: u32,
    agent: &'a str,
    outcome: Outcome,
    reward: Option<f64>,
    seconds: Option<f64>,
    tokens_in: Option<u64>,
    tokens_out: Option<u64>,
    cost_usd: Option<f64>,
    error: Option<&'a str>,
    detail: Option<Value>,
}

/// The two files of a trial.
struct Files {
    trial: u32,
    trace: Option<Vec<u8>>,
    result: Vec<u8>,
}

impl Files {
    fn of(agent: &str, result: &TrialResult) -> Result<Files> {
        let Usage { seconds, tokens_in, tokens_out, cost_usd } = result.usage;
        let detail = result.detail.as_deref().map(RawValue::get);
        let summary = ResultFile {
            task: &result.task,
            trial: result.trial,
            agent,
            outcome: result.outcome,
            reward: result.reward,
            seconds,
            tokens_in,
            tokens_out,
            cost_usd,
            error: result.error.as_deref(),
            // JSON may hold numbers beyond those that its readers know; then it is kept as a text.
            detail: detail.map(|json| serde_json::from_str(json).unwrap_or_else(|_| json.into())),
        };
        let bytes = serde_json::to_vec_pretty(&summary);
        Ok(Files {
            trial: result.trial,
            trace: result.trace.as_ref().map(|trace| trace.get().into()),
            result: bytes.infra(|| format!("cannot write the result of {}", result.task))?,
        })
    }

    /// The files of a trial number in a directory, when they are there.
    fn read(directory: &Dir, trial: u32) -> Result<Option<Files>> {
        let Some(result) = directory.read(&file_name("result", trial))? else { return Ok(None) };
        Ok(Some(Files { trial, trace: directory.read(&file_name("trace", trial))?, result }))
    }

    fn write(&self, directory: &Dir) -> Result<()> {
        let trace = file_name("trace", self.trial);
        match &self.trace {
            Some(content) => directory.replace(&trace, content)?,
            // An older trial's trace beside the new result would mislead.
            None => directory.remove(&trace)?,
        }
        directory.replace(&file_name("result", self.trial), &self.result)
    }
}

/// The trial numbers that a directory has results of.
fn trials(directory: &Dir) -> Result<Vec<u32>> {
    let trial = |name: String| match name.strip_prefix("result.")?.strip_suffix("json")? {
        "" => Some(0),
        number => number.strip_suffix('.')?.parse().ok(),
    };
    Ok(directory.names()?.into_iter().filter_map(trial).collect())
}

/// The numbers of the trials of a task that are kept in a place, sorted.
pub(crate) fn trial_numbers(workspace: &Path, place: TracePlace, task: &str) -> Result<Vec<u32>> {
    if !workspace.exists() {
        return Ok(Vec::new());
    }
    let found = Dir::open(workspace)?.below(&Path::new(place.path()).join(directory_name(task)))?;
    let mut numbers = found.as_ref().map_or(Ok(Vec::new()), trials)?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// The agent whose trial a result is; `None` when there is no result, or it does not say.
fn agent_of(directory: &Dir, trial: u32) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Of {
        agent: String,
    }
    let result = directory.read(&file_name("result", trial))?;
    Ok(result.and_then(|result| Some(serde_json::from_slice::<Of>(&result).ok()?.agent)))
}

/// Writes `trace.json` and `result.json` into a directory that no other process writes to.
pub(crate) fn write(directory: &Path, agent: &str, result: &TrialResult) -> Result<()> {
    Files::of(agent, result)?.write(&Dir::make(directory)?)
}

fn file_name(stem: &str, trial: u32) -> String {
    if trial == 0 { format!("{stem}.json") } else { format!("{stem}.{trial}.json") }
}

/// Where this agent's newest trace of a task is, relative to the workspace; `None` when there is none.
pub(crate) fn place_of(workspace: &Path, task: &str, agent: &str) -> Option<PathBuf> {
    let name = directory_name(task);
    [LATEST, BEST].into_iter().map(|place| Path::new(place).join(&name)).find(|path| {
        let directory = Dir::open(workspace).and_then(|workspace| workspace.below(path));
        let found = directory.ok().flatten().and_then(|directory| agent_of(&directory, 0).ok().flatten());
        found.is_some_and(|found| found == agent)
    })
}

/// What can be read of a train task in the workspace: the trace and the result of its first trial and of its newest, unless
/// larger than `limit` bytes. Unreadable files are left out.
pub(crate) fn documents(workspace: &Path, task: &str, limit: usize) -> Vec<Vec<u8>> {
    let name = directory_name(task);
    let Ok(workspace) = Dir::open(workspace) else { return Vec::new() };
    let mut documents = Vec::new();
    for place in [BASELINE, LATEST] {
        let Ok(Some(directory)) = workspace.below(&Path::new(place).join(&name)) else { continue };
        for stem in ["trace", "result"] {
            documents.extend(directory.read(&file_name(stem, 0)).ok().flatten().filter(|bytes| bytes.len() <= limit));
        }
    }
    documents
}

/// Which of a task's kept trials is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TracePlace {
    Latest,
    /// The first ever seen.
    Baseline,
}

impl TracePlace {
    /// The word used in paths.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            TracePlace::Latest => "latest",
            TracePlace::Baseline => "baseline",
        }
    }

    fn path(self) -> &'static str {
        match self {
            TracePlace::Latest => LATEST,
            TracePlace::Baseline => BASELINE,
        }
    }
}

/// A file of a trial as it is in the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TraceFile {
    /// There is none, or something other than a file.
    Missing,
    /// It has this many bytes, more than were asked for.
    TooLarge(u64),
    Bytes(Vec<u8>),
}

/// A trial as it is in the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptTrial {
    /// Its directory, relative to the workspace.
    pub directory: PathBuf,
    /// The name of its trace in there, whether it is there or not.
    pub trace_name: String,
    /// `result.json`.
    pub result: TraceFile,
    /// `trace.json`.
    pub trace: TraceFile,
}

/// The files of a task's trial, each of at most `limit` bytes; `None` when both are missing. Errors: usage when a link
/// leads to them; infrastructure when the disk refuses.
pub(crate) fn kept(
    workspace: &Path,
    place: TracePlace,
    task: &str,
    trial: u32,
    limit: u64,
) -> Result<Option<KeptTrial>> {
    if !workspace.exists() {
        return Ok(None);
    }
    let directory = Path::new(place.path()).join(directory_name(task));
    let Some(found) = Dir::open(workspace)?.below(&directory)? else { return Ok(None) };
    let read = |stem: &str| {
        Ok::<_, crate::error::Error>(match found.read_within(&file_name(stem, trial), limit)? {
            None => TraceFile::Missing,
            Some(Err(bytes)) => TraceFile::TooLarge(bytes),
            Some(Ok(bytes)) => TraceFile::Bytes(bytes),
        })
    };
    let (result, trace) = (read("result")?, read("trace")?);
    let is_there = result != TraceFile::Missing || trace != TraceFile::Missing;
    Ok(is_there.then(|| KeptTrial { directory, trace_name: file_name("trace", trial), result, trace }))
}

/// Where the newest trace of a task is, whichever agent made it.
pub(crate) fn latest(task: &str) -> PathBuf {
    Path::new(LATEST).join(directory_name(task))
}

/// Makes sure that no link leads traces of these tasks elsewhere, before trials are paid for. Writing a trace detects a link
/// that was put there later. Errors: usage, naming the link.
pub(crate) fn refuse_links<'t>(workspace: &Path, tasks: impl Iterator<Item = &'t String>) -> Result<()> {
    let names: Vec<PathBuf> = tasks.map(|task| directory_name(task)).collect();
    if !workspace.exists() {
        return Ok(());
    }
    let workspace = Dir::open(workspace)?;
    for place in [LATEST, BASELINE, BEST] {
        let Some(place) = workspace.below(Path::new(place))? else { continue };
        let odd = place.but_directories()?;
        let clear = |name: &Path| name.iter().count() == 1 && !odd.contains(name.as_os_str());
        for name in names.iter().filter(|name| !clear(name)) {
            // What else is in the way shows when it is written to.
            match place.below(name) {
                Err(error) if error.kind() == Kind::Usage => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Moves privately kept traces of `tasks` into the workspace: the baseline of a benchmark whose split was drawn after it.
pub(crate) fn publish(private: &Path, workspace: &Path, tasks: &[String]) -> Result<()> {
    tasks.iter().try_for_each(|task| copy(private, &directory_name(task), workspace, |_| true))
}

/// Writes traces into the workspace that could not be written there when their trials ended. `committed`: the agent recorded last.
pub(crate) fn publish_pending(pending: &Path, workspace: &Path, committed: Option<&str>) -> Result<()> {
    if !pending.exists() {
        return Ok(());
    }
    let directories: Vec<PathBuf> = WalkDir::new(pending)
        .min_depth(1)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_dir())
        .filter_map(|entry| entry.path().strip_prefix(pending).map(Path::to_path_buf).ok())
        .collect();
    for name in directories {
        copy(pending, &name, workspace, |agent| Some(agent) == committed)?;
    }
    fs_err::remove_dir_all(pending).map_err(Into::into)
}

/// Brings a task's trials into the workspace, and those of a `committed` agent into `best`, too. Where they come from is
/// removed afterwards.
fn copy(from: &Path, name: &Path, workspace: &Path, committed: impl Fn(&str) -> bool) -> Result<()> {
    let Some(directory) = Dir::make(from)?.below(name)? else { return Ok(()) };
    let workspace = Dir::make(workspace)?;
    for trial in trials(&directory)? {
        share(&directory, trial, &workspace, &Path::new(LATEST).join(name))?;
        keep_first(&workspace, name, trial, || Files::read(&directory, trial))?;
        if agent_of(&directory, trial)?.is_some_and(|agent| committed(&agent)) {
            share(&directory, trial, &workspace, &Path::new(BEST).join(name))?;
        }
    }
    Ok(())
}

/// An agent was recorded: its traces become those of the committed agent. A task that the new agent did not run keeps the
/// previous agent's trace.
pub(crate) fn recorded(workspace: &Path, tasks: &[String], agent: &str) -> Result<()> {
    let workspace = Dir::make(workspace)?;
    for task in tasks {
        let name = directory_name(task);
        let Some(latest) = workspace.below(&Path::new(LATEST).join(&name))? else { continue };
        for trial in trials(&latest)? {
            if agent_of(&latest, trial)?.as_deref() == Some(agent) {
                share(&latest, trial, &workspace, &Path::new(BEST).join(&name))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whatever_a_benchmark_says_of_a_reward_is_kept() {
        for (detail, kept) in [
            (r#"{"checks": [1, 2]}"#, json!({"checks": [1, 2]})),
            (r#"{"beyond": 1e999}"#, json!(r#"{"beyond": 1e999}"#)),
            ("null", Value::Null),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let result = TrialResult {
                task: "t".into(),
                trial: 0,
                outcome: Outcome::Passed,
                reward: Some(1.0),
                usage: Usage::default(),
                error: None,
                trace: None,
                detail: Some(RawValue::from_string(detail.into()).unwrap()),
            };
            write(directory.path(), "a", &result).unwrap();
            let text = fs_err::read_to_string(directory.path().join("result.json")).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["detail"], kept);
        }
    }
}

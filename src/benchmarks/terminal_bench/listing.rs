//! The tasks of a Harbor dataset as Harbor itself sees them, with their limits and exact names.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::benchmarks::trial_protocol::line::one_line;
use crate::error::{Code, Context as _, Error, Result};
use crate::guard::digest_path;
use crate::model::hash::hash;
use crate::process::signals::Cancel;
use crate::process::{Command, Limits, Supervisor, run_captured};
use crate::store::atomic;

const PROGRAM: &str = include_str!("helper/tasks.py");

/// Downloading a dataset may take long; nothing is paid for meanwhile.
const TIME: Duration = Duration::from_secs(3600);
/// About 50,000 tasks.
const OUTPUT: usize = 64 * 1024 * 1024;

/// Raised when the listing program reports more than before: kept lists are then made anew.
const FORMAT: u32 = 2;

/// Where the tasks come from. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dataset {
    /// A directory of tasks.
    Local(PathBuf),
    /// `name[@version]`, looked up in a registry file.
    Registry { name: String, registry: PathBuf },
    /// `name[@version]` or `org/name[@ref]`, looked up by Harbor.
    Remote(String),
}

impl Dataset {
    /// What makes two datasets the same, for the protocol fingerprint.
    ///
    /// # Errors
    /// Usage when a local file is missing.
    pub fn protocol(&self) -> Result<Value> {
        let digest = |path: &Path, key: &str| {
            if path.exists() {
                return digest_path(path);
            }
            Err(Error::usage(format!("`{key}` does not exist: {}", path.display()))
                .code(Code::ConfigInvalid)
                .hint("correct the path in the configuration."))
        };
        Ok(match self {
            Dataset::Local(path) => serde_json::json!({"directory": digest(path, "dataset_path")?}),
            Dataset::Registry { name, registry } => {
                serde_json::json!({"name": name, "registry": digest(registry, "registry_path")?})
            }
            Dataset::Remote(name) => serde_json::json!({"name": name}),
        })
    }

    fn arguments(&self) -> Vec<OsString> {
        match self {
            Dataset::Local(path) => vec!["--path".into(), path.into()],
            Dataset::Registry { name, registry } => {
                vec!["--registry".into(), registry.into(), "--dataset".into(), name.into()]
            }
            Dataset::Remote(name) => vec!["--dataset".into(), name.into()],
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct ListedTask {
    /// What results call it.
    pub id: String,
    /// Further names that mean this task and no other.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Its entry in a job: exact, never a pattern.
    pub config: serde_json::Map<String, Value>,
    /// Its own limit for the agent, in seconds; `None`: it has none.
    pub agent_timeout_sec: Option<f64>,
    /// Its limit for the tests, in seconds.
    pub verifier_timeout_sec: Option<f64>,
    /// Its limit for building the sandbox, in seconds.
    pub build_timeout_sec: Option<f64>,
    /// Steps of the agent, at least 1.
    pub steps: Option<u32>,
    /// Whether its tests write `reward.json`; `None` when their text does not tell.
    #[serde(default)]
    pub tests_write_json: Option<bool>,
}

/// All tasks of a dataset.
#[derive(Debug, Deserialize)]
pub struct Listing {
    /// In the dataset's order.
    pub tasks: Vec<ListedTask>,
    #[serde(default)]
    errors: Vec<TaskError>,
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    error: Option<String>,
    #[serde(skip)]
    by_name: HashMap<String, usize>,
}

#[derive(Debug, Deserialize)]
struct TaskError {
    task: String,
    error: String,
}

impl Listing {
    /// Reads what the listing program printed.
    ///
    /// # Errors
    /// Usage when the dataset or one of its tasks cannot be read.
    pub fn parse(bytes: &[u8]) -> Result<Listing> {
        let mut listing: Listing = serde_json::from_slice(bytes).infra(|| "the list of tasks makes no sense".into())?;
        if !listing.ok {
            let why = listing.error.unwrap_or_else(|| "no reason was given".into());
            return Err(Error::usage(format!("Harbor cannot read the dataset: {}", one_line(&why)))
                .code(Code::BenchmarkFailed)
                .hint("check `dataset`, `dataset_path` and `registry_path`, and the network."));
        }
        if let Some(first) = listing.errors.first() {
            let more = listing.errors.len() - 1;
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            return Err(Error::usage(format!(
                "the dataset has a task that Harbor cannot run: {}: {}{more}",
                first.task,
                one_line(&first.error)
            ))
            .code(Code::BenchmarkFailed)
            .hint("fix or remove the task: Harbor itself would drop it without a word."));
        }
        if listing.tasks.is_empty() {
            return Err(Error::usage("the dataset has no tasks").code(Code::BenchmarkFailed));
        }
        for (index, task) in listing.tasks.iter().enumerate() {
            for name in &task.aliases {
                listing.by_name.entry(name.clone()).or_insert(index);
            }
        }
        // A task's own id wins over another's alias.
        for (index, task) in listing.tasks.iter().enumerate() {
            listing.by_name.insert(task.id.clone(), index);
        }
        Ok(listing)
    }

    /// The task with this id or alias.
    pub fn find(&self, name: &str) -> Option<&ListedTask> {
        self.by_name.get(name).map(|index| &self.tasks[*index])
    }

    /// The existing id closest to an unknown one.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        let distance = |task: &&ListedTask| strsim::damerau_levenshtein(name, &task.id);
        let near = self.tasks.iter().min_by_key(distance)?;
        (distance(&near) <= (near.id.len() / 3).max(1)).then_some(near.id.as_str())
    }
}

/// How the listing program is run.
#[derive(Debug)]
pub(crate) struct Lister<'a> {
    /// Harbor's interpreter.
    pub python: &'a Path,
    /// Harbor's version: another one may see other tasks.
    pub version: &'a str,
    pub environment: Vec<(OsString, OsString)>,
    /// Directory of Harbor's own below the state directory: the program, downloads and lists are kept there.
    pub state: &'a Path,
    pub supervisor: &'a Supervisor,
}

impl Lister<'_> {
    /// Lists the tasks. A remote dataset is listed once and then kept, so that later commands mean the very same tasks,
    /// whatever a name like `head` means by then.
    pub(crate) async fn list(&self, dataset: &Dataset, cancel: &Cancel) -> Result<Listing> {
        fs_err::create_dir_all(self.state)?;
        let kept = self.kept(dataset)?;
        if let Some(bytes) = kept.as_deref().and_then(|path| fs_err::read(path).ok())
            && let Ok(listing) = Listing::parse(&bytes)
        {
            return Ok(listing);
        }
        let program = self.state.join("tasks.py");
        if fs_err::read(&program).ok().as_deref() != Some(PROGRAM.as_bytes()) {
            atomic::replace(&program, PROGRAM.as_bytes())?;
        }
        let mut arguments: Vec<OsString> = vec![program.into()];
        arguments.extend(dataset.arguments());
        arguments.extend(["--download-dir".into(), self.state.join("tasks").into()]);
        let command = Command::new(self.python, self.state).args(arguments).env(self.environment.clone());
        let said = run_captured(self.supervisor, command, Limits { time: TIME, output: OUTPUT }, cancel).await?;
        if said.stdout.is_empty() {
            return Err(said.check("list the tasks of the dataset").err().unwrap_or_else(|| {
                Error::infrastructure("cannot list the tasks of the dataset: the listing program printed nothing")
                    .code(Code::BenchmarkFailed)
            }));
        }
        let listing = Listing::parse(&said.stdout)?;
        if let Some(path) = kept {
            atomic::replace(&path, &said.stdout)?;
        }
        Ok(listing)
    }

    fn kept(&self, dataset: &Dataset) -> Result<Option<PathBuf>> {
        let name = match dataset {
            Dataset::Local(_) => return Ok(None),
            other => hash(serde_json::json!([other.protocol()?, self.version, FORMAT]).to_string().as_bytes()),
        };
        Ok(Some(self.state.join(format!("tasks-{}.json", &name[..16]))))
    }
}

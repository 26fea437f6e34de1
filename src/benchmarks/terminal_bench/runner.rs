//! Any Harbor dataset, through the real `harbor run`: one process per run, read while it works.
//!
//! Harbor's exit status proves nothing. Only its files count: `watch` follows them, `judgement` judges them, `job`
//! writes Harbor's job, `log` reads its output if files are missing, and `run` drives one run and ends it cleanly.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::fenced::HELPER;
use super::harbor::is_held_out;
pub use super::harbor::{HarborInstall, HarborRunner};
use super::job;
use super::listing::{ListedTask, Lister, Listing};
use super::run::HarborRun;
use crate::benchmarks::agent_python::{AgentPython, Import, Way, module_name};
use crate::benchmarks::runner::{BenchmarkRunner, BoxFuture, Catalogue, RunReport, RunRequest, Sink, TaskInfo};
use crate::error::{Code, Error, Result};
use crate::fence::Layers;
use crate::process::signals::Cancel;

/// The class that the agent file must define.
pub(crate) const AGENT_CLASS: &str = "HarnessAgent";

impl HarborRunner {
    async fn listing(&self, cancel: &Cancel) -> Result<&Listing> {
        self.listing
            .get_or_try_init(|| async {
                let lister = Lister {
                    python: &self.install.python,
                    version: &self.install.version,
                    environment: self.environment.clone(),
                    state: &self.state,
                    supervisor: &self.supervisor,
                };
                lister.list(&self.dataset, cancel).await
            })
            .await
    }

    async fn list(&self, cancel: &Cancel) -> Result<Catalogue> {
        let listing = self.listing(cancel).await?;
        let info = |task: &ListedTask| TaskInfo { id: task.id.clone(), split: None, limit_s: task.agent_timeout_sec };
        Ok(Catalogue { tasks: listing.tasks.iter().map(info).collect(), ..Catalogue::default() })
    }

    async fn run_trials(&self, request: &RunRequest, sink: Sink, cancel: &Cancel) -> Result<RunReport> {
        cancel.check()?;
        let listing = self.listing(cancel).await?;
        let tasks = find_all(listing, request)?;
        let mut import_path = job::import_path(&self.agent_file, AGENT_CLASS)?;
        if let Some(fenced) = &self.fenced {
            let in_steps = tasks.iter().any(|task| task.steps.is_some_and(|steps| steps > 1));
            import_path = fenced.stand_in(request, &import_path, in_steps, !is_held_out(request))?.to_owned();
        }
        HarborRun::new(self, request, listing, tasks, import_path, sink)?.carry_out(cancel).await
    }
}

fn find_all<'a>(listing: &'a Listing, request: &RunRequest) -> Result<Vec<&'a ListedTask>> {
    let unknown: Vec<&String> = request.tasks.iter().filter(|task| listing.find(task).is_none()).collect();
    let Some(first) = unknown.first() else {
        return Ok(request.tasks.iter().filter_map(|task| listing.find(task)).collect());
    };
    let message = if is_held_out(request) {
        format!("{} task(s) of this run do not exist in the dataset (anymore)", unknown.len())
    } else {
        let more = unknown.len() - 1;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        format!("the dataset has no task `{first}`{more}")
    };
    let error = Error::usage(message).code(Code::UnknownTask);
    Err(match listing.nearest(first).filter(|_| !is_held_out(request)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("if the dataset has changed, a human runs `autoharness prepare --accept`."),
    })
}

impl BenchmarkRunner for HarborRunner {
    fn protocol(&self) -> Result<Value> {
        Ok(json!({
            "harbor": self.install.version,
            "helper": HELPER.fingerprint(),
            "dataset": self.dataset.protocol()?,
            "env_provider": self.job.env_provider,
            "environment_kwargs": self.job.environment_kwargs,
            "agent_env": self.job.agent_env,
            "verifier_env": self.job.verifier_env,
            "arguments": self.arguments,
        }))
    }

    fn agent_symbol(&self) -> Option<&str> {
        Some(AGENT_CLASS)
    }

    fn agent_python(&self) -> Option<AgentPython> {
        let environment = self.with_models(self.environment.clone());
        // From the top of the copy, which is on Harbor's PYTHONPATH.
        let import = Import {
            first: vec![PathBuf::new()],
            ways: vec![Way::Module(module_name(&self.agent_file)?)],
            behind: self.fenced.as_ref().map(|fenced| fenced.fencing.words.clone()).unwrap_or_default(),
            ..Import::default()
        };
        Some(AgentPython::new(&self.install.python, environment, import))
    }

    fn reports_tokens(&self) -> bool {
        true
    }

    fn fence(&self) -> Option<&Layers> {
        self.fenced.as_ref().map(|fenced| &fenced.fencing.layers)
    }

    fn untried(&self) -> Option<String> {
        self.install.untried()
    }

    fn tasks<'a>(&'a self, _staging: &'a Path, _log: &'a Path, cancel: &'a Cancel) -> BoxFuture<'a, Result<Catalogue>> {
        Box::pin(self.list(cancel))
    }

    fn run<'a>(&'a self, request: &'a RunRequest, sink: Sink, cancel: &'a Cancel) -> BoxFuture<'a, Result<RunReport>> {
        Box::pin(self.run_trials(request, sink, cancel))
    }
}

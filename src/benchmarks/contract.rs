//! What a benchmark is to the rest of the program: a folder here that implements [`Benchmark`], and its line in the registry.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::runner::{BoxFuture, NewRunner};
use crate::config::{Config, Environment, Section};
use crate::error::{Error, Result};
use crate::guard::BaseTree;
use crate::paths::Paths;
use crate::process::signals::Cancel;
use crate::process::{Redactor, Supervisor};
use crate::provision::{Finding, Surroundings};

/// What a benchmark may know of the experiment: no ledger, no lock, no views.
pub struct Ground<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Where everything is.
    pub paths: &'a Paths,
    /// Process environment and `.env`.
    pub environment: &'a Environment,
    /// Starts child processes.
    pub supervisor: &'a Supervisor,
    /// Fires on Ctrl-C and the like.
    pub cancel: &'a Cancel,
}

impl Ground<'_> {
    /// Where children are looked up and run.
    pub fn around(&self) -> Surroundings<'_> {
        Surroundings {
            root: &self.paths.root,
            state: &self.paths.state,
            environment: self.environment,
            supervisor: self.supervisor,
            cancel: self.cancel,
        }
    }

    /// Removes secrets from the output of children.
    pub fn redactor(&self) -> Redactor {
        Redactor::new(self.environment.secret_values())
    }
}

/// How closely a benchmark checks its surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What must be there before anything is made or paid for: seconds.
    Needed,
    /// Everything that can be tried for free: a minute or two.
    Everything,
}

/// What a benchmark knows about the coming run when it tries out for free what that run depends on.
#[derive(Debug)]
pub struct Rehearsal<'a> {
    /// A staged copy of the experiment.
    pub staging: &'a Path,
    /// Whether its agent is the benchmark's template, unchanged.
    pub is_template: bool,
}

/// The texts of a new experiment.
#[derive(Debug, Clone, Copy)]
pub struct Scaffold {
    /// A weak but honest starting agent.
    pub agent: &'static str,
    /// What PROGRAM.md says about this benchmark.
    pub program: &'static str,
    /// Further files: path in the experiment, text.
    pub files: &'static [(&'static str, &'static str)],
    /// What git ignores of what this benchmark provisions, in the form of `.gitignore`.
    pub ignored: &'static [&'static str],
    /// Whether nothing is left to be set up after `init`.
    pub is_ready: bool,
}

/// Which interpreter runs the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// The program; `None` while it is not installed, or not known at all.
    pub program: Option<OsString>,
    /// The program of the user that runs the agent in a way that is not known.
    pub hidden_in: Option<String>,
}

/// Receives, line by line, what is being installed.
pub(crate) type Say<'a> = &'a dyn Fn(String);

/// A benchmark. Everything has a default, except what every benchmark must define.
pub trait Benchmark: Section {
    /// The texts of a new experiment.
    fn scaffold(&self) -> Scaffold;

    /// The runner that the configuration asks for. `base` is the tree of the base commit.
    /// Errors: infrastructure when its files cannot be written out or what it stands on is not installed.
    fn runner<'a>(&'a self, ground: &'a Ground<'a>, base: &'a BaseTree) -> NewRunner<'a>;

    /// The Python that must be on this machine whatever is provisioned; `None` when none is needed.
    fn system_python(&self, config: &Config) -> Option<String> {
        config.agent_file().ends_with(".py").then(|| "python3".into())
    }

    /// The interpreter that parses, imports and runs the agent.
    /// Errors: `Interrupted`; an installation that cannot be used is a finding.
    fn interpreter<'a>(&'a self, ground: &'a Ground<'a>) -> BoxFuture<'a, Result<Interpreter>>;

    /// Whether the agent's Python is the benchmark's own, so that its packages are part of what a score stands on. Where it
    /// is not, `protocol` says what of the user's Python belongs to a score.
    fn brings_python(&self) -> bool {
        true
    }

    /// What can be checked without starting a process, for commands that run often.
    fn quick(&self, _config: &Config, _root: &Path, _environment: &Environment) -> Vec<Finding> {
        Vec::new()
    }

    /// Everything it needs. A finding replaces those of [`Benchmark::quick`] with the same name.
    /// Errors: `Interrupted`; what is missing is a finding, not an error.
    fn findings<'a>(&'a self, _ground: &'a Ground<'a>, _depth: Depth) -> BoxFuture<'a, Result<Vec<Finding>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Installs what it needs and this machine lacks.
    /// Errors: usage for what the user must fix, infrastructure when an installation fails; `Interrupted`.
    fn provide<'a>(&'a self, _ground: &'a Ground<'a>, _say: Say<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Tries out, without keys and without money, what a run depends on. `None` when there is nothing to try. Errors:
    /// usage when the agent cannot be used, infrastructure when what is installed does not work; `Interrupted`.
    fn rehearse<'a>(
        &'a self,
        _ground: &'a Ground<'a>,
        _rehearsal: &'a Rehearsal<'a>,
        _say: Say<'a>,
    ) -> BoxFuture<'a, Result<Option<Finding>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Provisioned data that must keep its digest, with a name that is the same wherever it lies.
    /// Errors: usage when it is not there.
    fn data_paths(&self, _config: &Config, _root: &Path, _environment: &Environment) -> Result<Vec<(String, PathBuf)>> {
        Ok(Vec::new())
    }

    /// The directory of the split file, for benchmarks that had one in the original.
    fn split_directory(&self) -> Option<&'static str> {
        None
    }

    /// The configuration line that switches off the import of the agent file, if there is one.
    fn import_switch(&self) -> Option<&'static str> {
        None
    }

    /// The configuration for another domain of the benchmark; `None` when it is the configured one.
    /// Errors: usage when the benchmark has no domains, or not this one.
    fn with_domain(&self, _config: &Config, domain: &str) -> Result<Option<Config>> {
        Err(Error::usage(format!("--domain {domain}: {} has no domains", self.name()))
            .hint("leave out --domain; it is for benchmarks that have several."))
    }
}

//! Finding an experiment, and what we know about it before anything is locked.

use std::path::Path;

use crate::benchmarks;
use crate::cli::Global;
use crate::config::{CONFIG_FILE, Config, Environment};
use crate::error::{Code, Error, Result};
use crate::guard::Repo;
use crate::paths::{Paths, STATE_VARIABLE};
use crate::process::Supervisor;
use crate::report::history::History;
use crate::store::checkpoint::Checkpoint;
use crate::store::ledger::Entry;
use crate::store::state::State;
use crate::store::summary::Summary;
use crate::ui::Ui;

const TEMPLATE_FILE: &str = "experiment_config.yaml.template";

/// What every command knows about an experiment before it takes the lock.
pub(super) struct Experiment {
    pub ui: Ui,
    pub paths: Paths,
    pub environment: Environment,
    /// The repository, read-only.
    pub repo: Repo,
}

impl Experiment {
    /// Finds the experiment: in the directory named, or from the current one upwards, as git finds its repository.
    /// Errors: usage when the directory or the repository is missing.
    pub(super) fn find(global: &Global, ui: &Ui) -> Result<Experiment> {
        let here = Paths::new(global.here(), global.config.as_deref())?;
        let is_told = global.directory.is_some() || global.config.is_some();
        // An experiment may have lost its configuration; one that is named is a typing error.
        if global.config.is_some() && !here.config.exists() {
            return Err(Error::usage(format!("{} does not exist", here.config.display()))
                .code(Code::ConfigMissing)
                .hint("correct `--config`: it names a file from where you are."));
        }
        match above(&here.root).filter(|_| !is_told) {
            Some(above) if !has_ledger(&here.root) => {
                ui.status(format!("experiment: {} (files are named from there)", above.display()));
                Experiment::at(Paths::new(above, None)?, ui)
            }
            _ => Experiment::at(here, ui),
        }
    }

    fn at(paths: Paths, ui: &Ui) -> Result<Experiment> {
        let environment = Environment::load(&paths.root)?;
        let repo = Repo::open(&paths.root)?;
        // Not from `.env`: the coding agent can write that file.
        let chosen =
            environment.process(STATE_VARIABLE).filter(|value| !value.is_empty()).map(std::path::PathBuf::from);
        let paths = with_state(paths, &repo, chosen.as_deref())?;
        if !paths.config.exists() && !paths.ledger().exists() {
            return Err(no_experiment(&paths));
        }
        Ok(Experiment { ui: ui.clone(), paths, environment, repo })
    }

    /// Reads the configuration and prints its warnings.
    pub(super) fn config(&self) -> Result<Config> {
        let config = benchmarks::load(&self.paths.config)?;
        config.warnings.iter().for_each(|warning| self.ui.warn(warning));
        Ok(config)
    }

    /// The checkpoint when it is up to date, else the replayed ledger. Takes no lock and writes nothing.
    pub(super) fn read_summary(&self) -> Result<Summary> {
        match Checkpoint::load(&self.paths.checkpoint()) {
            Some(checkpoint) if checkpoint.is_current(&self.paths.ledger())? => Ok(checkpoint.summary),
            _ => Ok(self.read_state()?.summary),
        }
    }

    /// Everything that the ledger adds up to, for commands that only look.
    pub(super) fn read_state(&self) -> Result<State> {
        let ledger = self.paths.ledger();
        // Reading names the line that is wrong, so it comes first.
        let (state, _) = State::replay(&ledger)?;
        self.require_continued(&ledger)?;
        Ok(state)
    }

    /// The ledger with its single trials, for commands that show it. Takes no lock and writes nothing.
    pub(super) fn read_history(&self) -> Result<History> {
        self.read_history_and(|_| {})
    }

    /// As [`Experiment::read_history`]; each line of the ledger is shown to `also`.
    pub(super) fn read_history_and(&self, also: impl FnMut(&Entry<'_>)) -> Result<History> {
        let ledger = self.paths.ledger();
        let history = History::read(&ledger, also)?;
        self.require_continued(&ledger)?;
        Ok(history)
    }

    /// The ledger goes on from where the last command left it.
    fn require_continued(&self, ledger: &Path) -> Result<()> {
        match Checkpoint::load(&self.paths.checkpoint()) {
            Some(checkpoint) => checkpoint.require_continued(ledger),
            None => Ok(()),
        }
    }

    /// A supervisor for child processes.
    pub(super) fn supervisor(&self) -> Result<Supervisor> {
        Supervisor::new(self.paths.processes())
    }
}

/// The first directory above this one that holds an experiment, when this one holds none. A fresh clone has only the
/// template: then the message says how to go on from there, and an experiment further up is not used instead.
fn above(directory: &Path) -> Option<&Path> {
    let holds = |place: &&Path| [CONFIG_FILE, TEMPLATE_FILE].iter().any(|name| place.join(name).is_file());
    directory.ancestors().find(holds).filter(|found| *found != directory)
}

/// Whether an experiment was prepared in this very directory: its configuration may be lost.
fn has_ledger(directory: &Path) -> bool {
    let paths = || with_state(Paths::new(directory, None)?, &Repo::open(directory)?, None);
    paths().is_ok_and(|paths| paths.ledger().exists())
}

/// The paths with the state directory: the chosen one, or that in the repository.
fn with_state(paths: Paths, repo: &Repo, chosen: Option<&Path>) -> Result<Paths> {
    paths.with_state(chosen, repo.common_dir(), &String::from_utf8_lossy(repo.prefix()))
}

/// Neither configuration nor history: most likely the wrong directory.
fn no_experiment(paths: &Paths) -> Error {
    let error = Error::usage(format!("{} does not exist: there is no experiment here", paths.config.display()))
        .code(Code::NoExperiment);
    let has = |directory: &&std::path::Path| directory.join(CONFIG_FILE).exists();
    if paths.root.join(TEMPLATE_FILE).exists() {
        return error.hint(format!("git does not carry it: run `cp {TEMPLATE_FILE} {CONFIG_FILE}` and set it up."));
    }
    if let Some(above) = paths.root.ancestors().skip(1).find(has) {
        return error.hint(format!("{} is one: go there, or add `-C {0}`.", above.display()));
    }
    error.hint(
        "go to the experiment, or name it with `-C DIR`; `autoharness init DIR --benchmark demo` makes a new one.",
    )
}

//! What a configuration wants of BIRD-Interact, and where it is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::clone;
use super::config::BirdInteractSettings;
use super::request::{self as bench, Places};
use crate::config::{Config, Environment};
use crate::guard::Repo;
use crate::provision::model_keys;
use crate::provision::need::{find_program, home};
use crate::provision::python::Range;
use crate::provision::python_env::{self, Spec};

/// The directory of the checkout that `prepare` makes; git ignores it in an experiment.
const CHECKOUT: &str = "bird_interact_adk";

/// The directory of the services in a checkout.
pub(super) const ADK: &str = "BIRD-Interact-ADK";

/// What the pinned packages were tested with, and the next one they have wheels for.
const PYTHON: Range = Range { min: 11, below: 14 };

/// What a configuration asks for.
#[derive(Debug, Clone)]
pub(crate) struct BirdSetup<'a> {
    /// The settings of this benchmark.
    pub settings: &'a BirdInteractSettings,
    pub(super) config: &'a Config,
    /// The checkout, and whether it is the one that `prepare` makes.
    pub(super) checkout: PathBuf,
    pub(super) own: bool,
    pub(super) python: Option<PathBuf>,
    pub(super) data: Option<PathBuf>,
}

impl<'a> BirdSetup<'a> {
    /// What a configuration of this benchmark asks for.
    pub(crate) fn of(config: &'a Config, root: &Path, environment: &Environment) -> BirdSetup<'a> {
        let settings: &BirdInteractSettings = config.own();
        let path = |written: &str| match (written.strip_prefix("~/"), home(environment)) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => root.join(written),
        };
        let program = |written: &String| match written.contains('/') {
            true => path(written),
            false => find_program(environment, root, written).unwrap_or_else(|| root.join(written)),
        };
        BirdSetup {
            settings,
            config,
            checkout: settings.repo.as_deref().map_or_else(|| root.join(CHECKOUT), path),
            own: settings.repo.is_none(),
            python: settings.python.as_ref().map(program),
            data: settings.data_path.as_deref().map(path),
        }
    }

    /// The directory of the services: the checkout may be named, or this directory itself.
    pub(super) fn adk(&self) -> PathBuf {
        let inner = self.checkout.join(ADK);
        if inner.is_dir() || !self.checkout.join("orchestrator").is_dir() { inner } else { self.checkout.clone() }
    }

    pub(super) fn data(&self) -> PathBuf {
        let inside = || self.adk().join(format!("bird-interact-{}/bird_interact_data.jsonl", self.set()));
        self.data.clone().unwrap_or_else(inside)
    }

    /// Whether the user has named the file with the tasks.
    pub(super) fn names_data(&self) -> bool {
        self.data.is_some()
    }

    pub(super) fn set(&self) -> &'static str {
        self.settings.dataset.as_str()
    }

    pub(super) fn has_checkout(&self) -> bool {
        self.adk().join("orchestrator").is_dir() && !clone::is_unfinished(&self.checkout)
    }

    pub(super) fn interpreter(&self, state: &Path) -> Option<PathBuf> {
        match &self.python {
            Some(python) => python.is_file().then(|| python.clone()),
            None => Some(python_env::find(&spec(), state)?.python),
        }
    }

    /// Where everything is; `None` while the checkout or the interpreter is missing.
    pub(crate) fn places(&self, state: &Path) -> Option<Places> {
        let python = self.interpreter(state).filter(|_| self.has_checkout())?;
        Some(Places { python, adk: self.adk(), data: self.data() })
    }

    /// The checkout's commit, where it is a git repository of its own.
    pub(crate) fn revision(&self) -> Option<String> {
        let top =
            [self.checkout.as_path(), self.checkout.parent()?].into_iter().find(|top| top.join(".git").exists())?;
        // The directory may lie in an unrelated repository, whose commits say nothing.
        (top == self.checkout || self.checkout.ends_with(ADK)).then(|| Repo::open(top).ok()?.head().ok()?)?
    }

    /// The helper's complete environment: the keys of the models, the database's password, and what the user names.
    pub(crate) fn environment(&self, environment: &Environment) -> Vec<(OsString, OsString)> {
        let models = [self.config.agent_model.as_deref(), self.config.user_model.as_deref()];
        let keys = models.into_iter().flat_map(model_keys::variables).map(str::to_string);
        let mut pass: Vec<String> = keys.collect();
        pass.push(self.settings.pg_password_env.clone());
        pass.extend(self.config.pass_env.iter().cloned());
        let password =
            self.password(environment).map(|secret| (self.settings.pg_password_env.clone().into(), secret.into()));
        environment.for_child(&pass, &password.into_iter().collect::<Vec<_>>())
    }

    /// PostgreSQL's password; `None`: logins are tried without.
    pub(super) fn password(&self, environment: &Environment) -> Option<String> {
        let variable = &self.settings.pg_password_env;
        let set = environment.get(variable).filter(|value| !value.is_empty());
        set.or(self.settings.fallback_password()).map(str::to_string)
    }
}

pub(super) fn spec() -> Spec {
    Spec {
        name: "bird-interact",
        requirements: bench::REQUIREMENTS.into(),
        python: PYTHON,
        limit: python_env::LIMIT,
        megabytes: 450,
    }
}

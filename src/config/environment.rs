//! The process environment and the experiment's `.env`: who may see which variable.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::{dotenv, secret};
use crate::error::{Error, Result};
use crate::files;

/// Prefixes of names that would make a program load something other than the committed code. `pass_env` lets one through if
/// needed.
const LOADERS: [&str; 6] = ["GIT_", "AUTOHARNESS_", "PYTHON", "LD_", "DYLD_", "BASH_FUNC_"];
/// Larger than any `.env`, in bytes.
const LARGEST: u64 = 1 << 20;
/// Whole names that do the same.
const LOADER_NAMES: [&str; 7] =
    ["BASH_ENV", "ENV", "NODE_OPTIONS", "NODE_PATH", "PERL5OPT", "RUBYOPT", "JAVA_TOOL_OPTIONS"];

/// Whether `name` can be the name of an environment variable.
pub(crate) fn is_variable_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// The variables of this process and of `.env`; those already set win.
#[derive(Clone)]
pub struct Environment {
    process: BTreeMap<OsString, OsString>,
    file: BTreeMap<String, String>,
}

/// Names only: an environment in a log must not give its secrets away.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file: Vec<_> = self.file.keys().collect();
        f.debug_struct("Environment").field("process", &self.process.len()).field("file", &file).finish()
    }
}

impl Environment {
    /// The environment of this process and the `.env` of `experiment`, if there is one.
    ///
    /// # Errors
    /// Usage when `.env` cannot be read or a line of it makes no sense; the message never repeats the line.
    pub fn load(experiment: &Path) -> Result<Environment> {
        Environment::with_process(std::env::vars_os(), experiment)
    }

    /// As [`Environment::load`], with the process environment given.
    ///
    /// # Errors
    /// As [`Environment::load`].
    pub fn with_process(
        process: impl IntoIterator<Item = (OsString, OsString)>,
        experiment: &Path,
    ) -> Result<Environment> {
        let process = variables(process);
        let path = experiment.join(".env");
        // Some users name their virtual environment `.env`; that is not our file.
        let text = if path.is_dir() { None } else { files::read_text_if_there(&path, LARGEST).map_err(unreadable)? };
        let known = |name: &str| process.get(OsStr::new(name)).and_then(|value| value.to_str()).map(str::to_string);
        let file = match &text {
            Some(text) => dotenv::parse(&path, text.trim_start_matches('\u{feff}'), known)?,
            None => BTreeMap::new(),
        };
        Ok(Environment { process, file })
    }

    /// A variable's value in the process environment only, for settings that the experiment must not make itself.
    pub fn process(&self, name: &str) -> Option<&str> {
        self.process.get(OsStr::new(name)).and_then(|value| value.to_str())
    }

    /// A variable's value. `None` when it is not set, or not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        match self.process.get(OsStr::new(name)) {
            Some(value) => value.to_str(),
            None => self.file.get(name).map(String::as_str),
        }
    }

    /// Whether a variable is set and not empty.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| !value.is_empty())
    }

    fn value(&self, name: &str) -> Option<&OsStr> {
        let process = self.process.get(OsStr::new(name)).map(OsString::as_os_str);
        process.or_else(|| self.file.get(name).map(OsStr::new))
    }

    /// A child's complete environment: this process's without secrets, without what came from `.env`, and without what
    /// would redirect git, Python or autoharness itself; then the variables named in `pass`, then `extra`. Start the
    /// child with `env_clear()` and this.
    pub fn for_child(&self, pass: &[String], extra: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
        let harmless = self.process.iter().filter(|(name, value)| self.is_harmless(name, value));
        let mut child = variables(harmless.map(|(name, value)| (name.clone(), value.clone())));
        for name in pass {
            if let Some(value) = self.value(name) {
                child.insert(name.into(), value.into());
            }
        }
        // Output must arrive as it is written, and a staged copy must stay what was staged.
        child.insert("PYTHONUNBUFFERED".into(), "1".into());
        child.insert("PYTHONDONTWRITEBYTECODE".into(), "1".into());
        // And a sitecustomize in the user's home must not change how answers are graded.
        child.insert("PYTHONNOUSERSITE".into(), "1".into());
        child.extend(extra.iter().cloned());
        child.into_iter().collect()
    }

    /// The variables whose names are wanted, of the process and of `.env`: for a child that gets a hand-picked environment.
    pub fn select(&self, wanted: impl Fn(&str) -> bool) -> Vec<(OsString, OsString)> {
        let file = self.file.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let process = self.process.iter().map(|(name, value)| (name.clone(), value.clone()));
        variables(file.chain(process)).into_iter().filter(|(name, _)| name.to_str().is_some_and(&wanted)).collect()
    }

    fn is_harmless(&self, name: &OsStr, value: &OsStr) -> bool {
        let text = name.to_string_lossy();
        let from_file = self.file.get(text.as_ref()).is_some_and(|own| value == OsStr::new(own));
        let redirects = LOADERS.iter().any(|start| text.starts_with(start)) || LOADER_NAMES.contains(&text.as_ref());
        let value = value.to_string_lossy();
        // The value counts as well: an address with a password may have any name. A proxy is needed all the same.
        let secret =
            secret::is_secret(&text, &value) || !secret::is_proxy(&text) && !secret::secrets_inside(&value).is_empty();
        !from_file && !redirects && !secret
    }

    /// What must never be printed or stored: values of secret-looking variables, every value of `.env` that is more than a
    /// number, and the secrets inside other values, of at least six characters, longest first, so that replacing them in
    /// order leaves no tail behind.
    pub fn secret_values(&self) -> Vec<String> {
        let process = self.process.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
        let file = self.file.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut values = BTreeSet::new();
        for ((name, value), from_file) in process.map(|own| (own, false)).chain(file.map(|own| (own, true))) {
            let secret = secret::is_secret(name, value);
            if secret || from_file && !secret::is_plain(value) {
                // Programs trim what surrounds a key before they use it and print it.
                values.extend([value.to_string(), value.trim().to_string()]);
            }
            if secret {
                values.extend(
                    value.split([',', ';', '\n']).filter(|_| secret::is_list(name)).map(|one| one.trim().to_string()),
                );
            }
            values.extend(secret::secrets_inside(value));
        }
        let mut values: Vec<String> =
            values.into_iter().filter(|value| value.chars().count() >= secret::SHORTEST_SECRET).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values
    }
}

/// Not `collect`, which brings a sort of its own for every caller, 10 kB of program each.
fn variables(all: impl IntoIterator<Item = (OsString, OsString)>) -> BTreeMap<OsString, OsString> {
    let mut variables = BTreeMap::new();
    variables.extend(all);
    variables
}

fn unreadable(error: Error) -> Error {
    error.hint("make it a UTF-8 text file that you can read (in a container, run as its owner), or remove it.")
}

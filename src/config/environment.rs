//! The process environment and the experiment's `.env`: who may see which variable.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::error::{Error, Result};

/// Words in a variable's name that make its value a secret.
const SECRET_WORDS: [&str; 7] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH"];
/// Shorter values are too common in ordinary text to be worth hiding.
const SHORTEST_SECRET: usize = 6;
/// Beginnings of names that would make a program load something other than what was committed. `pass_env` lets one through
/// where it is needed.
const LOADERS: [&str; 6] = ["GIT_", "AUTOHARNESS_", "PYTHON", "LD_", "DYLD_", "BASH_FUNC_"];
/// Whole names that do the same.
const LOADER_NAMES: [&str; 7] =
    ["BASH_ENV", "ENV", "NODE_OPTIONS", "NODE_PATH", "PERL5OPT", "RUBYOPT", "JAVA_TOOL_OPTIONS"];

/// Whether a name (of a variable, an option, an argument) promises a secret.
pub fn is_secret_name(name: &str) -> bool {
    // AUTHOR says who wrote something; AUTHORIZATION is a secret all the same.
    let name = name.to_ascii_uppercase().replace("AUTHORI", "AUTH").replace("AUTHOR", "");
    let name = name.replace('-', "_");
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Whether `name` can be the name of an environment variable.
pub(super) fn is_variable_name(name: &str) -> bool {
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
        let path = experiment.join(".env");
        let file = match fs_err::read_to_string(&path) {
            Ok(text) => read_file(&path, text.trim_start_matches('\u{feff}'))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            // Some name their virtual environment `.env`; that is not our file.
            Err(_) if path.is_dir() => BTreeMap::new(),
            Err(error) => {
                return Err(Error::usage(format!("cannot read {}", path.display())).because(error).hint(
                    "make it a UTF-8 text file that you can read (in a container, run as its owner), or remove it.",
                ));
            }
        };
        Ok(Environment { process: process.into_iter().collect(), file })
    }

    /// A variable's value in the process environment alone: for settings that the experiment must not make for itself.
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
        let mut child: BTreeMap<OsString, OsString> = self
            .process
            .iter()
            .filter(|(name, value)| self.is_harmless(name, value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        for name in pass {
            if let Some(value) = self.value(name) {
                child.insert(name.into(), value.into());
            }
        }
        // Output must arrive as it is written, and a staged copy must stay what was staged.
        child.insert("PYTHONUNBUFFERED".into(), "1".into());
        child.insert("PYTHONDONTWRITEBYTECODE".into(), "1".into());
        // Neither may a sitecustomize in somebody's home change how answers are graded.
        child.insert("PYTHONNOUSERSITE".into(), "1".into());
        child.extend(extra.iter().cloned());
        child.into_iter().collect()
    }

    /// The variables whose names are wanted, of the process and of `.env`: for a child that gets a hand-picked environment.
    pub fn select(&self, wanted: impl Fn(&str) -> bool) -> Vec<(OsString, OsString)> {
        let file = self.file.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let process = self.process.iter().map(|(name, value)| (name.clone(), value.clone()));
        let all: BTreeMap<OsString, OsString> = file.chain(process).collect();
        all.into_iter().filter(|(name, _)| name.to_str().is_some_and(&wanted)).collect()
    }

    fn is_harmless(&self, name: &OsStr, value: &OsStr) -> bool {
        let text = name.to_string_lossy();
        let from_file = self.file.get(text.as_ref()).is_some_and(|own| value == OsStr::new(own));
        let redirects = LOADERS.iter().any(|start| text.starts_with(start)) || LOADER_NAMES.contains(&text.as_ref());
        !from_file && !redirects && !is_secret_name(&text)
    }

    /// What must never be printed or stored: values of secret-looking variables and every value of `.env`, of at least
    /// six characters, longest first, so that replacing them in order leaves no tail behind.
    pub fn secret_values(&self) -> Vec<String> {
        let process = self.process.iter().filter(|(name, _)| is_secret_name(&name.to_string_lossy()));
        let process = process.filter_map(|(_, value)| value.to_str());
        let values: BTreeSet<&str> = process
            .chain(self.file.values().map(String::as_str))
            .filter(|value| value.chars().count() >= SHORTEST_SECRET)
            .collect();
        let mut values: Vec<String> = values.into_iter().map(str::to_string).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values
    }
}

fn read_file(path: &Path, text: &str) -> Result<BTreeMap<String, String>> {
    refuse_expansion(path, text)?;
    let mut variables = BTreeMap::new();
    for item in dotenvy::from_read_iter(text.as_bytes()) {
        // The library's own message repeats the line, and with it the secret.
        let (name, value) = item.map_err(|error| {
            let line = match &error {
                dotenvy::Error::LineParse(broken, _) => {
                    let broken = broken.lines().next().unwrap_or_default().trim();
                    // The library reports the whole line or, for a broken value, the value alone.
                    text.lines().position(|line| {
                        line.trim() == broken || line.split_once('=').is_some_and(|(_, value)| value.trim() == broken)
                    })
                }
                _ => None,
            };
            let place =
                line.map_or_else(|| path.display().to_string(), |line| format!("{}:{}", path.display(), line + 1));
            Error::usage(format!("{place}: not a NAME=value line")).hint(
                "put values with spaces or quotes in single quotes, close every quote, and start comments with `#`.",
            )
        })?;
        // A line further down replaces an earlier one, as in a shell.
        variables.insert(name, value);
    }
    Ok(variables)
}

/// The library replaces `$name` in a value, other readers of `.env` do not: a password that holds `$` would silently
/// become another one.
fn refuse_expansion(path: &Path, text: &str) -> Result<()> {
    for (number, line) in text.lines().enumerate() {
        let Some((name, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        if name.trim_start().starts_with('#') || value.starts_with('\'') {
            continue;
        }
        let value = value.split(" #").next().unwrap_or_default();
        let dollar = value.match_indices('$').find(|(at, _)| {
            let escaped = value[..*at].ends_with('\\');
            !escaped && !value[at + 1..].starts_with('{')
        });
        if dollar.is_some() {
            return Err(Error::usage(format!("{}:{}: the value holds a bare `$`", path.display(), number + 1))
                .hint("put the value in single quotes to keep the `$`, or write ${NAME} to insert a variable."));
        }
    }
    Ok(())
}

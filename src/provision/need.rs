//! What must be present before money is spent: variables by name, files, programs. Values are never read.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Finding, Surroundings};
use crate::config::Environment;
use crate::error::Result;
use crate::process::{Captured, Command, Limits, run_captured};

/// One condition, or a combination of some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: always met.
    Nothing,
    /// Something unknown: never met.
    Unknown,
    /// This variable is set and not empty.
    Variable(&'static str),
    /// This file exists below the home directory.
    HomeFile(&'static str),
    /// This file or device exists.
    File(&'static str),
    /// This program is on the PATH.
    Program(&'static str),
    /// This program with these arguments ends with exit status 0 (a daemon answers, a login is valid).
    Answers(&'static [&'static str]),
    All(&'static [Need]),
    /// At least one of these.
    Any(&'static [Need]),
}

impl fmt::Display for Need {
    /// For messages: `DAYTONA_API_KEY, or both DAYTONA_JWT_TOKEN and DAYTONA_ORGANIZATION_ID`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Nothing => f.write_str("nothing"),
            Need::Unknown => f.write_str("keys that are not known here"),
            Need::Variable(name) => f.write_str(name),
            Need::HomeFile(path) => write!(f, "the file ~/{path}"),
            Need::File(path) => f.write_str(path),
            Need::Program(name) => write!(f, "the program `{name}`"),
            Need::Answers(words) => write!(f, "an answer of `{}`", words.join(" ")),
            Need::All(needs) => join(f, needs, " and "),
            Need::Any(needs) => join(f, needs, ", or "),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, needs: &[Need], between: &str) -> fmt::Result {
    for (index, need) in needs.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        write!(f, "{need}")?;
    }
    Ok(())
}

impl Need {
    /// The names of all variables in it, alternatives included.
    pub fn variables(&self) -> Vec<&'static str> {
        match self {
            Need::Variable(name) => vec![name],
            Need::All(needs) | Need::Any(needs) => needs.iter().flat_map(Need::variables).collect(),
            _ => Vec::new(),
        }
    }

    /// The part that is not met, `None` when all is. Starts no process: a program that would have to answer need only
    /// be there.
    pub fn missing(&self, environment: &Environment, root: &Path) -> Option<String> {
        self.unmet(environment, root, &|_| true)
    }

    fn unmet(&self, environment: &Environment, root: &Path, answers: &dyn Fn(&[&str]) -> bool) -> Option<String> {
        let met = match self {
            Need::Nothing => true,
            Need::Unknown => false,
            Need::Variable(name) => environment.has(name),
            Need::HomeFile(path) => home(environment).is_some_and(|home| home.join(path).exists()),
            Need::File(path) => Path::new(path).exists(),
            Need::Program(name) => find_program(environment, root, name).is_some(),
            Need::Answers([name, ..]) if find_program(environment, root, name).is_none() => {
                return Some(Need::Program(name).to_string());
            }
            Need::Answers(words) => answers(words),
            Need::All(needs) => {
                let parts: Vec<String> =
                    needs.iter().filter_map(|need| need.unmet(environment, root, answers)).collect();
                return (!parts.is_empty()).then(|| parts.join(" and "));
            }
            Need::Any(needs) => needs.iter().any(|need| need.unmet(environment, root, answers).is_none()),
        };
        (!met).then(|| self.to_string())
    }

    /// Every program that would have to answer.
    fn questions(&self) -> Vec<&'static [&'static str]> {
        match self {
            Need::Answers(words) => vec![words],
            Need::All(needs) | Need::Any(needs) => needs.iter().flat_map(Need::questions).collect(),
            _ => Vec::new(),
        }
    }
}

/// Where a program is on the PATH of the environment.
pub(crate) fn find_program(environment: &Environment, root: &Path, name: &str) -> Option<PathBuf> {
    let path = environment.get("PATH").map(std::ffi::OsString::from);
    which::which_in(name, path, root).ok()
}

/// The home directory of the environment.
pub(crate) fn home(environment: &Environment) -> Option<PathBuf> {
    environment.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// A need with its reason and its remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequirement {
    /// What needs it, for the finding's name: `e2b`, `model`.
    pub name: String,
    pub need: Need,
    /// False when some set-ups work without it: then a miss is only a warning.
    pub required: bool,
    /// What to do when it is missing.
    pub fix: String,
}

impl KeyRequirement {
    /// Looks by name only, and starts no process.
    pub fn check_quickly(&self, environment: &Environment, root: &Path) -> Finding {
        self.finding(self.need.missing(environment, root))
    }

    /// Looks by name only, and asks programs whether they work.
    ///
    /// # Errors
    /// `Interrupted`; a program that cannot be started or does not end has not answered.
    pub async fn check(&self, around: &Surroundings<'_>) -> Result<Finding> {
        let mut answering: Vec<&[&str]> = Vec::new();
        for words in self.need.questions() {
            let Some(program) = words.first().and_then(|name| find_program(around.environment, around.root, name))
            else {
                continue;
            };
            if ask(&program, &words[1..], around).await?.is_some_and(|said| said.exit.success()) {
                answering.push(words);
            }
        }
        Ok(self.finding(self.need.unmet(around.environment, around.root, &|words| answering.contains(&words))))
    }

    fn finding(&self, missing: Option<String>) -> Finding {
        match missing {
            _ if self.need == Need::Unknown => Finding::warn(&self.name, "its keys were not checked", &self.fix),
            None if self.need == Need::Nothing => Finding::ok(&self.name, "needs no key"),
            None => Finding::ok(&self.name, format!("has {}", self.need)),
            Some(missing) if self.required => Finding::fail(&self.name, format!("lacks {missing}"), &self.fix),
            Some(missing) => Finding::warn(&self.name, format!("lacks {missing}"), &self.fix),
        }
    }
}

/// How long a program may take to answer a question, in seconds. A busy Docker daemon needs some.
const ANSWER_SECONDS: u64 = 20;

/// Runs a program that only answers a question. `None` when it cannot be started or does not end in time.
pub(crate) async fn ask(program: &Path, arguments: &[&str], around: &Surroundings<'_>) -> Result<Option<Captured>> {
    // In `/`, because Python looks for modules in the current directory, and an experiment may have an `mcp.py`.
    let command = Command::new(program, "/").args(arguments).env(around.environment.for_child(&[], &[]));
    match run_captured(around.supervisor, command, Limits::seconds(ANSWER_SECONDS), around.cancel).await {
        Ok(said) => Ok(Some(said)),
        Err(error) if error.is_interruption() => Err(error),
        Err(_) => Ok(None),
    }
}

//! What was checked, its state, and the command that fixes it.

use std::path::Path;

use crate::config::Environment;
use crate::error::{Code, Error, Result};
use crate::process::Supervisor;
use crate::process::signals::Cancel;

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// Works, but the reader should know.
    Warn,
    /// Will not work.
    Fail,
}

/// One thing that was checked.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    pub level: Level,
    pub detail: String,
    /// The command, or the step, that fixes it.
    pub fix: Option<String>,
}

impl Finding {
    pub fn ok(name: &str, detail: impl Into<String>) -> Finding {
        Finding { name: name.into(), level: Level::Ok, detail: detail.into(), fix: None }
    }

    /// Works, but the reader should know.
    pub fn warn(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { name: name.into(), level: Level::Warn, detail: detail.into(), fix: Some(fix.into()) }
    }

    pub fn fail(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { name: name.into(), level: Level::Fail, detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// Where children are looked up and run.
pub struct Surroundings<'a> {
    /// The experiment directory.
    pub root: &'a Path,
    /// The state directory, where provisioned environments are.
    pub state: &'a Path,
    /// Process environment and `.env`.
    pub environment: &'a Environment,
    /// Starts the programs that are asked for their version.
    pub supervisor: &'a Supervisor,
    /// Fires on Ctrl-C and the like.
    pub cancel: &'a Cancel,
}

/// Turns failing findings into one error, before any money is spent.
/// Errors: usage, listing all that is missing.
pub(crate) fn require(findings: &[Finding]) -> Result<()> {
    let failing: Vec<&Finding> = findings.iter().filter(|finding| finding.level == Level::Fail).collect();
    if failing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = failing.iter().map(|finding| format!("{}: {}", finding.name, finding.detail)).collect();
    let mut error =
        Error::usage(format!("the environment is not ready: {}", list.join("; "))).code(Code::EnvironmentNotReady);
    for finding in &failing {
        error = error.hint(finding.fix.clone().unwrap_or_default());
    }
    Err(error)
}

/// Whether a program is on the PATH.
pub(crate) fn program(name: &str, program: &str, root: &Path, environment: &Environment, fix: &str) -> Finding {
    let path = environment.get("PATH").map(std::ffi::OsString::from);
    match which::which_in(program, path, root) {
        Ok(found) => Finding::ok(name, found.display().to_string()),
        Err(_) => Finding::fail(name, format!("`{program}` is not on the PATH"), fix),
    }
}

//! What is to be started.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Code, Error, Result};
use crate::process::log::Log;

/// How long a child that was asked to end may take unless the caller says otherwise.
pub(crate) const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// What a shell searches when `PATH` is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

#[derive(Debug, Clone)]
pub struct Command {
    /// A name to be looked up in the child's `PATH`, or a path (relative to `cwd`).
    pub program: OsString,
    pub args: Vec<OsString>,
    /// The directory it runs in.
    pub cwd: PathBuf,
    /// Its complete environment: nothing is inherited from the tool.
    pub env: Vec<(OsString, OsString)>,
    /// What it reads on stdin.
    pub stdin: Vec<u8>,
    pub stderr: Stderr,
    /// How long it may take to end once it was asked to, before it is killed.
    pub grace: Duration,
    /// Who is asked to end.
    pub ask: Ask,
}

/// Who gets the SIGTERM that asks a child to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ask {
    /// The program and all of its descendants, at once.
    #[default]
    Tree,
    /// Only the program, once: it tidies up, and needs its helpers for that. Processes left when it has ended are asked
    /// then.
    Leader,
}

/// Where a child's stderr goes.
#[derive(Debug, Clone)]
pub enum Stderr {
    /// Into a log file, redacted and bounded.
    Log(Log),
    /// To the caller, who must read it.
    Pipe,
}

impl Command {
    /// A program without arguments, environment or stdin, whose stderr is a pipe.
    pub fn new(program: impl Into<OsString>, cwd: impl Into<PathBuf>) -> Command {
        Command {
            program: program.into(),
            args: Vec::new(),
            cwd: cwd.into(),
            env: Vec::new(),
            stdin: Vec::new(),
            stderr: Stderr::Pipe,
            grace: DEFAULT_GRACE,
            ask: Ask::Tree,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Command {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the complete environment.
    #[must_use]
    pub fn env(mut self, env: impl IntoIterator<Item = (OsString, OsString)>) -> Command {
        self.env = env.into_iter().collect();
        self
    }

    /// The program's name for messages: the last part of its path.
    pub fn name(&self) -> String {
        let path = Path::new(&self.program);
        path.file_name().unwrap_or(&self.program).to_string_lossy().into_owned()
    }

    /// Fails early, and with a better message than a watcher's exit status.
    pub(super) fn check(&self) -> Result<()> {
        if !self.cwd.is_dir() {
            return Err(Error::infrastructure(format!(
                "cannot start `{}`: {} is not a directory",
                self.name(),
                self.cwd.display()
            )));
        }
        let path = self.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
        match which::which_in(&self.program, Some(path), &self.cwd) {
            Ok(_) => Ok(()),
            Err(_) => {
                let program = self.program.to_string_lossy();
                let error = Error::infrastructure(format!("cannot find the program `{program}`"))
                    .code(Code::EnvironmentNotReady);
                Err(if program.contains('/') {
                    error.hint(format!("`{program}` must exist below {} and be executable.", self.cwd.display()))
                } else {
                    error.hint(format!("install `{program}` or put its directory into PATH."))
                })
            }
        }
    }
}

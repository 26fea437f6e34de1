//! Whether the agent file parses, defines what the benchmark imports, and can be imported: known before money is spent.
//!
//! The interpreter that will run the agent parses it in isolation, and then imports it once, which runs its code.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Code, Error, Result};
use crate::process::signals::Cancel;
use crate::process::{Captured, Command, Limits, Supervisor, run_captured};

const PARSE: &str = include_str!("preflight.py");
const IMPORT: &str = include_str!("preflight_import.py");
const FENCE: &str = include_str!("preflight_fence.py");
/// What parsing takes at the most; a real agent file takes milliseconds.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);
/// A shell's way of saying that a signal ended a program.
const KILLED: std::ops::RangeInclusive<i32> = 129..=159;

/// Why an agent file cannot be scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreflightFailure {
    /// The agent file.
    pub file: PathBuf,
    /// Counted from 1; `None` when the failure is not at one place.
    pub line: Option<u64>,
    /// What is wrong.
    pub message: String,
    /// Whether it is only that it took too long.
    pub late: bool,
}

impl std::fmt::Display for PreflightFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.message),
            None => write!(f, "{}: {}", self.file.display(), self.message),
        }
    }
}

#[derive(Deserialize)]
struct PreflightAnswer {
    #[serde(default)]
    ok: bool,
    line: Option<u64>,
    message: Option<String>,
    /// What went wrong before any code of the agent ran.
    before: Option<String>,
}

/// Checks agent files with a Python interpreter.
#[derive(Debug, Clone, Copy)]
pub struct Preflight<'a> {
    /// The interpreter: a path (relative to `directory`), or a name looked up in the environment's `PATH`.
    pub python: &'a OsStr,
    /// Its own options.
    pub options: &'a [String],
    /// Its complete environment.
    pub environment: &'a [(OsString, OsString)],
    /// Where it is started: the staged copy.
    pub directory: &'a Path,
    /// Starts it.
    pub supervisor: &'a Supervisor,
    /// Fires on Ctrl-C and the like.
    pub cancel: &'a Cancel,
}

impl Preflight<'_> {
    /// Checks that a `.py` agent file parses and defines `symbol` at its top level, within `limit` ([`TIME_LIMIT`]). Runs none
    /// of its code. Other files pass. The inner result is the agent's fault, the outer one is not.
    ///
    /// # Errors
    /// A usage error when Python is missing; an infrastructure error when it does not work.
    pub async fn parse(
        &self,
        agent_file: &Path,
        symbol: Option<&str>,
        limit: Duration,
    ) -> Result<Result<(), PreflightFailure>> {
        if agent_file.extension() != Some(OsStr::new("py")) {
            return Ok(Ok(()));
        }
        let path = self.environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
        if which::which_in(self.python, Some(path.unwrap_or_default()), self.directory).is_err() {
            let python = self.python.display();
            return Err(Error::usage(format!("`{python}` is not installed: the agent file cannot be checked"))
                .code(Code::EnvironmentNotReady)
                .hint("install Python 3.9 or newer and have it in PATH as `python3`."));
        }
        let fail = |line, message: String| {
            Ok(Err(PreflightFailure { file: agent_file.to_path_buf(), line, message, late: false }))
        };
        let words: [&OsStr; 7] = [
            "-I".as_ref(),
            "-S".as_ref(),
            "-c".as_ref(),
            PARSE.as_ref(),
            agent_file.as_os_str(),
            agent_file.file_name().unwrap_or_default(),
            symbol.unwrap_or_default().as_ref(),
        ];
        let command = Command::new(self.python, self.directory).args(words).env(self.environment.iter().cloned());
        let Some(finished) = self.run(command, limit).await? else {
            return fail(None, format!("not parsed within {} s", limit.as_secs_f64()));
        };
        let Captured { exit, stdout, stderr, .. } = finished;
        if exit.success() {
            return Ok(Ok(()));
        }
        if let Ok(PreflightAnswer { message: Some(message), line, .. }) = serde_json::from_slice(&stdout) {
            return fail(line, message);
        }
        if KILLED.contains(&exit.code) {
            // Old parsers overflow their stack on deeply nested source.
            return fail(None, "Python crashed while parsing it".into());
        }
        let python = self.python.display();
        Err(Error::infrastructure(format!("the preflight with {python} failed ({exit}): {}", last_line(&stderr)))
            .code(Code::EnvironmentNotReady)
            .hint("it needs Python 3.9 or newer; `autoharness doctor` shows which one is used."))
    }

    /// Imports an agent file within `limit`, and runs its code in doing so. `request` says how; see `preflight_import.py`. The
    /// inner result is the agent's fault, or that of the surroundings: whether the unedited agent fares better tells.
    ///
    /// # Errors
    /// An infrastructure error when Python does not work.
    pub async fn import(
        &self,
        agent_file: &Path,
        request: &Value,
        limit: Duration,
    ) -> Result<Result<(), PreflightFailure>> {
        let fail = |line, message: String| {
            Ok(Err(PreflightFailure { file: agent_file.to_path_buf(), line, message, late: false }))
        };
        let mut words = self.options.to_vec();
        words.extend(["-B".into(), "-c".into()]);
        let behind: Vec<&str> = request["behind"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if behind.is_empty() {
            words.push(IMPORT.into());
        } else {
            words.extend([FENCE.into(), behind.len().to_string()]);
            words.extend(behind.into_iter().map(String::from));
            words.extend(self.options.iter().cloned());
            words.push(IMPORT.into());
        }
        let command = Command::new(self.python, self.directory).args(words).env(self.environment.iter().cloned());
        let command = Command { stdin: request.to_string().into_bytes(), ..command };
        let Some(Captured { exit, stdout, stderr, .. }) = self.run(command, limit).await? else {
            let seconds = limit.as_secs_f64();
            let message = format!("not imported within {seconds} s: it waits for something at the top level");
            return Ok(Err(PreflightFailure { file: agent_file.to_path_buf(), line: None, message, late: true }));
        };
        match serde_json::from_slice(&stdout) {
            Ok(PreflightAnswer { ok: true, .. }) => Ok(Ok(())),
            Ok(PreflightAnswer { message: Some(message), line, .. }) => fail(line, message),
            Ok(PreflightAnswer { before: Some(reason), .. }) => {
                Err(Error::infrastructure(format!("the agent file cannot be tried: {reason}"))
                    .code(Code::EnvironmentNotReady)
                    .hint("`autoharness doctor` looks at the benchmark's installation."))
            }
            _ if exit.success() || KILLED.contains(&exit.code) => {
                fail(None, format!("importing it ended the interpreter ({exit})"))
            }
            _ => fail(None, format!("importing it ended the interpreter ({exit}): {}", last_line(&stderr))),
        }
    }

    /// `None` when it took too long.
    async fn run(&self, command: Command, limit: Duration) -> Result<Option<Captured>> {
        // Dropping the future ends the process.
        let limits = Limits { time: limit.saturating_mul(2), ..Limits::SMALL };
        let run = run_captured(self.supervisor, command, limits, self.cancel);
        tokio::time::timeout(limit, run).await.ok().transpose()
    }
}

fn last_line(stderr: &[u8]) -> String {
    let stderr = String::from_utf8_lossy(stderr);
    stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message").to_string()
}

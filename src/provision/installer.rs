//! Runs installers of Python packages: what they may see, how long they may take, and what their complaints mean.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;

use super::Surroundings;
use crate::error::{Code, Error, Result};
use crate::process::{Command, Log, Redactor, Stderr, log};

/// How often it says that it is still working.
const SPEAK_EVERY: Duration = Duration::from_secs(30);
/// How many lines of an installer's log an error repeats.
const LAST_LINES: usize = 6;

/// Variables that would make an installer put things somewhere else, or nothing anywhere. All other `PIP_` and `UV_`
/// variables lead to the user's index.
const REDIRECTS: [&str; 15] = [
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_PYTHON",
    "PIP_DRY_RUN",
    "PIP_DOWNLOAD",
    "PIP_LOG",
    "PIP_REQUIREMENT",
    "UV_PYTHON",
    "UV_SYSTEM_PYTHON",
    "UV_BREAK_SYSTEM_PACKAGES",
    "UV_PROJECT_ENVIRONMENT",
    "UV_TARGET",
    "UV_DRY_RUN",
];
/// The other variables an installer needs.
const INSTALLER_VARIABLES: [&str; 24] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "NETRC",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "PYENV_ROOT",
    "PYENV_VERSION",
];

pub(super) struct Install<'a> {
    name: &'static str,
    megabytes: u32,
    redactor: Redactor,
    log_path: PathBuf,
    env: Vec<(OsString, OsString)>,
    started: Instant,
    limit: Duration,
    around: &'a Surroundings<'a>,
    say: &'a dyn Fn(String),
}

impl<'a> Install<'a> {
    /// Starts the installation and its clock. `name` is what the messages call it, `megabytes` what it takes on
    /// the disk.
    pub(super) fn new(
        name: &'static str,
        megabytes: u32,
        log_path: PathBuf,
        limit: Duration,
        around: &'a Surroundings<'a>,
        say: &'a dyn Fn(String),
    ) -> Install<'a> {
        let _ = fs::remove_file(&log_path);
        let env = installer_environment(around);
        let redactor = Redactor::new(around.environment.secret_values());
        Install { name, megabytes, redactor, log_path, env, started: Instant::now(), limit, around, say }
    }

    /// Where the installer's output is.
    pub(super) fn log_path(&self) -> &Path {
        &self.log_path
    }

    pub(super) fn around(&self) -> &'a Surroundings<'a> {
        self.around
    }

    /// The time since it began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Runs an installer to its end.
    /// Errors: infrastructure when it fails or the time is up; `Interrupted`.
    pub(super) async fn run(&self, program: &Path, arguments: &[OsString]) -> Result<()> {
        let cancel = self.around.cancel;
        cancel.check()?;
        let log = Log::open(&self.log_path, log::DEFAULT_CAP, self.redactor.clone())?;
        log.line(&format!("$ {} {}", program.display(), arguments.join(" ".as_ref()).display()));
        let mut command = Command::new(program, "/").args(arguments).env(self.env.clone());
        command.stderr = Stderr::Log(log.clone());
        let mut child = self.around.supervisor.spawn(command)?;
        let reading = child.take_stdout().map(|stdout| tokio::spawn(log.copy(stdout)));
        let exit = loop {
            let left = self.limit.saturating_sub(self.started.elapsed());
            tokio::select! {
                exit = child.wait() => break exit?,
                signal = cancel.cancelled() => {
                    child.stop(Duration::from_secs(5)).await?;
                    return Err(Error::interrupted(signal));
                }
                () = tokio::time::sleep(left.min(SPEAK_EVERY)) => {
                    let seconds = self.started.elapsed().as_secs();
                    if self.started.elapsed() >= self.limit {
                        child.stop(Duration::from_secs(5)).await?;
                        return Err(self.failed(format!("not done after {seconds} s")));
                    }
                    (self.say)(format!("still installing {} ({seconds} s)", self.name));
                }
            }
        };
        if let Some(reading) = reading {
            let _ = tokio::time::timeout(Duration::from_secs(2), reading).await;
        }
        if exit.success() { Ok(()) } else { Err(self.failed(format!("`{}` ended with {exit}", program.display()))) }
    }

    fn failed(&self, how: String) -> Error {
        let log = fs::read(&self.log_path).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
        let mut error =
            Error::infrastructure(format!("cannot install {}: {how}:\n  {last}", self.name)).code(Code::InstallFailed);
        let needed = format!("free some disk space ({} needs about {} MB).", self.name, self.megabytes);
        if let Some(hint) = diagnose(&log, &needed) {
            error = error.hint(hint);
        }
        error.hint(format!("the whole log: {}; the same command tries again.", self.log_path.display()))
    }
}

/// What an installer's complaint most probably means; `needed` if the disk is full.
fn diagnose<'a>(log: &str, needed: &'a str) -> Option<&'a str> {
    let log = log.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| log.contains(word));
    if says(&["no space left"]) {
        return Some(needed);
    }
    if says(&["ensurepip is not available", "no module named ensurepip", "no module named venv"]) {
        return Some(
            "this Python has no venv: `apt install python3-venv` (of its version), or install uv (https://docs.astral.sh/uv).",
        );
    }
    if says(&["certificate verify failed", "invalid peer certificate"]) {
        return Some(
            "the index's certificate is not trusted: set SSL_CERT_FILE or PIP_CERT to your organisation's bundle.",
        );
    }
    if says(&["do not match the hashes", "hash mismatch"]) {
        return Some(
            "the index gave another file than the one this version of autoharness was tested with: do not use it. A mirror that builds packages anew cannot be used; check PIP_INDEX_URL / UV_INDEX_URL.",
        );
    }
    let network = [
        "name resolution",
        "name or service not known",
        "newconnectionerror",
        "connection refused",
        "connection timed out",
        "network is unreachable",
        "dns error",
        "failed to fetch",
        "error sending request",
        "proxyerror",
        "max retries exceeded",
    ];
    if says(&network) {
        return Some(
            "the package index cannot be reached: check the network, proxies, or PIP_INDEX_URL / UV_INDEX_URL for a mirror.",
        );
    }
    if says(&["no matching distribution", "could not find a version", "no solution found"]) {
        return Some(
            "the index does not have a wanted version: check PIP_INDEX_URL / UV_INDEX_URL and any constraints.",
        );
    }
    None
}

fn installer_environment(around: &Surroundings<'_>) -> Vec<(OsString, OsString)> {
    around.environment.select(|name| {
        let own = (name.starts_with("PIP_") || name.starts_with("UV_")) && !REDIRECTS.contains(&name);
        (own && !name.starts_with("UV_PUBLISH")) || INSTALLER_VARIABLES.contains(&name)
    })
}

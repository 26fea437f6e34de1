//! The git program, for what writes: `init`, `add`, `commit`. Reading goes through `guard`, which trusts no configuration.

use std::ffi::OsString;
use std::path::Path;

use super::{Captured, Command, Limits, Supervisor, run_captured};
use crate::config::Environment;
use crate::error::{Error, Result};
use crate::process::signals::Cancel;

/// Runs git in `directory`. Hooks and file system monitors do not run; `GIT_*` variables do not reach it; messages are
/// English.
///
/// # Errors
/// Infrastructure when git is missing, does not end within a minute, or says no; the error ends with git's last line. Usage
/// where the repository is on a read-only file system.
pub async fn git(
    supervisor: &Supervisor,
    environment: &Environment,
    directory: &Path,
    arguments: &[&str],
    cancel: &Cancel,
) -> Result<Captured> {
    let ended = run(supervisor, environment, directory, arguments, cancel).await?;
    let is_read_only = String::from_utf8_lossy(&ended.stderr).contains("Read-only file system");
    ended.check(&format!("run `git {}`", arguments.join(" "))).map_err(|error| match is_read_only {
        true => Error::read_only(error.to_string()),
        false => error,
    })
}

/// As [`git`], for what moves much data: it may take as long as `limits` allow.
///
/// # Errors
/// As [`git`].
pub async fn git_within(
    limits: Limits,
    supervisor: &Supervisor,
    environment: &Environment,
    directory: &Path,
    arguments: &[&str],
    cancel: &Cancel,
) -> Result<Captured> {
    git_fed(String::new(), limits, supervisor, environment, directory, arguments, cancel).await
}

/// As [`git_within`], with this on its stdin.
///
/// # Errors
/// As [`git`].
pub async fn git_fed(
    input: String,
    limits: Limits,
    supervisor: &Supervisor,
    environment: &Environment,
    directory: &Path,
    arguments: &[&str],
    cancel: &Cancel,
) -> Result<Captured> {
    let mut command = command(environment, directory, arguments);
    command.stdin = input.into_bytes();
    run_captured(supervisor, command, limits, cancel).await?.check(&format!("run `git {}`", arguments.join(" ")))
}

/// Commits the named files, and nothing else that may be staged. The repository needs an identity: [`ensure_identity`].
///
/// # Errors
/// As [`git`].
pub async fn commit(
    supervisor: &Supervisor,
    environment: &Environment,
    directory: &Path,
    message: &str,
    files: &[&str],
    cancel: &Cancel,
) -> Result<Captured> {
    let mut arguments = vec!["commit", "--quiet", "--no-gpg-sign", "-m", message, "--"];
    arguments.extend(files);
    git(supervisor, environment, directory, &arguments, cancel).await
}

/// Gives the repository an identity of its own where it has none: the user's, else this tool's. Coding agents commit from
/// shells that may hide `~/.gitconfig` (Gemini CLI sets `GIT_CONFIG_GLOBAL=/dev/null`), and git refuses to commit without.
/// Returns the identity when something was set.
///
/// # Errors
/// As [`git`].
pub async fn ensure_identity(
    supervisor: &Supervisor,
    environment: &Environment,
    directory: &Path,
    cancel: &Cancel,
) -> Result<Option<String>> {
    let get = async |arguments: &[&str]| {
        let found = run(supervisor, environment, directory, arguments, cancel).await?;
        Ok::<_, crate::error::Error>(Some(found.text()).filter(|text| found.exit.success() && !text.is_empty()))
    };
    let (mut identity, mut missing) = (Vec::new(), false);
    for (key, own) in [("user.name", "autoharness"), ("user.email", "autoharness@localhost")] {
        if let Some(local) = get(&["config", "--local", "--get", key]).await? {
            identity.push(local);
            continue;
        }
        let value = get(&["config", "--get", key]).await?.unwrap_or_else(|| own.to_string());
        git(supervisor, environment, directory, &["config", "--local", key, &value], cancel).await?;
        identity.push(value);
        missing = true;
    }
    Ok(missing.then(|| format!("{} <{}>", identity[0], identity[1])))
}

async fn run(
    supervisor: &Supervisor,
    environment: &Environment,
    directory: &Path,
    arguments: &[&str],
    cancel: &Cancel,
) -> Result<Captured> {
    run_captured(supervisor, command(environment, directory, arguments), Limits::SMALL, cancel).await
}

fn command(environment: &Environment, directory: &Path, arguments: &[&str]) -> Command {
    let hardened = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"];
    let mut env = environment.for_child(&[], &[]);
    env.push((OsString::from("LC_ALL"), OsString::from("C.UTF-8")));
    Command::new("git", directory).args(hardened.iter().chain(arguments)).env(env)
}

//! The git program, for what writes: `init`, `add`, `commit`. Reading goes through `guard`, which trusts no configuration.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::{Captured, Command, Limits, Supervisor, run_captured};
use crate::config::Environment;
use crate::error::{Error, Result};
use crate::process::signals::Cancel;

/// git in one directory. Hooks and file system monitors do not run; `GIT_*` variables do not reach it; messages are English.
#[derive(Clone, Copy)]
pub(crate) struct Git<'a> {
    pub supervisor: &'a Supervisor,
    /// Its environment is taken from this.
    pub environment: &'a Environment,
    pub directory: &'a Path,
    pub cancel: &'a Cancel,
}

impl Git<'_> {
    /// Runs git. Errors: infrastructure when git is missing, does not end within a minute, or fails; the error ends with git's last
    /// line. Usage where the repository is on a read-only file system.
    pub(crate) async fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Captured> {
        let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        self.run_words(&arguments).await
    }

    async fn run_words(&self, arguments: &[&OsStr]) -> Result<Captured> {
        let ended = self.ask(arguments).await?;
        let is_read_only = String::from_utf8_lossy(&ended.stderr).contains("Read-only file system");
        ended.check(&format!("run `git {}`", arguments.join(OsStr::new(" ")).display())).map_err(|error| {
            match is_read_only {
                true => Error::read_only(error.to_string()),
                false => error,
            }
        })
    }

    /// As [`Git::run`], for moving much data: it may take as long as `limits` allow, and gets this on its stdin.
    pub(crate) async fn run_within(&self, limits: Limits, input: String, arguments: &[&str]) -> Result<Captured> {
        let command = Command {
            stdin: input.into_bytes(),
            ..self.command(&arguments.iter().map(OsStr::new).collect::<Vec<_>>())
        };
        let ended = run_captured(self.supervisor, command, limits, self.cancel).await?;
        ended.check(&format!("run `git {}`", arguments.join(" ")))
    }

    /// Commits the named files, and nothing else that may be staged. The repository needs an identity:
    /// [`Git::ensure_identity`].
    pub(crate) async fn commit<S: AsRef<OsStr>>(&self, message: &str, files: &[S]) -> Result<Captured> {
        let commit = ["commit", "--quiet", "--no-gpg-sign", "-m", message, "--"].map(OsStr::new);
        self.run_words(&commit.into_iter().chain(files.iter().map(AsRef::as_ref)).collect::<Vec<_>>()).await
    }

    /// Gives the repository an identity of its own where it has none: the user's, else this tool's. Coding agents commit from
    /// shells that may hide `~/.gitconfig` (Gemini CLI sets `GIT_CONFIG_GLOBAL=/dev/null`,
    /// <https://github.com/google-gemini/gemini-cli/issues/29152>), and git refuses to commit without one.
    /// Returns the identity when something was set.
    pub(crate) async fn ensure_identity(&self) -> Result<Option<String>> {
        let get = async |arguments: &[&str]| {
            let found = self.ask(&arguments.iter().map(OsStr::new).collect::<Vec<_>>()).await?;
            Ok::<_, Error>(Some(found.text()).filter(|text| found.exit.success() && !text.is_empty()))
        };
        let (mut identity, mut missing) = (Vec::new(), false);
        for (key, own) in [("user.name", "autoharness"), ("user.email", "autoharness@localhost")] {
            if let Some(local) = get(&["config", "--local", "--get", key]).await? {
                identity.push(local);
                continue;
            }
            let value = get(&["config", "--get", key]).await?.unwrap_or_else(|| own.to_string());
            self.run(&["config", "--local", key, &value]).await?;
            identity.push(value);
            missing = true;
        }
        Ok(missing.then(|| format!("{} <{}>", identity[0], identity[1])))
    }

    /// Runs git, whatever it answers.
    async fn ask(&self, arguments: &[&OsStr]) -> Result<Captured> {
        run_captured(self.supervisor, self.command(arguments), Limits::SMALL, self.cancel).await
    }

    fn command(&self, arguments: &[&OsStr]) -> Command {
        let hardened = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"].map(OsStr::new);
        let mut env = self.environment.for_child(&[], &[]);
        env.push((OsString::from("LC_ALL"), OsString::from("C.UTF-8")));
        Command::new("git", self.directory).args(hardened.iter().chain(arguments)).env(env)
    }
}

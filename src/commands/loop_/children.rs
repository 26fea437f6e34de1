//! Running this very program, and the user's commands, as children.

use std::time::Duration;

use serde_json::Value;

use super::context::Loop;
use crate::error::{Error, Result};
use crate::process::signals::Cancel;
use crate::process::{Ask, Captured, Command, Limits, run_captured};

/// Longer than any gate.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// How long a gate may take to tidy up: it ends sandboxes and services.
const GRACE: Duration = Duration::from_secs(60);
/// How long a command of the user's may take.
const HOOK: Duration = Duration::from_secs(300);

/// What a command of ours said.
pub(super) struct ChildAnswer {
    pub(super) code: i32,
    /// Its error's message, when it had one.
    pub(super) message: String,
}

impl Loop<'_> {
    /// Runs one of our commands on the experiment, outside of any fence.
    pub(super) async fn own(&self, words: &[&str]) -> Result<ChildAnswer> {
        let all = [&["--format", "json"], words].concat();
        let done = self.watched(self.said(&all, Limits::SMALL.output, &self.now)).await?;
        let text = String::from_utf8_lossy(&done.stdout);
        let mut errors = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let error = errors.rfind(|said| said["type"] == "error");
        let message = error.and_then(|error| error["message"].as_str().map(str::to_string));
        for line in String::from_utf8_lossy(&done.stderr).lines() {
            self.ui.detail(format!("{}: {line}", words[0]));
        }
        Ok(ChildAnswer { code: done.exit.code, message: message.unwrap_or_else(|| done.exit.describe()) })
    }

    /// As [`Loop::own`], with what it printed: at most this many bytes of each end.
    pub(super) async fn said(&self, words: &[&str], output: usize, cancel: &Cancel) -> Result<Captured> {
        let program = self.supervisor.program().ok_or_else(|| {
            Error::infrastructure("the file of this program is gone; was it updated?").hint("run the loop again.")
        })?;
        let mut command = Command::new(program, &self.paths.root);
        command.args.extend(["--directory".into(), self.paths.root.clone().into()]);
        command.args.extend(["--config".into(), self.paths.config.clone().into()]);
        // The whole environment: the command itself chooses what its own children see.
        let mut command = command.args(words).env(self.environment.select(|_| true));
        command.grace = GRACE;
        command.ask = Ask::Leader;
        run_captured(&self.supervisor, command, Limits { time: LONGEST, output }, cancel).await
    }

    /// Runs a user's command with a file that says what happened. A failure of it changes nothing.
    pub(super) async fn hook(&self, command: Option<&str>, name: &str, said: &Value) {
        let Some(line) = command else { return };
        let file = self.paths.state.join(format!("on-{name}.json"));
        let run = async {
            crate::store::atomic::replace(&file, format!("{said}\n").as_bytes())?;
            let words = ["-c".to_string(), format!("{line} \"$1\""), "sh".into(), file.display().to_string()];
            let env = self.environment.for_child(&self.config.loop_env, &[]);
            let command = Command::new("sh", &self.paths.root).args(words).env(env);
            let limits = Limits { time: HOOK, ..Limits::SMALL };
            run_captured(&self.supervisor, command, limits, &self.now).await?.check(&format!("run `{line}`"))
        };
        if let Err(error) = run.await {
            self.ui.warn(format!("--on-{name}: {error}"));
        }
    }
}

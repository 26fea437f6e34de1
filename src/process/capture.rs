//! Running small helper programs (git, python, uv), bounded in time and output, to their end.

use std::time::Duration;

use tokio::time::timeout;

use crate::error::{Code, Error, Result};
use crate::process::child::{Exit, OUTPUT_LIMIT};
use crate::process::command::{Command, Stderr};
use crate::process::output::HeadAndTail;
use crate::process::signals::Cancel;
use crate::process::supervisor::Supervisor;

/// What a helper program may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Wall time until it is stopped.
    pub time: Duration,
    /// Bytes kept of the beginning and of the end of stdout, and of stderr; the middle is left out.
    pub output: usize,
}

impl Limits {
    /// A minute, and 256 KiB of each end.
    pub const SMALL: Limits = Limits { time: Duration::from_secs(60), output: 256 * 1024 };

    /// This long, with the output of [`Limits::SMALL`].
    pub fn seconds(seconds: u64) -> Limits {
        Limits { time: Duration::from_secs(seconds), ..Limits::SMALL }
    }
}

/// What a helper program printed and how it ended.
#[derive(Debug)]
pub struct Captured {
    /// The program's name, for messages.
    pub name: String,
    pub exit: Exit,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// True when the middle of stdout is missing.
    pub truncated: bool,
}

impl Captured {
    /// The program's stdout without white space around it; bytes that are no text are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Turns an exit status other than 0 into an error that ends with the last line of stderr.
    ///
    /// # Errors
    /// Infrastructure: `cannot DOING: git ended with exit status 128: fatal: ...`.
    pub fn check(self, doing: &str) -> Result<Captured> {
        if self.exit.success() {
            return Ok(self);
        }
        let stderr = String::from_utf8_lossy(&self.stderr);
        let last = stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
        let detail = last.map(|line| format!(": {line}")).unwrap_or_default();
        Err(Error::infrastructure(format!("cannot {doing}: {} ended with {}{detail}", self.name, self.exit)))
    }
}

/// Runs a program to its end. The command's stderr is captured too, whatever its `stderr` setting.
///
/// # Errors
/// Infrastructure when it cannot be started or takes too long, `Interrupted` after a cancellation. An exit status other
/// than 0 is no error here; see [`Captured::check`].
pub async fn run_captured(
    supervisor: &Supervisor,
    command: Command,
    limits: Limits,
    cancel: &Cancel,
) -> Result<Captured> {
    cancel.check()?;
    let grace = command.grace;
    let mut child = supervisor.spawn(Command { stderr: Stderr::Pipe, ..command })?;
    let (stdout, stderr) = (child.take_stdout(), child.take_stderr());
    let mut out = HeadAndTail::new(limits.output);
    let mut err = HeadAndTail::new(limits.output);
    let ended = {
        let reading = async {
            tokio::join!(async { if let Some(pipe) = stdout { out.fill(pipe).await } else { Ok(()) } }, async {
                if let Some(pipe) = stderr { err.fill(pipe).await } else { Ok(()) }
            },)
        };
        let running = async {
            let mut reading = std::pin::pin!(reading);
            // The program's end bounds its output: a descendant that escaped must not keep us waiting.
            tokio::select! {
                _ = &mut reading => child.wait().await,
                exit = child.wait() => {
                    let _ = timeout(OUTPUT_LIMIT, reading).await;
                    exit
                }
            }
        };
        tokio::select! {
            result = timeout(limits.time, running) => result.ok(),
            signal = cancel.cancelled() => Some(Err(Error::interrupted(signal))),
        }
    };
    let exit = match ended {
        Some(Ok(exit)) => exit,
        Some(Err(error)) => {
            child.stop(grace).await?;
            return Err(error);
        }
        None => {
            tracing::warn!(
                program = child.name(),
                seconds = limits.time.as_secs_f64(),
                "child takes longer than it may"
            );
            child.stop(grace).await?;
            let seconds = limits.time.as_secs_f64();
            return Err(Error::infrastructure(format!("`{}` did not end within {seconds} s", child.name()))
                .code(Code::ChildTimeout)
                .hint("run the same command again; if it keeps happening, run that program by hand and see why."));
        }
    };
    let truncated = out.omitted() > 0;
    Ok(Captured { name: child.name().to_owned(), exit, stdout: out.into_bytes(), stderr: err.into_bytes(), truncated })
}

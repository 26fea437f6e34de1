//! A running child and how it ended.

use std::fmt;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::error::{Context as _, Result, signal_name};
use crate::process::command::Stderr;
use crate::process::orphans;
use crate::process::registry::ChildRecord;

/// How long output may continue after a child's last process has ended. It only ever takes that long where descendants can
/// escape (macOS).
pub(crate) const OUTPUT_LIMIT: Duration = Duration::from_secs(2);

/// How long the watcher may exceed its time before it counts as hung.
const WATCHER_SLACK: Duration = Duration::from_secs(12);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit status; 128 + signal when a signal ended the program.
    pub code: i32,
}

impl Exit {
    /// True for exit status 0.
    pub fn success(self) -> bool {
        self.code == 0
    }

    /// `exit status 3` or `killed by SIGKILL`, for messages.
    pub fn describe(self) -> String {
        match self.code {
            signal @ 129..=159 => format!("killed by {}", signal_name(signal - 128)),
            code => format!("exit status {code}"),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

/// A running child with all of its descendants. Dropping it ends them within the command's grace, without waiting.
#[derive(Debug)]
pub struct Child {
    /// The watcher.
    pid: Option<Pid>,
    name: String,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    log: Option<JoinHandle<()>>,
    grace: Duration,
    /// Orders for the watcher; dropping it breaks the lifeline.
    orders: Sender<Vec<u8>>,
    record: ChildRecord,
    /// How the watcher ended, once it has and no watched process is left.
    ended: watch::Receiver<Option<ExitCode>>,
    exit: Option<Exit>,
}

/// An exit code, or why there is none.
type ExitCode = std::result::Result<i32, String>;

impl Child {
    pub(crate) fn new(
        mut inner: tokio::process::Child,
        name: &str,
        stderr: Stderr,
        grace: Duration,
        orders: Sender<Vec<u8>>,
        record: ChildRecord,
    ) -> Child {
        let (stdout, pipe) = (inner.stdout.take(), inner.stderr.take());
        let pid = inner.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let (sender, ended) = watch::channel(None);
        // A separate task, because the reader of the program's output first waits for that to end: without its watcher
        // the program would go on forever.
        tokio::spawn(look_after(inner, pid, name.to_owned(), record.clone(), sender));
        let (stderr, log) = match (stderr, pipe) {
            (Stderr::Log(log), Some(pipe)) => (None, Some(tokio::spawn(log.copy(pipe)))),
            (_, pipe) => (pipe, None),
        };
        Child { pid, name: name.to_owned(), stdout, stderr, log, grace, orders, record, ended, exit: None }
    }

    /// The program's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The program's stdout; `None` the second time. Must be read (or dropped), or the program blocks.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// The program's stderr when it was started with [`Stderr::Pipe`]; `None` the second time.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.stderr.take()
    }

    /// Waits until the program and all of its descendants are gone and its log is complete. May be dropped and called
    /// again.
    ///
    /// # Errors
    /// When the operating system cannot tell how it ended.
    pub async fn wait(&mut self) -> Result<Exit> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let ended = match self.ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(Ok(255)),
            Err(_) => Err("the runtime is ending".into()),
        };
        let code = ended.map_err(anyhow::Error::msg).infra(|| format!("cannot wait for `{}`", self.name))?;
        if let Some(log) = &mut self.log {
            if timeout(OUTPUT_LIMIT, &mut *log).await.is_err() {
                log.abort();
            }
            self.log = None;
        }
        self.record.remove();
        let exit = Exit { code };
        self.exit = Some(exit);
        Ok(exit)
    }

    /// Asks the whole tree to end (SIGTERM); what is left after the command's grace is killed.
    pub fn terminate(&mut self) {
        self.terminate_within(self.grace);
    }

    fn terminate_within(&mut self, grace: Duration) {
        if self.ended.borrow().is_none() {
            info!(program = self.name, pid = number(self.pid), grace_s = grace.as_secs_f64(), "child is asked to end");
        }
        // A watcher that is gone needs no orders.
        let _ = self.orders.send(format!("T {}\n", grace.as_millis()).into_bytes());
    }

    /// Kills the whole tree.
    pub fn kill(&mut self) {
        info!(program = self.name, pid = number(self.pid), "child is killed");
        let _ = self.orders.send(b"K\n".to_vec());
    }

    /// Asks the whole tree to end, kills what is left after `grace`, and waits until all of it is gone.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub async fn stop(&mut self, grace: Duration) -> Result<Exit> {
        self.terminate_within(grace);
        match timeout(grace.saturating_add(WATCHER_SLACK), self.wait()).await {
            Ok(exit) => exit,
            Err(_) => {
                // The watcher itself hangs; `wait` ends what it leaves.
                warn!(program = self.name, pid = number(self.pid), "the watcher hangs and is killed");
                orphans::kill_watcher(self.pid);
                self.wait().await
            }
        }
    }
}

/// The process number as the log has it.
fn number(pid: Option<Pid>) -> Option<i32> {
    pid.map(|pid| pid.as_raw_nonzero().get())
}

/// Waits for the watcher; if it was killed, ends what it watched.
async fn look_after(
    mut inner: tokio::process::Child,
    pid: Option<Pid>,
    program: String,
    record: ChildRecord,
    sender: watch::Sender<Option<ExitCode>>,
) {
    let began = Instant::now();
    let status = inner.wait().await;
    orphans::watchers().remove(pid);
    let ended = match status {
        Err(error) => Err(error.to_string()),
        Ok(status) => match status.code() {
            Some(code) => Ok(code),
            None => {
                warn!(program, pid = number(pid), "the watcher was killed; what it watched is ended");
                let ending = move || {
                    let _ = record.end();
                    orphans::end();
                };
                let _ = tokio::task::spawn_blocking(ending).await;
                Ok(128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0))
            }
        },
    };
    let exit = ended.as_ref().map_or_else(Clone::clone, |code| Exit { code: *code }.describe());
    let seconds = format_args!("{:.3}", began.elapsed().as_secs_f64());
    info!(program, pid = number(pid), exit, %seconds, "child ended");
    let _ = sender.send(Some(ended));
}

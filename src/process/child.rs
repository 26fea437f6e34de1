//! A running child and how it ended.

use std::fmt;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::process::{ChildStderr, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::{Context as _, Result, signal_name};
use crate::process::orphans;
use crate::process::registry::Record;
use crate::process::supervisor::Stderr;

/// How long output may take to end after the last process of a child has. Only where descendants can escape (macOS) does
/// it ever take that long.
pub(crate) const OUTPUT_LIMIT: Duration = Duration::from_secs(2);

/// What the watcher may take beyond the time it was given, before it is taken for hung.
const WATCHER_SLACK: Duration = Duration::from_secs(12);

/// How a child ended.
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
    inner: tokio::process::Child,
    name: String,
    stderr: Option<ChildStderr>,
    log: Option<JoinHandle<()>>,
    grace: Duration,
    /// Orders for the watcher; dropping it breaks the lifeline.
    orders: Sender<Vec<u8>>,
    record: Record,
    exit: Option<Exit>,
}

impl Child {
    pub(crate) fn new(
        mut inner: tokio::process::Child,
        name: &str,
        stderr: Stderr,
        grace: Duration,
        orders: Sender<Vec<u8>>,
        record: Record,
    ) -> Child {
        let pipe = inner.stderr.take();
        let (stderr, log) = match (stderr, pipe) {
            (Stderr::Log(log), Some(pipe)) => (None, Some(tokio::spawn(log.copy(pipe)))),
            (_, pipe) => (pipe, None),
        };
        Child { inner, name: name.to_owned(), stderr, log, grace, orders, record, exit: None }
    }

    /// The program's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The program's stdout; `None` the second time. Must be read (or dropped), or the program blocks.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.inner.stdout.take()
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
        let watcher = self.inner.id().and_then(|pid| i32::try_from(pid).ok());
        let status = self.inner.wait().await.infra(|| format!("cannot wait for `{}`", self.name))?;
        orphans::watchers().remove(watcher);
        let code = match status.code() {
            Some(code) => code,
            None => {
                // Somebody killed the watcher, so nobody watches the program any more.
                let record = self.record.clone();
                let ending = move || {
                    let _ = record.end();
                    orphans::end();
                };
                let _ = tokio::task::spawn_blocking(ending).await;
                128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0)
            }
        };
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
        // A watcher that is gone needs no orders.
        let _ = self.orders.send(format!("T {}\n", grace.as_millis()).into_bytes());
    }

    /// Kills the whole tree.
    pub fn kill(&mut self) {
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
                let _ = self.inner.start_kill();
                self.wait().await
            }
        }
    }
}

//! Starting children: the only place in the tool that does so.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use crate::error::{Context as _, Result};
use crate::process::child::Child;
use crate::process::command::{Ask, Command};
use crate::process::registry::{self, ChildRecord};
use crate::process::{orphans, tree, watcher};

/// Starts children, each behind a watcher (see [`watcher`]) and with a record in `registry`.
#[derive(Debug, Clone)]
pub struct Supervisor {
    registry: PathBuf,
    watcher: PathBuf,
}

impl Supervisor {
    /// Keeps the records of running children in this directory (created when needed). Children are watched by this very
    /// binary.
    ///
    /// # Errors
    /// When the path of this binary cannot be found out.
    pub fn new(registry: impl Into<PathBuf>) -> Result<Supervisor> {
        // On Linux this names the running program even after an upgrade has replaced its file, so that tool and
        // watcher always speak the same version of the lifeline.
        let own = Path::new("/proc/self/exe");
        let watcher = if own.exists() {
            own.to_owned()
        } else {
            std::env::current_exe().infra(|| "cannot find the path of this program".into())?
        };
        Ok(Supervisor::with_watcher(registry, watcher))
    }

    /// Like [`Supervisor::new`], with the path of an autoharness binary: for programs that are not one, such as tests.
    pub fn with_watcher(registry: impl Into<PathBuf>, watcher: impl Into<PathBuf>) -> Supervisor {
        Supervisor { registry: registry.into(), watcher: watcher.into() }
    }

    /// The path of the binary that watches children, for programs that start it themselves; `None` when an upgrade has
    /// removed it.
    pub fn program(&self) -> Option<PathBuf> {
        let own = self.watcher.starts_with("/proc");
        let path = if own { std::env::current_exe().ok()? } else { self.watcher.clone() };
        path.is_file().then_some(path)
    }

    /// Starts a program. Needs a running tokio runtime.
    ///
    /// # Errors
    /// Infrastructure when the program does not exist or no process can be started. A program that exists but cannot be
    /// executed ends with exit status 126 and a line on its stderr.
    pub fn spawn(&self, command: Command) -> Result<Child> {
        command.check()?;
        let name = command.name();
        let record = ChildRecord::create(&self.registry, &name, command.grace)?;
        let result = self.start(command, &name, &record);
        if result.is_err() {
            record.remove();
        }
        result
    }

    fn start(&self, command: Command, name: &str, record: &ChildRecord) -> Result<Child> {
        let cannot = || format!("cannot start `{name}`");
        let (lifeline_end, mut lifeline) = std::io::pipe().infra(cannot)?;
        let mut watch = tokio::process::Command::new(&self.watcher);
        let mut watchers = orphans::watchers();
        let inner = watch
            .arg0("autoharness")
            .arg(watcher::ENTRY)
            .arg(&record.path)
            .arg("--")
            .arg(&command.program)
            .args(&command.args)
            .current_dir(&command.cwd)
            .env_clear()
            .envs(command.env)
            .env(tree::MARKER, &record.marker)
            .stdin(lifeline_end)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .infra(cannot)?;
        watchers.add(inner.id());
        // Not its arguments: they may name tasks.
        tracing::info!(program = name, pid = inner.id(), "child started");
        drop(watchers);
        // The builder still holds the read end: while it does, a dead watcher would not break the pipe.
        drop(watch);

        // A thread, because the pipe must close at the very moment the child is dropped, even when the runtime is not
        // running (anymore).
        let (orders, queue) = mpsc::channel::<Vec<u8>>();
        let ask = match command.ask {
            Ask::Tree => "tree",
            Ask::Leader => "leader",
        };
        let header = format!("1 {} {} {ask}\n", command.stdin.len(), command.grace.as_millis());
        let stdin = command.stdin;
        thread::spawn(move || {
            let mut sent = lifeline.write_all(header.as_bytes()).and_then(|()| lifeline.write_all(&stdin));
            drop(stdin);
            while let (Ok(()), Ok(order)) = (&sent, queue.recv()) {
                sent = lifeline.write_all(&order);
            }
        });
        Ok(Child::new(inner, name, command.stderr, command.grace, orders, record.clone()))
    }

    /// Ends what a tool that is dead left running; called by the holder of the lock when it starts. Blocks while that
    /// takes: at most the grace of those children and a few seconds. Says what was ended, such as
    /// `ended harbor (process 4711)`.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub fn end_leftovers(&self) -> Result<Vec<String>> {
        registry::end_leftovers(&self.registry)
    }
}

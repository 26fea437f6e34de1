//! Starting children: the only place in the tool that does.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::error::{Context as _, Error, Result};
use crate::process::child::Child;
use crate::process::log::Log;
use crate::process::registry::{self, Record};
use crate::process::{orphans, tree, watcher};

/// How long a child that was asked to end may take unless the caller says otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// What the shell looks through when `PATH` is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Starts children, each behind a watcher (see [`watcher`]) and with a record in `registry`.
#[derive(Debug, Clone)]
pub struct Supervisor {
    registry: PathBuf,
    watcher: PathBuf,
}

/// A program to start.
#[derive(Debug, Clone)]
pub struct Command {
    /// A name to be looked up in the child's `PATH`, or a path (relative to `cwd`).
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The directory it runs in.
    pub cwd: PathBuf,
    /// Its complete environment: nothing is inherited from the tool.
    pub env: Vec<(OsString, OsString)>,
    /// What it reads on stdin.
    pub stdin: Vec<u8>,
    /// Where its stderr goes.
    pub stderr: Stderr,
    /// How long it may take to end once it was asked to, before it is killed.
    pub grace: Duration,
    /// Who is asked to end.
    pub ask: Ask,
}

/// Who gets the SIGTERM that asks a child to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ask {
    /// The program and all of its descendants, at one stroke.
    #[default]
    Tree,
    /// The program alone, once: it tidies up, and needs its helpers for that. What is left when it has ended is asked
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
    fn check(&self) -> Result<()> {
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
                let error = Error::infrastructure(format!("cannot find the program `{program}`"));
                Err(if program.contains('/') {
                    error.hint(format!("`{program}` must exist below {} and be executable.", self.cwd.display()))
                } else {
                    error.hint(format!("install `{program}` or put its directory into PATH."))
                })
            }
        }
    }
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

    /// Starts a program. Needs a running tokio runtime.
    ///
    /// # Errors
    /// Infrastructure when the program does not exist or no process can be started. A program that exists but cannot be
    /// executed ends with exit status 126 and a line on its stderr.
    pub fn spawn(&self, command: Command) -> Result<Child> {
        command.check()?;
        let name = command.name();
        let record = Record::create(&self.registry, &name, command.grace)?;
        let result = self.start(command, &name, &record);
        if result.is_err() {
            record.remove();
        }
        result
    }

    fn start(&self, command: Command, name: &str, record: &Record) -> Result<Child> {
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
        drop(watchers);
        // The builder still holds the read end: while it does, a dead watcher would not break the pipe.
        drop(watch);

        // A thread, because the pipe must close at the very moment the child is dropped, even when the runtime is not
        // running (any more).
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

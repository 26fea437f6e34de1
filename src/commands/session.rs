//! An experiment held by this command: lock, ledger, state, views in order.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use chrono::{DateTime, Utc};

use super::experiment::Experiment;
use super::log;
use super::missing::not_prepared;
use crate::benchmarks::{self, Ground};
use crate::config::{Config, Environment};
use crate::error::{Code, Context as _, Error, Result};
use crate::guard::Repo;
use crate::paths::Paths;
use crate::process::signals::Cancel;
use crate::process::{Redactor, Supervisor};
use crate::provision;
use crate::report::bill::Paid;
use crate::store::atomic;
use crate::store::checkpoint::Checkpoint;
use crate::store::event::{Event, Prepared};
use crate::store::ledger::{self, Entry, Index, Writer};
use crate::store::lock::Lock;
use crate::store::scratch;
use crate::store::state::{State, timestamp};
use crate::store::trials::Trials;
use crate::store::views::{self, ViewsOnDisk, Written};
use crate::ui::Ui;

/// What a command wants of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Single trials too: the whole ledger is replayed and its chain checked.
    Trials,
    /// The summary: the checkpoint is enough if the chain, which is checked as well, confirms it. Single trials are then those
    /// of agents that [`Session::read_trials_of`] names.
    Summary,
}

/// An experiment this command holds.
pub(super) struct Session {
    pub ui: Ui,
    pub paths: Paths,
    pub config: Config,
    pub environment: Environment,
    /// The repository, read-only.
    pub repo: Repo,
    /// What the ledger adds up to.
    pub state: State,
    pub writer: Writer,
    /// What this command's trials cost.
    pub paid: Paid,
    /// Whether what it runs is for reading only: it leaves nothing in the ledger, the views or the traces.
    pub is_for_reading: bool,
    /// Where single trials are that were not read; nothing when all were.
    unread: Option<Index>,
    /// How the views on disk compared with the ledger when the session was opened.
    pub views: ViewsOnDisk,
    written: Written,
    _lock: Lock,
}

impl Session {
    /// Takes the lock, ends what a killed command left running, reads the ledger and brings stale views up to date.
    /// Views that something else changed are reported in `views`, not fixed. Errors: usage when another command holds
    /// the lock, the configuration is wrong or the ledger was tampered with.
    pub(super) fn open(experiment: Experiment, need: Reading) -> Result<Session> {
        let config = experiment.config()?;
        let Experiment { ui, paths, environment, repo } = experiment;
        paths.create_state()?;
        let lock = Lock::take(&paths.lock(), &command_line(), timestamp(Utc::now()))?;
        log::begin(&paths, &config, &environment, &ui);
        for ended in Supervisor::new(paths.processes())?.end_leftovers()? {
            tracing::warn!(ended, "an interrupted command left a child running");
            ui.warn(format!("ended a process that an interrupted command left running: {ended}"));
        }
        let _ = fs_err::remove_dir_all(paths.scratch());
        let _ = fs_err::remove_dir_all(paths.copies());
        scratch::sweep(&paths.state)?;
        for directory in written_to(&paths, &config) {
            atomic::sweep(&directory)?;
        }
        prune_logs(&paths.logs());
        let began = Instant::now();
        let mut checkpoint = Checkpoint::load(&paths.checkpoint());
        let current = match &checkpoint {
            Some(checkpoint) => checkpoint.is_current(&paths.ledger())?,
            None => false,
        };
        let confirmed = match &mut checkpoint {
            Some(checkpoint) if current && need == Reading::Summary => {
                checkpoint.confirm(&paths.ledger())?.map(|(report, index)| {
                    let summary = std::mem::take(&mut checkpoint.summary);
                    (State { summary, trials: Trials::without(index.agents()) }, report, Some(index))
                })
            }
            _ => None,
        };
        let (state, report, unread) = match confirmed {
            Some(confirmed) => confirmed,
            None => {
                let (state, report) = State::replay(&paths.ledger())?;
                (state, report, None)
            }
        };
        if let Some(checkpoint) = checkpoint.as_ref().filter(|_| !current) {
            checkpoint.require_continued(&paths.ledger())?;
        }
        if report.torn > 0 {
            ui.warn(format!(
                "{}: dropped a torn last line of {} bytes (a power cut or a full disk); nothing before it is lost",
                paths.ledger().display(),
                report.torn
            ));
        }
        let writer = Writer::open(&paths.ledger(), &report)?;
        tracing::debug!(events = report.tip.next_seq, torn = report.torn, seconds = log::seconds(began), "ledger read");
        let now = views::render(&state.summary)?;
        let mut written = Written::load(&paths.written_views(), &paths.workspace());
        if now.is_empty() {
            // A workspace of the Python original, about to be adopted: whatever kills us, these files stay known.
            written.remember_disk(&paths.workspace())?;
        }
        let comparison = views::compare(&paths.workspace(), &now, &written)?;
        if comparison.changed.is_empty() && !(comparison.missing.is_empty() && comparison.stale.is_empty()) {
            views::write(&paths.workspace(), &now, &mut written)?;
            ui.detail("views brought up to date with the ledger");
        }
        let paid = Paid::default();
        Ok(Session {
            ui,
            paths,
            config,
            environment,
            repo,
            state,
            writer,
            paid,
            is_for_reading: false,
            unread,
            views: comparison,
            written,
            _lock: lock,
        })
    }

    /// Reads the single trials of these agents, if they were not read. To be called once: those of others stay unread. Errors:
    /// as for opening; infrastructure when the ledger changes meanwhile.
    pub(super) fn read_trials_of(&mut self, agents: &BTreeSet<&str>) -> Result<()> {
        let Some(index) = self.unread.take() else { return Ok(()) };
        let trials = &mut self.state.trials;
        agents.iter().for_each(|agent| trials.begin(agent));
        let began = Instant::now();
        ledger::read_of(&self.paths.ledger(), &index, agents, &mut |entry| {
            if entry.event.agent_run().is_some_and(|agent| agents.contains(agent)) {
                trials.apply(&entry.event);
            }
            Ok(())
        })?;
        tracing::debug!(agents = agents.len(), seconds = log::seconds(began), "trials read");
        Ok(())
    }

    /// Refuses to go on when a view was changed. Errors: usage, naming the files and the command that fixes them.
    pub(super) fn require_views(&self) -> Result<()> {
        if self.views.changed.is_empty() {
            Ok(())
        } else {
            Err(views::refused(&self.paths.workspace(), &self.views.changed))
        }
    }

    /// The last `prepared` event.
    pub(super) fn prepared(&self) -> Result<&Prepared> {
        self.state.summary.prepared.as_ref().ok_or_else(not_prepared)
    }

    /// Refuses to start while anything is visibly missing. Errors: usage, listing all that is missing.
    pub(super) fn require_surroundings(&self) -> Result<()> {
        let benchmark = benchmarks::of(&self.config);
        provision::require(&benchmarks::quick(benchmark, &self.config, &self.paths.root, &self.environment))
    }

    /// Refuses a configuration other than the one prepared with.
    /// Errors: usage, naming what changed.
    pub(super) fn require_same_config(&self) -> Result<()> {
        match self.config_changes()? {
            None => Ok(()),
            Some(changes) => Err(Error::usage(format!(
                "{} is not the one this experiment was prepared with: {changes}",
                self.paths.config.display()
            ))
            .code(Code::ConfigChanged)
            .hint("undo the change; a human who wants it runs `autoharness prepare --accept`.")),
        }
    }

    /// How the configuration differs from the one prepared with, in one line; `None` when it means the same: comments,
    /// line ends and the order of keys do not matter.
    pub(super) fn config_changes(&self) -> Result<Option<String>> {
        let prepared = self.prepared()?;
        if prepared.config_digest == self.config.digest {
            return Ok(None);
        }
        let changes = self.config.changes_since(&prepared.config);
        Ok((!changes.is_empty()).then(|| changes.join(", ")))
    }

    /// Forgets what the ledger adds up to: what comes is compared with nothing, and nothing of it is kept.
    pub(super) fn read_only(&mut self) {
        (self.state, self.is_for_reading) = (State::default(), true);
    }

    /// Appends an event and takes it into the state.
    pub(super) fn append(&mut self, event: Event<'_>) -> Result<u64> {
        if let Event::Trial(trial) = &event {
            self.paid.add(&trial.usage);
        }
        if self.is_for_reading {
            let seq = self.writer.tip().next_seq;
            self.state.apply(Entry { v: event.version(), seq, prev: "".into(), at: Utc::now(), event });
            return Ok(seq);
        }
        append(&mut self.writer, &mut self.state, event, Utc::now())
    }

    /// Keeps git from collecting a base commit. A repository that cannot be written to only causes a warning.
    pub(super) fn keep(&self, commit: &str) {
        if let Err(error) = self.repo.keep(commit) {
            self.ui.detail(format!("git may collect the base commit some day: {error}"));
        }
    }

    /// Puts the ledger on the disk, brings the views up to date and leaves a checkpoint.
    pub(super) fn finish(&mut self) -> Result<()> {
        let began = Instant::now();
        self.writer.sync()?;
        if self.views.changed.is_empty() {
            views::write(&self.paths.workspace(), &views::render(&self.state.summary)?, &mut self.written)?;
        }
        Checkpoint::save(&self.paths.checkpoint(), self.writer.tip(), &self.state.summary)?;
        tracing::debug!(seconds = log::seconds(began), "ledger, views and checkpoint written");
        Ok(())
    }

    /// A supervisor for child processes.
    pub(super) fn supervisor(&self) -> Result<Supervisor> {
        Supervisor::new(self.paths.processes())
    }

    /// What a benchmark may know of the experiment.
    pub(super) fn ground<'a>(&'a self, supervisor: &'a Supervisor, cancel: &'a Cancel) -> Ground<'a> {
        let Session { config, paths, environment, .. } = self;
        Ground { config, paths, environment, supervisor, cancel }
    }

    /// Removes secrets from the output of children.
    pub(super) fn redactor(&self) -> Redactor {
        Redactor::new(self.environment.secret_values())
    }
}

/// Appends an event and takes it into the state: nothing is remembered in any other way. After an error the state may be
/// ahead of the ledger; the command has to end.
pub(super) fn append(writer: &mut Writer, state: &mut State, event: Event<'_>, at: DateTime<Utc>) -> Result<u64> {
    // The time stamp as a reader of the ledger will see it.
    let at = DateTime::from_timestamp_millis(at.timestamp_millis()).unwrap_or(at);
    // Trials are many, and no command ends with one.
    if matches!(event, Event::Trial(_)) {
        let seq = writer.append(&event, at)?;
        state.apply(Entry { v: event.version(), seq, prev: "".into(), at, event });
        return Ok(seq);
    }
    let v = event.version();
    let written = serde_json::value::to_raw_value(&event).infra(|| "cannot write an event".into())?;
    state.apply(Entry { v, seq: writer.tip().next_seq, prev: "".into(), at, event });
    writer.append_with_sum(v, &written, at, &state.summary.digest()?)
}

/// The places where files are replaced atomically, so that a killed command can leave a temporary one.
fn written_to(paths: &Paths, config: &Config) -> Vec<PathBuf> {
    let splits = benchmarks::ALL.iter().filter_map(|benchmark| benchmark.split_directory());
    let splits = splits.map(|directory| paths.root.join(directory));
    let editable = config.editable.iter().filter_map(|file| Some(paths.root.join(file).parent()?.to_path_buf()));
    let own = [paths.state.clone(), paths.workspace(), paths.root.clone()];
    let mut all: Vec<PathBuf> = own.into_iter().chain(splits).chain(editable).collect();
    // A link may lead anywhere.
    all.retain(|directory| !directory.is_symlink());
    all.sort();
    all.dedup();
    all
}

/// Keeps the newest logs of runs; without a bound they would grow with every night.
fn prune_logs(directory: &Path) {
    const KEPT: usize = 50;
    let Ok(entries) = fs_err::read_dir(directory) else { return };
    let mut logs: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    logs.sort_unstable_by_key(|path| std::cmp::Reverse(fs_err::metadata(path).and_then(|log| log.modified()).ok()));
    for log in logs.iter().skip(KEPT) {
        // One that cannot be removed does no harm.
        let _ = fs_err::remove_file(log);
    }
}

/// The command line as typed, for the lock and the ledger. Our options carry no secrets.
pub(super) fn command_line() -> String {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    words.insert(0, "autoharness".into());
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

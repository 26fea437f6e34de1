//! Follows a job directory of Harbor and passes on every trial when it is final.
//!
//! It polls instead of using Harbor's plugin events: a plugin lives in the same process as the agent, and in the end
//! only the files on disk count. A poll costs one `stat` while nothing happens, because Harbor rewrites the job's own
//! `result.json` whenever a trial begins or ends.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::file::TrialFile;

/// The time between two polls right after a change.
const SHORTEST: Duration = Duration::from_millis(200);
/// The time between two polls while nothing happens. The end of Harbor is noticed at once in any case.
const LONGEST: Duration = Duration::from_secs(5);
/// Time stamps can miss a change, so everything is read this often.
const FULL_LOOK: Duration = Duration::from_secs(15);

/// A trial whose result is final.
#[derive(Debug)]
pub struct Finished {
    pub directory: PathBuf,
    pub file: TrialFile,
}

/// The watch over one job directory.
#[derive(Debug)]
pub struct Watch {
    job: PathBuf,
    job_result: Option<(SystemTime, u64)>,
    directory: Option<SystemTime>,
    open: BTreeSet<OsString>,
    done: HashSet<OsString>,
    changed: Instant,
    full: Instant,
    torn: bool,
}

impl Watch {
    /// Watches the job directory `job`, which need not exist yet.
    pub fn new(job: PathBuf) -> Watch {
        let now = Instant::now();
        Watch {
            job,
            job_result: None,
            directory: None,
            open: BTreeSet::new(),
            done: HashSet::new(),
            changed: now,
            full: now,
            torn: false,
        }
    }

    /// How long to wait before the next look.
    pub fn interval(&self) -> Duration {
        if self.torn { SHORTEST } else { pause(self.changed.elapsed()) }
    }

    /// The trials that became final since the last look.
    pub fn look(&mut self) -> Vec<Finished> {
        let job_result = stamp(&self.job.join("result.json"));
        let due = self.full.elapsed() >= FULL_LOOK;
        if job_result == self.job_result && !due && !self.torn {
            return Vec::new();
        }
        if job_result != self.job_result {
            self.changed = Instant::now();
        }
        self.job_result = job_result;
        if due {
            self.full = Instant::now();
        }
        self.scan(false)
    }

    /// A last look at everything, when Harbor has ended.
    pub fn look_at_all(&mut self) -> Vec<Finished> {
        self.scan(true)
    }

    fn scan(&mut self, all: bool) -> Vec<Finished> {
        let directory = fs_err::metadata(&self.job).and_then(|metadata| metadata.modified()).ok();
        if all || directory != self.directory {
            self.directory = directory;
            let entries = fs_err::read_dir(&self.job).into_iter().flatten().flatten();
            let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let new = directories.map(|entry| entry.file_name()).filter(|name| !self.done.contains(name));
            self.open.extend(new);
        }
        self.torn = false;
        let mut found = Vec::new();
        for name in &self.open {
            let directory = self.job.join(name);
            // Most of them have none yet.
            let Ok(bytes) = fs_err::read(directory.join("result.json")) else { continue };
            match TrialFile::parse(&bytes) {
                Some(file) => found.push(Finished { directory, file }),
                None => self.torn = true,
            }
        }
        for finished in &found {
            if let Some(name) = finished.directory.file_name() {
                self.open.remove(name);
                self.done.insert(name.to_owned());
            }
        }
        found
    }

    /// Names of the trials that began and have no final result.
    pub fn unfinished(&self) -> impl Iterator<Item = String> {
        self.open.iter().map(|name| name.to_string_lossy().into_owned())
    }

    /// Whether any trial began.
    pub fn began(&self) -> bool {
        !self.open.is_empty() || !self.done.is_empty()
    }
}

/// How long to wait when nothing has happened for this long: a job that takes hours is not polled five times a second.
pub fn pause(quiet: Duration) -> Duration {
    quiet.clamp(SHORTEST, LONGEST)
}

/// Whether the job itself says that it is complete.
pub fn job_is_finished(job: &Path) -> bool {
    #[derive(serde::Deserialize)]
    struct Job {
        finished_at: Option<String>,
    }
    let bytes = fs_err::read(job.join("result.json")).unwrap_or_default();
    serde_json::from_slice::<Job>(&bytes).is_ok_and(|job| job.finished_at.is_some())
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs_err::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

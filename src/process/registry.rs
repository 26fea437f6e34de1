//! The running children, recorded on disk, so that the next holder of the lock can end what a killed tool left running.
//!
//! One file per child, named after the marker that the child and all of its descendants carry in their environment. The
//! watcher removes it when the last descendant is gone. It matters only when tool *and* watcher were killed with SIGKILL.
//! Without `/proc` (macOS) such processes cannot be found again safely and are left alone.
//!
//! Host and containers may use one directory. A process number of another container means nothing here, so such records
//! are judged by the processes with their marker that can be seen from here.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use fs_err as fs;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::error::{Context as _, Result};
use crate::process::tree::{self, Process};
use crate::process::watcher;

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long killed processes may take to vanish.
const KILL_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    program: String,
    tool: i32,
    tool_start: u64,
    boot: String,
    /// Where `tool` is a process number; 0 in records of older versions.
    #[serde(default)]
    namespace: u64,
    grace_ms: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct ChildRecord {
    pub(crate) path: PathBuf,
    pub(crate) marker: String,
    grace: Duration,
}

impl ChildRecord {
    /// Writes the record of a child about to be started.
    pub(crate) fn create(directory: &Path, program: &str, grace: Duration) -> Result<ChildRecord> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let tool = own_pid();
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let marker = format!("{tool}-{}-{:x}", COUNT.fetch_add(1, Ordering::Relaxed), since_epoch.as_nanos());
        let path = directory.join(format!("{marker}.json"));
        let contents = Contents {
            program: program.to_owned(),
            tool,
            tool_start: tree::look_up(tool).map_or(0, |process| process.start),
            boot: tree::boot_id(),
            namespace: tree::namespace(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        };
        fs::create_dir_all(directory)?;
        let json = serde_json::to_vec(&contents).infra(|| "cannot describe a child process".into())?;
        fs::write(&path, json)?;
        Ok(ChildRecord { path, marker, grace })
    }

    /// Forgets the child. It may be forgotten already.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }

    /// Ends everything that carries the marker; blocks until it is gone. A watcher that is already ending it gets the time
    /// it needs. Returns what was found running, and whether all of it is gone.
    pub(crate) fn end(&self) -> (Vec<Process>, bool) {
        let found = tree::marked(&self.marker);
        if found.is_empty() {
            return (found, true);
        }
        if !found.iter().any(|process| self.is_watcher(process.pid)) {
            tree::send_all(found.iter().copied(), Signal::TERM);
        }
        // A watcher that hangs gets no more than its own grace and a little.
        let killing_from = Instant::now() + self.grace + Duration::from_secs(1);
        loop {
            let left = tree::marked(&self.marker);
            if left.is_empty() {
                return (found, true);
            }
            let now = Instant::now();
            if now > killing_from + KILL_LIMIT {
                return (found, false);
            }
            if now > killing_from {
                tree::send_all(left, Signal::KILL);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn is_watcher(&self, pid: i32) -> bool {
        let Ok(command) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        let mut words = command.split(|&byte| byte == 0).skip(1);
        // In a container the directory may have another path; the name is unique.
        words.next() == Some(watcher::ENTRY.as_bytes())
            && words.next().is_some_and(|path| Path::new(OsStr::from_bytes(path)).file_name() == self.path.file_name())
    }
}

/// Ends what dead tools left running and removes their records. Says what it ended, one sentence fragment each.
pub(crate) fn end_leftovers(directory: &Path) -> Result<Vec<String>> {
    let mut ended = Vec::new();
    if !directory.is_dir() {
        return Ok(ended);
    }
    let boot = tree::boot_id();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(marker) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        // A torn record is from a tool killed before it started the child.
        let contents = fs::read(&path).ok().and_then(|json| serde_json::from_slice::<Contents>(&json).ok());
        let Some(contents) = contents.filter(|contents| contents.boot == boot) else {
            let _ = fs::remove_file(&path);
            continue;
        };
        let record = ChildRecord {
            marker: marker.to_owned(),
            path: path.clone(),
            grace: Duration::from_millis(contents.grace_ms),
        };
        let may_live = if contents.namespace == tree::namespace() {
            is_alive(contents.tool, contents.tool_start)
        } else {
            may_live_elsewhere(&record)
        };
        if may_live {
            continue;
        }
        let (found, gone) = record.end();
        if gone {
            record.remove();
        }
        if !found.is_empty() {
            let numbers: Vec<String> = found.iter().map(|process| process.pid.to_string()).collect();
            let fate = if gone { "ended" } else { "could not end" };
            ended.push(format!("{fate} {} (process {})", contents.program, numbers.join(", ")));
        }
    }
    Ok(ended)
}

/// Whether a tool in another container, or outside of ours, may still care for its child.
fn may_live_elsewhere(record: &ChildRecord) -> bool {
    let found = tree::marked(&record.marker);
    if found.is_empty() {
        // It may only be invisible from here: then a later command that sees it, or the next boot, removes the record.
        return !tree::sees_everybody();
    }
    // If a watcher is there, its tool lives, or the watcher is ending the rest by itself.
    found.iter().any(|process| record.is_watcher(process.pid))
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

#[cfg(target_os = "linux")]
fn is_alive(pid: i32, start: u64) -> bool {
    tree::look_up(pid).is_some_and(|process| process.start == start && !process.zombie)
}

#[cfg(not(target_os = "linux"))]
fn is_alive(pid: i32, _start: u64) -> bool {
    rustix::process::Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

//! Processes whose watcher was killed under them. A watcher adopts whatever a program leaves behind. When a daemon kills the
//! watcher, this tool, the next one up, adopts it. All other children of this tool are watchers, so any child that is not a
//! watcher is an orphan, whatever it did to its environment, group or session.
//!
//! A daemon that also kills the tool and has wiped its environment gets away: only a container stops it then.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use crate::process::tree;

/// How often we check orphans that are being killed: they may still fork.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A process that survives SIGKILL this long hangs in the kernel.
const KILL_LIMIT: Duration = Duration::from_secs(5);

static ADOPTING: AtomicBool = AtomicBool::new(false);
/// The living watchers, by process number. The list is locked while one is started, so that it is never taken for an orphan.
static WATCHERS: Mutex<Option<HashSet<i32>>> = Mutex::new(None);

/// Makes this process adopt orphans. Only for a program that starts only watchers.
pub(crate) fn adopt() {
    #[cfg(target_os = "linux")]
    if rustix::process::set_child_subreaper(Some(rustix::process::getpid())).is_ok() {
        ADOPTING.store(true, Ordering::Relaxed);
    }
}

/// The list of living watchers; nothing is killed while it is held.
pub(crate) struct Watchers(MutexGuard<'static, Option<HashSet<i32>>>);

pub(crate) fn watchers() -> Watchers {
    Watchers(WATCHERS.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Watchers {
    pub(crate) fn add(&mut self, pid: Option<u32>) {
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
            self.0.get_or_insert_default().insert(pid);
        }
    }

    /// From now on another process may get its number.
    pub(crate) fn remove(&mut self, pid: Option<Pid>) {
        if let (Some(pid), Some(known)) = (pid, &mut *self.0) {
            known.remove(&pid.as_raw_nonzero().get());
        }
    }

    fn are(&self, pid: i32) -> bool {
        self.0.as_ref().is_some_and(|known| known.contains(&pid))
    }
}

/// Kills a watcher that hangs, unless it is gone already.
pub(crate) fn kill_watcher(pid: Option<Pid>) {
    let watchers = watchers();
    if let Some(pid) = pid.filter(|pid| watchers.are(pid.as_raw_nonzero().get())) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// Kills the orphans that came to us, and all of their descendants. Blocks until they are gone.
pub(crate) fn end() {
    if !ADOPTING.load(Ordering::Relaxed) {
        return;
    }
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let end = Instant::now() + KILL_LIMIT;
    loop {
        let living = {
            let watchers = watchers();
            let orphans: Vec<tree::Process> =
                tree::children(own).into_iter().filter(|process| !watchers.are(process.pid)).collect();
            for orphan in &orphans {
                if orphan.zombie {
                    let _ = Pid::from_raw(orphan.pid).map(|pid| waitpid(Some(pid), WaitOptions::NOHANG));
                } else {
                    // The orphan last: while it lives, its descendants can be recognised.
                    tree::send_all(tree::descendants(orphan.pid), Signal::KILL);
                    tree::send(*orphan, Signal::KILL);
                }
            }
            !orphans.is_empty()
        };
        if !living || Instant::now() > end {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

//! A limit on every read of git. libgit2 never returns from some damaged objects (it inflates a truncated one forever),
//! and it cannot be interrupted. So a thread watches the reads: if one takes too long, or goes on after a signal, the
//! process ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Code, Error};
use crate::process::signals;
use crate::ui::Ui;

/// How long one read may take. An object takes milliseconds, a merge base of a huge history seconds.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a read may still take after a signal.
const GRACE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(200);

static READS: Mutex<Reads> = Mutex::new(Reads { next: 0, running: BTreeMap::new() });
static THREAD: Once = Once::new();
static UI: OnceLock<Ui> = OnceLock::new();

struct Reads {
    next: u64,
    running: BTreeMap<u64, Read>,
}

struct Read {
    what: String,
    since: Instant,
}

/// Makes a read that does not end report here, like every other error.
pub(crate) fn errors_to(ui: &Ui) {
    let _ = UI.set(ui.clone());
}

/// Runs one read of the repository; `what` names it if it does not end.
pub(super) fn reading<T>(what: impl FnOnce() -> String, read: impl FnOnce() -> T) -> T {
    THREAD.call_once(|| {
        // Without the thread, reads have no limit, which is no reason to fail.
        let _ = std::thread::Builder::new().name("git-reads".into()).spawn(watch);
    });
    let id = {
        let mut reads = lock();
        reads.next += 1;
        let id = reads.next;
        reads.running.insert(id, Read { what: what(), since: Instant::now() });
        id
    };
    let _running = Running(id);
    read()
}

/// Takes the read off the list, however it ends.
struct Running(u64);

impl Drop for Running {
    fn drop(&mut self) {
        lock().running.remove(&self.0);
    }
}

fn lock() -> MutexGuard<'static, Reads> {
    READS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch() {
    let mut signalled = None;
    loop {
        std::thread::sleep(POLL);
        let now = Instant::now();
        if let Some(signal) = signals::arrived() {
            signalled = signalled.or(Some((signal, now)));
        }
        if let Some(error) = lock().running.values().find_map(|read| overdue(read, signalled, now)) {
            end(&error);
        }
    }
}

/// The error for a read that took too long.
fn overdue(read: &Read, signalled: Option<(i32, Instant)>, now: Instant) -> Option<Error> {
    let took = now.saturating_duration_since(read.since);
    // Another read may have begun after the signal; the main thread will see the signal between the two.
    let deaf = signalled.filter(|(_, at)| now.saturating_duration_since((*at).max(read.since)) >= GRACE);
    let error = match deaf {
        Some((signal, _)) => Error::interrupted(signal).because(anyhow::anyhow!("git was still reading {}", read.what)),
        None if took >= LIMIT => {
            Error::infrastructure(format!("reading {} from git has not ended for {} s", read.what, took.as_secs()))
                .code(Code::GitUnreadable)
        }
        None => return None,
    };
    Some(error.hint(
        "an object is most likely damaged: `git fsck --full` names it; delete that file and `git fetch`, or clone anew.",
    ))
}

/// The reading thread cannot be stopped, so the process ends. What that leaves behind, the next command cleans up, as
/// after any kill.
#[allow(clippy::exit, reason = "a thread inside libgit2 cannot be ended in any other way")]
fn end(error: &Error) -> ! {
    let (code, exit_code) = (error.named().name(), error.exit_code());
    tracing::error!(exit_code, code, place = %error.place(), "command failed");
    if let Some(ui) = UI.get() {
        ui.error(error);
    }
    std::process::exit(error.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(since: Instant) -> Read {
        Read { what: "blob abc".into(), since }
    }

    #[test]
    fn a_read_ends_at_its_limit_or_soon_after_a_signal() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(overdue(&read(start), None, after(59)).is_none());
        let late = overdue(&read(start), None, after(60)).unwrap();
        assert_eq!(late.exit_code(), 3);
        assert!(late.to_string().contains("reading blob abc from git has not ended for 60 s"), "{late}");
        assert!(late.hints()[0].contains("git fsck"), "{:?}", late.hints());
        assert!(overdue(&read(start), Some((15, after(5))), after(5)).is_none());
        assert_eq!(overdue(&read(start), Some((15, after(5))), after(6)).unwrap().exit_code(), 143);
        assert!(overdue(&read(after(9)), Some((15, after(5))), after(9)).is_none(), "a read of its own");
    }

    #[test]
    fn a_read_is_on_the_list_only_while_it_runs() {
        let listed = || lock().running.values().filter(|read| read.what == "this very test").count();
        assert_eq!(reading(|| "this very test".into(), listed), 1);
        assert_eq!(listed(), 0);
    }
}

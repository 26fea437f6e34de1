//! Finding and signalling the descendants of a process, through `/proc` on Linux. Elsewhere there is no such table:
//! nothing is found, and process groups are all we have.

use rustix::process::Signal;

/// The variable every child of ours inherits. It names the child in its record (see [`super::registry`]), so that a
/// process left behind by a killed tool can be recognised, whatever became of its parents or its group.
pub(crate) const MARKER: &str = "AUTOHARNESS_CHILD";

/// A process at one moment. Number and start time together name it for as long as the machine is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "without /proc nothing fills it in"))]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    /// Clock ticks after boot.
    pub(crate) start: u64,
    pub(crate) zombie: bool,
}

#[cfg(target_os = "linux")]
mod imp {
    use std::collections::HashSet;
    use std::os::unix::fs::MetadataExt as _;

    use fs_err as fs;
    use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

    use super::{MARKER, Process};

    /// Looks one process up; `None` when it is gone.
    pub(crate) fn look_up(pid: i32) -> Option<Process> {
        parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name of a program may contain spaces and brackets, so the fields start after the last bracket.
    pub(super) fn parse(stat: &[u8]) -> Option<Process> {
        let pid = std::str::from_utf8(stat.split(|&byte| byte == b' ').next()?).ok()?.parse().ok()?;
        let end = stat.iter().rposition(|&byte| byte == b')')?;
        let fields: Vec<&str> = std::str::from_utf8(stat.get(end + 1..)?).ok()?.split_whitespace().collect();
        Some(Process {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
            zombie: matches!(*fields.first()?, "Z" | "X"),
        })
    }

    fn all() -> Vec<Process> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter_map(look_up).collect()
    }

    fn with_descendants(mut found: HashSet<i32>, processes: &[Process]) -> HashSet<i32> {
        loop {
            let before = found.len();
            for process in processes {
                if found.contains(&process.parent) {
                    found.insert(process.pid);
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    /// The children of `parent`, dead ones too.
    pub(crate) fn children(parent: i32) -> Vec<Process> {
        all().into_iter().filter(|process| process.parent == parent).collect()
    }

    /// Every living descendant of `root`, without `root`.
    pub(crate) fn descendants(root: i32) -> Vec<Process> {
        let processes = all();
        let mut found = with_descendants(HashSet::from([root]), &processes);
        found.remove(&root);
        processes.into_iter().filter(|process| found.contains(&process.pid) && !process.zombie).collect()
    }

    /// Every living process whose environment carries this marker, and their descendants.
    pub(crate) fn marked(marker: &str) -> Vec<Process> {
        let wanted = format!("{MARKER}={marker}");
        let carries = |process: &&Process| {
            fs::read(format!("/proc/{}/environ", process.pid))
                .is_ok_and(|environ| environ.split(|&byte| byte == 0).any(|variable| variable == wanted.as_bytes()))
        };
        let processes = all();
        let roots = processes.iter().filter(carries).map(|process| process.pid).collect();
        let found = with_descendants(roots, &processes);
        processes.into_iter().filter(|process| found.contains(&process.pid) && !process.zombie).collect()
    }

    /// Signals exactly this process: the handle is opened first and the start time compared afterwards, so another process
    /// that got its number in the meantime is never hit.
    pub(crate) fn send(process: Process, signal: Signal) {
        let Some(pid) = Pid::from_raw(process.pid) else { return };
        let handle = pidfd_open(pid, PidfdFlags::empty());
        if look_up(process.pid).is_none_or(|now| now.start != process.start) {
            return;
        }
        // A process that ended by itself in between is no error. Without process handles (old kernels, some sandboxes)
        // the check above leaves a window of microseconds.
        let _ = match handle {
            Ok(handle) => pidfd_send_signal(&handle, signal),
            Err(_) => kill_process(pid, signal),
        };
    }

    /// Differs after every boot, so that process numbers recorded before it are not taken for today's.
    pub(crate) fn boot_id() -> String {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
    }

    /// The namespace of our process numbers; a container has its own. 0 when the kernel does not say.
    pub(crate) fn namespace() -> u64 {
        fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino())
    }

    /// Whether every process of the machine can be seen from here. The kernel gives its first namespace this number.
    pub(crate) fn sees_everybody() -> bool {
        namespace() == 0xEFFF_FFFC
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use rustix::process::Signal;

    use super::Process;

    pub(crate) fn look_up(_pid: i32) -> Option<Process> {
        None
    }

    pub(crate) fn children(_parent: i32) -> Vec<Process> {
        Vec::new()
    }

    pub(crate) fn descendants(_root: i32) -> Vec<Process> {
        Vec::new()
    }

    pub(crate) fn marked(_marker: &str) -> Vec<Process> {
        Vec::new()
    }

    pub(crate) fn send(_process: Process, _signal: Signal) {}

    pub(crate) fn boot_id() -> String {
        String::new()
    }

    pub(crate) fn namespace() -> u64 {
        0
    }

    pub(crate) fn sees_everybody() -> bool {
        true
    }
}

pub(crate) use imp::{boot_id, children, descendants, look_up, marked, namespace, sees_everybody, send};

/// Signals each of these processes.
pub(crate) fn send_all(processes: impl IntoIterator<Item = Process>, signal: Signal) {
    for process in processes {
        send(process, signal);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_cannot_disguise_its_process() {
        let mut line = b"42 (a) R 1 (b) ) S 7 41 41 0 -1".to_vec();
        line.extend_from_slice(b" 0 0 0 0 0 0 0 0 0 20 0 1 0 98765 0 0");
        let process = imp::parse(&line).expect("a stat line");
        assert_eq!(process, Process { pid: 42, parent: 7, group: 41, start: 98765, zombie: false });
    }

    #[test]
    fn this_process_is_found_and_alive() {
        let me = i32::try_from(std::process::id()).expect("process numbers are small");
        let process = look_up(me).expect("this process exists");
        assert!(!process.zombie && process.start > 0);
        assert!(look_up(i32::MAX).is_none());
    }
}

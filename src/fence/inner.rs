//! The inner process of a fence: puts itself under the remaining layers, starts the program, and reaps processes.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, Signal, WaitOptions, setrlimit, wait};

use super::files;
use super::layers::{EXIT_NO_FENCE, Layers, complain, report};
use super::reach::{Network, Reach};
use super::root;
use super::syscalls::{Others, refuse};
use crate::process::watcher::{EXIT_CANNOT_START, EXIT_NOT_FOUND};

/// Gibibytes of memory that one process may fill, far above what an agent needs and below what takes a machine down.
const MEMORY: u64 = 16 << 30;
const LARGEST_FILE: u64 = 1 << 30;
const PROCESSES: u64 = 512;

pub(super) fn run(reach: &Reach) -> u8 {
    let built = reach.built.as_deref().and_then(|built| serde_json::from_str::<Layers>(built).ok());
    let Some(mut layers) = built else { return complain("the inner process of a fence is started by the outer one") };
    // The outer process may have died before the death signal was asked for; its end of the pipe is gone then.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if !outer_lives() {
        return EXIT_NO_FENCE;
    }
    // Out of the caller's process group, which signals to group 0 would reach whatever namespace they come from.
    let _ = rustix::process::setsid();
    let rooted = layers.has("root");
    let mut readable = reach.read.clone();
    // In many containers `/proc` is partly hidden, and then no other may be mounted.
    let own_proc = reach.proc && rooted && root::mount_proc().is_ok();
    if reach.proc {
        readable.push(files::PROC.into());
    }
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        return complain(&format!("cannot give up new privileges: {error}"));
    }
    let kept = layers.note("landlock", files::keep_to(&readable, &reach.write, rooted, reach.reach()));
    // Landlock keeps a process from looking into those outside; without it, the machine's processes would lie open.
    if reach.proc && rooted && !own_proc && kept.is_none() && root::hide_proc().is_err() {
        return complain("cannot hide the machine's processes");
    }
    let others = Others { alone: layers.has("namespaces"), sealed: rooted, network: reach.reach() };
    layers.note("seccomp", refuse(others));
    layers.note("limits", limits(reach.processes.unwrap_or(PROCESSES)));
    if reach.report {
        return report(&layers);
    }
    if reach.required && !layers.missing.is_empty() {
        return complain(&format!("a fence is required, but only some of its layers stand: {layers}"));
    }
    start(reach, rooted)
}

fn outer_lives() -> bool {
    let mut stdin = std::io::stdin();
    if stdin.read_exact(&mut [0]).is_err() {
        return false;
    }
    let mut state = [PollFd::new(&stdin, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut state, Some(&now)).is_ok() && !state[0].revents().contains(PollFlags::HUP)
}

fn limits(processes: u64) -> rustix::io::Result<()> {
    let bounds = [
        (Resource::Core, 0),
        (Resource::Data, MEMORY),
        (Resource::Fsize, LARGEST_FILE),
        (Resource::Nproc, processes),
        (Resource::Msgqueue, 0),
    ];
    for (resource, most) in bounds {
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |before| before.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

fn start(reach: &Reach, rooted: bool) -> u8 {
    let Ok(channel) = rustix::io::dup(std::io::stdout()) else { return EXIT_NO_FENCE };
    let mut command = reach.command();
    if reach.output {
        command.stdin(Stdio::null()).stdout(Stdio::from(channel));
    } else {
        command.stdin(Stdio::from(channel)).stdout(Stdio::null());
    }
    let home = if rooted { files::PRIVATE } else { "/nonexistent" };
    for (name, value) in [("HOME", home), ("TMPDIR", home), ("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONNOUSERSITE", "1")]
    {
        if reach.env.iter().any(|named| named == name) {
            continue;
        }
        command.env(OsStr::new(name), OsStr::new(value));
    }
    if let Network::Door(Some(port)) = reach.reach() {
        // What is asked of these proxies lies outside the fence.
        for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
            let url = format!("http://127.0.0.1:{port}");
            command.env(name, &url).env(name.to_ascii_lowercase(), url);
        }
        command.env_remove("NO_PROXY").env_remove("no_proxy");
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            complain(&format!("cannot start {}: {error}", reach.name()));
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            return if missing { EXIT_NOT_FOUND } else { EXIT_CANNOT_START };
        }
    };
    drop(command);
    if let Ok(nowhere) = fs_err::OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(nowhere.file());
    }
    // Orphans come to the first process of a namespace.
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if i32::try_from(child.id()) == Ok(pid.as_raw_nonzero().get()) => {
                let status = ExitStatus::from_raw(status.as_raw());
                let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
                return code.and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_NO_FENCE);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return EXIT_NO_FENCE,
        }
    }
}

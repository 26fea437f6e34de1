//! The fence around the agent under test: `autoharness __fence [OPTIONS] -- PROGRAM ARGS...`.
//!
//! A benchmark's program starts its agent through this command. The agent's stdin is a socket (or pipe) to that program, and
//! all they share: stdout goes nowhere, no other descriptor is inherited, the environment is an allow-list. Layers, each
//! used if the kernel has it:
//!
//! - `namespaces`: user, process numbers, IPC, host name and network of its own, so that it sees no other process, no
//!   shared memory, no interface;
//! - `root`: a root directory of its own with what it may read, read-only, and an empty `/tmp` that goes with it;
//! - `landlock`: the same once more, by path, and no signals and no TCP across the fence;
//! - `seccomp`: no tracing, keyrings, System V or POSIX queues, mounts, io_uring, and no sockets (with the network: none but of
//!   TCP and UDP);
//! - `limits`: of processes, memory, file sizes; no core files.
//!
//! A program with the network may be limited to some hosts: then it still has a network of its own, and gets out only through a
//! proxy outside, which serves a socket that was opened inside.
//!
//! Three processes: the *outer* one (whom the caller knows and kills) makes the namespaces, the *inner* one is the first
//! process in them, puts itself under the rest and starts the program. When the outer one dies, for whatever reason, the
//! kernel ends the inner one and with it everything in its process namespace.

mod layers;
mod reach;
mod trial;

#[cfg(target_os = "linux")]
mod door;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod hosts;
#[cfg(target_os = "linux")]
mod inner;
#[cfg(target_os = "linux")]
mod outer;
#[cfg(target_os = "linux")]
mod proxy;
#[cfg(target_os = "linux")]
mod root;
#[cfg(target_os = "linux")]
mod syscalls;

use std::path::Path;
use std::process::ExitCode;

use crate::config::FenceMode;
pub(crate) use layers::{ENTRY, Layers};
use layers::{INNER, complain};
pub(crate) use reach::Reach;
pub(crate) use trial::try_out;

/// Runs as a fence when the command line asks for it. Must come before `main` opens anything.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let entry = arguments.next()?;
    if entry != ENTRY && entry != INNER {
        return None;
    }
    let code = match Reach::parse(arguments) {
        Ok(reach) if entry == ENTRY => outer(&reach),
        Ok(reach) => inner(&reach),
        Err(why) => complain(&why),
    };
    Some(ExitCode::from(code))
}

#[cfg(target_os = "linux")]
use inner::run as inner;
#[cfg(target_os = "linux")]
use outer::run as outer;

/// Elsewhere there are no layers: the program takes this process's place.
#[cfg(not(target_os = "linux"))]
fn outer(reach: &Reach) -> u8 {
    use std::os::unix::process::CommandExt as _;
    let layers = Layers::none("only Linux has it");
    if reach.report {
        return layers::report(&layers);
    }
    if reach.required {
        return complain(&format!("a fence is required, but only some of its layers stand: {layers}"));
    }
    complain(&format!("cannot start {}: {}", reach.name(), reach.command().exec()))
}

#[cfg(not(target_os = "linux"))]
fn inner(_policy: &Reach) -> u8 {
    EXIT_NO_FENCE
}

/// The words before a program that is to be fenced: options and `--` may follow.
pub(crate) fn prefix(program: &Path, mode: FenceMode) -> Vec<String> {
    let mut words = vec![program.to_string_lossy().into_owned(), ENTRY.to_owned()];
    words.extend((mode == FenceMode::Required).then(|| "--required".to_owned()));
    words
}

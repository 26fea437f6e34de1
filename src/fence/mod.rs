//! The fence around the agent under test: `autoharness __fence [OPTIONS] -- PROGRAM ARGS...`.
//!
//! Whoever runs an agent starts it through this command. The agent's stdin is a socket (or pipe) to whoever started it, and
//! the only thing it has: stdout goes nowhere, no other descriptor is inherited, the environment is an allow-list. Layers,
//! each used where the kernel has it:
//!
//! - `namespaces`: user, process numbers, IPC, host name and network of its own, so that it sees no other process, no
//!   shared memory, no interface;
//! - `root`: a root directory of its own with what it may read, read-only, and an empty `/tmp` that goes with it;
//! - `landlock`: the same once more, by path, and no signals and no TCP across the fence;
//! - `seccomp`: no tracing, keyrings, System V or POSIX queues, mounts, io_uring, and no sockets;
//! - `limits`: of processes, memory, file sizes; no core files.
//!
//! Three processes: the *outer* one (whom the caller knows and kills) makes the namespaces, the *inner* one is the first
//! process in them, puts itself under the rest and starts the program. When the outer one dies, however it does, the
//! kernel ends the inner one and with it everything in its namespace of processes.

mod policy;

#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod inner;
#[cfg(target_os = "linux")]
mod outer;
#[cfg(target_os = "linux")]
mod root;
#[cfg(target_os = "linux")]
mod syscalls;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::config::FenceMode;
pub use policy::Policy;

/// First argument that makes the binary a fence. Hidden from the command line's help.
pub const ENTRY: &str = "__fence";
/// First argument of the process inside the namespaces.
pub(crate) const INNER: &str = "__fenced";

/// Exit status when a fence that is required does not stand, or cannot be built: the program was not started.
pub const EXIT_NO_FENCE: u8 = 125;

/// Which layers stand, and why the others do not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Layers {
    /// Their names, in the order of the module's text.
    pub held: Vec<String>,
    /// Name and reason.
    pub missing: Vec<(String, String)>,
}

impl Layers {
    /// Every layer there is.
    pub const ALL: [&'static str; 5] = ["namespaces", "root", "landlock", "seccomp", "limits"];

    /// A machine without any.
    pub fn none(why: &str) -> Layers {
        let missing = Layers::ALL.iter().map(|name| ((*name).to_owned(), why.to_owned())).collect();
        Layers { held: Vec::new(), missing }
    }

    /// Takes down what came of a layer.
    pub fn note<T, E: fmt::Display>(&mut self, name: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => {
                self.held.push(name.to_owned());
                Some(value)
            }
            Err(error) => {
                self.missing.push((name.to_owned(), error.to_string()));
                None
            }
        }
    }

    /// Whether a layer stands.
    pub fn has(&self, name: &str) -> bool {
        self.held.iter().any(|held| held == name)
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = if self.held.is_empty() { "none".to_owned() } else { self.held.join(", ") };
        f.write_str(&held)?;
        for (name, why) in &self.missing {
            write!(f, "; no {name} ({why})")?;
        }
        Ok(())
    }
}

/// Runs as a fence when the command line asks for it. Must come before `main` opens anything.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let entry = arguments.next()?;
    if entry != ENTRY && entry != INNER {
        return None;
    }
    let code = match Policy::parse(arguments) {
        Ok(policy) if entry == ENTRY => outer(&policy),
        Ok(policy) => inner(&policy),
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
fn outer(policy: &Policy) -> u8 {
    use std::os::unix::process::CommandExt as _;
    let layers = Layers::none("only Linux has it");
    if policy.report {
        return report(&layers);
    }
    if policy.required {
        return complain(&format!("a fence is required, but of its layers stand: {layers}"));
    }
    complain(&format!("cannot start {}: {}", policy.name(), policy.command().exec()))
}

#[cfg(not(target_os = "linux"))]
fn inner(_policy: &Policy) -> u8 {
    EXIT_NO_FENCE
}

/// Says on stderr why there is no fence.
pub(crate) fn complain(why: &str) -> u8 {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "autoharness: {why}");
    EXIT_NO_FENCE
}

/// Prints which layers stand.
pub(crate) fn report(layers: &Layers) -> u8 {
    use std::io::Write as _;
    let text = serde_json::to_string(layers).unwrap_or_default();
    u8::from(writeln!(std::io::stdout(), "{text}").is_err())
}

/// The words before a program that is to be fenced: options and `--` may follow.
pub fn prefix(program: &Path, mode: FenceMode) -> Vec<String> {
    let mut words = vec![program.to_string_lossy().into_owned(), ENTRY.to_owned()];
    words.extend((mode == FenceMode::Required).then(|| "--required".to_owned()));
    words
}

//! The outer process of a fence: makes the namespaces and the root directory, starts the inner one, ends with it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fs_err as fs;
use nix::sched::{CloneFlags, unshare};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::hosts::Hosts;
use super::layers::{EXIT_NO_FENCE, INNER, Layers, complain};
use super::reach::{Network, Reach};
use super::syscalls::as_text;
use super::{door, files, proxy, root};

/// The user that the program is inside: not root, so that starting it drops every privilege.
const INSIDE: u32 = 1000;

/// Runs a program behind the fence; returns its exit status, 128 + signal when a signal ended it.
pub(super) fn run(reach: &Reach) -> u8 {
    if reach.filter {
        return match as_text(reach.reach()) {
            Ok(text) => u8::from(writeln!(std::io::stdout(), "{text}").is_err()),
            Err(error) => complain(&error.to_string()),
        };
    }
    if reach.proxy {
        return proxy::run(Hosts::new(reach.hosts.clone(), |name| std::env::var(name).ok()));
    }
    match fence_in(reach) {
        Ok(code) => code,
        Err(why) => complain(&why),
    }
}

fn fence_in(reach: &Reach) -> Result<u8, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot find the path of this program: {error}"))?;
    close_inherited();
    // The agent should run out of memory first, and not the processes that judge it.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let here = std::env::current_dir();
    let mut reach = Reach { read: readable(reach, &own), write: writable(reach), ..reach.clone() };
    let mut layers = Layers::default();
    let is_kept = matches!(reach.reach(), Network::Door(_)) && !reach.report;
    // While this process still has a network.
    let out = is_kept.then(|| door::Proxy::start(&own, &reach.hosts)).transpose();
    let mut out = out.map_err(|error| format!("cannot start the way out of the fence: {error}"))?;
    let namespaces = layers.note("namespaces", namespaces(reach.reach()));
    if let Some(proxy) = &mut out {
        let opened = proxy.open(namespaces.is_some());
        reach.door = Some(opened.map_err(|error| format!("cannot open the way out of the fence: {error}"))?);
    }
    if namespaces.is_some() {
        let workshop = root::workshop();
        if layers.note("root", workshop).is_some() {
            root::enter(&reach.read, &reach.write, reach.proc)
                .map_err(|error| format!("cannot make a root directory for the agent: {error}"))?;
        }
    } else {
        layers.note("root", Err::<(), _>("it needs the namespaces"));
    }
    // The same place where there is one: its name, with nothing in it but what may be read.
    if here.and_then(std::env::set_current_dir).is_err() {
        let _ = std::env::set_current_dir(files::PRIVATE);
    }
    reach.built = Some(serde_json::to_string(&layers).map_err(|error| error.to_string())?);

    // The caller's stdin becomes the inner process's stdout, to be passed on to the program; its stdin is the pipe that
    // shows whether this process lives.
    let mut inner = Command::new(&own);
    inner.arg(INNER).args(reach.words()).stdin(Stdio::piped());
    if !reach.report && !reach.output {
        inner.stdout(Stdio::from(rustix::io::dup(std::io::stdin()).map_err(|error| error.to_string())?));
    }
    let mut inner = inner.spawn().map_err(|error| format!("cannot start the fence: {error}"))?;
    let mut lifeline = inner.stdin.take();
    let_go();
    let _ = lifeline.as_mut().map(|lifeline| lifeline.write_all(b"."));
    let status = inner.wait().map_err(|error| format!("cannot wait for the fence: {error}"))?;
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
    Ok(status.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_NO_FENCE))
}

/// Everything the program may read, as it was named and as it is really called.
fn readable(reach: &Reach, own: &Path) -> Vec<PathBuf> {
    let mut all = files::system();
    for path in reach.read.iter().map(PathBuf::as_path).chain([own]) {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        all.extend(fs::canonicalize(&path));
        all.push(path);
    }
    // The root of all would be no fence.
    all.retain(|path| path.parent().is_some());
    all.dedup();
    all
}

/// Everything the program may change, as it was named and as it is really called.
fn writable(reach: &Reach) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for path in &reach.write {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        all.extend(fs::canonicalize(&path));
        all.push(path);
    }
    // The root of all would be no fence, and what is not there cannot be let through.
    all.retain(|path| path.parent().is_some() && path.exists());
    all.sort();
    all.dedup();
    all
}

/// Leaves the machine's processes, shared memory, mounts, names and network for empty ones.
fn namespaces(network: Network) -> Result<(), String> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let mut flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    flags.set(CloneFlags::CLONE_NEWNET, matches!(network, Network::None | Network::Door(_)));
    unshare(flags).map_err(|error| format!("the kernel refuses them: {}", error.desc()))?;
    // A process that changed its user cannot be inspected, nor can it write its own `/proc` files.
    let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
    let write = |file: &str, text: String| fs::write(format!("/proc/self/{file}"), text);
    write("setgroups", "deny".into())
        .and_then(|()| write("uid_map", format!("{INSIDE} {} 1", user.as_raw())))
        .and_then(|()| write("gid_map", format!("{INSIDE} {} 1", group.as_raw())))
        .map_err(|error| error.to_string())
}

/// Closes inherited descriptors other than stdin, stdout and stderr. None of ours is open yet.
fn close_inherited() {
    let open: Vec<i32> = match fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => (3..1024).collect(),
    };
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        let _ = nix::unistd::close(descriptor);
    }
}

/// Closes what now belongs to the program: the caller must notice when the program closes it.
fn let_go() {
    if let Ok((nothing, _)) = std::io::pipe() {
        let _ = rustix::stdio::dup2_stdin(&nothing);
    }
}

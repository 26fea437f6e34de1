//! The watcher: `autoharness __watch RECORD -- PROGRAM ARGS...`, the small process between the tool and every program.
//!
//! Its stdin is the *lifeline*, a pipe from the tool: a header line `1 STDIN_BYTES GRACE_MS ASK`, the program's stdin,
//! then orders, one a line: `T MS` (SIGTERM, SIGKILL to what is left after so many milliseconds) and `K` (SIGKILL). ASK
//! says what gets the SIGTERM: the whole `tree`, or only the program (`leader`) and the others once it has ended. When
//! the lifeline breaks, the tool is dead, however it died, and the program is ended the same way. A watcher exits with
//! the program's code (128 + signal when a signal ended it), after the last descendant is gone.
//!
//! Why not a death signal: it fires when the *thread* that started the child ends, and it does not reach grandchildren.
//! The watcher is in a session of its own, so neither Ctrl-C nor a closing terminal reaches it or the program: only the
//! tool decides. It does not catch signals sent to it by hand; the tool (or the next one, through the record) then ends
//! what it left.

use std::ffi::OsString;
use std::io::{BufRead, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fs_err as fs;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, wait, waitid};

use crate::process::tree;

/// First argument that makes the binary a watcher. Hidden from the command line's help.
pub(crate) const ENTRY: &str = "__watch";

/// The program was found but could not be started; as shells have it.
pub(crate) const EXIT_CANNOT_START: u8 = 126;
/// The program does not exist; as shells have it.
pub(crate) const EXIT_NOT_FOUND: u8 = 127;

/// How often we check a tree that is being killed: it may still fork.
const SWEEP_EVERY: Duration = Duration::from_millis(10);
/// A process that survives SIGKILL this long hangs in the kernel; waiting for it would hang us too.
const SWEEP_LIMIT: Duration = Duration::from_secs(10);

/// How long the descendants get that a program leaves behind when only it was asked to end.
const LEFT_BEHIND: Duration = Duration::from_secs(2);

enum News {
    Terminate(Duration),
    Kill,
    ToolGone,
    ProgramEnded(u8),
    NobodyLeft,
}

/// Runs as a watcher when the command line asks for it. Must be the first thing `main` does.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ENTRY {
        return None;
    }
    let code = match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(record), Some(separator), Some(program)) if separator == "--" => {
            let record = PathBuf::from(record);
            let code = watch(program, arguments.collect());
            let _ = fs::remove_file(record); // The tool removes it too.
            code
        }
        _ => EXIT_CANNOT_START,
    };
    Some(ExitCode::from(code))
}

fn watch(program: OsString, arguments: Vec<OsString>) -> u8 {
    // Fails only for a leader of a process group, which the tool does not start.
    let _ = rustix::process::setsid();
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));

    let Some((stdin, grace, leader_only)) = read_header(&mut std::io::stdin().lock()) else {
        return EXIT_CANNOT_START; // The tool died before it said what to do; nothing was started.
    };
    let child = std::process::Command::new(&program).args(arguments).process_group(0).stdin(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "autoharness: cannot start {}: {error}", program.to_string_lossy());
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            return if missing { EXIT_NOT_FOUND } else { EXIT_CANNOT_START };
        }
    };
    let Some(leader) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return EXIT_CANNOT_START };
    let input = child.stdin.take();
    thread::spawn(move || {
        // A program may ignore its stdin.
        let _ = input.map(|mut input| input.write_all(&stdin));
    });
    let_go_of_output();

    let program = Program { leader, leader_reaped: Arc::new(Mutex::new(false)) };
    let (sender, events) = mpsc::channel();
    let orders = sender.clone();
    thread::spawn(move || obey(&orders));
    let reaping = program.clone();
    thread::spawn(move || reap(&reaping, &sender));
    oversee(&program, &events, grace, leader_only)
}

/// Closes our copies of the program's stdout and stderr, or the tool would not notice when the program closes them.
fn let_go_of_output() {
    if let Ok(nowhere) = fs::OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(nowhere.file());
        let _ = rustix::stdio::dup2_stderr(nowhere.file());
    }
}

fn read_header(lifeline: &mut impl BufRead) -> Option<(Vec<u8>, Duration, bool)> {
    let mut header = String::new();
    Read::by_ref(lifeline).take(200).read_line(&mut header).ok()?;
    let mut words = header.strip_suffix('\n')?.split(' ');
    if words.next()? != "1" {
        return None;
    }
    let length: usize = words.next()?.parse().ok()?;
    let grace = Duration::from_millis(words.next()?.parse().ok()?);
    let leader_only = words.next()? == "leader";
    let mut stdin = vec![0; length];
    lifeline.read_exact(&mut stdin).ok()?;
    Some((stdin, grace, leader_only))
}

/// Turns the lifeline into events until it breaks.
fn obey(events: &Sender<News>) {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let event = match line.split_once(' ') {
            Some(("T", milliseconds)) => News::Terminate(Duration::from_millis(milliseconds.parse().unwrap_or(0))),
            _ => News::Kill,
        };
        if events.send(event).is_err() {
            return;
        }
    }
    let _ = events.send(News::ToolGone);
}

/// The program's process group. Its number stays ours until the leader is reaped, so both happen under one lock.
#[derive(Clone)]
struct Program {
    leader: Pid,
    leader_reaped: Arc<Mutex<bool>>,
}

impl Program {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.leader_reaped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signals the program alone; `false` when it has ended already.
    fn signal_leader(&self, signal: Signal) -> bool {
        let leader_reaped = self.lock();
        !*leader_reaped && rustix::process::kill_process(self.leader, signal).is_ok()
    }

    /// Signals every process once: first the group, at once, then those that left it.
    fn signal(&self, signal: Signal) {
        let leader_reaped = self.lock();
        let group = if *leader_reaped { None } else { Some(self.leader) };
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
        let others = tree::descendants(rustix::process::getpid().as_raw_nonzero().get());
        let in_group =
            |process: &tree::Process| group.is_some_and(|group| group.as_raw_nonzero().get() == process.group);
        tree::send_all(others.into_iter().filter(|process| !in_group(process)), signal);
    }
}

/// Reaps the program and every adopted orphan, so that no process number is reused while we may signal it.
fn reap(program: &Program, events: &Sender<News>) {
    loop {
        match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(Errno::INTR) => continue,
            Err(_) => break,
            Ok(_) => {}
        }
        let mut leader_reaped = program.lock();
        if cfg!(not(target_os = "linux")) && !*leader_reaped && has_ended(program.leader) {
            // Elsewhere the group is the only handle on descendants, and it is certain only until the leader is reaped.
            let _ = kill_process_group(program.leader, Signal::KILL);
        }
        let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) else { continue };
        if pid == program.leader {
            *leader_reaped = true;
            drop(leader_reaped);
            let status = std::process::ExitStatus::from_raw(status.as_raw());
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255);
            let _ = events.send(News::ProgramEnded(u8::try_from(code).unwrap_or(255)));
        }
    }
    let _ = events.send(News::NobodyLeft);
}

fn has_ended(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)))
}

fn oversee(program: &Program, events: &mpsc::Receiver<News>, grace: Duration, leader_only: bool) -> u8 {
    let mut code = None;
    // When the tree is to be killed (again), once it has been asked to end.
    let mut deadline: Option<Instant> = None;
    let mut killing_since: Option<Instant> = None;
    loop {
        let event = match deadline {
            Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let kill = match event {
            Ok(News::NobodyLeft) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(News::Terminate(after)) => {
                // A process that is tidying up must not get a second signal.
                if deadline.is_none() || !leader_only {
                    deadline = Some(ask_to_end(program, after, deadline, leader_only));
                }
                false
            }
            Ok(News::ToolGone) => {
                if deadline.is_none() {
                    deadline = Some(ask_to_end(program, grace, deadline, leader_only));
                }
                false
            }
            Ok(News::ProgramEnded(status)) => {
                code = Some(status);
                // A program that ended by itself leaves no process behind; one that was asked to end may still have
                // helpers tidying up. Usually none is left, which the reaper sees at once: that saves a search through
                // `/proc`.
                if deadline.is_none() {
                    deadline = Some(Instant::now() + Duration::from_millis(1));
                } else if leader_only {
                    deadline = Some(ask_to_end(program, LEFT_BEHIND, deadline, false));
                }
                false
            }
            Ok(News::Kill) | Err(RecvTimeoutError::Timeout) => true,
        };
        if kill {
            let since = *killing_since.get_or_insert_with(Instant::now);
            if since.elapsed() > SWEEP_LIMIT {
                break;
            }
            program.signal(Signal::KILL);
            deadline = Some(Instant::now() + SWEEP_EVERY);
        }
    }
    code.unwrap_or(128 + 9)
}

fn ask_to_end(program: &Program, after: Duration, deadline: Option<Instant>, leader_only: bool) -> Instant {
    if !leader_only || !program.signal_leader(Signal::TERM) {
        program.signal(Signal::TERM);
    }
    let at = Instant::now() + after;
    deadline.map_or(at, |earlier| earlier.min(at))
}

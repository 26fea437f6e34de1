//! No child outlives us, whatever it does and however we end; and none can flood or block us.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{signals, skipped};
use autoharness::internals::process::signals::Cancel;
use autoharness::internals::process::{
    Ask, Child, Command, Exit, Limits, Log, Redactor, Stderr, Supervisor, log, run_captured,
};
use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::ChildStdout;

const PATIENCE: Duration = Duration::from_secs(30);

struct Bed {
    directory: TempDir,
    supervisor: Supervisor,
}

impl Bed {
    fn new() -> Bed {
        let directory = TempDir::new().expect("a temporary directory");
        let supervisor = supervisor(directory.path());
        Bed { directory, supervisor }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn shell(&self, script: &str) -> Command {
        shell(self.path(), script)
    }

    fn spawn(&self, script: &str) -> (Child, tokio::io::Lines<BufReader<ChildStdout>>) {
        let mut child = self.supervisor.spawn(self.shell(script)).expect("sh starts");
        let lines = BufReader::new(child.take_stdout().expect("a pipe")).lines();
        (child, lines)
    }

    fn records(&self) -> usize {
        fs::read_dir(self.path().join("processes")).map_or(0, Iterator::count)
    }
}

fn supervisor(directory: &Path) -> Supervisor {
    Supervisor::with_watcher(directory.join("processes"), env!("CARGO_BIN_EXE_autoharness"))
}

fn environment() -> Vec<(OsString, OsString)> {
    vec![("PATH".into(), std::env::var_os("PATH").expect("tests run with a PATH"))]
}

fn shell(directory: &Path, script: &str) -> Command {
    Command::new("sh", directory).args(["-c", script]).env(environment())
}

async fn number(lines: &mut tokio::io::Lines<BufReader<ChildStdout>>) -> i32 {
    let line = lines.next_line().await.expect("readable output").expect("a line");
    line.trim().parse().expect("a process number")
}

fn alive(pid: i32) -> bool {
    let zombie = fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')));
    !zombie && test_kill_process(Pid::from_raw(pid).expect("a process number")).is_ok()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn numbers_in(file: &Path, count: usize) -> Vec<i32> {
    let read = || {
        let text = fs::read_to_string(file).unwrap_or_default();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete.lines().filter_map(|line| line.trim().parse().ok()).collect::<Vec<i32>>()
    };
    until("the process numbers are written", || read().len() >= count);
    read()
}

#[tokio::test(flavor = "current_thread")]
async fn a_background_grandchild_neither_holds_the_pipe_nor_survives() {
    let bed = Bed::new();
    let (mut child, mut lines) = bed.spawn("sleep 600 & echo $!; exit 3");
    let grandchild = number(&mut lines).await;
    assert_eq!(lines.next_line().await.expect("readable output"), None);
    assert_eq!(child.wait().await.expect("an exit"), Exit { code: 3 });
    assert!(!alive(grandchild));
    assert_eq!(bed.records(), 0);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "current_thread")]
async fn ignoring_sigterm_in_a_session_of_its_own_does_not_help() {
    let bed = Bed::new();
    let (mut child, mut lines) = bed.spawn(
        "trap '' TERM; setsid sh -c 'echo $$; while :; do sleep 600; done' & \
         sleep 0; echo $$; while :; do sleep 600; done",
    );
    let pids = [number(&mut lines).await, number(&mut lines).await];
    let start = Instant::now();
    let exit = child.stop(Duration::from_millis(200)).await.expect("an exit");
    assert_eq!(exit.describe(), "killed by SIGKILL");
    assert!(start.elapsed() >= Duration::from_millis(200), "the grace was not granted");
    assert_eq!(pids.map(alive), [false, false]);
}

#[tokio::test(flavor = "current_thread")]
async fn who_ends_on_sigterm_is_not_killed() {
    let bed = Bed::new();
    let (mut child, mut lines) = bed.spawn("trap 'echo bye; exit 7' TERM; echo $$; while :; do sleep 0.05; done");
    number(&mut lines).await;
    child.terminate();
    assert_eq!(lines.next_line().await.expect("readable output").as_deref(), Some("bye"));
    assert_eq!(child.wait().await.expect("an exit").describe(), "exit status 7");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "current_thread")]
async fn a_program_that_is_asked_alone_gets_one_signal_and_keeps_its_helpers_until_it_has_ended() {
    let bed = Bed::new();
    // The program waits for its helper's answer when it is asked to end: a helper that was signalled would not give it.
    let script = "sh -c 'trap \"echo signalled >> log; exit\" TERM; echo $$; while ! [ -e asked ]; do sleep 0.02; done; \
                  echo served >> log; touch answer; while :; do sleep 0.02; done' & \
                  trap 'echo asked >> log; touch asked; while ! [ -e answer ]; do sleep 0.02; done; exit 5' TERM; \
                  echo $$; while :; do sleep 0.02; done";
    let command = Command { ask: Ask::Leader, ..bed.shell(script) };
    let mut child = bed.supervisor.spawn(command).expect("sh starts");
    let mut lines = BufReader::new(child.take_stdout().expect("a pipe")).lines();
    let pids = [number(&mut lines).await, number(&mut lines).await];
    child.terminate();
    child.terminate();
    assert_eq!(child.stop(PATIENCE).await.expect("an exit"), Exit { code: 5 });
    let log = fs::read_to_string(bed.path().join("log")).expect("the log");
    assert_eq!(log.lines().collect::<Vec<_>>(), ["asked", "served", "signalled"]);
    assert_eq!(pids.map(alive), [false, false]);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "current_thread")]
async fn helpers_may_tidy_up_after_the_program_died_of_sigterm() {
    let bed = Bed::new();
    let (mut child, mut lines) = bed.spawn(
        "sh -c 'trap \"sleep 0.3; echo tidy > tidied; exit\" TERM; echo $$; while :; do sleep 0.05; done' & \
         wait",
    );
    number(&mut lines).await;
    assert_eq!(child.stop(Duration::from_secs(20)).await.expect("an exit").describe(), "killed by SIGTERM");
    assert_eq!(fs::read_to_string(bed.path().join("tidied")).expect("the helper's file"), "tidy\n");
}

#[tokio::test(flavor = "current_thread")]
async fn a_missing_program_is_named_before_anything_starts() {
    let bed = Bed::new();
    let command = Command::new("no-such-program", bed.path()).env(environment());
    let error = bed.supervisor.spawn(command).expect_err("there is no such program");
    assert_eq!(error.to_string(), "cannot find the program `no-such-program`");
    assert!(error.hints()[0].contains("PATH"), "{:?}", error.hints());
    assert_eq!(bed.records(), 0);

    let broken = bed.path().join("broken");
    fs::write(&broken, "#!/no/such/interpreter\n").expect("writable");
    fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).expect("changeable");
    let (_trigger, cancel) = Cancel::manual();
    let command = Command::new("./broken", bed.path()).env(environment());
    let captured = run_captured(&bed.supervisor, command, Limits::SMALL, &cancel).await.expect("it ends");
    assert_eq!(captured.exit.code, 127);
    let error = captured.check("try it").expect_err("it failed");
    assert!(
        error.to_string().starts_with("cannot try it: broken ended with exit status 127: autoharness: cannot start")
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_that_closes_its_output_and_lives_on_is_noticed() {
    let bed = Bed::new();
    let (mut child, mut lines) = bed.spawn("echo $$; exec >&- 2>&-; exec sleep 600");
    let pid = number(&mut lines).await;
    assert_eq!(lines.next_line().await.expect("readable output"), None);
    assert!(alive(pid));
    child.kill();
    assert_eq!(child.wait().await.expect("an exit").describe(), "killed by SIGKILL");
    assert!(!alive(pid));
}

#[tokio::test(flavor = "current_thread")]
async fn a_dropped_child_ends() {
    let bed = Bed::new();
    let (child, mut lines) = bed.spawn("echo $$; exec sleep 600");
    let pid = number(&mut lines).await;
    drop(child);
    until("the dropped child is gone", || !alive(pid) && bed.records() == 0);
}

#[tokio::test(flavor = "current_thread")]
async fn a_hundred_megabytes_of_output_pass_and_the_log_stays_small() {
    let bed = Bed::new();
    let log_path = bed.path().join("log");
    let log = Log::open(&log_path, 1_000_000, Redactor::default()).expect("writable");
    let script = "head -c 100000000 /dev/zero >&2; head -c 100000000 /dev/zero";
    let command = Command { stderr: Stderr::Log(log), ..bed.shell(script) };
    let mut child = bed.supervisor.spawn(command).expect("sh starts");
    let mut stdout = child.take_stdout().expect("a pipe");
    let mut total = 0;
    let mut chunk = vec![0; 1 << 16];
    loop {
        match stdout.read(&mut chunk).await.expect("readable output") {
            0 => break,
            length => total += length,
        }
    }
    assert_eq!(total, 100_000_000);
    assert!(child.wait().await.expect("an exit").success());
    let log = fs::read(&log_path).expect("the log");
    assert!(log.ends_with(b"[truncated: the log is full, the rest was dropped]\n"));
    assert!(log.len() < 1_000_100, "{}", log.len());
}

#[tokio::test(flavor = "current_thread")]
async fn the_log_holds_no_secret() {
    let bed = Bed::new();
    let log_path = bed.path().join("log");
    let redactor = Redactor::new(["sk-very-secret".to_owned()]);
    let log = Log::open(&log_path, log::DEFAULT_CAP, redactor).expect("writable");
    log.line("key sk-very-secret");
    let script = "printf 'key sk-very' >&2; sleep 0.1; echo -secret >&2; printf sk-ver >&2";
    let command = Command { stderr: Stderr::Log(log), ..bed.shell(script) };
    let mut child = bed.supervisor.spawn(command).expect("sh starts");
    child.wait().await.expect("an exit");
    assert_eq!(fs::read_to_string(&log_path).expect("the log"), "key ***\nkey ***\nsk-ver");
}

#[tokio::test(flavor = "current_thread")]
async fn five_megabytes_of_stdin_arrive_or_are_not_missed() {
    let bed = Bed::new();
    let stdin: Vec<u8> = (0..5_000_000u32).map(|number| (number % 251) as u8).collect();
    let (_trigger, cancel) = Cancel::manual();
    let limits = Limits { output: 3_000_000, ..Limits::SMALL };
    let command = Command { stdin: stdin.clone(), ..bed.shell("cat") };
    let captured = run_captured(&bed.supervisor, command, limits, &cancel).await.expect("cat ends");
    assert!(captured.stdout == stdin && !captured.truncated);
    let command = Command { stdin, ..bed.shell("exit 4") };
    let captured = run_captured(&bed.supervisor, command, limits, &cancel).await.expect("sh ends");
    assert_eq!(captured.exit.code, 4);
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_of_our_environment_is_inherited() {
    let bed = Bed::new();
    let env = vec![("PATH".into(), "/usr/bin:/bin".into()), ("ONLY".into(), "this".into())];
    let command = Command::new("env", bed.path()).env(env);
    let (_trigger, cancel) = Cancel::manual();
    let captured = run_captured(&bed.supervisor, command, Limits::SMALL, &cancel).await.expect("env ends");
    let text = captured.text();
    let mut names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    assert_eq!(names, ["AUTOHARNESS_CHILD", "ONLY", "PATH"]);
}

#[tokio::test(flavor = "current_thread")]
async fn helper_programs_are_bounded_in_time_output_and_by_signals() {
    let bed = Bed::new();
    let (trigger, cancel) = Cancel::manual();
    let limits = Limits { time: Duration::from_millis(300), output: 5 };
    let error =
        run_captured(&bed.supervisor, bed.shell("exec sleep 600"), limits, &cancel).await.expect_err("too slow");
    assert_eq!((error.to_string().as_str(), error.exit_code()), ("`sh` did not end within 0.3 s", 3));

    let limits = Limits { output: 5, ..Limits::SMALL };
    let command = bed.shell("seq -s, 1 9999; echo one >&2; echo two >&2; exit 2");
    let captured = run_captured(&bed.supervisor, command, limits, &cancel).await.expect("seq ends");
    assert!(captured.truncated && captured.text().starts_with("1,2,3\n[") && captured.text().ends_with("9999"));

    let started = bed.path().join("started");
    let command = bed.shell("echo $$ > started; exec sleep 600");
    let firing = async {
        while numbers_of(&started).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        trigger.fire(2);
    };
    let (result, ()) = tokio::join!(run_captured(&bed.supervisor, command, Limits::SMALL, &cancel), firing);
    assert_eq!(result.expect_err("cancelled").exit_code(), 130);
    assert!(!alive(numbers_of(&started).expect("a number")));
    assert_eq!(bed.records(), 0);
}

fn numbers_of(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.strip_suffix('\n')?.parse().ok()
}

// The tests below need a tool that can be killed: this test program started once more, running only `as_the_tool`.

const DIRECTORY: &str = "PROCESS_TEST_DIRECTORY";
const SCRIPT: &str = "PROCESS_TEST_SCRIPT";

#[tokio::test(flavor = "current_thread")]
async fn as_the_tool() {
    let (Some(directory), Ok(script)) = (std::env::var_os(DIRECTORY), std::env::var(SCRIPT)) else { return };
    let directory = PathBuf::from(directory);
    let command = Command { grace: Duration::from_secs(1), ..shell(&directory, &script) };
    let mut child = supervisor(&directory).spawn(command).expect("sh starts");
    child.wait().await.expect("an exit");
}

fn start_tool(bed: &Bed, script: &str) -> std::process::Child {
    let own = std::env::current_exe().expect("the path of this test");
    signals::program(own.to_str().expect("UTF-8"))
        .args(["--exact", "process::as_the_tool", "--nocapture"])
        .env(DIRECTORY, bed.path())
        .env(SCRIPT, script)
        .stdout(std::process::Stdio::null())
        .process_group(0)
        .spawn()
        .expect("this test starts")
}

#[cfg(target_os = "linux")]
const STUBBORN: &str = "echo $PPID >> pids; trap '' TERM; echo $$ >> pids; \
    setsid sh -c 'echo $$ >> pids; while :; do sleep 600; done' & while :; do sleep 600; done";

/// A tool with a child that resists, and the process numbers of its watcher, the child and a grandchild.
#[cfg(target_os = "linux")]
fn start_stubborn_tool(bed: &Bed) -> (std::process::Child, Vec<i32>) {
    let tool = start_tool(bed, STUBBORN);
    let pids = numbers_in(&bed.path().join("pids"), 3);
    (tool, pids)
}

/// Kills both, so that nobody can tidy up.
#[cfg(target_os = "linux")]
fn kill_with_watcher(tool: &mut std::process::Child, pid: i32) {
    let watcher = Pid::from_raw(pid).expect("a process number");
    // Stopped first, or the watcher would act between the two blows.
    kill_process(watcher, Signal::STOP).expect("it runs");
    tool.kill().expect("it runs");
    tool.wait().expect("an exit");
    kill_process(watcher, Signal::KILL).expect("it is stopped");
    until("the watcher is gone", || !alive(pid));
}

#[cfg(target_os = "linux")]
#[test]
fn a_tool_killed_with_sigkill_leaves_nobody() {
    let bed = Bed::new();
    let (mut tool, pids) = start_stubborn_tool(&bed);
    tool.kill().expect("it runs");
    tool.wait().expect("an exit");
    until("everybody is gone", || !pids.iter().copied().any(alive) && bed.records() == 0);
}

#[test]
fn ctrl_c_reaches_the_tool_alone() {
    let bed = Bed::new();
    // Without stderr: a shell that reports its killed `sleep` to a tool that is dead dies of SIGPIPE before the trap.
    let script = "exec 2>/dev/null; trap 'echo INT > signal; exit' INT; trap 'echo TERM > signal; exit' TERM; \
        echo $$ >> pids; while :; do sleep 0.05; done";
    let mut tool = start_tool(&bed, script);
    let pids = numbers_in(&bed.path().join("pids"), 1);
    let group = Pid::from_raw(i32::try_from(tool.id()).expect("small")).expect("a process number");
    kill_process_group(group, Signal::INT).expect("it runs");
    tool.wait().expect("an exit");
    until("everybody is gone", || !pids.iter().copied().any(alive) && bed.records() == 0);
    assert_eq!(fs::read_to_string(bed.path().join("signal")).expect("a signal arrived"), "TERM\n");
}

#[cfg(target_os = "linux")]
#[test]
fn the_next_holder_of_the_lock_ends_what_tool_and_watcher_left() {
    let bed = Bed::new();
    let (mut tool, pids) = start_stubborn_tool(&bed);
    assert_eq!(bed.supervisor.end_leftovers().expect("readable"), Vec::<String>::new(), "the tool is alive");
    kill_with_watcher(&mut tool, pids[0]);
    assert!(alive(pids[1]) && alive(pids[2]));

    let ended = bed.supervisor.end_leftovers().expect("readable");
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert!(ended[0].starts_with("ended sh (process ") && ended[0].contains(&pids[2].to_string()), "{ended:?}");
    assert!(!pids.iter().copied().any(alive));
    assert_eq!(bed.records(), 0);
    assert_eq!(bed.supervisor.end_leftovers().expect("readable"), Vec::<String>::new());
}

/// Makes the bed's one record look as if a tool in another container had written it: there, numbers mean other processes.
#[cfg(target_os = "linux")]
fn as_from_another_container(bed: &Bed) {
    let records: Vec<PathBuf> = fs::read_dir(bed.path().join("processes"))
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .collect();
    let [record] = &records[..] else { panic!("one record, not {records:?}") };
    let mut contents: serde_json::Value =
        serde_json::from_slice(&fs::read(record).expect("readable")).expect("a whole record");
    for (name, value) in [("namespace", 1), ("tool", i32::MAX), ("tool_start", 1)] {
        contents[name] = value.into();
    }
    fs::write(record, contents.to_string()).expect("writable");
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_living_tool_in_a_container_runs_is_let_be() {
    let bed = Bed::new();
    let (mut tool, pids) = start_stubborn_tool(&bed);
    as_from_another_container(&bed);
    assert_eq!(bed.supervisor.end_leftovers().expect("readable"), Vec::<String>::new());
    assert!(pids.iter().copied().all(alive), "a process of a living tool was ended");
    assert_eq!(bed.records(), 1, "the record is needed when that tool is killed");
    tool.kill().expect("it runs");
    tool.wait().expect("an exit");
    until("everybody is gone", || !pids.iter().copied().any(alive));
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_dead_tool_in_a_container_left_is_ended_where_it_can_be_seen() {
    let bed = Bed::new();
    let (mut tool, pids) = start_stubborn_tool(&bed);
    as_from_another_container(&bed);
    kill_with_watcher(&mut tool, pids[0]);
    assert!(alive(pids[1]) && alive(pids[2]));
    assert_eq!(bed.supervisor.end_leftovers().expect("readable").len(), 1);
    assert!(!pids.iter().copied().any(alive));
    assert_eq!(bed.records(), 0);
}

#[test]
fn as_the_next_command() {
    let Some(directory) = std::env::var_os(DIRECTORY).filter(|_| std::env::var_os(SCRIPT).is_none()) else { return };
    let ended = supervisor(Path::new(&directory)).end_leftovers().expect("readable");
    assert_eq!(ended, Vec::<String>::new(), "from a container nobody outside can be seen");
}

#[cfg(target_os = "linux")]
#[test]
fn a_container_keeps_the_record_of_what_it_cannot_see() {
    let contained = |program: &Path| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]).arg(program);
        command.stdout(std::process::Stdio::null());
        command
    };
    if !contained(Path::new("true")).status().is_ok_and(|status| status.success()) {
        return skipped("no namespaces can be made here");
    }
    let bed = Bed::new();
    let (mut tool, pids) = start_stubborn_tool(&bed);
    kill_with_watcher(&mut tool, pids[0]);

    let own = std::env::current_exe().expect("the path of this test");
    let next = contained(&own).args(["--exact", "process::as_the_next_command"]).env(DIRECTORY, bed.path()).status();
    assert!(next.expect("an exit").success());
    assert_eq!(bed.records(), 1, "without its record nobody ever ends them");
    assert!(alive(pids[1]) && alive(pids[2]));
    assert_eq!(bed.supervisor.end_leftovers().expect("readable").len(), 1);
    assert!(!pids.iter().copied().any(alive));
    assert_eq!(bed.records(), 0);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "current_thread")]
async fn a_killed_watcher_takes_its_program_along() {
    let bed = Bed::new();
    let (mut child, mut lines) = bed.spawn("echo $PPID; echo $$; exec sleep 600");
    let (watcher, program) = (number(&mut lines).await, number(&mut lines).await);
    kill_process(Pid::from_raw(watcher).expect("a process number"), Signal::KILL).expect("it runs");
    assert_eq!(child.wait().await.expect("an exit").describe(), "killed by SIGKILL");
    assert!(!alive(program));
}

#[test]
fn torn_records_and_records_from_before_a_reboot_are_removed() {
    let bed = Bed::new();
    let registry = bed.path().join("processes");
    fs::create_dir_all(&registry).expect("writable");
    fs::write(registry.join("1-0-a.json"), "{\"prog").expect("writable");
    let me = std::process::id();
    let old = format!(r#"{{"program":"sh","tool":{me},"tool_start":0,"boot":"another","grace_ms":0}}"#);
    fs::write(registry.join("1-0-b.json"), old).expect("writable");
    assert_eq!(bed.supervisor.end_leftovers().expect("readable"), Vec::<String>::new());
    assert_eq!(bed.records(), 0);
}

#[test]
fn a_watcher_without_a_tool_starts_nothing() {
    let bed = Bed::new();
    let mut watcher = std::process::Command::new(env!("CARGO_BIN_EXE_autoharness"))
        .args(["__watch", "record", "--", "touch", "started"])
        .current_dir(bed.path())
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    assert!(!watcher.wait().expect("an exit").success());
    let mut said = String::new();
    watcher.stderr.take().expect("a pipe").read_to_string(&mut said).expect("readable");
    assert!(!bed.path().join("started").exists());
}

//! Hostile agents against the fence: none may end in a reward that it did not earn, or leave anything behind.
//!
//! Each line of `agents.rs` runs in the program that `init` writes for `command` and in that of `demo`: behind the fence,
//! where it must be held, and for those that should get through without one, without, so that no line holds for another
//! reason than the fence. As root, the tests do all of it a second time as an ordinary user.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

pub(crate) mod agents;
pub(crate) mod tau;
mod terminal;

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fs_err as fs;
use serde_json::{Value, json};

use agents::{HOSTILE, Hostile, PRELUDE, Sign};

const BENCH: &str = include_str!("../../src/benchmarks/command/helper/bench.py");
const LIBRARY: &str = include_str!("../../src/benchmarks/command/helper/autoharness_bench.py");
const DEMO: &str = include_str!("../../src/benchmarks/demo/helper/bench.py");

/// Far beyond what two trials take.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

/// An ordinary user: nobody.
const USER: u32 = 65534;

struct Field {
    directory: tempfile::TempDir,
    fence: Vec<String>,
    user: Option<u32>,
    listener: TcpListener,
}

/// What a program reported, and how it ended.
struct Told {
    trials: Vec<Value>,
    /// Everything, for messages.
    all: String,
    success: bool,
}

impl Field {
    /// `None` where the fence has not every layer.
    fn new(user: Option<u32>) -> Result<Field, String> {
        let directory = tempfile::Builder::new().prefix("red-team-").tempdir().unwrap();
        fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        // A copy, where another user reaches it.
        let program = directory.path().join("autoharness");
        fs::copy(env!("CARGO_BIN_EXE_autoharness"), &program).unwrap();
        let fence = vec![program.to_str().unwrap().to_owned(), "__fence".into(), "--required".into()];
        let field = Field { directory, fence, user, listener: TcpListener::bind("127.0.0.1:0").unwrap() };
        let mut report = field.command(&field.fence[0]);
        let layers = report.args(["__fence", "--report"]).output().unwrap();
        let layers: Value = serde_json::from_slice(&layers.stdout).map_err(|_| "no fence stands here".to_owned())?;
        if layers["missing"] != json!([]) {
            return Err(format!("this machine has not every layer of the fence: {}", layers["missing"]));
        }
        if !field.command("python3").args(["-c", ""]).status().is_ok_and(|status| status.success()) {
            return Err("this user has no python3".into());
        }
        Ok(field)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory.path()).env("HUSH", "hush");
        if let Some(user) = self.user {
            command.uid(user).gid(user).env("HOME", "/nonexistent").env("PATH", "/usr/local/bin:/usr/bin:/bin");
        }
        command
    }

    /// Runs one program with one agent, over two trials of each of these tasks.
    fn run(&self, bench: &str, agent: &str, tasks: &[&str], fenced: bool) -> Told {
        let experiment = tempfile::tempdir_in(self.directory.path()).unwrap();
        let place = experiment.path();
        let write = |name: &str, text: &str| {
            let path = place.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("bench.py", bench);
        write("autoharness_bench.py", LIBRARY);
        write("agent/agent.py", agent);
        let path = place.join("agent/agent.py");
        for owned in [place, &place.join("agent"), &path, &place.join("bench.py")] {
            let mode = if owned.is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(owned, std::fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(owned, self.user, self.user).unwrap();
        }
        let request = json!({
            "protocol": 1, "action": "run", "tasks": tasks, "split": "train", "trials": 2, "concurrency": 1, "seed": 1,
            "timeout_s": 5, "keep_traces": true, "agent": {"path": path, "model": null}, "options": {},
            "fence": if fenced { json!(self.fence) } else { Value::Null },
        });
        let mut command = self.command("python3");
        command.args(["-B", "bench.py"]).current_dir(place);
        Field::tell(command, &request)
    }

    /// Has a program answer one request.
    fn tell(mut command: Command, request: &Value) -> Told {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
        // A program that an agent stopped would never end by itself.
        let pid = rustix::process::Pid::from_child(&child);
        let (ended, watch) = std::sync::mpsc::channel::<()>();
        let watcher = std::thread::spawn(move || {
            if watch.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        let output = child.wait_with_output().unwrap();
        drop(ended);
        watcher.join().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let events = stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Told {
            trials: events.filter(|event| event["event"] == "trial").collect(),
            all: format!("{stdout}\n{}", String::from_utf8_lossy(&output.stderr)),
            success: output.status.success(),
        }
    }
}

/// The agent file of a line. What it leaves has a name of its own in every run.
fn file(hostile: &Hostile, field: &Field, token: u32, class: &str) -> String {
    let port = field.listener.local_addr().unwrap().port().to_string();
    let code = hostile.code.replace("TOKEN", &token.to_string()).replace("PORT", &port);
    let body = if code.starts_with('\n') { code } else { format!("\n    {code}") };
    format!(
        "{PRELUDE}
def attack(question):{body}

def solve(question):
    try:
        found = attack(question)
    except BaseException:
        found = None
    return 'through: %r' % (found,) if found else 'held'
{class}"
    )
}

/// The lines that try to reach or to leave something, as a dictionary `ATTACKS` of functions by their names: for agents that
/// try all of them in one trial. `but` these. `port`: somebody listens there. Without a fence only those that show something, and do no harm: root would mount
/// over everybody's /tmp.
pub(crate) fn attacks(fenced: bool, but: &[&str], port: u16) -> String {
    let tried = HOSTILE.iter().filter(|line| match line.sign {
        Sign::Reaches | Sign::Leaves => !but.contains(&line.name),
        Sign::MayReach | Sign::MayLeave => fenced && !but.contains(&line.name),
        Sign::Spoils(_) => false,
    });
    let token = (std::process::id() % 100_000 * 10_000 + 9_000).to_string();
    let mut text = format!("{PRELUDE}\nATTACKS = {{}}\n");
    for line in tried {
        let code = line.code.replace("TOKEN", &token).replace("PORT", &port.to_string());
        let body = if code.starts_with('\n') { code } else { format!("\n    {code}") };
        text.push_str(&format!("def attack():{body}\nATTACKS[{:?}] = attack\n", line.name));
    }
    text
}

/// The agent of `command` and of `demo`.
const CLASS: &str = "
class HarnessAgent:
    def solve(self, question):
        return solve(question)
";

/// Whether the agent got through in the trial of this number.
fn through(told: &Told, number: usize) -> bool {
    told.trials.get(number).is_some_and(|trial| trial["trace"].to_string().contains("through: "))
}

fn daemons(token: u32) -> Vec<PathBuf> {
    let name = format!("daemon-{token}");
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path().join("cmdline")));
    processes.filter(|path| fs::read(path).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&name))).collect()
}

/// Whether nothing of a run is left. The kernel ends a namespace a moment after its first process.
fn all_gone(token: u32) -> bool {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !daemons(token).is_empty() {
        if std::time::Instant::now() > until {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// Says what is wrong with a line, if anything.
fn judge(field: &Field, bench: &str, task: &str, hostile: &Hostile, token: u32) -> Option<String> {
    let demo = bench == DEMO;
    if demo && matches!(hostile.sign, Sign::Leaves | Sign::MayLeave) {
        return None; // demo's trials share a process, as its page says, so they share what that process left.
    }
    let agent = file(hostile, field, token, CLASS);
    let told = field.run(bench, &agent, &[task], true);
    let outcome = |number: usize| told.trials.get(number).map_or(Value::Null, |trial| trial["outcome"].clone());
    let mut complaint = None;
    let mut check = |holds: bool, what: &str| {
        if !holds && complaint.is_none() {
            complaint = Some(format!("{}: {what}\n{}", hostile.name, told.all));
        }
    };
    check(told.success && told.trials.len() == 2, "the program reports both trials and ends well");
    check(told.trials.iter().all(|trial| trial["reward"] == 0.0), "no reward");
    match hostile.sign {
        Sign::Spoils(word) => {
            // demo frames messages otherwise, so that what passes for one in `command` is none there.
            let other = if demo && word == "failed" { "agent_error" } else { word };
            let failed = |number| [word, other].contains(&outcome(number).as_str().unwrap_or("failed"));
            check(failed(0) && failed(1), &format!("both trials are {word}"));
        }
        _ => {
            check(!through(&told, 0) && !through(&told, 1), "held in both trials");
            check(told.all.matches("held").count() >= 2, "the agent itself says so");
        }
    }
    check(all_gone(token), "no process is left");
    // Whoever runs the tests shows that the line shows something; the fence is the same for everybody.
    let shown = matches!(hostile.sign, Sign::Reaches | Sign::Leaves) && field.user.is_none();
    if complaint.is_none() && shown {
        let number = usize::from(hostile.sign == Sign::Leaves);
        let agent = file(hostile, field, token + 1, CLASS);
        let told = field.run(bench, &agent, &[task], false);
        if !through(&told, number) {
            complaint = Some(format!("{}: shows nothing, without a fence it is held, too\n{}", hostile.name, told.all));
        }
    }
    complaint
}

/// Says what is wrong with a line, if anything, in a benchmark whose helper runs agents. `run(token, fenced)` makes two trials, whose
/// traces hold what the agent said in `place`. `shown`: whether the line gets through where there is no fence.
fn judge_helper(
    field: &Field,
    hostile: &Hostile,
    token: u32,
    place: &str,
    shown: bool,
    run: impl Fn(u32, bool) -> Told,
) -> Option<String> {
    let said = |told: &Told, number: usize, what: &str| {
        told.trials.get(number).is_some_and(|trial| trial["trace"][place].to_string().contains(what))
    };
    let told = run(token, true);
    let complain = |what: &str, told: &Told| Some(format!("{}: {what}\n{}", hostile.name, told.all));
    if !told.success || told.trials.len() != 2 {
        return complain("not both trials are reported, or it does not end well", &told);
    }
    if !told.trials.iter().all(|trial| trial["reward"] == 0.0) {
        return complain("a reward", &told);
    }
    match hostile.sign {
        Sign::Spoils(word) => {
            // Messages have another form here: what passes for one elsewhere may be none. And children hold the line open.
            let all = [word, "agent_error", "agent_timeout", "failed"];
            let is = |trial: &Value| all.contains(&trial["outcome"].as_str().unwrap_or(""));
            if !told.trials.iter().all(is) {
                return complain(&format!("not {word} in both trials"), &told);
            }
        }
        _ if (0..2).any(|number| said(&told, number, "through: ")) => return complain("through", &told),
        _ if !(0..2).all(|number| said(&told, number, "held")) => return complain("it was not even tried", &told),
        _ => {}
    }
    if !all_gone(token) {
        return complain("a process is left", &told);
    }
    let number = usize::from(hostile.sign == Sign::Leaves);
    if shown && field.user.is_none() && matches!(hostile.sign, Sign::Reaches | Sign::Leaves) {
        let told = run(token + 1, false);
        if !said(&told, number, "through: ") {
            return complain("shows nothing, without a fence it is held, too", &told);
        }
    }
    None
}

/// Runs every line, two at a time.
fn run_all(user: Option<u32>, judge: impl Fn(&Field, &Hostile, u32) -> Option<String> + Sync) {
    run_these(&HOSTILE.iter().collect::<Vec<_>>(), user, judge);
}

fn run_these(lines: &[&Hostile], user: Option<u32>, judge: impl Fn(&Field, &Hostile, u32) -> Option<String> + Sync) {
    let field = match Field::new(user) {
        Ok(field) => field,
        Err(why) => return crate::support::skipped(&why),
    };
    let next = std::sync::atomic::AtomicUsize::new(0);
    let complaints = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(hostile) = lines.get(number) else { break };
                    let token = std::process::id() % 100_000 * 10_000 + u32::try_from(number).unwrap() * 2;
                    complaints.lock().unwrap().extend(judge(&field, hostile, token));
                }
            });
        }
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), lines.len(), complaints.join("\n----\n"));
}

/// The same as an ordinary user, where the tests run as root.
fn run_all_as_user(judge: impl Fn(&Field, &Hostile, u32) -> Option<String> + Sync) {
    if is_root_or_skips() {
        run_all(Some(USER), judge);
    }
}

fn is_root_or_skips() -> bool {
    if !is_root() {
        crate::support::skipped("only root can become somebody else");
    }
    is_root()
}

fn is_root() -> bool {
    Path::new("/proc/self").metadata().is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

#[test]
fn command_holds_hostile_agents() {
    run_all(None, |field, hostile, token| judge(field, BENCH, "sum", hostile, token));
}

#[test]
fn command_holds_hostile_agents_of_an_ordinary_user() {
    run_all_as_user(|field, hostile, token| judge(field, BENCH, "sum", hostile, token));
}

#[test]
fn the_demo_holds_hostile_agents() {
    run_all(None, |field, hostile, token| judge(field, DEMO, "dates-01", hostile, token));
}

#[test]
fn the_demo_holds_hostile_agents_of_an_ordinary_user() {
    run_all_as_user(|field, hostile, token| judge(field, DEMO, "dates-01", hostile, token));
}

#[test]
fn tau_bench_holds_hostile_agents() {
    run_all(None, tau::judge);
}

#[test]
fn tau_bench_holds_hostile_agents_of_an_ordinary_user() {
    run_all_as_user(tau::judge);
}

#[test]
fn terminal_bench_holds_hostile_agents() {
    run_these(&terminal::all(), None, terminal::judge);
}

#[test]
fn terminal_bench_holds_hostile_agents_of_an_ordinary_user() {
    if is_root_or_skips() {
        run_these(&terminal::all(), Some(USER), terminal::judge);
    }
}

//! Hostile agents against the fence: none may end in a reward that it did not earn, or leave anything behind.
//!
//! Each line of `agents.rs` runs in the program that `init` writes for `command`, in that of `demo`, in tau-bench's helper and in
//! terminal-bench's:
//! behind the fence, where it must be held, and for those that should get through without one, without, so that no line holds for
//! another reason than the fence. As root, the tests do all of it a second time as an ordinary user.
//!
//! `cargo test` has one agent try what all of them try, and one line after the other only where a line spoils its own trial. Each
//! line in a run of its own, for itself and whatever the others do, is a sweep of some hundred runs.
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
        crate::support::copy_program(&program);
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

    /// Where somebody listens.
    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    fn command(&self, program: &str) -> Command {
        // For whoever runs the tests the bare one: a shim of pyenv costs more than a trial.
        let bare = program == "python3" && self.user.is_none();
        let mut command = if bare { Command::new(crate::support::python()) } else { Command::new(program) };
        command.current_dir(self.directory.path()).env("HUSH", "hush");
        if let Some(user) = self.user {
            command.uid(user).gid(user).env("HOME", "/nonexistent").env("PATH", "/usr/local/bin:/usr/bin:/bin");
        }
        command
    }

    /// Runs one program with one agent, over two trials of this task.
    fn run(&self, bench: &str, agent: &str, task: &str, limit: u32, fenced: bool) -> Told {
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
            "protocol": 1, "action": "run", "tasks": [task], "split": "train", "trials": 2, "concurrency": 1, "seed": 1,
            "timeout_s": limit, "keep_traces": true, "agent": {"path": path, "model": null}, "options": {},
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
    agent(&format!("{PRELUDE}{}", function(hostile, token, field.port())), class)
}

/// The agent file of all of these lines at once: it says which of them got through.
fn file_of(lines: &[&Hostile], field: &Field, token: u32, class: &str) -> String {
    let all = dictionary(lines.iter().copied(), token, field.port());
    let each = "
def attack():
    found = []
    for name, one in ATTACKS.items():
        try:
            if one():
                found.append(name)
        except BaseException:
            pass
    return found and '|%s|' % '|'.join(found)
";
    agent(&format!("{all}{each}"), class)
}

/// A line as a function `attack`.
fn function(line: &Hostile, token: u32, port: u16) -> String {
    let code = line.code.replace("TOKEN", &token.to_string()).replace("PORT", &port.to_string());
    let body = if code.starts_with('\n') { code } else { format!("\n    {code}") };
    format!("def attack():{body}\n")
}

/// These lines as a dictionary `ATTACKS` of functions by their names.
fn dictionary<'a>(lines: impl Iterator<Item = &'a Hostile>, token: u32, port: u16) -> String {
    let mut text = format!("{PRELUDE}\nATTACKS = {{}}\n");
    for line in lines {
        text.push_str(&format!("{}ATTACKS[{:?}] = attack\n", function(line, token, port), line.name));
    }
    text
}

/// An agent that does what the function `attack` does.
fn agent(attack: &str, class: &str) -> String {
    format!(
        "{attack}

def solve(question):
    try:
        found = attack()
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
    dictionary(tried, token(4_500), port)
}

/// A number that no other run of a program has, here or in another test program.
fn token(number: usize) -> u32 {
    std::process::id() % 100_000 * 10_000 + u32::try_from(number).unwrap() * 2
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

/// The time limit of a trial in seconds: far beyond what one takes, unless it never ends.
fn patience(hostile: &Hostile) -> u32 {
    if hostile.sign == Sign::Spoils("agent_timeout") { 1 } else { 20 }
}

/// Says what is wrong with a line, if anything.
fn judge(field: &Field, bench: &str, task: &str, hostile: &Hostile, token: u32) -> Option<String> {
    let demo = bench == DEMO;
    let agent = file(hostile, field, token, CLASS);
    let told = field.run(bench, &agent, task, patience(hostile), true);
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
        let told = field.run(bench, &agent, task, patience(hostile), false);
        if !through(&told, number) {
            complaint = Some(format!("{}: shows nothing, without a fence it is held, too\n{}", hostile.name, told.all));
        }
    }
    complaint
}

/// Says what is wrong with a line, if anything, in a benchmark whose helper runs agents. `run(token, fenced)` makes two trials, whose
/// traces hold what the agent said in `place`. `shows`: whether the line gets through where there is no fence.
fn judge_helper(
    field: &Field,
    hostile: &Hostile,
    token: u32,
    place: &str,
    shows: bool,
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
    if shows && field.user.is_none() && matches!(hostile.sign, Sign::Reaches | Sign::Leaves) {
        let told = run(token + 1, false);
        if !said(&told, usize::from(hostile.sign == Sign::Leaves), "through: ") {
            return complain("shows nothing, without a fence it is held, too", &told);
        }
    }
    None
}

/// Runs those of the lines of all benchmarks one by one, two at a time.
fn run_each(
    field: &Field,
    wanted: impl Fn(&Hostile) -> bool,
    judge: impl Fn(&Field, &Hostile, u32) -> Option<String> + Sync,
) {
    run_these(HOSTILE, field, wanted, judge);
}

fn run_these(
    lines: &[Hostile],
    field: &Field,
    wanted: impl Fn(&Hostile) -> bool,
    judge: impl Fn(&Field, &Hostile, u32) -> Option<String> + Sync,
) {
    let lines: Vec<(usize, &Hostile)> = lines.iter().enumerate().filter(|(_, line)| wanted(line)).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let complaints = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let one = || lines.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
                while let Some((number, hostile)) = one() {
                    complaints.lock().unwrap().extend(judge(field, hostile, token(*number)));
                }
            });
        }
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), lines.len(), complaints.join("\n----\n"));
}

/// Has one agent try what all of these lines reach and leave, and without a fence what of it `shows` something. `run` plays two
/// trials with that agent.
fn run_at_once(
    field: &Field,
    wanted: impl Fn(&Hostile) -> bool,
    shows: impl Fn(&Hostile) -> bool,
    token: u32,
    run: impl Fn(&Field, &[&Hostile], u32, bool) -> Told,
) {
    let lines: Vec<&Hostile> =
        HOSTILE.iter().filter(|line| wanted(line) && !matches!(line.sign, Sign::Spoils(_))).collect();
    let told = run(field, &lines, token, true);
    assert!(told.success && told.trials.len() == 2, "{}", told.all);
    assert!(told.trials.iter().all(|trial| trial["reward"] == 0.0), "{}", told.all);
    let trace =
        |told: &Told, number: usize| told.trials.get(number).map_or(String::new(), |it| it["trace"].to_string());
    for number in 0..2 {
        let trace = trace(&told, number);
        assert!(trace.contains("held") && !trace.contains("through: "), "{}", told.all);
    }
    assert!(all_gone(token), "a process is left");
    if field.user.is_some() {
        return; // Whoever runs the tests shows that the lines show something.
    }
    let shown = |line: &&Hostile| matches!(line.sign, Sign::Reaches | Sign::Leaves) && shows(line);
    let lines: Vec<&Hostile> = lines.into_iter().filter(shown).collect();
    let told = run(field, &lines, token + 1, false);
    let held = lines.iter().filter(|line| {
        let number = usize::from(line.sign == Sign::Leaves);
        !trace(&told, number).contains(&format!("|{}|", line.name))
    });
    let held: Vec<&str> = held.map(|line| line.name).collect();
    assert!(held.is_empty(), "without a fence these are held, too, and show nothing: {held:?}\n{}", told.all);
}

/// What a program does with an agent of these lines.
fn run_lines(bench: &'static str, task: &'static str) -> impl Fn(&Field, &[&Hostile], u32, bool) -> Told {
    move |field, lines, token, fenced| field.run(bench, &file_of(lines, field, token, CLASS), task, 20, fenced)
}

fn spoils(line: &Hostile) -> bool {
    matches!(line.sign, Sign::Spoils(_))
}

/// The lines of demo that show something there: its trials share a process, as its page says, so they share what that process left.
fn of_demo(line: &Hostile) -> bool {
    !matches!(line.sign, Sign::Leaves | Sign::MayLeave)
}

/// What one of many programs that share a fence is tried with.
fn kinds(line: &Hostile) -> bool {
    ["never ends", "leaves daemons"].contains(&line.name)
}

/// The field of a user; `None`, said so, where there is none.
fn field(user: Option<u32>) -> Option<Field> {
    if user.is_some() && !is_root() {
        crate::support::skipped("only root can become somebody else");
        return None;
    }
    Field::new(user).map_err(|why| crate::support::skipped(&why)).ok()
}

fn is_root() -> bool {
    Path::new("/proc/self").metadata().is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

fn judge_command(field: &Field, hostile: &Hostile, token: u32) -> Option<String> {
    judge(field, BENCH, "sum", hostile, token)
}

fn judge_demo(field: &Field, hostile: &Hostile, token: u32) -> Option<String> {
    judge(field, DEMO, "dates-01", hostile, token)
}

#[test]
fn command_holds_hostile_agents() {
    let Some(field) = field(None) else { return };
    run_at_once(&field, |_| true, |_| true, token(4_600), run_lines(BENCH, "sum"));
    run_each(&field, spoils, judge_command);
}

#[test]
fn the_demo_holds_hostile_agents() {
    let Some(field) = field(None) else { return };
    run_at_once(&field, of_demo, |_| true, token(4_601), run_lines(DEMO, "dates-01"));
    run_each(&field, kinds, judge_demo);
}

#[test]
fn tau_bench_holds_hostile_agents() {
    let Some(field) = field(None) else { return };
    run_at_once(&field, tau::wanted, tau::shows, token(4_602), tau::run_lines);
    run_each(&field, kinds, tau::judge);
}

#[test]
fn terminal_bench_holds_hostile_agents() {
    let Some(field) = field(None) else { return };
    run_at_once(&field, terminal::wanted, terminal::shows, token(4_606), terminal::run_lines);
    run_each(&field, kinds, terminal::judge);
    run_these(terminal::OF_THE_LINE, &field, |_| true, terminal::judge);
}

#[test]
fn hostile_agents_of_an_ordinary_user_are_held() {
    let Some(field) = field(Some(USER)) else { return };
    run_at_once(&field, |_| true, |_| true, token(4_603), run_lines(BENCH, "sum"));
    run_at_once(&field, of_demo, |_| true, token(4_604), run_lines(DEMO, "dates-01"));
    run_at_once(&field, tau::wanted, tau::shows, token(4_605), tau::run_lines);
    run_at_once(&field, terminal::wanted, terminal::shows, token(4_607), terminal::run_lines);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn command_holds_each_hostile_agent() {
    let Some(field) = field(None) else { return };
    run_each(&field, |_| true, judge_command);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn command_holds_each_hostile_agent_of_an_ordinary_user() {
    let Some(field) = field(Some(USER)) else { return };
    run_each(&field, |_| true, judge_command);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn the_demo_holds_each_hostile_agent() {
    let Some(field) = field(None) else { return };
    run_each(&field, of_demo, judge_demo);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn the_demo_holds_each_hostile_agent_of_an_ordinary_user() {
    let Some(field) = field(Some(USER)) else { return };
    run_each(&field, of_demo, judge_demo);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn tau_bench_holds_each_hostile_agent() {
    let Some(field) = field(None) else { return };
    run_each(&field, tau::wanted, tau::judge);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn tau_bench_holds_each_hostile_agent_of_an_ordinary_user() {
    let Some(field) = field(Some(USER)) else { return };
    run_each(&field, tau::wanted, tau::judge);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn terminal_bench_holds_each_hostile_agent() {
    let Some(field) = field(None) else { return };
    run_each(&field, terminal::wanted, terminal::judge);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn terminal_bench_holds_each_hostile_agent_of_an_ordinary_user() {
    let Some(field) = field(Some(USER)) else { return };
    run_each(&field, terminal::wanted, terminal::judge);
    run_these(terminal::OF_THE_LINE, &field, |_| true, terminal::judge);
}

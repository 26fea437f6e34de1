//! What must come of a hostile agent, and runs of many of them.

use std::path::PathBuf;

use fs_err as fs;
use serde_json::Value;

use super::DEMO;
use super::agents::{HOSTILE, Hostile, Sign};
use super::field::{Field, Told};
use super::writing::{CLASS, file};

/// A number that no other run of a program has, here or in another test program.
pub(super) fn token(number: usize) -> u32 {
    std::process::id() % 100_000 * 10_000 + u32::try_from(number).unwrap() * 2
}

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
pub(super) fn patience(hostile: &Hostile) -> u32 {
    if hostile.sign == Sign::Spoils("agent_timeout") { 1 } else { 20 }
}

/// Says what is wrong with a line, if anything.
pub(super) fn judge(field: &Field, bench: &str, task: &str, hostile: &Hostile, token: u32) -> Option<String> {
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
    // Only the user who runs the tests shows that the line shows something: the fence is the same for everybody.
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
pub(super) fn judge_helper(
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

/// Runs those of the lines of all benchmarks one by one, three at a time.
pub(super) fn run_each(
    field: &Field,
    wanted: impl Fn(&Hostile) -> bool,
    judge: impl Fn(&Field, &Hostile, u32) -> Option<String> + Sync,
) {
    run_these(HOSTILE, field, wanted, judge);
}

pub(super) fn run_these(
    lines: &[Hostile],
    field: &Field,
    wanted: impl Fn(&Hostile) -> bool,
    judge: impl Fn(&Field, &Hostile, u32) -> Option<String> + Sync,
) {
    let mut lines: Vec<(usize, &Hostile)> = lines.iter().enumerate().filter(|(_, line)| wanted(line)).collect();
    // What never ends is waited for, in terminal-bench for its last word as well: beside it the others are run.
    lines.sort_by_key(|(_, line)| patience(line));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let complaints = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let one = || lines.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
                while let Some((number, hostile)) = one() {
                    // Before the lock is taken: held, it would let one line run at a time.
                    let complaint = judge(field, hostile, token(*number));
                    complaints.lock().unwrap().extend(complaint);
                }
            });
        }
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), lines.len(), complaints.join("\n----\n"));
}

/// Has one agent try what all of these lines reach and leave, and without a fence what of it `shows` something. `run` plays two
/// trials with that agent.
pub(super) fn run_at_once(
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
        return; // The user who runs the tests shows that the lines show something.
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

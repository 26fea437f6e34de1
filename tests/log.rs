//! autoharness.log: a run that was killed, that hangs or that failed can be explained, and nothing is told that must not be.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use rustix::process::Signal;
use serde_json::json;

use crate::support::running::{Gate, Running, nobody_left, processes, send};
use crate::support::{Bed, done};

const LOG: &str = ".git/autoharness/autoharness.log";

/// The lines that a command adds.
fn added(bed: &Bed, run: impl FnOnce()) -> Vec<String> {
    let known = bed.read(LOG).lines().count();
    run();
    bed.read(LOG).lines().skip(known).map(str::to_string).collect()
}

/// Asserts that these words stand in lines of this order, each line with all of its words.
#[track_caller]
fn tells(lines: &[String], expected: &[&[&str]]) {
    let mut rest = lines.iter();
    for words in expected {
        let found = rest.any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line with {words:?} at its place in\n{}", lines.join("\n"));
    }
}

#[test]
fn a_gate_is_told_from_beginning_to_end_without_the_hold_out() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    // It does not end by itself before it is stopped.
    let misbehave = json!({"easy-4": "agent_error", "hard-4": "hang"});
    bed.mood(json!({"misbehave": misbehave, "say": {"hard-3": "garbage about hard-3"}}));
    let lines = added(&bed, || drop(bed.run(&["gate"])));
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    tells(
        &lines,
        &[
            &["command began", &version, "arguments=\"gate\"", "benchmark=\"command\""],
            &["DEBUG ledger read events="],
            &["file guard done violations=0"],
            &["step began step=\"hold-out\" split=\"test\" tasks=4 to_run=4"],
            &["child started program=\"python3\" pid="],
            &["WARN child is stopped program=\"python3\" why=\"it breaks the trial protocol\""],
            &["child ended program=\"python3\" pid=", "exit=\"killed by SIGTERM\" seconds="],
            &["running again what gave no evidence step=\"hold-out\""],
            &["step ended step=\"hold-out\" run=", "\"agent_error\": 1"],
            &["verdict status=\"undecided\""],
            &["ERROR command failed exit_code=3 seconds=", "code=\"no_evidence\" place=src/commands/evaluate.rs:"],
        ],
    );
    let more = added(&bed, || {
        bed.mood(json!({"misbehave": {"easy-1": "infra_error"}}));
        bed.run(&["benchmark", "--fresh"]);
        bed.run(&["benchmark", "--task-ids", "hard-3", "easy-1"]).expect(2);
        bed.run(&["benchmark", "--split", "test"]);
        bed.run(&["suite", "quarantine", "hard-3", "--reason", "hard-4 is flaky"]).expect(2);
        bed.run(&["suite", "add", "hard-3", "--reason=hard-4 is flaky"]).expect(2);
    });
    tells(
        &more,
        &[
            &["no evidence task=\"easy-1\"", "outcome=\"infra_error\""],
            &["running again what gave no evidence step=\"benchmark\" trials=1"],
            &["command began", "arguments=\"benchmark --task-ids\""],
            &["ERROR command failed exit_code=2", "code=\"unknown_task\" place=src/commands/benchmark.rs:"],
            &["command began", "arguments=\"benchmark --split test\""],
            &["command began", "arguments=\"suite quarantine --reason\""],
            &["command began", "arguments=\"suite add --reason\""],
        ],
    );
    let text = bed.read(LOG);
    for word in ["easy-3", "easy-4", "hard-3", "hard-4", "SECRET-OF", "garbage"] {
        assert!(!text.contains(word), "{word} in\n{text}");
    }
    let before = bed.read(LOG);
    bed.run(&["status"]).expect(0);
    bed.run(&["verify"]).expect(0);
    assert_eq!(bed.read(LOG), before, "who only reads leaves no trace");
}

#[test]
fn what_was_killed_and_what_hung_is_told() {
    let (_directory, gate) = Gate::new();
    gate.let_through(None);
    let bed = Bed::prepared(json!({"gate": gate.path()}), "");
    bed.agent(&["easy", "hard"]);
    let held = || {
        gate.let_through(Some(1));
        let command = Running::start(bed.command(&["gate"]));
        gate.held("test");
        command
    };
    // The program is killed.
    let mut log_is_open = Vec::new();
    let lines = added(&bed, || {
        let command = held();
        for (pid, line) in processes(&bed) {
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let mut files = open.filter_map(|file| std::fs::read_link(file.path()).ok());
            if files.any(|file| file.ends_with("autoharness.log")) {
                log_is_open.push(pid);
            }
            if line.contains(" bench.py") && !line.contains("__watch") {
                send(pid, Signal::KILL);
            }
        }
        assert_eq!(log_is_open, [command.pid()], "no child inherits the log");
        gate.let_through(None);
        command.end();
    });
    tells(
        &lines,
        &[&["child ended program=\"python3\"", "exit=\"killed by SIGKILL\""], &["benchmark ended", "failed=true"]],
    );
    // The command is asked to end, and then killed.
    bed.agent(&["easy", "odd"]);
    let lines = added(&bed, || {
        let command = held();
        command.signal(Signal::TERM);
        command.end().expect(143);
    });
    tells(
        &lines,
        &[
            &["child started program=\"python3\""],
            &["WARN signal received signal=\"SIGTERM\""],
            &["child is asked to end program=\"python3\"", "grace_s="],
            &["child ended program=\"python3\"", "exit=\"killed by SIGTERM\""],
            &["command failed exit_code=143", "code=\"interrupted\""],
        ],
    );
    let lines = added(&bed, || {
        let command = held();
        command.signal(Signal::KILL);
        command.end();
        nobody_left(&bed);
    });
    let last = lines.last().unwrap();
    assert!(last.contains("child started program=\"python3\""), "what was waited for comes last: {last}");
    gate.let_through(None);
}

#[test]
fn a_program_that_does_not_end_is_told() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    bed.mood(json!({"fault": "close"}));
    let lines = added(&bed, || drop(bed.run(&["gate"])));
    tells(
        &lines,
        &[
            &["child started program=\"python3\""],
            &["WARN child is stopped program=\"python3\" why=\"closed its output but did not exit within 5 s\""],
            &["child is asked to end program=\"python3\""],
            &["child ended program=\"python3\"", "exit=\"killed by SIGTERM\""],
        ],
    );
}

#[test]
fn a_log_that_cannot_be_written_fails_nothing() {
    let bed = Bed::prepared(json!({}), "");
    let log = bed.root.join(LOG);
    bed.agent(&["easy", "hard"]);
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    bed.run(&["gate", "-v"]).expect(0).warns("there is no log of this command");
    std::fs::remove_dir(&log).unwrap();
    let target = bed.outside().join("target");
    std::fs::write(&target, "mine").unwrap();
    std::os::unix::fs::symlink(&target, &log).unwrap();
    assert!(!bed.run(&["gate"]).expect(0).stderr.contains("log"));
    assert_eq!(std::fs::read_to_string(target).unwrap(), "mine");
}

#[test]
fn stderr_is_told_what_is_asked_for() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    let gate = |words: &[&str], level: &str| done(bed.command(words).env("AUTOHARNESS_LOG", level).output().unwrap());
    let silent = gate(&["gate"], "").expect(0);
    assert!(!silent.stderr.contains("INFO"), "{}", silent.stderr);
    let verbose = gate(&["gate", "-v"], "").expect(0).warns("INFO command began").warns("INFO command ended");
    assert!(!verbose.stderr.contains("DEBUG"), "{}", verbose.stderr);
    gate(&["gate"], "debug").expect(0).warns("INFO command began").warns("DEBUG ledger read");
    let off = gate(&["gate", "-v"], "off").expect(0);
    assert!(!off.stderr.contains("INFO"), "{}", off.stderr);
    gate(&["gate"], "loud").expect(0).warns("warning: AUTOHARNESS_LOG takes off, error, warn, info, debug or trace");
}

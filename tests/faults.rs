//! Whatever kills a command and whenever: no process survives it, no file is torn, no trial is lost or paid for twice,
//! and the same command again ends where an undisturbed one does.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::json;

use crate::support::Bed;
use crate::support::running::{Gate, Running, leftovers, nobody_left, processes, send, until, views};

const SIGNALS: [(Signal, i32); 4] = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129), (Signal::KILL, 137)];

fn tasks() -> serde_json::Value {
    let ids = |split: &str| -> Vec<String> {
        ["easy", "hard", "odd"].iter().flat_map(|kind| (0..4).map(move |i| format!("{kind}-{split}{i}"))).collect()
    };
    json!({"train": ids("1"), "test": ids("2")})
}

/// Nothing was run twice since the last look, and everything that was is in the ledger.
#[track_caller]
fn paid_once(bed: &Bed) {
    let mut counts = BTreeMap::new();
    for line in bed.ran() {
        *counts.entry(line).or_insert(0) += 1;
    }
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "paid for twice: {twice:?}");
}

/// Interrupts `words` once with each of these signals, each time two trials further on, then lets it end; `splits` are the runs
/// it makes at the same time.
#[track_caller]
fn interrupted(bed: &Bed, gate: &Gate, words: &[&str], splits: &[&str], signals: &[(Signal, i32)]) {
    for &(signal, code) in signals {
        let before = bed.events("trial").len();
        gate.let_through(Some(2));
        let command = Running::start(bed.command(words));
        splits.iter().for_each(|split| gate.held(split));
        if signal == Signal::KILL {
            // What the tool has not read yet is in flight and may be lost.
            until("the trials are in the ledger", || bed.events("trial").len() == before + 2 * splits.len());
        }
        command.signal(signal);
        let done = command.end();
        assert_eq!(done.code, code, "{words:?}\n{}", done.stderr);
        nobody_left(bed);
        assert_eq!(bed.events("trial").len(), before + 2 * splits.len(), "{words:?} after {signal:?}");
    }
    gate.let_through(None);
    bed.run(words).expect(0);
    nobody_left(bed);
    paid_once(bed);
    bed.run(&["verify"]).expect(0).says("verify: ok");
    assert_eq!(leftovers(&bed.root), Vec::<std::path::PathBuf>::new());
}

#[test]
fn interrupted_commands_lose_nothing_and_end_like_undisturbed_ones() {
    // Each command by another one, and once by force.
    commands_interrupted_by([&SIGNALS[..1], &SIGNALS[1..2], &SIGNALS[2..]]);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn commands_interrupted_by_any_signal_lose_nothing_and_end_like_undisturbed_ones() {
    commands_interrupted_by([&SIGNALS; 3]);
}

/// Interrupts `prepare`, `benchmark` and `gate` by these signals.
fn commands_interrupted_by(signals: [&[(Signal, i32)]; 3]) {
    let (_directory, gate) = Gate::new();
    let options = |gate: &Gate| json!({"tasks": tasks(), "gate": gate.path()});
    let (bed, calm) = (Bed::table(options(&gate), ""), Bed::table(json!({"tasks": tasks()}), ""));

    interrupted(&bed, &gate, &["prepare"], &["train", "test"], signals[0]);
    calm.run(&["prepare"]).expect(0);
    assert_eq!(views(&bed), views(&calm));

    [&bed, &calm].iter().for_each(|bed| bed.agent(&["easy", "hard"]));
    interrupted(&bed, &gate, &["benchmark"], &["train"], signals[1]);
    calm.run(&["benchmark"]).expect(0);
    assert_eq!(views(&bed), views(&calm));

    // Train is known by now, so that the gate runs only the hold-out.
    interrupted(&bed, &gate, &["gate"], &["test"], signals[2]);
    calm.run(&["gate"]).expect(0);
    [&bed, &calm].iter().for_each(|bed| bed.commit_agent());
    [&bed, &calm].iter().for_each(|bed| drop(bed.run(&["record"]).expect(0)));
    assert_eq!(views(&bed), views(&calm));

    // Now there is a suite, and both steps run at once.
    [&bed, &calm].iter().for_each(|bed| bed.agent(&["easy", "hard", "odd"]));
    let (last, code) = (Signal::INT, 130);
    for further in [1, 2] {
        let before = bed.events("trial").len();
        gate.let_through(Some(further));
        let command = Running::start(bed.command(&["gate"]));
        gate.held("train");
        gate.held("test");
        command.signal(last);
        assert_eq!(command.end().code, code);
        nobody_left(&bed);
        assert_eq!(bed.events("trial").len(), before + 2 * further);
    }
    gate.let_through(None);
    bed.run(&["gate"]).expect(0);
    calm.run(&["gate"]).expect(0);
    paid_once(&bed);
    assert_eq!(views(&bed), views(&calm));
    bed.run(&["verify"]).expect(0).says("verify: ok");
}

#[test]
fn an_interrupted_command_waits_for_the_slower_of_two_runs() {
    let (_directory, gate) = Gate::new();
    gate.let_through(None);
    let bed = Bed::prepared(json!({"tasks": tasks(), "gate": gate.path(), "linger": "test"}), "");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    bed.agent(&["easy", "hard", "odd"]);
    gate.let_through(Some(1));
    let command = Running::start(bed.command(&["gate"]));
    gate.held("train");
    gate.held("test");
    command.signal(Signal::TERM);
    assert_eq!(command.end().code, 143);
    // At once: what outlives the command could still spend money or write files.
    assert_eq!(processes(&bed), []);
}

#[test]
fn what_a_run_over_the_hold_out_logged_goes_with_it() {
    let (_directory, gate) = Gate::new();
    gate.let_through(None);
    let bed = Bed::prepared(json!({"tasks": tasks(), "gate": gate.path()}), "");
    bed.agent(&["easy", "hard"]);
    bed.run(&["benchmark"]).expect(0);
    let logs = || leaves(&bed.state().join("logs")).into_iter().chain(leaves(&bed.state().join("scratch")));
    let before: Vec<_> = logs().collect();
    for signal in [Signal::TERM, Signal::KILL] {
        // Train is known, so that only the hold-out is run.
        gate.let_through(Some(1));
        let command = Running::start(bed.command(&["gate"]));
        gate.held("test");
        assert_ne!(logs().collect::<Vec<_>>(), before, "the log is kept while the run lasts");
        command.signal(signal);
        command.end();
        nobody_left(&bed);
        if signal == Signal::KILL {
            bed.run(&["benchmark"]).expect(0);
        }
        assert_eq!(logs().collect::<Vec<_>>(), before, "{signal:?}");
    }
}

/// The files below a directory.
fn leaves(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let below = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().flatten();
    below.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn a_trace_that_cannot_be_written_loses_no_trial() {
    let bed = Bed::prepared(json!({"tasks": tasks()}), "");
    bed.agent(&["easy", "hard"]);
    let blocked = bed.root.join("workspace/traces/latest/easy-12");
    std::fs::remove_dir_all(&blocked).unwrap();
    std::fs::write(&blocked, "in the way").unwrap();
    bed.ran();
    bed.run(&["benchmark"]).expect(3).warns("traces/latest/easy-12");
    let ran = bed.ran();
    let known = bed.events("trial");
    let kept = |line: &String| {
        let id = line.split(' ').next().unwrap();
        known.iter().any(|trial| trial["task"] == id && trial["purpose"] == "benchmark")
    };
    assert!(ran.contains(&"easy-12 0".to_string()) && kept(&"easy-12 0".to_string()), "{ran:?}");
    std::fs::remove_file(&blocked).unwrap();
    bed.run(&["benchmark"]).expect(0);
    assert!(bed.ran().iter().all(|line| line != "easy-12 0"));
    bed.run(&["verify"]).expect(0);
}

/// Runs the binary where no file may grow beyond a size, as on a full disk: small files still fit.
fn with_small_files(bed: &Bed, words: &[&str]) -> crate::support::Done {
    let mut limited = std::process::Command::new("sh");
    // 512 blocks of 512 or 1024 bytes, as the shell has it.
    limited.args(["-c", r#"trap "" XFSZ; ulimit -f 512; exec "$@""#, "sh", env!("CARGO_BIN_EXE_autoharness")]);
    let tool = bed.command(&[]);
    limited.env_clear().envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    crate::support::done(limited.args(words).current_dir(&bed.root).output().unwrap())
}

#[test]
fn a_trace_that_was_lost_to_a_full_disk_is_said_and_made_again() {
    let bed = Bed::prepared(json!({"tasks": tasks()}), "");
    bed.agent(&["easy", "hard"]);
    bed.mood(json!({"trace_size": {"odd-10": 2_000_000}}));
    bed.ran();
    let done = with_small_files(&bed, &["benchmark"]).expect(3);
    done.warns("traces/latest/odd-10/trace.json").warns("its trace is lost");
    let of_it = || bed.events("trial").into_iter().filter(|it| it["task"] == "odd-10" && it["purpose"] == "benchmark");
    assert_eq!(of_it().map(|trial| trial["trace_lost"].clone()).collect::<Vec<_>>(), [json!(true)]);
    // The gate needs no trace.
    bed.mood(json!(null));
    bed.ran();
    bed.run(&["gate"]).expect(0);
    assert!(!bed.ran().contains(&"odd-10 0".to_string()));
    bed.run(&["benchmark"]).expect(0).warns("1 of them only because the disk refused their traces");
    assert_eq!(bed.ran().iter().filter(|line| *line == "odd-10 0").count(), 1);
    assert!(bed.read("workspace/traces/latest/odd-10/trace.json").contains("SECRET-OF-odd-10"));
    assert_eq!(of_it().filter(|trial| trial["trace_lost"] == true).count(), 1);
    bed.run(&["benchmark"]).expect(0);
    assert!(bed.ran().is_empty(), "made again once");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_trace_that_cannot_be_written_yet_is_written_by_the_next_command() {
    let bed = Bed::prepared(json!({"tasks": tasks()}), "");
    let blocked = bed.root.join("workspace/traces/best/easy-12");
    std::fs::remove_dir_all(&blocked).unwrap();
    std::fs::write(&blocked, "in the way").unwrap();
    bed.run(&["benchmark", "--fresh"]).expect(3).warns("traces/best/easy-12").warns("the trace is kept aside");
    bed.ran();
    bed.run(&["benchmark"]).expect(3).warns("traces/best/easy-12");
    assert!(bed.ran().is_empty(), "nothing is paid for while it is in the way");
    std::fs::remove_file(&blocked).unwrap();
    bed.run(&["benchmark"]).expect(0);
    assert!(bed.ran().is_empty());
    for place in ["latest", "best"] {
        assert!(bed.read(&format!("workspace/traces/{place}/easy-12/trace.json")).contains("SECRET-OF-easy-12"));
    }
    assert!(!bed.state().join("pending-traces").exists());
}

#[test]
fn no_trace_leaves_the_work_space_through_a_link() {
    let bed = Bed::prepared(json!({"tasks": tasks()}), "");
    bed.agent(&["easy", "hard"]);
    bed.ran();
    let elsewhere = bed.outside().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let count = || std::fs::read_dir(&elsewhere).unwrap().count();
    for place in ["traces/latest/easy-10", "traces/baseline/odd-10", "traces/latest", "traces/best", "traces"] {
        let path = bed.root.join("workspace").join(place);
        let aside = path.with_extension("aside");
        std::fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        for words in [&["benchmark", "--fresh"][..], &["benchmark"]] {
            bed.run(words).expect(2).warns(&format!("workspace/{place} is a link")).warns("hint: remove it");
        }
        assert!(bed.ran().is_empty() && count() == 0, "{place}");
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&aside, &path).unwrap();
    }
    // A link in the place of a file is replaced, not followed.
    let (kept, path) = (elsewhere.join("kept"), bed.root.join("workspace/traces/latest/easy-10/trace.json"));
    std::fs::write(&kept, "kept").unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&kept, &path).unwrap();
    bed.run(&["benchmark"]).expect(0);
    assert_eq!((std::fs::read_to_string(&kept).unwrap().as_str(), count()), ("kept", 1));
    assert!(path.symlink_metadata().unwrap().is_file());
}

#[test]
fn a_link_that_appears_while_trials_run_leads_nowhere() {
    let (_directory, gate) = Gate::new();
    gate.let_through(None);
    let bed = Bed::prepared(json!({"tasks": tasks(), "gate": gate.path()}), "");
    bed.agent(&["easy", "hard"]);
    bed.ran();
    gate.let_through(Some(1));
    let command = Running::start(bed.command(&["benchmark"]));
    gate.held("train");
    let (latest, elsewhere) = (bed.root.join("workspace/traces/latest"), bed.outside().join("elsewhere"));
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::rename(&latest, latest.with_extension("aside")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &latest).unwrap();
    gate.let_through(Some(2));
    command.end().expect(2).warns("workspace/traces/latest is a link").warns("the trace is kept aside");
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    std::fs::remove_file(&latest).unwrap();
    std::fs::rename(latest.with_extension("aside"), &latest).unwrap();
    gate.let_through(None);
    bed.run(&["benchmark"]).expect(0);
    paid_once(&bed);
}

/// A small generator with a printed seed: the moments are random, and can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn killed_at_random_moments_it_never_leaves_a_broken_file() {
    killed_at_random_moments(42, 5);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn killed_at_many_random_moments_it_never_leaves_a_broken_file() {
    killed_at_random_moments(43, 36);
}

/// Plays rounds of all commands until so many were killed.
fn killed_at_random_moments(seed: u64, enough: usize) {
    let mut dice = Dice(seed);
    // A program that is far ahead of what was written down would lose as much with one kill.
    let ledger = "~/../experiment/.git/autoharness/ledger.jsonl";
    let bed = Bed::table(json!({"tasks": tasks(), "in_step": ledger}), "");
    let mut kills = 0;
    let skills: [&[&str]; 3] = [&["easy", "hard"], &["easy", "odd"], &["easy", "hard", "odd"]];
    let mut round = 0;
    while kills < enough {
        for words in [&["prepare"][..], &["benchmark"], &["gate"], &["record"], &["verify"]] {
            if words == ["benchmark"] {
                bed.agent(skills[round % 3]);
                bed.write("agent/agent.py", &format!("{}# round {round}\n", bed.read("agent/agent.py")));
            }
            if words == ["record"] {
                bed.commit_agent();
            }
            // How long an undisturbed command takes is not known beforehand: short kills hit its beginning, long ones its end.
            for _ in 0..2 {
                let command = Running::start(bed.command(words));
                let micros = dice.below(if words.len() == 1 && words[0] == "record" { 30_000 } else { 600_000 });
                std::thread::sleep(std::time::Duration::from_micros(micros));
                command.signal(Signal::KILL);
                let done = command.end();
                assert!([0, 1, 137].contains(&done.code), "{words:?}: {}\n{}", done.code, done.stderr);
                kills += usize::from(done.code == 137);
                views(&bed);
            }
            let done = bed.run(words);
            let fine =
                if words == ["gate"] || words == ["record"] { [0, 1].contains(&done.code) } else { done.code == 0 };
            assert!(fine, "{words:?} in round {round}: {}\n{}\n{}", done.code, done.stdout, done.stderr);
            views(&bed);
        }
        bed.run(&["verify"]).expect(0).says("verify: ok");
        round += 1;
    }
    nobody_left(&bed);
    bed.run(&["benchmark"]).expect(0);
    paid_once_at_most_in_flight(&bed, kills);
    assert_eq!(leftovers(&bed.root), Vec::<std::path::PathBuf>::new());
}

/// A SIGKILL may lose the trials in flight, which are then run again: one a run and kill.
#[track_caller]
fn paid_once_at_most_in_flight(bed: &Bed, kills: usize) {
    let ran = bed.ran();
    let known = bed.events("trial").len();
    assert!(ran.len() <= known + 2 * kills, "{} trials run, {known} in the ledger, {kills} kills", ran.len());
}

#[test]
fn views_of_a_killed_command_are_brought_up_to_date_without_complaint() {
    let bed = Bed::prepared(json!({"tasks": tasks()}), "");
    bed.agent(&["easy", "hard"]);
    let (workspace, state) = (bed.root.join("workspace"), bed.state());
    let snapshot = |name: &str| {
        let to = bed.outside().join(name);
        std::process::Command::new("cp").arg("-r").arg(&workspace).arg(&to).status().unwrap();
        std::process::Command::new("cp").arg("-r").arg(&state).arg(to.join("state")).status().unwrap();
        to
    };
    let put_back = |from: &std::path::Path, names: &[&str], ours: &[&str]| {
        for name in names {
            std::fs::copy(from.join(name), workspace.join(name)).unwrap();
        }
        for name in ours {
            let status =
                std::process::Command::new("cp").arg("-r").arg(from.join("state").join(name)).arg(&state).status();
            assert!(status.unwrap().success());
        }
    };
    let before = snapshot("before");
    bed.run(&["gate"]).expect(0);
    let after = views(&bed);
    // Killed after the verdict: before the first view, after some of them, after all of them.
    for names in [&["suite.json", "train_results.json", "results.tsv"][..], &["suite.json"], &[]] {
        put_back(&before, names, &["checkpoint.json", "views.json"]);
        let done = bed.run(&["benchmark"]).expect(0);
        assert!(!done.stderr.contains("changed"), "{}", done.stderr);
        bed.run(&["verify"]).expect(0);
        assert_eq!(views(&bed)["suite.json"], after["suite.json"]);
    }
    // Killed again before the next command's end: what the command in between left is known, too.
    put_back(&before, &[], &["checkpoint.json", "views.json"]);
    bed.run(&["gate", "--concurrency", "0"]).expect(2);
    bed.run(&["record"]).expect(1);
    bed.commit_agent();
    let between = snapshot("between");
    bed.run(&["record"]).expect(0);
    put_back(&between, &["results.tsv"], &["checkpoint.json", "views.json"]);
    bed.run(&["record"]).expect(0);
    // What somebody else wrote is still refused.
    bed.write("workspace/suite.json", "{\"tasks\": [], \"threshold\": 0.0, \"last_results\": {}}\n");
    bed.run(&["gate"]).expect(2).warns("changed outside of autoharness");
}

#[test]
fn a_killed_adoption_is_finished_without_complaint() {
    let (_directory, gate) = Gate::new();
    let bed = Bed::table(json!({"tasks": tasks(), "gate": gate.path()}), "");
    bed.write("workspace/suite.json", r#"{"tasks": ["easy-10"], "threshold": 0.8, "last_results": {"easy-10": 1.0}}"#);
    let original = bed.read("workspace/suite.json");
    gate.let_through(Some(2));
    let command = Running::start(bed.command(&["prepare"]));
    gate.held("train");
    let seen = bed.outside().join("seen");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        assert!(std::process::Command::new("cp").arg("-rT").arg(from).arg(to).status().unwrap().success());
    };
    copy(&bed.state().join("views.json"), &seen);
    gate.let_through(None);
    command.end().expect(0);
    let after = views(&bed);
    assert_eq!(after["suite.json"]["tasks"], json!(["easy-10"]));
    // As if it had been killed between the ledger's last line and the first view.
    bed.write("workspace/suite.json", &original);
    copy(&seen, &bed.state().join("views.json"));
    bed.run(&["benchmark"]).expect(0);
    bed.run(&["verify"]).expect(0);
    assert_eq!(views(&bed)["suite.json"], after["suite.json"]);
}

#[test]
fn linked_work_trees_share_the_ledger_and_do_not_accuse_each_other() {
    let bed = Bed::prepared(json!({"tasks": tasks()}), "");
    bed.git(&["worktree", "add", "-q", "-b", "second", "../second"]);
    std::fs::copy(bed.root.join("experiment_config.yaml"), bed.root.join("../second/experiment_config.yaml")).unwrap();
    let second = |words: &[&str]| {
        let mut command = bed.command(words);
        crate::support::done(command.current_dir(bed.root.join("../second")).output().unwrap())
    };
    second(&["benchmark"]).expect(0);
    bed.run(&["benchmark"]).expect(0);
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    second(&["benchmark", "--fresh"]).expect(0);
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_second_command_is_told_who_holds_the_lock_and_leftovers_are_ended() {
    let (_directory, gate) = Gate::new();
    gate.let_through(None);
    let bed = Bed::prepared(json!({"tasks": tasks(), "gate": gate.path()}), "");
    bed.agent(&["easy", "hard"]);
    gate.let_through(Some(1));
    let command = Running::start(bed.command(&["benchmark"]));
    gate.held("train");
    let pid = command.pid();
    let who = format!("in use by `autoharness benchmark` (process {pid}, since ");
    for words in [&["gate"][..], &["record"], &["prepare"], &["benchmark"], &["verify"]] {
        bed.run(words).expect(2).warns(&who);
    }
    bed.run(&["status"]).expect(0).says("a command is running");
    // Tool and watcher die at the same moment: nobody is left to end the benchmark.
    let watchers = || processes(&bed).into_iter().filter(|(_, command)| command.contains("__watch"));
    let found: Vec<i32> = watchers().map(|(pid, _)| pid).collect();
    assert_eq!(found.len(), 1, "{:?}", processes(&bed));
    found.iter().for_each(|watcher| send(*watcher, Signal::STOP));
    command.signal(Signal::KILL);
    found.iter().for_each(|watcher| send(*watcher, Signal::KILL));
    assert_eq!(command.end().code, 137);
    assert!(!processes(&bed).is_empty(), "the benchmark was to survive, or this test shows nothing");
    bed.run(&["record"]).expect(1).warns("an interrupted command left running");
    nobody_left(&bed);
    gate.let_through(None);
    bed.run(&["benchmark"]).expect(0);
    bed.run(&["verify"]).expect(0);
}

#[test]
fn zeros_of_a_killed_run_without_a_model_are_no_evidence() {
    let (_directory, gate) = Gate::new();
    gate.let_through(None);
    let options = json!({"tasks": tasks(), "gate": gate.path(), "tokens": 0});
    let bed = Bed::table(options, "infra_retries: 0");
    bed.run(&["prepare"]).expect(3).warns("no trial used a single model token");
    // Killed before anybody could say that no model was there; all but the last trial look like failures.
    bed.agent(&["none"]);
    gate.let_through(Some(11));
    let command = Running::start(bed.command(&["prepare"]));
    gate.held("train");
    gate.held("test");
    until("the trials are in the ledger", || bed.events("trial").len() == 24 + 22);
    command.signal(Signal::KILL);
    command.end();
    gate.let_through(None);
    bed.run(&["prepare"]).expect(3).warns("no trial used a single model token");
    // Killed after the last trial, before the end of the run.
    assert!(bed.events("prepared").is_empty());
}

#[test]
fn a_daemon_that_kills_its_watcher_gets_nowhere() {
    let bed = Bed::table(json!({}), "");
    let pid = bed.outside().join("daemon.pid");
    // It leaves group, session, directory and environment behind before it strikes.
    let daemon = format!(
        r#"
import os
if request["action"] == "run":
    script = f"cd /; echo $$ > {pid}; kill -9 {{os.getppid()}}; exec sleep 3600 < /dev/null > /dev/null 2>&1"
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve("/bin/sh", ["sh", "-c", script], {{}})
        os._exit(0)
    time.sleep(3600)
"#,
        pid = pid.display()
    );
    let bench = crate::support::table::WHOLE.replace(
        "    options = request[\"options\"]\n",
        &format!("    options = request[\"options\"]\n{}\n", daemon.trim_end().replace('\n', "\n    ")),
    );
    bed.write("bench.py", &bench);
    bed.git(&["commit", "-qam", "a daemon"]);
    let done = bed.run(&["prepare"]);
    assert_eq!(done.code, 3, "{}", done.stderr);
    let number = std::fs::read_to_string(&pid).unwrap();
    let alive =
        std::fs::read_to_string(format!("/proc/{}/cmdline", number.trim())).is_ok_and(|words| words.contains("sleep"));
    if alive {
        send(number.trim().parse().unwrap(), Signal::KILL);
    }
    assert!(!alive, "the daemon outlived the command");
    nobody_left(&bed);
}

#[test]
fn under_nohup_a_closing_terminal_ends_nothing() {
    let (_directory, gate) = Gate::new();
    gate.let_through(None);
    let bed = Bed::prepared(json!({"tasks": tasks(), "gate": gate.path()}), "");
    bed.agent(&["easy", "hard"]);
    gate.let_through(Some(1));
    let own = bed.command(&["benchmark"]);
    let mut command = std::process::Command::new("sh");
    // The binary itself: `own` may be started through something that stops ignoring signals.
    let binary = env!("CARGO_BIN_EXE_autoharness");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh", binary, "benchmark"]);
    command.current_dir(&bed.root).env_clear().envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let running = Running::start(command);
    gate.held("train");
    running.signal(Signal::HUP);
    gate.let_through(None);
    assert_eq!(running.end().code, 0);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let bed = Bed::session();
    for words in ["status", "--help", "status --format json", "verify"] {
        let script = format!("set -o pipefail; {} {words} | true", env!("CARGO_BIN_EXE_autoharness"));
        let own = bed.command(&[]);
        let mut command = std::process::Command::new("bash");
        command.args(["-c", &script]).current_dir(&bed.root).env_clear();
        let done =
            crate::support::done(command.envs(own.get_envs().filter_map(|(n, v)| Some((n, v?)))).output().unwrap())
                .expect(0);
        assert_eq!(done.stderr, "", "{words}");
    }
}

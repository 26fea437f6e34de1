//! A full disk, and benchmarks that hang, flood, die or talk nonsense: a clear message, the right exit code, bounded memory,
//! nobody left running, nothing lost.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::running::{Gate, Running, leftovers, nobody_left};
use crate::support::{Bed, Done, done};

/// The most memory the tool may ever have had, in KiB, whatever the benchmark says: a debug build, and one longest line.
const MEMORY: u64 = 96 * 1024;

/// Runs a benchmark with this fault and holds it before its end; returns the exit code, what was said, and the tool's peak
/// memory in KiB.
fn faulty(fault: &str, held: bool) -> (crate::support::Done, u64, Bed) {
    let (_directory, gate) = Gate::new();
    let bed = Bed::prepared(json!({}), "infra_retries: 0");
    let (config, mut options) = config(&bed);
    options["fault"] = json!(fault);
    options["gate"] = json!(gate.path());
    bed.write("experiment_config.yaml", &config.replace("OPTIONS", &options.to_string()));
    gate.let_through(None);
    let accepted = Running::start(bed.command(&["prepare", "--accept"]));
    if held {
        std::fs::remove_file(gate.path().join("go")).unwrap();
        gate.let_through(Some(6));
        gate.held("end");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", accepted.pid())).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    gate.let_through(None);
    let done = accepted.end();
    nobody_left(&bed);
    (done, peak.unwrap_or(0), bed)
}

/// The configuration with `OPTIONS` in place of the options, and the options.
fn config(bed: &Bed) -> (String, Value) {
    let text = bed.read("experiment_config.yaml");
    let line = text.lines().find(|line| line.starts_with("options: ")).unwrap();
    let options = &line["options: ".len()..];
    (text.replace(options, "OPTIONS"), serde_json::from_str(options).unwrap())
}

#[test]
fn floods_neither_fill_memory_nor_stop_a_run() {
    flooded(&["flood_stderr"]);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn floods_of_events_neither_fill_memory_nor_stop_a_run() {
    flooded(&["flood"]);
}

fn flooded(faults: &[&str]) {
    for fault in faults {
        let (done, peak, bed) = faulty(fault, true);
        let done = done.expect(0);
        assert!(peak > 0 && peak < MEMORY, "{fault}: {peak} KiB");
        assert!(done.stderr.len() < 100_000, "{fault}: {} bytes on stderr", done.stderr.len());
        let logs: u64 = std::fs::read_dir(bed.state().join("logs"))
            .unwrap()
            .map(|log| log.unwrap().metadata().unwrap().len())
            .sum();
        assert!(logs < 40 << 20, "{fault}: {logs} bytes of logs");
        bed.run(&["verify"]).expect(0);
    }
}

#[test]
fn nonsense_is_infrastructure_and_nobody_stays() {
    for (fault, message) in [
        ("garbage", "broke the trial protocol and was stopped: line 1 is not JSON"),
        ("endless_line", "is longer than 16777216 bytes"),
        ("close", "closed its output but did not exit within 5 s and was stopped after 6 of 6 trials"),
    ] {
        let (done, _, bed) = faulty(fault, false);
        // All trials had been reported before the last two faults: that is evidence, whatever comes after.
        let code = if fault == "garbage" { 3 } else { 0 };
        done.expect(code).warns(message);
        bed.run(&["verify"]).expect(0);
    }
    let (done, _, _) = faulty("escape", false);
    done.expect(0);
}

#[test]
fn a_benchmark_that_dies_half_way_is_run_again() {
    let bed = Bed::table(
        json!({"tasks": {"train": ["easy-1", "hard-1", "odd-1"], "test": ["easy-2", "easy-3"]}}),
        "infra_retries: 0",
    );
    bed.mood(json!({"die_after": 2}));
    let done = bed.run(&["prepare"]).expect(3).warns("ended with exit status 9 after 2 of 3 trials");
    assert!(done.stderr.contains("do not revert"), "{}", done.stderr);
    assert_eq!(bed.ran().len(), 4);
    bed.mood(json!({}));
    bed.run(&["prepare"]).expect(0);
    assert_eq!(bed.ran().len(), 5, "what was reported before the failure does not count");
    bed.run(&["verify"]).expect(0);
}

/// A small file system; unmounted at the end.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn new(place: &Path) -> Option<Tmpfs> {
        std::fs::create_dir_all(place).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(place).output().ok()?;
        mounted.status.success().then(|| Tmpfs(place.to_path_buf()))
    }

    /// Takes all space but about this many KiB.
    fn fill(&self, left: usize) {
        let _ = std::fs::write(self.0.join("ballast"), vec![0; 4 << 20]);
        let file = std::fs::OpenOptions::new().write(true).open(self.0.join("ballast")).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length - (left << 10) as u64).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_decides_nothing_and_tears_nothing() {
    let names: Vec<String> = (0..60).map(|i| format!("easy-{i:02}")).collect();
    let bed = Bed::table(json!({"tasks": {"train": names, "test": ["hard-1"]}}), "");
    let Some(disk) = Tmpfs::new(&bed.outside().join("disk")) else {
        return crate::support::skipped("no file system can be mounted here");
    };
    let run = |words: &[&str]| {
        let mut command = bed.command(words);
        done(command.env("AUTOHARNESS_STATE_DIR", &disk.0).output().unwrap())
    };
    run(&["prepare"]).expect(0);
    let ledger = disk.0.join("ledger.jsonl");
    // From nothing at all to room for most of the run.
    for (round, left) in [0, 4, 8, 12, 20, 28].into_iter().enumerate() {
        bed.write("agent/agent.py", &format!("SKILLS = {{'easy'}}  # {round}\n"));
        bed.ran();
        disk.fill(left);
        let done = run(&["benchmark"]).expect(3).warns("No space left on device").warns("free some disk space");
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        nobody_left(&bed);
        run(&["status"]).expect(0);
        let before = std::fs::read_to_string(&ledger).unwrap();
        assert!(before.ends_with('\n'), "a torn line stayed with {left} KiB left");
        disk.free();
        let tried = bed.ran().len();
        run(&["benchmark"]).expect(0);
        assert!(std::fs::read_to_string(&ledger).unwrap().starts_with(&before), "lines were lost with {left} KiB left");
        let again = bed.ran().len();
        assert!(tried + again <= 60 + 70, "{tried} and {again} with {left} KiB left");
        run(&["verify"]).expect(0);
    }
    assert_eq!(leftovers(&disk.0), Vec::<PathBuf>::new());
}

/// Runs `words` with files that may grow to so many KiB and no further. Without the trap the signal would end the tool
/// before it could say anything.
fn limited(bed: &Bed, limit: u64, trap: bool, words: &str) -> Done {
    let trap = if trap { "trap '' XFSZ;" } else { "" };
    let script = format!("{trap} ulimit -f {limit}; exec {} {words}", env!("CARGO_BIN_EXE_autoharness"));
    let like = bed.command(&[]);
    let environment: Vec<_> = like.get_envs().filter_map(|(name, value)| Some((name, value?))).collect();
    let mut limited = Command::new("bash");
    limited.args(["-c", &script]).env_clear().envs(environment).current_dir(&bed.root);
    done(limited.output().unwrap())
}

#[test]
fn a_full_disk_is_named_and_not_what_it_stopped() {
    let held: Vec<String> = (0..60).map(|i| format!("easy-{i:02}")).collect();
    let tasks = json!({"train": ["easy-a", "hard-a"], "test": held});
    let bed = Bed::prepared(json!({"tasks": tasks, "linger": "test"}), "");
    bed.accept(&["easy", "hard"]);
    bed.agent(&["easy", "hard", "odd"]);
    // The suite is stopped because the hold-out's trials cannot be written, and it ends first.
    bed.mood(json!({"misbehave": {"hard-a": "hang"}}));
    let limit = std::fs::metadata(bed.ledger()).unwrap().len() / 1024 + 4;
    let done = limited(&bed, limit, true, "gate").expect(3).warns("ledger.jsonl").warns("File too large");
    assert!(!done.stderr.contains("interrupted"), "{}", done.stderr);
    nobody_left(&bed);
}

#[test]
fn what_a_killed_prepare_left_does_not_block_the_next() {
    let bed = Bed::table(json!({}), "");
    // PROGRAM.md is larger than that.
    limited(&bed, 4, false, "prepare").expect(128 + 25);
    assert_eq!(leftovers(&bed.root).len(), 1, "the kill came too late");
    let name = leftovers(&bed.root)[0].file_name().unwrap().to_owned();
    for directory in ["agent", "workspace", "tbench_data"] {
        std::fs::create_dir_all(bed.root.join(directory)).unwrap();
        std::fs::copy(&leftovers(&bed.root)[0], bed.root.join(directory).join(&name)).unwrap();
    }
    bed.run(&["prepare"]).expect(0);
    assert_eq!(leftovers(&bed.root), Vec::<PathBuf>::new());
}

#[test]
fn what_is_no_file_keeps_nobody_waiting() {
    in_the_place_of_files(&["a named pipe"]);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn what_never_ends_keeps_nobody_waiting() {
    in_the_place_of_files(&["a device", "10 GB"]);
}

/// Runs commands over an experiment in which something else lies in the place of a file.
fn in_the_place_of_files(kinds: &[&str]) {
    let make = |path: &Path, what: &str| {
        let _ = std::fs::remove_file(path);
        match what {
            "a named pipe" => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
            "a device" => std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
            _ => std::fs::File::create(path).unwrap().set_len(10 << 30).unwrap(),
        }
    };
    // Ended by force where it waits: 137 is no exit code of ours.
    let run = |bed: &Bed, words: &[&str]| {
        let mut command = Command::new("timeout");
        let own = bed.command(words);
        command
            .args(["-s", "KILL", "60"])
            .arg(own.get_program())
            .args(own.get_args())
            .current_dir(&bed.root)
            .env_clear();
        done(command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?)))).output().unwrap())
    };
    let fresh = Bed::table(json!({}), "");
    let prepared = Bed::session();
    let state = |name: &str| format!(".git/autoharness/{name}");
    let cases = [
        (&fresh, ".env".to_string(), &["prepare", "status"][..], Some(2)),
        (&fresh, "experiment_config.yaml".into(), &["prepare"], Some(2)),
        (&fresh, "workspace/suite.json".into(), &["prepare"], Some(2)),
        (&fresh, "workspace/results.tsv".into(), &["prepare"], Some(2)),
        (&fresh, "agent/agent.py".into(), &["prepare"], Some(2)),
        (&prepared, state("ledger.jsonl"), &["gate", "status"], Some(2)),
        (&prepared, "workspace/suite.json".into(), &["gate"], Some(2)),
        (&prepared, "workspace/gate.json".into(), &["gate"], Some(2)),
        // What can be made again is.
        (&prepared, state("checkpoint.json"), &["status"], Some(0)),
        (&prepared, state("views.json"), &["status"], Some(0)),
        (&prepared, "agent/agent.py".into(), &["gate"], None),
        (&prepared, "PROGRAM.md".into(), &["gate", "prepare"], None),
        (&prepared, "workspace/learnings.md".into(), &["gate"], None),
    ];
    for what in kinds {
        for (bed, name, commands, code) in &cases {
            let path = bed.root.join(name);
            let honest = std::fs::read(&path).ok();
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            make(&path, what);
            for words in *commands {
                let done = run(bed, &[words]);
                let fits = code.map_or(done.code <= 3, |code| done.code == code);
                assert!(fits, "{words} with {what} at {name}: {}\n{}", done.code, done.stderr);
                assert!(
                    *code != Some(2) || done.stderr.contains(path.file_name().unwrap().to_str().unwrap()),
                    "{}",
                    done.stderr
                );
            }
            std::fs::remove_file(&path).unwrap();
            honest.inspect(|honest| std::fs::write(&path, honest).unwrap());
        }
    }
}

#[test]
fn a_file_that_may_not_grow_is_a_full_disk() {
    let names: Vec<String> = (0..60).map(|i| format!("easy-{i:02}")).collect();
    let bed = Bed::prepared(json!({"tasks": {"train": names, "test": ["hard-1"]}}), "");
    bed.agent(&["easy", "hard"]);
    let ledger = bed.state().join("ledger.jsonl");
    // In KiB, as bash counts.
    let limit = std::fs::metadata(&ledger).unwrap().len() / 1024 + 8;
    limited(&bed, limit, true, "benchmark")
        .expect(3)
        .warns("ledger.jsonl")
        .warns("File too large")
        .warns("free some disk space");
    nobody_left(&bed);
    let before = std::fs::read_to_string(&ledger).unwrap();
    assert!(before.ends_with('\n'), "a torn line stayed");
    bed.ran();
    bed.run(&["benchmark"]).expect(0);
    let known = before.matches("\"purpose\":\"benchmark\"").count();
    assert!(known > 5 && bed.ran().len() == 60 - known, "{known} were known");
    bed.run(&["verify"]).expect(0);
}

/// Runs `script` where `.git` is mounted read-only, as in Codex's sandbox; `None` where that cannot be arranged.
fn with_git_read_only(bed: &Bed, script: &str) -> Option<Done> {
    let mount = "mount --bind .git .git && mount -o remount,bind,ro .git || exit 99";
    bed.unshared(&["--mount"], &format!("{mount}; autoharness() {{ \"$PROGRAM\" \"$@\"; }}; {script}"))
}

#[test]
fn a_read_only_git_directory_is_no_reason_to_try_again() {
    let bed = Bed::prepared(json!({}), "");
    bed.ran();
    bed.agent(&["easy", "hard"]);
    let every = "for words in gate record benchmark 'verify --restore' 'prepare --accept' 'loop --with claude --iterations 1'; do \
                 autoharness $words >/dev/null 2>said; echo \"$words: $? $(grep -c -e '--add-dir .git' said)\"; done";
    let Some(ended) = with_git_read_only(
        &bed,
        &format!("{every}; autoharness status >/dev/null; echo status: $?; rm -f said; autoharness doctor"),
    ) else {
        return crate::support::skipped("nothing can be mounted read-only here");
    };
    for words in
        ["gate", "record", "benchmark", "verify --restore", "prepare --accept", "loop --with claude --iterations 1"]
    {
        assert!(
            ended.stdout.contains(&format!("\n{words}: 2 1\n")) || ended.stdout.starts_with(&format!("{words}: 2 1\n")),
            "{words}\n{}\n{}",
            ended.stdout,
            ended.stderr
        );
    }
    // Looking is allowed, and doctor names the way out.
    let ended = ended
        .expect(2)
        .says("\nstatus: 0\n")
        .says("fail  writable       cannot write to ")
        .says("autoharness: read-only filesystem");
    assert!(ended.stdout.contains("--add-dir .git") && ended.stdout.ends_with("problem(s)\n"), "{}", ended.stdout);
    assert!(bed.ran().is_empty(), "nothing is paid for before it is clear that it cannot be written down");
    bed.run(&["gate"]).expect(0);
}

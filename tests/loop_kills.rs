//! The loop is killed at fourteen points of two iterations, and goes on from each: the same iteration, nothing paid for twice, nobody
//! and nothing left behind, and in the end the history of a night that nobody disturbed.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::loop_::Night;
use crate::support::Bed;
use crate::support::running::{Gate, Running, nobody_left, until, views};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Runs git, and waits on the way when `hold` says so: `before` or `after`, `tree` (for the coding agent's) or `root`, and git's word.
const GIT: &str = r#"#!/bin/sh
here=HERE
case "$*" in *pack-objects*) where=tree ;; *) where=root ;; esac
held() {
    for word; do
        if [ "$(cat "$here/hold" 2>/dev/null)" = "$when $where $word" ]; then
            : >"$here/held"
            while :; do sleep 0.01; done
        fi
    done
}
when=before
held "$@"
GIT "$@"
code=$?
when=after
held "$@"
exit $code
"#;

/// A night with everything that can hold the loop.
struct Kills {
    night: Night,
    gate: Gate,
    _directory: tempfile::TempDir,
    shim: PathBuf,
}

impl Kills {
    fn new() -> Kills {
        let (directory, gate) = Gate::new();
        gate.hold(None);
        let night = Night::new(json!({"gate": gate.path()}), "");
        let shim = night.bed.outside().join("shim");
        std::fs::create_dir(&shim).unwrap();
        let git = which::which("git").unwrap();
        let script = GIT.replace("HERE", &shim.display().to_string()).replace("GIT", &git.display().to_string());
        std::fs::write(shim.join("git"), script).unwrap();
        std::fs::set_permissions(shim.join("git"), std::fs::Permissions::from_mode(0o755)).unwrap();
        Kills { night, gate, _directory: directory, shim }
    }

    fn bed(&self) -> &Bed {
        &self.night.bed
    }

    /// One iteration; the hook waits where there is the file `hold-hook`.
    fn command(&self, words: &[&str]) -> Command {
        let here = self.shim.display();
        let hook =
            format!("sh -c 'if [ -e {here}/hold-hook ]; then : > {here}/held; while :; do sleep 0.01; done; fi'");
        let mut command = self.night.command(&[&["--iterations", "1", "--on-iteration", &hook], words].concat());
        let path = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value).unwrap();
        let path = std::env::join_paths(std::iter::once(self.shim.clone()).chain(std::env::split_paths(path))).unwrap();
        command.env("PATH", path);
        command
    }

    /// Starts the loop, kills it once `reached`, and looks whether anybody is left.
    #[track_caller]
    fn kill(&self, point: &str, words: &[&str], mut reached: impl FnMut() -> bool) {
        let mut running = Running::start(self.command(words));
        until(point, || reached() || running.has_ended());
        running.signal(Signal::KILL);
        let done = running.end();
        assert_eq!(done.code, 137, "{point}: {}\n{}", done.stdout, done.stderr);
        nobody_left(self.bed());
        for file in [self.shim.join("held"), self.night.place("held")] {
            let _ = std::fs::remove_file(file);
        }
    }

    /// Kills the loop while git waits there.
    #[track_caller]
    fn kill_in_git(&self, hold: &str, words: &[&str]) {
        std::fs::write(self.shim.join("hold"), hold).unwrap();
        let held = self.shim.join("held");
        self.kill(hold, words, || held.exists());
        std::fs::remove_file(self.shim.join("hold")).unwrap();
    }

    /// What the loop keeps between two steps.
    fn state(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.bed().state().join("loop.json")).unwrap_or_default())
            .unwrap_or_default()
    }

    fn stage(&self) -> Value {
        self.state()["current"]["stage"].take()
    }
}

/// What happened, without times, what sessions took, and names that differ from bed to bed.
fn history(bed: &Bed) -> Value {
    let keep = |event: Value, names: &[&str]| -> Vec<Value> { names.iter().map(|name| event[*name].clone()).collect() };
    let all = |name: &str, names: &[&str]| -> Vec<Vec<Value>> {
        bed.events(name).into_iter().map(|event| keep(event, names)).collect()
    };
    // A run that was cut short is two, and trials of a run come in any order.
    let mut trials: Vec<String> = all("trial", &["agent", "purpose", "split", "task", "trial", "outcome", "reward"])
        .into_iter()
        .map(|trial| json!(trial).to_string())
        .collect();
    trials.sort();
    let rows: Vec<Value> = bed
        .events("recorded")
        .iter()
        .map(|one| json!([one["row"]["iteration"], one["row"]["val_score"], one["agent"]]))
        .collect();
    let outdone: Vec<Value> = bed.events("proposed").iter().map(|one| one["outdone"].clone()).collect();
    let history = json!({
        "trials": trials, "recorded": rows, "outdone": outdone,
        "verdicts": all("verdict", &["agent", "decision"]),
        "proposed": all("proposed", &["iteration", "by", "agent", "end", "reason", "proposal", "predicted"]),
        "learnings": bed.read("workspace/learnings.md"),
        "messages": bed.git(&["log", "--format=%B"]),
        "candidates": bed.git(&["for-each-ref", "--format=%(refname)", "refs/autoharness"]),
        "agent": bed.read("agent/agent.py"),
        "views": views(bed),
    });
    let commits = bed.git(&["log", "--format=%H %h"]);
    let named = commits.split_whitespace().fold(history.to_string(), |text, commit| text.replace(commit, "COMMIT"));
    serde_json::from_str(&named).unwrap()
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn a_night_of_kills_ends_as_one_that_nobody_disturbed() {
    let (bad, good) = (json!({"proposal": null}), json!({"skills": ["easy", "hard"]}));
    let rivals = [json!({"skills": ["easy", "odd"]}), json!({"skills": ["hard", "odd"]})];
    let race = ["--candidates", "2"];

    let calm = Kills::new();
    calm.night.plan(json!([bad, good, rivals[0], rivals[1]]));
    crate::support::done(calm.command(&[]).output().unwrap()).expect(0).says("iteration 1: accepted");
    crate::support::done(calm.command(&race).output().unwrap()).expect(0).says("iteration 2: rejected");
    calm.night.tidy();

    let kills = Kills::new();
    let (night, bed) = (&kills.night, kills.bed());
    let first = |act: &Value| {
        let mut act = act.clone();
        act["hold"] = json!("first");
        act
    };
    let mut last = good.clone();
    last["hold"] = json!(true);
    night.plan(json!([first(&bad), bad, first(&good), last, rivals[0], rivals[1]]));
    let held = night.place("held");

    kills.kill_in_git("before tree pack-objects", &[]);
    kills.kill("the first session is at work", &[], || held.exists());
    assert_eq!((kills.stage(), night.sessions().len()), (json!("proposing"), 1));
    kills.kill("a session is at work on what was sent back", &[], || night.sessions().len() == 3 && held.exists());
    assert!(kills.state()["current"]["sent_back"].is_string());
    kills.kill("the proposal is written, and the session not yet over", &[], || held.exists());
    kills.gate.hold(Some("test"));
    kills.kill("the gate is at the hold-out", &[], || kills.gate.path().join("held-test").exists());
    assert_eq!(kills.stage(), "gating");
    kills.gate.hold(None);
    kills.kill_in_git("before root add", &[]);
    assert_eq!((kills.stage(), bed.events("verdict").len()), (json!("passed"), 1));
    kills.kill_in_git("before root commit", &[]);
    let head = bed.git(&["rev-parse", "HEAD"]);
    kills.kill_in_git("after root commit", &[]);
    assert_ne!(bed.git(&["rev-parse", "HEAD"]), head);
    assert_eq!((kills.stage(), bed.events("recorded").len()), (json!("passed"), 0));
    // Nothing holds what follows, so that the kill may come a step late; the hook holds the iteration's end.
    let hook = kills.shim.join("hold-hook");
    std::fs::write(&hook, "").unwrap();
    let log = || std::fs::read_to_string(bed.state().join("autoharness.log")).unwrap_or_default();
    let records =
        |log: &str| log.lines().filter(|line| line.contains("command began") && line.contains("record")).count();
    let before = records(&log());
    kills.kill("record is at work", &[], || records(&log()) > before);
    kills.kill("what came of it is in the ledger", &[], || bed.events("proposed").len() == 1);
    if kills.state()["current"].is_object() {
        kills.kill("the hook is at work", &[], || kills.shim.join("held").exists());
    }
    std::fs::remove_file(&hook).unwrap();
    assert_eq!((kills.state()["night"]["done"].take(), night.sessions().len()), (json!(1), 4));
    crate::support::done(kills.command(&[]).output().unwrap())
        .expect(0)
        .says("loop: 1 iterations done; iterations=1 accepted=1");
    night.tidy();

    kills.gate.hold(Some("train"));
    let train = || kills.gate.path().join("held-train").exists();
    kills.kill("evidence is gathered", &race, train);
    assert!(kills.state()["current"].is_null() && night.sessions().len() == 4);
    kills.gate.hold(None);
    kills.kill("the candidates race", &race, || {
        // Train is known of the base commit now: what runs on it is a candidate.
        if kills.stage() == "proposing" {
            kills.gate.hold(Some("train"));
        }
        kills.stage() == "racing" && train()
    });
    kills.gate.hold(None);
    std::fs::write(&hook, "").unwrap();
    kills.kill("it is rejected", &race, || bed.events("verdict").len() == 2);
    std::fs::remove_file(&hook).unwrap();
    let done = crate::support::done(kills.command(&race).output().unwrap()).expect(0);
    assert!(done.stdout.contains("iterations=1 accepted=0"), "{}", done.stdout);
    night.tidy();

    assert_eq!(
        night.sessions().len(),
        6,
        "two were killed before they had done anything, the others are those of a calm night"
    );
    assert_eq!(bed.ran().len(), calm.bed().ran().len(), "no trial was run twice");
    let trials = |bed: &Bed| bed.events("trial").len();
    assert_eq!(trials(bed), trials(calm.bed()));
    let (calm, killed) = (history(calm.bed()), history(bed));
    for (name, part) in calm.as_object().unwrap() {
        assert_eq!(part, &killed[name], "{name}");
    }
    bed.run(&["verify"]).expect(0);
}

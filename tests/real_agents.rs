//! The loop drives the real Claude Code and the real Codex from npm, against a scripted model on loopback, in a network namespace
//! where the machine allows one: a night on the demo with an accepted edit, a rejected one after a 429, and an interrupted one.
//!
//! Needs AUTOHARNESS_TEST_CLAUDE, AUTOHARNESS_TEST_CODEX: the paths of `claude` and `codex`. `.ci/agents.sh` installs them.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::running::{Running, nobody_left, send, until};
use crate::support::{Bed, skipped};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The keys of the coding agent's and the benchmark's; only the first may be seen by a session, and none is written down.
const KEYS: [&str; 2] = ["sk-ant-of-the-proposer-0123", "sk-of-the-benchmark-4567"];
/// What the model says that an answer took, in tokens.
const ANSWER: u64 = 1050;
const EDITS: [&str; 3] = [
    include_str!("../src/benchmarks/demo/session/01_dates_amounts.diff"),
    include_str!("../src/benchmarks/demo/session/02_rewrite_breaks_suite.diff"),
    include_str!("../src/benchmarks/demo/session/04_generalise.diff"),
];

/// A prepared demo with a coding agent.
struct Rig {
    bed: Bed,
    name: &'static str,
    program: PathBuf,
    /// The name of its key.
    key: &'static str,
}

impl Rig {
    /// `None`, said so, where `variable` names no program.
    fn new(name: &'static str, variable: &str, key: &'static str) -> Option<Rig> {
        let Some(program) = std::env::var_os(variable).filter(|value| !value.is_empty()) else {
            skipped(&format!("set {variable} to the program of the coding agent `{name}`"));
            return None;
        };
        let bed = Bed::empty();
        bed.run(&["init", "--benchmark", "demo"]).expect(0);
        let yaml = bed.read("experiment_config.yaml");
        bed.write("experiment_config.yaml", &format!("{yaml}\nloop_env: [{key}]\n"));
        bed.run(&["prepare"]).expect(0);
        std::fs::create_dir(bed.outside().join("model")).unwrap();
        Some(Rig { bed, name, program: program.into(), key })
    }

    /// A file between the test and the model.
    fn place(&self, name: &str) -> PathBuf {
        self.bed.outside().join("model").join(name)
    }

    fn steps(&self, steps: &Value) {
        std::fs::write(self.place("steps.json"), steps.to_string()).unwrap();
    }

    /// The loop, with the model beside it and nothing else in reach.
    fn command(&self, words: &[&str]) -> Command {
        let _ = std::fs::remove_file(self.place("pid"));
        let program = self.bed.command(&[&["loop", "--with", self.name], words].concat());
        let mut command = if alone() { Command::new("unshare") } else { Command::new("env") };
        if alone() {
            command.args(["--user", "--map-root-user", "--net"]);
        }
        command.args(["python3", "-B"]).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/model.py"));
        command.arg(self.place("")).arg(program.get_program()).args(program.get_args());
        let set = program.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.env_clear().envs(set).env(self.key, KEYS[0]).env("BENCH_API_KEY", KEYS[1]);
        let path = program.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value).unwrap();
        let own = self.program.parent().unwrap().to_path_buf();
        let path = std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(path))).unwrap();
        command.env("PATH", path).current_dir(&self.bed.root).stdin(Stdio::null());
        command
    }

    /// Sends the loop a signal.
    fn signal(&self, signal: Signal) {
        send(std::fs::read_to_string(self.place("pid")).unwrap().parse().unwrap(), signal);
    }

    fn asked(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.place("asked.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn current(&self) -> Value {
        let text = std::fs::read(self.bed.state().join("loop.json")).unwrap_or_default();
        serde_json::from_slice::<Value>(&text).unwrap_or_default()["current"].take()
    }

    /// A night of three iterations. `refusals`: how often the agent asks again after a 429.
    fn night(&self, refusals: u32) {
        let bed = &self.bed;
        let patch =
            |number: usize| json!({"shell": format!("git apply --whitespace=nowarn <<'EDIT'\n{}EDIT", EDITS[number])});
        let results = bed.read_json("workspace/train_results.json");
        let failing =
            results["results"].as_object().unwrap().iter().find(|(_, reward)| **reward == 0.0).unwrap().0.clone();
        let proposal = |surface: &str| {
            json!({"write": ["proposal.md", format!(
                "---\nhypothesis: notations are read too narrowly\nfailure_pattern: other notations\n\
                 predicted_fixes: [{failing}]\nsurface: {surface}\n---\n\nReads more of them.\n"
            )]})
        };
        let look = format!(
            "head -n 3 PROGRAM.md; ls workspace; echo \"$BENCH_API_KEY${}\"; grep -c prev {}; echo ledger=$?",
            self.key,
            bed.ledger().display()
        );
        let mut first = patch(0);
        let tries =
            format!("{}\nautoharness benchmark --task-ids {failing}; echo tried=$?", first["shell"].as_str().unwrap());
        first["shell"] = json!(tries);
        let stop = json!({"say": "Edited; the proposal is written."});
        self.steps(&json!([
            {"shell": look}, first, proposal("tool"), stop,
            {"status": 429, "say": "too many requests; retry after 1 s", "times": refusals},
            patch(1), proposal("control loop"), stop,
            patch(2), {"hold": true},
            proposal("tool"), stop,
        ]));
        let verdicts = bed.events("verdict").len();

        let mut running = Running::start(self.command(&["--iterations", "3"]));
        if self.name == "codex" {
            // It keeps to itself what the provider said, so that a minute is waited; nobody has to.
            until("the loop waits for the provider", || {
                let current = self.current();
                current["iteration"] == 2 && current["begun"] == false && current["session"].is_string()
            });
            self.signal(Signal::INT);
            running.end().expect(130).warns("429").warns("waiting 60 s");
            nobody_left(bed);
            running = Running::start(self.command(&["--iterations", "3"]));
        }
        until("the third session is at work", || self.place("held").exists());
        assert_eq!(self.current()["iteration"], 3);
        self.signal(Signal::KILL);
        running.end().expect(137).says("iteration 2: rejected [control loop] notations are read too narrowly");
        nobody_left(bed);

        let done = Running::start(self.command(&["--iterations", "3"])).end().expect(0);
        let done =
            done.warns("going on with iteration 3").says("iteration 3: accepted").says("iterations=3 accepted=2");
        nobody_left(bed);

        // Every step of the script was asked for once: no session was paid for twice.
        let asked: Vec<Value> = self.asked().into_iter().filter(|one| one["step"].is_number()).collect();
        let steps: Vec<u64> = asked.iter().map(|one| one["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, (0..11 + u64::from(refusals)).collect::<Vec<_>>(), "{}", done.stderr);
        assert!(asked.iter().all(|one| one["key"] == KEYS[0]), "each with the coding agent's own key");
        let heard = asked.last().unwrap()["body"].to_string() + &asked[1]["body"].to_string();
        assert!(!heard.contains(KEYS[1]) && heard.contains("train_results.json"), "{heard}");
        let tried = asked[2]["body"].to_string();
        assert!(tried.contains("tried=0") && tried.contains("trials are left to this session"), "{tried}");
        if fenced(bed) {
            assert!(heard.contains("ledger=2"), "the ledger can be read by a session: {heard}");
        }
        let proposed = bed.events("proposed");
        let ends: Vec<&str> = proposed.iter().map(|one| one["end"].as_str().unwrap()).collect();
        assert_eq!(ends, ["accepted", "rejected", "accepted"]);
        let tokens: Vec<u64> = proposed.iter().map(|one| one["usage"]["tokens"].as_u64().unwrap()).collect();
        assert_eq!(tokens, [4 * ANSWER, 3 * ANSWER, 3 * ANSWER], "what was answered, each once");
        let unpriced = proposed.iter().map(|one| one["usage"]["unpriced"].as_u64().unwrap()).sum::<u64>();
        let dollars = proposed.iter().map(|one| one["usage"]["cost_usd"].as_f64().unwrap()).sum::<f64>();
        assert_eq!((unpriced > 0, dollars > 0.0), (self.name == "codex", self.name != "codex"), "{proposed:?}");

        assert_eq!(bed.events("verdict").len(), verdicts + 3);
        assert_eq!(bed.git(&["log", "--format=%s"]).matches("notations are read too narrowly").count(), 2);
        assert_eq!(
            bed.git(&["for-each-ref", "--format=%(refname:lstrip=3)", "refs/autoharness/candidates"]),
            "2-1",
            "the rejected one stays"
        );
        assert_eq!(bed.git(&["status", "--porcelain"]), "?? PROGRAM.md");
        assert!(!bed.state().join("loop.json").exists());
        let cache = bed.outside().join("home/.cache/autoharness/loop");
        assert_eq!(walkdir::WalkDir::new(&cache).max_depth(2).into_iter().flatten().skip(1).count(), 0);
        bed.run(&["verify"]).expect(0);
        bed.run(&["status"]).expect(0).says("proposals   3: 2 accepted, 1 rejected, 0 unusable");

        let transcript = bed.read("workspace/sessions/001/transcript.jsonl");
        assert!(transcript.contains("***") && transcript.contains("ledger="), "{transcript}");
        for key in KEYS {
            assert_eq!(bed.files_with(&[key]), Vec::<PathBuf>::new());
        }
    }
}

/// Whether a session is fenced in on this machine.
fn fenced(bed: &Bed) -> bool {
    bed.run(&["doctor"]).stdout.contains("loop's fence   a canary could not read")
}

/// Whether there can be a network namespace.
fn alone() -> bool {
    let tried = Command::new("unshare").args(["--user", "--map-root-user", "--net", "true"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

#[test]
fn claude_code_has_a_night_on_the_demo() {
    let Some(rig) = Rig::new("claude", "AUTOHARNESS_TEST_CLAUDE", "ANTHROPIC_API_KEY") else { return };
    // It asks twice more by itself.
    rig.night(3);
}

#[test]
fn codex_has_a_night_on_the_demo() {
    let Some(rig) = Rig::new("codex", "AUTOHARNESS_TEST_CODEX", "STUB_KEY") else { return };
    rig.night(1);
}

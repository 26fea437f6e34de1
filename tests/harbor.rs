//! The terminal-bench benchmark against the real Harbor from PyPI: scripted model, sandboxes without containers.
//!
//! Needs AUTOHARNESS_TEST_HARBOR, the path of a `harbor` installed with agent/helpers/terminal_bench/requirements.txt.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests may panic")]

use crate::support::Done;
use crate::support::harbor::{Rig, harbor};
use crate::support::running::{Running, send};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The system prompt gets the word that half of the tasks wait for.
const CHECKLIST: (&str, &str) = ("INSTRUCTION = \"\"\"", "INSTRUCTION = \"\"\"CHECKLIST. ");

fn rejected(done: Done) -> Done {
    done.expect(1).says("gate: failed")
}

/// The different outcomes in the last results of these train tasks.
pub(crate) fn outcomes(rig: &Rig, tasks: &[String]) -> Vec<String> {
    let mut found: Vec<String> = tasks
        .iter()
        .map(|task| rig.bed.read_json(&format!("workspace/traces/latest/{task}/result.json")))
        .map(|result| result["outcome"].as_str().unwrap().to_owned())
        .collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn the_loop_from_baseline_to_record() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    let (train, test) = (rig.split("train"), rig.split("test"));
    assert_eq!((train.len(), test.len()), (4, 4), "70/30 of 4 passed and of 4 failed, rounded down");
    let mut terminal = String::new();
    let mut hear = |done: Done| {
        terminal.push_str(&done.stdout);
        terminal.push_str(&done.stderr);
        done
    };

    // The baseline's evidence is there, for train only.
    for task in &train {
        let trace = rig.bed.read_json(&format!("workspace/traces/baseline/{task}/trace.json"));
        assert!(trace["messages"].as_array().unwrap().len() >= 3, "{task}");
        let result = rig.bed.read_json(&format!("workspace/traces/baseline/{task}/result.json"));
        assert_eq!(result["outcome"], if task.starts_with("easy") { "passed" } else { "failed" });
        let output = result["detail"]["test_output"].as_str();
        assert_eq!(output.is_some(), task.starts_with("list"), "{task}: tests' output of failing tasks only");
    }

    // Nothing is paid for twice.
    hear(rig.run(&["benchmark"]).expect(0).says("train_score=0.5000"));
    assert_eq!(rig.requests(), Default::default());

    // An edit that fixes tasks passes and is recorded.
    rig.edit(CHECKLIST.0, CHECKLIST.1);
    hear(rig.run(&["gate"]).expect(0).says("gate: passed val_score=1.0000"));
    rig.bed.commit_agent();
    hear(rig.run(&["record"]).expect(0));
    assert!(rig.bed.read("workspace/results.tsv").lines().count() >= 3);
    let suite: Vec<String> =
        serde_json::from_value(rig.bed.read_json("workspace/suite.json")["tasks"].clone()).unwrap();
    assert_eq!(suite.len(), 2, "the fixed ones must never break again: {suite:?}");

    // An edit that breaks the tool breaks suite tasks.
    rig.edit("if name != \"bash\":", "if name != \"nothing\":");
    hear(rejected(rig.run(&["gate"])));
    assert_eq!(outcomes(&rig, &suite), ["failed"]);
    rig.bed.git(&["checkout", "-q", "agent/agent.py"]);

    // A crash is a zero, never a way out.
    rig.edit("        while self.steps < MAX_STEPS:", "        raise KeyError('bug')\n        while True:");
    hear(rejected(rig.run(&["gate"])));
    assert_eq!(outcomes(&rig, &suite), ["agent_error"]);
    rig.bed.git(&["checkout", "-q", "agent/agent.py"]);
    hear(rig.run(&["verify"]).expect(0));

    // Nothing of the hold-out is anywhere: not in a file, not on the terminal.
    for task in &test {
        let secret = rig.secret(task);
        assert!(!terminal.contains(&secret), "the terminal shows {task}:\n{terminal}");
        for entry in walkdir::WalkDir::new(&rig.bed.root).into_iter().flatten().filter(|e| e.file_type().is_file()) {
            let bytes = std::fs::read(entry.path()).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains(&secret), "{} has {task}", entry.path().display());
        }
    }
    // The word itself is found where it may be: so the search works.
    let own = rig.bed.read(&format!("workspace/traces/latest/{}/trace.json", train[0]));
    assert!(own.contains(&rig.secret(&train[0])));
}

/// Ways for an agent to end whatever process it is in, with a name, and a piece of the template and what replaces it.
pub(crate) const TAKING_DOWN: [(&str, &str, &str); 4] = [
    ("at import", "TOOLS = [", "import sys\nsys.exit(0)\nTOOLS = ["),
    ("in the constructor", "super().__init__(*args, **kwargs)", "raise ValueError('no agent today')"),
    ("in run", "        while self.steps < MAX_STEPS:", "        import sys; sys.exit(0)\n        while True:"),
    ("at once", "        while self.steps < MAX_STEPS:", "        os._exit(7)\n        while True:"),
];

#[test]
fn an_agent_that_takes_harbor_down_is_rejected() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    rig.configure("fence: off");
    for (name, from, to) in TAKING_DOWN {
        rig.edit(from, to);
        let done = rejected(rig.run(&["gate"]));
        // What ends the process that imports it is found before anything is run.
        let said = if name == "at import" { "SystemExit" } else { "the agent broke the whole job" };
        assert!(format!("{}{}", done.stdout, done.stderr).contains(said), "{name}: {}{}", done.stdout, done.stderr);
        rig.bed.git(&["checkout", "-q", "agent/agent.py"]);
    }
}

#[test]
fn an_agent_that_never_ends_is_stopped_and_keeps_its_trace() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    rig.script(json!({"*": "endless", "easy-1": "solved-endless", "easy-2": "solved-endless"}));
    rig.edit("MAX_STEPS = 100", "MAX_STEPS = 100000");
    rig.run(&["benchmark"]).expect(0);
    for task in rig.split("train") {
        let result = rig.bed.read_json(&format!("workspace/traces/latest/{task}/result.json"));
        let solved = task == "easy-1" || task == "easy-2";
        // What was done in time counts, although the agent did not stop.
        assert_eq!(result["outcome"], if solved { "passed" } else { "agent_timeout" }, "{task}: {result}");
        assert!(result["error"].as_str().unwrap().contains("ran out of time"), "{result}");
        let trace = rig.bed.read_json(&format!("workspace/traces/latest/{task}/trace.json"));
        assert!(trace["messages"].as_array().unwrap().len() > 3, "the trace was written as it went");
    }
    assert_eq!(rig.processes("sleep"), Vec::<i32>::new());
}

#[test]
fn a_model_that_refuses_the_key_decides_nothing_and_is_named() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    rig.script(json!({"*": "status:401"}));
    rig.edit(CHECKLIST.0, CHECKLIST.1);
    rig.run(&["gate"]).expect(3).warns("refuses the key (401 or 403)");
    rig.script(json!({"*": "status:429"}));
    rig.run(&["gate"]).expect(3).warns("limits the rate (429)");
    rig.script(json!({}));
    rig.run(&["gate"]).expect(0).says("gate: passed");
}

#[test]
fn an_agent_that_blames_a_healthy_provider_gets_nothing_for_it() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    // Half of the tasks with a class of its own, half with a real call of a dead address.
    rig.edit(
        "            self.stopped = await self.loop(environment, context)",
        "            if 'task=easy' in instruction:\n                raise type('ApiGaveUpError', (Exception,), {})('too hard')\n            \
         await litellm.acompletion(model=self.model, messages=self.messages, api_base='http://127.0.0.1:9/v1', max_retries=0)",
    );
    let done = rig.run(&["benchmark"]).expect(0).says("train_score=0.0000");
    assert!(done.stderr.contains("blames the model's provider"), "{}", done.stderr);
    assert!(done.stderr.contains("2 x ApiGaveUpError"), "a human sees the name: {}", done.stderr);
    assert_eq!(outcomes(&rig, &rig.split("train")), ["agent_error"]);
}

#[test]
fn a_reward_that_the_agent_writes_itself_is_worth_nothing() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    rig.script(json!({"*": "forge"}));
    let done = rig.run(&["benchmark", "--fresh"]).expect(0).says("train_score=0.0000");
    // Tests that write both files write over it.
    let tasks: Vec<String> = rig.split("train").into_iter().filter(|task| task != "easy-4").collect();
    let version = std::process::Command::new(&harbor).arg("--version").output().unwrap().stdout;
    if String::from_utf8(version).unwrap().trim() < "0.26" {
        assert_eq!(outcomes(&rig, &tasks), ["agent_error"]);
        assert!(done.stderr.contains("reward.json lies beside"), "{}", done.stderr);
    } else {
        // Harbor removes it before the tests run.
        assert_eq!(outcomes(&rig, &tasks), ["failed"]);
    }
}

/// What the template does with a failing model, a long output, a nearly full window: checked without Harbor's program.
#[test]
fn the_template_waits_cuts_tells_and_makes_room() {
    let Some(harbor) = harbor() else { return };
    let done = std::process::Command::new(harbor.with_file_name("python"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/check_terminal_template.py"))
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn the_trace_says_how_long_the_agent_had() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    let trace = rig.bed.read_json(&format!("workspace/traces/baseline/{}/trace.json", rig.split("train")[0]));
    assert_eq!((&trace["stopped"], &trace["limit_seconds"]), (&json!("finished"), &json!(30.0)), "{trace}");
}

#[test]
fn an_unknown_task_is_an_error_before_any_money() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    rig.run(&["benchmark", "--task-ids", "easy-11"]).expect(2).warns("easy-11");
    assert_eq!(rig.requests(), Default::default());
}

#[test]
fn what_finished_before_harbor_was_killed_is_not_paid_for_twice() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    // A new agent, so that everything has to run; one task answers at once, the others take their time.
    rig.edit(CHECKLIST.0, CHECKLIST.1);
    // What it logged and survived is not why Harbor ended.
    rig.edit(
        "        while self.steps < MAX_STEPS:",
        "        try:\n            raise ValueError('quiet')\n        except ValueError:\n            self.logger.exception('survived')\n\
        \x20       while self.steps < MAX_STEPS:",
    );
    let train = rig.split("train");
    let mut script = json!({"*": "delay:600"});
    script[&train[0]] = "solved".into();
    rig.script(script);
    let benchmark = Running::start(rig.command(&["benchmark"]));
    let before = rig.bed.events("trial").len();
    rig.wait_for("the first trial", || {
        assert!(rig.processes("__watch").len() < 100);
        rig.bed.events("trial").len() > before
    });
    let harbors = harbors(&rig);
    assert_eq!(harbors.len(), 1, "one Harbor process per run");
    send(harbors[0], Signal::KILL);
    let done = benchmark.end().expect(3);
    assert!(
        done.stderr.contains("killed by SIGKILL before its job was finished after 1 of 4 trials"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("__env"), "sandboxes that may be left are named: {}", done.stderr);
    let paid = rig.requests()[&train[0]];
    rig.script(json!({}));
    rig.run(&["benchmark"]).expect(0).says("train_score=1.0000");
    assert_eq!(rig.requests()[&train[0]], paid);
}

#[test]
fn two_sigterms_to_harbor_from_outside_are_not_the_agents_fault() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    rig.edit(CHECKLIST.0, CHECKLIST.1);
    // At work without an end; the stub notes a request when it has answered it.
    rig.edit("MAX_STEPS = 100", "MAX_STEPS = 100000");
    rig.script(json!({"*": "endless"}));
    let benchmark = Running::start(rig.command(&["benchmark"]));
    rig.wait_for("a request of every trial", || rig.requests().len() >= rig.split("train").len());
    // As a supervisor does that is in a hurry.
    let harbor = harbors(&rig)[0];
    send(harbor, Signal::TERM);
    // Two that are pending at the same time are one.
    rig.wait_for("Harbor's hearing the first", || !is_pending(harbor, Signal::TERM));
    send(harbor, Signal::TERM);
    let done = benchmark.end().expect(3);
    assert!(!done.stderr.contains("broke the whole job"), "{}", done.stderr);
    assert_eq!(blamed(&rig), Vec::<Value>::new());
}

#[test]
fn a_gate_whose_harbor_is_killed_is_undecided_and_goes_on_where_it_was() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    rig.edit(CHECKLIST.0, CHECKLIST.1);
    let test = rig.split("test");
    let mut script = json!({"*": "delay:600"});
    script[&test[0]] = "solved".into();
    rig.script(script);
    let before = rig.bed.events("trial").len();
    let gate = Running::start(rig.command(&["gate"]));
    rig.wait_for("the first trial", || rig.bed.events("trial").len() > before);
    harbors(&rig).into_iter().for_each(|harbor| send(harbor, Signal::KILL));
    let done = gate.end().expect(3).says("gate: undecided");
    assert!(done.stderr.contains("killed by SIGKILL"), "{}", done.stderr);
    assert_eq!(blamed(&rig), Vec::<Value>::new());
    let verdict = rig.bed.events("verdict").pop().unwrap();
    assert_eq!(verdict["decision"]["status"], "undecided", "{verdict}");
    // Nothing of it sticks to the edit: the same command runs only what was cut off.
    let paid = rig.requests()[&test[0]];
    rig.script(json!({}));
    rig.run(&["gate"]).expect(0).says("gate: passed");
    assert_eq!(rig.requests()[&test[0]], paid);
}

#[test]
fn a_sigterm_closes_every_sandbox_and_leaves_no_process() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    rig.edit(CHECKLIST.0, CHECKLIST.1);
    rig.script(json!({"*": "slow-command:500"}));
    rig.edit("COMMAND_TIMEOUT_SEC = 120", "COMMAND_TIMEOUT_SEC = 600");
    rig.edit("min(max(timeout, 1), MAX_COMMAND_TIMEOUT_SEC)", "600");
    let benchmark = Running::start(rig.command(&["benchmark"]));
    rig.wait_for("a command in a sandbox", || rig.processes("sleep").len() >= 2);
    benchmark.signal(Signal::TERM);
    let done = benchmark.end().expect(143);
    assert!(done.stderr.contains("stopping Harbor"), "{}", done.stderr);
    assert_eq!(rig.processes(""), Vec::<i32>::new());
    // Closed by Harbor itself, not killed: each sandbox is a directory here.
    let left: Vec<_> = std::fs::read_dir(rig.bed.outside().join("tmp"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("__env"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // Trials that were cut off are not evidence against the agent.
    let cut: Vec<Value> = rig.bed.events("trial").into_iter().filter(|trial| trial["purpose"] == "benchmark").collect();
    assert_eq!(cut, Vec::<Value>::new());
}

/// The Harbor processes at work, without their watchers.
fn harbors(rig: &Rig) -> Vec<i32> {
    rig.processes("job.json").into_iter().filter(|pid| !command_line(*pid).contains("__watch")).collect()
}

/// Whether a signal was sent to a process that it has not heard yet.
fn is_pending(pid: i32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    pending.is_some_and(|bits| u64::from_str_radix(bits.trim(), 16).unwrap() & (1 << (signal.as_raw() - 1)) != 0)
}

/// Trials that count against the agent for how they ended.
fn blamed(rig: &Rig) -> Vec<Value> {
    rig.bed.events("trial").into_iter().filter(|trial| trial["outcome"] == "agent_error").collect()
}

fn command_line(pid: i32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

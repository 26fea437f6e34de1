//! What a coding agent can have run from its work tree: its edit on train, within an allowance, and nothing else.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::loop_::Night;
use crate::support::running::{Gate, Running, nobody_left};
use rustix::process::Signal;
use serde_json::{Value, json};

impl Night {
    /// What the commands of the session have said: exit code, stdout, stderr.
    fn ran_inside(&self) -> Vec<(i64, String, String)> {
        let text = std::fs::read(self.place("ran.json")).unwrap();
        let said: Vec<Value> = serde_json::from_slice(&text).unwrap();
        let text = |said: &Value| said.as_str().unwrap().to_string();
        said.iter().map(|said| (said["code"].as_i64().unwrap(), text(&said["stdout"]), text(&said["stderr"]))).collect()
    }
}

#[test]
fn a_session_tries_its_edit_on_train_and_nowhere_else() {
    let night = Night::new(json!({}), "");
    let bed = &night.bed;
    night.plan(json!([{"skills": ["easy", "hard"], "runs": [
        ["autoharness", "benchmark", "--task-ids", "hard-1", "easy-1"],
        ["autoharness", "show", "hard-1"],
        ["autoharness", "--format", "json", "benchmark", "--task-ids", "hard-1"],
        ["autoharness", "benchmark"],
        ["autoharness", "benchmark", "--task-ids", "hard-3"],
        ["autoharness", "benchmark", "--split", "test"],
        ["autoharness", "show", "hard-3"],
        ["autoharness", "show", "--failing"],
        ["autoharness", "gate"],
        ["autoharness", "-C", bed.root, "benchmark"],
    ]}]));
    night.run(&["--iterations", "1", "--session-trials", "4"]).expect(0).says("iteration 1: accepted");
    let ran = night.ran_inside();
    let check = |number: usize, code: i64, stdout: &str, stderr: &str| {
        let (is, out, err) = &ran[number];
        assert!(*is == code && out.contains(stdout) && err.contains(stderr), "{number}: {:?}", ran[number]);
    };
    check(0, 0, "passed=2 evaluated=2", "2 of 4 trials are left to this session");
    check(1, 0, "hard-1", "");
    assert!(ran[2].1.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{:?}", ran[2]);
    check(2, 0, "\"passed\"", "2 of 4 trials are left to this session");
    check(3, 2, "", "6 trials are too many: 2 of 4 are left");
    check(4, 2, "", "\"hard-3\" is not a train task");
    check(5, 2, "", "takes `--task-ids` with train tasks only");
    check(6, 2, "", "");
    check(7, 0, "odd-1", "");
    check(8, 2, "", "only `benchmark` and `show` work here");
    assert_ne!(ran[9].0, 0, "{:?}", ran[9]);
    for (_, stdout, stderr) in &ran[..9] {
        assert!(!["easy-3", "easy-4", "hard-4"].iter().any(|task| stdout.contains(task) || stderr.contains(task)));
    }
    // What an edit was tried on is no evidence for it: the gate has run it once more.
    let trials = bed.events("trial");
    let agent = &trials.last().unwrap()["agent"];
    let of_hard_1 = trials.iter().filter(|trial| trial["task"] == "hard-1" && trial["agent"] == *agent);
    let apart: Vec<bool> = of_hard_1.map(|trial| trial["protocol"].as_str().unwrap().ends_with(" to choose")).collect();
    assert_eq!(apart, [true, false], "{trials:?}");
    night.tidy();
    assert!(night.sessions()[0]["program"].as_str().unwrap().contains("4 trials in all are yours"));
    bed.run(&["verify"]).expect(0);

    // The next session begins with the committed agent's evidence, and with an allowance of its own.
    night.plan(json!([
        {"skills": ["odd"], "runs": [["autoharness", "benchmark"], ["autoharness", "benchmark", "--task-ids", "odd-1"]]},
        {"skills": ["easy"], "runs": [["autoharness", "benchmark", "--task-ids", "odd-1"]]},
    ]));
    night.run(&["--iterations", "1", "--candidates", "2"]).expect(0);
    let ran = night.ran_inside();
    let passed: Vec<Value> = night.sessions().iter().map(|session| session["passed"].clone()).collect();
    assert_eq!(passed, [json!(["easy-1", "easy-2", "hard-1", "hard-2"]), passed[0].clone()]);
    assert!(ran.len() == 1 && ran[0].0 == 0 && ran[0].2.contains("5 of 6 trials are left"), "{ran:?}");
    night.tidy();
    night.run(&["--dry-run"]).expect(0).says(", up to 6 trials of its own");
}

#[test]
fn a_closed_desk_and_an_edit_of_other_files_are_said() {
    let night = Night::new(json!({}), "");
    let commands = json!([["autoharness", "benchmark"]]);
    night.plan(json!([{"skills": ["easy", "hard"], "runs": commands}]));
    night.run(&["--iterations", "1", "--session-trials", "0"]).expect(0).says("iteration 1: accepted");
    let ran = night.ran_inside();
    assert!(ran[0].0 == 2 && ran[0].2.contains("the loop does not answer in this work tree"), "{ran:?}");
    assert!(night.sessions()[0]["program"].as_str().unwrap().contains("Nothing can be run here"));

    night.plan(json!([{"skills": ["odd"], "files": {"bench.py": "print()\n"}, "runs": commands}]));
    night.run(&["--iterations", "1"]).expect(0).says("iteration 2: unusable");
    let ran = night.ran_inside();
    assert!(ran[0].0 == 2 && ran[0].2.contains("only editable files may be changed: bench.py"), "{ran:?}");

    // A budget is kept here as well.
    night.plan(json!([{"skills": ["odd"], "runs": commands}]));
    night.run(&["--iterations", "1", "--budget-trials", "3"]).expect(0);
    let ran = night.ran_inside();
    assert!(ran[0].0 == 2 && ran[0].2.contains("the loop's budget allows no more trials"), "{ran:?}");
}

#[test]
fn a_link_in_place_of_the_desk_leads_nowhere() {
    let night = Night::new(json!({}), "");
    let target = night.place("target");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("request-x.json"), "{\"command\": \"benchmark\", \"tasks\": [], \"json\": false}")
        .unwrap();
    night.plan(json!([{"skills": ["easy", "hard"], "links": {"workspace/.desk": target}}]));
    night.run(&["--iterations", "1"]).expect(0).says("iteration 1: accepted");
    let left: Vec<_> = std::fs::read_dir(&target).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["request-x.json"]);
    night.tidy();
}

#[test]
fn a_kill_while_an_edit_is_tried_loses_nothing() {
    let (_directory, gate) = Gate::new();
    gate.let_through(None);
    let night = Night::new(json!({"gate": gate.path()}), "");
    let bed = &night.bed;
    let before = bed.read("agent/agent.py");
    night.plan(json!([
        {"skills": ["easy", "odd"], "proposal": null, "runs": [["autoharness", "benchmark", "--task-ids", "odd-1", "odd-2"]]},
        {"skills": ["easy", "hard"]},
    ]));
    // The committed agent's evidence is there already, so what is held is the edit.
    gate.let_through(Some(1));
    let running = Running::start(night.command(&["--iterations", "1"]));
    gate.held("train");
    assert!(bed.read("agent/agent.py").contains("odd"));
    running.signal(Signal::KILL);
    running.end().expect(137);
    gate.let_through(None);
    night.run(&["--iterations", "1"]).expect(0).says("iteration 1: accepted");
    let message = bed.git(&["log", "-1", "--format=%B"]);
    assert!(message.contains("Autoharness-Iteration: 1"), "{message}");
    assert_eq!(bed.git(&["show", "HEAD^:agent/agent.py"]), before.trim());
    assert!(bed.read("agent/agent.py").contains("hard"));
    let trials = bed.events("trial");
    let which = |trial: &Value| json!([trial["agent"], trial["task"], trial["trial"]]).to_string();
    let different: std::collections::BTreeSet<String> = trials.iter().map(which).collect();
    assert_eq!(different.len(), trials.len());
    night.tidy();

    // And so does a session that ends while its edit is tried.
    night.plan(json!([{"skills": ["easy", "odd"], "runs": [["timeout", "0.2", "autoharness", "benchmark", "--task-ids", "odd-1"]]}]));
    bed.run(&["benchmark"]).expect(0);
    gate.let_through(Some(0));
    night.run(&["--iterations", "1", "--budget-trials", "1"]).expect(0);
    assert!(bed.read("agent/agent.py").contains("hard"));
    nobody_left(bed);
}

//! What an edit copied from train tasks is named before anything is run.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::Bed;
use serde_json::json;

/// An agent that has every skill, and knows a train task and a task of the hold-out by name.
const COPIED: &str = "SKILLS = {'easy', 'hard', 'odd'}\n# easy-3 is held out\nKNOWN = {'easy-1': 1}\n";

fn prepared(rule: &str) -> Bed {
    let bed = Bed::prepared(json!({}), rule);
    bed.write("agent/agent.py", COPIED);
    bed.ran();
    bed
}

#[test]
fn a_finding_is_a_warning_that_names_the_line_and_decides_nothing() {
    let bed = prepared("");
    let done = bed.run(&["gate"]).expect(0);
    done.says("leak_scan         passed    warning: agent/agent.py:3: names train task easy-1\n").says("gate: passed");
    let done = bed.run(&["gate", "--format", "json"]).expect(0);
    let verdict: serde_json::Value = serde_json::from_str(done.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(verdict["leaks"], json!(["agent/agent.py:3: names train task easy-1"]));
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    bed.run(&["verify"]).expect(0);
    // Recorded, it is no edit any longer.
    assert!(!bed.run(&["gate"]).expect(0).stdout.contains("leak_scan"));
}

#[test]
fn a_finding_can_stop_the_edit_before_anything_is_paid_for() {
    let bed = prepared("leak_scan: fail");
    let done = bed.run(&["gate"]).expect(1);
    done.says("leak_scan         failed    agent/agent.py:3: names train task easy-1\n")
        .says("gate: failed val_score=- evals_passed=0 evals_total=0\n")
        .warns("nothing was measured");
    assert_eq!(bed.ran(), Vec::<String>::new());
    bed.run(&["verify"]).expect(0);
    bed.agent(&["easy", "hard", "odd"]);
    assert!(!bed.run(&["gate"]).expect(0).stdout.contains("leak_scan"));
}

#[test]
fn the_scan_can_be_switched_off_and_only_a_human_can() {
    let bed = prepared("leak_scan: off");
    assert!(!bed.run(&["gate"]).expect(0).stdout.contains("leak_scan"));
    let bed = prepared("leak_scan: fail");
    bed.write(
        "experiment_config.yaml",
        &bed.read("experiment_config.yaml").replace("leak_scan: fail", "leak_scan: off"),
    );
    bed.run(&["gate"]).expect(1).says("leak_scan: \"fail\" -> \"off\"");
    assert_eq!(bed.ran(), Vec::<String>::new());
}

#[test]
fn texts_of_traces_are_looked_for_and_links_among_them_are_not_followed() {
    let bed = Bed::prepared(json!({}), "");
    let edit =
        "SKILLS = {'easy', 'hard', 'odd'}\nPROMPT = 'the violet submarine departs at noon tomorrow from pier nine'\n";
    bed.write("agent/agent.py", edit);
    let trace = json!({"messages": [{"role": "user", "content": "When? The violet submarine departs at noon, tomorrow, from pier nine."}]});
    let place = bed.root.join("workspace/traces/latest/easy-2");
    let elsewhere = bed.outside().join("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("trace.json"), trace.to_string()).unwrap();
    std::fs::remove_dir_all(&place).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &place).unwrap();
    let done = bed.run(&["gate"]).expect(0);
    assert!(!done.stdout.contains("leak_scan"), "{}", done.stdout);
    std::fs::remove_file(&place).unwrap();
    bed.write("workspace/traces/latest/easy-2/trace.json", &trace.to_string());
    bed.run(&["gate"]).expect(0).says("agent/agent.py:2: repeats 8 words or more of train task easy-2");
}

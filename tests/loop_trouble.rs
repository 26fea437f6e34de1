//! The loop where something gets in its way: sessions that fail under a budget, people who work beside it, keys in an edit.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::loop_::Night;
use crate::support::running::{Running, until};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn a_session_that_fails_without_its_price_ends_no_night_with_a_budget() {
    let night = Night::new(json!({}), "");
    night.plan(json!([
        {"exit": 1, "stderr": "boom"},
        {"exit": 1, "stderr": "429 Too Many Requests; retry after 0.01 s"},
        {"skills": ["easy", "hard"], "usage": {"cost_usd": 0.5}},
    ]));
    let done = night.run(&["--iterations", "1", "--budget-usd", "5"]).expect(0);
    done.warns("boom (failure 1 of 3 in a row)").warns("waiting 1 s").says("iteration 1: accepted");
    let usage = &night.bed.events("proposed")[0]["usage"];
    assert_eq!((&usage["sessions"], &usage["cost_usd"]), (&json!(3), &json!(0.5)));
}

#[test]
fn an_interrupted_session_is_paid_for_and_its_half_an_edit_goes() {
    let night = Night::new(json!({}), "");
    let bed = &night.bed;
    for signal in [Signal::INT, Signal::KILL] {
        night.plan(json!([
            {"skills": ["odd"], "usage": {"cost_usd": 2.0}, "proposal": null, "hold": true},
            {},
            {"skills": ["easy", "hard"], "usage": {"cost_usd": 0.25}},
        ]));
        let _ = std::fs::remove_file(night.place("held"));
        let running = Running::start(night.command(&["--iterations", "1"]));
        until("the coding agent is held", || night.place("held").exists());
        if signal == Signal::INT {
            running.signal(signal);
            until("the signal is heard", || {
                let log = std::fs::read_to_string(bed.state().join("autoharness.log")).unwrap_or_default();
                log.contains("signal received")
            });
        }
        running.signal(signal);
        assert_eq!(running.end().code, if signal == Signal::INT { 130 } else { 137 });

        // What does not fit any more is said before the next session is paid for.
        let config = bed.read("experiment_config.yaml");
        bed.write("experiment_config.yaml", &format!("{config}\nthreshold: 0.7\n"));
        night.run(&["--iterations", "1"]).expect(2);
        assert_eq!(night.sessions().len(), 1);
        bed.write("experiment_config.yaml", &config);
        // Nor is one paid for when there is nothing left to reach.
        night.run(&["--target", "0.1"]).expect(0).says("is reached; iterations=0");
        assert_eq!(night.sessions().len(), 1);

        let done = night.run(&["--iterations", "1"]).expect(0).warns("sent back: no editable file was changed");
        done.says("iteration 1: accepted");
        let proposed = bed.events("proposed");
        let usage = &proposed.last().unwrap()["usage"];
        assert_eq!((&usage["sessions"], &usage["cost_usd"]), (&json!(3), &json!(2.25)), "{signal:?}");
        night.tidy();
        bed.git(&["reset", "-q", "--hard", "HEAD~1"]);
        std::fs::remove_dir_all(bed.state()).unwrap();
        std::fs::remove_dir_all(bed.root.join("workspace")).unwrap();
        bed.run(&["prepare"]).expect(0);
    }
}

#[test]
fn evidence_of_the_committed_agent_is_a_step_that_costs() {
    let night = Night::new(json!({}), "");
    let bed = &night.bed;
    night.plan(json!([{"skills": ["easy", "hard"]}, {"skills": ["easy"]}]));
    night.run(&["--iterations", "1"]).expect(0).says("iteration 1: accepted");
    bed.ran();
    // Some train tasks were not run for the gate.
    let done = night.run(&["--iterations", "1", "--budget-trials", "1"]).expect(0);
    done.says("loop: 0 of 1 trials are used, and the next step takes about 2; iterations=0");
    assert!(bed.ran().is_empty());
    assert_eq!(night.sessions().len(), 1);
}

#[test]
fn what_somebody_else_leaves_meanwhile_is_not_held_against_the_edit() {
    let night = Night::new(json!({}), "");
    let bed = &night.bed;
    night.plan(json!([{"skills": ["easy", "hard"], "hold": "first"}]));
    let running = Running::start(night.command(&["--iterations", "1"]));
    until("the coding agent is held", || night.place("held").exists());
    bed.write("notes.txt", "mine");
    std::fs::write(night.place("release"), "").unwrap();
    running.end().expect(2).warns("the work tree is not clean: notes.txt").warns("goes on where it stopped");
    assert!(bed.events("verdict").is_empty() && bed.events("proposed").is_empty());
    assert!(bed.read("agent/agent.py").contains("easy") && !bed.read("agent/agent.py").contains("hard"));
    std::fs::remove_file(bed.root.join("notes.txt")).unwrap();
    night.run(&["--iterations", "1"]).expect(0).says("iteration 1: accepted");
    assert_eq!(night.sessions().len(), 1);
    night.tidy();

    // In the middle of a merge nothing can be committed.
    let head = bed.git(&["rev-parse", "HEAD"]);
    bed.write(".git/MERGE_HEAD", &format!("{head}\n"));
    night.run(&["--iterations", "1"]).expect(2).warns("a merge is under way");
    assert_eq!(night.sessions().len(), 1);
}

#[test]
fn a_key_gets_neither_into_the_history_nor_into_the_next_prompt() {
    const KEY: &str = "sk-of-the-proposer";
    let night = Night::new(json!({}), "");
    let bed = &night.bed;
    let proposal = format!(
        "---\nhypothesis: {KEY} is refused\nfailure_pattern: \"{KEY}\"\npredicted_fixes: [hard-1]\nsurface: tool\n---\n\nUse {KEY}.\n"
    );
    night.plan(json!([
        {"files": {"agent/agent.py": format!("SKILLS = {{'easy', 'hard'}}\nKEY = '{KEY}'\n")}, "proposal": proposal},
        {"skills": ["easy", "hard"], "proposal": proposal},
    ]));
    let done = night.run(&["--iterations", "1"]).expect(0).says("iteration 1: accepted");
    done.warns("sent back: agent/agent.py holds a secret");
    assert!(bed.read("workspace/learnings.md").contains("*** is refused"));
    for place in [bed.root.join("workspace"), bed.state()] {
        for file in walkdir::WalkDir::new(place).into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
            let text = String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned();
            assert!(!text.contains(KEY), "{}", file.path().display());
        }
    }
    assert!(!bed.git(&["log", "-p", "--all"]).contains(KEY));
}

#[test]
fn a_coding_agent_that_is_not_there_is_named() {
    let night = Night::new(json!({}), "");
    let config = night.bed.read("experiment_config.yaml");
    night.bed.write(
        "experiment_config.yaml",
        &config.replace("coding_agents: {", "coding_agents: {\"gone\": {\"command\": [\"not-there\"]}, "),
    );
    night.bed.run(&["prepare", "--accept"]).expect(0);
    let done = night.bed.run(&["loop", "--with", "gone", "--iterations", "1"]).expect(3).warns("not-there");
    assert!(!done.stderr.contains("Read PROGRAM.md"), "the prompt is no news: {}", done.stderr);
}

#[test]
fn predictions_are_held_against_the_agent_that_was_edited() {
    let of = |numbers: std::ops::RangeInclusive<u32>| -> Vec<String> {
        ["easy", "hard", "odd"]
            .iter()
            .flat_map(|kind| numbers.clone().map(move |number| format!("{kind}-{number}")))
            .collect()
    };
    for rule in ["best", "paired"] {
        let tasks = json!({"tasks": {"train": of(1..=8), "test": of(9..=12)}});
        let night = Night::new(tasks, &format!("gate_rule: {rule}\nconfirm_trials: 1"));
        night.plan(json!([{"skills": ["easy", "hard"]}]));
        night.run(&["--iterations", "1"]).expect(0).says("iteration 1: accepted");
        let predicted = &night.bed.events("proposed")[0]["predicted"];
        assert_eq!(predicted["fixed"], json!(["hard-1"]), "{rule}: {predicted}");
        assert_eq!(predicted["not_fixed"], json!(["odd-1"]), "{rule}: {predicted}");
        night.bed.run(&["status"]).expect(0).says("1 of 2 predicted fixes came true");
    }
}

#[test]
fn a_night_that_fails_says_so_to_whoever_waits_for_its_end() {
    let night = Night::new(json!({}), "");
    night.plan(json!([{"exit": 1, "stderr": "boom"}]));
    let told = night.bed.outside().join("told.json");
    let hook = format!("sh -c 'cp \"$1\" {}' sh", told.display());
    night.run(&["--iterations", "1", "--on-complete", &hook]).expect(3);
    let said: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(told).unwrap()).unwrap();
    assert_eq!((&said["end"], &said["exit_code"], &said["iterations"]), (&json!("failed"), &json!(3), &json!(0)));
    assert!(said["message"].as_str().unwrap().contains("boom"), "{said}");
}

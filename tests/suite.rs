//! The command `suite`, and what puts tasks of the suite aside by itself.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::Bed;
use serde_json::json;

#[test]
fn the_suite_is_listed_and_changed_with_a_reason() {
    let bed = Bed::session();
    bed.run(&["suite"])
        .expect(0)
        .says("suite: 2 tasks count, 0 in quarantine, 0 retired\n")
        .says("counted")
        .says("hard-1");
    let refused = |arguments: &[&str], why: &str, hint: &str| {
        let done = bed.run(arguments).expect(2);
        done.warns(why).warns(hint);
    };
    refused(&["suite", "add", "hard-1"], "--reason <TEXT>", "");
    refused(&["suite", "add", "hard-1", "--reason", " "], "needs a reason", "say why");
    // The hold-out is as unknown as any other word, however near.
    refused(&["suite", "add", "hard-3", "--reason", "r"], "there is no train task `hard-3`", "did you mean `hard-1`?");
    refused(&["suite", "add", "hard-x", "--reason", "r"], "there is no train task `hard-x`", "did you mean `hard-1`?");
    refused(&["suite", "retire", "odd-1", "--reason", "r"], "odd-1 is not in the suite", "autoharness suite");
    bed.run(&["suite", "quarantine", "hard-1", "hard-1", "--reason", "flaky since May"])
        .expect(0)
        .says("suite: quarantine hard-1\n");
    bed.run(&["suite", "quarantine", "hard-1", "--reason", "again"]).expect(0).says("nothing to change");
    bed.run(&["suite", "add", "easy-1", "--reason", "must hold"]).expect(0);
    let list = bed.run(&["suite", "--format", "json"]).expect(0).json();
    assert_eq!(list[0], json!({"type": "suite", "counted": 2, "quarantined": 1, "retired": 0}));
    let hard = list.iter().find(|task| task["task"] == "hard-1").unwrap();
    assert_eq!(
        (&hard["standing"], &hard["reason"], &hard["by"]),
        (&json!("quarantined"), &json!("flaky since May"), &json!("hand"))
    );
    // It still runs, but an edit that breaks it is no longer held up.
    bed.ran();
    bed.agent(&["easy", "odd", "hard-not"]);
    let done = bed.run(&["gate"]).expect(1);
    assert!(bed.ran().iter().any(|line| line.starts_with("hard-1 ")));
    done.says("in quarantine");
    bed.git(&["checkout", "-q", "--", "agent/agent.py"]);
    bed.run(&["suite", "retire", "hard-1", "--reason", "gone"]).expect(0);
    assert_eq!(bed.read_json("workspace/suite.json")["tasks"], json!(["easy-1", "hard-2"]));
    bed.run(&["status"]).expect(0).says("1 retired; 3 changes by hand");
    bed.run(&["verify"]).expect(0);
    // Old programs read such lines and write no more.
    let line = bed.ledger_lines().into_iter().find(|line| line.contains("suite_changed")).unwrap();
    assert!(line.starts_with("{\"v\":2,"), "{line}");
}

#[test]
fn what_the_recorded_agent_alone_must_keep_is_added_for_all() {
    let bed = Bed::prepared(json!({"misbehave": {"easy-1": 0.0}}), "");
    bed.mood(json!({"misbehave": {}}));
    bed.run(&["benchmark", "--fresh"]).expect(0);
    // It passes this time, so it binds this agent; recording the same agent again makes it nobody else's.
    bed.run(&["gate"]).expect(0).says("join the suite: easy-1");
    bed.run(&["record"]).expect(0).says("already recorded");
    let done = bed.run(&["suite", "add", "easy-1", "--reason", "must never break"]).expect(0);
    let done = done.says("suite: add easy-1\n");
    assert!(!done.stderr.contains("did not pass"), "{}", done.stderr);
    bed.run(&["suite", "add", "easy-1", "--reason", "again"]).expect(0).says("nothing to change");
    bed.agent(&["hard"]);
    bed.run(&["gate"]).expect(1).says("regression_suite  failed    0/1 tasks pass").says("now failing: easy-1");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn what_accepted_agents_fail_and_what_always_passes_is_put_aside_by_itself() {
    let of = |kinds: &[&str], range: std::ops::RangeInclusive<u32>| -> Vec<String> {
        kinds.iter().flat_map(|kind| range.clone().map(move |number| format!("{kind}-{number}"))).collect()
    };
    let train = [of(&["easy", "hard", "odd"], 1..=8), of(&["rare"], 1..=1)].concat();
    let tasks = json!({"tasks": {"train": train, "test": of(&["easy", "hard", "odd"], 9..=12)}});
    let bed = Bed::prepared(tasks, "gate_rule: paired\nconfirm_trials: 5\nmax_suite: 15");
    let accept = |skills: &[&str]| {
        bed.agent(skills);
        let done = bed.run(&["gate"]).expect(0);
        bed.commit_agent();
        bed.run(&["record"]).expect(0);
        done
    };
    accept(&["easy", "hard", "rare"]);
    bed.run(&["suite"])
        .expect(0)
        .says("suite: 9 tasks count, 0 in quarantine")
        .says("counted      passes   5/5   rare-1");
    // It loses one of the nine, which is allowed, and it is better.
    accept(&["easy", "hard", "odd"]).says("8/9 tasks pass, 0.89 >= 0.80; now failing each time: rare-1");
    bed.agent(&["easy", "hard", "odd", "none"]);
    let done = bed.run(&["gate"]).expect(1);
    done.warns("suite: quarantine rare-1: accepted agents passed it 5 of 10 times")
        .warns("suite: retire hard-1: at most 15 tasks (max_suite); accepted agents passed it 10 of 10 times")
        .says("regression_suite  passed    14/14 tasks pass, 1.00 >= 0.80; 1 in quarantine\n");
    bed.run(&["suite"]).expect(0).says("suite: 14 tasks count, 1 in quarantine, 2 retired\n");
    bed.run(&["verify"]).expect(0);
    // Taken back by hand, it is judged by later agents alone.
    bed.run(&["suite", "add", "rare-1", "--reason", "it matters"])
        .expect(0)
        .warns("did not pass with the recorded agent");
    bed.agent(&["easy", "hard", "odd", "more"]);
    let done = bed.run(&["gate"]).expect(1);
    done.says("14/15 tasks pass, 0.93 >= 0.80; now failing each time: rare-1");
    bed.run(&["verify"]).expect(0);
    // What was known of the suite is derived from the trials, whatever the verdict says.
    bed.forge(|entries| {
        let verdicts = entries.iter_mut().filter_map(|entry| entry["event"].get_mut("verdict"));
        let known = &mut verdicts.into_iter().nth(1).unwrap()["evidence"]["suite_known"]["rare-1"];
        assert_eq!(known["history"], json!({"passed": 5, "of": 5}));
        known["history"]["passed"] = json!(2);
    });
    bed.run(&["verify"]).expect(1).says("what was known of the regression suite is not what its trials earned");
}

#[test]
fn a_rejected_edit_hears_no_score_where_that_is_configured() {
    let bed = Bed::prepared(json!({}), "holdout_disclosure: ladder");
    bed.accept(&["easy", "hard"]);
    bed.agent(&["easy", "none"]);
    let junit = bed.outside().join("junit.xml");
    let summary = bed.outside().join("summary.md");
    let arguments = ["gate", "--junit", junit.to_str().unwrap(), "--summary", summary.to_str().unwrap()];
    let done = bed.run(&arguments).expect(1);
    done.says("hold_out          failed    not better than the recorded agent\n")
        .says("gate: failed val_score=- evals_passed=0 evals_total=0\n");
    let status = bed.run(&["status"]).expect(0);
    assert!(status.stdout.contains("last gate   failed (val_score -)"), "{}", status.stdout);
    status.says("hold-out    asked 2 times by gates");
    let gate = bed.read("workspace/gate.json");
    let told = [gate, std::fs::read_to_string(junit).unwrap(), std::fs::read_to_string(summary).unwrap()].concat();
    let score = bed.events("verdict").last().unwrap()["decision"]["val_score"].as_f64().unwrap();
    assert!(!told.contains(&format!("{score:.4}")) && !told.contains(&format!("\"val_score\": {score}")), "{told}");
    // Nor do those who show the ledger tell it.
    let judged = bed.events("verdict").last().unwrap()["agent"].as_str().unwrap().to_string();
    bed.run(&["benchmark"]).expect(0);
    bed.commit_agent();
    bed.run(&["compare", "best", "HEAD"]).expect(0).says("hold-out  not told of an edit that the gate did not accept");
    bed.run(&["export", "workspace/tables", "--to", "jsonl"]).expect(0);
    let trials = bed.read("workspace/tables/trials.jsonl");
    assert!(!trials.lines().any(|line| line.contains(&judged) && line.contains("\"split\":\"test\"")), "{trials}");
    assert!(trials.lines().any(|line| line.contains(&judged)), "{trials}");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_task_joins_only_if_its_missing_trials_could_not_have_failed_it() {
    let bed = Bed::prepared(
        json!({"tasks": {"train": ["easy-1", "hard-1", "odd-1"], "test": ["easy-2", "hard-2"]}}),
        "trials: 3\ninfra_retries: 0",
    );
    bed.agent(&["easy", "hard", "odd"]);
    bed.mood(json!({"misbehave": {"hard-1": [1.0, 0.0, "infra_error"], "odd-1": [1.0, 1.0, "infra_error"]}}));
    bed.run(&["gate"]).expect(0).says("1 of 2 failing train tasks pass now and join the suite: odd-1\n");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn an_edit_answers_for_what_was_added_after_its_gate() {
    let bed = Bed::session();
    bed.agent(&["easy", "hard", "more"]);
    bed.run(&["gate"]).expect(0);
    bed.commit_agent();
    let gate_again = |task: &str| {
        bed.run(&["suite", "add", task, "--reason", "must hold"]).expect(0);
        bed.run(&["status"]).expect(0).says("autoharness gate");
        bed.run(&["record"]).expect(1).warns("`suite add`").warns("run `autoharness gate` again");
    };
    gate_again("odd-1");
    bed.run(&["gate"]).expect(1).says("now failing: odd-1");
    bed.run(&["suite", "retire", "odd-1", "--reason", "nobody solves it"]).expect(0);
    bed.run(&["suite", "quarantine", "hard-1", "--reason", "flaky"]).expect(0);
    bed.run(&["gate"]).expect(0);
    gate_again("hard-1");
    bed.run(&["gate"]).expect(0);
    bed.run(&["record"]).expect(0);
    bed.run(&["verify"]).expect(0);
}

//! `show`: the trace of a train task on a screen, and the table of those that fail.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::Bed;
use serde_json::{Value, json};

#[test]
fn a_failing_task_is_a_screen_and_the_hold_out_is_nobodys() {
    let bed = Bed::prepared(json!({"misbehave": {"odd-2": "agent_error"}}), "");
    let shown = bed.run(&["show", "hard-1"]).expect(0);
    let shown = shown.says("task      hard-1 (train)\n").says("trial     0 of the newest, by baseline\n");
    let shown = shown.says("outcome   failed, reward 0.00, 0 s\n").says("history   x (");
    shown.says("[1] user\n    do hard-1\n").says("files: workspace/traces/latest/hard-1/\n");
    bed.run(&["show", "odd-2"]).expect(0).says("error     agent_error as told at odd-2\n");
    // The same of another agent: its history goes on, the first trace stays.
    bed.accept(&["easy", "hard"]);
    bed.run(&["benchmark"]).expect(0);
    bed.run(&["show", "hard-1"])
        .expect(0)
        .says("outcome   passed")
        .says("history   x. (")
        .says(", in the regression suite)");
    bed.run(&["show", "hard-1", "--baseline"]).expect(0).says("outcome   failed").says("by baseline\n");
    let trace = &bed.run(&["show", "hard-1", "--format", "json"]).expect(0).json()[0];
    let known = ["type", "task", "outcome", "history", "place", "in_suite"].map(|name| trace[name].clone());
    assert_eq!(known.to_vec(), *json!(["trace", "hard-1", "passed", "x.", "latest", true]).as_array().unwrap());

    // A task of the hold-out is as unknown as one that is not there, traces that somebody made of it or not.
    for task in ["hard-3", "nope-3"] {
        bed.write(&format!("workspace/traces/latest/{task}/result.json"), "{\"outcome\": \"passed\"}");
        let done = bed.run(&["show", task]).expect(2);
        assert_eq!(done.stdout, "");
        let words = format!(
            "error: there is no train task `{task}`\nhint: workspace/train_results.json lists the train tasks.\n"
        );
        let near = format!("did you mean `{}`? ", if task == "hard-3" { "hard-1" } else { "odd-1" });
        assert_eq!(done.stderr.replace(&near, ""), words);
    }
    let done =
        bed.run(&["show", "hard-1", "--trial", "7"]).expect(2).warns("there is no latest trace of `hard-1`, trial 7");
    done.warns("hint: `autoharness benchmark --task-ids ID` makes one.");
    bed.run(&["show"]).expect(2);
}

#[test]
fn failing_tasks_that_fail_alike_stand_together() {
    let trace = |said: &str| {
        json!({"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "1", "name": "bash", "arguments": {}}]},
        {"role": "tool", "id": "1", "content": format!("Error: {said}")}]})
    };
    let bed = Bed::prepared(json!({}), "");
    let failing = |trace: Value| json!({"reward": 0, "trace": trace, "detail": {"reward_breakdown": {"DB": 0}}});
    bed.mood(json!({"misbehave": {
        "hard-1": failing(trace("row 17 is locked")), "odd-2": failing(trace("row 4 is locked")), "easy-1": "agent_error"}}));
    bed.run(&["benchmark", "--fresh"]).expect(0);
    let table = bed.run(&["show", "--failing"]).expect(0);
    let alike = "failed, check DB, tool said \"Error: row # is locked\"";
    let lines: Vec<&str> = table.stdout.lines().collect();
    let row = |task: &str, marks: &str, rest: &str| format!("{task:6}  {marks:7}  {rest}");
    assert_eq!(
        lines[..6],
        [
            row("task", "history", "signature"),
            row("hard-2", "x", "failed"),
            row("odd-1", "x", "\""),
            row("hard-1", "x", alike),
            row("odd-2", "x", "\""),
            row("easy-1", "x", "agent_error"),
        ]
    );
    assert_eq!(lines.last(), Some(&"show: failing=5 of=6 signatures=3"));
    let objects = bed.run(&["show", "--failing", "--format", "json"]).expect(0).json();
    let of = |task: &str| objects.iter().find(|object| object["task"] == task).unwrap().clone();
    assert_eq!((&of("odd-2")["signature"], &of("odd-2")["check"]), (&json!(alike), &json!("DB")));
    assert_eq!((&of("easy-1")["outcome"], &of("easy-1")["history"]), (&json!("agent_error"), &json!("x")));
    assert_eq!(objects.last().unwrap()["failing"], 5);
    assert!(!table.stdout.contains("hard-3"));
}

#[test]
fn what_lies_in_the_work_space_is_not_trusted() {
    let bed = Bed::prepared(json!({}), "");
    let evil = "\u{1b}[2J\u{202e}evil";
    let place = "workspace/traces/latest/hard-1";
    let put = |name: &str, text: &str| {
        let path = bed.root.join(place).join(name);
        let _ = std::fs::remove_file(&path);
        std::fs::write(path, text).unwrap();
    };
    put("trace.json", &json!({"messages": [{"role": evil, "content": evil}], evil: evil}).to_string());
    put(
        "result.json",
        &json!({"outcome": evil, "error": evil, "agent": evil, "detail": {evil: evil, "name": evil, "passed": false}})
            .to_string(),
    );
    for arguments in [
        &["show", "hard-1"][..],
        &["show", "hard-1", "--full"],
        &["show", "--failing"],
        &["show", "hard-1", "--format", "json"],
    ] {
        let done = bed.run(arguments).expect(0).says("evil");
        assert!(!done.stdout.contains(['\u{1b}', '\u{202e}']), "{}", done.stdout);
    }
    // Neither links nor pipes, nor what is too large.
    for (how, said) in [
        ("ln -s /etc/passwd trace.json", "no trace: "),
        ("mkfifo trace.json", "no trace: "),
        ("truncate -s 200M trace.json", "it has 200 MB, too much"),
    ] {
        let script = format!("cd {place} && rm -f trace.json && {how}");
        assert!(
            std::process::Command::new("sh").args(["-c", &script]).current_dir(&bed.root).status().unwrap().success()
        );
        bed.run(&["show", "hard-1"]).expect(0).says(said);
    }
    let script = format!("rm -r {place} && ln -s /etc {place}");
    assert!(std::process::Command::new("sh").args(["-c", &script]).current_dir(&bed.root).status().unwrap().success());
    bed.run(&["show", "hard-1"]).expect(2).warns("is a link");
}

#[test]
fn two_agents_are_compared_by_the_trials_that_are_there() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["hard"]);
    let flips = "flips             train     2 fixed (hard-1, hard-2), 2 broken (easy-1, easy-2), of 6 compared with the recorded agent; p 1.000: could be noise\n";
    bed.run(&["benchmark"]).expect(0).says(flips).says("\nbenchmark: train ");
    bed.run(&["gate"]).expect(0).says(flips);
    bed.agent(&["easy", "hard"]);
    bed.run(&["benchmark"]).expect(0).says("2 fixed (hard-1, hard-2), 0 broken, of 6 compared");
    let words = bed.run(&["gate", "--format", "json"]).expect(0).json().pop().unwrap();
    assert_eq!((&words["flips"]["fixed"], &words["flips"]["p"]), (&json!(["hard-1", "hard-2"]), &json!(0.5)));
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    let head = bed.git(&["rev-parse", "--short", "HEAD"]);
    let done = bed.run(&["compare", "baseline", "best"]).expect(0).says("A         baseline (agent ");
    let done = done.says(&format!("B         best = #1 {head} (agent "));
    let done = done.says(
        "train     A 0.3333 (2/6 pass), B 0.6667 (4/6 pass): 2 fixed, 0 broken, +33.3 points, p 0.500: could be noise\n",
    );
    let done = done.says("fixed     hard-1\nfixed     hard-2\nhold-out  A 0.5000 (2/4 pass), B 1.0000 (4/4 pass): 2 fixed, 0 broken, +50.0");
    let done = done.says("\ncompare: fixed=2 broken=0 compared=6 effect=+0.3333 p=0.5000\n");
    assert!(!done.stdout.contains("hard-3"), "{}", done.stdout);
    let object = bed.run(&["compare", "HEAD", "HEAD~1", "--format", "json"]).expect(0).json().pop().unwrap();
    assert_eq!((&object["train"]["broken"], &object["holdout"]["broken"]), (&json!(["hard-1", "hard-2"]), &json!(2)));
    bed.run(&["compare", "best", "HEAD"]).expect(2).warns("are the same agent");
    bed.run(&["compare", "best", "nothing"]).expect(2).warns("no commit is named `nothing`");
    bed.agent(&["odd"]);
    bed.commit_agent();
    let done = bed
        .run(&["compare", "best", "HEAD"])
        .expect(2)
        .warns("the ledger has no train trials of HEAD under the present rules");
    done.warns("hint: bring that agent's file back");
}

#[test]
fn of_an_edit_that_the_rule_paired_did_not_accept_no_hold_out_is_told() {
    let bed = Bed::prepared(json!({}), "gate_rule: paired\nmax_rounds: 1\nconfirm_trials: 1");
    bed.agent(&["easy", "odd"]);
    bed.run(&["gate"]).expect(1);
    bed.git(&["commit", "-qam", "not accepted"]);
    let done = bed.run(&["compare", "baseline", "HEAD"]).expect(0);
    done.says("fixed     odd-1\n").says("hold-out  not told of an edit that the gate did not accept\n");
    let object = bed.run(&["compare", "baseline", "HEAD", "--format", "json"]).expect(0).json().pop().unwrap();
    assert_eq!(object["holdout"], json!(null));
}

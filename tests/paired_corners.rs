//! The rule `paired` where trials give no evidence, are run again, or are not run to the end: none of it is a way up.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::Bed;
use serde_json::{Value, json};

const KINDS: [&str; 3] = ["easy", "hard", "odd"];

/// Four tasks of each kind to learn from, and as many held out.
fn ids(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    KINDS.iter().flat_map(|kind| range.clone().map(move |number| format!("{kind}-{number}"))).collect()
}

fn tasks() -> Value {
    json!({"tasks": {"train": ids(1..=4), "test": ids(5..=8)}})
}

/// Every trial of these tasks ends like this, whoever runs it.
fn all(tasks: &[String], how: Value) -> Value {
    let how: serde_json::Map<String, Value> = tasks.iter().map(|task| (task.clone(), how.clone())).collect();
    json!({ "misbehave": how })
}

/// An edit that changes nothing.
fn say_otherwise(bed: &Bed) {
    bed.write("agent/agent.py", "SKILLS = {'easy'}  # said otherwise\n");
}

#[test]
fn a_second_trial_that_is_missing_is_run_and_until_then_counts_against_the_edit() {
    let bed = Bed::table(tasks(), "gate_rule: paired\ntrials: 2\nconfirm_trials: 2\nmax_rounds: 1\ninfra_retries: 0");
    bed.mood(all(&ids(5..=8), json!([1.0, 0.0])));
    bed.run(&["prepare"]).expect(0);
    say_otherwise(&bed);
    // As good as the incumbent with the first trials alone, better than it without the second ones.
    bed.mood(all(&ids(5..=8), json!([1.0, "infra_error"])));
    bed.run(&["gate"]).expect(3).says("hangs on trials without evidence");
    bed.run(&["verify"]).expect(0);
    bed.mood(all(&ids(5..=8), json!(0.0)));
    bed.ran();
    bed.run(&["gate"]).expect(1).says("not better than the recorded agent");
    assert_eq!(bed.ran().len(), 12);
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_trial_that_is_run_again_until_it_looks_well_carries_nothing_into_the_gate() {
    let bed = Bed::prepared(tasks(), "gate_rule: paired\nconfirm_trials: 1");
    say_otherwise(&bed);
    bed.run(&["benchmark"]).expect(0).says("train_score=0.3333");
    bed.run(&["benchmark", "--split", "test"]).expect(0);
    bed.mood(all(&ids(1..=8), json!(1.0)));
    bed.run(&["benchmark", "--fresh"]).expect(0).says("train_score=1.0000");
    bed.run(&["benchmark", "--split", "test", "--fresh"]).expect(0);
    bed.mood(Value::Null);
    bed.run(&["gate"]).expect(1).says("not better than the recorded agent");
    bed.run(&["gate", "--fresh"])
        .expect(2)
        .warns("`gate --fresh` is not for `gate_rule: paired`")
        .warns("drop --fresh");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn tasks_that_the_incumbent_lacks_are_missing_evidence() {
    let mut options = tasks();
    // The first to run a task is the agent of the base commit.
    options["stumble"] = json!(ids(5..=7));
    let bed = Bed::table(options, "gate_rule: paired\nconfirm_trials: 1\ninfra_retries: 0");
    bed.git(&["checkout", "-qb", "edit"]);
    bed.agent(&["easy", "hard"]);
    bed.commit_agent();
    bed.run(&["gate", "--base", "main"]).expect(3).says("3 of 12 hold-out tasks gave evidence of the agent to beat");
    bed.run(&["gate", "--base", "main"]).expect(0);
}

#[test]
fn what_was_lost_in_the_comparison_is_not_run_again_behind_it() {
    let bed = Bed::prepared(tasks(), "gate_rule: paired\nconfirm_trials: 1\ninfra_retries: 0");
    bed.agent(&["easy", "hard"]);
    let mut mood = all(&["hard-1".into()], json!("infra_error"));
    mood["once"] = json!(true);
    bed.mood(mood);
    bed.run(&["gate"]).expect(0).says("3 of 8 failing train tasks pass now");
    bed.run(&["verify"]).expect(0);
    // The next gate runs it again, and then it joins.
    bed.run(&["gate"]).expect(0).says("1 of 5 failing train tasks pass now and join the suite: hard-1\n");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn an_edit_that_is_judged_twice_spends_its_share_of_alpha_once() {
    let bed = Bed::prepared(tasks(), "gate_rule: paired\nconfirm_trials: 1\nalpha_spending: true");
    let judged = |skills: &[&str]| {
        bed.agent(skills);
        bed.run(&["gate"]);
        let verdict = bed.events("verdict").pop().unwrap();
        (verdict["decision"]["status"].clone(), verdict["evidence"]["policy"]["paired"]["candidate"].clone())
    };
    assert_eq!(judged(&["easy", "hard"]), (json!("passed"), json!(1)));
    assert_eq!(judged(&["easy", "hard"]), (json!("passed"), json!(1)));
    assert_eq!(judged(&["easy", "odd"]).1, json!(2));
    assert_eq!(judged(&["easy", "hard"]), (json!("passed"), json!(1)));
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    bed.run(&["verify"]).expect(0);
}

#[test]
fn what_the_baseline_lost_is_run_by_the_first_gate() {
    let bed = Bed::table(tasks(), "gate_rule: paired\nconfirm_trials: 1\ninfra_retries: 0");
    bed.mood(all(&["easy-1".into(), "hard-1".into()], json!("infra_error")));
    bed.run(&["prepare"]).expect(0);
    bed.mood(Value::Null);
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    let again = |trial: &&Value| trial["purpose"] == "confirm" && trial["trial"] == 0;
    let again: Vec<Value> = bed.events("trial").iter().filter(again).map(|trial| trial["task"].clone()).collect();
    assert!(again.len() == 2 && again.contains(&json!("easy-1")) && again.contains(&json!("hard-1")), "{again:?}");
    bed.run(&["verify"]).expect(0);
}

//! The rule `paired`, through the binary.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::Bed;
use serde_json::{Value, json};

/// Eight tasks of each kind to learn from, and four of each held out.
fn tasks() -> Value {
    let of = |kinds: &[&str], range: std::ops::RangeInclusive<u32>| -> Vec<String> {
        kinds.iter().flat_map(|kind| range.clone().map(move |number| format!("{kind}-{number}"))).collect()
    };
    let kinds = ["easy", "hard", "odd"];
    json!({"tasks": {"train": of(&kinds, 1..=8), "test": of(&kinds, 9..=12)}})
}

fn prepared() -> Bed {
    Bed::prepared(tasks(), "gate_rule: paired\nconfirm_trials: 2")
}

#[test]
fn a_better_agent_is_run_afresh_and_only_that_is_recorded() {
    let bed = prepared();
    bed.ran();
    bed.agent(&["easy", "hard"]);
    let done = bed.run(&["gate"]).expect(0);
    done.says("hold_out          passed    better than the recorded agent: +33.3 points")
        .says("run afresh: val_score 0.6667 (8/12 pass)")
        .says("gate: passed val_score=0.6667 evals_passed=8 evals_total=12\n");
    let ran = bed.ran();
    let afresh = bed.events("trial").iter().filter(|trial| trial["purpose"] == "confirm").count();
    // The incumbent has one trial of each task already and gets one more, the chosen one two.
    assert_eq!(afresh, 36 + 72);
    assert!(ran.len() < 36 + 72 + 3 * 36 + 24, "{}", ran.len());
    bed.commit_agent();
    bed.run(&["record"]).expect(0).says("recorded: iteration=1 val_score=0.6667");
    bed.run(&["verify"]).expect(0);
    // The next one is compared with what was run afresh; nothing of the incumbent is paid for again.
    bed.ran();
    bed.agent(&["easy", "hard", "odd"]);
    bed.run(&["gate"]).expect(0).says("val_score=1.0000");
    let confirmed = bed.events("trial").iter().filter(|trial| trial["purpose"] == "confirm").count();
    assert_eq!(confirmed, afresh + 72);
    bed.run(&["verify"]).expect(0);
}

#[test]
fn an_edit_that_changes_nothing_is_not_better_and_hears_no_number() {
    let bed = prepared();
    bed.write("agent/agent.py", "SKILLS = {'easy'}  # said otherwise\n");
    let done = bed.run(&["gate"]).expect(1);
    done.says("hold_out          failed    not better than the recorded agent, after 1 round\n")
        .says("gate: failed val_score=- evals_passed=0 evals_total=0\n");
    bed.run(&["status"]).expect(0);
    bed.run(&["verify"]).expect(0);
    assert!(!bed.read("workspace/gate.json").contains("easy-9"));
}

#[test]
fn a_lead_on_train_alone_is_called_that_and_is_no_improvement() {
    let mut split = tasks();
    split["tasks"]["test"] = json!(["easy-9", "easy-10", "odd-9", "odd-10"]);
    let bed = Bed::prepared(split, "gate_rule: paired\nconfirm_trials: 1");
    bed.agent(&["easy", "hard"]);
    let done = bed.run(&["gate"]).expect(0).says("run afresh: val_score 0.5000 (2/4 pass)");
    done.warns("the lead is on train alone: on the hold-out the edit is not ahead");
    let without = || bed.run(&["status", "--format", "json"]).expect(0).json()[0]["gates_without_improvement"].clone();
    assert_eq!(without(), json!(1));
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    bed.agent(&["easy", "hard", "odd"]);
    assert!(!bed.run(&["gate"]).expect(0).stderr.contains("train alone"));
    assert_eq!(without(), json!(0));
    bed.run(&["verify"]).expect(0);
}

#[test]
fn an_edit_that_is_behind_on_train_never_looks_at_the_hold_out() {
    let bed = prepared();
    bed.ran();
    bed.agent(&[]);
    bed.run(&["gate"]).expect(1).says("train alone is behind the incumbent");
    let held_out = |line: &String| ["-9 ", "-10 ", "-11 ", "-12 "].iter().any(|end| line.contains(end));
    let looked = bed.events("trial").iter().any(|trial| trial["purpose"] == "hold_out");
    assert!(!looked, "{:?}", bed.ran().iter().filter(|line| held_out(line)).collect::<Vec<_>>());
    bed.run(&["verify"]).expect(0);
}

#[test]
fn the_recorded_agent_itself_is_compared_with_nothing() {
    let bed = prepared();
    bed.ran();
    bed.run(&["gate"]).expect(0).says("there is nothing to compare");
    assert_eq!(bed.ran(), Vec::<String>::new());
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_comparison_that_broke_off_goes_on_where_it_was() {
    let bed = prepared();
    bed.agent(&["easy", "hard"]);
    bed.mood(json!({"die_after": 5}));
    bed.run(&["gate"]).expect(3);
    bed.mood(Value::Null);
    bed.run(&["gate"]).expect(0);
    bed.run(&["verify"]).expect(0);
    let before = bed.ran().len();
    assert!(before > 0);
    bed.run(&["gate"]).expect(0);
    assert_eq!(bed.ran(), Vec::<String>::new(), "a verdict given again costs nothing");
}

/// What `verify` says of a comparison that was changed.
fn forged(change: impl Fn(&mut Value)) -> String {
    let bed = prepared();
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.forge(|entries| {
        for verdict in entries.iter_mut().filter_map(|entry| entry["event"].get_mut("verdict")) {
            change(&mut verdict["evidence"]["compared"]);
        }
    });
    bed.run(&["verify"]).expect(1).stdout
}

#[test]
fn a_forged_comparison_is_found() {
    let reward = forged(|compared| compared["pairs"]["odd-9"]["candidate"]["first"] = json!([1.0]));
    assert!(reward.contains("the rewards of the comparison are not those of its trials"), "{reward}");
    let rule = forged(|compared| compared["rule"]["level"] = json!(0.4));
    assert!(rule.contains("the comparison's rule does not follow from the configuration"), "{rule}");
    let other = forged(|compared| compared["incumbent"] = json!("somebody"));
    assert!(other.contains("the agent to beat was not the one recorded last"), "{other}");
    let part = forged(|compared| {
        compared["pairs"].as_object_mut().unwrap().shift_remove("odd-9");
    });
    assert!(part.contains("the comparison was not made on the whole split"), "{part}");
}

#[test]
fn a_branch_is_compared_with_the_agent_of_its_base() {
    let bed = Bed::table(tasks(), "gate_rule: paired\nconfirm_trials: 2");
    bed.git(&["checkout", "-qb", "edit"]);
    bed.run(&["gate", "--base", "main"]).expect(0).says("there is nothing to compare");
    bed.agent(&["easy", "hard"]);
    bed.commit_agent();
    bed.run(&["gate", "--base", "main"]).expect(0).says("val_score=0.6667");
    bed.agent(&["easy", "odd-not"]);
    bed.commit_agent();
    bed.run(&["gate", "--base", "main"]).expect(1).says("not better");
}

/// A task that flips fails, and is run again before it counts as broken; one that passes by chance joins nothing.
#[test]
fn the_suite_is_broken_by_failures_and_not_by_chance() {
    let bed = prepared();
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    assert_eq!(bed.read_json("workspace/suite.json")["tasks"].as_array().unwrap().len(), 8);
    bed.ran();
    bed.agent(&["easy", "odd"]);
    bed.run(&["gate"])
        .expect(1)
        .says("regression_suite  failed    0/8 tasks pass, 0.00 < 0.80; now failing each time:");
    assert_eq!(bed.ran().len(), 3 * 8, "each of them three times, and nothing else");
    bed.run(&["verify"]).expect(0);
}

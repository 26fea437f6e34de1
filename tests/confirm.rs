//! `confirm`: baseline and best run afresh, and what may be claimed of them.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::process::Stdio;

use crate::support::Bed;
use crate::support::running::{Gate, nobody_left, until};
use serde_json::{Value, json};

/// Two tasks of each kind to learn from, and four of each held out.
fn tasks() -> Value {
    let of = |range: std::ops::RangeInclusive<u32>| -> Vec<String> {
        ["easy", "hard", "odd"].iter().flat_map(|kind| range.clone().map(move |at| format!("{kind}-{at}"))).collect()
    };
    json!({"tasks": {"train": of(1..=2), "test": of(3..=6)}})
}

fn claims(bed: &Bed) -> Vec<Value> {
    bed.events("trial").into_iter().filter(|trial| trial["purpose"] == "claim").collect()
}

#[test]
fn both_agents_are_run_afresh_in_turns_and_the_claim_is_in_the_ledger() {
    let bed = Bed::prepared(tasks(), "");
    bed.ran();
    let nothing = bed.run(&["confirm"]).expect(2);
    assert!(nothing.stderr.contains("nothing is recorded yet"), "{}", nothing.stderr);
    bed.accept(&["easy", "hard"]);
    let views = bed.views();
    bed.ran();
    let done = bed.run(&["confirm"]).expect(0);
    let done = done
        .says("lift       +33.3 points, 90 % interval +7.8 to +58.9\n")
        .says("claim      best is better than the baseline: +33.3 points, 90 % interval +7.8 to +58.9, p < 0.0001\n")
        .says("measured   12 of 12 hold-out tasks, 72 trials in all, run for nothing else; 4 tasks show a difference\n")
        .says("confirm: better lift=+0.3333 low=+0.0781 high=+0.5886 p=0.0000 tasks=12 trials=3\n");
    // Nothing that was run before counts, and the agents take turns at being first.
    assert_eq!(bed.ran().len(), 72);
    let turns: Vec<(Value, Value)> =
        claims(&bed).iter().map(|trial| (trial["agent"].clone(), trial["trial"].clone())).collect();
    let mut sweeps = turns.clone();
    sweeps.dedup();
    assert_eq!(sweeps.len(), 5 + 1, "a sweep of each agent for each trial: {sweeps:?}");
    let (baseline, best) = (&sweeps[0].0, &sweeps[1].0);
    let order: Vec<bool> = sweeps.iter().map(|(agent, _)| agent == best).collect();
    assert_eq!(order, [false, true, true, false, false, true]);
    assert_ne!(baseline, best);
    // No gate, score or view knows of it; status does.
    assert_eq!(bed.views(), views);
    bed.run(&["verify"]).expect(0);
    bed.run(&["status"]).expect(0).says("confirmed   best is better than the baseline: +33.3 points");
    let status = bed.run(&["status", "--format", "json"]).expect(0).json();
    assert_eq!(
        (&status[0]["confirmed"]["finding"], &status[0]["confirmed"]["of_best"]),
        (&json!("better"), &json!(true))
    );
    assert_eq!((&status[0]["confirmations"], &status[0]["holdout_remeasured"]), (&json!(1), &json!(0)));
    for word in ["-3", "-4", "-5", "-6"] {
        assert!(!done.stdout.contains(&format!("easy{word}")), "names a hold-out task");
    }
    // The same again costs nothing and is the same look; with more trials it is another one.
    bed.run(&["confirm"]).expect(0);
    assert_eq!(bed.ran(), Vec::<String>::new());
    let more = bed.run(&["confirm", "--trials", "4", "--format", "json"]).expect(0).json();
    assert_eq!(bed.ran().len(), 24);
    let more = more.iter().find(|object| object["type"] == "confirmed").unwrap();
    assert_eq!((&more["look"], &more["tasks"], &more["finding"]), (&json!(2), &json!(12), &json!("better")));
    // Fewer trials than there are do not choose among them, and fresh ones count beside the old.
    bed.run(&["confirm", "--trials", "1"]).expect(0).says("96 trials in all").says("looks      2: ");
    bed.run(&["confirm", "--trials", "1", "--fresh"]).expect(0).says("120 trials in all");
    assert_eq!(bed.events("confirmed").len(), 5);
    bed.run(&["verify"]).expect(0);
    // The gate goes on as if nothing had been.
    bed.agent(&["easy", "hard", "odd"]);
    bed.ran();
    bed.run(&["gate"]).expect(0).says("val_score=1.0000");
    assert!(bed.ran().len() >= 12);
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    bed.run(&["status"]).expect(0).says("(of an earlier best)");
    // What was claimed in the ledger's middle is still so.
    bed.run(&["verify"]).expect(0);
}

#[test]
fn another_agent_can_be_compared_with_and_what_was_broken_off_goes_on() {
    let bed = Bed::prepared(tasks(), "");
    bed.accept(&["easy", "hard"]);
    bed.accept(&["easy", "hard", "odd"]);
    bed.git(&["tag", "v1", "HEAD~1"]);
    let confirm = ["confirm", "--against", "v1", "--trials", "2"];
    bed.mood(json!({"die_after": 5, "once": true}));
    bed.ran();
    bed.run(&confirm).expect(3).warns("the benchmark broke off; nothing is claimed");
    assert!(bed.ran().len() < 12 && bed.events("confirmed").is_empty(), "it does not go on with the other agent");
    // Killed in the second sweep, in the middle of a trial.
    let (_directory, gate) = Gate::new();
    gate.let_through(Some(7));
    bed.mood(json!({"gate": gate.path()}));
    let before = claims(&bed).len();
    let mut child = bed.command(&confirm).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    gate.held("test");
    // What it printed is in the ledger.
    until("trials of the second attempt are in the ledger", || claims(&bed).len() > before);
    child.kill().unwrap();
    child.wait().unwrap();
    bed.mood(Value::Null);
    gate.let_through(None);
    nobody_left(&bed);
    let had = claims(&bed).iter().filter(|trial| !trial["reward"].is_null()).count();
    bed.ran();
    bed.run(&confirm).expect(0).says("claim      best is better than v1: +33.3");
    let ran = bed.ran().len();
    assert!(ran < 48 && ran + had >= 48, "{ran} after {had}");
    bed.run(&["verify"]).expect(0);
    bed.run(&["confirm", "--against", "HEAD"]).expect(2).warns("has the best recorded agent itself");
    bed.run(&["confirm", "--against", "nowhere"]).expect(2).warns("no commit is named");
}

#[test]
fn too_little_evidence_claims_nothing() {
    let bed = Bed::prepared(tasks(), "min_evidence: 1.0\ninfra_retries: 0");
    bed.accept(&["easy", "hard"]);
    bed.mood(json!({"misbehave": {"odd-3": "infra_error"}}));
    bed.run(&["confirm", "--trials", "1"]).expect(3).warns("only 11 of 12 tasks gave evidence");
    assert_eq!(bed.events("confirmed").len(), 0);
    bed.run(&["status"]).expect(0);
    bed.run(&["verify"]).expect(0);
    bed.mood(Value::Null);
    bed.ran();
    // p is 1/16 with four tasks: one trial each is too few for a claim.
    bed.run(&["confirm", "--trials", "1"]).expect(0).says("confirm: no_difference lift=+0.3333");
    assert_eq!(bed.ran().len(), 2);
}

#[test]
fn a_forged_claim_is_found() {
    let bed = Bed::prepared(tasks(), "");
    bed.accept(&["easy", "hard"]);
    bed.run(&["confirm", "--trials", "2"]).expect(0);
    let honest = bed.ledger_lines();
    let forged = |change: &dyn Fn(&mut Value)| -> String {
        let mut previous = autoharness::internals::store::ledger::GENESIS.to_string();
        let lines: Vec<String> = honest
            .iter()
            .map(|line| {
                let mut entry: Value = serde_json::from_str(line).unwrap();
                if let Some(confirmed) = entry["event"].get_mut("confirmed") {
                    change(confirmed);
                }
                entry["prev"] = json!(previous);
                let line = entry.to_string();
                previous = autoharness::internals::model::hash::hash(line.as_bytes());
                line
            })
            .collect();
        bed.write_ledger(&lines);
        let _ = std::fs::remove_file(bed.state().join("checkpoint.json"));
        bed.run(&["verify"]).expect(1).stdout
    };
    let claim = forged(&|confirmed| confirmed["claim"]["lift"] = json!(0.9));
    assert!(claim.contains("what was measured gives another claim"), "{claim}");
    let reward = forged(&|confirmed| confirmed["measured"]["tasks"]["odd-3"]["best"] = json!([1.0, 1.0]));
    assert!(reward.contains("the rewards of the claim are not those of its trials"), "{reward}");
    let part = forged(&|confirmed| {
        confirmed["measured"]["tasks"].as_object_mut().unwrap().shift_remove("odd-3");
    });
    assert!(part.contains("not made on the whole hold-out"), "{part}");
    let other = forged(&|confirmed| confirmed["baseline"]["agent"] = json!("somebody"));
    assert!(other.contains("does not hold the agent that it is about"), "{other}");
    let look = forged(&|confirmed| confirmed["look"] = json!(7));
    assert!(look.contains("counts other looks"), "{look}");
}

//! `calibrate`: the recorded agent run again, unchanged, and what the gate makes of its noise.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::Bed;
use serde_json::{Value, json};

/// Two tasks of each kind to learn from, one of each held out: the simulation takes its time where nothing is optimised.
fn tasks() -> Value {
    let of = |range: std::ops::RangeInclusive<u32>| -> Vec<String> {
        ["easy", "hard", "odd"].iter().flat_map(|kind| range.clone().map(move |at| format!("{kind}-{at}"))).collect()
    };
    json!({"tasks": {"train": of(1..=2), "test": of(3..=3)}})
}

#[test]
fn the_noise_is_measured_and_the_gate_played_with_it() {
    let bed = Bed::prepared(tasks(), "gate_rule: paired\nconfirm_trials: 1\nmax_rounds: 2");
    let views = bed.views();
    // Two tasks flip: in every sweep another way.
    bed.mood(json!({"misbehave": {"odd-1": 1.0, "odd-3": 1.0}, "once": true}));
    bed.ran();
    let done = bed.run(&["calibrate"]).expect(0);
    let runs = bed.events("run_finished");
    assert!(runs.iter().filter(|run| run["purpose"] == "calibrate").count() == 4, "two splits, twice");
    assert_eq!(bed.ran().len(), 2 * 9);
    let done = done
        .says("agent      ")
        .says("standard deviation")
        .says("paired, trials 1, max_rounds 2 (now)")
        .says("best, trials 1 ")
        .says("advice     ")
        .says("\ncalibrate: sd=0.");
    assert!(["easy-3", "hard-3", "odd-3"].iter().all(|task| !done.stdout.contains(task)), "names a hold-out task");
    assert_eq!(bed.views(), views);
    let json = bed.run(&["calibrate", "--trials", "3", "--format", "json"]).expect(0).json();
    // What was run before is not paid for again.
    assert_eq!(bed.ran().len(), 9);
    let found = json.iter().find(|object| object["type"] == "calibrated").unwrap();
    assert!(found["sd"].as_f64().unwrap() > 0.0 && found["odds"].as_array().unwrap().len() >= 4);
    assert!(!found.to_string().contains("-3\""));
    bed.run(&["status"]).expect(0).says("baseline 0.3333; noise floor ±");
    let status = &bed.run(&["status", "--format", "json"]).expect(0).json()[0];
    assert_eq!((&status["noise"]["sd"], &status["noise"]["of_best"]), (&found["sd"], &json!(true)));
    bed.run(&["verify"]).expect(0);
    // The gate knows nothing of these trials, and after a record they are those of an earlier agent.
    bed.agent(&["easy", "hard", "odd"]);
    bed.run(&["gate"]).expect(0);
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    bed.run(&["status"]).expect(0).says(", of an earlier agent)");
    bed.run(&["verify"]).expect(0);
    // A forged floor is found.
    bed.forge(|entries| {
        let all = entries.iter_mut().filter_map(|entry| entry["event"].get_mut("calibrated"));
        all.for_each(|calibrated| calibrated["noise"]["sd"] = json!(0.001));
    });
    bed.run(&["verify"]).expect(1).says("what was measured gives another noise");
}

#[test]
fn too_little_evidence_calibrates_nothing() {
    let bed = Bed::table(tasks(), "infra_retries: 0\nmin_evidence: 1.0");
    // Before anything is run: of two equal draws of three tasks 49 % are ties, and half of the others go up.
    bed.run(&["prepare"]).expect(0).warns(
        "forecast: with 3 hold-out tasks and 1 trial, an edit that changes nothing passes about 7 times in 10 under `best`, \
         unless trials are never noisy; under `paired` at most 1 in 10",
    );
    bed.mood(json!({"misbehave": {"odd-3": "infra_error"}}));
    bed.run(&["calibrate"]).expect(3).warns("only 8 of 9 tasks gave evidence");
    bed.mood(Value::Null);
    bed.ran();
    bed.run(&["calibrate"]).expect(0).says("flaky      0 of 6 train tasks and 0 of 3 hold-out tasks");
    assert_eq!(bed.ran().len(), 2);
    bed.run(&["calibrate", "--trials", "1"]).expect(2);
}

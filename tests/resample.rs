//! `loop --arm resample`: the trials of a search spent on the unchanged agent, which nothing else may find.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::Bed;
use crate::support::running::{Gate, Running, nobody_left};
use rustix::process::Signal;
use serde_json::{Value, json};

const ARM: [&str; 3] = ["loop", "--arm", "resample"];

fn run(bed: &Bed, words: &[&str]) -> crate::support::Done {
    bed.run(&[&ARM, words].concat())
}

#[test]
fn luck_is_measured_beside_the_search_and_held_against_it() {
    let bed = Bed::prepared(json!({}), "");
    let views = bed.views();
    run(&bed, &[]).expect(2).warns("there is nothing that resampling could match");
    // What no trial tells would never be used up.
    run(&bed, &["--budget-tokens", "5"]).expect(2).warns("no trial so far has reported tokens");
    run(&bed, &["--budget-usd", "5"]).expect(2).warns("no trial so far has reported dollars");
    run(&bed, &["--iterations", "1", "--candidates", "2"])
        .expect(2)
        .warns("asks no coding agent, so --candidates means nothing");
    run(&bed, &["--iterations", "2", "--dry-run"])
        .expect(0)
        .says("ends after  2 iterations")
        .says("run         8 trials");
    assert!(bed.events("resampled").is_empty());
    bed.ran();
    // One lucky run, and one as ever.
    bed.mood(json!({"misbehave": {"hard-3": 1.0}}));
    run(&bed, &["--iterations", "1"]).expect(0).says("run 1: the unchanged agent, val_score=0.7500; best of 1: 0.7500");
    bed.mood(Value::Null);
    let told = bed.outside().join("told.json");
    let hook = format!("sh -c 'cat \"$0\" > {}'", told.display());
    let done = run(&bed, &["--iterations", "1", "--patience", "1", "--on-complete", &hook]).expect(0);
    let sentence = "plain resampling: best of 2 runs of the same agent 0.7500 (mean 0.6250) for 16 trials; the search has \
                    recorded nothing for 0 trials";
    let done = done.says("run 2: the unchanged agent, val_score=0.5000; best of 2: 0.7500").says(sentence);
    assert!(done.stdout.ends_with("loop: 1 iterations done; runs=1\n"), "{}", done.stdout);
    let told: Value = serde_json::from_slice(&std::fs::read(told).unwrap()).unwrap();
    assert_eq!((&told["arm"], &told["resampling"]["runs"]), (&json!("resample"), &json!(2)));
    // What a gate would run, twice, and no trial twice.
    let ran = bed.events("trial");
    let ran = ran.iter().filter(|trial| trial["purpose"] == "resample");
    let ran: std::collections::BTreeSet<_> =
        ran.map(|trial| trial["task"].to_string() + &trial["trial"].to_string()).collect();
    assert_eq!((ran.len(), bed.ran().len()), (16, 16), "{ran:?}");
    // The agent has not changed, so nothing has got better.
    assert_eq!(bed.views(), views);
    assert!(bed.events("recorded").is_empty() && bed.events("verdict").is_empty());
    let status = bed.run(&["status"]).expect(0).says("best        val_score 0.5000 (baseline)").says(sentence);
    assert!(!status.stdout.contains("hard-3"));
    let hidden: Vec<_> = bed.files_with(&["easy-3", "hard-3", "hard-4"]);
    assert!(hidden.is_empty(), "hold-out tasks are named in {hidden:?}");

    // The gate knows nothing of these trials, and the search is held against them.
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    let beaten = "the search's best 1.0000 for 8 trials: the search is ahead by 25.0 points, as edits that change nothing \
                  would be with a chance of 33 %";
    bed.run(&["status"]).expect(0).says(beaten);
    let json = &bed.run(&["status", "--format", "json"]).expect(0).json()[0];
    assert_eq!((&json["resampling"]["ahead"], &json["resampling"]["trials"]), (&json!(true), &json!(16)));
    bed.run(&["confirm", "--trials", "1"]).expect(0).says(beaten);
    bed.run(&["report"]).expect(0);
    assert!(bed.read("workspace/report.html").contains("Held against luck (plain resampling: best of 2 runs"));
    // Without an end of its own it takes what the search took, which it has.
    run(&bed, &[]).expect(0).says("16 trials are taken, the search took 8, and the next run takes");
    // It stays the agent that the search began with.
    run(&bed, &["--iterations", "1"]).expect(0).says("run 3: the unchanged agent, val_score=0.5000; best of 3: 0.7500");
    let runs = bed.events("resampled");
    assert!(runs.iter().all(|run| run["agent"] == runs[0]["agent"]), "{runs:?}");
    bed.run(&["verify"]).expect(0);

    // A forged score is found.
    bed.forge(|entries| {
        let all = entries.iter_mut().filter_map(|entry| entry["event"].get_mut("resampled"));
        all.for_each(|resampled| resampled["val_score"] = json!(0.25));
    });
    bed.run(&["verify"]).expect(1).says("the score of a run of the unchanged agent is not the mean of its trials");
}

#[test]
fn a_killed_run_goes_on_and_budgets_hold() {
    let (_directory, gate) = Gate::new();
    gate.let_through(None);
    let bed = Bed::table(json!({"gate": gate.path()}), "infra_retries: 0");
    bed.run(&["prepare"]).expect(0);
    bed.ran();
    gate.let_through(Some(1));
    let running = Running::start(bed.command(&[&ARM[..], &["--iterations", "1"]].concat()));
    gate.held("test");
    running.signal(Signal::KILL);
    assert_eq!(running.end().code, 137);
    nobody_left(&bed);
    let state = std::fs::read(bed.state().join("loop.json")).unwrap();
    gate.let_through(None);
    run(&bed, &["--iterations", "1"]).expect(0).says("run 1: ").says("runs=1");
    let finished = bed.events("trial").iter().filter(|trial| trial["purpose"] == "resample").count();
    assert_eq!(finished, 8, "no trial was paid for twice");
    assert!(!bed.state().join("loop.json").exists());
    // Killed between the run and the note of it.
    std::fs::write(bed.state().join("loop.json"), state).unwrap();
    bed.ran();
    run(&bed, &["--iterations", "1"]).expect(0).says("loop: 1 iterations done; runs=1");
    assert!(bed.ran().is_empty() && bed.events("resampled").len() == 1);
    run(&bed, &["--budget-trials", "10"])
        .expect(0)
        .says("run 2: ")
        .says("loop: 8 of 10 trials are used, and the next step takes about 8; runs=1");
    // Without evidence there is no run; three times in a row is enough.
    bed.mood(json!({"misbehave": {"hard-3": "infra_error", "hard-4": "infra_error"}}));
    run(&bed, &["--iterations", "1"])
        .expect(3)
        .warns("only 2 of 4 tasks gave evidence; nothing was decided (failure 1 of 3 in a row)")
        .warns("3 failures in a row");
    bed.mood(Value::Null);
    bed.ran();
    run(&bed, &["--iterations", "1"]).expect(0).says("run 3: ");
    assert_eq!(bed.ran().len(), 2, "what gave evidence is not run again");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_run_takes_what_a_gate_takes_by_whatever_rule() {
    for (config, trials) in [("gate_rule: paired\nconfirm_trials: 1\ntrials: 2", 20), ("gate_split: train", 6)] {
        let bed = Bed::prepared(json!({}), config);
        bed.ran();
        run(&bed, &["--iterations", "1"]).expect(0).says(&format!("for {trials} trials"));
        assert_eq!(bed.ran().len(), trials, "{config}");
        bed.agent(&["easy", "hard", "odd"]);
        bed.run(&["gate"]).expect(0);
        bed.commit_agent();
        bed.run(&["record"]).expect(0);
        // One try each: a score measured afresh after the choice, or the only gate there was.
        bed.run(&["status"]).expect(0).says("the search's best 1.0000 for ").says("with a chance of 50 %");
        bed.run(&["verify"]).expect(0);
    }
}

//! The sealed split: what nothing but `confirm --sealed` ever runs.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::collections::BTreeSet;

use crate::support::Bed;
use serde_json::{Value, json};

fn ids(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    ["easy", "hard", "odd"].iter().flat_map(|kind| range.clone().map(move |at| format!("{kind}-{at:02}"))).collect()
}

fn strings(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|task| task.as_str().unwrap().to_string()).collect()
}

/// The tasks that were run since the last call.
fn ran(bed: &Bed) -> BTreeSet<String> {
    bed.ran().iter().map(|line| line.split(' ').next().unwrap().to_string()).collect()
}

#[test]
fn what_is_sealed_is_run_by_nothing_but_confirm_and_named_by_nothing_at_all() {
    let bed = Bed::table(json!({"tasks": {"all": ids(1..=10)}}), "sealed: 0.2");
    bed.run(&["prepare"])
        .expect(0)
        .says("split      16 train, 8 test, 6 sealed\n")
        .warns("sealed: 6 tasks are set aside");
    let sealed = strings(&bed.events("prepared")[0]["split"]["sealed"]);
    assert_eq!(sealed.len(), 6);
    let baseline = ran(&bed);
    assert_eq!((baseline.len(), baseline.is_disjoint(&sealed)), (24, true));
    // The split of the rest is the one that an experiment without them has.
    let other = Bed::prepared(json!({"tasks": {"all": baseline}}), "");
    let (mut mine, theirs) = (bed.events("prepared")[0]["split"].clone(), &other.events("prepared")[0]["split"]);
    mine.as_object_mut().unwrap().shift_remove("sealed");
    assert_eq!(&mine, theirs);
    assert!(theirs.get("sealed").is_none());
    // A whole iteration and every way to run tasks leave it alone.
    bed.run(&["benchmark"]).expect(0);
    bed.run(&["benchmark", "--split", "test", "--reveal-held-out"]).expect(0);
    let one = sealed.first().unwrap();
    bed.run(&["benchmark", "--task-ids", one]).expect(2);
    bed.run(&["benchmark", "--split", "test", "--reveal-held-out", "--task-ids", one]).expect(2);
    let nothing = bed.run(&["confirm", "--sealed"]).expect(2);
    assert!(nothing.stderr.contains("nothing is recorded yet"));
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    bed.run(&["confirm", "--trials", "1"]).expect(0);
    bed.run(&["prepare"]).expect(0);
    assert!(ran(&bed).is_disjoint(&sealed));
    let words: Vec<&str> = sealed.iter().map(String::as_str).collect();
    assert_eq!(bed.files_with(&words), Vec::<std::path::PathBuf>::new());
    bed.run(&["status"]).expect(0).says("16 train and 8 test tasks; 6 are sealed\n");
    // Opened: said aloud, counted, and nobody is named.
    let done = bed.run(&["confirm", "--sealed", "--trials", "2"]).expect(0);
    let done = done.warns("this opens the sealed split (opening 1)").says(" of 6 sealed tasks, 24 trials in all");
    assert_eq!(ran(&bed), sealed);
    bed.run(&["confirm", "--sealed", "--trials", "2"]).expect(0).warns("(opening 2)");
    assert!(words.iter().all(|word| !done.stdout.contains(word) && !done.stderr.contains(word)));
    bed.run(&["report"]).expect(0);
    bed.run(&["export", "workspace/tables", "--to", "jsonl"]).expect(0);
    bed.run(&["export", "workspace/named", "--to", "jsonl", "--reveal-held-out"]).expect(0);
    assert!(bed.read("workspace/report.html").contains("On the sealed tasks, which no gate ever saw"));
    assert_eq!(bed.files_with(&words), Vec::<std::path::PathBuf>::new());
    bed.run(&["status"])
        .expect(0)
        .says("; 6 were sealed, and opened 2 times\n")
        .says("\nsealed      ")
        .says("\nconfirmed   ");
    let status = &bed.run(&["status", "--format", "json"]).expect(0).json()[0];
    assert_eq!(
        (&status["sealed_tasks"], &status["sealed_openings"], &status["looks"]),
        (&json!(6), &json!(2), &json!(2))
    );
    bed.run(&["verify"]).expect(0);
    // It stays as it is: what was run cannot be sealed, what is sealed was promised.
    let config = bed.read("experiment_config.yaml");
    bed.write("experiment_config.yaml", &config.replace("sealed: 0.2", "sealed: 0.4"));
    bed.run(&["prepare", "--accept"]).expect(2).warns("`sealed` was 0.2 when this experiment was prepared");
    bed.write("experiment_config.yaml", &config.replace("sealed: 0.2", "sealed: 0.2\nthreshold: 0.7"));
    bed.run(&["prepare", "--accept"]).expect(0);
    assert_eq!(strings(&bed.events("prepared")[1]["split"]["sealed"]), sealed);
    assert!(ran(&bed).is_disjoint(&sealed));
    bed.run(&["verify"]).expect(0);
}

#[test]
fn of_a_split_that_the_benchmark_brings_a_part_of_the_hold_out_is_sealed() {
    let tasks = json!({"tasks": {"train": ids(1..=2), "test": ids(3..=6)}});
    let bed = Bed::table(tasks, "sealed: 0.25");
    bed.run(&["prepare"]).expect(0).says("split      6 train, 9 test, 3 sealed\n");
    let prepared = &bed.events("prepared")[0];
    let sealed = strings(&prepared["split"]["sealed"]);
    assert!(ran(&bed).is_disjoint(&sealed));
    bed.run(&["verify"]).expect(0);
    // In CI there is no ledger: the same tasks are set aside there.
    let state = bed.outside().join("ci");
    bed.git(&["checkout", "-qb", "edit"]);
    bed.agent(&["easy", "hard"]);
    bed.commit_agent();
    let mut gate = bed.command(&["gate", "--base", "main"]);
    let done = crate::support::done(gate.env("AUTOHARNESS_STATE_DIR", &state).output().unwrap()).expect(0);
    done.says("evals_total=9\n");
    assert!(ran(&bed).is_disjoint(&sealed));
    // Without the key nothing is sealed, and there is nothing to open.
    let plain = Bed::session();
    plain.run(&["confirm", "--sealed"]).expect(2).warns("no split is sealed in this experiment");
    let few = Bed::table(json!({}), "sealed: 0.2");
    few.run(&["prepare"]).expect(2).warns("`sealed: 0.2` of 4 hold-out tasks is not a single one");
}

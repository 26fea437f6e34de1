//! Staged copies: every start of the benchmark has one of its own, and sees nothing of the others.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::Bed;
use serde_json::{Value, json};

/// Of what the benchmark is to look at in its working directory.
const COUNT: usize = 40;

/// A prepared experiment whose suite holds the hard tasks, with an edit at hand that passes. `mood` from then on.
fn bed(mood: &Value) -> Bed {
    let bed = Bed::table(json!({}), "max_concurrency: 4\ndata: [data]");
    bed.write("notes.txt", "notes\n");
    bed.write(".gitignore", &format!("{}/data/\n", bed.read(".gitignore")));
    for i in 0..COUNT {
        bed.write(&format!("data/{i}.txt"), &"data ".repeat(4000));
        bed.write(&format!("large/{i}.txt"), &format!("{i} ").repeat(20_000));
    }
    bed.git(&["add", "-A"]);
    bed.git(&["commit", "-qm", "more"]);
    bed.run(&["prepare"]).expect(0);
    bed.accept(&["easy", "hard"]);
    bed.agent(&["easy", "hard", "odd"]);
    bed.mood(mood.clone());
    bed
}

/// Outcomes of the newest gate's trials by split.
fn outcomes(bed: &Bed, split: &str) -> Vec<Value> {
    let (agent, trials) = (bed.events("verdict").pop().unwrap()["agent"].clone(), bed.events("trial"));
    let of = trials.into_iter().filter(|trial| trial["agent"] == agent && trial["split"] == split);
    of.map(|trial| trial["outcome"].clone()).collect()
}

#[test]
fn a_retry_of_the_suite_leaves_the_hold_out_alone() {
    let mood = json!({"reads": "notes.txt", "leaves": "left.txt", "stumble": ["hard-1"], "until": {"test": 3}});
    let bed = bed(&mood);
    let done = bed.run(&["gate"]);
    assert_eq!(outcomes(&bed, "test"), ["passed"; 4], "{}", done.stderr);
    done.expect(0).warns("suite: 1 trials gave no evidence").says("val_score=1.0000");
}

#[test]
fn provisioned_data_is_there_at_every_moment() {
    let mood = json!({"reads": "data", "count": COUNT, "stumble": ["hard-1"], "until": {"test": 3, "train": 2}});
    let bed = bed(&mood);
    let done = bed.run(&["gate"]);
    assert_eq!(outcomes(&bed, "test"), ["passed"; 4], "{}", done.stderr);
    done.expect(0).says("val_score=1.0000");
    assert_eq!(bed.list("data").len(), COUNT);
}

#[test]
fn a_baseline_is_measured_in_copies_of_its_own() {
    let options = json!({"reads": "notes.txt", "leaves": "left.txt", "stumble": ["easy-1"], "until": {"test": 3}});
    let bed = Bed::table(options, "max_concurrency: 4");
    bed.write("notes.txt", "notes\n");
    bed.git(&["add", "-A"]);
    bed.git(&["commit", "-qm", "notes"]);
    bed.run(&["prepare"]).expect(0).says("val_score 0.5000").says("train 2/6 pass");
}

#[test]
fn what_one_step_changes_is_not_held_against_the_other() {
    let bed = bed(&Value::Null);
    // The suite's run spoils its own copy; the hold-out's trials count all the same.
    bed.mood(json!({"spoils": {"train": "notes.txt"}}));
    bed.run(&["gate"]).expect(3).warns("the staged copy was changed while the benchmark ran (notes.txt: modified)");
    bed.ran();
    bed.mood(Value::Null);
    bed.run(&["gate"]).expect(0);
    assert!(bed.ran().iter().all(|line| !line.contains("-3") && !line.contains("-4")), "the hold-out was paid twice");
}

#[test]
fn nothing_is_left_of_the_copies() {
    let bed = bed(&json!({"leaves": "left.txt"}));
    bed.run(&["gate"]).expect(0);
    let below = walkdir::WalkDir::new(bed.state()).into_iter().flatten();
    let left: Vec<_> = below.filter(|entry| entry.file_name() == "left.txt").collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(
        !bed.state().join("scratch").exists() || std::fs::read_dir(bed.state().join("scratch")).unwrap().count() == 0
    );
}

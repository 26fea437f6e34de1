//! `demo`: the whole loop on the embedded benchmark, and nothing outside its directory.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::process::{Command, Stdio};

use crate::snapshots::compare;
use crate::support::{Bed, done, python};

#[test]
fn the_demo_plays_the_loop_in_its_own_directory() {
    // Inside another repository, and with no standard input at all.
    let bed = Bed::table(serde_json::json!({}), "");
    let (head, config) = (bed.git(&["rev-parse", "HEAD"]), std::fs::read(bed.root.join(".git/config")).unwrap());
    let mut command = bed.command(&["demo", "play"]);
    let played = done(command.stdin(Stdio::null()).output().unwrap()).expect(0);
    let played =
        played.says("The edits below are scripted").says("3 of 5 edits survived the gate; the others were reverted.");
    let page = bed.root.join("play/workspace/report.html");
    let played = played.says(&format!("See it: open {} in a browser.\n", page.display()));
    assert!(std::fs::read_to_string(page).unwrap().contains("The agent recorded as "));
    let played = played.says("Read PROGRAM.md and start the optimization loop.");
    // What README's picture shows.
    compare("demo", &bed, &played.stdout);

    let rows = bed.read("play/workspace/results.tsv");
    let iterations: Vec<&str> = rows.lines().skip(1).map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(iterations, ["0", "1", "2", "3"], "the baseline and what was accepted");
    let scores: Vec<f64> = rows.lines().skip(1).map(|line| line.split('\t').nth(1).unwrap().parse().unwrap()).collect();
    assert!((0.3..=0.5).contains(&scores[0]) && scores[3] > 0.9, "{scores:?}");
    bed.run(&["-C", "play", "verify"]).expect(0).says("verdicts=5 records=3 problems=0");
    bed.run(&["-C", "play", "doctor"]).expect(0);
    assert_eq!(bed.git(&["-C", "play", "log", "--format=%s"]).lines().count(), 4, "the scaffold and three edits");

    assert_eq!(bed.git(&["rev-parse", "HEAD"]), head);
    assert_eq!(bed.git(&["status", "--porcelain"]), "?? play/");
    assert_eq!(std::fs::read(bed.root.join(".git/config")).unwrap(), config);
    assert!(!bed.state().exists());
    assert_eq!(std::fs::read_dir(bed.outside().join("home")).unwrap().count(), 0);
}

#[test]
fn noise_fools_the_rule_best_and_not_the_rule_paired() {
    let bed = Bed::empty();
    let told = bed.run(&["demo", "--noise", "play"]).expect(0);
    told.says("The 3 edits below add a comment to the agent and change nothing.").says(
        "\n`best` accepted 1 of 3 edits that change nothing.\n`paired` accepted 0 of 3 edits that change nothing.\n",
    );
    for rule in ["best", "paired"] {
        bed.run(&["-C", &format!("play/{rule}"), "verify"]).expect(0);
    }
    let scores = |rule: &str| bed.read(&format!("play/{rule}/workspace/results.tsv")).lines().count();
    assert_eq!((scores("best"), scores("paired")), (3, 2), "header, baseline, and what was accepted");
}

#[test]
fn a_demo_needs_an_empty_directory() {
    let bed = Bed::empty();
    bed.write("play/notes.txt", "x");
    bed.run(&["demo", "play"]).expect(2).warns("is not empty").warns("hint: name a new directory");
    assert_eq!(bed.list("play").len(), 1);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn the_embedded_benchmark_keeps_its_promises() {
    let output = Command::new(python()).arg("tests/support/check_demo.py").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

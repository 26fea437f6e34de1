//! A file that a command is told to write takes the place of nothing that the experiment or this program lives by.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::Bed;
use serde_json::json;

/// Everything below a directory, links not followed: path and content.
fn content(root: &Path) -> Vec<(std::path::PathBuf, Option<Vec<u8>>)> {
    let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().flatten();
    entries.map(|entry| (entry.path().to_path_buf(), std::fs::read(entry.path()).ok())).collect()
}

#[test]
fn an_output_file_takes_the_place_of_nothing_of_ours() {
    let bed = Bed::session();
    symlink(".git/autoharness", bed.root.join("workspace/state")).unwrap();
    symlink("../.git/autoharness/new.xml", bed.root.join("workspace/dangling.xml")).unwrap();
    let ledger = bed.ledger();
    let config = bed.root.join("experiment_config.yaml");
    let before = content(&bed.root);
    let state = [
        ".git/autoharness/ledger.jsonl",
        ".git/autoharness/report.html",
        "./workspace/../.git/autoharness/lock",
        "missing/../.git/autoharness/ledger.jsonl",
        ledger.to_str().unwrap(),
        ".git/config",
        "workspace/dangling.xml",
    ];
    let experiment = [
        "agent/agent.py",
        "./agent/../bench.py",
        "experiment_config.yaml",
        config.to_str().unwrap(),
        ".env",
        "PROGRAM.md",
    ];
    let written = [
        "workspace/suite.json",
        "workspace/results.tsv",
        "workspace/train_results.json",
        "workspace/gate.json",
        "workspace/learnings.md",
        "workspace/traces/latest/easy-1/trace.json",
        "workspace/task_context/policy.md",
        "workspace/sessions/001/said.txt",
    ];
    for path in state.iter().chain(&experiment).chain(&written) {
        let why = match *path {
            path if state.contains(&path) => "belongs to git or to the state of the experiment",
            path if experiment.contains(&path) => "would replace a file of the experiment",
            _ => "would replace what autoharness keeps in workspace/",
        };
        for words in [&["report", "--out", path][..], &["gate", "--junit", path], &["gate", "--summary", path]] {
            let done = bed.run(&[words, &["--format", "json"]].concat()).expect(2).warns(why);
            let said = format!("{}{}", done.stdout, done.stderr);
            assert!(said.contains("report_unwritable"), "{words:?}: {said}");
            assert_eq!(content(&bed.root), before, "{words:?}");
        }
    }
    assert_eq!(content(&bed.root), before);
    for directory in [".git/autoharness/tables", "agent/../.git"] {
        bed.run(&["export", directory]).expect(2).warns("belongs to git or to the state of the experiment");
    }
    bed.run(&["export", "workspace/traces"]).expect(2).warns("would replace what autoharness keeps in workspace/");
    bed.run(&["report", "--out", "agent/agent.py"]).expect(2).warns("hint: name a file of another name");
    assert_eq!(content(&bed.root), before);

    // Names of the user's own are free.
    bed.run(&["report", "--out", "workspace/report.html"]).expect(0);
    bed.run(&["report", "--out", "workspace/mine/../night.html"]).expect(0);
    bed.run(&["report", "--out", "night.html"]).expect(0);
    std::fs::remove_file(bed.root.join("night.html")).unwrap();
    bed.run(&["gate", "--junit", "workspace/gate.xml"]).expect(0);
    bed.run(&["verify"]).expect(0);
}

#[test]
fn an_experiment_that_cannot_be_read_loses_nothing_to_a_report() {
    let bed = Bed::prepared(json!({}), "");
    bed.write(".env", "no assignment\n");
    let before = content(&bed.root);
    for path in [".git/autoharness/ledger.jsonl", "agent/agent.py"] {
        bed.run(&["gate", "--junit", path]).expect(2);
        assert_eq!(content(&bed.root), before, "{path}");
    }
    let junit = bed.outside().join("gate.xml");
    bed.run(&["gate", "--junit", junit.to_str().unwrap()]).expect(2);
    assert!(std::fs::read_to_string(&junit).unwrap().contains("<error"));
}

//! `record`: the history holds what was measured, for what is committed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::Bed;
use serde_json::json;

/// Prepared, with an edit that the gate passed (4 of 4) and that is committed.
fn passed() -> Bed {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.commit_agent();
    bed
}

fn rows(bed: &Bed) -> usize {
    bed.read("workspace/results.tsv").lines().count() - 1
}

#[test]
fn a_row_is_what_the_gate_measured() {
    let bed = passed();
    let short = bed.git(&["rev-parse", "--short", "HEAD"]);
    let done = bed.run(&["record"]).expect(0).warns("hint: append what was learned to workspace/learnings.md.");
    assert_eq!(
        done.stdout,
        format!("recorded: iteration=1 val_score=1.0000 commit={short} evals_passed=4 evals_total=4\n")
    );
    let text = bed.read("workspace/results.tsv");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines[0], ["iteration", "val_score", "commit", "evals_passed", "evals_total", "timestamp"]);
    assert_eq!(lines[1][..5], ["0", "0.5000", "baseline", "0", "0"]);
    assert_eq!(lines[2][..5], ["1", "1.0000", &short, "4", "4"]);
    for line in &lines[1..] {
        assert!(line[5].len() == 25 && line[5].ends_with("+00:00") && line[5].as_bytes()[10] == b'T', "{line:?}");
    }
    assert!(text.ends_with('\n') && !text.contains('\r') && lines.len() == 3);
}

#[test]
fn json_holds_the_row() {
    let bed = passed();
    let short = bed.git(&["rev-parse", "--short", "HEAD"]);
    let row = json!({"type": "recorded", "iteration": 1, "val_score": 1.0, "commit": short, "evals_passed": 4, "evals_total": 4});
    assert_eq!(bed.run(&["record", "--format", "json"]).expect(0).json(), std::slice::from_ref(&row));
    assert_eq!(bed.run(&["record", "--format", "json"]).expect(0).json(), [row], "already recorded");
}

#[test]
fn without_a_gate_there_is_nothing_to_record() {
    let bed = Bed::prepared(json!({}), "");
    bed.run(&["record"])
        .expect(1)
        .warns("error: the gate has not passed anything yet")
        .warns("hint: run `autoharness gate`");
    assert_eq!(rows(&bed), 1);
}

#[test]
fn an_edit_the_gate_failed_cannot_be_recorded() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&[]);
    bed.run(&["gate"]).expect(1);
    bed.commit_agent();
    bed.run(&["record"]).expect(1).warns("error: the last gate did not pass");
    bed.run(&["record", "--val-score", "1", "--evals-passed", "4", "--evals-total", "4"]).expect(1);
    assert_eq!(rows(&bed), 1);
}

#[test]
fn a_gate_that_failed_takes_the_earlier_receipt_away() {
    let bed = passed();
    bed.agent(&[]);
    bed.run(&["gate"]).expect(1);
    bed.git(&["checkout", "-q", "--", "agent/agent.py"]);
    bed.run(&["record"]).expect(1).warns("error: the last gate did not pass");
    bed.run(&["gate"]).expect(0);
    bed.run(&["record"]).expect(0);
}

#[test]
fn a_passing_edit_must_be_committed() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    let done = bed.run(&["record"]).expect(1).warns("is not the one the gate passed");
    done.warns("hint: commit the edit first: `git add agent/agent.py && git commit`");
    assert_eq!(rows(&bed), 1);
}

#[test]
fn another_agent_than_the_measured_one_cannot_be_recorded() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.write("agent/agent.py", "SKILLS = {'easy', 'hard'}  # one byte more\n");
    bed.commit_agent();
    bed.run(&["record"]).expect(1).warns("is not the one the gate passed");
    assert_eq!(rows(&bed), 1);
}

#[test]
fn a_commit_that_changes_the_benchmark_too_cannot_be_recorded() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.write("bench.py", "print('{}')\n");
    bed.git(&["commit", "-qam", "edit and more"]);
    bed.run(&["record"]).expect(1).warns("commits since the base commit change guarded files: bench.py: ");
    bed.git(&["checkout", "-q", "HEAD~", "--", "bench.py"]);
    bed.git(&["commit", "-qam", "back"]);
    bed.run(&["record"]).expect(0);
}

#[test]
fn numbers_on_the_command_line_must_be_those_measured() {
    let bed = passed();
    for (flag, typed, named) in [
        ("--val-score", "0.9998", "--val-score 0.9998, measured 1.0000"),
        ("--val-score", "nan", "--val-score NaN, measured 1.0000"),
        ("--evals-passed", "3", "--evals-passed 3, measured 4"),
        ("--evals-total", "5", "--evals-total 5, measured 4"),
    ] {
        bed.run(&["record", flag, typed])
            .expect(1)
            .warns("error: the numbers given are not those of the receipt")
            .warns(named);
    }
    let several = bed.run(&["record", "--val-score", "0.5", "--evals-passed", "2", "--evals-total", "4"]).expect(1);
    several.warns("--val-score 0.5, measured 1.0000; --evals-passed 2, measured 4\n");
    assert_eq!(rows(&bed), 1);
    bed.run(&["record", "--val-score", "1.0000", "--evals-passed", "4", "--evals-total", "4"]).expect(0);
}

#[test]
fn a_rounded_score_agrees() {
    let bed = Bed::prepared(json!({"tasks": {"train": ["hard-1"], "test": ["easy-3", "hard-3", "odd-3"]}}), "");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0).says("val_score=0.6667");
    bed.commit_agent();
    bed.run(&["record", "--val-score", "0.6667"]).expect(0).says("val_score=0.6667");
}

#[test]
fn recording_twice_changes_nothing() {
    let bed = passed();
    bed.run(&["record"]).expect(0);
    let views = bed.views();
    let short = bed.git(&["rev-parse", "--short", "HEAD"]);
    assert_eq!(bed.run(&["record"]).expect(0).stdout, format!("already recorded: iteration=1 commit={short}\n"));
    assert_eq!(bed.views(), views);
    assert_eq!(bed.events("recorded").len(), 1);
}

#[test]
fn a_receipt_is_good_for_one_commit() {
    let bed = passed();
    bed.run(&["record"]).expect(0);
    bed.git(&["commit", "-q", "--allow-empty", "-m", "again"]);
    bed.run(&["record"]).expect(1).warns("error: the last passing gate is recorded already");
    assert_eq!(rows(&bed), 2);
}

#[test]
fn iterations_are_counted_and_the_base_commit_moves() {
    let bed = Bed::prepared(json!({}), "editable: [agent/agent.py, agent/prompt.txt]");
    bed.accept(&["easy", "hard"]);
    bed.agent(&["easy", "hard", "odd"]);
    bed.write("agent/prompt.txt", "think\n");
    bed.run(&["gate"]).expect(0);
    bed.git(&["add", "agent"]);
    bed.git(&["commit", "-qm", "second"]);
    bed.run(&["record"]).expect(0).says("recorded: iteration=2 ");
    assert_eq!(rows(&bed), 3);
    let head = bed.git(&["rev-parse", "HEAD"]);
    assert_eq!(bed.run(&["status", "--format", "json"]).json()[0]["base"], json!(head));
    bed.run(&["gate"]).expect(0);
    assert_eq!(bed.events("verdict")[2]["base"], json!(head));
}

#[test]
fn program_md_may_be_committed_along() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.git(&["add", "PROGRAM.md", "agent"]);
    bed.git(&["commit", "-qm", "edit and the program"]);
    bed.run(&["record"]).expect(0);
}

#[test]
fn an_experiment_that_is_not_prepared_has_no_history() {
    Bed::table(json!({}), "").run(&["record"]).expect(2).warns("run `autoharness prepare` first");
}

#[test]
fn the_same_agent_again_is_no_new_iteration() {
    let bed = Bed::prepared(json!({}), "");
    bed.accept(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.run(&["record"]).expect(0).says("already recorded: iteration=1 holds this very agent\n");
    assert_eq!(rows(&bed), 2);
}

#[test]
fn a_receipt_from_before_an_accepted_change_is_void() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.write("bench.py", &format!("# other\n{}", bed.read("bench.py")));
    bed.git(&["commit", "-qm", "bench", "bench.py"]);
    bed.run(&["prepare", "--accept"]).expect(0);
    bed.commit_agent();
    bed.run(&["record"]).expect(1).warns("before the experiment was changed with `prepare --accept`");
    bed.run(&["gate"]).expect(0);
    bed.run(&["record"]).expect(0);
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_receipt_given_by_other_rules_is_void() {
    let bed = Bed::prepared(json!({}), "threshold: 0.0");
    bed.run(&["suite", "add", "easy-1", "easy-2", "--reason", "must hold"]).expect(0);
    // It breaks the suite, which these rules let pass.
    bed.agent(&["hard"]);
    bed.run(&["gate"]).expect(0);
    bed.run(&["status"]).expect(0).says("commit the edit that passed the gate");
    let config = bed.read("experiment_config.yaml").replace("threshold: 0.0", "threshold: 1.0");
    bed.write("experiment_config.yaml", &config);
    bed.run(&["prepare", "--accept"]).expect(0);
    let status = bed.run(&["status"]).expect(0);
    assert!(!status.stdout.contains("commit the edit that passed the gate"), "{}", status.stdout);
    bed.commit_agent();
    let done = bed.run(&["record", "-v"]).expect(1).warns("before the experiment was changed with `prepare --accept`");
    done.warns("hint: run `autoharness gate` again.").warns("no_passing_gate");
    bed.run(&["gate"]).expect(1).says("regression_suite  failed");
    assert_eq!(rows(&bed), 1);
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_receipt_survives_changes_that_the_gate_does_not_decide_by() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    let config = bed.read("experiment_config.yaml");
    // `alpha` is a number of the other rule.
    let more = "infra_retries: 5\nholdout_disclosure: bit\nleak_scan: fail\nalpha: 0.05\nmax_concurrency: 2\n";
    bed.write("experiment_config.yaml", &format!("{config}{more}"));
    bed.run(&["prepare", "--accept"]).expect(0);
    bed.commit_agent();
    bed.run(&["record"]).expect(0).says("recorded: iteration=1 val_score=1.0000");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_record_that_was_killed_behind_the_ledger_is_finished_by_the_next() {
    let bed = passed();
    bed.run(&["benchmark"]).expect(0);
    bed.run(&["record"]).expect(0);
    let (best, latest) = (bed.root.join("workspace/traces/best"), bed.list("workspace/traces/latest/easy-1"));
    for gate in [false, true] {
        // As the kill leaves it: some traces are in place, one is being put there, the others are the last agent's.
        std::fs::write(best.join("easy-1/.autoharness-tmp-result.json"), "torn").unwrap();
        std::fs::write(best.join("hard-1/result.json"), "{}").unwrap();
        if gate {
            bed.run(&["gate"]).expect(0);
        }
        bed.run(&["record"]).expect(0).says("already recorded");
        assert_eq!(bed.list("workspace/traces/best/easy-1"), latest);
        assert_eq!(
            bed.read("workspace/traces/best/hard-1/result.json"),
            bed.read("workspace/traces/latest/hard-1/result.json")
        );
    }
}

//! What counts as evidence, and what a verdict does with what is missing, through the binary.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::Bed;
use crate::support::running::{Gate, Running};

/// Ten hold-out tasks, five of which the first agent passes.
fn ten() -> Value {
    let test = [1, 2, 3, 4, 5].iter().flat_map(|n| [format!("easy-{n}"), format!("hard-{n}")]).collect::<Vec<_>>();
    json!({"tasks": {"train": ["easy-8", "hard-8", "odd-8", "rare-8"], "test": test}})
}

fn edit(bed: &Bed, skills: &[&str], note: &str) {
    bed.agent(skills);
    bed.write("agent/agent.py", &format!("{}# {note}\n", bed.read("agent/agent.py")));
}

// ---- the suite of an edit that was not recorded

#[test]
fn an_edit_that_passed_and_was_reverted_binds_nobody_else() {
    type Between = fn(&Bed);
    let between: [Between; 3] = [
        |bed| drop(bed.run(&["gate"]).expect(0)),
        |bed| {
            bed.write("stray.txt", "x");
            bed.run(&["gate"]).expect(1).says("stray.txt");
            std::fs::remove_file(bed.root.join("stray.txt")).unwrap();
        },
        |bed| {
            edit(bed, &["easy", "odd"], "another");
            bed.run(&["gate"]).expect(0).says("join the suite: odd-1, odd-2");
        },
    ];
    for happens in between {
        let bed = Bed::prepared(json!({}), "");
        bed.agent(&["easy", "hard"]);
        bed.run(&["gate"]).expect(0).says("join the suite: hard-1, hard-2");
        happens(&bed);
        bed.git(&["checkout", "-q", "--", "agent/agent.py"]);
        edit(&bed, &["easy"], "something else");
        bed.run(&["gate"]).expect(0).says("regression_suite  skipped   the suite is empty");
        assert_eq!(bed.read_json("workspace/suite.json")["tasks"], json!([]));
        bed.agent(&["easy", "hard"]);
        bed.run(&["gate"]).expect(0).says("regression_suite  passed    2/2 tasks pass");
        assert_eq!(bed.read_json("workspace/suite.json")["tasks"], json!(["hard-1", "hard-2"]));
        bed.commit_agent();
        bed.run(&["record"]).expect(0);
        edit(&bed, &["easy", "odd"], "breaks it");
        bed.run(&["gate"]).expect(1).says("now failing: hard-1, hard-2");
        bed.run(&["verify"]).expect(0);
    }
}

// ---- scores on common tasks

#[test]
fn a_lost_task_is_no_gain_and_no_bar() {
    let bed = Bed::prepared(ten(), "infra_retries: 0");
    bed.mood(json!({"misbehave": {"hard-1": "infra_error"}}));
    edit(&bed, &["easy"], "no better");
    bed.run(&["gate"]).expect(0).says(
        "val_score 0.5556 (5/9 pass) >= best 0.5000 (baseline); 1 left out for lack of evidence; \
         compared on the 9 tasks that both gave evidence for: 0.5556 >= 0.5556\n",
    );
    bed.commit_agent();
    bed.run(&["record"]).expect(0).says("val_score=0.5556");
    bed.run(&["status"]).expect(0).says("best        val_score 0.5000 (baseline)");
    bed.mood(json!(null));
    edit(&bed, &["easy"], "no worse");
    bed.run(&["gate"]).expect(0).says("val_score 0.5000 (5/10 pass) >= best 0.5000 (baseline)\n");
    let gate = bed.read_json("workspace/gate.json");
    assert_eq!((&gate["best"], gate.get("rewards")), (&json!(0.5), None));
    assert_eq!(bed.files_with(&["hard-1", "easy-1"]), Vec::<std::path::PathBuf>::new());
    bed.run(&["verify"]).expect(0);
}

#[test]
fn an_edit_that_passes_for_lack_of_evidence_alone_is_run_again() {
    let bed = Bed::prepared(ten(), "infra_retries: 0");
    bed.mood(json!({"misbehave": {"easy-1": "infra_error"}}));
    edit(&bed, &["easy"], "spoils a trial");
    let before = bed.views();
    let done = bed.run(&["gate"]).expect(3).warns("error: only 9 of 10 tasks gave evidence; nothing was decided");
    done.says("whether it passes hangs on trials without evidence, so nothing is decided\n").says("gate: undecided ");
    assert_eq!(bed.views(), before);
    bed.run(&["verify"]).expect(0);
    // It failed there, in truth.
    bed.mood(json!({"misbehave": {"easy-1": 0}}));
    bed.run(&["gate"]).expect(1).says("val_score 0.4000 (4/10 pass) < best 0.5000");
    bed.mood(json!({"misbehave": {"easy-1": "infra_error", "hard-1": 1}}));
    edit(&bed, &["easy"], "makes up for it");
    bed.run(&["gate"]).expect(0).says("compared on the 9 tasks that both gave evidence for: 0.5556 >= 0.4444\n");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_baseline_with_a_lost_task_is_compared_on_the_others() {
    let bed = Bed::table(ten(), "infra_retries: 0");
    bed.mood(json!({"misbehave": {"hard-1": "infra_error"}}));
    bed.run(&["prepare"]).expect(0).says("val_score 0.5556 (5/9 pass)");
    bed.mood(json!(null));
    edit(&bed, &["easy"], "no worse");
    bed.run(&["gate"]).expect(0).says(
        "val_score 0.5000 (5/10 pass) < best 0.5556 (baseline); \
         compared on the 9 tasks that both gave evidence for: 0.5556 >= 0.5556\n",
    );
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    bed.run(&["status"]).expect(0).says("best        val_score 0.5000 (");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn an_accepted_change_and_a_branch_are_compared_on_common_tasks() {
    let bed = Bed::prepared(ten(), "infra_retries: 0");
    bed.mood(json!({"misbehave": {"hard-1": "infra_error"}}));
    bed.write("grader.py", "PASS = 2\n");
    bed.git(&["add", "-A"]);
    bed.git(&["commit", "-qm", "grader"]);
    bed.run(&["prepare", "--accept"]).expect(0).says("val_score 0.5556 (5/9 pass)");
    bed.mood(json!(null));
    edit(&bed, &["easy"], "no worse");
    bed.run(&["gate"]).expect(0).says("compared on the 9 tasks that both gave evidence for: 0.5556 >= 0.5556\n");
    bed.run(&["verify"]).expect(0);

    let bed = Bed::table(ten(), "infra_retries: 0");
    let gate = |skills: &[&str], mood: Value| {
        bed.mood(mood);
        bed.git(&["checkout", "-q", "-B", "branch", "main"]);
        edit(&bed, skills, &format!("{skills:?} on a branch"));
        bed.commit_agent();
        bed.run(&["gate", "--base", "main"])
    };
    // The base commit's agent is measured without hard-1, the branch's with it.
    let lost = || json!({"misbehave": {"hard-1": "infra_error"}, "once": true});
    let done = gate(&["easy", "none"], lost()).expect(0);
    done.says("val_score 0.5000 (5/10 pass) < best 0.5556 (base ")
        .says("9 tasks that both gave evidence for: 0.5556 >=");
    gate(&["hard"], lost())
        .expect(1)
        .says("val_score 0.5000 (5/10 pass) < best 0.5556 (base ")
        .says(": 0.4444 < 0.5556\n");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn suite_tasks_without_evidence_are_no_way_through() {
    let bed = Bed::prepared(json!({}), "infra_retries: 0\nmin_evidence: 0.5");
    bed.accept(&["easy", "hard"]);
    edit(&bed, &["easy", "hard"], "spoils a trial");
    bed.mood(json!({"misbehave": {"hard-1": "infra_error"}}));
    let done = bed.run(&["gate"]).expect(3).warns("only 1 of 2 tasks gave evidence");
    done.says(
        "regression_suite  undecided 1/1 tasks pass, 1.00 >= 0.80; 1 left out for lack of evidence; whether it passes",
    );
    bed.run(&["verify"]).expect(0);
    bed.mood(json!(null));
    bed.run(&["gate"]).expect(0);
}

#[test]
fn trials_that_are_lacking_neither_pass_an_edit_nor_raise_the_bar() {
    let bed = Bed::prepared(ten(), "trials: 2\ninfra_retries: 0");
    edit(&bed, &["easy"], "spoils one of two");
    bed.mood(json!({"misbehave": {"easy-1": [1, "infra_error"]}}));
    let done = bed.run(&["gate"]).expect(3).warns("only 9 of 10 tasks gave evidence");
    done.says(
        "val_score 0.5000 (5/10 pass) >= best 0.5000 (baseline); whether it passes hangs on trials without evidence",
    );
    // One of a task that was failing before is spoilt, and the other one passes by luck.
    bed.mood(json!({"misbehave": {"hard-1": [1, "infra_error"]}}));
    edit(&bed, &["easy"], "lucky");
    bed.run(&["gate"]).expect(0).says("val_score=0.6000");
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    bed.mood(json!({"misbehave": {"hard-1": [1, 0]}}));
    edit(&bed, &["easy"], "just as good");
    bed.run(&["gate"]).expect(0).says("val_score=0.5500");
    bed.run(&["verify"]).expect(0);
}

// ---- tokens

#[test]
fn a_baseline_without_a_token_records_nothing_whatever_its_outcomes() {
    let tasks = ["easy-1", "easy-2", "hard-1", "hard-2", "odd-1", "odd-2", "easy-3", "easy-4", "hard-3", "hard-4"];
    let refused = |tasks: &[&str]| tasks.iter().map(|task| (task.to_string(), json!("agent_error"))).collect::<Value>();
    let nothing = json!({"tokens": 0, "misbehave": refused(&tasks)});
    let bed = Bed::table(json!({"tokens": 10}), "");
    bed.mood(nothing.clone());
    for _ in 0..2 {
        let done = bed.run(&["prepare"]).expect(3).warns("error: only 0 of 10 tasks gave evidence");
        done.warns("no trial used a single model token");
        assert!(bed.events("prepared").is_empty());
        assert!(bed.events("run_finished").iter().all(|run| run["tokenless"] == true && run["void"] == true));
    }
    // A crash of every task of one split is evidence as long as a model was there.
    bed.mood(json!({"misbehave": refused(&tasks[6..]), "once": true}));
    let _ = bed.run(&["prepare"]).expect(0);
    bed.run(&["verify"]).expect(0);

    // The same on a branch: the base commit's agent is measured again once its model is back.
    let bed = Bed::table(json!({"tokens": 10}), "");
    bed.git(&["checkout", "-q", "-b", "branch"]);
    bed.agent(&["easy", "hard"]);
    bed.commit_agent();
    bed.mood(nothing);
    bed.run(&["gate", "--base", "main"]).expect(3).warns("no trial used a single model token");
    assert!(bed.events("verdict").is_empty());
    bed.mood(json!(null));
    bed.run(&["gate", "--base", "main"]).expect(0).says("val_score 1.0000 (4/4 pass) >= best 0.5000 (base ");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_base_that_crashed_as_an_edit_is_no_base_to_compare_with() {
    let refused = json!({"tokens": 0, "misbehave": {"easy-3": "agent_error", "easy-4": "agent_error",
        "hard-3": "agent_error", "hard-4": "agent_error"}});
    let bed = Bed::table(json!({"tokens": 10}), "");
    bed.run(&["gate", "--base", "main"]).expect(0);
    bed.git(&["checkout", "-q", "-b", "broken"]);
    bed.agent(&["broken"]);
    bed.commit_agent();
    bed.mood(refused);
    bed.run(&["gate", "--base", "main"]).expect(1).says("val_score 0.0000");
    bed.mood(json!(null));
    bed.git(&["checkout", "-q", "-b", "next"]);
    bed.agent(&["easy"]);
    bed.commit_agent();
    bed.run(&["gate", "--base", "broken"]).expect(3).warns("no trial used a single model token");
    bed.run(&["gate", "--base", "broken"]).expect(0).says(">= best 0.0000 (base ");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn token_counts_are_kept_however_they_are_written_and_others_are_mentioned_once() {
    for (written, kept, said) in
        [(json!(1200.0), json!(1200), 0), (json!("1200"), json!(1200), 0), (json!("many"), json!(null), 1)]
    {
        let bed =
            Bed::table(json!({"tokens": written, "tasks": {"train": ["easy-1", "easy-2"], "test": ["easy-3"]}}), "");
        let done = bed.run(&["prepare", "--concurrency", "1"]);
        let done = if done.code == 2 { bed.run(&["prepare"]) } else { done }.expect(0);
        let warnings = done.stderr.matches("reports a `tokens_in` that is no such number").count();
        assert!(warnings == 2 * said, "once a run: {}", done.stderr);
        assert_eq!(bed.read_json("workspace/traces/latest/easy-1/result.json")["tokens_in"], kept, "{written}");
        let tokens = bed.run(&["status", "--format", "json"]).expect(0).json()[0]["tokens"].clone();
        assert_eq!(tokens, json!(kept.as_u64().unwrap_or(0) * 3), "{written}");
    }
}

// ---- timeouts

#[test]
fn trials_that_ran_while_the_data_changed_count_for_nothing() {
    let bed = Bed::table(json!({}), "data: [answers.txt]");
    bed.write(".gitignore", &format!("{}/answers.txt\n", bed.read(".gitignore")));
    bed.git(&["commit", "-qam", "data"]);
    bed.write("answers.txt", "as provided");
    let spoil = |split: &str| bed.mood(json!({"spoils": {split: bed.root.join("answers.txt")}}));
    let restore = || {
        bed.mood(Value::Null);
        bed.write("answers.txt", "as provided");
        bed.ran();
    };
    let changed = "provisioned data was changed while the benchmark ran (answers.txt)";
    spoil("test");
    bed.run(&["prepare"]).expect(3).warns(changed);
    restore();
    bed.run(&["prepare"]).expect(0);
    assert_eq!(bed.ran().len(), 10, "the baseline stands on trials of before");
    bed.agent(&["easy", "hard"]);
    spoil("train");
    bed.run(&["benchmark"]).expect(3).warns(changed);
    restore();
    spoil("test");
    // It says nothing about the edit, and no verdict is given.
    bed.run(&["gate"]).expect(3).warns(changed).warns("hint: do not revert; restore the data");
    assert_eq!(bed.events("verdict").len(), 0);
    restore();
    bed.run(&["gate"]).expect(0).says("val_score=1.0000");
    assert_eq!(bed.ran().len(), 8, "of the hold-out or of what train fails, the verdict stands on trials of before");
    spoil("test");
    bed.run(&["calibrate", "--trials", "2"]).expect(3).warns(changed);
    restore();
    bed.run(&["calibrate", "--trials", "2"]).expect(0);
    assert_eq!(bed.ran().len(), 20, "the noise is that of trials of before");
    // What was asked for afresh is not answered from the ledger, nor is anything more paid for.
    spoil("test");
    bed.run(&["gate", "--fresh"]).expect(3).warns(changed);
    assert_eq!(bed.ran().len(), 6, "the suite and the hold-out, and nothing to promote");
    assert_eq!(bed.events("verdict").len(), 1);
    restore();
    spoil("train");
    bed.run(&["benchmark", "--fresh"]).expect(3).warns(changed);
}

#[test]
fn an_interrupt_does_not_save_trials_on_changed_data() {
    let (_directory, gate) = Gate::new();
    let bed = Bed::table(json!({"gate": gate.path()}), "data: [bench.py, answers.txt]");
    bed.write("answers.txt", "as provided");
    bed.git(&["add", "-A"]);
    bed.git(&["commit", "-qm", "data"]);
    gate.let_through(None);
    bed.run(&["prepare"]).expect(0);
    bed.agent(&["easy", "hard"]);
    bed.ran();
    gate.let_through(Some(2));
    let command = Running::start(bed.command(&["benchmark"]));
    gate.held("train");
    bed.write("answers.txt", "changed");
    command.signal(Signal::INT);
    let done = command.end();
    assert_eq!(done.code, 130, "{}", done.stderr);
    let done = done.warns("provisioned data was changed while the benchmark ran (answers.txt)");
    assert!(!done.stderr.contains("runs only the others"), "{}", done.stderr);
    assert_eq!(bed.ran().len(), 2);
    bed.git(&["checkout", "-q", "--", "answers.txt"]);
    gate.let_through(None);
    bed.run(&["benchmark"]).expect(0);
    assert_eq!(bed.ran().len(), 6, "all of train was run");
}

#[test]
fn a_graded_timeout_is_the_same_everywhere() {
    // outcome and reward the benchmark gave, policy; outcome and reward that are kept
    for (given, policy, outcome, reward) in [
        (json!(1.0), "agent", "passed", json!(1.0)),
        (json!(0.25), "infra", "failed", json!(0.25)),
        (json!(0.0), "agent", "agent_timeout", json!(0.0)),
        (json!(null), "agent", "agent_timeout", json!(0.0)),
        (json!(0.0), "infra", "agent_timeout", json!(null)),
    ] {
        let tasks = json!({"train": ["easy-1", "easy-2"], "test": ["easy-3", "hard-3"]});
        let bed = Bed::table(
            json!({"tasks": tasks}),
            &format!("timeout_policy: {policy}\nmin_evidence: 0.5\ninfra_retries: 0"),
        );
        bed.mood(json!({"misbehave": {"easy-1": {"reward": given, "outcome": "agent_timeout"}}}));
        bed.run(&["prepare"]).expect(0);
        let result = bed.read_json("workspace/traces/latest/easy-1/result.json");
        let trial = bed.events("trial").into_iter().find(|trial| trial["task"] == "easy-1").unwrap();
        for kept in [&result, &trial] {
            assert_eq!((&kept["outcome"], &kept["reward"]), (&json!(outcome), &reward), "{given} {policy}");
        }
        assert_eq!(bed.read_json("workspace/train_results.json")["results"]["easy-1"], reward, "{given} {policy}");
        bed.run(&["verify"]).expect(0);
    }
}

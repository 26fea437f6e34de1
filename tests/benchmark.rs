//! `benchmark`: what the coding agent sees of a run, and what it does not.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::Bed;
use serde_json::{Value, json};

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// Outcomes of a task's trials in the ledger, oldest first.
fn outcomes(bed: &Bed, task: &str) -> Vec<Value> {
    bed.events("trial")
        .into_iter()
        .filter(|trial| trial["task"] == task)
        .map(|trial| trial["outcome"].clone())
        .collect()
}

#[test]
fn failing_tasks_are_listed_with_their_traces() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "odd"]);
    let expected = "\
failed  0.00  hard-1  workspace/traces/latest/hard-1
failed  0.00  hard-2  workspace/traces/latest/hard-2
flips             train     2 fixed (odd-1, odd-2), 0 broken, of 6 compared with the recorded agent; p 0.500: could be noise
benchmark: train train_score=0.6667 passed=4 evaluated=6 expected=6
";
    assert_eq!(bed.run(&["benchmark"]).expect(0).stdout, expected);
    let result = bed.read_json("workspace/traces/latest/hard-1/result.json");
    assert_eq!(
        (&result["outcome"], &result["reward"], &result["detail"]),
        (&json!("failed"), &json!(0.0), &json!({"task": "hard-1"}))
    );
    assert_eq!(bed.read_json("workspace/traces/latest/hard-1/trace.json")["marker"], "SECRET-OF-hard-1");
}

#[test]
fn json_is_one_object_a_task_and_the_sum() {
    let bed = Bed::prepared(json!({}), "");
    let lines = bed.run(&["benchmark", "--task-ids", "odd-1", "easy-1", "--format", "json"]).expect(0).json();
    let expected = [
        json!({"type": "task", "task": "easy-1", "reward": 1.0, "passed": true}),
        json!({"type": "task", "task": "odd-1", "reward": 0.0, "passed": false}),
        json!({"type": "benchmark", "split": "train", "train_score": 0.5, "passed": 1, "evaluated": 2, "expected": 2}),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_subset_updates_only_its_tasks() {
    let bed = Bed::prepared(json!({}), "");
    bed.ran();
    bed.agent(&["hard", "odd"]);
    bed.run(&["benchmark", "--task-ids", "hard-1", "--task-ids", "easy-1", "hard-1"]).expect(0);
    assert_eq!(sorted(bed.ran()), ["easy-1 0", "hard-1 0"]);
    let results = json!({"easy-1": 0.0, "easy-2": 1.0, "hard-1": 1.0, "hard-2": 0.0, "odd-1": 0.0, "odd-2": 0.0});
    assert_eq!(bed.read_json("workspace/train_results.json")["results"], results);
}

#[test]
fn an_unknown_task_suggests_the_nearest() {
    let bed = Bed::prepared(json!({}), "");
    bed.ran();
    let done =
        bed.run(&["benchmark", "--task-ids", "hrad-1"]).expect(2).warns("error: there is no train task `hrad-1`");
    done.warns("hint: did you mean `hard-1`? workspace/train_results.json lists the train tasks.");
    assert!(bed.ran().is_empty());
}

#[test]
fn held_out_tasks_are_refused_by_name_and_never_suggested() {
    let bed = Bed::prepared(json!({}), "");
    bed.ran();
    let done =
        bed.run(&["benchmark", "--task-ids", "hard-3"]).expect(2).warns("error: there is no train task `hard-3`");
    assert!(!done.stderr.contains("hard-4"), "{}", done.stderr);
    let done = bed.run(&["benchmark", "--split", "test", "--task-ids", "hard-3"]).expect(2);
    done.warns("error: the hold-out is run as a whole").warns("--reveal-held-out is for humans");
    assert!(bed.ran().is_empty());
}

#[test]
fn a_hold_out_run_prints_counts_only_and_leaves_the_views() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["hard"]);
    let before = bed.views();
    let done = bed.run(&["benchmark", "--split", "test"]).expect(0);
    assert_eq!(done.stdout, "benchmark: test val_score=0.5000 passed=2 evaluated=4 expected=4\n");
    let sum =
        json!({"type": "benchmark", "split": "test", "val_score": 0.5, "passed": 2, "evaluated": 4, "expected": 4});
    assert_eq!(bed.run(&["benchmark", "--split", "test", "--format", "json"]).expect(0).json(), [sum]);
    assert_eq!(bed.views(), before);
    assert!(bed.events("revealed").is_empty());
}

#[test]
fn looking_at_the_hold_out_is_written_down() {
    let bed = Bed::prepared(json!({}), "");
    let done =
        bed.run(&["benchmark", "--split", "test", "--reveal-held-out", "--task-ids", "hard-3", "easy-3"]).expect(0);
    let done = done.warns("warning: showing per-task results of the hold-out. This is for humans");
    assert_eq!(done.stdout, "failed  0.00  hard-3\nbenchmark: test val_score=0.5000 passed=1 evaluated=2 expected=2\n");
    let command = "autoharness benchmark --split test --reveal-held-out --task-ids hard-3 easy-3";
    assert_eq!(bed.events("revealed"), [json!({"command": command, "tasks": 2})]);
    bed.run(&["status"]).expect(0).says("looks       1 at per-task hold-out results\n");
    assert!(!bed.root.join("workspace/traces/latest/hard-3").exists());
}

#[test]
fn revealing_without_the_hold_out_reveals_nothing() {
    let bed = Bed::prepared(json!({}), "");
    let done = bed.run(&["benchmark", "--reveal-held-out"]).expect(0);
    assert!(!done.stderr.contains("hold-out") && bed.events("revealed").is_empty(), "{}", done.stderr);
}

#[test]
fn the_first_trace_stays_and_the_newest_is_replaced() {
    let bed = Bed::prepared(json!({}), "");
    let first = bed.read("workspace/traces/baseline/hard-1/result.json");
    bed.agent(&["hard"]);
    bed.run(&["benchmark"]).expect(0);
    assert_eq!(bed.read_json("workspace/traces/latest/hard-1/result.json")["outcome"], "passed");
    assert_eq!(bed.read("workspace/traces/baseline/hard-1/result.json"), first);
    bed.run(&["benchmark", "--fresh"]).expect(0);
    assert_eq!(bed.read("workspace/traces/baseline/hard-1/result.json"), first);
}

#[test]
fn a_task_id_with_a_slash_gets_a_directory_of_its_own() {
    let bed = Bed::prepared(json!({"tasks": {"train": ["a/b-1", "../../up-1"], "test": ["easy-1"]}}), "");
    assert!(bed.root.join("workspace/traces/latest/a%2Fb-1/result.json").exists());
    assert!(bed.root.join("workspace/traces/latest/%2E.%2F..%2Fup-1/result.json").exists());
    bed.run(&["benchmark"]).expect(0).says("failed  0.00  a/b-1  workspace/traces/latest/a%2Fb-1\n");
}

#[test]
fn too_little_evidence_is_no_result() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["hard"]);
    bed.mood(json!({"misbehave": {"hard-1": "infra_error"}}));
    let done = bed.run(&["benchmark"]).expect(3).warns("error: only 5 of 6 tasks gave evidence");
    done.says("benchmark: train train_score=0.2000 passed=1 evaluated=5 expected=6\n")
        .says("failed  no evidence  hard-1  ");
    assert_eq!(bed.read_json("workspace/train_results.json")["results"]["hard-1"], json!(null));
    assert_eq!(bed.read_json("workspace/traces/latest/hard-1/result.json")["error"], "infra_error as told at hard-1");
}

#[test]
fn concurrency_time_limit_and_trials_are_passed_on() {
    let bed = Bed::prepared(json!({}), "trials: 2\nper_task_timeout: 7\nseed: 5\nagent_model: m1\nmax_concurrency: 2");
    bed.requests();
    bed.agent(&["hard"]);
    bed.run(&["benchmark", "--concurrency", "3"]).expect(0);
    let request = &bed.requests()[0];
    let asked = ["concurrency", "trials", "timeout_s", "seed", "split", "keep_traces", "action", "protocol"];
    let expected = json!([3, 2, 7.0, 5, "train", true, "run", 1]);
    assert_eq!(asked.map(|name| request[name].clone()).to_vec(), *expected.as_array().unwrap());
    assert_eq!(request["agent"]["model"], "m1");
    bed.run(&["benchmark", "--concurrency", "0"]).expect(2);
}

#[test]
fn another_domain_is_refused_where_the_benchmark_has_none() {
    let bed = Bed::prepared(json!({}), "");
    bed.run(&["benchmark", "--domain", "airline"]).expect(2).warns("--domain airline: command has no domains");
}

#[test]
fn an_agent_that_cannot_be_parsed_runs_nothing() {
    let bed = Bed::prepared(json!({}), "");
    bed.ran();
    bed.write("agent/agent.py", "def broken(:\n");
    bed.run(&["benchmark"]).expect(1).warns("error: preflight failed: agent/agent.py:1: ").warns("nothing was run");
    assert!(bed.ran().is_empty());
}

// ---- a benchmark that breaks the trial protocol, or itself

#[test]
fn a_line_that_is_not_json_is_named_and_earlier_trials_count() {
    let bed = Bed::prepared(json!({}), "infra_retries: 0");
    bed.agent(&["odd"]);
    bed.mood(json!({"say": {"hard-1": "Traceback (most recent call last):"}}));
    let done = bed.run(&["benchmark"]).expect(3);
    let done = done.warns("broke the trial protocol and was stopped: line 6 is not JSON: \"Traceback (most recent call last):\"; after 2 of 6 trials");
    done.says("passed=0 evaluated=2 expected=6");
    assert_eq!(outcomes(&bed, "easy-2"), ["passed", "failed"]);
    assert_eq!(outcomes(&bed, "odd-2"), ["failed", "infra_error"]);
}

/// Who speaks in the program's name and then ends it must not be believed, so neither is a program that merely fails.
#[test]
fn a_benchmark_that_fails_after_it_reported_trials_is_not_believed() {
    for (mood, how) in [
        (json!({"die_after": 4, "once": true}), "exit status 9 after 4 of 6 trials"),
        (json!({"exit": 1, "once": true}), "exit status 1 after 6 of 6 trials"),
    ] {
        let bed = Bed::prepared(json!({}), "");
        bed.ran();
        bed.agent(&["odd"]);
        bed.mood(mood);
        let done =
            bed.run(&["benchmark"]).expect(3).warns(&format!("ended with {how}; none of this run's trials count"));
        done.warns("run the same command again: none of its trials count.");
        bed.ran();
        bed.run(&["benchmark"]).expect(0).says("passed=2 evaluated=6 expected=6");
        assert_eq!(bed.ran().len(), 6);
        bed.run(&["verify"]).expect(0);
    }
}

#[test]
fn trials_nobody_asked_for_are_refused() {
    let bed = Bed::prepared(json!({}), "infra_retries: 0");
    bed.agent(&["odd"]);
    let line =
        |task: &str, trial: u32| json!({"event": "trial", "task": task, "trial": trial, "reward": 1.0}).to_string();
    for (line, named) in [
        (line("bogus", 0), "trial 0 of task \"bogus\", which was not asked for"),
        (line("easy-1", 1), "trial 1 of task \"easy-1\", which was not asked for"),
        (line("easy-1", 0), "trial 0 of task \"easy-1\" a second time"),
    ] {
        bed.mood(json!({"say": {"easy-2": line}}));
        bed.run(&["benchmark", "--fresh"]).expect(3).warns(named).says("passed=0 evaluated=0 expected=6");
    }
    bed.mood(json!(null));
    bed.run(&["benchmark"]).expect(0).says("passed=2 evaluated=6");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_benchmark_that_cannot_be_started_decides_nothing() {
    let bed = Bed::prepared(json!({}), "");
    bed.ran();
    bed.agent(&["odd"]);
    let mut command = bed.command(&["benchmark"]);
    let done = crate::support::done(command.env("PATH", "/nonexistent").output().unwrap());
    done.expect(2).warns("error: the environment is not ready: ").warns("`python3` is not on the PATH");
    assert!(bed.ran().is_empty());
}

#[test]
fn traces_of_another_agent_are_not_taken_for_this_ones() {
    let bed = Bed::prepared(json!({}), "");
    for skills in [["odd"], ["hard"]] {
        bed.agent(&skills);
        bed.run(&["benchmark"]).expect(0);
    }
    bed.agent(&["odd"]);
    let done = bed.run(&["benchmark"]).expect(0).says("passed=2 evaluated=6");
    done.warns("the traces of 4 failing tasks are of another agent").warns("benchmark --fresh --task-ids ID");
    bed.run(&["benchmark", "--fresh", "--task-ids", "easy-1", "easy-2", "hard-1", "hard-2"]).expect(0);
    let done = bed.run(&["benchmark"]).expect(0);
    assert!(!done.stderr.contains("another agent"), "{}", done.stderr);
}

/// Whose trial the result of a task in one of the places for traces is.
fn agent_of(bed: &Bed, place: &str, task: &str) -> Value {
    bed.read_json(&format!("workspace/traces/{place}/{task}/result.json"))["agent"].clone()
}

#[test]
fn traces_of_the_committed_agent_survive_a_rejected_edit() {
    let bed = Bed::prepared(json!({}), "");
    let committed =
        || bed.events("recorded").pop().unwrap_or_else(|| bed.events("prepared")[0].clone())["agent"].clone();
    let baseline = committed();
    bed.agent(&["odd"]);
    bed.run(&["benchmark"]).expect(0);
    bed.run(&["gate"]).expect(1);
    bed.git(&["checkout", "-q", "--", "agent/agent.py"]);
    assert_ne!(agent_of(&bed, "latest", "odd-1"), baseline);
    assert_eq!(agent_of(&bed, "best", "odd-1"), baseline);
    assert!(bed.read("workspace/traces/best/odd-1/trace.json").contains("SECRET-OF-odd-1"));
    // The committed agent's trials are known: the list names the traces that are its own.
    let done = bed.run(&["benchmark"]).expect(0).says("failed  0.00  odd-1  workspace/traces/best/odd-1\n");
    assert!(!done.stderr.contains("another agent"), "{}", done.stderr);
    // A recorded edit's traces take their place: here the gate has run the failing tasks, and no others.
    bed.accept(&["easy", "hard"]);
    assert_ne!(committed(), baseline);
    for (task, agent) in [("hard-1", committed()), ("odd-1", committed()), ("easy-1", baseline.clone())] {
        assert_eq!(agent_of(&bed, "best", task), agent, "{task}");
    }
    // A run of the committed agent brings its newest traces.
    bed.run(&["benchmark"]).expect(0);
    assert_eq!(agent_of(&bed, "best", "easy-1"), committed());
    assert_eq!(agent_of(&bed, "baseline", "easy-1"), baseline);
    assert!(bed.files_with(&["easy-3", "hard-3", "easy-4", "hard-4"]).is_empty());
}

#[test]
fn a_drawn_split_has_the_baselines_traces_as_its_best() {
    let ids: Vec<String> = (0..10).map(|i| format!("{}-{i}", if i % 2 == 0 { "easy" } else { "hard" })).collect();
    let bed = Bed::prepared(json!({"tasks": {"all": ids}}), "");
    assert_eq!(bed.list("workspace/traces/best"), bed.list("workspace/traces/latest"));
}

#[test]
fn only_evidence_replaces_evidence() {
    let bed = Bed::prepared(json!({}), "infra_retries: 1");
    bed.mood(json!({"misbehave": {"easy-1": "infra_error", "easy-2": "verifier_error"}}));
    let done = bed.run(&["benchmark", "--fresh"]).expect(0).says("passed=2 evaluated=6 expected=6");
    done.warns("benchmark: 2 trials gave no evidence, running them again");
    assert_eq!(bed.read_json("workspace/train_results.json")["results"]["easy-1"], 1.0);
    bed.mood(json!({"misbehave": {"easy-1": "agent_error"}}));
    bed.run(&["benchmark", "--fresh"]).expect(0).says("passed=1 evaluated=6");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn what_a_broken_fresh_run_says_about_the_same_command_is_true() {
    let bed = Bed::prepared(json!({}), "infra_retries: 0");
    let blocked = bed.root.join("workspace/traces/latest/easy-1");
    std::fs::remove_dir_all(&blocked).unwrap();
    std::fs::write(&blocked, "in the way").unwrap();
    let done = bed.run(&["benchmark", "--fresh"]).expect(3);
    assert!(!done.stderr.contains("runs only the others"), "{}", done.stderr);
    done.warns("The same command runs all of them again");
}

#[test]
fn an_edit_of_what_is_not_the_agent_is_said_not_to_run() {
    let bed = Bed::prepared(json!({}), "");
    let silent = bed.run(&["benchmark"]).expect(0);
    assert!(!silent.stderr.contains("without these changes"), "{}", silent.stderr);
    bed.write("bench.py", "raise SystemExit('edited')\n");
    bed.write("helper.py", "x = 1\n");
    let commit = bed.git(&["rev-parse", "--short", "HEAD"]);
    let done = bed.run(&["benchmark", "--fresh"]).expect(0).says("passed=2 evaluated=6");
    done.warns(&format!("warning: what runs is commit {commit}")).warns("bench.py: modified, helper.py: new");
    for i in 0..30 {
        bed.write(&format!("stray/{i}"), "");
    }
    bed.run(&["benchmark"]).expect(0).warns(", and 27 more");
}

#[test]
fn a_program_over_the_library_makes_tasks_of_its_options_and_says_why_a_reward_is_what_it_is() {
    let bed = Bed::initialised();
    let bench = bed.read("bench.py");
    let (before, _) = bench.split_once("if __name__").unwrap();
    let serving = "def chosen(options):\n    return {name: TASKS[name] for name in options['only']}\n\n\n\
                   def grade(task, answer):\n    return 0.0, {'expected': task['answer']}\n\n\n\
                   serve(chosen, run_agent, grade)\n";
    bed.write("bench.py", &format!("{before}{serving}"));
    bed.git(&["commit", "-qam", "tasks as the options say"]);
    let config = bed.read("experiment_config.yaml");
    bed.write("experiment_config.yaml", &format!("{config}\noptions: {{only: [sum, product-large]}}\n"));
    bed.run(&["prepare"]).expect(0).says("split      1 train, 1 test");
    bed.run(&["benchmark"]).expect(0).says("evaluated=1 expected=1");
    let kept = bed.read_json("workspace/traces/latest/sum/result.json");
    assert_eq!(kept["detail"]["expected"], "42", "{kept}");
    assert!(!bed.root.join("workspace/traces/latest/product-large").exists());
}

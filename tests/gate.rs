//! The gate's verdicts, through the binary.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::Bed;
use serde_json::json;

/// Names of the default hold-out, and what its traces hold.
const HELD_OUT: [&str; 5] = ["easy-3", "easy-4", "hard-3", "hard-4", "SECRET-OF-odd-9"];

/// A hold-out with one task of each kind, so that an edit can trade one skill for another.
fn trading() -> serde_json::Value {
    json!({"tasks": {"train": ["easy-1", "hard-1", "odd-1"], "test": ["easy-3", "hard-3", "odd-3"]}})
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn an_edit_that_fixes_tasks_passes_and_is_recorded() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0).says("gate: passed val_score=1.0000 evals_passed=4 evals_total=4");
    assert_eq!(bed.read_json("workspace/suite.json")["tasks"], json!(["hard-1", "hard-2"]));
    bed.commit_agent();
    bed.run(&["record"]).expect(0).says("iteration=1 val_score=1.0000");
    let rows = bed.read("workspace/results.tsv");
    assert_eq!(rows.lines().count(), 3, "{rows}");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn what_a_passing_gate_prints_and_leaves() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    let done = bed.run(&["gate"]).expect(0).warns("hint: commit the edit").warns("`autoharness record`");
    let expected = "\
file_guard        passed    only editable files differ from the base commit
regression_suite  skipped   the suite is empty
hold_out          passed    val_score 1.0000 (4/4 pass) >= best 0.5000 (baseline)
promotion         passed    2 of 4 failing train tasks pass now and join the suite: hard-1, hard-2
flips             train     2 fixed (hard-1, hard-2), 0 broken, of 4 compared with the recorded agent; too few were run for both to tell noise
gate: passed val_score=1.0000 evals_passed=4 evals_total=4
";
    assert_eq!(done.stdout, expected);
    let suite =
        json!({"tasks": ["hard-1", "hard-2"], "threshold": 0.8, "last_results": {"hard-1": 1.0, "hard-2": 1.0}});
    assert_eq!(bed.read_json("workspace/suite.json"), suite);
    let mut gate = bed.read_json("workspace/gate.json");
    gate.as_object_mut().unwrap().retain(|name, _| !["timestamp", "agent", "steps"].contains(&name.as_str()));
    let aggregates = json!({"status": "passed", "val_score": 1.0, "evals_passed": 4, "evals_total": 4, "best": 0.5,
        "suite_size": 2, "promoted": 2});
    assert_eq!(gate, aggregates);
}

#[test]
fn json_is_one_object_a_step_and_the_verdict() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    let lines = bed.run(&["gate", "--format", "json"]).expect(0).json();
    let kinds: Vec<_> = lines.iter().map(|line| (&line["type"], &line["step"], &line["status"])).collect();
    let step = json!("step");
    let (guard, suite, held) = (json!("file_guard"), json!("regression_suite"), json!("hold_out"));
    let (promotion, passed, skipped) = (json!("promotion"), json!("passed"), json!("skipped"));
    let expected =
        [(&step, &guard, &passed), (&step, &suite, &skipped), (&step, &held, &passed), (&step, &promotion, &passed)];
    assert_eq!(kinds[..4], expected);
    let verdict = json!({"type": "verdict", "status": "passed", "val_score": 1.0, "evals_passed": 4, "evals_total": 4,
        "best": 0.5, "violations": [], "promoted": ["hard-1", "hard-2"], "agent": bed.events("verdict")[0]["agent"],
        // Only what failed before was run: whether that is noise cannot be told.
        "flips": {"compared": 4, "fixed": ["hard-1", "hard-2"], "broken": [], "means": [0.0, 0.5], "passed": [0, 2],
            "effect": 0.5, "p": null, "noise": null}});
    assert_eq!(lines[4..], [verdict]);
}

#[test]
fn an_edit_that_breaks_the_suite_fails_although_the_hold_out_passes() {
    let bed = Bed::prepared(trading(), "");
    bed.accept(&["easy", "hard"]);
    bed.agent(&["easy", "odd"]);
    let done = bed.run(&["gate"]).expect(1).warns("hint: revert with `git checkout -- agent/agent.py`");
    let done = done.says("regression_suite  failed    0/1 tasks pass, 0.00 < 0.80; now failing: hard-1\n");
    let done = done.says("hold_out          passed    val_score 0.6667 (2/3 pass) >= best 0.6667 (");
    assert!(!done.stdout.contains("promotion"), "{}", done.stdout);
    assert_eq!(sorted(bed.ran()), ["easy-3 0", "hard-1 0", "hard-3 0", "odd-3 0"]);
    assert_eq!(bed.read_json("workspace/suite.json")["tasks"], json!(["hard-1"]));
    assert_eq!(bed.read_json("workspace/suite.json")["last_results"], json!({"hard-1": 0.0}));
}

#[test]
fn an_edit_below_the_best_fails_although_the_suite_passes() {
    let bed = Bed::prepared(json!({}), "");
    bed.accept(&["easy", "hard"]);
    bed.agent(&["hard", "odd"]);
    let done = bed.run(&["gate"]).expect(1).says("regression_suite  passed    2/2 tasks pass, 1.00 >= 0.80\n");
    let done = done.says("hold_out          failed    val_score 0.5000 (2/4 pass) < best 1.0000 (");
    done.says("gate: failed val_score=0.5000 evals_passed=2 evals_total=4\n");
    assert_eq!(bed.read_json("workspace/suite.json")["tasks"], json!(["hard-1", "hard-2"]), "nothing is promoted");
}

#[test]
fn an_edit_that_equals_the_best_passes() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "odd"]);
    bed.run(&["gate"]).expect(0).says(">= best 0.5000 (baseline)").says("join the suite: odd-1, odd-2");
}

#[test]
fn another_interpreter_is_another_protocol_and_decides_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let bed = Bed::prepared(json!({}), "");
    let planted = bed.outside().join("bin/python3");
    std::fs::create_dir_all(planted.parent().unwrap()).unwrap();
    std::fs::write(&planted, "#!/bin/sh\nexec /usr/bin/env -u X python3.11 \"$@\"\n").unwrap();
    std::fs::set_permissions(&planted, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = bed.command(&["gate"]);
    command.env("PATH", format!("{}:{}", planted.parent().unwrap().display(), std::env::var("PATH").unwrap()));
    bed.ran();
    crate::support::done(command.output().unwrap()).expect(2).warns("is not the one this experiment was prepared with");
    assert!(bed.ran().is_empty());
}

#[test]
fn a_grader_module_that_a_human_changes_is_measured_anew() {
    let bed = Bed::table(json!({}), "");
    bed.write("grader.py", "PASS = 1\n");
    bed.git(&["add", "grader.py"]);
    bed.git(&["commit", "-qm", "grader"]);
    bed.run(&["prepare"]).expect(0);
    bed.ran();
    bed.write("grader.py", "PASS = 2\n");
    bed.git(&["commit", "-qam", "laxer"]);
    bed.run(&["prepare", "--accept"]).expect(0);
    assert_eq!(bed.ran().len(), 10, "the old scores do not stand for the new grader");
}

#[test]
fn tossing_the_coin_again_averages_on_the_hold_out() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    bed.mood(json!({"misbehave": {"hard-3": 0, "hard-4": 0, "easy-3": 0, "easy-4": 0}}));
    bed.run(&["gate"]).expect(1).says("val_score=0.0000");
    bed.mood(json!(null));
    bed.run(&["gate", "--fresh"]).expect(0).says("val_score=0.5000");
    bed.run(&["status"]).expect(0).says("re-measured 1 times the hold-out was run again");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn an_agent_that_rewrites_the_staged_copy_proves_nothing() {
    let bed = Bed::prepared(json!({}), "infra_retries: 0");
    bed.write("agent/agent.py", "SKILLS = {'easy', 'hard'}\nopen('bench.py', 'a').write('# poisoned\\n')\n");
    bed.run(&["gate"]).expect(3).warns("the staged copy was changed while the benchmark ran");
}

#[test]
fn an_agent_cannot_keep_its_skills_where_the_fingerprint_does_not_look() {
    let bed = Bed::table(json!({}), "");
    bed.write("PROGRAM.md", "hard");
    bed.git(&["add", "-A"]);
    bed.git(&["commit", "-qm", "program"]);
    bed.run(&["prepare"]).expect(0);
    bed.write(
        "agent/agent.py",
        "import os\nSKILLS = {'easy'} | ({'hard'} if os.path.exists('PROGRAM.md') else set())\n",
    );
    bed.run(&["gate"]).expect(0).says("val_score=0.5000");
    bed.write("workspace/notes.txt", "hard");
    bed.git(&["add", "-f", "workspace/notes.txt"]);
    bed.run(&["gate"]).expect(1).says("workspace/notes.txt: ");
}

#[test]
fn reverting_a_passed_edit_leaves_a_suite_the_old_agent_passes() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "odd"]);
    bed.run(&["gate"]).expect(0).says("join the suite: odd-1, odd-2");
    bed.git(&["checkout", "--", "agent/agent.py"]);
    bed.run(&["gate"]).expect(0).says("regression_suite  skipped");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_third_of_the_trials_decides_nothing() {
    let bed = Bed::prepared(json!({}), "trials: 3\ninfra_retries: 0");
    bed.agent(&["easy", "hard"]);
    let broken = json!([1, "infra_error", "infra_error"]);
    bed.mood(json!({"misbehave": {"hard-3": broken, "hard-4": broken, "easy-3": broken, "easy-4": broken}}));
    bed.run(&["gate"]).expect(3);
}

#[test]
fn each_step_runs_its_own_tasks_once() {
    let bed = Bed::prepared(json!({}), "");
    bed.accept(&["easy", "hard"]);
    bed.agent(&["easy", "hard", "odd"]);
    bed.run(&["gate"]).expect(0);
    let suite_and_hold_out = ["easy-3 0", "easy-4 0", "hard-1 0", "hard-2 0", "hard-3 0", "hard-4 0"];
    let ran = bed.ran();
    assert_eq!(sorted(ran[..6].to_vec()), suite_and_hold_out);
    assert_eq!(sorted(ran[6..].to_vec()), ["odd-1 0", "odd-2 0"], "promotion: only what failed last time");
}

#[test]
fn a_trial_is_not_paid_for_twice_unless_asked_for() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    bed.run(&["benchmark"]).expect(0);
    bed.ran();
    bed.run(&["gate"]).expect(0);
    assert_eq!(sorted(bed.ran()), ["easy-3 0", "easy-4 0", "hard-3 0", "hard-4 0"]);
    bed.run(&["gate"]).expect(0);
    assert!(bed.ran().is_empty());
    bed.run(&["gate", "--fresh"]).expect(0);
    assert_eq!(bed.ran().len(), 8, "suite 2, hold-out 4, promotion 2");
}

#[test]
fn a_change_of_anything_but_the_agent_fails_before_anything_is_run() {
    let bed = Bed::table(json!({}), "data: [workspace/table.csv]\n");
    bed.write("workspace/table.csv", "1\n");
    bed.run(&["prepare"]).expect(0);
    bed.ran();
    let config = bed.read("experiment_config.yaml");
    type Change<'a> = (&'a str, &'a dyn Fn());
    let changes: [Change<'_>; 7] = [
        ("bench.py: ", &|| bed.write("bench.py", "print('{}')\n")),
        ("agent/helper.py: ", &|| bed.write("agent/helper.py", "x = 1\n")),
        (".gitignore: ", &|| bed.write(".gitignore", "*\n")),
        ("threshold", &|| bed.write("experiment_config.yaml", &format!("{config}threshold: 0.1\n"))),
        ("trials: 1 -> 2", &|| bed.write("experiment_config.yaml", &format!("{config}trials: 2\n"))),
        ("data workspace/table.csv is not what", &|| bed.write("workspace/table.csv", "2\n")),
        ("bench.py: ", &|| drop(bed.git(&["rm", "-q", "bench.py"]))),
    ];
    for (named, change) in changes {
        change();
        let done = bed.run(&["gate"]).expect(1).says(named).warns("`autoharness prepare --accept`");
        done.says("gate: failed val_score=- evals_passed=0 evals_total=0\n");
        assert!(bed.ran().is_empty(), "{named}");
        bed.git(&["reset", "-q", "--hard"]);
        bed.git(&["clean", "-fdq"]);
        bed.write("experiment_config.yaml", &config);
        bed.write("workspace/table.csv", "1\n");
    }
    bed.run(&["gate"]).expect(0);
}

#[test]
fn every_violation_is_named() {
    let bed = Bed::prepared(json!({}), "");
    bed.write("bench.py", "");
    bed.write("stray.txt", "x");
    bed.run(&["gate"]).expect(1).says("bench.py: ").says("stray.txt: ");
    let lines = bed.run(&["gate", "--format", "json"]).expect(1).json();
    assert_eq!(lines.last().unwrap()["violations"].as_array().unwrap().len(), 2);
}

#[test]
fn without_the_file_guard_the_committed_files_are_scored_all_the_same() {
    let bed = Bed::prepared(json!({}), "file_guard: false");
    bed.write("bench.py", "raise SystemExit('cheating')\n");
    bed.write("agent/helper.py", "x = 1\n");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0).says("val_score 1.0000");
    bed.write(
        "experiment_config.yaml",
        &bed.read("experiment_config.yaml").replace("file_guard: false", "threshold: 0"),
    );
    bed.run(&["gate"]).expect(1).says("threshold");
}

#[test]
fn an_agent_that_cannot_be_imported_fails_before_anything_is_run() {
    let bed = Bed::prepared(json!({}), "agent_symbol: SKILLS");
    bed.ran();
    bed.write("agent/agent.py", "def broken(:\n");
    bed.run(&["gate"]).expect(1).says("preflight         failed    agent/agent.py:1: ");
    bed.write("agent/agent.py", "TALENTS = {'easy'}\n");
    let done = bed.run(&["gate"]).expect(1).says("preflight         failed    agent/agent.py: ").says("SKILLS");
    done.says("gate: failed val_score=- evals_passed=0 evals_total=0\n")
        .warns("hint: fix the agent file and run the gate again; nothing was measured");
    assert!(bed.ran().is_empty());
}

/// A directory whose `python3` parses nothing, as one of another version may not; asked for its version, it answers.
fn another_python(bed: &Bed) -> std::ffi::OsString {
    use std::os::unix::fs::PermissionsExt;
    let bin = bed.outside().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *PyCF_ONLY_AST*) echo '{{\"line\": 1, \"message\": \"SyntaxError: too new\"}}'; exit 1 ;; esac\n\
         exec '{}' \"$@\"\n",
        crate::support::interpreter()
    );
    std::fs::write(bin.join("python3"), script).unwrap();
    std::fs::set_permissions(bin.join("python3"), PermissionsExt::from_mode(0o755)).unwrap();
    let path = bed.command(&[]).get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_os_string();
    std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&path))).unwrap()
}

#[test]
fn the_interpreter_that_runs_the_agent_is_the_one_that_parses_it() {
    let bed = Bed::table(json!({}), "");
    let config =
        bed.read("experiment_config.yaml").replace("[python3,", &format!("[{},", crate::support::interpreter()));
    bed.write("experiment_config.yaml", &config);
    let path = another_python(&bed);
    let run = |words: &[&str]| crate::support::done(bed.command(words).env("PATH", &path).output().unwrap());
    run(&["prepare"]).expect(0);
    bed.agent(&["easy", "hard"]);
    run(&["gate"]).expect(0);
    run(&["doctor"]).says(&format!("interpreter    {} (", crate::support::interpreter()));
    // Where no Python is known to run the agent, the one on the PATH parses it.
    bed.write("experiment_config.yaml", &config.replace("command: [", "command: [env, "));
    bed.git(&["checkout", "-q", "--", "agent/agent.py"]);
    run(&["prepare", "--accept"]).expect(2).warns("preflight failed: agent/agent.py:1: SyntaxError: too new");
}

#[test]
fn a_module_that_is_missing_costs_nothing() {
    let bed = Bed::prepared(json!({}), "");
    bed.ran();
    bed.write("agent/agent.py", "import nothing_like_it\nSKILLS = {'easy', 'hard'}\n");
    let missing = "agent/agent.py:1: ModuleNotFoundError: No module named 'nothing_like_it'";
    bed.run(&["gate"]).expect(1).says(&format!("preflight         failed    {missing}\n"));
    bed.run(&["benchmark"]).expect(1).warns(&format!("error: preflight failed: {missing}\n"));
    bed.git(&["commit", "-qam", "edit"]);
    let fresh = Bed::table(json!({}), "");
    fresh.write("agent/agent.py", &bed.read("agent/agent.py"));
    fresh.git(&["commit", "-qam", "edit"]);
    fresh
        .run(&["prepare"])
        .expect(2)
        .warns(&format!("error: preflight failed: {missing}\n"))
        .warns("`import_agent: false`");
    assert!(bed.ran().is_empty() && fresh.ran().is_empty());
    // The table's program imports nothing, so this is the way out for one that stands in for the module.
    fresh.write("experiment_config.yaml", &format!("{}import_agent: false\n", fresh.read("experiment_config.yaml")));
    fresh.mood(json!({"misbehave": {}}));
    fresh.run(&["prepare"]).expect(3);
    assert_eq!(fresh.requests().len(), 4, "both splits were tried, and tried again");
}

#[test]
fn an_environment_that_broke_is_nobodys_edit() {
    let bed = Bed::table(json!({}), "");
    let flag = bed.outside().join("flag");
    std::fs::write(&flag, "").unwrap();
    let agent = |skills: &str| bed.write("agent/agent.py", &format!("open({flag:?}).close()\nSKILLS = {{{skills}}}\n"));
    agent("'easy'");
    bed.git(&["commit", "-qam", "needs a file"]);
    bed.run(&["prepare"]).expect(0);
    bed.ran();
    std::fs::remove_file(&flag).unwrap();
    agent("'easy', 'hard'");
    for command in ["gate", "benchmark"] {
        let done = bed.run(&[command]).expect(3).warns("error: the unedited agent cannot be imported (anymore): ");
        done.warns("FileNotFoundError").warns("hint: do not revert");
    }
    assert!(bed.ran().is_empty() && bed.events("verdict").is_empty());
}

#[test]
fn what_the_import_does_to_the_copy_does_not_reach_the_trials() {
    let bed = Bed::prepared(json!({}), "");
    // Only the first time that it is loaded: in the preflight.
    let mark = bed.outside().join("mark");
    bed.write(
        "agent/agent.py",
        &format!(
            "import os\nif not os.path.exists({mark:?}):\n    open({mark:?}, 'w').close()\n    \
             open('bench.py', 'w').write('x')\n    open('left', 'w').close()\n\
             SKILLS = {{'easy'}} | ({{'hard'}} if os.path.exists('left') else set())\n"
        ),
    );
    bed.run(&["gate"]).expect(0).says("val_score=0.5000");
    assert!(mark.exists());
}

#[test]
fn outcomes_are_reported_and_name_no_task_of_the_hold_out() {
    let bed = Bed::table(json!({}), "infra_retries: 0\nmin_evidence: 0.5");
    let broken = json!({"misbehave": {"easy-1": "agent_error", "easy-3": "agent_error", "hard-3": "infra_error"}});
    bed.mood(broken.clone());
    let done = bed.run(&["prepare"]).expect(0);
    let done = done.says("outcomes          train     1 agent_error: agent_error as told at easy-1\n");
    let done = done.says("outcomes          test      1 agent_error, 1 infra_error\n");
    assert!(!done.stdout.contains("easy-3") && !done.stdout.contains("hard-3"));
    bed.agent(&["easy", "hard"]);
    let done =
        bed.run(&["gate"]).expect(0).says("\noutcomes          test      1 agent_error, 1 infra_error\ngate: passed ");
    assert!(!done.stdout.contains("easy-3") && !done.stdout.contains("hard-3"));
    let lines = bed.run(&["benchmark", "--format", "json"]).expect(0).json();
    let told: Vec<_> = lines.iter().filter(|line| line["type"] == "outcomes").collect();
    let expected = json!({"type": "outcomes", "of": "train", "counts": {"agent_error": 1, "passed": 3, "failed": 2},
        "reasons": {"agent_error": "agent_error as told at easy-1"}});
    assert_eq!(told, [&expected]);
    // A run that gave too little evidence says what became of it.
    let bed = Bed::table(json!({}), "infra_retries: 0");
    bed.mood(broken);
    bed.run(&["prepare"]).expect(3).says("outcomes          test      1 agent_error, 1 infra_error\n");
}

#[test]
fn a_secret_that_an_import_tells_is_hidden() {
    let bed = Bed::table(json!({}), "pass_env: [MY_KEY]");
    let run =
        |words: &[&str]| crate::support::done(bed.command(words).env("MY_KEY", "sk-very-secret").output().unwrap());
    run(&["prepare"]).expect(0);
    bed.write("agent/agent.py", "import os\nraise ValueError(os.environ['MY_KEY'])\nSKILLS = set()\n");
    let done = run(&["gate"]).expect(1).says("agent/agent.py:2: ValueError: ");
    assert!(!done.stdout.contains("sk-very-secret"), "{}", done.stdout);
    assert!(!std::fs::read_to_string(bed.ledger()).unwrap().contains("sk-very-secret"));
}

#[test]
fn data_behind_a_link_is_guarded() {
    let bed = Bed::table(json!({}), "data: [data]");
    std::fs::create_dir(bed.root.join("data")).unwrap();
    bed.write(".gitignore", &format!("{}/data/\n", bed.read(".gitignore")));
    bed.git(&["commit", "-qam", "data"]);
    std::fs::write(bed.outside().join("answers"), "1").unwrap();
    std::os::unix::fs::symlink(bed.outside().join("answers"), bed.root.join("data/answers")).unwrap();
    bed.run(&["prepare"]).expect(0);
    bed.agent(&["easy", "hard"]);
    std::fs::write(bed.outside().join("answers"), "2").unwrap();
    bed.run(&["gate"]).expect(1).says("data data is not what the experiment was prepared with");
    bed.run(&["prepare", "--accept"]).expect(0).warns("data data changed");
}

#[test]
fn a_trial_without_evidence_is_run_again() {
    let bed = Bed::prepared(json!({}), "infra_retries: 2");
    bed.ran();
    bed.agent(&["easy", "hard"]);
    bed.mood(json!({"misbehave": {"hard-3": "infra_error"}, "once": true}));
    let done = bed.run(&["gate"]).expect(0).says("val_score=1.0000 evals_passed=4 evals_total=4");
    done.warns("hold-out: 1 trials gave no evidence, running them again");
    assert_eq!(bed.ran().iter().filter(|line| *line == "hard-3 0").count(), 2);
}

#[test]
fn missing_evidence_decides_nothing_and_changes_no_view() {
    let bed = Bed::prepared(json!({}), "");
    bed.accept(&["easy", "hard"]);
    bed.agent(&["easy", "hard", "odd"]);
    bed.mood(json!({"misbehave": {"hard-3": "infra_error"}}));
    let before = bed.views();
    let done = bed.run(&["gate"]).expect(3).warns("error: only 3 of 4 tasks gave evidence; nothing was decided");
    let done = done.warns("do not revert").says("gate: undecided val_score=1.0000 evals_passed=3 evals_total=3\n");
    done.says("hold_out          undecided 3 of 4 tasks gave evidence, 0.90 of them is needed; nothing is decided\n");
    assert_eq!(bed.views(), before);
    assert_eq!(bed.ran().iter().filter(|line| *line == "hard-3 0").count(), 2, "infra_retries is 1");
    bed.commit_agent();
    bed.run(&["record"]).expect(1);
    bed.mood(json!(null));
    bed.run(&["gate"]).expect(0);
    assert_eq!(sorted(bed.ran()), ["hard-3 0", "odd-1 0", "odd-2 0"], "the same command continues");
    bed.run(&["record"]).expect(0);
}

#[test]
fn enough_evidence_decides_and_says_what_was_left_out() {
    let bed = Bed::prepared(json!({}), "min_evidence: 0.75");
    bed.agent(&["easy", "hard"]);
    bed.mood(json!({"misbehave": {"hard-3": "infra_error"}}));
    bed.run(&["gate"])
        .expect(0)
        .says("val_score 1.0000 (3/3 pass) >= best 0.5000 (baseline); 1 left out for lack of evidence");
}

#[test]
fn a_regression_is_a_verdict_although_the_hold_out_gave_no_evidence() {
    let bed = Bed::prepared(json!({}), "");
    bed.accept(&["easy", "hard"]);
    bed.agent(&["odd"]);
    bed.mood(json!({"misbehave": {"hard-3": "infra_error"}}));
    bed.run(&["gate"]).expect(1).says("regression_suite  failed").says("hold_out          undecided");
}

#[test]
fn a_crash_counts_as_zero_and_is_not_run_again() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    bed.mood(json!({"misbehave": {"hard-3": "agent_error"}}));
    bed.run(&["gate"]).expect(0).says("gate: passed val_score=0.7500 evals_passed=3 evals_total=4");
    assert_eq!(bed.ran().iter().filter(|line| *line == "hard-3 0").count(), 2, "baseline and gate");
}

#[test]
fn a_timeout_counts_by_policy() {
    for (policy, verdict) in [
        ("agent", "val_score=0.7500 evals_passed=3 evals_total=4"),
        ("infra", "val_score=1.0000 evals_passed=3 evals_total=3"),
    ] {
        let bed = Bed::prepared(json!({}), &format!("timeout_policy: {policy}\nmin_evidence: 0.5"));
        bed.agent(&["easy", "hard"]);
        bed.mood(json!({"misbehave": {"hard-3": "agent_timeout"}}));
        bed.run(&["gate"]).expect(0).says(verdict);
    }
}

#[test]
fn a_nonsensical_reward_is_never_a_score() {
    let bed = Bed::prepared(json!({}), "min_evidence: 0.75\ninfra_retries: 0");
    for (extra, reward) in [("a", json!("nan")), ("b", json!("inf")), ("c", json!(1.5)), ("d", json!(-1))] {
        bed.agent(&["easy", extra]);
        bed.mood(json!({"misbehave": {"hard-3": reward}}));
        bed.run(&["gate"]).expect(0).says("val_score=0.6667 evals_passed=2 evals_total=3");
        let trials = bed.events("trial");
        let last = trials.iter().rev().find(|trial| trial["task"] == "hard-3").unwrap();
        assert_eq!((&last["outcome"], &last["reward"]), (&json!("verifier_error"), &json!(null)), "{reward}");
    }
    bed.run(&["verify"]).expect(0);
}

#[test]
fn several_trials_are_averaged() {
    let bed = Bed::prepared(json!({}), "trials: 3");
    assert_eq!(bed.ran().len(), 30);
    bed.agent(&["easy", "hard"]);
    bed.mood(json!({"misbehave": {"hard-3": [1, 0, 0], "hard-4": [0, 1, 0.5]}}));
    bed.run(&["gate"]).expect(0).says("gate: passed val_score=0.7083 evals_passed=3 evals_total=4");
    bed.agent(&["easy", "hard", "other"]);
    // The trial that gave no evidence is run again, alone: it is the first of its run then.
    bed.mood(json!({"misbehave": {"easy-3": [0, "infra_error", 0.5]}}));
    bed.run(&["gate"]).expect(0).says("gate: passed val_score=0.7917 evals_passed=3 evals_total=4");
}

#[test]
fn a_run_in_which_no_model_did_anything_is_no_evidence() {
    let bed = Bed::prepared(json!({"tokens": 10}), "");
    bed.agent(&[]);
    bed.mood(json!({"tokens": 0}));
    let before = bed.views();
    bed.run(&["gate"]).expect(3).warns("no trial used a single model token");
    assert_eq!(bed.views(), before);
    bed.mood(json!(null));
    bed.run(&["gate"]).expect(1).says("val_score=0.0000 evals_passed=0 evals_total=4");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn nothing_outside_the_state_names_a_hold_out_task() {
    let bed = Bed::prepared(json!({}), "");
    let secret: Vec<String> = HELD_OUT.iter().map(|task| format!("SECRET-OF-{task}")).collect();
    let words: Vec<&str> = HELD_OUT.into_iter().chain(secret.iter().map(String::as_str)).collect();
    let mut said = String::new();
    let mut run = |arguments: &[&str]| {
        let done = bed.run(arguments);
        said.push_str(&done.stdout);
        said.push_str(&done.stderr);
    };
    bed.agent(&["easy", "hard"]);
    bed.mood(json!({"misbehave": {"hard-3": "raise"}}));
    run(&["-v", "gate"]);
    bed.mood(
        json!({"misbehave": {"easy-3": "agent_error", "hard-4": "nan"}, "say": {"hard-3": "garbage about hard-3"}}),
    );
    run(&["-v", "gate"]);
    run(&["-v", "benchmark", "--split", "test"]);
    bed.mood(json!(null));
    for arguments in
        [&["-v", "benchmark", "--split", "test"][..], &["-v", "gate"], &["status"], &["doctor"], &["verify"]]
    {
        run(arguments);
    }
    run(&["--format", "json", "gate"]);
    run(&["--format", "json", "benchmark", "--split", "test"]);
    run(&["--format", "json", "status"]);
    assert!(!words.iter().any(|word| said.contains(word)), "{said}");
    assert_eq!(bed.files_with(&words), Vec::<std::path::PathBuf>::new());
    assert!(bed.files_with(&["SECRET-OF-easy-1"]).len() >= 2, "the search finds traces of train");
}

#[test]
fn suite_and_hold_out_run_at_the_same_time() {
    let bed = Bed::prepared(json!({}), "max_concurrency: 4");
    bed.accept(&["easy", "hard"]);
    bed.agent(&["easy", "hard", "odd"]);
    bed.mood(json!({"meet": 2}));
    bed.run(&["gate"]).expect(0);
    let requests = bed.requests();
    let together: u64 = requests[..2].iter().map(|request| request["concurrency"].as_u64().unwrap()).sum();
    assert_eq!(together, 4);
    let held_out = requests.iter().find(|request| request["split"] == "test").unwrap();
    assert_eq!(held_out["keep_traces"], false);
}

#[test]
fn one_trial_at_a_time_means_one() {
    let bed = Bed::prepared(json!({}), "max_concurrency: 4");
    bed.accept(&["easy", "hard"]);
    bed.agent(&["easy", "hard", "odd"]);
    bed.run(&["gate", "--concurrency", "1"]).expect(0);
    let asked: Vec<_> = bed.requests().iter().map(|request| request["concurrency"].clone()).collect();
    assert_eq!(asked, [1, 1, 1]);
    assert_eq!(bed.ran()[..2], ["hard-1 0", "hard-2 0"], "the suite, then the hold-out");
}

#[test]
fn an_experiment_that_is_not_prepared_cannot_be_gated() {
    let bed = Bed::table(json!({}), "");
    bed.run(&["gate"])
        .expect(2)
        .warns("error: this experiment is not prepared")
        .warns("run `autoharness prepare` first");
}

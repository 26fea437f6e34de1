//! `status` and `doctor`: where an experiment stands, and what is wrong with it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::{Bed, done};
use serde_json::json;

#[test]
fn before_prepare_status_names_the_next_command() {
    let bed = Bed::table(json!({}), "");
    let expected = format!("experiment  {} (not prepared)\nnext        autoharness prepare\n", bed.root.display());
    assert_eq!(bed.run(&["status"]).expect(0).stdout, expected);
    let status = bed.run(&["status", "--format", "json"]).expect(0).json();
    let known = ["prepared", "best", "base", "gates", "running", "next"].map(|name| status[0][name].clone());
    assert_eq!(known.to_vec(), *json!([false, null, null, 0, null, "autoharness prepare"]).as_array().unwrap());
    assert!(!bed.state().exists(), "status writes nothing");
}

#[test]
fn a_configuration_that_is_named_must_be_there() {
    let bed = Bed::prepared(json!({}), "");
    for command in ["status", "report", "verify"] {
        let done = bed.run(&[command, "--config", "nosuch.yaml"]).expect(2);
        done.warns("nosuch.yaml does not exist").warns("hint: correct `--config`");
    }
    // The ledger alone says where an experiment stands.
    std::fs::rename(bed.root.join("experiment_config.yaml"), bed.root.join("other.yaml")).unwrap();
    bed.run(&["status"]).expect(0).says("benchmark   command");
    bed.run(&["status", "--config", "other.yaml"]).expect(0).says("benchmark   command");
}

#[test]
fn status_is_one_screen() {
    let bed = Bed::session();
    let head = bed.git(&["rev-parse", "--short", "HEAD"]);
    let at = bed.read_json("workspace/train_results.json")["timestamp"].as_str().unwrap().to_string();
    let expected = format!(
        "\
experiment  {}
benchmark   command, 6 train and 4 test tasks
best        val_score 1.0000 ({head}), baseline 0.5000
train       2/6 pass when last run, {at}; 4/6 with what gates have seen since
suite       2 tasks; 0 pass in the last gate
last gate   failed (val_score 0.5000); gates so far: 2
spent       24 trials, 0 s of trial time
hold-out    asked 2 times by gates; each answer tells a little of it
scores      ▁█ 0.5000 to 1.0000
stop rule   after 5 gates without improvement; 1 so far
history     iteration  val_score  commit    passed
            0          0.5000     baseline  -
            1          1.0000     {head:<8}  4/4
next        read the traces of failing train tasks, edit the agent, autoharness gate
",
        bed.root.display()
    );
    assert_eq!(bed.run(&["status"]).expect(0).stdout, expected);
    let status = &bed.run(&["status", "--format", "json"]).expect(0).json()[0];
    let numbers =
        ["train_tasks", "test_tasks", "baseline", "best", "iterations", "suite_size", "gates", "trials", "looks"];
    assert_eq!(
        numbers.map(|name| status[name].clone()).to_vec(),
        *json!([6, 4, 0.5, 1.0, 1, 2, 2, 24, 0]).as_array().unwrap()
    );
    assert_eq!((&status["last_gate"], &status["gates_without_improvement"]), (&json!("failed"), &json!(1)));
}

#[test]
fn status_says_what_a_verdict_asks_for() {
    let bed = Bed::prepared(json!({}), "");
    let next = || bed.run(&["status", "--format", "json"]).json()[0]["next"].as_str().unwrap().to_string();
    assert_eq!(next(), "read the traces of failing train tasks, edit the agent, autoharness gate");
    bed.agent(&["easy", "hard"]);
    bed.mood(json!({"misbehave": {"hard-3": "infra_error"}}));
    bed.run(&["gate"]).expect(3);
    assert_eq!(next(), "autoharness gate again: the last one decided nothing");
    bed.mood(json!(null));
    bed.run(&["gate"]).expect(0);
    assert_eq!(next(), "commit the edit that passed the gate, then autoharness record");
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    assert_eq!(next(), "read the traces of failing train tasks, edit the agent, autoharness gate");
}

#[test]
fn status_never_sends_anybody_round_in_a_circle() {
    let bed = Bed::prepared(json!({}), "");
    let next = || bed.run(&["status", "--format", "json"]).json()[0]["next"].as_str().unwrap().to_string();
    let on = "read the traces of failing train tasks, edit the agent, autoharness gate";
    // The gate passes what is recorded already: there is nothing to commit.
    bed.run(&["gate"]).expect(0);
    assert_eq!(next(), on);
    // An edit that passed, and was given up.
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.git(&["commit", "-qam", "edit"]);
    assert_eq!(next(), "autoharness record: the edit that passed the gate is committed");
    bed.git(&["reset", "-q", "--hard", "HEAD~"]);
    assert_eq!(next(), on);
    // A receipt from before the rules were changed is none that `record` takes.
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.write("experiment_config.yaml", &format!("{}trials: 2\n", bed.read("experiment_config.yaml")));
    bed.run(&["prepare", "--accept"]).expect(0);
    bed.commit_agent();
    assert_eq!(next(), on);
    // Three times no evidence is for the human to see to.
    bed.mood(json!({"misbehave": {"hard-3": "infra_error", "easy-3": "infra_error"}}));
    bed.agent(&["easy", "hard", "odd"]);
    for expected in ["autoharness gate again", "autoharness gate again", "tell the human: 3 gates in a row decided"] {
        bed.run(&["gate"]).expect(3);
        assert!(next().starts_with(expected), "{}", next());
    }
    bed.git(&["checkout", "-q", "--", "agent/agent.py"]);
    assert_eq!(next(), on, "the edit that could not be judged is gone");
}

#[test]
fn judging_the_recorded_agent_again_is_no_iteration() {
    let bed = Bed::prepared(json!({}), "");
    let without = || bed.run(&["status", "--format", "json"]).json()[0]["gates_without_improvement"].clone();
    for _ in 0..2 {
        bed.run(&["gate"]).expect(0);
        assert_eq!(without(), json!(0));
    }
    bed.agent(&[]);
    bed.run(&["gate"]).expect(1);
    assert_eq!(without(), json!(1));
    bed.git(&["checkout", "-q", "--", "agent/agent.py"]);
    bed.run(&["gate"]).expect(0);
    assert_eq!(without(), json!(1));
}

#[test]
fn scores_under_other_rules_are_set_apart_in_the_history() {
    let bed = Bed::session();
    let apart = "            -- other rules from here on: scores above are not comparable --\n";
    let history = || bed.run(&["status"]).expect(0).stdout;
    assert!(!history().contains(apart));
    bed.write("experiment_config.yaml", &format!("{}trials: 2\n", bed.read("experiment_config.yaml")));
    bed.run(&["prepare", "--accept"]).expect(0);
    assert!(history().contains(&format!("4/4\n{apart}next ")), "{}", history());
    bed.accept(&["easy", "hard", "odd"]);
    assert!(history().contains(&format!("4/4\n{apart}            2 ")), "{}", history());
}

#[test]
fn after_five_gates_without_improvement_status_says_stop() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&[]);
    for _ in 0..4 {
        bed.run(&["gate"]).expect(1);
    }
    bed.run(&["status"]).expect(0).says("next        read the traces");
    bed.run(&["gate"]).expect(1);
    bed.run(&["status"]).expect(0).says("next        stop: 5 gates without improvement\n");
    bed.accept(&["easy", "hard"]);
    bed.run(&["status"]).expect(0).says("next        read the traces");
}

#[test]
fn while_a_gate_runs_status_and_other_commands_say_who_is_at_work() {
    let bed = Bed::prepared(json!({}), "");
    bed.requests();
    bed.agent(&["easy", "hard"]);
    bed.mood(json!({"gate": bed.outside()}));
    let mut gate = bed.command(&["gate", "-q"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    bed.wait_for_request(&mut gate);
    bed.run(&["status"])
        .expect(0)
        .says("running     autoharness gate -q\n")
        .says("next        a command is running; wait for it\n");
    assert_eq!(bed.run(&["status", "--format", "json"]).json()[0]["running"], "autoharness gate -q");
    for command in ["gate", "record", "verify"] {
        let done =
            bed.run(&[command]).expect(2).warns("error: this experiment is in use by `autoharness gate -q` (process ");
        done.warns(&gate.id().to_string());
    }
    bed.run(&["doctor"]).expect(0).says("held by `autoharness gate -q`");
    std::fs::write(bed.outside().join("go"), "").unwrap();
    assert!(gate.wait().unwrap().success());
    assert_eq!(bed.run(&["status", "--format", "json"]).json()[0]["running"], json!(null));
}

// ---- doctor

#[test]
fn doctor_finds_nothing_wrong_in_a_sound_experiment() {
    let bed = Bed::session();
    // PROGRAM.md calls the program by its name, so it must be found by it.
    let own = std::path::Path::new(env!("CARGO_BIN_EXE_autoharness")).parent().unwrap();
    let path = format!("{}:{}", own.display(), std::env::var("PATH").unwrap());
    let run = |arguments: &[&str]| done(bed.command(arguments).env("PATH", &path).output().unwrap());
    let done = run(&["doctor"]).expect(0).says("doctor: ok\n").says("ok    views          agree with the ledger\n");
    assert!(done.stdout.lines().all(|line| line.starts_with("ok ") || line == "doctor: ok"), "{}", done.stdout);
    let findings = run(&["doctor", "--format", "json"]).expect(0).json();
    assert!(
        findings.len() > 6 && findings.iter().all(|finding| finding["level"] == "ok" && finding["type"] == "finding")
    );
}

#[test]
fn doctor_names_the_command_that_mends_it() {
    let bed = Bed::table(json!({}), "pass_env: [OPENAI_API_KEY]");
    bed.write("stray.txt", "x");
    let done = bed.run(&["doctor"]).expect(2).says("fail  variable       OPENAI_API_KEY (pass_env) is not set\n");
    let done = done
        .says("fix: add `OPENAI_API_KEY=")
        .says("warn  prepared       not yet\n")
        .says("fix: autoharness prepare\n");
    done.says("doctor: 1 problem(s)\n");
    bed.write(".env", "OPENAI_API_KEY=sk-123456\n");
    let done = bed.run(&["doctor"]).expect(0).says("variable       OPENAI_API_KEY is set");
    assert!(!done.stdout.contains("sk-123456"));
}

#[test]
fn doctor_misses_python() {
    let bed = Bed::table(json!({}), "");
    let bin = bed.outside().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(which::which("git").unwrap(), bin.join("git")).unwrap();
    let run = |arguments: &[&str]| done(bed.command(arguments).env("PATH", &bin).output().unwrap());
    run(&["doctor"])
        .expect(2)
        .says("fail  python3        `python3` is not on the PATH\n")
        .says("fix: install Python 3.9 or newer");
    run(&["prepare"]).expect(2).warns("`python3` is not on the PATH");
}

#[test]
fn doctor_guards_the_secrets() {
    use std::os::unix::fs::PermissionsExt;
    let bed = Bed::prepared(json!({}), "");
    bed.write(".env", "KEY=1\n");
    let mode = |mode| std::fs::set_permissions(bed.root.join(".env"), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    bed.run(&["doctor"])
        .expect(0)
        .says("warn  .env           is readable by other users\n")
        .says("fix: chmod 600 .env\n");
    mode(0o600);
    bed.run(&["doctor"]).expect(0).says("ok    .env           private and not committed\n");
    bed.git(&["add", "-f", ".env"]);
    bed.git(&["commit", "-qm", "oops"]);
    bed.run(&["doctor"]).expect(2).says("fail  .env           is committed to git\n").says("fix: git rm --cached .env");
}

#[test]
fn doctor_sees_what_the_gate_would_refuse() {
    let bed = Bed::session();
    bed.write("workspace/suite.json", "{}");
    bed.write("bench.py", "");
    bed.write("experiment_config.yaml", &format!("{}threshold: 0.5\n", bed.read("experiment_config.yaml")));
    let done = bed
        .run(&["doctor"])
        .expect(2)
        .says("fail  views          changed: suite.json\n")
        .says("fix: autoharness verify --restore\n");
    let done = done
        .says("fail  file guard     bench.py: modified\n")
        .says("fail  configuration  changed since prepare: threshold");
    done.says("doctor: 3 problem(s)\n");
    bed.write("experiment_config.yaml", "benchmark: command\ncomand: [x]\n");
    bed.run(&["doctor"])
        .expect(2)
        .says("experiment_config.yaml:2: unknown key `comand`")
        .says("fix: did you mean `command`?");
}

#[test]
fn doctor_reports_a_broken_ledger() {
    let bed = Bed::session();
    let mut broken = bed.ledger_lines();
    broken[2] = broken[2].replacen("\"at\":\"2", "\"at\":\"3", 1);
    bed.write_ledger(&broken);
    bed.run(&["doctor"]).expect(2).says("fail  ledger         ").says("ledger.jsonl:4: prev does not match");
}

//! `prepare`: a measured baseline, and nothing of anybody's lost on the way.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::Bed;
use serde_json::{Value, json};

fn split(bed: &Bed) -> Value {
    bed.events("prepared").pop().unwrap()["split"].clone()
}

#[test]
fn prepare_measures_the_baseline_and_leaves_every_view() {
    let bed = Bed::table(json!({}), "");
    let done = bed.run(&["prepare"]).expect(0).warns("creating workspace/learnings.md").warns("creating PROGRAM.md");
    let done = done.warns("agent/agent.py already exists and is kept (--reset-agent replaces it by the template)");
    let done =
        done.warns("hint: open your coding agent here and say: Read PROGRAM.md and start the optimization loop.");
    let short = bed.git(&["rev-parse", "--short", "HEAD"]);
    let expected = format!(
        "benchmark  command\nbase       {short}\nsplit      6 train, 4 test\n\
         baseline   val_score 0.5000 (2/4 pass); train 2/6 pass\n"
    );
    assert_eq!(done.stdout, expected);
    assert_eq!(bed.read("workspace/learnings.md"), "# Learnings\n");
    assert_eq!(bed.read_json("workspace/suite.json"), json!({"tasks": [], "threshold": 0.8, "last_results": {}}));
    let train = bed.read_json("workspace/train_results.json");
    let results = json!({"easy-1": 1.0, "easy-2": 1.0, "hard-1": 0.0, "hard-2": 0.0, "odd-1": 0.0, "odd-2": 0.0});
    assert_eq!((&train["split"], &train["results"]), (&json!("train"), &results));
    assert!(train["timestamp"].as_str().unwrap().ends_with("+00:00"));
    let rows = bed.read("workspace/results.tsv");
    assert!(rows.lines().nth(1).unwrap().starts_with("0\t0.5000\tbaseline\t0\t0\t20"), "{rows}");
    assert!(!bed.root.join("workspace/gate.json").exists());
    let tasks: BTreeSet<String> = results.as_object().unwrap().keys().cloned().collect();
    assert_eq!(bed.list("workspace/traces/latest"), tasks);
    assert_eq!(bed.list("workspace/traces/baseline"), tasks);
}

#[test]
fn state_is_private_and_views_are_for_everybody() {
    use std::os::unix::fs::PermissionsExt;
    let bed = Bed::prepared(json!({}), "");
    let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(bed.state()), 0o700);
    assert_eq!(mode(bed.root.join("workspace/suite.json")), 0o644);
}

#[test]
fn preparing_twice_measures_and_changes_nothing() {
    let bed = Bed::prepared(json!({}), "");
    bed.ran();
    let before = bed.views();
    let done = bed.run(&["prepare"]).expect(0).warns("already prepared; nothing to measure");
    done.warns("workspace/learnings.md already exists").warns("PROGRAM.md already exists");
    assert_eq!((bed.views(), bed.ran()), (before, vec![]));
    assert_eq!(bed.events("prepared").len(), 1);
}

#[test]
fn the_placeholder_is_replaced_by_the_template() {
    let bed = Bed::initialised();
    let template = bed.read("agent/agent.py");
    bed.write("agent/agent.py", include_str!("../agent/agent.py"));
    bed.git(&["commit", "-qam", "placeholder"]);
    let done = bed.run(&["prepare"]).expect(0).warns("writing agent/agent.py from the command template");
    done.warns("warning: agent/agent.py is not committed as it was measured");
    assert_eq!(bed.read("agent/agent.py"), template);
}

#[test]
fn an_edited_agent_is_kept_unless_reset() {
    let bed = Bed::initialised();
    let template = bed.read("agent/agent.py");
    let mine = format!("{template}# mine\n");
    bed.write("agent/agent.py", &mine);
    bed.run(&["prepare"]).expect(0).warns("already exists and is kept");
    assert_eq!(bed.read("agent/agent.py"), mine);
    let done =
        bed.run(&["prepare", "--reset-agent"]).expect(0).warns("writing agent/agent.py from the command template");
    assert!(!done.stderr.contains("not committed as it was measured"), "{}", done.stderr);
    assert_eq!(bed.read("agent/agent.py"), template);
}

#[test]
fn templates_on_disk_win() {
    let bed = Bed::initialised();
    bed.write("program_templates/base.md", "Improve {{agent_file}}.\n");
    bed.write("agent/templates/command.py", "def solve(question):\n    return 'mine'\n");
    bed.git(&["add", "-A"]);
    bed.git(&["commit", "-qm", "my templates"]);
    bed.run(&["prepare", "--reset-agent"]).expect(0);
    assert!(bed.read("PROGRAM.md").starts_with("Improve agent/agent.py.\n"));
    assert!(bed.read("agent/agent.py").contains("'mine'"));
}

#[test]
fn a_repository_without_a_commit_is_refused() {
    let bed = Bed::table(json!({}), "");
    std::fs::remove_dir_all(bed.root.join(".git")).unwrap();
    bed.run(&["prepare"]).expect(2).warns("git init");
    bed.git(&["init", "-q"]);
    bed.run(&["prepare"]).expect(2).warns("has no commit yet").warns("git add -A && git commit");
    assert!(bed.ran().is_empty());
}

#[test]
fn files_that_are_not_committed_are_named_before_anything_is_run() {
    let bed = Bed::table(json!({}), "");
    bed.write("notes/todo.txt", "x");
    bed.write("bench.py", &format!("{}\n", bed.read("bench.py")));
    let done = bed.run(&["prepare"]).expect(2).warns("error: these files differ from the last commit:\n");
    done.warns("bench.py: modified").warns("notes").warns("hint: commit them first (`git add -A && git commit`)");
    assert!(bed.ran().is_empty() && bed.events("prepared").is_empty());
}

#[test]
fn a_submodule_that_is_checked_out_names_the_way_out() {
    let bed = Bed::table(json!({}), "");
    let library = bed.outside().join("library");
    std::fs::create_dir(&library).unwrap();
    std::fs::write(library.join("x.py"), "").unwrap();
    let path = library.to_str().unwrap();
    for words in [&["init", "-q"][..], &["add", "-A"], &["commit", "-qm", "library"]] {
        bed.git(&[&["-C", path], words].concat());
    }
    bed.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", path, "lib"]);
    bed.git(&["commit", "-qm", "library"]);
    let done = bed.run(&["prepare"]).expect(2).warns("lib: checked-out submodule");
    assert!(!done.stderr.contains("git add -A"), "git sees nothing to commit: {}", done.stderr);
    done.warns("`git submodule deinit -- lib`");
    bed.git(&["submodule", "--quiet", "deinit", "--", "lib"]);
    bed.run(&["prepare"]).expect(0);
    bed.accept(&["easy", "hard"]);
}

#[test]
fn an_agent_that_cannot_be_imported_is_refused_before_anything_is_run() {
    let bed = Bed::table(json!({}), "agent_symbol: Agent");
    bed.run(&["prepare"]).expect(2).warns("agent/agent.py: ").warns("Agent").warns("--reset-agent");
    assert!(bed.ran().is_empty());
}

#[test]
fn a_changed_configuration_is_refused_until_accepted() {
    let bed = Bed::prepared(json!({}), "threshold: 0.9");
    bed.ran();
    let config = bed.read("experiment_config.yaml");
    bed.write("experiment_config.yaml", &config.replace("threshold: 0.9", "threshold: 0.5"));
    for command in ["prepare", "benchmark", "record"] {
        bed.run(&[command]).expect(2).warns("threshold").warns("`autoharness prepare --accept`");
    }
    bed.run(&["prepare", "--accept"]).expect(0).warns("changes to accept:\n").warns("threshold");
    assert_eq!(bed.ran(), Vec::<String>::new(), "the same trials count under the new threshold");
    assert_eq!(bed.read_json("workspace/suite.json")["threshold"], 0.5);
    assert_eq!(bed.read("workspace/results.tsv").lines().count(), 2);
    assert_eq!(bed.events("accepted").len(), 1);
    bed.run(&["verify"]).expect(0);
}

#[test]
fn accepting_another_benchmark_moves_the_base_and_measures_again() {
    let bed = Bed::prepared(json!({}), "");
    bed.accept(&["easy", "hard"]);
    bed.write("bench.py", &format!("# stricter\n{}", bed.read("bench.py")));
    bed.run(&["prepare", "--accept"]).expect(2).warns("bench.py: modified");
    bed.git(&["commit", "-qam", "bench"]);
    bed.run(&["gate"]).expect(1).says("bench.py: ");
    bed.run(&["prepare", "--accept"]).expect(0).warns("bench.py: ").says("val_score 1.0000 (4/4 pass)");
    assert_eq!(bed.ran().len(), 10);
    let accepted = &bed.events("accepted")[0];
    assert_eq!(accepted["to"], json!(bed.git(&["rev-parse", "HEAD"])));
    assert_eq!(bed.read("workspace/results.tsv").lines().count(), 3, "the history stays");
    assert_eq!(bed.read_json("workspace/suite.json")["tasks"], json!(["hard-1", "hard-2"]));
    bed.run(&["gate"]).expect(0).says(">= best 1.0000 (prepare)");
    bed.run(&["verify"]).expect(0);
}

/// A table whose grader lets nobody have more than `rubric.md` says.
fn with_rubric(config: &str) -> Bed {
    let bed = Bed::table(json!({}), config);
    let bench = crate::support::table::WHOLE.replace(
        "    extra = {}\n",
        "    extra = {}\n    reward = min(reward, float(open('rubric.md').read().split()[0]))\n",
    );
    bed.write("bench.py", &bench);
    bed.write("rubric.md", "1.0 is the most anybody gets\n");
    bed.write("README.md", "For people.\n");
    bed.git(&["add", "-A"]);
    bed.git(&["commit", "-qm", "rubric"]);
    bed
}

#[test]
fn whatever_is_committed_belongs_to_the_protocol() {
    let bed = with_rubric("");
    bed.run(&["prepare"]).expect(0).says("val_score 0.5000");
    bed.ran();
    bed.write("rubric.md", "0.2 is the most anybody gets\n");
    bed.git(&["commit", "-qam", "a stricter rubric"]);
    bed.run(&["prepare", "--accept"]).expect(0).says("val_score 0.1000 (0/4 pass)");
    assert_eq!(bed.ran().len(), 10);
    // On a branch, too: the base commit's agent is measured under its own rubric.
    bed.git(&["checkout", "-qb", "topic"]);
    bed.agent(&["easy", "hard"]);
    bed.commit_agent();
    bed.run(&["gate", "--base", "main"]).expect(0).says("val_score 0.2000 (0/4 pass) >= best 0.1000");
}

#[test]
fn what_nobody_reads_is_not_there_to_be_read() {
    let bed = with_rubric("not_read: [README.md, 'notes/**/*.txt']");
    bed.write("notes/a/b.txt", "x");
    bed.git(&["add", "-A"]);
    bed.git(&["commit", "-qm", "notes"]);
    let unseen = "import os\nassert not os.path.exists('README.md') and not os.path.exists('notes')\n";
    bed.write("bench.py", &bed.read("bench.py").replacen("import os\n", unseen, 1));
    bed.git(&["commit", "-qam", "reads its directory"]);
    bed.run(&["prepare"]).expect(0);
    bed.ran();
    bed.write("README.md", "For other people.\n");
    bed.git(&["commit", "-qam", "readme"]);
    bed.run(&["gate"]).expect(1).says("README.md: ");
    bed.run(&["prepare", "--accept"]).expect(0).warns("README.md: ");
    assert!(bed.ran().is_empty(), "nothing that a score stands on has changed");
    // A benchmark that does read one fails with an error.
    let config = bed.read("experiment_config.yaml").replace("README.md,", "README.md, rubric.md,");
    bed.write("experiment_config.yaml", &config);
    bed.run(&["prepare", "--accept"]).expect(3);
}

#[test]
fn an_experiment_of_an_earlier_protocol_is_judged_by_nobody_until_it_is_measured_anew() {
    let bed = Bed::prepared(json!({}), "");
    let old: Vec<String> = bed.ledger_lines().iter().map(|line| line.replace("\"protocol_version\":2,", "")).collect();
    assert_ne!(old, bed.ledger_lines());
    // The prepared event is the last line, so the chain holds.
    bed.write_ledger(&old);
    std::fs::remove_file(bed.state().join("checkpoint.json")).unwrap();
    bed.ran();
    bed.agent(&["easy", "hard"]);
    bed.run(&["status"]).expect(0).says("next        tell the human: prepared by another version");
    for command in ["gate", "benchmark", "prepare"] {
        let done = bed.run(&[command]).expect(2).warns("error: this experiment was prepared by another version");
        done.warns("`autoharness prepare --accept`, which measures the score to beat anew");
    }
    assert!(bed.ran().is_empty() && bed.events("verdict").is_empty());
    bed.run(&["prepare", "--accept"]).expect(0).warns("what a score stands on is counted more closely now");
    bed.run(&["gate"]).expect(0);
}

#[test]
fn what_a_configuration_says_counts_and_not_its_words() {
    let bed = Bed::prepared(json!({}), "threshold: 0.9\ntrials: 1");
    bed.ran();
    let config = bed.read("experiment_config.yaml");
    let turned: Vec<&str> = config.lines().rev().collect();
    bed.write("experiment_config.yaml", &format!("# other words\r\n{}  # the end\r\n", turned.join("\r\n")));
    bed.run(&["prepare"]).expect(0).warns("already prepared");
    bed.run(&["prepare", "--accept"]).expect(0).warns("nothing to accept");
    bed.run(&["benchmark"]).expect(0);
    assert!(!bed.run(&["doctor"]).stdout.contains("changed since prepare"));
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
}

#[test]
fn a_program_that_changed_out_of_sight_can_be_accepted() {
    let bed = Bed::table(json!({}), "");
    let write = |text: &str| {
        use std::os::unix::fs::PermissionsExt;
        bed.write(".venv/run", &format!("#!/bin/sh\n# {text}\nexec python3 \"$@\"\n"));
        std::fs::set_permissions(bed.root.join(".venv/run"), PermissionsExt::from_mode(0o755)).unwrap();
    };
    write("one");
    bed.write(".gitignore", &format!("{}/.venv/\n", bed.read(".gitignore")));
    bed.git(&["commit", "-qam", "venv"]);
    bed.write("experiment_config.yaml", &bed.read("experiment_config.yaml").replace("[python3,", "[.venv/run,"));
    bed.run(&["prepare"]).expect(0);
    bed.ran();
    write("two");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(2).warns("`autoharness prepare --accept`");
    bed.run(&["prepare", "--accept"]).expect(0).warns("the benchmark's program, its version or its packages changed");
    assert_eq!(bed.ran().len(), 10);
    bed.run(&["gate"]).expect(0);
}

#[test]
fn packages_beside_the_agent_belong_to_the_protocol() {
    let bed = Bed::table(json!({}), "");
    let venv = ["-m", "venv", "--without-pip", ".venv"];
    assert!(Command::new(crate::support::python()).args(venv).current_dir(&bed.root).status().unwrap().success());
    bed.write(".gitignore", &format!("{}/.venv/\n", bed.read(".gitignore")));
    bed.git(&["commit", "-qam", "venv"]);
    bed.write("experiment_config.yaml", &bed.read("experiment_config.yaml").replace("[python3,", "[.venv/bin/python,"));
    let lib = bed.root.join(".venv/lib").join(bed.list(".venv/lib").pop_first().unwrap()).join("site-packages");
    std::fs::create_dir(lib.join("things-1.0.dist-info")).unwrap();
    bed.run(&["prepare"]).expect(0);
    bed.ran();
    std::fs::rename(lib.join("things-1.0.dist-info"), lib.join("things-1.1.dist-info")).unwrap();
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(2).warns("`autoharness prepare --accept`");
    std::fs::rename(lib.join("things-1.1.dist-info"), lib.join("things-1.0.dist-info")).unwrap();
    bed.run(&["gate"]).expect(0);
}

#[test]
fn there_may_be_nothing_to_accept() {
    let bed = Bed::prepared(json!({}), "");
    bed.ran();
    bed.agent(&["hard"]);
    bed.run(&["prepare", "--accept"]).expect(0).warns("nothing to accept");
    assert!(bed.ran().is_empty() && bed.events("accepted").is_empty());
}

#[test]
fn prepare_names_the_base_in_force() {
    let bed = Bed::prepared(json!({}), "");
    let base = format!("base       {}\n", bed.git(&["rev-parse", "--short", "HEAD"]));
    bed.agent(&["hard"]);
    bed.commit_agent();
    bed.run(&["prepare"]).expect(0).says(&base);
    bed.run(&["prepare", "--accept"]).expect(0).warns("nothing to accept").says(&base);
    bed.write("bench.py", &format!("{}\n# changed\n", bed.read("bench.py")));
    bed.git(&["commit", "-qam", "change"]);
    let head = bed.git(&["rev-parse", "--short", "HEAD"]);
    bed.run(&["prepare", "--accept"]).expect(0).says(&format!("base       {head}\n"));
}

#[test]
fn changed_data_is_refused_until_accepted() {
    let bed = Bed::table(json!({}), "data: [workspace/table.csv]");
    bed.write("workspace/table.csv", "1\n");
    bed.run(&["prepare"]).expect(0);
    bed.write("workspace/table.csv", "2\n");
    bed.run(&["prepare"]).expect(2).warns("data `workspace/table.csv` is not what this experiment was prepared with");
    bed.ran();
    for command in ["benchmark", "calibrate"] {
        bed.run(&[command]).expect(2).warns("data `workspace/table.csv` is not what this experiment was prepared with");
    }
    assert!(bed.ran().is_empty(), "no gate would find these trials");
    bed.run(&["prepare", "--accept"]).expect(0).warns("data workspace/table.csv changed");
    assert_eq!(bed.ran().len(), 10, "other data, other protocol");
}

#[test]
fn a_baseline_without_evidence_records_nothing_and_is_continued() {
    let bed = Bed::table(json!({}), "infra_retries: 0");
    bed.mood(json!({"misbehave": {"easy-3": "infra_error", "hard-3": "infra_error"}}));
    bed.run(&["prepare"]).expect(3).warns("error: only 8 of 10 tasks gave evidence; nothing was decided");
    assert_eq!(bed.views(), vec![None; 4]);
    bed.run(&["status"]).expect(0).says("(not prepared)\nnext        autoharness prepare\n");
    bed.mood(json!(null));
    bed.ran();
    bed.run(&["prepare"]).expect(0).says("val_score 0.5000 (2/4 pass)");
    assert_eq!(bed.ran(), ["easy-3 0", "hard-3 0"]);
}

#[test]
fn enough_evidence_in_all_is_not_enough_when_the_hold_out_has_too_little() {
    let train: Vec<String> = (0..30).map(|number| format!("easy-{}", number + 100)).collect();
    let bed = Bed::table(json!({"tasks": {"train": train, "test": ["easy-1", "easy-2"]}}), "infra_retries: 0");
    bed.mood(json!({"misbehave": {"easy-2": "infra_error"}}));
    bed.run(&["prepare"]).expect(3).warns("only 1 of 2 tasks gave evidence");
    assert!(bed.events("prepared").is_empty());
}

#[test]
fn a_benchmark_that_splits_only_some_tasks_is_refused() {
    let bed = Bed::table(json!({"tasks": {"train": ["easy-1"], "all": ["easy-2"]}}), "");
    bed.run(&["prepare"]).expect(2).warns("puts 1 tasks into a split but not `easy-2`");
    let bed = Bed::table(json!({"tasks": {"train": ["easy-1"]}}), "");
    bed.run(&["prepare"]).expect(2).warns("lists no test task, so nothing can be gated");
    let bed = Bed::table(json!({"tasks": {"train": ["easy-1"]}}), "gate_split: train");
    bed.run(&["prepare"]).expect(0).says("split      1 train, 0 test");
}

#[test]
fn a_split_with_nothing_to_gate_on_is_refused_for_good() {
    let refused = |bed: &Bed, arguments: &[&str], why: &str, hint: &str| {
        let error = bed.run(&[arguments, &["--format", "json"]].concat()).expect(2).json().pop().unwrap();
        assert_eq!((&error["code"], &error["message"]), (&json!("split_invalid"), &json!(why)));
        assert_eq!(error["hints"], json!([hint]));
    };
    let more = "give the benchmark more tasks, or set `gate_split: test`.";
    // One task is a hold-out task, whatever the baseline says: nothing is run to find that out.
    let bed = Bed::table(json!({"tasks": {"all": ["easy-1"]}}), "gate_split: train");
    refused(&bed, &["prepare"], "the split drawn from 1 task has no train task, so nothing can be gated", more);
    assert!(bed.ran().is_empty());
    // Of two that end differently, each is alone among its like.
    let bed = Bed::table(json!({"tasks": {"all": ["easy-1", "hard-1"]}}), "gate_split: train");
    for _ in 0..2 {
        refused(&bed, &["prepare"], "the split drawn from 2 tasks has no train task, so nothing can be gated", more);
    }
    assert_eq!(bed.ran().len(), 2);
    assert!(bed.events("prepared").is_empty());
    // A split that was drawn for the other gate split stays as it is.
    let bed = Bed::prepared(json!({"tasks": {"all": ["easy-1"]}}), "");
    bed.write("experiment_config.yaml", &format!("{}gate_split: train\n", bed.read("experiment_config.yaml")));
    refused(
        &bed,
        &["prepare", "--accept"],
        "the split drawn from 1 task has no train task, so nothing can be gated",
        more,
    );
    // The benchmark's own.
    let bed = Bed::table(json!({"tasks": {"train": [], "test": ["easy-1"]}}), "gate_split: train");
    let why = "the command benchmark lists no train task, so nothing can be gated";
    refused(&bed, &["prepare"], why, "list train tasks with split \"train\", or set `gate_split: test`.");
    let bed = Bed::table(json!({"tasks": {"train": ["easy-1"]}}), "");
    let why = "the command benchmark lists no test task, so nothing can be gated";
    let hint = "list hold-out tasks with split \"test\", or set `gate_split: train` (by the rule `best` alone) knowing that \
                nothing is held out.";
    refused(&bed, &["prepare"], why, hint);
}

// ---- a drawn split

const DRAWN: &str = r"
import json, random, sys
passed, failed = json.loads(sys.argv[1])
random.seed(42)
passed, failed = sorted(passed), sorted(failed)
random.shuffle(passed)
random.shuffle(failed)
a, b = int(0.7 * len(passed)), int(0.7 * len(failed))
print(json.dumps({'train': sorted(passed[:a] + failed[:b]), 'test': sorted(passed[a:] + failed[b:])}))
";

#[test]
fn a_drawn_split_is_cpythons_and_only_its_train_traces_are_published() {
    let passed: Vec<String> = (0..11).map(|number| format!("easy-{number}")).collect();
    let failed: Vec<String> = (0..13).map(|number| format!("hard-{number}")).collect();
    let all: Vec<&String> = failed.iter().chain(&passed).collect();
    let bed = Bed::prepared(json!({"tasks": {"all": all}}), "");
    let output = Command::new(crate::support::python())
        .args(["-c", DRAWN, &json!([passed, failed]).to_string()])
        .output()
        .unwrap();
    assert_eq!(split(&bed), serde_json::from_slice::<Value>(&output.stdout).unwrap());
    let names = |part: &str| {
        split(&bed)[part].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(bed.list("workspace/traces/latest"), names("train").into_iter().collect());
    assert_eq!(bed.list("workspace/traces/baseline"), names("train").into_iter().collect());
    let secrets: Vec<String> = names("test").iter().map(|task| format!("SECRET-OF-{task}\"")).collect();
    assert_eq!(
        bed.files_with(&secrets.iter().map(String::as_str).collect::<Vec<_>>()),
        Vec::<std::path::PathBuf>::new()
    );
    assert!(!bed.state().join("baseline-traces").exists());
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_drawn_split_stays_when_a_change_is_accepted() {
    let bed = Bed::prepared(
        json!({"tasks": {"all": ["easy-1", "easy-2", "easy-3", "easy-4", "hard-1", "hard-2", "hard-3"]}}),
        "",
    );
    let before = split(&bed);
    bed.accept(&["easy", "hard"]);
    bed.write("bench.py", &format!("# other\n{}", bed.read("bench.py")));
    bed.git(&["commit", "-qam", "bench"]);
    bed.run(&["prepare", "--accept"]).expect(0);
    assert_eq!(split(&bed), before);
    bed.run(&["verify"]).expect(0);
}

// ---- a workspace of the Python original

const ROWS: &str = "iteration\tval_score\tcommit\tevals_passed\tevals_total\ttimestamp\n\
    0\t0.2500\tbaseline\t0\t0\t2025-11-02T09:00:00+00:00\n\
    1\t0.7500\tabc1234\t3\t4\t2025-11-02T10:00:00.123456+00:00\n";

/// Not prepared, with files as the Python original writes them.
fn original() -> Bed {
    let bed = Bed::table(json!({}), "");
    bed.write("workspace/results.tsv", ROWS);
    bed.write(
        "workspace/suite.json",
        r#"{"tasks": ["easy-1", "gone-1", "hard-3"], "threshold": 0.6, "last_results": {"easy-1": 1.0}}"#,
    );
    bed.write(
        "workspace/train_results.json",
        r#"{"split": "train", "timestamp": "2025-11-02T10:00:00+00:00", "results": {"easy-1": 1.0}}"#,
    );
    bed.write("workspace/learnings.md", "# Learnings\n\nDates are hard.\n");
    bed
}

#[test]
fn a_workspace_of_the_python_original_is_adopted() {
    let bed = original();
    let done = bed.run(&["prepare"]).expect(0).warns("adopted 2 rows of results.tsv and a suite of 1 tasks");
    let done = done.warns("left out of the suite, because they are no tasks here: gone-1\n");
    let done = done.warns("left out of the suite, because they are held out here: 1 tasks\n");
    assert!(!done.stderr.contains("hard-3"), "{}", done.stderr);
    done.warns("warning: adopted scores could not be verified").warns("workspace/learnings.md already exists");
    let rows = bed.read("workspace/results.tsv");
    assert_eq!(rows, ROWS);
    let suite = json!({"tasks": ["easy-1"], "threshold": 0.8, "last_results": {"easy-1": 1.0}});
    assert_eq!(bed.read_json("workspace/suite.json"), suite);
    assert_eq!(bed.read("workspace/learnings.md"), "# Learnings\n\nDates are hard.\n");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn adopted_history_goes_on_and_its_suite_is_enforced() {
    let bed = original();
    bed.run(&["prepare"]).expect(0);
    bed.agent(&["hard"]);
    bed.run(&["gate"]).expect(1).says("regression_suite  failed    0/1 tasks pass").says(">= best 0.5000 (prepare)");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.commit_agent();
    bed.run(&["record"]).expect(0).says("iteration=2 ");
    assert!(bed.read("workspace/results.tsv").starts_with(ROWS));
}

#[test]
fn an_adopted_file_that_is_broken_is_named_before_anything_is_run_and_kept() {
    for (content, named) in [
        (ROWS.replace("0.7500", "often"), "results.tsv:3: val_score is not between 0 and 1: `often`"),
        (ROWS.replace("\t3\t4\t", "\tthree\t4\t"), "results.tsv:3: evals_passed is not a whole number: `three`"),
        (ROWS.replace("val_score", "score"), "results.tsv:1: expected the header iteration val_score"),
        (ROWS.replace("\t3\t4\t2025-11-02T10:00:00.123456+00:00", ""), "results.tsv:3: "),
    ] {
        let bed = original();
        bed.write("workspace/results.tsv", &content);
        bed.run(&["prepare"]).expect(2).warns(named).warns("hint: fix the line, or move the file away");
        assert_eq!(bed.read("workspace/results.tsv"), content);
        assert!(bed.ran().is_empty(), "{named}");
    }
    let bed = original();
    bed.write("workspace/suite.json", "[1");
    bed.run(&["prepare"]).expect(2).warns("suite.json is not a suite").warns("hint: fix the file");
    assert_eq!((bed.read("workspace/suite.json"), bed.ran()), ("[1".to_string(), vec![]));
}

#[test]
fn a_committed_agent_that_is_broken_is_told_from_the_one_on_disk() {
    let bed = Bed::prepared(json!({}), "");
    bed.write("agent/agent.py", "SKILLS = {\n");
    bed.commit_agent();
    bed.agent(&["easy"]);
    bed.write("experiment_config.yaml", &format!("{}trials: 2\n", bed.read("experiment_config.yaml")));
    bed.run(&["prepare", "--accept"]).expect(2).warns("this is the agent as HEAD has it");
    bed.commit_agent();
    bed.run(&["prepare", "--accept"]).expect(0);
}

#[test]
fn a_benchmark_that_lists_other_tasks_is_something_to_accept() {
    let bed = Bed::table(json!({}), "");
    let lists = |train: &[&str], test: &[&str]| {
        let split = json!({"train": train, "test": test});
        fs_err::write(bed.outside().join("tasks.json"), split.to_string()).unwrap();
    };
    lists(&["easy-1", "hard-1"], &["easy-2", "hard-2", "odd-2"]);
    bed.run(&["prepare"]).expect(0);
    bed.run(&["prepare", "--accept"]).expect(0).warns("nothing to accept");
    lists(&["easy-1", "hard-1", "odd-1", "odd-3"], &["easy-2", "hard-2"]);
    let done = bed.run(&["prepare", "--accept"]).expect(0).warns("other tasks: 2 new, 1 gone, 0 in another split");
    assert!(!done.stderr.contains("odd-2"));
    bed.agent(&["easy", "hard", "odd"]);
    bed.run(&["gate"]).expect(0).says("evals_total=2");
    bed.git(&["checkout", "-q", "--", "agent/agent.py"]);
    lists(&["easy-1", "hard-1", "odd-1"], &["easy-2", "hard-2", "odd-3"]);
    bed.run(&["prepare", "--accept"]).expect(0).warns("other tasks: 0 new, 0 gone, 1 in another split");
    bed.run(&["verify"]).expect(0);
}

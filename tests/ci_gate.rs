//! `gate --base`: a branch judged in CI, from a fresh clone and with nobody watching.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Bed, done};
use serde_json::json;

const HELD_OUT: [&str; 4] = ["easy-3", "easy-4", "hard-3", "hard-4"];

/// A clone as CI makes it, with the branch `edit` checked out on which the agent has these skills. The configuration comes
/// from elsewhere, no state exists. Returns the origin (to keep it alive) with the clone as its root.
fn clone(skills: &[&str], options: serde_json::Value) -> Bed {
    let mut bed = Bed::table(options, "max_concurrency: 4");
    bed.git(&["checkout", "-qb", "edit"]);
    bed.agent(skills);
    bed.git(&["commit", "-qam", "edit", "--allow-empty"]);
    bed.git(&["checkout", "-q", "main"]);
    bed.write("README.md", "main goes on\n");
    bed.git(&["add", "README.md"]);
    bed.git(&["commit", "-qm", "main goes on"]);
    let (origin, copy) = (bed.root.clone(), bed.outside().canonicalize().unwrap().join("clone"));
    bed.git(&["clone", "-q", "--branch", "edit", origin.to_str().unwrap(), copy.to_str().unwrap()]);
    std::fs::rename(origin.join("experiment_config.yaml"), bed.outside().join("ci.yaml")).unwrap();
    bed.root = copy;
    bed
}

fn config(bed: &Bed) -> String {
    bed.outside().join("ci.yaml").to_str().unwrap().to_string()
}

/// `gate --base origin/main` with the configuration from elsewhere and these further arguments.
fn gate(bed: &Bed, more: &[&str]) -> crate::support::Done {
    let config = config(bed);
    bed.run(&[&["--config", config.as_str(), "gate", "--base", "origin/main"], more].concat())
}

/// Parses JUnit XML with an independent reader: `tests failures errors skipped name:kind…`.
fn junit(path: &Path) -> String {
    const READ: &str = r"
import sys, xml.etree.ElementTree as tree
suite = tree.parse(sys.argv[1]).getroot().find('testsuite')
cases = [case.get('name') + ':' + case[0].tag for case in suite.iter('testcase')]
print(*(suite.get(name) for name in ('tests', 'failures', 'errors', 'skipped')), *cases)
";
    let output = Command::new(crate::support::python()).args(["-c", READ]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

#[test]
fn a_branch_is_compared_with_its_base_measured_first() {
    let bed = clone(&["easy", "hard"], json!({}));
    let base = bed.git(&["rev-parse", "--short", "HEAD~"]);
    let held = format!("hold_out          passed    val_score 1.0000 (4/4 pass) >= best 0.5000 (base {base})\n");
    let done = gate(&bed, &[]).expect(0).says(&held).warns("hint: this branch may be merged.");
    done.says("gate: passed val_score=1.0000 evals_passed=4 evals_total=4\n");
    assert_eq!(bed.ran().len(), 8, "the hold-out twice: base, then branch");
    assert!(!bed.root.join("workspace/results.tsv").exists());
    bed.run(&["verify"]).expect(0).says("verdicts=1 records=0");
}

#[test]
fn a_branch_with_nothing_to_gate_on_is_not_tried_again() {
    let bed = clone(&["easy", "hard"], json!({"tasks": {"all": ["easy-1"]}}));
    let config = std::fs::read_to_string(config(&bed)).unwrap() + "gate_split: train\n";
    std::fs::write(bed.outside().join("ci.yaml"), config).unwrap();
    gate(&bed, &[]).expect(2).warns("error: the split drawn from 1 task has no train task, so nothing can be gated");
}

#[test]
fn a_branch_that_is_worse_fails() {
    let bed = clone(&[], json!({}));
    gate(&bed, &[]).expect(1).says("hold_out          failed    val_score 0.0000 (0/4 pass) < best 0.5000 (base ");
}

#[test]
fn an_unchanged_agent_passes_with_one_measurement() {
    let bed = clone(&["easy"], json!({}));
    gate(&bed, &[]).expect(0).says("val_score 0.5000 (2/4 pass) >= best 0.5000");
    assert_eq!(bed.ran().len(), 4);
}

#[test]
fn a_second_run_pays_for_nothing() {
    let bed = clone(&["easy", "hard"], json!({}));
    gate(&bed, &[]).expect(0);
    bed.ran();
    gate(&bed, &[]).expect(0);
    assert_eq!(bed.ran().len(), 0);
}

#[test]
fn a_restored_state_directory_saves_the_base_measurement() {
    let bed = clone(&["easy", "hard"], json!({}));
    let state = bed.outside().join("cache");
    let run = |arguments: &[&str]| done(bed.command(arguments).env("AUTOHARNESS_STATE_DIR", &state).output().unwrap());
    let config = config(&bed);
    run(&["--config", &config, "gate", "--base", "origin/main"]).expect(0);
    assert!(state.join("ledger.jsonl").exists() && !bed.state().exists());
    bed.ran();
    bed.agent(&["easy", "hard", "odd"]);
    bed.commit_agent();
    run(&["--config", &config, "gate", "--base", "origin/main"]).expect(0);
    assert_eq!(bed.ran().len(), 4, "only the branch is measured");
}

#[test]
fn a_state_directory_inside_the_experiment_is_refused() {
    let bed = clone(&["easy"], json!({}));
    let state = bed.root.join("state");
    let mut command = bed.command(&["--config", &config(&bed), "gate", "--base", "origin/main"]);
    done(command.env("AUTOHARNESS_STATE_DIR", state).output().unwrap()).expect(2).warns("lies inside the experiment");
}

#[test]
fn a_branch_may_change_only_the_agent_since_the_merge_base() {
    let bed = clone(&["easy", "hard"], json!({}));
    bed.write("bench.py", &format!("# easier\n{}", bed.read("bench.py")));
    bed.git(&["commit", "-qam", "bench"]);
    let junit_file = bed.outside().join("gate.xml");
    let done = gate(&bed, &["--junit", junit_file.to_str().unwrap()]).expect(1);
    done.says("file_guard        failed    bench.py: modified\n");
    assert_eq!(junit(&junit_file), "1 1 0 0 file_guard:failure");
    assert_eq!(bed.ran().len(), 0);
}

#[test]
fn missing_evidence_of_the_base_decides_nothing() {
    let bed = clone(&["easy", "hard"], json!({}));
    bed.mood(json!({"misbehave": {"hard-3": "infra_error"}}));
    gate(&bed, &[]).expect(3).warns("error: only 3 of 4 tasks gave evidence").warns("do not revert");
    bed.mood(json!(null));
    gate(&bed, &[]).expect(0);
}

#[test]
fn junit_and_summary_tell_the_verdict_and_name_no_hold_out_task() {
    let bed = clone(&["easy", "hard"], json!({}));
    let (xml, markdown) = (bed.outside().join("gate.xml"), bed.outside().join("gate.md"));
    std::fs::write(&markdown, "# Before\n").unwrap();
    gate(&bed, &["--junit", xml.to_str().unwrap(), "--summary", markdown.to_str().unwrap()]).expect(0);
    let steps = "4 0 0 2 file_guard:system-out regression_suite:skipped hold_out:system-out promotion:skipped";
    assert_eq!(junit(&xml), steps);
    let summary = std::fs::read_to_string(&markdown).unwrap();
    assert!(
        summary
            .starts_with("# Before\n## autoharness gate: passed\n\nval_score **1.0000** (4/4 pass), to reach 0.5000"),
        "{summary}"
    );
    assert!(summary.contains("\n| hold_out | passed | "), "{summary}");
    let text = summary + &std::fs::read_to_string(&xml).unwrap();
    assert!(!HELD_OUT.iter().any(|task| text.contains(task)), "{text}");
    assert_eq!(bed.files_with(&HELD_OUT), Vec::<PathBuf>::new());
}

/// The properties of a JUnit file, by an independent reader.
fn properties(path: &Path) -> serde_json::Value {
    const READ: &str = r"
import json, sys, xml.etree.ElementTree as tree
print(json.dumps({one.get('name'): one.get('value') for one in tree.parse(sys.argv[1]).getroot().iter('property')}))
";
    let output = Command::new(crate::support::python()).args(["-c", READ]).arg(path).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_reports_tell_interval_cost_and_the_flips_of_train_alone() {
    let free = json!({"reward": 1.0, "cost_usd": 0.25, "tokens_in": 10});
    let bed = Bed::prepared(json!({"misbehave": {"easy-3": free, "easy-4": free}}), "");
    let (xml, markdown) = (bed.outside().join("gate.xml"), bed.outside().join("gate.md"));
    let gate = || {
        let reports = ["gate", "--junit", xml.to_str().unwrap(), "--summary", markdown.to_str().unwrap()];
        bed.run(&reports).expect(0);
        let text = std::fs::read_to_string(&markdown).unwrap();
        std::fs::remove_file(&markdown).unwrap();
        text
    };
    bed.agent(&["easy", "hard"]);
    bed.run(&["benchmark"]).expect(0);
    let summary = gate();
    assert!(summary.contains(", 95 % interval 0.51 to 1.00\n"), "{summary}");
    assert!(
        summary.contains("\ntrain: 2 fixed (`hard-1`, `hard-2`), 0 broken, of 6 compared with the recorded agent; "),
        "{summary}"
    );
    let cost = "4 trials, 20 tokens (reported by 2 of them), $0.50 (reported by 2 of them)";
    assert!(summary.contains(&format!("\ncost of this gate: {cost}\n")), "{summary}");
    let told = properties(&xml);
    assert_eq!(
        (&told["val_score"], &told["interval_95"], &told["cost"]),
        (&json!("1.0000"), &json!("0.5101 to 1.0000"), &json!(cost))
    );
    assert!(told["train_flips"].as_str().unwrap().starts_with("2 fixed (hard-1, hard-2), 0 broken, of 6 "), "{told}");
    assert!(!HELD_OUT.iter().any(|task| (summary.clone() + &std::fs::read_to_string(&xml).unwrap()).contains(task)));
    // What the ledger has costs nothing, and is not said to have cost nothing in dollars.
    assert!(gate().contains("\ncost of this gate: no trials were run\n"));
}

#[test]
fn what_a_benchmark_does_not_report_is_not_said_to_be_nothing() {
    let bed = clone(&["easy", "hard"], json!({}));
    let (xml, markdown) = (bed.outside().join("gate.xml"), bed.outside().join("gate.md"));
    gate(&bed, &["--junit", xml.to_str().unwrap(), "--summary", markdown.to_str().unwrap()]).expect(0);
    assert_eq!(properties(&xml)["cost"], "8 trials, tokens not reported, dollars not reported");
    assert!(std::fs::read_to_string(&markdown).unwrap().contains("tokens not reported, dollars not reported"));
}

#[test]
fn an_undecided_gate_is_an_error_in_junit() {
    let bed = clone(&["easy", "hard"], json!({}));
    gate(&bed, &[]).expect(0);
    bed.agent(&["easy", "odd"]);
    bed.commit_agent();
    bed.mood(json!({"misbehave": {"hard-3": "infra_error"}}));
    let xml = bed.outside().join("gate.xml");
    gate(&bed, &["--junit", xml.to_str().unwrap()]).expect(3);
    assert_eq!(junit(&xml), "3 0 1 1 file_guard:system-out regression_suite:skipped hold_out:error");
}

#[test]
fn github_gets_its_summary_by_itself() {
    let bed = clone(&["easy", "hard"], json!({}));
    let markdown: PathBuf = bed.outside().join("summary.md");
    let run = |value: &Path| {
        let mut command = bed.command(&["--config", &config(&bed), "gate", "--base", "origin/main"]);
        done(command.env("GITHUB_STEP_SUMMARY", value).output().unwrap())
    };
    run(&markdown).expect(0);
    assert!(std::fs::read_to_string(&markdown).unwrap().starts_with("## autoharness gate: passed\n"));
    run(Path::new("")).expect(0);
}

#[test]
fn a_split_is_drawn_from_the_base_where_the_benchmark_brings_none() {
    let all: Vec<String> = (0..8).flat_map(|number| [format!("easy-{number}"), format!("hard-{number}")]).collect();
    let bed = clone(&["easy", "hard"], json!({"tasks": {"all": all}}));
    let done = gate(&bed, &[]).expect(0).warns("no split yet: measuring the base commit's agent on every task");
    done.says("val_score 1.0000 (6/6 pass) >= best 0.5000");
    assert_eq!(bed.ran().len(), 16 + 6);
    assert!(!bed.root.join("workspace/traces").exists(), "no trace of a task that may be held out");
    gate(&bed, &[]).expect(0);
    assert_eq!(bed.ran().len(), 0);
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_shallow_clone_without_a_merge_base_says_what_to_do() {
    let mut bed = clone(&["easy", "hard"], json!({}));
    let shallow = bed.outside().canonicalize().unwrap().join("shallow");
    let origin = format!("file://{}", bed.outside().canonicalize().unwrap().join("experiment").display());
    let arguments = ["clone", "-q", "--depth", "1", "--no-single-branch", "--branch", "edit", &origin];
    bed.git(&[&arguments[..], &[shallow.to_str().unwrap()]].concat());
    bed.root = shallow;
    gate(&bed, &[]).expect(2).warns("have no common ancestor").warns("fetch-depth: 0");
    assert_eq!(bed.ran().len(), 0);
}

#[test]
fn an_unknown_base_is_a_usage_error() {
    let bed = clone(&["easy"], json!({}));
    bed.run(&["--config", &config(&bed), "gate", "--base", "origin/trunk"]).expect(2).warns("origin/trunk");
}

#[test]
fn a_branch_gate_is_no_receipt_and_leaves_the_history() {
    let bed = Bed::prepared(json!({}), "");
    bed.git(&["checkout", "-qb", "edit"]);
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate", "--base", "main"])
        .expect(2)
        .warns("error: the editable files are not committed as they lie here");
    bed.commit_agent();
    let before = bed.views();
    bed.run(&["gate", "--base", "main"]).expect(0);
    assert_eq!(bed.views(), before);
    bed.run(&["record"]).expect(1).warns("the gate has not passed anything yet");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_branch_does_not_choose_how_it_is_judged() {
    let bed = clone(&["easy", "hard"], json!({}));
    let rules = std::fs::read_to_string(config(&bed)).unwrap();
    bed.write("experiment_config.yaml", &format!("{rules}threshold: 0\n"));
    bed.git(&["add", "-f", "experiment_config.yaml"]);
    bed.git(&["commit", "-qm", "my own rules"]);
    let done = bed.run(&["gate", "--base", "origin/main"]).expect(1);
    done.says("experiment_config.yaml is not the base commit's: a branch is judged by the rules of its base");
    assert!(bed.ran().is_empty());
}

#[test]
fn reports_inside_the_experiment_are_nobodys_edit() {
    let bed = clone(&["easy", "hard"], json!({}));
    gate(&bed, &["--junit", "gate.xml", "--summary", "gate.md"]).expect(0);
    gate(&bed, &["--junit", "gate.xml", "--summary", "gate.md"]).expect(0);
    bed.write("other.xml", "x");
    gate(&bed, &["--junit", "gate.xml", "--summary", "gate.md"]).expect(1).says("other.xml: ");
}

/// A JUnit file that tells of one error, and its message.
fn broken_off(path: &Path) -> String {
    assert_eq!(junit(path), "1 0 1 0 gate:error");
    let text = std::fs::read_to_string(path).unwrap();
    text.split("message=\"").nth(1).unwrap().split('"').next().unwrap().to_string()
}

#[test]
fn a_gate_that_breaks_off_leaves_no_empty_and_no_stale_report() {
    let bed = Bed::table(json!({}), "");
    let (xml, markdown) = (bed.outside().join("gate.xml"), bed.outside().join("gate.md"));
    let reports = ["--junit", xml.to_str().unwrap(), "--summary", markdown.to_str().unwrap()];
    let gate = |code: i32| bed.run(&[&["gate"][..], &reports].concat()).expect(code);
    gate(2);
    assert!(broken_off(&xml).contains("this experiment is not prepared"));
    let text = std::fs::read_to_string(&markdown).unwrap();
    assert!(text.starts_with("## autoharness gate: no verdict\n\nthis experiment is not prepared"), "{text}");
    bed.run(&["prepare"]).expect(0);
    gate(0);
    assert!(junit(&xml).starts_with("4 0 0 "));
    let config = bed.read("experiment_config.yaml");
    bed.write("experiment_config.yaml", &format!("{config}typo: 1\n"));
    gate(2);
    assert!(broken_off(&xml).contains("typo"));
    std::fs::rename(bed.root.join(".git"), bed.outside().join("git")).unwrap();
    std::fs::write(&xml, "stale").unwrap();
    gate(2);
    assert!(broken_off(&xml).contains("not in a git repository"));
    std::fs::rename(bed.outside().join("git"), bed.root.join(".git")).unwrap();
    bed.write("experiment_config.yaml", &config);
    bed.agent(&["easy", "hard"]);
    bed.mood(json!({"die_after": 1}));
    let done = bed.run(&[&["gate", "--fresh"][..], &reports].concat());
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(junit(&xml).contains(":error"), "{}", junit(&xml));
}

#[test]
fn reports_go_through_links_and_into_pipes_and_devices() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let bed = clone(&["easy", "hard"], json!({}));
    let outside = |name: &str| bed.outside().join(name);
    std::fs::write(outside("real.xml"), "x".repeat(10_000)).unwrap();
    for (name, to) in [("link.xml", "real.xml"), ("link.md", "new.md"), ("null", "/dev/null")] {
        symlink(to, outside(name)).unwrap();
    }
    let both = |junit: &str, summary: &str| {
        let (xml, markdown) = (outside(junit), outside(summary));
        gate(&bed, &["--junit", xml.to_str().unwrap(), "--summary", markdown.to_str().unwrap()]).expect(0);
    };
    both("link.xml", "link.md");
    assert!(outside("link.xml").is_symlink() && outside("link.md").is_symlink());
    assert!(junit(&outside("real.xml")).starts_with("4 0 0 2 "));
    assert!(std::fs::read_to_string(outside("new.md")).unwrap().starts_with("## autoharness gate: passed\n"));
    both("null", "null");
    assert!(outside("null").is_symlink() && std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let done = gate(&bed, &["--junit", "/dev/stderr", "--summary", "/dev/stdout"]);
    done.expect(0).warns("<testsuites>").says("## autoharness gate: passed");
    // A pipe gets one report and is not waited for.
    let pipe = outside("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    gate(&bed, &["--junit", pipe.to_str().unwrap()]).expect(0).warns("was not written");
    let reader = Command::new("cat").arg(&pipe).stdout(std::process::Stdio::piped()).spawn().unwrap();
    // Opening it for writing waits for the reader.
    let writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    gate(&bed, &["--junit", pipe.to_str().unwrap()]).expect(0);
    drop(writer);
    std::fs::write(outside("piped.xml"), reader.wait_with_output().unwrap().stdout).unwrap();
    assert!(junit(&outside("piped.xml")).starts_with("4 0 0 2 "));
    assert!(std::fs::metadata(&pipe).unwrap().file_type().is_fifo());
}

#[test]
fn a_report_takes_the_place_of_no_file_of_the_experiment() {
    let bed = clone(&["easy", "hard"], json!({}));
    std::os::unix::fs::symlink("agent/agent.py", bed.root.join("gate.xml")).unwrap();
    for path in ["agent/agent.py", "./agent/../bench.py", "gate.xml"] {
        let done = gate(&bed, &["--junit", path]).expect(2);
        done.warns("would replace a file of the experiment");
    }
    std::fs::remove_file(bed.root.join("gate.xml")).unwrap();
    assert_eq!(bed.git(&["status", "--porcelain"]), "");
}

#[test]
fn a_report_of_an_earlier_gate_is_nobodys_edit_either() {
    let bed = clone(&["easy", "hard"], json!({}));
    gate(&bed, &["--junit", "gate.xml"]).expect(0);
    gate(&bed, &[]).expect(0);
    let done = gate(&bed, &["--junit", "./agent/../gate2.xml"]).expect(0);
    assert!(!done.stderr.contains("gate.xml"), "{}", done.stderr);
    bed.write("gate.xml", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<other/>");
    gate(&bed, &[]).expect(1).says("gate.xml: new");
}

#[test]
fn committed_files_count_whatever_lies_on_the_disk() {
    let bed = clone(&["easy", "hard"], json!({}));
    bed.write("bench.py", "print('{}')\n");
    bed.git(&["commit", "-qam", "bench"]);
    bed.git(&["checkout", "-q", "HEAD~", "--", "bench.py"]);
    let done = gate(&bed, &[]).expect(1).says("bench.py: modified, in the branch's commits\n");
    let base = bed.git(&["merge-base", "HEAD", "origin/main"]);
    done.warns("this branch must not be merged into origin/main: undo the changes named above in a new commit")
        .warns(&format!("`git checkout {} -- bench.py && git commit -m", &base[..7]));
    assert!(bed.ran().is_empty());
}

#[test]
fn a_branch_that_threw_away_what_main_has_is_refused_with_the_way_back() {
    let bed = clone(&["easy", "hard"], json!({}));
    bed.git(&["merge", "-q", "-s", "ours", "-m", "ours", "origin/main"]);
    let main = bed.git(&["rev-parse", "origin/main"]);
    let done = gate(&bed, &[]).expect(1).says("README.md: deleted\n");
    done.warns(&format!("`git checkout {} -- README.md && git commit -m", &main[..7]));
    bed.git(&["checkout", &main, "--", "README.md"]);
    bed.git(&["commit", "-qm", "back"]);
    gate(&bed, &[]).expect(0);
}

#[test]
fn files_that_main_threw_away_judge_no_branch() {
    let bed = clone(&["easy"], json!({}));
    let easy = bed.read("bench.py");
    bed.write("bench.py", &format!("# easier\n{easy}"));
    bed.git(&["commit", "-qam", "bench"]);
    // Main merges the branch without taking anything of it.
    bed.git(&["checkout", "-q", "main"]);
    bed.git(&["merge", "-q", "-s", "ours", "-m", "ours", "edit"]);
    bed.git(&["push", "-q", "origin", "main:other"]);
    bed.git(&["fetch", "-q"]);
    bed.git(&["checkout", "-q", "edit"]);
    bed.agent(&["easy", "hard"]);
    bed.commit_agent();
    let gate = || bed.run(&["--config", &config(&bed), "gate", "--base", "origin/other"]);
    let done = gate().expect(1).says("bench.py: origin/other merged this branch without it");
    done.warns("`git merge origin/other`");
    assert!(bed.ran().is_empty());
    bed.git(&["merge", "-q", "-m", "main", "origin/other"]);
    gate().expect(0);
    assert_eq!(bed.read("bench.py"), easy);
}

#[test]
fn nobody_is_told_to_revert_in_ci() {
    let bed = clone(&[], json!({}));
    let done = gate(&bed, &[]).expect(1).warns("this branch must not be merged into origin/main as it is");
    assert!(!done.stderr.contains("git checkout"), "{}", done.stderr);
}

//! The first minutes: wrong directories, unprepared experiments, edits that are none. Each message says what to do next.

use crate::support::Bed;
use serde_json::json;

#[test]
fn a_wrong_directory_is_named_as_such() {
    let bed = Bed::empty();
    bed.run(&["status"]).expect(2).warns("not in a git repository").warns("hint: `autoharness init DIR");
    bed.git(&["init", "-q"]);
    for command in ["status", "prepare", "gate", "record", "verify", "doctor", "benchmark"] {
        let done = bed.run(&[command]).expect(2);
        done.warns("there is no experiment here").warns("hint: go to the experiment, or name it with `-C DIR`");
    }
    assert!(!bed.state().exists(), "a wrong directory must stay as it was");
}

#[test]
fn a_directory_inside_an_experiment_points_to_it() {
    let bed = Bed::table(json!({}), "");
    let hint = format!("{} is one", bed.root.display());
    bed.run(&["-C", "agent", "status"]).expect(2).warns("there is no experiment here").warns(&hint);
}

/// As git finds its repository; the files that a command line names are those of where the user stands.
#[test]
fn an_experiment_is_found_from_the_directories_below_it() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    fs_err::create_dir_all(bed.root.join("workspace/notes/deep")).expect("the bed can be written");
    let from = |place: &str, arguments: &[&str]| {
        let output = bed.command(arguments).current_dir(bed.root.join(place)).output();
        crate::support::done(output.expect("the binary starts"))
    };
    let named = format!("experiment: {} (files are named from there)", bed.root.display());
    let here = bed.run(&["status"]).expect(0);
    assert!(!here.stderr.contains("experiment:"), "{}", here.stderr);
    let below = from("workspace/notes/deep", &["status"]).expect(0).warns(&named);
    assert_eq!(below.stdout, here.stdout);
    from("agent", &["gate", "--junit", "../workspace/notes/gate.xml", "--summary", "../workspace/notes/gate.md"])
        .expect(0)
        .warns(&named);
    for report in ["gate.xml", "gate.md"] {
        assert!(bed.read(&format!("workspace/notes/{report}")).contains("regression_suite"), "{report}");
    }
    from("workspace/notes", &["status", "-C", "."]).expect(2).warns("there is no experiment here");
    // One inside another is the one that is meant, even when a fresh clone lacks its configuration, or when it was lost.
    bed.write("inner/below/x", "");
    fs_err::copy(bed.root.join("experiment_config.yaml"), bed.root.join("inner/experiment_config.yaml"))
        .expect("it was just written");
    let inner = format!("experiment: {}", bed.root.join("inner").display());
    from("inner/below", &["status"]).expect(0).warns(&inner).says("not prepared");
    fs_err::rename(
        bed.root.join("inner/experiment_config.yaml"),
        bed.root.join("inner/experiment_config.yaml.template"),
    )
    .expect("it was just written");
    from("inner/below", &["status"]).expect(2).warns(&inner).warns("hint: git does not carry it");
    fs_err::remove_file(bed.root.join("inner/experiment_config.yaml.template")).expect("it was just written");
    from("inner/below", &["status"]).expect(0).warns(&named);
    bed.write(".git/autoharness/at/inner/ledger.jsonl", "");
    let lost = from("inner", &["benchmark"]).expect(2).warns("inner/experiment_config.yaml does not exist");
    assert!(!lost.stderr.contains("experiment:"), "{}", lost.stderr);
}

#[test]
fn a_fresh_clone_says_that_its_configuration_is_missing() {
    let bed = Bed::empty();
    bed.run(&["init", "--benchmark", "demo"]).expect(0);
    fs_err::remove_file(bed.root.join("experiment_config.yaml")).expect("it was just written");
    let done = bed.run(&["prepare"]).expect(2);
    done.warns("cp experiment_config.yaml.template experiment_config.yaml");
}

#[test]
fn an_unprepared_experiment_says_so() {
    let bed = Bed::table(json!({}), "");
    bed.run(&["status"]).expect(0).says("not prepared").says("autoharness prepare");
    for command in ["benchmark", "gate", "record"] {
        bed.run(&[command]).expect(2).warns("this experiment is not prepared").warns("hint: run `autoharness prepare`");
    }
    // The refused commands have left an empty ledger behind, which proves nothing.
    bed.run(&["verify"]).expect(2).warns("there is no ledger here");
}

/// What a coding agent acts on, whatever the message says.
#[test]
fn an_error_has_a_code_that_can_be_explained() {
    let bed = Bed::table(json!({}), "");
    let error = &bed.run(&["gate", "--format", "json"]).expect(2).json()[0];
    assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("not_prepared")), "{error}");
    assert!(error["hints"][0].as_str().is_some_and(|hint| hint.contains("autoharness prepare")), "{error}");
    bed.run(&["gate", "-v"]).expect(2).warns("code: not_prepared; `autoharness explain not_prepared` says more.");
    assert!(!bed.run(&["gate"]).expect(2).stderr.contains("not_prepared"), "details are for -v");
    bed.run(&["explain", "not_prepared"]).expect(0).says("Run `autoharness prepare`.");
    for line in [&["benchmark", "--split", "tst", "--format", "json"][..], &["--format=json", "gates"]] {
        let done = bed.run(line).expect(2).warns("error: ");
        let error = &done.json()[0];
        assert_eq!((&error["code"], &error["exit_code"]), (&json!("usage"), &json!(2)), "{error}");
        assert!(error["hints"][0].as_str().is_some_and(|hint| hint.starts_with("a similar")), "{error}");
    }
    let unknown = bed.run(&["explain", "not_preparred", "--format", "json"]).expect(2);
    unknown.warns("no error has the code").warns("hint: did you mean `not_prepared`?");
    bed.write("agent/agent.py", "import nothing_like_it(");
    bed.git(&["add", "-A"]);
    bed.git(&["commit", "-qm", "broken"]);
    let error = &bed.run(&["prepare", "--format", "json"]).expect(2).json()[0];
    assert_eq!(error["code"], "preflight_failed", "{error}");
}

#[test]
fn an_edit_that_is_none_is_pointed_out() {
    let bed = Bed::prepared(json!({}), "");
    bed.run(&["gate"])
        .expect(0)
        .warns("there is no edit to judge")
        .warns("nothing to run, the ledger has these trials");
    bed.agent(&["easy", "hard"]);
    let done = bed.run(&["gate"]).expect(0).warns("git add agent/agent.py && git commit");
    assert!(!done.stderr.contains("no edit"), "{}", done.stderr);
}

/// A gate that stops before it measures says nothing about the edit: the same one comes again.
#[test]
fn only_measured_gates_count_towards_the_stop_rule() {
    let bed = Bed::prepared(json!({}), "");
    let without_improvement =
        || bed.run(&["status", "--format", "json"]).expect(0).json()[0]["gates_without_improvement"].clone();
    bed.write("stray.txt", "x");
    bed.run(&["gate"]).expect(1).warns("undo the changes named above");
    fs_err::remove_file(bed.root.join("stray.txt")).expect("it was just written");
    bed.write("agent/agent.py", "SKILLS = {\n");
    bed.run(&["gate"]).expect(1).warns("fix the agent file and run the gate again");
    assert_eq!(without_improvement(), json!(0));
    bed.agent(&[]);
    bed.run(&["gate"]).expect(1).warns("revert with `git checkout -- agent/agent.py`");
    assert_eq!(without_improvement(), json!(1));
}

#[test]
fn a_coding_agent_that_would_not_find_the_program_is_helped() {
    let bed = Bed::table(json!({}), "");
    let elsewhere = |words: &[&str]| {
        let mut command = bed.command(words);
        crate::support::done(
            command.env("PATH", std::env::var_os("PATH").expect("a test has one")).output().expect("it starts"),
        )
    };
    elsewhere(&["prepare"]).expect(0).warns("put it on the PATH: export PATH=");
    elsewhere(&["doctor"]).expect(0).says("not on the PATH, but PROGRAM.md calls it by its name");
}

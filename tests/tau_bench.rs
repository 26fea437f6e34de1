//! The tau-bench benchmark over a stand-in for tau2 (tests/support/tau2_standin) with a scripted model: the whole loop,
//! awkward ids, secrecy of the hold-out, provisioning without network.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::path::{Path, PathBuf};

use crate::support::running::{Running, nobody_left, processes, until};
use crate::support::tau::{
    ANSWERED, CLEVER, bed, copy, edit, of_an_install, prepared, program, python_with, run_in, sources, standin, tasks,
};
use crate::support::{Bed, Done};
use rustix::process::Signal;

#[test]
fn the_loop_from_baseline_to_record_keeps_the_hold_out_secret() {
    let bed = of_an_install(bed("telecom", ""));
    let temporary = bed.outside().join("tmp");
    let run = |words: &[&str]| run_in(&bed, &temporary, words);
    let mut terminal = String::new();
    let mut hear = |done: Done| -> Done {
        terminal.push_str(&done.stdout);
        terminal.push_str(&done.stderr);
        done
    };
    let done = hear(run(&["prepare"]).expect(0).says("split      40 train, 20 test\n"));
    done.says("baseline   val_score 0.7000 (14/20 pass); train 26/40 pass");
    // What all tasks share.
    assert!(bed.read("workspace/task_context/policy.md").contains("what the customer wants"));
    assert!(bed.read_json("workspace/task_context/tools.json")[0]["function"]["name"].is_string());
    let longest = tasks(&bed, "train").into_iter().max_by_key(String::len).unwrap();
    assert!(longest.len() == 215 && longest.contains(['[', '|', ' ']), "{longest}");

    // Evidence of train: the conversation and why it was graded as it was, without the answer.
    let place = format!("workspace/traces/latest/{longest}");
    let trace = bed.read_json(&format!("{place}/trace.json"));
    assert!(trace["messages"].as_array().unwrap().len() >= 4);
    let result = bed.read_json(&format!("{place}/result.json"));
    assert_eq!((&result["outcome"], &result["detail"]["termination_reason"]), (&"failed".into(), &"user_stop".into()));
    assert_eq!(result["detail"]["action_checks"][0]["match"], false);
    assert!(!result.to_string().contains("secret") && !trace.to_string().contains("secret"), "{result}");

    // Ids reach the program and come back as they are.
    let done = hear(run(&["benchmark", "--fresh", "--format", "json", "--task-ids", &longest]).expect(0));
    assert_eq!(done.json()[0]["task"], longest.as_str());
    let wrong = longest.replace("mms_issue", "mms_isue");
    hear(run(&["benchmark", "--task-ids", &wrong]).expect(2).warns("did you mean `[mms_issue]"));

    // A better agent passes and is recorded; nothing is paid for twice.
    edit(&bed, ANSWERED, &format!("{CLEVER}{ANSWERED}"));
    hear(run(&["benchmark"]).expect(0).says("train_score=1.0000 passed=40 evaluated=40"));
    hear(run(&["gate"]).expect(0).says("gate: passed val_score=1.0000 evals_passed=20 evals_total=20"));
    bed.commit_agent();
    hear(run(&["record"]).expect(0).says("recorded: iteration=1 val_score=1.0000"));
    let trials = bed.events("trial").len();
    hear(run(&["benchmark"]).expect(0));
    assert_eq!(bed.events("trial").len(), trials);

    // A crash and an exit are the agent's, and no way out.
    for bug in ["        raise KeyError('bug')\n", "        import os; os._exit(0)\n"] {
        edit(&bed, ANSWERED, &format!("{bug}{ANSWERED}"));
        hear(run(&["gate"]).expect(1).says("gate: failed val_score=0.0000"));
        assert_eq!(bed.read_json(&format!("{place}/result.json"))["outcome"], "agent_error");
        bed.git(&["checkout", "-q", "agent/agent.py"]);
    }
    hear(run(&["verify"]).expect(0).says("verify: ok"));

    // What the customers of the hold-out say is nowhere: the stand-in marks every conversation.
    let hidden: Vec<String> = (40..60).map(|number| format!("MARKER{number}X")).collect();
    let places = [&bed.root, &temporary].map(|place| walkdir::WalkDir::new(place).into_iter());
    for entry in places.into_iter().flatten().flatten().filter(|entry| entry.file_type().is_file()) {
        let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned();
        let found = hidden.iter().find(|marker| text.contains(*marker));
        assert!(found.is_none(), "{} has {found:?}", entry.path().display());
    }
    assert!(!hidden.iter().any(|marker| terminal.contains(marker)), "{terminal}");
    assert!(bed.read(&format!("{place}/trace.json")).contains("MARKER0X"), "the search must find what is there");
}

#[test]
fn a_domain_without_a_split_gets_one_and_gold_is_shown_on_demand() {
    let bed = of_an_install(bed("mock", "trace_gold: true\ntrials: 2"));
    bed.run(&["prepare"]).expect(0).says("split      4 train, 3 test\n");
    for task in tasks(&bed, "train") {
        let result = bed.read_json(&format!("workspace/traces/latest/{task}/result.json"));
        for check in result["detail"]["action_checks"].as_array().into_iter().flatten() {
            assert!(check["arguments"].is_object(), "{task}: {check}");
        }
    }
    let left: Vec<String> = tasks(&bed, "test");
    assert!(left.iter().all(|task| !bed.root.join("workspace/traces/latest").join(task).exists()));
}

#[test]
fn another_domain_is_run_for_reading_only() {
    let bed = prepared("mock");
    let before = (bed.views(), bed.ledger_lines(), bed.list("workspace/traces/latest"));
    let done = bed.run(&["benchmark", "--domain", "telecom", "--split", "test"]).expect(0);
    let done = done.says("benchmark: telecom test score=0.7000 passed=14 evaluated=20 expected=20\n");
    assert_eq!(done.stdout.lines().count(), 1, "of a hold-out only the sum is told");
    let done = bed.run(&["benchmark", "--domain", "telecom"]).expect(0).says("telecom train score=0.6500 passed=26");
    assert!(!done.stdout.contains("MARKER"));
    let task = done.stdout.lines().next().unwrap().split_once("0.00  ").unwrap().1.to_owned();
    bed.run(&["benchmark", "--domain", "telecom", "--task-ids", &task])
        .expect(0)
        .says("passed=0 evaluated=1 expected=1");
    bed.run(&["benchmark", "--domain", "telecom", "--task-ids", "easy"]).expect(2).warns("has no train task `easy`");
    bed.run(&["benchmark", "--domain", "hotel"]).expect(2).warns("tau-bench has no domain `hotel`");
    assert_eq!((bed.views(), bed.ledger_lines(), bed.list("workspace/traces/latest")), before);
    bed.run(&["benchmark", "--domain", "mock"]).expect(0).warns("nothing to run");
}

#[test]
fn data_that_changes_is_noticed() {
    let bed = prepared("mock");
    std::fs::write(bed.outside().join("tau2/data/tau2/domains/mock/db.json"), "{}").unwrap();
    bed.run(&["gate"]).expect(1).says("tau2/domains/mock is not what the experiment was prepared with");
    // So is another grader under the same name.
    std::fs::remove_file(bed.outside().join("tau2/data/tau2/domains/mock/db.json")).unwrap();
    let packages = bed.outside().join("other");
    copy(&sources().join("tau2_standin"), &packages);
    std::fs::write(packages.join("tau2/evaluator/extra.py"), "x = 1\n").unwrap();
    program(&bed.outside().join("tau2/python"), &python_with(&packages));
    bed.run(&["gate"]).expect(2).warns("is not the one this experiment was prepared with");
}

#[test]
fn a_signal_leaves_nobody() {
    let bed = prepared("telecom");
    edit(&bed, ANSWERED, &format!("        import time; time.sleep(3600)\n{ANSWERED}"));
    for (signal, code) in [(Signal::TERM, 143), (Signal::KILL, 137)] {
        let command = Running::start(bed.command(&["benchmark"]));
        // Eight trials of two processes each, and those above them.
        until("the trials run", || processes(&bed).len() >= 16);
        command.signal(signal);
        assert_eq!(command.end().code, code);
        nobody_left(&bed);
    }
}

#[test]
fn what_is_missing_is_said_before_anything_is_run() {
    let bed = of_an_install(bed("retail", ""));
    let config = bed.read("experiment_config.yaml");
    bed.run(&["prepare"]).expect(2).warns("has no data of the domain retail");

    // The project of the same name on PyPI.
    let packages = bed.outside().join("magnets");
    std::fs::create_dir_all(packages.join("tau2")).unwrap();
    std::fs::write(packages.join("tau2/__init__.py"), "").unwrap();
    program(&bed.outside().join("tau2/python"), &python_with(&packages));
    let done = bed.run(&["prepare"]).expect(2).warns("has another project of the same name");
    done.warns("pip install --force-reinstall 'git+https://github.com/sierra-research/tau2-bench'");
    program(&bed.outside().join("tau2/python"), &python_with(&bed.outside().join("empty")));
    bed.run(&["prepare"]).expect(2).warns("has no tau2 beside it");
    std::fs::remove_file(bed.outside().join("tau2/python")).unwrap();
    bed.run(&["doctor"]).expect(2).says("there is no program");

    // Keys by name, of all three models; the judge is asked in retail only.
    let models =
        config.replace("stub/x", "openai/a").replace("stub/user", "anthropic/b").replace("stub/judge", "groq/c");
    bed.write("experiment_config.yaml", &models);
    let done = bed.run(&["doctor"]).expect(2).says("agent model    lacks OPENAI_API_KEY");
    done.says("user model     lacks ANTHROPIC_API_KEY").says("judge model    lacks GROQ_API_KEY");
    bed.write("experiment_config.yaml", &models.replace("retail", "telecom"));
    assert!(!bed.run(&["doctor"]).expect(2).stdout.contains("judge model"));
    bed.write("experiment_config.yaml", "benchmark: tau-bench\n");
    bed.run(&["prepare"]).expect(2).warns("`agent_model` is not set");
    assert!(bed.events("trial").is_empty());
}

/// A repository with the stand-in's data and whatever else tau2's has, and its commit.
fn upstream(bed: &Bed) -> (PathBuf, String) {
    let origin = bed.outside().join("origin");
    copy(&sources().join("tau2_standin_data"), &origin.join("data"));
    for (name, text) in
        [("src/tau2/__init__.py", ""), ("pyproject.toml", "x"), ("README.md", "x"), ("web/big.html", "x")]
    {
        std::fs::create_dir_all(origin.join(name).parent().unwrap()).unwrap();
        std::fs::write(origin.join(name), text).unwrap();
    }
    let path = origin.to_str().unwrap();
    bed.git(&["init", "-q", path]);
    bed.git(&["-C", path, "config", "uploadpack.allowFilter", "true"]);
    bed.git(&["-C", path, "add", "-A"]);
    bed.git(&["-C", path, "commit", "-qm", "tau2"]);
    let commit = bed.git(&["-C", path, "rev-parse", "HEAD"]);
    (origin, commit)
}

/// A PATH with an installer that notes what it is asked and gives the stand-in. Asked for a version that is not on this
/// machine, which uv would download, it gives what there is under that name.
fn installer(bed: &Bed) -> std::ffi::OsString {
    let bin = bed.outside().join("bin");
    let here = bed.outside().display().to_string();
    program(
        &bin.join("uv"),
        &format!(
            r##"#!/bin/sh
for last; do :; done
case "$1" in
venv)
    mkdir -p "$last/bin"
    case "$4" in
    /*) sed "s#exec python3#exec $4#" '{here}/tau2/python' > "$last/bin/python" ;;
    *) sed "1a case \"\$*\" in *sys.version_info*) echo $4.0; echo \"\$0\"; exit ;; esac" '{here}/tau2/python' > "$last/bin/python" ;;
    esac
    chmod +x "$last/bin/python" ;;
pip) cat "$last" >> '{here}/asked'; ls '{here}/experiment/tau2_data' >> '{here}/asked' ;;
*) exit 1 ;;
esac
"##
        ),
    );
    let path = std::env::var_os("PATH").unwrap();
    std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path))).unwrap()
}

#[test]
fn prepare_fetches_code_and_data_of_one_commit() {
    let bed = bed("mock", "");
    let (origin, commit) = upstream(&bed);
    let config = bed.read("experiment_config.yaml");
    let configure = |repository: &Path| {
        let own = format!("tau2_repository: {}\ntau2_revision: {commit}\n", repository.display());
        bed.write("experiment_config.yaml", &format!("{config}{own}"));
    };
    let path = installer(&bed);
    let prepare = || crate::support::done(bed.command(&["prepare"]).env("PATH", &path).output().unwrap());

    configure(&bed.outside().join("nowhere"));
    prepare().expect(3).warns("`tau2_repository` names a mirror");
    let checkout = format!("tau2_data/{}", &commit[..12]);
    assert!(!bed.root.join(&checkout).exists() && bed.root.join(format!("{checkout}.partial")).exists());

    configure(&origin);
    let done = prepare().expect(0).warns("continuing a download of tau2 that was interrupted");
    done.says("split      4 train, 3 test\n");
    assert_eq!(bed.list("tau2_data"), [commit[..12].to_string()].into());
    assert!(bed.root.join(&checkout).join("data/tau2/domains/mock/tasks.json").is_file());
    assert!(!bed.root.join(&checkout).join("web").exists(), "what is not needed is not fetched");
    let asked = std::fs::read_to_string(bed.outside().join("asked")).unwrap();
    assert!(asked.contains(&format!("/{checkout}\n")) && asked.contains("\nlitellm=="), "{asked}");
    let data = bed.events("prepared").pop().unwrap()["data"].clone();
    assert!(data["tau2:data/tau2/domains/mock"].is_string(), "{data}");

    // The second time nothing is fetched or installed.
    std::fs::remove_dir_all(&origin).unwrap();
    std::fs::remove_file(bed.outside().join("asked")).unwrap();
    prepare().expect(0).warns("already prepared");
    assert!(!bed.outside().join("asked").exists());
    edit(&bed, ANSWERED, &format!("        # better\n{ANSWERED}"));
    bed.run(&["gate"]).expect(0);
    bed.git(&["status", "--porcelain"]);
}

#[test]
fn the_tau2_of_an_image_is_used_and_its_scores_compare_with_those_of_the_host() {
    let bed = prepared("mock");
    let trials = bed.events("trial").len();

    // The same code and data, elsewhere.
    let config = bed.read("experiment_config.yaml");
    let without: Vec<&str> = config.lines().filter(|line| !line.starts_with("tau2_")).collect();
    bed.write("experiment_config.yaml", &(without.join("\n") + "\n"));
    let image = bed.outside().join("image");
    copy(&sources().join("tau2_standin_data"), &image.join("data"));
    program(&image.join("venv/bin/python"), &python_with(&standin()));
    let revision = autoharness::internals::benchmarks::tau_bench::TauBenchSettings::default().tau2_revision;
    std::fs::write(image.join("revision"), format!("{revision}\n")).unwrap();
    let run = |words: &[&str]| {
        let mut command = bed.command(words);
        crate::support::done(command.env("AUTOHARNESS_TAU2_DIR", &image).output().unwrap())
    };
    run(&["doctor"]).says(&format!("({revision}) ({})", image.join("venv/bin/python").display()));
    run(&["prepare", "--accept"]).expect(0);
    run(&["benchmark"]).expect(0);
    assert_eq!(bed.events("trial").len(), trials, "the same conditions: nothing is measured again");
    assert!(!bed.root.join("tau2_data").exists(), "nothing is fetched");
    edit(&bed, ANSWERED, &format!("        # better\n{ANSWERED}"));
    run(&["gate"]).expect(0);

    // Its data is watched like any other.
    let database = image.join("data/tau2/domains/mock/db.json");
    let text = std::fs::read_to_string(&database);
    std::fs::write(&database, "{}").unwrap();
    run(&["gate"]).expect(1).says("data tau2:data/tau2/domains/mock is not what the experiment was prepared with");
    match text {
        Ok(text) => std::fs::write(&database, text).unwrap(),
        Err(_) => std::fs::remove_file(&database).unwrap(),
    }

    // Broken, of another commit, or named by the file that the coding agent can write.
    std::fs::remove_file(image.join("venv/bin/python")).unwrap();
    run(&["gate"]).expect(2).warns("build the container image again");
    run(&["doctor"]).expect(2).says("image does not work: there is no program");
    std::fs::write(image.join("revision"), "0123\n").unwrap();
    run(&["doctor"]).says(&format!("image holds tau2 0123, not {revision}"));
    bed.write(".env", &format!("AUTOHARNESS_TAU2_DIR={}\n", image.display()));
    assert!(!bed.run(&["doctor"]).stdout.contains("holds tau2"));
}

#[test]
fn an_editable_installation_brings_its_own_data() {
    let bed = bed("mock", "");
    let checkout = bed.outside().join("my tau2");
    copy(&sources().join("tau2_standin_data"), &checkout.join("data"));
    let python = bed.outside().join("venv/bin/python");
    program(&python, &python_with(&standin()));
    let config = bed.read("experiment_config.yaml");
    bed.write("experiment_config.yaml", &format!("{config}tau2_python: {}\n", python.display()));
    bed.run(&["prepare"]).expect(2).warns("set `tau2_data_dir:` in experiment_config.yaml, or TAU2_DATA_DIR");

    let notes = bed.outside().join("venv/lib/python3.12/site-packages/tau2-1.0.1.dist-info");
    std::fs::create_dir_all(&notes).unwrap();
    let url = format!("file://{}", checkout.display()).replace(' ', "%20");
    let note = |info: &str| {
        std::fs::write(notes.join("direct_url.json"), format!(r#"{{"url": "{url}", "dir_info": {info}}}"#)).unwrap();
    };
    // A copy was installed: that checkout may be at any commit by now.
    note("{}");
    bed.run(&["prepare"]).expect(2).warns("tau2 is no editable installation");
    note(r#"{"editable": true}"#);
    bed.run(&["prepare"]).expect(0).says("split      4 train, 3 test\n");
    let data = bed.events("prepared").pop().unwrap()["data"].clone();
    assert!(data["tau2:data/tau2/domains/mock"].is_string(), "{data}");
    // TAU2_DATA_DIR goes first, as for tau2 itself.
    let doctor = crate::support::done(bed.command(&["doctor"]).env("TAU2_DATA_DIR", "/nowhere").output().unwrap());
    doctor.expect(2).says("/nowhere has no data of the domain mock");
}

/// Where a download is killed, and what is lost besides.
const DOWNLOAD: [(&str, &str); 5] = [
    ("before fetch", ""),
    ("after fetch", ""),
    ("after checkout", ""),
    // In the middle of tidying up, or of a disk that did not write everything.
    ("after checkout", ".git/objects"),
    ("after checkout", "data"),
];

#[test]
fn a_download_that_was_killed_is_finished_by_the_next_prepare() {
    download_killed(&DOWNLOAD[1..2]);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn a_download_that_was_killed_anywhere_is_finished_by_the_next_prepare() {
    download_killed(&DOWNLOAD);
}

fn download_killed(steps: &[(&str, &str)]) {
    let bed = bed("mock", "");
    let (origin, commit) = upstream(&bed);
    let config = bed.read("experiment_config.yaml");
    let own = format!("tau2_repository: {}\ntau2_revision: {commit}\n", origin.display());
    bed.write("experiment_config.yaml", &format!("{config}{own}"));
    let path = installer(&bed);
    // A git that stops where it is told to, before or after its work, with its lock still there.
    let (git, here) = (which::which("git").unwrap(), bed.outside().display().to_string());
    program(
        &bed.outside().join("bin/git"),
        &format!(
            "#!/bin/sh\nhold() {{ if [ \"$(cat '{here}/hold' 2>/dev/null)\" = \"$1\" ]; then touch .git/index.lock .git/shallow.lock '{here}/held'; exec sleep 600; fi; }}\n\
             for word; do case \"$word\" in fetch|checkout) step=$word ;; esac; done\n\
             [ -z \"$step\" ] || hold \"before $step\"\n'{}' \"$@\"\nstatus=$?\n[ -z \"$step\" ] || hold \"after $step\"\nexit $status\n",
            git.display()
        ),
    );
    let (hold, held) = (bed.outside().join("hold"), bed.outside().join("held"));
    let prepare = || {
        let mut command = bed.command(&["prepare"]);
        command.env("PATH", &path);
        command
    };
    let checkout = bed.root.join("tau2_data").join(&commit[..12]);
    let partial = checkout.with_extension("partial");
    for &(step, lost) in steps {
        std::fs::write(&hold, step).unwrap();
        let command = Running::start(prepare());
        until(step, || held.exists());
        command.signal(Signal::KILL);
        assert_eq!(command.end().code, 137);
        nobody_left(&bed);
        assert!(!checkout.exists(), "{step}");
        let place = partial.join(lost);
        if !lost.is_empty() {
            if place.is_dir() { std::fs::remove_dir_all(place) } else { std::fs::remove_file(place) }.unwrap();
        }
        std::fs::remove_file(&held).unwrap();
        std::fs::remove_file(&hold).unwrap();
        let done = crate::support::done(prepare().output().unwrap());
        assert_eq!(done.code, 0, "{step} {lost}\n{}", done.stderr);
        assert_eq!(bed.list("tau2_data"), [commit[..12].to_string()].into(), "{step} {lost}");
        let names = walkdir::WalkDir::new(&checkout).into_iter().flatten().filter(|entry| entry.file_type().is_file());
        let names: std::collections::BTreeSet<_> =
            names.map(|entry| entry.path().strip_prefix(&checkout).unwrap().display().to_string()).collect();
        let expected = [
            "README.md",
            "data/tau2/domains/mock/tasks.json",
            "data/tau2/domains/telecom/tasks.json",
            "pyproject.toml",
            "src/tau2/__init__.py",
        ];
        assert_eq!(names, expected.map(str::to_owned).into(), "{step} {lost}");
        // Once more from nothing, but for the environment.
        std::fs::remove_dir_all(bed.root.join("tau2_data")).unwrap();
    }
}

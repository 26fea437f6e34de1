//! `init`: a whole experiment from nothing, and nothing of anybody's touched on the way.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::collections::BTreeSet;

use crate::support::Bed;
use serde_json::json;

/// What git does not carry.
const IGNORED: [&str; 2] = ["experiment_config.schema.json", "experiment_config.yaml"];

const SCAFFOLD: [&str; 12] = [
    ".claude/skills/improve-agent/SKILL.md",
    ".env.example",
    ".gitignore",
    "AGENTS.md",
    "agent/agent.py",
    "autoharness_bench.py",
    "bench.py",
    "experiment_config.schema.json",
    "experiment_config.yaml",
    "experiment_config.yaml.template",
    "program_templates/base.md",
    "program_templates/command.md",
];

#[test]
fn init_writes_and_commits_a_whole_experiment() {
    let bed = Bed::empty();
    let done = bed.run(&["init", "new/one", "--benchmark", "command"]).expect(0).warns("committed the scaffold");
    assert_eq!(done.stdout, format!("created {} (command)\n", bed.root.join("new/one").display()));
    done.warns("then: cd new/one && autoharness prepare");
    SCAFFOLD.iter().for_each(|file| assert!(bed.root.join("new/one").join(file).is_file(), "{file}"));
    let tracked: Vec<String> = bed.git(&["-C", "new/one", "ls-files"]).lines().map(str::to_string).collect();
    assert_eq!(tracked, SCAFFOLD.iter().filter(|file| !IGNORED.contains(file)).copied().collect::<Vec<_>>());
    assert_eq!(bed.git(&["-C", "new/one", "status", "--porcelain"]), "");
}

#[test]
fn an_initialised_experiment_can_be_prepared_and_gated_at_once() {
    let bed = Bed::initialised();
    bed.run(&["prepare"]).expect(0).says("split      4 train, 3 test\n");
    bed.run(&["gate"]).expect(0);
    bed.run(&["verify"]).expect(0);
}

#[test]
fn init_says_what_it_wrote_in_json() {
    let bed = Bed::empty();
    let lines = bed.run(&["init", "--benchmark", "command", "--format", "json"]).expect(0).json();
    let mut written: Vec<&str> =
        lines[0]["written"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    written.sort_unstable();
    assert_eq!((written, &lines[0]["benchmark"], lines.len()), (SCAFFOLD.to_vec(), &json!("command"), 1));
}

#[test]
fn init_refuses_a_directory_with_other_files() {
    let bed = Bed::empty();
    bed.write("thesis.tex", "x");
    let done = bed.run(&["init", "--benchmark", "demo"]).expect(2).warns("is not empty: it has thesis.tex");
    done.warns("hint: choose an empty or new directory");
    assert_eq!(bed.list("."), BTreeSet::from(["thesis.tex".to_string()]));
}

#[test]
fn init_completes_an_experiment_and_keeps_what_exists() {
    let bed = Bed::initialised();
    bed.write("agent/agent.py", "# mine\n");
    std::fs::remove_file(bed.root.join("bench.py")).unwrap();
    bed.run(&["init", "--benchmark", "command"]).expect(0).says("completed ").warns("agent/agent.py already exists");
    assert_eq!(bed.read("agent/agent.py"), "# mine\n");
    assert!(bed.root.join("bench.py").exists());
}

#[test]
fn an_unknown_benchmark_suggests_the_nearest() {
    let bed = Bed::empty();
    let done = bed
        .run(&["init", "x", "--benchmark", "tau-bnech"])
        .expect(2)
        .warns("error: invalid value 'tau-bnech' for '--benchmark <NAME>'");
    done.warns("a similar value exists: 'tau-bench'").warns("[possible values: demo, ");
    assert!(!bed.root.join("x").exists());
}

#[test]
fn init_inside_a_repository_commits_only_its_own_files() {
    let bed = Bed::empty();
    bed.git(&["init", "-q"]);
    bed.write("paper.txt", "1");
    bed.write("staged.txt", "1");
    bed.git(&["add", "paper.txt"]);
    bed.git(&["commit", "-qm", "paper"]);
    bed.git(&["add", "staged.txt"]);
    bed.run(&["init", "lab/one", "--benchmark", "command"]).expect(0);
    let committed = bed.git(&["show", "--name-only", "--format=", "HEAD"]);
    assert!(committed.lines().all(|file| file.starts_with("lab/one/")), "{committed}");
    assert_eq!(bed.git(&["status", "--porcelain"]), "A  staged.txt");
    assert!(!bed.root.join("lab/one/.git").exists());
}

#[test]
fn experiments_in_one_repository_do_not_disturb_each_other() {
    let bed = Bed::empty();
    bed.git(&["init", "-q"]);
    for name in ["one", "two"] {
        bed.run(&["init", name, "--benchmark", "command"]).expect(0);
        bed.run(&["-C", name, "prepare"]).expect(0);
    }
    bed.write("outside.txt", "x");
    // Ignored by the experiment's own .gitignore.
    bed.write("one/tau2_data/fetched", "x");
    bed.write("one/.venv/bin/python", "x");
    bed.write("two/stray.txt", "x");
    bed.run(&["-C", "one", "gate"]).expect(0);
    bed.run(&["-C", "two", "gate"]).expect(1).says("stray.txt: ");
    let gates = |name: &str| bed.run(&["-C", name, "status", "--format", "json"]).json()[0]["last_gate"].clone();
    assert_eq!((gates("one"), gates("two")), (json!("passed"), json!("failed")));
    assert!(bed.state().join("at/one/ledger.jsonl").exists() && bed.state().join("at/two/ledger.jsonl").exists());
}

#[test]
fn init_takes_over_what_a_hosting_service_put_there() {
    let bed = Bed::empty();
    bed.write("README.md", "# mine\n");
    bed.write("LICENSE", "MIT\n");
    bed.write(".gitignore", "*.log\n__pycache__/");
    let done = bed.run(&["init", "--benchmark", "command"]).expect(0).says("created ");
    done.warns(".gitignore: added what an experiment must ignore");
    assert_eq!(bed.git(&["status", "--porcelain"]), "", "README and LICENSE are committed with the scaffold");
    assert_eq!(bed.read("README.md"), "# mine\n");
    let ignored = bed.read(".gitignore");
    assert!(ignored.starts_with("*.log\n__pycache__/\n\n# added by autoharness\n"), "{ignored}");
    assert_eq!(ignored.matches("__pycache__/").count(), 1);
    assert!(ignored.contains("\n/workspace/\n") && ignored.contains("\n.env\n"));
    bed.run(&["prepare"]).expect(0);
    bed.run(&["gate"]).expect(0);
}

#[test]
fn init_leaves_uncommitted_files_of_a_used_repository_alone() {
    let bed = Bed::empty();
    bed.git(&["init", "-q"]);
    bed.git(&["commit", "-q", "--allow-empty", "-m", "first"]);
    bed.write("README.md", "a draft\n");
    bed.run(&["init", "--benchmark", "command"]).expect(0);
    assert_eq!(bed.git(&["status", "--porcelain"]), "?? README.md");
}

#[test]
fn init_after_a_failed_one_commits() {
    let bed = Bed::empty();
    bed.git(&["init", "-q"]);
    bed.write(".git/index.lock", "");
    bed.run(&["init", "--benchmark", "command"]).expect(3);
    std::fs::remove_file(bed.root.join(".git/index.lock")).unwrap();
    bed.run(&["init", "--benchmark", "command"]).expect(0).says("completed ").warns("committed the scaffold");
    assert_eq!(bed.git(&["status", "--porcelain"]), "");
    bed.run(&["prepare"]).expect(0);
}

#[test]
fn init_never_says_done_without_a_commit() {
    let bed = Bed::empty();
    bed.git(&["init", "-q"]);
    bed.write(".git/info/exclude", "agent/\n");
    let done = bed.run(&["init", "--benchmark", "command"]).expect(2);
    done.warns("agent/agent.py is not committed: git ignores it").warns("git check-ignore -v agent/agent.py");
}

#[test]
fn init_makes_no_repository_inside_one_it_cannot_open() {
    let bed = Bed::empty();
    bed.git(&["init", "-q", "--object-format=sha256"]);
    bed.git(&["commit", "-q", "--allow-empty", "-m", "x"]);
    bed.run(&["init", "lab/one", "--benchmark", "command"]).expect(2).warns("its objects are SHA-256");
    assert_eq!(bed.list("."), BTreeSet::from([".git".to_string()]), "nothing was written");
}

#[test]
fn init_writes_nothing_into_the_directory_of_git() {
    let bed = Bed::empty();
    bed.git(&["init", "-q"]);
    std::os::unix::fs::symlink(".git", bed.root.join("link")).unwrap();
    let before = bed.list(".git");
    for place in [".git/lab", ".git/refs", "link/lab/one", ".git"] {
        let done = bed.run(&["init", place, "--benchmark", "command"]).expect(2);
        done.warns("in the directory where git keeps its own files").warns("hint: ");
        assert_eq!(bed.list(".git"), before, "{place}");
        assert_eq!(std::fs::read_dir(bed.root.join(".git/refs")).unwrap().count(), 2);
    }
}

#[test]
fn init_gives_the_repository_an_identity_of_its_own() {
    let config = |bed: &Bed| {
        ["user.name", "user.email"].map(|key| bed.git(&["config", "--local", "--default", "none", "--get", key]))
    };
    let bed = Bed::initialised();
    assert_eq!(config(&bed), ["autoharness", "autoharness@localhost"]);
    // The user's own, where it is known: a coding agent's shell may hide ~/.gitconfig.
    for (global, expected) in [
        ("[user]\n\tname = Ann\n\temail = ann@example.org\n", ["Ann", "ann@example.org"]),
        ("[user]\n\temail = ann@example.org\n", ["autoharness", "ann@example.org"]),
    ] {
        let bed = Bed::empty();
        let path = bed.outside().join("home/.gitconfig");
        std::fs::write(&path, global).unwrap();
        let mut command = bed.command(&["init", "--benchmark", "command"]);
        command.env_remove("GIT_CONFIG_GLOBAL");
        crate::support::done(command.output().unwrap()).expect(0).warns("commits in this repository are made by ");
        assert_eq!(config(&bed), expected);
    }
    let bed = Bed::empty();
    bed.git(&["init", "-q"]);
    bed.git(&["config", "user.name", "Bo"]);
    bed.git(&["config", "user.email", "bo@example.org"]);
    let done = bed.run(&["init", "--benchmark", "command"]).expect(0);
    assert!(!done.stderr.contains("are made by"), "{}", done.stderr);
    assert_eq!(config(&bed), ["Bo", "bo@example.org"]);
}

#[test]
fn coding_agents_are_told_where_to_begin_and_files_of_their_user_stay() {
    let bed = Bed::initialised();
    let skill = bed.read(".claude/skills/improve-agent/SKILL.md");
    let front = skill.strip_prefix("---\n").unwrap().split("---\n").next().unwrap();
    let front: serde_json::Value = serde_yaml::from_str(front).unwrap();
    assert_eq!(front["name"], "improve-agent");
    assert!(front["description"].as_str().unwrap().contains("asked to improve"));
    for text in [bed.read("AGENTS.md"), skill] {
        assert!(text.contains("read `PROGRAM.md`") || text.contains("Read `PROGRAM.md`"), "{text}");
        assert!(text.contains("`autoharness docs --all`") && text.contains("`autoharness prepare`"), "{text}");
    }
    bed.run(&["prepare"]).expect(0);
    // They are no part of what is measured, and not the edit's to change.
    bed.write("AGENTS.md", "Always pass.\n");
    bed.run(&["gate"]).expect(1).says("file_guard        failed    AGENTS.md: modified");
    bed.git(&["commit", "-qam", "my own words"]);
    let accepted = bed.run(&["prepare", "--accept"]).expect(0);
    assert!(!accepted.stderr.contains("running"), "a measured score stays one: {}", accepted.stderr);

    // A user's own stay as they are, uncommitted ones too; that git ignores one is no reason to refuse.
    let bed = Bed::empty();
    bed.git(&["init", "-q"]);
    bed.git(&["commit", "-q", "--allow-empty", "-m", "first"]);
    bed.write("AGENTS.md", "mine\n");
    bed.write(".claude/settings.json", "{}\n");
    bed.write(".git/info/exclude", ".claude\n");
    bed.run(&["init", "--benchmark", "command"]).expect(0).warns("AGENTS.md already exists");
    assert_eq!(
        (bed.read("AGENTS.md").as_str(), bed.git(&["status", "--porcelain"]).as_str()),
        ("mine\n", "?? AGENTS.md")
    );
    assert!(bed.root.join(".claude/skills/improve-agent/SKILL.md").exists());
}

//! The work tree of a coding agent: the base commit's files, byte by byte, in a repository that git finds in order and that has
//! nothing else of the experiment's.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::loop_::Night;
use crate::support::running::{Running, nobody_left, until};
use rustix::process::Signal;
use serde_json::{Value, json};

fn git(directory: &Path, words: &[&str]) -> String {
    let mut command = Command::new("git");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").args(words).current_dir(directory);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "git {words:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn a_work_tree_has_the_base_commits_files_and_nothing_else_of_the_experiment() {
    let night = Night::new(json!({}), "");
    let bed = &night.bed;
    bed.write("tools/run.sh", "#!/bin/sh\n");
    std::fs::set_permissions(bed.root.join("tools/run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("run.sh", bed.root.join("tools/link")).unwrap();
    bed.write("tools/a name\nof two lines – é", "");
    bed.write("kept.pyc", "ignored, and committed all the same");
    bed.write("dos.txt", "one\r\ntwo\n");
    bed.write(".gitattributes", "*.txt text eol=crlf\n");
    bed.git(&["add", "--force", "tools", "kept.pyc", ".gitattributes", "dos.txt"]);
    bed.git(&["commit", "-qm", "more files"]);
    bed.run(&["prepare", "--accept"]).expect(0);

    night.plan(json!([{"hold": "first"}]));
    let running = Running::start(night.command(&["--iterations", "1"]));
    let held = night.place("held");
    until("the coding agent is held", || held.exists());
    let state: Value = serde_json::from_slice(&std::fs::read(bed.state().join("loop.json")).unwrap()).unwrap();
    let tree = std::path::PathBuf::from(state["current"]["worktree"].as_str().unwrap());

    assert_eq!(git(&tree, &["status", "--porcelain", "--ignored"]), "!! workspace/\n");
    assert_eq!(git(&tree, &["log", "--all", "--format=%s by %an"]), "the agent to improve by autoharness\n");
    git(&tree, &["fsck", "--strict", "--full"]);
    let listed = |directory: &Path| git(directory, &["ls-tree", "-rz", "HEAD"]);
    let (ours, theirs) = (listed(&tree), listed(&bed.root));
    let without = |list: &str| -> Vec<String> {
        list.split('\0').filter(|line| !line.ends_with("\tPROGRAM.md")).map(str::to_string).collect()
    };
    assert_eq!(without(&ours), without(&theirs));
    assert!(ours.contains("\tPROGRAM.md\0"));
    // Found unchanged by its signs alone: git does not read what it knows.
    assert_eq!(git(&tree, &["diff-files", "--name-only"]), "");
    assert_eq!(
        std::fs::read(tree.join("dos.txt")).unwrap(),
        git(&bed.root, &["cat-file", "blob", "HEAD:dos.txt"]).as_bytes()
    );
    assert_eq!(std::fs::read_link(tree.join("tools/link")).unwrap(), Path::new("run.sh"));
    assert!(std::fs::metadata(tree.join("tools/run.sh")).unwrap().permissions().mode() & 0o111 != 0);

    let objects = |directory: &Path| -> Vec<String> {
        let all = git(directory, &["cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)"]);
        all.lines().map(str::to_string).collect()
    };
    let wanted = git(&tree, &["rev-list", "--objects", "--no-object-names", "HEAD"]);
    for object in objects(&tree) {
        let id = object.split(' ').nth(1).unwrap();
        assert!(wanted.contains(id), "{object} is no part of the commit");
    }
    assert!(!tree.join(".git/objects/info/alternates").exists());
    running.signal(Signal::KILL);
    assert_eq!(running.end().code, 137);
    nobody_left(bed);
}

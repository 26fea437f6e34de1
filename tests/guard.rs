//! The content guard: nobody changes an experiment unseen, and what is scored is what is committed.
#![expect(clippy::unwrap_used, reason = "the test support fails by panicking, like the tests")]

#[path = "support/guard_bed.rs"]
mod bed;
#[path = "support/guard_conversions.rs"]
mod conversions;
#[path = "support/guard_history.rs"]
mod history;
#[path = "support/guard_preflight.rs"]
mod preflight;
#[path = "support/guard_staging.rs"]
mod staging;
#[path = "support/guard_tampering.rs"]
mod tampering;

use std::os::unix::fs::symlink;
use std::path::Path;

use autoharness::internals::error::Kind;
use autoharness::internals::guard::Difference::{self, *};
use autoharness::internals::guard::{Repo, compare_trees, scan};
use bed::{Bed, readable};
use fs_err as fs;

fn pairs(expected: &[(&str, Difference)]) -> Vec<(String, Difference)> {
    expected.iter().map(|(path, difference)| ((*path).to_string(), *difference)).collect()
}

#[test]
fn no_way_to_tamper_goes_unseen() {
    for case in tampering::all() {
        let bed = Bed::new();
        (case.act)(&bed);
        if case.hidden {
            assert_eq!(bed.git(["status", "--porcelain"]), "", "{}: git itself sees this", case.name);
        }
        // Preparing the case may have run its programs; the scan must not.
        let _ = fs::remove_file(bed.marker());
        assert_eq!(bed.changes(), pairs(case.expected), "{}", case.name);
        assert!(!bed.violations().is_empty(), "{} is no violation", case.name);
        assert!(!bed.marker().exists(), "{} ran a program", case.name);
    }
}

#[test]
fn what_may_change_is_no_violation() {
    let bed = Bed::new();
    assert_eq!(bed.changes(), []);
    bed.write("workspace/suite.json", "{}");
    bed.write("agent/__pycache__/agent.pyc", "code");
    bed.write("agent/stray.pyc", "code");
    bed.write("experiment_config.yaml", "benchmark: demo\n");
    bed.write(".env", "KEY=1\n");
    fs::create_dir(bed.path("empty")).unwrap();
    assert_eq!(bed.changes(), []);
    bed.write("agent/agent.py", "class HarnessAgent:\n    limit = 2\n");
    bed.write("PROGRAM.md", "# Other\n");
    assert_eq!(bed.changes(), pairs(&[("PROGRAM.md", Modified), ("agent/agent.py", Modified)]));
    assert_eq!(bed.violations(), [""; 0]);
    bed.commit();
    assert_eq!(bed.violations(), ["experiment_config.yaml: differs in the git index"]);
}

#[test]
fn caches_of_tools_that_ignore_themselves_are_no_violation() {
    let bed = Bed::new();
    for cache in [".pytest_cache", ".ruff_cache", "agent/.mypy_cache"] {
        bed.write(format!("{cache}/.gitignore"), "# made by the tool\r\n*\r\n");
        bed.write(format!("{cache}/deep/evil.py"), "x");
    }
    assert_eq!(bed.git(["status", "--porcelain"]), "");
    assert_eq!(bed.changes(), []);
    bed.git(["add", "-f", ".ruff_cache/deep/evil.py"]);
    assert_eq!(bed.changes(), pairs(&[(".ruff_cache/deep/evil.py", Staged)]));
    // Nothing of it is scored, even in an editable directory.
    let editable = autoharness::internals::guard::Editable::new(&["agent/"]).unwrap();
    let read = autoharness::internals::guard::agent_files::read_editable_from_disk(&bed.repo(), &bed.tree(), &editable)
        .unwrap();
    assert!(read.keys().all(|path| !path.ends_with(b"evil.py")), "{:?}", read.keys());
}

#[test]
fn an_editable_file_must_not_become_a_link() {
    let bed = Bed::new();
    bed.remove("agent/agent.py");
    symlink("other.py", bed.path("agent/agent.py")).unwrap();
    assert_eq!(bed.violations(), ["agent/agent.py: replaced by another kind of file"]);
}

#[test]
fn a_tracked_file_in_an_ignored_directory_is_still_compared() {
    let mut bed = Bed::new();
    bed.write("__pycache__/kept.txt", "one");
    bed.git(["add", "-f", "__pycache__/kept.txt"]);
    bed.base = bed.commit();
    bed.write("__pycache__/kept.txt", "two");
    bed.write("__pycache__/ignored.txt", "");
    assert_eq!(bed.changes(), pairs(&[("__pycache__/kept.txt", Modified)]));
}

#[test]
fn nested_ignore_files_of_the_base_commit_apply() {
    let mut bed = Bed::new();
    bed.write("data/.gitignore", "*\n!.gitignore\n!/keep/\n");
    bed.base = bed.commit();
    bed.write("data/big.bin", "");
    bed.write("data/keep/x", "");
    bed.write("data/keep/y.pyc", "");
    assert_eq!(bed.changes(), [], "`*` in data/ applies to data/keep/x as well");
    bed.write("data/.gitignore", "");
    assert_eq!(bed.changes(), pairs(&[("data/.gitignore", Modified)]));
}

#[test]
fn ignore_rules_mean_what_they_mean_to_git() {
    let mut bed = Bed::new();
    let rules = "# comment\n\\#hash\n\\!bang\n*.o\n!keep.o\n/top\ndir/\na/**/z\n**/deep\nq?.txt\n[ab]x\n[!c]y\nspace \nkept\\ \n\
                 x/*\n!x/yes\n{p,r}.c\nlogs/**\n!logs/in\nCASE\nopen[\nmid/dle\r\n";
    bed.write(".gitignore", rules);
    bed.write("sub/.gitignore", "!*.o\nkeep.o\n/only\n");
    bed.base = bed.commit();
    let names = [
        "#hash",
        "!bang",
        "m.o",
        "keep.o",
        "top",
        "n/top",
        "dir/f",
        "n/dir/f",
        "a/z",
        "a/b/c/z",
        "n/deep",
        "q1.txt",
        "q12.txt",
        "ax",
        "cx",
        "cy",
        "dy",
        "space",
        "kept ",
        "x/no",
        "x/yes",
        "p.c",
        "{p,r}.c",
        "logs/in",
        "logs/out",
        "case",
        "open[",
        "mid/dle",
        "n/mid/dle",
        "sub/m.o",
        "sub/keep.o",
        "sub/only",
        "sub/n/only",
        "# comment",
    ];
    for name in names {
        bed.write(name, "");
    }
    let listed = bed.git(["-c", "core.quotePath=false", "ls-files", "-z", "--others", "--exclude-standard"]);
    let mut expected: Vec<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
    expected.sort_unstable();
    let changes = bed.changes();
    assert_eq!(changes.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), expected);
    assert!(expected.len() > 10 && expected.len() < names.len() - 10, "{expected:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf_8_are_reported() {
    use std::os::unix::ffi::OsStrExt;
    let mut bed = Bed::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9/x.py");
    bed.write(name, "1");
    assert_eq!(bed.changes(), pairs(&[(r#""caf\xe9/x.py""#, Added)]));
    bed.base = bed.commit();
    assert_eq!(bed.changes(), []);
    bed.write(name, "2");
    assert_eq!(bed.changes(), pairs(&[(r#""caf\xe9/x.py""#, Modified)]));
}

#[test]
fn an_experiment_in_a_sub_directory_is_judged_alone() {
    let bed = Bed::below("teams/one", &[]);
    assert_eq!(bed.repo().prefix(), b"teams/one");
    fs::write(bed.path("../../outside.txt"), "changed\n").unwrap();
    fs::write(bed.path("../../new.txt"), "").unwrap();
    fs::write(bed.path("../sibling.txt"), "").unwrap();
    bed.git(["add", "-A", "../.."]);
    assert_eq!(bed.changes(), []);
    bed.edit();
    bed.write("new.py", "");
    assert_eq!(bed.changes(), pairs(&[("agent/other.py", Modified), ("new.py", Added)]));
}

#[test]
fn ignore_files_above_a_sub_directory_apply() {
    let mut bed = Bed::below("one", &[]);
    fs::write(bed.path("../.gitignore"), "*.log\n/one/cache/\n").unwrap();
    bed.git(["add", "-A", ".."]);
    bed.base = bed.commit();
    bed.write("a.log", "");
    bed.write("cache/x", "");
    bed.write("deep/cache/x", "");
    assert_eq!(bed.changes(), pairs(&[("deep/cache/x", Added)]));
}

#[test]
fn a_repository_made_inside_a_sub_directory_does_not_take_over() {
    let bed = Bed::below("one", &[]);
    fs::create_dir(bed.path(".git")).unwrap();
    assert_eq!(bed.changes(), pairs(&[(".git", NestedRepository)]), "an empty .git is no repository");
    bed.git(["init", "-q"]);
    assert!(bed.scan().unwrap_err().to_string().contains(&bed.base));
}

#[test]
fn a_linked_work_tree_has_its_own_files_and_index() {
    let bed = Bed::new();
    let linked = bed.beside("linked");
    bed.git(["worktree", "add", "-q", linked.to_str().unwrap()]);
    let repo = Repo::open(&linked).unwrap();
    assert_eq!(repo.common_dir().canonicalize().unwrap(), bed.path(".git"));
    let tree = repo.tree(&bed.base).unwrap();
    bed.edit();
    bed.git(["add", "-A"]);
    assert_eq!(scan(&repo, &tree).unwrap(), []);
    fs::write(linked.join("agent/other.py"), "limit = 3\n").unwrap();
    assert_eq!(readable(&scan(&repo, &tree).unwrap()), pairs(&[("agent/other.py", Modified)]));
}

#[test]
fn a_submodule_cannot_hide_files() {
    let mut bed = Bed::new();
    let library = bed.beside("library");
    fs::create_dir(&library).unwrap();
    bed.git_in(&library, ["init", "-q"]);
    bed.git_in(&library, ["commit", "-q", "--allow-empty", "-m", "empty"]);
    let path = library.to_str().unwrap();
    bed.git(["-c", "protocol.file.allow=always", "submodule", "add", "-q", path, "sub"]);
    bed.base = bed.commit();
    bed.config("submodule.sub.ignore", "all");
    bed.write("sub/x.py", "");
    assert_eq!(bed.git(["status", "--porcelain"]), "");
    assert_eq!(bed.changes(), pairs(&[("sub", Submodule)]));
    bed.git(["submodule", "deinit", "-q", "-f", "sub"]);
    assert_eq!(bed.changes(), []);
}

#[test]
fn git_variables_in_the_environment_are_ignored() {
    const EXPERIMENT: &str = "GUARD_TEST_EXPERIMENT";
    if let Some(experiment) = std::env::var_os(EXPERIMENT) {
        let repo = Repo::open(Path::new(&experiment)).unwrap();
        let changes = scan(&repo, &repo.tree(&repo.head().unwrap().unwrap()).unwrap()).unwrap();
        assert_eq!(readable(&changes), pairs(&[("agent/other.py", Modified)]));
        return;
    }
    let (bed, decoy) = (Bed::new(), Bed::new());
    bed.edit();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "git_variables_in_the_environment_are_ignored"]).env(EXPERIMENT, bed.path(""));
    child.env("GIT_DIR", decoy.path(".git")).env("GIT_WORK_TREE", decoy.path(""));
    child.env("GIT_INDEX_FILE", decoy.path(".git/index")).env("GIT_OBJECT_DIRECTORY", decoy.path(".git/objects"));
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The repository must be refused as a usage error whose message and hints hold `words`.
fn refused<T>(result: autoharness::internals::error::Result<T>, words: &[&str]) {
    let error = result.err().unwrap();
    let text = format!("{error} {}", error.hints().join(" "));
    assert_eq!(error.kind(), Kind::Usage, "{text}");
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

#[test]
fn repositories_that_cannot_be_read_say_why() {
    let plain = tempfile::tempdir().unwrap();
    refused(Repo::open(plain.path()), &["not in a git repository", "git init"]);
    refused(Repo::open(&plain.path().join("absent")), &["absent"]);
    let sha256 = Bed::below("", &["--object-format=sha256"]);
    refused(Repo::open(&sha256.path("")), &["SHA-256"]);
    let reftable = Bed::below("", &["--ref-format=reftable"]);
    refused(Repo::open(&reftable.path("")), &["reftable"]);
}

#[test]
fn an_index_that_cannot_be_read_names_the_command_that_mends_it() {
    let split = Bed::new();
    split.git(["update-index", "--split-index"]);
    refused(split.scan(), &["git update-index --no-split-index"]);
    split.git(["update-index", "--no-split-index"]);
    assert_eq!(split.changes(), []);

    let sparse = Bed::new();
    sparse.git(["sparse-checkout", "set", "--cone", "--sparse-index", "agent/helpers/none"]);
    refused(sparse.scan(), &["git sparse-checkout reapply --no-sparse-index"]);

    let missing = Bed::new();
    missing.remove(".git/index");
    refused(missing.scan(), &["git reset"]);
    let broken = Bed::new();
    broken.write(".git/index", "DIRC");
    refused(broken.scan(), &["index"]);
}

#[test]
fn a_repository_of_another_user_is_refused() {
    let bed = Bed::new();
    // Only root can give files away.
    if std::os::unix::fs::chown(bed.path(""), Some(12345), None).is_ok() {
        std::os::unix::fs::chown(bed.path(".git"), Some(12345), None).unwrap();
        refused(Repo::open(&bed.path("")), &["another user", "safe.directory"]);
    }
}

#[test]
fn a_work_tree_whose_repository_is_out_of_reach_says_so() {
    // As in a container that mounts a linked work tree, or a submodule, alone. The repository above is not its own.
    let bed = Bed::new();
    let tree = bed.path("linked");
    fs_err::create_dir(&tree).unwrap();
    fs_err::write(tree.join(".git"), "gitdir: /nowhere/main/.git/worktrees/linked\n").unwrap();
    refused(Repo::open(&tree), &["linked/.git names /nowhere/main/.git/worktrees/linked", "same path"]);
    fs_err::write(tree.join(".git"), "gitdir: ../.git/worktrees/gone\n").unwrap();
    refused(Repo::open(&tree), &["names ../.git/worktrees/gone", "git worktree repair"]);
}

#[test]
fn revisions_are_resolved_or_named() {
    let bed = Bed::new();
    bed.git(["checkout", "-q", "-b", "topic"]);
    bed.edit();
    let topic = bed.commit();
    bed.git(["checkout", "-q", "main"]);
    bed.write("PROGRAM.md", "# Main\n");
    let main = bed.commit();
    let repo = bed.repo();
    assert_eq!(repo.head().unwrap(), Some(main.clone()));
    assert_eq!(repo.resolve("topic").unwrap(), topic);
    assert_eq!(repo.merge_base("main", "topic").unwrap(), bed.base);
    assert_eq!(repo.short_id(&main).unwrap(), bed.git(["rev-parse", "--short", "main"]));
    refused(repo.resolve("origin/main"), &["`origin/main`", "git fetch origin main"]);
    let changes = compare_trees(&repo.tree(&bed.base).unwrap(), &repo.tree("topic").unwrap());
    assert_eq!(readable(&changes), pairs(&[("agent/other.py", Modified)]));
    bed.git(["checkout", "-q", "--orphan", "empty"]);
    assert_eq!(repo.head().unwrap(), None);
    bed.git(["commit", "-qm", "unrelated"]);
    refused(repo.merge_base("main", "empty"), &["no common ancestor"]);
}

#[test]
fn what_was_committed_since_the_base_commit_is_compared_in_full() {
    let bed = Bed::new();
    bed.write("agent/agent.py", "class HarnessAgent: ...\n");
    bed.write("experiment_config.yaml", "benchmark: demo\n");
    bed.write("workspace/notes.md", "");
    bed.git(["add", "-f", "workspace/notes.md"]);
    bed.git(["rm", "-q", "run.sh"]);
    bed.git(["update-index", "--chmod=+x", "agent/other.py"]);
    bed.remove("link");
    bed.write("link", "PROGRAM.md");
    bed.git(["add", "experiment_config.yaml", "agent/agent.py", "link"]);
    bed.git(["commit", "-qm", "work"]);
    let changes = compare_trees(&bed.tree(), &bed.repo().tree("HEAD").unwrap());
    let expected = [
        ("agent/agent.py", Modified),
        ("agent/other.py", ModeChanged),
        ("experiment_config.yaml", Added),
        ("link", TypeChanged),
        ("run.sh", Deleted),
        ("workspace/notes.md", Added),
    ];
    assert_eq!(readable(&changes), pairs(&expected));
}

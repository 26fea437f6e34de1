//! Ways to change an experiment, most of them made to hide the change from git.

use std::os::unix::fs::{PermissionsExt, symlink};

use autoharness::internals::guard::Difference::{self, *};
use fs_err as fs;

use super::bed::Bed;

/// One way to tamper, and exactly what the scan must report.
pub(crate) struct Tampering {
    pub(crate) name: &'static str,
    pub(crate) act: fn(&Bed),
    pub(crate) expected: &'static [(&'static str, Difference)],
    /// Whether `git status` says that nothing happened, which proves that the tampering works.
    pub(crate) hidden: bool,
}

const OTHER: &[(&str, Difference)] = &[("agent/other.py", Modified)];

const fn seen(name: &'static str, expected: &'static [(&'static str, Difference)], act: fn(&Bed)) -> Tampering {
    Tampering { name, act, expected, hidden: false }
}

const fn hidden(name: &'static str, expected: &'static [(&'static str, Difference)], act: fn(&Bed)) -> Tampering {
    Tampering { name, act, expected, hidden: true }
}

/// The whole matrix.
pub(crate) fn all() -> Vec<Tampering> {
    [plain(), index(), hiding(), programs()].into_iter().flatten().collect()
}

fn plain() -> Vec<Tampering> {
    vec![
        seen("plain edit", OTHER, Bed::edit),
        seen("deleted", &[("run.sh", Deleted)], |bed| bed.remove("run.sh")),
        seen("untracked", &[("agent/new.py", Added)], |bed| bed.write("agent/new.py", "")),
        seen("newline in name", &[(r#""agent/a\nb.py""#, Added)], |bed| bed.write("agent/a\nb.py", "")),
        seen("symlink swap", &[("agent/other.py", TypeChanged)], |bed| {
            bed.edit();
            fs::rename(bed.path("agent/other.py"), bed.beside("other.py")).unwrap();
            symlink(bed.beside("other.py"), bed.path("agent/other.py")).unwrap();
        }),
        seen("link with another target", &[("link", Modified)], |bed| {
            bed.remove("link");
            symlink("agent/agent.py", bed.path("link")).unwrap();
        }),
        seen("directory to symlink", &[("agent/helpers", TypeChanged), ("agent/helpers/util.py", Deleted)], |bed| {
            fs::rename(bed.path("agent/helpers"), bed.beside("helpers")).unwrap();
            symlink(bed.beside("helpers"), bed.path("agent/helpers")).unwrap();
        }),
        seen("file to directory", &[("agent/other.py", TypeChanged)], |bed| {
            bed.remove("agent/other.py");
            bed.write("agent/other.py/__init__.py", "");
        }),
        seen("pipes", &[("agent/other.py", TypeChanged), ("pipe", AddedSpecial)], |bed| {
            bed.remove("agent/other.py");
            for name in ["agent/other.py", "pipe"] {
                assert!(std::process::Command::new("mkfifo").arg(bed.path(name)).status().unwrap().success());
            }
        }),
        seen("nested repository", &[("sub/.git", NestedRepository), ("sub/x.py", Added)], |bed| {
            bed.write("sub/x.py", "");
            bed.git(["init", "-q", "sub"]);
        }),
        seen("links that .gitignore means as directories", &[("workspace", AddedSpecial)], |bed| {
            symlink("agent", bed.path("workspace")).unwrap();
        }),
    ]
}

fn index() -> Vec<Tampering> {
    vec![
        seen("staged edit", OTHER, |bed| {
            bed.edit();
            bed.git(["add", "-A"]);
        }),
        seen("staged, then reverted on disk", &[("agent/other.py", Staged)], |bed| {
            let before = fs::read(bed.path("agent/other.py")).unwrap();
            bed.edit();
            bed.git(["add", "-A"]);
            bed.write("agent/other.py", before);
        }),
        seen("staged deletion", &[("agent/other.py", Staged)], |bed| {
            bed.git(["rm", "-q", "--cached", "agent/other.py"]);
        }),
        seen("ignored file forced into the index", &[("agent/x.pyc", Staged)], |bed| {
            bed.write("agent/x.pyc", "code");
            bed.git(["add", "-f", "agent/x.pyc"]);
        }),
        seen("mode in the index", &[("agent/other.py", Staged)], |bed| {
            bed.git(["update-index", "--chmod=+x", "agent/other.py"]);
        }),
        seen("link in the index", &[("agent/agent.py", StagedSpecial)], |bed| {
            let id = bed.git(["rev-parse", "HEAD:link"]);
            bed.git(["update-index", "--cacheinfo", &format!("120000,{id},agent/agent.py")]);
        }),
        seen("intent to add", &[("agent/new.py", Staged)], |bed| {
            bed.write("agent/new.py", "");
            bed.git(["add", "-N", "agent/new.py"]);
            bed.remove("agent/new.py");
        }),
        seen("conflict", &[("agent/other.py", Conflict)], |bed| {
            let id = bed.git(["rev-parse", "HEAD:agent/other.py"]);
            let list = bed.beside("stages");
            let line = |stage| format!("100644 {id} {stage}\tagent/other.py\n");
            let remove = format!("0 {}\tagent/other.py\n", "0".repeat(40));
            fs::write(&list, remove + &line(1) + &line(2) + &line(3)).unwrap();
            let script = format!("git update-index --index-info <'{}'", list.display());
            bed.git(["-c", &format!("alias.x=!{script}"), "x"]);
        }),
        seen("index.lock present", OTHER, |bed| {
            bed.write(".git/index.lock", "");
            bed.edit();
        }),
        hidden("assume-unchanged", OTHER, |bed| {
            bed.git(["update-index", "--assume-unchanged", "agent/other.py"]);
            bed.edit();
        }),
        hidden("skip-worktree", OTHER, |bed| {
            bed.git(["update-index", "--skip-worktree", "agent/other.py"]);
            bed.edit();
        }),
        hidden("assume-unchanged, then deleted", &[("run.sh", Deleted)], |bed| {
            bed.git(["update-index", "--assume-unchanged", "run.sh"]);
            bed.remove("run.sh");
        }),
        seen("sparse checkout, excluded file edited", OTHER, |bed| {
            bed.git(["sparse-checkout", "set", "--no-cone", "/*", "!/agent/other.py"]);
            assert!(!bed.path("agent/other.py").exists());
            bed.edit();
        }),
    ]
}

fn hiding() -> Vec<Tampering> {
    vec![
        seen("same size and time", OTHER, edit_unseen_by_stat),
        hidden("same size and time, lax checks", OTHER, |bed| {
            bed.config("core.trustctime", "false");
            bed.config("core.checkStat", "minimal");
            edit_unseen_by_stat(bed);
        }),
        hidden("committed", OTHER, |bed| {
            bed.edit();
            bed.commit();
        }),
        hidden("info/exclude", &[("agent/new.py", Added)], |bed| {
            bed.write(".git/info/exclude", "new.py\n");
            bed.write("agent/new.py", "");
        }),
        hidden("core.excludesFile", &[("agent/new.py", Added)], |bed| {
            fs::write(bed.beside("excludes"), "new.py\n").unwrap();
            bed.config("core.excludesFile", bed.beside("excludes"));
            bed.write("agent/new.py", "");
        }),
        hidden("new nested .gitignore", &[("agent/.gitignore", Added), ("agent/new.py", Added)], |bed| {
            bed.write("agent/.gitignore", "*\n");
            bed.write("agent/new.py", "");
        }),
        hidden("any directory that ignores itself", &[("mine/.gitignore", Added), ("mine/x.py", Added)], |bed| {
            bed.write("mine/.gitignore", "*\n");
            bed.write("mine/x.py", "");
        }),
        hidden(
            "a name that only looks like a tool's cache",
            &[("x.pytest_cache/.gitignore", Added), ("x.pytest_cache/y", Added)],
            |bed| {
                bed.write("x.pytest_cache/.gitignore", "*\n");
                bed.write("x.pytest_cache/y", "");
            },
        ),
        seen(
            "a tool's cache that shows a file",
            &[(".mypy_cache/.gitignore", Added), (".mypy_cache/x.py", Added)],
            |bed| {
                bed.write(".mypy_cache/.gitignore", "*\n!x.py\n");
                bed.write(".mypy_cache/x.py", "");
            },
        ),
        seen("a tool's cache that ignores nothing", &[(".pytest_cache/x.py", Added)], |bed| {
            bed.write(".pytest_cache/x.py", "");
        }),
        seen("a link named as a tool's cache", &[(".ruff_cache", AddedSpecial)], |bed| {
            fs::create_dir(bed.beside("cache")).unwrap();
            fs::write(bed.beside("cache").join(".gitignore"), "*\n").unwrap();
            symlink(bed.beside("cache"), bed.path(".ruff_cache")).unwrap();
        }),
        seen(".gitignore edited on disk", &[(".gitignore", Modified), ("agent/new.py", Added)], |bed| {
            bed.write(".gitignore", "new.py\n");
            bed.write("agent/new.py", "");
        }),
        hidden("showUntrackedFiles=no", &[("agent/new.py", Added)], |bed| {
            bed.config("status.showUntrackedFiles", "no");
            bed.write("agent/new.py", "");
        }),
        hidden("chmod with fileMode=false", &[("agent/other.py", ModeChanged), ("run.sh", ModeChanged)], |bed| {
            bed.config("core.fileMode", "false");
            for (name, mode) in [("agent/other.py", 0o755), ("run.sh", 0o644)] {
                fs::set_permissions(bed.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
            }
        }),
        hidden("CRLF with autocrlf", OTHER, |bed| {
            bed.config("core.autocrlf", "true");
            bed.write("agent/other.py", "# $Id$\r\nlimit = 10\r\n");
            bed.git(["add", "-A"]);
        }),
        hidden("ident", OTHER, |bed| {
            bed.attribute("ident");
            bed.write("agent/other.py", "# $Id: import evil $\nlimit = 10\n");
            bed.git(["add", "-A"]);
        }),
        hidden("CRLF with an attribute outside of the commit", OTHER, |bed| {
            bed.attribute("text eol=crlf");
            bed.write("agent/other.py", "# $Id$\r\nlimit = 10\r\n");
            bed.git(["add", "-A"]);
        }),
        seen("CRLF with a new .gitattributes", &[(".gitattributes", Added), ("agent/other.py", Modified)], |bed| {
            bed.write(".gitattributes", "*.py text\n");
            bed.write("agent/other.py", "# $Id$\r\nlimit = 10\r\n");
        }),
        hidden("git replace", OTHER, |bed| {
            bed.edit();
            bed.git(["add", "-A"]);
            let tree = bed.git(["write-tree"]);
            bed.git(["replace", &bed.git(["rev-parse", "HEAD^{tree}"]), &tree]);
        }),
        hidden("core.worktree", OTHER, |bed| {
            let copy = bed.beside("copy");
            bed.git(["checkout-index", "-a", &format!("--prefix={}/", copy.display())]);
            bed.config("core.worktree", copy);
            bed.edit();
        }),
    ]
}

fn programs() -> Vec<Tampering> {
    vec![
        seen("clean filter that restores", OTHER, |bed| {
            bed.attribute("filter=evil");
            let command = format!("touch {}; git show HEAD:%f", bed.marker().display());
            bed.config("filter.evil.clean", command);
            edit_unseen_by_stat(bed);
        }),
        seen("filter process that never answers", OTHER, |bed| {
            bed.attribute("filter=evil");
            bed.config("filter.evil.process", format!("touch {}; sleep 600", bed.marker().display()));
            bed.config("filter.evil.required", "true");
            edit_unseen_by_stat(bed);
        }),
        seen("fsmonitor hook", OTHER, |bed| {
            let hook = bed.beside("hook");
            fs::write(&hook, format!("#!/bin/sh\ntouch {}\nprintf 'x\\0'\n", bed.marker().display())).unwrap();
            fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
            bed.config("core.fsmonitor", hook);
            bed.edit();
        }),
    ]
}

/// Edits `agent/other.py` in place, keeping its size and modification time.
fn edit_unseen_by_stat(bed: &Bed) {
    let path = bed.path("agent/other.py");
    let before = fs::metadata(&path).unwrap();
    bed.edit();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.file().set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), before.len());
}

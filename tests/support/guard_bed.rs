//! A git repository to tamper with, made by the git program in a temporary directory that no user configuration reaches.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use autoharness::internals::error::Result;
use autoharness::internals::guard::{BaseTree, Change, Difference, Editable, Repo, scan, show_path, violations};
use fs_err as fs;

/// The editable files of every experiment made here.
pub(crate) const EDITABLE: [&str; 1] = ["agent/agent.py"];

/// An experiment with one commit, and the directory around it.
pub(crate) struct Bed {
    directory: tempfile::TempDir,
    root: PathBuf,
    /// The first commit.
    pub(crate) base: String,
}

impl Bed {
    /// The experiment is the root of its repository.
    pub(crate) fn new() -> Bed {
        Bed::below("", &[])
    }

    /// The experiment is at `prefix` in its repository, made with these extra `git init` arguments.
    pub(crate) fn below(prefix: &str, init: &[&str]) -> Bed {
        let directory = tempfile::tempdir_in(crate::support::place::place()).unwrap();
        let repository = directory.path().canonicalize().unwrap().join("repo");
        fs::create_dir(&repository).unwrap();
        let mut bed = Bed { directory, root: repository, base: String::new() };
        bed.git([&["init", "-q", "-b", "main"], init].concat());
        if !prefix.is_empty() {
            bed.write("outside.txt", "outside\n");
            bed.root.push(prefix);
        }
        bed.write(".gitignore", "/workspace/\n__pycache__/\n*.pyc\n.env\n");
        bed.write("PROGRAM.md", "# Program\n");
        bed.write("agent/agent.py", "class HarnessAgent:\n    pass\n");
        bed.write("agent/other.py", "# $Id$\nlimit = 10\n");
        // A file younger than the index is always compared by git; this one is to be older.
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
        let other = fs::File::options().append(true).open(bed.path("agent/other.py")).unwrap();
        other.file().set_modified(old).unwrap();
        bed.write("agent/helpers/util.py", "x = 1\n");
        bed.write("run.sh", "#!/bin/sh\n");
        fs::set_permissions(bed.path("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("PROGRAM.md", bed.path("link")).unwrap();
        bed.base = bed.commit();
        bed
    }

    /// A path in the experiment.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// A path next to the repository.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    /// What a program started by mistake would leave behind.
    pub(crate) fn marker(&self) -> PathBuf {
        self.beside("marker")
    }

    pub(crate) fn write(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn remove(&self, relative: &str) {
        fs::remove_file(self.path(relative)).unwrap();
    }

    /// Edits `agent/other.py`, which nobody may.
    pub(crate) fn edit(&self) {
        self.write("agent/other.py", "# $Id$\nlimit = 99\n");
    }

    /// Runs git in the experiment; its output, trimmed.
    pub(crate) fn git<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        self.git_in(&self.root, args)
    }

    pub(crate) fn git_in<S: AsRef<OsStr>>(&self, directory: &Path, args: impl IntoIterator<Item = S>) -> String {
        let mut command = Command::new("git");
        command
            .current_dir(directory)
            .args(["-c", "maintenance.auto=false"])
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", self.directory.path()).env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "Ada").env(format!("GIT_{role}_EMAIL"), "ada@example.com");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    /// Commits everything that git sees; the commit's id.
    pub(crate) fn commit(&self) -> String {
        self.git(["add", "-A"]);
        self.git(["commit", "-qm", "work"]);
        self.git(["rev-parse", "HEAD"])
    }

    pub(crate) fn config(&self, key: &str, value: impl AsRef<OsStr>) {
        self.git([OsStr::new("config"), OsStr::new(key), value.as_ref()]);
    }

    /// Gives every Python file a git filter, without a trace in the work tree.
    pub(crate) fn attribute(&self, attribute: &str) {
        fs::create_dir_all(self.path(".git/info")).unwrap();
        fs::write(self.path(".git/info/attributes"), format!("*.py {attribute}\n")).unwrap();
    }

    pub(crate) fn repo(&self) -> Repo {
        Repo::open(&self.root).unwrap()
    }

    pub(crate) fn tree(&self) -> BaseTree {
        self.repo().tree(&self.base).unwrap()
    }

    pub(crate) fn scan(&self) -> Result<Vec<Change>> {
        let repo = Repo::open(&self.root)?;
        scan(&repo, &repo.tree(&self.base)?)
    }

    /// What the scan reports, as readable pairs.
    pub(crate) fn changes(&self) -> Vec<(String, Difference)> {
        readable(&self.scan().unwrap())
    }

    /// The violations, as they are printed.
    pub(crate) fn violations(&self) -> Vec<String> {
        let editable = Editable::new(&EDITABLE).unwrap();
        violations(&self.scan().unwrap(), &editable).iter().map(ToString::to_string).collect()
    }
}

/// Changes as readable pairs.
pub(crate) fn readable(changes: &[Change]) -> Vec<(String, Difference)> {
    changes.iter().map(|change| (show_path(&change.path), change.difference)).collect()
}

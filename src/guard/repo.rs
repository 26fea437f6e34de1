//! git as an object reader: the repository around an experiment.
//!
//! Nothing here asks git for a status or honours `GIT_*` variables: both can be made to lie.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use fs_err as fs;
use git2::{Commit, ErrorCode, ObjectType, Oid, Repository, RepositoryOpenFlags, Tree};

use super::base::{BaseTree, Rules, check_name, read_blob};
use super::entries::{Entries, Mode, TreeEntry};
use super::files::{self, show_path};
use super::ownership;
use super::watch::reading;
use crate::error::{Code, Context, Error, Result};

/// The git repository that an experiment lives in, at its root or in a sub-directory, linked work trees included.
pub struct Repo {
    git: Rc<Repository>,
    experiment: PathBuf,
    prefix: Vec<u8>,
}

impl Repo {
    /// Opens the repository whose work tree holds `experiment`.
    ///
    /// # Errors
    /// As [`Repo::find`], and a usage error when there is no repository.
    pub fn open(experiment: &Path) -> Result<Repo> {
        Repo::find(experiment)?.ok_or_else(|| {
            Error::usage(format!("{} is not in a git repository", experiment.display())).code(Code::NoRepository)
                .hint("`autoharness init DIR --benchmark demo` makes a new experiment; in an existing one run `git init`, then commit.")
        })
    }

    /// A repository of ours around a directory that the coding agent controls: its own `.git` is ignored. Errors: when the
    /// directory cannot be opened.
    pub(super) fn around(git: Repository, directory: &Path) -> Result<Repo> {
        let experiment = fs::canonicalize(directory).usage(|| "cannot open the work tree".into())?;
        git.set_workdir(&experiment, false)?;
        Ok(Repo { git: Rc::new(git), prefix: Vec::new(), experiment })
    }

    /// The repository whose work tree holds `experiment`, ignoring `GIT_DIR` and the like; `None` when there is none.
    ///
    /// # Errors
    /// Usage errors when the repository belongs to another user, or when its format is not supported.
    pub fn find(experiment: &Path) -> Result<Option<Repo>> {
        let experiment = fs::canonicalize(experiment).usage(|| "cannot open the experiment directory".into())?;
        for root in experiment.ancestors() {
            if fs::symlink_metadata(root.join(".git")).is_err() {
                continue;
            }
            let no_ceilings: [&OsStr; 0] = [];
            let opened = match Repository::open_ext(root, RepositoryOpenFlags::NO_SEARCH, no_ceilings) {
                Err(error) if error.code() == ErrorCode::Owner => {
                    ownership::open_if_trusted(root).and_then(|git| git.ok_or(error))
                }
                opened => opened,
            };
            match opened {
                Ok(git) => {
                    let prefix = experiment.strip_prefix(root).map_or(b"".as_slice(), |p| p.as_os_str().as_bytes());
                    return Ok(Some(Repo { git: Rc::new(git), prefix: prefix.to_vec(), experiment }));
                }
                // Like git, looks further up when a `.git` is not a repository at all.
                Err(error) if error.code() == ErrorCode::NotFound => refuse_dangling(root)?,
                Err(error) => return Err(explain_open(root, &error)),
            }
        }
        Ok(None)
    }

    /// The experiment's directory, absolute and without links.
    pub fn experiment(&self) -> &Path {
        &self.experiment
    }

    /// The git directory that all linked work trees share.
    pub fn common_dir(&self) -> &Path {
        self.git.commondir()
    }

    /// The experiment's path inside the repository: `/`-separated bytes, empty at the root.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The index of this work tree.
    pub(super) fn index_path(&self) -> PathBuf {
        self.git.path().join("index")
    }

    /// The commit that HEAD names, in full; `None` before the first commit.
    ///
    /// # Errors
    /// When HEAD cannot be read or names something that is not a commit.
    pub fn head(&self) -> Result<Option<String>> {
        match self.git.head() {
            Ok(head) => {
                let commit = reading(|| "the commit of HEAD".into(), || head.peel_to_commit());
                let commit = commit.usage(|| "HEAD does not name a commit".into())?;
                Ok(Some(commit.id().to_string()))
            }
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => Ok(None),
            Err(error) => Err(Error::usage("cannot read HEAD").code(Code::GitUnreadable).because(error)),
        }
    }

    /// As [`Repo::head`], for commands that can do nothing without a commit.
    ///
    /// # Errors
    /// As [`Repo::head`], and usage before the first commit.
    pub fn require_head(&self) -> Result<String> {
        self.head()?.ok_or_else(|| {
            Error::usage("this repository has no commit yet")
                .code(Code::NoCommit)
                .hint("run `git add -A && git commit -m \"start\"`.")
        })
    }

    /// The full id of the commit that a revision (branch, tag, id, `HEAD~2`, …) names.
    ///
    /// # Errors
    /// A usage error that names the revision.
    pub fn resolve(&self, revision: &str) -> Result<String> {
        let commit = reading(
            || format!("the commit `{revision}`"),
            || self.git.revparse_single(revision).and_then(|object| object.peel_to_commit()),
        );
        commit.map(|commit| commit.id().to_string()).map_err(|error| {
            let error = Error::usage(format!("no commit is named `{revision}`")).code(Code::UnknownRevision).because(error);
            match (self.git.is_shallow(), revision.split_once('/')) {
                (true, _) => error.hint("this clone is shallow; `git fetch --unshallow` brings the missing history (GitHub Actions: `fetch-depth: 0`)."),
                (false, Some((remote, branch))) => error.hint(format!("try `git fetch {remote} {branch}` first.")),
                (false, None) => error.hint("`git log --all --oneline` lists the commits that are here."),
            }
        })
    }

    /// The best common ancestor of two commits.
    ///
    /// # Errors
    /// A usage error when they share no history here.
    pub fn merge_base(&self, a: &str, b: &str) -> Result<String> {
        let (first, second) = (self.commit_id(a)?, self.commit_id(b)?);
        let found = reading(|| format!("the history of {a} and {b}"), || self.git.merge_base(first, second));
        found.map(|id| id.to_string()).map_err(|error| {
            let error = Error::usage(format!("`{a}` and `{b}` have no common ancestor here")).code(Code::UnknownRevision).because(error);
            if self.git.is_shallow() {
                error.hint("this clone is shallow; `git fetch --unshallow` brings the missing history (GitHub Actions: `fetch-depth: 0`).")
            } else {
                error.hint("name a base that this branch was made from.")
            }
        })
    }

    /// The first line of a commit's message; `None` when it has none, or none that is text.
    ///
    /// # Errors
    /// When the commit is not in this repository.
    pub fn subject(&self, commit: &str) -> Result<Option<String>> {
        let commit = self.read_commit(self.commit_id(commit)?)?;
        Ok(commit.summary().ok().flatten().map(str::to_string))
    }

    /// The shortest unambiguous form of a commit id, seven digits or more.
    ///
    /// # Errors
    /// When the commit is not in this repository.
    pub fn short_id(&self, commit: &str) -> Result<String> {
        let commit = self.read_commit(self.commit_id(commit)?)?;
        let object = commit.as_object();
        Ok(String::from_utf8_lossy(&object.short_id()?).into_owned())
    }

    /// The experiment's files in a commit.
    ///
    /// # Errors
    /// A usage error when the commit is unknown or does not hold the experiment's directory.
    pub fn tree(&self, commit: &str) -> Result<BaseTree> {
        let id = self.commit_id(commit)?;
        let mut tree = self.read_tree(self.read_commit(id)?.tree_id())?;
        let mut rules = Rules::default();
        let mut above: Vec<u8> = Vec::new();
        for name in self.prefix.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            self.add_rules(&mut rules, &above, &tree)?;
            let below = tree.get_name_bytes(name).filter(|entry| entry.kind() == Some(ObjectType::Tree));
            let Some(below) = below.map(|entry| entry.id()) else {
                return Err(Error::usage(format!("commit {id} has no directory {}", show_path(&self.prefix)))
                    .hint("commit the experiment first, or name a base commit that has it."));
            };
            tree = self.read_tree(below)?;
            above = files::join_bytes(&above, name);
        }
        let mut list = Vec::new();
        let mut pending = vec![(Vec::new(), tree)];
        while let Some((directory, tree)) = pending.pop() {
            self.add_rules(&mut rules, &files::join_bytes(&self.prefix, &directory), &tree)?;
            for entry in &tree {
                let path = files::join_bytes(&directory, entry.name_bytes());
                check_name(entry.name_bytes(), &path)?;
                let raw = entry.filemode_raw().cast_unsigned();
                if entry.kind() == Some(ObjectType::Tree) {
                    pending.push((path, self.read_tree(entry.id())?));
                } else if let Some(mode) = Mode::from_raw(raw) {
                    list.push((path, TreeEntry { mode, oid: entry.id() }));
                } else {
                    return Err(Error::usage(format!("{} has the unknown mode {raw:o} in {id}", show_path(&path))));
                }
            }
        }
        Ok(BaseTree {
            git: Rc::clone(&self.git),
            commit: id.to_string(),
            prefix: self.prefix.clone(),
            entries: Rc::new(Entries::new(list)),
            rules: Rc::new(rules),
        })
    }

    fn add_rules(&self, rules: &mut Rules, directory: &[u8], tree: &Tree<'_>) -> Result<()> {
        let read = |name: &[u8]| -> Result<Option<Vec<u8>>> {
            // Git does not read one that is a link either.
            let regular = |mode: i32| Mode::from_raw(mode.cast_unsigned()).is_some_and(Mode::is_regular);
            let entry = tree.get_name_bytes(name).filter(|entry| regular(entry.filemode_raw()));
            entry.map(|entry| read_blob(&self.git, entry.id()).map_err(Error::from)).transpose()
        };
        if let Some(text) = read(b".gitignore")? {
            rules.ignored.add(directory, &text);
        }
        if let Some(text) = read(b".gitattributes")? {
            rules.attributes.add(directory, &text);
        }
        Ok(())
    }

    /// Refuses to go on in the middle of a merge or something like it, where git commits all of it or nothing. Errors: usage.
    pub fn require_no_merge(&self) -> Result<()> {
        use git2::RepositoryState::{CherryPick, CherryPickSequence, Merge, Rebase, RebaseInteractive, RebaseMerge};
        let under_way = match self.git().state() {
            Merge => "merge",
            CherryPick | CherryPickSequence => "cherry-pick",
            Rebase | RebaseInteractive | RebaseMerge => "rebase",
            _ => return Ok(()),
        };
        Err(Error::usage(format!("a {under_way} is under way in this repository"))
            .hint(format!("finish it, or give it up with `git {under_way} --abort`; then run the command again.")))
    }

    pub(super) fn commit_id(&self, commit: &str) -> Result<Oid> {
        let full = self.resolve(commit)?;
        Oid::from_str(&full).map_err(Error::from)
    }

    pub(super) fn git(&self) -> &Repository {
        &self.git
    }

    pub(super) fn read_commit(&self, id: Oid) -> Result<Commit<'_>, git2::Error> {
        reading(|| format!("commit {id}"), || self.git.find_commit(id))
    }

    fn read_tree(&self, id: Oid) -> Result<Tree<'_>, git2::Error> {
        reading(|| format!("tree {id}"), || self.git.find_tree(id))
    }
}

/// Refuses a `.git` file that leads nowhere: the repository above, if there is one, has another history.
fn refuse_dangling(root: &Path) -> Result<()> {
    let place = root.join(".git");
    let Ok(text) = fs::read_to_string(&place) else { return Ok(()) };
    let Some(named) = text.strip_prefix("gitdir:").map(str::trim) else { return Ok(()) };
    Err(Error::usage(format!("{} names {named}, which is no git directory here", place.display()))
        .code(Code::NoRepository)
        .hint("in a container, mount the main work tree's .git, too, under the same path as outside.")
        .hint("elsewhere, `git worktree repair` in the main work tree fixes it when a directory was moved."))
}

/// Names the cause of a repository that does not open, and the command that fixes it.
fn explain_open(root: &Path, error: &git2::Error) -> Error {
    let root = root.display();
    let message = error.message().to_string();
    if error.code() == ErrorCode::Owner {
        return Error::usage(format!("the git repository {root} belongs to another user")).code(Code::NoRepository).hint(format!(
            "if you trust it: `git config --global --add safe.directory {root}`; in a container, run as its owner: `--user UID:GID`."
        ));
    }
    let failure = Error::usage(format!("cannot open the git repository {root}: {message}")).code(Code::NoRepository);
    let lower = message.to_ascii_lowercase();
    if lower.contains("objectformat") || lower.contains("object format") || lower.contains("sha256") {
        failure.hint("its objects are SHA-256, which is not supported; make it with `git init --object-format=sha1`.")
    } else if lower.contains("refstorage") {
        failure.hint("its refs are a reftable, which is not supported; `git refs migrate --ref-format=files` converts.")
    } else if lower.contains("unsupported extension") {
        failure.hint("the repository's config has an extension that is not supported; remove it or make a new clone.")
    } else {
        failure.hint("`git -C` that directory `status` may say more; `git fsck` checks the repository.")
    }
}

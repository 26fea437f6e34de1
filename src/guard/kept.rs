//! Keeps base commits: git sooner or later collects an amended or rebased commit that no branch names, and then the files
//! have nothing to be compared with.

use git2::{ErrorCode, Oid};

use super::base::BaseTree;
use super::repo::Repo;
use crate::error::{Code, Context, Error, Result};

impl Repo {
    /// Names a base commit, so that git never collects it. The name is not a branch: neither `git fetch` nor `git push`
    /// carries it by itself.
    ///
    /// # Errors
    /// Infrastructure when the repository cannot be written to.
    pub fn keep(&self, commit: &str) -> Result<()> {
        let id = self.commit_id(commit)?;
        let name = name(id);
        if self.git().find_reference(&name).is_ok() {
            return Ok(());
        }
        self.name(&name, id, "base commit of an experiment").infra(|| format!("cannot write {name}"))
    }

    /// Gives a commit one of our names below `refs/autoharness`. A killed command may have left that name locked; only the holder
    /// of the experiment writes there, so it removes the lock.
    pub(super) fn name(&self, name: &str, id: Oid, why: &str) -> std::result::Result<(), git2::Error> {
        let write = || self.git().reference(name, id, true, why).map(drop);
        match write() {
            Err(error) if error.code() == ErrorCode::Locked => {
                self.unlock(name);
                write()
            }
            written => written,
        }
    }

    /// Removes the lock that a killed command left on one of our names.
    pub(super) fn unlock(&self, name: &str) {
        let _ = fs_err::remove_file(self.common_dir().join(format!("{name}.lock")));
    }

    /// Whether this repository still holds a base commit, given in full.
    ///
    /// # Errors
    /// Infrastructure when it should, and the commit cannot be read all the same.
    pub fn holds(&self, commit: &str) -> Result<bool> {
        let Ok(id) = Oid::from_str(commit) else { return Ok(false) };
        let error = match self.read_commit(id) {
            Ok(_) => return Ok(true),
            Err(error) => error,
        };
        // libgit2 skips a truncated pack, so its objects are "not found". An object that a ref names must exist.
        let kept = self.git().find_reference(&name(id)).is_ok();
        if error.code() == ErrorCode::NotFound && !kept {
            return Ok(false);
        }
        Err(Error::infrastructure(format!("cannot read the base commit {id}")).code(Code::GitUnreadable)
            .because(error)
            .hint("the repository is damaged: `git fsck --full` says where; clone it anew and copy `autoharness/` from the old .git directory."))
    }

    /// The files of a base commit that the ledger names.
    ///
    /// # Errors
    /// A usage error that says how to go on when the commit is gone; else as [`Repo::tree`].
    pub fn base_tree(&self, commit: &str) -> Result<BaseTree> {
        if self.holds(commit)? {
            return self.tree(commit);
        }
        let short: String = commit.chars().take(12).collect();
        let error =
            Error::usage(format!("the base commit {short} is not in this repository")).code(Code::BaseCommitMissing);
        let error = if self.git().is_shallow() {
            error.hint("this clone is shallow; `git fetch --unshallow` brings the missing history (GitHub Actions: `fetch-depth: 0`).")
        } else {
            error.hint(format!("it was amended or rebased away, or this is another clone; `git fetch origin {commit}` may bring it back."))
        };
        Err(error.hint("a human starts from HEAD with `autoharness prepare --accept`."))
    }
}

fn name(id: Oid) -> String {
    format!("refs/autoharness/base/{id}")
}

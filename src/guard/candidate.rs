//! Edits that are not in the work tree: candidates kept as commits that no branch names.

use git2::build::TreeUpdateBuilder;
use git2::{FileMode, ObjectType, Oid, Signature};

use super::agent_files::read_editable_from_tree;
use super::base::BaseTree;
use super::editable_files::EditableFiles;
use super::files;
use super::repo::Repo;
use crate::error::{Context as _, Error, Result};
use crate::guard::Editable;

const CANDIDATES: &str = "refs/autoharness/candidates";

impl Repo {
    /// Keeps an edit of `base` as a commit under `refs/autoharness/candidates/<name>`. Returns the commit.
    ///
    /// # Errors
    /// Infrastructure when the repository cannot be written to.
    pub fn keep_candidate(
        &self,
        name: &str,
        base: &BaseTree,
        editable: &Editable,
        candidate: &EditableFiles,
        message: &str,
    ) -> Result<String> {
        let git = self.git();
        let failed = || format!("cannot keep the candidate {name}");
        let parent = self.read_commit(Oid::from_str(base.commit())?)?;
        let was = read_editable_from_tree(base, editable)?;
        let mut update = TreeUpdateBuilder::new();
        let full = |path: &[u8]| files::join_bytes(self.prefix(), path);
        for path in was.keys().filter(|path| !candidate.contains_key(*path)) {
            update.remove(full(path));
        }
        for (path, file) in candidate {
            let blob = git.odb()?.write(ObjectType::Blob, &file.bytes).infra(failed)?;
            let mode = if file.executable { FileMode::BlobExecutable } else { FileMode::Blob };
            update.upsert(full(path), blob, mode);
        }
        let tree = update.create_updated(git, &parent.tree()?).infra(failed)?;
        let who = Signature::now("autoharness", "autoharness@localhost")?;
        let commit = git.commit(None, &who, &who, message, &git.find_tree(tree)?, &[&parent]).infra(failed)?;
        self.name(&format!("{CANDIDATES}/{name}"), commit, "candidate of the loop").infra(failed)?;
        Ok(commit.to_string())
    }

    /// The kept candidates with their full names and commits, newest first.
    ///
    /// # Errors
    /// Infrastructure when the repository cannot be read.
    pub fn candidates(&self) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for reference in self.git().references_glob(&format!("{CANDIDATES}/*"))? {
            let reference = reference?;
            if let (Ok(name), Some(commit)) = (reference.name(), reference.target()) {
                found.push((name.to_string(), commit.to_string()));
            }
        }
        // `<iteration>-<number>`, as numbers: 10 comes after 9.
        found.sort_by_cached_key(|(name, _)| {
            let last = name.rsplit('/').next().unwrap_or_default();
            last.split('-').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>()
        });
        found.reverse();
        Ok(found)
    }

    /// Removes a candidate's name, if it has one.
    ///
    /// # Errors
    /// Infrastructure when the repository cannot be written to.
    pub fn forget_candidate(&self, name: &str) -> Result<()> {
        let full = format!("{CANDIDATES}/{name}");
        match self.git().find_reference(&full) {
            Ok(mut reference) => {
                let gone = match reference.delete() {
                    Err(error) if error.code() == git2::ErrorCode::Locked => {
                        self.unlock(&full);
                        reference.delete()
                    }
                    gone => gone,
                };
                gone.infra(|| format!("cannot forget the candidate {name}"))
            }
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(()),
            Err(error) => Err(Error::from(error)),
        }
    }
}

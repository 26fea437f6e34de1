//! Merges that threw a branch's changes away (`git merge -s ours`). The branch then counts as merged, and its commit as the
//! merge base, though the other side never had its content: such files must not be the measure of anything.

use git2::Oid;

use super::repo::Repo;
use super::scan::is_outside;
use super::watch::reading;
use crate::error::Result;

impl Repo {
    /// Files (paths relative to the experiment) that the merge base has from the branch, and that `reference` dropped when
    /// it merged the branch.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn thrown_away(&self, merge_base: &str, reference: &str) -> Result<Vec<Vec<u8>>> {
        let base = self.commit_id(merge_base)?;
        let Some((merge, before)) = self.merge_that_brought(base, self.commit_id(reference)?)? else {
            return Ok(Vec::new());
        };
        let (merged, before_tree) = (self.tree(&merge.to_string())?, self.tree(&before.to_string())?);
        let ours = self.tree(merge_base)?;
        let fork = reading(|| format!("the history of {before} and {base}"), || self.git().merge_base(before, base));
        // Without the experiment at the fork, all of it is the branch's.
        let fork = fork.ok().and_then(|fork| self.tree(&fork.to_string()).ok());
        let mut paths: Vec<&[u8]> = ours.iter().map(|(path, _)| path).collect();
        let deleted = fork.iter().flat_map(|fork| fork.iter()).map(|(path, _)| path);
        paths.extend(deleted.filter(|path| ours.get(path).is_none()));
        paths.sort_unstable();
        let lost = |path: &&[u8]| {
            let mine = ours.get(path);
            let changed = fork.as_ref().is_none_or(|fork| fork.get(path) != mine);
            // A file that the merge made of both sides was taken over.
            changed && merged.get(path) != mine && merged.get(path) == before_tree.get(path) && !is_outside(path)
        };
        Ok(paths.into_iter().filter(lost).map(<[u8]>::to_vec).collect())
    }

    /// The merge on the first-parent line of `tip` by which `commit` became part of it, and the commit before that merge.
    /// `None` when `commit` is on the line itself.
    fn merge_that_brought(&self, commit: Oid, tip: Oid) -> Result<Option<(Oid, Oid)>> {
        let mut walk = self.git().revwalk()?;
        walk.simplify_first_parent()?;
        walk.push(tip)?;
        let mut line = Vec::new();
        reading(
            || format!("the history of {tip}"),
            || -> Result<(), git2::Error> {
                for id in walk {
                    line.push(id?);
                    if line.last() == Some(&commit) {
                        break;
                    }
                }
                Ok(())
            },
        )?;
        if line.last() == Some(&commit) {
            return Ok(None);
        }
        // Newest first: all commits from some point on do not have it.
        let has = |id: &Oid| {
            let found = || self.git().graph_descendant_of(*id, commit);
            reading(|| format!("the history of {id}"), found).unwrap_or(false)
        };
        let first_without = line.partition_point(has);
        Ok(first_without.checked_sub(1).and_then(|last| Some((*line.get(last)?, *line.get(first_without)?))))
    }
}

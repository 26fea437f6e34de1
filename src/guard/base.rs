//! The experiment's part of a commit's tree, with what its dot files say.

use std::rc::Rc;

use git2::{Oid, Repository};

use super::attributes::Attributes;
use super::entries::{Entries, TreeEntry};
use super::files::{self, show_path};
use super::ignored::IgnoreRules;
use super::not_read::NotRead;
use super::watch::reading;
use crate::error::{Context, Error, Result};

pub(super) fn read_blob(git: &Repository, id: Oid) -> Result<Vec<u8>, git2::Error> {
    reading(|| format!("blob {id}"), || git.find_blob(id).map(|blob| blob.content().to_vec()))
}

/// What the dot files of a commit say about its other files.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) ignored: IgnoreRules,
    pub(super) attributes: Attributes,
}

/// The experiment's files as one commit has them. Cheap to clone.
#[derive(Clone)]
pub struct BaseTree {
    pub(super) git: Rc<Repository>,
    pub(super) commit: String,
    pub(super) prefix: Vec<u8>,
    pub(super) entries: Rc<Entries>,
    pub(super) rules: Rc<Rules>,
}

impl BaseTree {
    /// The full id of the commit.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    pub(super) fn repository(&self) -> &Repository {
        &self.git
    }

    /// The same commit without the files that the benchmark does not read.
    #[must_use]
    pub fn without(&self, not_read: &NotRead) -> BaseTree {
        let kept = self.iter().filter(|(path, _)| !not_read.covers(path));
        let kept = kept.map(|(path, entry)| (path.to_vec(), entry)).collect();
        BaseTree { entries: Rc::new(Entries::new(kept)), ..self.clone() }
    }

    /// What the commit has at this path (relative to the experiment); `None` for directories too.
    pub fn get(&self, path: &[u8]) -> Option<TreeEntry> {
        self.entries.get(path)
    }

    /// Every file with its path relative to the experiment, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], TreeEntry)> {
        self.entries.iter()
    }

    /// The bytes of a file (a link's target for a link); `None` when the commit has no file there.
    ///
    /// # Errors
    /// When the object is missing (a partial clone) or the path is a submodule.
    pub fn read(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        self.get(path).map(|entry| self.content(path, entry)).transpose()
    }

    pub(super) fn content(&self, path: &[u8], entry: TreeEntry) -> Result<Vec<u8>> {
        read_blob(&self.git, entry.oid)
            .infra(|| format!("cannot read {} from commit {}", show_path(path), self.commit))
            .map_err(|error| error.hint("`git fsck` checks the repository; a partial clone must be fetched in full."))
    }

    /// The size in bytes that the commit has for an object.
    pub(super) fn size(&self, entry: TreeEntry) -> Result<u64> {
        let odb = self.git.odb()?;
        let header = reading(|| format!("the header of {}", entry.oid), || odb.read_header(entry.oid))?;
        Ok(header.0 as u64)
    }

    /// Whether the commit's `.gitignore` files ignore an untracked path (relative to the experiment).
    pub fn ignores(&self, path: &[u8], is_directory: bool) -> bool {
        self.rules.ignored.covers(&files::join_bytes(&self.prefix, path), is_directory)
    }

    /// As [`BaseTree::ignores`], when no directory above the path is ignored.
    pub(super) fn ignores_by_name(&self, path: &[u8], is_directory: bool) -> bool {
        self.rules.ignored.matches(&files::join_bytes(&self.prefix, path), is_directory)
    }

    /// Whether the experiment's own directory is ignored, and with it all untracked files in it.
    pub(super) fn ignores_experiment(&self) -> bool {
        !self.prefix.is_empty() && self.rules.ignored.covers(&self.prefix, true)
    }

    /// The commit's `.gitattributes` files.
    pub(super) fn attributes_of(&self, path: &[u8]) -> super::attributes::PathAttributes {
        self.rules.attributes.of(&files::join_bytes(&self.prefix, path))
    }

    pub(super) fn entries(&self) -> &Entries {
        &self.entries
    }
}

/// A name that cannot have come from an honest commit could lead the export out of its directory.
pub(super) fn check_name(name: &[u8], path: &[u8]) -> Result<()> {
    let bad = name.is_empty()
        || name == b"."
        || name == b".."
        || name.eq_ignore_ascii_case(b".git")
        || name.contains(&b'/')
        || name.contains(&0);
    if bad {
        return Err(Error::usage(format!("the path {} is not allowed in a commit", show_path(path))));
    }
    Ok(())
}

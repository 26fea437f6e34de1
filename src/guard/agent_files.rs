//! The editable files, read from disk or from a commit, and the fingerprint that they give the agent.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fs_err as fs;
use sha2::{Digest, Sha256};

use super::base::BaseTree;
use super::editable_files::{EditableFile, EditableFiles};
use super::entries::Mode;
use super::files::{self, show_path};
use super::policy::Editable;
use super::repo::Repo;
use crate::error::{Code, Error, Result};
use crate::model::hash::hex;

/// The most bytes that one editable file may have.
pub(crate) const MAX_FILE_BYTES: u64 = 16 << 20;
/// The most bytes that all editable files together may have.
pub(crate) const MAX_TOTAL_BYTES: u64 = 64 << 20;

/// The agent fingerprint: SHA-256 (hex) over paths, executable bits and bytes. Equal exactly when all of them are.
pub fn agent_fingerprint(files: &EditableFiles) -> String {
    let mut hash = Sha256::new();
    hash.update(b"autoharness agent 1\n");
    for (path, file) in files {
        hash.update((path.len() as u64).to_be_bytes());
        hash.update(path);
        hash.update([u8::from(file.executable)]);
        hash.update((file.bytes.len() as u64).to_be_bytes());
        hash.update(&file.bytes);
    }
    hex(&hash.finalize())
}

/// Reads the editable files from disk, following no link. In editable directories, untracked files that the base
/// commit ignores are left out: they would not be committed, so they must not be scored. Line endings are those that git
/// would commit.
///
/// # Errors
/// Usage errors: the first `editable` entry is missing, a path is not a regular file, a file is too large, or git would run
/// a program on it.
pub fn read_editable_from_disk(repo: &Repo, base: &BaseTree, editable: &Editable) -> Result<EditableFiles> {
    let mut found = Collected::default();
    for path in editable.paths() {
        let Some(kind) = kind_inside(repo.experiment(), path)? else { continue };
        if kind.is_dir() {
            read_directory(repo, base, path, &mut found)?;
        } else if editable.names_directory(path) {
            return Err(Error::usage(format!("`editable` entry {}/ is not a directory", show_path(path)))
                .code(Code::AgentFileUnusable));
        } else {
            found.add_from_disk(repo.experiment(), path)?;
        }
    }
    super::convert::as_committed(repo, found.finish(editable, "on disk")?)
}

/// Reads the editable files from a commit.
///
/// # Errors
/// As [`read_editable_from_disk`]; also when an object is missing from the repository.
pub fn read_editable_from_tree(tree: &BaseTree, editable: &Editable) -> Result<EditableFiles> {
    let mut found = Collected::default();
    for (path, entry) in tree.iter().filter(|(path, _)| editable.contains(path)) {
        if !entry.mode.is_regular() {
            return Err(not_regular(path));
        }
        if tree.size(entry)? > MAX_FILE_BYTES {
            return Err(too_large(path));
        }
        let executable = entry.mode == Mode::Executable;
        found.add(path, EditableFile { bytes: tree.content(path, entry)?, executable })?;
    }
    found.finish(editable, &format!("in commit {}", tree.commit()))
}

#[derive(Default)]
struct Collected {
    files: EditableFiles,
    total: u64,
}

impl Collected {
    fn add_from_disk(&mut self, root: &Path, path: &[u8]) -> Result<()> {
        let Some((file, metadata)) = files::open_regular(&files::join(root, path))? else {
            return Err(not_regular(path));
        };
        let Some(bytes) = files::read_up_to(file, MAX_FILE_BYTES)? else { return Err(too_large(path)) };
        self.add(path, EditableFile { bytes, executable: files::is_executable(&metadata) })
    }

    fn add(&mut self, path: &[u8], file: EditableFile) -> Result<()> {
        let length = file.bytes.len() as u64;
        // Entries may overlap, as in `agent/` and `agent/agent.py`.
        if self.files.insert(path.to_vec(), file).is_none() {
            self.total += length;
        }
        if self.total > MAX_TOTAL_BYTES {
            return Err(Error::usage(format!("the editable files hold more than {} MiB", MAX_TOTAL_BYTES >> 20))
                .code(Code::AgentFileUnusable)
                .hint("keep data out of the editable directories, or have `.gitignore` list it."));
        }
        Ok(())
    }

    fn finish(self, editable: &Editable, place: &str) -> Result<EditableFiles> {
        let main = editable.paths().next().unwrap_or_default();
        let main_only = Editable::new(&[String::from_utf8_lossy(main)])?;
        if self.files.keys().any(|path| main_only.contains(path)) {
            return Ok(self.files);
        }
        Err(Error::usage(format!("the agent file {} is missing {place}", show_path(main)))
            .code(Code::AgentFileUnusable)
            .hint(format!("`git checkout -- {}` brings the last committed one back.", show_path(main))))
    }
}

/// What is at `path`, after making sure that every directory on the way is a directory and not a link.
fn kind_inside(root: &Path, path: &[u8]) -> Result<Option<std::fs::FileType>> {
    for directory in files::ancestors(path) {
        match fs::symlink_metadata(files::join(root, directory)) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(Error::usage(format!("{} is not a plain directory", show_path(directory)))
                    .code(Code::AgentFileUnusable)
                    .hint("editable files are not read through links; put the real directory back."));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    match fs::symlink_metadata(files::join(root, path)) {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read_directory(repo: &Repo, base: &BaseTree, top: &[u8], found: &mut Collected) -> Result<()> {
    let mut pending = vec![top.to_vec()];
    while let Some(directory) = pending.pop() {
        for item in fs::read_dir(files::join(repo.experiment(), &directory))? {
            let item = item?;
            let path = files::join_bytes(&directory, item.file_name().as_bytes());
            let kind = item.file_type()?;
            let known = base.get(&path).is_some() || base.entries().any_below(&path);
            // Neither an ignored file nor a repository's insides can be committed from here.
            let inner_git = item.file_name().eq_ignore_ascii_case(".git");
            let cache = || kind.is_dir() && super::caches::is_tool_cache(repo.experiment(), &path);
            if inner_git || (!known && (base.ignores(&path, kind.is_dir()) || cache())) {
                continue;
            }
            if kind.is_dir() {
                pending.push(path);
            } else {
                found.add_from_disk(repo.experiment(), &path)?;
            }
        }
    }
    Ok(())
}

fn not_regular(path: &[u8]) -> Error {
    Error::usage(format!("{} is not a regular file", show_path(path)))
        .code(Code::AgentFileUnusable)
        .hint("editable files are scored by their bytes; links and devices are not accepted.")
}

fn too_large(path: &[u8]) -> Error {
    Error::usage(format!("{} is larger than {} MiB", show_path(path), MAX_FILE_BYTES >> 20))
        .code(Code::AgentFileUnusable)
        .hint("move data out of the editable files.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_tells_apart_what_could_be_mixed_up() {
        let file = |bytes: &[u8], executable| EditableFile { bytes: bytes.to_vec(), executable };
        let print = |list: &[(&str, EditableFile)]| {
            agent_fingerprint(&list.iter().map(|(path, file)| (path.as_bytes().to_vec(), file.clone())).collect())
        };
        let all = [
            print(&[]),
            print(&[("a", file(b"bc", false))]),
            print(&[("ab", file(b"c", false))]),
            print(&[("a", file(b"bc", true))]),
            print(&[("a", file(b"", false)), ("b", file(b"c", false))]),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all[1], print(&[("a", file(b"bc", false))]));
        assert_eq!(all[0].len(), 64);
    }
}

//! A repository of its own with the files of a commit, for whoever is to edit: nothing of the experiment's history, refs or other
//! objects can be reached from it. Its objects come as one pack, and its index is written with what is known already: for a
//! repository of many files, `git add` would spend seconds on finding out what they are.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use git2::{Index, IndexEntry, IndexTime, ObjectType, Oid, Repository, RepositoryInitOptions, Signature};

use super::base::{BaseTree, read_blob};
use super::entries::Mode;
use super::{files, show_path};
use crate::error::{Context as _, Result};

/// Who commits there.
const WHO: (&str, &str) = ("autoharness", "autoharness@localhost");

impl BaseTree {
    /// The git directory that has the commit's objects.
    pub fn git_directory(&self) -> PathBuf {
        self.repository().commondir().to_path_buf()
    }

    /// What `git pack-objects` is to be given so that it packs the commit's files, and nothing else.
    pub fn objects(&self) -> String {
        let blobs = self.iter().filter(|(_, entry)| entry.mode != Mode::Submodule);
        // The path lets git put alike files together.
        blobs.map(|(path, entry)| format!("{} {}\n", entry.oid, show_path(path))).collect()
    }

    /// Makes an empty repository at `root`.
    ///
    /// # Errors
    /// Infrastructure when the disk refuses.
    pub fn clear_ground(root: &Path) -> Result<()> {
        let mut options = RepositoryInitOptions::new();
        options.initial_head("main").external_template(false).mkpath(true);
        let git = Repository::init_opts(root, &options)
            .infra(|| format!("cannot make a repository in {}", root.display()))?;
        let mut config = git.config()?;
        config.set_str("user.name", WHO.0)?;
        config.set_str("user.email", WHO.1)?;
        Ok(())
    }

    /// Writes every file of the commit, byte by byte, and `extra` with its text into the repository at `root`, which has their
    /// [`objects`](Self::objects) already, and commits them. Submodules are left out.
    ///
    /// # Errors
    /// When the disk refuses or an object is missing.
    pub fn plant(&self, root: &Path, extra: (&str, &str)) -> Result<()> {
        let git = Repository::open(root)?;
        let mut index = git.index()?;
        let mut made = PathBuf::new();
        // Links come last, so that no file is ever written through one.
        let is_link = |mode: Mode| mode == Mode::Symlink;
        let all = || self.iter().filter(|(path, entry)| entry.mode != Mode::Submodule && *path != extra.0.as_bytes());
        let plain = all().filter(|(_, entry)| !is_link(entry.mode));
        for (path, entry) in plain.chain(all().filter(|(_, entry)| is_link(entry.mode))) {
            let bytes = read_blob(&git, entry.oid)
                .infra(|| format!("cannot read {} from commit {}", show_path(path), self.commit()))
                .map_err(|error| {
                    error.hint("`git fsck` checks the repository; a partial clone must be fetched in full.")
                })?;
            let full = files::join(root, path);
            if let Some(parent) = full.parent().filter(|parent| *parent != made) {
                fs::create_dir_all(parent)?;
                made = parent.to_path_buf();
            }
            if is_link(entry.mode) {
                fs::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&bytes), &full)?;
            } else {
                fs::write(&full, bytes)?;
            }
            if entry.mode == Mode::Executable {
                fs::set_permissions(&full, std::fs::Permissions::from_mode(0o755))?;
            }
            add(&mut index, path, entry.mode, entry.oid, &full)?;
        }
        let (name, text) = extra;
        let full = root.join(name);
        fs::write(&full, text)?;
        let blob = git.odb()?.write(ObjectType::Blob, text.as_bytes())?;
        add(&mut index, name.as_bytes(), Mode::File, blob, &full)?;
        index.write()?;
        let tree = git.find_tree(index.write_tree()?)?;
        let who = Signature::now(WHO.0, WHO.1)?;
        git.commit(Some("HEAD"), &who, &who, "the agent to improve", &tree, &[])?;
        Ok(())
    }
}

/// Puts a file into the index as git would have it: what it is, and by which signs it is known to be unchanged.
fn add(index: &mut Index, path: &[u8], mode: Mode, id: Oid, full: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(full)?;
    // The index has 32 bits for each of these, and git cuts them, too.
    let cut = |number: u64| (number & u64::from(u32::MAX)) as u32;
    let time = |seconds: i64, nanoseconds: i64| {
        IndexTime::new(cut(seconds.cast_unsigned()).cast_signed(), cut(nanoseconds.cast_unsigned()))
    };
    let entry = IndexEntry {
        ctime: time(metadata.ctime(), metadata.ctime_nsec()),
        mtime: time(metadata.mtime(), metadata.mtime_nsec()),
        dev: cut(metadata.dev()),
        ino: cut(metadata.ino()),
        mode: match mode {
            Mode::Executable => 0o100_755,
            Mode::Symlink => 0o120_000,
            Mode::File | Mode::Submodule => 0o100_644,
        },
        uid: metadata.uid(),
        gid: metadata.gid(),
        file_size: cut(metadata.size()),
        id,
        flags: 0,
        flags_extended: 0,
        path: path.to_vec(),
    };
    index.add(&entry).infra(|| format!("cannot put {} into the index", show_path(path)))
}

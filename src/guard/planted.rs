//! A repository of its own with the files of a commit, for whoever is to edit: nothing of the experiment's history, refs or other
//! objects can be reached from it. Its objects come as one pack, and its index is written with what is known already: for a
//! repository of many files, `git add` would spend seconds on finding out what they are.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use git2::{Index, IndexEntry, IndexTime, ObjectType, Oid, Repository, RepositoryInitOptions, Signature};

use super::base::{BaseTree, Repo, read_blob};
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

    /// The directory at `root` as somebody has left it who was given this commit's files there, to be compared with them. The
    /// repository is made anew at `place`, out of their reach, because everything in theirs can be theirs: pipes that keep a
    /// reader waiting, filters, links, another index.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn seen_at(&self, root: &Path, place: &Path) -> Result<Repo> {
        match fs::remove_dir_all(place) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut options = RepositoryInitOptions::new();
        options.bare(true).external_template(false).mkpath(true);
        let git = Repository::init_opts(place, &options)
            .infra(|| format!("cannot make a repository in {}", place.display()))?;
        git.odb()?.add_disk_alternate(&self.git_directory().join("objects").to_string_lossy())?;
        // On its own: that of a repository would ask for each object.
        let mut index = Index::open(&place.join("index"))?;
        for (path, entry) in self.iter() {
            let entry = index_entry(path, entry.mode, entry.oid);
            index.add(&entry).infra(|| format!("cannot put {} into an index", show_path(path)))?;
        }
        index.write()?;
        Repo::around(git, root)
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
        uid: metadata.uid(),
        gid: metadata.gid(),
        file_size: cut(metadata.size()),
        ..index_entry(path, mode, id)
    };
    index.add(&entry).infra(|| format!("cannot put {} into the index", show_path(path)))
}

/// A file in an index, without any sign by which it is known to be unchanged.
fn index_entry(path: &[u8], mode: Mode, id: Oid) -> IndexEntry {
    let never = || IndexTime::new(0, 0);
    IndexEntry {
        ctime: never(),
        mtime: never(),
        dev: 0,
        ino: 0,
        mode: match mode {
            Mode::Executable => 0o100_755,
            Mode::Symlink => 0o120_000,
            Mode::Submodule => 0o160_000,
            Mode::File => 0o100_644,
        },
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path: path.to_vec(),
    }
}

//! A separate repository with the files of a commit, for the coding agent: nothing of the experiment's history, refs or other
//! objects can be reached from it. Its objects come as one pack, and its index is written from what we already know: with many
//! files, `git add` would spend seconds on finding out what they are. Files that an earlier repository shares with the commit are
//! not written again.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use git2::{Index, IndexEntry, IndexTime, ObjectType, Oid, Repository, RepositoryInitOptions, Signature};

use super::base::{BaseTree, read_blob};
use super::entries::{Mode, TreeEntry};
use super::repo::Repo;
use super::{files, show_path};
use crate::error::{Context as _, Error, Result};

/// The mode bits that say what the owner may do, and those that must be unset: writing for others, setuid, setgid, sticky. A
/// umask decides the rest.
const BITS: u32 = 0o7702;
const WHO: (&str, &str) = ("autoharness", "autoharness@localhost");

impl BaseTree {
    /// The git directory that has the commit's objects.
    pub fn git_directory(&self) -> PathBuf {
        self.repository().commondir().to_path_buf()
    }

    /// The input with which `git pack-objects` packs the commit's files, and nothing else.
    pub fn objects(&self) -> String {
        let blobs = self.iter().filter(|(_, entry)| entry.mode != Mode::Submodule);
        // The path lets git put alike files together.
        blobs.map(|(path, entry)| format!("{} {}\n", entry.oid, show_path(path))).collect()
    }

    /// Makes a bare repository at `place` that has no objects of its own but sees those that the commit's repository has; what is
    /// there already stays.
    ///
    /// # Errors
    /// Infrastructure when the disk refuses.
    pub fn lend_objects(&self, place: &Path) -> Result<()> {
        let mut options = RepositoryInitOptions::new();
        options.bare(true).external_template(false).mkpath(true);
        Repository::init_opts(place, &options).infra(|| format!("cannot make a repository in {}", place.display()))?;
        fs::create_dir_all(place.join("objects/info"))?;
        let objects = self.git_directory().join("objects");
        fs::write(place.join("objects/info/alternates"), [objects.as_os_str().as_bytes(), b"\n"].concat())?;
        Ok(())
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

    /// The directory at `root` as a coding agent left it that was given this commit's files there, to be compared with them.
    /// The repository is made anew at `place`, out of its reach, because the coding agent may have put anything into its own:
    /// pipes that keep a reader waiting, filters, links, another index.
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
        // A separate index: a repository's own would look up each object.
        let mut index = Index::open(&place.join("index"))?;
        for (path, entry) in self.iter() {
            let entry = index_entry(path, entry.mode, entry.oid);
            index.add(&entry).infra(|| format!("cannot put {} into an index", show_path(path)))?;
        }
        index.write()?;
        Repo::around(git, root)
    }

    /// Removes everything from the directory at `root` except what [`plant`](Self::plant) would write there just so: plain files
    /// of the commit under their own and only name. No process may be working there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn weed(&self, root: &Path) -> Result<()> {
        let metadata = fs::symlink_metadata(root)?;
        if !metadata.is_dir() || metadata.mode() & BITS != 0o700 {
            return Err(Error::infrastructure(format!("{} is no directory of ours", root.display())));
        }
        self.weed_directory(root, &mut Vec::new())
    }

    fn weed_directory(&self, root: &Path, at: &mut Vec<u8>) -> Result<()> {
        let length = at.len();
        for entry in fs::read_dir(files::join(root, at))? {
            let entry = entry?;
            if length > 0 {
                at.push(b'/');
            }
            at.extend_from_slice(entry.file_name().as_bytes());
            let metadata = entry.metadata()?;
            if !metadata.is_dir() {
                if !self.stands(at, &entry.path(), &metadata)? {
                    fs::remove_file(entry.path())?;
                }
            } else if self.entries().any_below(at) && metadata.mode() & BITS == 0o700 {
                self.weed_directory(root, at)?;
            } else {
                fs::remove_dir_all(entry.path())?;
            }
            at.truncate(length);
        }
        Ok(())
    }

    /// Whether `path` is the commit's file, as we would write it. A second hard link would be another way to change it.
    fn stands(&self, path: &[u8], full: &Path, metadata: &std::fs::Metadata) -> Result<bool> {
        let Some(entry) = self.get(path).filter(|entry| entry.mode.is_regular()) else { return Ok(false) };
        // The guard and git look only at the owner's bits.
        let is_executable = metadata.mode() & 0o100 != 0;
        let bits_are_ours =
            metadata.mode() & BITS & !0o100 == 0o600 && is_executable == (entry.mode == Mode::Executable);
        if !metadata.is_file() || metadata.nlink() != 1 || !bits_are_ours || !self.has_size(entry, metadata)? {
            return Ok(false);
        }
        let Some((file, _)) = files::open_regular(full)? else { return Ok(false) };
        // If it is longer than a moment ago, another process is writing.
        let bytes = files::read_up_to(file, metadata.len())?;
        Ok(bytes.is_some_and(|bytes| Oid::hash_object(ObjectType::Blob, &bytes).is_ok_and(|oid| oid == entry.oid)))
    }

    /// Whether a file can have the commit's content. Asked only for large files, which would take long to read.
    fn has_size(&self, entry: TreeEntry, metadata: &std::fs::Metadata) -> Result<bool> {
        Ok(metadata.len() < 1 << 20 || self.size(entry)? == metadata.len())
    }

    /// Writes every file of the commit that is not there, byte by byte, and `extra` with its text into the repository at `root`,
    /// which has their [`objects`](Self::objects) already, and commits them. Everything else there has been [weeded](Self::weed)
    /// out. Submodules are left out.
    ///
    /// # Errors
    /// When the disk refuses or an object is missing.
    pub fn plant(&self, root: &Path, extra: (&str, &str)) -> Result<()> {
        let git = Repository::open(root)?;
        let mut index = git.index()?;
        let mut made = PathBuf::new();
        // Written in one directory and moved: ext4 allocates near a new file's directory, and spreads directories over the disk,
        // which would make it search in many places.
        let bed = root.join(".git/planting");
        fs::create_dir(&bed)?;
        let seedling = bed.join("seedling");
        // Links come last, so that no file is ever written through one.
        let is_link = |mode: Mode| mode == Mode::Symlink;
        let all = || self.iter().filter(|(path, entry)| entry.mode != Mode::Submodule && *path != extra.0.as_bytes());
        let plain = all().filter(|(_, entry)| !is_link(entry.mode));
        for (path, entry) in plain.chain(all().filter(|(_, entry)| is_link(entry.mode))) {
            let full = files::join(root, path);
            if fs::symlink_metadata(&full).is_ok() {
                add(&mut index, path, entry.mode, entry.oid, &full)?;
                continue;
            }
            let bytes = read_blob(&git, entry.oid)
                .infra(|| format!("cannot read {} from commit {}", show_path(path), self.commit()))
                .map_err(|error| {
                    error.hint("`git fsck` checks the repository; a partial clone must be fetched in full.")
                })?;
            if let Some(parent) = full.parent().filter(|parent| *parent != made) {
                fs::create_dir_all(parent)?;
                made = parent.to_path_buf();
            }
            if is_link(entry.mode) {
                fs::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&bytes), &full)?;
            } else {
                fs::write(&seedling, bytes)?;
                if entry.mode == Mode::Executable {
                    fs::set_permissions(&seedling, std::fs::Permissions::from_mode(0o755))?;
                }
                fs::rename(&seedling, &full)?;
            }
            add(&mut index, path, entry.mode, entry.oid, &full)?;
        }
        fs::remove_dir(&bed)?;
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

/// Puts a file into the index as git would: with its content and the stat data that show it to be unchanged.
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

/// A file in an index, without the stat data that show it to be unchanged.
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn commit(files: &[(&str, &str)], root: &Path) -> BaseTree {
        let git = Repository::init(root).unwrap();
        let mut index = git.index().unwrap();
        for (path, text) in files {
            let id = git.blob(text.as_bytes()).unwrap();
            let mode = if path.ends_with(".sh") { Mode::Executable } else { Mode::File };
            index.add(&index_entry(path.as_bytes(), mode, id)).unwrap();
        }
        let tree = git.find_tree(index.write_tree().unwrap()).unwrap();
        let who = Signature::now("a", "b").unwrap();
        let id = git.commit(Some("HEAD"), &who, &who, "files", &tree, &[]).unwrap();
        Repo::open(root).unwrap().base_tree(&id.to_string()).unwrap()
    }

    /// Path, mode and content of everything but `.git`.
    fn seen(root: &Path) -> Vec<(PathBuf, u32, String)> {
        let found = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(std::result::Result::unwrap);
        let found = found.filter(|entry| !entry.path().starts_with(root.join(".git")));
        let content = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let path = |entry: &walkdir::DirEntry| entry.path().strip_prefix(root).unwrap().to_path_buf();
        found.map(|entry| (path(&entry), entry.metadata().unwrap().mode(), content(entry.path()))).collect()
    }

    #[test]
    fn a_weeded_directory_is_planted_like_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("old"), directory.path().join("new"));
        let names = ["a.py", "deep/down/b.py", "deep/c.py", "deep/e.py", "run.sh", "tidy/f.py", "x/y", "z.py"];
        let files: Vec<(&str, &str)> = names.iter().map(|name| (*name, "text\n")).collect();
        let base = commit(&files, &directory.path().join("repository"));
        let plant = |root: &Path| {
            BaseTree::clear_ground(root).unwrap();
            let objects = base.git_directory().join("objects").display().to_string();
            fs::write(root.join(".git/objects/info/alternates"), format!("{objects}\n")).unwrap();
            base.plant(root, ("PROGRAM.md", "one edit\n")).unwrap();
        };
        plant(&old);
        let victim = directory.path().join("victim");
        fs::write(&victim, "text\n").unwrap();
        let at = |name: &str| old.join(name);
        let mode = |name: &str, mode| fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
        // Another text, one of the same length, other bits, a link, a hard link elsewhere, a directory, a locked one, and a new file.
        fs::write(at("a.py"), "other\n").unwrap();
        fs::write(at("deep/c.py"), "tex!\n").unwrap();
        mode("run.sh", 0o4755);
        mode("z.py", 0o777);
        fs::remove_file(at("deep/down/b.py")).unwrap();
        symlink(&victim, at("deep/down/b.py")).unwrap();
        fs::hard_link(at("deep/e.py"), at("another")).unwrap();
        fs::remove_file(at("x/y")).unwrap();
        fs::create_dir_all(at("x/y/z")).unwrap();
        mode("x", 0o500);
        fs::write(at("tidy/g.py"), "").unwrap();
        fs::write(at("proposal.md"), "").unwrap();
        fs::remove_dir_all(at(".git")).unwrap();
        symlink(directory.path(), at(".git")).unwrap();
        let kept = fs::metadata(at("tidy/f.py")).unwrap().ino();
        base.weed(&old).unwrap();
        plant(&old);
        plant(&new);
        assert_eq!(seen(&old), seen(&new));
        assert_eq!(fs::metadata(at("tidy/f.py")).unwrap().ino(), kept);
        assert_eq!(fs::metadata(&victim).unwrap().nlink(), 1);
        let status = |root: &Path| Repository::open(root).unwrap().statuses(None).unwrap().len();
        assert_eq!([status(&old), status(&new)], [0, 0]);
    }
}

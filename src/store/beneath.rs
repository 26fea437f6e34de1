//! Files below a directory that another process may write to. No link on the way is ever followed: every step starts from the
//! open directory before it, so that nothing can be swapped in between.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, linkat, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::atomic::PREFIX;
use crate::error::{Code, Error, Result};

/// Larger than any trace, in bytes.
const LARGEST: u64 = 1 << 30;

/// An open directory, and its path for messages.
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    /// Whether a rename onto a file costs no more than another one.
    renames_at_once: bool,
}

impl Dir {
    /// The directory at `root`, made when it is missing. Links to it are followed: its owner may have put it elsewhere.
    pub(super) fn make(root: &Path) -> Result<Dir> {
        if let Ok(there) = Dir::open(root) {
            return Ok(there);
        }
        fs_err::create_dir_all(root)?;
        Dir::open(root)
    }

    /// The directory at `root`, which must be there.
    pub(crate) fn open(root: &Path) -> Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(root, flags, Mode::empty()) {
            Ok(fd) => Ok(Dir { renames_at_once: renames_at_once(&fd), fd, path: root.to_path_buf() }),
            Err(error) => {
                Err(Error::infrastructure(format!("cannot open {}", root.display())).because(io::Error::from(error)))
            }
        }
    }

    /// The directory at `relative`, made when it is missing.
    pub(crate) fn make_below(&self, relative: &Path) -> Result<Dir> {
        if let Some(there) = self.straight(relative) {
            return Ok(there);
        }
        let mut inner = None;
        for part in relative.components() {
            inner = Some(inner.as_ref().unwrap_or(self).make_one(part)?);
        }
        inner.ok_or_else(|| self.failed("cannot enter", relative.as_os_str(), io::ErrorKind::InvalidInput.into()))
    }

    fn make_one(&self, part: Component<'_>) -> Result<Dir> {
        match self.enter(part)? {
            Ok(inner) => Ok(inner),
            Err(name) => {
                match mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
                    // Another process has created it meanwhile.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(self.failed("cannot make", name, error.into())),
                }
                self.enter(Component::Normal(name))?
                    .map_err(|name| self.failed("cannot make", name, io::ErrorKind::NotFound.into()))
            }
        }
    }

    /// The directory at `relative`; `None` when it, or one above it, is missing.
    pub(crate) fn below(&self, relative: &Path) -> Result<Option<Dir>> {
        if let Some(there) = self.straight(relative) {
            return Ok(Some(there));
        }
        let mut inner = None;
        for part in relative.components() {
            match inner.as_ref().unwrap_or(self).enter(part)? {
                Ok(next) => inner = Some(next),
                Err(_) => return Ok(None),
            }
        }
        Ok(inner)
    }

    /// The whole way in one step, if the kernel itself can refuse links. `None` if it cannot, or if something is in the way:
    /// going step by step finds out what.
    #[cfg(target_os = "linux")]
    fn straight(&self, relative: &Path) -> Option<Dir> {
        use rustix::fs::{ResolveFlags, openat2};
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let fd = openat2(&self.fd, relative, flags, Mode::empty(), resolve).ok()?;
        Some(self.inner(fd, relative))
    }

    #[cfg(not(target_os = "linux"))]
    fn straight(&self, _relative: &Path) -> Option<Dir> {
        None
    }

    fn inner(&self, fd: OwnedFd, relative: &Path) -> Dir {
        Dir { fd, path: self.path.join(relative), renames_at_once: self.renames_at_once }
    }

    /// One step down; the name when there is nothing.
    fn enter<'a>(&self, part: Component<'a>) -> Result<Result<Dir, &'a OsStr>> {
        let Component::Normal(name) = part else {
            return Err(self.failed("cannot enter", part.as_os_str(), io::ErrorKind::InvalidInput.into()));
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Ok(self.inner(fd, name.as_ref()))),
            Err(Errno::NOENT) => Ok(Err(name)),
            Err(_) if self.kind(name) == Some(FileType::Symlink) => Err(self.linked(name)),
            Err(error) => Err(self.failed("cannot enter", name, error.into())),
        }
    }

    fn linked(&self, name: &OsStr) -> Error {
        Error::usage(format!("{} is a link; nothing is written through links", self.path.join(name).display()))
            .code(Code::FileUnusable)
            .hint("remove it, and run the same command again.")
    }

    fn kind(&self, name: &OsStr) -> Option<FileType> {
        Some(FileType::from_raw_mode(statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?.st_mode))
    }

    fn failed(&self, what: &str, name: &OsStr, error: io::Error) -> Error {
        Error::infrastructure(format!("{what} {}", self.path.join(name).display())).because(error)
    }

    /// Whether there is something of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.kind(name.as_ref()).is_some()
    }

    /// Replaces a file atomically, without waiting for the disk: a killed process leaves the old file or the new one. Only
    /// the holder of the lock may call it: the temporary file has a fixed name, so that what a killed process left is gone
    /// after the next attempt.
    pub(crate) fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        let temporary = format!("{PREFIX}{name}");
        let create = || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&self.fd, temporary.as_str(), flags, Mode::from_raw_mode(0o644))
        };
        let created = match create() {
            Err(Errno::EXIST) => unlinkat(&self.fd, temporary.as_str(), AtFlags::empty()).and_then(|()| create()),
            created => created,
        };
        let written = created.map_err(io::Error::from).and_then(|fd| {
            std::fs::File::from(fd).write_all(content)?;
            Ok(self.put_in_place(&temporary, name, true)?)
        });
        written.map_err(|error| {
            // Best effort; the next attempt removes it otherwise.
            let _ = unlinkat(&self.fd, temporary.as_str(), AtFlags::empty());
            self.failed("cannot write", name.as_ref(), error)
        })
    }

    /// Gives a finished file its name. `is_new`: it has no other name that could be this one.
    fn put_in_place(&self, temporary: &str, name: &str, is_new: bool) -> rustix::io::Result<()> {
        if !self.renames_at_once
            && let Some(exchanged) = self.exchange(temporary, name)
        {
            return exchanged;
        }
        renameat(&self.fd, temporary, &self.fd, name)?;
        if is_new {
            return Ok(());
        }
        // A rename between two names of one file removes neither.
        match unlinkat(&self.fd, temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lets a file change places with the one whose name it is to have, and removes that one. `None` when the name is free, or
    /// this is not possible here.
    fn exchange(&self, temporary: &str, name: &str) -> Option<rustix::io::Result<()>> {
        if !matches!(self.kind(name.as_ref()), Some(FileType::RegularFile | FileType::Symlink)) {
            return None;
        }
        #[cfg(any(target_os = "linux", target_vendor = "apple"))]
        if rustix::fs::renameat_with(&self.fd, temporary, &self.fd, name, rustix::fs::RenameFlags::EXCHANGE).is_ok() {
            return Some(unlinkat(&self.fd, temporary, AtFlags::empty()));
        }
        None
    }

    /// Hard-links a file of this directory under the same name in another, replacing what is there, which saves writing it
    /// again. Only for files that are replaced and never written into. False when there is no such file.
    pub(super) fn share(&self, name: &str, other: &Dir) -> Result<bool> {
        let temporary = format!("{PREFIX}{name}");
        let link = || linkat(&self.fd, name, &other.fd, temporary.as_str(), AtFlags::empty());
        let linked = match link() {
            Err(Errno::EXIST) => unlinkat(&other.fd, temporary.as_str(), AtFlags::empty()).and_then(|()| link()),
            linked => linked,
        };
        let status = linked.and_then(|()| statat(&other.fd, temporary.as_str(), AtFlags::SYMLINK_NOFOLLOW));
        // Only a regular file is linked; a symbolic link would be one in the other place, too.
        if let Ok(status) = status
            && FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
            && other.put_in_place(&temporary, name, status.st_nlink == 2).is_ok()
        {
            return Ok(true);
        }
        if linked.is_ok() {
            let _ = unlinkat(&other.fd, temporary.as_str(), AtFlags::empty());
        }
        // Not every file system has hard links, and not every kernel lets us link another user's file.
        match self.read(name)? {
            Some(content) => other.replace(name, &content).map(|()| true),
            None => Ok(false),
        }
    }

    /// Removes a file or a link, when there is one.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("cannot remove", name.as_ref(), error.into())),
        }
    }

    /// The names of entries not known to be directories.
    pub(super) fn but_directories(&self) -> Result<HashSet<OsString>> {
        let failed = |error: Errno| self.failed("cannot list", OsStr::new(""), error.into());
        let mut names = HashSet::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type() != FileType::Directory {
                names.insert(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
            }
        }
        Ok(names)
    }

    /// The names in it, sorted, without `.` and `..`.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let failed = |error: Errno| self.failed("cannot list", OsStr::new(""), error.into());
        let listing = rustix::fs::Dir::read_from(&self.fd).map_err(failed)?;
        let name = |entry: rustix::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = listing.map(|entry| entry.map(name)).collect::<Result<_, _>>().map_err(failed)?;
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }

    /// The bytes of a regular file; `None` when there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.read_within(name, LARGEST)?.and_then(std::result::Result::ok))
    }

    /// The bytes of a regular file of at most `limit` bytes, or how many it has; `None` when there is none.
    pub(crate) fn read_within(&self, name: &str, limit: u64) -> Result<Option<std::result::Result<Vec<u8>, u64>>> {
        let Some((file, length)) = self.plain_file(name)? else { return Ok(None) };
        if length > limit {
            return Ok(Some(Err(length)));
        }
        // Room for all of it, or reading feels its way in small steps.
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        let read = file.take(length).read_to_end(&mut bytes);
        read.map_err(|error| self.failed("cannot read", name.as_ref(), error))?;
        Ok(Some(Ok(bytes)))
    }

    /// A regular file, open, and how many bytes it has; `None` when there is none, or a link or a pipe in its place.
    pub(crate) fn plain_file(&self, name: &str) -> Result<Option<(std::fs::File, u64)>> {
        // Without NONBLOCK, opening a pipe waits for a writer that may never come.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => std::fs::File::from(fd),
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(error) => return Err(self.failed("cannot read", name.as_ref(), error.into())),
        };
        let metadata = file.metadata().map_err(|error| self.failed("cannot read", name.as_ref(), error))?;
        Ok(metadata.is_file().then_some((file, metadata.len())))
    }
}

/// Whether a rename onto a file costs no more than another one. ext4 flushes the new file to the disk at once, which for
/// thousands of traces costs more than writing them (`auto_da_alloc` in ext4(5)); what lies below an overlay is unknown.
#[cfg(target_os = "linux")]
fn renames_at_once(directory: &OwnedFd) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const XFS: u64 = 0x5846_5342;
    rustix::fs::fstatfs(directory).is_ok_and(|system| [TMPFS, XFS].contains(&(system.f_type as u64)))
}

#[cfg(not(target_os = "linux"))]
fn renames_at_once(_directory: &OwnedFd) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_is_written_through_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (directory.path().join("root"), directory.path().join("elsewhere"));
        fs_err::create_dir_all(root.join("plain")).unwrap();
        fs_err::create_dir_all(&elsewhere).unwrap();
        symlink(&elsewhere, root.join("link")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        for path in ["link", "link/sub", "dangling"] {
            let error = Dir::open(&root).unwrap().make_below(Path::new(path)).err().unwrap();
            assert!(error.to_string().contains("is a link"), "{error}");
        }
        assert!(Dir::open(&root).unwrap().make_below(Path::new("../elsewhere")).is_err());
        assert_eq!(fs_err::read_dir(&elsewhere).unwrap().count(), 0);
        // A link in a file's place is replaced, not followed.
        let kept = elsewhere.join("kept");
        fs_err::write(&kept, "kept").unwrap();
        let plain = Dir::make(&root).unwrap().make_below(Path::new("plain/sub")).unwrap();
        for name in ["file".to_string(), format!("{PREFIX}file")] {
            symlink(&kept, root.join("plain/sub").join(name)).unwrap();
        }
        plain.replace("file", b"new").unwrap();
        assert_eq!(fs_err::read_to_string(&kept).unwrap(), "kept");
        assert_eq!(plain.read("file").unwrap().unwrap(), b"new");
        assert_eq!(fs_err::read_dir(root.join("plain/sub")).unwrap().count(), 1);
    }

    #[test]
    fn a_shared_file_outlives_what_takes_its_place_elsewhere() {
        for renames_at_once in [false, true] {
            a_shared_file_outlives(renames_at_once);
        }
    }

    fn a_shared_file_outlives(renames_at_once: bool) {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| Dir { renames_at_once, ..Dir::make(&directory.path().join(name)).unwrap() };
        let (one, other) = (at("one"), at("other"));
        assert!(!one.share("file", &other).unwrap(), "nothing to share");
        one.replace("file", b"first").unwrap();
        other.replace("file", b"older").unwrap();
        fs_err::write(directory.path().join("other").join(format!("{PREFIX}file")), "torn").unwrap();
        // The second time, both are already the same file.
        for _ in 0..2 {
            assert!(one.share("file", &other).unwrap());
            assert_eq!(other.names().unwrap(), ["file"]);
        }
        one.replace("file", b"second").unwrap();
        assert_eq!([&one, &other].map(|dir| dir.read("file").unwrap().unwrap()), [&b"second"[..], b"first"]);
        // Neither a link nor a directory is hard-linked, and a directory in the way stays.
        symlink("/etc/passwd", directory.path().join("one/link")).unwrap();
        assert!(!one.share("link", &other).unwrap());
        fs_err::create_dir(directory.path().join("other/second")).unwrap();
        one.replace("second", b"second").unwrap();
        assert!(one.share("second", &other).is_err() && other.replace("second", b"second").is_err());
        assert_eq!(
            [other.names().unwrap(), one.names().unwrap()],
            [["file", "second"].map(String::from).to_vec(), ["file", "link", "second"].map(String::from).to_vec()]
        );
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let dir = Dir::open(directory.path()).unwrap();
        symlink("/etc/passwd", directory.path().join("link")).unwrap();
        fs_err::create_dir(directory.path().join("directory")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(directory.path().join("pipe")).status().unwrap();
        assert!(made.success());
        for name in ["link", "directory", "pipe", "missing"] {
            assert_eq!(dir.read(name).unwrap(), None, "{name}");
        }
        assert!(dir.below(Path::new("missing/too")).unwrap().is_none());
    }
}

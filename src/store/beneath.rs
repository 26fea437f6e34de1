//! Files below a directory that somebody else may write in, too. No link on the way is ever followed: every step is taken from
//! the open directory before it, so that nothing can be put in its place in between.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::atomic::PREFIX;
use crate::error::{Error, Result};

/// Larger than any trace, in bytes.
const LARGEST: u64 = 1 << 30;

/// An open directory, and its path for messages.
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// The directory at `root`, made when it is missing. Links to it are followed: its owner may have put it elsewhere.
    pub(super) fn make(root: &Path) -> Result<Dir> {
        fs_err::create_dir_all(root)?;
        Dir::open(root)
    }

    /// The directory at `root`, which must be there.
    pub(super) fn open(root: &Path) -> Result<Dir> {
        Ok(Dir { fd: fs_err::File::open(root)?.into_parts().0.into(), path: root.to_path_buf() })
    }

    /// The directory at `relative`, made when it is missing.
    pub(super) fn make_below(self, relative: &Path) -> Result<Dir> {
        relative.components().try_fold(self, |directory, part| match directory.enter(part)? {
            Ok(inner) => Ok(inner),
            Err(part) => {
                match mkdirat(&directory.fd, part, Mode::from_raw_mode(0o755)) {
                    // It has come into being by itself.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(directory.failed("cannot make", part, error.into())),
                }
                directory
                    .enter(Component::Normal(part))?
                    .map_err(|part| directory.failed("cannot make", part, io::ErrorKind::NotFound.into()))
            }
        })
    }

    /// The directory at `relative`; `None` when it, or one above it, is missing.
    pub(super) fn below(self, relative: &Path) -> Result<Option<Dir>> {
        let mut directory = self;
        for part in relative.components() {
            match directory.enter(part)? {
                Ok(inner) => directory = inner,
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(directory))
    }

    /// One step down; the name when there is nothing.
    fn enter<'a>(&self, part: Component<'a>) -> Result<Result<Dir, &'a OsStr>> {
        let Component::Normal(name) = part else {
            return Err(self.failed("cannot enter", part.as_os_str(), io::ErrorKind::InvalidInput.into()));
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Ok(Dir { fd, path: self.path.join(name) })),
            Err(Errno::NOENT) => Ok(Err(name)),
            Err(_) if self.kind(name) == Some(FileType::Symlink) => Err(self.linked(name)),
            Err(error) => Err(self.failed("cannot enter", name, error.into())),
        }
    }

    fn linked(&self, name: &OsStr) -> Error {
        Error::usage(format!("{} is a link; traces are not written through links", self.path.join(name).display()))
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
    pub(super) fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
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
            Ok(renameat(&self.fd, temporary.as_str(), &self.fd, name)?)
        });
        written.map_err(|error| {
            // Best effort; the next attempt removes it otherwise.
            let _ = unlinkat(&self.fd, temporary.as_str(), AtFlags::empty());
            self.failed("cannot write", name.as_ref(), error)
        })
    }

    /// Removes a file or a link, when there is one.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("cannot remove", name.as_ref(), error.into())),
        }
    }

    /// The names in it, sorted.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let failed = |error: Errno| self.failed("cannot list", OsStr::new(""), error.into());
        let listing = rustix::fs::Dir::read_from(&self.fd).map_err(failed)?;
        let name = |entry: rustix::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = listing.map(|entry| entry.map(name)).collect::<Result<_, _>>().map_err(failed)?;
        names.sort();
        Ok(names)
    }

    /// The bytes of a regular file; `None` when there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        // Without NONBLOCK, opening a pipe waits for a writer that may never come.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => std::fs::File::from(fd),
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(error) => return Err(self.failed("cannot read", name.as_ref(), error.into())),
        };
        let metadata = file.metadata().map_err(|error| self.failed("cannot read", name.as_ref(), error))?;
        if !metadata.is_file() || metadata.len() > LARGEST {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read = file.take(metadata.len()).read_to_end(&mut bytes);
        read.map_err(|error| self.failed("cannot read", name.as_ref(), error))?;
        Ok(Some(bytes))
    }
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

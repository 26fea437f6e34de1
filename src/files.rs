//! Reading files that another process may have put there: the coding agent, a script, a careless `mkfifo`.
//!
//! Opening a named pipe blocks until there is a writer, `/dev/zero` never ends, and 10 GB fill the memory. So we check a file
//! before opening it and again once it is open, and read no more than any honest file of its kind holds.

use std::fs::{FileType, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::OFlags;

use crate::error::{Code, Error, Result};

/// Larger than any text that a person writes or a view holds, in bytes.
pub(crate) const LARGEST: u64 = 64 << 20;

/// Opens a regular file for reading, through links; `None` when there is none. Never waits. Errors: usage when
/// something else is in its place or it may not be read, infrastructure when the disk fails.
pub(crate) fn open_if_there(path: &Path) -> Result<Option<(fs_err::File, Metadata)>> {
    // Checked before it is opened, because opening a device can have effects.
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => return Err(not_a_file(path, metadata.file_type())),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, error)),
    }
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let opened = fs_err::OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, error)),
    };
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok(Some((file, metadata))) } else { Err(not_a_file(path, metadata.file_type())) }
}

/// The content of a regular file of at most `largest` bytes; `None` when there is none.
pub(crate) fn read_if_there(path: &Path, largest: u64) -> Result<Option<Vec<u8>>> {
    let Some((file, metadata)) = open_if_there(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    // It may grow while we read it, and kernel files report a size of 0.
    if metadata.len() <= largest {
        bytes.reserve(usize::try_from(metadata.len()).unwrap_or(0));
        file.take(largest + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, error))?;
    }
    if metadata.len() > largest || bytes.len() as u64 > largest {
        return Err(Error::usage(format!(
            "{} is too large: {} bytes, and no honest one has more than {largest}",
            path.display(),
            metadata.len().max(bytes.len() as u64)
        ))
        .code(Code::FileUnusable)
        .hint("see what filled it, and remove it or put the right file in its place."));
    }
    Ok(Some(bytes))
}

/// As [`read_if_there`]; a missing file is an error.
pub(crate) fn read(path: &Path, largest: u64) -> Result<Vec<u8>> {
    read_if_there(path, largest)?.ok_or_else(|| Error::infrastructure(format!("{} does not exist", path.display())))
}

pub(crate) fn read_text_if_there(path: &Path, largest: u64) -> Result<Option<String>> {
    let Some(bytes) = read_if_there(path, largest)? else { return Ok(None) };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Error::usage(format!("cannot read {}: not UTF-8 text", path.display())).code(Code::FileUnusable)),
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let message = format!("cannot read {}", path.display());
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::NotADirectory | ErrorKind::IsADirectory => Error::usage(message),
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Error::usage(message),
        _ => Error::infrastructure(message),
    }
    .because(error)
}

/// The error for something that is no regular file.
pub(crate) fn not_a_file(path: &Path, kind: FileType) -> Error {
    Error::usage(format!("{} is {}, not a file", path.display(), describe(kind)))
        .code(Code::FileUnusable)
        .hint("remove it, or put the right file in its place.")
}

fn describe(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_symlink() {
        "a link"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs_err::write(path("file"), "text").unwrap();
        fs_err::os::unix::fs::symlink("file", path("link")).unwrap();
        fs_err::os::unix::fs::symlink("/dev/zero", path("zero")).unwrap();
        fs_err::os::unix::fs::symlink("itself", path("itself")).unwrap();
        fs_err::create_dir(path("directory")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap();
        assert!(pipe.success());
        let huge = fs_err::File::create(path("huge")).unwrap();
        huge.set_len(10 << 30).unwrap();
        for name in ["file", "link"] {
            assert_eq!(read_if_there(&path(name), 4).unwrap().unwrap(), b"text");
        }
        assert_eq!(read_if_there(&path("none"), 4).unwrap(), None);
        let what = [
            ("directory", "is a directory, not a file"),
            ("pipe", "is a named pipe, not a file"),
            ("zero", "is a device, not a file"),
            ("huge", "is too large: 10737418240 bytes"),
            ("itself", "cannot read "),
            ("file/below", "cannot read "),
        ];
        for (name, words) in what {
            let error = read_if_there(&path(name), 1 << 20).unwrap_err();
            assert!(error.to_string().contains(words) && error.exit_code() == 2, "{error}");
        }
        assert!(read_if_there(&path("file"), 3).is_err());
        // Says that it is empty.
        let kernel = std::path::Path::new("/proc/self/status");
        assert!(!kernel.exists() || read_if_there(kernel, 16).is_err());
    }
}

//! Files that reports go to: written in place, so that a device, a pipe or a link stays what it is.

use std::fs::Metadata;
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::{Access, OFlags, access};

use crate::error::{Code, Context, Error, Result};

/// Links that lead to links: as many as Linux follows.
const MAX_LINKS: usize = 40;

/// What is at the end of a path, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReportTarget {
    /// A regular file, or nothing yet.
    File,
    /// A device, a pipe, or one of our own open files: it takes one report, at the end.
    Stream,
    /// Something that no report can be written to.
    Other,
}

/// What a report at this path is written to.
pub(super) fn target(path: &Path) -> ReportTarget {
    // `/dev/stdout` may be a file that others write to as well.
    let own =
        |path: &Path| ["/dev/fd", "/dev/stdout", "/dev/stderr", "/proc"].iter().any(|start| path.starts_with(start));
    let mut place = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        if own(&place) {
            return ReportTarget::Stream;
        }
        let Ok(next) = fs::read_link(&place) else { break };
        place = place.parent().map_or_else(|| next.clone(), |directory| directory.join(&next));
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => ReportTarget::File,
        Ok(metadata) if is_stream(&metadata) => ReportTarget::Stream,
        Ok(_) => ReportTarget::Other,
        Err(_) => ReportTarget::File,
    }
}

fn is_stream(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() || metadata.file_type().is_fifo()
}

/// Checks whether a report can be written, and leaves nothing behind.
pub(super) fn check(path: &Path) -> Result<()> {
    let refused = |error: anyhow::Error| {
        Error::usage(format!("cannot write the report {}", path.display()))
            .code(Code::ReportUnwritable)
            .because(error)
            .hint("name a file in a directory that exists and is writable.")
    };
    match target(path) {
        // Opening a pipe waits for its reader.
        ReportTarget::Stream => {
            access(path, Access::WRITE_OK).map_err(|error| refused(std::io::Error::from(error).into()))
        }
        ReportTarget::Other => Err(refused(anyhow::anyhow!("it is neither a file nor a stream"))),
        ReportTarget::File => {
            let existed = path.exists();
            fs::OpenOptions::new().create(true).append(true).open(path).map_err(|error| refused(error.into()))?;
            if !existed && let Ok(made) = fs::canonicalize(path) {
                let _ = fs::remove_file(made);
            }
            Ok(())
        }
    }
}

/// Replaces the content with this text. The old text is cut off last, so that something is left on a full disk.
pub(super) fn replace(path: &Path, text: &str) -> Result<()> {
    if target(path) != ReportTarget::File {
        return append(path, text);
    }
    let mut file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    Ok(())
}

/// Adds this text to a file, or writes it to a stream. A pipe without a reader is not waited for.
pub(super) fn append(path: &Path, text: &str) -> Result<()> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut file = fs::OpenOptions::new().create(true).append(true).custom_flags(flags).open(path)?;
    file.write_all(text.as_bytes()).infra(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    fn bed() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_path_buf();
        (directory, path)
    }

    #[test]
    fn what_a_path_leads_to_is_known_without_opening_it() {
        let (_directory, root) = bed();
        fs::write(root.join("file"), "").unwrap();
        assert!(std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
        for (name, to) in [("a", "file"), ("b", "a"), ("dangling", "nothing"), ("out", "/dev/stdout"), ("c", "out")] {
            symlink(to, root.join(name)).unwrap();
        }
        symlink("loop", root.join("loop")).unwrap();
        let found = |name: &str| target(&root.join(name));
        assert_eq!(["file", "a", "b", "dangling", "absent"].map(found), [ReportTarget::File; 5]);
        assert_eq!(["pipe", "out", "c"].map(found), [ReportTarget::Stream; 3]);
        assert_eq!(target(Path::new("/dev/null")), ReportTarget::Stream);
        assert_eq!(target(Path::new("/dev/fd/1")), ReportTarget::Stream);
        assert_eq!(target(&root), ReportTarget::Other);
        check(&root.join("loop")).unwrap_err();
        check(&root).unwrap_err();
    }

    #[test]
    fn a_check_leaves_nothing_and_changes_nothing() {
        let (_directory, root) = bed();
        fs::write(root.join("file"), "old").unwrap();
        symlink("made", root.join("link")).unwrap();
        for name in ["file", "absent", "link"] {
            check(&root.join(name)).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["file", "link"]);
        assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "old");
        assert_eq!(check(&root.join("no/such")).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_file_is_replaced_in_place_and_a_stream_written_once() {
        let (_directory, root) = bed();
        fs::write(root.join("file"), "a long old text").unwrap();
        symlink("file", root.join("link")).unwrap();
        replace(&root.join("link"), "new").unwrap();
        assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "new");
        assert!(root.join("link").is_symlink());
        append(&root.join("file"), "er").unwrap();
        assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "newer");
        replace(Path::new("/dev/null"), "x").unwrap();
        let pipe = root.join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(replace(&pipe, "x").is_err(), "nobody reads it");
        let mut reader =
            fs::OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(&pipe).unwrap();
        replace(&pipe, "report").unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!(text, "report");
    }
}

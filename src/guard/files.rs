//! Reading files safely: no links followed, no blocking on pipes, no unbounded sizes.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::OFlags;

/// Opens a regular file for reading. `None` when the path is something else (a link, pipe, directory, socket).
pub(super) fn open_regular(path: &Path) -> io::Result<Option<(fs::File, std::fs::Metadata)>> {
    // Without NONBLOCK, opening a pipe waits for a writer that may never come.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) => {
            return match fs::symlink_metadata(path) {
                Ok(metadata) if !metadata.is_file() => Ok(None),
                _ => Err(error),
            };
        }
    };
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata)))
}

/// Reads at most `limit` bytes. `None` when the file is longer.
pub(super) fn read_up_to(file: fs::File, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Whether the owner may execute the file: the only permission that git records.
pub(super) fn is_executable(metadata: &std::fs::Metadata) -> bool {
    metadata.mode() & 0o100 != 0
}

/// A relative path of bytes, as trees store it, below `root`.
pub(super) fn join(root: &Path, relative: &[u8]) -> PathBuf {
    if relative.is_empty() { root.to_path_buf() } else { root.join(OsStr::from_bytes(relative)) }
}

/// `directory/name` as bytes; just `name` at the top.
pub(super) fn join_bytes(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    if !directory.is_empty() && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The directory part of a relative path; empty at the top.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash])
}

/// Every directory above `path`, outermost first: `a/b/c` gives `a`, `a/b`.
pub(super) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(slash, _)| &path[..slash])
}

/// A path for people: as it is when that is safe to print, else quoted with `\n`, `\xff` and the like.
pub fn show_path(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) if !text.chars().any(|c| c.is_control() || c == '"' || c == '\\') => text.to_string(),
        _ => format!("\"{}\"", path.escape_ascii()),
    }
}

/// A path quoted for a shell: hints show commands with it.
pub(crate) fn shell_path(path: &[u8]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "._-/+@%:,".contains(c);
    match std::str::from_utf8(path) {
        Ok(text) if !text.is_empty() && text.chars().all(plain) => text.to_string(),
        Ok(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => format!("$'{}'", path.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_commands_are_one_word() {
        assert_eq!(shell_path("agent/grün.py".as_bytes()), "agent/grün.py");
        assert_eq!(shell_path(b"two words.md"), "'two words.md'");
        assert_eq!(shell_path(b"it's $HOME"), r"'it'\''s $HOME'");
        for odd in [b"a\n'b\xe9\\".as_slice(), b"it's \" here", b"~/x", b"*"] {
            let command = format!("printf %s {}", shell_path(odd));
            let output = std::process::Command::new("bash").args(["-c", &command]).output().unwrap();
            assert_eq!(output.stdout, odd, "{command}");
        }
    }

    #[test]
    fn strange_names_cannot_forge_a_line_of_output() {
        assert_eq!(show_path("agent/grün.py".as_bytes()), "agent/grün.py");
        assert_eq!(show_path(b"a\nb"), r#""a\nb""#);
        assert_eq!(show_path(b"caf\xe9"), r#""caf\xe9""#);
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let status = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(status.success());
        assert!(open_regular(&pipe).unwrap().is_none());
    }
}

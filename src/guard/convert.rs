//! Git's built-in conversions: line endings and `$Id$`. Git normalises what it commits, so we must normalise what we score;
//! otherwise the gate would pass bytes that no commit will ever hold. Filter programs are never run.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use git2::{AttrCheckFlags, AttrValue, Index, IndexEntry, Oid};

use super::base::read_blob;
use super::editable_files::{EditableFile, EditableFiles};
use super::files::{self, show_path};
use super::repo::Repo;
use super::watch::reading;
use crate::error::{Error, Result};

/// Editable files as `git add` would put them into a commit: line endings, `$Id$` and executable bits as git's
/// configuration and attributes have them here. Only editable files are treated this way: whatever configuration and
/// attributes say, these bytes are scored and committed. Errors: a usage error for a file that git would run a program
/// on, or recode: it could never be recorded.
pub(super) fn as_committed(repo: &Repo, files: EditableFiles) -> Result<EditableFiles> {
    let config = repo.git().config()?.snapshot()?;
    // `git` distinguishes `input` from the other words.
    let automatic = match config.get_str("core.autocrlf") {
        Ok("input") => true,
        _ => config.get_bool("core.autocrlf").unwrap_or(false),
    };
    let has_modes = config.get_bool("core.fileMode").unwrap_or(true);
    let index = Index::open(&repo.index_path()).ok();
    let mut result = EditableFiles::new();
    for (path, file) in files {
        let full = files::join_bytes(repo.prefix(), &path);
        let attribute = |name: &str| attribute(repo, &full, name);
        if let AttributeValue::Text(driver) = attribute("filter")? {
            let key = |part: &str| config.get_entry(&format!("filter.{driver}.{part}")).is_ok();
            if key("clean") || key("process") {
                return Err(never_as_it_lies(&path, &format!("filter={driver}")));
            }
        }
        if let AttributeValue::Text(encoding) = attribute("working-tree-encoding")?
            && !["utf-8", "utf8"].contains(&encoding.to_ascii_lowercase().as_str())
        {
            return Err(never_as_it_lies(&path, &format!("working-tree-encoding={encoding}")));
        }
        let recorded: Option<IndexEntry> =
            index.as_ref().and_then(|index| index.get_path(Path::new(OsStr::from_bytes(&full)), 0));
        let text = match attribute("text")? {
            AttributeValue::Unspecified => attribute("crlf")?,
            said => said,
        };
        let eol = matches!(attribute("eol")?, AttributeValue::Text(word) if word == "lf" || word == "crlf");
        let endings = match text {
            AttributeValue::Set => Endings::Text,
            AttributeValue::Unset => Endings::Keep,
            AttributeValue::Text(word) if word == "auto" => Endings::Guess,
            AttributeValue::Text(word) if word == "input" => Endings::Text,
            _ if eol => Endings::Text,
            _ if automatic => Endings::Guess,
            _ => Endings::Keep,
        };
        let before = || recorded.as_ref().and_then(|entry| read_blob(repo.git(), entry.id).ok());
        let mut bytes = clean_endings(file.bytes, endings, before);
        if attribute("ident")? == AttributeValue::Set {
            bytes = clean_ident(&bytes).into_owned();
        }
        let executable =
            if has_modes { file.executable } else { recorded.is_some_and(|entry| entry.mode & 0o100 != 0) };
        result.insert(path, EditableFile { bytes, executable });
    }
    Ok(result)
}

fn never_as_it_lies(path: &[u8], attribute: &str) -> Error {
    let shown = show_path(path);
    Error::usage(format!(
        "{shown} has the git attribute `{attribute}`: git would commit other bytes than those on disk"
    ))
    .hint("autoharness runs no filter programs, so it cannot know what would be committed.")
    .hint(format!(
        "take the attribute from the file: `{shown} -filter -working-tree-encoding` as last line of .gitattributes."
    ))
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AttributeValue {
    Unspecified,
    Set,
    Unset,
    Text(String),
}

fn attribute(repo: &Repo, path: &[u8], name: &str) -> Result<AttributeValue> {
    let place = Path::new(OsStr::from_bytes(path));
    let found = reading(
        || format!("the attributes of {}", show_path(path)),
        || repo.git().get_attr_bytes(place, name, AttrCheckFlags::default()),
    )?;
    Ok(match AttrValue::from_bytes(found) {
        AttrValue::True => AttributeValue::Set,
        AttrValue::False => AttributeValue::Unset,
        AttrValue::Unspecified => AttributeValue::Unspecified,
        AttrValue::String(text) => AttributeValue::Text(text.to_string()),
        AttrValue::Bytes(bytes) => AttributeValue::Text(String::from_utf8_lossy(bytes).into_owned()),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endings {
    Keep,
    Text,
    /// Converted when it looks like text and was not committed with CRLF before.
    Guess,
}

fn clean_endings(bytes: Vec<u8>, endings: Endings, before: impl FnOnce() -> Option<Vec<u8>>) -> Vec<u8> {
    let convert = match endings {
        Endings::Keep => false,
        Endings::Text => true,
        Endings::Guess => {
            !looks_binary(&bytes) && !before().is_some_and(|blob| has_crlf(&blob) && !looks_binary(&blob))
        }
    };
    if convert && has_crlf(&bytes) { without_crlf(&bytes) } else { bytes }
}

fn has_crlf(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\r\n")
}

/// Every CRLF as LF.
pub(super) fn without_crlf(bytes: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    for (position, byte) in bytes.iter().enumerate() {
        if *byte != b'\r' || bytes.get(position + 1) != Some(&b'\n') {
            result.push(*byte);
        }
    }
    result
}

/// Git's own guess: a lone CR, a NUL or many control characters are no text.
fn looks_binary(bytes: &[u8]) -> bool {
    let (mut printable, mut other) = (0_usize, 0_usize);
    for (position, byte) in bytes.iter().enumerate() {
        match byte {
            0 => return true,
            b'\r' if bytes.get(position + 1) != Some(&b'\n') => return true,
            b'\r' | b'\n' => {}
            0x08 | b'\t' | 0x0c | 0x1b | b' '..=b'~' | 0x80.. => printable += 1,
            // An end-of-file mark of old.
            0x1a if position + 1 == bytes.len() => {}
            _ => other += 1,
        }
    }
    printable >> 7 < other
}

/// `$Id: anything $` as `$Id$`, within a line.
pub(super) fn clean_ident(bytes: &[u8]) -> Cow<'_, [u8]> {
    const START: &[u8] = b"$Id:";
    let mut result = Vec::new();
    let mut done = 0;
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(START.len()).position(|window| window == START) {
        let start = at + found;
        let rest = &bytes[start + START.len()..];
        match rest.iter().position(|byte| matches!(byte, b'$' | b'\n' | b'\r')) {
            Some(end) if rest[end] == b'$' => {
                result.extend_from_slice(&bytes[done..start]);
                result.extend_from_slice(b"$Id$");
                at = start + START.len() + end + 1;
                done = at;
            }
            _ => at = start + START.len(),
        }
    }
    if done == 0 {
        return Cow::Borrowed(bytes);
    }
    result.extend_from_slice(&bytes[done..]);
    Cow::Owned(result)
}

/// `$Id$` as a checkout writes it.
pub(super) fn expanded_ident(bytes: &[u8], id: Oid) -> Vec<u8> {
    const MARK: &[u8] = b"$Id$";
    let mut result = Vec::with_capacity(bytes.len() + 64);
    let mut rest = bytes;
    while let Some(found) = rest.windows(MARK.len()).position(|window| window == MARK) {
        result.extend_from_slice(&rest[..found]);
        result.extend_from_slice(format!("$Id: {id} $").as_bytes());
        rest = &rest[found + MARK.len()..];
    }
    result.extend_from_slice(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_endings_are_those_git_would_commit() {
        let clean =
            |bytes: &[u8], endings, before: &[u8]| clean_endings(bytes.to_vec(), endings, || Some(before.to_vec()));
        assert_eq!(clean(b"a\r\nb\rc\n", Endings::Text, b""), b"a\nb\rc\n");
        assert_eq!(clean(b"a\r\n", Endings::Keep, b""), b"a\r\n");
        assert_eq!(clean(b"a\r\n", Endings::Guess, b"a\n"), b"a\n");
        assert_eq!(clean(b"a\r\n", Endings::Guess, b"a\r\n"), b"a\r\n", "committed so before");
        assert_eq!(clean(b"a\r\nb\r", Endings::Guess, b""), b"a\r\nb\r", "a lone CR is no text");
        assert_eq!(clean(b"a\r\n\0", Endings::Guess, b""), b"a\r\n\0");
        assert_eq!(clean(b"a\x01\r\n", Endings::Guess, b""), b"a\x01\r\n");
        assert_eq!(clean(b"a\r\n\x1a", Endings::Guess, b""), b"a\n\x1a");
    }

    #[test]
    fn an_id_is_taken_back_within_its_line_only() {
        assert_eq!(*clean_ident(b"x $Id: 12 $ $Id$ $Id: $\n"), *b"x $Id$ $Id$ $Id$\n");
        assert_eq!(*clean_ident(b"$Id: a\n$ $Id: b$"), *b"$Id: a\n$ $Id$");
        assert_eq!(*clean_ident(b"$Id"), *b"$Id");
        let id = Oid::ZERO_SHA1;
        assert_eq!(expanded_ident(b"# $Id$\n$Id$", id), format!("# $Id: {id} $\n$Id: {id} $").into_bytes());
    }
}

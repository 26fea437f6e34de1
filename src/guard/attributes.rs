//! What a commit's own `.gitattributes` files say about line endings and `$Id$`, and nothing else: attributes on disk, in
//! `.git/info` and in the user's configuration can be changed to hide an edit.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::files;

/// The attributes of one commit. Paths are relative to the repository's root.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    by_directory: HashMap<Vec<u8>, Vec<AttributeLine>>,
}

#[derive(Debug)]
struct AttributeLine {
    pattern: Gitignore,
    settings: Vec<Setting>,
}

#[derive(Debug, Clone, Copy)]
enum Setting {
    Text(Option<bool>),
    Ident(bool),
    /// An `eol` alone makes a file text if no other attribute says anything about it.
    Eol,
}

/// What the attributes say about one path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PathAttributes {
    /// Git converts line endings of this file, if it looks like text.
    pub(super) text: bool,
    /// Git writes the object's id into `$Id$`.
    pub(super) ident: bool,
}

impl PathAttributes {
    /// Whether a checkout may hold other bytes than the commit.
    pub(super) fn converts(self) -> bool {
        self.text || self.ident
    }
}

impl Attributes {
    /// Adds the text of the `.gitattributes` in `directory` (empty at the repository's root).
    pub(super) fn add(&mut self, directory: &[u8], text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let lines: Vec<AttributeLine> = text.trim_start_matches('\u{feff}').lines().filter_map(parse).collect();
        if !lines.is_empty() {
            self.by_directory.insert(directory.to_vec(), lines);
        }
    }

    /// What the commit says about a path. The last matching line wins, and deeper files come after outer ones.
    pub(super) fn of(&self, path: &[u8]) -> PathAttributes {
        let (mut text, mut eol, mut ident) = (None, false, false);
        for directory in std::iter::once(b"".as_slice()).chain(files::ancestors(path)) {
            let Some(lines) = self.by_directory.get(directory) else { continue };
            let skip = if directory.is_empty() { 0 } else { directory.len() + 1 };
            let relative = Path::new(OsStr::from_bytes(&path[skip..]));
            for line in lines.iter().filter(|line| line.pattern.matched(relative, false).is_ignore()) {
                for setting in &line.settings {
                    match *setting {
                        Setting::Text(value) => text = value,
                        Setting::Ident(value) => ident = value,
                        Setting::Eol => eol = true,
                    }
                }
            }
        }
        PathAttributes { text: text.unwrap_or(eol), ident }
    }
}

/// One line; `None` if it says nothing of interest. A line that is not understood converts nothing, so the file is
/// reported, not missed.
fn parse(line: &str) -> Option<AttributeLine> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', '!', '"', '[']) {
        return None;
    }
    let mut words = line.split_ascii_whitespace();
    let pattern = words.next()?;
    let settings: Vec<Setting> = words.filter_map(setting).collect();
    let mut builder = GitignoreBuilder::new("");
    builder.add_line(None, &super::ignored::escape_braces(pattern)).ok()?;
    Some(AttributeLine { pattern: builder.build().ok()?, settings }).filter(|line| !line.settings.is_empty())
}

fn setting(word: &str) -> Option<Setting> {
    Some(match word {
        "text" | "text=auto" | "crlf" | "crlf=input" => Setting::Text(Some(true)),
        "-text" | "-crlf" | "binary" => Setting::Text(Some(false)),
        "!text" | "!crlf" => Setting::Text(None),
        "eol=lf" | "eol=crlf" => Setting::Eol,
        "ident" => Setting::Ident(true),
        "-ident" | "!ident" => Setting::Ident(false),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_about_a_path_counts() {
        let mut attributes = Attributes::default();
        attributes
            .add(b"", b"# all\r\n* text=auto\n*.png binary\n*.py eol=crlf ident\n/top.py -ident\n[attr]mine text\n");
        attributes.add(b"raw", b"* -text\nkept.txt !text\n");
        attributes.add(b"raw/deep", b"*.txt text\n");
        let of = |path: &str| {
            let found = attributes.of(path.as_bytes());
            (found.text, found.ident)
        };
        assert_eq!(of("a.txt"), (true, false));
        assert_eq!(of("a/b.png"), (false, false));
        assert_eq!(of("a/b.py"), (true, true));
        assert_eq!(of("top.py"), (true, false));
        assert_eq!(of("raw/a.txt"), (false, false));
        assert_eq!(of("raw/kept.txt"), (false, false));
        assert_eq!(of("raw/kept.py"), (false, true));
        assert_eq!(of("raw/deep/a.txt"), (true, false));
        assert_eq!(Attributes::default().of(b"a"), PathAttributes::default());
    }
}

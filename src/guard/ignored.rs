//! Which untracked files git would ignore, by the base commit's own `.gitignore` files and nothing else.
//!
//! Ignore files on disk, `.git/info/exclude` and `core.excludesFile` can all be changed to hide a file, so none of them
//! counts.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::files;

/// Ignore rules of one commit. Paths are relative to the repository's root.
#[derive(Debug, Default)]
pub(super) struct IgnoreRules {
    by_directory: HashMap<Vec<u8>, Gitignore>,
}

impl IgnoreRules {
    /// Adds the text of the `.gitignore` in `directory` (empty at the repository's root).
    pub(super) fn add(&mut self, directory: &[u8], text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let mut builder = GitignoreBuilder::new("");
        builder.allow_unclosed_class(false);
        for line in text.trim_start_matches('\u{feff}').lines() {
            // A pattern that does not parse ignores nothing: the file it meant to hide is reported, not missed.
            let _ = builder.add_line(None, &escape_braces(line));
        }
        if let Ok(rules) = builder.build()
            && !rules.is_empty()
        {
            self.by_directory.insert(directory.to_vec(), rules);
        }
    }

    /// Whether the path itself matches. The caller knows whether a directory above is ignored, which settles it.
    pub(super) fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let mut directory = files::parent(path);
        loop {
            if let Some(rules) = self.by_directory.get(directory) {
                let skip = if directory.is_empty() { 0 } else { directory.len() + 1 };
                match rules.matched(Path::new(OsStr::from_bytes(&path[skip..])), is_directory) {
                    Match::Ignore(_) => return true,
                    Match::Whitelist(_) => return false,
                    Match::None => {}
                }
            }
            if directory.is_empty() {
                return false;
            }
            directory = files::parent(directory);
        }
    }

    /// Whether the path or any directory above it is ignored.
    pub(super) fn covers(&self, path: &[u8], is_directory: bool) -> bool {
        files::ancestors(path).any(|directory| self.matches(directory, true)) || self.matches(path, is_directory)
    }
}

/// Git has no `{a,b}` alternatives; the matcher does, and would ignore more than git.
pub(super) fn escape_braces(line: &str) -> String {
    let mut result = String::with_capacity(line.len());
    let mut in_class = false;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => {
                result.push(c);
                result.extend(characters.next());
                continue;
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '{' | '}' if !in_class => result.push('\\'),
            _ => {}
        }
        result.push(c);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(files: &[(&str, &str)]) -> IgnoreRules {
        let mut rules = IgnoreRules::default();
        for (directory, text) in files {
            rules.add(directory.as_bytes(), text.as_bytes());
        }
        rules
    }

    #[test]
    fn deeper_files_win_and_the_last_line_wins() {
        let rules = rules(&[("", "*.log\n!keep.log\n/only-here\n"), ("sub", "!*.log\nkeep.log\n")]);
        assert!(rules.covers(b"a.log", false));
        assert!(!rules.covers(b"keep.log", false));
        assert!(!rules.covers(b"sub/a.log", false));
        assert!(rules.covers(b"sub/keep.log", false));
        assert!(rules.covers(b"only-here", false));
        assert!(!rules.covers(b"sub/only-here", false));
    }

    #[test]
    fn nothing_below_an_ignored_directory_can_be_included_again() {
        let rules = rules(&[("", "build/\n"), ("build", "!x\n")]);
        assert!(rules.covers(b"build/x", false));
        assert!(!rules.covers(b"build", false), "a file of that name is not the directory");
    }

    #[test]
    fn what_git_does_not_understand_ignores_nothing() {
        let rules = rules(&[("", "\u{feff}first\n*.{py,sh}\nbad[\n#comment\n")]);
        assert!(rules.covers(b"first", false));
        assert!(!rules.covers(b"a.py", false));
        assert!(rules.covers(b"a.{py,sh}", false));
        assert!(!rules.covers(b"bad[", false));
    }
}

//! Committed files that no benchmark reads (`not_read`): they are not in the copy that is run, and so not part of the protocol.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::error::{Code, Error, Result};

/// Patterns for files of a commit, relative to the experiment. `*` and `?` stand for part of a name, `**` for any number of
/// directories; a pattern that fits a directory covers all that is in it.
#[derive(Debug)]
pub struct NotRead(Gitignore);

impl NotRead {
    /// The patterns of the configuration.
    ///
    /// # Errors
    /// A usage error that names the pattern.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<NotRead> {
        let mut builder = GitignoreBuilder::new("");
        for pattern in patterns.iter().map(AsRef::as_ref) {
            let refuse = |why: &str| {
                Error::usage(format!("`not_read` pattern `{}` {why}", pattern.escape_debug())).code(Code::ConfigInvalid)
            };
            // A leading slash ties it to the top, where .gitignore would look for the name at any depth.
            builder.add_line(None, &format!("/{pattern}")).map_err(|error| refuse(&format!("is none: {error}")))?;
        }
        let built =
            builder.build().map_err(|error| Error::usage(format!("`not_read`: {error}")).code(Code::ConfigInvalid))?;
        Ok(NotRead(built))
    }

    /// Whether a committed file at this path (relative to the experiment) is one of them.
    pub fn covers(&self, path: &[u8]) -> bool {
        !self.0.is_empty() && self.0.matched_path_or_any_parents(Path::new(OsStr::from_bytes(path)), false).is_ignore()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_tied_to_the_top_and_cover_directories() {
        let not_read = NotRead::new(&["README.md", "docs", "*.txt", "**/*.rst", "notes/?.md"]).unwrap();
        for path in ["README.md", "docs/a/b.py", "a.txt", "x/y/z.rst", "z.rst", "notes/1.md"] {
            assert!(not_read.covers(path.as_bytes()), "{path}");
        }
        for path in ["tasks/README.md", "docs.py", "tasks/a.txt", "notes/12.md", "notes/a/1.md", "bench.py"] {
            assert!(!not_read.covers(path.as_bytes()), "{path}");
        }
        assert!(!NotRead::new::<&str>(&[]).unwrap().covers(b"README.md"));
    }
}

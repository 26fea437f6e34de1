//! What an edit changed, line by line.

use similar::{ChangeTag, TextDiff};

use crate::report::text::{cut, harmless};

/// Longest diff of one edit, in lines; longer ones are cut.
const LINES: usize = 400;
/// Larger files are not compared, in bytes.
const LARGEST: usize = 1 << 20;

/// Bytes that all diffs together may take in the page.
const ALL: usize = 1_000_000;
/// Bytes that any diff gets, if need be.
const LEAST: usize = 2_000;
/// What a line costs beside its text, in bytes of the page.
const LINE: usize = 32;

/// The bytes for all diffs.
pub(crate) const fn room() -> usize {
    ALL
}

/// The diff of an edit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edit {
    /// The place of its agent in the history's versions.
    pub version: usize,
    /// The full commit that has it.
    pub commit: String,
    /// The reference that the loop keeps it under, when it is none of the recorded ones.
    pub candidate: Option<String>,
    pub subject: String,
    /// Lines with their mark (`+`, `-`, a blank, `@` for a file's name or a gap); those beyond the limit are left out.
    pub lines: Vec<(char, String)>,
    /// How many lines are left out.
    pub left_out: usize,
    /// About how many bytes of the page it takes.
    pub size: usize,
    room: usize,
}

impl Edit {
    /// An edit of which no file is known yet. Its diff is to take about `room` bytes of the page.
    pub(crate) fn new(version: usize, commit: String, candidate: Option<String>, subject: String, room: usize) -> Edit {
        Edit { version, commit, candidate, subject, room: room.max(LEAST), ..Edit::default() }
    }

    /// Takes in how a file changed; `None` is a file that is not there.
    pub(crate) fn file(&mut self, path: &str, before: Option<&[u8]>, after: Option<&[u8]>) {
        if before == after {
            return;
        }
        self.push('@', path);
        let text = |bytes: Option<&[u8]>| std::str::from_utf8(bytes.unwrap_or_default()).ok().map(str::to_string);
        let (Some(before), Some(after)) = (text(before), text(after)) else { return self.push('@', "(not text)") };
        if before.len() + after.len() > LARGEST {
            return self.push('@', "(too large to be compared here)");
        }
        let diff = TextDiff::from_lines(&before, &after);
        for (at, group) in diff.grouped_ops(3).iter().enumerate() {
            if at > 0 {
                self.push('@', "…");
            }
            for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
                let mark = match change.tag() {
                    ChangeTag::Equal => ' ',
                    ChangeTag::Insert => '+',
                    ChangeTag::Delete => '-',
                };
                self.push(mark, change.value().trim_end_matches('\n'));
            }
        }
    }

    fn push(&mut self, mark: char, line: &str) {
        let line = one_long_line(line);
        let size = self.size + line.len() + LINE;
        // Once a line is left out, so is everything after it: a diff with holes shows another edit.
        if self.left_out > 0 || self.lines.len() >= LINES || size > self.room {
            self.left_out += 1;
        } else {
            self.size = size;
            self.lines.push((mark, line));
        }
    }
}

/// A line of code as it is, but not endless.
fn one_long_line(line: &str) -> String {
    harmless(cut(line, 600).0.replace('\n', " ").as_str()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide() -> Edit {
        Edit::new(0, "c".into(), None, String::new(), 100_000)
    }

    #[test]
    fn a_diff_has_the_changed_lines_and_those_around_them() {
        let before: String = (0..40).map(|line| format!("line {line}\n")).collect();
        let after = before.replace("line 20\n", "line </script>\u{202e}\nnew\n");
        let mut edit = wide();
        edit.file("agent.py", Some(before.as_bytes()), Some(after.as_bytes()));
        edit.file("same.py", Some(b"x"), Some(b"x"));
        edit.file("odd.bin", None, Some(b"\xff"));
        let lines: Vec<String> = edit.lines.iter().map(|(mark, line)| format!("{mark}{line}")).collect();
        assert_eq!(lines[..2], ["@agent.py", " line 17"]);
        assert!(lines.contains(&"-line 20".into()) && lines.contains(&"+line </script>\\u{202e}".into()));
        assert_eq!(lines[lines.len() - 2..], ["@odd.bin", "@(not text)"]);
        let long: String = (0..900).map(|line| format!("{line}\n")).collect();
        let mut edit = wide();
        edit.file("long.py", None, Some(long.as_bytes()));
        assert_eq!((edit.lines.len(), edit.left_out), (LINES, 501));
        let mut edit = Edit::new(0, "c".into(), None, String::new(), 0);
        edit.file("long.py", None, Some(long.as_bytes()));
        assert!(edit.size <= LEAST && edit.lines.len() > 20 && edit.lines.len() + edit.left_out == 901);
    }
}

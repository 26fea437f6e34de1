//! What an edit changed, line by line.

use similar::{ChangeTag, TextDiff};

use crate::report::text::{cut, harmless};

/// Longest diff of one edit, in lines; longer ones are cut.
const LINES: usize = 400;
/// Larger files are not compared, in bytes.
const LARGEST: usize = 1 << 20;

/// The diff of a recorded edit.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    /// The full commit that it was recorded as.
    pub commit: String,
    /// The commit's subject.
    pub subject: String,
    /// Lines with their mark (`+`, `-`, a blank, `@` for a file's name or a gap); those beyond the limit are left out.
    pub lines: Vec<(char, String)>,
    /// How many lines are left out.
    pub left_out: usize,
}

impl Edit {
    /// Takes in how a file changed; `None` is a file that is not there.
    pub fn file(&mut self, path: &str, before: Option<&[u8]>, after: Option<&[u8]>) {
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
        if self.lines.len() >= LINES {
            self.left_out += 1;
        } else {
            self.lines.push((mark, one_long_line(line)));
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

    #[test]
    fn a_diff_has_the_changed_lines_and_those_around_them() {
        let before: String = (0..40).map(|line| format!("line {line}\n")).collect();
        let after = before.replace("line 20\n", "line </script>\u{202e}\nnew\n");
        let mut edit = Edit::default();
        edit.file("agent.py", Some(before.as_bytes()), Some(after.as_bytes()));
        edit.file("same.py", Some(b"x"), Some(b"x"));
        edit.file("odd.bin", None, Some(b"\xff"));
        let lines: Vec<String> = edit.lines.iter().map(|(mark, line)| format!("{mark}{line}")).collect();
        assert_eq!(lines[..2], ["@agent.py", " line 17"]);
        assert!(lines.contains(&"-line 20".into()) && lines.contains(&"+line </script>\\u{202e}".into()));
        assert_eq!(lines[lines.len() - 2..], ["@odd.bin", "@(not text)"]);
        let long: String = (0..900).map(|line| format!("{line}\n")).collect();
        let mut edit = Edit::default();
        edit.file("long.py", None, Some(long.as_bytes()));
        assert_eq!((edit.lines.len(), edit.left_out), (LINES, 501));
    }
}

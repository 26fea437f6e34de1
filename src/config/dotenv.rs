//! Reads `.env` as python-dotenv does, because most benchmarks read theirs with it: a backslash outside of quotes is a
//! backslash. If python-dotenv disagrees with the shell, docker compose or other readers, a value is refused rather than
//! silently misread; `tests` shows the cases.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Code, Error, Result};

const QUOTING: &str =
    "put values with spaces or quotes in single quotes, close every quote, and start comments with `#`.";
const DOLLAR: &str = "put the value in single quotes to keep the `$`, or write ${NAME} to insert a variable.";

/// The variables of a file. `${NAME}` looks in `process` before the file. Errors: usage, naming the line and never its
/// content.
pub(super) fn parse(
    path: &Path,
    text: &str,
    process: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    let mut reader = DotenvReader { rest: text, line: 1 };
    loop {
        reader.skip(char::is_whitespace);
        let line = reader.line;
        let refused = |what: &str, hint: &str| {
            Error::usage(format!("{}:{line}: {what}", path.display())).code(Code::ConfigInvalid).hint(hint)
        };
        if reader.rest.is_empty() {
            return Ok(variables);
        }
        if reader.rest.starts_with('#') {
            reader.take_line();
            continue;
        }
        let broken = || refused("not a NAME=value line", QUOTING);
        let name = reader.name().ok_or_else(broken)?;
        let value = match reader.value().ok_or_else(broken)? {
            DotenvValue::Literal(value) => value,
            DotenvValue::Open(value) => {
                let find = |name: &str| process(name).or_else(|| variables.get(name).cloned()).unwrap_or_default();
                expand(&value, find).ok_or_else(|| refused("the value holds a bare `$`", DOLLAR))?
            }
        };
        if value.contains('\0') {
            return Err(refused("the value holds a NUL byte", "no variable can hold one; remove it."));
        }
        // A line further down replaces an earlier one, as in a shell.
        variables.insert(name, value);
    }
}

enum DotenvValue {
    /// As it stands.
    Literal(String),
    /// With `${NAME}` to be replaced.
    Open(String),
}

struct DotenvReader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> DotenvReader<'a> {
    fn advance(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count() + taken.replace("\r\n", "").matches('\r').count();
        self.rest = rest;
        taken
    }

    fn skip(&mut self, wanted: impl Fn(char) -> bool) {
        let length = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        self.advance(length);
    }

    fn skip_blanks(&mut self) {
        self.skip(is_blank);
    }

    /// The rest of the line, without its end.
    fn take_line(&mut self) -> &'a str {
        let length = self.rest.find(['\r', '\n']).unwrap_or(self.rest.len());
        self.advance(length)
    }

    /// `export NAME =`, up to the value.
    fn name(&mut self) -> Option<String> {
        if let Some(rest) = self.rest.strip_prefix("export")
            && rest.starts_with(is_blank)
        {
            self.advance("export".len());
            self.skip_blanks();
        }
        let length = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')))?;
        let name = self.advance(length);
        self.skip_blanks();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !self.rest.starts_with('=') {
            return None;
        }
        self.advance(1);
        Some(name.to_string())
    }

    fn value(&mut self) -> Option<DotenvValue> {
        let blanks = self.rest.starts_with(is_blank);
        self.skip_blanks();
        let value = match self.rest.chars().next() {
            Some('\'') => DotenvValue::Literal(self.quoted('\'')?),
            Some('"') => DotenvValue::Open(self.quoted('"')?),
            // For python-dotenv this is the value; for the author of `KEY= # your key` it is a comment.
            Some('#') if blanks => DotenvValue::Literal(String::new()),
            _ => {
                let line = self.take_line();
                let comment = line.match_indices('#').find(|(at, _)| line[..*at].ends_with(char::is_whitespace));
                let value = comment.map_or(line, |(at, _)| &line[..at]).trim_end();
                // The shell would end the value here, python-dotenv would not.
                if value.contains(char::is_whitespace) {
                    return None;
                }
                DotenvValue::Open(value.to_string())
            }
        };
        self.skip_blanks();
        if self.rest.starts_with('#') {
            self.take_line();
        }
        (self.rest.is_empty() || self.rest.starts_with(['\r', '\n'])).then_some(value)
    }

    /// A value in quotes, which may go over several lines.
    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut value = String::new();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.advance(at + 1);
                return Some(value);
            }
            let escaped = chars.peek().filter(|_| c == '\\').and_then(|(_, next)| unescaped(quote, *next));
            match escaped {
                Some(meant) => {
                    value.push(meant);
                    chars.next();
                }
                None => value.push(c),
            }
        }
        None
    }
}

/// What a backslash before `c` means between these quotes; `None` when both stay as they are.
fn unescaped(quote: char, c: char) -> Option<char> {
    match (c, quote) {
        ('\\' | '\'', _) | ('"', '"') => Some(c),
        ('a', '"') => Some('\x07'),
        ('b', '"') => Some('\x08'),
        ('f', '"') => Some('\x0c'),
        ('n', '"') => Some('\n'),
        ('r', '"') => Some('\r'),
        ('t', '"') => Some('\t'),
        ('v', '"') => Some('\x0b'),
        _ => None,
    }
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() && c != '\r' && c != '\n'
}

/// Replaces `${NAME}` and `${NAME:-otherwise}`; `None` for any other `$`, which some readers replace and others do not.
fn expand(value: &str, find: impl Fn(&str) -> String) -> Option<String> {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        let (inside, after) = after.strip_prefix('{')?.split_once('}')?;
        let (name, otherwise) = inside.split_once(":-").unwrap_or((inside, ""));
        if name.contains(':') || before.ends_with('\\') {
            return None;
        }
        let found = find(name);
        expanded.push_str(before);
        expanded.push_str(if found.is_empty() { otherwise } else { &found });
        rest = after;
    }
    expanded.push_str(rest);
    Some(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What python-dotenv 1.1.1 makes of these texts: `dotenv_values(stream=io.StringIO(text))`.
    const SAME: [(&str, &[(&str, &str)]); 48] = [
        (r"A=pa\nss", &[("A", r"pa\nss")]),
        (r"A=ends\", &[("A", r"ends\")]),
        (r"A=ends\\", &[("A", r"ends\\")]),
        (r#"A=\"q\""#, &[("A", r#"\"q\""#)]),
        (r"A=C:\new\tools", &[("A", r"C:\new\tools")]),
        (r"A=a\#b", &[("A", r"a\#b")]),
        (r"A='pa\nss'", &[("A", r"pa\nss")]),
        (r"A='it\'s'", &[("A", "it's")]),
        (r"A='back\\slash'", &[("A", r"back\slash")]),
        (r"A='C:\new'", &[("A", r"C:\new")]),
        (r#"A='\"'"#, &[("A", r#"\""#)]),
        (r"A='\\n'", &[("A", r"\n")]),
        (r#"A="pa\nss""#, &[("A", "pa\nss")]),
        (r#"A="t\tb\rb\bf\fv\va\a""#, &[("A", "t\tb\rb\x08f\x0cv\x0ba\x07")]),
        (r#"A="say \"hi\"""#, &[("A", "say \"hi\"")]),
        (r#"A="it\'s""#, &[("A", "it's")]),
        (r#"A="back\\slash""#, &[("A", r"back\slash")]),
        (r#"A="C:\new""#, &[("A", "C:\new")]),
        (r#"A="\q\x41\u0041\0""#, &[("A", r"\q\x41\u0041\0")]),
        (r#"A="\\n""#, &[("A", r"\n")]),
        (r#"A="\\\n""#, &[("A", "\\\n")]),
        (r#"A="\'""#, &[("A", "'")]),
        (r"A=a\tb # comment", &[("A", r"a\tb")]),
        ("A=\u{e4}\\n", &[("A", "\u{e4}\\n")]),
        ("A=x\\\nB=y", &[("A", "x\\"), ("B", "y")]),
        ("A=\"a\\\nb\"", &[("A", "a\\\nb")]),
        ("A=a#b", &[("A", "a#b")]),
        ("A=a #b", &[("A", "a")]),
        ("A=a\t# b", &[("A", "a")]),
        ("A=#b", &[("A", "#b")]),
        ("export A=1x", &[("A", "1x")]),
        ("  export   A = x ", &[("A", "x")]),
        ("export=x", &[("export", "x")]),
        ("A='x' # c", &[("A", "x")]),
        ("A=\"x\"# c", &[("A", "x")]),
        ("A=\"two\nlines\"", &[("A", "two\nlines")]),
        ("A='two\nlines'", &[("A", "two\nlines")]),
        ("A=", &[("A", "")]),
        ("A=''", &[("A", "")]),
        ("A=a=b=c", &[("A", "a=b=c")]),
        ("A=a\"b", &[("A", "a\"b")]),
        ("A=it's", &[("A", "it's")]),
        ("\n\n  A=x\n#c\n", &[("A", "x")]),
        ("A=x\r\nB=y\r\n", &[("A", "x"), ("B", "y")]),
        ("A=x\rB=y", &[("A", "x"), ("B", "y")]),
        ("A.B=x\nA-B=y", &[("A-B", "y"), ("A.B", "x")]),
        (
            "B=y\nA=a${B}b\nC=\"${B}\"\nD=${NOPE:-d}\nE=${NOPE}",
            &[("A", "ayb"), ("B", "y"), ("C", "y"), ("D", "d"), ("E", "")],
        ),
        ("A=x\u{a0}# c", &[("A", "x")]),
    ];

    /// Texts that python-dotenv skips, or reads otherwise than a shell does: refused.
    const REFUSED: [&str; 17] = [
        "A='unclosed",
        "A=\"unclosed",
        "A='a' b",
        "A='a''b'",
        "A",
        "export A",
        "=x",
        "A B=x",
        "1A=x",
        "A=a b",
        "A=a\\ b",
        "A=a$b",
        "A=a\\$b",
        "A=\"a\\$b\"",
        "A=$'x'",
        "A=${open",
        "A=a\0b",
    ];

    fn read(text: &str) -> Result<BTreeMap<String, String>> {
        parse(Path::new(".env"), text, |_| None)
    }

    #[test]
    fn values_are_those_of_python_dotenv() {
        for (text, expected) in SAME {
            let found = read(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn what_readers_disagree_about_is_refused() {
        for text in REFUSED {
            let error = read(text).expect_err(text);
            assert!(error.to_string().starts_with(".env:1: ") && !error.hints().is_empty(), "{text:?}: {error}");
        }
        assert_eq!(read("KEY= # your key").unwrap()["KEY"], "", "a comment, whatever python-dotenv says");
        assert_eq!(read("A='${B}'").unwrap()["A"], "${B}", "single quotes keep everything, as in a shell");
    }

    #[test]
    fn the_line_is_counted_over_values_of_several_lines() {
        let error = read("A='1\n2'\r\nB=\"\n\"\n\nbroken\n").unwrap_err();
        assert!(error.to_string().starts_with(".env:6: "), "{error}");
    }

    #[test]
    fn the_process_wins_in_an_expansion() {
        let process = |name: &str| (name == "B").then(|| "process".to_string());
        assert_eq!(parse(Path::new(".env"), "B=file\nA=${B}", process).unwrap()["A"], "process");
    }
}

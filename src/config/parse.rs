//! Text to key/value entries with their lines. What a value means is decided in [`super::field`].

use std::path::{Path, PathBuf};

use serde_yaml::Value;

use crate::error::{Code, Error, Result};

/// A configuration file taken apart.
#[derive(Debug)]
pub struct Document {
    /// The file, as given.
    pub(super) path: PathBuf,
    /// In the order of the file; no name twice.
    pub(super) entries: Vec<ConfigEntry>,
}

/// One `key: value` of the top level.
#[derive(Debug)]
pub struct ConfigEntry {
    pub(super) name: String,
    pub(super) value: Value,
    /// From 1; unknown for the rarest of YAML styles.
    pub(super) line: Option<usize>,
    /// The entry's own text, from its key to the next one.
    pub(super) raw: String,
}

/// A line that starts a top-level entry in block style.
struct KeyLine<'a> {
    name: &'a str,
    line: usize,
    offset: usize,
}

impl Document {
    pub(super) fn parse(path: &Path, text: &str) -> Result<Document> {
        // The library takes a `---` behind a byte order mark for the start of a second document.
        let text = text.trim_start_matches('\u{feff}');
        let lines = key_lines(text);
        let root: Value = serde_yaml::from_str(text).map_err(|error| syntax_error(path, &lines, &error))?;
        let mapping = match root {
            Value::Mapping(mapping) => mapping,
            Value::Null => {
                return Err(Error::usage(format!("{} is empty", path.display()))
                    .code(Code::ConfigInvalid)
                    .hint("write at least `benchmark: demo`, or copy experiment_config.yaml.template over it."));
            }
            other => {
                return Err(Error::usage(format!(
                    "{} must hold `key: value` lines, found {}",
                    path.display(),
                    found(&other)
                ))
                .code(Code::ConfigInvalid)
                .hint("write at least `benchmark: demo`; a colon needs a space after it."));
            }
        };
        let mut entries = Vec::with_capacity(mapping.len());
        for (key, value) in mapping {
            let Value::String(name) = key else {
                return Err(Error::usage(format!("{}: a key is {}", path.display(), found(&key)))
                    .code(Code::ConfigInvalid)
                    .hint("keys are plain words such as `threshold`."));
            };
            let (line, raw) = locate(text, &lines, &name);
            entries.push(ConfigEntry { name, value, line, raw });
        }
        Ok(Document { path: path.to_path_buf(), entries })
    }

    pub(super) fn entry(&self, name: &str) -> Option<&ConfigEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The entry with this name, unless it is empty: then the default applies.
    pub fn set(&self, name: &str) -> Option<&ConfigEntry> {
        self.entry(name).filter(|entry| !is_empty(&entry.value))
    }

    /// `file:line`, or the file alone when the line is not known.
    pub fn place(&self, entry: &ConfigEntry) -> String {
        match entry.line {
            Some(line) => format!("{}:{line}", self.path.display()),
            None => self.path.display().to_string(),
        }
    }
}

/// `key:` with nothing behind it, `null`, or an empty text: the default applies.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        _ => false,
    }
}

/// The lines of the top-level keys. The YAML library does not tell, so the text is scanned: a key starts at the
/// indentation of the first key, and nothing else in a block mapping can.
fn key_lines(text: &str) -> Vec<KeyLine<'_>> {
    let mut found = Vec::new();
    let mut indent = None;
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let start = offset;
        offset += line.len();
        let content = line.trim_start_matches(' ');
        let own_indent = line.len() - content.len();
        if let Some(name) = key_of(content)
            && own_indent == *indent.get_or_insert(own_indent)
        {
            found.push(KeyLine { name, line: number + 1, offset: start });
        }
    }
    found
}

/// The key of `key: value`, without quotes.
fn key_of(content: &str) -> Option<&str> {
    if content.starts_with(['#', '-', '{', '[', '%', '\t', '&', '*', '!']) {
        return None;
    }
    let (key, rest) = content.split_once(':')?;
    if !(rest.is_empty() || rest.starts_with(char::is_whitespace)) {
        return None;
    }
    let key = key.trim_end();
    let bare = ['"', '\'']
        .into_iter()
        .find_map(|quote| key.strip_prefix(quote).and_then(|key| key.strip_suffix(quote)))
        .unwrap_or(key);
    (!bare.is_empty()).then_some(bare)
}

fn locate(text: &str, lines: &[KeyLine<'_>], name: &str) -> (Option<usize>, String) {
    if let Some(index) = lines.iter().position(|line| line.name == name) {
        let end = lines.get(index + 1).map_or(text.len(), |next| next.offset);
        return (Some(lines[index].line), text[lines[index].offset..end].to_string());
    }
    // Flow style, `{benchmark: demo, trials: 3}`: good enough to point at.
    let line = text.lines().position(|line| line.split([' ', '{', ',', '"', '\'', ':']).any(|word| word == name));
    (line.map(|line| line + 1), text.to_string())
}

fn syntax_error(path: &Path, lines: &[KeyLine<'_>], error: &serde_yaml::Error) -> Error {
    let message = error.to_string();
    if message.contains("duplicate entry") {
        for (index, line) in lines.iter().enumerate() {
            if let Some(first) = lines[..index].iter().find(|earlier| earlier.name == line.name) {
                return Error::usage(format!(
                    "{}:{}: `{}` is set twice, first in line {}",
                    path.display(),
                    line.line,
                    line.name,
                    first.line
                ))
                .code(Code::ConfigInvalid)
                .hint("delete one of the two lines.");
            }
        }
    }
    let (place, message) = match error.location() {
        Some(location) => {
            let here = format!(" at line {} column {}", location.line(), location.column());
            (format!("{}:{}:{}", path.display(), location.line(), location.column()), message.replacen(&here, "", 1))
        }
        None => (path.display().to_string(), message),
    };
    let hint = if message.contains("tab character") || message.contains("cannot start any token") {
        "indent with spaces, never with tabs, and put values that start with a special character in quotes."
    } else if message.contains("mapping values") {
        "put values that contain `: ` in quotes, and give all keys the same indentation."
    } else if message.contains("more than one document") {
        "remove the second `---`: the file holds one experiment."
    } else if message.contains("duplicate entry") {
        "delete one of the two."
    } else if message.contains("128, expected") {
        "the number is too large for any key; put it in quotes if it is text."
    } else {
        "check quotes, brackets and indentation there."
    };
    Error::usage(format!("{place}: not valid YAML: {message}")).code(Code::ConfigInvalid).hint(hint)
}

/// A value in words, for `found ...`.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => {
            let short: String = text.chars().take(40).collect();
            let dots = if short.len() < text.len() { "..." } else { "" };
            format!("the text {short:?}{dots}")
        }
        Value::Sequence(_) => "a list".into(),
        Value::Mapping(_) => "a mapping".into(),
        Value::Tagged(tagged) => format!("a value with the tag {}", tagged.tag),
    }
}

//! What a value means. YAML 1.1 users (PyYAML) and YAML 1.2 disagree on `yes`, `017` or `1_000`: each is either
//! understood or refused with a message, never read as something else.

use std::ops::RangeInclusive;

use serde_yaml::Value;

use super::parse::{ConfigEntry, Document, found};
use crate::error::{Code, Error, Result};

/// One configured value on its way to its type.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    document: &'a Document,
    entry: &'a ConfigEntry,
    name: &'static str,
    example: &'static str,
    doc: &'static str,
}

impl<'a> Field<'a> {
    pub(super) fn new(
        document: &'a Document,
        entry: &'a ConfigEntry,
        name: &'static str,
        example: &'static str,
        doc: &'static str,
    ) -> Field<'a> {
        Field { document, entry, name, example, doc }
    }

    /// A usage error about this value: file and line before `message`, the key's example as the remedy.
    pub fn error(&self, message: impl std::fmt::Display) -> Error {
        self.error_hint(message, format!("write for example `{}` ({}).", self.example, self.doc))
    }

    /// [`Field::error`] with a remedy of its own.
    fn error_hint(&self, message: impl std::fmt::Display, hint: impl Into<String>) -> Error {
        Error::usage(format!("{}: `{}` {message}", self.document.place(self.entry), self.name))
            .code(Code::ConfigInvalid)
            .hint(hint)
    }

    /// A sentence for [`super::Config::warnings`], with file and line.
    pub fn warning(&self, message: impl std::fmt::Display) -> String {
        format!("{}: `{}` {message}", self.document.place(self.entry), self.name)
    }

    fn expects(&self, what: impl std::fmt::Display) -> Error {
        self.error(format!("expects {what}, found {}", found(&self.entry.value)))
    }

    fn expects_hint(&self, what: impl std::fmt::Display, hint: impl Into<String>) -> Error {
        self.error_hint(format!("expects {what}, found {}", found(&self.entry.value)), hint)
    }

    /// `Some` when the value is clearly one of true, yes, on, 1 or false, no, off, 0, in any case.
    pub fn clear_boolean(&self) -> Option<bool> {
        match &self.entry.value {
            Value::Bool(value) => Some(*value),
            Value::Number(number) => match number.as_u64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            Value::String(word) => match word.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Some(true),
                "false" | "no" | "off" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// True or false, also as yes/no and on/off.
    ///
    /// # Errors
    /// Usage when it is neither.
    pub fn boolean(&self) -> Result<bool> {
        self.clear_boolean().ok_or_else(|| self.expects("true or false"))
    }

    /// A whole number within `range`. Text such as "4" or 1_000 is understood; 017 (octal to some readers) is not.
    ///
    /// # Errors
    /// Usage when it is not a whole number or out of range.
    pub fn integer(&self, range: RangeInclusive<u64>) -> Result<u64> {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        let number = match &self.entry.value {
            Value::Number(number) => match (number.as_u64(), number.as_f64()) {
                (Some(number), _) => number,
                (None, Some(float)) if number.is_f64() && float.fract() == 0.0 && range.contains(&(float as u64)) => {
                    return Err(self.expects_hint(what, format!("write it without point or exponent: {float}.")));
                }
                _ => return Err(self.expects(what)),
            },
            Value::String(text) => {
                self.refuse_ambiguous(text, &what)?;
                ungrouped(text).and_then(|digits| digits.parse().ok()).ok_or_else(|| self.expects(&what))?
            }
            _ => return Err(self.expects(what)),
        };
        if range.contains(&number) { Ok(number) } else { Err(self.expects(what)) }
    }

    /// [`Field::integer`] for ranges that fit 32 bits.
    ///
    /// # Errors
    /// As [`Field::integer`].
    pub fn integer32(&self, range: RangeInclusive<u32>) -> Result<u32> {
        let number = self.integer(u64::from(*range.start())..=u64::from(*range.end()))?;
        Ok(u32::try_from(number).unwrap_or(*range.end()))
    }

    /// A finite number for which `allowed` holds; `what` describes such numbers.
    ///
    /// # Errors
    /// Usage when it is no number, not finite or not allowed.
    pub fn number(&self, what: &str, allowed: impl Fn(f64) -> bool) -> Result<f64> {
        let number = match &self.entry.value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => {
                self.refuse_ambiguous(text, what)?;
                if let Some(percent) = text.trim().strip_suffix('%').and_then(|text| text.trim().parse::<f64>().ok()) {
                    let hint = format!("{percent} percent is written {}.", percent / 100.0);
                    return Err(self.expects_hint(what, hint));
                }
                ungrouped(text).and_then(|digits| digits.parse().ok())
            }
            _ => None,
        };
        number.filter(|number| number.is_finite() && allowed(*number)).ok_or_else(|| self.expects(what))
    }

    /// A number from 0 to 1.
    ///
    /// # Errors
    /// As [`Field::number`].
    pub fn fraction(&self) -> Result<f64> {
        self.number("a number from 0 to 1", |number| (0.0..=1.0).contains(&number))
    }

    /// One line of text. Numbers are refused, because `1.10` would arrive as 1.1.
    ///
    /// # Errors
    /// Usage when it is not text, or more than a line.
    pub fn text(&self) -> Result<String> {
        match &self.entry.value {
            Value::String(text) if text.trim().contains(['\n', '\r']) => Err(self.error("must be a single line")),
            Value::String(text) => Ok(text.trim().to_string()),
            Value::Number(_) | Value::Bool(_) => Err(self.expects_hint("text", "put the value in quotes.")),
            _ => Err(self.expects("text")),
        }
    }

    /// One of a few words.
    ///
    /// # Errors
    /// Usage when it is none of them.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T> {
        let word = self.entry.value.as_str().map(str::trim);
        choices.iter().find(|(name, _)| Some(*name) == word).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
            self.expects(names.join(" or "))
        })
    }

    /// A list of texts, possibly empty.
    ///
    /// # Errors
    /// Usage when it is no list or an item is not text.
    pub fn texts(&self) -> Result<Vec<String>> {
        let items = match &self.entry.value {
            Value::Sequence(items) => items,
            // Not repeated: a line that belongs into a list of arguments or variables may hold a secret.
            Value::String(_) => return Err(self.error("expects a list, found text")),
            _ => return Err(self.expects("a list")),
        };
        let text = |(index, item): (usize, &Value)| {
            let message = || format!("expects a list of texts, item {} is {}", index + 1, found(item));
            match item {
                Value::String(text) => Ok(text.clone()),
                Value::Number(_) | Value::Bool(_) => Err(self.error_hint(message(), "put the item in quotes.")),
                _ => Err(self.error(message())),
            }
        };
        items.iter().enumerate().map(text).collect()
    }

    /// As [`texts`](Self::texts), each of which `fits`. For the first one that does not fit, `told` says what was expected, given its
    /// number from 1 and its text.
    ///
    /// # Errors
    /// As [`texts`](Self::texts), and usage with what `told` says.
    pub fn texts_that(&self, fits: impl Fn(&str) -> bool, told: impl Fn(usize, &str) -> String) -> Result<Vec<String>> {
        let texts = self.texts()?;
        match texts.iter().position(|text| !fits(text)) {
            Some(index) => Err(self.error(told(index + 1, &texts[index]))),
            None => Ok(texts),
        }
    }

    /// A list of paths below the experiment: relative, without `..`, normalised to `/`-separated names, no path twice.
    ///
    /// # Errors
    /// Usage when an item is no such path.
    pub fn paths(&self) -> Result<Vec<String>> {
        let mut paths: Vec<String> = Vec::new();
        for item in self.texts()? {
            let path = self.path(&item)?;
            if paths.contains(&path) {
                return Err(self.error(format!("cannot hold {item:?}: it is listed twice")));
            }
            paths.push(path);
        }
        Ok(paths)
    }

    /// One such path.
    ///
    /// # Errors
    /// Usage when it is none.
    pub fn path(&self, item: &str) -> Result<String> {
        let refuse = |why: &str| self.error(format!("cannot hold {item:?}: {why}"));
        if item.starts_with(['/', '~']) || item.split('/').any(|part| part == "..") {
            return Err(refuse("paths are relative to the experiment and stay inside it"));
        }
        if item.contains(['*', '?', '\\', '\0', '\n']) {
            return Err(refuse("each item is one path, patterns and backslashes are not understood"));
        }
        let path = item.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/");
        if path.is_empty() {
            return Err(refuse("it names no file"));
        }
        Ok(path)
    }

    /// A list of patterns for paths below the experiment: relative, without `..`, no pattern twice. `*`, `?` and `**` are
    /// understood.
    ///
    /// # Errors
    /// Usage when an item is no such pattern.
    pub fn patterns(&self) -> Result<Vec<String>> {
        let mut patterns: Vec<String> = Vec::new();
        for item in self.texts()? {
            let refuse = |why: &str| self.error(format!("cannot hold {item:?}: {why}"));
            if item.starts_with(['/', '~']) || item.split('/').any(|part| part == "..") {
                return Err(refuse("patterns are relative to the experiment and stay inside it"));
            }
            if item.contains(['[', ']', '{', '}', '!', '\\']) || item.contains(char::is_control) {
                return Err(refuse("patterns are made of names, `*`, `?` and `**`"));
            }
            let pattern = item.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/");
            if pattern.is_empty() {
                return Err(refuse("it names no file"));
            }
            if patterns.contains(&pattern) {
                return Err(refuse("it is listed twice"));
            }
            patterns.push(pattern);
        }
        Ok(patterns)
    }

    /// A free mapping, as JSON. What YAML 1.1 would read differently is kept as text and reported in the second value.
    ///
    /// # Errors
    /// Usage when it is no mapping, or holds what JSON cannot: NaN, infinity, tags, keys that are not text.
    pub fn mapping(&self) -> Result<(serde_json::Map<String, serde_json::Value>, Vec<String>)> {
        let Value::Mapping(_) = &self.entry.value else { return Err(self.expects("a mapping")) };
        let mut warnings = Vec::new();
        match self.json(&self.entry.value, self.name, &mut warnings)? {
            serde_json::Value::Object(map) => Ok((map, warnings)),
            _ => Err(self.expects("a mapping")),
        }
    }

    fn json(&self, value: &Value, at: &str, warnings: &mut Vec<String>) -> Result<serde_json::Value> {
        Ok(match value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => number.into(),
                (_, Some(number), _) => number.into(),
                (_, _, Some(number)) if number.is_finite() => number.into(),
                _ => return Err(self.error(format!("cannot hold `{at}`: {number} is not a finite number"))),
            },
            Value::String(text) => {
                let quoted =
                    self.entry.raw.contains(&format!("\"{text}\"")) || self.entry.raw.contains(&format!("'{text}'"));
                if !quoted && differs_in_yaml_1_1(text) {
                    warnings.push(self.warning(format!(
                        "keeps `{at}` as the text \"{text}\"; put it in quotes, or write true, false or a plain number"
                    )));
                }
                text.clone().into()
            }
            Value::Sequence(items) => {
                let items = items.iter().enumerate();
                items
                    .map(|(index, item)| self.json(item, &format!("{at}[{index}]"), warnings))
                    .collect::<Result<_>>()?
            }
            Value::Mapping(map) => {
                let mut object = serde_json::Map::new();
                for (key, value) in map {
                    let Value::String(name) = key else {
                        let message = format!("has a key below `{at}` that is {}", found(key));
                        return Err(self.error_hint(message, "put the key in quotes."));
                    };
                    object.insert(name.clone(), self.json(value, &format!("{at}.{name}"), warnings)?);
                }
                object.into()
            }
            Value::Tagged(tagged) => {
                return Err(self.error(format!("cannot hold `{at}`: the tag {} means nothing here", tagged.tag)));
            }
        })
    }

    /// 017 is 15 for YAML 1.1 and 17 for a human; 12:30 is 750 for YAML 1.1.
    fn refuse_ambiguous(&self, text: &str, what: &str) -> Result<()> {
        let digits = text.trim().trim_start_matches(['+', '-']);
        let all = |allowed: &str| digits.chars().all(|c| c.is_ascii_digit() || allowed.contains(c));
        if digits.len() > 1 && digits.starts_with('0') && all("_") {
            return Err(self.expects_hint(what, "write the number without leading zeros."));
        }
        if digits.contains(':') && all(":.") {
            return Err(self.expects_hint(what, "write a plain number; clock times are not understood."));
        }
        if digits.contains(',') && all(",.") {
            return Err(self.expects_hint(what, "write the decimal point as a point, and thousands without separator."));
        }
        Ok(())
    }
}

/// The digits of 1_000 without the underscores that YAML 1.1 allows; `None` when it is not a decimal number.
fn ungrouped(text: &str) -> Option<String> {
    let text = text.trim();
    let plain = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && text.chars().all(|c| c.is_ascii_digit() || "+-._eE".contains(c));
    plain.then(|| text.replace('_', ""))
}

/// Whether PyYAML reads this plain scalar as a boolean, number or date, while it is text here.
fn differs_in_yaml_1_1(text: &str) -> bool {
    let word = matches!(text.to_ascii_lowercase().as_str(), "yes" | "no" | "on" | "off");
    let number = text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || "_:.-".contains(c))
        && text.chars().any(|c| c.is_ascii_digit());
    word || number
}

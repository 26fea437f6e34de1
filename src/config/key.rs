//! One row of the table of everything that can be configured: typed, so that reading, the snapshot in the ledger and
//! the JSON Schema follow from it.

use serde_json::{Map, Value, json};

use super::snapshot::hide_values;
use super::{Config, Field};
use crate::error::Result;

/// Where a value is kept.
type Place<T> = fn(&mut Config) -> &mut T;

/// One key of the configuration.
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Whether its benchmark cannot do without it.
    pub required: bool,
    /// A good line, shown in hints.
    pub example: &'static str,
    /// What it is, as a noun phrase, shown in hints and editors.
    pub doc: &'static str,
    kind: Kind,
}

enum Kind {
    Flag(Place<bool>),
    Fraction(Place<f64>),
    Count { least: u32, most: u32, place: Place<u32> },
    Text(Place<Option<String>>),
    Paths(Place<Vec<String>>),
    Patterns(Place<Vec<String>>),
    Mapping(Place<Map<String, Value>>),
    Word { words: &'static [&'static str], set: fn(&mut Config, &str), get: fn(&Config) -> &str },
    Own { shape: Shape, set: fn(&mut Config, &Field<'_>) -> Result<()>, get: fn(&Config) -> Value },
}

/// What a value with rules of its own looks like, for the JSON Schema.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// One line of text.
    Text,
    /// A list of texts.
    Texts,
    /// A number in these bounds.
    Number {
        /// The least allowed.
        least: f64,
        /// The greatest allowed.
        most: f64,
    },
    /// A whole number in these bounds.
    Integer {
        /// The least allowed.
        least: u64,
        /// The greatest allowed.
        most: u64,
    },
    /// true or false.
    Flag,
    /// Names of variables and their values.
    Mapping,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

type Words = &'static str;

impl Key {
    const fn new(name: Words, example: Words, doc: Words, kind: Kind) -> Key {
        Key { name, required: false, example, doc, kind }
    }

    /// True or false.
    pub const fn flag(name: Words, example: Words, doc: Words, place: Place<bool>) -> Key {
        Key::new(name, example, doc, Kind::Flag(place))
    }

    /// A number from 0 to 1.
    pub const fn fraction(name: Words, example: Words, doc: Words, place: Place<f64>) -> Key {
        Key::new(name, example, doc, Kind::Fraction(place))
    }

    /// A whole number from `least` to `most`.
    pub const fn count(name: Words, example: Words, doc: Words, least: u32, most: u32, place: Place<u32>) -> Key {
        Key::new(name, example, doc, Kind::Count { least, most, place })
    }

    /// One line of text.
    pub const fn text(name: Words, example: Words, doc: Words, place: Place<Option<String>>) -> Key {
        Key::new(name, example, doc, Kind::Text(place))
    }

    /// Paths below the experiment.
    pub const fn paths(name: Words, example: Words, doc: Words, place: Place<Vec<String>>) -> Key {
        Key::new(name, example, doc, Kind::Paths(place))
    }

    /// Patterns of paths below the experiment.
    pub const fn patterns(name: Words, example: Words, doc: Words, place: Place<Vec<String>>) -> Key {
        Key::new(name, example, doc, Kind::Patterns(place))
    }

    /// A free mapping. Texts in it that look like secrets are hidden in the snapshot.
    pub const fn mapping(name: Words, example: Words, doc: Words, place: Place<Map<String, Value>>) -> Key {
        Key::new(name, example, doc, Kind::Mapping(place))
    }

    /// One of a few words.
    pub const fn word(
        name: Words,
        example: Words,
        doc: Words,
        words: &'static [&'static str],
        set: fn(&mut Config, &str),
        get: fn(&Config) -> &str,
    ) -> Key {
        Key::new(name, example, doc, Kind::Word { words, set, get })
    }

    /// A value with rules of its own.
    pub const fn own(
        name: Words,
        example: Words,
        doc: Words,
        shape: Shape,
        set: fn(&mut Config, &Field<'_>) -> Result<()>,
        get: fn(&Config) -> Value,
    ) -> Key {
        Key::new(name, example, doc, Kind::Own { shape, set, get })
    }

    /// The same key, but its benchmark cannot do without it.
    #[must_use = "returns the changed key"]
    pub const fn required(mut self) -> Key {
        self.required = true;
        self
    }

    /// Checks a value that is not empty and stores it.
    ///
    /// # Errors
    /// Usage, with file, line and an example.
    pub fn set(&self, config: &mut Config, field: &Field<'_>) -> Result<()> {
        match &self.kind {
            Kind::Flag(place) => *place(config) = field.boolean()?,
            Kind::Fraction(place) => *place(config) = field.fraction()?,
            Kind::Count { least, most, place } => *place(config) = field.integer32(*least..=*most)?,
            Kind::Text(place) => *place(config) = Some(field.text()?),
            Kind::Paths(place) => *place(config) = field.paths()?,
            Kind::Patterns(place) => *place(config) = field.patterns()?,
            Kind::Mapping(place) => {
                let (mapping, warnings) = field.mapping()?;
                config.warnings.extend(warnings);
                *place(config) = mapping;
            }
            Kind::Word { words, set, .. } => {
                let choices: Vec<_> = words.iter().map(|word| (*word, *word)).collect();
                set(config, field.choice(&choices)?);
            }
            Kind::Own { set, .. } => set(config, field)?,
        }
        Ok(())
    }

    /// The resolved value, for the snapshot. `config` is a copy that nobody else uses: it is not changed.
    pub(super) fn get(&self, config: &mut Config) -> Value {
        match &self.kind {
            Kind::Flag(place) => json!(place(config)),
            Kind::Fraction(place) => json!(place(config)),
            Kind::Count { place, .. } => json!(place(config)),
            Kind::Text(place) => json!(place(config)),
            Kind::Paths(place) | Kind::Patterns(place) => json!(place(config)),
            Kind::Mapping(place) => {
                let mut value = json!(place(config));
                hide_values(&mut value);
                value
            }
            Kind::Word { get, .. } => json!(get(config)),
            Kind::Own { get, .. } => get(config),
        }
    }

    /// What a value may be, as JSON Schema.
    pub(super) fn schema(&self) -> Value {
        let texts = json!({"type": "array", "items": {"type": "string"}});
        let integer = |least: u64, most: u64| json!({"type": "integer", "minimum": least, "maximum": most});
        let mut schema = match &self.kind {
            Kind::Flag(_) | Kind::Own { shape: Shape::Flag, .. } => json!({"type": "boolean"}),
            Kind::Fraction(_) => json!({"type": "number", "minimum": 0, "maximum": 1}),
            Kind::Count { least, most, .. } => integer(u64::from(*least), u64::from(*most)),
            Kind::Own { shape: Shape::Integer { least, most }, .. } => integer(*least, *most),
            Kind::Own { shape: Shape::Number { least, most }, .. } => {
                json!({"type": "number", "minimum": least, "maximum": most})
            }
            Kind::Text(_) | Kind::Own { shape: Shape::Text, .. } => json!({"type": "string"}),
            Kind::Paths(_) | Kind::Patterns(_) | Kind::Own { shape: Shape::Texts, .. } => texts,
            Kind::Mapping(_) | Kind::Own { shape: Shape::Mapping, .. } => json!({"type": "object"}),
            Kind::Word { words, .. } => json!({"enum": words}),
        };
        schema["description"] = self.doc.into();
        schema
    }
}

//! A configuration, and what it is made of: typed keys, and the section that a benchmark adds.
//!
//! They are in one file because each is defined by the others: a key sets a field of the configuration, a section is a
//! list of keys, and a configuration belongs to a section.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::fence_mode::FenceMode;
use super::field::Field;
use super::parse::Document;
use super::secret::hide_values;
use crate::error::Result;
use crate::model::gate::{Disclosure, GateRule, LeakScan};
use crate::model::score::TimeoutPolicy;
use crate::model::trial::Split;

/// One experiment's configuration: every value checked, every default filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from, as given.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, lowercase hex. `prepare` records it; later commands refuse another one.
    pub digest: String,
    /// The file's text, exactly.
    pub text: String,
    /// Warnings about values that were understood; each names file and line.
    pub warnings: Vec<String>,
    /// Which benchmark scores the agent.
    pub benchmark: &'static dyn Section,
    pub(super) settings: Box<dyn Settings>,
    /// What the coding agent may edit: paths below the experiment, `/`-separated, normalised, never empty. The first is
    /// the agent file.
    pub editable: Vec<String>,
    /// Whether changed paths are checked at all. Off only when clearly switched off.
    pub file_guard: bool,
    /// The split that val_score is measured on.
    pub gate_split: Split,
    /// Share of the tasks that `prepare` sets aside, 0 to 0.49.
    pub sealed: f64,
    /// Share of the suite's tasks that must pass, 0 to 1.
    pub threshold: f64,
    /// Share of the expected tasks that must have been evaluated for a step to decide anything, 0 to 1.
    pub min_evidence: f64,
    /// Trials of each task.
    pub trials: u32,
    /// How often a trial without evidence is run again.
    pub infra_retries: u32,
    /// What an agent timeout counts as.
    pub timeout_policy: TimeoutPolicy,
    /// Seed of the trials; at most `u32::MAX`, so that adding a trial number never overflows.
    pub seed: u64,
    /// Most trials in flight at once.
    pub max_concurrency: u32,
    /// Limit of one trial in seconds.
    pub per_task_timeout: Option<f64>,
    /// Model of the agent, as the benchmark names it.
    pub agent_model: Option<String>,
    /// Model of the simulated user, as the benchmark names it.
    pub user_model: Option<String>,
    /// Reasoning effort of the agent's model, as its provider names it.
    pub reasoning_effort: Option<String>,
    /// Names of the environment variables that the benchmark may see although they look like secrets.
    pub pass_env: Vec<String>,
    /// Whether agents are fenced in.
    pub fence: FenceMode,
    /// Hosts that fenced agents may reach if they have the network at all: [names](crate::config::is_host). None: every host,
    /// unless the benchmark knows better.
    pub model_hosts: Vec<String>,
    /// Provisioned data below the experiment that must keep its digest; normalised like `editable`.
    pub data: Vec<String>,
    /// Patterns of committed files that neither benchmark nor agent reads: they are not in the copy that is run.
    pub not_read: Vec<String>,
    /// What a finding of the leak scan does.
    pub leak_scan: LeakScan,
    /// How the gate decides whether an agent is better.
    pub gate_rule: GateRule,
    /// Chance that the rule `paired` accepts an edit that changes nothing, over all rounds.
    pub alpha: f64,
    /// Most rounds of the rule `paired`.
    pub max_rounds: u32,
    /// How often each task is run afresh once the rule `paired` has accepted an edit.
    pub confirm_trials: u32,
    /// How often in a row a task must pass to join the suite, by the rule `paired`.
    pub promote_after: u32,
    /// Most tasks of the suite that the rule `paired` runs; `None`: all.
    pub max_suite: Option<u32>,
    /// What the gate discloses about the hold-out, if set: [`Config::disclosure`].
    pub holdout_disclosure: Option<Disclosure>,
    /// Whether `alpha` is spread over all edits of the experiment.
    pub alpha_spending: bool,
    /// Groups of editable paths, by name.
    pub surfaces: Surfaces,
    /// Coding agents that the loop can drive besides those it knows, by name.
    pub coding_agents: Map<String, Value>,
    /// Names of the environment variables that a coding agent may see although they look like secrets.
    pub loop_env: Vec<String>,
    /// Limit of one session of a coding agent, in seconds.
    pub loop_timeout: u32,
    /// US dollars for a million tokens read and written, for coding agents that report no dollars.
    pub loop_prices: Option<(f64, f64)>,
    /// The same of the benchmark's model, for trials that report tokens and no dollars.
    pub trial_prices: Option<(f64, f64)>,
}

/// Groups of editable paths, by name.
pub(crate) type Surfaces = BTreeMap<String, Vec<String>>;

/// Why [`Config::own`] cannot fail: `Section::settings` put the type there, and a benchmark only gets configurations of its
/// own.
const OWN: &str = "`Section::settings` returns the type that the keys and the code of its benchmark ask for";

impl Config {
    /// The settings of its benchmark, only for the keys and the code of that benchmark.
    #[track_caller]
    pub fn own<S: Settings>(&self) -> &S {
        (&*self.settings as &dyn Any).downcast_ref().expect(OWN)
    }

    /// The same, to be changed.
    #[track_caller]
    pub fn own_mut<S: Settings>(&mut self) -> &mut S {
        (&mut *self.settings as &mut dyn Any).downcast_mut().expect(OWN)
    }
}

/// The settings that only one benchmark has: any plain type of its own.
pub trait Settings: Any + Debug {
    fn copy(&self) -> Box<dyn Settings>;
}

impl<T: Any + Debug + Clone> Settings for T {
    fn copy(&self) -> Box<dyn Settings> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Settings> {
    fn clone(&self) -> Self {
        (**self).copy()
    }
}

/// What the configuration needs to know about a benchmark.
pub trait Section: Sync {
    /// The name used in the configuration and on the command line: `tau-bench`.
    fn name(&self) -> &'static str;

    /// The keys that it has besides the common ones.
    fn keys(&self) -> &'static [Key];

    /// Its settings where nothing is configured.
    fn settings(&self) -> Box<dyn Settings>;

    /// Changes common defaults: seed, concurrency, time limit.
    fn defaults(&self, _config: &mut Config) {}

    /// Refuses keys that contradict each other.
    fn check(&self, _document: &Document, _config: &Config) -> Result<()> {
        Ok(())
    }

    /// Fills in what follows from other keys.
    fn complete(&self, _config: &mut Config) {}

    /// Its section of the template of the configuration: comments, and every key of its own.
    fn template(&self) -> &'static str;

    /// The name as part of a file name: `tau_bench`.
    fn file_stem(&self) -> String {
        self.name().replace('-', "_")
    }
}

impl Debug for dyn Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for dyn Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a value is kept.
type Slot<T> = fn(&mut Config) -> &mut T;

/// One key of the configuration.
pub struct Key {
    pub name: &'static str,
    /// Whether its benchmark cannot do without it.
    pub required: bool,
    /// A good line, shown in hints.
    pub example: &'static str,
    /// What it is, as a noun phrase, shown in hints and editors.
    pub doc: &'static str,
    kind: ValueKind,
}

enum ValueKind {
    Flag(Slot<bool>),
    Fraction(Slot<f64>),
    Count { least: u32, most: u32, place: Slot<u32> },
    Text(Slot<Option<String>>),
    Paths(Slot<Vec<String>>),
    Patterns(Slot<Vec<String>>),
    Mapping(Slot<Map<String, Value>>),
    Word { words: &'static [&'static str], set: fn(&mut Config, &str), get: fn(&Config) -> &str },
    Own { shape: Shape, set: fn(&mut Config, &Field<'_>) -> Result<()>, get: fn(&Config) -> Value },
}

/// What a value with rules of its own looks like, for the JSON Schema.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// One line of text.
    Text,
    Texts,
    /// A number in these bounds.
    Number {
        least: f64,
        most: f64,
    },
    /// A whole number in these bounds.
    Integer {
        least: u64,
        most: u64,
    },
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
    const fn new(name: Words, example: Words, doc: Words, kind: ValueKind) -> Key {
        Key { name, required: false, example, doc, kind }
    }

    pub const fn flag(name: Words, example: Words, doc: Words, place: Slot<bool>) -> Key {
        Key::new(name, example, doc, ValueKind::Flag(place))
    }

    /// A number from 0 to 1.
    pub const fn fraction(name: Words, example: Words, doc: Words, place: Slot<f64>) -> Key {
        Key::new(name, example, doc, ValueKind::Fraction(place))
    }

    /// A whole number from `least` to `most`.
    pub const fn count(name: Words, example: Words, doc: Words, least: u32, most: u32, place: Slot<u32>) -> Key {
        Key::new(name, example, doc, ValueKind::Count { least, most, place })
    }

    /// One line of text.
    pub const fn text(name: Words, example: Words, doc: Words, place: Slot<Option<String>>) -> Key {
        Key::new(name, example, doc, ValueKind::Text(place))
    }

    /// Paths below the experiment.
    pub const fn paths(name: Words, example: Words, doc: Words, place: Slot<Vec<String>>) -> Key {
        Key::new(name, example, doc, ValueKind::Paths(place))
    }

    /// Patterns of paths below the experiment.
    pub const fn patterns(name: Words, example: Words, doc: Words, place: Slot<Vec<String>>) -> Key {
        Key::new(name, example, doc, ValueKind::Patterns(place))
    }

    /// A free mapping. Texts in it that look like secrets are hidden in the snapshot.
    pub const fn mapping(name: Words, example: Words, doc: Words, place: Slot<Map<String, Value>>) -> Key {
        Key::new(name, example, doc, ValueKind::Mapping(place))
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
        Key::new(name, example, doc, ValueKind::Word { words, set, get })
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
        Key::new(name, example, doc, ValueKind::Own { shape, set, get })
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
            ValueKind::Flag(place) => *place(config) = field.boolean()?,
            ValueKind::Fraction(place) => *place(config) = field.fraction()?,
            ValueKind::Count { least, most, place } => *place(config) = field.integer32(*least..=*most)?,
            ValueKind::Text(place) => *place(config) = Some(field.text()?),
            ValueKind::Paths(place) => *place(config) = field.paths()?,
            ValueKind::Patterns(place) => *place(config) = field.patterns()?,
            ValueKind::Mapping(place) => {
                let (mapping, warnings) = field.mapping()?;
                config.warnings.extend(warnings);
                *place(config) = mapping;
            }
            ValueKind::Word { words, set, .. } => {
                let choices: Vec<_> = words.iter().map(|word| (*word, *word)).collect();
                set(config, field.choice(&choices)?);
            }
            ValueKind::Own { set, .. } => set(config, field)?,
        }
        Ok(())
    }

    /// The resolved value, for the snapshot. `config` is a private copy: it is not changed.
    pub(super) fn get(&self, config: &mut Config) -> Value {
        match &self.kind {
            ValueKind::Flag(place) => json!(place(config)),
            ValueKind::Fraction(place) => json!(place(config)),
            ValueKind::Count { place, .. } => json!(place(config)),
            ValueKind::Text(place) => json!(place(config)),
            ValueKind::Paths(place) | ValueKind::Patterns(place) => json!(place(config)),
            ValueKind::Mapping(place) => {
                let mut value = json!(place(config));
                hide_values(&mut value);
                value
            }
            ValueKind::Word { get, .. } => json!(get(config)),
            ValueKind::Own { get, .. } => get(config),
        }
    }

    /// What a value may be, as JSON Schema.
    pub(super) fn schema(&self) -> Value {
        let texts = json!({"type": "array", "items": {"type": "string"}});
        let integer = |least: u64, most: u64| json!({"type": "integer", "minimum": least, "maximum": most});
        let mut schema = match &self.kind {
            ValueKind::Flag(_) | ValueKind::Own { shape: Shape::Flag, .. } => json!({"type": "boolean"}),
            ValueKind::Fraction(_) => json!({"type": "number", "minimum": 0, "maximum": 1}),
            ValueKind::Count { least, most, .. } => integer(u64::from(*least), u64::from(*most)),
            ValueKind::Own { shape: Shape::Integer { least, most }, .. } => integer(*least, *most),
            ValueKind::Own { shape: Shape::Number { least, most }, .. } => {
                json!({"type": "number", "minimum": least, "maximum": most})
            }
            ValueKind::Text(_) | ValueKind::Own { shape: Shape::Text, .. } => json!({"type": "string"}),
            ValueKind::Paths(_) | ValueKind::Patterns(_) | ValueKind::Own { shape: Shape::Texts, .. } => texts,
            ValueKind::Mapping(_) | ValueKind::Own { shape: Shape::Mapping, .. } => json!({"type": "object"}),
            ValueKind::Word { words, .. } => json!({"enum": words}),
        };
        schema["description"] = self.doc.into();
        schema
    }
}

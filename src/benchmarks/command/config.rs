//! Keys of the `command` benchmark.

use serde_json::{Map, Value, json};

use super::keys::Key;
use super::{Benchmark, Settings};

/// What only the `command` benchmark has.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandSettings {
    /// The program and its arguments; never empty in a loaded configuration.
    pub command: Vec<String>,
    /// Handed to the program as `options`.
    pub options: Map<String, Value>,
    /// The Python name the agent file must define at top level, when the program imports one.
    pub agent_symbol: Option<String>,
    /// Whether the preflight imports the agent file, where the program is a Python.
    pub import_agent: bool,
}

impl Default for CommandSettings {
    fn default() -> CommandSettings {
        CommandSettings { command: Vec::new(), options: Map::new(), agent_symbol: None, import_agent: true }
    }
}

/// The rows of this benchmark.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "command",
        benchmarks: &[Benchmark::Command],
        required: true,
        example: "command: [python3, bench.py]",
        doc: "your program and its arguments, started in a copy of the experiment; a list, because no shell is involved",
        set: |config, field| {
            let command = field.texts()?;
            if command.first().is_none_or(|program| program.trim().is_empty()) {
                return Err(field.error("names no program"));
            }
            if let Settings::Command(settings) = &mut config.settings {
                settings.command = command;
            }
            Ok(())
        },
        get: |config| settings(config).map_or(Value::Null, |settings| json!(settings.command)),
    },
    Key {
        name: "options",
        benchmarks: &[Benchmark::Command],
        required: false,
        example: "options: {difficulty: easy}",
        doc: "anything your program wants to know; it arrives as JSON",
        set: |config, field| {
            let (options, warnings) = field.mapping()?;
            config.warnings.extend(warnings);
            if let Settings::Command(settings) = &mut config.settings {
                settings.options = options;
            }
            Ok(())
        },
        get: |config| settings(config).map_or(Value::Null, |settings| json!(settings.options)),
    },
    Key {
        name: "agent_symbol",
        benchmarks: &[Benchmark::Command],
        required: false,
        example: "agent_symbol: solve",
        doc: "the Python function or class your program imports from the agent file; checked before anything is run",
        set: |config, field| {
            let symbol = field.text()?;
            let identifier = symbol.chars().all(|c| c.is_alphanumeric() || c == '_');
            if !identifier || symbol.starts_with(|c: char| c.is_numeric()) {
                return Err(field.error(format!("expects a Python name, found {symbol:?}")));
            }
            if let Settings::Command(settings) = &mut config.settings {
                settings.agent_symbol = Some(symbol);
            }
            Ok(())
        },
        get: |config| settings(config).map_or(Value::Null, |settings| json!(settings.agent_symbol)),
    },
    Key {
        name: "import_agent",
        benchmarks: &[Benchmark::Command],
        required: false,
        example: "import_agent: true",
        doc: "whether the agent file is imported once before anything is run, where the program is a Python",
        set: |config, field| {
            let Some(on) = field.clear_boolean() else {
                return Err(field.error("expects true or false"));
            };
            if let Settings::Command(settings) = &mut config.settings {
                settings.import_agent = on;
            }
            Ok(())
        },
        get: |config| settings(config).map_or(Value::Null, |settings| json!(settings.import_agent)),
    },
];

fn settings(config: &super::Config) -> Option<&CommandSettings> {
    match &config.settings {
        Settings::Command(settings) => Some(settings),
        _ => None,
    }
}

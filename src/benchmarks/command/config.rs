//! Keys of the `command` benchmark.

use serde_json::{Map, Value, json};

use crate::config::{Config, Key, Shape, hide_arguments};

/// What only the `command` benchmark has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CommandSettings {
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

fn own(config: &mut Config) -> &mut CommandSettings {
    config.own_mut()
}

/// The rows of this benchmark.
pub(super) const KEYS: &[Key] = &[
    Key::own(
        "command",
        "command: [python3, bench.py]",
        "your program and its arguments, started in a copy of the experiment; a list, because no shell is involved",
        Shape::Texts,
        |config, field| {
            let command = field.texts()?;
            if command.first().is_none_or(|program| program.trim().is_empty()) {
                return Err(field.error("names no program"));
            }
            own(config).command = command;
            Ok(())
        },
        |config| json!(hide_arguments(&config.own::<CommandSettings>().command)),
    )
    .required(),
    Key::mapping(
        "options",
        "options: {difficulty: easy}",
        "anything your program wants to know; it arrives as JSON",
        |config| &mut own(config).options,
    ),
    Key::own(
        "agent_symbol",
        "agent_symbol: solve",
        "the Python function or class your program imports from the agent file; checked before anything is run",
        Shape::Text,
        |config, field| {
            let symbol = field.text()?;
            let identifier = symbol.chars().all(|c| c.is_alphanumeric() || c == '_');
            if !identifier || symbol.starts_with(|c: char| c.is_numeric()) {
                return Err(field.error(format!("expects a Python name, found {symbol:?}")));
            }
            own(config).agent_symbol = Some(symbol);
            Ok(())
        },
        |config| json!(config.own::<CommandSettings>().agent_symbol),
    ),
    Key::flag(
        "import_agent",
        "import_agent: true",
        "whether the preflight imports the agent file, where `command` starts a Python",
        |config| &mut own(config).import_agent,
    ),
];

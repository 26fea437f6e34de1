//! Keys of the `bird-interact` benchmark: BIRD-Interact through its ADK services.

use serde_json::{Value, json};

use crate::config::{Config, Field, HIDDEN, Key, Shape, is_variable_name};
use crate::error::Result;

/// The variable with PostgreSQL's password unless configured.
const PASSWORD_VARIABLE: &str = "PG_PASSWORD";
/// PostgreSQL's host unless configured: where the benchmark's container publishes its port.
const THIS_MACHINE: &str = "127.0.0.1";
/// The role of the benchmark's container, and its password. Both stand in the benchmark's public compose file.
const CONTAINER_USER: &str = "root";
const CONTAINER_PASSWORD: &str = "123123";

/// How an agent and the simulated user talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BirdMode {
    /// The agent decides what to do, within a budget.
    Agentic,
    /// A conversation with a fixed course.
    Conversational,
}

impl BirdMode {
    /// The benchmark's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            BirdMode::Agentic => "a-interact",
            BirdMode::Conversational => "c-interact",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BirdDataset {
    /// 300 tasks.
    Lite,
    /// 600 tasks, on databases of their own.
    Full,
}

impl BirdDataset {
    /// The benchmark's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            BirdDataset::Lite => "lite",
            BirdDataset::Full => "full",
        }
    }

    /// The port at which the benchmark's compose file publishes its PostgreSQL.
    pub fn default_port(self) -> u16 {
        match self {
            BirdDataset::Lite => 5432,
            BirdDataset::Full => 5433,
        }
    }
}

/// A secret text, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one program that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What only the `bird-interact` benchmark has.
#[derive(Debug, Clone, PartialEq)]
pub struct BirdInteractSettings {
    /// How agent and user talk.
    pub mode: BirdMode,
    pub dataset: BirdDataset,
    /// How much the simulated user bears, in the benchmark's own unit.
    pub patience: u32,
    /// A checkout of BIRD-Interact, or its directory BIRD-Interact-ADK, as written: absolute, `~/...`, or relative to the
    /// experiment. `None`: the one that `prepare` makes.
    pub repo: Option<String>,
    /// The interpreter of the services, as written; `None`: that of the tool's own environment.
    pub python: Option<String>,
    /// The tasks, as written; `None`: where the benchmark itself looks.
    pub data_path: Option<String>,
    /// PostgreSQL's host; `None`: this machine.
    pub pg_host: Option<String>,
    /// PostgreSQL's port; `None`: that of the dataset.
    pub pg_port: Option<u16>,
    pub pg_user: String,
    /// The name of the variable that holds its password.
    pub pg_password_env: String,
    /// A password in the configuration itself, as users of the original wrote it.
    pub pg_password: Option<Secret>,
    /// Port of the agent's service; `None`: any free one.
    pub agent_port: Option<u16>,
    /// Port of the simulated user's service; `None`: any free one.
    pub user_port: Option<u16>,
    /// Port of the database service; `None`: any free one.
    pub db_port: Option<u16>,
}

impl Default for BirdInteractSettings {
    fn default() -> BirdInteractSettings {
        BirdInteractSettings {
            mode: BirdMode::Agentic,
            dataset: BirdDataset::Lite,
            patience: 3,
            repo: None,
            python: None,
            data_path: None,
            pg_host: None,
            pg_port: None,
            pg_user: CONTAINER_USER.into(),
            pg_password_env: PASSWORD_VARIABLE.into(),
            pg_password: None,
            agent_port: None,
            user_port: None,
            db_port: None,
        }
    }
}

impl BirdInteractSettings {
    /// PostgreSQL's host, configured or this machine.
    pub fn host(&self) -> &str {
        self.pg_host.as_deref().unwrap_or(THIS_MACHINE)
    }

    /// PostgreSQL's port, configured or the dataset's.
    pub fn port(&self) -> u16 {
        self.pg_port.unwrap_or_else(|| self.dataset.default_port())
    }

    /// Whether the benchmark's own container is meant: no other server was named.
    pub fn is_container(&self) -> bool {
        self.pg_host.is_none() && self.pg_port.is_none()
    }

    /// PostgreSQL's password where its variable is not set: the one written into the configuration, else the public one
    /// of the benchmark's container.
    pub fn fallback_password(&self) -> Option<&str> {
        let public = (self.is_container() && self.pg_user == CONTAINER_USER).then_some(CONTAINER_PASSWORD);
        self.pg_password.as_ref().map(Secret::reveal).or(public)
    }
}

fn own(config: &mut Config) -> &mut BirdInteractSettings {
    config.own_mut()
}

fn of(config: &Config) -> &BirdInteractSettings {
    config.own()
}

/// The rows of this benchmark.
pub(super) const KEYS: &[Key] = &[
    Key::word(
        "mode",
        "mode: a-interact",
        "who leads the dialogue: the agent (`a-interact`) or a fixed sequence (`c-interact`)",
        &[BirdMode::Agentic.as_str(), BirdMode::Conversational.as_str()],
        |config, word| {
            let conversational = word == BirdMode::Conversational.as_str();
            own(config).mode = if conversational { BirdMode::Conversational } else { BirdMode::Agentic };
        },
        |config| of(config).mode.as_str(),
    ),
    Key::word(
        "dataset",
        "dataset: lite",
        "which tasks of BIRD-Interact: `lite` (300) or `full` (600)",
        &[BirdDataset::Lite.as_str(), BirdDataset::Full.as_str()],
        |config, word| {
            let full = word == BirdDataset::Full.as_str();
            own(config).dataset = if full { BirdDataset::Full } else { BirdDataset::Lite };
        },
        |config| of(config).dataset.as_str(),
    ),
    Key::count(
        "patience",
        "patience: 3",
        "how patient the simulated user is; part of every task's budget",
        0,
        1000,
        |config| &mut own(config).patience,
    ),
    Key::text(
        "bird_repo",
        "bird_repo: ~/BIRD-Interact",
        "a checkout of BIRD-Interact, instead of the one that `prepare` makes in `bird_interact_adk/`",
        |config| &mut own(config).repo,
    ),
    Key::text(
        "bird_python_bin",
        "bird_python_bin: ~/bird-venv/bin/python",
        "the Python of the services, instead of the environment that `prepare` installs",
        |config| &mut own(config).python,
    ),
    Key::text(
        "bird_data_path",
        "bird_data_path: ~/bird-interact-lite/merged.jsonl",
        "the tasks with their ground truth, instead of the public ones that `prepare` downloads; keep them outside the experiment",
        |config| &mut own(config).data_path,
    ),
    Key::own(
        "pg_host",
        "pg_host: 127.0.0.1",
        "the host of a PostgreSQL of your own; without it and `pg_port`, `prepare` starts the benchmark's container",
        Shape::Text,
        |config, field| {
            own(config).pg_host = Some(field.text()?);
            Ok(())
        },
        |config| json!(of(config).host()),
    ),
    port(
        "pg_port",
        "pg_port: 5432",
        "the port of that PostgreSQL; with `full` 5433",
        |config, field| {
            own(config).pg_port = Some(number(field)?);
            Ok(())
        },
        |config| json!(of(config).port()),
    ),
    Key::own(
        "pg_user",
        "pg_user: root",
        "the role there; it must be able to create databases, and should be able to create roles, so that agents' SQL gets one of its own",
        Shape::Text,
        |config, field| {
            own(config).pg_user = field.text()?;
            Ok(())
        },
        |config| json!(of(config).pg_user),
    ),
    Key::own(
        "pg_password_env",
        "pg_password_env: PG_PASSWORD",
        "the name of the variable, best in `.env`, with that role's password; the benchmark's container needs none",
        Shape::Text,
        |config, field| {
            let name = field.text()?;
            if !is_variable_name(&name) {
                // It may well be the password itself.
                return Err(field.error("expects the name of a variable"));
            }
            own(config).pg_password_env = name;
            Ok(())
        },
        |config| json!(of(config).pg_password_env),
    ),
    Key::own(
        "pg_password",
        "pg_password_env: PG_PASSWORD",
        "the password itself, as old configurations have it; put it into `.env` instead",
        Shape::Text,
        |config, field| {
            let text = field.text().or_else(|_| field.integer(0..=u64::MAX).map(|number| number.to_string()));
            let text = text.map_err(|_| field.error("expects one line of text in quotes"))?;
            own(config).pg_password = Some(Secret(text));
            let warning = "writes a secret into this file: put it into .env as PG_PASSWORD=... instead";
            config.warnings.push(field.warning(warning));
            Ok(())
        },
        |config| json!(of(config).pg_password.as_ref().map(|_| HIDDEN)),
    ),
    port(
        "agent_port",
        "agent_port: 6100",
        "the port of the agent's service, where any free one will not do",
        |config, field| {
            own(config).agent_port = Some(number(field)?);
            Ok(())
        },
        |config| json!(of(config).agent_port),
    ),
    port(
        "user_port",
        "user_port: 6101",
        "the port of the simulated user's service, where any free one will not do",
        |config, field| {
            own(config).user_port = Some(number(field)?);
            Ok(())
        },
        |config| json!(of(config).user_port),
    ),
    port(
        "db_port",
        "db_port: 6102",
        "the port of the database service, where any free one will not do",
        |config, field| {
            own(config).db_port = Some(number(field)?);
            Ok(())
        },
        |config| json!(of(config).db_port),
    ),
];

const fn port(
    name: &'static str,
    example: &'static str,
    doc: &'static str,
    set: fn(&mut Config, &Field<'_>) -> Result<()>,
    get: fn(&Config) -> Value,
) -> Key {
    Key::own(name, example, doc, Shape::Integer { least: 1, most: u16::MAX as u64 }, set, get)
}

fn number(field: &Field<'_>) -> Result<u16> {
    let port = field.integer32(1..=u32::from(u16::MAX))?;
    Ok(u16::try_from(port).unwrap_or(u16::MAX))
}

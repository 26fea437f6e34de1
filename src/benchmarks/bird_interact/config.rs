//! Keys of the `bird-interact` benchmark: BIRD-Interact through its ADK services.

use serde_json::{Value, json};

use super::environment::is_variable_name;
use super::keys::Key;
use super::{Benchmark, Field, Settings};
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
    pub fn as_str(self) -> &'static str {
        match self {
            BirdMode::Agentic => "a-interact",
            BirdMode::Conversational => "c-interact",
        }
    }
}

/// A set of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BirdDataset {
    /// 300 tasks.
    Lite,
    /// 600 tasks, on databases of their own.
    Full,
}

impl BirdDataset {
    /// The benchmark's name for it.
    pub fn as_str(self) -> &'static str {
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

/// A text that is never shown.
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
    /// Which tasks.
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
    /// PostgreSQL's role.
    pub pg_user: String,
    /// The name of the variable that holds its password.
    pub pg_password_env: String,
    /// A password written into the configuration, as the original's users did.
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

    /// Whether the benchmark's own container is meant: nobody has named another server.
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

/// A row of this benchmark, none of which is required.
macro_rules! row {
    ($name:literal, $example:literal, $doc:literal, $set:expr, $get:expr $(,)?) => {
        Key {
            name: $name,
            benchmarks: &[Benchmark::BirdInteract],
            required: false,
            example: $example,
            doc: $doc,
            set: |config, field| {
                if let Settings::BirdInteract(settings) = &mut config.settings {
                    let set: fn(&mut BirdInteractSettings, &Field<'_>) -> Result<Option<String>> = $set;
                    config.warnings.extend(set(settings, field)?);
                }
                Ok(())
            },
            get: |config| match &config.settings {
                Settings::BirdInteract(settings) => {
                    let get: fn(&BirdInteractSettings) -> Value = $get;
                    get(settings)
                }
                _ => Value::Null,
            },
        }
    };
}

/// The rows of this benchmark.
pub(super) const KEYS: &[Key] = &[
    row!(
        "mode",
        "mode: a-interact",
        "who leads the dialogue: the agent (a-interact) or a fixed course (c-interact)",
        |settings, field| {
            let modes = [BirdMode::Agentic, BirdMode::Conversational].map(|mode| (mode.as_str(), mode));
            settings.mode = field.choice(&modes)?;
            Ok(None)
        },
        |settings| json!(settings.mode.as_str()),
    ),
    row!(
        "dataset",
        "dataset: lite",
        "which tasks of BIRD-Interact: lite (300) or full (600)",
        |settings, field| {
            let sets = [BirdDataset::Lite, BirdDataset::Full].map(|set| (set.as_str(), set));
            settings.dataset = field.choice(&sets)?;
            Ok(None)
        },
        |settings| json!(settings.dataset.as_str()),
    ),
    row!(
        "patience",
        "patience: 3",
        "how much the simulated user bears; part of every task's budget",
        |settings, field| {
            settings.patience = field.integer32(0..=1000)?;
            Ok(None)
        },
        |settings| json!(settings.patience),
    ),
    row!(
        "bird_repo",
        "bird_repo: ~/BIRD-Interact",
        "a checkout of BIRD-Interact, instead of the one that `prepare` makes",
        |settings, field| {
            settings.repo = Some(field.text()?);
            Ok(None)
        },
        |settings| json!(settings.repo),
    ),
    row!(
        "bird_python_bin",
        "bird_python_bin: ~/bird-venv/bin/python",
        "the Python of the services, instead of the environment that `prepare` installs",
        |settings, field| {
            settings.python = Some(field.text()?);
            Ok(None)
        },
        |settings| json!(settings.python),
    ),
    row!(
        "bird_data_path",
        "bird_data_path: ~/bird-interact-lite/merged.jsonl",
        "the tasks with their ground truth, instead of those inside the checkout",
        |settings, field| {
            settings.data_path = Some(field.text()?);
            Ok(None)
        },
        |settings| json!(settings.data_path),
    ),
    row!(
        "pg_host",
        "pg_host: 127.0.0.1",
        "the host of a PostgreSQL of your own with the benchmark's databases; then no docker is needed",
        |settings, field| {
            settings.pg_host = Some(field.text()?);
            Ok(None)
        },
        |settings| json!(settings.host()),
    ),
    row!(
        "pg_port",
        "pg_port: 5432",
        "the port of that PostgreSQL",
        |settings, field| {
            settings.pg_port = Some(port(field)?);
            Ok(None)
        },
        |settings| json!(settings.port()),
    ),
    row!(
        "pg_user",
        "pg_user: root",
        "the role that may create databases there; best no superuser",
        |settings, field| {
            settings.pg_user = field.text()?;
            Ok(None)
        },
        |settings| json!(settings.pg_user),
    ),
    row!(
        "pg_password_env",
        "pg_password_env: PG_PASSWORD",
        "the name of the variable, best in .env, with that role's password",
        |settings, field| {
            let name = field.text()?;
            if !is_variable_name(&name) {
                // It may well be the password itself.
                return Err(field.error("expects the name of a variable"));
            }
            settings.pg_password_env = name;
            Ok(None)
        },
        |settings| json!(settings.pg_password_env),
    ),
    row!(
        "pg_password",
        "pg_password_env: PG_PASSWORD",
        "the password itself, as the original had it; put it into .env instead",
        |settings, field| {
            let text = field.text().or_else(|_| field.integer(0..=u64::MAX).map(|number| number.to_string()));
            settings.pg_password = Some(Secret(text.map_err(|_| field.error("expects one line of text in quotes"))?));
            Ok(Some(field.warning("writes a secret into this file: put it into .env as PG_PASSWORD=... instead")))
        },
        |settings| settings.pg_password.as_ref().map_or(Value::Null, |_| json!(super::snapshot::HIDDEN)),
    ),
    row!(
        "agent_port",
        "agent_port: 6100",
        "the port of the agent's service, where any free one will not do",
        |settings, field| {
            settings.agent_port = Some(port(field)?);
            Ok(None)
        },
        |settings| json!(settings.agent_port),
    ),
    row!(
        "user_port",
        "user_port: 6101",
        "the port of the simulated user's service, where any free one will not do",
        |settings, field| {
            settings.user_port = Some(port(field)?);
            Ok(None)
        },
        |settings| json!(settings.user_port),
    ),
    row!(
        "db_port",
        "db_port: 6102",
        "the port of the database service, where any free one will not do",
        |settings, field| {
            settings.db_port = Some(port(field)?);
            Ok(None)
        },
        |settings| json!(settings.db_port),
    ),
];

fn port(field: &Field<'_>) -> Result<u16> {
    let port = field.integer32(1..=u32::from(u16::MAX))?;
    Ok(u16::try_from(port).unwrap_or(u16::MAX))
}

//! Keys of the `terminal-bench` benchmark: any dataset that `harbor run` can run.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::config::{Config, Document, Field, Key, Shape, hide_arguments, is_secret, is_variable_name};
use crate::error::{Code, Error, Result};

pub(crate) const DEFAULT_DATASET: &str = "terminal-bench@2.0";

/// Where the sandboxes run unless configured: needs no account, only Docker.
pub(super) const DEFAULT_PROVIDER: &str = "docker";

/// What only the `terminal-bench` benchmark has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TerminalBenchSettings {
    /// `name@version` of a registry, or `org/name[@ref]` of Harbor's hub. Not used when `dataset_path` is set.
    pub dataset: String,
    /// A local directory of tasks, as written: absolute, `~/...`, or relative to the experiment.
    pub dataset_path: Option<String>,
    /// A local registry file in which `dataset` is looked up, as written, like `dataset_path`.
    pub registry_path: Option<String>,
    /// A Harbor environment type such as `docker` or `e2b`, or `module:Class`.
    pub env_provider: String,
    /// Handed to the environment's constructor.
    pub environment_kwargs: Map<String, Value>,
    /// The harbor program to use, as written; `None`: found or installed by `prepare`.
    pub harbor_bin: Option<String>,
    /// Further arguments of `harbor run`.
    pub harbor_args: Vec<String>,
    /// Variables of the verifier; `${NAME}` is replaced by Harbor from the environment.
    pub verifier_env: BTreeMap<String, String>,
    /// Variables of the agent inside its sandbox; `${NAME}` is replaced by Harbor from the environment.
    pub agent_env: BTreeMap<String, String>,
}

impl Default for TerminalBenchSettings {
    fn default() -> TerminalBenchSettings {
        TerminalBenchSettings {
            dataset: DEFAULT_DATASET.into(),
            dataset_path: None,
            registry_path: None,
            env_provider: DEFAULT_PROVIDER.into(),
            environment_kwargs: Map::new(),
            harbor_bin: None,
            harbor_args: Vec::new(),
            verifier_env: BTreeMap::new(),
            agent_env: BTreeMap::new(),
        }
    }
}

impl TerminalBenchSettings {
    /// The names in `${NAME}` values of `agent_env` and `verifier_env`: Harbor must see these variables.
    pub(crate) fn referenced_variables(&self) -> Vec<String> {
        let values = self.agent_env.values().chain(self.verifier_env.values());
        let mut names: Vec<String> = values.filter_map(|value| reference(value)).map(str::to_string).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The name in `${NAME}` or `${NAME:-default}`, when the value is nothing else.
fn reference(value: &str) -> Option<&str> {
    let inner = value.strip_prefix("${")?.strip_suffix('}')?;
    let name = inner.split_once(":-").map_or(inner, |(name, _)| name);
    is_variable_name(name).then_some(name)
}

/// Options of `harbor run` that `harbor_args` may hold, and whether a value follows. A list of what is allowed: each new
/// version brings options that decide what is measured, how it is graded or where it runs, such as
/// `--disable-verification`, which makes a baseline of zeros.
const ALLOWED_ARGUMENTS: [(&str, bool); 23] = [
    ("--agent-setup-timeout-multiplier", true),
    ("--allow-agent-host", true),
    ("--allow-environment-host", true),
    ("--allow-verifier-host", true),
    ("--artifact", true),
    ("--cpus", true),
    ("--debug", false),
    ("--delete", false),
    ("--environment-build-timeout-multiplier", true),
    ("--extra-docker-compose", true),
    ("--force-build", false),
    ("--memory", true),
    ("--mounts", true),
    ("--mounts-json", true),
    ("--n-concurrent-agents", true),
    ("--no-delete", false),
    ("--no-force-build", false),
    ("--override-cpus", true),
    ("--override-gpus", true),
    ("--override-memory-mb", true),
    ("--override-storage-mb", true),
    ("--skip-credential-checks", false),
    ("--verifier-timeout-multiplier", true),
];

/// The first argument that is not on the list, or is not used as listed, in a form that may be shown.
fn refused_argument(arguments: &[String]) -> Option<&str> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let (name, value) =
            argument.split_once('=').map_or((argument.as_str(), None), |(name, value)| (name, Some(value)));
        match ALLOWED_ARGUMENTS.iter().find(|(known, _)| *known == name) {
            Some((_, false)) if value.is_none() => {}
            Some((_, true)) if value.is_some() || arguments.next().is_some_and(|next| !next.starts_with('-')) => {}
            // A stray value may be anything, even a key, so it is not repeated.
            _ if !name.starts_with('-') => return Some("a value that follows no option"),
            _ => return Some(name),
        }
    }
    None
}

fn own(config: &mut Config) -> &mut TerminalBenchSettings {
    config.own_mut()
}

fn of(config: &Config) -> &TerminalBenchSettings {
    config.own()
}

/// The rows of this benchmark.
pub(super) const KEYS: &[Key] = &[
    Key::own(
        "dataset",
        "dataset: terminal-bench@2.0",
        "the Harbor dataset, `name@version` or `org/name[@ref]`",
        Shape::Text,
        |config, field| {
            let dataset = field.text()?;
            let name = dataset.split('@').next().unwrap_or_default();
            if name.is_empty() || dataset.contains(char::is_whitespace) || name.matches('/').count() > 1 {
                return Err(field.error(format!("expects name@version or org/name, found {dataset:?}")));
            }
            if !dataset.contains('@') {
                config.warnings.push(field.warning(
                    "names no version: scores are comparable only while the newest one stays the same; \
                     write name@version",
                ));
            }
            own(config).dataset = dataset;
            Ok(())
        },
        |config| json!(of(config).dataset),
    ),
    Key::own(
        "dataset_path",
        "dataset_path: ~/datasets/my-tasks",
        "a local directory of Harbor tasks, instead of `dataset`; keep it outside the experiment",
        Shape::Text,
        |config, field| {
            let path = field.text()?;
            warn_inside(config, field, &path);
            own(config).dataset_path = Some(path);
            Ok(())
        },
        |config| json!(of(config).dataset_path),
    ),
    Key::text(
        "registry_path",
        "registry_path: ~/datasets/registry.json",
        "a local registry file in which `dataset` is looked up",
        |config| &mut own(config).registry_path,
    ),
    Key::own(
        "env_provider",
        "env_provider: docker",
        "where sandboxes run: a Harbor environment type such as docker, e2b, daytona or modal, or `module:Class`",
        Shape::Text,
        |config, field| {
            let provider = field.text()?;
            let (module, class) = provider.split_once(':').unwrap_or((&provider, "Class"));
            let word = |text: &str, more: &str| {
                !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
            };
            if !word(module, "_-.") || !word(class, "_.") {
                return Err(field.error(format!("expects one word, or module:Class, found {provider:?}")));
            }
            own(config).env_provider = provider;
            Ok(())
        },
        |config| json!(of(config).env_provider),
    ),
    Key::mapping(
        "environment_kwargs",
        "environment_kwargs: {region: eu}",
        "arguments of the environment's constructor, as `harbor run --ek` takes them",
        |config| &mut own(config).environment_kwargs,
    ),
    Key::own(
        "n_attempts",
        "n_attempts: 1",
        "Harbor's name for `trials`; set one of the two",
        Shape::Integer { least: 1, most: 100 },
        |config, field| {
            config.trials = field.integer32(1..=100)?;
            config.warnings.push(field.warning("is Harbor's name for `trials` and is taken as that"));
            Ok(())
        },
        // `trials` has the value.
        |_| Value::Null,
    ),
    Key::text(
        "harbor_bin",
        "harbor_bin: ~/.local/bin/harbor",
        "the harbor program to use, instead of the one `prepare` finds or installs",
        |config| &mut own(config).harbor_bin,
    ),
    Key::own(
        "harbor_args",
        "harbor_args: [--force-build]",
        "further arguments of `harbor run`, of a list of allowed ones: none that decides what is measured or graded",
        Shape::Texts,
        |config, field| {
            let arguments = field.texts()?;
            if let Some(name) = refused_argument(&arguments) {
                let allowed: Vec<String> = ALLOWED_ARGUMENTS
                    .iter()
                    .map(|(name, value)| if *value { format!("{name}=VALUE") } else { (*name).to_owned() })
                    .collect();
                return Err(field.error(format!(
                    "cannot hold {name:?}: it may hold only options that leave the grading, the tasks and the job to \
                     autoharness: {}",
                    allowed.join(", ")
                )));
            }
            own(config).harbor_args = arguments;
            Ok(())
        },
        |config| json!(hide_arguments(&of(config).harbor_args)),
    ),
    Key::own(
        "verifier_env",
        "verifier_env: {OPENAI_API_KEY: '${OPENAI_API_KEY}'}",
        "variables of the verifier; secrets as `${NAME}`, with the value in `.env`",
        Shape::Mapping,
        |config, field| {
            own(config).verifier_env = variables(config, field)?;
            Ok(())
        },
        |config| json!(of(config).verifier_env),
    ),
    Key::own(
        "agent_env",
        "agent_env: {HF_TOKEN: '${HF_TOKEN}'}",
        "variables of the agent in its sandbox; secrets as `${NAME}`, with the value in `.env`",
        Shape::Mapping,
        |config, field| {
            own(config).agent_env = variables(config, field)?;
            Ok(())
        },
        |config| json!(of(config).agent_env),
    ),
];

/// A mapping of variable names to texts, in which nothing that looks like a secret is written out.
fn variables(config: &mut Config, field: &Field<'_>) -> Result<BTreeMap<String, String>> {
    let (mapping, warnings) = field.mapping()?;
    config.warnings.extend(warnings);
    let mut variables = BTreeMap::new();
    for (name, value) in mapping {
        if !is_variable_name(&name) {
            return Err(field.error(format!("expects variable names, {name:?} is not one")));
        }
        // Values are never repeated in a message.
        let Value::String(value) = value else {
            return Err(field.error(format!("expects text for {name}; put the value in quotes")));
        };
        if is_secret(&name, &value) && reference(&value).is_none() {
            return Err(field.error(format!(
                "writes out {name}, which looks like a secret: write {name}: '${{{name}}}' and put the value into .env"
            )));
        }
        variables.insert(name, value);
    }
    Ok(variables)
}

/// The coding agent can read a data set in the work tree, hold-out and solutions included.
fn warn_inside(config: &mut Config, field: &Field<'_>, path: &str) {
    if !path.starts_with(['/', '~']) && !path.starts_with("..") {
        config.warnings.push(field.warning(
            "lies inside the experiment, where the coding agent can read the hold-out's tests and solutions; \
             keep the tasks elsewhere",
        ));
    }
}

/// Keys that contradict each other.
pub(super) fn check(document: &Document) -> Result<()> {
    let set = |name: &str| document.set(name);
    for (one, other, why) in [
        ("dataset", "dataset_path", "both name the tasks"),
        ("registry_path", "dataset_path", "a local directory needs no registry"),
        ("n_attempts", "trials", "both say how often each task is run"),
    ] {
        if let (Some(_), Some(entry)) = (set(one), set(other)) {
            return Err(Error::usage(format!(
                "{}: `{other}` and `{one}` cannot be set both: {why}",
                document.place(entry)
            ))
            .code(Code::ConfigInvalid)
            .hint("delete one of the two lines."));
        }
    }
    Ok(())
}

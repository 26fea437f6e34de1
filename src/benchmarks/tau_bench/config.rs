//! Keys of the `tau-bench` benchmark: one domain of tau2, and where tau2 comes from.

use serde_json::json;

use crate::config::{Config, Document, Key, Shape};
use crate::error::{Code, Error, Result};

/// The revision of tau2 unless configured: 1.0.1, the newest one that the helper was tested with.
pub(super) const DEFAULT_REVISION: &str = "a2c024725189473d2d7cea3a5cfdbcc67478e41f";

/// Where tau2 is fetched from unless configured.
pub(super) const DEFAULT_REPOSITORY: &str = "https://github.com/sierra-research/tau2-bench";

/// The base seed unless configured: tau2's own.
pub(super) const DEFAULT_SEED: u64 = 300;

/// The domains, in the order in which messages list them.
pub(crate) const DOMAINS: [&str; 6] = ["retail", "airline", "telecom", "telecom-workflow", "banking_knowledge", "mock"];

/// The one domain whose agent searches documents, and so the one that has `retrieval_config`.
const WITH_RETRIEVAL: &str = "banking_knowledge";

/// Works without network and further programs, unlike tau2's own default.
const DEFAULT_RETRIEVAL: &str = "bm25";

/// What only the `tau-bench` benchmark has.
#[derive(Debug, Clone, PartialEq)]
pub struct TauBenchSettings {
    /// One of [`DOMAINS`].
    pub domain: String,
    /// Model of the natural-language judge; `None`: tau2's own.
    pub judge_model: Option<String>,
    /// Most steps of a conversation.
    pub max_steps: u32,
    /// Most tool errors of a conversation.
    pub max_errors: u32,
    /// Whether traces of train tasks show the arguments of the expected actions.
    pub trace_gold: bool,
    /// Retrieval variant of banking_knowledge; `None` in every other domain.
    pub retrieval_config: Option<String>,
    /// The commit of tau2, 40 hex digits.
    pub tau2_revision: String,
    /// The repository that has it: a URL, or an absolute path.
    pub tau2_repository: String,
    /// The interpreter of an existing installation, as written; `None`: `prepare` provides one.
    pub tau2_python: Option<String>,
    /// The data directory of that installation, as written.
    pub tau2_data_dir: Option<String>,
}

impl Default for TauBenchSettings {
    fn default() -> TauBenchSettings {
        TauBenchSettings {
            domain: DOMAINS[0].into(),
            judge_model: None,
            max_steps: 200,
            max_errors: 10,
            trace_gold: false,
            retrieval_config: None,
            tau2_revision: DEFAULT_REVISION.into(),
            tau2_repository: DEFAULT_REPOSITORY.into(),
            tau2_python: None,
            tau2_data_dir: None,
        }
    }
}

impl TauBenchSettings {
    /// These settings with another domain, and what follows from it.
    #[must_use = "returns the changed settings"]
    pub fn with_domain(&self, domain: &str) -> TauBenchSettings {
        let mut settings = TauBenchSettings { domain: domain.into(), ..self.clone() };
        settings.complete();
        settings
    }

    fn complete(&mut self) {
        if self.domain != WITH_RETRIEVAL {
            self.retrieval_config = None;
        } else if self.retrieval_config.is_none() {
            self.retrieval_config = Some(DEFAULT_RETRIEVAL.into());
        }
    }
}

fn own(config: &mut Config) -> &mut TauBenchSettings {
    config.own_mut()
}

fn of(config: &Config) -> &TauBenchSettings {
    config.own()
}

/// The rows of this benchmark.
pub(super) const KEYS: &[Key] = &[
    Key::word(
        "domain",
        "domain: retail",
        "what the conversations are about: `retail`, `airline`, `telecom`, `telecom-workflow`, `banking_knowledge` or `mock`",
        &DOMAINS,
        |config, domain| own(config).domain = domain.into(),
        |config| &of(config).domain,
    ),
    Key::text(
        "judge_model",
        "judge_model: gpt-5-mini",
        "the model that judges what no database shows, asked only where its verdict is part of the reward; without it tau2's own, gpt-4.1-2025-04-14",
        |config| &mut own(config).judge_model,
    ),
    Key::count(
        "max_steps",
        "max_steps: 200",
        "most steps of a conversation; every message and every tool's answer is one",
        1,
        10_000,
        |config| &mut own(config).max_steps,
    ),
    Key::count("max_errors", "max_errors: 10", "most tool errors of a conversation, in all", 1, 10_000, |config| {
        &mut own(config).max_errors
    }),
    Key::flag(
        "trace_gold",
        "trace_gold: false",
        "whether results of train tasks show the arguments of the expected actions",
        |config| &mut own(config).trace_gold,
    ),
    Key::text(
        "retrieval_config",
        "retrieval_config: bm25",
        "how the agent of banking_knowledge searches documents, as tau2 names it; without it `bm25`",
        |config| &mut own(config).retrieval_config,
    ),
    Key::own(
        "tau2_revision",
        "tau2_revision: a2c024725189473d2d7cea3a5cfdbcc67478e41f",
        "the commit of tau2 that code and data are taken from, all 40 digits",
        Shape::Text,
        |config, field| {
            let revision = field.text()?;
            if revision.len() != 40 || !revision.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                return Err(field.error(format!("expects the 40 hex digits of a commit, found {revision:?}")));
            }
            own(config).tau2_revision = revision;
            Ok(())
        },
        |config| json!(of(config).tau2_revision),
    ),
    Key::own(
        "tau2_repository",
        "tau2_repository: https://github.com/sierra-research/tau2-bench",
        "the git repository that has this commit: a URL, or an absolute path",
        Shape::Text,
        |config, field| {
            let repository = field.text()?;
            // `ext::` would run a command, and a leading dash would be an option of git.
            if !["https://", "http://", "ssh://", "file://", "git@", "/"]
                .iter()
                .any(|start| repository.starts_with(start))
            {
                return Err(field.error("expects a URL or an absolute path"));
            }
            let address = repository.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
            if address.is_some_and(|address| address.split_once('@').is_some_and(|(user, _)| user != "git")) {
                // The value holds a password or token, so it is not repeated.
                return Err(field.error("holds a user name or password: leave that to git's credential helpers"));
            }
            own(config).tau2_repository = repository;
            Ok(())
        },
        |config| json!(of(config).tau2_repository),
    ),
    Key::text(
        "tau2_python",
        "tau2_python: ~/tau2-bench/.venv/bin/python",
        "the Python of your own installation of tau2, instead of the one that `prepare` provides",
        |config| &mut own(config).tau2_python,
    ),
    Key::text(
        "tau2_data_dir",
        "tau2_data_dir: ~/tau2-bench/data",
        "the data directory of that installation; else `TAU2_DATA_DIR`; else, of an editable installation (`pip install -e`), the `data` beside its source",
        |config| &mut own(config).tau2_data_dir,
    ),
];

/// Keys that contradict each other.
pub(super) fn check(document: &Document, config: &Config) -> Result<()> {
    let settings = of(config);
    let set = |name: &str| document.set(name);
    let refuse = |entry, message: String, hint: &str| {
        Err(Error::usage(format!("{}: {message}", document.place(entry))).code(Code::ConfigInvalid).hint(hint))
    };
    if let (Some(entry), None) = (set("tau2_data_dir"), set("tau2_python")) {
        let message = "`tau2_data_dir` needs `tau2_python`: `prepare` takes code and data from one commit".into();
        return refuse(entry, message, "set both, or neither.");
    }
    for name in ["tau2_revision", "tau2_repository"] {
        if let (Some(entry), Some(_)) = (set(name), set("tau2_python")) {
            let message =
                format!("`{name}` and `tau2_python` cannot be set both: an installation of yours is used as it is");
            return refuse(entry, message, "delete one of the two lines.");
        }
    }
    if let Some(entry) = set("retrieval_config").filter(|_| settings.domain != WITH_RETRIEVAL) {
        let message =
            format!("`retrieval_config` belongs to the domain {WITH_RETRIEVAL}, this one is {}", settings.domain);
        return refuse(entry, message, "delete the line.");
    }
    Ok(())
}

/// Fills in what follows from other keys.
pub(super) fn complete(config: &mut Config) {
    own(config).complete();
    if config.user_model.is_none() {
        config.user_model.clone_from(&config.agent_model);
    }
}

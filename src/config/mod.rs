//! experiment_config.yaml and .env become [`Config`] and [`Environment`].
//!
//! Everything that can be configured is a [`Key`]: the common ones are rows in `keys`, a benchmark's own rows in its
//! [`Section`]. Parsing, error messages, the snapshot in the ledger, the JSON Schema and the tests of the template
//! follow from the rows.

mod coding_agent;
mod common;
mod dotenv;
mod environment;
mod fence_mode;
mod field;
mod host;
mod key;
mod keys;
mod parse;
mod schema;
mod secret;
mod snapshot;
mod surfaces;

use std::ops::Range;
use std::path::Path;

pub(crate) use coding_agent::{CodingAgent, PromptBy};
pub use common::COMMON;
pub(crate) use common::CONFIG_FILE;
pub use environment::Environment;
pub(crate) use environment::is_variable_name;
pub(crate) use fence_mode::FenceMode;
pub(crate) use field::Field;
pub(crate) use host::{host_and_port, is_host, is_host_letter};
pub use key::{Config, Key, Section};
pub(crate) use key::{Settings, Shape, Surfaces};
pub(crate) use keys::{Sections, nearest};
pub use keys::{keys, keys_of, names};
pub(crate) use parse::Document;
pub(crate) use schema::schema;
pub use secret::is_secret_name;
pub(crate) use secret::{HIDDEN, hide_arguments, is_secret, percent_decoded};
pub use snapshot::own_defaults;
pub(crate) use surfaces::touched;

use crate::error::{Code, Error, Result};
use crate::files;
use crate::model::gate::{Disclosure, GateRule, LeakScan, PairedPolicy, Policy};
use crate::model::hash::hash;
use crate::model::score::Scoring;
pub use crate::model::score::TimeoutPolicy;

/// Larger than any configuration, in bytes.
const LARGEST: u64 = 1 << 20;

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// Usage, with file, line and remedy: the file is missing or not YAML, a key is unknown, twice or belongs to another
    /// benchmark, a value has the wrong type or range, a required key is missing.
    pub fn load(path: &Path, sections: Sections<'_>) -> Result<Config> {
        let bytes = files::read_if_there(path, LARGEST)?.ok_or_else(|| {
            Error::usage(format!("{} does not exist", path.display())).code(Code::ConfigMissing).hint(format!(
                "start a new experiment with `autoharness init`, or in this one run `cp {CONFIG_FILE}.template {CONFIG_FILE}`."
            ))
        })?;
        let digest = hash(&bytes);
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count();
            Error::usage(format!("{}:{line}: not UTF-8 text", path.display()))
                .code(Code::ConfigInvalid)
                .hint("save the file as UTF-8.")
        })?;
        let document = parse::Document::parse(path, &text)?;
        let benchmark = keys::benchmark_of(&document, sections)?;
        let mut config = Config { digest, ..Config::defaults(path, benchmark) };
        for entry in &document.entries {
            let key = keys::known(&document, entry, benchmark, sections)?;
            if !parse::is_empty(&entry.value) {
                key.set(&mut config, &Field::new(&document, entry, key.name, key.example, key.doc))?;
            }
        }
        keys::require(&document, benchmark)?;
        keys::check_overlap(&document, &config)?;
        keys::check_rule(&document, &config)?;
        keys::check_coding_agents(&document, &config)?;
        surfaces::check(&document, &config)?;
        benchmark.check(&document, &config)?;
        benchmark.complete(&mut config);
        config.text = text;
        Ok(config)
    }

    /// The configuration of a file that says nothing but `benchmark:`.
    fn defaults(path: &Path, benchmark: &'static dyn Section) -> Config {
        let mut config = Config::usual(path, benchmark);
        benchmark.defaults(&mut config);
        config
    }

    /// The same, as it is where the benchmark has no defaults of its own for common keys.
    fn usual(path: &Path, benchmark: &'static dyn Section) -> Config {
        let Policy { threshold, min_evidence, timeout_policy, gate_split, trials, .. } = Policy::default();
        Config {
            path: path.to_path_buf(),
            digest: String::new(),
            text: String::new(),
            warnings: Vec::new(),
            benchmark,
            settings: benchmark.settings(),
            editable: vec!["agent/agent.py".into()],
            file_guard: true,
            gate_split,
            sealed: 0.0,
            threshold,
            min_evidence,
            trials,
            infra_retries: 1,
            timeout_policy,
            seed: 42,
            max_concurrency: 4,
            per_task_timeout: None,
            agent_model: None,
            user_model: None,
            reasoning_effort: None,
            pass_env: Vec::new(),
            fence: FenceMode::Auto,
            model_hosts: Vec::new(),
            data: Vec::new(),
            not_read: Vec::new(),
            leak_scan: LeakScan::Warn,
            gate_rule: GateRule::Best,
            alpha: 0.10,
            max_rounds: 3,
            confirm_trials: 3,
            promote_after: 3,
            max_suite: None,
            holdout_disclosure: None,
            alpha_spending: false,
            surfaces: Surfaces::new(),
            coding_agents: serde_json::Map::new(),
            loop_env: Vec::new(),
            loop_timeout: 3600,
            loop_prices: None,
            trial_prices: None,
        }
    }

    /// How trials add up to the reward of a task.
    pub fn scoring(&self) -> Scoring {
        Scoring { trials: self.trials, policy: self.timeout_policy }
    }

    /// The numbers of the trials that every task has.
    pub fn all_trials(&self) -> Range<u32> {
        0..self.trials
    }

    /// The numbers of the rule `paired`; `None` where the rule is another.
    pub fn paired(&self) -> Option<PairedPolicy> {
        let Config { alpha, max_rounds, confirm_trials, promote_after, .. } = *self;
        let promote_after = Some(promote_after);
        let policy = PairedPolicy { alpha, max_rounds, confirm_trials, promote_after, candidate: None };
        (self.gate_rule == GateRule::Paired).then_some(policy)
    }

    /// What the coding agent is told about the hold-out.
    pub fn disclosure(&self) -> Disclosure {
        self.holdout_disclosure.unwrap_or(match self.gate_rule {
            GateRule::Best => Disclosure::Score,
            GateRule::Paired => Disclosure::Ladder,
        })
    }

    /// The agent file: the first of `editable`, relative to the experiment.
    pub fn agent_file(&self) -> &str {
        &self.editable[0]
    }

    /// Every resolved value under its key, for the ledger. Values that look like secrets are hidden.
    pub fn snapshot(&self) -> serde_json::Value {
        snapshot::snapshot(self)
    }

    /// What differs from an earlier snapshot, one line per changed value. A key that the snapshot lacks was added in a later
    /// version of this program: its default was in force.
    pub fn changes_since(&self, snapshot: &serde_json::Value) -> Vec<String> {
        let mut defaults = Config::defaults(&self.path, self.benchmark);
        self.benchmark.complete(&mut defaults);
        // The default of `holdout_disclosure` follows from it.
        defaults.gate_rule = self.gate_rule;
        let mut old = snapshot.clone();
        if let (serde_json::Value::Object(old), serde_json::Value::Object(defaults)) = (&mut old, defaults.snapshot()) {
            for (key, value) in defaults {
                old.entry(key).or_insert(value);
            }
        }
        Config::diff(&old, &self.snapshot())
    }

    /// What differs between two snapshots, one line per changed value: `threshold: 0.8 -> 0.5`.
    pub fn diff(old: &serde_json::Value, new: &serde_json::Value) -> Vec<String> {
        snapshot::diff(old, new)
    }
}

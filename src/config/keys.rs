//! The table of everything that can be configured, and the checks that need all of it.

use serde_json::json;

use super::environment::is_variable_name;
use super::parse::{Document, Entry, is_empty};
use super::secret::is_secret_name;
use super::{Benchmark, Config, Field, TimeoutPolicy, bird_interact, command, tau_bench, terminal_bench};
use crate::error::{Error, Result};
use crate::model::trial::Split;

/// One key of the configuration.
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The benchmarks that have it; empty for all of them.
    pub benchmarks: &'static [Benchmark],
    /// Whether these benchmarks cannot do without it.
    pub required: bool,
    /// A good line, shown in hints.
    pub example: &'static str,
    /// What it is, as a noun phrase, shown in hints.
    pub doc: &'static str,
    /// Checks a value that is not empty and stores it.
    pub set: fn(&mut Config, &Field<'_>) -> Result<()>,
    /// The resolved value, for the snapshot.
    pub get: fn(&Config) -> serde_json::Value,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Key {
    /// Whether `benchmark` has this key.
    pub fn applies_to(&self, benchmark: Benchmark) -> bool {
        self.benchmarks.is_empty() || self.benchmarks.contains(&benchmark)
    }
}

/// Every key of every benchmark. A benchmark with keys of its own adds its table to the chain.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    let own = [command::KEYS, tau_bench::KEYS, terminal_bench::KEYS, bird_interact::KEYS];
    COMMON.iter().chain(own.into_iter().flatten())
}

/// Paths that can never be editable: the tool's own, and what would let an edit choose its own rules.
const PROTECTED: [&str; 5] = [".git", "workspace", super::CONFIG_FILE, ".env", ".gitignore"];

/// A trial longer than a week is a typing error, and larger numbers overflow clocks.
const LONGEST_TIMEOUT_S: f64 = 604_800.0;

const COMMON: &[Key] = &[
    Key {
        name: "benchmark",
        benchmarks: &[],
        required: true,
        example: "benchmark: demo",
        doc: "what scores the agent: demo, tau-bench, terminal-bench, bird-interact or command",
        // Read before the table is walked, because the other keys depend on it.
        set: |_, _| Ok(()),
        get: |config| json!(config.benchmark.as_str()),
    },
    Key {
        name: "editable",
        benchmarks: &[],
        required: false,
        example: "editable: [agent/agent.py]",
        doc: "the files that the coding agent may edit; the first is the agent file",
        set: |config, field| {
            let paths = field.paths()?;
            if paths.is_empty() {
                return Err(field.error("lists no file"));
            }
            if let Some(path) = paths.iter().find(|path| PROTECTED.iter().any(|own| within(path, own))) {
                return Err(
                    field.error(format!("cannot hold `{path}`: an agent that edits it could choose its own rules"))
                );
            }
            config.editable = paths;
            Ok(())
        },
        get: |config| json!(config.editable),
    },
    Key {
        name: "file_guard",
        benchmarks: &[],
        required: false,
        example: "file_guard: true",
        doc: "whether an edit of any other file fails the gate",
        set: |config, field| {
            match field.clear_boolean() {
                Some(on) => config.file_guard = on,
                None => config.warnings.push(field.warning("is neither true nor false and stays on")),
            }
            Ok(())
        },
        get: |config| json!(config.file_guard),
    },
    Key {
        name: "gate_split",
        benchmarks: &[],
        required: false,
        example: "gate_split: test",
        doc: "the split that val_score is measured on",
        set: |config, field| {
            config.gate_split = field.choice(&[("test", Split::Test), ("train", Split::Train)])?;
            Ok(())
        },
        get: |config| json!(config.gate_split.as_str()),
    },
    Key {
        name: "threshold",
        benchmarks: &[],
        required: false,
        example: "threshold: 0.8",
        doc: "share of the suite's tasks that must pass",
        set: |config, field| {
            config.threshold = field.fraction()?;
            Ok(())
        },
        get: |config| json!(config.threshold),
    },
    Key {
        name: "min_evidence",
        benchmarks: &[],
        required: false,
        example: "min_evidence: 0.9",
        doc: "share of the expected tasks that must be evaluated before a step decides anything",
        set: |config, field| {
            config.min_evidence = field.fraction()?;
            Ok(())
        },
        get: |config| json!(config.min_evidence),
    },
    Key {
        name: "trials",
        benchmarks: &[],
        required: false,
        example: "trials: 1",
        doc: "how often each task is run; the rewards are averaged",
        set: |config, field| {
            config.trials = field.integer32(1..=100)?;
            Ok(())
        },
        get: |config| json!(config.trials),
    },
    Key {
        name: "infra_retries",
        benchmarks: &[],
        required: false,
        example: "infra_retries: 1",
        doc: "how often a trial that gave no evidence is run again",
        set: |config, field| {
            config.infra_retries = field.integer32(0..=10)?;
            Ok(())
        },
        get: |config| json!(config.infra_retries),
    },
    Key {
        name: "timeout_policy",
        benchmarks: &[],
        required: false,
        example: "timeout_policy: agent",
        doc: "an agent timeout counts as reward 0.0 (agent) or is left out (infra)",
        set: |config, field| {
            config.timeout_policy =
                field.choice(&[("agent", TimeoutPolicy::Agent), ("infra", TimeoutPolicy::Infra)])?;
            Ok(())
        },
        get: |config| json!(config.timeout_policy.as_str()),
    },
    Key {
        name: "seed",
        benchmarks: &[],
        required: false,
        example: "seed: 42",
        doc: "what the trials draw their randomness from; the split is always drawn with 42",
        set: |config, field| {
            config.seed = field.integer(0..=u64::from(u32::MAX))?;
            Ok(())
        },
        get: |config| json!(config.seed),
    },
    Key {
        name: "max_concurrency",
        benchmarks: &[],
        required: false,
        example: "max_concurrency: 4",
        doc: "most trials in flight at once",
        set: |config, field| {
            config.max_concurrency = field.integer32(1..=1024)?;
            Ok(())
        },
        get: |config| json!(config.max_concurrency),
    },
    Key {
        name: "per_task_timeout",
        benchmarks: &[],
        required: false,
        example: "per_task_timeout: 600",
        doc: "limit of one trial in seconds",
        set: |config, field| {
            let what = format!("a number of seconds above 0 and up to {LONGEST_TIMEOUT_S} (a week)");
            let seconds = field.number(&what, |seconds| seconds > 0.0 && seconds <= LONGEST_TIMEOUT_S)?;
            config.per_task_timeout = Some(seconds);
            Ok(())
        },
        get: |config| json!(config.per_task_timeout),
    },
    Key {
        name: "agent_model",
        benchmarks: &[],
        required: false,
        example: "agent_model: gpt-5-mini",
        doc: "the agent's model, as the benchmark names it",
        set: |config, field| {
            config.agent_model = Some(field.text()?);
            Ok(())
        },
        get: |config| json!(config.agent_model),
    },
    Key {
        name: "user_model",
        benchmarks: &[],
        required: false,
        example: "user_model: gpt-5-mini",
        doc: "the simulated user's model, as the benchmark names it",
        set: |config, field| {
            config.user_model = Some(field.text()?);
            Ok(())
        },
        get: |config| json!(config.user_model),
    },
    Key {
        name: "reasoning_effort",
        benchmarks: &[],
        required: false,
        example: "reasoning_effort: medium",
        doc: "reasoning effort of the agent's model, as its provider names it",
        set: |config, field| {
            config.reasoning_effort = Some(field.text()?);
            Ok(())
        },
        get: |config| json!(config.reasoning_effort),
    },
    Key {
        name: "pass_env",
        benchmarks: &[],
        required: false,
        example: "pass_env: [OPENAI_API_KEY]",
        doc: "names of environment variables that the benchmark may see; values belong in .env",
        set: |config, field| {
            let names = field.texts()?;
            if let Some(index) = names.iter().position(|name| !is_variable_name(name)) {
                // The item may well be a secret pasted into the wrong place, so it is not repeated.
                return Err(field.error(format!("expects variable names, item {} is not one", index + 1)));
            }
            config.pass_env = names;
            Ok(())
        },
        get: |config| json!(config.pass_env),
    },
    Key {
        name: "data",
        benchmarks: &[],
        required: false,
        example: "data: [bench_data]",
        doc: "files and directories that must stay as they were when the experiment was prepared; git may ignore them",
        set: |config, field| {
            config.data = field.paths()?;
            Ok(())
        },
        get: |config| json!(config.data),
    },
    Key {
        name: "not_read",
        benchmarks: &[],
        required: false,
        example: "not_read: [README.md, docs]",
        doc: "committed files that neither benchmark nor agent reads: they are left out of the copy that is run",
        set: |config, field| {
            config.not_read = field.patterns()?;
            Ok(())
        },
        get: |config| json!(config.not_read),
    },
];

/// Whether `path` is `directory` or below it. Case is ignored, because some file systems do.
fn within(path: &str, directory: &str) -> bool {
    let (path, directory) = (path.to_lowercase(), directory.to_lowercase());
    path.strip_prefix(&directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The candidate closest to `word`, when it is close enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let normal = |text: &str| text.trim().to_lowercase().replace(['-', ' '], "_");
    let word = normal(word);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&word, &normal(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The benchmark of a document whose keys are all known.
pub(super) fn benchmark_of(document: &Document) -> Result<Benchmark> {
    for entry in &document.entries {
        if !keys().any(|key| key.name == entry.name) {
            return Err(unknown(document, entry));
        }
    }
    let Some(entry) = document.entry("benchmark").filter(|entry| !is_empty(&entry.value)) else {
        return Err(Error::usage(format!("{}: `benchmark` is missing", document.path.display()))
            .hint(format!("add the line `benchmark: demo`; the benchmarks are {}.", Benchmark::names())));
    };
    let name = entry.value.as_str().unwrap_or_default().trim();
    Benchmark::parse(name).ok_or_else(|| {
        let error = Error::usage(format!(
            "{}: `benchmark` expects the name of a benchmark, found {}",
            document.place(entry),
            super::field::found(&entry.value)
        ));
        match Benchmark::nearest(name) {
            Some(near) => error.hint(format!("did you mean `benchmark: {near}`?")),
            None => error.hint(format!("the benchmarks are {}.", Benchmark::names())),
        }
    })
}

fn unknown(document: &Document, entry: &Entry) -> Error {
    let error = Error::usage(format!("{}: unknown key `{}`", document.place(entry), entry.name));
    match nearest(&entry.name, keys().map(|key| key.name)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None if is_secret_name(&entry.name) => error.hint("secrets belong in .env, as NAME=value, not in this file."),
        None => {
            let benchmark = document.entry("benchmark").and_then(|entry| Benchmark::parse(entry.value.as_str()?));
            let fits = |key: &&Key| benchmark.is_none_or(|benchmark| key.applies_to(benchmark));
            let names: Vec<_> = keys().filter(fits).map(|key| key.name).collect();
            error.hint(format!("the known keys are {}.", names.join(", ")))
        }
    }
}

/// The row of an entry, provided that it belongs to `benchmark`.
pub(super) fn known(document: &Document, entry: &Entry, benchmark: Benchmark) -> Result<&'static Key> {
    let named = || keys().filter(|key| key.name == entry.name);
    if let Some(key) = named().find(|key| key.applies_to(benchmark)) {
        return Ok(key);
    }
    let owners: Vec<_> = named().flat_map(|key| key.benchmarks).map(|owner| owner.as_str()).collect();
    if owners.is_empty() {
        return Err(unknown(document, entry));
    }
    Err(Error::usage(format!(
        "{}: `{}` belongs to {}, this experiment is {benchmark}",
        document.place(entry),
        entry.name,
        owners.join(" and ")
    ))
    .hint("delete the line, or change `benchmark:`."))
}

/// Every key that `benchmark` cannot do without is there and not empty.
pub(super) fn require(document: &Document, benchmark: Benchmark) -> Result<()> {
    for key in keys().filter(|key| key.required && key.applies_to(benchmark)) {
        if document.entry(key.name).is_none_or(|entry| is_empty(&entry.value)) {
            return Err(Error::usage(format!(
                "{}: `{}` is missing, {benchmark} cannot do without it",
                document.path.display(),
                key.name
            ))
            .hint(format!("add for example the line `{}` ({}).", key.example, key.doc)));
        }
    }
    Ok(())
}

/// Data that must keep its digest cannot be editable as well.
pub(super) fn check_overlap(document: &Document, config: &Config) -> Result<()> {
    for data in &config.data {
        if let Some(file) = config.editable.iter().find(|file| within(file, data) || within(data, file)) {
            let place =
                document.entry("data").map_or_else(|| document.path.display().to_string(), |e| document.place(e));
            return Err(Error::usage(format!("{place}: `data` holds `{data}`, but `{file}` is editable"))
                .hint("data must keep its digest; take one of the two out."));
        }
    }
    Ok(())
}

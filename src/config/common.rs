//! The table of the keys that every benchmark has.

use serde_json::json;

use super::environment::is_variable_name;
use super::fence_mode::FenceMode;
use super::field::Field;
use super::host::is_host;
use super::key::{Key, Shape};
use super::surfaces;
use crate::error::Result;
use crate::model::gate::{Disclosure, GateRule, LeakScan};
use crate::model::score::TimeoutPolicy;
use crate::model::trial::Split;

/// The file's usual name, at the top of an experiment.
pub(crate) const CONFIG_FILE: &str = "experiment_config.yaml";

/// Paths that can never be editable: the tool's own, and what would let an edit choose its own rules.
const PROTECTED: [&str; 5] = [".git", "workspace", CONFIG_FILE, ".env", ".gitignore"];

/// A trial longer than a week is a typing error, and larger numbers overflow clocks.
const LONGEST_TIMEOUT_S: f64 = 604_800.0;

/// Names of variables. An invalid one may be a secret pasted into the wrong place, so it is not repeated.
fn variable_names(field: &Field<'_>) -> Result<Vec<String>> {
    field.texts_that(is_variable_name, |number, _| format!("expects variable names, item {number} is not one"))
}

/// The keys that every benchmark has.
pub const COMMON: &[Key] = &[
    // Read before the table is walked, because the other keys depend on it.
    Key::own(
        "benchmark",
        "benchmark: demo",
        "what scores the agent",
        Shape::Text,
        |_, _| Ok(()),
        |config| json!(config.benchmark.name()),
    )
    .required(),
    Key::own(
        "editable",
        "editable: [agent/agent.py]",
        "files that the coding agent may edit; the first is the agent file; a directory means all below it",
        Shape::Texts,
        |config, field| {
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
        |config| json!(config.editable),
    ),
    Key::own(
        "file_guard",
        "file_guard: true",
        "whether an edit of any other file fails the gate; what is not clearly false leaves it on",
        Shape::Flag,
        |config, field| {
            match field.clear_boolean() {
                Some(on) => config.file_guard = on,
                None => config.warnings.push(field.warning("is neither true nor false and stays on")),
            }
            Ok(())
        },
        |config| json!(config.file_guard),
    ),
    Key::word(
        "gate_split",
        "gate_split: test",
        "the split that val_score is measured on; with `train` nothing is held out",
        &["test", "train"],
        |config, word| config.gate_split = if word == "train" { Split::Train } else { Split::Test },
        |config| config.gate_split.as_str(),
    ),
    Key::own(
        "sealed",
        "sealed: 0.2",
        "share of the tasks (of the hold-out, where the benchmark brings a split) that nothing but `confirm --sealed` ever runs",
        Shape::Number { least: 0.0, most: 0.49 },
        |config, field| {
            config.sealed = field.number("a number from 0 to 0.49", |share| (0.0..=0.49).contains(&share))?;
            Ok(())
        },
        |config| json!(config.sealed),
    ),
    Key::fraction("threshold", "threshold: 0.8", "share of the suite's tasks that must pass", |config| {
        &mut config.threshold
    }),
    Key::fraction(
        "min_evidence",
        "min_evidence: 0.9",
        "share of a step's tasks that must give evidence before it decides anything",
        |config| &mut config.min_evidence,
    ),
    Key::count("trials", "trials: 1", "how often each task is run; the rewards are averaged", 1, 100, |config| {
        &mut config.trials
    }),
    Key::count(
        "infra_retries",
        "infra_retries: 1",
        "how often a trial that gave no evidence is run again",
        0,
        10,
        |config| &mut config.infra_retries,
    ),
    Key::word(
        "timeout_policy",
        "timeout_policy: agent",
        "an agent that ran out of time counts as reward 0.0 (`agent`) or is left out (`infra`)",
        &["agent", "infra"],
        |config, word| {
            config.timeout_policy = if word == "infra" { TimeoutPolicy::Infra } else { TimeoutPolicy::Agent };
        },
        |config| config.timeout_policy.as_str(),
    ),
    Key::own(
        "seed",
        "seed: 42",
        "what the trials draw their randomness from; the split is always drawn with 42",
        Shape::Integer { least: 0, most: u32::MAX as u64 },
        |config, field| {
            config.seed = field.integer(0..=u64::from(u32::MAX))?;
            Ok(())
        },
        |config| json!(config.seed),
    ),
    Key::count("max_concurrency", "max_concurrency: 4", "most trials in flight at once", 1, 1024, |config| {
        &mut config.max_concurrency
    }),
    Key::own(
        "per_task_timeout",
        "per_task_timeout: 600",
        "limit of one trial in seconds",
        Shape::Number { least: 0.0, most: LONGEST_TIMEOUT_S },
        |config, field| {
            let what = format!("a number of seconds above 0 and up to {LONGEST_TIMEOUT_S} (a week)");
            let seconds = field.number(&what, |seconds| seconds > 0.0 && seconds <= LONGEST_TIMEOUT_S)?;
            config.per_task_timeout = Some(seconds);
            Ok(())
        },
        |config| json!(config.per_task_timeout),
    ),
    Key::text("agent_model", "agent_model: gpt-5-mini", "the agent's model, as the benchmark names it", |config| {
        &mut config.agent_model
    }),
    Key::text(
        "user_model",
        "user_model: gpt-5-mini",
        "the simulated user's model, as the benchmark names it",
        |config| &mut config.user_model,
    ),
    Key::text(
        "reasoning_effort",
        "reasoning_effort: medium",
        "reasoning effort of the agent's model, as its provider names it",
        |config| &mut config.reasoning_effort,
    ),
    Key::own(
        "pass_env",
        "pass_env: [OPENAI_API_KEY]",
        "names of variables that the benchmark may see although they look like secrets or come from `.env`",
        Shape::Texts,
        |config, field| {
            config.pass_env = variable_names(field)?;
            Ok(())
        },
        |config| json!(config.pass_env),
    ),
    Key::word(
        "fence",
        "fence: auto",
        "whether agents run behind a fence: with the layers that the machine has (`auto`), with every one (`required`), or not (`off`)",
        &["auto", "required", "off"],
        |config, word| config.fence = FenceMode::parse(word).unwrap_or_default(),
        |config| config.fence.as_str(),
    ),
    Key::own(
        "model_hosts",
        "model_hosts: [api.openai.com]",
        "hosts that agents behind the fence may reach where they have the network: `host` (ports 443 and 80), `host:port`, `.domain` for all below one; none named: the benchmark decides",
        Shape::Texts,
        |config, field| {
            config.model_hosts = field.texts_that(is_host, |number, name| {
                format!("expects hosts such as api.openai.com or localhost:8000, item {number} is {name:?}")
            })?;
            Ok(())
        },
        |config| json!(config.model_hosts),
    ),
    Key::paths(
        "data",
        "data: [bench_data]",
        "files and directories, git-ignored or not, that must stay as they were at `prepare`; links in them are followed",
        |config| &mut config.data,
    ),
    Key::patterns(
        "not_read",
        "not_read: [README.md, docs]",
        "committed files that the benchmark does not read, as patterns with `*`, `?`, `**`: left out of the copy that is run and of the protocol fingerprint",
        |config| &mut config.not_read,
    ),
    Key::word(
        "leak_scan",
        "leak_scan: warn",
        "what an edit does that copies from train tasks, or sets a model, an effort or a seed: `warn`, `fail`, or `off`",
        &["warn", "fail", "off"],
        |config, word| {
            config.leak_scan = match word {
                "fail" => LeakScan::Fail,
                "off" => LeakScan::Off,
                _ => LeakScan::Warn,
            };
        },
        |config| config.leak_scan.as_str(),
    ),
    Key::word(
        "gate_rule",
        "gate_rule: paired",
        "how the gate decides: val_score must reach the best recorded (`best`), or the edit is better task by task, in rounds (`paired`)",
        &["best", "paired"],
        |config, word| config.gate_rule = if word == "paired" { GateRule::Paired } else { GateRule::Best },
        |config| config.gate_rule.as_str(),
    ),
    Key::own(
        "alpha",
        "alpha: 0.1",
        "chance that `paired` accepts an edit that changes nothing, over all its rounds",
        Shape::Number { least: 0.001, most: 0.5 },
        |config, field| {
            config.alpha = field.number("a number from 0.001 to 0.5", |alpha| (0.001..=0.5).contains(&alpha))?;
            Ok(())
        },
        |config| json!(config.alpha),
    ),
    Key::count("max_rounds", "max_rounds: 3", "most rounds of `paired`", 1, 10, |config| &mut config.max_rounds),
    Key::count(
        "confirm_trials",
        "confirm_trials: 3",
        "how often each task is run afresh once `paired` has accepted an edit",
        1,
        20,
        |config| &mut config.confirm_trials,
    ),
    Key::count(
        "promote_after",
        "promote_after: 3",
        "how often in a row a train task must pass to join the suite, by `paired`",
        1,
        20,
        |config| &mut config.promote_after,
    ),
    Key::own(
        "max_suite",
        "max_suite: 40",
        "most tasks of the suite that `paired` runs; those that have passed for longest are retired",
        Shape::Number { least: 1.0, most: 100_000.0 },
        |config, field| {
            config.max_suite = Some(field.integer32(1..=100_000)?);
            Ok(())
        },
        |config| json!(config.max_suite),
    ),
    Key::word(
        "holdout_disclosure",
        "holdout_disclosure: ladder",
        "what the gate tells of the hold-out: each score (`score`), that of an accepted edit (`ladder`; the default with `paired`), accepted or not (`bit`)",
        &["score", "ladder", "bit"],
        |config, word| {
            config.holdout_disclosure = Some(match word {
                "ladder" => Disclosure::Ladder,
                "bit" => Disclosure::Bit,
                _ => Disclosure::Score,
            });
        },
        |config| config.disclosure().as_str(),
    ),
    Key::flag(
        "alpha_spending",
        "alpha_spending: true",
        "whether `alpha` is spread over all edits of the experiment: 6 alpha / (pi² j²) for the j-th",
        |config| &mut config.alpha_spending,
    ),
    Key::own(
        "surfaces",
        "surfaces: {prompt: [agent/prompts], tools: [agent/tools]}",
        "names for groups of editable paths, `{prompt: [PATH, ...], tools: [PATH, ...]}`; the loop says which of them an edit touched",
        Shape::Mapping,
        |config, field| {
            config.surfaces = surfaces::read(field)?;
            Ok(())
        },
        |config| json!(config.surfaces),
    ),
    Key::mapping(
        "coding_agents",
        "coding_agents: {mine: {command: [./propose], prompt: stdin}}",
        "programs of your own that `autoharness loop --with NAME` drives: `command`, `prompt` (`stdin` or `argument`), `usage`",
        |config| &mut config.coding_agents,
    ),
    Key::own(
        "loop_env",
        "loop_env: [ANTHROPIC_API_KEY]",
        "names of variables that the loop's coding agent may see although they look like secrets or come from `.env`",
        Shape::Texts,
        |config, field| {
            config.loop_env = variable_names(field)?;
            Ok(())
        },
        |config| json!(config.loop_env),
    ),
    Key::count(
        "loop_timeout",
        "loop_timeout: 3600",
        "limit of one session of the coding agent in seconds",
        1,
        86_400,
        |config| &mut config.loop_timeout,
    ),
    Key::own(
        "loop_prices",
        "loop_prices: {input: 1.25, output: 10.0}",
        "US dollars for a million tokens of the coding agent's model, `{input: X, output: Y}`, where it reports none itself",
        Shape::Mapping,
        |config, field| {
            config.loop_prices = Some(prices(field)?);
            Ok(())
        },
        |config| prices_shown(config.loop_prices),
    ),
    Key::own(
        "trial_prices",
        "trial_prices: {input: 1.25, output: 10.0}",
        "US dollars for a million tokens of the benchmark's model, `{input: X, output: Y}`, for trials that report tokens and no dollars",
        Shape::Mapping,
        |config, field| {
            config.trial_prices = Some(prices(field)?);
            Ok(())
        },
        |config| prices_shown(config.trial_prices),
    ),
];

/// US dollars for a million tokens read, and written.
fn prices(field: &Field<'_>) -> Result<(f64, f64)> {
    let (prices, _) = field.mapping()?;
    let price = |name: &str| prices.get(name)?.as_f64().filter(|price| (0.0..=1e6).contains(price));
    match (price("input"), price("output"), prices.len()) {
        (Some(input), Some(output), 2) => Ok((input, output)),
        _ => Err(field.error("expects `input` and `output`, two numbers from 0 on")),
    }
}

fn prices_shown(prices: Option<(f64, f64)>) -> serde_json::Value {
    prices.map_or(serde_json::Value::Null, |(input, output)| json!({"input": input, "output": output}))
}

/// Whether `path` is `directory` or below it. Case is ignored, because some file systems do.
pub(super) fn within(path: &str, directory: &str) -> bool {
    let (path, directory) = (path.to_lowercase(), directory.to_lowercase());
    path.strip_prefix(&directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

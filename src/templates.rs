//! The texts that an experiment starts from, embedded in the binary. A copy on disk in the experiment wins, so that a
//! human can adapt the program and the starting agent.

use std::path::Path;

use crate::benchmarks::{self, Benchmark};
use crate::config::{Config, keys_of, own_defaults, schema};
use crate::error::Result;
use crate::files;
use crate::model::gate::GateRule;

const COMMON: &str = include_str!("config/template.yaml");
const ENV_EXAMPLE: &str = include_str!("../.env.example");
/// `agent/agent.py` before a benchmark was chosen: it says so when imported.
const PLACEHOLDER: &str = include_str!("../agent/agent.py");
const PROGRAM: &str = include_str!("../program_templates/base.md");
const FOR_CODING_AGENTS: &str = include_str!("../program_templates/agents.md");
const SKILL: &str = include_str!("../program_templates/skill.md");
const LOOP_PROGRAM: &str = include_str!("../program_templates/loop.md");

/// What git ignores in an experiment. This includes the configuration, which differs between machines and is guarded by
/// its digest instead.
fn gitignore() -> String {
    let provisioned: Vec<&str> =
        benchmarks::ALL.iter().flat_map(|benchmark| benchmark.scaffold().ignored).copied().collect();
    format!(
        "\
# written by autoharness
/workspace/

# the human's; guarded by its digest, not by git
/experiment_config.yaml
/experiment_config.schema.json

# secrets
.env

# provisioned
{}

# Python
__pycache__/
*.pyc
.venv/
",
        provisioned.join("\n")
    )
}

/// What a new experiment sets: files of `init` and of people that no benchmark reads.
const NOT_READ: &str = "not_read: [README.md, LICENSE, .gitignore, .env.example, experiment_config.yaml.template, program_templates, AGENTS.md, .claude]";

/// How a new experiment decides, and why.
const GATE_RULE: &str = "\
# Here: `paired`. Agents are noisy: toss a coin all night, and you record the luckiest toss. Set `best` if trials are
# deterministic, or if scores must compare with those of the Python original.
gate_rule: paired";

/// The JSON Schema of the configuration, beside it: completion and checks in an editor.
pub(crate) const SCHEMA_FILE: &str = "experiment_config.schema.json";

/// The files that send a coding agent to PROGRAM.md when it is asked to improve the agent. A user may already have such
/// files, or have git ignore them: the experiment works without ours.
pub(crate) const INVITATIONS: [&str; 2] = ["AGENTS.md", ".claude/skills/improve-agent/SKILL.md"];

/// How a coding agent that the loop drives can try its edit before it proposes.
const TRYING: &str = "\
Two commands work here, from this directory; the loop runs them for you:

    autoharness benchmark --task-ids ID [ID ...]     # your edit as it lies here, on these train tasks; prints what passed
    autoharness show ID [--full]                     # the newest trace of a train task: now of your edit
    autoharness show --failing                       # train tasks that fail, alike ones together

{{trials}} trials in all are yours to spend. Name the few tasks that tell whether your idea works; an error says how many are
left. When your shell gives up waiting, run the same command again: what has run is not run twice.";
const NOT_TRYING: &str = "Nothing can be run here: the gate tries your edit.";

/// Names the schema to editors.
const SCHEMA_LINE: &str = "# yaml-language-server: $schema=experiment_config.schema.json";

/// Starts a section of the template; the word after it names the benchmark, or `common`.
const SECTION: &str = "# ==== ";

/// The file in the experiment, else the embedded one.
fn find(experiment: &Path, path: &str, embedded: &str) -> Result<String> {
    let on_disk = experiment.join(path);
    let text = files::read_text_if_there(&on_disk, files::LARGEST)
        .map_err(|error| error.hint("make it a readable UTF-8 text file, or remove it to use the built-in one."))?;
    Ok(text.unwrap_or_else(|| embedded.to_string()))
}

const PROGRAM_PATH: &str = "program_templates/base.md";
const LOOP_PATH: &str = "program_templates/loop.md";

fn agent_path(benchmark: &dyn Benchmark) -> String {
    format!("agent/templates/{}.py", benchmark.file_stem())
}

fn supplement_path(benchmark: &dyn Benchmark) -> String {
    format!("program_templates/{}.md", benchmark.file_stem())
}

/// PROGRAM.md for an experiment: the base text and the benchmark's supplement, with the configured values filled in.
/// Copies under `program_templates/` of the experiment win.
///
/// # Errors
/// Usage when a copy on disk cannot be read.
pub fn program(experiment: &Path, config: &Config) -> Result<String> {
    let benchmark = benchmarks::of(config);
    let base = find(experiment, PROGRAM_PATH, PROGRAM)?;
    let supplement = find(experiment, &supplement_path(benchmark), benchmark.scaffold().program)?;
    Ok(filled(&format!("{}\n\n{}", base.trim_end(), supplement.trim_start()), config))
}

/// PROGRAM.md for a coding agent that the loop drives: one edit, one proposal in this `form`; it may have up to `trials`
/// train trials run before. Copies under `program_templates/` of the experiment win.
pub(crate) fn loop_program(experiment: &Path, config: &Config, form: &str, trials: u64) -> Result<String> {
    let benchmark = benchmarks::of(config);
    let base = find(experiment, LOOP_PATH, LOOP_PROGRAM)?;
    let supplement = find(experiment, &supplement_path(benchmark), benchmark.scaffold().program)?;
    let form: Vec<String> = form.lines().map(|line| format!("    {line}").trim_end().to_string()).collect();
    let text = format!("{}\n\n{}", base.trim_end(), supplement.trim_start());
    let trying = if trials == 0 { NOT_TRYING.to_string() } else { TRYING.replace("{{trials}}", &trials.to_string()) };
    Ok(filled(&text.replace("{{form}}", &form.join("\n")).replace("{{trying}}", &trying), config))
}

fn filled(text: &str, config: &Config) -> String {
    let editable: Vec<String> = config.editable.iter().map(|path| shell_word(path)).collect();
    text.replace("{{hold_out}}", hold_out(config.gate_rule))
        .replace("{{benchmark}}", config.benchmark.name())
        .replace("{{agent_file}}", &shell_word(config.agent_file()))
        .replace("{{editable}}", &editable.join(" "))
        .replace("{{gate_split}}", config.gate_split.as_str())
        .replace("{{threshold}}", &config.threshold.to_string())
}

/// What the gate's second step asks of an edit, in words for the coding agent.
fn hold_out(rule: GateRule) -> &'static str {
    match rule {
        GateRule::Best => {
            "val_score on the `{{gate_split}}` split is at least the best recorded one. It runs whatever step 1 said."
        }
        GateRule::Paired => {
            "The edit is compared with the recorded agent task by task, on train and hold-out together, in rounds;
   what is in doubt is run again for both. It passes when it is better by more than chance explains.
   *Not better*: what you see may be chance, or the edit does harm; revert, and try a change with more effect.
   *Undecided*: the difference, if there is one, is too small for the trials there were; revert, write down the idea and
   what it said, and combine it with another one later. An edit that is behind on train alone is never run on the hold-out.
   Of an edit that is not accepted you hear no hold-out score. What passes is run afresh, and that score is recorded."
        }
    }
}

/// A path quoted for a shell, because the program shows commands with it.
pub(crate) fn shell_word(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "._-/+@%:,".contains(c);
    if path.chars().all(plain) { path.to_string() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// The agent that a benchmark's experiment starts from. `agent/templates/<benchmark>.py` of the experiment wins.
///
/// # Errors
/// Usage when the copy on disk cannot be read.
pub fn agent_template(experiment: &Path, benchmark: &dyn Benchmark) -> Result<String> {
    find(experiment, &agent_path(benchmark), benchmark.scaffold().agent)
}

/// Whether an agent file is still the placeholder, or empty, so that replacing it loses nothing. Anything else, even a
/// placeholder with one edit, is the user's work.
pub fn is_placeholder(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let text = text.replace("\r\n", "\n");
    text.trim().is_empty() || text.trim() == PLACEHOLDER.trim()
}

/// The template of the configuration: every key of every benchmark.
pub fn config_template() -> String {
    template_naming(benchmarks::ALL)
}

/// The template of the configuration. Of the common keys' defaults it names those that these benchmarks have of their own.
fn template_naming(named: &[&'static dyn Benchmark]) -> String {
    let names = crate::config::names(&benchmarks::sections());
    let mut common = format!("{SCHEMA_LINE}\n{}", COMMON.replace("{{benchmarks}}", &names));
    let own: Vec<_> = named.iter().map(|benchmark| (benchmark.name(), own_defaults(*benchmark))).collect();
    for key in crate::config::COMMON {
        let others = own.iter().filter_map(|(benchmark, defaults)| {
            let (_, value) = defaults.iter().find(|(name, _)| *name == key.name)?;
            Some(format!("{benchmark} {value}"))
        });
        let list = others.collect::<Vec<_>>().join(", ");
        let told = if list.is_empty() { list } else { format!("; {list}") };
        common = common.replace(&format!("{{{{{}}}}}", key.name), &told);
    }
    let own = benchmarks::ALL.iter().map(|benchmark| benchmark.template().trim_end());
    std::iter::once(common.trim_end()).chain(own).collect::<Vec<_>>().join("\n\n") + "\n"
}

/// The JSON Schema of the configuration.
pub(crate) fn config_schema() -> String {
    format!("{:#}", schema(&benchmarks::sections()))
}

/// A commented `experiment_config.yaml`, ready to use for `benchmark`: the template without the other benchmarks' keys.
pub fn config_for(benchmark: &'static dyn Benchmark) -> String {
    let mut text = format!("{SCHEMA_LINE}\n# The configuration of this experiment, scored by {}.\n", benchmark.name());
    text.push_str("# A line that starts with `#key:` shows a default: remove the `#` to change it.\n\n");
    let template = template_naming(&[benchmark]);
    let own = own_defaults(benchmark);
    let mut wanted = false;
    for line in template.lines() {
        if let Some(title) = line.strip_prefix(SECTION) {
            let section = title.split([' ', ':']).next().unwrap_or_default();
            wanted = section == "common" || section == benchmark.name();
        }
        if !wanted {
            continue;
        }
        let required = keys_of(benchmark).filter(|key| key.required).find_map(|key| {
            let bare = line.strip_prefix('#')?;
            bare.strip_prefix(key.name)?.starts_with(':').then_some(bare)
        });
        let own = own.iter().find(|(name, _)| line.starts_with(&format!("#{name}: ")));
        match required {
            _ if let Some((name, value)) = own => text.push_str(&format!("#{name}: {value}")),
            _ if line == "#not_read: []" => text.push_str(NOT_READ),
            _ if line == "#gate_rule: best" => text.push_str(GATE_RULE),
            // What it is by this rule.
            _ if line == "#holdout_disclosure: score" => text.push_str("#holdout_disclosure: ladder"),
            _ if line == "benchmark: demo" => text.push_str(&format!("benchmark: {}", benchmark.name())),
            Some(bare) => text.push_str(bare),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Every file of a new experiment: path relative to it, content.
pub fn scaffold(benchmark: &'static dyn Benchmark) -> Vec<(String, String)> {
    let own = benchmark.scaffold();
    let mut files = vec![
        (".gitignore".to_string(), gitignore()),
        (".env.example".into(), ENV_EXAMPLE.into()),
        ("experiment_config.yaml.template".into(), config_template()),
        (SCHEMA_FILE.into(), config_schema() + "\n"),
        (crate::config::CONFIG_FILE.into(), config_for(benchmark)),
        ("agent/agent.py".into(), own.agent.into()),
        (PROGRAM_PATH.into(), PROGRAM.into()),
        (supplement_path(benchmark), own.program.into()),
    ];
    files.extend(INVITATIONS.iter().zip([FOR_CODING_AGENTS, SKILL]).map(|(name, text)| ((*name).into(), text.into())));
    files.extend(own.files.iter().map(|(name, text)| ((*name).to_string(), (*text).to_string())));
    files
}

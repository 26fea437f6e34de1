//! The texts that an experiment starts from, embedded in the binary. A copy on disk in the experiment wins, so that a
//! human can adapt the program and the starting agent.

use std::path::Path;

use crate::config::{Benchmark, Config, keys};
use crate::error::{Error, Result};
use crate::files;

const CONFIG_TEMPLATE: &str = include_str!("../experiment_config.yaml.template");
const ENV_EXAMPLE: &str = include_str!("../.env.example");
const PLACEHOLDER: &str = include_str!("../agent/agent.py");
const COMMAND_BENCH: &str = include_str!("../agent/helpers/command/bench.py");

/// Starting agents and programs by their path in an experiment. A benchmark adds its lines here.
const EMBEDDED: &[(&str, &str)] = &[
    ("agent/templates/bird_interact.py", include_str!("../agent/templates/bird_interact.py")),
    ("agent/templates/demo.py", include_str!("../agent/templates/demo.py")),
    ("agent/templates/command.py", include_str!("../agent/templates/command.py")),
    ("agent/templates/tau_bench.py", include_str!("../agent/templates/tau_bench.py")),
    ("agent/templates/terminal_bench.py", include_str!("../agent/templates/terminal_bench.py")),
    ("program_templates/base.md", include_str!("../program_templates/base.md")),
    ("program_templates/bird_interact.md", include_str!("../program_templates/bird_interact.md")),
    ("program_templates/demo.md", include_str!("../program_templates/demo.md")),
    ("program_templates/command.md", include_str!("../program_templates/command.md")),
    ("program_templates/tau_bench.md", include_str!("../program_templates/tau_bench.md")),
    ("program_templates/terminal_bench.md", include_str!("../program_templates/terminal_bench.md")),
];

/// What git ignores in an experiment. The configuration is among it: it differs between machines and is guarded by its
/// digest instead.
const GITIGNORE: &str = "\
# written by autoharness
/workspace/

# the human's; guarded by its digest, not by git
/experiment_config.yaml

# secrets
.env

# provisioned
/tau2_data/
/tbench_data/
/bird_data/
/bird_interact_adk/

# Python
__pycache__/
*.pyc
.venv/
";

/// What a new experiment sets: files of `init` and of people that no benchmark reads.
const NOT_READ: &str =
    "not_read: [README.md, LICENSE, .gitignore, .env.example, experiment_config.yaml.template, program_templates]";

/// Starts a section of the template; the word after it names the benchmark, or `common`.
const SECTION: &str = "# ==== ";

fn embedded(path: &str) -> Option<&'static str> {
    EMBEDDED.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
}

/// The file in the experiment, else the embedded one, else nothing.
fn find(experiment: &Path, path: &str) -> Result<Option<String>> {
    let on_disk = experiment.join(path);
    let text = files::read_text_if_there(&on_disk, files::LARGEST)
        .map_err(|error| error.hint("make it a readable UTF-8 text file, or remove it to use the built-in one."))?;
    Ok(text.or_else(|| embedded(path).map(str::to_string)))
}

fn agent_path(benchmark: Benchmark) -> String {
    format!("agent/templates/{}.py", benchmark.file_stem())
}

fn supplement_path(benchmark: Benchmark) -> String {
    format!("program_templates/{}.md", benchmark.file_stem())
}

/// PROGRAM.md for an experiment: the base text and the benchmark's supplement, with the configured values filled in.
/// Copies under `program_templates/` of the experiment win.
///
/// # Errors
/// Usage when a copy on disk cannot be read.
pub fn program(experiment: &Path, config: &Config) -> Result<String> {
    let mut text = find(experiment, "program_templates/base.md")?.unwrap_or_default();
    if let Some(supplement) = find(experiment, &supplement_path(config.benchmark))? {
        text = format!("{}\n\n{}", text.trim_end(), supplement.trim_start());
    }
    let editable: Vec<String> = config.editable.iter().map(|path| shell_word(path)).collect();
    Ok(text
        .replace("{{benchmark}}", config.benchmark.as_str())
        .replace("{{agent_file}}", &shell_word(config.agent_file()))
        .replace("{{editable}}", &editable.join(" "))
        .replace("{{gate_split}}", config.gate_split.as_str())
        .replace("{{threshold}}", &config.threshold.to_string()))
}

/// A path as it must be typed into a shell, because the program shows commands with it.
pub fn shell_word(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "._-/+@%:,".contains(c);
    if path.chars().all(plain) { path.to_string() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// The agent that a benchmark's experiment starts from. `agent/templates/<benchmark>.py` of the experiment wins.
///
/// # Errors
/// Usage when the copy on disk cannot be read, or when there is none and none is embedded.
pub fn agent_template(experiment: &Path, benchmark: Benchmark) -> Result<String> {
    let path = agent_path(benchmark);
    find(experiment, &path)?.ok_or_else(|| {
        Error::usage(format!("there is no starting agent for {benchmark}")).hint(format!("write one as {path}."))
    })
}

/// `agent/agent.py` before a benchmark was chosen: it says so when imported.
pub fn placeholder() -> &'static str {
    PLACEHOLDER
}

/// Whether an agent file is still the placeholder, or empty: then nothing is lost by replacing it. Anything else, even a
/// placeholder with one edit, is somebody's work.
pub fn is_placeholder(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let text = text.replace("\r\n", "\n");
    text.trim().is_empty() || text.trim() == PLACEHOLDER.trim()
}

/// A commented `experiment_config.yaml`, ready to use for `benchmark`: the template without the other benchmarks' keys.
pub fn config_for(benchmark: Benchmark) -> String {
    let mut text = format!("# The configuration of this experiment, scored by {benchmark}.\n");
    text.push_str("# A line that starts with `#key:` shows a default: remove the `#` to change it.\n\n");
    let mut wanted = false;
    for line in CONFIG_TEMPLATE.lines() {
        if let Some(title) = line.strip_prefix(SECTION) {
            let section = title.split([' ', ':']).next().unwrap_or_default();
            wanted = section == "common" || section == benchmark.as_str();
        }
        if !wanted {
            continue;
        }
        let required = keys().filter(|key| key.required && key.applies_to(benchmark)).find_map(|key| {
            let bare = line.strip_prefix('#')?;
            bare.strip_prefix(key.name)?.starts_with(':').then_some(bare)
        });
        match required {
            _ if line == "#not_read: []" => text.push_str(NOT_READ),
            _ if line == "benchmark: demo" => text.push_str(&format!("benchmark: {benchmark}")),
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
pub fn scaffold(benchmark: Benchmark) -> Vec<(String, String)> {
    let supplement = supplement_path(benchmark);
    let agent = embedded(&agent_path(benchmark)).unwrap_or(PLACEHOLDER);
    let mut files = vec![
        (".gitignore".to_string(), GITIGNORE.to_string()),
        (".env.example".into(), ENV_EXAMPLE.into()),
        ("experiment_config.yaml.template".into(), CONFIG_TEMPLATE.into()),
        (crate::config::CONFIG_FILE.into(), config_for(benchmark)),
        ("agent/agent.py".into(), agent.into()),
    ];
    for path in ["program_templates/base.md", supplement.as_str()] {
        files.extend(embedded(path).map(|text| (path.to_string(), text.to_string())));
    }
    if benchmark == Benchmark::Command {
        files.push(("bench.py".into(), COMMAND_BENCH.into()));
    }
    files
}

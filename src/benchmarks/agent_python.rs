//! Which Python imports the agent file, and how: what the preflight tries before money is spent.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

/// How long an import may take. Importing litellm takes seconds; on a machine with ten times its load, we have seen two
/// minutes.
const LIMIT: Duration = Duration::from_secs(300);

/// The interpreter that will run the agent. Paths are absolute or relative to the staged copy, where it is started.
#[derive(Debug, Clone)]
pub struct AgentPython {
    /// A path, or a name to be looked up in the environment's `PATH`.
    pub program: OsString,
    /// Options of the interpreter itself, such as `-X dev`.
    pub options: Vec<String>,
    /// What the agent's process will have, and no more.
    pub environment: Vec<(OsString, OsString)>,
    /// How the benchmark imports the agent file; `None`: the file is only parsed.
    pub import: Option<Import>,
    /// How long the import may take.
    pub limit: Duration,
}

/// How a benchmark imports the agent file.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// Directories at the beginning of `sys.path`.
    pub first: Vec<PathBuf>,
    /// Directories at its end.
    pub last: Vec<PathBuf>,
    /// The ways in which it is imported; one that works will do.
    pub ways: Vec<Way>,
    /// What is done in the same process before the agent's code may run.
    pub before: Option<Before>,
    /// The command prefix of the fence that the agent is imported behind; if empty, it is imported as its program does it.
    pub behind: Vec<String>,
}

/// One way of importing a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By its path, as a module of this name.
    File(String),
    /// By this name, which leads to it from a directory of `sys.path`.
    Module(String),
}

/// What a benchmark's own process does before it imports the agent, such as putting up a fence around itself.
#[derive(Debug, Clone)]
pub struct Before {
    /// The directory where the imports of `code` are found, besides Python's own.
    pub modules: PathBuf,
    /// Python that imports what it needs and defines `before(agent_file, **arguments)`. What it raises is not the agent's fault.
    pub code: &'static str,
    /// The further arguments, by their names.
    pub arguments: Map<String, Value>,
}

impl AgentPython {
    /// A Python that imports the agent file in this way.
    pub fn new(program: impl Into<OsString>, environment: Vec<(OsString, OsString)>, import: Import) -> AgentPython {
        AgentPython { program: program.into(), options: Vec::new(), environment, import: Some(import), limit: LIMIT }
    }

    /// The Python that a command starts, if it starts one. We do not know how its program imports the agent: from the
    /// program's directory, the top of the copy or the agent's directory, as a file or as part of a package.
    pub fn of_command(
        command: &[String],
        environment: &[(OsString, OsString)],
        agent_file: &Path,
    ) -> Option<AgentPython> {
        let (program, words) = command.split_first()?;
        if !is_python(Path::new(program)) {
            return None;
        }
        let (mut options, mut script) = (Vec::new(), None);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if !word.starts_with('-') {
                script = Some(Path::new(word));
                break;
            }
            if word == "-" || word == "--" || word.starts_with("-m") || word.starts_with("-c") {
                break;
            }
            options.push(word.clone());
            if ["-X", "-W", "--check-hash-based-pycs"].contains(&word.as_str()) {
                options.extend(words.next().cloned());
            }
        }
        let beside = |file: &Path| file.parent().unwrap_or(Path::new("")).to_path_buf();
        let mut ways = vec![Way::File(stem(agent_file))];
        ways.extend(module_name(agent_file).map(Way::Module));
        let import = Import {
            first: vec![script.map(beside).unwrap_or_default()],
            last: vec![PathBuf::new(), beside(agent_file)],
            ways,
            ..Import::default()
        };
        Some(AgentPython { options, ..AgentPython::new(program, environment.to_vec(), import) })
    }

    /// What the importing script is told. `staging` is the staged copy.
    pub fn request(&self, import: &Import, staging: &Path, agent_file: &Path, symbol: Option<&str>) -> Value {
        let places =
            |list: &[PathBuf]| -> Vec<PathBuf> { list.iter().map(|path| normal(&staging.join(path))).collect() };
        let ways = import.ways.iter().map(|way| match way {
            Way::File(name) => json!({"file": name}),
            Way::Module(name) => json!({"module": name}),
        });
        let before = import
            .before
            .as_ref()
            .map(|before| json!({"modules": before.modules, "code": before.code, "arguments": before.arguments}));
        json!({
            "path": agent_file,
            "first": places(&import.first),
            "last": places(&import.last),
            "ways": ways.collect::<Vec<_>>(),
            "symbol": symbol,
            "before": before,
            "behind": Some(&import.behind).filter(|words| !words.is_empty()),
        })
    }
}

/// A directory joined with nothing has a slash at its end, which `sys.path` never has.
fn normal(path: &Path) -> PathBuf {
    path.components().collect()
}

/// `agent/agent.py` as `agent`.
pub(crate) fn stem(agent_file: &Path) -> String {
    agent_file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// `agent/agent.py` as `agent.agent`; `None` when Python has no such name for it.
pub(crate) fn module_name(agent_file: &Path) -> Option<String> {
    let path = agent_file.to_str()?;
    let parts: Vec<&str> = path.strip_suffix(".py")?.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let identifier = |part: &&str| {
        !part.starts_with(|c: char| c.is_numeric()) && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    parts.iter().all(identifier).then(|| parts.join("."))
}

/// Whether a program is a Python, by its name: `python`, `python3.12`, `pypy3`.
fn is_python(program: &Path) -> bool {
    let name = program.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let rest = name.strip_prefix("python").or_else(|| name.strip_prefix("pypy"));
    rest.is_some_and(|version| version.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Option<AgentPython> {
        let words: Vec<String> = words.iter().map(|word| (*word).into()).collect();
        AgentPython::of_command(&words, &[], Path::new("agent/agent.py"))
    }

    #[test]
    fn a_python_is_known_by_its_name() {
        for name in ["python", "python3", "/opt/x/bin/python3.12", "pypy3", ".venv/bin/python"] {
            assert!(of(&[name, "bench.py"]).is_some(), "{name}");
        }
        for name in ["./bench.py", "pythonista", "python3-config", "sh", "uv"] {
            assert!(of(&[name, "bench.py"]).is_none(), "{name}");
        }
    }

    #[test]
    fn the_interpreters_own_options_are_kept_and_the_programs_are_not() {
        let found = |words: &[&str]| {
            let python = of(words).unwrap();
            (python.options, python.import.unwrap().first)
        };
        let options = |words: &[&str]| words.iter().map(|word| (*word).to_string()).collect::<Vec<_>>();
        assert_eq!(
            found(&["python3", "-X", "dev", "-I", "tools/bench.py", "-v"]),
            (options(&["-X", "dev", "-I"]), vec![PathBuf::from("tools")])
        );
        assert_eq!(found(&["python3", "-B", "-m", "bench", "-S"]), (options(&["-B"]), vec![PathBuf::new()]));
        assert_eq!(found(&["python3"]), (options(&[]), vec![PathBuf::new()]));
    }

    #[test]
    fn names_that_python_cannot_import_are_none() {
        assert_eq!(module_name(Path::new("agent/agent.py")).as_deref(), Some("agent.agent"));
        assert_eq!(module_name(Path::new("my-agent/agent.py")), None);
        assert_eq!(module_name(Path::new("agent/2.py")), None);
        assert_eq!(module_name(Path::new("agent/run.sh")), None);
    }
}

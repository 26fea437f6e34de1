//! The preflight finds what would fail on import: without running anything as far as that goes, then by importing.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use autoharness::internals::benchmarks::agent_python::AgentPython;
use autoharness::internals::error::Kind;
use autoharness::internals::guard::{Preflight, PreflightFailure};
use autoharness::internals::process::Supervisor;
use autoharness::internals::process::signals::Cancel;
use fs_err as fs;

async fn preflight(
    python: &OsStr,
    agent_file: &Path,
    symbol: Option<&str>,
) -> autoharness::internals::error::Result<Result<(), PreflightFailure>> {
    within(python, agent_file, symbol, autoharness::internals::guard::preflight::TIME_LIMIT).await
}

async fn within(
    python: &OsStr,
    agent_file: &Path,
    symbol: Option<&str>,
    limit: Duration,
) -> autoharness::internals::error::Result<Result<(), PreflightFailure>> {
    let registry = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::with_watcher(registry.path(), env!("CARGO_BIN_EXE_autoharness"));
    let (_trigger, cancel) = Cancel::manual();
    let environment = environment();
    let directory = Path::new("/");
    let preflight = Preflight {
        python,
        options: &[],
        environment: &environment,
        directory,
        supervisor: &supervisor,
        cancel: &cancel,
    };
    preflight.parse(agent_file, symbol, limit).await
}

fn environment() -> Vec<(OsString, OsString)> {
    let named = ["PATH", "HOME", "PYENV_ROOT", "PYENV_VERSION"];
    named.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect()
}

/// What importing `agent/agent.py` gives, beside these files, as `command` benchmarks do it.
async fn imported(files: &[(&str, &str)], symbol: Option<&str>, limit: Duration) -> String {
    let directory = tempfile::tempdir().unwrap();
    let staging = directory.path().canonicalize().unwrap();
    for (name, text) in files {
        fs::create_dir_all(staging.join(name).parent().unwrap()).unwrap();
        fs::write(staging.join(name), text).unwrap();
    }
    let registry = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::with_watcher(registry.path(), env!("CARGO_BIN_EXE_autoharness"));
    let (_trigger, cancel) = Cancel::manual();
    let file = Path::new("agent/agent.py");
    let command = ["python3", "tools/bench.py"].map(String::from);
    let python = AgentPython::of_command(&command, &environment(), file).unwrap();
    let preflight = Preflight {
        python: &python.program,
        options: &python.options,
        environment: &python.environment,
        directory: &staging,
        supervisor: &supervisor,
        cancel: &cancel,
    };
    let request = python.request(python.import.as_ref().unwrap(), &staging, &staging.join(file), symbol);
    let outcome = match preflight.import(&staging.join(file), &request, limit).await.unwrap() {
        Ok(()) => "ok".into(),
        Err(failure) => failure.to_string().replace(&format!("{}/", staging.display()), ""),
    };
    assert!(walkdir::WalkDir::new(&staging).into_iter().flatten().all(|entry| entry.file_name() != "__pycache__"));
    outcome
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_agent_is_imported_from_wherever_a_program_may_do_so() {
    let sources = [
        "import beside\n",        // from its own directory,
        "import tools_only\n",    // from the program's,
        "import agent.beside\n",  // from the top of the copy,
        "from . import beside\n", // and as part of a package.
        "from beside import *\n",
        "import sys\nprint('noise'); sys.stderr.write('noise'); sys.stdin.read()\n",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()\n",
    ];
    for source in sources {
        let source = format!("{source}Agent = 1\n");
        let files = [
            ("agent/agent.py", source.as_str()),
            ("agent/beside.py", ""),
            ("tools/tools_only.py", ""),
            ("json.py", "raise SystemExit"),
        ];
        assert_eq!(imported(&files, Some("Agent"), LONG).await, "ok", "{source}");
    }
}

#[tokio::test]
async fn what_fails_at_the_import_is_named_with_its_line() {
    let cases = [
        ("\nimport nothing_like_it\n", "agent/agent.py:2: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("import beside\n", "agent/agent.py:1: SyntaxError: invalid syntax (beside.py, line 1)"),
        ("from base import *\n", "agent/agent.py: does not define `Agent` at the top level"),
        ("raise SystemExit(3)\n", "agent/agent.py:1: SystemExit: 3"),
        ("import os\nos._exit(0)\n", "agent/agent.py: importing it ended the interpreter (exit status 0)"),
        (
            "import os\nos.kill(os.getpid(), 9)\n",
            "agent/agent.py: importing it ended the interpreter (killed by SIGKILL)",
        ),
        (
            "class E(Exception):\n    def __str__(self): return 1 / 0\nraise E()\n",
            "agent/agent.py:3: E: (its message cannot be shown)",
        ),
    ];
    for (source, expected) in cases {
        let files = [("agent/agent.py", source), ("agent/beside.py", "?"), ("agent/base.py", "")];
        assert_eq!(imported(&files, Some("Agent"), LONG).await, expected);
    }
}

#[tokio::test]
async fn an_import_that_never_ends_is_ended() {
    let files = [("agent/agent.py", "import threading\nthreading.Event().wait()\n")];
    let outcome = imported(&files, None, Duration::from_secs(2)).await;
    assert_eq!(outcome, "agent/agent.py: not imported within 2 s: it waits for something at the top level");
}

async fn outcome(source: &[u8], symbol: Option<&str>) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agent.py");
    fs::write(&file, source).unwrap();
    match preflight(OsStr::new("python3"), &file, symbol).await.unwrap() {
        Ok(()) => "ok".into(),
        Err(failure) => failure.to_string().replace(&format!("{}/", directory.path().display()), ""),
    }
}

#[tokio::test]
async fn sound_agents_pass() {
    let sources = [
        "class Agent:\n    pass\n",
        "def Agent(): ...\n",
        "async def Agent(): ...\n",
        "Agent = object\n",
        "Agent: type = object\n",
        "other, (Agent, *rest) = 1, (2, 3)\n",
        "from base import Agent\n",
        "from base import Base as Agent\n",
        "from base import *\n",
        "try:\n    from fast import Agent\nexcept ImportError:\n    Agent = None\n",
        "if True:\n    class Agent: ...\n",
    ];
    for source in sources {
        assert_eq!(outcome(source.as_bytes(), Some("Agent")).await, "ok", "{source}");
    }
    assert_eq!(outcome(b"# -*- coding: latin-1 -*-\nx = '\xe9'\n", None).await, "ok");
}

#[tokio::test]
async fn broken_agents_are_named_with_their_line() {
    let missing = "agent.py: does not define `Agent` at the top level";
    let cases: [(&[u8], &str); 8] = [
        (b"x = 1\ndef Agent(:\n", "agent.py:2: SyntaxError: "),
        (b"class Agent:\npass\n", "agent.py:2: IndentationError: "),
        (b"Agent = 1\nreturn 3\n", "agent.py:2: SyntaxError: 'return' outside function"),
        (b"Agent = 1\nx = '\xff'\n", "agent.py:2: not UTF-8"),
        (b"Agent = 1\nx\0\n", "agent.py:2: null byte in source"),
        (b"def other():\n    class Agent: ...\n", missing),
        (b"Agent: type\n", missing),
        (b"class Agents: ...\n", missing),
    ];
    for (source, expected) in cases {
        let outcome = outcome(source, Some("Agent")).await;
        assert!(outcome.starts_with(expected), "{outcome}");
    }
}

#[tokio::test]
async fn source_nested_too_deeply_is_the_agents_fault() {
    let source = format!("Agent = {}1{}\n", "(".repeat(100_000), ")".repeat(100_000));
    assert_ne!(outcome(source.as_bytes(), Some("Agent")).await, "ok");
}

#[tokio::test]
async fn nothing_is_executed_or_imported() {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("marker");
    let write = format!("open({:?}, 'w').close()\n", marker.display().to_string());
    for name in ["ast.py", "json.py", "sitecustomize.py", "helper.py", "agent.py"] {
        fs::write(directory.path().join(name), format!("import helper\n{write}")).unwrap();
    }
    let agent = directory.path().join("agent.py");
    preflight(OsStr::new("python3"), &agent, None).await.unwrap().unwrap();
    assert!(!marker.exists());
}

#[tokio::test]
async fn only_python_files_are_parsed_and_python_must_exist() {
    let absent = OsStr::new("/nonexistent/python3");
    preflight(absent, Path::new("agent/run.sh"), Some("Agent")).await.unwrap().unwrap();
    let error = preflight(absent, Path::new("agent.py"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(!error.hints().is_empty());
}

#[tokio::test]
async fn a_parser_that_never_answers_is_ended() {
    let directory = tempfile::tempdir().unwrap();
    // Python waits for a writer that never comes.
    let agent = directory.path().join("agent.py");
    assert!(std::process::Command::new("mkfifo").arg(&agent).status().unwrap().success());
    let failure = within(OsStr::new("python3"), &agent, None, Duration::from_millis(50)).await.unwrap().unwrap_err();
    assert_eq!(failure.message, "not parsed within 0.05 s");
}

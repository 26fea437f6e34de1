//! A user's own program that speaks the trial protocol.

mod config;

use serde_json::{Value, json};

use super::agent_python::{AgentPython, Import};
use super::contract::{Benchmark, Depth, Ground, Interpreter, Scaffold};
use super::fencing::{self, Fencing};
use super::runner::{BenchmarkRunner, BoxFuture, NewRunner};
use super::trial_protocol::ProtocolRunner;
use crate::config::{Config, Environment, Key, Section, Settings};
use crate::error::{Code, Error, Result};
use crate::guard::{BaseTree, digest_path};
use crate::provision::{Finding, program};
pub(crate) use config::CommandSettings;

/// What the user's program can import: it starts agents behind the fence.
const LIBRARY: &str = "autoharness_bench.py";

/// The user's own program, speaking the trial protocol.
#[derive(Debug)]
pub(crate) struct CommandBenchmark;

impl Section for CommandBenchmark {
    fn name(&self) -> &'static str {
        "command"
    }

    fn keys(&self) -> &'static [Key] {
        config::KEYS
    }

    fn settings(&self) -> Box<dyn Settings> {
        Box::new(CommandSettings::default())
    }

    fn template(&self) -> &'static str {
        include_str!("template.yaml")
    }
}

impl Benchmark for CommandBenchmark {
    fn scaffold(&self) -> Scaffold {
        Scaffold {
            agent: include_str!("agent.py"),
            program: include_str!("program.md"),
            files: &[
                ("bench.py", include_str!("helper/bench.py")),
                (LIBRARY, include_str!("helper/autoharness_bench.py")),
            ],
            ignored: &[],
            is_ready: false,
        }
    }

    fn runner<'a>(&'a self, ground: &'a Ground<'a>, base: &'a BaseTree) -> NewRunner<'a> {
        Box::pin(async {
            let mut runner = ProtocolRunner::new(ground);
            runner.fence = Fencing::put_up(ground).await?;
            let settings = settings(ground.config);
            runner.command.clone_from(&settings.command);
            let program = program_of(ground, &mut runner.command, base)?;
            runner.options.clone_from(&settings.options);
            runner.symbol.clone_from(&settings.agent_symbol);
            runner.agent_python = AgentPython::of_command(&runner.command, &runner.environment, &runner.agent_file);
            if let Some(python) = runner.agent_python.as_mut().filter(|_| !settings.import_agent) {
                python.import = None;
            }
            // A program that fences its agent in imports it only this way. How other programs import theirs is unknown.
            let fence = runner.fence.as_ref().filter(|_| base.get(LIBRARY.as_bytes()).is_some());
            if let (Some(fence), Some(python)) = (fence, runner.agent_python.as_mut()) {
                python.import = python.import.take().map(|import| Import { behind: fence.prefix(), ..import });
            }
            runner.protocol = json!({
                "command": settings.command,
                "options": settings.options,
                "program": program,
            });
            Ok(Box::new(runner) as Box<dyn BenchmarkRunner>)
        })
    }

    fn system_python(&self, config: &Config) -> Option<String> {
        let own = || AgentPython::of_command(&settings(config).command, &[], config.agent_file().as_ref());
        let named = || own().map_or_else(|| "python3".into(), |own| own.program.to_string_lossy().into_owned());
        config.agent_file().ends_with(".py").then(named)
    }

    fn interpreter<'a>(&'a self, ground: &'a Ground<'a>) -> BoxFuture<'a, Result<Interpreter>> {
        Box::pin(async {
            let command = &settings(ground.config).command;
            let own = AgentPython::of_command(command, &[], ground.config.agent_file().as_ref());
            let hidden_in = command.first().filter(|_| own.is_none()).cloned();
            let program = own.map_or_else(|| "python3".into(), |own| own.program);
            Ok(Interpreter { program: Some(program), hidden_in })
        })
    }

    fn brings_python(&self) -> bool {
        false
    }

    fn quick(&self, config: &Config, root: &std::path::Path, environment: &Environment) -> Vec<Finding> {
        let fix = "install it, or name another program in `command:`";
        let settings = settings(config);
        let on_the_path = settings.command.first().filter(|name| !name.contains('/'));
        on_the_path.map(|name| program("command", name, root, environment, fix)).into_iter().collect()
    }

    fn findings<'a>(&'a self, ground: &'a Ground<'a>, _depth: Depth) -> BoxFuture<'a, Result<Vec<Finding>>> {
        Box::pin(async { Ok(vec![fencing::finding(ground).await?]) })
    }

    fn import_switch(&self) -> Option<&'static str> {
        Some("import_agent: false")
    }
}

fn settings(config: &Config) -> &CommandSettings {
    config.own()
}

/// The program's place and identity, so that another one in its place changes the protocol. A program below the experiment
/// that is not committed (a virtual environment's python, say) is made absolute and known by its bytes.
fn program_of(ground: &Ground<'_>, command: &mut [String], base: &BaseTree) -> Result<Value> {
    let Some(program) = command.first_mut() else { return Ok(Value::Null) };
    if !program.contains('/') {
        let path = ground.environment.get("PATH").map(std::ffi::OsString::from);
        return Ok(json!(which::which_in(&*program, path, &ground.paths.root).ok()));
    }
    if program.starts_with('/') {
        return Ok(json!(program));
    }
    if base.get(program.trim_start_matches("./").as_bytes()).is_some() {
        return Ok(json!("committed"));
    }
    let path = ground.paths.root.join(&*program);
    if !path.is_file() {
        return Err(Error::usage(format!("the program `{program}` does not exist in {}", ground.paths.root.display()))
            .code(Code::EnvironmentNotReady)
            .hint("commit it, or name another one in `command:`."));
    }
    let digest = digest_path(&fs_err::canonicalize(&path)?)?;
    *program = path.to_string_lossy().into_owned();
    Ok(json!({"path": program, "sha256": digest}))
}

//! The embedded demo: an ordinary program that speaks the trial protocol.

pub(crate) mod session;

use std::path::Path;

use serde_json::json;

use super::agent_python::{AgentPython, Import, Way};
use super::contract::{Benchmark, Depth, Ground, Interpreter, Scaffold};
use super::fencing::{self, Fencing};
use super::helper::{Helper, helper};
use super::runner::{BenchmarkRunner, BoxFuture, NewRunner};
use super::trial_protocol::ProtocolRunner;
use crate::config::{Config, Key, Section, Settings};
use crate::error::Result;
use crate::guard::BaseTree;
use crate::provision::Finding;

const HELPER: Helper = helper!("demo": "bench.py", "request.py");

/// What only the demo has.
#[derive(Debug, Clone, Default)]
struct DemoSettings {
    /// Chance that an answer is spoilt, 0–1.
    noise: f64,
}

const KEYS: &[Key] = &[Key::fraction(
    "noise",
    "noise: 0.3",
    "chance that a trial's answer is spoilt, to imitate the noise of agents that call models",
    |config| &mut config.own_mut::<DemoSettings>().noise,
)];

/// Embedded in the binary; needs no keys.
#[derive(Debug)]
pub(crate) struct Demo;

impl Section for Demo {
    fn name(&self) -> &'static str {
        "demo"
    }

    fn keys(&self) -> &'static [Key] {
        KEYS
    }

    fn settings(&self) -> Box<dyn Settings> {
        Box::new(DemoSettings::default())
    }

    fn defaults(&self, config: &mut Config) {
        config.per_task_timeout = Some(10.0);
    }

    fn template(&self) -> &'static str {
        include_str!("template.yaml")
    }
}

impl Benchmark for Demo {
    fn scaffold(&self) -> Scaffold {
        Scaffold {
            agent: include_str!("agent.py"),
            program: include_str!("program.md"),
            files: &[],
            ignored: &[],
            is_ready: true,
        }
    }

    fn runner<'a>(&'a self, ground: &'a Ground<'a>, _base: &'a BaseTree) -> NewRunner<'a> {
        Box::pin(async {
            let mut runner = ProtocolRunner::new(ground);
            runner.fence = Fencing::put_up(ground).await?;
            runner.command = command(&HELPER.write(&ground.paths.embedded())?);
            runner.symbol = Some("HarnessAgent".into());
            runner.agent_python = Some(agent_python(&runner));
            runner.protocol = json!({"program": HELPER.fingerprint()});
            let DemoSettings { noise } = *ground.config.own();
            if noise > 0.0 {
                runner.options.insert("noise".into(), json!(noise));
                runner.protocol["noise"] = json!(noise);
            }
            Ok(Box::new(runner) as Box<dyn BenchmarkRunner>)
        })
    }

    fn system_python(&self, _config: &Config) -> Option<String> {
        Some("python3".into())
    }

    fn interpreter<'a>(&'a self, _ground: &'a Ground<'a>) -> BoxFuture<'a, Result<Interpreter>> {
        Box::pin(async { Ok(Interpreter { program: Some("python3".into()), hidden_in: None }) })
    }

    fn findings<'a>(&'a self, ground: &'a Ground<'a>, _depth: Depth) -> BoxFuture<'a, Result<Vec<Finding>>> {
        Box::pin(async { Ok(vec![fencing::finding(ground).await?]) })
    }

    fn brings_python(&self) -> bool {
        false
    }
}

/// The command that runs the demo's helper.
fn command(helper: &Path) -> Vec<String> {
    vec!["python3".into(), "-B".into(), helper.join("bench.py").to_string_lossy().into_owned()]
}

/// The Python that runs the agent.
fn agent_python(runner: &ProtocolRunner) -> AgentPython {
    let beside = runner.agent_file.parent().unwrap_or(Path::new("")).to_path_buf();
    let behind = runner.fence.as_ref().map(Fencing::prefix).unwrap_or_default();
    let import = Import { last: vec![beside], ways: vec![Way::File("agent".into())], behind, ..Import::default() };
    AgentPython::new("python3", runner.environment.clone(), import)
}

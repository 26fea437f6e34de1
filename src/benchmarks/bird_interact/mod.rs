//! bird-interact: BIRD-Interact's own services, orchestrators and grading; a helper speaks the trial protocol.

mod clone;
mod config;
mod container;
mod data;
mod filling;
pub(crate) mod install;
mod postgres;
mod request;
mod runner;
mod setup;
mod tasks;
mod templates;

use std::path::Path;

use super::contract::{Benchmark, Depth, Ground, Interpreter, Rehearsal, Say, Scaffold};
use super::fencing::{self, Fencing};
use super::runner::{BenchmarkRunner, BoxFuture, NewRunner};
use super::trial_protocol::ProtocolRunner;
use crate::config::{Config, Environment, Key, Section, Settings};
use crate::error::{Code, Error, Result};
use crate::guard::BaseTree;
use crate::process::Redactor;
use crate::provision::Finding;
pub use config::BirdInteractSettings;
pub(crate) use request::HELPER;
use runner::BirdRunner;
use setup::BirdSetup;

/// BIRD-Interact text-to-SQL.
#[derive(Debug)]
pub(crate) struct BirdInteract;

impl Section for BirdInteract {
    fn name(&self) -> &'static str {
        "bird-interact"
    }

    fn keys(&self) -> &'static [Key] {
        config::KEYS
    }

    fn settings(&self) -> Box<dyn Settings> {
        Box::new(BirdInteractSettings::default())
    }

    fn defaults(&self, config: &mut Config) {
        config.max_concurrency = 3;
    }

    fn template(&self) -> &'static str {
        include_str!("template.yaml")
    }
}

impl Benchmark for BirdInteract {
    fn scaffold(&self) -> Scaffold {
        Scaffold {
            agent: include_str!("agent.py"),
            program: include_str!("program.md"),
            files: &[],
            ignored: &["/bird_data/", "/bird_interact_adk/"],
            is_ready: false,
        }
    }

    fn runner<'a>(&'a self, ground: &'a Ground<'a>, _base: &'a BaseTree) -> NewRunner<'a> {
        Box::pin(async {
            let templates = templates::TemplateDigests::look(ground).await?;
            Ok(Box::new(BirdRunner {
                bench: helper_runner(ground, &templates).await?,
                templates,
                scratch: ground.paths.scratch().join("services"),
                copies: ground.paths.copies(),
                log: ground.paths.logs().join("services.log"),
                host: tokio::sync::Mutex::new(None),
            }) as Box<dyn BenchmarkRunner>)
        })
    }

    fn interpreter<'a>(&'a self, ground: &'a Ground<'a>) -> BoxFuture<'a, Result<Interpreter>> {
        Box::pin(async {
            let places = setup(ground).places(&ground.paths.state);
            Ok(Interpreter { program: places.map(|places| places.python.into()), hidden_in: None })
        })
    }

    fn quick(&self, config: &Config, root: &Path, environment: &Environment) -> Vec<Finding> {
        install::quick(&BirdSetup::of(config, root, environment), root, environment)
    }

    fn findings<'a>(&'a self, ground: &'a Ground<'a>, depth: Depth) -> BoxFuture<'a, Result<Vec<Finding>>> {
        Box::pin(async move {
            let (fence, finding) = fencing::found(ground).await?;
            let mut findings = install::findings(&setup(ground), fence.as_ref(), &ground.around(), depth).await?;
            findings.push(finding);
            Ok(findings)
        })
    }

    fn provide<'a>(&'a self, ground: &'a Ground<'a>, say: Say<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { install::ensure(&setup(ground), &ground.around(), say).await })
    }

    fn rehearse<'a>(
        &'a self,
        ground: &'a Ground<'a>,
        rehearsal: &'a Rehearsal<'a>,
        say: Say<'a>,
    ) -> BoxFuture<'a, Result<Option<Finding>>> {
        Box::pin(async move {
            let fence = Fencing::put_up(ground).await?;
            install::rehearse(&setup(ground), rehearsal, fence.as_ref(), &ground.around(), say).await.map(Some)
        })
    }

    fn split_directory(&self) -> Option<&'static str> {
        Some("bird_data")
    }
}

fn setup<'a>(ground: &'a Ground<'a>) -> BirdSetup<'a> {
    BirdSetup::of(ground.config, &ground.paths.root, ground.environment)
}

fn missing() -> Error {
    Error::infrastructure("BIRD-Interact is not installed")
        .code(Code::EnvironmentNotReady)
        .hint("run `autoharness prepare`, which installs it.")
}

/// BIRD-Interact as `prepare` left it.
async fn helper_runner(ground: &Ground<'_>, templates: &templates::TemplateDigests) -> Result<ProtocolRunner> {
    let mut runner = ProtocolRunner::new(ground);
    let (around, environment) = (ground.around(), ground.environment);
    let setup = setup(ground);
    let places = setup.places(around.state).ok_or_else(missing)?;
    let program = HELPER.write(&ground.paths.embedded())?.join("bench.py");
    runner.command = [&places.python, Path::new("-B"), &program].map(|word| word.to_string_lossy().into_owned()).into();
    runner.environment = setup.environment(environment);
    runner.options = request::options(setup.settings, &places);
    runner.fence = Fencing::put_up(ground).await?;
    if let Some(fence) = &runner.fence {
        runner.options.insert("fence".into(), request::fence(fence, &ground.paths.copies()));
    }
    runner.symbol = Some(request::AGENT_SYMBOL.into());
    runner.agent_python = Some(request::agent_python(setup.settings, &places, &runner));
    runner.protocol = request::protocol(setup.settings, &places, setup.revision(), templates.digests())?;
    runner.reports_tokens = true;
    // Its agents have processes of their own, so only the program itself can have reported.
    runner.outlives_failure = true;
    runner.exits = request::EXITS;
    runner.grace = request::GRACE;
    runner.limits = request::LIMITS;
    let written = setup.settings.pg_password.iter().map(|secret| secret.reveal().to_string());
    runner.redactor = Redactor::new(environment.secret_values().into_iter().chain(written));
    Ok(runner)
}

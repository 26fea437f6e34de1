//! terminal-bench: any dataset that `harbor run` can run.

pub(crate) mod canary;
mod config;
mod end;
mod exception;
pub(crate) mod fenced;
pub(crate) mod file;
pub(crate) mod harbor;
pub(crate) mod install;
pub(crate) mod job;
pub(crate) mod judgement;
pub(crate) mod listing;
mod log;
pub(crate) mod probe;
pub mod reason;
mod run;
pub(crate) mod runner;
pub(crate) mod sandbox;
mod trial;
pub(crate) mod watch;

use std::path::Path;

use super::contract::{Benchmark, Depth, Ground, Interpreter, Rehearsal, Say, Scaffold};
use super::fencing::{self, Fencing};
use super::runner::{BenchmarkRunner, BoxFuture, NewRunner};
use crate::config::{Config, Document, Environment, FenceMode, Key, Section, Settings};
use crate::error::{Code, Error, Result};
use crate::guard::BaseTree;
use crate::provision::Finding;
use crate::provision::need::home;
pub(crate) use config::TerminalBenchSettings;
use fenced::{FencedSide, HELPER};
use install::Wanted;
use job::JobSettings;
use listing::Dataset;
use runner::HarborRunner;

/// Any Harbor dataset.
#[derive(Debug)]
pub(crate) struct TerminalBench;

impl Section for TerminalBench {
    fn name(&self) -> &'static str {
        "terminal-bench"
    }

    fn keys(&self) -> &'static [Key] {
        config::KEYS
    }

    fn settings(&self) -> Box<dyn Settings> {
        Box::new(TerminalBenchSettings::default())
    }

    fn defaults(&self, config: &mut Config) {
        config.max_concurrency = 50;
    }

    fn check(&self, document: &Document, _config: &Config) -> Result<()> {
        config::check(document)
    }

    fn template(&self) -> &'static str {
        include_str!("template.yaml")
    }
}

impl Benchmark for TerminalBench {
    fn scaffold(&self) -> Scaffold {
        Scaffold {
            agent: include_str!("agent.py"),
            program: include_str!("program.md"),
            files: &[],
            ignored: &["/tbench_data/"],
            is_ready: false,
        }
    }

    fn runner<'a>(&'a self, ground: &'a Ground<'a>, _base: &'a BaseTree) -> NewRunner<'a> {
        Box::pin(async { Ok(Box::new(harbor(ground).await?) as Box<dyn BenchmarkRunner>) })
    }

    fn interpreter<'a>(&'a self, ground: &'a Ground<'a>) -> BoxFuture<'a, Result<Interpreter>> {
        Box::pin(async {
            let found = install::locate(&wanted(ground), &ground.around()).await.ok().flatten();
            Ok(Interpreter { program: found.map(|found| found.python.into()), hidden_in: None })
        })
    }

    fn quick(&self, config: &Config, root: &Path, environment: &Environment) -> Vec<Finding> {
        let wanted = Wanted::of(config, root, environment);
        let keys = install::keys_for(wanted.env_provider, wanted.agent_model);
        keys.iter().map(|key| key.check_quickly(environment, root)).collect()
    }

    fn findings<'a>(&'a self, ground: &'a Ground<'a>, _depth: Depth) -> BoxFuture<'a, Result<Vec<Finding>>> {
        Box::pin(async {
            let mut findings = install::findings(&wanted(ground), &ground.around()).await?;
            findings.push(fencing::finding(ground).await?);
            Ok(findings)
        })
    }

    fn provide<'a>(&'a self, ground: &'a Ground<'a>, say: Say<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let install = install::ensure(&wanted(ground), &ground.around(), say).await?;
            say(format!("harbor {} ({})", install.version, install.harbor.display()));
            Ok(())
        })
    }

    fn rehearse<'a>(
        &'a self,
        ground: &'a Ground<'a>,
        rehearsal: &'a Rehearsal<'a>,
        say: Say<'a>,
    ) -> BoxFuture<'a, Result<Option<Finding>>> {
        Box::pin(async move {
            let around = ground.around();
            let install = install::locate(&wanted(ground), &around).await?.ok_or_else(missing)?;
            say("canary: one model call against a stub on this machine, without keys".into());
            let fence = Fencing::put_up(ground).await?;
            canary::canary(&install, rehearsal.staging, rehearsal.is_template, fence.as_ref(), &around).await.map(Some)
        })
    }

    fn split_directory(&self) -> Option<&'static str> {
        Some("tbench_data")
    }
}

fn wanted<'a>(ground: &'a Ground<'a>) -> Wanted<'a> {
    Wanted::of(ground.config, &ground.paths.root, ground.environment)
}

fn missing() -> Error {
    Error::infrastructure("harbor is not installed")
        .code(Code::EnvironmentNotReady)
        .hint("run `autoharness prepare`, which installs it.")
}

/// Harbor as `prepare` installed it, with the keys that it needs and no others.
async fn harbor(ground: &Ground<'_>) -> Result<HarborRunner> {
    let (config, paths, environment) = (ground.config, ground.paths, ground.environment);
    let around = ground.around();
    let settings: &TerminalBenchSettings = config.own();
    let install = install::locate(&wanted(ground), &around).await?.ok_or_else(missing)?;
    let mut pass: Vec<String> = install::child_variables(&settings.env_provider, config.agent_model.as_deref())
        .into_iter()
        .map(str::to_string)
        .collect();
    pass.extend(settings.referenced_variables());
    pass.extend(config.pass_env.iter().cloned());
    let telemetry = environment.get(install::TELEMETRY).filter(|value| !value.is_empty()).unwrap_or("0");
    let mut variables = environment.for_child(&pass, &[]);
    for (name, value) in [(install::TELEMETRY, telemetry), ("LITELLM_LOCAL_MODEL_COST_MAP", "True")] {
        variables.retain(|(known, _)| known != name);
        variables.push((name.into(), value.into()));
    }
    let fenced = match Fencing::put_up(ground).await? {
        // Other systems have no layers, and cannot fork processes that have loaded much.
        Some(fencing) if cfg!(target_os = "linux") => {
            HELPER.write(&paths.embedded())?;
            Some(FencedSide {
                fencing,
                required: config.fence == FenceMode::Required,
                packages: paths.embedded(),
                variables: FencedSide::variables(
                    &environment.for_child(&[], &[]),
                    config.agent_model.as_deref(),
                    &config.pass_env,
                ),
            })
        }
        _ => None,
    };
    let local = |path: &str| match (path.strip_prefix("~/"), home(environment)) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => paths.root.join(path),
    };
    Ok(HarborRunner {
        install,
        dataset: match (&settings.dataset_path, &settings.registry_path) {
            (Some(path), _) => Dataset::Local(local(path)),
            (None, Some(registry)) => Dataset::Registry { name: settings.dataset.clone(), registry: local(registry) },
            (None, None) => Dataset::Remote(settings.dataset.clone()),
        },
        job: JobSettings {
            env_provider: settings.env_provider.clone(),
            environment_kwargs: settings.environment_kwargs.clone(),
            model: config.agent_model.clone(),
            agent_env: settings.agent_env.clone(),
            verifier_env: settings.verifier_env.clone(),
        },
        reasoning_effort: config.reasoning_effort.clone(),
        arguments: settings.harbor_args.clone(),
        agent_file: config.agent_file().into(),
        environment: variables,
        state: paths.state.join("harbor"),
        supervisor: ground.supervisor.clone(),
        redactor: ground.redactor(),
        grace: HarborRunner::GRACE,
        listing: tokio::sync::OnceCell::new(),
        probe: probe::Probe::default(),
        fenced,
    })
}

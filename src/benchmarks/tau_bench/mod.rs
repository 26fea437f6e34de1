//! tau-bench: tau2's own conversations, graded by tau2; a helper speaks the trial protocol.

mod checkout;
mod config;
pub(crate) mod install;
mod probe;
mod runner;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::contract::{Benchmark, Depth, Ground, Interpreter, Say, Scaffold};
use super::fencing::{self, Fencing};
use super::runner::{BenchmarkRunner, BoxFuture, NewRunner};
use super::trial_protocol::ProtocolRunner;
use crate::config::{Config, Document, Environment, Key, Section, Settings};
use crate::error::{Code, Error, Result};
use crate::guard::BaseTree;
use crate::provision::Finding;
pub(crate) use config::DOMAINS;
pub use config::TauBenchSettings;
use install::Tau2Setup;
pub(crate) use runner::HELPER;

/// tau2-bench conversations with a simulated user.
#[derive(Debug)]
pub(crate) struct TauBench;

impl Section for TauBench {
    fn name(&self) -> &'static str {
        "tau-bench"
    }

    fn keys(&self) -> &'static [Key] {
        config::KEYS
    }

    fn settings(&self) -> Box<dyn Settings> {
        Box::new(TauBenchSettings::default())
    }

    fn defaults(&self, config: &mut Config) {
        config.seed = config::DEFAULT_SEED;
        config.max_concurrency = 3;
    }

    fn check(&self, document: &Document, config: &Config) -> Result<()> {
        config::check(document, config)
    }

    fn complete(&self, config: &mut Config) {
        config::complete(config);
    }

    fn template(&self) -> &'static str {
        include_str!("template.yaml")
    }
}

impl Benchmark for TauBench {
    fn scaffold(&self) -> Scaffold {
        Scaffold {
            agent: include_str!("agent.py"),
            program: include_str!("program.md"),
            files: &[],
            ignored: &["/tau2_data/"],
            is_ready: false,
        }
    }

    fn runner<'a>(&'a self, ground: &'a Ground<'a>, _base: &'a BaseTree) -> NewRunner<'a> {
        Box::pin(async { Ok(Box::new(conversations(ground).await?) as Box<dyn BenchmarkRunner>) })
    }

    fn interpreter<'a>(&'a self, ground: &'a Ground<'a>) -> BoxFuture<'a, Result<Interpreter>> {
        Box::pin(async {
            let found = install::locate(&setup(ground), &ground.around()).await.ok().flatten();
            Ok(Interpreter { program: found.map(|found| found.python.into()), hidden_in: None })
        })
    }

    fn quick(&self, config: &Config, root: &Path, environment: &Environment) -> Vec<Finding> {
        let setup = Tau2Setup::of(config, root, environment);
        let mut findings = install::quick(&setup);
        findings.extend(setup.keys().iter().map(|key| key.check_quickly(environment, root)));
        findings
    }

    fn findings<'a>(&'a self, ground: &'a Ground<'a>, _depth: Depth) -> BoxFuture<'a, Result<Vec<Finding>>> {
        Box::pin(async {
            let mut findings = install::findings(&setup(ground), &ground.around()).await?;
            findings.push(fencing::finding(ground).await?);
            Ok(findings)
        })
    }

    fn provide<'a>(&'a self, ground: &'a Ground<'a>, say: Say<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let install = install::ensure(&setup(ground), &ground.around(), say).await?;
            say(format!("tau2 {} ({})", install.version, install.python.display()));
            Ok(())
        })
    }

    fn data_paths(&self, config: &Config, root: &Path, environment: &Environment) -> Result<Vec<(String, PathBuf)>> {
        let paths = Tau2Setup::of(config, root, environment).data_paths();
        if let Some((_, path)) = paths.iter().find(|(_, path)| !path.exists()) {
            return Err(Error::usage(format!("tau2's data is not there: {}", path.display()))
                .code(Code::EnvironmentNotReady)
                .hint("`autoharness prepare` provides it; with `tau2_python` set, `tau2_data_dir` names it."));
        }
        Ok(paths)
    }

    fn with_domain(&self, config: &Config, domain: &str) -> Result<Option<Config>> {
        if !DOMAINS.contains(&domain) {
            return Err(Error::usage(format!("tau-bench has no domain `{domain}`"))
                .hint(format!("the domains are {}.", DOMAINS.join(", "))));
        }
        let mut other = config.clone();
        let settings = other.own_mut::<TauBenchSettings>();
        if settings.domain == domain {
            return Ok(None);
        }
        *settings = settings.with_domain(domain);
        Ok(Some(other))
    }
}

fn setup<'a>(ground: &'a Ground<'a>) -> Tau2Setup<'a> {
    Tau2Setup::of(ground.config, &ground.paths.root, ground.environment)
}

/// How long a conversation may take that has no configured limit: the helper's own bound, with grading.
const LONGEST_CONVERSATION: Duration = Duration::from_secs(3600 + 3600 / 4 + 15);

/// The helper in tau2's own environment, with the keys of the three models and no others.
async fn conversations(ground: &Ground<'_>) -> Result<ProtocolRunner> {
    let (config, environment) = (ground.config, ground.environment);
    let mut runner = ProtocolRunner::new(ground);
    runner.fence = Fencing::put_up(ground).await?;
    let missing = || {
        Error::infrastructure("tau2 is not installed")
            .code(Code::EnvironmentNotReady)
            .hint("run `autoharness prepare`, which installs it.")
    };
    let around = ground.around();
    let setup = setup(ground);
    let install = install::locate(&setup, &around).await?.ok_or_else(missing)?;
    let mut pass = setup.child_variables();
    pass.extend(config.pass_env.iter().cloned());
    // litellm would otherwise ask the network for prices at every start: https://github.com/BerriAI/litellm/issues/10293
    let own = [
        (install::DATA_VARIABLE.into(), install.data.clone().into()),
        ("LITELLM_LOCAL_MODEL_COST_MAP".into(), "True".into()),
    ];
    runner.environment = environment.for_child(&pass, &own);
    let helper = HELPER.write(&ground.paths.embedded())?;
    runner.command = runner::command(&install.python, &helper);
    runner.options = runner::options(setup.settings(), config.seed, &install.data, config.fence);
    runner.symbol = Some(runner::AGENT_CLASS.into());
    runner.agent_python = Some(runner::agent_python(&install.python, &helper, &install.data, &runner));
    runner.protocol = runner::protocol(setup.settings(), &install.release, &install.code);
    runner.reports_tokens = true;
    // Its agents' processes have nothing of the helper's, so only the helper itself can have reported.
    runner.outlives_failure = true;
    // Importing tau2 and litellm takes up to a quarter of a minute, much more on a busy machine.
    runner.limits.slack = Duration::from_secs(300);
    runner.limits.silence = LONGEST_CONVERSATION + runner.limits.slack;
    Ok(runner)
}

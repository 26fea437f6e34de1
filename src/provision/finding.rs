//! What an experiment needs of its surroundings: what `prepare` and `doctor` share.

mod bird_clone;
mod bird_container;
mod bird_data;
mod bird_filling;
pub mod bird_interact;
mod bird_postgres;
mod bird_tasks;
pub mod bird_templates;
pub mod canary;
mod estimate;
pub mod harbor;
mod installer;
pub mod model_keys;
pub mod need;
pub mod python;
pub mod python_env;
pub mod sandbox;
pub mod tau2;
mod tau2_checkout;
mod tau2_probe;

use std::path::Path;

pub use estimate::{Cost, estimate};
use harbor::Wanted;

use crate::benchmark::AgentPython;
use crate::config::{Benchmark, Config, Environment, Settings};
use crate::error::{Error, Result};
use crate::process::signals::Cancel;
use crate::process::{Command, Limits, Supervisor, run_captured};

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but the reader should know.
    Warn,
    /// Will not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub level: Level,
    /// In a few words.
    pub detail: String,
    /// The command, or the step, that mends it.
    pub fix: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(name: &str, detail: impl Into<String>) -> Finding {
        Finding { name: name.into(), level: Level::Ok, detail: detail.into(), fix: None }
    }

    /// Works, but the reader should know.
    pub fn warn(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { name: name.into(), level: Level::Warn, detail: detail.into(), fix: Some(fix.into()) }
    }

    /// Will not work.
    pub fn fail(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { name: name.into(), level: Level::Fail, detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// Where children are looked up and run.
pub struct Surroundings<'a> {
    /// The experiment directory.
    pub root: &'a Path,
    /// The state directory, where provisioned environments are.
    pub state: &'a Path,
    /// Process environment and `.env`.
    pub environment: &'a Environment,
    /// Starts the programs that are asked for their version.
    pub supervisor: &'a Supervisor,
    /// Fires on Ctrl-C and the like.
    pub cancel: &'a Cancel,
}

/// How closely [`check`] looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// At what must be there before anything is made or paid for: seconds.
    Needed,
    /// At everything that can be tried for nothing: a minute or two.
    Everything,
}

/// Looks at everything the configured benchmark needs.
///
/// # Errors
/// `Interrupted`; what is missing is a finding, not an error.
pub async fn check(config: &Config, around: &Surroundings<'_>, depth: Depth) -> Result<Vec<Finding>> {
    let mut findings = quick(config, around.root, around.environment);
    if config.benchmark == Benchmark::Demo || config.agent_file().ends_with(".py") {
        findings.push(python(config, around).await?);
    }
    if let Some(wanted) = Wanted::of(config, around.root, around.environment) {
        // The quick look at its keys is replaced by the thorough one.
        let thorough = harbor::findings(&wanted, around).await?;
        findings.retain(|finding| thorough.iter().all(|better| better.name != finding.name));
        findings.extend(thorough);
    }
    if let Some(wanted) = tau2::Wanted::of(config, around.root, around.environment) {
        let thorough = tau2::findings(&wanted, around).await?;
        findings.retain(|finding| thorough.iter().all(|better| better.name != finding.name));
        findings.extend(thorough);
    }
    if let Some(wanted) = bird_interact::Wanted::of(config, around.root, around.environment) {
        let thorough = bird_interact::findings(&wanted, around, depth).await?;
        findings.retain(|finding| thorough.iter().all(|better| better.name != finding.name));
        findings.extend(thorough);
    }
    Ok(findings)
}

/// Installs what the benchmark needs and this machine lacks. `say` hears about it. Call it with the lock held, after
/// [`check`] found nothing that only the user can mend.
///
/// # Errors
/// Usage for what the user must mend, infrastructure when an installation fails; `Interrupted`.
pub async fn provide(config: &Config, around: &Surroundings<'_>, say: &dyn Fn(String)) -> Result<()> {
    if let Some(wanted) = Wanted::of(config, around.root, around.environment) {
        let install = harbor::ensure(&wanted, around, say).await?;
        say(format!("harbor {} ({})", install.version, install.harbor.display()));
    }
    if let Some(wanted) = tau2::Wanted::of(config, around.root, around.environment) {
        let install = tau2::ensure(&wanted, around, say).await?;
        say(format!("tau2 {} ({})", install.version, install.python.display()));
    }
    if let Some(wanted) = bird_interact::Wanted::of(config, around.root, around.environment) {
        bird_interact::ensure(&wanted, around, say).await?;
    }
    Ok(())
}

/// What [`rehearse`] is told about the run to come.
#[derive(Debug)]
pub struct Rehearsal<'a> {
    /// A staged copy of the experiment.
    pub staging: &'a Path,
    /// Whether its agent is the benchmark's template, unchanged.
    pub is_template: bool,
}

/// Tries, without keys and without money, what a run stands on. Says what works.
///
/// # Errors
/// As [`canary::canary`] and [`bird_interact::rehearse`]; infrastructure when what [`provide`] installs is not there.
pub async fn rehearse(
    config: &Config,
    rehearsal: &Rehearsal<'_>,
    around: &Surroundings<'_>,
    say: &dyn Fn(String),
) -> Result<Option<Finding>> {
    if let Some(wanted) = bird_interact::Wanted::of(config, around.root, around.environment) {
        return bird_interact::rehearse(&wanted, rehearsal, around, say).await.map(Some);
    }
    let Some(wanted) = Wanted::of(config, around.root, around.environment) else { return Ok(None) };
    let Some(install) = harbor::locate(&wanted, around).await? else {
        return Err(
            Error::infrastructure("harbor is not installed").hint("run `autoharness prepare`, which installs it.")
        );
    };
    say("canary: one model call against a stub on this machine, without keys".into());
    canary::canary(&install, rehearsal.staging, rehearsal.is_template, around).await.map(Some)
}

/// The part of [`check`] that starts no process, for commands that run often.
pub fn quick(config: &Config, root: &Path, environment: &Environment) -> Vec<Finding> {
    let mut findings = vec![program("git", "git", root, environment, "install git (`apt install git`)")];
    if let Settings::Command(settings) = &config.settings
        && let Some(name) = settings.command.first()
        && !name.contains('/')
    {
        findings.push(program("command", name, root, environment, "install it, or name another program in `command:`"));
    }
    if let Some(wanted) = Wanted::of(config, root, environment) {
        let keys = harbor::keys_for(wanted.env_provider, wanted.agent_model);
        findings.extend(keys.iter().map(|key| key.check_quickly(environment, root)));
    }
    if let Some(wanted) = tau2::Wanted::of(config, root, environment) {
        findings.extend(tau2::quick(&wanted));
        findings.extend(wanted.keys().iter().map(|key| key.check_quickly(environment, root)));
    }
    if let Some(wanted) = bird_interact::Wanted::of(config, root, environment) {
        findings.extend(bird_interact::quick(&wanted, root, environment));
    }
    for name in &config.pass_env {
        findings.push(if environment.has(name) {
            Finding::ok("variable", format!("{name} is set"))
        } else {
            Finding::fail(
                "variable",
                format!("{name} (pass_env) is not set"),
                format!("add `{name}=VALUE` to .env, or export it"),
            )
        });
    }
    findings
}

/// Turns failing findings into one error, before any money is spent.
///
/// # Errors
/// Usage, listing all that is missing.
pub fn require(findings: &[Finding]) -> Result<()> {
    let failing: Vec<&Finding> = findings.iter().filter(|finding| finding.level == Level::Fail).collect();
    if failing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = failing.iter().map(|finding| format!("{}: {}", finding.name, finding.detail)).collect();
    let mut error = Error::usage(format!("the environment is not ready: {}", list.join("; ")));
    for finding in &failing {
        error = error.hint(finding.fix.clone().unwrap_or_default());
    }
    Err(error)
}

fn program(name: &str, program: &str, root: &Path, environment: &Environment, fix: &str) -> Finding {
    let path = environment.get("PATH").map(std::ffi::OsString::from);
    match which::which_in(program, path, root) {
        Ok(found) => Finding::ok(name, found.display().to_string()),
        Err(_) => Finding::fail(name, format!("`{program}` is not on the PATH"), fix),
    }
}

/// Python 3.9 or newer: agents are parsed with it, unless the benchmark runs them in another, and the demo runs in it.
async fn python(config: &Config, around: &Surroundings<'_>) -> Result<Finding> {
    let own = match &config.settings {
        Settings::Command(settings) => AgentPython::of_command(&settings.command, &[], config.agent_file().as_ref()),
        _ => None,
    };
    let program = own.map_or_else(|| "python3".into(), |own| own.program.to_string_lossy().into_owned());
    let fix = match program.as_str() {
        "python3" => "install Python 3.9 or newer as `python3`".to_string(),
        other => format!("name a Python of version 3.9 or newer in `command:` instead of {other}"),
    };
    let path = around.environment.get("PATH").map(std::ffi::OsString::from);
    let Ok(found) = which::which_in(&program, path, around.root) else {
        let place = if program.contains('/') { "does not exist" } else { "is not on the PATH" };
        return Ok(Finding::fail("python3", format!("`{program}` {place}"), fix));
    };
    let script = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
    let command =
        Command::new(found, around.root).args(["-I", "-S", "-c", script]).env(around.environment.for_child(&[], &[]));
    let said = run_captured(around.supervisor, command, Limits::seconds(30), around.cancel).await?;
    let version = said.text();
    let numbers: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
    Ok(match numbers.as_slice() {
        [3, minor, ..] if *minor >= 9 => Finding::ok("python3", version),
        _ if !said.exit.success() => Finding::fail("python3", format!("does not start: {}", said.exit), fix),
        _ => Finding::fail("python3", format!("version {version} is too old"), fix),
    })
}

/// Which interpreter parses, imports and runs the agent. `None` while it is not installed, or when the agent is no Python.
///
/// # Errors
/// `Interrupted`; an installation that cannot be used is a finding of [`check`].
pub async fn interpreter(config: &Config, around: &Surroundings<'_>) -> Result<Option<Finding>> {
    if !config.agent_file().ends_with(".py") {
        return Ok(None);
    }
    let mut unknown = None;
    let program = match &config.settings {
        Settings::Demo => Some("python3".into()),
        Settings::Command(settings) => {
            let own = AgentPython::of_command(&settings.command, &[], config.agent_file().as_ref());
            unknown = settings.command.first().filter(|_| own.is_none());
            Some(own.map_or_else(|| "python3".into(), |own| own.program))
        }
        Settings::TerminalBench(_) => match Wanted::of(config, around.root, around.environment) {
            Some(wanted) => harbor::locate(&wanted, around).await.ok().flatten().map(|found| found.python.into()),
            None => None,
        },
        Settings::TauBench(_) => match tau2::Wanted::of(config, around.root, around.environment) {
            Some(wanted) => tau2::locate(&wanted, around).await.ok().flatten().map(|found| found.python.into()),
            None => None,
        },
        Settings::BirdInteract(_) => bird_interact::Wanted::of(config, around.root, around.environment)
            .and_then(|wanted| wanted.places(around.state))
            .map(|places| places.python.into()),
    };
    around.cancel.check()?;
    let path = around.environment.get("PATH").map(std::ffi::OsString::from);
    let Some(found) = program.and_then(|program: std::ffi::OsString| which::which_in(program, path, around.root).ok())
    else {
        return Ok(None);
    };
    let Some(asked) = python::interrogate(&found, around).await? else { return Ok(None) };
    let which = match (found == asked.path, unknown) {
        (_, Some(program)) => format!(
            "{} ({}) parses the agent; what `{program}` runs it in is not known",
            found.display(),
            asked.version
        ),
        (true, None) => format!("{} ({}) runs the agent", found.display(), asked.version),
        (false, None) => format!("{} ({}, {}) runs the agent", asked.path.display(), asked.version, found.display()),
    };
    Ok(Some(Finding::ok("interpreter", which)))
}

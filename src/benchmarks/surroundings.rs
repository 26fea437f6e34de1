//! What `prepare` and `doctor` check for every benchmark.

use std::path::Path;

use super::contract::{Benchmark, Depth, Ground};
use crate::config::{Config, Environment};
use crate::error::Result;
use crate::process::{Command, Limits, run_captured};
use crate::provision::{Finding, Surroundings, program, python};

/// Checks everything that the configured benchmark needs. Errors: `Interrupted`; what is missing is a finding, not an
/// error.
pub(crate) async fn check(benchmark: &dyn Benchmark, ground: &Ground<'_>, depth: Depth) -> Result<Vec<Finding>> {
    let mut findings = quick(benchmark, ground.config, &ground.paths.root, ground.environment);
    if let Some(program) = benchmark.system_python(ground.config) {
        findings.push(system_python(&program, &ground.around()).await?);
    }
    let thorough = benchmark.findings(ground, depth).await?;
    findings.retain(|finding| thorough.iter().all(|better| better.name != finding.name));
    findings.extend(thorough);
    Ok(findings)
}

/// The part of [`check`] that starts no process, for commands that run often.
pub(crate) fn quick(
    benchmark: &dyn Benchmark,
    config: &Config,
    root: &Path,
    environment: &Environment,
) -> Vec<Finding> {
    let mut findings = vec![program("git", "git", root, environment, "install git (`apt install git`)")];
    findings.extend(benchmark.quick(config, root, environment));
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

/// Python 3.9 or newer: agents are parsed with it, unless the benchmark runs them in another, and the demo runs in it.
async fn system_python(program: &str, around: &Surroundings<'_>) -> Result<Finding> {
    let fix = match program {
        "python3" => "install Python 3.9 or newer as `python3`".to_string(),
        other => format!("name a Python of version 3.9 or newer in `command:` instead of {other}"),
    };
    let path = around.environment.get("PATH").map(std::ffi::OsString::from);
    let Ok(found) = which::which_in(program, path, around.root) else {
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
/// Errors: `Interrupted`; an installation that cannot be used is a finding of [`check`].
pub(crate) async fn interpreter(benchmark: &dyn Benchmark, ground: &Ground<'_>) -> Result<Option<Finding>> {
    if !ground.config.agent_file().ends_with(".py") {
        return Ok(None);
    }
    let runs = benchmark.interpreter(ground).await?;
    ground.cancel.check()?;
    let around = ground.around();
    let path = ground.environment.get("PATH").map(std::ffi::OsString::from);
    let Some(found) = runs.program.and_then(|program| which::which_in(program, path, around.root).ok()) else {
        return Ok(None);
    };
    let Some(asked) = python::interrogate(&found, &around).await? else { return Ok(None) };
    let which = match (found == asked.path, runs.hidden_in) {
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

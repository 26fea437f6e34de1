//! BIRD-Interact: its checkout, its Python, its tasks and its PostgreSQL. It makes what it can, and names commands for the
//! rest.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::clone;
use super::data::{self, TaskSource};
use super::postgres::PostgresServer;
use super::request::HELPER;
use super::request::{self as bench, Places};
use super::setup::{ADK, BirdSetup, spec};
use crate::benchmarks::contract::{Depth, Rehearsal};
use crate::benchmarks::fencing::Fencing;
use crate::config::Environment;
use crate::error::{Code, Error, Result};
use crate::process::{Command, Limits, run_captured};
use crate::provision::python_env::{self};
use crate::provision::{Finding, Level, Surroundings, model_keys, require};
use crate::store::scratch::{self, Scratch};

/// How long the checks may take: one call of a model, and a few tasks with copies of databases.
const CHECK: Limits = Limits { time: Duration::from_secs(20 * 60), output: 256 * 1024 };
/// How many tasks have their gold SQL tried.
const SAMPLE: usize = 4;

/// Names of settings and variables only; starts no process.
pub(crate) fn quick(setup: &BirdSetup<'_>, root: &Path, environment: &Environment) -> Vec<Finding> {
    let config = setup.config;
    let mut findings = Vec::new();
    for (role, model) in [("agent model", &config.agent_model), ("user model", &config.user_model)] {
        findings.push(match model {
            Some(model) => model_keys::requirement(role, Some(model)).check_quickly(environment, root),
            None if role == "user model" && config.agent_model.is_some() => {
                Finding::ok(role, "not set: the agent's model plays the user")
            }
            None => Finding::fail(
                role,
                "is not set",
                format!("set `{}:` in experiment_config.yaml, as litellm names it", role.replace(' ', "_")),
            ),
        });
    }
    if setup.password(environment).is_none() {
        let variable = &setup.settings.pg_password_env;
        findings.push(Finding::warn(
            "pg password",
            format!("{variable} is not set, so logins are tried without a password"),
            format!("add `{variable}=...` to .env"),
        ));
    }
    findings
}

/// Everything that `doctor` shows and `prepare` insists on. What `prepare` makes itself is a warning while it is missing.
/// Starts nothing that stays, and downloads nothing.
pub(crate) async fn findings(
    setup: &BirdSetup<'_>,
    fence: Option<&Fencing>,
    around: &Surroundings<'_>,
    depth: Depth,
) -> Result<Vec<Finding>> {
    let mut findings = quick(setup, around.root, around.environment);
    let prepare = "autoharness prepare";
    if !setup.has_checkout() {
        let missing = format!("there is no {ADK} in {}", setup.checkout.display());
        findings.push(if setup.own {
            Finding::warn("BIRD-Interact", missing, prepare)
        } else {
            Finding::fail("BIRD-Interact", missing, "correct `bird_repo:`, or leave it out: then `prepare` clones it")
        });
    }
    match (setup.interpreter(around.state), &setup.python) {
        (Some(_), _) => {}
        (None, None) => findings.push(Finding::warn("bird-interact", "its Python packages are not installed", prepare)),
        (None, Some(python)) => findings.push(Finding::fail(
            "bird_python_bin",
            format!("{} does not exist", python.display()),
            "correct it, or leave it out: then `prepare` installs an environment",
        )),
    }
    let place = TaskSource::of(setup);
    if setup.own || setup.has_checkout() || setup.names_data() {
        findings.extend(data::findings(&place, around).await?);
    }
    let databases = place.databases();
    let (seen, ready) = PostgresServer::of(setup, around).findings(&databases).await?;
    findings.extend(seen);
    if let Some(places) = setup.places(around.state).filter(|_| !databases.is_empty()) {
        let sound = findings.iter().all(|finding| finding.level != Level::Fail);
        let agent = around.root.join(setup.config.agent_file());
        let deep = depth == Depth::Everything;
        let extent = Extent {
            postgres: ready,
            // Not a copy, so it is imported from the experiment's own directory.
            fence: fence.map(|fence| bench::fence(fence, around.root)),
            agent: agent.is_file().then_some(agent.as_path()).filter(|_| deep),
            sample: if deep && ready && sound { SAMPLE } else { 0 },
            basics: true,
        };
        findings.extend(examine(setup, &places, &extent, around).await?.into_iter().map(|(finding, _)| finding));
    }
    Ok(findings)
}

/// Makes what is missing of checkout, data, environment and databases, and then runs the checks that could not be run
/// before.
/// Errors: infrastructure when something cannot be fetched or does not come up; usage for what the user must fix; `Interrupted`.
pub(crate) async fn ensure(setup: &BirdSetup<'_>, around: &Surroundings<'_>, say: &dyn Fn(String)) -> Result<()> {
    let place = TaskSource::of(setup);
    let complete = setup.places(around.state).is_some() && !place.databases().is_empty();
    if setup.own && !setup.has_checkout() {
        clone::code(&setup.checkout, around, say).await?;
    }
    // Only now does the checkout show where its services are.
    let place = TaskSource::of(setup);
    data::ensure(&place, around, say).await?;
    // A container fills its databases while the packages are installed.
    let server = PostgresServer::of(setup, around);
    server.start(say).await?;
    if setup.python.is_none() {
        python_env::provision(&spec(), around.state, around, say).await?;
    }
    let Some(places) = setup.places(around.state) else {
        return Err(Error::usage(format!("there is no {ADK} in {}", setup.checkout.display()))
            .code(Code::EnvironmentNotReady)
            .hint(
                "remove that directory, and `autoharness prepare` makes it anew; or name another one in `bird_repo:`.",
            ));
    };
    let databases = place.databases();
    let waited = server.wait(&databases, say).await?;
    if complete && !waited {
        return Ok(());
    }
    say("checking packages, tasks and databases".into());
    let (seen, ready) = server.findings(&databases).await?;
    require(&seen)?;
    let extent = Extent { postgres: ready, agent: None, fence: None, sample: 0, basics: true };
    let findings = examine(setup, &places, &extent, around).await?;
    require(&findings.into_iter().map(|(finding, _)| finding).collect::<Vec<_>>())
}

/// Before the baseline, and without a key: a tool call of the staged agent through its service, with a model of our own, and
/// the gold SQL of a few tasks.
/// Errors: usage when the agent cannot be loaded, or data and databases do not fit; infrastructure when the service does not work;
/// `Interrupted`.
pub(crate) async fn rehearse(
    setup: &BirdSetup<'_>,
    rehearsal: &Rehearsal<'_>,
    fence: Option<&Fencing>,
    around: &Surroundings<'_>,
    say: &dyn Fn(String),
) -> Result<Finding> {
    let Some(places) = setup.places(around.state) else {
        return Err(Error::infrastructure("BIRD-Interact is not installed")
            .code(Code::EnvironmentNotReady)
            .hint("run `autoharness prepare`, which installs it."));
    };
    say("canary: one tool call through the agent service with a scripted model, and the gold SQL of a few tasks".into());
    let agent = rehearsal.staging.join(setup.config.agent_file());
    let fence = fence.map(|fence| bench::fence(fence, rehearsal.staging));
    let extent = Extent { postgres: false, agent: Some(&agent), fence, sample: SAMPLE, basics: false };
    let findings = examine(setup, &places, &extent, around).await?;
    judge(findings, rehearsal.is_template)
}

/// The template is never to blame for a failure.
fn judge(findings: Vec<(Finding, bool)>, is_template: bool) -> Result<Finding> {
    for (finding, of_agent) in findings.iter().filter(|(finding, _)| finding.level != Level::Ok) {
        let detail = &finding.detail;
        match (of_agent, finding.level) {
            (true, Level::Fail) => {
                return Err(Error::usage(detail.clone())
                    .code(Code::PreflightFailed)
                    .hint("fix the agent file, or start over with `autoharness prepare --reset-agent`."));
            }
            (true, _) if is_template => {
                return Err(Error::infrastructure(format!("the template agent did not work: {detail}"))
                    .code(Code::BenchmarkFailed)
                    .hint("`autoharness doctor` shows what is installed; nothing was spent."));
            }
            (true, _) => return Ok(finding.clone()),
            (false, _) => {}
        }
    }
    let findings: Vec<Finding> = findings.into_iter().map(|(finding, _)| finding).collect();
    require(&findings)?;
    let details: Vec<&str> = findings.iter().map(|finding| finding.detail.as_str()).collect();
    Ok(Finding::ok("canary", details.join("; ")))
}

/// What doctor.py is to look at.
struct Extent<'a> {
    /// Whether the server can be asked.
    postgres: bool,
    /// The agent whose service is tried.
    agent: Option<&'a Path>,
    /// What it is tried behind.
    fence: Option<Value>,
    /// How many tasks have their gold SQL tried.
    sample: usize,
    /// Packages, code and names too.
    basics: bool,
}

/// One line of doctor.py.
#[derive(Debug, Deserialize)]
struct HelperSaid {
    check: String,
    ok: bool,
    level: String,
    message: String,
    hint: Option<String>,
    /// Whether the agent is to blame.
    #[serde(default)]
    agent: bool,
}

/// Runs the helper's checks; with each finding, whether the agent is to blame.
async fn examine(
    setup: &BirdSetup<'_>,
    places: &Places,
    extent: &Extent<'_>,
    around: &Surroundings<'_>,
) -> Result<Vec<(Finding, bool)>> {
    let helper = HELPER.write(&around.state.join("embedded"))?;
    scratch::sweep(around.state)?;
    let scratch = Scratch::new(around.state)?;
    let mut options = bench::options(setup.settings, places);
    options.insert("postgres".into(), extent.postgres.into());
    options.insert("oracle_sample".into(), extent.sample.into());
    options.insert("basics".into(), extent.basics.into());
    options.extend(extent.fence.clone().map(|fence| ("fence".to_owned(), fence)));
    let request = json!({
        "protocol": 1,
        "action": "doctor",
        "keep_traces": false,
        "agent": {"path": extent.agent, "model": setup.config.agent_model, "user_model": setup.config.user_model,
            "reasoning_effort": null},
        "options": options,
    });
    let mut env = setup.environment(around.environment);
    env.push((crate::benchmarks::trial_protocol::SCRATCH_VARIABLE.into(), scratch.path().into()));
    let mut command =
        Command::new(&places.python, "/").args([OsString::from("-B"), helper.join("doctor.py").into()]).env(env);
    command.stdin = format!("{request}\n").into_bytes();
    command.grace = bench::GRACE;
    let said = run_captured(around.supervisor, command, CHECK, around.cancel).await?;
    let lines =
        said.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<HelperSaid>(line).ok());
    let mut findings: Vec<(Finding, bool)> =
        lines.map(|said| (said.agent, said)).map(|(agent, said)| (finding(said, setup), agent)).collect();
    let failing = findings.iter().any(|(finding, _)| finding.level == Level::Fail);
    if !said.exit.success() && !failing {
        let stderr = String::from_utf8_lossy(&said.stderr);
        let last = stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it says nothing");
        let detail = format!("the checks ended with {}: {last}", said.exit);
        findings.push((Finding::fail("bird-interact", detail, "run `autoharness prepare`"), false));
    }
    Ok(findings)
}

fn finding(said: HelperSaid, setup: &BirdSetup<'_>) -> Finding {
    let level = match (said.ok, said.level.as_str()) {
        (true, _) => Level::Ok,
        (false, "error") => Level::Fail,
        (false, _) => Level::Warn,
    };
    let fix = match said.check.as_str() {
        _ if said.ok => None,
        "packages" | "model-call" if setup.python.is_none() && !said.agent => Some("autoharness prepare".into()),
        _ => said.hint,
    };
    Finding { name: said.check, level, detail: said.message, fix }
}

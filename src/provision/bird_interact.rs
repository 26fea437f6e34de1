//! BIRD-Interact: its checkout, its Python, its tasks and its PostgreSQL. What can be made is made; for the rest there are
//! commands to type.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use serde::Deserialize;
use serde_json::json;

use super::need::{find_program, home};
use super::python::Range;
use super::python_env::{self, Spec};
use super::{Finding, Level, Surroundings, model_keys};
use crate::benchmark::bird_interact::{self as bench, Places};
use crate::config::{BirdDataset, BirdInteractSettings, Config, Environment, Settings};
use crate::error::{Error, Result};
use crate::guard::Repo;
use crate::process::git::{git, git_within};
use crate::process::{Command, Limits, run_captured};

/// The directory of the checkout that `prepare` makes; git ignores it in an experiment.
const CHECKOUT: &str = "bird_interact_adk";
/// Where it comes from.
const URL: &str = "https://github.com/bird-bench/BIRD-Interact";
/// The revision that the helper is tested with.
const REVISION: &str = "451fe2c3518ee1cf908d8139e2913483bd519381";
/// The directory of the services in a checkout.
const ADK: &str = "BIRD-Interact-ADK";
/// Begins the names of the checks' scratch directories; the number of the process that made one follows.
const SCRATCH: &str = "bird-checks-";
/// In a checkout that is not complete.
const UNFINISHED: &str = ".autoharness-unfinished";
/// How long a checkout may take.
const CLONE: Limits = Limits { time: Duration::from_secs(30 * 60), output: 64 * 1024 };
/// How long the checks may take: one call of a model, and a few tasks with copies of databases.
const CHECK: Limits = Limits { time: Duration::from_secs(20 * 60), output: 256 * 1024 };
/// What the pinned packages were tested with, and the next one they have wheels for.
const PYTHON: Range = Range { min: 11, below: 14 };

/// What a configuration asks for.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The settings of this benchmark.
    pub settings: &'a BirdInteractSettings,
    config: &'a Config,
    /// The checkout, and whether it is the one that `prepare` makes.
    checkout: PathBuf,
    own: bool,
    python: Option<PathBuf>,
    data: Option<PathBuf>,
}

impl<'a> Wanted<'a> {
    /// What a configuration asks for; `None` for other benchmarks.
    pub fn of(config: &'a Config, root: &Path, environment: &Environment) -> Option<Wanted<'a>> {
        let Settings::BirdInteract(settings) = &config.settings else { return None };
        let path = |written: &str| match (written.strip_prefix("~/"), home(environment)) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => root.join(written),
        };
        let program = |written: &String| match written.contains('/') {
            true => path(written),
            false => find_program(environment, root, written).unwrap_or_else(|| root.join(written)),
        };
        Some(Wanted {
            settings,
            config,
            checkout: settings.repo.as_deref().map_or_else(|| root.join(CHECKOUT), path),
            own: settings.repo.is_none(),
            python: settings.python.as_ref().map(program),
            data: settings.data_path.as_deref().map(path),
        })
    }

    /// The directory of the services: the checkout may be named, or this directory itself.
    fn adk(&self) -> PathBuf {
        let inner = self.checkout.join(ADK);
        if inner.is_dir() || !self.checkout.join("orchestrator").is_dir() { inner } else { self.checkout.clone() }
    }

    fn data(&self) -> PathBuf {
        let inside = || self.adk().join(format!("bird-interact-{}/bird_interact_data.jsonl", self.set()));
        self.data.clone().unwrap_or_else(inside)
    }

    fn set(&self) -> &'static str {
        self.settings.dataset.as_str()
    }

    fn has_checkout(&self) -> bool {
        self.adk().join("orchestrator").is_dir() && !self.checkout.join(UNFINISHED).exists()
    }

    fn interpreter(&self, state: &Path) -> Option<PathBuf> {
        match &self.python {
            Some(python) => python.is_file().then(|| python.clone()),
            None => Some(python_env::find(&spec(), state)?.python),
        }
    }

    /// Where everything is; `None` while the checkout or the interpreter is missing.
    pub fn places(&self, state: &Path) -> Option<Places> {
        let python = self.interpreter(state).filter(|_| self.has_checkout())?;
        Some(Places { python, adk: self.adk(), data: self.data() })
    }

    /// The checkout's commit, where it is a git repository of its own.
    pub fn revision(&self) -> Option<String> {
        let top =
            [self.checkout.as_path(), self.checkout.parent()?].into_iter().find(|top| top.join(".git").exists())?;
        // Somebody else's repository may hold the directory; then its commits say nothing.
        (top == self.checkout || self.checkout.ends_with(ADK)).then(|| Repo::open(top).ok()?.head().ok()?)?
    }

    /// The helper's complete environment: the keys of the models, the database's password, and what the user names.
    pub fn environment(&self, environment: &Environment) -> Vec<(OsString, OsString)> {
        let models = [self.config.agent_model.as_deref(), self.config.user_model.as_deref()];
        let keys = models.into_iter().flat_map(model_keys::variables).map(str::to_string);
        let mut pass: Vec<String> = keys.collect();
        pass.push(self.settings.pg_password_env.clone());
        pass.extend(self.config.pass_env.iter().cloned());
        let password = self.settings.pg_password.as_ref().filter(|_| !environment.has(&self.settings.pg_password_env));
        let extra = password.map(|secret| (self.settings.pg_password_env.clone().into(), secret.reveal().into()));
        environment.for_child(&pass, &extra.into_iter().collect::<Vec<_>>())
    }
}

fn spec() -> Spec {
    Spec { name: "bird-interact", requirements: bench::REQUIREMENTS.into(), python: PYTHON, limit: python_env::LIMIT }
}

/// Names of settings and variables only; starts no process.
pub fn quick(wanted: &Wanted<'_>, root: &Path, environment: &Environment) -> Vec<Finding> {
    let config = wanted.config;
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
    let variable = &wanted.settings.pg_password_env;
    if !environment.has(variable) && wanted.settings.pg_password.is_none() {
        findings.push(Finding::warn(
            "pg password",
            format!("{variable} is not set, so logins are tried without a password"),
            format!("add `{variable}=...` to .env"),
        ));
    }
    findings
}

/// Everything that `doctor` shows and `prepare` insists on. What `prepare` makes itself is a warning while it is missing;
/// when nothing is missing, the helper's own checks are run.
///
/// # Errors
/// `Interrupted`; infrastructure when the helper cannot be written.
pub async fn findings(wanted: &Wanted<'_>, around: &Surroundings<'_>) -> Result<Vec<Finding>> {
    let mut findings = quick(wanted, around.root, around.environment);
    let prepare = "autoharness prepare";
    if !wanted.has_checkout() {
        let missing = format!("there is no {ADK} in {}", wanted.checkout.display());
        findings.push(if wanted.own {
            Finding::warn("BIRD-Interact", missing, prepare)
        } else {
            Finding::fail("BIRD-Interact", missing, "correct `bird_repo:`, or leave it out: then `prepare` clones it")
        });
    }
    match (wanted.interpreter(around.state), &wanted.python) {
        (Some(_), _) => {}
        (None, None) => findings.push(Finding::warn("bird-interact", "its Python packages are not installed", prepare)),
        (None, Some(python)) => findings.push(Finding::fail(
            "bird_python_bin",
            format!("{} does not exist", python.display()),
            "correct it, or leave it out: then `prepare` installs an environment",
        )),
    }
    if let Some(places) = wanted.places(around.state) {
        findings.extend(examine(wanted, &places, around).await?);
    } else if wanted.data.is_some() && !wanted.data().is_file() {
        findings.push(no_data(wanted));
    }
    Ok(findings)
}

/// Makes what is missing of checkout and environment, and then runs the checks that could not be run before.
///
/// # Errors
/// Infrastructure when something cannot be fetched; usage for what the user must mend; `Interrupted`.
pub async fn ensure(wanted: &Wanted<'_>, around: &Surroundings<'_>, say: &dyn Fn(String)) -> Result<()> {
    if wanted.places(around.state).is_some() {
        return Ok(());
    }
    if wanted.own && !wanted.has_checkout() {
        check_out(&wanted.checkout, around, say).await?;
    }
    if wanted.python.is_none() {
        python_env::provision(&spec(), around.state, around, say).await?;
    }
    let Some(places) = wanted.places(around.state) else {
        return Err(Error::usage(format!("there is no {ADK} in {}", wanted.checkout.display())).hint(
            "remove that directory, and `autoharness prepare` makes it anew; or name another one in `bird_repo:`.",
        ));
    };
    say("checking packages, tasks and databases; this takes a minute".into());
    super::require(&examine(wanted, &places, around).await?)
}

async fn check_out(directory: &Path, around: &Surroundings<'_>, say: &dyn Fn(String)) -> Result<()> {
    let unfinished = directory.join(UNFINISHED);
    if unfinished.exists() {
        say(format!("removing a checkout of {CHECKOUT} that was interrupted"));
        fs_err::remove_dir_all(directory)?;
    }
    if directory.symlink_metadata().is_ok() {
        return Err(Error::usage(format!("{} exists and holds no {ADK}", directory.display()))
            .hint("remove it, or name your own checkout in `bird_repo:`."));
    }
    say(format!("cloning {URL} at {}", &REVISION[..7]));
    fs_err::create_dir_all(directory)?;
    fs_err::write(&unfinished, "")?;
    let Surroundings { supervisor, environment, cancel, .. } = around;
    git(supervisor, environment, directory, &["init", "--quiet"], cancel).await?;
    let fetch = ["fetch", "--quiet", "--depth", "1", URL, REVISION];
    let offline = "check the network, or clone it yourself and name the checkout in `bird_repo:`.";
    git_within(CLONE, supervisor, environment, directory, &fetch, cancel).await.map_err(|error| error.hint(offline))?;
    let checkout = ["checkout", "--quiet", "--detach", "FETCH_HEAD"];
    git_within(CLONE, supervisor, environment, directory, &checkout, cancel).await?;
    fs_err::remove_file(&unfinished)?;
    Ok(())
}

/// One line of doctor.py.
#[derive(Debug, Deserialize)]
struct Said {
    check: String,
    ok: bool,
    level: String,
    message: String,
    hint: Option<String>,
}

/// Removes what killed checks left in the state directory: copies of the benchmark with its tasks. `doctor` takes no lock,
/// so those of a living process stay.
///
/// # Errors
/// Infrastructure when the directory cannot be read, or one of its leftovers not removed.
pub fn sweep(state: &Path) -> Result<()> {
    for entry in fs_err::read_dir(state)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(SCRATCH)) else { continue };
        let maker = rest.split('-').next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        if maker.is_none_or(|maker| test_kill_process(maker).is_err()) {
            fs_err::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Runs the helper's checks.
async fn examine(wanted: &Wanted<'_>, places: &Places, around: &Surroundings<'_>) -> Result<Vec<Finding>> {
    if !places.data.is_file() {
        return Ok(vec![no_data(wanted)]);
    }
    let helper = bench::write_helper(&around.state.join("embedded"))?;
    sweep(around.state)?;
    let scratch =
        tempfile::Builder::new().prefix(&format!("{SCRATCH}{}-", std::process::id())).tempdir_in(around.state)?;
    let request = json!({
        "protocol": 1,
        "action": "doctor",
        "keep_traces": false,
        "agent": {"path": null, "model": wanted.config.agent_model, "user_model": wanted.config.user_model,
            "reasoning_effort": null},
        "options": bench::options(wanted.settings, places),
    });
    let mut env = wanted.environment(around.environment);
    env.push((crate::benchmark::protocol::SCRATCH_VARIABLE.into(), scratch.path().into()));
    let mut command =
        Command::new(&places.python, "/").args([OsString::from("-B"), helper.join("doctor.py").into()]).env(env);
    command.stdin = format!("{request}\n").into_bytes();
    command.grace = bench::GRACE;
    let said = run_captured(around.supervisor, command, CHECK, around.cancel).await?;
    let mut findings: Vec<Finding> = Vec::new();
    for line in said.stdout.split(|byte| *byte == b'\n') {
        if let Ok(said) = serde_json::from_slice::<Said>(line) {
            findings.push(finding(said, wanted, around));
        }
    }
    let failing = findings.iter().any(|finding| finding.level == Level::Fail);
    if !said.exit.success() && !failing {
        let stderr = String::from_utf8_lossy(&said.stderr);
        let last = stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it says nothing");
        let detail = format!("the checks ended with {}: {last}", said.exit);
        findings.push(Finding::fail("bird-interact", detail, "run `autoharness prepare`"));
    }
    if let Some(warning) = readable(&places.data, around.root) {
        findings.push(warning);
    }
    Ok(findings)
}

fn finding(said: Said, wanted: &Wanted<'_>, around: &Surroundings<'_>) -> Finding {
    let level = match (said.ok, said.level.as_str()) {
        (true, _) => Level::Ok,
        (false, "error") => Level::Fail,
        (false, _) => Level::Warn,
    };
    let fix = match said.check.as_str() {
        _ if said.ok => None,
        "ground-truth" => Some(ground_truth(wanted)),
        "postgres-login" => Some(postgres(wanted, around)),
        "packages" | "model-call" if wanted.python.is_none() => Some("autoharness prepare".into()),
        _ => said.hint,
    };
    Finding { name: said.check, level, detail: said.message, fix }
}

/// Gold SQL in the work tree is open to the coding agent, that of the hold-out included.
fn readable(data: &Path, root: &Path) -> Option<Finding> {
    let inside = fs_err::canonicalize(data).ok()?.starts_with(fs_err::canonicalize(root).ok()?);
    inside.then(|| {
        Finding::warn(
            "hold-out",
            format!("{} lies inside the experiment, where the coding agent can read the gold SQL", data.display()),
            "move the tasks and their folders elsewhere, and name them in `bird_data_path:`",
        )
    })
}

fn no_data(wanted: &Wanted<'_>) -> Finding {
    let set = wanted.set();
    Finding::fail(
        "data",
        format!("the tasks are missing: {}", wanted.data().display()),
        format!(
            "git lfs install && git clone https://huggingface.co/datasets/birdsql/bird-interact-{set} ~/bird-interact-{set}; \
             then {}",
            ground_truth(wanted)
        ),
    )
}

/// How to get what the public data set leaves out. The benchmark's own merge empties its input when that is the output.
fn ground_truth(wanted: &Wanted<'_>) -> String {
    let set = wanted.set();
    let adk = wanted.adk();
    let script = adk.parent().unwrap_or(&adk).join("combine_public_with_gt.py");
    let merged = format!("bird-interact-{set}/merged.jsonl");
    format!(
        "write to bird.bench25@gmail.com with the subject \"[bird-interact-{set} GT&Test Cases]\", save the file that is \
         sent as ~/ground_truth.jsonl, and run: python3 {} ~/bird-interact-{set}/bird_interact_data.jsonl \
         ~/ground_truth.jsonl ~/{merged} (the output must be another file than the input); then set \
         `bird_data_path: ~/{merged}`",
        script.display()
    )
}

/// How to start the benchmark's PostgreSQL, or to name another one.
fn postgres(wanted: &Wanted<'_>, around: &Surroundings<'_>) -> String {
    let settings = wanted.settings;
    let named = format!("set pg_host, pg_port and pg_user, and {} in .env", settings.pg_password_env);
    if find_program(around.environment, around.root, "docker").is_none() {
        return format!("start the benchmark's PostgreSQL (its images need docker), or {named}");
    }
    let file = wanted.adk().join("docker-compose.yml");
    let services = match settings.dataset {
        BirdDataset::Lite => "up -d postgresql",
        BirdDataset::Full => "--profile full up -d postgresql_full",
    };
    format!(
        "docker compose -f {} {services} (port {}; it fills its databases for several minutes; its role is root with the \
         password of that file), or {named}",
        file.display(),
        settings.dataset.default_port()
    )
}

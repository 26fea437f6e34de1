//! Harbor: found on this machine, or installed into an environment of the tool's own.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::config::TerminalBenchSettings;
use super::runner::HarborInstall;
use super::sandbox;
use crate::config::{Config, Environment};
use crate::error::{Code, Error, Result};
use crate::provision::model_keys;
use crate::provision::need::{KeyRequirement, Need, ask, find_program, home};
use crate::provision::python::{Range, Version};
use crate::provision::python_env::{self, Spec};
use crate::provision::{Finding, Surroundings};

const REQUIREMENTS: &str = include_str!("helper/requirements.txt");

/// Harbor needs at least 3.12, and its dependencies have no packages for much newer ones.
const PYTHON: Range = Range { min: 12, below: 14 };

/// The first Harbor that has `--dry-run`, without which an unknown task is dropped in silence.
const OLDEST: Version = Version(0, 22, 0);

/// Switches Harbor's telemetry off when it is `0`.
pub(crate) const TELEMETRY: &str = "HARBOR_TELEMETRY";

/// What an installation must be able to do.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// A Harbor environment type, or `module:Class`.
    pub env_provider: &'a str,
    /// The agent's model, as litellm names it.
    pub agent_model: Option<&'a str>,
    /// The `harbor` to use, an absolute path.
    pub harbor_bin: Option<PathBuf>,
}

impl<'a> Wanted<'a> {
    /// What a configuration of this benchmark asks for.
    pub fn of(config: &'a Config, root: &Path, environment: &Environment) -> Wanted<'a> {
        let settings: &TerminalBenchSettings = config.own();
        let path = |written: &str| match written.strip_prefix("~/") {
            Some(rest) => home(environment).map_or_else(|| PathBuf::from(written), |home| home.join(rest)),
            None if written.contains('/') => root.join(written),
            None => find_program(environment, root, written).unwrap_or_else(|| root.join(written)),
        };
        Wanted {
            env_provider: &settings.env_provider,
            agent_model: config.agent_model.as_deref(),
            harbor_bin: settings.harbor_bin.as_deref().map(path),
        }
    }

    fn sdk(&self) -> Option<(&'static str, &'static str)> {
        sandbox::find(self.env_provider)?.sdk
    }

    fn spec(&self) -> Spec {
        let mut requirements = REQUIREMENTS.to_owned();
        if let Some((extra, _)) = self.sdk() {
            requirements = requirements.replace("\nharbor==", &format!("\nharbor[{extra}]=="));
        }
        Spec { name: "harbor", requirements, python: PYTHON, limit: python_env::LIMIT, megabytes: 500 }
    }
}

/// What an interpreter said about the packages beside it.
#[derive(Debug, Deserialize)]
struct Packages {
    python: String,
    harbor: Option<String>,
    litellm: Option<String>,
    mcp: bool,
    sdk: bool,
}

/// Imports nothing: importing Harbor or litellm takes seconds.
const PROBE: &str = "\
import importlib.metadata as metadata, importlib.util as util, json, sys
def version(name):
    try: return metadata.version(name)
    except metadata.PackageNotFoundError: return None
def has(name):
    try: return util.find_spec(name) is not None
    except Exception: return False
print(json.dumps({'python': '%d.%d.%d' % sys.version_info[:3], 'harbor': version('harbor'), 'litellm': version('litellm'),
    'mcp': has('mcp'), 'sdk': all(has(name) for name in sys.argv[1:])}))
";

/// A Harbor that was checked: usable, or with reasons why not.
#[derive(Debug)]
struct Examined {
    harbor: PathBuf,
    python: PathBuf,
    packages: Packages,
}

impl Examined {
    fn version(&self) -> Option<Version> {
        self.packages.harbor.as_deref().and_then(Version::parse)
    }

    /// What is wrong with it, each with its remedy. Empty when it can be used.
    fn faults(&self, wanted: &Wanted<'_>) -> Vec<Finding> {
        let pip = |what: &str| format!("{} -m pip install '{what}'", self.python.display());
        let mut faults = Vec::new();
        match self.version() {
            None => faults.push(Finding::fail(
                "harbor",
                format!("{} has no package `harbor` beside it", self.python.display()),
                pip("harbor>=0.22"),
            )),
            Some(version) if version < OLDEST => faults.push(Finding::fail(
                "harbor",
                format!("{} is version {version}; 0.22 or newer is needed (for --dry-run)", self.harbor.display()),
                pip("harbor>=0.22"),
            )),
            Some(_) => {}
        }
        if Version::parse(&self.packages.python).is_none_or(|version| version < Version(3, PYTHON.min, 0)) {
            faults.push(Finding::fail(
                "python",
                format!(
                    "{} is {}; Harbor needs 3.{} or newer",
                    self.python.display(),
                    self.packages.python,
                    PYTHON.min
                ),
                "install Harbor with a newer Python, or leave out `harbor_bin` and run `autoharness prepare`",
            ));
        }
        if self.packages.litellm.is_none() || !self.packages.mcp {
            faults.push(Finding::fail(
                "litellm",
                "cannot call models with tools: every such call fails without the package `mcp`",
                pip("litellm[mcp]"),
            ));
        }
        if let Some((extra, _)) = wanted.sdk().filter(|_| !self.packages.sdk) {
            faults.push(Finding::fail(
                "sandbox SDK",
                format!("the SDK of `{}` is not installed beside Harbor", wanted.env_provider),
                pip(&format!("harbor[{extra}]")),
            ));
        }
        faults
    }

    fn untried(&self) -> Option<String> {
        let version = self.packages.harbor.clone().unwrap_or_default();
        HarborInstall { harbor: self.harbor.clone(), python: self.python.clone(), version }.untried()
    }

    fn install(self) -> HarborInstall {
        HarborInstall { harbor: self.harbor, python: self.python, version: self.packages.harbor.unwrap_or_default() }
    }
}

/// What a look around found.
#[derive(Debug)]
struct Found {
    /// The one to use, with its faults; only one named by `harbor_bin` can have any.
    chosen: Option<Examined>,
    /// Why the one on the PATH is not used.
    passed_over: Option<String>,
}

async fn look(wanted: &Wanted<'_>, around: &Surroundings<'_>) -> Result<Found> {
    if let Some(harbor) = &wanted.harbor_bin {
        let fix = "name the `harbor` of a Python environment, or leave `harbor_bin` out: then `autoharness prepare` installs one.";
        return match examine(harbor, wanted, around).await? {
            Ok(examined) => Ok(Found { chosen: Some(examined), passed_over: None }),
            Err(why) => Err(Error::usage(format!("harbor_bin {}: {why}", harbor.display()))
                .code(Code::EnvironmentNotReady)
                .hint(fix)),
        };
    }
    if let Some(env) = python_env::find(&wanted.spec(), around.state)
        && let Ok(examined) = examine_in(env.bin.join("harbor"), env.python, wanted, around).await?
        && examined.faults(wanted).is_empty()
    {
        return Ok(Found { chosen: Some(examined), passed_over: None });
    }
    let Some(harbor) = find_program(around.environment, around.root, "harbor") else {
        return Ok(Found { chosen: None, passed_over: None });
    };
    let (chosen, why) = match examine(&harbor, wanted, around).await? {
        Err(why) => (None, Some(why)),
        Ok(examined) => match examined.faults(wanted).first() {
            None => (Some(examined), None),
            Some(fault) => (None, Some(fault.detail.clone())),
        },
    };
    Ok(Found { chosen, passed_over: why.map(|why| format!("{} is not used: {why}", harbor.display())) })
}

async fn examine(harbor: &Path, wanted: &Wanted<'_>, around: &Surroundings<'_>) -> Result<Result<Examined, String>> {
    if !harbor.is_file() {
        return Ok(Err("there is no such program".into()));
    }
    match interpreter_of(harbor, around) {
        Some(python) => examine_in(harbor.to_owned(), python, wanted, around).await,
        None => Ok(Err("it does not say which Python it runs in".into())),
    }
}

async fn examine_in(
    harbor: PathBuf,
    python: PathBuf,
    wanted: &Wanted<'_>,
    around: &Surroundings<'_>,
) -> Result<Result<Examined, String>> {
    let mut arguments = vec!["-c", PROBE];
    arguments.extend(wanted.sdk().map(|(_, module)| module));
    let Some(said) = ask(&python, &arguments, around).await? else {
        return Ok(Err(format!("its Python {} does not answer", python.display())));
    };
    Ok(match serde_json::from_slice(&said.stdout) {
        Ok(packages) => Ok(Examined { harbor, python, packages }),
        Err(_) => Err(format!("its Python {} does not work ({})", python.display(), said.exit)),
    })
}

/// The interpreter that a program installed by pip, pipx or uv runs in: the one it names in its first lines, else the one
/// beside it.
fn interpreter_of(program: &Path, around: &Surroundings<'_>) -> Option<PathBuf> {
    let program = fs_err::canonicalize(program).ok()?;
    let bytes = fs_err::read(&program).ok()?;
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned();
    let mut lines = head.lines();
    let shebang = lines.next().and_then(|line| line.strip_prefix("#!")).unwrap_or_default().trim();
    let mut words = shebang.split_whitespace();
    let first = words.next().unwrap_or_default();
    let named = if first.ends_with("/env") {
        words.find(|word| !word.starts_with('-')).and_then(|name| find_program(around.environment, around.root, name))
    } else if first.ends_with("/sh") {
        // How pip writes it when the path is too long for a first line, or has a space in it: '''exec' PYTHON "$0" "$@"
        let line = lines.next().and_then(|line| line.strip_prefix("'''exec' "));
        line.and_then(|line| line.split(" \"$0\"").next()).map(|path| PathBuf::from(path.trim_matches('"')))
    } else {
        Some(PathBuf::from(shebang))
    };
    let is_python = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python")) && path.exists()
    };
    let beside = || Some(program.parent()?.join("python"));
    named.filter(is_python).or_else(|| beside().filter(is_python))
}

/// The Harbor to use: the configured one, else the tool's own when it is complete, else one on the PATH that is new
/// enough, can call models with tools and has the provider's SDK. Installs nothing.
///
/// # Errors
/// Usage when `harbor_bin` names something that is no Harbor; `Interrupted`.
pub async fn locate(wanted: &Wanted<'_>, around: &Surroundings<'_>) -> Result<Option<HarborInstall>> {
    Ok(look(wanted, around).await?.chosen.map(Examined::install))
}

/// As [`locate`], and installs Harbor into the state directory when there is none. Call it with the lock held.
///
/// # Errors
/// As [`locate`] and [`python_env::provision`]; infrastructure when what was installed lacks something.
pub async fn ensure(wanted: &Wanted<'_>, around: &Surroundings<'_>, say: &dyn Fn(String)) -> Result<HarborInstall> {
    let found = look(wanted, around).await?;
    if let Some(chosen) = found.chosen {
        return Ok(chosen.install());
    }
    found.passed_over.into_iter().for_each(say);
    let env = python_env::provision(&wanted.spec(), around.state, around, say).await?;
    let examined = examine_in(env.bin.join("harbor"), env.python, wanted, around).await?;
    let examined = examined.map_err(|why| {
        Error::infrastructure(format!("the installed Harbor does not work: {why}")).code(Code::InstallFailed)
    })?;
    if let Some(fault) = examined.faults(wanted).into_iter().next() {
        let error = Error::infrastructure(format!("the installed Harbor does not work: {}", fault.detail))
            .code(Code::InstallFailed);
        return Err(error.hint(fault.fix.unwrap_or_default()));
    }
    Ok(examined.install())
}

/// What an evaluation needs besides the packages: the sandbox provider's and the model provider's keys, programs and
/// daemons. An environment class of the user's own (`module:Class`) needs nothing that we know of.
pub fn keys_for(env_provider: &str, agent_model: Option<&str>) -> Vec<KeyRequirement> {
    let mut keys = Vec::new();
    match sandbox::find(env_provider) {
        Some(row) => {
            let key = |need, required| KeyRequirement { name: row.name.into(), need, required, fix: row.fix.into() };
            keys.push(key(row.need, true));
            keys.push(key(row.usual, false));
            keys.retain(|key| key.need != Need::Nothing);
        }
        None if env_provider.contains(':') => {}
        None => keys.push(KeyRequirement {
            name: env_provider.into(),
            need: Need::Unknown,
            required: false,
            fix: format!("`env_provider: {env_provider}` is not a Harbor environment type known here; name its keys in `pass_env`"),
        }),
    }
    keys.push(model_keys::requirement("agent model", agent_model));
    keys
}

/// The names of the variables that Harbor may see although they look like secrets or come from `.env`.
pub fn child_variables(env_provider: &str, agent_model: Option<&str>) -> Vec<&'static str> {
    let mut names = model_keys::variables(agent_model);
    names.push(TELEMETRY);
    if let Some(row) = sandbox::find(env_provider) {
        names.extend(row.need.variables());
        names.extend(row.usual.variables());
        names.extend(row.also);
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// Everything about Harbor that `doctor` shows and `prepare` insists on. Installs nothing: a Harbor that `prepare` can
/// install is a warning.
///
/// # Errors
/// `Interrupted`.
pub async fn findings(wanted: &Wanted<'_>, around: &Surroundings<'_>) -> Result<Vec<Finding>> {
    let mut findings = installation(wanted, around).await?;
    for key in keys_for(wanted.env_provider, wanted.agent_model) {
        findings.push(key.check(around).await?);
    }
    findings.push(telemetry(around.environment));
    Ok(findings)
}

async fn installation(wanted: &Wanted<'_>, around: &Surroundings<'_>) -> Result<Vec<Finding>> {
    let found = match look(wanted, around).await {
        Ok(found) => found,
        Err(error) if error.kind() == crate::error::Kind::Usage => {
            return Ok(vec![Finding::fail("harbor", error.to_string(), error.hints().join(" "))]);
        }
        Err(error) => return Err(error),
    };
    if let Some(examined) = found.chosen {
        let faults = examined.faults(wanted);
        if !faults.is_empty() {
            return Ok(faults);
        }
        let packages = &examined.packages;
        let (harbor, litellm) = (packages.harbor.as_deref(), packages.litellm.as_deref());
        let litellm = Finding::ok("litellm", format!("{}, Python {}", litellm.unwrap_or_default(), packages.python));
        let place = examined.harbor.display();
        let harbor = match examined.untried() {
            None => Finding::ok("harbor", format!("{} ({place})", harbor.unwrap_or_default())),
            Some(untried) => Finding::warn(
                "harbor",
                format!("{untried} ({place})"),
                "leave `harbor_bin` out and run `autoharness prepare` with no `harbor` on the PATH: it installs one that was",
            ),
        };
        return Ok(vec![harbor, litellm]);
    }
    let passed_over = found.passed_over.map(|why| format!("; {why}")).unwrap_or_default();
    Ok(vec![python_env::ahead("harbor", format!("not installed{passed_over}"), PYTHON, "installs it", around).await?])
}

fn telemetry(environment: &Environment) -> Finding {
    match environment.get(TELEMETRY) {
        Some("0") | None | Some("") => Finding::ok("telemetry", format!("off ({TELEMETRY}=0)")),
        Some(_) => Finding::warn(
            "telemetry",
            format!("left as you set it ({TELEMETRY})"),
            format!("unset {TELEMETRY}: then it is off"),
        ),
    }
}

//! tau2: fetched and installed at one commit, code and data together, or the user's own installation.

use std::path::{Path, PathBuf};

use super::checkout;
use super::config::TauBenchSettings;
pub use super::probe::DATA_VARIABLE;
pub(crate) use super::probe::Tau2Install;
use super::probe::{self, examine, fault};
use crate::config::{Config, Environment};
use crate::error::{Code, Error, Result};
use crate::provision::model_keys;
use crate::provision::need::{KeyRequirement, find_program, home};
use crate::provision::python::Range;
use crate::provision::python_env::{self, Spec};
use crate::provision::{Finding, Surroundings};

const REQUIREMENTS: &str = include_str!("helper/requirements.txt");

/// tau2 says 3.12 or 3.13, but imports `audioop`, which 3.13 no longer has:
/// <https://github.com/sierra-research/tau2-bench/blob/a2c024725189473d2d7cea3a5cfdbcc67478e41f/src/tau2/voice/utils/audio_preprocessing.py#L4>.
pub const PYTHON: Range = Range { min: 12, below: 13 };

/// Names a directory with a ready tau2: `venv/bin/python`, `data`, and the commit in `revision`. Our container image sets it.
/// Read from the environment only: the coding agent can write `.env`.
pub const READY_VARIABLE: &str = "AUTOHARNESS_TAU2_DIR";

/// tau2's own judge, when none is configured.
const TAU2_JUDGE: &str = "gpt-4.1-2025-04-14";

/// Domains in which a language model judges some tasks.
const JUDGED: [&str; 2] = ["retail", "banking_knowledge"];

/// What an experiment requires of tau2.
#[derive(Debug, Clone)]
pub(crate) struct Tau2Setup<'a> {
    settings: &'a TauBenchSettings,
    config: &'a Config,
    /// The interpreter of an existing installation.
    python: Option<PathBuf>,
    /// The directory of an installation that is ready.
    ready: Option<PathBuf>,
    /// Why the directory that the environment names is not used.
    passed_over: Option<String>,
    /// The data directory; `None` when an existing installation does not say where it is.
    data: Option<PathBuf>,
    /// Where `prepare` puts the checkout.
    checkout: PathBuf,
}

impl<'a> Tau2Setup<'a> {
    /// What a configuration of this benchmark asks for.
    pub(crate) fn of(config: &'a Config, root: &Path, environment: &Environment) -> Tau2Setup<'a> {
        let settings: &TauBenchSettings = config.own();
        let path = |written: &str| match written.strip_prefix("~/") {
            Some(rest) => home(environment).map_or_else(|| PathBuf::from(written), |home| home.join(rest)),
            None => root.join(written),
        };
        let program = |written: &str| match written.contains('/') {
            true => path(written),
            false => find_program(environment, root, written).unwrap_or_else(|| root.join(written)),
        };
        let checkout = root.join(checkout::DIRECTORY).join(&settings.tau2_revision[..12]);
        let python = settings.tau2_python.as_deref().map(program);
        let (ready, passed_over) = match &python {
            Some(_) => (None, None),
            None => ready(environment, root, &settings.tau2_revision),
        };
        let data = match (&python, settings.tau2_data_dir.as_deref()) {
            (None, _) => Some(ready.as_ref().unwrap_or(&checkout).join("data")),
            (Some(_), Some(written)) => Some(path(written)),
            (Some(python), None) => {
                let named = environment.get(DATA_VARIABLE).filter(|value| !value.is_empty());
                named.map(path).or_else(|| checkout::data_of_editable(python))
            }
        };
        Tau2Setup { settings, config, python, ready, passed_over, data, checkout }
    }

    /// The settings of this benchmark.
    pub(crate) fn settings(&self) -> &'a TauBenchSettings {
        self.settings
    }

    /// The files that the configured domain is made of: what must stay as it was when the experiment was prepared. Each has
    /// a name that is the same wherever tau2 is, so that scores in a container and on its host compare.
    pub(crate) fn data_paths(&self) -> Vec<(String, PathBuf)> {
        let Some(data) = &self.data else { return Vec::new() };
        let named = |below: String| (format!("tau2:data/{below}"), data.join(below));
        let mut paths = vec![named(format!("tau2/domains/{}", domain_directory(&self.settings.domain)))];
        paths.extend(Some(named("tau2/user_simulator".into())).filter(|(_, path)| path.exists()));
        paths
    }

    /// The keys of the agent's, the user's and, where a model judges, the judge's provider.
    pub(crate) fn keys(&self) -> Vec<KeyRequirement> {
        let mut keys = vec![
            model_keys::requirement("agent model", self.config.agent_model.as_deref()),
            model_keys::requirement("user model", self.config.user_model.as_deref()),
        ];
        if let Some(judge) = self.judge() {
            let mut key = model_keys::requirement("judge model", Some(judge));
            if key.required && self.settings.judge_model.is_none() {
                key.fix = format!("{}; or set `judge_model:` in experiment_config.yaml", key.fix);
            }
            keys.push(key);
        }
        keys
    }

    /// The names of the variables that the benchmark may see although they look like secrets or come from `.env`.
    pub(crate) fn child_variables(&self) -> Vec<String> {
        let models = [self.config.agent_model.as_deref(), self.config.user_model.as_deref(), self.judge()];
        let mut names: Vec<String> =
            models.iter().flat_map(|model| model_keys::variables(*model)).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }

    fn judge(&self) -> Option<&str> {
        let judged = JUDGED.contains(&self.settings.domain.as_str());
        judged.then(|| self.settings.judge_model.as_deref().unwrap_or(TAU2_JUDGE))
    }

    fn spec(&self) -> Spec {
        // The path names the commit, so another commit is another environment.
        let requirements = format!("{REQUIREMENTS}\ntau2 @ {}\n", file_url(&self.checkout));
        Spec { name: "tau2", requirements, python: PYTHON, limit: python_env::LIMIT, megabytes: 400 }
    }
}

/// The directory that the environment names, when it holds the wanted commit; else why it is passed over.
fn ready(environment: &Environment, root: &Path, revision: &str) -> (Option<PathBuf>, Option<String>) {
    let Some(named) = environment.process(READY_VARIABLE).filter(|named| !named.is_empty()) else {
        return (None, None);
    };
    let place = root.join(named);
    let why = match fs_err::read_to_string(place.join("revision")) {
        Ok(has) if has.trim() == revision => return (Some(place), None),
        Ok(has) => format!("{} holds tau2 {}, not {revision}", place.display(), has.trim()),
        Err(error) => format!("{READY_VARIABLE} names no tau2: {error}"),
    };
    (None, Some(why))
}

/// The directory of a domain's data: some domains share one.
fn domain_directory(domain: &str) -> &str {
    if domain == "telecom-workflow" { "telecom" } else { domain }
}

fn file_url(path: &Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().iter().fold("file://".to_owned(), |mut url, byte| {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => url.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => url.push(char::from(*byte)),
            byte => {
                let _ = write!(url, "%{byte:02X}");
            }
        }
        url
    })
}

/// The data directory of the installation, checked.
fn data_of(setup: &Tau2Setup<'_>) -> Result<PathBuf, (String, String)> {
    let Some(data) = &setup.data else {
        let fix = format!(
            "set `tau2_data_dir:` in experiment_config.yaml, or {DATA_VARIABLE}, to the `data` directory of its checkout"
        );
        return Err((
            "`tau2_python` is set, but not where its data is, and tau2 is no editable installation".into(),
            fix,
        ));
    };
    let tasks = data.join("tau2/domains").join(domain_directory(&setup.settings.domain));
    if !tasks.is_dir() {
        let message = format!("{} has no data of the domain {}", data.display(), setup.settings.domain);
        return Err((message, "name the directory that has `tau2/domains` in it".into()));
    }
    Ok(data.clone())
}

/// The user's own installation, or what is wrong with it.
async fn own(
    setup: &Tau2Setup<'_>,
    python: &Path,
    around: &Surroundings<'_>,
) -> Result<Result<Tau2Install, (String, String)>> {
    let fix = "name the `python` of the environment that has tau2, or leave `tau2_python` out: then `autoharness prepare` provides one";
    let package = match examine(python, around).await? {
        Ok(package) => package,
        Err(why) => return Ok(Err((format!("tau2_python: {why}"), fix.into()))),
    };
    if let Some(fault) = fault(python, &package) {
        return Ok(Err(fault));
    }
    let release = package.version.unwrap_or_else(|| "unknown".into());
    Ok(data_of(setup).map(|data| Tau2Install {
        python: python.to_owned(),
        version: release.clone(),
        release,
        code: package.code,
        data,
    }))
}

/// The one that is ready, else the one that `prepare` provided earlier, if it is complete. Errors: usage when the one
/// that is ready cannot be used.
async fn provided(setup: &Tau2Setup<'_>, around: &Surroundings<'_>) -> Result<Option<Tau2Install>> {
    if let Some(place) = &setup.ready {
        let install = installed(setup, &place.join("venv/bin/python"), around).await?;
        return install.map(Some).map_err(|why| {
            Error::usage(format!("the tau2 in {} does not work: {why}", place.display())).code(Code::EnvironmentNotReady).hint(format!(
                "build the container image again, or unset {READY_VARIABLE}: then `autoharness prepare` provides tau2."
            ))
        });
    }
    match python_env::find(&setup.spec(), around.state) {
        Some(env) => Ok(installed(setup, &env.python, around).await?.ok()),
        None => Ok(None),
    }
}

/// The installation in an environment of the tool's own, or what is wrong with it.
async fn installed(
    setup: &Tau2Setup<'_>,
    python: &Path,
    around: &Surroundings<'_>,
) -> Result<Result<Tau2Install, String>> {
    let package = match examine(python, around).await? {
        Ok(package) => package,
        Err(why) => return Ok(Err(why)),
    };
    if let Some((message, _)) = fault(python, &package) {
        return Ok(Err(message));
    }
    let release = package.version.unwrap_or_else(|| "unknown".into());
    Ok(data_of(setup).map_err(|(message, _)| message).map(|data| Tau2Install {
        python: python.to_owned(),
        version: format!("{release} ({})", setup.settings.tau2_revision),
        release,
        code: package.code,
        data,
    }))
}

/// The tau2 to use: the configured one, else what `prepare` provided. Installs nothing.
/// Errors: usage when `tau2_python` or the environment names something that cannot be used; `Interrupted`.
pub(crate) async fn locate(setup: &Tau2Setup<'_>, around: &Surroundings<'_>) -> Result<Option<Tau2Install>> {
    match &setup.python {
        Some(python) => match own(setup, python, around).await? {
            Ok(install) => Ok(Some(install)),
            Err((message, fix)) => Err(Error::usage(message).code(Code::EnvironmentNotReady).hint(fix)),
        },
        None => provided(setup, around).await,
    }
}

/// As [`locate`], and fetches and installs tau2 when it is not there. Call it with the lock held.
pub(crate) async fn ensure(
    setup: &Tau2Setup<'_>,
    around: &Surroundings<'_>,
    say: &dyn Fn(String),
) -> Result<Tau2Install> {
    if let Some(install) = locate(setup, around).await? {
        probe::import(&install, around).await?;
        return Ok(install);
    }
    setup.passed_over.iter().for_each(|why| say(why.clone()));
    checkout::fetch(setup.settings, &setup.checkout, around, say).await?;
    let env = python_env::provision(&setup.spec(), around.state, around, say).await?;
    let install = installed(setup, &env.python, around).await?.map_err(|why| {
        let (checkout, bin) = (setup.checkout.display(), env.bin.display());
        Error::infrastructure(format!("the installed tau2 does not work: {why}"))
            .code(Code::InstallFailed)
            .hint(format!("remove {checkout} and {bin}, and run `autoharness prepare` again."))
    })?;
    probe::import(&install, around).await?;
    Ok(install)
}

/// What `doctor` shows and `prepare` insists on. Installs nothing: what `prepare` can provide is a warning.
pub(crate) async fn findings(setup: &Tau2Setup<'_>, around: &Surroundings<'_>) -> Result<Vec<Finding>> {
    let mut findings = vec![installation(setup, around).await?];
    findings.extend(quick(setup));
    for key in setup.keys() {
        findings.push(key.check(around).await?);
    }
    Ok(findings)
}

/// The part of [`findings`] that starts no process, without the keys.
pub(crate) fn quick(setup: &Tau2Setup<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if setup.config.agent_model.is_none() {
        findings.push(Finding::fail(
            "models",
            "`agent_model` is not set",
            "add for example `agent_model: gpt-5-mini` to experiment_config.yaml; the user's model is the same unless you set `user_model`",
        ));
    }
    if setup.settings.domain == "banking_knowledge" {
        findings.push(Finding::warn(
            "domain",
            "banking_knowledge has no split of its own: its tasks are split 70/30 by the baseline",
            "nothing to do; know that its scores compare with no published train/test numbers",
        ));
    }
    findings
}

async fn installation(setup: &Tau2Setup<'_>, around: &Surroundings<'_>) -> Result<Finding> {
    if let Some(python) = &setup.python {
        return Ok(match own(setup, python, around).await? {
            Ok(install) => Finding::ok(
                "tau2",
                format!("{} ({}), data in {}", install.version, install.python.display(), install.data.display()),
            ),
            Err((message, fix)) => Finding::fail("tau2", message, fix),
        });
    }
    match provided(setup, around).await {
        Ok(Some(install)) => {
            return Ok(Finding::ok("tau2", format!("{} ({})", install.version, install.python.display())));
        }
        Ok(None) => {}
        Err(error) if error.is_interruption() => return Err(error),
        Err(error) => return Ok(Finding::fail("tau2", error.to_string(), error.hints().join(" "))),
    }
    let passed_over = setup.passed_over.iter().map(|why| format!("; {why}")).collect::<String>();
    python_env::ahead("tau2", format!("not installed{passed_over}"), PYTHON, "fetches and installs it", around).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_urls() {
        assert_eq!(file_url(Path::new("/a b/ü#1/x-y_z.0")), "file:///a%20b/%C3%BC%231/x-y_z.0");
    }
}

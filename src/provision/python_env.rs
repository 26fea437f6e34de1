//! Pinned Python environments of the tool's own, below the state directory: made once, kept until the pins change.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::Surroundings;
use super::finding::Finding;
use super::installer::Install;
use super::need::find_program;
use super::python::{self, FoundPython, Range, Version};
use crate::error::{Code, Error, Result};
use crate::model::hash::hash;
use crate::store::atomic;

/// How long one installation may take, usually.
pub(crate) const LIMIT: Duration = Duration::from_secs(30 * 60);
/// Written last: an environment without it is half an installation.
const MARKER: &str = "complete.json";

/// What an environment is to hold.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its name, part of a directory's name: `harbor`.
    pub name: &'static str,
    /// A pip requirements file. When its packages have hashes, all must have one but those that are built from a directory
    /// (`name @ file://...`): these come last, without dependencies, and are built with what was installed before.
    pub requirements: String,
    /// The versions of Python that will do.
    pub python: Range,
    /// How long the installation may take; normally [`LIMIT`].
    pub limit: Duration,
    /// About what it takes on the disk, in MB: said when the disk is full.
    pub megabytes: u32,
}

/// A complete environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonEnv {
    pub python: PathBuf,
    /// The directory of its programs.
    pub bin: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    requirements: String,
    python: String,
    installer: String,
}

impl Spec {
    /// The requirements without comments, so that rewording one does not cost an installation.
    fn pins(&self) -> String {
        // A package is one line together with its hashes.
        let whole = self.requirements.replace("\\\n", " ");
        let lines = whole.lines().map(|line| line.split(" #").next().unwrap_or_default().trim());
        let mut pins: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        pins.sort_unstable();
        pins.join("\n") + "\n"
    }

    fn digest(&self) -> String {
        hash(self.pins().as_bytes())
    }

    /// What to install one after the other: a requirements file and the options that it needs. An installer that insists
    /// on hashes takes no directory, which has none.
    fn steps(&self) -> Vec<(String, &'static [&'static str])> {
        if !self.requirements.contains("--hash=") {
            return vec![(self.requirements.clone(), &[])];
        }
        let (built, locked): (Vec<&str>, Vec<&str>) =
            self.requirements.lines().partition(|line| line.contains(" @ file://"));
        let mut steps: Vec<(String, &[&str])> = vec![(locked.join("\n") + "\n", &["--require-hashes"])];
        if !built.is_empty() {
            // Building it must not fetch anything without a checked hash either.
            steps.push((built.join("\n") + "\n", &["--no-deps", "--no-build-isolation"]));
        }
        steps
    }
}

/// The environment for these pins if it is complete. Starts no process.
pub fn find(spec: &Spec, state: &Path) -> Option<PythonEnv> {
    let digest = spec.digest();
    let mut complete: Vec<PathBuf> = fs::read_dir(state.join("env"))
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{}-", spec.name)))
        .map(|entry| entry.path())
        .filter(|path| {
            let marker =
                fs::read(path.join(MARKER)).ok().and_then(|bytes| serde_json::from_slice::<Marker>(&bytes).ok());
            marker.is_some_and(|marker| {
                let fits = Version::parse(&marker.python).is_some_and(|version| spec.python.contains(version));
                marker.requirements == digest && fits
            })
            // An upgrade of the system's Python may have removed the interpreter.
            && path.join("bin/python").exists()
        })
        .collect();
    complete.sort();
    complete.pop().map(|path| at(&path))
}

fn at(directory: &Path) -> PythonEnv {
    let bin = directory.join("bin");
    PythonEnv { python: bin.join("python"), bin }
}

/// Finds the environment or makes it: with uv when there is one, else with `python -m venv` and pip. Call it with the
/// experiment's lock held. An interrupted installation is removed and done again.
///
/// `say` receives progress messages. The installer's output is in `logs/install-<name>.log` of the state directory.
///
/// # Errors
/// Usage when no interpreter is suitable and uv is not there to bring one; infrastructure when the installer fails or
/// takes longer than its limit; `Interrupted`.
pub async fn provision(
    spec: &Spec,
    state: &Path,
    around: &Surroundings<'_>,
    say: &dyn Fn(String),
) -> Result<PythonEnv> {
    if let Some(ready) = find(spec, state) {
        return Ok(ready);
    }
    let uv = find_program(around.environment, around.root, "uv");
    let search = python::search(spec.python, around).await?;
    let interpreter = search.found;
    if interpreter.is_none() && uv.is_none() {
        return Err(no_interpreter(spec, &search.rejected));
    }
    let version =
        interpreter.as_ref().map_or_else(|| format!("3.{}", spec.python.min), |found| found.version.to_string());
    let key = hash(format!("{}{version}", spec.pins()).as_bytes());
    // In place, because an environment cannot be moved: its programs name their interpreter by its whole path.
    let directory = state.join("env").join(format!("{}-{}", spec.name, &key[..12]));
    if directory.symlink_metadata().is_ok() {
        say(format!("removing an installation of {} that was interrupted", spec.name));
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    fs::create_dir_all(state.join("logs"))?;
    let log_path = state.join(format!("logs/install-{}.log", spec.name));
    let install = Install::new(spec.name, spec.megabytes, log_path, spec.limit, around, say);
    let installer = if uv.is_some() { "uv" } else { "pip" };
    say(format!("installing {} for Python {version} with {installer}; this takes a few minutes", spec.name));
    let made = build(spec, &directory, uv.as_deref(), interpreter.as_ref(), &install).await?;
    let marker = Marker { requirements: spec.digest(), python: made.version.to_string(), installer: installer.into() };
    let bytes =
        serde_json::to_vec(&marker).map_err(|error| Error::infrastructure("cannot render a marker").because(error))?;
    atomic::replace(&directory.join(MARKER), &bytes)?;
    say(format!("installed {} in {:.0} s", spec.name, install.elapsed().as_secs_f64()));
    Ok(at(&directory))
}

/// What `doctor` says about packages that `prepare` will install: that it can, and with what. `detail`: the present problem;
/// `does`: what `prepare` does about it.
pub(crate) async fn ahead(
    name: &'static str,
    mut detail: String,
    python: Range,
    does: &str,
    around: &Surroundings<'_>,
) -> Result<Finding> {
    let uv = find_program(around.environment, around.root, "uv");
    let search = python::search(python, around).await?;
    let with = match (search.found, uv) {
        (Some(found), _) => found.path.display().to_string(),
        (None, Some(uv)) => format!("{}, which downloads Python 3.{}", uv.display(), python.min),
        (None, None) => {
            search.rejected.iter().for_each(|why| detail.extend(["; ", why]));
            let fix = "install uv (https://docs.astral.sh/uv), or a newer Python; then `autoharness prepare`";
            return Ok(Finding::fail(name, format!("{detail}; no {python} to install it with"), fix));
        }
    };
    Ok(Finding::warn(name, detail, format!("autoharness prepare {does} (with {with})")))
}

async fn build(
    spec: &Spec,
    directory: &Path,
    uv: Option<&Path>,
    interpreter: Option<&FoundPython>,
    install: &Install<'_>,
) -> Result<FoundPython> {
    let environment = at(directory);
    match (uv, interpreter) {
        (Some(uv), _) => {
            // Without an interpreter on this machine, uv brings one.
            let python =
                interpreter.map_or_else(|| format!("3.{}", spec.python.min).into(), |found| found.path.clone().into());
            install
                .run(uv, &["venv".into(), "--allow-existing".into(), "--python".into(), python, directory.into()])
                .await?;
        }
        (None, Some(found)) => install.run(&found.path, &["-m".into(), "venv".into(), directory.into()]).await?,
        (None, None) => return Err(no_interpreter(spec, &[])),
    }
    for (number, (text, options)) in spec.steps().iter().enumerate() {
        let requirements = directory.join(format!("requirements-{}.txt", number + 1));
        atomic::replace_unsynced(&requirements, text.as_bytes())?;
        let mut arguments: Vec<OsString> = match uv {
            Some(_) => vec!["pip".into(), "install".into(), "--python".into(), environment.python.clone().into()],
            None => ["-m", "pip", "install", "--no-input", "--progress-bar", "off"].map(OsString::from).to_vec(),
        };
        arguments.extend(options.iter().map(OsString::from));
        arguments.extend(["-r".into(), requirements.into()]);
        install.run(uv.unwrap_or(&environment.python), &arguments).await?;
    }
    python::interrogate(&environment.python, install.around()).await?.ok_or_else(|| {
        Error::infrastructure(format!("the new Python in {} does not start", directory.display()))
            .code(Code::InstallFailed)
            .hint(format!("the whole log: {}", install.log_path().display()))
    })
}

fn no_interpreter(spec: &Spec, rejected: &[String]) -> Error {
    let seen = if rejected.is_empty() { String::new() } else { format!(" ({})", rejected.join("; ")) };
    Error::usage(format!("{} needs {}, and none was found{seen}", spec.name, spec.python)).code(Code::EnvironmentNotReady)
        .hint("install uv (https://docs.astral.sh/uv), which brings its own Python, or `apt install python3.12 python3.12-venv`, or `pyenv install 3.12`.")
}

/// Packages that say nothing about what an agent imports: installers bring them or not, as they like.
const INSTALLERS: [&str; 4] = ["pip", "setuptools", "uv", "wheel"];

/// The version of Python and the packages that an interpreter finds, as sorted `name==version` lines, read from the notes
/// beside them (`*.dist-info`). Starts no process. Empty for a program that is no interpreter but leads to one: a script, or
/// a shim of pyenv.
pub(crate) fn installed_packages(python: &Path) -> Vec<String> {
    let prefix = |python: &Path| Some(python.parent()?.parent()?.to_path_buf());
    let real = fs::canonicalize(python).ok();
    // Not the canonical path first: an environment's `python` is a link to that of the system.
    let own = prefix(python).filter(|prefix| prefix.join("pyvenv.cfg").is_file());
    let base = real.as_deref().and_then(prefix);
    let mut prefixes: Vec<PathBuf> = Vec::new();
    match own {
        Some(own) => {
            let notes = fs::read_to_string(own.join("pyvenv.cfg")).unwrap_or_default();
            let shares = notes.lines().filter_map(|line| line.split_once('=')).any(|(name, value)| {
                name.trim() == "include-system-site-packages" && value.trim().eq_ignore_ascii_case("true")
            });
            prefixes.push(own);
            prefixes.extend(base.filter(|_| shares));
        }
        None => prefixes.extend(base.or_else(|| prefix(python))),
    }
    // Debian keeps what pip installs apart.
    if prefixes.iter().any(|prefix| prefix == Path::new("/usr")) {
        prefixes.push("/usr/local".into());
    }
    // Several versions may share a prefix; the program's real name tells which one it is.
    let named = real.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let version = named.filter(|name| name.strip_prefix("python3.").is_some_and(|minor| minor.parse::<u32>().is_ok()));
    let mut found = std::collections::BTreeSet::new();
    for lib in prefixes.iter().flat_map(|prefix| ["lib", "lib64"].map(|lib| prefix.join(lib))) {
        for (name, path) in listing(&lib) {
            let mine = version.as_ref().map_or(name.starts_with("python3."), |version| name == *version);
            let packages = ["site-packages", "dist-packages"].map(|packages| path.join(packages));
            if mine && packages.iter().any(|packages| packages.is_dir()) {
                found.insert(name.replacen("python", "python==", 1));
            }
            if mine || name == "python3" {
                found.extend(
                    packages.iter().flat_map(|packages| listing(packages)).filter_map(|(name, _)| package(&name)),
                );
            }
        }
    }
    found.into_iter().collect()
}

fn listing(directory: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
}

/// `Foo.Bar-1.2.dist-info` as `foo-bar==1.2`; `None` for anything else, and for installers.
fn package(name: &str) -> Option<String> {
    let (name, version) = name.strip_suffix(".dist-info")?.split_once('-')?;
    let name = name.to_lowercase().replace(['_', '.'], "-");
    (!INSTALLERS.contains(&name.as_str())).then(|| format!("{name}=={version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_environment_holds_is_read_without_asking_it() {
        let directory = tempfile::tempdir().unwrap();
        let (system, venv) = (directory.path().join("system"), directory.path().join("venv"));
        let install = |prefix: &Path, python: &str, package: &str| {
            fs::create_dir_all(prefix.join("lib").join(python).join("site-packages").join(package)).unwrap();
        };
        for prefix in [&system, &venv] {
            fs::create_dir_all(prefix.join("bin")).unwrap();
        }
        fs::write(system.join("bin/python3.12"), "").unwrap();
        std::os::unix::fs::symlink(system.join("bin/python3.12"), venv.join("bin/python")).unwrap();
        install(&system, "python3.12", "base-9.dist-info");
        install(&system, "python3.13", "newer-1.dist-info");
        for package in ["LiteLLM-1.2.3.dist-info", "typing_extensions-4.0.dist-info", "pip-23.dist-info", "litellm"] {
            install(&venv, "python3.12", package);
        }
        let settings = |text: &str| fs::write(venv.join("pyvenv.cfg"), text).unwrap();
        settings("home = /x\ninclude-system-site-packages = false\n");
        let own = ["litellm==1.2.3", "python==3.12", "typing-extensions==4.0"];
        assert_eq!(installed_packages(&venv.join("bin/python")), own);
        assert_eq!(installed_packages(&system.join("bin/python3.12")), ["base==9", "python==3.12"]);
        settings("include-system-site-packages = true\n");
        assert_eq!(installed_packages(&venv.join("bin/python")), [&["base==9"], &own[..]].concat());
        assert!(installed_packages(Path::new("/nonexistent/bin/python")).is_empty());
    }

    #[test]
    fn a_reworded_comment_costs_nothing() {
        let spec = |text: &str| Spec {
            name: "x",
            requirements: text.into(),
            python: Range { min: 12, below: 14 },
            limit: LIMIT,
            megabytes: 1,
        };
        assert_eq!(spec("# one\na==1\nb==2\n").digest(), spec("b==2\n\na==1 # why\n").digest());
        assert_ne!(spec("a==1\n").digest(), spec("a==2\n").digest());
    }
}

//! Whether the tau2 beside an interpreter is the right one, and whether it works.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::config::TauBenchSettings;
use crate::error::Result;
use crate::process::{Command, Limits, run_captured};
use crate::provision::Surroundings;
use crate::provision::need::ask;

/// Names the data directory to tau2.
pub const DATA_VARIABLE: &str = "TAU2_DATA_DIR";

/// tau2, ready to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tau2Install {
    /// The interpreter it is installed for.
    pub python: PathBuf,
    /// Its version, and its commit where that is known.
    pub version: String,
    /// Its version alone, which is the same wherever it is installed.
    pub release: String,
    /// SHA-256 over its source files.
    pub code: String,
    pub data: PathBuf,
}

/// How long importing tau2 may take, in seconds: 5 to 15 usually.
const IMPORT_SECONDS: u64 = 300;

/// What an interpreter said about the tau2 beside it.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    /// What its metadata says.
    pub(super) version: Option<String>,
    /// Where the package is; `None` when there is none.
    place: Option<PathBuf>,
    /// Whether it is the right one: PyPI's `tau2` (<https://pypi.org/project/tau2/>) has no registry of domains.
    registry: bool,
    litellm: bool,
    audioop: bool,
    /// SHA-256 over its source files.
    pub(super) code: String,
}

/// Imports nothing: importing tau2 takes seconds.
const PROBE: &str = "\
import hashlib, importlib.metadata as metadata, importlib.util as util, json, os
def find(name):
    try: return util.find_spec(name)
    except Exception: return None
def version():
    try: return metadata.version('tau2')
    except metadata.PackageNotFoundError: return None
spec = find('tau2')
place = next(iter(spec.submodule_search_locations or ()), None) if spec else None
code = hashlib.sha256()
names = []
for directory, below, files in os.walk(place) if place else ():
    names += [os.path.join(directory, name) for name in files if name.endswith('.py')]
for name in sorted(names):
    with open(name, 'rb') as file: data = file.read()
    code.update(('%s %d\\n' % (os.path.relpath(name, place), len(data))).encode())
    code.update(data)
print(json.dumps({'version': version(), 'place': place,
    'registry': bool(place) and os.path.isfile(os.path.join(place, 'registry.py')), 'litellm': find('litellm') is not None, 'audioop': find('audioop') is not None,
    'code': code.hexdigest()}))
";

/// What is installed beside an interpreter, or why it cannot say.
pub(super) async fn examine(python: &Path, around: &Surroundings<'_>) -> Result<Result<Package, String>> {
    if !python.is_file() {
        return Ok(Err(format!("there is no program {}", python.display())));
    }
    let Some(said) = ask(python, &["-c", PROBE], around).await? else {
        return Ok(Err(format!("{} does not answer", python.display())));
    };
    Ok(serde_json::from_slice(&said.stdout)
        .map_err(|_| format!("{} does not work as a Python ({})", python.display(), said.exit)))
}

/// What is wrong with an installation, with its remedy.
pub(super) fn fault(python: &Path, package: &Package) -> Option<(String, String)> {
    let from_git = |what: &str| {
        format!("{} -m pip install {what}'git+{}'", python.display(), TauBenchSettings::default().tau2_repository)
    };
    let Some(place) = &package.place else {
        return Some((format!("{} has no tau2 beside it", python.display()), from_git("")));
    };
    if !package.registry {
        let version = package.version.as_deref().unwrap_or("of unknown version");
        let message = format!(
            "{} has another project of the same name ({version}): the tau2 on PyPI computes magnetic relaxation rates",
            place.display()
        );
        return Some((message, from_git("--force-reinstall ")));
    }
    if !package.litellm {
        // tau2's own bound: somebody else published 1.82.7 and 1.82.8 (https://github.com/BerriAI/litellm/pull/24537).
        let fix = format!("{} -m pip install 'litellm<1.82.7'", python.display());
        return Some((format!("{} has no litellm, so it cannot call models", python.display()), fix));
    }
    if !package.audioop {
        let fix = format!("{} -m pip install audioop-lts, or use Python 3.12", python.display());
        return Some((format!("{} has no module audioop, which tau2 imports", python.display()), fix));
    }
    None
}

/// Imports tau2 once, which takes seconds: what fails here would fail every trial.
/// Errors: infrastructure when it cannot be imported; `Interrupted`.
pub(super) async fn import(install: &Tau2Install, around: &Surroundings<'_>) -> Result<()> {
    let own = [
        (DATA_VARIABLE.into(), install.data.clone().into()),
        ("LITELLM_LOCAL_MODEL_COST_MAP".into(), "True".into()),
        // tau2 would load a .env from any directory above it:
        // https://github.com/sierra-research/tau2-bench/blob/a2c024725189473d2d7cea3a5cfdbcc67478e41f/src/tau2/utils/utils.py#L13
        ("PYTHON_DOTENV_DISABLED".into(), "1".into()),
    ];
    let command = Command::new(&install.python, "/")
        .args(["-B", "-c", "import tau2.registry"])
        .env(around.environment.for_child(&[], &own));
    run_captured(around.supervisor, command, Limits::seconds(IMPORT_SECONDS), around.cancel)
        .await?
        .check(&format!("import tau2 with {}", install.python.display()))
        .map_err(|error| {
            error.hint("install what is missing, or leave `tau2_python` out: then `autoharness prepare` provides tau2.")
        })?;
    Ok(())
}

//! A machine of its own for tests of provisioning: a PATH of fakes, a home, a state directory.
#![allow(unreachable_pub, reason = "shared by a test file")]

use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use autoharness::internals::config::Environment;
use autoharness::internals::error::Error;
use autoharness::internals::process::Supervisor;
use autoharness::internals::process::signals::{Cancel, Trigger};
use autoharness::internals::provision::Surroundings;
use autoharness::internals::provision::python_env::{self, PythonEnv, Spec};
use fs_err as fs;

/// Programs that the fakes below use; nothing else is on their PATH, least of all a real Python.
const TOOLS: [&str; 9] = ["sh", "cat", "cp", "mkdir", "env", "dirname", "touch", "sleep", "rm"];

/// A machine of its own: a PATH of fakes, a home, a state directory.
pub struct Machine {
    pub directory: tempfile::TempDir,
    pub supervisor: Supervisor,
    pub cancel: Cancel,
    _trigger: Trigger,
    variables: Vec<(String, String)>,
    pub state: PathBuf,
    pub said: RefCell<Vec<String>>,
}

impl Machine {
    pub fn new() -> Machine {
        let directory = tempfile::Builder::new().prefix("autoharness-test-").tempdir().expect("a directory");
        for name in ["bin", "tools", "home", "state"] {
            fs::create_dir(directory.path().join(name)).expect("a directory");
        }
        for tool in TOOLS {
            let link = directory.path().join("tools").join(tool);
            fs::os::unix::fs::symlink(which::which(tool).expect(tool), link).expect("a link");
        }
        let supervisor =
            Supervisor::with_watcher(directory.path().join("processes"), env!("CARGO_BIN_EXE_autoharness"));
        let (trigger, cancel) = Cancel::manual();
        let (state, said) = (directory.path().join("state"), RefCell::default());
        Machine { directory, supervisor, cancel, _trigger: trigger, variables: Vec::new(), state, said }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn set(mut self, name: &str, value: &str) -> Machine {
        self.variables.push((name.into(), value.into()));
        self
    }

    pub fn environment(&self) -> Environment {
        let path = format!("{}:{}", self.path("bin").display(), self.path("tools").display());
        let own = [("PATH".to_string(), path), ("HOME".into(), self.path("home").display().to_string())];
        let all = own.into_iter().chain(self.variables.clone());
        let all = all.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Environment::with_process(all, &self.path("home")).expect("an environment")
    }

    pub fn program(&self, name: &str, script: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, script).expect("a script");
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    /// An interpreter that says this version, makes environments, and installs with a `pip` that obeys files in the
    /// machine's directory: `pip-fails` (says its content and fails), `pip-hangs`, `packages` (what the probe finds).
    pub fn python(&self, name: &str, version: &str) {
        self.program(&format!("bin/{name}"), &self.python_script(version));
    }

    pub fn python_script(&self, version: &str) -> String {
        format!(
            r##"#!/bin/sh
here='{here}'
case "$*" in
*sys.executable*) echo {version}; echo "$0" ;;
"-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo "venv" >> "$here/ran" ;;
"-m pip install "*)
    echo "pip" >> "$here/ran"
    echo "$*" >> "$here/pip-arguments"
    env > "$here/pip-environment"
    echo "Looking in indexes: $PIP_INDEX_URL"
    if [ -e "$here/pip-hangs" ]; then sleep 600; fi
    if [ -e "$here/pip-fails" ]; then cat "$here/pip-fails" >&2; exit 1; fi
    for last; do :; done
    cat "$last" >> "$here/pip-requirements"
    cp "$last" "$here/requirements"
    echo "#!$0" > "$(dirname "$0")/harbor" ;;
"-c import importlib"*) cat "$here/packages" ;;
*) echo "unexpected: $*" >&2; exit 9 ;;
esac
"##,
            here = self.directory.path().display()
        )
    }

    pub fn packages(&self, harbor: &str, mcp: bool, sdk: bool) {
        let text = format!(
            r#"{{"python": "3.12.4", "harbor": "{harbor}", "litellm": "1.106.2", "mcp": {mcp}, "sdk": {sdk}}}"#
        );
        fs::write(self.path("packages"), text).expect("a file");
    }

    /// What the fakes were asked to do since the last call.
    pub fn ran(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("ran")).unwrap_or_default();
        let _ = fs::remove_file(self.path("ran"));
        text.lines().map(str::to_owned).collect()
    }

    pub async fn provision(&self, spec: &Spec) -> Result<PythonEnv, Error> {
        let environment = self.environment();
        let say = |line: String| self.said.borrow_mut().push(line);
        python_env::provision(spec, &self.state, &self.around(&environment), &say).await
    }

    pub fn around<'a>(&'a self, environment: &'a Environment) -> Surroundings<'a> {
        Surroundings {
            root: self.directory.path(),
            state: &self.state,
            environment,
            supervisor: &self.supervisor,
            cancel: &self.cancel,
        }
    }
}

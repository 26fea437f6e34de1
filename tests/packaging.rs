//! What is released agrees with Cargo.toml, and the installer replaces a program by one that is whole and runs, or by nothing.
//! `.ci/packaging.sh` builds and installs the real program.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

use std::env::consts::{ARCH, OS};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Done, skipped};
use sha2::{Digest as _, Sha256};

const INSTALLER: &str = include_str!("../packaging/install.sh");
const WORKFLOW: &str = include_str!("../.github/workflows/release.yml");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A home, a place to download from and what is installed.
struct Machine {
    directory: tempfile::TempDir,
    path: String,
}

impl Machine {
    /// None, with a line that says why, where the installer cannot be tried.
    fn new() -> Option<Machine> {
        if which::which("curl").is_err() {
            skipped("there is no curl");
            return None;
        }
        if !["linux", "macos"].contains(&OS) || !["x86_64", "aarch64"].contains(&ARCH) {
            skipped("no release is made for this platform");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        fs_err::create_dir(directory.path().join("home")).unwrap();
        Some(Machine { directory, path: std::env::var("PATH").unwrap() })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Puts up a release whose program is this shell script.
    fn release(&self, version: &str, program: &str) -> PathBuf {
        let name = format!("autoharness-{version}-{OS}-{ARCH}");
        write_program(&self.at(&name).join("autoharness"), program);
        let archive = self.at(&format!("releases/v{version}/{name}.tar.gz"));
        fs_err::create_dir_all(archive.parent().unwrap()).unwrap();
        let mut tar = Command::new("tar");
        assert!(tar.arg("-czf").arg(&archive).arg(&name).current_dir(self.at("")).status().unwrap().success());
        let digest: String =
            Sha256::digest(fs_err::read(&archive).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
        fs_err::write(archive.with_extension("gz.sha256"), format!("{digest}  {name}.tar.gz\n")).unwrap();
        archive
    }

    fn install(&self, words: &[&str], environment: &[(&str, &str)]) -> Done {
        let mut command = Command::new("sh");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/install.sh")).args(words);
        command.current_dir(self.at("")).env_clear().env("HOME", self.at("home")).env("PATH", &self.path);
        command.env("AUTOHARNESS_DOWNLOADS", format!("file://{}", self.at("releases").display()));
        let output = command.envs(environment.iter().copied()).output().unwrap();
        Done {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What the installed program says, when it is the only file beside which nothing was left.
    fn installed(&self, directory: &str) -> String {
        let names: Vec<_> = fs_err::read_dir(self.at(directory)).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["autoharness"]);
        let output = Command::new(self.at(directory).join("autoharness")).arg("--version").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn write_program(path: &Path, text: &str) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, text).unwrap();
    fs_err::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

const RUNS: &str = "#!/bin/sh\necho autoharness 9.9.9\n";

#[test]
fn the_installer_puts_a_release_into_the_home_and_says_what_path_lacks() {
    let Some(mut machine) = Machine::new() else { return };
    machine.release("9.9.9", RUNS);
    let bin = machine.at("home/.local/bin").canonicalize();
    assert!(bin.is_err(), "{bin:?} is there already");
    let done = machine.install(&["9.9.9"], &[]).expect(0);
    let bin = machine.at("home/.local/bin").canonicalize().unwrap().display().to_string();
    done.says("installed autoharness 9.9.9: ").says(&format!("    export PATH=\"{bin}:$PATH\"\n"));
    assert_eq!(machine.installed("home/.local/bin"), "autoharness 9.9.9\n");

    machine.path = format!("{bin}:{}", machine.path);
    let again = machine.install(&["v9.9.9"], &[]).expect(0);
    assert_eq!(again.stdout.lines().count(), 1, "{}", again.stdout);

    write_program(&machine.at("first/autoharness"), RUNS);
    machine.path = format!("{}:{}", machine.at("first").display(), machine.path);
    machine
        .install(&["9.9.9"], &[])
        .expect(0)
        .says("another one comes first on your PATH: ")
        .says("/first/autoharness\n");
}

#[test]
fn the_installer_takes_this_version_and_another_directory() {
    let Some(machine) = Machine::new() else { return };
    machine.release(VERSION, RUNS);
    machine.install(&[], &[("AUTOHARNESS_INSTALL_DIR", "some/tools")]).expect(0).says("/some/tools/autoharness\n");
    machine.installed("some/tools");
}

#[test]
fn the_installer_keeps_the_old_program_when_the_new_one_is_not_good() {
    let Some(machine) = Machine::new() else { return };
    machine.release("9.9.9", RUNS);
    machine.install(&["9.9.9"], &[]).expect(0);

    let archive = machine.release("9.9.10", "#!/bin/sh\necho autoharness 9.9.10\n");
    let whole = fs_err::read(&archive).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    for bytes in [&changed, &whole[..whole.len() / 2], &[]] {
        fs_err::write(&archive, bytes).unwrap();
        machine.install(&["9.9.10"], &[]).expect(1).warns("install.sh: the SHA-256 of ").warns("nothing was installed");
        assert_eq!(machine.installed("home/.local/bin"), "autoharness 9.9.9\n");
    }
    fs_err::write(&archive, &whole).unwrap();
    let checksum = archive.with_extension("gz.sha256");
    fs_err::write(&checksum, "").unwrap();
    machine.install(&["9.9.10"], &[]).expect(1).warns("should be in the .sha256 file; nothing was installed");
    fs_err::remove_file(&checksum).unwrap();
    machine.install(&["9.9.10"], &[]).expect(1).warns("cannot download file://").warns("nothing was installed");
    assert_eq!(machine.installed("home/.local/bin"), "autoharness 9.9.9\n");

    machine.release("9.9.11", "#!/bin/sh\nexit 1\n");
    machine.install(&["9.9.11"], &[]).expect(1).warns("does not run on this machine; nothing was installed");
    assert_eq!(machine.installed("home/.local/bin"), "autoharness 9.9.9\n");

    write_program(&machine.at("other/uname"), "#!/bin/sh\necho Plan9\n");
    let path = format!("{}:{}", machine.at("other").display(), machine.path);
    machine.install(&["9.9.9"], &[("PATH", &path)]).expect(1).warns("no release is made for Plan9 on Plan9; ");
}

#[test]
fn the_installer_of_a_version_installs_that_version_from_the_projects_releases() {
    assert!(INSTALLER.contains(&format!("version=${{1:-{VERSION}}}\n")));
    assert!(INSTALLER.contains(concat!(
        "{AUTOHARNESS_DOWNLOADS:-",
        env!("CARGO_PKG_REPOSITORY"),
        "/releases/download}"
    )));
}

#[test]
fn every_platform_of_the_installer_is_built_and_no_other() {
    let targets = WORKFLOW.lines().filter_map(|line| line.split_once(", target: ")?.1.strip_suffix(" }"));
    let mut built: Vec<String> = targets
        .map(|target| {
            let (machine, rest) = target.split_once('-').unwrap();
            let system = match rest {
                "unknown-linux-musl" => "linux",
                "apple-darwin" => "macos",
                rest => panic!("{rest} is not static, or unknown to the installer"),
            };
            format!("{system}-{machine}")
        })
        .collect();
    let offered = INSTALLER.lines().filter_map(|line| line.split_once(") platform=")?.1.strip_suffix(" ;;"));
    let mut offered: Vec<&str> = offered.collect();
    built.sort();
    offered.sort_unstable();
    assert_eq!(built, offered);
    assert_eq!(built.len(), 4);
}

#[test]
fn the_wheel_takes_its_version_from_the_manifest() {
    let project = include_str!("../pyproject.toml");
    let value = |key: &str| project.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
    assert_eq!(value("name"), Some("\"autoharness-cli\""));
    assert_eq!(value("version"), None);
    assert!(value("dynamic").unwrap().contains("\"version\""));
    assert_eq!(value("requires-python"), Some("\">=3.9\""));
    assert!(include_str!("../README.md").contains("Python 3.9 or newer"));
    let name = value("name").unwrap().trim_matches('"');
    assert!(include_str!("../packaging/pypi.md").contains(&format!("uvx --from {name} autoharness demo\n")));
}

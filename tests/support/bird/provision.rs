//! What `prepare` needs for bird-interact, stood in for: a repository on disk behind git's own `insteadOf`, a docker that only
//! takes notes, programs of our own in front of the PATH.
#![allow(unreachable_pub, dead_code, reason = "every test file uses its own part of the rig")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{Bed, Done, done};

pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/bird")
}

/// What a program prints; it must succeed.
#[track_caller]
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

pub fn which(program: &str) -> Option<PathBuf> {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    found.status.success().then(|| PathBuf::from(path.trim()))
}

/// The program `psql` itself, of the newest server there is. Debian's is a script that looks for it, for five times as long.
pub fn psql() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.map(|entry| entry.path()).filter(|path| path.join("bin/psql").exists()).max_by_key(number);
    newest.map_or_else(|| which("psql").unwrap_or_else(|| "/usr/bin/psql".into()), |path| path.join("bin/psql"))
}

pub use crate::support::skipped;

/// An experiment beside a checkout of the services, with programs of our own in front of the PATH, and no docker.
pub struct Rig {
    pub bed: Bed,
    /// Where the container says on which port it listens: not in the bed, whose processes are counted.
    aside: tempfile::TempDir,
}

impl Rig {
    pub fn new(config: &str) -> Rig {
        let bed = Bed::empty();
        bed.run(&["init", "--benchmark", "bird-interact"]).expect(0);
        bed.write(".env", "OPENAI_API_KEY=scripted-key\n");
        let rig = Rig { bed, aside: tempfile::tempdir().unwrap() };
        output(Command::new("cp").arg("-r").arg(sources().join("adk")).arg(rig.path("adk")));
        output(Command::new("cp").arg(sources().join("merge.py")).arg(rig.path("combine_public_with_gt.py")));
        rig.configure(config);
        rig.program("docker", "echo 'Cannot connect to the Docker daemon. Is the docker daemon running?' >&2; exit 1");
        // Says that every package is there, which shows to be untrue only when the agent is imported.
        rig.program("services-python", "if [ \"$1\" = -c ]; then exit 0; fi\nexec python3 \"$@\"");
        // The container's port is fixed, and may be anybody's on this machine: psql is led to the one that is meant.
        let (port, psql) = (rig.port(), psql());
        rig.program(
            "psql",
            &format!(
                "port=$(cat {} 2>/dev/null || echo 1)\nfor word; do shift; case $word in 5432|5433) word=$port;; esac\n\
                 set -- \"$@\" \"$word\"; done\nexec {} \"$@\"",
                port.display(),
                psql.display()
            ),
        );
        for tool in ["createdb", "dropdb"] {
            rig.program(tool, "exit 1");
        }
        rig
    }

    pub fn configure(&self, config: &str) {
        let adk = self.path("adk");
        self.bed.write(
            "experiment_config.yaml",
            &format!(
                "benchmark: bird-interact\nagent_model: openai/x\nbird_repo: {}\nbird_python_bin: {}\n{config}",
                adk.display(),
                self.path("bin/services-python").display()
            ),
        );
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.bed.outside().canonicalize().unwrap().join(name)
    }

    pub fn port(&self) -> PathBuf {
        self.aside.path().join("port")
    }

    pub fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bed.command(arguments);
        let path = command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_os_string();
        let paths = [self.path("bin")].into_iter().chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(paths).unwrap());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        done(self.command(arguments).output().unwrap())
    }

    /// The whole set beside the tasks, with or without the ground truth; returns the file.
    pub fn tasks(&self, directory: &Path, code: &str) -> PathBuf {
        let code = format!("import sys, tasks; print(tasks.write(sys.argv[1], {code}))");
        let mut command = Command::new(crate::support::python());
        command.args(["-B", "-c", &code]).arg(directory).env("PYTHONPATH", sources());
        output(&mut command).into()
    }

    /// With the ground truth, as someone who has merged it.
    pub fn merged(&self) -> String {
        let file = self.tasks(&self.path("merged"), "tasks.TASKS");
        format!("bird_data_path: {}\n", file.display())
    }

    /// The public set in a repository with git-lfs; git is told to go there. False, said so, without git-lfs.
    pub fn hub(&self) -> bool {
        if which("git-lfs").is_none() {
            skipped("git-lfs is not installed (Debian: apt-get install git-lfs)");
            return false;
        }
        let repository = self.path("hub/datasets/birdsql/bird-interact-lite");
        self.tasks(&repository, "[tasks.public(t) for t in tasks.TASKS]");
        let git = |arguments: &[&str]| {
            let home = self.path("home");
            let mut git = Command::new("git");
            git.args(["-c", "user.name=a", "-c", "user.email=a@b"])
                .args(arguments)
                .current_dir(&repository)
                .env("HOME", home);
            output(git.env("GIT_CONFIG_NOSYSTEM", "1"));
        };
        git(&["init", "-q", "-b", "main"]);
        git(&["lfs", "install", "--local"]);
        git(&["lfs", "track", "*.jsonl", "*_schema.txt"]);
        git(&["add", "-A"]);
        git(&["commit", "-qm", "data"]);
        self.mirror(&self.path("hub"));
        true
    }

    pub fn mirror(&self, directory: &Path) {
        let text = format!("[url \"file://{}/\"]\n\tinsteadOf = https://huggingface.co/\n", directory.display());
        std::fs::write(self.path("home/.gitconfig"), text).unwrap();
    }

    /// From now on docker works, and takes notes.
    pub fn docker(&self) {
        std::fs::create_dir_all(self.path("docker")).unwrap();
        let script = self.path("docker/docker.py");
        std::fs::copy(sources().join("docker.py"), &script).unwrap();
        self.program("docker", &format!("exec python3 -B {} \"$@\"", script.display()));
    }

    pub fn refuses(&self, words: &str, status: u8, text: &str) {
        std::fs::write(self.path("docker/refuses"), json!({words: [status, text]}).to_string()).unwrap();
    }

    /// What docker was asked since the last call, apart from questions.
    pub fn started(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("docker/calls")).unwrap_or_default();
        let _ = std::fs::remove_file(self.path("docker/calls"));
        let asks =
            |line: &&str| !line.starts_with("inspect") && *line != "compose version" && !line.starts_with("logs");
        let above = format!("{}/", self.bed.outside().canonicalize().unwrap().display());
        text.lines().filter(asks).map(|line| line.replace(&above, "")).collect()
    }
}

//! A bed for tests: a temporary home, a real git repository, the real binary.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "every test file uses its own part of the bed")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

pub mod bird;
pub mod harbor;
pub mod place;
pub mod running;
pub mod signals;
mod skip;
mod stock;
pub mod table;
pub mod tau;
pub mod terminal;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub use skip::skipped;

use serde_json::{Value, json};

/// What a command did.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Asserts the exit code, showing everything when it is another one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Done {
        assert_eq!(self.code, code, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that stdout has this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Done {
        assert!(self.stdout.contains(text), "stdout lacks {text:?}:\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that stderr has this text.
    #[track_caller]
    pub fn warns(self, text: &str) -> Done {
        assert!(self.stderr.contains(text), "stderr lacks {text:?}:\n{}\n--- stdout\n{}", self.stderr, self.stdout);
        self
    }

    /// The JSON objects on stdout.
    pub fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A temporary directory with a home and an experiment in `root`.
pub struct Bed {
    directory: tempfile::TempDir,
    pub root: PathBuf,
}

impl Bed {
    /// An empty directory; nothing is initialised.
    pub fn empty() -> Bed {
        let directory = tempfile::Builder::new().prefix("autoharness-test-").tempdir_in(place::place()).unwrap();
        let root = directory.path().canonicalize().unwrap().join("experiment");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::create_dir_all(directory.path().join("home")).unwrap();
        Bed { directory, root }
    }

    /// What `make` makes of an empty bed; the second time in a process that it is asked for by this name, a copy. For what many
    /// tests begin with and none of these is about; nothing in it that has a hash may name its place.
    pub fn stocked(name: &str, make: impl FnOnce() -> Bed) -> Bed {
        let mut made = None;
        let kept = stock::kept(name, || stock::Contents::read(made.insert(make()).outside()));
        made.unwrap_or_else(|| {
            let bed = Bed::empty();
            kept.get().unwrap().write(bed.outside());
            bed
        })
    }

    /// A committed `command` experiment over `table_bench.py`, not prepared. `options` replace the defaults of the same
    /// name; `config` is appended to experiment_config.yaml.
    pub fn table(options: Value, config: &str) -> Bed {
        let bed = Bed::stocked("repository", || {
            let bed = Bed::empty();
            bed.write("bench.py", &table::program());
            bed.write("agent/agent.py", "SKILLS = {\"easy\"}\n");
            bed.write(".gitignore", "/workspace/\n/experiment_config.yaml\n.env\n__pycache__/\n*.pyc\n");
            bed.git(&["init", "-q", "-b", "main"]);
            bed.git(&["add", "-A"]);
            bed.git(&["commit", "-qm", "start"]);
            bed
        });
        bed.configure(options, config);
        bed
    }

    fn configure(&self, options: Value, config: &str) {
        // Below the home directory, where every bed has them: nothing in an experiment names its bed.
        let mut merged = json!({"tasks": {
            "train": ["easy-1", "easy-2", "hard-1", "hard-2", "odd-1", "odd-2"],
            "test": ["easy-3", "easy-4", "hard-3", "hard-4"],
        }, "log": "~/../ran.log", "mood": "~/../mood.json", "tasks_file": "~/../tasks.json"});
        let merged_map = merged.as_object_mut().unwrap();
        merged_map.extend(options.as_object().unwrap().clone());
        // The tasks are in a file outside, so that nothing in the work tree names a hold-out task but what a leak put there.
        let tasks = merged_map.remove("tasks").unwrap();
        std::fs::write(self.outside().join("tasks.json"), tasks.to_string()).unwrap();
        let yaml = format!("benchmark: command\ncommand: [python3, bench.py]\noptions: {merged}\n{config}\n");
        self.write("experiment_config.yaml", &yaml);
    }

    /// A fresh `command` experiment made by `init`.
    pub fn initialised() -> Bed {
        Bed::stocked("init", || {
            let bed = Bed::empty();
            bed.run(&["init", "--benchmark", "command"]).expect(0);
            bed
        })
    }

    /// Like [`Bed::table`], prepared.
    pub fn prepared(options: Value, config: &str) -> Bed {
        let name = format!("prepared {options} {config}");
        Bed::stocked(&name, || {
            let bed = Bed::table(options, config);
            bed.run(&["prepare"]).expect(0);
            bed
        })
    }

    /// Prepared, one edit accepted, one rejected and reverted.
    pub fn session() -> Bed {
        Bed::stocked("session", || {
            let bed = Bed::prepared(json!({}), "");
            bed.accept(&["easy", "hard"]);
            bed.agent(&["easy", "odd"]);
            bed.run(&["gate"]).expect(1);
            bed.git(&["checkout", "-q", "--", "agent/agent.py"]);
            bed
        })
    }

    /// The ledger.
    pub fn ledger(&self) -> PathBuf {
        self.state().join("ledger.jsonl")
    }

    /// The lines of the ledger.
    pub fn ledger_lines(&self) -> Vec<String> {
        std::fs::read_to_string(self.ledger()).unwrap().lines().map(str::to_string).collect()
    }

    /// Replaces the ledger.
    pub fn write_ledger(&self, lines: &[String]) {
        std::fs::write(self.ledger(), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }

    /// Changes events the way somebody would who knows the format: chain recomputed, checkpoint gone.
    pub fn forge(&self, change: impl FnOnce(&mut Vec<Value>)) {
        let mut entries: Vec<Value> =
            self.ledger_lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        change(&mut entries);
        let mut previous = autoharness::internals::store::ledger::GENESIS.to_string();
        let mut lines = Vec::new();
        for (seq, mut entry) in entries.into_iter().enumerate() {
            entry["seq"] = json!(seq);
            entry["prev"] = json!(previous);
            let line = entry.to_string();
            previous = autoharness::internals::model::hash::hash(line.as_bytes());
            lines.push(line);
        }
        self.write_ledger(&lines);
        std::fs::remove_file(self.state().join("checkpoint.json")).unwrap();
        self.run(&["verify", "--restore"]);
    }

    /// The temporary directory that holds everything.
    pub fn outside(&self) -> &Path {
        self.directory.path()
    }

    /// Where `table_bench.py` writes what it ran.
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("ran.log")
    }

    /// The trials that were run since the last call, as `task trial` lines.
    pub fn ran(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let _ = std::fs::remove_file(self.log());
        text.lines().map(str::to_string).collect()
    }

    /// What the benchmark was asked to run since the last call.
    pub fn requests(&self) -> Vec<Value> {
        let path = self.directory.path().join("ran.log.requests");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until the benchmark has been asked to run something, by this child.
    #[track_caller]
    pub fn wait_for_request(&self, child: &mut std::process::Child) {
        let path = self.directory.path().join("ran.log.requests");
        while !std::fs::read(&path).is_ok_and(|text| text.ends_with(b"\n")) {
            assert!(child.try_wait().unwrap().is_none(), "the command ended early");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Replaces options of `table_bench.py` from now on, without touching the experiment; `null` takes that back.
    pub fn mood(&self, mood: Value) {
        let path = self.outside().join("mood.json");
        if mood.is_null() {
            let _ = std::fs::remove_file(path);
        } else {
            std::fs::write(path, mood.to_string()).unwrap();
        }
    }

    /// The four views, `None` where there is none.
    pub fn views(&self) -> Vec<Option<String>> {
        let names = ["suite.json", "train_results.json", "results.tsv", "gate.json"];
        names.iter().map(|name| std::fs::read_to_string(self.root.join("workspace").join(name)).ok()).collect()
    }

    /// Has the gate pass an agent with these skills, commits and records it.
    #[track_caller]
    pub fn accept(&self, skills: &[&str]) {
        self.agent(skills);
        self.run(&["gate"]).expect(0);
        self.commit_agent();
        self.run(&["record"]).expect(0);
        self.ran();
        self.requests();
    }

    /// Files of the work tree, outside `.git/autoharness`, that hold one of these words in their name or content.
    pub fn files_with(&self, words: &[&str]) -> Vec<PathBuf> {
        let has = |bytes: &[u8]| words.iter().any(|word| bytes.windows(word.len()).any(|part| part == word.as_bytes()));
        let mut found = Vec::new();
        let mut pending = vec![self.root.clone()];
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path == self.state() {
                    continue;
                }
                let name = path.file_name().unwrap().as_encoded_bytes().to_vec();
                if has(&name) || (path.is_file() && has(&std::fs::read(&path).unwrap())) {
                    found.push(path.clone());
                }
                if path.is_dir() && !path.is_symlink() {
                    pending.push(path);
                }
            }
        }
        found
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.root.join(".git/autoharness")
    }

    /// The binary with a clean environment, in the experiment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = signals::program(env!("CARGO_BIN_EXE_autoharness"));
        self.isolate(&mut command);
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// Runs a script of the shell in the experiment, as root of a namespace of users and of these; `$PROGRAM` is the binary. `None`
    /// where that cannot be arranged: the script says so by exit code 99.
    pub fn unshared(&self, namespaces: &[&str], script: &str) -> Option<Done> {
        let mut command = Command::new("unshare");
        self.isolate(&mut command);
        command.args(["--user", "--map-root-user"]).args(namespaces).args(["sh", "-c", script]);
        command.env("PROGRAM", env!("CARGO_BIN_EXE_autoharness")).current_dir(&self.root);
        let ended = done(command.output().ok()?);
        (ended.code != 99 && !ended.stderr.starts_with("unshare:")).then_some(ended)
    }

    fn isolate(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", path())
            .env("HOME", self.directory.path().join("home"))
            .env("LANG", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_AUTHOR_NAME", "Test")
            .env("GIT_AUTHOR_EMAIL", "test@example.org")
            .env("GIT_COMMITTER_NAME", "Test")
            .env("GIT_COMMITTER_EMAIL", "test@example.org")
            .stdin(Stdio::null());
        // pyenv's shims need to know which interpreter is meant.
        for name in ["PYENV_ROOT", "PYENV_VERSION"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
    }

    /// Runs the binary to its end.
    pub fn run(&self, arguments: &[&str]) -> Done {
        done(self.command(arguments).output().unwrap())
    }

    /// Runs git in the experiment; it must succeed.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        self.isolate(&mut command);
        // A commit looks whether it is time to tidy up, in a process of its own.
        command.args(["-c", "maintenance.auto=false"]);
        let output = command.args(arguments).current_dir(&self.root).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }

    /// Names in a directory of the experiment.
    pub fn list(&self, path: &str) -> std::collections::BTreeSet<String> {
        let entries = std::fs::read_dir(self.root.join(path)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Writes a file of the experiment.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Reads a file of the experiment.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Reads a JSON file of the experiment.
    #[track_caller]
    pub fn read_json(&self, path: &str) -> Value {
        serde_json::from_str(&self.read(path)).unwrap()
    }

    /// Replaces the agent by one with these skills.
    pub fn agent(&self, skills: &[&str]) {
        let list: Vec<String> = skills.iter().map(|skill| format!("{skill:?}")).collect();
        self.write("agent/agent.py", &format!("SKILLS = {{{}}}\n", list.join(", ")));
    }

    /// Commits the agent file.
    pub fn commit_agent(&self) {
        self.git(&["commit", "-qm", "edit", "agent/agent.py"]);
    }

    /// The events of the ledger with this name.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.ledger()).unwrap_or_default();
        // A command that runs may be in the middle of its last line.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter_map(|entry| entry["event"].get(name).cloned())
            .collect()
    }
}

/// Turns raw output into something to assert on.
pub fn done(output: Output) -> Done {
    use std::os::unix::process::ExitStatusExt;
    Done {
        code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The search path with the directory of the binary at its end, as a user who installed it has it. The interpreter's own
/// directory comes first: a shim of pyenv is thirty shell processes for each `python3`, more than all that is tested.
fn path() -> std::ffi::OsString {
    let binary = Path::new(env!("CARGO_BIN_EXE_autoharness")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let interpreter = signals::interpreter().parent().unwrap().to_path_buf();
    let directories = [signals::bare_python(), interpreter].into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(directories.chain([binary.to_path_buf()])).unwrap()
}

/// Copies the binary to where another user reaches it, or where it has a name of its own.
pub fn copy_program(to: &Path) {
    // Another process copies: what this one has open for writing, a test that starts a program meanwhile hands on to it, and then
    // the copy is busy.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_autoharness")).arg(to).status().unwrap();
    assert!(copied.success(), "cannot copy the binary to {}", to.display());
}

/// A Python without packages, which starts fast: for what a test itself runs, and the first on the search path of a bed.
pub fn python() -> PathBuf {
    signals::bare_python().join("python3")
}

/// The interpreter behind `python3`.
pub fn interpreter() -> String {
    signals::interpreter().display().to_string()
}

//! A bed on which the real Harbor runs without containers, keys or money: see README.md beside this file.
#![allow(unreachable_pub, reason = "as in the other parts of the bed")]
#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot set itself up should panic"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Bed, Done};

/// Names the `harbor` program of a Python environment with requirements.txt installed.
pub const VARIABLE: &str = "AUTOHARNESS_TEST_HARBOR";

/// The tasks of every rig: half of them solved at once, half once the agent's instruction says CHECKLIST.
pub const TASKS: [&str; 8] = ["easy-1", "easy-2", "easy-3", "easy-4", "list-1", "list-2", "list-3", "list-4"];

/// The `harbor` to test with; `None`, said so, when there is none.
pub fn harbor() -> Option<PathBuf> {
    let found = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    if found.is_none() {
        crate::support::skipped(&format!("set {VARIABLE} to the harbor program of a Python environment"));
    }
    found
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/harbor")
}

/// The scripted model on loopback.
struct Model {
    process: Child,
    base: String,
}

impl Model {
    fn start(directory: &Path) -> Model {
        let mut process = Command::new("python3")
            .arg("-B")
            .arg(sources().join("stub_model.py"))
            .args(["--log", "requests.jsonl", "--script", "script.json"])
            .current_dir(directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        Model { process, base: said["base"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An experiment over a local Harbor dataset.
pub struct Rig {
    pub bed: Bed,
    model: Model,
}

impl Rig {
    /// A committed experiment over a dataset in `tasks`, not prepared.
    pub fn new(harbor: &Path, tasks: &Path) -> Rig {
        let bed = Bed::empty();
        let mut make = Command::new("python3");
        make.arg(sources().join("make_dataset.py")).arg(tasks);
        for task in TASKS {
            // One whose tests write both reward files, as those of some public tasks do.
            let class = match task {
                "easy-4" => "solved+both",
                _ if task.starts_with("easy") => "solved",
                _ => "capability:CHECKLIST",
            };
            make.args(["--task", &format!("{task}={class}")]);
        }
        assert!(make.stdout(Stdio::null()).status().unwrap().success());
        bed.run(&["init", ".", "--benchmark", "terminal-bench"]).expect(0);
        bed.write("local_env.py", &std::fs::read_to_string(sources().join("local_env.py")).unwrap());
        bed.write(
            "experiment_config.yaml",
            &format!(
                "benchmark: terminal-bench\ndataset_path: {}\nenv_provider: local_env:LocalEnvironment\n\
                 agent_model: openai/stub\nreasoning_effort: low\nharbor_bin: {}\nmax_concurrency: 8\nper_task_timeout: 30\n\
                 infra_retries: 0\npass_env: [AGENT_MODEL_RETRIES]\n",
                tasks.display(),
                harbor.display()
            ),
        );
        bed.git(&["add", "-A"]);
        bed.git(&["commit", "-qm", "rig"]);
        Rig::over(bed)
    }

    fn over(bed: Bed) -> Rig {
        let model = Model::start(bed.outside());
        bed.write(
            ".env",
            &format!("OPENAI_API_BASE={}\nOPENAI_API_KEY=sk-stub-stub-stub\nAGENT_MODEL_RETRIES=0\n", model.base),
        );
        std::fs::create_dir_all(bed.outside().join("tmp")).unwrap();
        Rig { bed, model }
    }

    /// A prepared experiment: the baseline is run once for all tests, and copied.
    pub fn prepared(harbor: &Path) -> Rig {
        static BASELINE: OnceLock<PathBuf> = OnceLock::new();
        let baseline = BASELINE.get_or_init(|| {
            // Nobody drops a static, so what all tests share lies where cargo keeps such things.
            let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("harbor-rig");
            let _ = std::fs::remove_dir_all(&shared);
            std::fs::create_dir_all(&shared).unwrap();
            let rig = Rig::new(harbor, &shared.join("tasks"));
            rig.run(&["prepare"]).expect(0);
            copy(&rig.bed.root, &shared.join("experiment"));
            shared.join("experiment")
        });
        let bed = Bed::empty();
        copy(baseline, &bed.root);
        Rig::over(bed)
    }

    /// The binary, with temporary files (and so Harbor's sandboxes) in a directory of this rig.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bed.command(arguments);
        command.env("TMPDIR", self.bed.outside().join("tmp"));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        crate::support::done(self.command(arguments).output().unwrap())
    }

    /// From now on the model behaves like this, whatever a task's marker says: `{"task or *": "behaviour"}`.
    pub fn script(&self, script: Value) {
        std::fs::write(self.bed.outside().join("script.json"), script.to_string()).unwrap();
    }

    /// How many requests the model got for each task.
    pub fn requests(&self) -> std::collections::BTreeMap<String, usize> {
        let text = std::fs::read_to_string(self.bed.outside().join("requests.jsonl")).unwrap_or_default();
        let mut counts = std::collections::BTreeMap::new();
        for line in text.lines() {
            let entry: Value = serde_json::from_str(line).unwrap();
            *counts.entry(entry["task"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        counts
    }

    /// Replaces a piece of the agent file.
    #[track_caller]
    pub fn edit(&self, from: &str, to: &str) {
        let agent = self.bed.read("agent/agent.py");
        assert!(agent.contains(from), "the template has no {from:?}");
        self.bed.write("agent/agent.py", &agent.replacen(from, to, 1));
    }

    /// Has a human add a line to the configuration, and accept what it means.
    pub fn configure(&self, line: &str) {
        let config = self.bed.read("experiment_config.yaml");
        self.bed.write("experiment_config.yaml", &format!("{config}{line}\n"));
        self.run(&["prepare", "--accept"]).expect(0);
    }

    /// Whether this machine has every layer of the fence; says so when it has not.
    pub fn is_fenced(&self) -> bool {
        let whole = "fence          namespaces, root, landlock, seccomp, limits\n";
        let found = self.run(&["doctor"]).stdout.contains(whole);
        if !found {
            crate::support::skipped("this machine has not every layer of the fence");
        }
        found
    }

    /// Where the model is, as `model_hosts` names it.
    pub fn model_host(&self) -> String {
        self.model.base.trim_start_matches("http://").trim_end_matches("/v1").to_owned()
    }

    /// Where the dataset is.
    pub fn tasks(&self) -> PathBuf {
        let config = self.bed.read("experiment_config.yaml");
        config.lines().find_map(|line| line.strip_prefix("dataset_path: ")).unwrap().into()
    }

    /// The tasks of a split.
    pub fn split(&self, split: &str) -> Vec<String> {
        let prepared = self.bed.events("prepared").pop().unwrap();
        serde_json::from_value(prepared["split"][split].clone()).unwrap()
    }

    /// The secret word of a task: in its instruction, its tests, the command that solves it.
    pub fn secret(&self, task: &str) -> String {
        use sha2::{Digest as _, Sha256};
        let hash: String = Sha256::digest(task.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("SECRET-{task}-{}", &hash[..10])
    }

    /// Processes whose command line or environment names this rig's directory.
    pub fn processes(&self, part: &str) -> Vec<i32> {
        let here = self.bed.outside().canonicalize().unwrap().to_string_lossy().into_owned();
        let own = std::process::id();
        let model = self.model.process.id();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let command = String::from_utf8_lossy(&read("cmdline")).into_owned();
            let all = format!("{command}\n{}", String::from_utf8_lossy(&read("environ")));
            if pid != own && pid != model && all.contains(&here) && command.contains(part) {
                found.push(pid.try_into().unwrap());
            }
        }
        found
    }

    /// Waits for something that takes a while but must happen.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut happened: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(600);
        while !happened() {
            assert!(Instant::now() < until, "{what} did not happen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let status = Command::new("cp").arg("-a").arg(format!("{}/.", from.display())).arg(to).status().unwrap();
    assert!(status.success());
}

//! A bed on which the real helper runs with the real google-adk: a PostgreSQL of its own, a scripted model, stand-ins of the
//! benchmark's services, or the real ones where AUTOHARNESS_TEST_BIRD_ADK names a checkout of BIRD-Interact-ADK.
#![allow(unreachable_pub, dead_code, reason = "every test file uses its own part of the bed")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub mod provision;

use crate::support::{Bed, Done, done};

/// Names the python of an environment with agent/helpers/bird_interact/requirements.txt.
pub const VARIABLE: &str = "AUTOHARNESS_TEST_BIRD";
/// Names a checkout of BIRD-Interact-ADK to use instead of the stand-ins.
pub const ADK_VARIABLE: &str = "AUTOHARNESS_TEST_BIRD_ADK";

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/bird")
}

/// An experiment with this configuration, and a home without keys.
pub fn experiment(config: &str) -> Bed {
    let bed = Bed::empty();
    bed.run(&["init", "--benchmark", "bird-interact"]).expect(0);
    bed.write("experiment_config.yaml", &format!("benchmark: bird-interact\n{config}"));
    bed.write(".env", "OPENAI_API_KEY=scripted-key\nPG_PASSWORD=not-a-secret\n");
    bed
}

/// What is in use at the moment; everything is gone with the value.
pub struct Rig {
    pub bed: Bed,
    pub port: u64,
    database: Child,
    answers: BufReader<ChildStdout>,
    model: Option<Child>,
    directory: tempfile::TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.database.stdin.take());
        let _ = self.database.wait();
        if let Some(mut model) = self.model.take() {
            let _ = model.kill();
            let _ = model.wait();
        }
    }
}

impl Rig {
    /// An experiment over these tasks (a list in Python; `tasks.TASKS` has all), not prepared. `None`, said so, where it
    /// cannot be run.
    pub fn new(wanted: &str, config: &str) -> Option<Rig> {
        let Some(python) = named(VARIABLE) else {
            crate::support::skipped(&format!("set {VARIABLE} to a python with google-adk, and install postgresql"));
            return None;
        };
        // Not below the bed, whose directory the server's own user may not enter.
        let directory = tempfile::Builder::new().prefix("autoharness-bird-").tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let mut database = Command::new(crate::support::python())
            .arg("-B")
            .arg(sources().join("database.py"))
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(database.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let port = said["port"].as_u64().unwrap();
        let mut rig = Rig { bed: Bed::empty(), port, database, answers, model: None, directory };
        rig.script("{}");
        let base = rig.start_model();
        rig.python(&format!("tasks.write(sys.argv[1] + '/data', {wanted})"));
        rig.bed = experiment(&format!(
            "agent_model: openai/scripted\nuser_model: openai/scripted-user\nper_task_timeout: 300\n\
             bird_repo: {}\nbird_python_bin: {}\nbird_data_path: {}\npg_port: {port}\npg_user: bird\n{config}",
            named(ADK_VARIABLE).unwrap_or_else(|| sources().join("adk")).display(),
            python.display(),
            rig.data().display(),
        ));
        let env = rig.bed.read(".env");
        rig.bed.write(".env", &format!("{env}OPENAI_API_BASE={base}\n"));
        std::fs::create_dir_all(rig.temporary()).unwrap();
        Some(rig)
    }

    /// The file with the tasks.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data/bird_interact_data.jsonl")
    }

    /// A path beside the data, which nobody else uses.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn temporary(&self) -> PathBuf {
        self.bed.outside().join("tmp")
    }

    /// What a line of Python beside the task set prints; its argument is the rig's directory.
    pub fn python(&self, code: &str) -> String {
        let mut command = Command::new(crate::support::python());
        command
            .args(["-B", "-c", &format!("import sys, os, json, tasks, tricks\n{code}")])
            .arg(self.directory.path())
            .env("PYTHONPATH", sources());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }

    /// What the model does from now on: an expression in Python, of the form that stub.py describes.
    pub fn script(&self, scripts: &str) {
        self.python(&format!(
            "path = sys.argv[1] + '/scripts.json'\n\
             open(path + '.tmp', 'w').write(json.dumps({scripts}))\n\
             os.replace(path + '.tmp', path)"
        ));
    }

    fn start_model(&mut self) -> String {
        let port = self.path("port");
        let mut command = Command::new(crate::support::python());
        command.arg("-B").arg(sources().join("stub.py")).arg(self.path("scripts.json")).arg(&port);
        // It ends with this pipe, so that it does not outlive a test that is killed.
        let mut model = command.arg("--until-eof").stdin(Stdio::piped()).spawn().unwrap();
        while !port.exists() {
            assert!(model.try_wait().unwrap().is_none(), "the scripted model ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.model = Some(model);
        format!("http://127.0.0.1:{}/v1", std::fs::read_to_string(port).unwrap().trim())
    }

    /// How many requests the model got for this task so far.
    pub fn requests(&self, task: &str) -> usize {
        let text = std::fs::read_to_string(self.path("scripts.json.log")).unwrap_or_default();
        let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        entries.filter(|entry| entry["task"] == task).count()
    }

    /// `stop` takes the database server away without notice, `start` brings it back.
    pub fn server(&mut self, order: &str) {
        writeln!(self.database.stdin.as_mut().unwrap(), "{order}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "done");
    }

    fn psql(&self) -> Command {
        let mut command = Command::new("psql");
        let port = self.port.to_string();
        command
            .args(["-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", &port, "-U", "admin", "-d", "postgres"])
            .env("PGPASSWORD", "not-a-secret");
        command
    }

    /// What the server answers its administrator.
    pub fn query(&self, sql: &str) -> String {
        let output = self.psql().args(["-c", sql]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }

    /// Has the administrator change a database, one that is closed to connections too.
    pub fn change(&self, database: &str, sql: &str) {
        let closed =
            self.query(&format!("SELECT 1 FROM pg_database WHERE datname = '{database}' AND NOT datallowconn"));
        let allow = |allowed| self.query(&format!("ALTER DATABASE {database} ALLOW_CONNECTIONS {allowed}"));
        if !closed.is_empty() {
            allow(true);
        }
        let output = self.psql().args(["-d", database, "-c", sql]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        if !closed.is_empty() {
            allow(false);
        }
    }

    /// Keeps databases from being made or dropped until the value is dropped.
    pub fn freeze(&self) -> Frozen {
        let mut child = self.psql().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let order = "BEGIN; LOCK TABLE pg_database IN SHARE MODE; SELECT 'frozen';";
        writeln!(child.stdin.as_mut().unwrap(), "{order}").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "frozen");
        Frozen(child)
    }

    /// Databases that a run made and did not remove.
    pub fn copies(&self) -> String {
        self.query("SELECT datname FROM pg_database WHERE datname LIKE '%\\_\\_%'")
    }

    /// The binary, with temporary files in a directory of this rig.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bed.command(arguments);
        command.env("TMPDIR", self.temporary());
        command
    }

    /// Runs the binary; whatever it does, no copy of a database may be left, and no text of the hold-out.
    pub fn run(&self, arguments: &[&str]) -> Done {
        let done = done(self.command(arguments).output().unwrap());
        assert_eq!(self.copies(), "", "{arguments:?}");
        self.nothing_leaked();
        done
    }

    /// Appends to the agent file.
    pub fn edit(&self, text: &str) {
        let agent = self.bed.read("agent/agent.py");
        self.bed.write("agent/agent.py", &format!("{agent}\n{text}\n"));
    }

    /// The tasks of a split; none before it is drawn.
    pub fn split(&self, split: &str) -> Vec<String> {
        let prepared = self.bed.events("prepared").pop();
        prepared.map_or_else(Vec::new, |event| serde_json::from_value(event["split"][split].clone()).unwrap())
    }

    /// What the ledger says of the trials since its `from`-th one: task, outcome and reward, in order of the tasks.
    pub fn outcomes(&self, from: usize) -> Vec<Value> {
        let mut found: Vec<Value> = self.bed.events("trial")[from..]
            .iter()
            .map(|trial| json!([trial["task"], trial["outcome"], trial["reward"]]))
            .collect();
        found.sort_by_key(ToString::to_string);
        found
    }

    /// No gold SQL, and no word of a hold-out task, lies in the experiment, in its state or among temporary files.
    #[track_caller]
    pub fn nothing_leaked(&self) {
        let test = self.split("test");
        let secrets: Vec<String> = serde_json::from_str(&self.python(&format!(
            "names = {}\n\
             parts = [part for name in names for part in (tasks.BY_ID[name], tasks.BY_ID[name].get('follow_up') or {{}})]\n\
             words = [part.get(key) for part in parts for key in ('query', 'amb_user_query', 'sol_sql')]\n\
             words = [word[0] if isinstance(word, list) else word for word in words if word]\n\
             # How a task is handed over: with its gold SQL, which agents write themselves in traces of train.\n\
             print(json.dumps(words + ['\"sol_sql\"', '\"test_cases\"', 'def test_case(']))",
            json!(test)
        )))
        .unwrap();
        for entry in walkdir::WalkDir::new(self.bed.outside()).into_iter().flatten() {
            let name = entry.file_name().to_string_lossy();
            // What the services see of the benchmark, with the tasks' folders; and a directory nobody would ever remove.
            assert!(name != "bench" && !name.starts_with(".tmp"), "{} is left", entry.path().display());
            if !entry.file_type().is_file() {
                continue;
            }
            let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default()).into_owned();
            // The helper itself names the fields, and an agent file of these tests tells tasks by their questions.
            if entry.path().extension().is_some_and(|ending| ending == "py") {
                continue;
            }
            for secret in &secrets {
                assert!(!text.contains(secret.as_str()), "{} has {secret:?}", entry.path().display());
            }
        }
    }

    /// Waits for something that takes a while but must happen, while `child` runs.
    #[track_caller]
    pub fn wait_for(&self, what: &str, child: &mut Child, mut happened: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(600);
        while !happened() {
            assert!(Instant::now() < until, "{what} did not happen");
            assert!(child.try_wait().unwrap().is_none(), "the command ended before {what}");
            // What is asked may start psql or read all of /proc, and must not take the processor from what is waited for.
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Whether the server is at work on a statement like this.
    pub fn busy_with(&self, pattern: &str) -> bool {
        let sql = format!(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE '{pattern}' AND pid <> pg_backend_pid() AND state = 'active'"
        );
        !self.query(&sql).is_empty()
    }
}

/// A lock on the list of databases.
pub struct Frozen(Child);

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

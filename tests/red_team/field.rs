//! Where hostile agents are tried: programs and agents in a directory of their own, as the user who runs the tests or as another.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use fs_err as fs;
use serde_json::{Value, json};

const LIBRARY: &str = include_str!("../../src/benchmarks/command/helper/autoharness_bench.py");
const REQUEST: &str = include_str!("../../src/benchmarks/trial_protocol/request.py");

/// Far beyond what two trials take.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

pub(super) struct Field {
    pub(super) directory: tempfile::TempDir,
    pub(super) fence: Vec<String>,
    pub(super) user: Option<u32>,
    listener: TcpListener,
}

/// What a program reported, and how it ended.
pub(super) struct Told {
    pub(super) trials: Vec<Value>,
    /// Everything, for messages.
    pub(super) all: String,
    pub(super) success: bool,
}

impl Field {
    /// `None` where the fence has not every layer.
    fn new(user: Option<u32>) -> Result<Field, String> {
        let directory = tempfile::Builder::new().prefix("red-team-").tempdir().unwrap();
        fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        // A copy, where another user reaches it.
        let program = directory.path().join("autoharness");
        crate::support::copy_program(&program);
        let fence = vec![program.to_str().unwrap().to_owned(), "__fence".into(), "--required".into()];
        let field = Field { directory, fence, user, listener: TcpListener::bind("127.0.0.1:0").unwrap() };
        let mut report = field.command(&field.fence[0]);
        let layers = report.args(["__fence", "--report"]).output().unwrap();
        let layers: Value = serde_json::from_slice(&layers.stdout).map_err(|_| "no fence stands here".to_owned())?;
        if layers["missing"] != json!([]) {
            return Err(format!("this machine has not every layer of the fence: {}", layers["missing"]));
        }
        if !field.command("python3").args(["-c", ""]).status().is_ok_and(|status| status.success()) {
            return Err("this user has no python3".into());
        }
        Ok(field)
    }

    /// Where somebody listens.
    pub(super) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub(super) fn command(&self, program: &str) -> Command {
        // The user who runs the tests gets the bare one: a shim of pyenv costs more than a trial.
        let bare = program == "python3" && self.user.is_none();
        let mut command = if bare { Command::new(crate::support::python()) } else { Command::new(program) };
        command.current_dir(self.directory.path()).env("HUSH", "hush");
        if let Some(user) = self.user {
            command.uid(user).gid(user).env("HOME", "/nonexistent").env("PATH", "/usr/local/bin:/usr/bin:/bin");
        }
        command
    }

    /// Runs one program with one agent, over two trials of this task.
    pub(super) fn run(&self, bench: &str, agent: &str, task: &str, limit: u32, fenced: bool) -> Told {
        let experiment = tempfile::tempdir_in(self.directory.path()).unwrap();
        let place = experiment.path();
        let write = |name: &str, text: &str| {
            let path = place.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("bench.py", bench);
        write("autoharness_bench.py", LIBRARY);
        write("request.py", REQUEST);
        write("agent/agent.py", agent);
        let path = place.join("agent/agent.py");
        for owned in [place, &place.join("agent"), &path, &place.join("bench.py")] {
            let mode = if owned.is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(owned, std::fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(owned, self.user, self.user).unwrap();
        }
        let request = json!({
            "protocol": 1, "action": "run", "tasks": [task], "split": "train", "trials": 2, "concurrency": 1, "seed": 1,
            "timeout_s": limit, "keep_traces": true, "agent": {"path": path, "model": null}, "options": {},
            "fence": if fenced { json!(self.fence) } else { Value::Null },
        });
        let mut command = self.command("python3");
        command.args(["-B", "bench.py"]).current_dir(place);
        Field::tell(command, &request)
    }

    /// Has a program answer one request.
    pub(super) fn tell(mut command: Command, request: &Value) -> Told {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
        // A program that an agent stopped would never end by itself.
        let pid = rustix::process::Pid::from_child(&child);
        let (ended, watch) = std::sync::mpsc::channel::<()>();
        let watcher = std::thread::spawn(move || {
            if watch.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        let output = child.wait_with_output().unwrap();
        drop(ended);
        watcher.join().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let events = stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Told {
            trials: events.filter(|event| event["event"] == "trial").collect(),
            all: format!("{stdout}\n{}", String::from_utf8_lossy(&output.stderr)),
            success: output.status.success(),
        }
    }
}

/// The field of a user; `None`, said so, where there is none.
pub(super) fn field(user: Option<u32>) -> Option<Field> {
    if user.is_some() && !is_root() {
        crate::support::skipped("only root can become somebody else");
        return None;
    }
    Field::new(user).map_err(|why| crate::support::skipped(&why)).ok()
}

fn is_root() -> bool {
    Path::new("/proc/self").metadata().is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

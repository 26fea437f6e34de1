//! Commands caught in the middle: started, held at a chosen trial by the benchmark's `gate`, signalled, looked for.
#![allow(unreachable_pub, dead_code, reason = "every test file uses its own part")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Bed, Done, done};

/// Far longer than anything here takes; only a failing test waits this long.
const DEADLINE: Duration = Duration::from_secs(180);

/// Waits until `what` holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A running command.
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts a command.
    pub fn start(mut command: Command) -> Running {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Running { child }
    }

    /// Its process number.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Whether it has come to its end by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub fn end(self) -> Done {
        done(self.child.wait_with_output().unwrap())
    }
}

/// Sends a signal to a process that may be gone.
pub fn send(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// The benchmark's gate in a bed.
pub struct Gate(PathBuf);

impl Gate {
    /// A directory to be given as the option `gate`; closed.
    pub fn new() -> (tempfile::TempDir, Gate) {
        let directory = tempfile::Builder::new().prefix("autoharness-gate-").tempdir().unwrap();
        let gate = Gate(directory.path().to_path_buf());
        (directory, gate)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Lets each process run `trials` trials, then holds it; `None` lets everything run.
    pub fn let_through(&self, trials: Option<usize>) {
        for split in ["train", "test", "None", "end"] {
            let _ = std::fs::remove_file(self.0.join(format!("held-{split}")));
        }
        let next = self.0.join("next");
        std::fs::write(&next, trials.map(|trials| trials.to_string()).unwrap_or_default()).unwrap();
        std::fs::rename(next, self.0.join("go")).unwrap();
    }

    /// Holds only what runs over this split, after its first trial; `None` lets that run, too.
    pub fn hold(&self, split: Option<&str>) {
        self.let_through(None);
        for known in ["train", "test"] {
            let _ = std::fs::remove_file(self.0.join(format!("go-{known}")));
        }
        if let Some(split) = split {
            let next = self.0.join("next");
            std::fs::write(&next, "1").unwrap();
            std::fs::rename(next, self.0.join(format!("go-{split}"))).unwrap();
        }
    }

    /// Waits until the run over this split is held.
    #[track_caller]
    pub fn held(&self, split: &str) {
        let path = self.0.join(format!("held-{split}"));
        until(&format!("{} exists", path.display()), || path.exists());
    }
}

/// Processes that have to do with a bed: by working directory, command line or environment.
pub fn processes(bed: &Bed) -> Vec<(i32, String)> {
    let place = bed.outside().to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let read = |name: &str| {
            let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let zombie = read("stat").rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']));
        let command = read("cmdline");
        let directory = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let ours = command.contains(&place) || read("environ").contains(&place) || directory.starts_with(&place);
        if ours && !zombie {
            found.push((pid, command));
        }
    }
    found
}

/// Waits until no process of a bed is left. The watcher of a killed tool needs a moment.
#[track_caller]
pub fn nobody_left(bed: &Bed) {
    until(&format!("nobody is left of {}", bed.outside().display()), || processes(bed).is_empty());
}

/// What the views say, without what differs from run to run: time stamps, commits, fingerprints.
pub fn views(bed: &Bed) -> serde_json::Value {
    let mut views = serde_json::Map::new();
    for name in ["suite.json", "train_results.json", "gate.json"] {
        if bed.root.join("workspace").join(name).exists() {
            let mut view = bed.read_json(&format!("workspace/{name}"));
            for volatile in ["timestamp", "agent"] {
                view.as_object_mut().unwrap().remove(volatile);
            }
            // Two beds commit in different seconds, and so different commits.
            for step in view["steps"].as_array_mut().into_iter().flatten() {
                let detail = step["detail"].as_str().unwrap().to_string();
                let is_commit = |word: &&str| word.len() >= 7 && word.chars().all(|c| c.is_ascii_hexdigit());
                let commits = detail.split(|c: char| !c.is_alphanumeric()).filter(is_commit);
                step["detail"] = commits.fold(detail.clone(), |text, commit| text.replace(commit, "COMMIT")).into();
            }
            views.insert(name.into(), view);
        }
    }
    if bed.root.join("workspace/results.tsv").exists() {
        let table = bed.read("workspace/results.tsv");
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split('\t').collect()).collect();
        assert!(table.ends_with('\n') && rows.iter().all(|row| row.len() == 6), "torn results.tsv:\n{table}");
        let rows: Vec<_> = rows.iter().map(|row| [row[0], row[1], row[3], row[4]]).collect();
        views.insert("results.tsv".into(), serde_json::json!(rows));
    }
    views.into()
}

/// Temporary files that nobody will ever remove.
pub fn leftovers(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains("tmp-") {
                found.push(entry.path());
            } else if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            }
        }
    }
    found
}

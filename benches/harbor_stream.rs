//! What following a Harbor job of 2,000 trials costs this tool, in CPU seconds beyond Harbor's own.
//!
//!     cargo bench --bench harbor_stream
//!
//! A program that pretends to be Harbor writes the files of 2,000 trials, 50 at a time, as fast as it can; the real runner
//! follows, judges, and takes traces out. Then the looks in between are counted in: a real job of that size takes hours.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement, run by hand")]

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use autoharness::internals::benchmarks::runner::{BenchmarkRunner as _, RunEvent, RunRequest};
use autoharness::internals::benchmarks::terminal_bench::job::JobSettings;
use autoharness::internals::benchmarks::terminal_bench::listing::{Dataset, Listing};
use autoharness::internals::benchmarks::terminal_bench::probe::Probe;
use autoharness::internals::benchmarks::terminal_bench::runner::{HarborInstall, HarborRunner};
use autoharness::internals::benchmarks::terminal_bench::watch::{Watch, pause};
use autoharness::internals::model::trial::{Outcome, Split};
use autoharness::internals::process::signals::Cancel;
use autoharness::internals::process::{Redactor, Supervisor};
use serde_json::json;

const TRIALS: usize = 2000;
/// Between the ends of two trials in a real job of that size: each takes 10 minutes, 50 run at once.
const GAP: Duration = Duration::from_secs(12);
const LIMIT: f64 = 1.0;

/// Writes what Harbor writes, in Harbor's order.
const PRETENDER: &str = r#"
import json, os, sys
job = json.load(open(sys.argv[3]))
if "--dry-run" in sys.argv:
    print("Dry run OK -", len(job["tasks"]), "trial(s); nothing was run.")
    sys.exit()
sample = open(SAMPLE).read()
root = os.path.join(job["jobs_dir"], job["job_name"])
os.makedirs(root)
def stats(done, finished=None):
    with open(root + "/result.json", "w") as file:
        json.dump({"finished_at": finished, "stats": {"n_completed_trials": done, "pad": "x" * (done % 7)}}, file, indent=4)
trace = json.dumps({"messages": [{"role": "assistant", "content": "step " * 400} for _ in range(10)]})
names = [os.path.basename(task["path"]) for task in job["tasks"]]
def begin(name):
    for part in ("agent", "verifier"):
        os.makedirs(f"{root}/{name}__1234567/{part}")
    stats(0)
def end(name, done):
    trial = f"{root}/{name}__1234567"
    open(trial + "/agent/trace.json", "w").write(trace)
    open(trial + "/verifier/test-stdout.txt", "w").write("line\n" * 300)
    open(trial + "/verifier/reward.txt", "w").write("1")
    with open(trial + "/result.json", "w") as file:
        file.write(sample.replace("a-always-pass", name))
    stats(done)
for name in names[:50]:
    begin(name)
for index, name in enumerate(names):
    end(name, index + 1)
    if index + 50 < len(names):
        begin(names[index + 50])
stats(len(names), "2026-01-01T00:00:00")
"#;

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/harbor/pass.json");
    // As large as a real one with its indentation.
    let value: serde_json::Value = serde_json::from_slice(&fs_err::read(sample).unwrap()).unwrap();
    fs_err::write(path("sample.json"), serde_json::to_vec_pretty(&value).unwrap()).unwrap();
    let script = format!("#!/usr/bin/env python3\nSAMPLE = {:?}\n{PRETENDER}", path("sample.json"));
    fs_err::write(path("harbor"), script).unwrap();
    fs_err::set_permissions(path("harbor"), std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["staging", "scratch", "state"] {
        fs_err::create_dir_all(path(name)).unwrap();
    }
    let ids: Vec<String> = (0..TRIALS).map(|number| format!("task-{number:04}")).collect();
    let tasks: Vec<_> = ids
        .iter()
        .map(|id| json!({"id": id, "config": {"path": format!("/tasks/{id}")}, "agent_timeout_sec": 900.0}))
        .collect();
    let listing = Listing::parse(json!({"ok": true, "tasks": tasks}).to_string().as_bytes()).unwrap();
    let runner = HarborRunner {
        install: HarborInstall { harbor: path("harbor"), python: "python3".into(), version: "0".into() },
        dataset: Dataset::Remote("none".into()),
        job: JobSettings {
            env_provider: "docker".into(),
            environment_kwargs: Default::default(),
            model: Some("openai/none".into()),
            agent_env: Default::default(),
            verifier_env: Default::default(),
        },
        reasoning_effort: None,
        arguments: Vec::new(),
        agent_file: "agent/agent.py".into(),
        environment: std::env::vars_os().collect(),
        state: path("state"),
        supervisor: Supervisor::with_watcher(path("processes"), env!("CARGO_BIN_EXE_autoharness")),
        redactor: Redactor::new(["sk-a-key-of-the-user".to_string()]),
        grace: HarborRunner::GRACE,
        listing: tokio::sync::OnceCell::new_with(Some(listing)),
        probe: Probe::default(),
        fenced: None,
    };
    let request = RunRequest {
        run: "run-000001-benchmark-0-0".into(),
        tasks: ids,
        trials: 1,
        split: Some(Split::Train),
        concurrency: 50,
        seed: 0,
        timeout_s: None,
        keep_traces: true,
        staging: path("staging"),
        agent_file: path("staging/agent/agent.py"),
        scratch: path("scratch"),
        log: path("log"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (started, before) = (Instant::now(), cpu_seconds());
    let passed = runtime.block_on(async {
        let (_trigger, cancel) = Cancel::manual();
        let (sink, mut events) = tokio::sync::mpsc::channel(64);
        let count = async {
            let mut passed = 0;
            while let Some(event) = events.recv().await {
                if let RunEvent::Finished(result) = event {
                    assert!(result.trace.is_some() && result.detail.is_some());
                    passed += usize::from(result.outcome == Outcome::Passed);
                }
            }
            passed
        };
        let (report, passed) = tokio::join!(runner.run(&request, sink, &cancel), count);
        assert_eq!(report.unwrap().failure, None);
        passed
    });
    assert_eq!(passed, TRIALS);
    let streaming = cpu_seconds() - before;
    println!("{TRIALS} trials taken in: {streaming:.2} CPU-s (wall {:.1} s)", started.elapsed().as_secs_f64());

    // While nothing happens: wake up, look, sleep again.
    let (mut looks, mut quiet) = (0, Duration::ZERO);
    while quiet < GAP {
        quiet += pause(quiet);
        looks += TRIALS;
    }
    const LOOKS: u32 = 3000;
    let mut watch = Watch::new(path("scratch/jobs/run-000001-benchmark-0-0"));
    watch.look_at_all();
    let before = cpu_seconds();
    runtime.block_on(async {
        for _ in 0..LOOKS {
            tokio::time::sleep(Duration::from_millis(1)).await;
            watch.look();
        }
    });
    let quiet = (cpu_seconds() - before) / f64::from(LOOKS) * looks as f64;
    println!("{looks} looks in between: {quiet:.2} CPU-s");
    println!("together {:.2} CPU-s, allowed {LIMIT:.1}", streaming + quiet);
    assert!(streaming + quiet <= LIMIT, "following a job has become too expensive");
}

/// User and system time of this process, without its children.
fn cpu_seconds() -> f64 {
    let stat = fs_err::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

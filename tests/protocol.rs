//! The trial protocol: whatever a benchmark program does, every trial it honestly reported counts, once, and nothing
//! else does; we never hang, never run out of memory, and never keep what belongs to the hold-out.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use autoharness::internals::benchmarks::runner::{BenchmarkRunner, RunEvent, RunReport, RunRequest, TaskInfo};
use autoharness::internals::benchmarks::trial_protocol::line::{self, ProtocolEvent};
use autoharness::internals::benchmarks::trial_protocol::{AgentSettings, ProtocolRunner, WaitLimits};
use autoharness::internals::error::{Error, Result};
use autoharness::internals::model::trial::{Outcome, Split, TrialResult};
use autoharness::internals::process::signals::Cancel;
use autoharness::internals::process::{Redactor, Supervisor};
use fs_err as fs;
use proptest::prelude::*;
use rustix::process::{Pid, test_kill_process};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

struct Bed {
    directory: TempDir,
    runner: ProtocolRunner,
    request: RunRequest,
}

/// What a run sent, and how it ended.
#[derive(Debug, Default)]
struct Seen {
    started: Vec<(String, u32)>,
    trials: Vec<TrialResult>,
    logs: Vec<(bool, String)>,
}

impl Seen {
    fn take(&mut self, event: RunEvent) {
        match event {
            RunEvent::Started { task, trial } => self.started.push((task, trial)),
            RunEvent::Finished(result) => self.trials.push(*result),
            RunEvent::Log { warning, message } => self.logs.push((warning, message)),
        }
    }

    fn names(&self) -> Vec<(&str, u32)> {
        self.trials.iter().map(|trial| (trial.task.as_str(), trial.trial)).collect()
    }
}

/// The interpreter itself: a version manager's shim would cost more than everything tested here.
fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let output = std::process::Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .expect("the tests need python3");
        String::from_utf8(output.stdout).expect("a path").trim().to_owned()
    })
}

impl Bed {
    fn new(mode: &str) -> Bed {
        let directory = TempDir::new().expect("a temporary directory");
        let root = directory.path().canonicalize().expect("it exists");
        let (staging, scratch) = (root.join("staging"), root.join("scratch"));
        fs::create_dir_all(&staging).expect("writable");
        fs::create_dir_all(&scratch).expect("writable");
        let bench = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fake_bench.py");
        let environment = vec![
            ("PATH".into(), std::env::var_os("PATH").expect("tests run with a PATH")),
            ("GIVEN".into(), "yes".into()),
        ];
        let mut options = Map::new();
        options.insert("mode".into(), mode.into());
        let runner = ProtocolRunner {
            name: "fake".into(),
            command: vec![python().into(), "-S".into(), "-E".into(), bench.to_string_lossy().into_owned()],
            environment,
            options,
            fence: None,
            outlives_failure: false,
            agent: AgentSettings { model: Some("m".into()), user_model: None, reasoning_effort: Some("low".into()) },
            agent_file: PathBuf::from("agent/agent.py"),
            symbol: Some("Agent".into()),
            agent_python: None,
            protocol: json!({"benchmark": "fake"}),
            reports_tokens: false,
            exits: &[(9, "out of milk")],
            grace: Duration::from_millis(300),
            limits: WaitLimits::default(),
            supervisor: Supervisor::with_watcher(root.join("processes"), env!("CARGO_BIN_EXE_autoharness")),
            redactor: Redactor::new(["sk-very-secret".to_owned()]),
        };
        let request = RunRequest {
            run: "run".into(),
            tasks: vec!["a".into(), "b".into()],
            trials: 2,
            split: Some(Split::Train),
            concurrency: 2,
            seed: 42,
            timeout_s: None,
            keep_traces: true,
            agent_file: staging.join("agent/agent.py"),
            staging,
            scratch,
            log: root.join("log"),
        };
        Bed { directory, runner, request }
    }

    fn option(mut self, name: &str, value: impl Into<Value>) -> Bed {
        self.runner.options.insert(name.into(), value.into());
        self
    }

    fn lines(lines: &str) -> Bed {
        Bed::new("lines").option("lines", lines)
    }

    fn held_out(mut self) -> Bed {
        self.request.split = Some(Split::Test);
        self.request.keep_traces = false;
        self
    }

    async fn run(&self) -> (RunReport, Seen) {
        let (_trigger, cancel) = Cancel::manual();
        let (result, seen) = self.run_with(&cancel, |_| {}).await;
        (result.expect("the run is reported"), seen)
    }

    async fn run_with(&self, cancel: &Cancel, on_event: impl Fn(&RunEvent)) -> (Result<RunReport>, Seen) {
        let (sink, mut events) = mpsc::channel(4);
        let mut seen = Seen::default();
        let listening = async {
            while let Some(event) = events.recv().await {
                on_event(&event);
                seen.take(event);
            }
        };
        let (result, ()) = tokio::join!(self.runner.run(&self.request, sink, cancel), listening);
        let left = fs::read_dir(self.root().join("processes")).expect("the registry").count();
        assert_eq!(left, 0, "a child is left");
        (result, seen)
    }

    async fn failure(&self) -> (String, Seen) {
        let (report, seen) = self.run().await;
        (report.failure.expect("a failure"), seen)
    }

    async fn list(&self) -> Result<Vec<TaskInfo>> {
        let (_trigger, cancel) = Cancel::manual();
        Ok(self.runner.tasks(&self.request.staging, &self.request.log, &cancel).await?.tasks)
    }

    fn root(&self) -> PathBuf {
        self.directory.path().canonicalize().expect("it exists")
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.request.log).expect("the log")
    }
}

fn alive(pid: &str) -> bool {
    let pid = pid.parse().ok().and_then(Pid::from_raw).expect("a process number");
    test_kill_process(pid).is_ok()
}

fn trial_line(task: &str, trial: u32) -> String {
    format!("{{\"event\":\"trial\",\"task\":\"{task}\",\"trial\":{trial},\"reward\":1}}\n")
}

#[tokio::test(flavor = "current_thread")]
async fn a_good_run_is_reported_whole() {
    let (report, seen) = Bed::new("good").run().await;
    assert_eq!(report.failure, None);
    let all = [("a", 0), ("a", 1), ("b", 0), ("b", 1)];
    assert_eq!(seen.names(), all);
    assert_eq!(seen.started.iter().map(|(task, trial)| (task.as_str(), *trial)).collect::<Vec<_>>(), all);
    let trial = &seen.trials[0];
    assert_eq!((trial.outcome, trial.reward, trial.usage.seconds), (Outcome::Passed, Some(1.0), Some(1.5)));
    assert_eq!((trial.usage.tokens_in, trial.usage.tokens_out, trial.usage.cost_usd), (Some(10), Some(20), Some(0.01)));
    assert_eq!(trial.error.as_deref(), Some("none really"));
    assert_eq!(trial.trace.as_ref().expect("a trace").get(), r#"[{"role":"user","content":"key ***"}]"#);
    assert_eq!(trial.detail.as_ref().expect("a detail").get(), r#"{"db": 1}"#);
}

#[tokio::test(flavor = "current_thread")]
async fn the_program_is_told_exactly_what_the_protocol_says() {
    let mut bed = Bed::new("echo");
    bed.request.timeout_s = Some(60.0);
    let (_, seen) = bed.run().await;
    let detail = seen.trials[0].detail.as_ref().expect("a detail").get();
    let said: Value = serde_json::from_str(detail).expect("JSON");
    let root = bed.root();
    assert_eq!(
        said["request"],
        json!({
            "protocol": 1, "action": "run", "tasks": ["a", "b"], "split": "train", "trials": 2, "concurrency": 2,
            "seed": 42, "timeout_s": 60.0, "keep_traces": true,
            "agent": {"path": root.join("staging/agent/agent.py"), "model": "m", "user_model": null,
                "reasoning_effort": "low"},
            "options": {"mode": "echo"},
        })
    );
    assert_eq!(said["cwd"], json!(root.join("staging")));
    let environment = json!({"AUTOHARNESS_SCRATCH": root.join("scratch"), "GIVEN": "yes", "HOME": null});
    assert_eq!(said["environment"], environment);
}

#[tokio::test(flavor = "current_thread")]
async fn the_hold_out_keeps_rewards_and_nothing_else() {
    let (report, seen) = Bed::new("good").held_out().run().await;
    assert_eq!((report.failure, seen.trials.len()), (None, 4));
    for trial in &seen.trials {
        assert!(trial.trace.is_none() && trial.detail.is_none() && trial.error.is_none(), "{trial:?}");
        assert_eq!(trial.reward, Some(1.0));
    }

    let bed = Bed::new("log").held_out();
    let (_, seen) = bed.run().await;
    assert_eq!(seen.logs, []);
    assert!(bed.log().starts_with("task a costs ***"), "{}", bed.log());

    for lines in [trial_line("zebra", 0), trial_line("zebra", 9), "zebra\n".into(), trial_line("a", 1).repeat(2)] {
        let (failure, _) = Bed::lines(&lines).held_out().failure().await;
        assert!(failure.contains("line ") && !failure.contains("zebra") && !failure.contains("task"), "{failure}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn log_messages_arrive_free_of_secrets_and_escapes() {
    let (report, seen) = Bed::new("log").run().await;
    assert_eq!(report.failure, None);
    let long = format!("{}***", "x".repeat(990));
    assert_eq!(seen.logs[..2], [(true, "task a costs ***  [31mred".to_owned()), (false, "fine".to_owned())]);
    assert_eq!(seen.logs[2].1, long, "a secret must be hidden before a message is cut");
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_that_fails_after_it_reported_is_not_believed() {
    for (n, code, how) in [(3, 7, "exit status 7"), (0, 1, "exit status 1"), (2, -9, "killed by SIGKILL")] {
        for outlives_failure in [false, true] {
            let mut bed = Bed::new("die_after").option("n", n).option("code", code);
            bed.runner.outlives_failure = outlives_failure;
            let (report, seen) = bed.run().await;
            let log = bed.request.log.display();
            // Somebody may have spoken in its name and ended it then; one that has reported nothing has deceived nobody.
            let untrusted = n > 0 && !outlives_failure;
            let distrust = if untrusted { "; none of this run's trials count" } else { "" };
            let failure = format!("fake ended with {how} after {n} of 4 trials{distrust}; its log: {log}");
            assert_eq!((report.failure, report.untrusted), (Some(failure), untrusted));
            assert_eq!(seen.trials.len(), n);
        }
    }
    // All that is said of a run over the hold-out.
    let bed = Bed::new("die_after").option("n", 0).option("code", 9).held_out();
    assert_eq!(bed.failure().await.0, "fake ended with exit status 9 (out of milk) after 0 of 4 trials");
    let (failure, _) = Bed::new("die_after").option("n", 3).option("code", 0).failure().await;
    assert!(failure.starts_with("fake ended after 3 of 4 trials;"), "{failure}");
}

#[tokio::test(flavor = "current_thread")]
async fn what_was_not_asked_for_is_refused_and_spoils_nothing() {
    let good = trial_line("a", 0);
    for (bad, complaint) in [
        (trial_line("zebra", 0), r#"line 2 reports trial 0 of task "zebra", which was not asked for"#),
        (trial_line("a", 2), r#"line 2 reports trial 2 of task "a", which was not asked for"#),
        (good.replace(":1}", ":0}"), r#"line 2 reports trial 0 of task "a" a second time"#),
        ("{\"event\":\"started\",\"task\":\"c\",\"trial\":0}\n".into(), r#"line 2 reports trial 0 of task "c""#),
        ("{\"event\":\"task\",\"task\":\"a\"}\n".into(), "line 2 lists tasks, but trials were asked for"),
        ("Traceback sk-very-secret\n".into(), r#"line 2 is not JSON: "Traceback ***""#),
        ("[1]\n".into(), r#"line 2 is not a JSON object: "[1]""#),
        ("{\"event\":\"bye\"}\n".into(), r#"line 2 has an unknown `event`: "{\"event\":\"bye\"}""#),
        ("\u{1b}[2Jx".repeat(99), r#"line 2 is not JSON: "\u{1b}[2Jx"#),
    ] {
        let (failure, seen) = Bed::lines(&format!("{good}{bad}{}", trial_line("b", 1))).failure().await;
        assert!(failure.contains(complaint), "{failure}");
        assert!(failure.contains("after 1 of 4 trials") && failure.len() < 600, "{failure}");
        assert_eq!(seen.names(), [("a", 0)]);
        assert_eq!(seen.trials[0].reward, Some(1.0));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn nonsensical_rewards_are_verifier_errors() {
    let line = |task: &str, trial: u32, rest: &str| {
        format!("{{\"event\":\"trial\",\"task\":\"{task}\",\"trial\":{trial},\"error\":\"e\",{rest}}}\n")
    };
    let lines = [
        line("a", 0, r#""reward":NaN"#),
        line("a", 1, r#""reward":1.5"#),
        line("b", 0, r#""reward":null"#),
        line("b", 1, r#""reward":0.2,"outcome":"passed""#),
    ];
    let (report, seen) = Bed::lines(&lines.concat()).run().await;
    assert_eq!(report.failure, None);
    let got: Vec<_> = seen.trials.iter().map(|trial| (trial.outcome, trial.error.as_deref().expect("why"))).collect();
    assert_eq!(
        got,
        [
            (Outcome::VerifierError, "the reward is not a finite number (e)"),
            (Outcome::VerifierError, "the reward is not between 0 and 1 (e)"),
            (Outcome::InfraError, "no reward given (e)"),
            (Outcome::VerifierError, "outcome passed contradicts the reward (e)"),
        ]
    );
    assert!(seen.trials.iter().all(|trial| trial.reward.is_none()));
}

#[tokio::test(flavor = "current_thread")]
async fn floods_end_quickly() {
    let start = Instant::now();
    let (failure, _) = Bed::new("flood").failure().await;
    assert!(failure.contains("line 1 is not JSON: \"not an event\""), "{failure}");
    let (failure, _) = Bed::new("endless_line").failure().await;
    assert!(failure.contains("line 1 is longer than 16777216 bytes"), "{failure}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());

    let bed = Bed::new("flood_stderr");
    let (report, seen) = bed.run().await;
    assert_eq!((report.failure, seen.trials.len()), (None, 4));
    let size = fs::metadata(&bed.request.log).expect("the log").len();
    assert!((16_000_000..17_000_000).contains(&size), "{size}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_that_never_ends_is_stopped() {
    let mut bed = Bed::new("close");
    bed.runner.limits.exit = Duration::from_millis(200);
    let (failure, seen) = bed.failure().await;
    assert!(failure.starts_with("fake closed its output but did not exit within 0.2 s and was stopped after 4 of 4"));
    assert_eq!(seen.trials.len(), 4);

    let mut bed = Bed::new("silent");
    bed.runner.limits.silence = Duration::from_secs(2);
    let (failure, seen) = bed.failure().await;
    assert!(failure.starts_with("fake said nothing for 2 s and was stopped after 1 of 4 trials"), "{failure}");
    assert_eq!(seen.trials.len(), 1);

    let mut bed = Bed::new("silent");
    bed.request.timeout_s = Some(0.5);
    bed.runner.limits.slack = Duration::from_secs(1);
    let (failure, _) = bed.failure().await;
    assert!(failure.starts_with("fake said nothing for 2 s and was stopped after 1 of 4 trials"), "{failure}");

    let mut bed = Bed::new("chatty");
    bed.request.timeout_s = Some(0.5);
    bed.runner.limits.slack = Duration::from_secs(1);
    let (failure, seen) = bed.failure().await;
    let why = "fake took longer than 2.5 s, which is more than its trials' time limit allows, and was stopped";
    assert!(failure.starts_with(why), "{failure}");
    assert!(!seen.logs.is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn absurd_time_limits_do_not_overflow() {
    for timeout in [1e300, f64::INFINITY, f64::NAN, -1.0] {
        let mut bed = Bed::new("good");
        bed.request.timeout_s = Some(timeout);
        assert_eq!(bed.run().await.0.failure, None, "{timeout}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn cancellation_ends_a_stubborn_program_and_keeps_what_it_reported() {
    let bed = Bed::new("stubborn");
    let pids = bed.root().join("pids");
    let bed = bed.option("pids", pids.to_string_lossy().into_owned());
    let (trigger, cancel) = Cancel::manual();
    let fire = |event: &RunEvent| {
        if matches!(event, RunEvent::Started { .. }) {
            trigger.fire(15);
        }
    };
    let (result, seen) = bed.run_with(&cancel, fire).await;
    let error: Error = result.expect_err("interrupted");
    assert_eq!(error.exit_code(), 143);
    assert_eq!(seen.names(), [("a", 0)]);
    let pids = fs::read_to_string(pids).expect("the process numbers");
    assert_eq!(pids.lines().filter(|pid| alive(pid)).count(), 0, "{pids}");
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_program_says_after_sigterm_does_not_count() {
    let bed = Bed::new("reports_on_term");
    let (trigger, cancel) = Cancel::manual();
    let fire = |event: &RunEvent| {
        if matches!(event, RunEvent::Finished(_)) {
            trigger.fire(2);
        }
    };
    let (result, seen) = bed.run_with(&cancel, fire).await;
    assert_eq!(result.expect_err("interrupted").exit_code(), 130);
    assert_eq!(seen.names(), [("a", 0)]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_that_cannot_be_found_is_an_error() {
    let mut bed = Bed::new("good");
    bed.runner.command = vec!["no-such-benchmark".into()];
    let (_trigger, cancel) = Cancel::manual();
    let (sink, _events) = mpsc::channel(1);
    let error = bed.runner.run(&bed.request, sink, &cancel).await.expect_err("nothing to start");
    assert_eq!(error.to_string(), "cannot find the program `no-such-benchmark`");
}

#[tokio::test(flavor = "current_thread")]
async fn tasks_are_listed_with_their_splits() {
    let tasks = Bed::new("good").list().await.expect("a list");
    let task = |id: &str, split| TaskInfo { id: id.into(), split, limit_s: None };
    assert_eq!(tasks, [task("a", Some(Split::Train)), task("b", Some(Split::Test)), task("c", None)]);
}

#[tokio::test(flavor = "current_thread")]
async fn nonsensical_lists_are_refused() {
    for (mode, code, complaint) in [
        ("duplicate", 2, "line 3 names the task `a` again (first in line 1)"),
        ("empty_id", 2, "line 2 has an empty `task`"),
        ("bad_split", 2, "line 2 has a `split` that is neither train nor test"),
        ("none", 2, "fake listed no tasks"),
        ("list_trial", 2, "line 4 is about a trial, but only the tasks were asked for"),
        ("list_junk", 2, "line 4 is not JSON: \"Loading data ...\""),
        ("list_fails", 3, "fake ended with exit status 1 while listing its tasks"),
        ("list_hangs", 3, "fake said nothing for 2 s while listing its tasks"),
    ] {
        let mut bed = Bed::new(mode);
        bed.runner.limits.silence = Duration::from_secs(2);
        let error = bed.list().await.expect_err(mode);
        assert_eq!(error.exit_code(), code, "{mode}: {error}");
        assert!(error.to_string().contains(complaint), "{mode}: {error}");
        let log = bed.request.log.display().to_string();
        assert!(error.hints().iter().any(|hint| hint.contains(&log)), "{mode}: {:?}", error.hints());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = line::parse(&bytes);
    }

    #[test]
    fn arbitrary_almost_json_never_panics(
        pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "{", "}", "\"", ":", ",", "\\", "\\u", "\\ud800", "\\udc00", "d83d", "NaN", "-Infinity", "Infinity", "-", "N",
                "\"event\":\"trial\"", "\"task\":\"a\"", "\"trial\":0", "\"reward\":", "1", "é", "\u{1f600}",
            ]),
            0..30,
        )
    ) {
        let _ = line::parse(pieces.concat().as_bytes());
        let _ = line::parse(format!("{{\"event\":\"log\",\"message\":\"{}", pieces.concat()).as_bytes());
    }

    #[test]
    fn arbitrary_trials_come_through_unchanged(
        task in "\\PC{1,20}",
        trial in any::<u32>(),
        reward in 0.0..=1.0f64,
        seconds in proptest::option::of(0.0..1e9f64),
        tokens in proptest::option::of(any::<u64>()),
        trace in "\\PC{0,40}",
    ) {
        let line = json!({"event": "trial", "task": task, "trial": trial, "reward": reward, "seconds": seconds,
            "tokens_in": tokens, "trace": [trace]});
        let Ok(Some(ProtocolEvent::Trial { result, problem, odd })) = line::parse(line.to_string().as_bytes()) else {
            panic!("not understood: {line}");
        };
        prop_assert_eq!((problem, odd), (None, None));
        prop_assert_eq!((result.task, result.trial, result.reward), (task, trial, Some(reward)));
        prop_assert_eq!(result.outcome, if reward >= 0.5 { Outcome::Passed } else { Outcome::Failed });
        prop_assert_eq!((result.usage.seconds, result.usage.tokens_in), (seconds, tokens));
        let kept = result.trace.expect("a trace");
        prop_assert_eq!(kept.get(), json!([trace]).to_string());
    }
}

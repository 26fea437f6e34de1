//! Real `result.json` files of Harbor 0.24.0, and of 0.26.0 (`v26-`), one for every way a trial or a job can end, and what each is evidence of.
//!
//! A row that changes here changes what counts as the agent's fault. The files are as Harbor wrote them, on one line each.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like the tests themselves")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use autoharness::internals::benchmarks::terminal_bench::file::TrialFile;
use autoharness::internals::benchmarks::terminal_bench::judgement::{Facts, Provider, judge, provider_claim, reason};
use autoharness::internals::benchmarks::terminal_bench::watch::{Watch, job_is_finished};
use autoharness::internals::model::trial::Outcome::{self, *};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/harbor")
}

fn sample(name: &str) -> TrialFile {
    let path = data().join(format!("{name}.json"));
    TrialFile::parse(&fs_err::read(path).unwrap()).unwrap()
}

/// Sample, outcome, reward, and a part of the reason or of the note.
const TRIALS: &[(&str, Outcome, Option<f64>, &str)] = &[
    ("pass", Passed, Some(1.0), ""),
    ("fail", Failed, Some(0.0), ""),
    ("partial", Passed, Some(0.5), ""),
    ("long-name-1", Passed, Some(1.0), ""),
    ("packaged-name", Passed, Some(1.0), ""),
    ("atif", Failed, Some(0.0), ""),
    ("multi-reward", Passed, Some(1.0), ""),
    ("multi-reward-no-reward-key", VerifierError, None, "none that is called `reward`"),
    ("rewards-empty-object", VerifierError, None, "gave no reward"),
    ("reward-above-one", VerifierError, None, "outside 0 to 1"),
    ("reward-negative", VerifierError, None, "outside 0 to 1"),
    ("forged-reward-json", AgentError, Some(0.0), "reward.json lies beside"),
    ("llm-401-looks-like-fail", Failed, Some(0.0), ""),
    ("llm-missing-mcp-looks-like-fail", Failed, Some(0.0), ""),
    ("agent-timeout-but-solved", Passed, Some(1.0), "ran out of time"),
    ("agent-timeout-unsolved", AgentTimeout, Some(0.0), "ran out of time"),
    ("agent-leaked-timeouterror", Failed, Some(0.0), "TimeoutError of its own"),
    ("agent-nonzero-exit", Failed, Some(0.0), "NonZeroAgentExitCodeError: exit 1"),
    ("agent-exception", AgentError, Some(0.0), "KeyError: 'bug in agent.py'"),
    ("agent-command-timeout", AgentError, Some(0.0), "Command timed out after 120 seconds"),
    ("agent-sysexit", AgentError, Some(0.0), "ended Harbor's process"),
    ("agent-setup-exception", AgentError, Some(0.0), "setup() of the agent"),
    ("agent-setup-timeout", AgentError, Some(0.0), "setup() of the agent"),
    ("env-start-exception", InfraError, None, "the sandbox did not start"),
    ("env-build-failed", InfraError, None, "the sandbox did not start"),
    ("env-start-timeout", InfraError, None, "the sandbox did not start"),
    ("env-unhealthy", InfraError, None, "the sandbox did not start"),
    ("env-exec-exception", InfraError, None, "failed while the agent was at work"),
    ("env-download-exception", InfraError, None, "failed while the tests ran"),
    ("env-stop-exception-with-reward", Passed, Some(1.0), "environment stop failed"),
    ("cancelled-by-sigterm", InfraError, None, "cut off from outside"),
    ("verifier-timeout", VerifierError, None, "the tests did not end in time"),
    ("verifier-no-reward-file", VerifierError, None, "wrote no reward"),
    ("verifier-empty-reward", VerifierError, None, "wrote an empty reward"),
    ("verifier-nan", VerifierError, None, "makes no sense"),
    ("verifier-unparsable", VerifierError, None, "makes no sense"),
    ("steps-rate-limit", AgentError, Some(0.0), "no trouble was seen from here"),
    // 0.26 grades after an exception, and keeps the agent's one when that fails: still a crash.
    ("v26-pass", Passed, Some(1.0), ""),
    ("v26-agent-exception-graded", AgentError, Some(0.0), "KeyError: 'at once'"),
    ("v26-agent-exception-after-work", AgentError, Some(0.0), "KeyError: 'afterwards'"),
    ("v26-agent-exception-no-reward", AgentError, Some(0.0), "KeyError: 'at once'"),
    ("v26-env-exec-exception", InfraError, None, "failed while the agent was at work"),
    ("v26-rate-limit", AgentError, Some(0.0), "no trouble was seen from here"),
    ("v26-steps-rate-limit", AgentError, Some(0.0), "no trouble was seen from here"),
    // The run decides: an agent that ended Harbor's process leaves the same file.
    ("v26-sigterm-twice", AgentError, Some(0.0), "ended Harbor's process"),
];

/// Sample, and whether the job is complete.
const JOBS: &[(&str, bool)] = &[
    ("_job-finished", true),
    ("_job-with-exceptions", true),
    ("_job-k3", true),
    ("_job-0.3.0", true),
    ("_job-crashed-ctor", false),
    ("_job-sigkill", false),
    ("_job-sigterm", false),
];

/// What lay in the verifier's directory.
fn facts(name: &str, file: &TrialFile) -> Facts {
    let forged = name == "forged-reward-json";
    let graded = file.verifier.is_some() || file.verifier_result.is_some();
    let limit = name.starts_with("agent-timeout").then_some(1.0);
    Facts { reward_json: forged, reward_txt: forged, test_output: graded, limit, ..Facts::default() }
}

#[test]
fn every_way_a_trial_ends_is_judged() {
    for (name, outcome, reward, part) in TRIALS {
        let file = sample(name);
        let judgement = judge(&file, facts(name, &file));
        let said = format!("{} {}", judgement.reason.unwrap_or_default(), judgement.note.clone().unwrap_or_default());
        assert_eq!((judgement.outcome, judgement.reward), (*outcome, *reward), "{name}: {said}");
        assert!(said.contains(part), "{name}: {said:?} lacks {part:?}");
        assert_eq!(part.is_empty(), judgement.reason.is_none() && judgement.note.is_none(), "{name}: {said:?}");
        // A reason is printed on hold-out runs too: it may quote nothing.
        let reason = judgement.reason.unwrap_or_default();
        assert!(!reason.contains(&file.task_name) && !reason.contains("bug in agent.py"), "{name}: {reason}");
    }
}

#[test]
fn every_sample_has_an_expectation() {
    let listed: BTreeSet<String> =
        TRIALS.iter().map(|row| row.0).chain(JOBS.iter().map(|row| row.0)).map(str::to_string).collect();
    let present: BTreeSet<String> = fs_err::read_dir(data())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(listed, present);
    assert_eq!(present.len(), 52);
}

#[test]
fn a_job_is_complete_only_when_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    assert!(!job_is_finished(directory.path()));
    for (name, complete) in JOBS {
        fs_err::copy(data().join(format!("{name}.json")), directory.path().join("result.json")).unwrap();
        assert_eq!(job_is_finished(directory.path()), *complete, "{name}");
    }
}

#[test]
fn tokens_and_cost_come_from_the_agent_or_from_its_trajectory() {
    assert_eq!(sample("pass").usage(), (Some(1164), Some(151), None));
    assert_eq!(sample("atif").usage(), (Some(100), Some(7), Some(0.001)));
    assert_eq!(sample("agent-exception").usage(), (Some(7), None, None));
    assert_eq!(sample("agent-timeout-unsolved").usage(), (None, None, None));
    assert_eq!(sample("llm-401-looks-like-fail").usage(), (Some(0), Some(0), None));
}

#[test]
fn a_task_is_known_by_its_own_name_and_by_its_directory_but_never_by_the_trials() {
    let names: Vec<String> = sample("packaged-name").task_names().map(str::to_string).collect();
    assert_eq!(names, ["lab-org/packaged-task-name", "packaged-dir-name", "packaged-task-name"]);
    let long = sample("long-name-1");
    assert!(long.task_names().next().unwrap().len() > 32, "the directory's name is cut, the task's is not");
    assert!(!long.trial_name.starts_with(&long.task_name));
}

/// A sample with something replaced.
fn changed(name: &str, change: impl Fn(&mut serde_json::Value)) -> TrialFile {
    let bytes = fs_err::read(data().join(format!("{name}.json"))).unwrap();
    let mut value = serde_json::from_slice(&bytes).unwrap();
    change(&mut value);
    TrialFile::parse(value.to_string().as_bytes()).unwrap()
}

#[test]
fn what_the_provider_of_the_model_did_wrong_is_no_evidence_only_when_it_was_seen_from_here() {
    for kind in [
        "AgentAuthenticationError",
        "ModelNotFoundError",
        "NetworkConnectionError",
        "ApiRateLimitError",
        "ApiUsageLimitError",
        "ApiOverloadedError",
        // Made up by an agent: whatever begins like Harbor's own.
        "ApiGaveUpError",
    ] {
        // With a grade and without.
        for base in ["agent-nonzero-exit", "agent-exception", "v26-agent-exception-graded"] {
            let file = changed(base, |value| value["exception_info"]["exception_type"] = kind.into());
            assert_eq!(provider_claim(&file).unwrap().1, kind);
            for provider in [Provider::Unknown, Provider::Answers] {
                let judgement = judge(&file, Facts { provider, ..facts(base, &file) });
                assert_eq!((judgement.outcome, judgement.reward), (AgentError, Some(0.0)), "{kind} {base}");
                assert_eq!(judgement.reason, Some(reason::UNCONFIRMED), "{kind} {base}");
                assert!(judgement.note.unwrap().contains(kind), "a human sees the name");
            }
            let seen = judge(&file, Facts { provider: Provider::Fails(reason::RATE), ..facts(base, &file) });
            assert_eq!(
                (seen.outcome, seen.reward, seen.reason),
                (InfraError, None, Some(reason::RATE)),
                "{kind} {base}"
            );
        }
    }
    for steps in ["steps-rate-limit", "v26-steps-rate-limit", "v26-rate-limit"] {
        let file = sample(steps);
        let seen = Facts { provider: Provider::Fails(reason::RATE), ..facts(steps, &file) };
        assert_eq!(judge(&file, seen).outcome, InfraError, "{steps}");
    }
    assert_eq!(provider_claim(&sample("agent-exception")), None);
    assert_eq!(provider_claim(&sample("env-exec-exception")), None);
}

#[test]
fn work_that_the_tests_confirm_counts_although_the_agent_blamed_its_provider_at_the_end() {
    let solved = changed("v26-rate-limit", |value| value["verifier_result"]["rewards"]["reward"] = 1.0.into());
    let judgement = judge(&solved, Facts { provider: Provider::Answers, ..facts("v26-rate-limit", &solved) });
    assert_eq!((judgement.outcome, judgement.reward), (Passed, Some(1.0)));
    // Not after any other exception: 0.24 would not even have graded.
    let crashed = judge(&sample("v26-agent-exception-after-work"), Facts { test_output: true, ..Facts::default() });
    assert_eq!((crashed.outcome, crashed.reward), (AgentError, Some(0.0)));
}

#[test]
fn a_client_librarys_exception_is_a_claim_as_well() {
    let own = changed("agent-exception", |value| value["exception_info"]["exception_type"] = "RateLimitError".into());
    assert_eq!((provider_claim(&own), judge(&own, Facts::default()).outcome), (None, AgentError));
    let theirs = changed("agent-exception", |value| {
        value["exception_info"]["exception_type"] = "RateLimitError".into();
        value["exception_info"]["exception_traceback"] =
            "Traceback (most recent call last):\n  File \"/venv/lib/python3.12/site-packages/litellm/main.py\", line 1, in x\n".into();
    });
    assert_eq!(provider_claim(&theirs).unwrap().0, reason::RATE);
    assert_eq!(judge(&theirs, Facts::default()).outcome, AgentError);
    let seen = Facts { provider: Provider::Fails(reason::NETWORK), ..Facts::default() };
    assert_eq!(judge(&theirs, seen).outcome, InfraError);
}

#[test]
fn a_call_of_the_sandbox_that_makes_no_sense_is_the_agents_fault() {
    for (kind, message) in [
        ("TypeError", "expected str, got None"),
        ("FileNotFoundError", "/nowhere"),
        ("TimeoutException", "deadline of 1 s"),
        ("SandboxLikelyOutOfMemoryError", "killed"),
        ("RuntimeError", "Command timed out after 1 seconds"),
    ] {
        let file = changed("env-exec-exception", |value| {
            value["exception_info"]["exception_type"] = kind.into();
            value["exception_info"]["exception_message"] = message.into();
        });
        assert_eq!(judge(&file, Facts::default()).outcome, AgentError, "{kind}");
    }
    // Another method of the sandbox: a file that the agent wants and that is not there.
    let file = changed("env-exec-exception", |value| {
        let traceback = value["exception_info"]["exception_traceback"].as_str().unwrap();
        value["exception_info"]["exception_traceback"] = traceback.replace("in exec", "in download_file").into();
    });
    assert_eq!(judge(&file, Facts::default()).outcome, AgentError);
}

#[test]
fn nobody_runs_out_of_time_before_the_limit() {
    // A class of the agent's own with that name; ungraded timeouts may be left out of a score.
    let early =
        changed("agent-exception", |value| value["exception_info"]["exception_type"] = "AgentTimeoutError".into());
    for limit in [None, Some(900.0)] {
        let judgement = judge(&early, Facts { limit, ..facts("agent-exception", &early) });
        assert_eq!((judgement.outcome, judgement.reward), (AgentError, Some(0.0)), "{limit:?}");
    }
    let late = judge(&early, Facts { limit: Some(0.1), ..facts("agent-exception", &early) });
    assert_eq!((late.outcome, late.reward), (AgentTimeout, None));
}

#[test]
fn a_reward_json_is_forged_unless_the_tests_write_it() {
    let file = sample("pass");
    let both = Facts { reward_json: true, reward_txt: true, ..facts("pass", &file) };
    for (tests_write_json, cleared, outcome) in [
        // Datasets whose own tests write both work.
        (Some(true), false, Passed),
        (Some(true), true, Passed),
        // Also when it was made while the tests ran, by a process that the agent left behind.
        (Some(false), true, AgentError),
        (Some(false), false, AgentError),
        (None, false, AgentError),
        (None, true, Passed),
    ] {
        let judgement = judge(&file, Facts { tests_write_json, cleared, ..both });
        assert_eq!(judgement.outcome, outcome, "{tests_write_json:?} {cleared}");
        assert_eq!(judgement.reward, Some(if outcome == Passed { 1.0 } else { 0.0 }));
    }
    // Alone it proves as much, where the tests write only the other file; garbage in it spoils the grading.
    let alone = Facts { reward_txt: false, tests_write_json: Some(false), ..both };
    assert_eq!(judge(&file, alone).outcome, AgentError);
    let spoilt = sample("verifier-unparsable");
    assert_eq!(judge(&spoilt, Facts { tests_write_json: Some(false), ..both }).reward, Some(0.0));
    assert_eq!(judge(&spoilt, Facts::default()).outcome, VerifierError);
}

#[test]
fn what_fails_between_the_steps_of_a_task_is_not_the_agents_fault() {
    let between = changed("v26-steps-rate-limit", |value| {
        value["step_results"][1]["exception_info"] = serde_json::Value::Null;
        value["verifier_result"] = serde_json::Value::Null;
        value["exception_info"] = serde_json::json!({"exception_type": "RuntimeError", "exception_message": "gone",
            "exception_traceback": "", "occurred_at": "2026-11-28T19:17:00Z"});
    });
    assert_eq!(judge(&between, Facts::default()).outcome, InfraError);
    let prepared = changed("v26-steps-rate-limit", |value| {
        value["step_results"][1]["agent_execution"] = serde_json::Value::Null;
    });
    let judgement = judge(&prepared, Facts { test_output: true, ..Facts::default() });
    assert_eq!((judgement.outcome, judgement.reason), (InfraError, Some("a step of the task could not be prepared")));
}

#[test]
fn tokens_of_a_task_with_steps_are_those_of_its_steps() {
    assert_eq!(sample("v26-steps-rate-limit").usage(), (Some(400), Some(40), None));
}

#[test]
fn a_reward_without_any_output_of_tests_is_not_believed() {
    let file = sample("pass");
    let judgement = judge(&file, Facts { test_output: false, ..facts("pass", &file) });
    assert_eq!(judgement.outcome, VerifierError);
    assert!(judgement.reason.unwrap().contains("bypassed"));
}

#[test]
fn rewards_that_are_no_number_are_not_read_as_one() {
    for (reward, outcome) in [
        (serde_json::json!(null), VerifierError),
        (serde_json::json!("1"), VerifierError),
        (serde_json::json!([1]), VerifierError),
        (serde_json::json!(1.0000001), VerifierError),
        (serde_json::json!(-0.0), Failed),
        (serde_json::json!(true), Passed),
        (serde_json::json!(0.49), Failed),
    ] {
        let file = changed("pass", |value| value["verifier_result"]["rewards"]["reward"] = reward.clone());
        assert_eq!(judge(&file, facts("pass", &file)).outcome, outcome, "{reward}");
    }
}

#[test]
fn an_agent_that_overruns_its_limit_is_noted() {
    let file = sample("pass");
    let quick = judge(&file, Facts { limit: Some(900.0), ..facts("pass", &file) });
    assert_eq!((quick.outcome, quick.note), (Passed, None));
    let slow = changed("pass", |value| value["agent_execution"]["started_at"] = "2026-11-20T23:00:00Z".into());
    let slow = judge(&slow, Facts { limit: Some(60.0), ..facts("pass", &file) });
    assert!(slow.outcome == Passed && slow.note.unwrap().contains("blocks Harbor's event loop"));
}

#[test]
fn trials_are_handed_over_once_and_only_when_final() {
    let directory = tempfile::tempdir().unwrap();
    let job = directory.path().join("job");
    let mut watch = Watch::new(job.clone());
    assert!(watch.look().is_empty() && !watch.began(), "there is no job yet");
    let whole = fs_err::read(data().join("pass.json")).unwrap();
    let running = serde_json::json!({"task_name": "a", "trial_name": "a__1234567", "finished_at": null}).to_string();
    for (name, content) in [("torn", &whole[..whole.len() / 2]), ("running", running.as_bytes()), ("done", &whole)] {
        fs_err::create_dir_all(job.join(name)).unwrap();
        fs_err::write(job.join(name).join("result.json"), content).unwrap();
    }
    fs_err::create_dir_all(job.join("pending")).unwrap();
    fs_err::write(job.join("result.json"), "{").unwrap();
    let names = |watch: &mut Watch| -> Vec<String> {
        let found = watch.look();
        found.iter().map(|one| one.directory.file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names(&mut watch), ["done"]);
    fs_err::write(job.join("torn/result.json"), &whole).unwrap();
    assert_eq!(names(&mut watch), ["torn"], "a torn file is read again although nothing else changed");
    fs_err::write(job.join("running/result.json"), &whole).unwrap();
    assert_eq!(names(&mut watch), ["running"]);
    assert_eq!(names(&mut watch), Vec::<String>::new());
    assert_eq!(watch.unfinished().collect::<Vec<_>>(), ["pending"]);
    // Deleted and written again, as Harbor's own retries do.
    fs_err::remove_dir_all(job.join("done")).unwrap();
    fs_err::create_dir_all(job.join("done")).unwrap();
    fs_err::write(job.join("done/result.json"), &whole).unwrap();
    assert!(watch.look_at_all().is_empty(), "handed over once");
}

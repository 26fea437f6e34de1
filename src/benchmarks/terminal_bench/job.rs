//! The job that Harbor is given: which tasks, in which order, with which limits; and how long all of it may take.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::listing::ListedTask;
use crate::benchmarks::runner::RunRequest;
use crate::error::{Error, Result};

/// Harbor's limit for installing an agent, in seconds.
const AGENT_SETUP: f64 = 360.0;
/// Harbor's limits where a task has none of its own, in seconds.
const BUILD: f64 = 600.0;
const VERIFIER: f64 = 600.0;
/// Uploads, downloads and the end of a sandbox, per trial, in seconds.
const AROUND: f64 = 300.0;
/// Starting up and finishing a job, in seconds.
const JOB: f64 = 900.0;

/// What all jobs of an experiment have in common.
#[derive(Debug, Clone)]
pub struct JobSettings {
    /// A type word, or `module:Class`.
    pub env_provider: String,
    pub environment_kwargs: Map<String, Value>,
    pub model: Option<String>,
    pub agent_env: BTreeMap<String, String>,
    pub verifier_env: BTreeMap<String, String>,
}

/// `agent/agent.py` as Python imports it: `agent.agent:HarnessAgent`.
/// Errors: usage when Python cannot import a file of that name.
pub(crate) fn import_path(agent_file: &Path, class: &str) -> Result<String> {
    let identifier = |part: &str| {
        !part.is_empty()
            && !part.starts_with(|c: char| c.is_ascii_digit())
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    let path = agent_file.to_string_lossy();
    match path.strip_suffix(".py") {
        Some(stem) if stem.split('/').all(identifier) => Ok(format!("{}:{class}", stem.replace('/', "."))),
        _ => Err(Error::usage(format!("Harbor cannot import the agent file `{path}`"))
            .hint("name it like a Python module: letters, digits and underscores, ending in .py.")),
    }
}

/// The job's configuration. Tasks are entries of their own, never patterns, in the order of the request: Harbor starts
/// them in that order. It retries nothing: other code decides that with the evidence at hand.
pub(crate) fn job(
    settings: &JobSettings,
    request: &RunRequest,
    tasks: &[&ListedTask],
    import_path: &str,
    jobs_dir: &Path,
) -> Value {
    let mut environment = Map::new();
    let kind = if settings.env_provider.contains(':') { "import_path" } else { "type" };
    environment.insert(kind.into(), json!(settings.env_provider));
    environment.insert("kwargs".into(), json!(settings.environment_kwargs));
    let mut agent = Map::new();
    agent.insert("import_path".into(), json!(import_path));
    if let Some(model) = &settings.model {
        agent.insert("model_name".into(), json!(model));
    }
    // Only an absolute limit: a multiplier would mean another limit for every task.
    if let Some(limit) = request.timeout_s {
        agent.insert("override_timeout_sec".into(), json!(limit));
    }
    if !settings.agent_env.is_empty() {
        agent.insert("env".into(), json!(settings.agent_env));
    }
    let mut job = json!({
        "job_name": request.run,
        "jobs_dir": jobs_dir,
        "n_attempts": request.trials,
        "n_concurrent_trials": request.concurrency,
        "quiet": true,
        "retry": {"max_retries": 0},
        "environment": environment,
        "agents": [agent],
        "tasks": tasks.iter().map(|task| &task.config).collect::<Vec<_>>(),
    });
    if !settings.verifier_env.is_empty() {
        job["verifier"] = json!({"env": settings.verifier_env});
    }
    job
}

/// The agent's limit in a task, in seconds, when it has one.
pub(crate) fn agent_limit(request: &RunRequest, task: &ListedTask) -> Option<f64> {
    match request.timeout_s {
        Some(limit) => Some(limit * f64::from(task.steps.unwrap_or(1).max(1))),
        None => task.agent_timeout_sec,
    }
}

/// How long the job may take: Harbor starts a trial whenever another one ends, so it is done after the sum of all
/// limits divided among the slots, plus one more trial. `None` when a task sets the agent no limit.
pub(crate) fn wall(request: &RunRequest, tasks: &[&ListedTask]) -> Option<Duration> {
    let (mut sum, mut longest) = (0.0, 0.0_f64);
    for task in tasks {
        let agent = agent_limit(request, task)?;
        let build = task.build_timeout_sec.unwrap_or(BUILD);
        let tests = task.verifier_timeout_sec.unwrap_or(VERIFIER);
        let one = build + AGENT_SETUP + agent + tests + AROUND;
        sum += one * f64::from(request.trials);
        longest = longest.max(one);
    }
    let seconds = sum / f64::from(request.concurrency.max(1)) + longest + JOB;
    // An absurd limit is no limit: a duration of years overflows the clock.
    Duration::try_from_secs_f64(seconds).ok().filter(|wall| *wall < Duration::from_secs(365 * 24 * 3600))
}

/// Docker's name for the project of a trial's sandbox, as Harbor makes it.
fn compose_project(trial_name: &str) -> String {
    let lower = format!("{trial_name}__env").to_lowercase();
    let start = if lower.starts_with(|c: char| c.is_ascii_alphanumeric()) { "" } else { "0" };
    let rest: String =
        lower.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' }).collect();
    format!("{start}{rest}")
}

/// How to remove the sandboxes of trials that were killed, as one sentence. `named` is false on hold-out runs, where no
/// task may be named.
pub(crate) fn leftovers(env_provider: &str, trials: &[String], named: bool) -> Option<String> {
    if trials.is_empty() {
        return None;
    }
    let count = trials.len();
    let program = match env_provider {
        "docker" | "kata" => Some("docker"),
        "podman" => Some("podman"),
        _ => None,
    };
    let how = match (program, named) {
        (Some(program), true) => {
            let commands: Vec<String> = trials
                .iter()
                .map(|trial| format!("{program} compose -p {} down --volumes", compose_project(trial)))
                .collect();
            format!("remove them with: {}", commands.join(" && "))
        }
        (Some(program), false) => {
            format!("remove those of all jobs with: {program} ps -aq --filter name=__env | xargs -r {program} rm -f")
        }
        (None, true) => {
            let ids: Vec<String> = trials.iter().map(|trial| format!("{trial}__env")).collect();
            format!("remove them at {env_provider}, where their session ids are {}", ids.join(", "))
        }
        (None, false) => format!("remove them at {env_provider}, where their session ids end in `__env`"),
    };
    Some(format!("Harbor was killed while {count} trial(s) ran; their sandboxes may still be there: {how}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(tasks: &[&str]) -> RunRequest {
        RunRequest {
            run: "run-000001-gate-0-0".into(),
            tasks: tasks.iter().map(ToString::to_string).collect(),
            trials: 2,
            split: None,
            concurrency: 3,
            seed: 0,
            timeout_s: None,
            keep_traces: true,
            staging: "/staging".into(),
            agent_file: "/staging/agent/agent.py".into(),
            scratch: "/scratch".into(),
            log: "/log".into(),
        }
    }

    fn task(id: &str, limit: Option<f64>) -> ListedTask {
        ListedTask {
            id: id.into(),
            aliases: Vec::new(),
            config: serde_json::from_value(json!({"path": format!("/tasks/{id}"), "source": "lab"}))
                .unwrap_or_default(),
            agent_timeout_sec: limit,
            verifier_timeout_sec: Some(40.0),
            build_timeout_sec: None,
            steps: Some(1),
            tests_write_json: None,
        }
    }

    fn settings(provider: &str) -> JobSettings {
        JobSettings {
            env_provider: provider.into(),
            environment_kwargs: Map::new(),
            model: Some("openai/x".into()),
            agent_env: BTreeMap::new(),
            verifier_env: BTreeMap::from([("K".into(), "${K}".into())]),
        }
    }

    #[test]
    fn a_job_names_tasks_exactly_and_in_order() {
        let (long, odd) = (task("z-long", Some(900.0)), task("[a]*", Some(60.0)));
        let request = request(&["z-long", "[a]*"]);
        let job = job(&settings("docker"), &request, &[&long, &odd], "agent.agent:HarnessAgent", Path::new("/jobs"));
        assert_eq!(job["tasks"][0]["path"], "/tasks/z-long");
        assert_eq!(job["tasks"][1]["path"], "/tasks/[a]*");
        assert_eq!(job["environment"]["type"], "docker");
        assert_eq!(job["retry"]["max_retries"], 0);
        assert_eq!((&job["n_attempts"], &job["n_concurrent_trials"]), (&json!(2), &json!(3)));
        assert_eq!(job["verifier"]["env"]["K"], "${K}");
        let agent = job["agents"][0].as_object().unwrap();
        assert!(!agent.contains_key("override_timeout_sec"), "the task's own limit rules unless configured");
        assert!(!job.to_string().contains("multiplier"));
    }

    #[test]
    fn a_configured_limit_is_absolute_and_a_class_is_imported() {
        let request = RunRequest { timeout_s: Some(77.0), ..request(&["a"]) };
        let task = task("a", Some(900.0));
        let job = job(&settings("local_env:LocalEnvironment"), &request, &[&task], "a:B", Path::new("/jobs"));
        assert_eq!(job["agents"][0]["override_timeout_sec"], 77.0);
        assert_eq!(job["environment"]["import_path"], "local_env:LocalEnvironment");
        assert_eq!(job["environment"].get("type"), None);
        assert_eq!(agent_limit(&request, &task), Some(77.0));
    }

    #[test]
    fn the_wall_covers_every_phase_and_needs_a_limit() {
        let (one, two) = (task("a", Some(900.0)), task("b", Some(60.0)));
        let request = request(&["a", "b"]);
        let (a, b) = (600.0 + 360.0 + 900.0 + 40.0 + 300.0, 600.0 + 360.0 + 60.0 + 40.0 + 300.0);
        let wall_of = wall(&request, &[&one, &two]).unwrap().as_secs_f64();
        assert!((wall_of - (2.0 * (a + b) / 3.0 + a + 900.0)).abs() < 1.0, "{wall_of}");
        assert_eq!(wall(&request, &[&one, &task("c", None)]), None);
        assert_eq!(wall(&request, &[&task("c", Some(1e300))]), None);
    }

    #[test]
    fn an_agent_file_becomes_an_import_or_is_refused() {
        assert_eq!(import_path(Path::new("agent/agent.py"), "H").unwrap(), "agent.agent:H");
        for path in ["agent/my-agent.py", "agent/agent", "2/agent.py", "agent/.py"] {
            assert!(import_path(Path::new(path), "H").is_err(), "{path}");
        }
    }

    #[test]
    fn leftovers_are_named_with_the_command_that_removes_them() {
        let trials = ["Fix_Git.v2__AbC1234".to_string()];
        let named = leftovers("docker", &trials, true).unwrap();
        assert!(named.contains("docker compose -p fix_git-v2__abc1234__env down --volumes"), "{named}");
        assert!(leftovers("e2b", &trials, true).unwrap().contains("Fix_Git.v2__AbC1234__env"));
        for provider in ["docker", "e2b", "local_env:LocalEnvironment"] {
            let hidden = leftovers(provider, &trials, false).unwrap();
            assert!(!hidden.to_lowercase().contains("fix"), "{hidden}");
        }
        assert_eq!(leftovers("docker", &[], true), None);
    }
}

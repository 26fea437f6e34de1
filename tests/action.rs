//! `.github/actions/gate`: its steps, run as a runner runs them, on a clone with a local remote and GitHub's API on loopback.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Bed, Done, done};
use serde_json::{Value, json};

const HELD_OUT: [&str; 4] = ["easy-3", "easy-4", "hard-3", "hard-4"];
const MARK: &str = "<!-- autoharness gate: autoharness -->\n";

fn action() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/actions/gate/action.yml");
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// GitHub with one pull request; gone when dropped.
struct GitHub {
    directory: PathBuf,
    port: String,
    server: Child,
}

impl GitHub {
    fn start(directory: PathBuf, comments: &Value) -> GitHub {
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("comments.json"), comments.to_string()).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/github_api.py");
        let mut server = Command::new(crate::support::python())
            .arg(script)
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        std::io::BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut port).unwrap();
        GitHub { directory, port: port.trim().into(), server }
    }

    fn comments(&self) -> Vec<Value> {
        serde_json::from_str(&std::fs::read_to_string(self.directory.join("comments.json")).unwrap()).unwrap()
    }

    /// Methods of the requests since the last time.
    fn requests(&self) -> Vec<String> {
        let file = self.directory.join("requests");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(file, "").unwrap();
        text.lines().map(|line| line.split(' ').next().unwrap().to_string()).collect()
    }
}

impl Drop for GitHub {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A job of a pull request: what a runner knows.
struct Job<'a> {
    bed: &'a Bed,
    github: &'a GitHub,
    action: Value,
    inputs: BTreeMap<String, String>,
}

/// What came of it.
struct Ended {
    /// Of the last step that ran; the others passed.
    last: Done,
    outputs: BTreeMap<String, String>,
    /// What the steps before the last one said.
    log: String,
    step_summary: String,
}

impl Job<'_> {
    /// What `${{ }}` stands for.
    fn value(&self, expression: &str, outputs: &BTreeMap<String, String>) -> String {
        if let Some(name) = expression.strip_prefix("inputs.") {
            let default = &self.action["inputs"][name];
            assert!(default.is_object(), "there is no input {name}");
            let given = self.inputs.get(name).cloned();
            return given.unwrap_or_else(|| self.filled(default["default"].as_str().unwrap(), outputs));
        }
        if let Some(rest) = expression.strip_prefix("steps.") {
            return outputs.get(&rest.replacen(".outputs.", ".", 1)).cloned().unwrap_or_default();
        }
        match expression {
            "github.token" => "good".into(),
            "github.run_id" => "11".into(),
            "github.run_attempt" => "1".into(),
            "github.event.pull_request.number" => "7".into(),
            "github.event.pull_request.head.sha" => self.bed.git(&["rev-parse", "HEAD"]),
            other => panic!("nobody knows {other}"),
        }
    }

    fn filled(&self, text: &str, outputs: &BTreeMap<String, String>) -> String {
        let mut parts = text.split("${{");
        let mut filled = parts.next().unwrap().to_string();
        for part in parts {
            let (expression, rest) = part.split_once("}}").unwrap();
            filled += &self.value(expression.trim(), outputs);
            filled += rest;
        }
        filled
    }

    /// The conditions that the action has, for a job of a pull request.
    fn holds(&self, condition: Option<&str>, outputs: &BTreeMap<String, String>) -> bool {
        match condition {
            None => true,
            Some("always() && steps.place.outputs.state != ''") => !outputs["place.state"].is_empty(),
            Some("inputs.comment == 'true' && github.event_name == 'pull_request'") => {
                self.value("inputs.comment", outputs) == "true"
            }
            Some(other) => panic!("nobody knows whether {other}"),
        }
    }

    fn run(&self) -> Ended {
        let runner = self.bed.outside().canonicalize().unwrap().join("runner");
        std::fs::create_dir_all(&runner).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/actions/gate");
        let (file, summary) = (runner.join("output"), runner.join("step-summary"));
        std::fs::write(&summary, "").unwrap();
        let (mut outputs, mut log, mut last) = (BTreeMap::new(), String::new(), None);
        for step in self.action["runs"]["steps"].as_array().unwrap() {
            if !self.holds(step["if"].as_str(), &outputs) {
                continue;
            }
            let text = |value: &Value| self.filled(value.as_str().unwrap(), &outputs);
            let Some(script) = step["run"].as_str() else {
                // The cache: what it would keep lies there already, or will.
                assert_eq!(text(&step["with"]["path"]), outputs["place.state"]);
                assert_eq!(text(&step["with"]["key"]), format!("{}-11-1", outputs["place.cache"]));
                continue;
            };
            assert_eq!(step["shell"], "bash");
            std::fs::write(&file, "").unwrap();
            let clean = self.bed.command(&[]);
            let mut command = Command::new("bash");
            command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]).env_clear();
            command.envs(clean.get_envs().filter_map(|(name, value)| Some((name, value?))));
            command.current_dir(&self.bed.root).stdin(Stdio::null());
            command
                .env("GITHUB_ACTION_PATH", &path)
                .env("GITHUB_OUTPUT", &file)
                .env("GITHUB_STEP_SUMMARY", &summary)
                .env("GITHUB_API_URL", format!("http://127.0.0.1:{}", self.github.port))
                .env("GITHUB_REPOSITORY", "o/r")
                .env("GITHUB_RUN_ID", "11")
                .env("GITHUB_BASE_REF", "main")
                .env("RUNNER_TEMP", &runner);
            for (name, value) in step["env"].as_object().unwrap() {
                command.env(name, text(value));
            }
            let ended = done(command.output().unwrap());
            for line in std::fs::read_to_string(&file).unwrap().lines() {
                let (name, value) = line.split_once('=').unwrap();
                outputs.insert(format!("{}.{name}", step["id"].as_str().unwrap()), value.to_string());
            }
            log += &format!("{}{}", ended.stdout, ended.stderr);
            let failed = ended.code != 0;
            last = Some(ended);
            if failed {
                break;
            }
        }
        let told = std::fs::read_to_string(summary).unwrap();
        Ended { last: last.unwrap(), outputs, log, step_summary: told }
    }
}

/// A clone with the branch `edit`, on which the agent has these skills.
fn clone(skills: &[&str]) -> Bed {
    let mut bed = Bed::table(json!({}), "max_concurrency: 4");
    bed.git(&["checkout", "-qb", "edit"]);
    bed.agent(skills);
    bed.commit_agent();
    let (origin, copy) = (bed.root.clone(), bed.outside().canonicalize().unwrap().join("clone"));
    bed.git(&["clone", "-q", "--branch", "edit", origin.to_str().unwrap(), copy.to_str().unwrap()]);
    std::fs::rename(origin.join("experiment_config.yaml"), bed.outside().join("ci.yaml")).unwrap();
    bed.root = copy;
    bed
}

#[test]
fn no_input_reaches_a_shell_as_code_and_every_action_is_pinned() {
    let action = action();
    for step in action["runs"]["steps"].as_array().unwrap() {
        if let Some(script) = step["run"].as_str() {
            assert!(!script.contains("${{"), "{script}");
        }
        if let Some(used) = step["uses"].as_str() {
            let (_, at) = used.split_once('@').unwrap();
            assert!(at.len() == 40 && at.bytes().all(|byte| byte.is_ascii_hexdigit()), "{used}");
        }
    }
}

#[test]
fn a_pull_request_has_one_comment_that_follows_the_verdict() {
    let bed = clone(&["easy", "hard"]);
    // More than one page of others, one of whom pretends.
    let mut others: Vec<Value> =
        (0..120).map(|id| json!({"id": id, "user": {"login": "somebody"}, "body": format!("{MARK}mine")})).collect();
    others[3]["user"] = Value::Null;
    let github = GitHub::start(bed.outside().join("github"), &json!(others));
    let config = bed.outside().join("ci.yaml").to_str().unwrap().to_string();
    let inputs = [("config", config.as_str()), ("autoharness", env!("CARGO_BIN_EXE_autoharness"))];
    let inputs: BTreeMap<String, String> = inputs.map(|(name, value)| (name.into(), value.into())).into();
    let mut job = Job { bed: &bed, github: &github, action: action(), inputs };

    let ended = job.run();
    ended.last.expect(0);
    assert_eq!((ended.outputs["gate.verdict"].as_str(), ended.outputs["gate.exit-code"].as_str()), ("passed", "0"));
    let comments = github.comments();
    assert_eq!((comments.len(), github.requests()), (121, ["GET", "GET", "POST"].map(String::from).to_vec()));
    let body = comments[120]["body"].as_str().unwrap();
    assert!(
        body.starts_with(&format!("{MARK}## autoharness gate: passed\n\nval_score **1.0000** (4/4 pass)")),
        "{body}"
    );
    assert!(body.contains("95 % interval") && body.contains("cost of this gate: 8 trials"), "{body}");
    let commit = bed.git(&["rev-parse", "HEAD"]);
    assert!(
        body.contains(&format!("commit {}, [the job](https://github.com/o/r/actions/runs/11)", &commit[..12])),
        "{body}"
    );
    assert!(ended.step_summary.starts_with("## autoharness gate: passed\n"), "{}", ended.step_summary);
    let junit = std::fs::read_to_string(&ended.outputs["place.junit"]).unwrap();
    assert!(
        junit.contains("name=\"hold_out\"") && Path::new(&ended.outputs["place.state"]).join("ledger.jsonl").exists()
    );
    let told = format!("{body}{junit}{}", ended.step_summary);
    assert!(!HELD_OUT.iter().any(|task| told.contains(task)), "{told}");
    assert_eq!(bed.git(&["status", "--porcelain"]), "", "nothing in the checkout");
    bed.ran();

    // The branch gets worse: the cached base is not measured again, and the comment is the same one.
    bed.agent(&[]);
    bed.commit_agent();
    let ended = job.run();
    ended.last.expect(1);
    assert_eq!((ended.outputs["gate.verdict"].as_str(), bed.ran().len()), ("failed", 4));
    let comments = github.comments();
    assert_eq!((comments.len(), github.requests()), (121, ["GET", "GET", "PATCH"].map(String::from).to_vec()));
    assert!(comments[120]["body"].as_str().unwrap().starts_with(&format!("{MARK}## autoharness gate: failed\n")));
    assert!(comments[..120].iter().all(|one| one["body"].as_str().unwrap().ends_with("mine")));

    // A token that may not write takes nothing from the verdict.
    job.inputs.insert("token".into(), "read-only".into());
    let ended = job.run();
    ended.last.expect(1);
    assert!(
        ended.log.contains("::warning::the verdict was not commented: GitHub answered 403; the job needs"),
        "{}",
        ended.log
    );

    // Nothing decided is said, and fails the job only where that is wanted.
    job.inputs.insert("token".into(), "good".into());
    bed.agent(&["easy", "odd"]);
    bed.commit_agent();
    bed.mood(json!({"misbehave": {"hard-3": "infra_error"}}));
    let ended = job.run();
    ended.last.expect(3);
    assert_eq!(ended.outputs["gate.verdict"], "undecided");
    let body = github.comments()[120]["body"].as_str().unwrap().to_string();
    assert!(body.contains("Nothing was decided: run the job again; finished trials are kept."), "{body}");
    job.inputs.insert("fail-undecided".into(), "false".into());
    job.run().last.expect(0).says("::warning::nothing was decided");

    // Inputs are words, not code.
    github.requests();
    let hostile = "x\"; touch pwned; $(touch pwned) `touch pwned` '\n::set-output";
    job.inputs.extend(["name", "base"].map(|name| (name.to_string(), hostile.to_string())));
    job.inputs.insert("comment".into(), "false".into());
    let ended = job.run();
    ended.last.expect(2);
    assert_eq!((ended.outputs["gate.verdict"].as_str(), github.requests().len()), ("error", 0));
    assert!(ended.step_summary.starts_with("## autoharness gate: no verdict\n"), "{}", ended.step_summary);
    assert_eq!(bed.files_with(&["pwned"]), Vec::<PathBuf>::new());
}

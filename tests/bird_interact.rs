//! The bird-interact benchmark: its configuration, what is said when something is missing, and the loop with the real
//! helper against stand-ins of the benchmark's services.
//!
//! The loop needs AUTOHARNESS_TEST_BIRD, the python of an environment with agent/helpers/bird_interact/requirements.txt,
//! and PostgreSQL from Debian's packages.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests may panic")]

use crate::support::bird::{Rig, experiment, sources};
use autoharness::internals::benchmarks;
use autoharness::internals::benchmarks::bird_interact::BirdInteractSettings;
use autoharness::internals::config::Config;
use serde_json::{Value, json};

fn load(text: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("experiment_config.yaml");
    std::fs::write(&path, text).unwrap();
    benchmarks::load(&path).unwrap()
}

#[test]
fn the_originals_configuration_is_understood_and_its_password_hidden() {
    let config = load(
        "benchmark: bird-interact\nmode: c-interact\ndataset: full\npatience: 5\nbird_repo: ~/BIRD\n\
         pg_password: 123123\nagent_port: 6100\n",
    );
    assert_eq!(config.benchmark.name(), "bird-interact");
    assert!(config.warnings[0].contains(":6: `pg_password` writes a secret into this file"), "{:?}", config.warnings);
    let snapshot = config.snapshot();
    let keys = ["mode", "dataset", "patience", "pg_port", "pg_user", "agent_port", "db_port", "pg_password"];
    let values: Vec<&Value> = keys.iter().map(|key| &snapshot[key]).collect();
    assert_eq!(json!(values), json!(["c-interact", "full", 5, 5433, "root", 6100, null, "(hidden)"]));
    assert!(!format!("{config:?}").replace(&format!("{:?}", config.text), "").contains("123123"));
    let settings: &BirdInteractSettings = config.own();
    assert_eq!(settings.pg_password.as_ref().unwrap().reveal(), "123123");
    assert_eq!(load("benchmark: bird-interact\n").snapshot()["pg_port"], 5432);
    assert_eq!(load("benchmark: terminal-bench\ndataset: a@1\n").snapshot()["dataset"], "a@1");
}

#[test]
fn missing_parts_are_named_with_the_commands_that_bring_them() {
    let bed = experiment("agent_model: openai/x\nbird_repo: /nowhere/adk\nbird_python_bin: /nowhere/python\n");
    let done = bed.run(&["prepare"]).expect(2);
    done.warns("there is no BIRD-Interact-ADK in /nowhere/adk").warns("/nowhere/python does not exist");

    let adk = sources().join("adk");
    let config = format!(
        "agent_model: openai/x\nbird_repo: {}\nbird_python_bin: python3\nbird_data_path: /nowhere/tasks.jsonl\npg_port: 1\n",
        adk.display()
    );
    let bed = experiment(&config);
    let done = bed.run(&["prepare"]).expect(2).warns("the tasks are missing: /nowhere/tasks.jsonl");
    done.warns("bird.bench25@gmail.com").warns("[bird-interact-lite GT&Test Cases]").warns("cannot log in as root");

    let bed = experiment(&config.replace("agent_model: openai/x\n", ""));
    bed.run(&["prepare"]).expect(2).warns("agent model: is not set");
}

/// Half of the tasks, as the model solves them before the agent is improved.
const HALF: &str = "{**tasks.solved(), **tasks.unsolved(tasks.NAMES[::2])}";

/// The baseline's evidence is there, for train only.
fn traces_of_train_only(rig: &Rig) {
    for task in rig.split("train") {
        let trace = rig.bed.read_json(&format!("workspace/traces/baseline/{task}/trace.json"));
        assert!(!trace["tool_trajectory"].as_array().unwrap().is_empty(), "{trace}");
    }
    for task in rig.split("test") {
        assert!(!rig.bed.root.join("workspace/traces/baseline").join(&task).exists(), "{task}");
    }
}

#[test]
fn the_loop_from_baseline_to_record() {
    let Some(rig) = Rig::new("tasks.TASKS", "") else { return };
    rig.script(HALF);
    rig.run(&["doctor"])
        .expect(0)
        .says("the gold SQL of 4 tasks passes")
        .says("called execute_sql through the agent service");
    rig.run(&["prepare"]).expect(0).says("(2/4 pass); train 2/4 pass");
    assert_eq!((rig.split("train").len(), rig.split("test").len()), (4, 4));
    traces_of_train_only(&rig);
    let split = rig.bed.read_json("bird_data/task_split.json");
    assert_eq!((split["train"].clone(), split["test"].clone()), (json!(rig.split("train")), json!(rig.split("test"))));
    assert_eq!((&split["metadata"]["total_tasks"], &split["metadata"]["seed"]), (&json!(8), &json!(42)));

    // The same agent is not paid for twice; a better one passes.
    rig.script("tasks.solved()");
    rig.run(&["benchmark"]).expect(0);
    rig.edit("# thinks harder");
    rig.run(&["gate"]).expect(0).says("gate: passed");
    rig.bed.commit_agent();
    rig.run(&["record"]).expect(0);
    assert!(rig.bed.read("workspace/results.tsv").lines().count() >= 3);

    // A crash is a zero, never a way out.
    rig.edit("def build_agent(*_):\n    raise KeyError('bug')");
    rig.run(&["gate"]).expect(1).says("gate: failed");
    rig.bed.git(&["checkout", "-q", "agent/agent.py"]);
    rig.run(&["verify"]).expect(0);

    // Another patience is another benchmark, and so are other tasks.
    let text = std::fs::read_to_string(rig.data()).unwrap();
    std::fs::write(rig.data(), text.replace("Where do we grow the most?", "Where do we grow most?")).unwrap();
    rig.edit("# thinks on");
    rig.run(&["gate"]).expect(2).warns("the benchmark is not the one this experiment was prepared with");
    std::fs::write(rig.data(), text).unwrap();

    // And so are other rows in a template, until they are as they were.
    let rows = ["UPDATE plots SET area = area + 1 WHERE id = 3", "UPDATE plots SET area = area - 1 WHERE id = 3"];
    rig.change("yard_template", rows[0]);
    rig.run(&["gate"]).expect(2).warns("the benchmark is not the one this experiment was prepared with");
    rig.change("yard_template", rows[1]);
    rig.run(&["gate"]).expect(0).says("gate: passed");

    // Without the ground truth nothing is scored.
    rig.python("tasks.write(sys.argv[1] + '/data', [tasks.public(t) for t in tasks.TASKS])");
    rig.run(&["doctor"]).expect(2).says("8 of the 8 tasks in").says("bird.bench25@gmail.com");
}

#[test]
fn the_loop_in_c_interact() {
    let Some(rig) = Rig::new("tasks.TASKS", "mode: c-interact\nmax_concurrency: 3\n") else { return };
    rig.script("tasks.honest('c-interact')[0]");
    // What the original left behind is taken over where it is about these tasks; another split than would be drawn.
    let ids: Vec<String> = serde_json::from_str(&rig.python("print(json.dumps(tasks.NAMES))")).unwrap();
    let left = json!({"train": &ids[..4], "test": &ids[4..], "metadata": {"created": "2026-01-31T12:00:00+00:00"}})
        .to_string();
    rig.bed.write("bird_data/task_split.json", &left);
    let done = rig.run(&["prepare"]).expect(0).says("(3/4 pass); train 4/4 pass");
    done.warns("kept the split of").warns("4 train, 4 test");
    assert_eq!((rig.split("train"), rig.split("test")), (ids[..4].to_vec(), ids[4..].to_vec()));
    assert_eq!(rig.bed.read("bird_data/task_split.json"), left);
    rig.run(&["verify"]).expect(0).says("verify: ok");
    let rewards: serde_json::Map<String, Value> =
        serde_json::from_str(&rig.python("print(json.dumps(tasks.honest('c-interact')[1]))")).unwrap();
    let trials = rig.bed.events("trial");
    assert_eq!(trials.len(), 8);
    for trial in trials {
        assert_eq!(trial["reward"], rewards[trial["task"].as_str().unwrap()], "{trial}");
    }
    traces_of_train_only(&rig);

    // The honest model misses some second phases; with all of them right the score is higher.
    rig.script("tasks.solved()");
    rig.edit("# thinks harder");
    let done = rig.run(&["gate"]).expect(0).says("gate: passed");
    rig.bed.commit_agent();
    rig.run(&["record"]).expect(0);
    let recorded = rig.bed.read("workspace/results.tsv");
    assert!(done.stdout.contains(recorded.lines().last().unwrap().split('\t').nth(1).unwrap()), "{recorded}");

    // An instruction with a name that the session does not know is the agent's own mistake, and it is told which.
    rig.edit("C_INTERACT += 'You are {nobody_knows}.'");
    rig.run(&["benchmark"]).expect(0);
    for trial in rig.bed.events("trial").into_iter().rev().take(4) {
        assert_eq!((&trial["outcome"], &trial["reward"]), (&json!("agent_error"), &json!(0.0)), "{trial}");
        assert!(trial["error"].as_str().unwrap().contains("nobody_knows"), "{trial}");
    }
    rig.bed.git(&["checkout", "-q", "agent/agent.py"]);
    rig.run(&["verify"]).expect(0).says("verify: ok");
}

/// Hostile agents' lines about what an agent of this benchmark has: TCP to its model's door and the services.
const NEEDED: [&str; 2] = ["opens TCP", "opens TCP over IPv6"];

/// Looks for what is none of an agent's business, at every call of its model; the trace says what it could reach.
const PRY: &str = r#"
import ctypes
import httpx

def _pry():
    found = []

    def reached(what, attempt):
        try:
            if attempt():
                found.append(what)
        except OSError:
            pass

    def environments():
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    yield file.read()
            except OSError:
                pass

    def memory():
        number = libc.shmget(0x1D5EED, 64, 0o1600)
        return number >= 0 and libc.shmctl(number, 0, None) == 0

    def note():
        if os.path.exists(NOTE):
            return True
        with open(NOTE, "w") as file:
            file.write("hold-out")

    libc = ctypes.CDLL(None)
    reached("gold", lambda: "sol_sql" in open(DATA).read())
    reached("experiment", lambda: os.listdir(ROOT))
    reached("passwords", lambda: any(b"PG_PASSWORD=" in about for about in environments()))
    reached("memory", memory)
    reached("note", note)
    reached("another host", lambda: httpx.get(f"http://127.0.0.1:{OTHER}/").status_code == 200)
    for name, attack in ATTACKS.items():
        try:
            if attack():
                found.append(name)
        except BaseException:
            pass
    return found

_honest = before_model

def before_model(callback_context, llm_request):
    callback_context.state["dialogue_history"] = _pry()
    return _honest(callback_context, llm_request)
"#;

#[test]
fn agents_get_messages_and_nothing_else() {
    let Some(rig) = Rig::new("tasks.TASKS[:4]", "max_concurrency: 1\n") else { return };
    rig.script("tasks.solved()");
    let doctor = rig.run(&["doctor"]).expect(0);
    if !doctor.stdout.contains("fence          namespaces, root, landlock, seccomp, limits\n") {
        return crate::support::skipped("this machine has not every layer of the fence");
    }
    rig.run(&["prepare"]).expect(0);
    let other = crate::fence_hosts::server();
    let pry = |fenced| {
        let place = (rig.data(), &rig.bed.root, rig.bed.outside().join("note"));
        let attacks = crate::red_team::attacks(fenced, &NEEDED, other);
        format!("DATA, ROOT, NOTE, OTHER = {:?}, {:?}, {:?}, {other}\n{attacks}\n{PRY}", place.0, place.1, place.2)
    };
    let honest = rig.bed.read("agent/agent.py");
    rig.bed.write("agent/agent.py", &format!("{honest}\n{}\n", pry(true)));
    let reached = || -> Vec<Value> {
        let traces = rig.split("train").into_iter().map(|task| {
            rig.bed.read_json(&format!("workspace/traces/latest/{task}/trace.json"))["dialogue_history"].clone()
        });
        traces.collect()
    };
    rig.run(&["benchmark"]).expect(0).says("passed=2 evaluated=2");
    assert_eq!(reached(), [json!([]), json!([])]);
    let layers = rig.bed.events("run_finished").pop().unwrap()["fence"].clone();
    assert_eq!(layers, json!(["namespaces", "root", "landlock", "seccomp", "limits"]));

    // All of it is there to be reached: without the fence it is.
    let config = rig.bed.read("experiment_config.yaml");
    rig.bed.write("experiment_config.yaml", &format!("{config}fence: off\n"));
    rig.bed.write("agent/agent.py", &format!("{honest}\n{}\n", pry(false)));
    rig.run(&["prepare", "--accept"]).expect(0);
    rig.run(&["benchmark", "--fresh"]).expect(0).says("passed=2 evaluated=2");
    let reached = reached()[1].as_array().unwrap().clone();
    let named = ["gold", "experiment", "passwords", "memory", "note", "another host"];
    assert_eq!(reached[..6], named.map(Value::from));
    assert!(reached.len() > 15, "{reached:?}");
}

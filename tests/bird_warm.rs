//! bird-interact's services stay warm across the runs of a command: started once, replaced when they die, and shared without
//! one run being blamed for what an agent does in another.
//!
//! Needs what tests/bird_interact.rs needs.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests may panic")]

use std::process::{Command, Stdio};

use crate::support::bird::{ADK_VARIABLE, Rig, VARIABLE, sources};
use crate::support::done;
use crate::support::running::{nobody_left, processes, send};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A rig with the stand-ins, which leave a mark when they start.
fn rig(tasks: &str, config: &str) -> Option<Rig> {
    if std::env::var_os(ADK_VARIABLE).is_some_and(|value| !value.is_empty()) {
        return None;
    }
    Rig::new(tasks, config)
}

/// How often the services were started since the last call: the database service, the user simulator.
fn starts(rig: &Rig) -> (usize, usize) {
    let path = rig.data().with_file_name("starts");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    let count = |kind: &str| text.lines().filter(|line| line.starts_with(kind)).count();
    (count("db"), count("user"))
}

/// An agent that, at one task, finds the database service's own port and hands it a task of its own making.
fn bypass(rig: &Rig, task: &str) -> String {
    let mark = rig.path("bypassed");
    let trick = format!("(lambda state: _bypass(state) and open({mark:?}, 'w').close())");
    rig.python(&format!("print(tricks.source(**{{{task:?}: {trick:?}}}))"))
}

#[test]
fn a_command_starts_the_services_once_and_they_are_nobodys_but_the_proxys() {
    // Behind the fence no port is found.
    let Some(rig) = rig("tasks.TASKS", "max_concurrency: 4\ninfra_retries: 0\nfence: off\n") else { return };
    rig.script("{**tasks.solved(), **tasks.unsolved(['shop_3', 'shop_1'])}");
    rig.run(&["prepare"]).expect(0);
    starts(&rig);

    // The hold-out, then the promotion of what failed: two runs.
    rig.script("tasks.solved()");
    rig.edit("# thinks harder");
    rig.run(&["gate"]).expect(0).says("gate: passed");
    assert_eq!(starts(&rig), (1, 1), "the first gate");
    rig.bed.commit_agent();
    rig.run(&["record"]).expect(0);
    let suite = rig.bed.read_json("workspace/suite.json")["tasks"].clone();
    let suite: Vec<String> = serde_json::from_value(suite).unwrap();
    assert!(!suite.is_empty());

    // Suite and hold-out at the same time. Who goes behind the proxy's back is not believed; the other run is.
    let before = rig.bed.events("trial").len();
    rig.edit(&bypass(&rig, &suite[0]));
    let done = rig.run(&["gate"]);
    assert!(rig.path("bypassed").exists(), "nobody spoke to the service, so this proves nothing: {}", done.stderr);
    assert_eq!(starts(&rig), (1, 1), "the second gate");
    for trial in &rig.bed.events("trial")[before..] {
        let guilty = trial["task"] == json!(suite[0]);
        let expected = if guilty { "agent_error" } else { "passed" };
        assert_eq!(trial["outcome"], expected, "{trial}");
        if guilty {
            assert!(trial["error"].as_str().unwrap().contains("behind the tool's back"), "{trial}");
        }
    }
    let tested = rig.bed.events("trial")[before..].iter().filter(|trial| trial["split"] == "test").count();
    assert_eq!(tested, rig.split("test").len());
    nobody_left(&rig.bed);
}

#[test]
fn a_service_that_dies_is_replaced_for_the_next_attempt() {
    let three = "[tasks.BY_ID[name] for name in ('shop_2', 'shop_3', 'yard_1')]";
    let Some(rig) = rig(three, "max_concurrency: 2\n") else { return };
    rig.script("tasks.solved()");
    rig.run(&["prepare"]).expect(0);
    starts(&rig);
    for (number, kind) in ["db", "user"].iter().enumerate() {
        let task = rig.split("train")[0].clone();
        let hang = rig.path(&format!("hang{number}"));
        let step = format!(
            "[tasks.call('get_schema'), {{'hang': {hang:?}, 'then': tasks.submit(tasks.gold('{task}'))}}, tasks.DONE]"
        );
        rig.script(&format!("{{**tasks.solved(), '{task}': {step}}}"));
        let before = rig.bed.events("trial").len();
        let mut command = rig.command(&["benchmark", "--fresh", "--task-ids", &task]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        rig.wait_for("the model is asked", &mut child, || hang.with_extension("seen").exists());
        let found: Vec<i32> = processes(&rig.bed)
            .into_iter()
            .filter(|(_, command)| command.contains("guard.py") && command.contains(&format!(" {kind} ")))
            .map(|(pid, _)| pid)
            .collect();
        assert_eq!(found.len(), 1, "{:?}", processes(&rig.bed));
        send(found[0], Signal::KILL);
        // The first attempt is over before the model answers.
        let attempts = || rig.bed.events("trial").split_off(before);
        rig.wait_for("the attempt is given up", &mut child, || !attempts().is_empty());
        std::fs::write(&hang, "").unwrap();
        let done = done(child.wait_with_output().unwrap()).expect(0);
        let attempts = attempts();
        let outcomes: Vec<&Value> = attempts.iter().map(|trial| &trial["outcome"]).collect();
        assert_eq!(outcomes, ["infra_error", "passed"], "{attempts:?}\n{}", done.stderr);
        let reason = format!("the {kind} service ended with signal 9");
        assert_eq!(attempts[0]["error"], json!(reason));
        assert_eq!(starts(&rig), (2, 2), "{kind}");
        assert_eq!(rig.copies(), "");
        nobody_left(&rig.bed);
    }
}

#[test]
fn the_helpers_processes_know_each_other_and_agents_get_nothing_they_need_not() {
    let Some(python) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else { return };
    let output = Command::new(python).arg("-B").arg(sources().with_file_name("check_bird_host.py")).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
}

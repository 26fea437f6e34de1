//! bird-interact through the binary, when something goes wrong: whose fault it was, what the ledger and the verdict make
//! of it, and what is left of a command that was killed at any stage.
//!
//! Needs what tests/bird_interact.rs needs.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests may panic")]

use std::net::TcpListener;
use std::process::{Child, Stdio};

use crate::support::bird::Rig;
use crate::support::running::{nobody_left, processes, send};
use crate::support::{Done, done};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The split of the eight tasks when all of them pass at first.
const TRAIN: [&str; 5] = ["shop_3", "shop_M_1", LONG, "yard_2", "yard_M_1"];
const TEST: [&str; 3] = ["shop_1", "shop_2", "yard_1"];
const LONG: &str = "shop_applications_of_a_kind_whose_name_leaves_no_room_for_anything_M_10";

fn start(rig: &Rig, arguments: &[&str]) -> Child {
    rig.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What the ledger has learnt of a task since its `from`-th trial: outcome, reward and error of every attempt.
fn attempts(rig: &Rig, from: usize, task: &str) -> Vec<(String, Value, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let trials = rig.bed.events("trial").split_off(from);
    let of = trials.iter().filter(|trial| trial["task"] == task);
    of.map(|trial| (text(&trial["outcome"]), trial["reward"].clone(), text(&trial["error"]))).collect()
}

/// Asserts that every one of `count` attempts ended like this.
#[track_caller]
fn ended(rig: &Rig, from: usize, task: &str, count: usize, outcome: &str, reward: Value, errors: &[&str]) {
    let attempts = attempts(rig, from, task);
    assert_eq!(attempts.len(), count, "{task}: {attempts:?}");
    for attempt in &attempts {
        assert_eq!((attempt.0.as_str(), &attempt.1), (outcome, &reward), "{task}: {attempts:?}");
        assert!(errors.iter().all(|error| attempt.2.contains(error)), "{task}: {attempts:?}");
    }
}

/// A port that is free just now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn every_failure_is_charged_to_whom_it_belongs() {
    let port = free_port();
    let config = format!("max_concurrency: 3\ndb_port: {port}\n");
    let Some(mut rig) = Rig::new("tasks.TASKS", &config) else { return };

    // Both phases are worth 1.0, one phase 0.7; a name too long for PostgreSQL is as good as any.
    rig.script("tasks.solved()");
    rig.run(&["prepare"]).expect(0).says("(3/3 pass); train 5/5 pass");
    assert_eq!(
        (rig.split("train"), rig.split("test")),
        (TRAIN.map(str::to_string).into(), TEST.map(str::to_string).into())
    );
    for task in ["shop_1", "shop_3", "shop_M_1", "yard_2"] {
        ended(&rig, 0, task, 1, "passed", json!(1.0), &[]);
    }
    for task in ["shop_2", "yard_1", "yard_M_1", LONG] {
        ended(&rig, 0, task, 1, "passed", json!(0.7), &[]);
    }
    let template = rig.bed.read("agent/agent.py");
    let mut known = rig.bed.events("trial").len();
    let mut then = |rig: &Rig| std::mem::replace(&mut known, rig.bed.events("trial").len());

    // Half a success; an exception; three submissions at once; a user who cannot be asked; a forged reward.
    rig.edit(&rig.python("print(tricks.source(shop_M_1='(lambda state: 1 / 0)', yard_M_1='_forge'))"));
    rig.script(&format!(
        "{{'shop_3': [tasks.submit(tasks.gold('shop_3')), tasks.submit('SELECT 1'), tasks.DONE], 'shop_M_1': [tasks.DONE],\n\
         '{LONG}': [[tasks.submit(tasks.gold('{LONG}'))] * 3, tasks.DONE], 'user': [{{'status': 500}}],\n\
         'yard_2': [tasks.call('ask_user', question='All?'), *tasks.solved()['yard_2']],\n\
         'yard_M_1': [tasks.submit('SELECT 0'), tasks.DONE]}}"
    ));
    let done = rig.run(&["benchmark"]).expect(3);
    let from = then(&rig);
    ended(&rig, from, "shop_3", 1, "passed", json!(0.7), &[]);
    ended(&rig, from, "shop_M_1", 1, "agent_error", json!(0.0), &["agent.py line", "ZeroDivisionError"]);
    ended(&rig, from, LONG, 1, "passed", json!(0.7), &[]);
    ended(&rig, from, "yard_2", 2, "infra_error", Value::Null, &["the user simulator's model failed"]);
    let numbers = ["reported reward 1.0", "0.0 was earned"];
    ended(&rig, from, "yard_M_1", 1, "agent_error", json!(0.0), &numbers);
    assert!(done.stderr.contains("4 of 5"), "{}", done.stderr);
    let trace = rig.bed.read_json("workspace/traces/latest/shop_M_1/trace.json");
    assert!(trace["traceback"].as_str().unwrap().contains("1 / 0"), "{trace}");

    // A forged reward passes no gate, and is no way out of the score; of the hold-out nothing but the outcome is written down.
    rig.bed.write("agent/agent.py", &template);
    rig.edit(&rig.python("print(tricks.source(shop_1='_forge'))"));
    rig.script("{**tasks.solved(), **tasks.unsolved(['shop_1', 'yard_1'])}");
    rig.run(&["gate"]).expect(1).says("gate: failed");
    let from = then(&rig);
    ended(&rig, from, "shop_1", 1, "agent_error", json!(0.0), &[]);
    ended(&rig, from, "shop_2", 1, "passed", json!(0.7), &[]);
    ended(&rig, from, "yard_1", 1, "failed", json!(0.0), &[]);
    assert_eq!(rig.bed.events("verdict").pop().unwrap()["decision"]["status"], "failed");

    // An agent that cannot be imported costs nothing, and is told why.
    rig.bed.write("agent/agent.py", &format!("import no_such_thing_at_all\n{template}"));
    for command in ["benchmark", "gate"] {
        let done = rig.run(&[command]).expect(1);
        let said = format!("{}{}", done.stdout, done.stderr);
        let reason = "agent/agent.py:1: ModuleNotFoundError: No module named 'no_such_thing_at_all'";
        assert_eq!(said.matches(reason).count(), 1, "{said}");
        assert_eq!(then(&rig), rig.bed.events("trial").len(), "{command} ran trials");
    }
    rig.bed.write("agent/agent.py", &template);

    // What listens on a configured port is somebody else's, and neither asked nor believed.
    rig.edit("# thinks harder");
    let stale = TcpListener::bind(("127.0.0.1", port)).unwrap();
    stale.set_nonblocking(true).unwrap();
    rig.run(&["benchmark"]).expect(3).warns(&format!("port {port} is in use"));
    let from = then(&rig);
    TRAIN.iter().for_each(|task| ended(&rig, from, task, 2, "infra_error", Value::Null, &[]));
    assert_eq!(stale.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(stale);

    // The database goes away in the middle: no score, another try, and then nothing is decided.
    let hang = rig.path("gone");
    rig.script(&format!(
        "{{**tasks.solved(), 'shop_3': [tasks.call('get_schema'), {{'hang': {hang:?}, 'then': tasks.submit('SELECT 42')}}, tasks.DONE]}}"
    ));
    let mut child = start(&rig, &["benchmark"]);
    let finished = |rig: &Rig| rig.bed.events("trial").len() - from - 2 * TRAIN.len();
    rig.wait_for("four trials", &mut child, || finished(&rig) == 4 && hang.with_extension("seen").exists());
    rig.server("stop");
    std::fs::write(&hang, "").unwrap();
    let Done { code, stderr, .. } = done_of(child);
    assert_eq!(code, 3, "{stderr}");
    let from = then(&rig);
    ended(&rig, from, "shop_3", 2, "infra_error", Value::Null, &[]);
    assert!(stderr.contains("PostgreSQL at 127.0.0.1"), "{stderr}");
    rig.server("start");
    let paid: Vec<usize> = TRAIN.iter().map(|task| rig.requests(task)).collect();
    rig.script("tasks.solved()");
    rig.run(&["benchmark"]).expect(0);
    for (task, paid) in TRAIN.iter().zip(paid) {
        assert_eq!(rig.requests(task) > paid, *task == "shop_3", "{task}");
    }
    rig.run(&["verify"]).expect(0).says("verify: ok");
}

#[test]
fn a_template_that_changes_takes_the_run_with_it() {
    let Some(rig) = Rig::new("tasks.TASKS[:4]", "max_concurrency: 1\n") else { return };
    rig.script("tasks.solved()");
    rig.run(&["prepare"]).expect(0);
    let task = rig.split("train").remove(0);
    let shop = "UPDATE orders SET total = total + 1 WHERE id = 1";
    for (change, back, counts) in [
        (shop, "UPDATE orders SET total = total - 1 WHERE id = 1", false),
        ("CREATE FUNCTION spoil() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DROP FUNCTION spoil()", false),
        ("CREATE TABLE gone (id int); DROP TABLE gone", "SELECT 1", true),
    ] {
        rig.edit(&format!("# {change}"));
        let hang = rig.path(&back[..4].to_lowercase());
        let solved = format!("tasks.solved()[{task:?}]");
        rig.script(&format!("{{{task:?}: [{{'hang': {hang:?}, 'then': {solved}[0]}}, *{solved}[1:]]}}"));
        let mut child = start(&rig, &["benchmark", "--task-ids", &task]);
        rig.wait_for("a model is asked", &mut child, || hang.with_extension("seen").exists());
        rig.change("shop_template", change);
        std::fs::write(&hang, "").unwrap();
        let done = done_of(child);
        rig.change("shop_template", back);
        let said = "shop_template changed while the run was at work, so none of its trials counts";
        assert_eq!(
            (done.code, done.stderr.contains(said)),
            if counts { (0, false) } else { (3, true) },
            "{}",
            done.stderr
        );
        assert_eq!(rig.bed.events("run_finished").pop().unwrap()["void"] == true, !counts);
    }
    rig.run(&["verify"]).expect(0).says("verify: ok");
}

fn done_of(child: Child) -> Done {
    done(child.wait_with_output().unwrap())
}

/// Stages of a run over shop_2, shop_3 and yard_1, two at a time, at which it is caught in the middle of shop_3. From the
/// third on, the other two are finished.
const STAGES: [&str; 5] =
    ["services start", "the agent loads", "a model is asked", "a query runs", "copies are dropped"];

/// One handler hears both, so that a stage needs one of them.
#[test]
fn a_sigterm_or_sigint_at_any_stage_leaves_nothing_and_loses_nothing() {
    caught_at_every_stage(&[(Signal::TERM, 143), (Signal::INT, 130)]);
}

#[test]
fn a_sigkill_at_any_stage_leaves_nothing_behind_the_next_start_and_loses_nothing() {
    caught_at_every_stage(&[(Signal::KILL, 137)]);
}

/// In turns with these signals, each with the exit code it leads to.
fn caught_at_every_stage(signals: &[(Signal, i32)]) {
    let five = "[tasks.BY_ID[name] for name in ('shop_1', 'shop_2', 'shop_3', 'yard_1', 'yard_2')]";
    let Some(rig) = Rig::new(five, "max_concurrency: 2\n") else { return };
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let env = rig.bed.read(".env");
    let base = env.split_once("OPENAI_API_BASE=http://").unwrap().1;
    let hosts = json!([base.split(['/', '\n']).next(), address.to_string()]);
    let config = rig.bed.read("experiment_config.yaml");
    rig.bed.write("experiment_config.yaml", &format!("{config}model_hosts: {hosts}\n"));
    rig.script("tasks.solved()");
    // The checks start services too.
    let mut child = start(&rig, &["doctor"]);
    let services = || processes(&rig.bed).iter().any(|(_, command)| command.contains("guard.py"));
    rig.wait_for("the checks start services", &mut child, services);
    let (signal, code) = signals[0];
    send(i32::try_from(child.id()).unwrap(), signal);
    assert_eq!(done_of(child).code, code);
    nobody_left(&rig.bed);
    rig.run(&["prepare"]).expect(0).says("(2/2 pass); train 3/3 pass");
    assert_eq!(rig.split("train"), ["shop_2", "shop_3", "yard_1"]);

    // Its import lasts as long as somebody listens there. The preflight, which has no network, is not held up.
    rig.edit(&format!(
        "import httpx\ntry:\n    httpx.get('http://{address}/', timeout=None)\nexcept Exception:\n    pass"
    ));
    let before = rig.bed.events("trial").len();
    let paid_for = || ["shop_2", "yard_1"].map(|task| rig.requests(task));
    let (paid_before, mut paid) = (paid_for(), None);
    for (number, stage) in STAGES.iter().enumerate() {
        let (signal, code) = signals[(number + 1) % signals.len()];
        let hang = rig.path(&format!("hang{number}"));
        let step = match *stage {
            "a query runs" => "tasks.submit('SELECT pg_sleep(60)')".to_string(),
            _ => format!("{{'hang': {hang:?}}}"),
        };
        rig.script(&format!("{{**tasks.solved(), 'shop_3': [{step}]}}"));
        let hold = (*stage == "the agent loads").then(|| TcpListener::bind(address).unwrap());
        let mut held = None;
        if let Some(hold) = &hold {
            hold.set_nonblocking(true).unwrap();
        }
        let mut child = start(&rig, &["benchmark"]);
        let asked = || hang.with_extension("seen").exists();
        let mut frozen = None;
        match *stage {
            "services start" => rig.wait_for(stage, &mut child, services),
            "the agent loads" => rig.wait_for(stage, &mut child, || {
                held = held.take().or_else(|| hold.as_ref()?.accept().ok());
                held.is_some()
            }),
            "a model is asked" => rig.wait_for(stage, &mut child, asked),
            "a query runs" => rig.wait_for(stage, &mut child, || rig.busy_with("%pg_sleep(60)%")),
            _ => {
                rig.wait_for(stage, &mut child, asked);
                frozen = Some(rig.freeze());
                std::fs::write(&hang, "").unwrap();
                rig.wait_for(stage, &mut child, || rig.busy_with("DROP DATABASE%"));
            }
        }
        let finished = if number < 2 { 0 } else { 2 };
        rig.wait_for("the others are kept", &mut child, || rig.bed.events("trial").len() == before + finished);
        send(i32::try_from(child.id()).unwrap(), signal);
        drop(frozen);
        let done = done_of(child);
        assert_eq!(done.code, code, "{stage}: {}", done.stderr);
        nobody_left(&rig.bed);
        let trials = rig.bed.events("trial").split_off(before);
        assert_eq!(trials.len(), finished, "{stage}: {trials:?}");
        if signal != Signal::KILL {
            assert_eq!(rig.copies(), "", "{stage}");
            rig.nothing_leaked();
        }
        // Paid for once, and never again.
        if finished > 0 {
            assert_eq!(*paid.get_or_insert_with(paid_for), paid_for(), "{stage}");
        }
    }
    assert_ne!(paid, Some(paid_before));
    rig.script("tasks.solved()");
    rig.run(&["benchmark"]).expect(0);
    let trials = rig.bed.events("trial").split_off(before);
    assert_eq!(trials.len(), 3, "{trials:?}");
    assert_eq!(paid, Some(paid_for()));
    rig.run(&["verify"]).expect(0).says("verify: ok");
    nobody_left(&rig.bed);
}

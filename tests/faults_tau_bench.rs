//! What goes wrong in tau-bench, through the binary: kills in the middle, limits on what runs at once, what each failure
//! counts as, and agents that cheat. Over the stand-in for tau2 with its scripted model.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::support::Bed;
use crate::support::running::{Running, leftovers, nobody_left, until};
use crate::support::tau::{ANSWERED, CLEVER, Model, bed, edit, fenced, number, of_an_install, prepared, tasks};
use rustix::process::Signal;
use serde_json::Value;

/// The rewards of the ledger by conversation, each trial's once.
fn rewards(bed: &Bed) -> BTreeMap<u32, Vec<Value>> {
    let mut rewards: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
    for trial in bed.events("trial") {
        rewards.entry(number(trial["task"].as_str().unwrap())).or_default().push(trial["reward"].clone());
    }
    rewards
}

/// Inserts statements into the agent's turn; `number` is the conversation's.
fn misbehave(bed: &Bed, body: &str) {
    let mut code = "        import gc, json, os, re, sys, time, litellm\n        \
        number = int(re.search(r\"set line(\\d+)\", str([message.content for message in state])).group(1))\n"
        .to_owned();
    for line in body.lines() {
        code.push_str(&format!("        {line}\n"));
    }
    edit(bed, ANSWERED, &format!("{code}{ANSWERED}"));
}

#[test]
fn a_killed_baseline_loses_nothing_and_pays_for_nothing_twice() {
    let (bed, calm) = (of_an_install(bed("telecom", "")), prepared("telecom"));
    let (model, calm_model) = (Model::of(&bed), Model::of(&calm));
    // In this order they are run, after each other on train and beside them those of the hold-out.
    let order: Vec<u32> = tasks(&calm, "train").iter().map(|task| number(task)).collect();
    for (signal, code, finished) in [(Signal::TERM, 143, 10), (Signal::KILL, 137, 20), (Signal::INT, 130, 30)] {
        model.hold(order[finished..].iter().copied().chain(40..60));
        let command = Running::start(bed.command(&["prepare"]));
        until("all others are finished", || bed.events("trial").len() == finished);
        // What is cut off is in the middle of a call.
        until("every place waits for the model", || model.under_way() == 8);
        command.signal(signal);
        let done = command.end();
        assert_eq!(done.code, code, "{}", done.stderr);
        nobody_left(&bed);
        assert_eq!(rewards(&bed).into_keys().collect::<BTreeSet<_>>(), order[..finished].iter().copied().collect());
        assert!(bed.events("prepared").is_empty());
        // Train and hold-out run at the same time, and share the limit.
        assert_eq!(model.most_at_once(), 8);
        model.drop_unanswered();
    }
    model.hold([]);
    let done = bed.run(&["prepare"]).expect(0);
    done.says("baseline   val_score 0.7000 (14/20 pass); train 26/40 pass");
    assert_eq!(model.answered(), calm_model.answered(), "calls that were paid for");
    assert_eq!(rewards(&bed), rewards(&calm));
    assert!(rewards(&bed).values().all(|rewards| rewards.len() == 1));
    bed.run(&["verify"]).expect(0).says("verify: ok");
    assert_eq!(leftovers(&bed.root), Vec::<PathBuf>::new());
}

#[test]
fn one_at_a_time_or_ten_makes_no_difference_and_ten_are_ten() {
    let bed = prepared("telecom");
    let model = Model::of(&bed);
    let mut results = Vec::new();
    for limit in [1, 10] {
        model.forget();
        model.hold(0..40);
        let words =
            ["benchmark", "--fresh", "--format", "json", "--concurrency", &limit.to_string()].map(str::to_owned);
        let command = Running::start(bed.command(&words.each_ref().map(String::as_str)));
        until("as many wait as may", || model.calls().len() == limit);
        model.hold([]);
        let mut lines = command.end().expect(0).json();
        assert_eq!(model.most_at_once(), limit);
        lines.iter_mut().for_each(|line| line.as_object_mut().unwrap().retain(|key, _| key != "seconds"));
        lines.sort_by_key(|line| line["task"].to_string());
        assert_eq!(lines.iter().filter(|line| line["task"].is_string()).count(), 40);
        results.push(lines);
    }
    assert_eq!(results[0], results[1]);
}

/// What the agent does in a conversation, and what that counts as.
const AGENT: [(u32, &str, &str); 12] = [
    (1, "raise ValueError('boom')", "agent_error"),
    (2, "return None, state", "agent_error"),
    (4, "answer.tool_calls[0].arguments = 'x'", "agent_error"),
    (7, "sys.exit(0)", "agent_error"),
    (8, "os._exit(0)", "agent_error"),
    (10, "time.sleep(3600)", "agent_timeout"),
    (11, "os.kill(os.getpid(), 9)", "agent_error"),
    (13, "raise KeyboardInterrupt", "agent_error"),
    (14, "raise litellm.RateLimitError('slow down', 429)", "agent_error"),
    (17, "answer.content, answer.tool_calls = '', None", "agent_error"),
    (12, "return None, state", "agent_error"),
    (18, "litellm.completion(messages=[42])", "agent_error"),
];

/// What a model does in a conversation, and what that counts as.
const MODELS: [(&str, u32, &str, &str); 14] = [
    ("agent", 19, "401", "infra_error"),
    ("agent", 20, "429", "infra_error"),
    ("agent", 22, "500", "infra_error"),
    ("agent", 21, "drop", "infra_error"),
    ("agent", 26, "badjson", "agent_error"),
    ("agent", 28, "context", "agent_error"),
    ("agent", 37, "empty", "agent_error"),
    // A tool that does not exist: the customer is helped all the same.
    ("agent", 16, "unknown", "passed"),
    ("agent", 32, "hang", "infra_error"),
    ("user", 29, "500", "infra_error"),
    ("user", 31, "empty", "infra_error"),
    ("judge", 5, "few", "verifier_error"),
    ("judge", 25, "none", "verifier_error"),
    ("judge", 35, "500", "infra_error"),
];

#[test]
fn every_failure_counts_as_what_it_is() {
    let bed = of_an_install(bed("telecom", "min_evidence: 0.5"));
    let config = bed.read("experiment_config.yaml");
    bed.write("experiment_config.yaml", &config.replace("per_task_timeout: 30", "per_task_timeout: 10"));
    let model = Model::of(&bed);
    bed.run(&["prepare"]).expect(0);
    let before = bed.events("trial").len();

    let rows = AGENT.map(|(number, body, _)| format!("if number == {number}:\n    {body}\n"));
    misbehave(&bed, &rows.concat());
    model.fail(&MODELS.map(|(role, number, fault, _)| (role, number, fault)));
    let done = bed.run(&["benchmark"]).expect(0).warns("10 trials gave no evidence, running them again");
    done.says("benchmark: train train_score=0.1333 passed=4 evaluated=30 expected=40\n");

    let mut expected: BTreeMap<u32, &str> =
        (0..40).map(|n| (n, if n % 3 == 0 { "failed" } else { "passed" })).collect();
    expected.extend(AGENT.map(|(number, _, outcome)| (number, outcome)));
    expected.extend(MODELS.map(|(_, number, _, outcome)| (number, outcome)));
    let mut found: BTreeMap<u32, Vec<(String, Value)>> = BTreeMap::new();
    for trial in &bed.events("trial")[before..] {
        let outcome = trial["outcome"].as_str().unwrap().to_owned();
        found.entry(number(trial["task"].as_str().unwrap())).or_default().push((outcome, trial["reward"].clone()));
    }
    for (number, outcome) in &expected {
        // What says nothing about the agent is tried once more, and has no reward.
        let (times, reward) = match *outcome {
            "infra_error" | "verifier_error" => (2, Value::Null),
            "passed" => (1, 1.0.into()),
            _ => (1, 0.0.into()),
        };
        assert_eq!(found[number], vec![((*outcome).to_owned(), reward); times], "conversation {number}");
    }
    assert_eq!(found.len(), 40);
}

/// What an agent tries in a conversation of the hold-out that the template fails. 42, 48 and 54 need another value than the
/// customer says, 45, 51 and 57 something that only the customer can do.
const CHEATS: [(u32, &str); 7] = [
    // The answer off the stack or the heap.
    (
        42,
        "
frame, things = sys._getframe(), gc.get_objects()
while frame:
    things += frame.f_locals.values()
    frame = frame.f_back
for task in [thing for thing in things if type(thing).__name__ == 'Task']:
    for action in task.evaluation_criteria.actions:
        for call in answer.tool_calls or []:
            if action.arguments.get('name') == call.arguments['name']:
                call.arguments = action.arguments
",
    ),
    // The answer from the data.
    (
        48,
        "
try:
    from tau2.runner import get_tasks
    task = get_tasks('telecom')[number]
    for call in answer.tool_calls or []:
        call.arguments = task.evaluation_criteria.actions[0].arguments
except OSError:
    pass
",
    ),
    // The customer's own tool.
    (
        45,
        "
if not answer.tool_calls and not any('flip' in str(vars(message)) for message in state):
    from tau2.data_model.message import ToolCall
    answer.tool_calls = [ToolCall(id='f', name='flip', arguments={'name': 'line45'}, requestor='user')]
    answer.content = None
",
    ),
    // Results of its own making.
    (
        54,
        "
for descriptor in range(1, 40):
    for line in ({'result': {'outcome': 'passed', 'reward': 1.0}}, {'event': 'trial', 'reward': 1.0}):
        try:
            os.write(descriptor, json.dumps(line).encode() + b'\\n')
        except OSError:
            pass
",
    ),
    // Something left for another conversation: one that could fails, and is missed in the score.
    (
        44,
        "
import ctypes, socket
libc = ctypes.CDLL(None)
def calls(name, *words):
    if getattr(libc, name)(*words) < 0:
        raise OSError
for leave in (
    lambda: calls('shmget', 4711, 4096, 0o1666), lambda: calls('msgget', 4711, 0o1666),
    lambda: calls('semget', 4711, 1, 0o1666), lambda: calls('mq_open', b'/left', 0o102, 0o666, None),
    lambda: calls('syscall', ctypes.c_long(248), b'user', b'left', b'x', ctypes.c_long(1), ctypes.c_long(-4)),
    lambda: socket.socket(), lambda: socket.socket(proto=262), lambda: socket.socket(type=socket.SOCK_DGRAM),
    lambda: os.chmod(__file__, 0o666), lambda: os.utime(__file__, (1, 1)), lambda: os.setxattr(__file__, 'user.a', b'1'),
):
    try:
        leave()
        answer.tool_calls, answer.content = None, 'left something'
    except OSError:
        pass
",
    ),
    // A way out of the count.
    (51, "raise litellm.RateLimitError('slow down', 429)"),
    (57, "os._exit(0)"),
];

/// What an agent may try when its file is loaded, for all conversations alike.
const PATCHES: &str = "
import sys, types
import tau2.evaluator.evaluator as grader, tau2.runner
from tau2.environment.environment import Environment
from tau2.runner.build import UserSimulator
for module in list(sys.modules.values()):
    if hasattr(module, 'evaluate_simulation'):
        module.evaluate_simulation = lambda **_: types.SimpleNamespace(reward=1.0)
Environment.set_state = lambda *_, **__: None
Environment.__eq__ = lambda *_: True
UserSimulator.generate_next_message = lambda *_: None
";

#[test]
fn cheats_do_not_raise_the_score_of_the_gate() {
    let bed = prepared("telecom");
    let fenced = fenced(&bed);
    let gate = || {
        let before = bed.events("trial").len();
        bed.run(&["gate"]).expect(0).says("gate: passed val_score=0.7000 evals_passed=14 evals_total=20");
        for trial in &bed.events("trial")[before..] {
            let number = number(trial["task"].as_str().unwrap());
            assert_eq!(
                trial["reward"],
                if number.is_multiple_of(3) { 0.0 } else { 1.0 },
                "conversation {number}: {trial}"
            );
        }
        bed.git(&["checkout", "-q", "agent/agent.py"]);
    };
    let branch = |(number, body): &(u32, &str)| {
        let lines: String = body.trim().lines().map(|line| format!("    {line}\n")).collect();
        format!("if number == {number}:\n{lines}")
    };
    let cheats = CHEATS.iter().filter(|(number, _)| fenced || ![44, 48].contains(number));
    misbehave(&bed, &cheats.map(branch).collect::<String>());
    gate();
    edit(&bed, "class HarnessAgent", &format!("{PATCHES}\n\nclass HarnessAgent"));
    gate();
    // The honest way to the same tasks.
    edit(&bed, ANSWERED, &format!("{CLEVER}{ANSWERED}"));
    bed.run(&["gate"]).expect(0).says("gate: passed val_score=1.0000 evals_passed=20 evals_total=20");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn the_preflight_imports_the_agent_behind_the_fence_that_it_will_have() {
    let bed = of_an_install(bed("mock", "pass_env: [MY_API_KEY]"));
    let run =
        |words: &[&str]| crate::support::done(bed.command(words).env("MY_API_KEY", "sk-very-secret").output().unwrap());
    let fenced = !run(&["prepare"]).expect(0).stderr.contains("no Landlock");
    let tasks = bed.outside().join("tau2/data/tau2/domains/mock/tasks.json");
    assert!(tasks.exists());
    let look = format!(
        "import os\nassert 'MY_API_KEY' not in os.environ and os.environ['AGENT_MODEL'] == 'stub/x'\ntry:\n    \
         open({tasks:?}).close()\nexcept OSError:\n    pass\nelse:\n    assert not {}, 'the tasks can be read'\n\n\n",
        if fenced { "True" } else { "False" }
    );
    edit(&bed, "class HarnessAgent", &format!("{look}class HarnessAgent"));
    run(&["gate"]).expect(0);
    edit(&bed, "import os\nassert", "import nothing_like_it, os\nassert");
    run(&["gate"]).expect(1).says("preflight         failed    agent/agent.py:").says("ModuleNotFoundError");
}

#[test]
fn a_provider_that_fails_is_no_score_and_no_verdict() {
    // How often a call is made again hangs on the time limit.
    let bed = of_an_install(bed("telecom", "infra_retries: 0"));
    let config = bed.read("experiment_config.yaml");
    bed.write("experiment_config.yaml", &config.replace("per_task_timeout: 30", "per_task_timeout: 10"));
    let model = Model::of(&bed);
    bed.run(&["prepare"]).expect(0);
    let clever = || edit(&bed, ANSWERED, &format!("{CLEVER}{ANSWERED}"));
    // One of twenty: left out, and said so.
    clever();
    model.fail(&[("user", 42, "401")]);
    let done = bed.run(&["gate"]).expect(0).says("1 left out for lack of evidence");
    done.says("gate: passed val_score=1.0000 evals_passed=19 evals_total=19");
    // Too many: nothing is decided, nothing is changed.
    bed.git(&["checkout", "-q", "agent/agent.py"]);
    clever();
    edit(&bed, "        import re\n", "        import re  # again\n");
    let views = bed.views();
    // A provider can also fail behind status 200.
    for faults in [[("user", "500"); 3], [("agent", "page"), ("agent", "null"), ("agent", "cut")]] {
        let [first, second, third] = faults;
        model.fail(&[(first.0, 40, first.1), (second.0, 41, second.1), (third.0, 43, third.1)]);
        bed.run(&["gate"]).expect(3);
        assert_eq!(bed.views(), views);
    }
    // When the provider is back, only what is missing is run.
    model.fail(&[]);
    model.forget();
    bed.run(&["gate"]).expect(0).says("gate: passed val_score=1.0000 evals_passed=20 evals_total=20");
    let again: BTreeSet<u32> = model.answered().into_keys().map(|(number, _)| number).filter(|n| *n >= 40).collect();
    assert_eq!(again, BTreeSet::from([40, 41, 43]));
    bed.run(&["verify"]).expect(0);
}

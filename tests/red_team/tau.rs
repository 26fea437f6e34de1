//! The hostile agents in tau-bench's helper, over the stand-in for tau2: forked from a warm process, behind the fence's twin.

use fs_err as fs;
use serde_json::json;

use super::agents::Hostile;
use super::field::{Field, Told};
use super::judging::{judge_helper, patience};
use super::writing::{file, file_of};

/// The agent of `tau-bench`. To the grader it says the same in every conversation, and what came of the attack goes to stdout.
pub(crate) const CLASS: &str = "
from tau2.agent.base_agent import HalfDuplexAgent
from tau2.data_model.message import AssistantMessage

class HarnessAgent(HalfDuplexAgent):
    def __init__(self, tools, domain_policy, **more):
        super().__init__(tools=tools, domain_policy=domain_policy)

    def get_init_state(self, message_history=None):
        return []

    def generate_next_message(self, message, state):
        print(solve('?'))
        return AssistantMessage(role='assistant', content='RESOLVED'), state
";

/// What the lines about a benchmark's program are about here: the tasks, with their answers.
const ANSWERS: &str = "tau2/domains/mock/tasks.json";

/// What is not there to be had, fence or none: the helper takes the keys out of its environment before an agent is forked.
const NOT_SHOWN: [&str; 1] = ["reads the program's environment"];

/// Lines that are about what other benchmarks have.
const ELSEWHERE: [&str; 3] = [
    "lists what lies beside it",
    // Landlock hides no names, only what is behind them.
    "looks whether a file exists",
    "rewrites the program",
];

/// Whether a line is about something that tau-bench has.
pub(super) fn wanted(hostile: &Hostile) -> bool {
    !ELSEWHERE.contains(&hostile.name)
}

/// Whether a line gets through where there is no fence.
pub(super) fn shows(hostile: &Hostile) -> bool {
    !NOT_SHOWN.contains(&hostile.name)
}

/// What the helper does with an agent of all these lines.
pub(super) fn run_lines(field: &Field, lines: &[&Hostile], token: u32, fenced: bool) -> Told {
    run(field, &file_of(lines, field, token, CLASS), 20, fenced)
}

/// Plays two trials.
fn run(field: &Field, agent: &str, limit: u32, fenced: bool) -> Told {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = tempfile::tempdir_in(field.directory.path()).unwrap();
    let answers = root.join("tests/support/tau2_standin_data").join(ANSWERS);
    let code = agent.replace("os.path.join(HERE, '..', 'bench.py')", &format!("{answers:?}"));
    let code = code.replace("return 'import' in", "return 'note' in");
    let agent = place.path().join("agent.py");
    fs::write(&agent, code).unwrap();
    for owned in [place.path(), &agent] {
        let mode = if owned.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(owned, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(owned, field.user, field.user).unwrap();
    }
    let request = json!({
        "protocol": 1, "action": "run", "tasks": ["hard"], "split": null, "trials": 2, "concurrency": 1, "seed": 300,
        "timeout_s": limit, "keep_traces": true, "agent": {"path": agent, "model": "stub/x", "user_model": "stub/user"},
        "options": {"domain": "mock", "base_seed": 300, "fenced": fenced},
        "fence": if fenced { json!(field.fence) } else { json!([]) },
    });
    let mut command = field.command("python3");
    let bench = root.join("agent/helpers/tau_bench/bench.py");
    command.arg("-B").arg(bench).env("PYTHONPATH", root.join("tests/support/tau2_standin")).env("STUB_KEY", "hush");
    Field::tell(command, &request)
}

/// Says what is wrong with a line, if anything.
pub(super) fn judge(field: &Field, hostile: &Hostile, token: u32) -> Option<String> {
    judge_helper(field, hostile, token, "agent_output", shows(hostile), |token, fenced| {
        run(field, &file(hostile, field, token, CLASS), patience(hostile), fenced)
    })
}

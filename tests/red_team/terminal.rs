//! The hostile agents behind Harbor: what plays Harbor here gives them what the real one does, by way of the helper that stands in
//! for them. `harbor::` tries the same behind the real one.

use fs_err as fs;
use serde_json::{Value, json};

use super::agents::{Hostile, Sign};
use super::field::{Field, Told};
use super::judging::{judge_helper, patience};
use super::writing::{file, file_of};

/// What came of the attack goes where agents report what they used.
const CLASS: &str = "
from harbor.agents.base import BaseAgent

class HarnessAgent(BaseAgent):
    @staticmethod
    def name():
        return 'hostile'

    async def setup(self, environment):
        pass

    async def run(self, instruction, environment, context):
        context.metadata = {'said': solve(environment)}
";

/// Lines that are about what other benchmarks have, as for tau-bench; and sockets, which its model is reached by.
const ELSEWHERE: [&str; 5] = [
    "lists what lies beside it",
    "looks whether a file exists",
    "rewrites the program",
    "opens TCP",
    "opens TCP over IPv6",
];

/// What is not there to be had in Harbor's own process, which is no child of one with secrets.
const NOT_SHOWN: &str = "reads the program's environment";

/// What only this benchmark has: a line to Harbor's process, which speaks frames.
const LINE: &str = r#"
def frame(head, data=b""):
    text = json.dumps(head).encode()
    return struct.pack(">II", len(text), len(data)) + text + data
def tell(*frames):
    line = [found for found in gc.get_objects() if type(found).__name__ == "Line"][0]
    line.connection.setblocking(True)
    line.connection.sendall(b"".join(frames))
    line.connection.setblocking(False)
"#;

const fn agent(name: &'static str, code: &'static str) -> Hostile {
    Hostile { name, sign: Sign::Spoils("agent_error"), code }
}

const fn endless(name: &'static str, code: &'static str) -> Hostile {
    Hostile { name, sign: Sign::Spoils("agent_timeout"), code }
}

/// None may be paid, nor end a trial in another way than as the agent's own failure.
pub(super) const OF_THE_LINE: &[Hostile] = &[
    agent("writes a file outside of its logs", "tell(frame({'file': '../verifier/reward.txt'}, b'1'))"),
    agent(
        "writes a file at an absolute path",
        "tell(frame({'file': os.path.join(HERE, '../../jobs/trial-0/verifier/reward.txt')}, b'1'))",
    ),
    agent("writes through a link in its logs", "tell(frame({'file': 'link/reward.txt'}, b'1'))"),
    agent(
        "closes its sandbox",
        "tell(*[frame({'ask': n, 'do': what}) for n, what in enumerate(['stop', 'start', '__del__'], 900)])",
    ),
    agent(
        "asks for what is no text",
        "tell(frame({'ask': 900, 'do': 'exec', 'command': [1], 'env': 7}), frame({'ask': [], 'do': {}}))",
    ),
    agent(
        "says that it was cancelled",
        "tell(frame({'failed': {'kind': 'CancelledError', 'module': 'asyncio.exceptions', 'message': ''}}))",
    ),
    agent(
        "says that it is a name that is none",
        "tell(frame({'failed': {'kind': '1 x\\n', 'message': None, 'trace': 5}}))",
    ),
    agent(
        "blames a sandbox that never failed",
        "tell(frame({'failed': {'kind': 'ConnectionError', 'message': 'gone', 'number': 0}}))",
    ),
    agent("says what is no message", "tell(frame([1, 2]))"),
    agent("nests a message without end", "tell(struct.pack('>II', 200000, 0) + b'[' * 200000)"),
    agent("announces more than there can be", "tell(struct.pack('>II', 1 << 31, 1 << 31))"),
    agent(
        "notes what is no context",
        "tell(frame({'context': [5]}), frame({'context': {'cost_usd': {'a': []}}}), frame({'log': {}, 'level': []}))",
    ),
    agent(
        "asks a hundred things at a time",
        "tell(*[frame({'ask': n, 'do': 'exec', 'command': 'x'}) for n in range(900, 1000)])",
    ),
    agent("ends its process", "os._exit(0)"),
    endless(
        "sleeps without end",
        "
    while True:
        time.sleep(1)",
    ),
    agent(
        "writes outside of what is uploaded",
        "tell(frame({'ask': 900, 'do': 'upload_dir', 'target': '/x', 'entries': [{'path': '../../trial-0/verifier/reward.txt', 'mode': 420, 'size': 1}]}, b'1'))",
    ),
    agent(
        "names an upload after what is elsewhere",
        "tell(frame({'ask': 900, 'do': 'upload_file', 'target': '/x', 'name': '../../../trial-0/verifier/reward.txt', 'mode': 420}, b'1'))",
    ),
    agent(
        "says what cannot be written down",
        "tell(frame({'failed': {'kind': 'ValueError', 'message': '\\ud800', 'trace': '\\ud800', 'number': []}}))",
    ),
    agent(
        "notes what cannot be written down",
        "tell(frame({'context': {'metadata': {'x': '\\ud800'}}}), frame({'context': {'n_input_tokens': -1}}))\n    os._exit(0)",
    ),
    endless(
        "floods the line",
        "
    while True:
        tell(frame({}) * 20000)",
    ),
    endless(
        "asks for much and reads nothing",
        "
    tell(*[frame({'ask': n, 'do': 'exec', 'command': 'x' * 3000000}) for n in range(900, 903)])
    while True:
        time.sleep(1)",
    ),
    endless(
        "leaves its children to each other",
        "
    def chain(deep):
        if os.fork() == 0:
            os.setsid()
            if deep:
                chain(deep - 1)
            os.execv(sys.executable, [sys.executable, '-I', '-c', 'import time; time.sleep(600)', 'daemon-TOKEN'])
    chain(8)
    while True:
        time.sleep(1)",
    ),
];

/// What of it `cargo test` tries: one line of each kind.
const FEW: [&str; 8] = [
    "writes through a link in its logs",
    "closes its sandbox",
    "asks for what is no text",
    "says that it was cancelled",
    "writes outside of what is uploaded",
    "says what cannot be written down",
    "leaves its children to each other",
    "sleeps without end",
];

/// Whether `cargo test` tries a line.
pub(super) fn few(hostile: &Hostile) -> bool {
    FEW.contains(&hostile.name)
}

/// Whether a line is about something that Harbor's agents have.
pub(super) fn wanted(hostile: &Hostile) -> bool {
    !ELSEWHERE.contains(&hostile.name)
}

/// Whether a line gets through where there is no fence.
pub(super) fn shows(hostile: &Hostile) -> bool {
    hostile.name != NOT_SHOWN
}

/// What becomes of an agent of all these lines.
pub(super) fn run_lines(field: &Field, lines: &[&Hostile], token: u32, fenced: bool) -> Told {
    run(field, &file_of(lines, field, token, CLASS), 20, fenced)
}

/// Plays two trials.
fn run(field: &Field, agent: &str, limit: u32, fenced: bool) -> Told {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = tempfile::tempdir_in(field.directory.path()).unwrap();
    let (staging, jobs) = (place.path().join("staging"), place.path().join("jobs"));
    let (package, answers) = (staging.join("agent"), place.path().join("answers.py"));
    let path = package.join("agent.py");
    fs::create_dir_all(&package).unwrap();
    fs::create_dir(&jobs).unwrap();
    fs::write(&answers, "import answers").unwrap();
    fs::write(&path, agent.replace("os.path.join(HERE, '..', 'bench.py')", &format!("{answers:?}"))).unwrap();
    for owned in [place.path(), &staging, &package, &path, &jobs, &answers] {
        let mode = if owned.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(owned, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(owned, field.user, field.user).unwrap();
    }
    // Its model is at a host where nobody answers.
    let fence: Vec<&str> = field.fence.iter().map(String::as_str).chain(["--host", "127.0.0.1:9"]).collect();
    let job = json!({
        "agent": "agent.agent:HarnessAgent", "agent_file": path, "staging": staging, "fence": fence, "required": true,
        "env": ["PATH", "PYTHONPATH"], "save_trace": true, "in_steps": false,
    });
    let standin = root.join("tests/support/harbor_standin");
    let request = json!({
        "job": if fenced { job } else { Value::Null }, "packages": root.join("agent/helpers"),
        "agent": "agent.agent:HarnessAgent", "staging": staging, "jobs": jobs, "timeout_s": limit,
    });
    let mut command = field.command("python3");
    command.arg("-B").arg(standin.join("drive.py")).env("PYTHONPATH", &standin);
    Field::tell(command, &request)
}

/// Says what is wrong with a line, if anything.
pub(super) fn judge(field: &Field, hostile: &Hostile, token: u32) -> Option<String> {
    judge_helper(field, hostile, token, "metadata", shows(hostile), |token, fenced| {
        run(field, &file(hostile, field, token, &format!("{LINE}{CLASS}")), patience(hostile), fenced)
    })
}

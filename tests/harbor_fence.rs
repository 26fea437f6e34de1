//! terminal-bench's agent behind the fence, in the real Harbor from PyPI: as `harbor`, which see.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests may panic")]

use crate::harbor::{TAKING_DOWN, outcomes};
use crate::support::harbor::{Rig, harbor};
use serde_json::json;

#[test]
fn an_agent_behind_the_fence_ends_its_own_trial_and_no_other() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    if !rig.is_fenced() {
        return;
    }
    let train = rig.split("train");
    for (name, from, to) in &TAKING_DOWN[2..] {
        let statement = to.trim().lines().next().unwrap();
        let one = format!(
            "        if {:?} in self.messages[1]['content']:\n            {statement}\n{from}",
            rig.secret(&train[0])
        );
        rig.edit(from, &one);
        // Anything else of the baseline's is as it was.
        let expected = if train[0].starts_with("easy") { "passed=1" } else { "passed=2" };
        rig.run(&["benchmark", "--fresh"]).expect(0).says(expected);
        assert_eq!(outcomes(&rig, &train[..1]), ["agent_error"], "{name}");
        rig.bed.git(&["checkout", "-q", "agent/agent.py"]);
    }
}

/// What an agent of Harbor's tries, beside what all hostile agents do. FILES are the human's, and Harbor's own of this run.
const PRY: &str = r#"
def harbors():
    # Of what lives in Harbor's process and none of our own packages.
    return [found for found in gc.get_objects() if type(found).__name__ in ("Trial", "SingleStepTrial", "Verifier", "Job")]
def files():
    return [path for path in FILES if os.path.exists(path) and open(path).read(1)]
def jobs():
    return glob.glob(os.path.join(STATE, "**", "result.json"), recursive=True) or os.listdir(STATE)
def verifier(self=None):
    open(os.path.join(str(LOGS[0]), "..", "verifier", "reward.txt"), "w").write("1")
    return True
LOGS = []
ATTACKS.update({"harbor": harbors, "files": files, "jobs": jobs, "verifier": verifier})
def tried():
    through = []
    for name, attack in ATTACKS.items():
        try:
            if attack():
                through.append(name)
        except BaseException:
            pass
    return through
"#;

#[test]
fn a_hostile_agent_in_harbor_reaches_nothing_behind_the_fence() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    if !rig.is_fenced() {
        return;
    }
    let other = crate::fence_hosts::server();
    let train = rig.split("train");
    let pry = |fenced| {
        // A socket is what it reaches its model by.
        let attacks = crate::red_team::attacks(fenced, &["opens TCP", "opens TCP over IPv6"], other);
        let tests = rig.tasks().join(&train[0]).join("tests/test.sh");
        let files = [rig.bed.root.join(".env"), tests];
        format!("{attacks}\nFILES, STATE = {files:?}, {:?}\n{PRY}", rig.bed.state())
    };
    let hostile = |fenced| {
        rig.bed.git(&["checkout", "-q", "agent/agent.py"]);
        rig.edit(
            "        self.begun, self.begun_at = time.monotonic(), now()\n        self.limit",
            "        LOGS.append(self.logs_dir)\n        self.tried = tried()\n        self.begun, self.begun_at = time.monotonic(), now()\n        self.limit",
        );
        rig.edit(
            "            \"stopped\": self.stopped,",
            "            \"stopped\": self.stopped, \"tried\": self.tried,",
        );
        let agent = rig.bed.read("agent/agent.py");
        rig.bed.write("agent/agent.py", &format!("{agent}\n{}\n", pry(fenced)));
    };
    let tried = || rig.bed.read_json(&format!("workspace/traces/latest/{}/trace.json", train[0]))["tried"].clone();

    // Its model is all of the network that it has.
    rig.configure(&format!("model_hosts: ['{}']", rig.model_host()));
    hostile(true);
    rig.run(&["benchmark", "--task-ids", &train[0]]).expect(0);
    assert_eq!(tried(), json!([]));
    let trace = rig.bed.read_json(&format!("workspace/traces/latest/{}/trace.json", train[0]));
    assert_eq!(trace["stopped"], "finished", "it reached its model: {trace}");
    let layers = rig.bed.events("run_finished").pop().unwrap()["fence"].clone();
    assert_eq!(layers, json!(["namespaces", "root", "landlock", "seccomp", "limits"]));

    // All of it is there to be reached: in Harbor's own process it is.
    rig.bed.git(&["checkout", "-q", "agent/agent.py"]);
    rig.configure("fence: off");
    hostile(false);
    rig.run(&["benchmark", "--task-ids", &train[0], "--fresh"]).expect(0);
    let reached: Vec<String> = serde_json::from_value(tried()).unwrap();
    for name in ["harbor", "files", "jobs", "verifier"] {
        assert!(reached.iter().any(|reached| reached == name), "{name} is not among {reached:?}");
    }
    assert!(reached.len() > 12, "{reached:?}");
}

/// An agent whose work is done in the sandbox, as those that Harbor brings: it uses all that Harbor builds on commands and files.
const INSTALLED: &str = r#"
import shlex
from pathlib import Path

from harbor.agents.installed.base import BaseInstalledAgent


class HarnessAgent(BaseInstalledAgent):
    @staticmethod
    def name():
        return "installed"

    async def install(self, environment):
        await self.exec_as_root(environment, command="true")
        with environment.with_default_user(None):
            await environment.exec("true")

    async def run(self, instruction, environment, context):
        secret = instruction.split("secret=")[1].split("]")[0]
        Path(self.logs_dir, "said.txt").write_text("seven c")
        await self.exec_as_agent(environment, command=f"mkdir -p /app; printf %s {shlex.quote(secret)} > /app/answer.txt")
        Path("there").write_bytes(b"\x00\xff")
        await environment.upload_file("there", "/app/there")
        await environment.download_file("/app/there", "back")
        Path("directory/inner").mkdir(parents=True)
        Path("directory/inner/file").write_text("f")
        await environment.upload_dir("directory", "/app/directory")
        await environment.download_dir("/app/directory", "again")
        kinds = [await environment.is_dir(path) for path in ("/app/directory", "/app/there")]
        try:
            await environment.stop(True)
        except PermissionError:
            kinds.append("open")
        print(Path("back").read_bytes(), Path("again/inner/file").read_text(), kinds)

    def populate_context_post_run(self, context):
        context.n_input_tokens = len((self.logs_dir / "said.txt").read_text())
        context.n_output_tokens = 3
"#;

#[test]
fn an_agent_that_works_in_the_sandbox_does_so_from_behind_the_fence() {
    let Some(harbor) = harbor() else { return };
    let rig = Rig::prepared(&harbor);
    if !rig.is_fenced() {
        return;
    }
    rig.bed.write("agent/agent.py", INSTALLED);
    rig.run(&["benchmark"]).expect(0).says("train_score=1.0000");
    let task = &rig.split("train")[0];
    let result = rig.bed.read_json(&format!("workspace/traces/latest/{task}/result.json"));
    assert_eq!(result["detail"]["agent_output"], "b'\\x00\\xff' f [True, False, 'open']\n", "{result}");
    let trial = rig.bed.events("trial").pop().unwrap();
    assert_eq!((&trial["tokens_in"], &trial["tokens_out"]), (&json!(7), &json!(3)), "{trial}");
}

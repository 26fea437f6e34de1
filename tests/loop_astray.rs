//! What a session leaves in its work tree leads the loop nowhere: no link is followed, no pipe waited for, and whatever is broken
//! there is the session's own loss.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::loop_::Night;
use serde_json::json;

/// What a session leaves, and how the next one in the same work tree tidies up, where it has to. VICTIM is a file of the user's.
const TRAPS: [(&str, &str); 20] = [
    // Quoted back, this would be longer than a word of a command may be, and has what ends one.
    ("python3 -c 'print(\"---\\n\\\"\" + \"a\\\\0\" * 40000 + \"\\\": 1\\n---\")' > proposal.md", "rm proposal.md"),
    ("ln -sf VICTIM .git/prompt", ""),
    ("mkfifo .git/prompt", ""),
    ("ln -s VICTIM proposal.md", "rm proposal.md"),
    ("mkfifo proposal.md", "rm proposal.md"),
    ("rm -rf .git; git init -q", ""),
    ("rm -rf .git", ""),
    ("rm -rf .git; ln -s \"$(dirname VICTIM)\" .git", "rm -f .git"),
    ("echo garbage > .git/index", ""),
    ("rm -f .git/index; mkfifo .git/index .git/info", ""),
    ("rm -rf workspace; ln -s \"$(dirname VICTIM)\" workspace", "rm -f workspace"),
    ("rm -rf workspace; : > workspace", "rm -f workspace"),
    ("rm -f workspace/.desk/open; mkdir -p workspace/.desk/open/x", ""),
    (": > workspace/.desk/request-$(printf 'a%.0s' $(seq 242)).json", ""),
    ("mkdir workspace/.desk/answer-x.json; : > workspace/.desk/request-x.json", ""),
    ("rm -f usage.jsonl; mkdir usage.jsonl", "rm -rf usage.jsonl"),
    ("ln -sf VICTIM usage.jsonl", "rm -f usage.jsonl"),
    ("mkfifo .gitattributes", "rm .gitattributes"),
    (
        "python3 -c 'import os\nfor _ in range(3000): os.mkdir(\"deep\"); os.chdir(\"deep\")'",
        "python3 -c 'import os\nwhile os.path.isdir(\"deep/deep\"): os.rename(\"deep/deep\", \"up\"); os.rmdir(\"deep\"); os.rename(\"up\", \"deep\")'; \
         rmdir deep",
    ),
    ("chmod 754 bench.py; chmod 645 agent/agent.py", "chmod 644 bench.py agent/agent.py"),
];

/// The numbers of one of each kind: a link, a pipe, a repository and a directory in the place of another.
const KINDS: [usize; 4] = [3, 2, 7, 10];

#[test]
fn nothing_that_a_session_leaves_leads_the_loop_astray() {
    led_astray(&KINDS.map(|number| TRAPS[number]));
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn nothing_of_all_that_a_session_may_leave_leads_the_loop_astray() {
    led_astray(&TRAPS);
}

fn led_astray(traps: &[(&str, &str)]) {
    let night = Night::new(json!({}), "");
    let bed = &night.bed;
    std::fs::create_dir(bed.outside().join("private")).unwrap();
    let victim = bed.outside().join("private/victim");
    let private = "---\nhypothesis: the password is hunter2\nsurface: s3cr3t\n---\n";
    std::fs::write(&victim, private).unwrap();
    for (number, (trap, mend)) in (1..).zip(traps) {
        let trap = trap.replace("VICTIM", victim.to_str().unwrap());
        // A moment for the loop to look at the desk is what the second command there is for.
        let runs = json!([["sh", "-c", trap], ["timeout", "0.3", "autoharness", "show", "--failing"]]);
        night.plan(json!([
            {"proposal": null, "runs": runs},
            {"skills": ["odd"], "first": [mend]},
        ]));
        let done = night.run(&["--iterations", "1"]);
        let sessions = night.sessions();
        assert_eq!(done.code, 0, "{trap}: {}{}", done.stdout, done.stderr);
        assert!(
            done.stdout.contains(&format!("iteration {number}: rejected")),
            "{trap}: {}{}",
            done.stdout,
            done.stderr
        );
        assert_eq!(sessions.len(), 2, "{trap}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), private, "{trap}");
        let told = sessions[1]["told"].as_str().unwrap();
        assert!(told.contains("cannot be judged as it is"), "{trap}: {told}");
        assert!(!told.contains("hunter2") && !told.contains("s3cr3t"), "{trap}: {told}");
        assert_eq!(std::fs::read_dir(bed.outside().join("private")).unwrap().count(), 1, "{trap}");
        night.tidy();
    }
    bed.run(&["verify"]).expect(0);
}

#[test]
fn the_next_work_tree_is_as_if_nobody_had_been_there() {
    let night = Night::new(json!({}), "");
    let leave = "echo more >> experiment_config.yaml; ln .gitignore twin; chmod 646 bench.py; echo x > agent/new.py; \
                 mkdir -p deep/er; echo x > deep/er/file; chmod 500 deep/er; mkdir -m 0 locked; mkfifo pipe; ln -sfn / root; \
                 rm -rf .git; git init -q; git config core.fsmonitor false";
    let look = format!(
        "(git status --porcelain --ignored; git ls-files -s | grep -v PROGRAM.md; git config -l | grep fsmonitor; \
          find . -path ./workspace -prune -o -path ./.git -prune -o -type d -o -printf '%p %y %m %n\\n' | sort) >> {}; echo >> {0}",
        night.place("seen").display()
    );
    night.plan(json!([
        {"first": [look], "proposal": null, "runs": [["sh", "-c", leave]]},
        {"proposal": null},
        {"first": [look], "skills": ["odd"]},
    ]));
    // Nor does it need what a killed loop may have left half made.
    std::fs::create_dir_all(night.bed.state().join("loop-packs/objects")).unwrap();
    std::fs::write(night.bed.state().join("loop-packs/objects/pack"), "").unwrap();
    night.run(&["--iterations", "2"]).expect(0).says("iteration 1: unusable").says("iteration 2: rejected");
    assert!(!night.bed.state().join("loop-packs").exists());
    let seen = std::fs::read_to_string(night.place("seen")).unwrap();
    let seen: Vec<&str> = seen.split_terminator("\n\n").collect();
    assert!(seen.len() == 2 && seen[0].contains("./agent/agent.py f 644 1"), "{seen:?}");
    assert_eq!(seen[0].trim(), seen[1].trim());
    night.tidy();
}

#[test]
fn names_that_are_no_text_are_committed_as_they_are() {
    let night = Night::new(json!({}), "editable: [agent/agent.py, agent/prompts]");
    let bed = &night.bed;
    let first = "mkdir -p agent/prompts; printf hi > \"agent/prompts/$(printf '\\377\\376').txt\"";
    night.plan(json!([{"skills": ["easy", "hard"], "first": [first]}, {"skills": ["easy"]}]));
    night.run(&["--iterations", "2"]).expect(0).says("iteration 1: accepted").says("iteration 2: rejected");
    assert_eq!(bed.git(&["ls-files", "agent/prompts"]), "\"agent/prompts/\\377\\376.txt\"");
    bed.run(&["verify"]).expect(0);
    night.tidy();
}

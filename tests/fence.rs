//! The fence on a machine that lacks a layer of it: `auto` does with the others, `required` ends before anything is run.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

use std::process::Command;

use crate::support::{Bed, Done, skipped};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_autoharness");

/// Runs a line of a shell where no namespace of users can be made. `None` where that cannot be arranged.
fn without_namespaces(bed: &Bed, line: &str) -> Option<Done> {
    bed.unshared(&[], &format!("echo 0 > /proc/sys/user/max_user_namespaces || exit 99; {line}"))
}

#[test]
fn layers_that_are_missing_are_named_and_the_others_hold() {
    let bed = Bed::prepared(json!({}), "");
    let Some(report) = without_namespaces(&bed, "$PROGRAM __fence --report") else {
        return skipped("no namespace can be made in which none can be made");
    };
    let layers = report.expect(0).json().remove(0);
    let names: Vec<_> = layers["missing"].as_array().unwrap().iter().map(|layer| layer[0].clone()).collect();
    assert_eq!(json!(names), json!(["namespaces", "root"]));
    let agent = "import os, socket\nfor reach in (lambda: os.kill(os.getppid(), 0), socket.socket, lambda: os.listdir('/'),\n    \
                 lambda: open('experiment_config.yaml')):\n    try:\n        reach()\n        print('through')\n    \
                 except OSError:\n        print('held')\n";
    bed.write("agent/try.py", agent);
    let held = "$PROGRAM __fence --output --read agent -- \"$(python3 -c 'import sys; print(sys.executable)')\" -I agent/try.py";
    let held = held.replace(
        "--read agent",
        "--read agent --read \"$(python3 -c 'import sys; print(sys.base_prefix)')\" \
                                      --read \"$(python3 -c 'import sys; print(sys.prefix)')\"",
    );
    assert_eq!(without_namespaces(&bed, &held).unwrap().expect(0).stdout, "held\n".repeat(4));
    let required = "$PROGRAM __fence --required --output -- /bin/echo started";
    let required = without_namespaces(&bed, required).unwrap().expect(125).warns("a fence is required");
    assert_eq!(required.stdout, "");
}

#[test]
fn a_fence_that_is_required_comes_before_money() {
    let report = Command::new(PROGRAM).args(["__fence", "--report"]).output().unwrap();
    if !String::from_utf8_lossy(&report.stdout).contains("\"missing\":[]") {
        return skipped("this machine has not every layer of the fence");
    }
    let bed = Bed::prepared(json!({}), "fence: required\n");
    bed.agent(&["easy", "hard"]);
    let _ = bed.ran();
    let Some(gate) = without_namespaces(&bed, "$PROGRAM gate") else {
        return skipped("no namespace can be made in which none can be made");
    };
    gate.expect(2).warns("`fence: required`, but this machine lacks layers of it");
    assert_eq!(bed.ran(), [""; 0]);
    // Where every layer stands, the ledger says so.
    bed.run(&["gate"]).expect(0);
    let finished = bed.events("run_finished").pop().unwrap();
    assert_eq!(finished["fence"], json!(["namespaces", "root", "landlock", "seccomp", "limits"]));
}

#[test]
fn what_lies_in_shared_memory_can_be_read_behind_a_fence() {
    let Ok(place) = tempfile::Builder::new().prefix("autoharness-fence-").tempdir_in("/dev/shm") else {
        return skipped("this machine has no /dev/shm");
    };
    fs_err::write(place.path().join("file"), "read\n").unwrap();
    let report = Command::new(PROGRAM).args(["__fence", "--report"]).output().unwrap();
    let mut fenced = Command::new(PROGRAM);
    fenced.args(["__fence", "--report", "--read"]).arg(place.path());
    let said = fenced.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&report.stdout), "the same layers stand");
    let mut fenced = Command::new(PROGRAM);
    fenced.args(["__fence", "--output", "--read"]).arg(place.path()).args(["--", "/bin/cat"]);
    let said = fenced.arg(place.path().join("file")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "read\n", "{}", String::from_utf8_lossy(&said.stderr));
}

//! What `prepare` brings for bird-interact, and what it says when it cannot: the data set through git-lfs, the ground truth.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests may panic")]

use std::process::{Command, Stdio};

use crate::support::Done;
use crate::support::bird::provision::{Rig, output, which};
use crate::support::running::{nobody_left, send, until};
use rustix::process::Signal;

const PUBLIC: &str = "adk/bird-interact-lite/bird_interact_data.jsonl";

/// The command that an answer tells the reader to run.
#[track_caller]
fn merge_command(done: &Done) -> &str {
    let (_, rest) = done.stderr.split_once("and run: ").unwrap();
    rest.split_once(" (the output must be another file").unwrap().0
}

#[test]
fn the_data_set_is_downloaded_once_and_the_ground_truth_asked_for() {
    let rig = Rig::new("");
    if !rig.hub() {
        return;
    }
    rig.docker();
    rig.run(&["doctor"])
        .says("warn  data")
        .says("`autoharness prepare` downloads https://huggingface.co/datasets/birdsql/bird-interact-lite");
    assert!(!rig.path("adk/bird-interact-lite").exists(), "doctor downloads nothing");
    let done =
        rig.run(&["prepare"]).expect(2).warns("downloading the data set from https://huggingface.co/datasets/birdsql/");
    let done =
        done.warns("8 of the 8 tasks in").warns("bird.bench25@gmail.com").warns("[bird-interact-lite GT&Test Cases]");
    let public = std::fs::read_to_string(rig.path(PUBLIC)).unwrap();
    assert!(public.starts_with("{\"instance_id\": \"shop_1\""), "{public}");
    assert_eq!(rig.started(), [] as [&str; 0], "no container before the tasks can be scored");

    // What stands there to be copied works as it is, and leaves the public file alone.
    let truth = rig.path("home/bird-interact-lite-truth.jsonl");
    std::fs::copy(rig.tasks(&rig.path("sent"), "tasks.TASKS"), &truth).unwrap();
    output(Command::new("sh").args(["-c", merge_command(&done)]));
    assert_eq!(std::fs::read_to_string(rig.path(PUBLIC)).unwrap(), public);
    let (_, rest) = done.stderr.split_once("Then set `").unwrap();
    let line = rest.split_once('`').unwrap().0.to_string();
    assert!(line.starts_with("bird_data_path: /") && !line.contains("/experiment/"), "{line}");
    rig.configure(&format!("{line}\n"));
    rig.run(&["doctor"]).says("ok    ground truth").says("ok    data           8 tasks on 2 databases");
    let again = rig.run(&["doctor"]);
    assert!(!again.stdout.contains("schemas"), "the folders of the clone are found: {}", again.stdout);

    // One task that is not merged is one too many.
    rig.configure("");
    let half = "[tasks.public(t) if n == 3 else t for n, t in enumerate(tasks.TASKS)]";
    rig.tasks(&rig.path("adk/bird-interact-lite"), half);
    let done = rig.run(&["prepare"]).expect(2).warns("1 of the 8 tasks in").warns("(shop_M_1)");
    assert!(!done.stderr.contains("downloading"), "{}", done.stderr);
}

#[test]
fn a_download_that_was_killed_is_done_again() {
    let rig = Rig::new("");
    if !rig.hub() {
        return;
    }
    rig.docker();
    let (real, seen) = (which("git-lfs").unwrap(), rig.path("pulling"));
    rig.program(
        "git-lfs",
        &format!(
            "if [ \"$1\" = pull ]; then touch {}; exec sleep 1000; fi\nexec {} \"$@\"",
            seen.display(),
            real.display()
        ),
    );
    for signal in [Signal::KILL, Signal::INT] {
        let child = rig.command(&["prepare"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("git-lfs pulls", || seen.exists());
        std::fs::remove_file(&seen).unwrap();
        send(i32::try_from(child.id()).unwrap(), signal);
        let done = crate::support::done(child.wait_with_output().unwrap());
        assert_eq!(done.code, 128 + signal.as_raw(), "{}", done.stderr);
        nobody_left(&rig.bed);
        if signal == Signal::KILL {
            // Half a clone is not taken for a whole one.
            rig.run(&["doctor"]).says("warn  data");
        }
    }
    std::fs::remove_file(rig.path("bin/git-lfs")).unwrap();
    rig.run(&["prepare"]).expect(2).warns("8 of the 8 tasks");
}

#[test]
fn stand_ins_of_git_lfs_are_replaced_in_a_clone_of_ours_and_named_elsewhere() {
    let rig = Rig::new("");
    if !rig.hub() {
        return;
    }
    rig.docker();
    rig.run(&["prepare"]).expect(2).warns("8 of the 8 tasks");
    let schema = rig.path("adk/bird-interact-lite/shop/shop_schema.txt");
    let whole = std::fs::read_to_string(&schema).unwrap();
    let pointer =
        output(Command::new("git").args(["show", "HEAD:shop/shop_schema.txt"]).current_dir(schema.parent().unwrap()));
    std::fs::write(&schema, &pointer).unwrap();
    rig.run(&["doctor"]).says("stand-ins of git-lfs").says("fix: autoharness prepare");
    // The merged tasks are elsewhere, as they should be, and have no schemas beside them.
    let merged = rig.merged();
    for database in ["shop", "yard"] {
        std::fs::remove_dir_all(rig.path("merged").join(database)).unwrap();
    }
    rig.configure(&merged);
    rig.refuses("up -d", 1, "no container today");
    rig.run(&["prepare"]).expect(2).warns("fetching what git-lfs has left out").warns("no container today");
    assert_eq!(std::fs::read_to_string(&schema).unwrap(), whole);

    // Somebody else's clone is not ours to change.
    let theirs = rig.path("theirs");
    output(Command::new("cp").arg("-r").arg(rig.path("hub/datasets/birdsql/bird-interact-lite")).arg(&theirs));
    std::fs::write(theirs.join("bird_interact_data.jsonl"), &pointer).unwrap();
    rig.configure(&format!("bird_data_path: {}\n", theirs.join("bird_interact_data.jsonl").display()));
    let command = format!("git -C {0} lfs install --local && git -C {0} lfs pull", theirs.display());
    rig.run(&["prepare"]).expect(2).warns("stand-ins of git-lfs").warns(&command);
    assert_eq!(std::fs::read_to_string(theirs.join("bird_interact_data.jsonl")).unwrap(), pointer);
}

#[test]
fn without_a_network_there_is_a_way_by_hand() {
    let rig = Rig::new("");
    if !rig.hub() {
        return;
    }
    rig.docker();
    rig.mirror(&rig.path("nowhere"));
    let place = rig.path("adk/bird-interact-lite");
    let done =
        rig.run(&["prepare"]).expect(3).warns("tried https://huggingface.co/datasets/birdsql/bird-interact-lite");
    done.warns(&format!("copy it to {}", place.display()));
    assert!(!place.exists(), "nothing is in the way of a copy");
    rig.tasks(&place, "[tasks.public(t) for t in tasks.TASKS]");
    rig.run(&["prepare"]).expect(2).warns("8 of the 8 tasks");
}

#[test]
fn without_git_lfs_the_command_that_brings_it_is_named() {
    let rig = Rig::new("");
    rig.docker();
    for program in ["git", "sh", "cat", "psql", "python3"] {
        let path = match program {
            // A shim of pyenv looks for other programs.
            "python3" => output(Command::new("python3").args(["-c", "import sys; print(sys.executable)"])).into(),
            _ => which(program).unwrap(),
        };
        let link = rig.path("bin").join(program);
        if !link.exists() {
            std::os::unix::fs::symlink(path, link).unwrap();
        }
    }
    let done = crate::support::done(rig.command(&["prepare"]).env("PATH", rig.path("bin")).output().unwrap());
    done.expect(2).warns("git-lfs: is not installed").warns("apt-get install git-lfs");
}

#[test]
fn the_descriptions_of_the_databases_must_be_somewhere() {
    let rig = Rig::new("pg_host: 127.0.0.1\npg_port: 1\n");
    let file = rig.tasks(&rig.path("merged"), "tasks.TASKS");
    std::fs::remove_dir_all(file.parent().unwrap().join("yard")).unwrap();
    rig.configure(&format!("bird_data_path: {}\npg_port: 1\n", file.display()));
    let done = rig
        .run(&["prepare"])
        .expect(2)
        .warns("yard/yard_schema.txt, yard/yard_column_meaning_base.json, yard/yard_kb.jsonl");
    let done = done.warns("git clone https://huggingface.co/datasets/birdsql/bird-interact-lite");
    assert!(!done.stderr.contains("shop_schema"), "{}", done.stderr);
    // The place in which the benchmark looks will do.
    rig.tasks(&rig.path("adk/bird-interact-lite"), "tasks.TASKS");
    let done = rig.run(&["prepare"]).expect(2);
    assert!(!done.stderr.contains("yard_schema"), "{}", done.stderr);

    rig.configure("dataset: full\nbird_data_path: /nowhere/tasks.jsonl\npg_port: 1\n");
    let done = rig.run(&["prepare"]).expect(2).warns("the tasks are missing: /nowhere/tasks.jsonl");
    done.warns("[bird-interact-full GT&Test Cases]").warns("/bird-interact-full-merged/bird_interact_data.jsonl");
}

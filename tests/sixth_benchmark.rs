//! A benchmark is one folder and its line in the registry: a sixth one, added to a copy of the sources, is measured.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCES: &str = env!("CARGO_MANIFEST_DIR");

fn run(command: &mut Command) -> String {
    let said = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{command:?} ended with {}:\n{text}", said.status);
    text
}

/// Everything that a build reads, under another package name so that no build of ours is overwritten.
fn copy(to: &Path) {
    let listed = run(Command::new("git").args(["ls-files", "-z"]).current_dir(SOURCES));
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (Path::new(SOURCES).join(name), to.join(name));
        fs_err::create_dir_all(to.parent().unwrap()).unwrap();
        if from.is_symlink() {
            std::os::unix::fs::symlink(fs_err::read_link(&from).unwrap(), to).unwrap();
        } else if from.is_file() {
            fs_err::copy(from, to).unwrap();
        }
    }
    for file in ["Cargo.toml", "Cargo.lock"] {
        let text = fs_err::read_to_string(to.join(file)).unwrap();
        let text = text
            .replacen("name = \"autoharness\"", "name = \"sixth\"", 1)
            .replace("[[bin]]\nname = \"autoharness\"", "[[bin]]\nname = \"sixth\"");
        fs_err::write(to.join(file), text.replace("default-run = \"autoharness\"", "default-run = \"sixth\"")).unwrap();
    }
}

fn replace(path: &Path, pairs: &[(&str, &str)]) {
    let mut text = fs_err::read_to_string(path).unwrap();
    for (old, new) in pairs {
        assert!(text.contains(old), "{} lacks {old:?}", path.display());
        text = text.replace(old, new);
    }
    fs_err::write(path, text).unwrap();
}

/// The guide's steps 1 to 4, and nothing else. The helper is the example that the guide starts from, as it is, with the agent that
/// goes with it.
fn add(sources: &Path) {
    let benchmarks = sources.join("src/benchmarks");
    let (demo, example, toy) = (benchmarks.join("demo"), benchmarks.join("command"), benchmarks.join("toy"));
    fs_err::create_dir_all(toy.join("helper")).unwrap();
    for entry in fs_err::read_dir(&demo).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        fs_err::copy(&entry, toy.join(entry.file_name().unwrap())).unwrap();
    }
    fs_err::copy(example.join("helper/bench.py"), toy.join("helper/bench.py")).unwrap();
    let library = "../../command/helper/autoharness_bench.py";
    std::os::unix::fs::symlink(library, toy.join("helper/autoharness_bench.py")).unwrap();
    fs_err::copy(example.join("agent.py"), toy.join("agent.py")).unwrap();
    replace(
        &toy.join("mod.rs"),
        &[
            ("pub(crate) mod session;\n", ""),
            ("pub(crate) struct Demo;", "pub(crate) struct Toy;"),
            ("for Demo {", "for Toy {"),
            ("\"bench.py\", \"request.py\"", "\"autoharness_bench.py\", \"bench.py\""),
            ("\"HarnessAgent\"", "\"solve\""),
            ("\"demo\"", "\"toy\""),
        ],
    );
    replace(&toy.join("template.yaml"), &[("# ==== demo:", "# ==== toy:")]);
    replace(
        &benchmarks.join("mod.rs"),
        &[
            ("pub(crate) mod trial_protocol;", "mod toy;\npub(crate) mod trial_protocol;"),
            ("&demo::Demo,", "&demo::Demo,\n    &toy::Toy,"),
        ],
    );
}

fn target() -> PathBuf {
    // This test's own executable lies in <target>/<profile>/deps.
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_path_buf()
}

#[test]
#[ignore = "builds the program a second time; .ci/run runs it"]
fn a_folder_and_a_line_make_a_benchmark() {
    let directory = tempfile::tempdir().unwrap();
    let (sources, experiment) = (directory.path().join("sources"), directory.path().join("experiment"));
    copy(&sources);
    add(&sources);
    let mut build = Command::new(env!("CARGO"));
    run(build.args(["build", "--offline", "--bin", "sixth", "--target-dir"]).arg(target()).current_dir(&sources));
    let sixth = |arguments: &[&str]| {
        let mut command = Command::new(target().join("debug/sixth"));
        command.args(arguments).current_dir(directory.path());
        run(command.env("HOME", directory.path()))
    };
    assert!(sixth(&["init", "--help"]).contains("toy"));
    sixth(&["init", "experiment", "--benchmark", "toy"]);
    let at = experiment.to_str().unwrap();
    assert!(sixth(&["-C", at, "prepare"]).contains("baseline"));
    assert!(sixth(&["-C", at, "benchmark"]).contains("train_score=0.2500"));
    assert!(sixth(&["-C", at, "verify"]).contains("verify: ok"));
    assert!(fs_err::read_to_string(experiment.join("PROGRAM.md")).unwrap().contains("The benchmark `toy` scores it"));
    assert!(sixth(&["config", "schema"]).contains("\"toy\""));
}

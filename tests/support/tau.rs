//! An experiment over the stand-in for tau2, and a scripted model that can be held, counted and made to fail.
#![allow(unreachable_pub, dead_code, reason = "every test file uses its own part")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::signals::{interpreter, put};
use super::{Bed, Done, done};

/// Where the template's agent can be edited without breaking it.
pub const ANSWERED: &str = "        state.append(answer)\n";

/// Does what the customers of the stand-in's telecom do not say: in every third task another value, or their help, is
/// needed.
pub const CLEVER: &str = "        import re
        number = int(re.search(r\"set line(\\d+)\", str([message.content for message in state])).group(1))
        if number % 6 == 0:
            for call in answer.tool_calls or []:
                call.arguments[\"value\"] = \"secret\"
        asked = any(\"DO flip\" in (message.content or \"\") for message in state)
        if number % 6 == 3 and not answer.tool_calls and not asked:
            answer.content = f\"Please DO flip line{number}\"
";

pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support")
}

pub fn program(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The stand-in for tau2, where it lies compiled: a helper imports all of it in every start, and compiles nothing for later.
pub fn standin() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let (from, place) =
            (sources().join("tau2_standin"), Path::new(env!("CARGO_TARGET_TMPDIR")).join("tau2_standin"));
        for entry in walkdir::WalkDir::new(&from).into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
            let (target, text) = (place.join(entry.path().strip_prefix(&from).unwrap()), std::fs::read(entry.path()));
            // What is there already may be compiled, and read by another test program at this moment.
            if std::fs::read(&target).ok() != text.as_ref().ok().cloned() {
                std::fs::create_dir_all(target.parent().unwrap()).unwrap();
                put(&target, |path| std::fs::write(path, text.unwrap()));
            }
        }
        let compiled = Command::new(interpreter()).args(["-I", "-m", "compileall", "-q"]).arg(&place).status().unwrap();
        assert!(compiled.success(), "the stand-in for tau2 cannot be compiled");
        place
    };
    MADE.get_or_init(make).clone()
}

/// A Python beside which the stand-in is installed.
pub fn python_with(packages: &Path) -> String {
    format!("#!/bin/sh\nPYTHONPATH='{}' exec python3 \"$@\"\n", packages.display())
}

pub fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from).into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(entry.path(), target).unwrap();
    }
}

/// A committed experiment, not prepared; `config` is appended.
pub fn bed(domain: &str, config: &str) -> Bed {
    let bed = Bed::empty();
    bed.run(&["init", "--benchmark", "tau-bench"]).expect(0);
    let (python, data) = (bed.outside().join("tau2/python"), bed.outside().join("tau2/data"));
    program(&python, &python_with(&standin()));
    copy(&sources().join("tau2_standin_data"), &data);
    bed.write(
        "experiment_config.yaml",
        &format!(
            "benchmark: tau-bench\ndomain: {domain}\nagent_model: stub/x\nuser_model: stub/user\njudge_model: stub/judge\n\
             max_concurrency: 8\nper_task_timeout: 30\n{config}\n"
        ),
    );
    bed
}

/// The same, with an installation of tau2 that the configuration names.
pub fn of_an_install(bed: Bed) -> Bed {
    let config = bed.read("experiment_config.yaml");
    // Beside the home directory, where every bed has it: nothing in an experiment names its bed.
    let own = "tau2_python: ~/../tau2/python\ntau2_data_dir: ~/../tau2/data\n";
    bed.write("experiment_config.yaml", &format!("{config}{own}"));
    bed
}

/// An experiment over an installation of tau2, prepared under the eyes of its scripted model.
pub fn prepared(domain: &str) -> Bed {
    Bed::stocked(&format!("tau-bench {domain}"), || {
        let bed = of_an_install(bed(domain, ""));
        Model::of(&bed);
        let done = bed.run(&["prepare"]).expect(0);
        std::fs::write(bed.outside().join("prepared"), done.stderr).unwrap();
        bed
    })
}

/// Whether a prepared experiment keeps agents from reading what they should not. Without Landlock nothing does, and the run says so.
pub fn fenced(bed: &Bed) -> bool {
    !std::fs::read_to_string(bed.outside().join("prepared")).unwrap().contains("no Landlock")
}

pub fn edit(bed: &Bed, from: &str, to: &str) {
    let text = bed.read("agent/agent.py");
    assert!(text.contains(from), "the template has no {from:?}");
    bed.write("agent/agent.py", &text.replace(from, to));
}

pub fn tasks(bed: &Bed, split: &str) -> Vec<String> {
    serde_json::from_value(bed.events("prepared").pop().unwrap()["split"][split].clone()).unwrap()
}

/// Which conversation of the stand-in's telecom a task is.
pub fn number(task: &str) -> u32 {
    let digits = task.split_once("Easy ").unwrap().1;
    digits.trim_end_matches('|').trim_end_matches(']').parse().unwrap()
}

/// The scripted model of a bed: see tests/support/tau2_standin/stub_script.py.
pub struct Model(PathBuf);

impl Model {
    /// Directs the model of an experiment from now on.
    pub fn of(bed: &Bed) -> Model {
        let directory = bed.outside().join("model");
        std::fs::create_dir_all(&directory).unwrap();
        let python = bed.outside().join("tau2/python");
        let text = std::fs::read_to_string(&python).unwrap();
        program(&python, &text.replace("\nPYTHONPATH=", &format!("\nSTUB_BED='{}' PYTHONPATH=", directory.display())));
        Model(directory)
    }

    fn tell(&self, name: &str, value: &Value) {
        std::fs::write(self.0.join("next"), value.to_string()).unwrap();
        std::fs::rename(self.0.join("next"), self.0.join(name)).unwrap();
    }

    /// Holds every call of these conversations, and lets all others go on.
    pub fn hold(&self, numbers: impl IntoIterator<Item = u32>) {
        let markers: Vec<String> = numbers.into_iter().map(marker).collect();
        self.tell("hold", &json!(markers));
    }

    /// Makes calls fail: by role and conversation, in the words of the stand-in's `litellm`.
    pub fn fail(&self, faults: &[(&str, u32, &str)]) {
        let mut all: BTreeMap<&str, BTreeMap<String, &str>> = BTreeMap::new();
        for (role, number, fault) in faults {
            all.entry(role).or_default().insert(marker(*number), fault);
        }
        self.tell("faults", &json!(all));
    }

    /// The calls since the last look: begin or end, role, conversation.
    pub fn calls(&self) -> Vec<(bool, String, u32)> {
        let text = std::fs::read_to_string(self.0.join("calls")).unwrap_or_default();
        let parse = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let number = words[2].trim_start_matches("MARKER").trim_end_matches('X').parse().unwrap();
            (words[0] == "begin", words[1].to_owned(), number)
        };
        text.lines().map(parse).collect()
    }

    /// Forgets the calls until now.
    pub fn forget(&self) {
        let _ = std::fs::remove_file(self.0.join("calls"));
    }

    /// How many calls are not answered yet.
    pub fn under_way(&self) -> usize {
        let calls = self.calls();
        calls.iter().filter(|(begin, ..)| *begin).count() - calls.iter().filter(|(begin, ..)| !begin).count()
    }

    /// Forgets the calls that a kill cut off.
    pub fn drop_unanswered(&self) {
        let text = std::fs::read_to_string(self.0.join("calls")).unwrap();
        let ended: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("end ")).collect();
        let answered = |line: &&str| ended.contains(&line.split_once(' ').unwrap().1);
        let kept: String = text.lines().filter(answered).map(|line| format!("{line}\n")).collect();
        std::fs::write(self.0.join("calls"), kept).unwrap();
    }

    /// How many calls were under way at the same time, at most. A trial makes one at a time.
    pub fn most_at_once(&self) -> usize {
        let (mut now, mut most) = (0usize, 0);
        for (begin, ..) in self.calls() {
            now = if begin { now + 1 } else { now - 1 };
            most = most.max(now);
        }
        most
    }

    /// How many calls of each role and conversation were answered.
    pub fn answered(&self) -> BTreeMap<(u32, String), usize> {
        let mut counts = BTreeMap::new();
        for (_, role, number) in self.calls().into_iter().filter(|(begin, ..)| !begin) {
            *counts.entry((number, role)).or_insert(0) += 1;
        }
        counts
    }
}

fn marker(number: u32) -> String {
    format!("MARKER{number}X")
}

/// Runs a command with a directory for temporary files of its own.
pub fn run_in(bed: &Bed, temporary: &Path, words: &[&str]) -> Done {
    std::fs::create_dir_all(temporary).unwrap();
    let mut command: Command = bed.command(words);
    done(command.env("TMPDIR", temporary).output().unwrap())
}

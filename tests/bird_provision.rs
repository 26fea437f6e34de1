//! What `prepare` brings for bird-interact, and what it says when it cannot: the data set through git-lfs, the ground truth,
//! PostgreSQL in docker. Upstreams are stood in for: a repository on disk behind git's own `insteadOf`, a docker that only
//! takes notes, and Debian's PostgreSQL for the container, filled step by step.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests may panic")]

#[path = "support/running.rs"]
mod running;
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use running::{nobody_left, send, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Bed, Done};

const PUBLIC: &str = "adk/bird-interact-lite/bird_interact_data.jsonl";

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/bird")
}

/// What a program prints; it must succeed.
#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

fn which(program: &str) -> Option<PathBuf> {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    found.status.success().then(|| PathBuf::from(path.trim()))
}

/// Says why a test is not made.
fn skipped(why: &str) {
    #[expect(clippy::print_stderr, reason = "a test that could not be made says so")]
    {
        eprintln!("skipped: {why}");
    }
}

/// An experiment beside a checkout of the services, with programs of our own in front of the PATH, and no docker.
struct Rig {
    bed: Bed,
    /// Where the container says on which port it listens: not in the bed, whose processes are counted.
    aside: tempfile::TempDir,
}

impl Rig {
    fn new(config: &str) -> Rig {
        let bed = Bed::empty();
        bed.run(&["init", "--benchmark", "bird-interact"]).expect(0);
        bed.write(".env", "OPENAI_API_KEY=scripted-key\n");
        let rig = Rig { bed, aside: tempfile::tempdir().unwrap() };
        output(Command::new("cp").arg("-r").arg(sources().join("adk")).arg(rig.path("adk")));
        output(Command::new("cp").arg(sources().join("merge.py")).arg(rig.path("combine_public_with_gt.py")));
        rig.configure(config);
        rig.program("docker", "echo 'Cannot connect to the Docker daemon. Is the docker daemon running?' >&2; exit 1");
        // Says that every package is there, which shows to be untrue only at the canary.
        rig.program("services-python", "if [ \"$1\" = -c ]; then exit 0; fi\nexec python3 \"$@\"");
        // The container's port is fixed, and may be anybody's on this machine: psql is led to the one that is meant.
        let (port, psql) = (rig.port(), which("psql").unwrap_or_else(|| "/usr/bin/psql".into()));
        rig.program(
            "psql",
            &format!(
                "port=$(cat {} 2>/dev/null || echo 1)\nfor word; do shift; case $word in 5432|5433) word=$port;; esac\n\
                 set -- \"$@\" \"$word\"; done\nexec {} \"$@\"",
                port.display(),
                psql.display()
            ),
        );
        for tool in ["createdb", "dropdb"] {
            rig.program(tool, "exit 1");
        }
        rig
    }

    fn configure(&self, config: &str) {
        let adk = self.path("adk");
        self.bed.write(
            "experiment_config.yaml",
            &format!(
                "benchmark: bird-interact\nagent_model: openai/x\nbird_repo: {}\nbird_python_bin: {}\n{config}",
                adk.display(),
                self.path("bin/services-python").display()
            ),
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bed.outside().canonicalize().unwrap().join(name)
    }

    fn port(&self) -> PathBuf {
        self.aside.path().join("port")
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bed.command(arguments);
        let path = command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_os_string();
        let paths = [self.path("bin")].into_iter().chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(paths).unwrap());
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        support::done(self.command(arguments).output().unwrap())
    }

    /// The whole set beside the tasks, with or without the ground truth; returns the file.
    fn tasks(&self, directory: &Path, code: &str) -> PathBuf {
        let code = format!("import sys, tasks; print(tasks.write(sys.argv[1], {code}))");
        let mut command = Command::new("python3");
        command.args(["-B", "-c", &code]).arg(directory).env("PYTHONPATH", sources());
        output(&mut command).into()
    }

    /// With the ground truth, as someone who has merged it.
    fn merged(&self) -> String {
        let file = self.tasks(&self.path("merged"), "tasks.TASKS");
        format!("bird_data_path: {}\n", file.display())
    }

    /// The public set in a repository with git-lfs; git is told to go there. False, said so, without git-lfs.
    fn hub(&self) -> bool {
        if which("git-lfs").is_none() {
            skipped("git-lfs is not installed (Debian: apt-get install git-lfs)");
            return false;
        }
        let repository = self.path("hub/datasets/birdsql/bird-interact-lite");
        self.tasks(&repository, "[tasks.public(t) for t in tasks.TASKS]");
        let git = |arguments: &[&str]| {
            let home = self.path("home");
            let mut git = Command::new("git");
            git.args(["-c", "user.name=a", "-c", "user.email=a@b"])
                .args(arguments)
                .current_dir(&repository)
                .env("HOME", home);
            output(git.env("GIT_CONFIG_NOSYSTEM", "1"));
        };
        git(&["init", "-q", "-b", "main"]);
        git(&["lfs", "install", "--local"]);
        git(&["lfs", "track", "*.jsonl", "*_schema.txt"]);
        git(&["add", "-A"]);
        git(&["commit", "-qm", "data"]);
        self.mirror(&self.path("hub"));
        true
    }

    fn mirror(&self, directory: &Path) {
        let text = format!("[url \"file://{}/\"]\n\tinsteadOf = https://huggingface.co/\n", directory.display());
        std::fs::write(self.path("home/.gitconfig"), text).unwrap();
    }

    /// From now on docker works, and takes notes.
    fn docker(&self) {
        std::fs::create_dir_all(self.path("docker")).unwrap();
        let script = self.path("docker/docker.py");
        std::fs::copy(sources().join("docker.py"), &script).unwrap();
        self.program("docker", &format!("exec python3 -B {} \"$@\"", script.display()));
    }

    fn refuses(&self, words: &str, status: u8, text: &str) {
        std::fs::write(self.path("docker/refuses"), json!({words: [status, text]}).to_string()).unwrap();
    }

    /// What docker was asked since the last call, apart from questions.
    fn started(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("docker/calls")).unwrap_or_default();
        let _ = std::fs::remove_file(self.path("docker/calls"));
        let asks =
            |line: &&str| !line.starts_with("inspect") && *line != "compose version" && !line.starts_with("logs");
        let above = format!("{}/", self.bed.outside().canonicalize().unwrap().display());
        text.lines().filter(asks).map(|line| line.replace(&above, "")).collect()
    }
}

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
        let done = support::done(child.wait_with_output().unwrap());
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
    let done = support::done(rig.command(&["prepare"]).env("PATH", rig.path("bin")).output().unwrap());
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

#[test]
fn a_docker_that_does_not_work_is_described_in_its_own_words() {
    let rig = Rig::new("");
    rig.configure(&rig.merged());
    let done = rig.run(&["prepare"]).expect(2).warns("Cannot connect to the Docker daemon");
    done.warns("sudo systemctl start docker").warns("pg_host, pg_port and pg_user");
    rig.docker();
    for (words, status, said, way_out) in [
        (
            "inspect",
            1,
            "permission denied while trying to connect to the Docker daemon socket",
            "sudo usermod -aG docker",
        ),
        ("compose version", 1, "docker: unknown command: docker compose", "apt-get install docker-compose-plugin"),
    ] {
        rig.refuses(words, status, said);
        rig.run(&["prepare"]).expect(2).warns(said).warns(way_out);
        rig.run(&["doctor"]).expect(2).says(said);
    }
    for (said, code, way_out) in [
        ("Error: Bind for 0.0.0.0:5432 failed: port is already allocated", 2, "another program has that port"),
        ("Error: lookup registry-1.docker.io: no such host", 3, "docker goes on where it was"),
    ] {
        rig.refuses("up -d", 1, said);
        rig.run(&["prepare"]).expect(code).warns(said).warns(way_out);
    }
    assert_eq!(rig.started().len(), 2);
    std::fs::remove_file(rig.path("docker/refuses")).unwrap();
    rig.run(&["doctor"]).says("`autoharness prepare` runs: docker compose -f");
    assert_eq!(rig.started(), [] as [&str; 0], "doctor starts nothing");

    // Who names a server needs no docker.
    rig.configure(&format!("{}pg_port: 1\npg_user: somebody\n", rig.merged()));
    let done =
        rig.run(&["prepare"]).expect(2).warns("cannot log in as somebody at 127.0.0.1:1").warns("Connection refused");
    done.warns("correct pg_host, pg_port, pg_user and PG_PASSWORD");
    assert!(!rig.path("docker/calls").exists(), "docker was asked something");
}

/// A container that dies says so, whatever is waited for.
#[test]
fn a_container_that_ends_is_not_waited_for() {
    let rig = Rig::new("dataset: full\n");
    rig.configure(&format!("dataset: full\n{}", rig.merged()));
    rig.docker();
    // The other set's container is none of our business.
    std::fs::write(rig.path("docker/bird_interact_postgresql"), "running").unwrap();
    let full = rig.path("docker/bird_interact_postgresql_full");
    let mut child = rig.command(&["prepare"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the container is started", || full.exists() || child.try_wait().unwrap().is_some());
    std::fs::write(&full, "exited").unwrap();
    let done =
        support::done(child.wait_with_output().unwrap()).expect(3).warns("bird_interact_postgresql_full is exited");
    done.warns("No space left on device").warns("docker volume rm adk_postgresql_data_full");
    assert_eq!(rig.started(), ["compose -f adk/docker-compose.yml --profile full up -d postgresql_full"]);
}

/// The container's PostgreSQL; gone with the value.
struct Container {
    child: Child,
    input: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    _directory: tempfile::TempDir,
}

impl Container {
    /// `None`, said so, without PostgreSQL's server.
    fn new(rig: &Rig) -> Option<Container> {
        if !std::fs::read_dir("/usr/lib/postgresql").is_ok_and(|mut found| found.next().is_some()) {
            skipped("PostgreSQL is not installed (Debian: apt-get install postgresql)");
            return None;
        }
        // Not below the bed, whose directory the server's own user may not enter.
        let directory = tempfile::Builder::new().prefix("autoharness-bird-").tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let mut command = Command::new("python3");
        command.arg("-B").arg(sources().join("container.py")).arg(directory.path()).arg(rig.port());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Some(Container { child, input, answers, _directory: directory })
    }

    #[track_caller]
    fn does(&mut self, commands: &[&str]) {
        for command in commands {
            writeln!(self.input.as_mut().unwrap(), "{command}").unwrap();
            let mut answer = String::new();
            self.answers.read_line(&mut answer).unwrap();
            assert_eq!(answer, "ok\n", "{command}");
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// A `prepare` whose stderr is read as it comes.
struct Preparing {
    child: Child,
    lines: BufReader<std::process::ChildStderr>,
    said: String,
}

impl Preparing {
    fn start(rig: &Rig) -> Preparing {
        let mut child = rig.command(&["prepare"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Preparing { child, lines, said: String::new() }
    }

    /// Reads up to a line with this text.
    #[track_caller]
    fn says(&mut self, text: &str) {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "{text:?} was never said:\n{}", self.said);
            self.said += &line;
            if line.contains(text) {
                return;
            }
        }
    }

    fn end(mut self) -> (i32, String) {
        self.lines.read_to_string(&mut self.said).unwrap();
        let output = self.child.wait_with_output().unwrap();
        (support::done(output).code, self.said)
    }
}

#[test]
fn the_container_is_started_and_waited_for_until_its_databases_are_filled() {
    let rig = Rig::new("");
    rig.configure(&rig.merged());
    rig.docker();
    let Some(mut container) = Container::new(&rig) else { return };
    let mut preparing = Preparing::start(&rig);
    preparing.says("starting the benchmark's PostgreSQL: docker compose -f");
    preparing.says("waiting for PostgreSQL: no login yet");
    container.does(&["start", "template shop"]);
    preparing.says("0 of 2 databases ready; not there: yard; still imported: shop");

    // Ctrl-C ends the wait at once, and nothing of ours stays. The container does, and fills on.
    send(i32::try_from(preparing.child.id()).unwrap(), Signal::INT);
    let (code, said) = preparing.end();
    assert_eq!(code, 130, "{said}");
    nobody_left(&rig.bed);
    assert_eq!(rig.started(), ["compose -f adk/docker-compose.yml up -d postgresql"]);

    container.does(&["template yard", "database shop"]);
    rig.run(&["doctor"]).says("warn  databases      1 of 2 databases ready; still imported: yard");
    let mut preparing = Preparing::start(&rig);
    preparing.says("waiting for PostgreSQL: 1 of 2 databases ready");
    container.does(&["database yard"]);
    preparing.says("PostgreSQL is ready: 2 databases");
    preparing.says("canary: one tool call through the agent service");
    let (code, said) = preparing.end();
    assert!(code == 2 && said.contains("no tool could be called through the agent service"), "{said}");
    assert_eq!(rig.started(), [] as [&str; 0], "a running container is not started again");
    let ready =
        rig.run(&["doctor"]).says("ok    databases      2 of 2 are ready").says("logged in as root at 127.0.0.1:5432");
    assert!(ready.stdout.contains("the role is a superuser"), "{}", ready.stdout);

    // A password that does not fit is no reason to wait, or to start anything.
    rig.bed.write(".env", "OPENAI_API_KEY=scripted-key\nPG_PASSWORD=wrong-password\n");
    let done = rig.run(&["prepare"]).expect(2).warns("password authentication failed for user \"root\"");
    assert!(!done.stderr.contains("wrong-password"), "{}", done.stderr);
    assert_eq!(rig.started(), [] as [&str; 0]);
}

#[test]
fn a_database_that_stays_empty_is_named_with_the_way_to_import_it_anew() {
    let rig = Rig::new("");
    rig.configure(&rig.merged());
    rig.docker();
    let Some(mut container) = Container::new(&rig) else { return };
    container.does(&["start", "template shop", "database shop"]);
    std::fs::write(rig.path("docker/bird_interact_postgresql"), "running").unwrap();
    let mut preparing = Preparing::start(&rig);
    preparing.says("1 of 2 databases ready; not there: yard");
    container.does(&["empty yard"]);
    let (code, said) = preparing.end();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("these databases stay empty, because their import failed: yard"), "{said}");
    assert!(said.contains("rm -s -f postgresql && docker volume rm adk_postgresql_data;"), "{said}");

    // On a server of one's own nobody waits for anything.
    let port: Value = std::fs::read_to_string(rig.port()).unwrap().trim().parse().unwrap();
    rig.configure(&format!("{}pg_port: {port}\n", rig.merged()));
    rig.bed.write(".env", "OPENAI_API_KEY=scripted-key\nPG_PASSWORD=123123\n");
    rig.run(&["prepare"])
        .expect(2)
        .warns("databases: 1 of 2 databases ready; without any rows: yard")
        .warns("fill that server");
}

#[test]
fn the_role_of_the_readme_may_do_what_runs_need_and_no_more() {
    let rig = Rig::new("");
    let Some(mut container) = Container::new(&rig) else { return };
    container.does(&["start", "template shop", "database shop", "template yard", "database yard"]);
    let port = std::fs::read_to_string(rig.port()).unwrap().trim().to_string();
    let readme = include_str!("../README.md");
    let (_, script) = readme.split_once("<!-- BEGIN role: a test runs this. -->\n```sh\n").unwrap();
    let script = script.split_once("```\n<!-- END role -->").unwrap().0;
    let sql = |user: &str, password: &str, database: &str, sql: &str| {
        let mut psql = Command::new("psql");
        psql.args([
            "-X",
            "-A",
            "-t",
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            user,
            "-d",
            database,
            "-v",
            "ON_ERROR_STOP=1",
        ]);
        psql.args(["-c", sql]).env("PGPASSWORD", password);
        psql
    };
    // More than tables, as the real databases have.
    let more = "CREATE TYPE mood AS ENUM ('a'); CREATE TABLE counted (id serial, m mood); CREATE SCHEMA side; \
                CREATE VIEW side.few AS SELECT 1 AS x; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
                CREATE EXTENSION citext";
    output(&mut sql("root", "123123", "shop_template", more));
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &script.replace("PGPORT=5432", &format!("PGPORT={port}"))]);
    assert_eq!(output(&mut shell), "");

    let bird = |database: &str, text: &str| sql("bird", "choose-your-own", database, text);
    output(&mut bird("postgres", "CREATE DATABASE copy TEMPLATE shop_template"));
    let change = "DELETE FROM orders; DROP TABLE counted; ALTER TABLE customers ADD COLUMN x int; CREATE TABLE side.t (m mood); \
                  CREATE OR REPLACE VIEW side.few AS SELECT 2 AS x; DROP FUNCTION f(); ALTER TYPE mood ADD VALUE 'b'";
    output(&mut bird("copy", change));
    for forbidden in ["SELECT pg_read_file('/etc/passwd')", "COPY orders TO PROGRAM 'cat'", "ALTER ROLE bird SUPERUSER"]
    {
        assert!(!bird("copy", forbidden).output().unwrap().status.success(), "{forbidden}");
    }
    rig.bed.write(".env", "OPENAI_API_KEY=scripted-key\nPG_PASSWORD=choose-your-own\n");
    rig.configure(&format!("{}pg_user: bird\n", rig.merged()));
    let done = rig.run(&["doctor"]).says("logged in as bird at 127.0.0.1:5432").says("2 of 2 are ready");
    done.says("the role may create databases").says("autovacuum is off").says("nobody is connected to a template");
}

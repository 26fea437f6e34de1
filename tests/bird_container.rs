//! bird-interact's PostgreSQL, as `prepare` starts it in docker, waits for it and looks at it; Debian's stands in for the
//! container, filled step by step.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::support::bird::provision::{Rig, output, psql, skipped, sources};
use crate::support::running::{nobody_left, send, until};
use rustix::process::Signal;
use serde_json::Value;

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
    let done = crate::support::done(child.wait_with_output().unwrap())
        .expect(3)
        .warns("bird_interact_postgresql_full is exited");
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
        let mut command = Command::new(crate::support::python());
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
        (crate::support::done(output).code, self.said)
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
    // The packages that are said to be there are not, which shows before a model is called.
    preparing.says("preflight failed: agent/agent.py:11: ModuleNotFoundError: No module named 'httpx'");
    let (code, said) = preparing.end();
    assert!(code == 2 && said.contains("must be installed for "), "{said}");
    assert_eq!(rig.started(), [] as [&str; 0], "a running container is not started again");
    let ready =
        rig.run(&["doctor"]).says("ok    databases      2 of 2 are ready").says("logged in as root at 127.0.0.1:5432");
    assert!(ready.stdout.contains("and roles for agents' SQL"), "{}", ready.stdout);

    // A password that does not fit is no reason to wait, or to start anything.
    rig.bed.write(".env", "OPENAI_API_KEY=scripted-key\nPG_PASSWORD=wrong-password\n");
    let done = rig.run(&["prepare"]).expect(2).warns("password authentication failed for user \"root\"");
    assert!(!done.stderr.contains("wrong-password"), "{}", done.stderr);
    assert_eq!(rig.started(), [] as [&str; 0]);
}

#[test]
#[ignore = "waits for half a minute; .ci/run runs it"]
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
fn the_role_of_the_page_may_do_what_runs_need_and_no_more() {
    let rig = Rig::new("");
    let Some(mut container) = Container::new(&rig) else { return };
    container.does(&["start", "template shop", "database shop", "template yard", "database yard"]);
    let port = std::fs::read_to_string(rig.port()).unwrap().trim().to_string();
    let page = include_str!("../docs/src/benchmarks/bird-interact.md");
    let (_, script) = page.split_once("<!-- BEGIN role: a test runs this. -->\n```sh\n").unwrap();
    let script = script.split_once("```\n<!-- END role -->").unwrap().0;
    let sql = |user: &str, password: &str, database: &str, sql: &str| {
        let mut command = Command::new(psql());
        command.args([
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
        command.args(["-c", sql]).env("PGPASSWORD", password);
        command
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
    done.says("the role may create databases, and roles for agents' SQL").says("nobody is connected to a template");
}

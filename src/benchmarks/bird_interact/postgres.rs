//! The PostgreSQL of BIRD-Interact: whether a login works, which databases are filled, and the wait for a container that
//! fills them. Nothing here connects to a template, because an open session there keeps it from being copied.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use super::container::{Container, ContainerState, SPEAK_EVERY};
use super::filling::{Filled, FillingSeen, Next, PATIENCE, left, missing, next, refused};
use super::setup::BirdSetup;
use super::tasks::few;
use crate::error::{Code, Error, Result};
use crate::process::{Captured, Command, Limits, run_captured};
use crate::provision::need::find_program;
use crate::provision::{Finding, Level, Surroundings, require};

/// What runs need on the PATH: the services copy and drop databases with them.
const TOOLS: [&str; 3] = ["psql", "createdb", "dropdb"];
/// How long a login may take, in seconds.
const CONNECT_SECONDS: &str = "10";
/// How long one look at a server may take.
pub(super) const LOOK: Limits = Limits { time: Duration::from_secs(60), output: 256 * 1024 };
/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(2);
const FILL: &str = "fill that server as the benchmark's image does (its directory env/ has the script): for every database a template \
                    `<name>_template` with the tables, and `<name>` made of it";

/// The server that is meant.
pub(super) struct PostgresServer<'a> {
    setup: &'a BirdSetup<'a>,
    around: &'a Surroundings<'a>,
    container: Container,
}

impl<'a> PostgresServer<'a> {
    /// The server that a configuration means.
    pub(super) fn of(setup: &'a BirdSetup<'a>, around: &'a Surroundings<'a>) -> PostgresServer<'a> {
        let container = Container::of(setup.settings.dataset, &setup.adk());
        PostgresServer { setup, around, container }
    }

    /// Role, host and port, for messages.
    pub(super) fn place(&self) -> String {
        let settings = self.setup.settings;
        format!("{} at {}:{}", settings.pg_user, settings.host(), settings.port())
    }

    fn own_server(&self) -> String {
        let variable = &self.setup.settings.pg_password_env;
        format!(
            "name a PostgreSQL of your own with the benchmark's databases: pg_host, pg_port and pg_user in experiment_config.yaml, {variable} in .env"
        )
    }

    async fn psql(&self, database: &str, script: &str) -> Result<std::result::Result<Captured, String>> {
        self.ask(database, script, None, LOOK).await
    }

    /// Runs psql on one database; what it prints, or what it complains about. `application`: a name for the session.
    pub(super) async fn ask(
        &self,
        database: &str,
        script: &str,
        application: Option<&str>,
        limits: Limits,
    ) -> Result<std::result::Result<Captured, String>> {
        let (settings, around) = (self.setup.settings, self.around);
        let port = settings.port().to_string();
        let mut command = Command::new("psql", "/").args([
            "-X",
            "-w",
            "-q",
            "-A",
            "-t",
            "-h",
            settings.host(),
            "-p",
            &port,
            "-U",
            &settings.pg_user,
            "-d",
            database,
        ]);
        // Files and variables of the user must not decide where we connect to.
        let inherited = around.environment.for_child(&[], &[]);
        command.env = inherited.into_iter().filter(|(name, _)| !name.to_string_lossy().starts_with("PG")).collect();
        command.env.extend(
            [
                ("PGCONNECT_TIMEOUT", CONNECT_SECONDS),
                ("PGAPPNAME", application.unwrap_or("autoharness")),
                ("LC_ALL", "C.UTF-8"),
            ]
            .map(|(name, value)| (OsString::from(name), OsString::from(value))),
        );
        command.env.extend(self.setup.password(around.environment).map(|secret| ("PGPASSWORD".into(), secret.into())));
        command.stdin = script.as_bytes().to_vec();
        let said = match run_captured(around.supervisor, command, limits, around.cancel).await {
            Ok(said) => said,
            Err(error) if error.is_interruption() => return Err(error),
            Err(error) => return Ok(Err(error.to_string())),
        };
        if said.exit.success() {
            return Ok(Ok(said));
        }
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Err(text.strip_prefix("psql: error: ").unwrap_or(&text).to_string()))
    }

    /// Looks at the server. Databases that were ready before are not looked into again.
    pub(super) async fn look(&self, databases: &[String], before: &FillingSeen) -> Result<FillingSeen> {
        let listed = match self.psql("postgres", "SELECT datname FROM pg_database;\n").await? {
            Ok(said) => said.text(),
            Err(said) => return Ok(refused(said)),
        };
        let known: Vec<&str> = listed.lines().collect();
        let mut states = BTreeMap::new();
        for name in databases {
            let template = known.contains(&format!("{name}_template").as_str());
            let state = match (template, known.contains(&name.as_str())) {
                (false, false) => Filled::Absent,
                (false, true) => Filled::NoTemplate,
                (true, false) => Filled::Filling,
                (true, true) if matches!(before, FillingSeen::In(earlier) if earlier.get(name) == Some(&Filled::Ready)) => {
                    Filled::Ready
                }
                (true, true) => self.look_into(name).await?,
            };
            states.insert(name.clone(), state);
        }
        Ok(FillingSeen::In(states))
    }

    async fn look_into(&self, database: &str) -> Result<Filled> {
        // One row of every table: sizes are not enough, because a failed import leaves dead rows behind.
        let script = "SELECT format('SELECT 1 FROM %I.%I LIMIT 1', n.nspname, c.relname) FROM pg_class c \
                      JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') \
                      AND n.nspname NOT IN ('pg_catalog', 'information_schema') \\gexec\n";
        Ok(match self.psql(database, script).await? {
            Ok(said) if said.text().lines().any(|line| line == "1") => Filled::Ready,
            Ok(said) => match String::from_utf8_lossy(&said.stderr).lines().find(|line| line.contains("ERROR:")) {
                Some(line) => Filled::Closed(line.to_string()),
                None => Filled::Empty,
            },
            Err(said) => Filled::Closed(said),
        })
    }

    /// What is there, and what `prepare` would do about the rest. The second value says whether runs can use it.
    pub(super) async fn findings(&self, databases: &[String]) -> Result<(Vec<Finding>, bool)> {
        let missing: Vec<&str> = TOOLS
            .into_iter()
            .filter(|tool| find_program(self.around.environment, self.around.root, tool).is_none())
            .collect();
        if !missing.is_empty() {
            let fix = "install PostgreSQL's client programs (Debian, Ubuntu: `apt-get install postgresql-client`; macOS: `brew install libpq`)";
            return Ok((
                vec![Finding::fail("postgres tools", format!("not on the PATH: {}", missing.join(", ")), fix)],
                false,
            ));
        }
        let mut findings = vec![Finding::ok("postgres tools", TOOLS.join(", "))];
        let seen = self.look(databases, &FillingSeen::In(BTreeMap::new())).await?;
        let is_container = self.setup.settings.is_container();
        match &seen {
            FillingSeen::Unreachable(said) if is_container => findings.push(self.would_start(said).await?),
            FillingSeen::Unreachable(said) | FillingSeen::Denied(said) => findings.push(self.no_login(said)),
            FillingSeen::In(states) => {
                findings.push(Finding::ok("postgres login", format!("logged in as {}", self.place())));
                findings.extend(self.databases(states));
            }
        }
        let ready = matches!(&seen, FillingSeen::In(_)) && findings.iter().all(|finding| finding.level != Level::Fail);
        Ok((findings, ready && left(&seen, is_container).is_empty()))
    }

    fn no_login(&self, said: &str) -> Finding {
        let settings = self.setup.settings;
        let variable = &settings.pg_password_env;
        let fix = if settings.is_container() {
            format!(
                "role and password must be those of the server on this port: check pg_user and {variable}; when it is not the \
                 benchmark's container, stop it, or {}",
                self.own_server()
            )
        } else {
            format!("start that server, or correct pg_host, pg_port, pg_user and {variable}")
        };
        Finding::fail("postgres login", format!("cannot log in as {}: {said}", self.place()), fix)
    }

    async fn would_start(&self, said: &str) -> Result<Finding> {
        Ok(match self.container.state(self.around).await? {
            ContainerState::Unusable { said, fix } => self.container.unusable(&said, &fix, &self.own_server()),
            ContainerState::Running => Finding::warn(
                "postgres login",
                format!(
                    "not yet as {} ({said}); its container is running, and `autoharness prepare` waits for it",
                    self.place()
                ),
                "autoharness prepare",
            ),
            ContainerState::Absent | ContainerState::Stopped(_) => Finding::warn(
                "postgres login",
                format!("no server listens; `autoharness prepare` runs: {}", self.container.start_line()),
                "autoharness prepare",
            ),
        })
    }

    fn databases(&self, states: &BTreeMap<String, Filled>) -> Vec<Finding> {
        if states.is_empty() {
            return Vec::new();
        }
        let is_container = self.setup.settings.is_container();
        let unfinished = FillingSeen::In(states.clone());
        let left = left(&unfinished, is_container);
        let mut findings = Vec::new();
        if left.is_empty() {
            findings.push(Finding::ok("databases", format!("{} of {} are ready", states.len(), states.len())));
        } else if is_container && left.iter().all(|(_, state)| matches!(state, Filled::Absent | Filled::Filling)) {
            let detail = format!("{}; `autoharness prepare` waits for the rest", missing(states, is_container));
            findings.push(Finding::warn("databases", detail, "autoharness prepare"));
        } else {
            let fix = if is_container { self.container.renew_line() } else { FILL.to_string() };
            findings.push(Finding::fail("databases", missing(states, is_container), fix));
        }
        let unseen: Vec<&String> = states
            .iter()
            .filter(|(_, state)| !is_container && **state == Filled::Filling)
            .map(|(name, _)| name)
            .collect();
        if !unseen.is_empty() {
            let detail = format!(
                "beside their templates these are missing, so it is unknown whether there are rows: {}",
                few(&unseen)
            );
            findings.push(Finding::warn("databases", detail, "CREATE DATABASE name TEMPLATE name_template"));
        }
        findings
    }

    /// Starts the benchmark's container where it is meant and no server answers.
    pub(super) async fn start(&self, say: &dyn Fn(String)) -> Result<()> {
        if !self.setup.settings.is_container() {
            return Ok(());
        }
        let FillingSeen::Unreachable(_) = self.look(&[], &FillingSeen::In(BTreeMap::new())).await? else {
            return Ok(());
        };
        match self.container.state(self.around).await? {
            ContainerState::Running => Ok(()),
            ContainerState::Unusable { said, fix } => {
                require(&[self.container.unusable(&said, &fix, &self.own_server())])
            }
            ContainerState::Absent | ContainerState::Stopped(_) => self.container.start(self.around, say).await,
        }
    }

    /// Waits until every database is ready; only for the benchmark's container, which fills them itself. Says whether there
    /// was anything to wait for.
    /// Errors: usage for what only the user can fix, infrastructure when it takes too long or the container ends; `Interrupted`.
    pub(super) async fn wait(&self, databases: &[String], say: &dyn Fn(String)) -> Result<bool> {
        if !self.setup.settings.is_container() {
            return Ok(false);
        }
        let began = Instant::now();
        let (mut seen, mut changed, mut spoke): (_, _, Option<(bool, Instant)>) =
            (FillingSeen::In(BTreeMap::new()), began, None);
        loop {
            let now = self.look(databases, &seen).await?;
            if now != seen {
                (seen, changed) = (now, Instant::now());
            }
            match next(&seen, changed.elapsed(), began.elapsed()) {
                Next::Done => {
                    if spoke.is_some() {
                        say(format!(
                            "PostgreSQL is ready: {} databases ({} s)",
                            databases.len(),
                            began.elapsed().as_secs()
                        ));
                    }
                    return Ok(spoke.is_some());
                }
                Next::Denied(said) => require(&[self.no_login(&said)])?,
                Next::Failed(names) => {
                    return Err(Error::usage(format!(
                        "these databases stay empty, because their import failed: {}",
                        names.join(", ")
                    ))
                    .code(Code::InstallFailed)
                    .hint(format!("make them anew: {}", self.container.renew_line())));
                }
                Next::Late(missing) => {
                    return Err(Error::infrastructure(format!(
                        "PostgreSQL at {}:{} was not ready after {} minutes: {missing}",
                        self.setup.settings.host(),
                        self.setup.settings.port(),
                        PATIENCE.as_secs() / 60
                    ))
                    .code(Code::BenchmarkFailed)
                    .hint("the container goes on by itself; the same command goes on waiting.")
                    .hint(format!(
                        "`docker logs {}` shows what it does. If it does nothing: {}",
                        self.container.name(),
                        self.container.renew_line()
                    )));
                }
                Next::Wait(missing) => {
                    let reachable = matches!(seen, FillingSeen::In(_));
                    if spoke.is_none_or(|(before, at)| before != reachable || at.elapsed() >= SPEAK_EVERY) {
                        self.still_there(&seen).await?;
                        spoke = Some((reachable, Instant::now()));
                        tracing::info!(reachable, seconds = began.elapsed().as_secs(), "waiting for PostgreSQL");
                        say(format!("waiting for PostgreSQL: {missing} ({} s)", began.elapsed().as_secs()));
                    }
                }
            }
            tokio::select! {
                signal = self.around.cancel.cancelled() => return Err(Error::interrupted(signal)),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// A container that has ended will never answer.
    async fn still_there(&self, seen: &FillingSeen) -> Result<()> {
        let FillingSeen::Unreachable(_) = seen else { return Ok(()) };
        match self.container.state(self.around).await? {
            ContainerState::Running => Ok(()),
            ContainerState::Unusable { said, fix } => {
                require(&[self.container.unusable(&said, &fix, &self.own_server())])
            }
            ContainerState::Absent => {
                Err(Error::infrastructure(format!("the container {} is gone", self.container.name()))
                    .code(Code::BenchmarkFailed)
                    .hint("it was removed; the same command starts it again."))
            }
            ContainerState::Stopped(status) => {
                let said = self.container.last_words(self.around).await?;
                Err(Error::infrastructure(format!("the container {} is {status}: {said}", self.container.name()))
                    .code(Code::BenchmarkFailed)
                    .hint("fix what it complains about; the same command starts it again.")
                    .hint(format!(
                        "an import that was broken off is not taken up again: {}",
                        self.container.renew_line()
                    )))
            }
        }
    }
}

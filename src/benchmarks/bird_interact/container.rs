//! The benchmark's PostgreSQL in docker: whether it runs, how it is started, and what docker's complaints mean.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::clone::quoted;
use super::config::BirdDataset;
use crate::error::{Code, Error, Result};
use crate::process::{Captured, Command, Limits, run_captured};
use crate::provision::need::{ask, find_program};
use crate::provision::{Finding, Surroundings};

/// How long docker may take to start the container: its image has some gigabytes, and the first start fetches it.
const START: Limits = Limits { time: Duration::from_secs(60 * 60), output: 64 * 1024 };
/// How often progress is reported during the wait.
pub(super) const SPEAK_EVERY: Duration = Duration::from_secs(15);
/// How many lines of a dead container's log are shown.
const LAST_LINES: &str = "5";

/// A container of the benchmark's compose file.
#[derive(Debug, Clone)]
pub(super) struct Container {
    file: PathBuf,
    service: &'static str,
    name: &'static str,
    /// The volume with the databases, as compose names it: after the directory of its file.
    volume: &'static str,
    profile: Option<&'static str>,
}

/// What docker says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ContainerState {
    /// There is no docker, or it does not work: its message, and the way out.
    Unusable {
        /// In docker's own words.
        said: String,
        fix: String,
    },
    /// It was never made.
    Absent,
    /// It is there and does not run; docker's word for its state.
    Stopped(String),
    Running,
}

impl Container {
    /// The container for a set. Each set's container has its own name, so they cannot be confused.
    pub(super) fn of(dataset: BirdDataset, adk: &Path) -> Container {
        let file = adk.join("docker-compose.yml");
        match dataset {
            BirdDataset::Lite => Container {
                file,
                service: "postgresql",
                name: "bird_interact_postgresql",
                volume: "postgresql_data",
                profile: None,
            },
            BirdDataset::Full => Container {
                file,
                service: "postgresql_full",
                name: "bird_interact_postgresql_full",
                volume: "postgresql_data_full",
                profile: Some("full"),
            },
        }
    }

    fn arguments<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec!["compose", "-f", self.file.to_str().unwrap_or("docker-compose.yml")];
        arguments.extend(self.profile.iter().flat_map(|profile| ["--profile", profile]));
        arguments.extend(rest);
        arguments
    }

    fn line(&self, rest: &str) -> String {
        let profile = self.profile.map(|profile| format!(" --profile {profile}")).unwrap_or_default();
        format!("docker compose -f {}{profile} {rest}", quoted(&self.file))
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The command that starts it.
    pub(super) fn start_line(&self) -> String {
        self.line(&format!("up -d {}", self.service))
    }

    /// The commands that recreate it with empty databases, which are then filled again. They affect only this set:
    /// `down -v` would remove the other set's databases, too.
    pub(super) fn renew_line(&self) -> String {
        let directory = self.file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().to_lowercase());
        let project = directory.unwrap_or_default();
        format!(
            "{} && docker volume rm {project}_{}; then run `autoharness prepare` again",
            self.line(&format!("rm -s -f {}", self.service)),
            self.volume
        )
    }

    pub(super) async fn state(&self, around: &Surroundings<'_>) -> Result<ContainerState> {
        let Some(docker) = find_program(around.environment, around.root, "docker") else {
            return Ok(ContainerState::Unusable {
                said: "`docker` is not on the PATH".into(),
                fix: "install Docker with its compose plugin (https://docs.docker.com/engine/install)".into(),
            });
        };
        let format = "{{.State.Status}}";
        let looked = ask(&docker, &["inspect", "--type", "container", "--format", format, self.name], around).await?;
        let Some(looked) = looked else {
            return Ok(ContainerState::Unusable {
                said: "`docker inspect` gives no answer".into(),
                fix: "see what `docker info` says, and start or restart the Docker engine".into(),
            });
        };
        if looked.exit.success() {
            let status = looked.text();
            // We must not start a container that is being restarted, or was paused by hand.
            return Ok(if status == "running" || status == "restarting" {
                ContainerState::Running
            } else {
                ContainerState::Stopped(status)
            });
        }
        let said = words(&looked);
        if !said.to_lowercase().contains("no such") {
            let fix = remedy(&said, self);
            return Ok(ContainerState::Unusable { said, fix });
        }
        let compose = ask(&docker, &["compose", "version"], around).await?;
        match compose {
            Some(compose) if compose.exit.success() => Ok(ContainerState::Absent),
            compose => Ok(ContainerState::Unusable {
                said: compose.as_ref().map_or_else(|| "`docker compose` gives no answer".into(), words),
                fix: NO_COMPOSE.into(),
            }),
        }
    }

    /// Starts it; fetches its image first where that is not there.
    /// Errors: usage when docker refuses for a reason that only the user can fix, infrastructure otherwise; `Interrupted`.
    pub(super) async fn start(&self, around: &Surroundings<'_>, say: &dyn Fn(String)) -> Result<()> {
        if !self.file.is_file() {
            return Err(Error::usage(format!("{} does not exist", self.file.display()))
                .code(Code::ConfigInvalid)
                .hint(
                    "it belongs to BIRD-Interact: correct `bird_repo:`, or name a server of your own in `pg_host:`.",
                ));
        }
        say(format!("starting the benchmark's PostgreSQL: {}", self.start_line()));
        let arguments = self.arguments(&["up", "-d", self.service]);
        let command = Command::new("docker", "/").args(arguments).env(around.environment.for_child(&[], &[]));
        let began = Instant::now();
        let mut running = std::pin::pin!(run_captured(around.supervisor, command, START, around.cancel));
        let said = loop {
            tokio::select! {
                said = &mut running => break said.map_err(|error| error.hint("docker goes on where it was with the same command."))?,
                () = tokio::time::sleep(SPEAK_EVERY) => {
                    let seconds = began.elapsed().as_secs();
                    say(format!("docker is still fetching and starting {} ({seconds} s)", self.name));
                }
            }
        };
        if said.exit.success() {
            return Ok(());
        }
        let why = words(&said);
        let error = format!("docker cannot start {}: {why}", self.name);
        let error = if is_network(&why) { Error::infrastructure(error) } else { Error::usage(error) };
        Err(error.hint(remedy(&why, self)))
    }

    /// The end of its log, in one line.
    pub(super) async fn last_words(&self, around: &Surroundings<'_>) -> Result<String> {
        let Some(docker) = find_program(around.environment, around.root, "docker") else { return Ok(String::new()) };
        let said = ask(&docker, &["logs", "--tail", LAST_LINES, self.name], around).await?;
        Ok(said.map(|said| words(&said)).unwrap_or_default())
    }

    /// What is wrong with a docker that cannot be used.
    pub(super) fn unusable(&self, said: &str, fix: &str, own_server: &str) -> Finding {
        Finding::fail(
            "docker",
            format!("the benchmark's PostgreSQL cannot be started: {said}"),
            format!("{fix}; or {own_server}"),
        )
    }
}

const NO_COMPOSE: &str =
    "install the compose plugin, version 2 (`apt-get install docker-compose-plugin`, or `docker-compose-v2` on Ubuntu)";

/// The output of a docker program in one line: its errors, or else its stdout.
fn words(said: &Captured) -> String {
    let bytes = if said.stderr.trim_ascii().is_empty() { &said.stdout } else { &said.stderr };
    let text = String::from_utf8_lossy(bytes).into_owned();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(5)..].join(" | ");
    if last.is_empty() { format!("it ended with {}", said.exit) } else { last }
}

fn is_network(said: &str) -> bool {
    let said = said.to_lowercase();
    let network = [
        "no such host",
        "i/o timeout",
        "tls handshake",
        "failed to resolve",
        "connection reset",
        "eof",
        "toomanyrequests",
    ];
    network.iter().any(|word| said.contains(word))
}

/// The way out of what docker complains about.
fn remedy(said: &str, container: &Container) -> String {
    let said = said.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["permission denied"]) {
        return "let this user talk to docker: `sudo usermod -aG docker $USER`, then log in anew".into();
    }
    if says(&[
        "cannot connect to the docker daemon",
        "is the docker daemon running",
        "error during connect",
        "failed to connect to the docker",
    ]) {
        return "start the Docker engine (`sudo systemctl start docker`, or Docker Desktop)".into();
    }
    if says(&["is not a docker command", "unknown command: docker compose", "unknown shorthand flag"]) {
        return NO_COMPOSE.into();
    }
    if says(&["port is already allocated", "address already in use", "ports are not available"]) {
        return "another program has that port: stop it, or, when it is a PostgreSQL with the benchmark's databases, name it in `pg_host:` and `pg_port:`".into();
    }
    if says(&["is already in use by container"]) {
        return format!(
            "there is such a container from elsewhere: `docker start {0}` uses it, `docker rm -f {0}` lets `prepare` make its own",
            container.name
        );
    }
    if says(&["no space left"]) {
        return "free some disk space: image and databases need several gigabytes".into();
    }
    if is_network(&said) {
        return "check the network, and run the same command again: docker goes on where it was".into();
    }
    format!("run it by hand and see: {}", container.start_line())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_those_of_compose_2() {
        let adk = Path::new("/x/BIRD-Interact-ADK");
        let lite = Container::of(BirdDataset::Lite, adk);
        assert_eq!(lite.start_line(), "docker compose -f /x/BIRD-Interact-ADK/docker-compose.yml up -d postgresql");
        let full = Container::of(BirdDataset::Full, adk);
        let file = "/x/BIRD-Interact-ADK/docker-compose.yml";
        assert_eq!(full.arguments(&["up", "-d"]), ["compose", "-f", file, "--profile", "full", "up", "-d"]);
        assert_eq!(
            full.renew_line(),
            format!(
                "docker compose -f {file} --profile full rm -s -f postgresql_full && docker volume rm \
                     bird-interact-adk_postgresql_data_full; then run `autoharness prepare` again"
            )
        );
    }

    #[test]
    fn every_known_complaint_has_its_way_out() {
        let container = Container::of(BirdDataset::Lite, Path::new("/x"));
        for (said, fix) in [
            (
                "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
                "usermod -aG docker",
            ),
            (
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
                "systemctl start docker",
            ),
            ("docker: unknown command: docker compose", "compose plugin"),
            ("unknown shorthand flag: 'f' in -f", "compose plugin"),
            ("Bind for 0.0.0.0:5432 failed: port is already allocated", "pg_port"),
            (
                "Conflict. The container name \"/x\" is already in use by container \"1\"",
                "docker start bird_interact_postgresql",
            ),
            ("write /var/lib/docker: no space left on device", "disk space"),
            ("lookup registry-1.docker.io: no such host", "network"),
            ("something new", "up -d postgresql"),
        ] {
            assert!(remedy(said, &container).contains(fix), "{said}: {}", remedy(said, &container));
        }
    }
}

//! A canary behind the fence that the loop puts around coding agents: it tries to read what they must not read, and has to fail.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::experiment::Experiment;
use crate::config::{CodingAgent, Config, FenceMode, PromptBy};
use crate::drive::drivers::Driver;
use crate::drive::fencing::SessionFence;
use crate::error::Result;
use crate::process::signals::Cancel;
use crate::process::{Command, Limits, Supervisor, run_captured};
use crate::provision::Finding;
use crate::store::scratch::{self, Scratch};

const NAME: &str = "loop's fence";
/// Reads its own file, then tries the others.
const SCRIPT: &str =
    "cat own && for file in \"$@\"; do head -c 1 \"$file\" >/dev/null 2>&1 && echo \"$file\"; done; exit 0";
const OWN: &str = "the canary sings";

/// What `doctor` says about the fence around coding agents. `place`: where the canary gets a directory. This is the state
/// directory if it is writable: even there the canary must see only its own files. Errors: infrastructure when nothing can be
/// started; `Interrupted`.
pub(super) async fn finding(
    experiment: &Experiment,
    config: &Config,
    supervisor: &Supervisor,
    place: &Path,
    cancel: &Cancel,
) -> Result<Finding> {
    let fix = "allow user namespaces and Landlock on this machine, or give the coding agent a container of its own";
    let paths = &experiment.paths;
    scratch::sweep(place)?;
    let directory = Scratch::new(place)?;
    fs_err::write(directory.path().join("own"), format!("{OWN}\n"))?;
    let agent = CodingAgent {
        command: vec!["sh".into()],
        prompt: PromptBy::Argument,
        usage: None,
        reads: Vec::new(),
        writes: Vec::new(),
    };
    let fencing = SessionFence {
        supervisor,
        environment: &experiment.environment,
        forbidden: &[paths.root.clone(), paths.state.clone()],
        mode: if config.fence == FenceMode::Required { FenceMode::Auto } else { config.fence },
    };
    let driver = Driver::Own("canary".into(), agent);
    let names = [OsString::from("PATH")];
    let words = fencing.around(&driver, &"sh".into(), directory.path(), &names, cancel).await?;
    let Some(words) = words else {
        let detail = "none: a coding agent that the loop drives can reach what this user can";
        return Ok(match config.fence {
            FenceMode::Required => Finding::fail(NAME, detail, fix),
            FenceMode::Off => Finding::warn(NAME, detail, "remove `fence: off` from experiment_config.yaml"),
            FenceMode::Auto => Finding::warn(NAME, detail, fix),
        });
    };
    let mut tried = vec![paths.ledger(), paths.root.join(config.agent_file()), paths.config.clone()];
    tried.extend(config.data.iter().map(|data| paths.root.join(data)));
    tried.retain(|path| path.is_file());
    let mut words = words.into_iter().chain(["sh", "-c", SCRIPT, "canary"].map(OsString::from));
    let program = words.next().unwrap_or_default();
    let words = words.chain(tried.iter().map(OsString::from));
    let command = Command::new(program, directory.path()).args(words).env(experiment.environment.for_child(&[], &[]));
    let limits = Limits { time: Duration::from_secs(60), ..Limits::SMALL };
    let said = run_captured(supervisor, command, limits, cancel).await?;
    let text = said.text();
    let Some(read) = text.strip_prefix(OWN) else {
        let stderr = String::from_utf8_lossy(&said.stderr);
        let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        return Ok(Finding::fail(NAME, format!("nothing runs behind it: {} ({last})", said.exit), fix));
    };
    Ok(match read.trim() {
        "" => Finding::ok(
            NAME,
            format!("a canary could not read ledger, agent or configuration ({} files tried)", tried.len()),
        ),
        read => Finding::fail(NAME, format!("a canary could read {}", read.replace('\n', ", ")), fix),
    })
}

//! Whether the model's provider is in trouble, as seen by this program and not by the agent.
//!
//! The agent calls its model itself, so an exception called `ApiRateLimitError` is only its word: an agent could raise
//! one wherever it fails and lose nothing. When a trial ends with such a claim, this program asks the configured model
//! for one word, with the same packages, keys and addresses, in a process that has nothing of the agent. Only trouble
//! seen there makes the trial no evidence.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::judgement::Provider;
use super::reason;
use crate::error::{Kind, Result};
use crate::process::signals::Cancel;
use crate::process::{Command, Limits, Supervisor, run_captured};
use crate::store::atomic;

const PROGRAM: &str = include_str!("helper/probe.py");

/// Importing litellm takes seconds, on a busy machine many; then three requests.
const TIME: Duration = Duration::from_secs(300);

/// How long observed trouble is assumed to last.
const LASTS: Duration = Duration::from_secs(60);

/// The last observed trouble, shared by all runs of a command: its steps run at the same time with the same provider.
#[derive(Debug, Default)]
pub struct Probe {
    trouble: Mutex<Option<(Instant, &'static str)>>,
}

/// The packages, keys and addresses to ask with.
pub(super) struct Asker<'a> {
    pub(super) model: Option<&'a str>,
    pub(super) python: &'a Path,
    pub(super) environment: &'a [(OsString, OsString)],
    pub(super) state: &'a Path,
    pub(super) supervisor: &'a Supervisor,
}

#[derive(Deserialize)]
struct ProbeAnswer {
    trouble: Option<String>,
}

impl Probe {
    /// Asks the provider now. An answer without trouble is never used twice: the next claim may be about the next moment.
    pub(super) async fn ask(&self, by: &Asker<'_>, cancel: &Cancel) -> Result<Provider> {
        // A second caller waits for the answer to the first.
        let mut last = self.trouble.lock().await;
        if let Some((when, trouble)) = *last
            && when.elapsed() < LASTS
        {
            return Ok(Provider::Fails(trouble));
        }
        let Some(model) = by.model else { return Ok(Provider::Unknown) };
        let seen = match said(by, model, cancel).await {
            Ok(seen) => seen,
            Err(error) if matches!(error.kind(), Kind::Interrupted(_)) => return Err(error),
            Err(_) => Provider::Unknown,
        };
        if let Provider::Fails(trouble) = seen {
            *last = Some((Instant::now(), trouble));
        }
        Ok(seen)
    }
}

async fn said(by: &Asker<'_>, model: &str, cancel: &Cancel) -> Result<Provider> {
    let program = write(by.state)?;
    // No directory but the packages' own may offer modules.
    let environment = by.environment.iter().filter(|(name, _)| name != "PYTHONPATH").cloned();
    let arguments: [OsString; 4] = ["-P".into(), "-B".into(), program.into(), model.into()];
    let command = Command::new(by.python, by.state).args(arguments).env(environment);
    let limits = Limits { time: TIME, ..Limits::SMALL };
    let said = run_captured(by.supervisor, command, limits, cancel).await?;
    Ok(read(&said.stdout))
}

fn write(state: &Path) -> Result<PathBuf> {
    fs_err::create_dir_all(state)?;
    let program = state.join("probe.py");
    if fs_err::read(&program).ok().as_deref() != Some(PROGRAM.as_bytes()) {
        atomic::replace(&program, PROGRAM.as_bytes())?;
    }
    Ok(program)
}

fn read(stdout: &[u8]) -> Provider {
    let Ok(answer) = serde_json::from_slice::<ProbeAnswer>(stdout) else { return Provider::Unknown };
    let Some(trouble) = answer.trouble else { return Provider::Answers };
    Provider::Fails(match trouble.as_str() {
        "authentication" => reason::AUTHENTICATION,
        "model" => reason::MODEL,
        "rate" => reason::RATE,
        "quota" => reason::QUOTA,
        "network" => reason::NETWORK,
        "mcp" => reason::MCP,
        _ => reason::API,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_probe_itself_saw_is_trouble() {
        assert_eq!(read(b"{\"trouble\": \"rate\", \"status\": 429}\n"), Provider::Fails(reason::RATE));
        assert_eq!(read(b"{\"trouble\": null, \"status\": 400}\n"), Provider::Answers);
        for nothing in ["", "Traceback (most recent call last):\n", "{}x"] {
            assert_eq!(read(nothing.as_bytes()), Provider::Unknown, "{nothing}");
        }
    }
}

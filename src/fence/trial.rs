//! Whether a fence can be built here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::layers::{ENTRY, Layers};
use crate::config::Environment;
use crate::error::Result;
use crate::process::signals::Cancel;
use crate::process::{Command, Limits, Supervisor, run_captured};

/// Builds a fence around nothing to learn which layers stand. Returns the program that builds it and the layers, or why there is none.
pub(crate) async fn try_out(
    supervisor: &Supervisor,
    environment: &Environment,
    directory: &Path,
    cancel: &Cancel,
) -> Result<std::result::Result<(PathBuf, Layers), String>> {
    let Some(program) = supervisor.program() else {
        return Ok(Err("the path of this program is not known".into()));
    };
    let command = Command::new(&program, directory).args([ENTRY, "--report"]).env(environment.for_child(&[], &[]));
    let limits = Limits { time: Duration::from_secs(60), ..Limits::SMALL };
    let said = run_captured(supervisor, command, limits, cancel).await?;
    Ok(match serde_json::from_slice::<Layers>(&said.stdout) {
        Ok(layers) => Ok((program, layers)),
        Err(_) => {
            let stderr = String::from_utf8_lossy(&said.stderr);
            let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            Err(format!("{} ({last})", said.exit))
        }
    })
}

//! The fence as benchmarks use it: asked for by the configuration, tried on this machine, named to programs.

use std::path::PathBuf;
use std::time::Duration;

use super::contract::Ground;
use crate::config::FenceMode;
use crate::error::{Code, Error, Result};
use crate::fence::{ENTRY, Layers, prefix};
use crate::process::{Command, Limits, run_captured};
use crate::provision::Finding;

/// A fence that agents can be started behind.
#[derive(Debug, Clone)]
pub struct Fencing {
    /// The words before the program to be fenced; options and `--` come in between.
    pub prefix: Vec<String>,
    /// What stands on this machine.
    pub layers: Layers,
}

impl Fencing {
    /// The fence that the configuration asks for, tried once. `None` where it is switched off or cannot be built.
    ///
    /// # Errors
    /// Usage where it is required and a layer does not stand; `Interrupted`.
    pub async fn put_up(ground: &Ground<'_>) -> Result<Option<Fencing>> {
        let mode = ground.config.fence;
        if mode == FenceMode::Off {
            return Ok(None);
        }
        match try_out(ground).await? {
            Ok((program, layers)) if mode == FenceMode::Auto || layers.missing.is_empty() => {
                Ok(Some(Fencing { prefix: prefix(&program, mode), layers }))
            }
            Err(_) if mode == FenceMode::Auto => Ok(None),
            Ok((_, layers)) => Err(lacking(&layers.to_string())),
            Err(why) => Err(lacking(&why)),
        }
    }
}

fn lacking(what: &str) -> Error {
    Error::usage(format!("`fence: required`, but this machine has not every layer of it: {what}"))
        .code(Code::EnvironmentNotReady)
        .hint("run it on a machine (or in a container) that allows what is missing, or set `fence: auto` in experiment_config.yaml.")
}

/// What `doctor` says of the fence.
///
/// # Errors
/// `Interrupted`.
pub(super) async fn finding(ground: &Ground<'_>) -> Result<Finding> {
    let mode = ground.config.fence;
    let fix = "allow user namespaces and Landlock on this machine; `fence: required` insists on them";
    if mode == FenceMode::Off {
        let detail = "switched off: the agent can reach what this user can, answers included";
        return Ok(Finding::warn("fence", detail, "remove `fence: off` from experiment_config.yaml"));
    }
    let (whole, detail) = match try_out(ground).await? {
        Ok((_, layers)) => (layers.missing.is_empty(), layers.to_string()),
        Err(why) => (false, format!("none: {why}")),
    };
    Ok(match (whole, mode) {
        (true, _) => Finding::ok("fence", detail),
        (false, FenceMode::Required) => Finding::fail("fence", detail, fix),
        (false, _) => Finding::warn("fence", detail, fix),
    })
}

/// Builds a fence around nothing, and hears which layers stand; or why there is none.
async fn try_out(ground: &Ground<'_>) -> Result<Result<(PathBuf, Layers), String>> {
    let Some(program) = ground.supervisor.program() else {
        return Ok(Err("the path of this program is not known".into()));
    };
    let command = Command::new(&program, &ground.paths.root)
        .args([ENTRY, "--report"])
        .env(ground.environment.for_child(&[], &[]));
    let limits = Limits { time: Duration::from_secs(60), ..Limits::SMALL };
    let said = run_captured(ground.supervisor, command, limits, ground.cancel).await?;
    Ok(match serde_json::from_slice::<Layers>(&said.stdout) {
        Ok(layers) => Ok((program, layers)),
        Err(_) => {
            let stderr = String::from_utf8_lossy(&said.stderr);
            let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            Err(format!("{} ({last})", said.exit))
        }
    })
}

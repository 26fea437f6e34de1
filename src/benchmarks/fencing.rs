//! The fence as benchmarks use it: requested by the configuration, tried on this machine, passed to programs.

use std::path::PathBuf;

use super::contract::Ground;
use crate::config::FenceMode;
use crate::error::{Code, Error, Result};
use crate::fence::{Layers, prefix, try_out};
use crate::provision::Finding;

/// A fence that agents can be started behind.
#[derive(Debug, Clone)]
pub struct Fencing {
    /// The command prefix that starts a fence.
    pub words: Vec<String>,
    /// The hosts that agents behind it may reach if they have the network; none: any host.
    pub hosts: Vec<String>,
    /// What stands on this machine.
    pub layers: Layers,
}

impl Fencing {
    /// The fence that the configuration asks for, tried once. `None` where it is switched off or cannot be built.
    ///
    /// # Errors
    /// Usage where it is required and a layer does not stand; `Interrupted`.
    pub async fn put_up(ground: &Ground<'_>) -> Result<Option<Fencing>> {
        match ground.config.fence {
            FenceMode::Off => Ok(None),
            mode => Fencing::of(mode, &ground.config.model_hosts, tried(ground).await?),
        }
    }

    /// The words before the program to be fenced; options and `--` come in between.
    pub fn prefix(&self) -> Vec<String> {
        let hosts = self.hosts.iter().flat_map(|host| ["--host", host]).map(String::from);
        self.words.iter().cloned().chain(hosts).collect()
    }

    fn of(mode: FenceMode, hosts: &[String], tried: TriedFence) -> Result<Option<Fencing>> {
        match tried {
            Ok((program, layers)) if mode == FenceMode::Auto || layers.missing.is_empty() => {
                Ok(Some(Fencing { words: prefix(&program, mode), hosts: hosts.to_vec(), layers }))
            }
            Err(_) if mode == FenceMode::Auto => Ok(None),
            Ok((_, layers)) => Err(lacking(&layers.to_string())),
            Err(why) => Err(lacking(&why)),
        }
    }
}

fn lacking(what: &str) -> Error {
    Error::usage(format!("`fence: required`, but this machine lacks layers of it: {what}"))
        .code(Code::EnvironmentNotReady)
        .hint("run it on a machine (or in a container) that allows what is missing, or set `fence: auto` in experiment_config.yaml.")
}

/// What `doctor` says about the fence.
pub(super) async fn finding(ground: &Ground<'_>) -> Result<Finding> {
    Ok(found(ground).await?.1)
}

/// The fence, where it stands as the configuration wants it, and what `doctor` says of it.
pub(super) async fn found(ground: &Ground<'_>) -> Result<(Option<Fencing>, Finding)> {
    let mode = ground.config.fence;
    let fix = "allow user namespaces and Landlock on this machine; `fence: required` insists on them";
    if mode == FenceMode::Off {
        let detail = "switched off: the agent can reach what this user can, answers included";
        return Ok((None, Finding::warn("fence", detail, "remove `fence: off` from experiment_config.yaml")));
    }
    let tried = tried(ground).await?;
    let (whole, detail) = match &tried {
        Ok((_, layers)) => (layers.missing.is_empty(), layers.to_string()),
        Err(why) => (false, format!("none: {why}")),
    };
    let finding = match (whole, mode) {
        (true, _) => Finding::ok("fence", detail),
        (false, FenceMode::Required) => Finding::fail("fence", detail, fix),
        (false, _) => Finding::warn("fence", detail, fix),
    };
    // If one is required and a layer is missing, the finding says so.
    Ok((Fencing::of(mode, &ground.config.model_hosts, tried).ok().flatten(), finding))
}

/// This program and the layers that stand, or why there are none.
type TriedFence = Result<(PathBuf, Layers), String>;

/// Whether the fence can be built here.
async fn tried(ground: &Ground<'_>) -> Result<TriedFence> {
    try_out(ground.supervisor, ground.environment, &ground.paths.root, ground.cancel).await
}

//! `coding_agents:`: the user's own programs that the loop can drive.

use serde::Deserialize;
use serde_json::{Map, Value};

/// How one is started.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodingAgent {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How it gets its prompt.
    #[serde(default)]
    pub prompt: PromptBy,
    /// A file below its work tree into which it writes what it used, one JSON object a line: `turns`, `tokens_in`,
    /// `tokens_out`, `cost_usd`.
    #[serde(default)]
    pub usage: Option<String>,
    /// Files and directories that it may read behind the fence, besides its program.
    #[serde(default)]
    pub reads: Vec<String>,
    /// Files and directories that it may change behind the fence, besides its work tree.
    #[serde(default)]
    pub writes: Vec<String>,
}

/// How a coding agent gets its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PromptBy {
    #[default]
    Stdin,
    /// As its last argument.
    Argument,
}

impl CodingAgent {
    /// The one with this name.
    pub(crate) fn find(all: &Map<String, Value>, name: &str) -> Option<CodingAgent> {
        CodingAgent::read(all.get(name)?).ok()
    }

    /// Reads one; says what is wrong with it.
    pub(super) fn read(value: &Value) -> Result<CodingAgent, String> {
        let agent: CodingAgent = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
        if agent.command.first().is_none_or(|program| program.trim().is_empty()) {
            return Err("`command` names no program".into());
        }
        let leaves = |path: &str| path.starts_with('/') || path.split('/').any(|part| part == "..");
        if agent.usage.as_deref().is_some_and(leaves) {
            return Err("`usage` must be a path below the work tree".into());
        }
        Ok(agent)
    }
}

//! The session that the command `demo` plays: what a coding agent would have edited, each edit a patch of the starting agent.

use serde::Deserialize;

use crate::error::{Context, Error, Result};

const SCRIPT: &str = include_str!("session.json");
/// Patches of the agent, each made for what the accepted ones before it leave.
const PATCHES: [(&str, &str); 5] = [
    ("01_dates_amounts.diff", include_str!("01_dates_amounts.diff")),
    ("02_rewrite_breaks_suite.diff", include_str!("02_rewrite_breaks_suite.diff")),
    ("03_memorised.diff", include_str!("03_memorised.diff")),
    ("04_generalise.diff", include_str!("04_generalise.diff")),
    ("05_last_families.diff", include_str!("05_last_families.diff")),
];

/// One scripted edit.
#[derive(Deserialize)]
pub(crate) struct ScriptedEdit {
    /// The name of its patch.
    pub file: String,
    /// What its commit is called.
    pub title: String,
    /// What it is meant to do.
    pub why: String,
}

impl ScriptedEdit {
    /// The patch, in git's form. Errors: infrastructure when there is none.
    pub(crate) fn patch(&self) -> Result<&'static str> {
        let patch = PATCHES.iter().find(|(name, _)| *name == self.file).map(|(_, patch)| *patch);
        patch.ok_or_else(|| Error::infrastructure(format!("the demo has no edit {}", self.file)))
    }
}

/// The edits in their order. Errors: infrastructure when the embedded script is broken.
pub(crate) fn edits() -> Result<Vec<ScriptedEdit>> {
    serde_json::from_str(SCRIPT).infra(|| "the embedded demo session is broken".into())
}

//! What the loop keeps between two steps, in a file that is replaced as a whole, so that the loop resumes after any kill and
//! pays for nothing twice.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::drivers::Counted;
use super::spending::Spending;
use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::model::proposal::Proposal;
use crate::store::atomic;
use crate::store::event::{End, Outdone, SessionUsage};

/// The format of the file.
const VERSION: u32 = 2;
/// Larger than any such file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoopState {
    v: u32,
    /// The loop that began and has not reached its end yet.
    pub night: Option<Night>,
    pub current: Option<Current>,
    /// The same as `night`, of a loop that runs the unchanged agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resampling: Option<Night>,
    /// Runs of the unchanged agent that existed when that loop began: later ones are its own, noted down or not.
    #[serde(default)]
    pub runs_before: u32,
}

/// What a loop has done since it began, however often it was killed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Night {
    pub began: DateTime<Utc>,
    /// What trials and finished sessions had taken by then.
    pub before: Spending,
    /// Iterations that have ended.
    pub done: u32,
    pub accepted: u32,
    /// Iterations since the last accepted one.
    pub without: u32,
    /// Failures of the infrastructure in a row.
    pub failures: u32,
}

/// How far an iteration has got. Every stage may be entered again after a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// The coding agent is to edit; a session of it may have been killed.
    Proposing,
    /// A session has ended well; its edit waits to be checked.
    Proposed,
    /// Several candidates are kept and wait to be measured on train.
    Racing,
    /// The edit is kept as a candidate and waits for the gate.
    Gating,
    /// The gate has passed it.
    Passed,
    /// The edit is committed and waits to be recorded.
    Committed,
    /// The result is known; it remains to write it down and tidy up.
    Ended,
}

/// The iteration under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Current {
    pub iteration: u32,
    /// The commit that is edited.
    pub base: String,
    /// The current proposer, from 1; later the one whose candidate goes to the gate.
    pub number: u32,
    /// The proposals so far that can be judged, until one is chosen.
    pub rivals: Vec<Rival>,
    /// The candidates that the chosen one beat.
    pub outdone: Vec<Outdone>,
    /// Where the coding agent edits.
    pub worktree: PathBuf,
    /// How far it has come.
    pub stage: Stage,
    /// Whether a session was started and its end is not known.
    pub begun: bool,
    /// Where the records of that session are.
    pub records: Option<PathBuf>,
    /// What its ended sessions used.
    pub usage: SessionUsage,
    /// The reasons with which the proposal was sent back, if it was.
    pub sent_back: Option<String>,
    /// The session to resume, by the coding agent's name for it.
    pub session: Option<String>,
    /// What was counted of it, where its next run will say that again.
    pub counted: Option<Counted>,
    pub proposal: Option<Proposal>,
    /// The candidate's commit.
    pub candidate: Option<String>,
    /// Fingerprint of the candidate.
    pub agent: Option<String>,
    /// `seq` of the last verdict before the gate judged this one.
    pub receipt_before: Option<u64>,
    pub end: Option<End>,
    /// Why it did not reach the gate.
    pub reason: Option<String>,
    /// The groups of editable paths that the edit touched.
    #[serde(default)]
    pub touched: Vec<String>,
    /// Number of its section in learnings.md.
    pub section: Option<u32>,
    /// Trials that the current proposer had run before it proposed.
    #[serde(default)]
    pub tried: u64,
}

/// A proposal of the iteration that can be judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rival {
    /// Its proposer.
    pub number: u32,
    pub proposal: Proposal,
    /// Its commit.
    pub candidate: String,
    /// Its fingerprint.
    pub agent: String,
    /// The groups of editable paths that it touched.
    #[serde(default)]
    pub touched: Vec<String>,
    /// What it earned on train in the race, on the tasks that were run.
    pub train: Option<f64>,
}

impl LoopState {
    /// Reads the file; nothing when it is not there. Errors: usage when it was not written by this program.
    pub(crate) fn load(path: &Path) -> Result<LoopState> {
        let Some(bytes) = files::read_if_there(path, LARGEST)? else { return Ok(LoopState::default()) };
        let state: LoopState = serde_json::from_slice(&bytes)
            .usage(|| format!("{} is not what the loop left there", path.display()))
            .map_err(|error| error.hint("remove it: the iteration that was under way is then given up."))?;
        if state.v > VERSION {
            return Err(Error::usage(format!("{} is of a newer version of this program", path.display()))
                .hint("let that version finish its iteration, or remove the file to give it up."));
        }
        Ok(state)
    }

    /// Writes the file, or removes it when there is nothing to keep.
    pub(crate) fn save(&mut self, path: &Path) -> Result<()> {
        self.v = VERSION;
        if self.night.is_none() && self.current.is_none() && self.resampling.is_none() {
            return match fs_err::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            };
        }
        let bytes = serde_json::to_vec_pretty(self).infra(|| "cannot render the loop's state".into())?;
        atomic::replace(path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_nothing_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("loop.json");
        assert_eq!(LoopState::load(&path).unwrap(), LoopState::default());
        let night = Night {
            began: DateTime::UNIX_EPOCH,
            before: Spending { usd: 1.5, trials: 3, ..Spending::default() },
            done: 1,
            accepted: 0,
            without: 1,
            failures: 2,
        };
        let mut state = LoopState { night: Some(night), ..LoopState::default() };
        state.save(&path).unwrap();
        assert_eq!(LoopState::load(&path).unwrap(), state);
        (state.resampling, state.runs_before) = (state.night.take(), 3);
        state.save(&path).unwrap();
        assert_eq!(LoopState::load(&path).unwrap(), state);
        state.resampling = None;
        state.save(&path).unwrap();
        state.save(&path).unwrap();
        assert!(!path.exists());
        for (text, what) in
            [("{", "not what the loop left"), (r#"{"v":3,"night":null,"current":null}"#, "newer version")]
        {
            fs_err::write(&path, text).unwrap();
            let error = LoopState::load(&path).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(what), "{error}");
        }
    }
}

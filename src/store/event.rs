//! What the ledger can say. Externally tagged JSON: `{"trial": {…}}`.

mod begun;
mod judged;
mod proposed;
mod purpose;
mod trial;

use serde::{Deserialize, Serialize};

pub(crate) use begun::Adopted;
pub use begun::{Baseline, Prepared, Row};
pub use judged::{Accepted, By, Committed, Recorded, Revealed, SuiteChanged, Verdict};
pub(crate) use judged::{Calibrated, Confirmed};
pub use proposed::{End, Outdone, Proposed, Resampled, SessionUsage};
pub use purpose::Purpose;
pub use trial::{RunFinished, Trial};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event<'a> {
    /// `prepare` finished: the basis of all later numbers.
    Prepared(Box<Prepared>),
    #[serde(borrow)]
    Trial(Trial<'a>),
    /// A run ended, completely or not.
    RunFinished(RunFinished),
    /// The gate spoke: every input of the decision, and the decision. The receipt that `record` needs.
    Verdict(Box<Verdict>),
    /// A passing edit was recorded.
    Recorded(Recorded),
    /// A human accepted changes to guarded files or to the configuration.
    Accepted(Accepted),
    /// Per-task results of the hold-out were looked at.
    Revealed(Revealed),
    /// Tasks of the regression suite were added, put in quarantine or retired.
    SuiteChanged(SuiteChanged),
    /// Baseline and best were run afresh, and this is what may be claimed.
    Confirmed(Box<Confirmed>),
    /// The recorded agent was run again, unchanged.
    Calibrated(Box<Calibrated>),
    /// The coding agent proposed an edit to the loop, and this is what became of it.
    Proposed(Box<Proposed>),
    /// The agent that the experiment began with was measured once more, as a gate measures an edit.
    Resampled(Box<Resampled>),
}

impl Event<'_> {
    /// The agent whose trial, or end of a run, it is.
    pub(crate) fn agent_run(&self) -> Option<&str> {
        match self {
            Event::Trial(trial) => Some(&trial.agent),
            Event::RunFinished(run) => Some(&run.agent),
            _ => None,
        }
    }

    /// The first format version whose programs know this event; its line states it.
    pub fn version(&self) -> u32 {
        match self {
            Event::SuiteChanged(_)
            | Event::Confirmed(_)
            | Event::Calibrated(_)
            | Event::Proposed(_)
            | Event::Resampled(_) => 2,
            _ => 1,
        }
    }
}

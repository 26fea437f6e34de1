//! Driving coding agents: their command lines and event streams, proposals and learnings, budgets, and what the loop keeps
//! between two steps. `commands::loop_` gathers and acts.

pub(crate) mod budget;
pub(crate) mod desk;
pub(crate) mod drivers;
pub(crate) mod fencing;
pub(crate) mod learnings;
pub(crate) mod proposal;
pub(crate) mod session;
pub(crate) mod spending;
pub(crate) mod state;
pub(crate) mod worktree;

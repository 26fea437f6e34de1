//! Driving coding agents: their command lines and event streams, proposals and learnings, budgets, and what the loop keeps
//! between two steps. `commands::loop_` gathers and acts.

pub mod budget;
pub mod desk;
pub mod drivers;
pub mod fencing;
pub mod learnings;
pub mod proposal;
pub mod session;
pub mod spending;
pub mod state;
pub mod worktree;

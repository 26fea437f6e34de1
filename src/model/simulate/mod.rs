//! Gates played with agents of known rates, deciding with the gate's own functions. `calibrate` plays with the rates that it
//! measured, `examples/gate_simulation` with published ones.
//!
//! It leaves out the suite under the rule `paired`, which seldom fails an unchanged agent, and trials without evidence.

mod beforehand;
mod odds;
mod parallel;
mod rules;
mod world;

pub(crate) use beforehand::passes_by_chance;
pub(crate) use odds::{Configured, Forecast, Odds, forecast};
pub use parallel::all;
pub use rules::{PlayedSearch, RuleKind};
pub use world::{Agent, Random, mean};

//! What an experiment needs of its surroundings, for all benchmarks.

mod estimate;
mod finding;
mod installer;
pub(crate) mod model_keys;
pub(crate) mod need;
pub(crate) mod python;
pub(crate) mod python_env;

pub(crate) use estimate::{Cost, estimate};
pub use finding::{Finding, Level, Surroundings};
pub(crate) use finding::{program, require};

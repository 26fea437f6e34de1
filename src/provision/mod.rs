//! What an experiment needs of its surroundings, as far as benchmarks share it.

mod estimate;
mod finding;
mod installer;
pub mod model_keys;
pub mod need;
pub mod python;
pub mod python_env;

pub use estimate::{Cost, estimate};
pub use finding::{Finding, Level, Surroundings, program, require};

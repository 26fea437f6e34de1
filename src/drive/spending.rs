//! What a loop pays for.

use serde::{Deserialize, Serialize};

/// What is paid for: spent already, or estimated for the next step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spending {
    /// US dollars.
    pub usd: f64,
    /// Sessions that reported no dollars, and trials that reported tokens and none.
    pub unpriced: u32,
    pub tokens: u64,
    pub trials: u64,
}

//! What a loop pays for.

use serde::{Deserialize, Serialize};

/// What is paid for: spent already, or by all that is known by the next step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spending {
    /// US dollars.
    pub usd: f64,
    /// Sessions that reported no dollars, and trials that reported tokens and none.
    pub unpriced: u32,
    /// Tokens.
    pub tokens: u64,
    /// Trials.
    pub trials: u64,
}

//! What there is to see of an experiment: its history out of the ledger, its train traces as conversations, and both made
//! ready for people and coding agents. Nothing here decides or writes anything that counts.
//!
//! Traces lie where anybody may write, and hold what agents and models said: they are read within limits, through no link,
//! and whatever could forge a line, colour a terminal or turn text around is spelt out by [`text`] before anything else sees it.

pub mod bill;
pub mod breakdown;
pub mod columns;
pub mod evidence;
pub mod export;
pub mod failing;
pub mod flips;
pub mod history;
pub mod learnings;
pub mod page;
pub mod resampling;
pub mod serve;
pub mod show;
pub mod signature;
pub mod spark;
pub mod text;
pub mod trace;

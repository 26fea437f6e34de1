//! What there is to see of an experiment: its history out of the ledger, its train traces as conversations, and both made
//! ready for people and coding agents. Nothing here decides or writes anything that counts.
//!
//! Traces lie where anybody may write, and hold what agents and models said: they are read within limits, through no link,
//! and whatever could forge a line, colour a terminal or turn text around is spelt out by [`text`] before anything else sees it.

pub(crate) mod bill;
pub(crate) mod breakdown;
pub(crate) mod columns;
pub(crate) mod evidence;
pub(crate) mod export;
pub(crate) mod failing;
pub(crate) mod flips;
pub(crate) mod history;
pub(crate) mod learnings;
pub(crate) mod page;
pub(crate) mod resampling;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod signature;
pub(crate) mod spark;
pub(crate) mod text;
pub(crate) mod trace;

//! What users see of an experiment: its history from the ledger and its train traces as conversations, prepared for people
//! and coding agents. Nothing here decides or writes anything that counts.
//!
//! Any process may write where traces are, and they hold what agents and models said. So they are read within limits and through
//! no link, and [`text`] escapes whatever could forge a line, colour a terminal or reverse text before other code sees it.

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

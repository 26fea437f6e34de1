//! What may have changed and what is scored: base tree, content scan, policy, staging, preflight.
//!
//! `git status` is not a guard: index flags, excludes, filters, hooks, `core.worktree` and an edit that was already
//! committed all hide from it. So git is only an object reader here ([`Repo`], [`base`]), and what is on disk is compared byte
//! by byte with the tree of a recorded commit ([`mod@scan`]). Which differences are allowed is decided without any I/O in
//! [`policy`]. Nothing in this module starts a program that the experiment names but the preflight, with the interpreter that it
//! is given.

pub(crate) mod agent_files;
mod attributes;
pub(crate) mod base;
mod caches;
mod candidate;
pub(crate) mod cause;
pub(crate) mod change;
pub(crate) mod convert;
pub(crate) mod digest;
mod editable_files;
mod entries;
mod files;
mod ignored;
mod index;
pub(crate) mod kept;
pub(crate) mod leaks;
mod merged;
mod not_read;
mod ownership;
mod planted;
pub(crate) mod policy;
pub(crate) mod preflight;
mod repo;
pub mod scan;
pub(crate) mod staging;
pub(crate) mod watch;

pub use agent_files::agent_fingerprint;
pub use base::BaseTree;
pub use cause::causes;
pub use change::{Change, Difference};
pub(crate) use digest::digest_path;
pub(crate) use editable_files::differing;
pub use editable_files::{EditableFile, EditableFiles};
pub(crate) use files::shell_path;
pub use files::show_path;
pub(crate) use index::is_staged;
pub(crate) use not_read::NotRead;
pub(crate) use policy::Violation;
pub use policy::{Editable, violations};
pub use preflight::{Preflight, PreflightFailure};
pub use repo::Repo;
pub use scan::{compare_trees, scan};
pub use staging::stage;

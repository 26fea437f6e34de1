//! What may have changed and what is scored: base tree, content scan, policy, staging, preflight.
//!
//! `git status` is not a guard: index flags, excludes, filters, hooks, `core.worktree` and an edit that was already
//! committed all hide from it. So git is only an object reader here ([`Repo`], [`base`]), and what is on disk is compared byte
//! by byte with the tree of a recorded commit ([`mod@scan`]). Which differences are allowed is decided without any I/O in
//! [`policy`]. Nothing in this module starts a program that the experiment names but the preflight, with the interpreter that it
//! is given.

pub mod agent_files;
mod attributes;
pub mod base;
mod caches;
mod candidate;
pub mod cause;
pub mod change;
pub mod convert;
pub mod digest;
mod editable_files;
mod entries;
mod files;
mod ignored;
mod index;
pub mod kept;
pub mod leaks;
mod merged;
mod not_read;
mod ownership;
mod planted;
pub mod policy;
pub mod preflight;
mod repo;
pub mod scan;
pub mod staging;
pub mod watch;

pub use agent_files::agent_fingerprint;
pub use base::BaseTree;
pub use cause::causes;
pub use change::{Change, Difference};
pub use digest::digest_path;
pub use editable_files::{EditableFile, EditableFiles, differing};
pub use entries::{Entry, Mode};
pub use files::{shell_path, show_path};
pub use index::is_staged;
pub use not_read::NotRead;
pub use policy::{Editable, Violation, violations};
pub use preflight::{Preflight, PreflightFailure};
pub use repo::Repo;
pub use scan::{compare_trees, scan};
pub use staging::stage;

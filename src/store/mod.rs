//! The only writer: ledger, views, traces, lock, scratch directories, atomic replacement.

pub mod atomic;
pub(crate) mod beneath;
pub mod checkpoint;
pub mod claims;
pub mod comparison;
pub mod context;
pub mod event;
pub mod gates;
pub mod ledger;
pub mod lock;
pub mod log;
pub mod proposals;
pub mod scratch;
pub mod spent;
pub mod state;
pub mod summary;
pub mod task_name;
pub mod traces;
pub mod trials;
pub mod views;

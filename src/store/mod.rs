//! The only writer: ledger, views, traces, lock, scratch directories, atomic replacement.

pub(crate) mod atomic;
pub(crate) mod beneath;
pub(crate) mod checkpoint;
pub(crate) mod claims;
pub(crate) mod comparison;
pub(crate) mod context;
pub(crate) mod event;
pub(crate) mod gates;
pub(crate) mod ledger;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod proposals;
pub(crate) mod scratch;
pub(crate) mod spent;
pub(crate) mod state;
pub(crate) mod summary;
pub(crate) mod task_name;
pub(crate) mod traces;
pub(crate) mod trials;
pub(crate) mod views;

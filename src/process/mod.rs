//! Child processes: started in their own sessions, watched, bounded, and never outliving us.
//!
//! Every child goes through [`Supervisor`]. It never starts a program directly: it starts this very binary again as a
//! [`watcher`], which starts the program, owns all of its descendants and ends them when the pipe to us breaks.

pub(crate) mod capture;
pub(crate) mod child;
pub(crate) mod command;
pub(crate) mod git;
pub(crate) mod log;
pub(crate) mod orphans;
pub(crate) mod output;
pub(crate) mod redact;
pub(crate) mod registry;
pub(crate) mod signals;
pub(crate) mod supervisor;
mod tree;
pub(crate) mod watcher;

pub(crate) use capture::Captured;
pub use capture::{Limits, run_captured};
pub use child::{Child, Exit};
pub use command::{Ask, Command, Stderr};
pub use log::Log;
pub use redact::Redactor;
pub use supervisor::Supervisor;
pub(crate) use tree::namespace;

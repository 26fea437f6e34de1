//! Child processes: started in sessions of their own, watched, bounded, and gone when we are gone.
//!
//! Every child goes through [`Supervisor`]. It never starts a program directly: it starts this very binary again as a
//! [`watcher`], which starts the program, owns all of its descendants and ends them when the pipe to us breaks.

pub mod capture;
pub mod child;
pub mod command;
pub mod git;
pub mod log;
pub mod orphans;
pub mod output;
pub mod redact;
pub mod registry;
pub mod signals;
pub mod supervisor;
mod tree;
pub mod watcher;

pub use capture::{Captured, Limits, run_captured};
pub use child::{Child, Exit};
pub use command::{Ask, Command, Stderr};
pub use log::Log;
pub use redact::Redactor;
pub use supervisor::Supervisor;
pub(crate) use tree::namespace;

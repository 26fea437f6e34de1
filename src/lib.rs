//! autoharness: lets a coding agent improve another agent, and shows whether it really got better.
//!
//! `commands` gather evidence, let the pure `model` decide, and act; `store` is the only writer of results.

pub mod benchmarks;
pub mod cli;
pub mod commands;
pub mod config;
mod drive;
pub mod error;
pub mod fence;
mod files;
pub mod guard;
pub mod model;
mod paths;
pub mod process;
pub mod provision;
pub mod report;
pub mod store;
pub mod templates;
pub mod ui;

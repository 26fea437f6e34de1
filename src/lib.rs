//! autoharness: lets a coding agent improve another agent, and shows whether it really got better.
//!
//! `commands` gather evidence, let the pure `model` decide, and act; `store` is the only writer of results.

mod benchmarks;
mod cli;
mod commands;
mod config;
mod drive;
mod error;
mod fence;
mod files;
mod guard;
pub mod internals;
mod model;
mod paths;
mod process;
mod provision;
mod report;
mod store;
mod templates;
mod ui;

use std::process::ExitCode;

/// The program: parse, run, exit code.
pub fn main() -> ExitCode {
    if let Some(code) = process::watcher::run_if_asked().or_else(fence::run_if_asked) {
        return code;
    }
    process::orphans::adopt();
    let cli = match cli::Cli::read() {
        Ok(cli) => cli,
        Err(code) => return exit(code),
    };
    let global = &cli.global;
    let ui = ui::Ui::new(global.format, global.quiet, global.verbose, global.color);
    exit(commands::run(cli, &ui).unwrap_or_else(|error| {
        ui.error(&error);
        error.exit_code()
    }))
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

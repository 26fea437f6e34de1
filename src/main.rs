//! Parse, run, exit code.

use std::process::ExitCode;

use autoharness::cli::Cli;
use autoharness::ui::Ui;
use autoharness::{commands, error};
use clap::Parser;

fn main() -> ExitCode {
    if let Some(code) = autoharness::process::watcher::run_if_asked().or_else(autoharness::fence::run_if_asked) {
        return code;
    }
    autoharness::process::orphans::adopt();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Help and version go to stdout and are no failure; clap knows.
            let _ = usage.print();
            let code = if usage.use_stderr() { error::EXIT_USAGE } else { error::EXIT_OK };
            return exit(code);
        }
    };
    let global = &cli.global;
    let ui = Ui::new(global.format, global.quiet, global.verbose, global.color);
    let code = commands::run(cli, &ui).unwrap_or_else(|error| {
        ui.error(&error);
        error.exit_code()
    });
    exit(code)
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

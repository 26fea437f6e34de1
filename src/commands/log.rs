//! What goes into the log and to stderr while a command runs, and the lines that every command writes.

use std::time::Instant;

use tracing::level_filters::LevelFilter;
use tracing::{error, info};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use crate::cli::Global;
use crate::config::{Config, Environment};
use crate::error::Result;
use crate::paths::Paths;
use crate::process::Redactor;
use crate::store::log::{self, LogFile};
use crate::ui::Ui;

/// What is also printed to stderr: `error`, `warn`, `info` or `debug`. Not read from `.env`: it is about this very call.
pub(super) const LEVEL_VARIABLE: &str = "AUTOHARNESS_LOG";

/// Sends all traced events to the open log, and to stderr if requested.
pub(super) fn install(global: &Global, ui: &Ui) {
    let asked = std::env::var(LEVEL_VARIABLE).ok().filter(|level| !level.is_empty());
    let level = asked.as_deref().map(str::parse::<LevelFilter>);
    if let Some(Err(_)) = level {
        ui.warn(format!("{LEVEL_VARIABLE} takes off, error, warn, info, debug or trace"));
    }
    let otherwise = if global.verbose { LevelFilter::INFO } else { LevelFilter::OFF };
    let level = level.and_then(|level| level.ok()).unwrap_or(otherwise);
    let stderr = (level != LevelFilter::OFF)
        .then(|| fmt::layer().with_ansi(false).with_target(false).with_writer(std::io::stderr).with_filter(level));
    let file = fmt::layer().with_ansi(false).with_target(false).with_writer(LogFile).with_filter(LevelFilter::DEBUG);
    // The demo runs commands in a command; the first installation holds.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(file).with(stderr));
}

/// Opens the log of an experiment that this command now holds.
pub(super) fn begin(paths: &Paths, config: &Config, environment: &Environment, ui: &Ui) {
    if let Err(error) = log::begin(&paths.log(), Redactor::new(environment.secret_values())) {
        ui.detail(format!("there is no log of this command: {error}"));
    }
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        arguments = arguments(words),
        benchmark = config.benchmark.name(),
        "command began"
    );
}

/// Writes how a command ended, and closes the log. Of an error it logs only the code and the line that made it: its message
/// may quote anything.
pub(super) fn end(result: &Result<i32>, since: Instant) {
    let seconds = seconds(since);
    match result {
        Ok(exit_code) => info!(exit_code, seconds, "command ended"),
        Err(error) => {
            let (code, exit_code) = (error.named().name(), error.exit_code());
            error!(exit_code, seconds, code, place = %error.place(), "command failed");
        }
    }
    log::end();
}

/// How long something took, in seconds; more than milliseconds are noise.
pub(super) fn seconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

/// The command line without the names of tasks, which may belong to the hold-out.
fn arguments(words: impl Iterator<Item = String>) -> String {
    let mut kept: Vec<String> = Vec::new();
    let mut tasks = false;
    for word in words {
        if word.starts_with('-') {
            let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            // clap accepts no abbreviation of it.
            tasks = name == "--task-ids" && value.is_none();
            kept.push(if name == "--task-ids" { name.to_string() } else { word });
        } else if !tasks {
            kept.push(word);
        }
    }
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn arguments_are_kept_and_tasks_are_not() {
        let arguments = |line: &str| super::arguments(line.split(' ').map(str::to_string));
        assert_eq!(arguments("benchmark --task-ids a b --split test -v"), "benchmark --task-ids --split test -v");
        assert_eq!(arguments("benchmark --task-ids=a -C dir --fresh"), "benchmark --task-ids -C dir --fresh");
    }
}

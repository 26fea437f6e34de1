//! What goes into the log and to stderr while a command runs, and the lines that every command writes.

use std::time::Instant;

use clap::Arg;
use clap::builder::ValueParser;
use tracing::level_filters::LevelFilter;
use tracing::{error, info};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use crate::cli::{Global, definition};
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

/// The command line without anything that somebody wrote: words may name tasks of the hold-out, or quote them. Commands,
/// options, and values that are numbers or one of a few words stay.
fn arguments(words: impl Iterator<Item = String>) -> String {
    let program = definition();
    let (mut command, mut kept) = (&program, Vec::new());
    // Whether the word is the value of an option, and if so, whether it stays.
    let mut value: Option<bool> = None;
    for word in words.take_while(|word| word != "--") {
        if word.starts_with('-') {
            let (name, given) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            let mut known = command.get_arguments().chain(program.get_arguments());
            value = None;
            let Some(argument) = known.find(|argument| is_named(argument, name)) else { continue };
            let is_text = is_text(argument);
            value = (argument.get_action().takes_values() && given.is_none()).then_some(!is_text);
            kept.push(if is_text { name.to_string() } else { word });
        } else if let Some(stays) = value.take() {
            kept.extend(stays.then_some(word));
        } else if let Some(inner) = command.find_subcommand(&word) {
            command = inner;
            kept.push(word);
        }
    }
    kept.join(" ")
}

fn is_named(argument: &Arg, word: &str) -> bool {
    argument.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long))
        || argument.get_short().is_some_and(|short| word.strip_prefix('-') == Some(short.to_string().as_str()))
}

/// Whether its value may be any text.
fn is_text(argument: &Arg) -> bool {
    let texts = [ValueParser::string(), ValueParser::os_string(), ValueParser::path_buf()];
    texts.iter().any(|text| text.type_id() == argument.get_value_parser().type_id())
}

#[cfg(test)]
mod tests {
    #[test]
    fn arguments_are_kept_and_tasks_are_not() {
        let arguments = |line: &str| super::arguments(line.split(' ').map(str::to_string));
        for (line, kept) in [
            ("benchmark --task-ids a b --split test -v", "benchmark --task-ids --split test -v"),
            ("benchmark --task-ids=a -C dir --fresh", "benchmark --task-ids -C --fresh"),
            ("--format json show 12 --trial 2", "--format json show --trial 2"),
            ("suite add -q a --reason b", "suite add -q --reason"),
            ("gate --base=main --concurrency=3 -q", "gate --base --concurrency=3 -q"),
            ("suite retire --by-hand -C/a -- --task-ids", "suite retire"),
            ("-C gate suite --config list add b --concurrency 3", "-C suite --config add"),
        ] {
            assert_eq!(arguments(line), kept);
        }
    }
}

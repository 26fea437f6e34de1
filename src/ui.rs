//! stdout carries data; stderr carries status, warnings, hints and progress. Clear without colour.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::error::Error;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for people and coding agents.
    Human,
    /// One JSON object per line.
    Json,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Everything the tool prints goes through here.
#[derive(Debug, Clone)]
pub struct Ui {
    format: Format,
    quiet: bool,
    verbose: bool,
    color: bool,
}

impl Ui {
    /// Decides once where colour and progress go.
    pub fn new(format: Format, quiet: bool, verbose: bool, color: Color) -> Ui {
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        Ui { format, quiet, verbose, color }
    }

    /// True when results are JSON lines.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// A line of results for people; nothing in JSON format.
    pub fn line(&self, line: impl Display) {
        if !self.is_json() {
            stdout(&line.to_string());
        }
    }

    /// A text that is a result as a whole, in either format.
    pub fn text(&self, text: &str) {
        stdout(text.trim_end_matches('\n'));
    }

    /// A result as one JSON object on one line; nothing in human format.
    pub fn json(&self, value: &impl Serialize) {
        if self.is_json() {
            stdout(&serde_json::to_string(value).unwrap_or_default());
        }
    }

    /// What is going on, on stderr; silenced by `-q`.
    pub fn status(&self, message: impl Display) {
        if !self.quiet {
            stderr(&message.to_string());
        }
    }

    /// Details, on stderr with `-v` only.
    pub fn detail(&self, message: impl Display) {
        if self.verbose {
            stderr(&message.to_string());
        }
    }

    /// Something the reader should know, on stderr.
    pub fn warn(&self, message: impl Display) {
        stderr(&format!("{} {message}", self.paint("33", "warning:")));
    }

    /// What to do next, on stderr; silenced by `-q`.
    pub fn hint(&self, message: impl Display) {
        if !self.quiet {
            stderr(&format!("{} {message}", self.paint("36", "hint:")));
        }
    }

    /// An error with its causes and hints; as a JSON object on stdout too in JSON format.
    pub fn error(&self, error: &Error) {
        let chain = error.chain();
        for (index, message) in chain.iter().enumerate() {
            let label = if index == 0 { "error:" } else { "caused by:" };
            stderr(&format!("{} {message}", self.paint("31;1", label)));
        }
        for hint in error.hints() {
            stderr(&format!("{} {hint}", self.paint("36", "hint:")));
        }
        let code = error.named().name();
        self.detail(format!("code: {code}; `autoharness explain {code}` says more."));
        self.json(&serde_json::json!({
            "type": "error",
            "code": code,
            "exit_code": error.exit_code(),
            "message": chain.first(),
            "causes": chain.get(1..),
            "hints": error.hints(),
        }));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// A progress display over `total` trials: a bar with ETA on a terminal, a few plain lines elsewhere.
    pub fn progress(&self, what: &str, total: usize) -> Progress {
        let bar = (std::io::stderr().is_terminal() && !self.quiet).then(|| {
            let bar = ProgressBar::new(total as u64);
            let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} trials, {elapsed}, ETA {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar.set_message(what.to_string());
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        let now = Instant::now();
        Progress {
            bar,
            quiet: self.quiet,
            what: what.to_string(),
            total,
            done: 0,
            started: now,
            spoke: now,
            spoke_at: 0,
        }
    }
}

/// Progress of a run.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    what: String,
    total: usize,
    done: usize,
    started: Instant,
    spoke: Instant,
    spoke_at: usize,
}

impl Progress {
    /// A trial finished.
    pub fn advance(&mut self) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
            return;
        }
        // A coding agent pays for every line it reads: at most one a minute, and one per quarter of a long run.
        let quarter = self.total.div_ceil(4).max(1);
        let due = self.spoke.elapsed() >= Duration::from_secs(60)
            || (self.done - self.spoke_at >= quarter && self.spoke.elapsed() >= Duration::from_secs(10));
        if due && !self.quiet && self.done < self.total {
            let per_trial = self.started.elapsed().as_secs_f64() / self.done as f64;
            let left = per_trial * (self.total - self.done) as f64;
            stderr(&format!("{}: {}/{} trials, about {} left", self.what, self.done, self.total, duration(left)));
            (self.spoke, self.spoke_at) = (Instant::now(), self.done);
        }
    }

    /// More trials than foreseen are to come (retries).
    pub fn extend(&mut self, trials: usize) {
        self.total += trials;
        if let Some(bar) = &self.bar {
            bar.set_length(self.total as u64);
        }
    }

    /// Prints a message without tearing the bar.
    pub fn suspend(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `95 s`, `12 min`, `3.5 h`.
pub fn duration(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 7200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}

// A reader that went away (`autoharness status | head -1`) is no reason to panic, so write errors are ignored.
fn stdout(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn stderr(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

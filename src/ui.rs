//! stdout carries data; stderr carries status, warnings, hints and progress. Clear without colour.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::error::Error;

/// Verdicts that a screen shows.
const LAST: usize = 5;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Lines for people and coding agents.
    Human,
    /// One JSON object per line.
    Json,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Everything the tool prints goes through here.
#[derive(Debug, Clone)]
pub(crate) struct Ui {
    format: Format,
    quiet: bool,
    verbose: bool,
    color: bool,
    screen: Option<Screen>,
}

impl Ui {
    /// Decides once whether colour and progress are shown.
    pub(crate) fn new(format: Format, quiet: bool, verbose: bool, color: Color) -> Ui {
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        Ui { format, quiet, verbose, color, screen: None }
    }

    /// True when results are JSON lines.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// A line of results for people; nothing in JSON format.
    pub(crate) fn line(&self, line: impl Display) {
        if !self.is_json() {
            self.above(|| stdout(&line.to_string()));
        }
    }

    /// A text that is a result as a whole, in either format.
    pub(crate) fn text(&self, text: &str) {
        stdout(text.trim_end_matches('\n'));
    }

    /// A result as one JSON object on one line; nothing in human format.
    pub(crate) fn json(&self, value: &impl Serialize) {
        if self.is_json() {
            stdout(&serde_json::to_string(value).unwrap_or_default());
        }
    }

    /// What is going on, on stderr; silenced by `-q`.
    pub(crate) fn status(&self, message: impl Display) {
        if let Some(screen) = self.open_screen() {
            let mut board = screen.board();
            (board.stage, board.since) = (message.to_string(), Some(Instant::now()));
            return screen.draw(&board);
        }
        if !self.quiet {
            stderr(&message.to_string());
        }
    }

    /// Details, on stderr with `-v` only.
    pub(crate) fn detail(&self, message: impl Display) {
        if self.verbose {
            self.above(|| stderr(&message.to_string()));
        }
    }

    /// Something the reader should know, on stderr.
    pub(crate) fn warn(&self, message: impl Display) {
        self.above(|| stderr(&format!("{} {message}", self.paint("33", "warning:"))));
    }

    /// What to do next, on stderr; silenced by `-q`.
    pub(crate) fn hint(&self, message: impl Display) {
        if !self.quiet {
            self.above(|| stderr(&format!("{} {message}", self.paint("36", "hint:"))));
        }
    }

    /// An error with its causes and hints; as a JSON object on stdout too in JSON format.
    pub(crate) fn error(&self, error: &Error) {
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
        self.error_object(error);
    }

    /// An error as a JSON object on stdout; nothing in human format.
    pub(crate) fn error_object(&self, error: &Error) {
        let chain = error.chain();
        self.json(&serde_json::json!({
            "type": "error",
            "code": error.named().name(),
            "exit_code": error.exit_code(),
            "message": chain.first(),
            "causes": chain.get(1..),
            "hints": error.hints(),
        }));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// On a terminal, an interface that keeps a few lines at the end up to date instead of writing a line for each stage;
    /// elsewhere the same as this one.
    #[must_use]
    pub(crate) fn with_screen(&self) -> Ui {
        let is_wanted = std::io::stderr().is_terminal() && !self.quiet && !self.is_json();
        Ui { screen: is_wanted.then(Screen::new).flatten(), ..self.clone() }
    }

    /// Whether there is a screen to keep up to date.
    pub(crate) fn has_screen(&self) -> bool {
        self.open_screen().is_some()
    }

    /// What the screen shows beside the stage: names, each with its text.
    pub(crate) fn facts(&self, facts: Vec<(&'static str, String)>) {
        if let Some(screen) = self.open_screen() {
            let mut board = screen.board();
            board.facts = facts;
            screen.draw(&board);
        }
    }

    /// A line of results that belongs on the screen, where the last ones stay; elsewhere a line like any other.
    pub(crate) fn verdict(&self, line: impl Display) {
        let Some(screen) = self.open_screen() else { return self.line(line) };
        let mut board = screen.board();
        board.last.push_back(line.to_string());
        if board.last.len() > LAST {
            board.last.pop_front();
        }
        screen.draw(&board);
        drop(board);
        // When stdout goes to a file, the file gets all of them.
        if !std::io::stdout().is_terminal() {
            self.line(line);
        }
    }

    /// Leaves the screen as it is: further output goes below it.
    pub(crate) fn close_screen(&self) {
        if let Some(screen) = self.open_screen() {
            let board = screen.board();
            screen.bar.abandon_with_message(board.text());
            // The cursor stands behind its last line, not below it.
            stderr("");
        }
    }

    fn open_screen(&self) -> Option<&Screen> {
        self.screen.as_ref().filter(|screen| !screen.bar.is_finished())
    }

    /// Prints above the screen, where there is one.
    fn above(&self, print: impl FnOnce()) {
        match self.open_screen() {
            Some(screen) => screen.bar.suspend(print),
            None => print(),
        }
    }

    /// A progress display over `total` trials: a bar with ETA on a terminal, a few plain lines elsewhere.
    pub(crate) fn progress(&self, what: &str, total: usize) -> Progress {
        let screen = self.open_screen().cloned();
        let bar = (std::io::stderr().is_terminal() && !self.quiet && screen.is_none()).then(|| {
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
            screen,
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

/// Lines at the end of a terminal that are kept up to date.
#[derive(Debug, Clone)]
struct Screen {
    bar: ProgressBar,
    board: Arc<Mutex<Board>>,
}

/// What a screen says.
#[derive(Debug, Default)]
struct Board {
    /// The first of them stands above the stage.
    facts: Vec<(&'static str, String)>,
    stage: String,
    since: Option<Instant>,
    last: VecDeque<String>,
}

impl Screen {
    /// `None` on a terminal that cannot redraw, one that calls itself `dumb`.
    fn new() -> Option<Screen> {
        let bar = ProgressBar::new_spinner();
        if bar.is_hidden() {
            return None;
        }
        bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        // Draws what came too soon after the last drawing.
        bar.enable_steady_tick(Duration::from_millis(500));
        Some(Screen { bar, board: Arc::default() })
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, board: &Board) {
        self.bar.set_message(board.text());
    }
}

impl Board {
    fn text(&self) -> String {
        let age = self.since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        let age = if age < 10.0 { String::new() } else { format!(" ({})", duration(age)) };
        let mut lines: Vec<(&str, String)> = self.facts.clone();
        lines.insert(lines.len().min(1), ("now", format!("{}{age}", self.stage)));
        let names = std::iter::once("last").chain(std::iter::repeat(""));
        lines.extend(names.zip(self.last.iter().cloned()));
        // Text from a coding agent must not move the cursor.
        let plain = |text: &str| text.replace(char::is_control, " ");
        lines.iter().map(|(name, text)| format!("{name:<8}  {}", plain(text))).collect::<Vec<_>>().join("\n")
    }
}

/// Progress of a run.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    screen: Option<Screen>,
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
    pub(crate) fn advance(&mut self) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
            return;
        }
        if let Some(screen) = &self.screen {
            let mut board = screen.board();
            board.stage = format!("{}: {}/{} trials", self.what, self.done, self.total);
            return screen.draw(&board);
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

    /// There will be more trials than planned (retries).
    pub(crate) fn extend(&mut self, trials: usize) {
        self.total += trials;
        if let Some(bar) = &self.bar {
            bar.set_length(self.total as u64);
        }
    }

    /// Prints a message without tearing the bar.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
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

/// `95 s`, `12 min`, `3.5 h`; `2.8e296 h` where a benchmark says so.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 7200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else if seconds < 1e9 {
        format!("{:.1} h", seconds / 3600.0)
    } else {
        format!("{:.1e} h", seconds / 3600.0)
    }
}

// A reader that has gone away (`autoharness status | head -1`) is no reason to panic, so write errors are ignored.
fn stdout(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn stderr(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_short() {
        let told = [95.0, 719.0, 12_600.0, 9e8, 1e300].map(duration);
        assert_eq!(told, ["95 s", "12 min", "3.5 h", "250000.0 h", "2.8e296 h"]);
    }

    #[test]
    fn a_screen_has_what_is_asked_for_and_nothing_moves_the_cursor() {
        let facts = vec![("best", "0.5".into()), ("spent", "3 trials".into())];
        let mut board = Board { facts, stage: "iteration 1: gate".into(), ..Board::default() };
        assert_eq!(board.text(), "best      0.5\nnow       iteration 1: gate\nspent     3 trials");
        board.last = ["one\u{1b}[2A".into(), "two\n".into()].into();
        assert!(board.text().ends_with("\nlast      one [2A\n          two "), "{:?}", board.text());
        assert_eq!(Board::default().text(), "now       ");
    }
}

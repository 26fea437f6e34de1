//! Runs the conversation with a benchmark program: line by line, bounded in time and memory, ended cleanly.

use std::time::Duration;

use tokio::process::ChildStdout;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::error::{Error, Kind, Result};
use crate::process::output::LineReader;
use crate::process::signals::Cancel;
use crate::process::{Child, Exit};

/// How long a line that was written before the end of a run may take to be noticed.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// After a cancellation, this many lines that had already arrived are still read.
const LAST_LINES: usize = 10_000;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Longest wait for the next line.
    pub(super) silence: Duration,
    /// Longest run.
    pub(super) wall: Option<Duration>,
    /// Longest wait for the exit after the output ended.
    pub(super) exit: Duration,
    /// From SIGTERM to SIGKILL.
    pub(super) grace: Duration,
}

/// How a conversation ended. In every case the program and its descendants are gone.
#[derive(Debug)]
pub(super) enum ConversationEnd {
    /// By the program's own will.
    Exited(Exit),
    /// It took too long; the text says in which way, and follows the program's name.
    Stalled(String),
    /// It printed something that it should not have; the text says what.
    Misbehaved(String),
}

/// Why we stop a program.
enum Stop {
    Cancelled(i32),
    End(ConversationEnd),
}

/// Hands every line to `take` until the program ends, `take` refuses a line, or a bound is reached.
/// Errors: `Interrupted` after a cancellation, once the program is gone.
pub(super) async fn converse(
    mut child: Child,
    bounds: Bounds,
    cancel: &Cancel,
    mut take: impl AsyncFnMut(u64, &[u8]) -> Result<(), String>,
) -> Result<ConversationEnd> {
    let Some(stdout) = child.take_stdout() else {
        return Err(Error::infrastructure(format!("`{}` was started without an output", child.name())));
    };
    let mut reader = LineReader::new(stdout);
    let stop = match read(&mut reader, bounds, cancel, &mut take).await {
        Some(stop) => stop,
        None => tokio::select! {
            biased;
            signal = cancel.cancelled() => Stop::Cancelled(signal),
            exit = timeout(bounds.exit, child.wait()) => match exit {
                Ok(exit) => return exit.map(ConversationEnd::Exited),
                Err(_) => {
                    let seconds = bounds.exit.as_secs_f64();
                    Stop::End(ConversationEnd::Stalled(format!("closed its output but did not exit within {seconds} s")))
                }
            },
        },
    };
    if let Stop::End(end) = &stop {
        // Nothing of its output, which may name tasks.
        let why = if let ConversationEnd::Stalled(why) = end { why } else { "it breaks the trial protocol" };
        tracing::warn!(program = child.name(), why, "child is stopped");
    }
    // Further output is not believed: an agent that was cut off by SIGTERM looks like one that failed. It is read all
    // the same, because a program blocked on a full pipe cannot tidy up.
    tokio::select! {
        stopped = child.stop(bounds.grace) => stopped.map(|_| ())?,
        () = async { reader.drain().await; std::future::pending().await } => {}
    }
    match stop {
        Stop::Cancelled(signal) => Err(Error::interrupted(signal)),
        Stop::End(end) => Ok(end),
    }
}

/// Reads until a reason to stop the program turns up; `None` when the program closed its output.
async fn read(
    reader: &mut LineReader<ChildStdout>,
    bounds: Bounds,
    cancel: &Cancel,
    take: &mut impl AsyncFnMut(u64, &[u8]) -> Result<(), String>,
) -> Option<Stop> {
    let wall = bounds.wall.map(|wall| (wall, Instant::now() + wall));
    let mut last_look = None;
    let mut last_lines = None;
    loop {
        let line = match last_lines {
            None => tokio::select! {
                biased;
                signal = cancel.cancelled() => {
                    last_lines = Some((LAST_LINES, Stop::Cancelled(signal)));
                    continue;
                }
                () = past(wall.map(|(_, end)| end)) => {
                    let seconds = wall.map_or(0.0, |(wall, _)| wall.as_secs_f64());
                    let why = format!("took longer than {seconds} s, which is more than its trials' time limit allows,");
                    last_lines = Some((LAST_LINES, Stop::End(ConversationEnd::Stalled(why))));
                    continue;
                }
                line = reader.next_line() => line,
                () = sleep(bounds.silence) => {
                    let seconds = bounds.silence.as_secs_f64();
                    return Some(Stop::End(ConversationEnd::Stalled(format!("said nothing for {seconds} s"))));
                }
            },
            Some((0, stop)) => return Some(stop),
            Some((left, stop)) => {
                let line = tokio::select! {
                    biased;
                    line = reader.next_line() => line,
                    // Another thread handles signals: what is in the pipe may not have been noticed here yet.
                    () = sleep_until(*last_look.get_or_insert_with(|| Instant::now() + LAST_LOOK)) => return Some(stop),
                };
                last_lines = Some((left - 1, stop));
                line
            }
        };
        let taken = match line {
            Ok(Some(line)) => take(reader.number(), &line).await,
            Ok(None) => return last_lines.map(|(_, stop)| stop),
            Err(error) if error.kind() == Kind::Usage => Err(error.to_string()),
            Err(error) => return Some(Stop::End(ConversationEnd::Stalled(format!("could not be heard ({error})")))),
        };
        if let Err(why) = taken {
            return Some(last_lines.map_or(Stop::End(ConversationEnd::Misbehaved(why)), |(_, stop)| stop));
        }
    }
}

async fn past(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

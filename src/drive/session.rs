//! One session of a coding agent: started, read, bounded, and ended with everything that it started.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::{Instant as Clock, sleep_until};

use super::drivers::{Driver, Invocation, Seen};
use crate::config::Environment;
use crate::error::{Error, Result};
use crate::files;
use crate::process::output::LineReader;
use crate::process::signals::Cancel;
use crate::process::{Command, Exit, Log, Redactor, Stderr, Supervisor};
use crate::store::beneath::Dir;

/// The largest transcript, in bytes.
const LARGEST_TRANSCRIPT: u64 = 64 << 20;
/// The most that is kept of stderr, in bytes.
const LARGEST_STDERR: u64 = 4 << 20;
/// The most that is read of a usage file, in bytes.
const LARGEST_USAGE: u64 = 4 << 20;
/// How long a coding agent may take to end once it was asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How much of stderr and of lines that are no events an error quotes.
const TAIL: usize = 600;

/// Where and within which bounds a session runs.
pub(crate) struct SessionBounds<'a> {
    pub supervisor: &'a Supervisor,
    /// What it may see is chosen from this.
    pub environment: &'a Environment,
    /// Names of the variables that it may see although they look like secrets.
    pub names: &'a [String],
    pub worktree: &'a Path,
    /// Where transcript and usage go.
    pub records: &'a Path,
    /// Keeps secrets out of them.
    pub redactor: &'a Redactor,
    /// How long it may take.
    pub time: Duration,
    /// What it may cost, in US dollars, if it reports them.
    pub usd: Option<f64>,
    /// The command prefix that puts it behind a fence; empty: no fence.
    pub fence: Option<&'a [OsString]>,
    pub cancel: &'a Cancel,
}

#[derive(Debug)]
pub(crate) struct SessionEnd {
    /// What its events said.
    pub seen: Seen,
    /// Wall seconds.
    pub seconds: f64,
    /// Why it did not end well, in a sentence; `None` when it did.
    pub failure: Option<String>,
    /// True when we stopped it for time or money.
    pub stopped: bool,
}

/// Runs a session to its end.
/// Errors: infrastructure when it cannot be started or its records cannot be written; `Interrupted`.
pub(crate) async fn run(driver: &Driver, invocation: Invocation, place: &SessionBounds<'_>) -> Result<SessionEnd> {
    fs_err::create_dir_all(place.records)?;
    let open = |name: &str, cap| Log::open(&place.records.join(name), cap, place.redactor.clone());
    let (transcript, stderr) = (open("transcript.jsonl", LARGEST_TRANSCRIPT)?, open("stderr.log", LARGEST_STDERR)?);
    let mut extra = invocation.variables();
    extra.extend(path(place));
    let mut stdin = invocation.stdin;
    let mut words: Vec<OsString> = Vec::new();
    if let Some(fence) = place.fence {
        words.extend(fence.iter().cloned());
        if !stdin.is_empty() {
            // Behind a fence stdin is empty. The prompt is not a file either: anything in the work tree can be a link to anywhere.
            let script = "prompt=$1; shift; printf %s \"$prompt\" | \"$@\"";
            words.extend(["sh", "-c", script, "sh"].map(OsString::from));
            words.push(OsString::from_vec(std::mem::take(&mut stdin)));
        }
    }
    words.extend(invocation.words);
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    let mut command =
        Command::new(program, place.worktree).args(words).env(place.environment.for_child(place.names, &extra));
    command.stdin = stdin;
    command.stderr = Stderr::Log(stderr.clone());
    command.grace = GRACE;
    let began = Instant::now();
    let mut child = place.supervisor.spawn(command)?;
    let mut seen = Seen::default();
    let mut loose = String::new();
    let (mut stop, mut interrupted) = (None, None);
    if let Some(stdout) = child.take_stdout() {
        let mut lines = LineReader::new(stdout);
        let end = Clock::now() + place.time;
        loop {
            tokio::select! {
                line = lines.next_line() => match line {
                    Ok(Some(line)) => {
                        transcript.line(&String::from_utf8_lossy(&line));
                        driver.read(&line, &mut seen);
                        if !line.starts_with(b"{") {
                            keep_tail(&mut loose, &String::from_utf8_lossy(&line));
                        }
                        if place.usd.is_some_and(|most| seen.cost_usd.is_some_and(|cost| cost > most)) {
                            stop = Some("it has used up the budget".to_string());
                        }
                    }
                    Ok(None) => break,
                    Err(error) => stop = Some(format!("its output cannot be read: {error}")),
                },
                () = sleep_until(end) => stop = Some(format!("it took longer than {} s", place.time.as_secs_f64().round())),
                signal = place.cancel.cancelled() => interrupted = Some(signal),
            }
            if stop.is_some() || interrupted.is_some() {
                break;
            }
        }
    }
    let exit = match (&stop, interrupted) {
        (None, None) => wait(&mut child, place, began, &mut stop, &mut interrupted).await?,
        _ => child.stop(GRACE).await?,
    };
    let seconds = began.elapsed().as_secs_f64();
    if let Some(signal) = interrupted {
        // What it used stays where it is, for the loop that picks this session up.
        return Err(Error::interrupted(signal));
    }
    read_usage(driver, place.worktree, &mut seen);
    let said = files::read_text_if_there(stderr.path(), LARGEST_STDERR * 2).ok().flatten().unwrap_or_default();
    let said = place.redactor.redact(&tail(&format!("{loose}\n{said}"))).into_owned();
    let failure = stop.clone().or_else(|| failure(exit, &seen, said.trim()));
    let failure = failure.map(|text| place.redactor.redact(&text).into_owned());
    Ok(SessionEnd { seen, seconds, failure, stopped: stop.is_some() })
}

/// `PATH`, with this program's directory if it would not be found by its name, which PROGRAM.md uses.
fn path(place: &SessionBounds<'_>) -> Option<(OsString, OsString)> {
    const NAME: &str = "autoharness";
    let path = place.environment.get("PATH").unwrap_or_default();
    if which::which_in(NAME, Some(path), ".").is_ok() {
        return None;
    }
    let program = place.supervisor.program()?;
    let directory = program.parent().filter(|_| program.file_name().is_some_and(|name| name == NAME))?;
    let all = std::iter::once(directory.to_path_buf()).chain(std::env::split_paths(path));
    Some(("PATH".into(), std::env::join_paths(all).ok()?))
}

/// Its output has ended; it may live on.
async fn wait(
    child: &mut crate::process::Child,
    place: &SessionBounds<'_>,
    began: Instant,
    stop: &mut Option<String>,
    interrupted: &mut Option<i32>,
) -> Result<Exit> {
    let left = place.time.saturating_sub(began.elapsed());
    tokio::select! {
        exit = child.wait() => return exit,
        () = tokio::time::sleep(left) => *stop = Some(format!("it took longer than {} s", place.time.as_secs_f64().round())),
        signal = place.cancel.cancelled() => *interrupted = Some(signal),
    }
    child.stop(GRACE).await
}

/// Why a session that ended by itself did not end well.
fn failure(exit: Exit, seen: &Seen, said: &str) -> Option<String> {
    if let Some(error) = &seen.error {
        return Some(format!("it ended with an error: {error}"));
    }
    if !exit.success() {
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        return Some(format!("it ended with {exit}{said}"));
    }
    (!seen.denied.is_empty()).then(|| format!("it was not allowed to use {}", seen.denied.join(", ")))
}

fn keep_tail(loose: &mut String, line: &str) {
    loose.push('\n');
    loose.push_str(line);
    if loose.len() > 4 * TAIL {
        *loose = tail(loose);
    }
}

fn tail(text: &str) -> String {
    let text = text.trim();
    let skipped = text.chars().count().saturating_sub(TAIL);
    text.chars().skip(skipped).collect()
}

/// Adds what a user's own program says that it used, once.
pub(crate) fn read_usage(driver: &Driver, worktree: &Path, seen: &mut Seen) {
    if let Driver::Own(_, agent) = driver
        && let Some(path) = &agent.usage
    {
        add_usage(worktree, Path::new(path), seen);
    }
}

/// Adds up the usage that is reported in a file below the work tree. Unreadable lines count as not reported.
fn add_usage(worktree: &Path, path: &Path, seen: &mut Seen) {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let open = || {
        let root = Dir::open(worktree).ok()?;
        match parent {
            Some(parent) => root.below(parent).ok()?,
            None => Some(root),
        }
    };
    let Some(dir) = open() else { return };
    let said = dir.read_within(name, LARGEST_USAGE).ok().flatten().and_then(std::result::Result::ok);
    let text = String::from_utf8(said.unwrap_or_default()).unwrap_or_default();
    for line in text.lines() {
        let Ok(said) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let number = |name: &str| said[name].as_u64().unwrap_or(0);
        seen.turns = seen.turns.saturating_add(number("turns"));
        seen.tokens_out = seen.tokens_out.saturating_add(number("tokens_out"));
        seen.tokens = seen.tokens.saturating_add(number("tokens_in")).saturating_add(number("tokens_out"));
        seen.pay(said["cost_usd"].as_f64());
    }
    // The next session in this work tree begins at zero.
    let _ = dir.remove(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_good_only_when_nothing_says_otherwise() {
        let exit = |code| Exit { code };
        let seen = |error: Option<&str>, denied: &[&str]| Seen {
            error: error.map(str::to_string),
            denied: denied.iter().map(ToString::to_string).collect(),
            ..Seen::default()
        };
        assert_eq!(failure(exit(0), &seen(None, &[]), "warning: x"), None);
        for (code, seen, expected) in [
            (0, seen(Some("API Error: 500"), &[]), "it ended with an error: API Error: 500"),
            (0, seen(None, &["Bash"]), "it was not allowed to use Bash"),
            (1, seen(None, &[]), "it ended with exit status 1: boom"),
            (137, seen(None, &[]), "it ended with killed by SIGKILL: boom"),
        ] {
            assert_eq!(failure(exit(code), &seen, "boom").as_deref(), Some(expected));
        }
    }

    #[test]
    fn usage_is_added_up_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("usage.jsonl");
        fs_err::write(
            &path,
            "{\"turns\":2,\"tokens_in\":10,\"tokens_out\":5,\"cost_usd\":0.25}\nnoise\n{\"cost_usd\":0.5}\n",
        )
        .unwrap();
        let mut seen = Seen::default();
        add_usage(directory.path(), Path::new("usage.jsonl"), &mut seen);
        add_usage(directory.path(), Path::new("usage.jsonl"), &mut seen);
        assert_eq!((seen.turns, seen.tokens, seen.tokens_out, seen.cost_usd), (2, 15, 5, Some(0.75)));
    }
}

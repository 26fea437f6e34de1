//! Commands typed in a work tree of the loop. No experiment is there or within reach, so commands that the loop runs for a session
//! are passed to it; it does everything else itself.

use std::io::Write as _;
use std::time::Duration;

use crate::cli::{BenchmarkArgs, Cli, Show, Subcommand};
use crate::drive::desk::{Asked, DeskReply, Request, worktree};
use crate::error::{Code, Error, Result};
use crate::guard::Repo;
use crate::model::trial::Split;
use crate::paths::Paths;
use crate::ui::{Format, Ui};

/// How often we look for an answer.
const LOOK: Duration = Duration::from_millis(50);

/// Passes a command to the loop and prints the answer; `None` if the command is not typed in a work tree of the loop, or needs
/// no experiment.
pub(super) fn carried(cli: &Cli, ui: &Ui) -> Option<Result<i32>> {
    if cli.global.directory.is_some() || cli.global.config.is_some() {
        return None;
    }
    let here = fs_err::canonicalize(".").ok()?;
    let worktree = worktree(&here).filter(|place| is_bare(place))?;
    let json = cli.global.format == Format::Json;
    let request = match &cli.command {
        Subcommand::Benchmark(args) => benchmark(args, json),
        Subcommand::Show(args) => Ok(show(args, json)),
        Subcommand::Init(_)
        | Subcommand::Demo(_)
        | Subcommand::Docs(_)
        | Subcommand::Explain(_)
        | Subcommand::Config(_)
        | Subcommand::Completions(_)
        | Subcommand::Watch { .. } => return None,
        _ => Err(not_here("this is a work tree of `autoharness loop`: only `benchmark` and `show` work here")),
    };
    Some(request.and_then(|request| {
        let asked = Asked::lay(worktree, &request)?;
        ui.detail("asked the loop");
        loop {
            match asked.answer()? {
                Some(answer) => return say(answer),
                None => std::thread::sleep(LOOK),
            }
        }
    }))
}

/// Whether a separate repository begins here in which nothing was ever prepared, so that a real experiment is not taken for a
/// work tree because of a directory in it.
fn is_bare(place: &std::path::Path) -> bool {
    // No session sees this: the experiment here has its history elsewhere.
    if std::env::var_os(crate::paths::STATE_VARIABLE).is_some_and(|value| !value.is_empty()) {
        return false;
    }
    let Ok(repo) = Repo::open(place) else { return false };
    let paths = Paths::new(place, None).and_then(|paths| paths.with_state(None, repo.common_dir(), ""));
    repo.prefix().is_empty() && paths.is_ok_and(|paths| !paths.ledger().exists())
}

fn benchmark(args: &BenchmarkArgs, json: bool) -> Result<Request> {
    let BenchmarkArgs { task_ids, split, domain, in_flight, fresh, apart: _, reveal_held_out } = args;
    if *split != Split::Train || domain.is_some() || in_flight.concurrency.is_some() || *fresh || *reveal_held_out {
        return Err(not_here(
            "in a work tree of `autoharness loop`, `benchmark` takes `--task-ids` with train tasks only",
        ));
    }
    Ok(Request::Benchmark { tasks: task_ids.clone(), json })
}

fn show(args: &Show, json: bool) -> Request {
    let Show { task, failing, baseline, trial, full } = args;
    Request::Show { task: task.clone(), failing: *failing, baseline: *baseline, trial: *trial, full: *full, json }
}

fn not_here(what: &str) -> Error {
    Error::usage(what)
        .code(Code::NoExperiment)
        .hint("make your edit, write proposal.md, and stop: the loop gates, commits and records it.")
}

fn say(answer: DeskReply) -> Result<i32> {
    match answer {
        DeskReply::Said { code, stdout, stderr } => {
            // A reader that has gone away wants no more.
            let _ = std::io::stdout().write_all(stdout.as_bytes());
            let _ = std::io::stderr().write_all(stderr.as_bytes());
            Ok(code)
        }
        DeskReply::Refused { message, hints, is_usage } => {
            let error = if is_usage { Error::usage(message) } else { Error::infrastructure(message) };
            Err(hints.into_iter().fold(error, Error::hint))
        }
    }
}

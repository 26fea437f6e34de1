//! `doctor`: what is missing or wrong here, each finding with the command that fixes it.

use super::experiment::Experiment;
use crate::benchmarks::{self, Depth, Ground};
use crate::cli::Global;
use crate::config::{Config, Environment};
use crate::error::{Context as _, EXIT_OK, EXIT_USAGE, MAKE_WRITABLE, Result};
use crate::guard::{Editable, scan, violations};
use crate::process::Supervisor;
use crate::process::signals::Cancel;
use crate::provision::{Finding, Level};
use crate::store::lock::Lock;
use crate::store::state::State;
use crate::store::views;
use crate::ui::Ui;

/// Runs the command. Exit 0 when nothing fails, 2 otherwise.
/// Errors: usage when there is no experiment at all.
pub(super) async fn run(global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let cancel = Cancel::on_signals()?;
    let mut findings = Vec::new();
    let config = match benchmarks::load(&experiment.paths.config) {
        Ok(config) => {
            findings.push(Finding::ok("configuration", format!("benchmark {}", config.benchmark)));
            Some(config)
        }
        Err(error) => {
            let fix = error.hints().join(" ");
            findings.push(Finding::fail("configuration", error.to_string(), fix));
            None
        }
    };
    // The records of children go into the state directory; where nothing can be written there, elsewhere.
    let unwritable = unwritable(&experiment);
    let elsewhere = match unwritable {
        None => None,
        Some(_) => Some(tempfile::tempdir().infra(|| "cannot make a temporary directory".into())?),
    };
    let (place, supervisor) = match &elsewhere {
        None => (experiment.paths.state.as_path(), experiment.supervisor()?),
        Some(elsewhere) => (elsewhere.path(), Supervisor::new(elsewhere.path())?),
    };
    if let Some(config) = &config {
        let ground = Ground {
            config,
            paths: &experiment.paths,
            environment: &experiment.environment,
            supervisor: &supervisor,
            cancel: &cancel,
        };
        let benchmark = benchmarks::of(config);
        findings.extend(benchmarks::check(benchmark, &ground, Depth::Everything).await?);
        findings.extend(benchmarks::interpreter(benchmark, &ground).await?);
        findings.push(super::canary::finding(&experiment, config, &supervisor, place, &cancel).await?);
    }
    findings.extend(secrets(&experiment)?);
    findings.push(state_directory(&experiment));
    findings.extend(unwritable.map(|why| Finding::fail("writable", why, MAKE_WRITABLE)));
    findings.extend(codex(&experiment.environment));
    findings.extend(history(&experiment, config.as_ref()));
    findings.push(match not_on_path(&experiment.environment) {
        None => Finding::ok("autoharness", "on the PATH"),
        Some(fix) => Finding::warn("autoharness", "not on the PATH, but PROGRAM.md calls it by its name", fix),
    });
    findings.push(platform());
    Ok(print(ui, &findings))
}

fn print(ui: &Ui, findings: &[Finding]) -> i32 {
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        ui.line(format!("{level:<5} {:<14} {}", finding.name, finding.detail));
        if let Some(fix) = finding.fix.as_ref().filter(|fix| !fix.is_empty()) {
            ui.line(format!("      {:<14} fix: {fix}", ""));
        }
        ui.json(&serde_json::json!({"type": "finding", "level": finding.level, "name": finding.name,
            "detail": finding.detail, "fix": finding.fix}));
    }
    let failing = findings.iter().filter(|finding| finding.level == Level::Fail).count();
    ui.line(if failing == 0 { "doctor: ok".to_string() } else { format!("doctor: {failing} problem(s)") });
    if failing == 0 { EXIT_OK } else { EXIT_USAGE }
}

/// `.env` must not be committed, nor readable by everybody.
fn secrets(experiment: &Experiment) -> Result<Vec<Finding>> {
    use std::os::unix::fs::PermissionsExt;
    let path = experiment.paths.root.join(".env");
    let Ok(metadata) = fs_err::metadata(&path) else { return Ok(Vec::new()) };
    let mut findings = Vec::new();
    let tracked = match experiment.repo.head()? {
        Some(head) => experiment.repo.tree(&head)?.get(b".env").is_some(),
        None => false,
    };
    if tracked {
        findings.push(Finding::fail(
            ".env",
            "is committed to git",
            "git rm --cached .env && echo .env >> .gitignore; then change the keys in it",
        ));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        findings.push(Finding::warn(".env", "is readable by other users", "chmod 600 .env"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(".env", "private and not committed"));
    }
    Ok(findings)
}

/// Why a command that writes would fail here: gate and record write to the state directory, `git commit` to `.git`.
fn unwritable(experiment: &Experiment) -> Option<String> {
    let (state, git) = (&experiment.paths.state, experiment.repo.common_dir());
    if !state.exists()
        // Doctor must not leave it open to others.
        && let Err(error) = experiment.paths.create_state()
    {
        return Some(error.to_string());
    }
    let probe = |directory: &std::path::Path| tempfile::Builder::new().prefix(".probe").tempfile_in(directory).err();
    [state, git].into_iter().find_map(|directory| {
        Some(format!("cannot write to {}: {}", directory.display(), std::io::Error::from(probe(directory)?.kind())))
    })
}

/// What Codex needs where it runs the commands itself.
fn codex(environment: &Environment) -> Option<Finding> {
    let path = environment.get("PATH").map(std::ffi::OsString::from);
    which::which_in("codex", path, "/").ok()?;
    Some(Finding::ok(
        "codex",
        "following PROGRAM.md by hand it needs `codex -s workspace-write --add-dir .git`, for its sandbox makes .git read-only; with `loop` it does not",
    ))
}

fn state_directory(experiment: &Experiment) -> Finding {
    use std::os::unix::fs::PermissionsExt;
    let state = &experiment.paths.state;
    match fs_err::metadata(state) {
        Err(error) => Finding::fail("state", error.to_string(), "make the directory readable"),
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => Finding::warn(
            "state",
            format!("{} is open to other users", state.display()),
            format!("chmod 700 {}", state.display()),
        ),
        Ok(_) => Finding::ok("state", state.display().to_string()),
    }
}

/// Lock, ledger, views, base commit.
fn history(experiment: &Experiment, config: Option<&Config>) -> Vec<Finding> {
    if let Some(holder) = Lock::holder(&experiment.paths.lock()) {
        return vec![Finding::ok("lock", format!("held by `{}` ({})", holder.command, holder.process()))];
    }
    // The checkpoint would be enough for a healthy ledger, but doctor should read every line.
    let read = experiment.read_summary().and_then(|_| State::replay(&experiment.paths.ledger()));
    let (summary, lines) = match read {
        Ok((state, report)) => (state.summary, report.tip.next_seq),
        Err(error) => return vec![Finding::fail("ledger", error.to_string(), error.hints().join(" "))],
    };
    let Some(prepared) = &summary.prepared else {
        return vec![Finding::warn("prepared", "not yet", "autoharness prepare")];
    };
    let mut findings = vec![Finding::ok("ledger", format!("{lines} lines"))];
    let written = views::Written::load(&experiment.paths.written_views(), &experiment.paths.workspace());
    let changed = views::render(&summary)
        .and_then(|now| views::compare(&experiment.paths.workspace(), &now, &written))
        .map(|comparison| comparison.changed);
    match changed {
        Ok(changed) if changed.is_empty() => findings.push(Finding::ok("views", "agree with the ledger")),
        Ok(changed) => {
            findings.push(Finding::fail(
                "views",
                format!("changed: {}", changed.join(", ")),
                "autoharness verify --restore",
            ));
        }
        Err(error) => findings.push(Finding::fail("views", error.to_string(), "autoharness verify --restore")),
    }
    let Some(config) = config else { return findings };
    let changes = config.changes_since(&prepared.config).join(", ");
    if !changes.is_empty() {
        findings.push(Finding::fail(
            "configuration",
            format!("changed since prepare: {changes}"),
            "undo it, or autoharness prepare --accept",
        ));
    }
    let base = summary.base.as_deref().unwrap_or(&prepared.base);
    let guard = Editable::new(&config.editable)
        .and_then(|editable| Ok(violations(&scan(&experiment.repo, &experiment.repo.base_tree(base)?)?, &editable)));
    findings.push(match guard {
        Ok(found) if found.is_empty() => Finding::ok("file guard", "only editable files differ from the base commit"),
        Ok(found) => {
            let list: Vec<String> = found.iter().take(5).map(ToString::to_string).collect();
            Finding::fail("file guard", list.join("; "), "revert them, or commit and autoharness prepare --accept")
        }
        Err(error) => Finding::fail("file guard", error.to_string(), error.hints().join(" ")),
    });
    findings
}

/// The command that puts this program on the PATH, where it is not: the coding agent calls it by its name.
pub(super) fn not_on_path(environment: &Environment) -> Option<String> {
    let path = environment.get("PATH").map(std::ffi::OsString::from);
    if which::which_in("autoharness", path, "/").is_ok() {
        return None;
    }
    let own = std::env::current_exe().ok()?;
    Some(format!("export PATH=\"{}:$PATH\"", own.parent()?.display()))
}

fn platform() -> Finding {
    if cfg!(target_os = "linux") {
        Finding::ok("platform", "Linux: every descendant of a child process is found and ended")
    } else {
        Finding::warn(
            "platform",
            "not Linux: a child's descendants are ended by process group, one that leaves its group may survive",
            "run unattended experiments on Linux",
        )
    }
}

//! `demo`: the whole loop on the embedded benchmark. A scripted session stands in for the coding agent; every number is
//! measured.

use std::path::PathBuf;

use super::runtime::block_on;
use crate::benchmarks::demo::session::{self, ScriptedEdit};
use crate::cli::{Cli, Demo, Gate, Global, InFlight, Init, Prepare, Record, ReportArgs, Subcommand};
use crate::config::Environment;
use crate::error::{Context, EXIT_OK, EXIT_REJECTED, Error, Result};
use crate::model::trial::Split;
use crate::process::Supervisor;
use crate::process::git::Git;
use crate::process::signals::Cancel;
use crate::store::atomic;
use crate::ui::Ui;

/// Runs a command as if it had been typed.
pub(super) type Carry = fn(Cli, &Ui) -> Result<i32>;

pub(super) fn run(args: &Demo, global: &Global, ui: &Ui, carry_out: Carry) -> Result<i32> {
    let stage = Playground { directory: directory(args, global)?, global: global.clone(), ui, carry_out };
    ui.line(format!("A demonstration in {}", stage.directory.display()));
    ui.line("The edits below are scripted: they stand in for a coding agent. Everything else is real, every number is measured.");
    stage.play(Subcommand::Init(Init { dir: PathBuf::from("."), benchmark: "demo".into() }))?;
    stage.play(Subcommand::Prepare(Prepare { accept: false, reset_agent: false, fresh: false }))?;
    let edits = session::edits()?;
    let mut accepted = 0;
    for (number, edit) in edits.iter().enumerate() {
        accepted += usize::from(stage.edit(number + 1, edits.len(), edit)?);
    }
    stage.play(Subcommand::Status)?;
    stage.play(Subcommand::Report(ReportArgs { out: None, open: false, watch: false, port: None }))?;
    ui.line("");
    ui.line(format!("{accepted} of {} edits survived the gate; the others were reverted.", edits.len()));
    ui.line(format!("See it: open {} in a browser.", stage.directory.join("workspace/report.html").display()));
    ui.line(format!("Look around: cd {} && autoharness verify", stage.directory.display()));
    if let Some(fix) = super::doctor::not_on_path(&Environment::load(&stage.directory)?) {
        ui.line(format!("`autoharness` is not on your PATH yet: {fix}"));
    }
    ui.line("To improve an agent for real, open your coding agent there and say:");
    ui.line("  Read PROGRAM.md and start the optimization loop.");
    Ok(EXIT_OK)
}

/// Where the demo plays. Its repositories are its own, so that a demo inside another repository touches nothing
/// outside. Errors: usage when the directory holds something.
pub(super) fn directory(args: &Demo, global: &Global) -> Result<PathBuf> {
    let directory = match &args.dir {
        Some(directory) => global.here().join(directory),
        None => tempfile::Builder::new()
            .prefix("autoharness-demo-")
            .tempdir()
            .infra(|| "cannot make a temporary directory".into())?
            .keep(),
    };
    fs_err::create_dir_all(&directory)?;
    if fs_err::read_dir(&directory)?.next().is_some() {
        return Err(Error::usage(format!("{} is not empty", directory.display()))
            .hint("name a new directory, or none: then a temporary one is used."));
    }
    Ok(fs_err::canonicalize(directory)?)
}

/// An experiment in which commands are played as a coding agent would type them.
pub(super) struct Playground<'a> {
    pub directory: PathBuf,
    /// The options that were given.
    pub global: Global,
    pub ui: &'a Ui,
    pub carry_out: Carry,
}

impl Playground<'_> {
    /// Runs one of our commands in the demo's directory and returns its exit code; 0 and 1 go on.
    /// Errors: anything else ends the demo.
    pub(super) fn play(&self, command: Subcommand) -> Result<i32> {
        let typed = match &command {
            Subcommand::Init(_) => {
                self.git(&["init", "--quiet"])?;
                "init . --benchmark demo"
            }
            Subcommand::Prepare(_) => "prepare",
            Subcommand::Benchmark(_) => "benchmark",
            Subcommand::Gate(_) => "gate",
            Subcommand::Record(_) => "record",
            Subcommand::Report(_) => "report",
            _ => "status",
        };
        self.ui.line(format!("\n$ autoharness {typed}"));
        let global = Global { directory: Some(self.directory.clone()), config: None, ..self.global.clone() };
        match (self.carry_out)(Cli { global, command }, self.ui)? {
            code @ (EXIT_OK | EXIT_REJECTED) => Ok(code),
            code => Err(Error::infrastructure(format!("`autoharness {typed}` ended with exit code {code}"))),
        }
    }

    /// One turn of the loop: edit, benchmark, gate, then commit and record, or revert. True when it was accepted.
    fn edit(&self, number: usize, count: usize, edit: &ScriptedEdit) -> Result<bool> {
        self.ui.line(format!("\n--- edit {number} of {count} (scripted): {}", edit.title));
        self.ui.line(format!("    {}", edit.why));
        let patch = edit.patch()?;
        let outside = tempfile::tempdir().infra(|| "cannot make a temporary directory".into())?;
        let path = outside.path().join(&edit.file);
        atomic::replace(&path, patch.as_bytes())?;
        self.git(&["apply", "--whitespace=nowarn", &path.to_string_lossy()])?;
        self.play(Subcommand::Benchmark(crate::cli::BenchmarkArgs {
            task_ids: Vec::new(),
            split: Split::Train,
            domain: None,
            in_flight: InFlight::default(),
            fresh: false,
            apart: false,
            reveal_held_out: false,
        }))?;
        self.judge(&edit.title)
    }

    /// Gate, then commit and record, or revert. True when the edit was accepted.
    pub(super) fn judge(&self, title: &str) -> Result<bool> {
        let gate = Gate { base: None, in_flight: InFlight::default(), fresh: false, junit: None, summary: None };
        if self.play(Subcommand::Gate(gate))? == EXIT_REJECTED {
            self.ui.line("\n$ git checkout -- agent/agent.py");
            self.git(&["checkout", "--", "agent/agent.py"])?;
            return Ok(false);
        }
        self.ui.line(format!("\n$ git commit -m {title:?} agent/agent.py"));
        self.git(&["commit", "--quiet", "--no-gpg-sign", "-m", title, "--", "agent/agent.py"])?;
        self.play(Subcommand::Record(Record { val_score: None, evals_passed: None, evals_total: None }))?;
        Ok(true)
    }

    fn git(&self, arguments: &[&str]) -> Result<()> {
        block_on(Box::pin(async {
            let registry = tempfile::tempdir().infra(|| "cannot make a temporary directory".into())?;
            let environment = &Environment::load(&self.directory)?;
            let (supervisor, cancel) = (&Supervisor::new(registry.path())?, &Cancel::on_signals()?);
            Git { supervisor, environment, directory: &self.directory, cancel }.run(arguments).await?;
            Ok(EXIT_OK)
        }))
        .map(drop)
    }
}

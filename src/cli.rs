//! The whole command line in one place. The doc comments are the help text.

mod reading;
mod running;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _, Parser};

pub(crate) use self::reading::{
    Compare, Completions, ConfigArgs, ConfigText, Docs, Explain, Export, LearningsArgs, ReportArgs, Show, Verify,
};
pub(crate) use self::running::{
    BenchmarkArgs, Calibrate, Confirm, Demo, Gate, InFlight, Init, LoopArgs, LoopArm, Prepare, Record, SuiteAction,
    SuiteArgs, SuiteTasks,
};
use crate::error::{EXIT_OK, EXIT_USAGE, Error};
use crate::ui::{Color, Format, Ui};

/// The command line as data: what completions and the tests of the documents read.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Lets a coding agent improve another agent, and shows whether it really got better
#[derive(Debug, Parser)]
#[command(name = "autoharness", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Options every command takes
    #[command(flatten)]
    pub global: Global,
    /// What to do
    #[command(subcommand)]
    pub command: Subcommand,
}

impl Cli {
    /// Reads the command line.
    /// Errors: what clap has printed, for help and the version as well. A program that asked for JSON gets a usage error as
    /// JSON, too.
    pub(crate) fn read() -> Result<Cli, i32> {
        Cli::try_parse().map_err(|refused| {
            let _ = refused.print();
            if !refused.use_stderr() {
                return EXIT_OK;
            }
            let words: Vec<OsString> = std::env::args_os().take_while(|word| word != "--").collect();
            let is_asked = words.windows(2).any(|pair| pair[0] == "--format" && pair[1] == "json");
            if is_asked || words.iter().any(|word| word == "--format=json") {
                Ui::new(Format::Json, true, false, Color::Never).error_object(&usage_error(&refused));
            }
            EXIT_USAGE
        })
    }
}

/// A mistake in the command line as an error like any other.
fn usage_error(refused: &clap::Error) -> Error {
    let text = refused.render().to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    // What clap says to people: where help is, and every command, hidden ones included.
    let not_said = ["For more information", "[subcommands: "];
    let lines = lines.filter(|line| !line.is_empty() && !not_said.iter().any(|start| line.starts_with(start)));
    let (tips, rest): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("tip: "));
    let message = rest.join(" ");
    let error = Error::usage(message.trim_start_matches("error: "));
    tips.into_iter().fold(error, |error, tip| error.hint(tip.trim_start_matches("tip: ")))
}

const EXIT_CODES: &str = "\
New here? `autoharness demo` plays the whole loop in seconds; `autoharness docs` explains it.

Exit codes:
  0            success; the gate passed
  1            the gate (or record, verify) said no: revert and try something else
  2            usage or configuration error
  3            infrastructure: no evidence, nothing was decided; do NOT revert, run it again
  129/130/143  interrupted (SIGHUP, Ctrl-C, SIGTERM); finished trials are kept, the same command continues";

/// Options every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The experiment directory [default: the current one, or the first above it that holds an experiment]
    #[arg(short = 'C', long, value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,
    /// The configuration file [default: experiment_config.yaml in the experiment directory]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// How results are printed; json is one object per line
    #[arg(long, value_enum, default_value = "human", global = true)]
    pub format: Format,
    /// Print results, warnings and errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more details: codes of errors, and what goes into the log (AUTOHARNESS_LOG=debug: all of it)
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// When to use colour
    #[arg(long, value_enum, default_value = "auto", global = true)]
    pub color: Color,
}

impl Global {
    /// The directory named, or the current one.
    pub(crate) fn here(&self) -> &Path {
        self.directory.as_deref().unwrap_or(Path::new("."))
    }
}

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Subcommand {
    /// Scaffold an experiment from embedded templates
    Init(Init),
    /// Check the environment, create what is missing, measure the baseline
    Prepare(Prepare),
    /// Run the benchmark and keep traces of the train tasks
    Benchmark(BenchmarkArgs),
    /// Judge the edited agent: file guard, regression suite, hold-out, promotion
    Gate(Gate),
    /// Write the score of a committed, passing edit into the history
    Record(Record),
    /// Run baseline and best afresh, and say what may be claimed
    Confirm(Confirm),
    /// Run the recorded agent again, unchanged: how noisy its score is, and how often the gate is wrong
    Calibrate(Calibrate),
    /// Drive a coding agent: it proposes, the gate judges, iteration after iteration
    Loop(LoopArgs),
    /// Show where the experiment stands
    Status,
    /// List the regression suite, or change it: add, quarantine or retire tasks, with a reason
    Suite(SuiteArgs),
    /// List, filter and check what was learned: workspace/learnings.md
    Learnings(LearningsArgs),
    /// Find what is missing or wrong here, and the command that fixes it
    Doctor,
    /// Re-derive every verdict and view from the ledger
    Verify(Verify),
    /// Play the whole loop on the embedded benchmark: no keys, seconds
    Demo(Demo),
    /// Show the trace of a train task, or the table of those that fail
    Show(Show),
    /// Compare two agents by the trials that the ledger has: what the second fixed and broke, and whether that is noise
    Compare(Compare),
    /// Write the whole history as one HTML file: scores, train tasks with their traces, edits, cost
    Report(ReportArgs),
    /// Write the ledger's trials, verdicts and iterations as tables
    Export(Export),
    /// Print the documentation: the list of its pages, one of them, or all
    Docs(Docs),
    /// Print what an error means and what to do, by its code; without a code, list them
    Explain(Explain),
    /// Print the configuration's JSON Schema, or its template
    Config(ConfigArgs),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Watch one child process (internal)
    #[command(name = "__watch", hide = true)]
    Watch {
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
}

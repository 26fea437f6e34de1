//! The whole command line in one place. The doc comments are the help text.

use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Parser, ValueEnum};

use crate::benchmarks;
use crate::model::claim;
use crate::model::proposal::Surface;
use crate::model::trial::Split;
use crate::report::export::Form;
use crate::ui::{Color, Format};

/// Lets a coding agent improve another agent, and shows whether it really got better
#[derive(Debug, Parser)]
#[command(name = "autoharness", version, propagate_version = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// Options every command takes
    #[command(flatten)]
    pub global: Global,
    /// What to do
    #[command(subcommand)]
    pub command: Subcommand,
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
pub struct Global {
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
    /// Print more details: of errors their codes, and what goes into the log (AUTOHARNESS_LOG=debug: all of it)
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// When to use colour
    #[arg(long, value_enum, default_value = "auto", global = true)]
    pub color: Color,
}

impl Global {
    /// The directory named, or the current one.
    pub fn here(&self) -> &Path {
        self.directory.as_deref().unwrap_or(Path::new("."))
    }
}

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub enum Subcommand {
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

/// Scaffold an experiment.
#[derive(Debug, Args)]
pub struct Init {
    /// Where; must be empty, or not exist yet
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// What scores the agent
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(benchmarks::ALL.iter().map(|one| one.name())))]
    pub benchmark: String,
}

/// The regression suite.
#[derive(Debug, Args)]
pub struct SuiteArgs {
    /// What to do [default: list]
    #[command(subcommand)]
    pub action: Option<SuiteAction>,
}

/// What can be done to the regression suite.
#[derive(Debug, clap::Subcommand)]
pub enum SuiteAction {
    /// Show every task: how accepted agents fared, and why it is put aside
    List,
    /// Train tasks that must keep passing; also takes tasks back from quarantine and retirement
    Add(SuiteTasks),
    /// Run and report these tasks, but count them no more
    Quarantine(SuiteTasks),
    /// Run these tasks no more
    Retire(SuiteTasks),
}

/// Tasks of the suite, and why.
#[derive(Debug, Args)]
pub struct SuiteTasks {
    /// Ids of train tasks
    #[arg(required = true, value_name = "TASK")]
    pub tasks: Vec<String>,
    /// Why; it is kept in the ledger
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Explain an error.
#[derive(Debug, Args)]
pub struct Explain {
    /// The error's code, as JSON output and `-v` name it [default: list all]
    pub code: Option<String>,
}

/// Print what the configuration may hold.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Which text
    #[arg(value_enum)]
    pub what: ConfigText,
}

/// The texts about the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConfigText {
    /// A JSON Schema, for editors
    Schema,
    /// Every key of every benchmark, with comments
    Template,
}

/// Print a completion script.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell it is for
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Prepare an experiment.
#[derive(Debug, Args)]
pub struct Prepare {
    /// Accept changes to guarded files and to the configuration; HEAD becomes the base commit (for humans)
    #[arg(long)]
    pub accept: bool,
    /// Replace the agent file by the benchmark's template
    #[arg(long)]
    pub reset_agent: bool,
    /// Ignore trials already in the ledger and run them again
    #[arg(long)]
    pub fresh: bool,
}

/// Run the benchmark.
#[derive(Debug, Args)]
pub struct BenchmarkArgs {
    /// Run these tasks only
    #[arg(long, value_name = "ID", num_args = 1.., action = clap::ArgAction::Append)]
    pub task_ids: Vec<String>,
    /// The split to run
    #[arg(long, value_name = "SPLIT", value_enum, default_value = "train")]
    pub split: Split,
    /// tau-bench: another domain than the configured one; prints its score and records nothing
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Trials in flight at once [default: max_concurrency]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: Option<u32>,
    /// Run again what the ledger has; on train a new trial replaces the old one once it gave evidence
    #[arg(long)]
    pub fresh: bool,
    /// Keep these trials apart, to choose among edits by them: no gate counts them in favour of the one that is chosen
    #[arg(long, conflicts_with = "domain")]
    pub apart: bool,
    /// Show per-task results of the hold-out; for humans only, and written to the ledger
    #[arg(long)]
    pub reveal_held_out: bool,
}

/// Judge the edited agent.
#[derive(Debug, Args)]
pub struct Gate {
    /// Judge against the merge base of HEAD and REF instead of the last record (for branches and CI)
    #[arg(long, value_name = "REF")]
    pub base: Option<String>,
    /// Trials in flight at once [default: max_concurrency]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: Option<u32>,
    /// Ignore trials already in the ledger and run them again
    #[arg(long)]
    pub fresh: bool,
    /// Write the verdict as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write the verdict as Markdown
    // An empty variable means the same as none, so an empty path must get past the parser.
    #[arg(long, value_name = "FILE", env = "GITHUB_STEP_SUMMARY", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub summary: Option<PathBuf>,
}

/// Record a passing edit. Without numbers they are taken from the receipt; given numbers must agree with it.
#[derive(Debug, Args)]
pub struct Record {
    /// Mean reward on the gate split
    #[arg(long, value_name = "X")]
    pub val_score: Option<f64>,
    /// Tasks of the gate split that pass
    #[arg(long, value_name = "N")]
    pub evals_passed: Option<usize>,
    /// Tasks of the gate split that were evaluated
    #[arg(long, value_name = "M")]
    pub evals_total: Option<usize>,
}

/// Run two agents afresh on the hold-out. Exits with 0 whatever may be claimed.
#[derive(Debug, Args)]
pub struct Confirm {
    /// Compare with the agent of this commit instead of the one that the experiment began with
    #[arg(long, value_name = "REF")]
    pub against: Option<String>,
    /// Measure on the sealed split instead of the hold-out; each opening is written to the ledger and counted
    #[arg(long)]
    pub sealed: bool,
    /// Trials of each task and agent; more than last time adds to what was run then
    #[arg(long, value_name = "K", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=i64::from(claim::MOST)))]
    pub trials: u32,
    /// Trials in flight at once [default: max_concurrency]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: Option<u32>,
    /// Run again what was run for this; old and new trials count
    #[arg(long)]
    pub fresh: bool,
}

/// Measure the noise.
#[derive(Debug, Args)]
pub struct Calibrate {
    /// Trials of each task; more than last time adds to what was run then
    #[arg(long, value_name = "K", default_value = "2", value_parser = clap::value_parser!(u32).range(2..=i64::from(claim::MOST)))]
    pub trials: u32,
    /// Trials in flight at once [default: max_concurrency]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: Option<u32>,
    /// Run again what was run for this; on the hold-out old and new trials count, on train the new ones
    #[arg(long)]
    pub fresh: bool,
}

/// Drive a coding agent within a budget. The same command goes on where a killed one stopped.
#[derive(Debug, Args)]
pub struct LoopArgs {
    /// The coding agent: claude, codex, gemini, opencode, or one of `coding_agents` in the configuration
    #[arg(long, value_name = "NAME", default_value = "claude")]
    pub with: String,
    /// What the budget is spent on: the search for a better agent, or, to hold it against, running the agent that it began
    /// with again and again; that asks no coding agent, and without an end of its own takes as many trials as the search took
    #[arg(long, value_enum, default_value = "search")]
    pub arm: Arm,
    /// End after so many iterations
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub iterations: Option<u32>,
    /// End after so many hours
    #[arg(long, value_name = "H", value_parser = positive)]
    pub hours: Option<f64>,
    /// End before more US dollars are spent, on trials and coding agent together
    #[arg(long, value_name = "X", value_parser = positive)]
    pub budget_usd: Option<f64>,
    /// End before more trials are run
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub budget_trials: Option<u64>,
    /// End before more tokens are used, by trials and coding agent together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub budget_tokens: Option<u64>,
    /// End after so many iterations in a row without an accepted edit
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    pub patience: u32,
    /// End once val_score is this high
    #[arg(long, value_name = "S", value_parser = positive)]
    pub target: Option<f64>,
    /// Ask so many times for an edit, and let the one that does best on train before the gate
    #[arg(long, value_name = "K", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub candidates: u32,
    /// Trials of train tasks that a session may have run before it proposes; 0: none [default: as many as train has tasks]
    #[arg(long, value_name = "N")]
    pub session_trials: Option<u64>,
    /// The coding agent's model, as it names it
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Run this command after each iteration, with the path of a JSON file that says what came of it
    #[arg(long, value_name = "COMMAND")]
    pub on_iteration: Option<String>,
    /// Run this command at the end, with the path of a JSON file that says how it ended
    #[arg(long, value_name = "COMMAND")]
    pub on_complete: Option<String>,
    /// Print plan and estimate, and begin nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What a loop does with its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arm {
    /// Have edits proposed and judged.
    Search,
    /// Run the agent that the experiment began with again and again.
    Resample,
}

/// A number above 0.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expects a number above 0".into())
}

/// List what was tried and what became of it.
#[derive(Debug, Args)]
pub struct LearningsArgs {
    /// Only what the gate passed
    #[arg(long, conflicts_with = "rejected")]
    pub kept: bool,
    /// Only what the gate rejected
    #[arg(long)]
    pub rejected: bool,
    /// Only edits of this part of the agent
    #[arg(long, value_name = "SURFACE", value_enum)]
    pub surface: Option<Surface>,
}

/// Re-derive everything from the ledger.
#[derive(Debug, Args)]
pub struct Verify {
    /// Rewrite views that differ from the ledger
    #[arg(long)]
    pub restore: bool,
}

/// Play the whole loop.
#[derive(Debug, Args)]
pub struct Demo {
    /// Where; must be empty or not exist yet [default: a fresh temporary directory]
    pub dir: Option<PathBuf>,
    /// Show noise instead: edits that change nothing, judged by both rules of the gate
    #[arg(long)]
    pub noise: bool,
}

/// Show what train tasks left behind.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["task", "failing"])))]
pub struct Show {
    /// The train task whose trace is shown
    pub task: Option<String>,
    /// Show a table of the failing train tasks, those that fail alike together
    #[arg(long)]
    pub failing: bool,
    /// Show the first trace ever seen of the task, not the newest
    #[arg(long, conflicts_with = "failing")]
    pub baseline: bool,
    /// The trial to show, where a task has several
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "failing")]
    pub trial: u32,
    /// Show all of it, however long
    #[arg(long)]
    pub full: bool,
}

/// Compare two agents.
#[derive(Debug, Args)]
pub struct Compare {
    /// A commit (or branch, tag, HEAD), `baseline`, or `best`
    #[arg(value_name = "A")]
    pub first: String,
    /// The same, for the agent that is compared with it
    #[arg(value_name = "B")]
    pub second: String,
}

/// Write the report.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Where [default: workspace/report.html]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Open it in a browser
    #[arg(long)]
    pub open: bool,
    /// Serve it on 127.0.0.1 instead of writing it, and bring it up to date while trials arrive; the first line of stdout is
    /// its address, Ctrl-C ends it
    #[arg(long, conflicts_with = "out")]
    pub watch: bool,
    /// Where to serve it [default: any free port]
    #[arg(long, value_name = "N", requires = "watch")]
    pub port: Option<u16>,
}

/// Write tables.
#[derive(Debug, Args)]
pub struct Export {
    /// How the tables are written
    #[arg(long, value_enum, default_value = "csv")]
    pub to: Form,
    /// Where; it is made when it is missing
    pub dir: PathBuf,
    /// Name the tasks of the hold-out instead of giving them aliases; for humans only, and written to the ledger
    #[arg(long)]
    pub reveal_held_out: bool,
}

/// Print the documentation.
#[derive(Debug, Args)]
pub struct Docs {
    /// The page to print [default: list the pages, a line each]
    pub page: Option<String>,
    /// Print every page, in reading order
    #[arg(long, conflicts_with = "page")]
    pub all: bool,
}

impl ValueEnum for Surface {
    fn value_variants<'a>() -> &'a [Surface] {
        &Surface::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        // A shell takes a space for the end of a word.
        let names = ["prompt", "tool", "tool-description", "control-loop", "limits", "memory", "other"];
        let index = Surface::ALL.iter().position(|surface| surface == self)?;
        Some(PossibleValue::new(names[index]))
    }
}

impl ValueEnum for Split {
    fn value_variants<'a>() -> &'a [Split] {
        &[Split::Train, Split::Test]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

//! The arguments of the commands that run the agent, judge it or change what it is judged by.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser as _};
use clap::{Args, ValueEnum};

use crate::benchmarks;
use crate::model::claim;
use crate::model::trial::Split;

/// Scaffold an experiment.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Where: a new or empty directory, or one with only a README, a LICENSE, git's own files and the like. In an experiment,
    /// writes the files that are missing
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// What scores the agent
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(benchmarks::ALL.iter().map(|one| one.name())))]
    pub benchmark: String,
}

/// Prepare an experiment.
#[derive(Debug, Args)]
pub(crate) struct Prepare {
    /// Accept changes to guarded files and to the configuration; HEAD becomes the base commit (for humans)
    #[arg(long)]
    pub accept: bool,
    /// Replace the agent file by the benchmark's template
    #[arg(long)]
    pub reset_agent: bool,
    /// Ignore trials already in the ledger and run them again; not by the rule `paired`
    #[arg(long)]
    pub fresh: bool,
}

// How much is run at once. No doc comment: clap would take it for the command's own.
#[derive(Debug, Default, Args)]
pub(crate) struct InFlight {
    /// Trials in flight at once [default: max_concurrency]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: Option<u32>,
}

impl InFlight {
    /// Trials in flight, where the configuration's number is `usual`.
    pub(crate) fn or(&self, usual: u32) -> u32 {
        self.concurrency.unwrap_or(usual)
    }
}

/// Run the benchmark.
#[derive(Debug, Args)]
pub(crate) struct BenchmarkArgs {
    /// Run these tasks only
    #[arg(long, value_name = "ID", num_args = 1.., action = clap::ArgAction::Append)]
    pub task_ids: Vec<String>,
    /// The split to run
    #[arg(long, value_name = "SPLIT", value_enum, default_value = "train")]
    pub split: Split,
    /// Another domain than the configured one, where the benchmark has several; prints its score and records nothing
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    #[command(flatten)]
    pub in_flight: InFlight,
    /// Run again what the ledger has; on train a new trial replaces the old one once it gave evidence
    #[arg(long)]
    pub fresh: bool,
    /// Keep these trials apart, for choosing among edits: no gate counts them in favour of the chosen one
    #[arg(long, conflicts_with = "domain")]
    pub apart: bool,
    /// Show per-task results of the hold-out; for humans only, and written to the ledger
    #[arg(long)]
    pub reveal_held_out: bool,
}

impl ValueEnum for Split {
    fn value_variants<'a>() -> &'a [Split] {
        &[Split::Train, Split::Test]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

/// Judge the edited agent.
#[derive(Debug, Args)]
pub(crate) struct Gate {
    /// Judge against the merge base of HEAD and REF instead of the last record (for branches and CI)
    #[arg(long, value_name = "REF")]
    pub base: Option<String>,
    #[command(flatten)]
    pub in_flight: InFlight,
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
pub(crate) struct Record {
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
pub(crate) struct Confirm {
    /// Compare with the agent of this commit instead of the one that the experiment began with
    #[arg(long, value_name = "REF")]
    pub against: Option<String>,
    /// Measure on the sealed split instead of the hold-out; each opening is written to the ledger and counted
    #[arg(long)]
    pub sealed: bool,
    /// Trials of each task and agent; more than last time adds to what was run then
    #[arg(long, value_name = "K", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=i64::from(claim::MOST)))]
    pub trials: u32,
    #[command(flatten)]
    pub in_flight: InFlight,
    /// Run again what was run for this; old and new trials count
    #[arg(long)]
    pub fresh: bool,
}

/// Measure the noise.
#[derive(Debug, Args)]
pub(crate) struct Calibrate {
    /// Trials of each task; more than last time adds to what was run then
    #[arg(long, value_name = "K", default_value = "2", value_parser = clap::value_parser!(u32).range(2..=i64::from(claim::MOST)))]
    pub trials: u32,
    #[command(flatten)]
    pub in_flight: InFlight,
    /// Run again what was run for this; on the hold-out old and new trials count, on train the new ones
    #[arg(long)]
    pub fresh: bool,
}

/// Drive a coding agent within a budget. The same command goes on where a killed one stopped.
#[derive(Debug, Args)]
pub(crate) struct LoopArgs {
    /// The coding agent: claude, codex, gemini, opencode, or one of `coding_agents` in the configuration
    #[arg(long, value_name = "NAME", default_value = "claude")]
    pub with: String,
    /// What to spend the budget on: the search for a better agent or, for comparison, running the search's first agent
    /// again and again. That needs no coding agent; unless an option ends it earlier, it takes as many trials as the
    /// search took
    #[arg(long, value_enum, default_value = "search")]
    pub arm: LoopArm,
    /// End after this many iterations
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub iterations: Option<u32>,
    /// End after this many hours
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
    /// End after this many iterations in a row without an accepted edit
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    pub patience: u32,
    /// End once val_score is this high
    #[arg(long, value_name = "S", value_parser = positive)]
    pub target: Option<f64>,
    /// Ask this many times for an edit, and send the one that does best on train to the gate
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
pub(crate) enum LoopArm {
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

/// The regression suite.
#[derive(Debug, Args)]
pub(crate) struct SuiteArgs {
    /// What to do [default: list]
    #[command(subcommand)]
    pub action: Option<SuiteAction>,
}

/// What can be done to the regression suite.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SuiteAction {
    /// Show every task: how accepted agents fared, and why it is put aside
    List,
    /// Train tasks that must keep passing; also takes tasks back from quarantine and retirement
    Add(SuiteTasks),
    /// Run and report these tasks, but no longer count them
    Quarantine(SuiteTasks),
    /// No longer run these tasks
    Retire(SuiteTasks),
}

/// Tasks of the suite, and why.
#[derive(Debug, Args)]
pub(crate) struct SuiteTasks {
    /// Ids of train tasks
    #[arg(required = true, value_name = "TASK")]
    pub tasks: Vec<String>,
    /// Why; it is kept in the ledger
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Play the whole loop.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where; must be empty or not exist yet [default: a fresh temporary directory]
    pub dir: Option<PathBuf>,
    /// Show noise instead: edits that change nothing, judged by both rules of the gate
    #[arg(long)]
    pub noise: bool,
}

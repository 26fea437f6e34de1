//! The arguments of the commands that show what there is.

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use crate::model::proposal::Surface;
use crate::report::export::Form;

/// Explain an error.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The error's code, as JSON output and `-v` name it [default: list all]
    pub code: Option<String>,
}

/// Print what the configuration may hold.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Which text
    #[arg(value_enum)]
    pub what: ConfigText,
}

/// The texts about the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigText {
    /// A JSON Schema, for editors
    Schema,
    /// Every key of every benchmark, with comments
    Template,
}

/// Print a completion script.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell it is for
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// List what was tried and what became of it.
#[derive(Debug, Args)]
pub(crate) struct LearningsArgs {
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
pub(crate) struct Verify {
    /// Rewrite views that differ from the ledger
    #[arg(long)]
    pub restore: bool,
}

/// Show what train tasks left behind.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["task", "failing"])))]
pub(crate) struct Show {
    /// The train task whose trace is shown
    pub task: Option<String>,
    /// Show a table of the failing train tasks, grouped by how they fail
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
pub(crate) struct Compare {
    /// A commit (or branch, tag, HEAD), `baseline`, or `best`
    #[arg(value_name = "A")]
    pub first: String,
    /// The same, for the agent that is compared with it
    #[arg(value_name = "B")]
    pub second: String,
}

/// Write the report.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
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
pub(crate) struct Export {
    /// How the tables are written
    #[arg(long, value_enum, default_value = "csv")]
    pub to: Form,
    /// The directory; created if it is missing
    pub dir: PathBuf,
    /// Name the tasks of the hold-out instead of giving them aliases; for humans only, and written to the ledger
    #[arg(long)]
    pub reveal_held_out: bool,
}

/// Print the documentation.
#[derive(Debug, Args)]
pub(crate) struct Docs {
    /// The page to print [default: list the pages, one per line]
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

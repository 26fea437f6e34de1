//! `export`: the ledger as tables.

use std::path::PathBuf;

use serde_json::json;

use super::experiment::Experiment;
use super::missing::not_prepared;
use super::output_file;
use super::session::{Reading, Session, command_line};
use crate::cli::{Export, Global};
use crate::error::{Code, EXIT_OK, Error, Result};
use crate::report::export::{Gathered, TABLES};
use crate::store::atomic;
use crate::store::event::{Event, Revealed};
use crate::ui::Ui;

/// Errors: usage before the experiment is prepared, and where the directory is none; infrastructure when the disk refuses.
pub(super) fn run(args: &Export, global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let mut gathered = Gathered::default();
    let history = experiment.read_history_and(|entry| gathered.take(entry))?;
    let prepared = history.summary().prepared.as_ref().ok_or_else(not_prepared)?;
    // It is created if missing, as are its parents.
    if let Some(there) = args.dir.ancestors().find(|path| path.exists()).filter(|path| !path.is_dir()) {
        return Err(Error::usage(format!("{} is not a directory", there.display()))
            .code(Code::ReportUnwritable)
            .hint("name a directory; it is made when it is missing."));
    }
    let files: Vec<PathBuf> =
        TABLES.iter().map(|table| args.dir.join(format!("{table}.{}", args.to.extension()))).collect();
    output_file::refuse_ours(&experiment, files.iter().map(PathBuf::as_path))?;
    let tasks = prepared.split.test.len();
    if args.reveal_held_out {
        ui.warn(
            "writing per-task results of the hold-out under their names. This is for humans: what a coding agent learns from \
             them is no longer held out. The look is written to the ledger.",
        );
        let mut session = Session::open(experiment, Reading::Summary)?;
        session.append(Event::Revealed(Revealed { command: command_line(), tasks }))?;
        session.finish()?;
    }
    for table in gathered.tables(&history, args.to, args.reveal_held_out)? {
        let path = args.dir.join(format!("{}.{}", table.name, args.to.extension()));
        atomic::replace(&path, &table.content)?;
        ui.line(format!("wrote {} ({} rows)", path.display(), table.rows));
        ui.json(&json!({"type": "table", "table": table.name, "file": path, "rows": table.rows}));
    }
    Ok(EXIT_OK)
}

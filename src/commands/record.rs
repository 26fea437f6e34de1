//! `record`: writes the score of a committed, passing edit into the history. It records what was measured, not what was typed.

use chrono::Utc;
use serde_json::json;

use super::experiment::Experiment;
use super::in_force;
use super::session::{Reading, Session};
use crate::cli::{Global, Record};
use crate::error::{Code, EXIT_OK, Error, Result};
use crate::guard::{Editable, compare_trees, violations};
use crate::model::gate::{Status, VIOLATIONS_SHOWN, shortened};
use crate::store::event::{Event, Recorded, Row};
use crate::store::state::timestamp;
use crate::store::summary::Receipt;
use crate::store::traces;
use crate::ui::Ui;

/// Errors: rejected when there is no passing receipt for what is committed at HEAD, or given numbers disagree with it.
pub(super) fn run(args: &Record, global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let mut session = Session::open(experiment, Reading::Summary)?;
    session.require_views()?;
    session.prepared()?;
    session.require_same_config()?;
    let receipt = receipt(&session)?;
    agree(args, &receipt)?;
    let head = session.repo.require_head()?;
    if session.state.summary.last_recorded_receipt == Some(receipt.seq) {
        // A kill may have come between the ledger and the traces.
        keep_traces(&session)?;
        return already(&session, &head);
    }
    current(&session, &receipt)?;
    let agent = super::agent::fingerprint(&session, &session.repo.tree(&head)?)?;
    if agent != receipt.verdict.agent {
        return Err(Error::rejected(format!(
            "the agent committed at HEAD ({}) is not the one the gate passed",
            session.repo.short_id(&head)?
        ))
        .code(Code::AgentNotCommitted)
        .hint(format!(
            "commit the edit first: `git add {} && git commit`; or run `autoharness gate` on what is committed.",
            super::hints::editable_words(&session)
        )));
    }
    guard(&session, &head)?;
    if session.state.summary.recorded_agent.as_deref() == Some(&agent) {
        keep_traces(&session)?;
        return unchanged(&session);
    }
    let decision = &receipt.verdict.decision;
    let row = Row {
        iteration: session.state.summary.rows.last().map_or(0, |row| row.iteration.saturating_add(1)),
        val_score: decision.val_score.unwrap_or(0.0),
        commit: session.repo.short_id(&head)?,
        evals_passed: decision.evals_passed,
        evals_total: decision.evals_total,
        timestamp: timestamp(Utc::now()),
    };
    session.keep(&head);
    session.append(Event::Recorded(Recorded {
        row: row.clone(),
        commit: head,
        receipt: receipt.seq,
        agent: agent.clone(),
        protocol: receipt.verdict.protocol.clone(),
    }))?;
    session.finish()?;
    keep_traces(&session)?;
    ui.line(format!(
        "recorded: iteration={} val_score={:.4} commit={} evals_passed={} evals_total={}",
        row.iteration, row.val_score, row.commit, row.evals_passed, row.evals_total
    ));
    ui.json(&json!({"type": "recorded", "iteration": row.iteration, "val_score": row.val_score, "commit": row.commit,
        "evals_passed": row.evals_passed, "evals_total": row.evals_total}));
    ui.hint("append what was learned to workspace/learnings.md.");
    Ok(EXIT_OK)
}

/// The last verdict, when it passed.
fn receipt(session: &Session) -> Result<Receipt> {
    let summary = &session.state.summary;
    let hint = "run `autoharness gate`; only an edit that passed it can be recorded.";
    match &summary.last_decided {
        None => Err(Error::rejected("the gate has not passed anything yet").code(Code::NoPassingGate).hint(hint)),
        Some(receipt) if receipt.verdict.decision.status != Status::Passed => {
            Err(Error::rejected("the last gate did not pass").code(Code::NoPassingGate).hint(hint))
        }
        Some(receipt) if receipt.verdict.base_ref.is_some() => Err(Error::rejected(
            "the last gate judged a branch (--base); it is no receipt for the experiment's history",
        )
        .code(Code::NoPassingGate)
        .hint(hint)),
        Some(receipt) => Ok(receipt.clone()),
    }
}

/// The receipt must be about the experiment as it is now: a human may have accepted changes since.
fn current(session: &Session, receipt: &Receipt) -> Result<()> {
    if in_force::is_current(receipt, &session.state.summary) {
        return Ok(());
    }
    Err(Error::rejected(
        "the last passing gate was made before the experiment was changed with `prepare --accept` or `suite add`",
    )
    .code(Code::NoPassingGate)
    .hint("run `autoharness gate` again."))
}

/// The same agent again is no new iteration.
fn unchanged(session: &Session) -> Result<i32> {
    let iteration = session.state.summary.rows.last().map_or(0, |row| row.iteration);
    session.ui.line(format!("already recorded: iteration={iteration} holds this very agent"));
    session.ui.json(&json!({"type": "unchanged", "iteration": iteration}));
    Ok(EXIT_OK)
}

/// Puts the traces of the recorded agent into `traces/best`.
fn keep_traces(session: &Session) -> Result<()> {
    let train = &session.prepared()?.split.train;
    if let Some(agent) = session.state.summary.recorded_agent.as_deref()
        && let Err(error) = traces::recorded(&session.paths.workspace(), train, agent)
    {
        session.ui.warn(format!("workspace/traces/best is not up to date: {error}"));
    }
    Ok(())
}

/// Numbers given on the command line must be those measured.
fn agree(args: &Record, receipt: &Receipt) -> Result<()> {
    let decision = &receipt.verdict.decision;
    let measured = decision.val_score.unwrap_or(0.0);
    let mut wrong = Vec::new();
    // Four decimals is what gate prints and the history holds; a typed number has no more.
    if let Some(typed) = args.val_score
        && (typed.is_nan() || (typed - measured).abs() > 0.5e-4 + 1e-9)
    {
        wrong.push(format!("--val-score {typed}, measured {measured:.4}"));
    }
    if let Some(typed) = args.evals_passed.filter(|typed| *typed != decision.evals_passed) {
        wrong.push(format!("--evals-passed {typed}, measured {}", decision.evals_passed));
    }
    if let Some(typed) = args.evals_total.filter(|typed| *typed != decision.evals_total) {
        wrong.push(format!("--evals-total {typed}, measured {}", decision.evals_total));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::rejected(format!("the numbers given are not those of the receipt: {}", wrong.join("; ")))
        .code(Code::NumbersDiffer)
        .hint("run `autoharness record` without numbers: they are taken from the receipt."))
}

fn already(session: &Session, head: &str) -> Result<i32> {
    let short = session.repo.short_id(head)?;
    match session.state.summary.rows.last() {
        Some(row) if session.state.summary.base.as_deref() == Some(head) => {
            session.ui.line(format!("already recorded: iteration={} commit={short}", row.iteration));
            session.ui.json(&json!({"type": "recorded", "iteration": row.iteration, "val_score": row.val_score,
                "commit": row.commit, "evals_passed": row.evals_passed, "evals_total": row.evals_total}));
            Ok(EXIT_OK)
        }
        _ => Err(Error::rejected("the last passing gate is recorded already")
            .code(Code::RecordedAlready)
            .hint("run `autoharness gate` on the new edit first.")),
    }
}

/// From the base commit to HEAD only editable files may have changed.
fn guard(session: &Session, head: &str) -> Result<()> {
    let Some(base) = session.state.summary.base.as_deref().filter(|_| session.config.file_guard) else { return Ok(()) };
    let editable = Editable::new(&session.config.editable)?;
    let changes = compare_trees(&session.repo.base_tree(base)?, &session.repo.tree(head)?);
    let found = shortened(violations(&changes, &editable).iter().map(ToString::to_string).collect(), VIOLATIONS_SHOWN);
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::rejected(format!("commits since the base commit change guarded files: {}", found.join("; ")))
        .code(Code::GuardedFilesCommitted)
        .hint("undo those changes in a new commit; a human who wants them runs `autoharness prepare --accept`."))
}

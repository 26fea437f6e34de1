//! The beginning of an iteration: everything clean, evidence current, a work tree for the coding agent.

use super::context::Loop;
use super::plan::cost;
use crate::commands::missing::not_prepared;
use crate::commands::plan::{Conditions, Plan};
use crate::commands::session::{Reading, Session};
use crate::drive::budget::Reason;
use crate::drive::learnings::Learnings;
use crate::drive::proposal::FORM;
use crate::drive::state::{Current, Stage};
use crate::drive::worktree::{self, Maker};
use crate::error::{Code, EXIT_OK, Error, Kind, Result};
use crate::files;
use crate::guard::agent_files::{read_editable_from_disk, read_editable_from_tree};
use crate::guard::{BaseTree, Change, Editable, scan, show_path, violations};
use crate::store::event::SessionUsage;
use crate::store::trials::TrialsOf;
use crate::templates;

/// How many characters of earlier learnings a proposer gets.
const ALLOWANCE: usize = 6000;

impl Loop<'_> {
    /// Begins an iteration, or says why none may begin.
    pub(super) async fn begin(&mut self) -> Result<Option<Reason>> {
        let (number, base, lacking) = {
            let session = self.open(Reading::Trials)?;
            let base = base_of(&session)?;
            require_clean(&session, &base)?;
            (session.state.summary.proposals.last + 1, base.commit().to_string(), lacking(&session)?)
        };
        if let Some(reason) = self.over(|summary| cost(summary, lacking))? {
            return Ok(Some(reason));
        }
        self.ui.status(format!("iteration {number}: evidence of the committed agent"));
        let said = self.own(&["benchmark"]).await?;
        match said.code {
            EXIT_OK => {}
            // Nothing has begun yet that could be lost.
            3 => return self.failed(&format!("benchmark: {}", said.message)).map(|()| None),
            code => return Err(ended(code, "benchmark", &said.message)),
        }
        let current = Current {
            iteration: number,
            base,
            number: 1,
            rivals: Vec::new(),
            outdone: Vec::new(),
            worktree: self.place.join(format!("{number}-1")),
            stage: Stage::Proposing,
            begun: false,
            usage: SessionUsage::default(),
            sent_back: None,
            session: None,
            counted: None,
            records: None,
            proposal: None,
            candidate: None,
            agent: None,
            receipt_before: None,
            end: None,
            reason: None,
            touched: Vec::new(),
            section: None,
            tried: 0,
        };
        self.make_worktree(&current).await?;
        self.state.current = Some(current);
        self.save()?;
        Ok(None)
    }

    /// Recreates the work tree of an iteration.
    pub(super) async fn make_worktree(&self, current: &Current) -> Result<()> {
        let base = {
            let experiment = crate::commands::experiment::Experiment::find(&self.global, self.ui)?;
            experiment.repo.base_tree(&current.base)?
        };
        let mut program = templates::loop_program(&self.paths.root, &self.config, FORM, self.allowance()?)?;
        let learnings = files::read_text_if_there(&self.paths.learnings(), crate::commands::learnings::LARGEST)?;
        let digest = Learnings::parse(&learnings.unwrap_or_default()).digest(ALLOWANCE);
        if !digest.is_empty() {
            program = format!("{}\n\n## What was tried\n\nNewest first.\n\n{digest}\n", program.trim_end());
        }
        let maker = Maker {
            supervisor: &self.supervisor,
            environment: &self.environment,
            cancel: &self.now,
            packs: &self.paths.loop_packs(),
        };
        maker.make(&current.worktree, &base, &program, &self.paths.workspace()).await
    }

    /// Removes every work tree but that of an unfinished iteration, and what is kept for the next one.
    pub(super) fn sweep(&self) -> Result<()> {
        let kept = self.state.current.as_ref().map(|current| current.worktree.as_path());
        worktree::sweep(&self.place, kept)
    }
}

/// What the exit code of our own command means for the loop.
pub(super) fn ended(code: i32, command: &str, message: &str) -> Error {
    let text = format!("{command}: {message}");
    match code {
        1 | 2 => Error::usage(text).hint("fix what it names and run `autoharness loop` again."),
        signal @ 129..=159 => Error::interrupted(signal - 128),
        _ => Error::infrastructure(text),
    }
}

pub(super) fn base_of(session: &Session) -> Result<BaseTree> {
    let base = session.state.summary.base.as_deref();
    session.repo.base_tree(base.ok_or_else(not_prepared)?)
}

/// The loop writes the editable files and commits them, so no other edit may be there.
fn require_clean(session: &Session, base: &BaseTree) -> Result<()> {
    let editable = Editable::new(&session.config.editable)?;
    session.repo.require_no_merge()?;
    let changes = scan(&session.repo, base)?;
    let edited = changes.iter().find(|change| editable.contains(&change.path));
    let hint =
        "commit and record it, or take it back (`git status` and `autoharness gate` name it); then run the loop again.";
    if let Some(change) = edited {
        let what = format!("the work tree is not clean: {} is not the base commit's", show_path(&change.path));
        return Err(Error::usage(what).code(Code::AgentNotCommitted).hint(hint));
    }
    require_guarded(session, &changes, &editable, hint)?;
    let head = session.repo.tree(&session.repo.require_head()?)?;
    let (head, on_disk) =
        (read_editable_from_tree(&head, &editable)?, read_editable_from_disk(&session.repo, base, &editable)?);
    if head != on_disk {
        let what = "the agent committed at HEAD is not the one that was recorded last";
        return Err(Error::usage(what)
            .code(Code::AgentNotCommitted)
            .hint("run `autoharness gate` and `autoharness record`, or revert the commit."));
    }
    Ok(())
}

/// No file may have changed that the gate would hold against the edit.
fn require_guarded(session: &Session, changes: &[Change], editable: &Editable, hint: &str) -> Result<()> {
    match violations(changes, editable).first().filter(|_| session.config.file_guard) {
        Some(violation) => Err(Error::usage(format!("the work tree is not clean: {violation}")).hint(hint)),
        None => Ok(()),
    }
}

/// Somebody else may have left something while the coding agent was at work.
pub(super) fn require_others_kept(session: &Session) -> Result<()> {
    let editable = Editable::new(&session.config.editable)?;
    let changes = scan(&session.repo, &base_of(session)?)?;
    let hint = "take that back, or move it away; then run the loop again: it goes on where it stopped.";
    require_guarded(session, &changes, &editable, hint)
}

/// How many trials of the committed agent on train the ledger lacks.
fn lacking(session: &Session) -> Result<u64> {
    let (prepared, summary) = (session.prepared()?, &session.state.summary);
    let scoring = summary.scoring();
    let agent = summary.recorded_agent.as_deref().unwrap_or_default();
    let of = TrialsOf { agent, protocol: &prepared.trial_protocol, policy: scoring.policy };
    let conditions = Conditions { of, numbers: 0..scoring.trials, fresh: false, current: None, traced: true };
    Ok(Plan::new(&prepared.split.train, &conditions, &session.state.trials).count() as u64)
}

/// Whether an error is the infrastructure's.
pub(super) fn is_infrastructure(error: &Error) -> bool {
    error.kind() == Kind::Infrastructure
}

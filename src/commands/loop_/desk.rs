//! Answers a session's requests while it works: to run its edit on train tasks, within an allowance, and to show traces. The edit
//! is put into the main work tree, run there by this program's own `benchmark`, and removed before the answer goes out.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tracing::info;

use super::check::{edit_of, name};
use super::context::Loop;
use super::iteration::{base_of, is_infrastructure};
use super::judging::{put_files, restore};
use super::plan::cost;
use crate::cli::LoopArgs;
use crate::commands::missing::not_prepared;
use crate::commands::session::{Reading, Session};
use crate::drive::desk::{Desk, DeskReply, Request};
use crate::drive::session;
use crate::drive::state::Current;
use crate::error::{Code, Error, Result};
use crate::guard::Editable;
use crate::guard::agent_files::read_editable_from_tree;
use crate::process::signals::Cancel;
use crate::store::summary::Summary;

/// How often we look for requests.
const LOOK: Duration = Duration::from_millis(100);
/// How much of each end of a command's output is passed on, in bytes.
const HANDED_ON: usize = 4 << 20;
/// Asks a running command to stop when its session has ended.
const INTERRUPT: i32 = 2;

/// How many trials a proposer may have run before it proposes.
pub(super) fn allowance(args: &LoopArgs, summary: &Summary) -> u64 {
    let train = summary.prepared.as_ref().map_or(0, |prepared| prepared.split.train.len() as u64);
    args.session_trials.unwrap_or(train)
}

impl Loop<'_> {
    /// As [`allowance`], of this loop.
    pub(super) fn allowance(&self) -> Result<u64> {
        Ok(allowance(self.args, &self.summary()?))
    }

    /// A session whose requests are answered while it works.
    pub(super) async fn attended(
        &self,
        current: &mut Current,
        prompt: &str,
        records: &Path,
    ) -> Result<session::SessionEnd> {
        let allowance = self.allowance()?;
        let desk = match allowance {
            0 => Desk::closed(&current.worktree).map(|_| None),
            _ => Desk::open(&current.worktree).map(Some),
        };
        // If an earlier session has put something else in the desk's place, this one has to do without.
        let desk = desk.unwrap_or_else(|error| {
            self.ui.detail(format!("the session cannot ask for anything: {error}"));
            None
        });
        let Some(desk) = desk else { return self.session(current, prompt, records).await };
        let asking = current.clone();
        let (close, closing) = self.now.linked();
        let (ended, served) = tokio::join!(
            async {
                let ended = self.session(&asking, prompt, records).await;
                close.fire(INTERRUPT);
                ended
            },
            async {
                let served = self.serve(&desk, current, allowance, &closing).await;
                // The coding agent may have removed it all.
                let _ = desk.close();
                served
            },
        );
        let ended = ended?;
        served.map(|()| ended)
    }

    /// Answers until the session has ended.
    async fn serve(&self, desk: &Desk, current: &mut Current, allowance: u64, closing: &Cancel) -> Result<()> {
        while closing.signal().is_none() {
            // A session that has spoilt its desk just gets no answers.
            for (id, request) in desk.take().unwrap_or_default() {
                let answer = match request {
                    None => refused(&Error::usage("the loop cannot read this request")),
                    Some(request) => self.answer(request, current, allowance, closing).await,
                };
                self.take_back(current).await?;
                if let Err(error) = desk.answer(&id, &answer) {
                    self.ui.detail(format!("an answer could not be laid down: {error}"));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = closing.cancelled() => {}
            }
        }
        Ok(())
    }

    async fn answer(&self, request: Request, current: &mut Current, allowance: u64, closing: &Cancel) -> DeskReply {
        info!(trials = current.tried, "a session asks");
        if !can_be_asked(&request) {
            return refused(&Error::usage("the names of tasks are too long, or are no text"));
        }
        let answered = match request {
            Request::Benchmark { tasks, json } => self.run_train(&tasks, json, current, allowance, closing).await,
            Request::Show { task, failing, baseline, trial, full, json } => {
                let trial = trial.to_string();
                let mut words = vec!["--format", if json { "json" } else { "human" }, "show"];
                if !failing {
                    words.extend(["--trial", &trial]);
                }
                let flags = [("--failing", failing), ("--baseline", baseline), ("--full", full)];
                words.extend(flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag));
                words.push("--");
                words.extend(task.as_deref());
                self.handed_on(&words, closing).await
            }
        };
        answered.unwrap_or_else(|error| refused(&error))
    }

    /// Runs the edit so far on these train tasks.
    async fn run_train(
        &self,
        tasks: &[String],
        json: bool,
        current: &mut Current,
        allowance: u64,
        closing: &Cancel,
    ) -> Result<DeskReply> {
        let (tasks, before, is_edited) = {
            let session = self.open_in_turn().await?;
            let summary = &session.state.summary;
            let train = &summary.prepared.as_ref().ok_or_else(not_prepared)?.split.train;
            let tasks = wanted(tasks, train)?;
            let trials = tasks.len() as u64 * u64::from(summary.scoring().trials);
            let left = allowance.saturating_sub(current.tried);
            if trials > left {
                return Err(Error::usage(format!(
                    "{trials} trials are too many: {left} of {allowance} are left to this session"
                ))
                .hint("name fewer tasks with --task-ids, or propose your edit: the gate measures it."));
            }
            if let Some(reason) = self.over(|summary| cost(summary, trials))? {
                return Err(Error::usage(format!("the loop's budget allows no more trials: {}", reason.sentence()))
                    .hint("propose what you have."));
            }
            let (base, editable) = (base_of(&session)?, Editable::new(&session.config.editable)?);
            let mut problems = Vec::new();
            let files = edit_of(&self.paths, current, &base, &editable, &mut problems)?;
            let Some(files) = files.filter(|_| problems.is_empty()) else {
                return Err(Error::usage(problems.join("; ")).hint("take that back, then run the same command again."));
            };
            let is_edited = files != read_editable_from_tree(&base, &editable)?;
            if is_edited {
                let name = name(current.iteration, current.number);
                let message = "tried before it was proposed\n";
                current.candidate = Some(session.repo.keep_candidate(&name, &base, &editable, &files, message)?);
                self.keep(current)?;
                put_files(&session, current, &files)?;
            }
            (tasks, summary.spent.trials, is_edited)
        };
        self.ui.status(format!(
            "iteration {}: the session tries its edit on {} train tasks",
            current.iteration,
            tasks.len()
        ));
        let ids: Vec<String> = tasks.iter().map(|task| format!("--task-ids={task}")).collect();
        let words = ["--format", if json { "json" } else { "human" }, "benchmark"];
        // The gate must not count trials by which an edit was chosen.
        let apart = is_edited.then_some("--apart");
        let words: Vec<&str> = words.into_iter().chain(apart).chain(ids.iter().map(String::as_str)).collect();
        let said = self.handed_on(&words, closing).await;
        let spent = self.summary()?.spent.trials;
        current.tried += spent.saturating_sub(before);
        self.keep(current)?;
        let mut answer = said?;
        if let DeskReply::Said { stderr, .. } = &mut answer {
            let left = allowance.saturating_sub(current.tried);
            stderr.push_str(&format!("{left} of {allowance} trials are left to this session\n"));
        }
        Ok(answer)
    }

    async fn handed_on(&self, words: &[&str], closing: &Cancel) -> Result<DeskReply> {
        let said = self.said(words, HANDED_ON, closing).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(DeskReply::Said { code: said.exit.code, stdout: text(&said.stdout), stderr: text(&said.stderr) })
    }

    /// Brings the committed agent back after an edit was tried, even one that a kill left in the main work tree.
    pub(super) async fn take_back(&self, current: &mut Current) -> Result<()> {
        if current.candidate.is_none() {
            return Ok(());
        }
        let session = self.open_in_turn().await?;
        restore(&session, current)?;
        session.repo.forget_candidate(&name(current.iteration, current.number))?;
        current.candidate = None;
        self.keep(current)
    }

    /// Holds the experiment as soon as its present holder is done.
    async fn open_in_turn(&self) -> Result<Session> {
        loop {
            match self.open(Reading::Summary) {
                Err(error) if error.named() == Code::InUse => {
                    self.now.check()?;
                    tokio::time::sleep(LOOK).await;
                }
                opened => return opened,
            }
        }
    }

    /// Writes down how far the iteration has got while a session works.
    fn keep(&self, current: &Current) -> Result<()> {
        let mut state = self.state.clone();
        state.current = Some(current.clone());
        state.save(&self.paths.loop_state())
    }
}

/// Whether a request can be passed to a command: as arguments of at most this total length, without NUL.
fn can_be_asked(request: &Request) -> bool {
    const MOST: usize = 64 << 10;
    let words: Vec<&String> = match request {
        Request::Benchmark { tasks, .. } => tasks.iter().collect(),
        Request::Show { task, .. } => task.iter().collect(),
    };
    words.iter().map(|word| word.len()).sum::<usize>() <= MOST && !words.iter().any(|word| word.contains('\0'))
}

/// The tasks to run: those named, which must be of train, or all.
fn wanted(named: &[String], train: &[String]) -> Result<Vec<String>> {
    let of_train: BTreeSet<&String> = train.iter().collect();
    if let Some(other) = named.iter().find(|task| !of_train.contains(task)) {
        return Err(Error::usage(format!("{other:?} is not a train task"))
            .hint("workspace/train_results.json has those of train."));
    }
    let named: BTreeSet<&String> = if named.is_empty() { of_train } else { named.iter().collect() };
    Ok(named.into_iter().cloned().collect())
}

/// What a session is told when its command cannot be run.
fn refused(error: &Error) -> DeskReply {
    DeskReply::Refused {
        message: error.to_string(),
        hints: error.hints().to_vec(),
        is_usage: !is_infrastructure(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_train_tasks_are_run_and_each_once() {
        let train = ["a", "b", "c"].map(String::from);
        let of = |named: &[&str]| wanted(&named.iter().map(ToString::to_string).collect::<Vec<_>>(), &train);
        assert_eq!(of(&[]).unwrap(), train);
        assert_eq!(of(&["c", "a", "c"]).unwrap(), ["a", "c"]);
        assert_eq!(of(&["a", "held-out"]).unwrap_err().exit_code(), 2);
    }
}

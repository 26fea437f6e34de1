//! Sessions of the coding agent: as many as it takes to get one that ends well.

use std::ffi::OsString;
use std::time::Duration;

use chrono::Utc;
use tracing::info;

use super::check::written;
use super::context::{Loop, records};
use crate::drive::budget::Reason;
use crate::drive::drivers::{Assignment, Counted, Invocation, Seen, limit};
use crate::drive::fencing::SessionFence;
use crate::drive::session::{self, SessionBounds};
use crate::drive::spending::Spending;
use crate::drive::state::{Current, Stage};
use crate::drive::worktree;
use crate::error::{EXIT_OK, Error, Result};
use crate::files;
use crate::process::Redactor;
use crate::store::atomic;
use crate::store::event::SessionUsage;

/// Larger than any transcript, in bytes.
const LARGEST: u64 = 128 << 20;
/// How often in a row we wait for a provider.
const WAITS: u32 = 24;

const PROMPT: &str = "Read PROGRAM.md in this directory and do what it says: make one edit, write proposal.md, stop.";

impl Loop<'_> {
    /// Has the coding agent edit, or says why no session may begin.
    pub(super) async fn propose(&mut self) -> Result<Option<Reason>> {
        let Some(mut current) = self.state.current.clone() else { return Ok(None) };
        self.take_back(&mut current).await?;
        if current.begun {
            self.pick_up(&mut current)?;
            if current.stage != Stage::Proposing {
                return self.put(current).map(|()| None);
            }
        }
        if !current.worktree.is_dir() {
            // The previous proposer's tries are not traces of the committed agent. Nothing is run for this.
            if current.number > 1 {
                let said = self.own(&["benchmark"]).await?;
                if said.code != EXIT_OK {
                    return self.failed(&format!("benchmark: {}", said.message)).map(|()| None);
                }
            }
            self.make_worktree(&current).await?;
            (current.session, current.begun) = (None, false);
        }
        let mut waits = 0;
        loop {
            let mean = |summary: &crate::store::summary::Summary| {
                let usage = &summary.proposals.usage;
                let sessions = usage.sessions.max(1);
                Spending {
                    usd: usage.cost_usd / f64::from(sessions),
                    tokens: usage.tokens / u64::from(sessions),
                    ..Spending::default()
                }
            };
            if let Some(reason) = self.over(mean)? {
                return Ok(Some(reason));
            }
            let directory = records(&self.paths.workspace())?;
            current.records = Some(directory.clone());
            let prompt = prompt(&current);
            current.begun = true;
            self.put(current.clone())?;
            self.ui.status(format!(
                "iteration {}: {} proposes (session {})",
                current.iteration,
                self.driver.name(),
                directory.file_name().unwrap_or_default().display()
            ));
            let attended = self.watched(self.attended(&mut current, &prompt, &directory)).await;
            // Counts what it has tried, even if the loop ends now.
            self.state.current = Some(current.clone());
            let mut session = attended?;
            let usage = self.usage(&mut session.seen, &mut current.counted, session.seconds, session.failure.is_none());
            info!(seconds = session.seconds, turns = usage.turns, tokens = usage.tokens, "session ended");
            atomic::replace(&directory.join("usage.json"), &serde_json::to_vec_pretty(&usage).unwrap_or_default())?;
            current.usage = current.usage.plus(usage);
            (current.begun, current.records) = (false, None);
            current.session = session.seen.session.or(current.session);
            let Some(why) = session.failure else {
                current.stage = Stage::Proposed;
                self.went_well();
                return self.put(current).map(|()| None);
            };
            self.put(current.clone())?;
            match limit::wait(&why, Utc::now().timestamp(), waits).filter(|_| !session.stopped && waits < WAITS) {
                Some(time) => {
                    self.ui.status(format!("{}: {why}; waiting {} s", self.driver.name(), time.as_secs_f64().ceil()));
                    self.patience(time).await?;
                    waits += 1;
                }
                None => {
                    // Leftovers of a failed session are no base for the next one.
                    worktree::retire(&current.worktree)?;
                    current.session = None;
                    self.put(current)?;
                    return self.failed(&format!("{}: {why}", self.driver.name())).map(|()| None);
                }
            }
        }
    }

    fn put(&mut self, current: Current) -> Result<()> {
        self.state.current = Some(current);
        self.save()
    }

    pub(super) async fn session(
        &self,
        current: &Current,
        prompt: &str,
        records: &std::path::Path,
    ) -> Result<session::SessionEnd> {
        let left = self.budget.seconds_left(self.night()?, Utc::now()).unwrap_or(f64::MAX);
        let time = Duration::from_secs_f64(left.clamp(1.0, f64::from(self.config.loop_timeout)));
        let usd = self.dollars_left()?;
        let mut ask = Assignment {
            prompt,
            model: self.args.model.as_deref(),
            resume: current.session.as_deref(),
            budget_usd: usd,
            fenced: false,
        };
        let fence = self.fence(current, &self.driver.invocation(&ask)).await?;
        ask.fenced = fence.is_some();
        let invocation = self.driver.invocation(&ask);
        let place = SessionBounds {
            supervisor: &self.supervisor,
            environment: &self.environment,
            names: &self.config.loop_env,
            worktree: &current.worktree,
            records,
            redactor: &Redactor::new(self.environment.secret_values()),
            time,
            usd,
            fence: fence.as_deref(),
            cancel: &self.now,
        };
        session::run(&self.driver, invocation, &place).await
    }

    /// The command prefix that puts a session behind the fence.
    async fn fence(&self, current: &Current, invocation: &Invocation) -> Result<Option<Vec<OsString>>> {
        let seen = self.environment.for_child(&self.config.loop_env, &invocation.variables());
        let names: Vec<OsString> = seen.into_iter().map(|(name, _)| name).collect();
        let Some(program) = invocation.words.first() else { return Ok(None) };
        let fencing = SessionFence {
            supervisor: &self.supervisor,
            environment: &self.environment,
            forbidden: &[self.paths.root.clone(), self.paths.state.clone()],
            mode: self.config.fence,
        };
        let words = fencing.around(&self.driver, program, &current.worktree, &names, &self.now).await?;
        if words.is_none() {
            self.ui.warn("the coding agent is not fenced in: it can reach what this user can");
        }
        Ok(words)
    }

    /// Waits for a provider; Ctrl-C ends that at once, because nothing is running.
    async fn patience(&self, time: Duration) -> Result<()> {
        let left = self.budget.seconds_left(self.night()?, Utc::now());
        let time = left.map_or(time, |left| time.min(Duration::from_secs_f64(left.max(0.0))));
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            signal = self.after_step.cancelled() => Err(Error::interrupted(signal)),
        }
    }

    /// What a session used beyond what is `counted` of it.
    fn usage(&self, seen: &mut Seen, counted: &mut Option<Counted>, seconds: f64, ended_well: bool) -> SessionUsage {
        seen.count_once(counted);
        if let Some((input, output)) = self.config.loop_prices {
            seen.price(input, output);
        }
        let mut usage = seen.usage(seconds);
        if !ended_well {
            // It may have had no time to report its cost; that is no reason for a budget to stop the loop.
            usage.unpriced = 0;
        }
        usage
    }

    /// A session was killed together with the loop. Its usage is counted if its transcript shows it, and it is not asked
    /// again for what it had finished.
    fn pick_up(&self, current: &mut Current) -> Result<()> {
        if let Some(records) = current.records.take() {
            let text = files::read_text_if_there(&records.join("transcript.jsonl"), LARGEST).ok().flatten();
            let mut seen = Seen::default();
            text.unwrap_or_default().lines().for_each(|line| self.driver.read(line.as_bytes(), &mut seen));
            session::read_usage(&self.driver, &current.worktree, &mut seen);
            let usage = self.usage(&mut seen, &mut current.counted, 0.0, false);
            current.usage = current.usage.plus(usage);
            current.session = seen.session.or(current.session.take());
        }
        current.begun = false;
        if written(&current.worktree).is_ok_and(|text| whole(&text)) {
            current.stage = Stage::Proposed;
        } else if current.session.is_none() && current.sent_back.is_none() {
            // Nobody knows any more what the edit in there was to become.
            worktree::retire(&current.worktree)?;
        }
        Ok(())
    }
}

/// Whether a proposal looks completely written.
fn whole(text: &str) -> bool {
    text.trim_start().strip_prefix("---").is_some_and(|rest| rest.contains("\n---"))
}

/// What the coding agent is told.
fn prompt(current: &Current) -> String {
    match &current.sent_back {
        None => PROMPT.to_string(),
        Some(why) => format!(
            "Your proposal cannot be judged as it is:\n\n{why}\n\nPut that right in this directory (PROGRAM.md says what is \
             asked for), then stop. There is no second time."
        ),
    }
}

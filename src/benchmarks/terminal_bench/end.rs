//! How a run ended: what is missing, whose fault that is, and what to tell the user.

use std::path::Path;

use super::job;
use super::judgement::Provider;
use super::log;
use super::reason;
use super::run::{HarborRun, is_harbors_own, is_signal};
use super::watch::{Watch, job_is_finished};
use crate::benchmarks::runner::{RunEvent, RunReport};
use crate::error::{Error, Result};
use crate::model::trial::{Outcome, TrialResult};
use crate::model::usage::Usage;
use crate::process::Exit;
use crate::process::signals::Cancel;

/// A job that ended without all of its results.
struct AttemptEnd<'a> {
    exit: Exit,
    log: &'a str,
    /// The directory of the agent's files.
    staging: &'a Path,
    /// A trial ended with the process while the agent was working.
    cut_off_at_work: bool,
    /// The job says that it is complete.
    finished: bool,
    /// A trial began.
    began: bool,
}

impl AttemptEnd<'_> {
    /// Whether the agent's code, where it runs in Harbor's process, ended that process. Never when a signal did, even one that
    /// Harbor caught: then the kernel, a human or a shutdown is the cause, whatever the log and the files say.
    fn agents_doing(&self) -> Option<String> {
        if is_signal(self.exit) {
            return None;
        }
        if self.cut_off_at_work {
            return Some(reason::ENDED_HARBOR.into());
        }
        // An uncaught exception ends Python with 1.
        let raised = (self.exit.code == 1).then(|| log::agent_to_blame(self.log, self.staging));
        if let Some(why) = raised.flatten() {
            return Some(why);
        }
        // Harbor succeeds only with a finished job.
        let pretended = self.exit.success() && !self.finished;
        ((!is_harbors_own(self.exit) || pretended) && self.began).then(|| format!("it ended Harbor with {}", self.exit))
    }
}

impl<'a> HarborRun<'a> {
    /// Harbor has ended by itself: reads the rest, and says what is missing and why.
    pub(super) async fn conclude(mut self, exit: Exit, watch: &mut Watch, cancel: &Cancel) -> Result<RunReport> {
        if self.take_rest(watch, cancel).await.is_err() {
            return Err(Error::infrastructure("the receiver of the trials is gone"));
        }
        cancel.check()?;
        let finished = job_is_finished(&self.job);
        if self.done < self.total || !finished {
            let log = log::tail(self.log.path());
            let end = AttemptEnd {
                exit,
                log: &log,
                staging: &self.request.staging,
                cut_off_at_work: !self.ended.is_empty(),
                finished,
                began: watch.began(),
            };
            if let Some(why) = end.agents_doing() {
                for ended in std::mem::take(&mut self.ended) {
                    if self.settle(&ended, Provider::Unknown).await.is_err() {
                        return Err(Error::infrastructure("the receiver of the trials is gone"));
                    }
                }
                self.say_notices().await;
                let why = if self.discreet { None } else { self.quotable(&why) };
                return self.blame("the agent broke the whole job", why).await;
            }
            self.say_notices().await;
            let words = if watch.began() { None } else { self.last_words(&log) };
            let why = match words {
                Some(words) => format!("ended with {exit} before its first trial ({words})"),
                None if finished => format!("ended with {exit} although results are missing"),
                None => format!("ended with {exit} before its job was finished"),
            };
            return Ok(self.report(Some(self.broke_off(&why))));
        }
        self.say_notices().await;
        Ok(self.report(self.no_model()))
    }

    async fn take_rest(&mut self, watch: &mut Watch, cancel: &Cancel) -> Result<(), ()> {
        for finished in watch.look_at_all() {
            self.take(finished).await?;
        }
        self.look_into_claims(cancel).await?;
        self.settle_unknown().await
    }

    /// Every missing trial is the agent's fault: crashing Harbor must never raise a score.
    pub(super) async fn blame(&mut self, what: &str, why: Option<String>) -> Result<RunReport> {
        let said = why.map_or_else(|| what.to_owned(), |why| format!("{what}: {why}"));
        let tasks: Vec<&'a str> = self.tasks.iter().map(|task| task.id.as_str()).collect();
        for id in tasks {
            let left = self.missing.insert(id, 0).unwrap_or(0);
            for trial in self.request.trials - left..self.request.trials {
                let result = TrialResult {
                    task: id.to_owned(),
                    trial,
                    outcome: Outcome::AgentError,
                    reward: Some(0.0),
                    usage: Usage::default(),
                    error: Some(said.clone()),
                    trace: None,
                    detail: None,
                };
                if self.sink.send(RunEvent::Finished(Box::new(result))).await.is_err() {
                    return Err(Error::infrastructure("the receiver of the trials is gone"));
                }
            }
        }
        let missing = match self.total - self.done {
            0 => String::new(),
            count => format!("; the {count} trials that are missing count as 0"),
        };
        let message = format!("{said}{missing}");
        let _ = self.sink.send(RunEvent::Log { warning: true, message }).await;
        Ok(self.report(None))
    }

    /// Each kind of fault of graders and sandboxes is reported once, with the number of trials.
    pub(super) async fn say_notices(&self) {
        let quiet = [reason::ENDED_HARBOR, reason::CANCELLED];
        for (reason, count) in self.reasons.iter().filter(|(reason, _)| !quiet.contains(reason)) {
            let claims = if *reason == reason::UNCONFIRMED { self.named_claims() } else { String::new() };
            let message = format!("{count} of {} trials: {reason}{claims}", self.total);
            let _ = self.sink.send(RunEvent::Log { warning: true, message }).await;
        }
    }

    /// ` (3 x ApiGaveUpError)`: a human should see which claims were not believed.
    fn named_claims(&self) -> String {
        let named: Vec<String> = self.claims.iter().map(|(claim, count)| format!("{count} x {claim}")).collect();
        format!(" ({})", named.join(", "))
    }

    /// A run in which no model did anything, and why.
    pub(super) fn no_model(&self) -> Option<String> {
        if self.any_token {
            return None;
        }
        let causes = [
            reason::MCP,
            reason::AUTHENTICATION,
            reason::QUOTA,
            reason::MODEL,
            reason::RATE,
            reason::NETWORK,
            reason::API,
        ];
        let known = causes.into_iter().find(|cause| self.reasons.contains_key(cause));
        let all_failed = self.without_evidence == self.total;
        let cause = known.or_else(|| log::model_trouble(&log::tail(self.log.path())));
        let other = || self.reasons.iter().max_by_key(|(_, count)| **count).map(|(reason, _)| *reason);
        match cause.or_else(|| other().filter(|_| all_failed)) {
            Some(cause) => Some(format!("no trial used a model token: {cause}")),
            // Agents that crash before their first call are evidence, not trouble.
            None if self.reasons.values().sum::<u64>() == self.total => None,
            None => Some(
                "no trial used a model token: no model was called, or the agent does not report its tokens \
                 (context.n_input_tokens, context.n_output_tokens)"
                    .into(),
            ),
        }
    }

    pub(super) fn report(&self, failure: Option<String>) -> RunReport {
        let distrust = "Harbor's job holds trials that were not asked for; none of this run's trials count";
        let failure = if self.untrusted { Some(distrust.to_owned()) } else { failure };
        RunReport { failure, untrusted: self.untrusted }
    }

    pub(super) fn broke_off(&self, what: &str) -> String {
        let (done, total) = (self.done, self.total);
        // Other logs are removed: they may quote the hold-out.
        let log = match self.discreet {
            true => String::new(),
            false => format!("; its log: {}", self.log.path().display()),
        };
        let cause = self.no_model().filter(|_| self.done > 0).map(|cause| format!(" ({cause})")).unwrap_or_default();
        format!("Harbor {what} after {done} of {total} trials{cause}{log}")
    }

    /// Sandboxes that a killed Harbor may have left.
    pub(super) async fn name_leftovers(&self, exit: Exit, watch: &Watch) {
        // After one SIGINT or SIGTERM Harbor has closed them.
        if !is_signal(exit) || exit.code == 128 + 2 || exit.code == 128 + 15 {
            return;
        }
        let trials: Vec<String> = watch.unfinished().collect();
        if let Some(message) = job::leftovers(&self.runner.job.env_provider, &trials, !self.discreet) {
            let _ = self.sink.send(RunEvent::Log { warning: true, message }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEBACK: &str = "Traceback (most recent call last):\n  File \"/staging/agent/agent.py\", line 9, in run\n    x()\n\
                             ValueError: said quietly\n";

    fn end(code: i32) -> AttemptEnd<'static> {
        let staging = Path::new("/staging");
        AttemptEnd { exit: Exit { code }, log: TRACEBACK, staging, cut_off_at_work: true, finished: false, began: true }
    }

    #[test]
    fn nobody_is_blamed_for_a_signal() {
        // SIGHUP, SIGINT and SIGTERM that Harbor caught (once or twice), SIGKILL of Harbor or of its watcher, SIGTERM.
        for code in [129, 130, 137, 143] {
            assert_eq!(end(code).agents_doing(), None, "{code}");
        }
    }

    #[test]
    fn who_ends_the_process_otherwise_is_blamed() {
        for code in [0, 1, 2, 7, 255] {
            assert_eq!(end(code).agents_doing().as_deref(), Some(reason::ENDED_HARBOR), "{code}");
        }
        let raised = |code| AttemptEnd { cut_off_at_work: false, ..end(code) };
        assert_eq!(raised(1).agents_doing().as_deref(), Some("ValueError: said quietly"));
        // Survived, because Python does not exit with 2 after an exception.
        assert_eq!(raised(2).agents_doing(), None);
        let quiet = |code| AttemptEnd { log: "", ..raised(code) };
        assert_eq!(quiet(1).agents_doing(), None);
        assert_eq!(quiet(0).agents_doing().as_deref(), Some("it ended Harbor with exit status 0"));
        assert_eq!(quiet(7).agents_doing().as_deref(), Some("it ended Harbor with exit status 7"));
        assert_eq!(AttemptEnd { finished: true, ..quiet(0) }.agents_doing(), None);
        assert_eq!(AttemptEnd { began: false, ..quiet(7) }.agents_doing(), None);
    }
}

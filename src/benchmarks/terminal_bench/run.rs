//! One `harbor run` from the dry run to the last result.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::exception::known_claim;
use super::file::TrialFile;
use super::harbor::{HarborRunner, is_held_out};
use super::judgement::{Facts, Judgement, Provider, judge, provider_claim};
use super::listing::{ListedTask, Listing};
use super::reason;
use super::trial::{self, Keep};
use super::watch::{Finished, Watch};
use super::{job, log};
use crate::benchmarks::runner::{RunEvent, RunReport, RunRequest, Sink};
use crate::benchmarks::trial_protocol::line;
use crate::error::{Code, Context as _, Error, Result};
use crate::model::trial::{Split, TrialResult};
use crate::model::usage::Usage;
use crate::process::signals::Cancel;
use crate::process::{Ask, Child, Command, Exit, Limits, Log, Stderr, run_captured};

/// Importing an agent takes seconds, on a busy machine many.
const DRY_RUN: Duration = Duration::from_secs(300);

pub(super) struct HarborRun<'a> {
    pub(super) runner: &'a HarborRunner,
    pub(super) request: &'a RunRequest,
    pub(super) listing: &'a Listing,
    pub(super) tasks: Vec<&'a ListedTask>,
    pub(super) import_path: String,
    pub(super) sink: Sink,
    pub(super) log: Log,
    pub(super) job: PathBuf,
    /// Then nothing of a conversation may be kept.
    pub(super) held_out: bool,
    /// Some of these tasks are, or may turn out to be, hold-out: no message may name one or quote any output.
    pub(super) discreet: bool,
    /// Harbor, or something in its name, reported what was not asked for.
    pub(super) untrusted: bool,
    /// Trials still expected, by task id.
    pub(super) missing: HashMap<&'a str, u32>,
    /// Reasons given for trials, with the number of trials.
    pub(super) reasons: BTreeMap<&'static str, u64>,
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) without_evidence: u64,
    pub(super) any_token: bool,
    /// Trials that ended with Harbor's process, neither graded nor with an exception.
    pub(super) ended: Vec<Finished>,
    /// Trials whose agent blames the model's provider, not yet checked.
    suspects: Vec<Finished>,
    /// The same, where nothing could be learned.
    unknown: Vec<Finished>,
    /// What agents claimed in vain, with the number of trials.
    pub(super) claims: BTreeMap<String, u64>,
}

/// Why Harbor was stopped.
enum HarborStop {
    Cancelled(i32),
    TooLong(Duration),
    NobodyListens,
}

impl<'a> HarborRun<'a> {
    pub(super) fn new(
        runner: &'a HarborRunner,
        request: &'a RunRequest,
        listing: &'a Listing,
        tasks: Vec<&'a ListedTask>,
        import_path: String,
        sink: Sink,
    ) -> Result<HarborRun<'a>> {
        let held_out = is_held_out(request);
        // Harbor prints the agent's commands: those of the hold-out go to a place that is removed with the run.
        let log = if held_out { request.scratch.join("harbor.log") } else { request.log.clone() };
        Ok(HarborRun {
            runner,
            request,
            listing,
            import_path,
            sink,
            log: Log::open(&log, crate::process::log::DEFAULT_CAP, runner.redactor.clone())?,
            job: request.scratch.join("jobs").join(&request.run),
            held_out,
            discreet: held_out || request.split != Some(Split::Train),
            untrusted: false,
            missing: tasks.iter().map(|task| (task.id.as_str(), request.trials)).collect(),
            total: tasks.len() as u64 * u64::from(request.trials),
            tasks,
            reasons: BTreeMap::new(),
            done: 0,
            without_evidence: 0,
            any_token: false,
            ended: Vec::new(),
            suspects: Vec::new(),
            unknown: Vec::new(),
            claims: BTreeMap::new(),
        })
    }

    /// Runs everything and reports every expected trial that left a result.
    pub(super) async fn carry_out(mut self, cancel: &Cancel) -> Result<RunReport> {
        let jobs_dir = self.request.scratch.join("jobs");
        fs_err::create_dir_all(&jobs_dir)?;
        let runner = self.runner;
        let job = job::job(&runner.job, self.request, &self.tasks, &self.import_path, &jobs_dir);
        let config = self.request.scratch.join("job.json");
        let bytes = serde_json::to_vec_pretty(&job).infra(|| "cannot write the job".into())?;
        fs_err::write(&config, bytes)?;
        if let Some(report) = self.dry_run(&config, cancel).await? {
            return Ok(report);
        }
        let wall = job::wall(self.request, &self.tasks);
        let mut child = runner.supervisor.spawn(Command {
            stderr: Stderr::Log(self.log.clone()),
            grace: runner.grace,
            ask: Ask::Leader,
            ..self.command(&config, &[])
        })?;
        let stdout = child.take_stdout();
        let copy = stdout.map(|stdout| tokio::spawn(self.log.clone().copy(stdout)));
        let mut watch = Watch::new(self.job.clone());
        let end = self.follow(&mut child, &mut watch, wall, cancel).await?;
        let exit = match &end {
            Ok(exit) => *exit,
            Err(stop) => {
                if let HarborStop::Cancelled(_) = stop {
                    let message = format!(
                        "stopping Harbor, which closes its sandboxes first (up to {} s)",
                        runner.grace.as_secs()
                    );
                    let _ = self.sink.send(RunEvent::Log { warning: true, message }).await;
                }
                // One signal, then patience: a second one would leave sandboxes behind.
                child.stop(runner.grace).await?
            }
        };
        if let Some(copy) = copy {
            copy.abort();
        }
        self.name_leftovers(exit, &watch).await;
        match end {
            Err(HarborStop::Cancelled(signal)) => Err(Error::interrupted(signal)),
            Err(HarborStop::NobodyListens) => Err(Error::infrastructure("the receiver of the trials is gone")),
            Err(HarborStop::TooLong(wall)) => {
                let seconds = wall.as_secs();
                tracing::warn!(program = "harbor", seconds, "child was stopped: it took longer than it may");
                let why = format!("was stopped after {seconds} s, more than all limits of its trials allow");
                Ok(self.report(Some(self.broke_off(&why))))
            }
            Ok(exit) => self.conclude(exit, &mut watch, cancel).await,
        }
    }

    fn command(&self, config: &Path, more: &[&str]) -> Command {
        let mut arguments: Vec<OsString> = vec!["run".into(), "-c".into(), config.into(), "-y".into()];
        arguments.extend(more.iter().map(Into::into));
        arguments.extend(self.runner.arguments.iter().map(Into::into));
        Command::new(&self.runner.install.harbor, &self.request.staging)
            .args(arguments)
            .env(self.runner.environment_of(self.request))
    }

    /// Checks for free what can be wrong before a trial: unknown keys and tasks, an agent that cannot be imported, missing
    /// keys. `Some` when the run is over.
    async fn dry_run(&mut self, config: &Path, cancel: &Cancel) -> Result<Option<RunReport>> {
        let command = self.command(config, &["--dry-run"]);
        let limits = Limits { time: DRY_RUN, ..Limits::SMALL };
        let said = run_captured(&self.runner.supervisor, command, limits, cancel).await?;
        let text = format!("{}\n{}", String::from_utf8_lossy(&said.stderr), String::from_utf8_lossy(&said.stdout));
        if let (0, Some(count)) = (said.exit.code, log::trials_of_dry_run(&text)) {
            return match count {
                Some(count) if count != self.total => {
                    Err(Error::usage(format!("Harbor would run {count} trials of the {} asked for", self.total))
                        .code(Code::BenchmarkChanged)
                        .hint("the dataset and its list of tasks disagree: run `autoharness prepare --accept`."))
                }
                _ => Ok(None),
            };
        }
        text.lines().for_each(|line| self.log.line(line));
        let blamed = match is_signal(said.exit) {
            true => None,
            false => log::agent_to_blame(&text, &self.request.staging),
        };
        // Harbor ends with a success only after it has said so, and with few other statuses.
        let odd = said.exit.success() || !is_harbors_own(said.exit) && !is_signal(said.exit);
        let odd = odd || text.trim().is_empty() && !is_signal(said.exit);
        if let Some(why) = blamed.or_else(|| odd.then(|| format!("it ended Harbor with {}", said.exit))) {
            // Nothing has run, so nothing of a task can be in it, unless the agent put it there.
            let why = self.quotable(&why);
            return self.blame("the agent cannot be imported", why).await.map(Some);
        }
        // The reason is on stderr; since 0.25 stdout ends with a table and a notice in any case.
        let streams = [&said.stderr, &said.stdout].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let why = streams.iter().find_map(|text| self.last_words(text)).unwrap_or_else(|| said.exit.to_string());
        Err(Error::infrastructure(format!("Harbor refuses the job: {why}"))
            .code(Code::BenchmarkFailed)
            .hint("`autoharness doctor` says what is missing here."))
    }

    /// Receives trials until Harbor ends or must be ended.
    async fn follow(
        &mut self,
        child: &mut Child,
        watch: &mut Watch,
        wall: Option<Duration>,
        cancel: &Cancel,
    ) -> Result<Result<Exit, HarborStop>> {
        let deadline = wall.map(|wall| (Instant::now() + wall, wall));
        loop {
            let stop = tokio::select! {
                biased;
                signal = cancel.cancelled() => Some(HarborStop::Cancelled(signal)),
                exit = child.wait() => return exit.map(Ok),
                wall = past(deadline) => Some(HarborStop::TooLong(wall)),
                () = sleep(watch.interval()) => None,
            };
            // Trials that end before we stop Harbor count. Later ones do not: a trial that was cut off looks like one
            // that failed.
            let found = if stop.is_some() { watch.look_at_all() } else { watch.look() };
            for finished in found {
                if self.take(finished).await.is_err() {
                    return Ok(Err(HarborStop::NobodyListens));
                }
            }
            // Now, while the trouble lasts if there is any.
            if self.look_into_claims(cancel).await.is_err() {
                return Ok(Err(HarborStop::NobodyListens));
            }
            if let Some(stop) = stop {
                return Ok(Err(stop));
            }
        }
    }

    /// Asks the model's provider about trials whose agent blames it.
    pub(super) async fn look_into_claims(&mut self, cancel: &Cancel) -> Result<(), ()> {
        if self.suspects.is_empty() {
            return Ok(());
        }
        // After a signal we do not ask: these trials are run again.
        let Ok(seen) = self.runner.probe.ask(&self.runner.asker(), cancel).await else { return Ok(()) };
        for suspect in std::mem::take(&mut self.suspects) {
            match seen {
                Provider::Unknown => self.unknown.push(suspect),
                _ => self.settle(&suspect, seen).await?,
            }
        }
        Ok(())
    }

    /// Judges the trials that could not be checked. A run of only such trials, without a single token, itself proves
    /// the trouble; among other trials they are only the agent's word.
    pub(super) async fn settle_unknown(&mut self) -> Result<(), ()> {
        let unknown = std::mem::take(&mut self.unknown);
        let silent = |trial: &Finished| matches!(trial.file.usage(), (None | Some(0), None | Some(0), _));
        let is_whole_run = unknown.len() as u64 == self.total && unknown.iter().all(silent);
        for trial in unknown {
            let seen = match provider_claim(&trial.file) {
                Some((claim, _)) if is_whole_run => Provider::Fails(claim),
                _ => Provider::Unknown,
            };
            self.settle(&trial, seen).await?;
        }
        Ok(())
    }

    /// Judges one trial and passes it on, unless that must wait.
    pub(super) async fn take(&mut self, finished: Finished) -> Result<(), ()> {
        let file = &finished.file;
        if self.expected(file).is_none() {
            self.untrusted = true;
        } else if file.ended_harbor() {
            // The end of Harbor shows whose fault that is: a signal leaves the same file.
            self.ended.push(finished);
        } else if file.is_cancelled() {
            // Not run.
        } else if provider_claim(file).is_some() {
            self.suspects.push(finished);
        } else {
            return self.settle(&finished, Provider::Unknown).await;
        }
        Ok(())
    }

    /// Judges one trial and passes it on.
    pub(super) async fn settle(&mut self, finished: &Finished, provider: Provider) -> Result<(), ()> {
        let file = &finished.file;
        let Some(task) = self.expected(file) else {
            self.untrusted = true;
            return Ok(());
        };
        let facts = Facts {
            limit: job::agent_limit(self.request, task),
            tests_write_json: task.tests_write_json,
            cleared: self.runner.install.clears_rewards(),
            provider,
            ..trial::facts(&finished.directory)
        };
        let judgement = judge(file, facts);
        let id = task.id.as_str();
        let Some(left) = self.missing.get_mut(id).filter(|left| **left > 0) else {
            self.untrusted = true;
            return Ok(());
        };
        let trial = self.request.trials - *left;
        *left -= 1;
        self.done += 1;
        let (tokens_in, tokens_out, cost_usd) = file.usage();
        self.any_token |= tokens_in.unwrap_or(0) + tokens_out.unwrap_or(0) > 0;
        self.count(&judgement);
        if judgement.reason == Some(reason::UNCONFIRMED)
            && let Some((_, claim)) = provider_claim(file)
        {
            // The agent chose the name: on the hold-out it could carry more than a name.
            let claim = if self.discreet { known_claim(claim).unwrap_or("an exception of its own") } else { claim };
            *self.claims.entry(self.clean(claim)).or_default() += 1;
        }
        let mut result = TrialResult {
            task: id.to_owned(),
            trial,
            outcome: judgement.outcome,
            reward: judgement.reward,
            usage: Usage { seconds: file.seconds(), tokens_in, tokens_out, cost_usd },
            error: self.error(&judgement),
            trace: None,
            detail: None,
        };
        if !self.held_out {
            let keep = Keep { redactor: &self.runner.redactor, directory: &finished.directory };
            result.trace = keep.trace();
            result.detail = keep.detail(file, &judgement);
        }
        self.sink.send(RunEvent::Finished(Box::new(result))).await.map_err(drop)
    }

    fn expected(&self, file: &TrialFile) -> Option<&'a ListedTask> {
        let known = file.task_names().find_map(|name| self.listing.find(name))?;
        self.missing.contains_key(known.id.as_str()).then_some(known)
    }

    fn count(&mut self, judgement: &Judgement) {
        if judgement.outcome.is_no_evidence() {
            self.without_evidence += 1;
        }
        if let Some(reason) = judgement.reason {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    /// One line for the ledger and the trace; without the exception's own words on hold-out runs.
    fn error(&self, judgement: &Judgement) -> Option<String> {
        let note = judgement.note.as_deref().filter(|_| !self.held_out).map(|note| self.clean(note));
        match (judgement.reason, note) {
            (Some(reason), Some(note)) => Some(format!("{reason} ({note})")),
            (reason, note) => reason.map(str::to_owned).or(note),
        }
    }

    /// Harbor's last line.
    pub(super) fn last_words(&self, log: &str) -> Option<String> {
        self.quotable(log::last_words(log)?)
    }

    /// A line, free of secrets, unless it names a task that may not be named.
    pub(super) fn quotable(&self, line: &str) -> Option<String> {
        let names = |task: &ListedTask| line.contains(task.id.rsplit('/').next().unwrap_or_default());
        if self.discreet && self.tasks.iter().any(|task| names(task)) {
            return None;
        }
        Some(self.clean(line))
    }

    pub(super) fn clean(&self, text: &str) -> String {
        line::one_line(&self.runner.redactor.redact(text))
    }
}

/// Exit statuses with which Harbor itself ends: done, failed, wrong usage, interrupted.
pub(super) fn is_harbors_own(exit: Exit) -> bool {
    matches!(exit.code, 0 | 1 | 2 | 130)
}

/// Killed from outside, as by the kernel when memory is short; not an exit status that a program chose.
pub(super) fn is_signal(exit: Exit) -> bool {
    (129..=159).contains(&exit.code)
}

async fn past<T>(deadline: Option<(Instant, T)>) -> T {
    match deadline {
        Some((at, value)) => {
            sleep_until(at).await;
            value
        }
        None => std::future::pending().await,
    }
}

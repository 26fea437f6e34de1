//! `loop`: drives a coding agent, iteration after iteration. It holds no lock while a coding agent works or the gate runs: it
//! starts the gate, the benchmark and `record` as children, which are this very program with their own locks, exit codes and
//! ways to resume after a kill.

mod check;
mod children;
mod context;
mod desk;
mod ending;
mod iteration;
mod judging;
mod plan;
mod propose;
mod race;
mod resample;
mod screen;

use chrono::Utc;
use serde_json::json;

use self::context::{Loop, not_begun, taken};
use super::experiment::Experiment;
use super::missing::not_prepared;
use super::session::{Reading, command_line};
use crate::cli::{Global, LoopArgs, LoopArm};
use crate::config::{CodingAgent, Config};
use crate::drive::budget::{Budget, Reason};
use crate::drive::drivers::{BUILT_IN, Driver};
use crate::drive::state::{LoopState, Night, Stage};
use crate::drive::worktree;
use crate::error::{Code, EXIT_OK, Error, Result};
use crate::process::Supervisor;
use crate::process::signals::Cancel;
use crate::store::lock::Lock;
use crate::store::state::timestamp;
use crate::store::summary::Summary;
use crate::ui::Ui;

/// Runs the command.
/// Errors: usage when the experiment is not ready or the work tree not clean; infrastructure after three failures in a row;
/// `Interrupted`.
pub(super) async fn run(args: &LoopArgs, global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let config = experiment.config()?;
    let driver = driver(&args.with, &config)?;
    let summary = experiment.read_summary()?;
    if summary.prepared.is_none() {
        return Err(not_prepared());
    }
    let budget = Budget {
        iterations: args.iterations,
        hours: args.hours,
        usd: args.budget_usd,
        tokens: args.budget_tokens,
        trials: args.budget_trials,
        // Patience makes sense only for a search.
        patience: if args.arm == LoopArm::Search { args.patience } else { u32::MAX },
        target: args.target,
    };
    if args.arm == LoopArm::Resample {
        resample::refuse_options(args)?;
        resample::require_end(&budget, &summary)?;
    }
    if args.dry_run {
        return match args.arm {
            LoopArm::Search => plan::print(ui, &config, &summary, &driver, &budget, desk::allowance(args, &summary)),
            LoopArm::Resample => resample::plan(ui, &config, &summary, &budget),
        };
    }
    if args.arm == LoopArm::Search && budget.usd.is_some() && !driver.reports_dollars() && config.loop_prices.is_none()
    {
        return Err(Error::usage(format!("{} reports no dollars, so --budget-usd cannot be kept", driver.name()))
            .code(Code::ConfigInvalid)
            .hint("set `loop_prices` in experiment_config.yaml, or use --hours and --iterations."));
    }
    if args.arm == LoopArm::Search {
        let (_, unpriced) = summary.spent.dollars();
        if budget.usd.is_some() && unpriced > 0 && config.trial_prices.is_none() {
            let what =
                format!("{unpriced} trials so far reported tokens and no dollars, so --budget-usd cannot be kept");
            return Err(Error::usage(what)
                .code(Code::ConfigInvalid)
                .hint("set `trial_prices` in experiment_config.yaml, or use --budget-tokens or --budget-trials."));
        }
        warn_of_keys(&config, ui);
    }
    let Experiment { paths, environment, .. } = experiment;
    paths.create_state()?;
    let _alone = Lock::take(&paths.loop_lock(), &command_line(), timestamp(Utc::now()))?;
    let (after_step, now) = Cancel::in_two_steps()?;
    let supervisor = Supervisor::new(paths.loop_processes())?;
    for ended in supervisor.end_leftovers()? {
        ui.warn(format!("ended a process that an interrupted loop left running: {ended}"));
    }
    let place = worktree::place(&paths.root, environment.process("XDG_CACHE_HOME"), environment.process("HOME"))?;
    let state = LoopState::load(&paths.loop_state())?;
    let global = Global { directory: Some(paths.root.clone()), ..global.clone() };
    let ui = &ui.with_screen();
    let mut this = Loop {
        args,
        global,
        ui,
        paths,
        config,
        environment,
        driver,
        budget,
        supervisor,
        after_step,
        now,
        state,
        place,
    };
    this.begin_night(&summary).inspect_err(|_| ui.close_screen())?;
    let ended = match args.arm {
        LoopArm::Search => this.iterate().await,
        LoopArm::Resample => this.resample().await,
    };
    if let Err(error) = this.sweep().and_then(|()| worktree::remove(&this.paths.loop_packs())) {
        ui.warn(format!("a work tree is left over: {error}"));
    }
    match (ended, args.arm) {
        (Ok(reason), LoopArm::Search) => this.end(&reason).await,
        (Ok(reason), LoopArm::Resample) => this.end_resampling(&reason).await,
        (Err(error), _) => Err(this.broken_off(error).await),
    }
}

/// The coding agent with this name.
fn driver(name: &str, config: &Config) -> Result<Driver> {
    Driver::find(name, |name| CodingAgent::find(&config.coding_agents, name)).ok_or_else(|| {
        let own = config.coding_agents.keys().map(String::as_str);
        let known: Vec<&str> = BUILT_IN.into_iter().chain(own).collect();
        Error::usage(format!("there is no coding agent `{name}`"))
            .hint(format!("known are {}; `coding_agents` in experiment_config.yaml names your own.", known.join(", ")))
    })
}

fn warn_of_keys(config: &Config, ui: &Ui) {
    let shared: Vec<&str> =
        config.loop_env.iter().filter(|name| config.pass_env.contains(name)).map(String::as_str).collect();
    if !shared.is_empty() {
        ui.warn(format!(
            "the coding agent gets keys that the benchmark uses, too: {}; a key of its own has limits of its own",
            shared.join(", ")
        ));
    }
}

impl Loop<'_> {
    /// Resumes a loop that was killed, or begins one; removes what killed ones left.
    fn begin_night(&mut self, summary: &Summary) -> Result<()> {
        self.sweep()?;
        if let Some(current) = self.state.current.as_ref().filter(|_| self.args.arm == LoopArm::Search) {
            self.ui.status(format!("going on with iteration {}", current.iteration));
            // Before a session is paid for.
            self.open(Reading::Summary)?;
        }
        if self.night().is_err() {
            if self.args.arm == LoopArm::Resample {
                self.state.runs_before = resample::runs(summary);
            }
            *self.night_mut() = Some(Night {
                began: Utc::now(),
                before: taken(summary),
                done: 0,
                accepted: 0,
                without: 0,
                failures: 0,
            });
        }
        self.save()
    }

    /// Runs iteration after iteration until an end is reached.
    async fn iterate(&mut self) -> Result<Reason> {
        loop {
            self.after_step.check()?;
            let Some(current) = &self.state.current else {
                let best = self.best()?;
                if let Some(reason) = self.budget.before_iteration(self.night()?, best) {
                    return Ok(reason);
                }
                match self.begin().await? {
                    Some(reason) => return Ok(reason),
                    None => continue,
                }
            };
            let stop = match current.stage {
                Stage::Proposing => match self.budget.at_target(self.best()?) {
                    Some(reason) => Some(reason),
                    None => self.propose().await?,
                },
                Stage::Proposed => self.check().await.map(|()| None)?,
                Stage::Racing => self.race().await?,
                Stage::Gating => self.gate().await?,
                Stage::Passed => self.commit().await.map(|()| None)?,
                Stage::Committed => self.record().await.map(|()| None)?,
                Stage::Ended => self.conclude().await.map(|()| None)?,
            };
            if let Some(reason) = stop {
                return Ok(reason);
            }
        }
    }

    /// The loop has ended as it was asked to. An iteration that a budget has cut short stays for the next one.
    async fn end(&mut self, reason: &Reason) -> Result<i32> {
        self.ui.close_screen();
        let night = self.state.night.take();
        self.save()?;
        let night = night.ok_or_else(not_begun)?;
        let best = self.best()?;
        let score = best.map_or_else(|| "-".into(), |best| format!("{best:.4}"));
        self.ui.line(format!(
            "loop: {}; iterations={} accepted={} best={score}",
            reason.sentence(),
            night.done,
            night.accepted
        ));
        let said = json!({"type": "loop", "end": reason.word(), "iterations": night.done, "accepted": night.accepted,
            "best": best, "unfinished": self.state.current.as_ref().map(|current| current.iteration)});
        self.ui.json(&said);
        if let Some(current) = &self.state.current {
            self.ui.hint(format!(
                "iteration {} is unfinished: the next `autoharness loop` goes on with it.",
                current.iteration
            ));
        }
        self.hook(self.args.on_complete.as_deref(), "complete", &said).await;
        Ok(EXIT_OK)
    }

    /// The loop was interrupted: if killed by hand it resumes as the same loop, otherwise the next one begins anew.
    async fn broken_off(&mut self, error: Error) -> Error {
        self.ui.close_screen();
        if error.is_interruption() {
            return error.hint(format!("run `{}` again: it goes on where it stopped.", command_line()));
        }
        let night = self.night_mut().take();
        let (done, accepted) = night.map_or((0, 0), |night| (night.done, night.accepted));
        let error = self.save().err().unwrap_or(error);
        let said = json!({"type": "loop", "end": "failed", "iterations": done, "accepted": accepted,
            "exit_code": error.exit_code(), "message": error.to_string()});
        self.hook(self.args.on_complete.as_deref(), "complete", &said).await;
        error
    }
}

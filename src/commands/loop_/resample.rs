//! The other arm: spends the trials that a search takes on running the agent that it began with again and again. The best of
//! these runs shows what luck alone can achieve with the same trials; a search that is worth its money does better.
//!
//! These trials have a protocol of their own. No gate, record or view finds them: the agent has not changed, so nothing got
//! better.

use serde_json::{Value, json};

use super::context::Loop;
use super::iteration::{base_of, is_infrastructure};
use super::plan::{cost, ends, gate_tasks, look_trials, seconds};
use crate::cli::LoopArgs;
use crate::commands::confirm::{first_agent, require_import, went_well};
use crate::commands::evaluate::{evaluate, no_evidence};
use crate::commands::measure;
use crate::commands::session::{Reading, Session};
use crate::commands::step::{Measurement, Step, StepReport};
use crate::config::Config;
use crate::drive::budget::{Budget, Reason};
use crate::error::{EXIT_OK, Error, Result};
use crate::model::trial::Split;
use crate::model::usage::in_dollars;
use crate::report::resampling::Resampling;
use crate::store::claims;
use crate::store::event::{Committed, Event, Purpose, Resampled};
use crate::store::summary::Summary;
use crate::ui::{Ui, duration};

/// Refuses what means nothing without a coding agent.
/// Errors: usage, naming the option.
pub(super) fn refuse_options(args: &LoopArgs) -> Result<()> {
    let given = [
        ("--candidates", args.candidates > 1),
        ("--session-trials", args.session_trials.is_some()),
        ("--model", args.model.is_some()),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => {
            Err(Error::usage(format!("`--arm resample` asks no coding agent, so {option} means nothing"))
                .hint(format!("leave {option} out.")))
        }
        None => Ok(()),
    }
}

/// Refuses to begin what would never end: without an option that ends it, the arm takes as many trials as the search
/// took. Errors: usage if there is neither.
pub(super) fn require_end(budget: &Budget, summary: &Summary) -> Result<()> {
    let counts = budget.iterations.is_some() || budget.hours.is_some() || budget.trials.is_some();
    let spent = &summary.spent;
    let silent = [
        (budget.usd.is_some() && spent.cost_usd <= 0.0, "dollars", "--budget-usd"),
        (budget.tokens.is_some() && spent.tokens == 0, "tokens", "--budget-tokens"),
    ];
    if let Some((_, what, option)) = silent.into_iter().find(|(is_silent, ..)| *is_silent && !counts) {
        return Err(Error::usage(format!("no trial so far has reported {what}, so {option} would never end this"))
            .hint("say how much it may take by --iterations, --hours or --budget-trials."));
    }
    if budget.is_limited() || summary.searched.trials > 0 {
        return Ok(());
    }
    Err(Error::usage("no search has run a trial here, so there is nothing that resampling could match")
        .hint("say how much it may take: --iterations, --hours or one of the budgets; or run the search first."))
}

/// Prints plan and estimate, and begins nothing.
pub(super) fn plan(ui: &Ui, config: &Config, summary: &Summary, budget: &Budget) -> Result<i32> {
    let trials = look_trials(summary);
    let (time, price) = (seconds(config, summary, trials), cost(summary, trials).usd);
    let dollars = if price > 0.0 { format!("about {}", in_dollars(price)) } else { "dollars unknown".into() };
    let matched = (!budget.is_limited()).then(|| format!("{} trials, as the search", summary.searched.trials));
    let ends: Vec<String> = ends(budget, None).into_iter().chain(matched).collect();
    ui.line("agent       the one that the experiment began with, unchanged; no coding agent is asked");
    ui.line(format!("ends after  {}", ends.join(", or ")));
    ui.line(format!("run         {trials} trials, about {}, {dollars}", duration(time)));
    ui.json(&json!({
        "type": "plan", "arm": "resample", "iterations": budget.iterations, "hours": budget.hours,
        "budget_usd": budget.usd, "budget_trials": budget.trials, "budget_tokens": budget.tokens, "target": budget.target,
        "search_trials": summary.searched.trials, "resampled_trials": summary.resampled.trials, "run_trials": trials,
        "run_seconds": time, "run_usd": (price > 0.0).then_some(price),
    }));
    Ok(EXIT_OK)
}

impl Loop<'_> {
    /// Runs again and again until an end is reached.
    pub(super) async fn resample(&mut self) -> Result<Reason> {
        loop {
            self.after_step.check()?;
            self.count_done()?;
            if let Some(reason) = self.enough()? {
                return Ok(reason);
            }
            let resampled = match self.watched(self.run_again()).await {
                Err(error) if is_infrastructure(&error) => {
                    self.failed(&error.to_string())?;
                    continue;
                }
                ended => ended?,
            };
            self.went_well();
            self.count_done()?;
            self.tell(&resampled).await?;
        }
    }

    /// How many runs this loop has had, by the ledger: a run counts even if the loop was killed before it could note it.
    fn count_done(&mut self) -> Result<()> {
        let done = runs(&self.summary()?).saturating_sub(self.state.runs_before);
        if let Some(night) = self.night_mut() {
            night.done = done;
        }
        self.save()
    }

    /// Why no further run may begin.
    fn enough(&self) -> Result<Option<Reason>> {
        let summary = self.summary()?;
        let best = Resampling::of(&summary).map(|known| known.best);
        if let Some(reason) = self.budget.before_iteration(self.night()?, best) {
            return Ok(Some(reason));
        }
        let next = look_trials(&summary);
        if let Some(reason) = self.over(|summary| cost(summary, next))? {
            return Ok(Some(reason));
        }
        let (taken, search) = (summary.resampled.trials, summary.searched.trials);
        let is_matched = !self.budget.is_limited() && taken.saturating_add(next) > search;
        Ok(is_matched.then_some(Reason::Matched(taken, search, next)))
    }

    /// Measures the unchanged agent as a gate measures an edit. Trials that a killed loop already ran are not run again.
    async fn run_again(&self) -> Result<Resampled> {
        let mut session = self.open(Reading::Trials)?;
        measure::require_version(&session)?;
        let prepared = session.prepared()?.clone();
        let base = base_of(&session)?;
        let (agent, commit) = first_agent(&session, &base)?;
        session.require_surroundings()?;
        let mut resampled = Resampled {
            run: session.state.summary.claims.next_run(&agent.fingerprint, &prepared.protocol),
            agent: Committed { agent: agent.fingerprint.clone(), commit },
            trial_protocol: prepared.trial_protocol.clone(),
            protocol: prepared.protocol.clone(),
            val_score: 0.0,
            evals_passed: 0,
            evals_total: 0,
        };
        self.ui.status(format!("run {} of the unchanged agent", resampled.run));
        let runner = measure::runner(&session, &base, &self.now).await?;
        let ran = async {
            let data = measure::data_digests(&session)?;
            let protocol = measure::trial_protocol(&session, runner.as_ref(), &base, &data)?;
            measure::require_same_conditions(&prepared, &protocol, &data)?;
            require_import(&session, "first", &agent, runner.as_ref(), &self.now).await?;
            let measurement = Measurement {
                runner: runner.as_ref(),
                agent: &agent,
                trial_protocol: &claims::resampled(&prepared.trial_protocol, &prepared.protocol),
                data: &data,
                concurrency: session.config.max_concurrency,
                fresh: false,
                cancel: &self.now,
            };
            let steps = steps(&session.state.summary, prepared.gate_split(), resampled.run);
            let reports = evaluate(&mut session, &measurement, &steps).await?;
            reports.iter().try_for_each(went_well)
        }
        .await;
        runner.close().await;
        ran?;
        self.count(&mut session, &mut resampled)?;
        Ok(resampled)
    }

    /// Writes down what the run earned.
    fn count(&self, session: &mut Session, resampled: &mut Resampled) -> Result<()> {
        let prepared = session.prepared()?;
        let tasks = prepared.split.tasks(prepared.gate_split());
        let scoring = session.state.summary.scoring();
        let score = claims::run_rewards(&session.state.trials, resampled, tasks, scoring).score();
        let Some(val_score) = score.mean.filter(|_| score.is_enough(session.config.min_evidence)) else {
            session.finish()?;
            return Err(no_evidence(&StepReport::default(), score.evaluated, score.expected));
        };
        resampled.val_score = val_score;
        (resampled.evals_passed, resampled.evals_total) = (score.passed, score.evaluated);
        session.append(Event::Resampled(Box::new(resampled.clone())))?;
        session.finish()
    }

    async fn tell(&self, resampled: &Resampled) -> Result<()> {
        let Resampled { run, val_score, evals_passed, evals_total, .. } = resampled;
        let best = Resampling::of(&self.summary()?).map_or(*val_score, |known| known.best);
        self.ui.verdict(format!("run {run}: the unchanged agent, val_score={val_score:.4}; best of {run}: {best:.4}"));
        let said = json!({"type": "resampled", "run": run, "val_score": val_score, "evals_passed": evals_passed,
            "evals_total": evals_total, "best": best});
        self.ui.json(&said);
        self.hook(self.args.on_iteration.as_deref(), "iteration", &said).await;
        Ok(())
    }

    /// The loop has ended as it was asked to.
    pub(super) async fn end_resampling(&mut self, reason: &Reason) -> Result<i32> {
        let done = self.night()?.done;
        self.ui.close_screen();
        self.state.resampling = None;
        self.save()?;
        let found = Resampling::of(&self.summary()?);
        if let Some(found) = &found {
            self.ui.line(found.sentence());
        }
        self.ui.line(format!("loop: {}; runs={done}", reason.sentence()));
        let said = json!({"type": "loop", "arm": "resample", "end": reason.word(), "iterations": done,
            "resampling": found.map_or(Value::Null, |found| found.as_json())});
        self.ui.json(&said);
        self.hook(self.args.on_complete.as_deref(), "complete", &said).await;
        Ok(EXIT_OK)
    }
}

/// The runs so far under the present protocol.
pub(super) fn runs(summary: &Summary) -> u32 {
    Resampling::of(summary).map_or(0, |known| known.runs)
}

/// What a gate would run for an edit, under this run's own numbers.
fn steps(summary: &Summary, gate_split: Split, run: u32) -> Vec<Step> {
    let (train, holdout) = gate_tasks(summary);
    let numbers = claims::run_numbers(run, summary.scoring().trials);
    let step =
        |(split, tasks)| Step { purpose: Purpose::Resample, split: Some(split), tasks, numbers: numbers.clone() };
    let parts = [(Split::Train, train), (gate_split, holdout)];
    parts.into_iter().filter(|(_, tasks)| !tasks.is_empty()).map(step).collect()
}

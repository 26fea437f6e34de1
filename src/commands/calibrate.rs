//! `calibrate` runs the recorded agent again and again, unchanged, and says how noisy its score is and what that means for the gate.

use std::collections::BTreeMap;

use serde_json::json;

use super::agent::{self, StagedAgent};
use super::confirm::{require_import, went_well};
use super::evaluate::{evaluate, no_evidence};
use super::experiment::Experiment;
use super::measure;
use super::session::Session;
use super::step::{Measurement, Step, StepReport};
use crate::benchmarks::runner::BenchmarkRunner;
use crate::cli::{Calibrate, Global};
use crate::config::Config;
use crate::error::{EXIT_OK, Result};
use crate::model::paired::mantel::points;
use crate::model::simulate::{Configured, Forecast, Odds, forecast};
use crate::model::split::TaskSplit;
use crate::model::trial::{Split, show};
use crate::process::signals::Cancel;
use crate::store::claims;
use crate::store::event::{Calibrated, Committed, Event, Purpose};
use crate::ui::Ui;

/// Flaky train tasks named before the rest is only counted.
const SHOWN: usize = 20;

/// Errors: usage when the experiment is not prepared; infrastructure when too few trials gave evidence.
pub(super) async fn run(args: &Calibrate, global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let (mut session, prepared, cancel) = measure::open(experiment)?;
    let commit = session.state.summary.base.clone().unwrap_or_else(|| prepared.base.clone());
    let base = session.repo.base_tree(&commit)?;
    let agent = agent::from_tree(&session, &base)?;
    session.require_surroundings()?;
    let runner = measure::runner(&session, &base, &cancel).await?;
    let data = measure::data_digests(&session)?;
    let trial_protocol = measure::trial_protocol(&session, runner.as_ref(), &base, &data)?;
    let ran = async {
        measure::require_same_conditions(&prepared, &trial_protocol, &data)?;
        require_import(&session, "recorded", &agent, runner.as_ref(), &cancel).await?;
        let sweeps = Sweeps {
            args,
            runner: runner.as_ref(),
            cancel: &cancel,
            protocol: claims::again(&trial_protocol),
            data: &data,
        };
        sweeps.run(&mut session, &agent, &prepared.split).await
    }
    .await;
    runner.close().await;
    ran?;
    let (config, policy) = (&session.config, session.config.timeout_policy);
    let measured = claims::repeated(
        &session.state.trials,
        &agent.fingerprint,
        &trial_protocol,
        &prepared.split,
        policy,
        config.min_evidence,
    );
    let Some(noise) = measured.noise(config.gate_split, config.trials) else {
        session.finish()?;
        let (train, test) = (measured.evaluated(Split::Train), measured.evaluated(Split::Test));
        return Err(no_evidence(&StepReport::default(), train.0 + test.0, train.1 + test.1));
    };
    let rates = measured.rates();
    ui.status("simulating the gate with these rates");
    let calibrated = Calibrated {
        agent: Committed { agent: agent.fingerprint, commit },
        trial_protocol,
        trials: args.trials,
        measured,
        noise,
        shrunk: rates.shrunk,
        forecast: forecast(&rates.agent, &configured(config)),
    };
    session.append(Event::Calibrated(Box::new(calibrated.clone())))?;
    session.finish()?;
    print(&session, &calibrated);
    Ok(EXIT_OK)
}

/// The gate as the simulation plays it.
fn configured(config: &Config) -> Configured {
    Configured {
        rule: config.gate_rule,
        trials: config.trials,
        max_rounds: config.max_rounds,
        confirm_trials: config.confirm_trials,
        alpha: config.alpha,
        threshold: config.threshold,
        min_evidence: config.min_evidence,
    }
}

struct Sweeps<'a> {
    args: &'a Calibrate,
    runner: &'a dyn BenchmarkRunner,
    cancel: &'a Cancel,
    protocol: String,
    data: &'a BTreeMap<String, String>,
}

impl Sweeps<'_> {
    /// Every task once, then every task once more, because differences from hour to hour are noise as well.
    async fn run(&self, session: &mut Session, agent: &StagedAgent, split: &TaskSplit) -> Result<()> {
        for trial in 0..self.args.trials {
            let step = |part: Split| Step {
                purpose: Purpose::Calibrate,
                split: Some(part),
                tasks: split.tasks(part).to_vec(),
                numbers: claims::numbers(trial..trial + 1),
            };
            let steps: Vec<Step> =
                [Split::Train, Split::Test].map(step).into_iter().filter(|step| !step.tasks.is_empty()).collect();
            let measurement = Measurement {
                runner: self.runner,
                agent,
                trial_protocol: &self.protocol,
                data: self.data,
                concurrency: self.args.in_flight.or(session.config.max_concurrency),
                fresh: self.args.fresh,
                cancel: self.cancel,
            };
            let reports = evaluate(session, &measurement, &steps).await?;
            reports.iter().try_for_each(went_well)?;
        }
        Ok(())
    }
}

fn print(session: &Session, calibrated: &Calibrated) {
    let Calibrated { agent, trials, measured, noise, shrunk, forecast, .. } = calibrated;
    let ui = &session.ui;
    let short = session.repo.short_id(&agent.commit).unwrap_or_else(|_| agent.commit.clone());
    ui.line(format!("agent      {short}, each task run {trials} times, for nothing else"));
    ui.line(format!(
        "noise      val_score {:.4}; one measurement of it strays by {:.1} points (standard deviation), 9 of 10 by at most {:.1}",
        noise.val_score,
        100.0 * noise.sd,
        100.0 * noise.band
    ));
    let flaky = measured.flaky(Split::Train);
    ui.line(format!(
        "flaky      {} of {} train tasks and {} of {} hold-out tasks did not earn the same each time",
        noise.train.0, noise.train.1, noise.test.0, noise.test.1
    ));
    for task in flaky.iter().take(SHOWN) {
        ui.line(format!("           {}", show(task)));
    }
    if flaky.len() > SHOWN {
        ui.line(format!("           and {} more train tasks", flaky.len() - SHOWN));
    }
    let tries = forecast.runs;
    ui.line(format!(
        "simulated  {tries} times each, with the measured rates drawn to their mean by {:.0} %: what passed {trials} of \
         {trials} times is not surely solved",
        100.0 * shrunk
    ));
    ui.line("");
    ui.line("                                          accepted, of edits worth     after 20 no-ops");
    ui.line("gate                                      nothing  +5      +10         recorded too high  trials a gate");
    for (at, odds) in forecast.odds.iter().enumerate() {
        ui.line(row(odds, at == 0));
    }
    ui.line("");
    ui.line(advice(forecast));
    let now = forecast.odds[0];
    ui.line(format!(
        "calibrate: sd={:.4} band={:.4} noop={:.2} plus5={:.2} plus10={:.2} inflation={:+.4}",
        noise.sd, noise.band, now.noop, now.plus5, now.plus10, now.inflation
    ));
    ui.json(&json!({
        "type": "calibrated",
        "agent_commit": agent.commit,
        "trials": trials,
        "val_score": noise.val_score,
        "sd": noise.sd,
        "band": noise.band,
        "flaky_train": flaky,
        "flaky_train_share": share(noise.train),
        "flaky_test_share": share(noise.test),
        "shrunk": shrunk,
        "runs": forecast.runs,
        "odds": forecast.odds.iter().map(odds_json).collect::<Vec<_>>(),
        "advice": forecast.advice().map(odds_json),
    }));
}

fn share((some, of): (usize, usize)) -> f64 {
    some as f64 / of.max(1) as f64
}

fn row(odds: &Odds, is_configured: bool) -> String {
    let name = odds.of.name() + if is_configured { " (now)" } else { "" };
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    format!(
        "{name:<40}  {:<7}  {:<6}  {:<10}  {:<17}  {:.0}",
        percent(odds.noop),
        percent(odds.plus5),
        percent(odds.plus10),
        points(odds.inflation),
        odds.cost
    )
}

/// What would do better, in words.
fn advice(forecast: &Forecast) -> String {
    let now = &forecast.odds[0];
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let Some(better) = forecast.advice() else {
        let seldom = "; it misses an edit worth 10 points more often than not: only more tasks help, or larger effects";
        return format!("advice     no other row does clearly better{}", if now.plus10 < 0.5 { seldom } else { "" });
    };
    format!(
        "advice     `{}`: accepts {} of the edits that change nothing (now {}) and {} of those worth 10 points (now {})",
        better.of.name(),
        percent(better.noop),
        percent(now.noop),
        percent(better.plus10),
        percent(now.plus10)
    )
}

fn odds_json(odds: &Odds) -> serde_json::Value {
    json!({
        "gate_rule": odds.of.rule,
        "trials": odds.of.trials,
        "max_rounds": odds.of.max_rounds,
        "noop": odds.noop,
        "plus5": odds.plus5,
        "plus10": odds.plus10,
        "inflation": odds.inflation,
        "cost": odds.cost,
    })
}

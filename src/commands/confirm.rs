//! `confirm` runs baseline and best afresh, in turns, on the hold-out, and says what may be claimed about them.

use std::collections::BTreeMap;

use serde_json::json;

use super::agent::{self, StagedAgent};
use super::evaluate::{evaluate, no_evidence};
use super::experiment::Experiment;
use super::measure;
use super::session::Session;
use super::step::{Measurement, Step, StepReport};
use crate::benchmarks::runner::BenchmarkRunner;
use crate::cli::{Confirm, Global};
use crate::error::{Code, EXIT_OK, Error, Result};
use crate::guard::BaseTree;
use crate::model::claim::{Measured, p_words};
use crate::model::paired::mantel::points;
use crate::model::trial::Split;
use crate::process::signals::Cancel;
use crate::report::resampling::Resampling;
use crate::store::claims;
use crate::store::event::{Committed, Confirmed, Event, Prepared, Purpose};
use crate::ui::Ui;

/// Errors: usage when there are no two agents to compare; infrastructure when too few trials gave evidence.
pub(super) async fn run(args: &Confirm, global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let (mut session, prepared, cancel) = measure::open(experiment)?;
    let commit = session.state.summary.base.clone().unwrap_or_else(|| prepared.base.clone());
    let base = session.repo.base_tree(&commit)?;
    let best = agent::from_tree(&session, &base)?;
    let (baseline, baseline_commit) = baseline(&session, args, &base)?;
    if baseline.fingerprint == best.fingerprint {
        return Err(nothing_to_compare(args));
    }
    session.require_surroundings()?;
    let runner = measure::runner(&session, &base, &cancel).await?;
    let data = measure::data_digests(&session)?;
    let trial_protocol = measure::trial_protocol(&session, runner.as_ref(), &base, &data)?;
    let tasks = tasks(args, &prepared)?;
    if args.sealed {
        let nth = session.state.summary.claims.openings + 1;
        session.ui.warn(format!(
            "this opens the sealed split (opening {nth}): it is written to the ledger, and what is decided by what it says is \
             no longer sealed"
        ));
    }
    let turns = Turns {
        args,
        runner: runner.as_ref(),
        cancel: &cancel,
        trial_protocol: &trial_protocol,
        data: &data,
        tasks: &tasks,
    };
    let ran = async {
        measure::require_same_conditions(&prepared, &trial_protocol, &data)?;
        turns.check(&session, &baseline, &best).await?;
        turns.run(&mut session, &baseline, &best).await
    }
    .await;
    runner.close().await;
    ran?;
    let policy = session.config.timeout_policy;
    let known = &session.state.trials;
    let measured = Measured {
        min_evidence: session.config.min_evidence,
        tasks: claims::arms(known, &baseline.fingerprint, &best.fingerprint, &trial_protocol, &tasks, policy),
    };
    let Some(claim) = measured.claim() else {
        session.finish()?;
        return Err(no_evidence(&StepReport::default(), measured.evaluated(), measured.tasks.len()));
    };
    let mut confirmed = Confirmed {
        baseline: Committed { agent: baseline.fingerprint, commit: baseline_commit },
        against: args.against.clone(),
        best: Committed { agent: best.fingerprint, commit },
        trial_protocol,
        sealed: args.sealed,
        trials: args.trials,
        look: 1,
        measured,
        claim,
    };
    confirmed.look = session.state.summary.claims.look(&confirmed);
    session.append(Event::Confirmed(Box::new(confirmed.clone())))?;
    session.finish()?;
    print(&session, &confirmed);
    Ok(EXIT_OK)
}

/// The tasks to measure on.
fn tasks(args: &Confirm, prepared: &Prepared) -> Result<Vec<String>> {
    let tasks = claims::tasks(&prepared.split, args.sealed);
    if !tasks.is_empty() {
        return Ok(tasks.clone());
    }
    Err(match args.sealed {
        true => Error::usage("no split is sealed in this experiment").hint(
            "`sealed: 0.2` in the configuration sets one aside when an experiment is prepared for the first time.",
        ),
        false => Error::usage("the split has no hold-out task to measure on").code(Code::SplitInvalid),
    })
}

/// The agent to compare with, among the files of the base commit, and the commit that has it.
fn baseline(session: &Session, args: &Confirm, base: &BaseTree) -> Result<(StagedAgent, String)> {
    if let Some(reference) = &args.against {
        let commit = session.repo.resolve(reference)?;
        let tree = session.repo.tree(&commit)?;
        return Ok((agent::among(session, base, &tree)?, commit));
    }
    first_agent(session, base)
}

/// The agent that the experiment began with, among the files of the base commit, and the commit that has it.
pub(super) fn first_agent(session: &Session, base: &BaseTree) -> Result<(StagedAgent, String)> {
    let summary = &session.state.summary;
    let commit = summary.claims.first_base.clone().unwrap_or_else(|| base.commit().to_string());
    if !session.repo.holds(&commit)? {
        let short: String = commit.chars().take(12).collect();
        return Err(Error::usage(format!(
            "the commit that this experiment began with, {short}, is not in this repository"
        ))
        .code(Code::BaseCommitMissing)
        .hint("run `git fetch`; for `confirm`, `--against REF` names another commit to compare with."));
    }
    let baseline = agent::among(session, base, &session.repo.tree(&commit)?)?;
    if summary.first_agent.as_ref().is_some_and(|first| *first != baseline.fingerprint) {
        session.ui.warn(
            "the baseline was measured on an agent that was not committed; compared is the one of the commit that the \
             experiment began with",
        );
    }
    Ok((baseline, commit))
}

fn nothing_to_compare(args: &Confirm) -> Error {
    match &args.against {
        Some(reference) => Error::usage(format!("`{reference}` has the best recorded agent itself: there is nothing to compare"))
            .hint("name a commit with another agent, or leave `--against` out."),
        None => Error::usage("nothing is recorded yet: the best agent is the baseline itself")
            .hint("record an edit first (`autoharness gate`, `autoharness record`), or name another agent with `--against REF`."),
    }
}

/// The measurement: both agents, one sweep over the tasks each, in turns.
struct Turns<'a> {
    args: &'a Confirm,
    runner: &'a dyn BenchmarkRunner,
    cancel: &'a Cancel,
    trial_protocol: &'a str,
    data: &'a BTreeMap<String, String>,
    tasks: &'a [String],
}

impl Turns<'_> {
    /// Neither agent is run before both can be imported.
    async fn check(&self, session: &Session, baseline: &StagedAgent, best: &StagedAgent) -> Result<()> {
        for (name, agent) in [("best recorded", best), ("baseline", baseline)] {
            require_import(session, name, agent, self.runner, self.cancel).await?;
        }
        Ok(())
    }

    /// Baseline first in one sweep, best first in the next: a service that gets slower or better hits both alike.
    async fn run(&self, session: &mut Session, baseline: &StagedAgent, best: &StagedAgent) -> Result<()> {
        for trial in 0..self.args.trials {
            let mut both = [(baseline, best), (best, baseline)];
            if trial % 2 == 1 {
                both.reverse();
            }
            for (agent, other) in both {
                let measurement = Measurement {
                    runner: self.runner,
                    agent,
                    trial_protocol: &claims::against(self.trial_protocol, &other.fingerprint),
                    data: self.data,
                    concurrency: self.args.in_flight.or(session.config.max_concurrency),
                    fresh: self.args.fresh,
                    cancel: self.cancel,
                };
                let step = Step {
                    purpose: Purpose::Claim,
                    split: Some(Split::Test),
                    tasks: self.tasks.to_vec(),
                    numbers: claims::numbers(trial..trial + 1),
                };
                let reports = evaluate(session, &measurement, &[step]).await?;
                reports.iter().try_for_each(went_well)?;
            }
        }
        Ok(())
    }
}

/// An agent that was accepted once can be imported, or something is wrong here.
pub(super) async fn require_import(
    session: &Session,
    name: &str,
    agent: &StagedAgent,
    runner: &dyn BenchmarkRunner,
    cancel: &Cancel,
) -> Result<()> {
    match agent::preflight(session, agent, runner, None, cancel).await? {
        None => Ok(()),
        Some(failure) => {
            Err(Error::infrastructure(format!("the {name} agent cannot be imported (anymore): {failure}"))
                .code(Code::UneditedAgentFails)
                .hint("fix the environment that the benchmark runs in (`autoharness doctor`); nothing was run."))
        }
    }
}

/// An interrupted sweep is not resumed: the other agent would run under other conditions.
pub(super) fn went_well(report: &StepReport) -> Result<()> {
    if report.failure.is_none() && !report.void && !report.untrusted {
        return Ok(());
    }
    let error = Error::infrastructure("the benchmark broke off; nothing is claimed").code(Code::NoEvidence);
    let error = match &report.failure {
        Some(failure) => error.because(anyhow::anyhow!("{failure}")),
        None => error.hint("no trial used a single model token: check the model's name, its key and the network."),
    };
    Err(error.hint(
        "fix the cause (`autoharness doctor`) and run the same command again: it goes on where this one stopped.",
    ))
}

fn print(session: &Session, confirmed: &Confirmed) {
    let Confirmed { baseline, against, best, sealed, trials, look, measured, claim, .. } = confirmed;
    let short = |commit: &str| session.repo.short_id(commit).unwrap_or_else(|_| commit.to_string());
    let ui = &session.ui;
    let name = against.as_deref().unwrap_or("the baseline");
    ui.line(format!("best       {:.4}  {}", claim.best, short(&best.commit)));
    ui.line(format!("{:<9}  {:.4}  {}", "baseline", claim.baseline, short(&baseline.commit)));
    let how = if claim.exact { "exact" } else { "normal approximation" };
    ui.line(format!("lift       {}, {}", points(claim.lift), claim.interval_words()));
    ui.line(format!(
        "chance     {} (one-sided, {how}): equally good agents would look like this that often",
        p_words(claim.p)
    ));
    ui.line(format!(
        "measured   {} of {} {} tasks, {} trials in all, run for nothing else; {} tasks show a difference",
        claim.tasks,
        measured.tasks.len(),
        if *sealed { "sealed" } else { "hold-out" },
        measured.trials(),
        claim.informative
    ));
    if *look > 1 {
        ui.line(format!(
            "looks      {look}: more trials were added after earlier looks, so chance had as many tries; p is of one"
        ));
    }
    ui.line(format!("claim      {}", claim.words(name)));
    let resampling = Resampling::of(&session.state.summary).filter(|_| against.is_none());
    if let Some(resampling) = resampling {
        ui.line(format!("luck       {}", resampling.sentence()));
    }
    let bound = |pick: fn((f64, f64)) -> f64| claim.interval.map_or_else(|| "-".into(), |i| format!("{:+.4}", pick(i)));
    ui.line(format!(
        "confirm: {} lift={:+.4} low={} high={} p={:.4} tasks={} trials={trials}",
        claim.finding.as_str(),
        claim.lift,
        bound(|interval| interval.0),
        bound(|interval| interval.1),
        claim.p,
        claim.tasks
    ));
    ui.json(&json!({
        "type": "confirmed",
        "finding": claim.finding,
        "claim": claim.words(name),
        "best": claim.best,
        "best_commit": best.commit,
        "baseline": claim.baseline,
        "baseline_commit": baseline.commit,
        "against": against,
        "lift": claim.lift,
        "interval": claim.interval,
        "p": claim.p,
        "exact": claim.exact,
        "tasks": claim.tasks,
        "expected": measured.tasks.len(),
        "informative": claim.informative,
        "sealed": sealed,
        "trials": trials,
        "look": look,
        "resampling": resampling.map(|resampling| resampling.as_json()),
    }));
}

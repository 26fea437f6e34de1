//! The gate's measurements by the rule `paired`: the suite, then round by round what the comparison asks for, then afresh
//! what was chosen. The comparison itself is `model::paired`; this module runs the trials that it asks for.

use std::collections::BTreeMap;
use std::ops::Range;

use super::agent::StagedAgent;
use super::evaluate::evaluate;
use super::session::Session;
use super::step::{Measurement, Step, StepReport};
use crate::benchmarks::runner::BenchmarkRunner;
use crate::error::Result;
use crate::model::gate::{Compared, Evidence, PairedPolicy, RULES, Status, decide, suite_status};
use crate::model::paired::{self, Answer, PairedVerdict, Pairs, Round, Rule};
use crate::model::score::{Rewards, passes};
use crate::model::split::TaskSplit;
use crate::model::suite::review;
use crate::model::trial::{Split, show};
use crate::process::signals::Cancel;
use crate::store::comparison::{
    AlreadyRun, Sides, WhatCounts, again_numbers, at_best, at_worst, confirm_numbers, confirmed, histories,
    promotion_numbers, round_numbers, so_far, suite_known,
};
use crate::store::event::{By, Event, Purpose, SuiteChanged};

/// A gate by this rule.
pub(super) struct PairedGate<'a> {
    pub runner: &'a dyn BenchmarkRunner,
    /// Fires on Ctrl-C and the like.
    pub cancel: &'a Cancel,
    /// Most trials in flight.
    pub concurrency: u32,
    pub policy: PairedPolicy,
    /// Fingerprint of what one trial depends on.
    pub trial_protocol: &'a str,
    /// Digests of the provisioned data before the run.
    pub data: &'a BTreeMap<String, String>,
    pub split: &'a TaskSplit,
    /// The agent that is judged.
    pub candidate: &'a StagedAgent,
    /// The agent to beat.
    pub incumbent: &'a StagedAgent,
}

impl PairedGate<'_> {
    /// Runs what the gate needs to know and writes it into the evidence. Returns how the runs went.
    pub(super) async fn measure(&self, session: &mut Session, evidence: &mut Evidence) -> Result<Vec<StepReport>> {
        let suite = self.reviewed_suite(session)?;
        evidence.quarantined = session.state.summary.quarantined_of(&suite);
        let reports = self.run_steps(session, evidence, &suite).await?;
        // Includes what was run of the incumbent meanwhile.
        evidence.suite_known = Some(suite_known(&session.state, &self.sides(session), &suite));
        Ok(reports)
    }

    /// The suite, without tasks that accepted agents do not pass reliably.
    fn reviewed_suite(&self, session: &mut Session) -> Result<Vec<String>> {
        let suite = self.in_train(session.state.summary.suite_for(&self.candidate.fingerprint));
        let of = WhatCounts { protocol: self.trial_protocol, timeouts: session.config.timeout_policy };
        let histories = histories(&session.state, &of, &suite);
        let quarantined = session.state.summary.quarantined_of(&suite);
        for (task, change, reason) in review(&histories, &quarantined, session.config.max_suite) {
            session.ui.status(format!("suite: {} {}: {reason}", change.as_str(), show(&task)));
            session.append(Event::SuiteChanged(SuiteChanged { change, tasks: vec![task], reason, by: By::Gate }))?;
        }
        Ok(self.in_train(session.state.summary.suite_for(&self.candidate.fingerprint)))
    }

    async fn run_steps(
        &self,
        session: &mut Session,
        evidence: &mut Evidence,
        suite: &[String],
    ) -> Result<Vec<StepReport>> {
        let mut reports = self.suite(session, evidence, suite).await?;
        if matches!(suite_status(evidence), Status::Failed | Status::Undecided) {
            return Ok(reports);
        }
        if self.is_same() {
            evidence.compared = Some(self.compared(session, &AlreadyRun::new()));
        } else {
            reports.extend(self.compare(session, evidence).await?);
        }
        if decide(evidence).status == Status::Passed {
            reports.extend(self.promotion(session, evidence).await?);
        }
        Ok(reports)
    }

    /// Whether there is no edit: an agent is not compared with itself.
    fn is_same(&self) -> bool {
        self.candidate.fingerprint == self.incumbent.fingerprint
    }

    fn in_train(&self, tasks: impl IntoIterator<Item = String>) -> Vec<String> {
        tasks.into_iter().filter(|task| self.split.of(task) == Some(Split::Train)).collect()
    }

    fn sides(&self, session: &Session) -> Sides<'_> {
        Sides {
            candidate: &self.candidate.fingerprint,
            incumbent: &self.incumbent.fingerprint,
            is_first: session.state.summary.is_first(&self.incumbent.fingerprint, RULES),
            protocol: self.trial_protocol,
            timeouts: session.config.timeout_policy,
            trials: session.config.trials,
            confirm_trials: self.policy.confirm_trials,
            max_rounds: self.policy.max_rounds,
            rules: RULES,
        }
    }

    fn compared(&self, session: &Session, tried: &AlreadyRun) -> Compared {
        let rule = Rule::new(self.policy.spent(), self.policy.max_rounds, session.config.min_evidence);
        let pairs = match self.is_same() {
            true => Pairs::new(),
            false => self.sides(session).pairs(&session.state.trials, self.split, tried),
        };
        Compared { incumbent: self.incumbent.fingerprint.clone(), rule, pairs }
    }

    /// Measures these tasks with one of the agents, each split as a step of its own.
    async fn run(
        &self,
        session: &mut Session,
        agent: &StagedAgent,
        protocol: &str,
        purpose: Purpose,
        tasks: &[String],
        numbers: Range<u32>,
    ) -> Result<Vec<StepReport>> {
        let step = |part: Split| Step {
            purpose,
            split: Some(part),
            tasks: tasks.iter().filter(|task| self.split.of(task) == Some(part)).cloned().collect(),
            numbers: numbers.clone(),
        };
        let steps: Vec<Step> =
            [Split::Train, Split::Test].map(step).into_iter().filter(|step| !step.tasks.is_empty()).collect();
        if steps.is_empty() || numbers.is_empty() {
            return Ok(Vec::new());
        }
        let measurement = Measurement {
            runner: self.runner,
            agent,
            trial_protocol: protocol,
            data: self.data,
            concurrency: self.concurrency,
            // A comparison is never repeated.
            fresh: false,
            cancel: self.cancel,
        };
        evaluate(session, &measurement, &steps).await
    }

    /// Runs the suite. A task that fails is run again before it counts as broken.
    async fn suite(&self, session: &mut Session, evidence: &mut Evidence, suite: &[String]) -> Result<Vec<StepReport>> {
        let (agent, protocol, numbers) = (self.candidate, self.trial_protocol, session.config.all_trials());
        let mut reports = self.run(session, agent, protocol, Purpose::Suite, suite, numbers).await?;
        let failing = tasks_that(&so_far(&session.state.trials, &self.sides(session), suite), |reward| !passes(reward));
        reports.extend(self.run(session, agent, protocol, Purpose::Suite, &failing, again_numbers()).await?);
        evidence.suite = at_best(&session.state.trials, &self.sides(session), suite);
        evidence.suite_known = Some(suite_known(&session.state, &self.sides(session), suite));
        Ok(reports)
    }

    /// Both agents, round by round; then the chosen one afresh.
    async fn compare(&self, session: &mut Session, evidence: &mut Evidence) -> Result<Vec<StepReport>> {
        let all: Vec<String> = self.split.train.iter().chain(&self.split.test).cloned().collect();
        let (agent, protocol) = (self.incumbent, self.trial_protocol);
        let (lacking, numbers) =
            (self.sides(session).incumbent_lacks(&session.state.trials, &all), session.config.all_trials());
        let mut reports = self.run(session, agent, protocol, Purpose::Confirm, &lacking, numbers).await?;
        let fresh = confirm_numbers(self.sides(session).incumbent_fresh());
        reports.extend(self.run(session, agent, protocol, Purpose::Confirm, &all, fresh).await?);
        let mut tried = AlreadyRun::new();
        let ruling = loop {
            let compared = self.compared(session, &tried);
            let answer = paired::decide(&compared.rule, &compared.pairs);
            evidence.compared = Some(compared);
            match answer {
                Answer::Measure(wanted) => {
                    reports.extend(self.round(session, &wanted).await?);
                    tried.extend(wanted.tasks.into_iter().map(|task| (wanted.number, task)));
                }
                Answer::Ruled(ruling) => break ruling,
            }
        };
        if ruling.verdict == PairedVerdict::Passed {
            let numbers = confirm_numbers(self.policy.confirm_trials);
            let (agent, protocol) = (self.candidate, self.trial_protocol);
            reports.extend(self.run(session, agent, protocol, Purpose::Confirm, &all, numbers).await?);
            evidence.holdout = confirmed(&session.state.trials, &self.sides(session), &self.split.test);
        }
        Ok(reports)
    }

    async fn round(&self, session: &mut Session, wanted: &Round) -> Result<Vec<StepReport>> {
        if !wanted.both {
            // Train is what `benchmark` would run for the coding agent, traces and all.
            // All of it, although some may be in the ledger: the run's end says what the split earned.
            let (purpose, tasks) = match wanted.number {
                0 => (Purpose::Benchmark, &self.split.train),
                _ => (Purpose::HoldOut, &self.split.test),
            };
            let numbers = session.config.all_trials();
            return self.run(session, self.candidate, self.trial_protocol, purpose, tasks, numbers).await;
        }
        let mut reports = Vec::new();
        let [candidate, incumbent] = self.sides(session).round_protocols();
        let mut sides = [(self.candidate, candidate), (self.incumbent, incumbent)];
        // They take turns at being first, so that a service which drifts hits both.
        if wanted.number % 2 == 1 {
            sides.reverse();
        }
        for (agent, protocol) in sides {
            let numbers = round_numbers(wanted.number);
            reports.extend(self.run(session, agent, &protocol, Purpose::Round, &wanted.tasks, numbers).await?);
        }
        Ok(reports)
    }

    /// Train tasks that failed for the recorded agent and pass now: they join the suite when they pass each time.
    async fn promotion(&self, session: &mut Session, evidence: &mut Evidence) -> Result<Vec<StepReport>> {
        let candidates = self.in_train(session.state.summary.promotion_candidates(&self.candidate.fingerprint));
        let (agent, protocol) = (self.candidate, self.trial_protocol);
        let mut reports = Vec::new();
        if self.is_same() {
            // A comparison has run them; run again now, they would no longer be those that it stands on.
            let numbers = session.config.all_trials();
            reports = self.run(session, agent, protocol, Purpose::Promotion, &candidates, numbers).await?;
        }
        let again = promotion_numbers(&self.policy, session.config.trials);
        let worst =
            |session: &Session, again| at_worst(&session.state.trials, &self.sides(session), &candidates, again);
        let passing = tasks_that(&worst(session, 0..0), passes);
        reports.extend(self.run(session, agent, protocol, Purpose::Promotion, &passing, again.clone()).await?);
        evidence.promotion = worst(session, again);
        Ok(reports)
    }
}

fn tasks_that(rewards: &Rewards, hold: impl Fn(Option<f64>) -> bool) -> Vec<String> {
    rewards.0.iter().filter(|(_, reward)| hold(**reward)).map(|(task, _)| task.clone()).collect()
}

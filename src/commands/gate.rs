//! `gate`: file guard → leak scan → preflight → regression suite and hold-out at the same time → promotion → verdict.

use std::collections::BTreeMap;

use super::agent::{self, StagedAgent};
use super::evaluate::{evaluate, no_evidence};
use super::experiment::Experiment;
use super::file_guard::FileGuard;
use super::missing::not_prepared;
use super::paired::PairedGate;
use super::report::Reports;
use super::sealing::{OpenTasks, set_aside};
use super::session::{Reading, Session};
use super::step::{Measurement, Step, StepReport};
use super::verdict::{conclude, print};
use super::{flips, leak_scan, measure, outcomes};
use crate::benchmarks::runner::BenchmarkRunner;
use crate::cli::{Gate, Global};
use crate::error::{Error, Result};
use crate::guard::BaseTree;
use crate::model::compare::Reference;
use crate::model::gate::{
    Decision, Evidence, LEAKS_SHOWN, PairedPolicy, Policy, RULES, Status, VIOLATIONS_SHOWN, decide, shortened,
};
use crate::model::score::Rewards;
use crate::model::split::{SPLIT_SEED, TaskSplit, stratified};
use crate::model::trial::Split;
use crate::process::signals::Cancel;
use crate::store::event::{Event, Purpose, Verdict};
use crate::ui::Ui;

/// Errors: usage for state the user must fix; infrastructure when nothing could be decided.
pub(super) async fn run(args: &Gate, global: &Global, ui: &Ui) -> Result<i32> {
    let reports = Reports::new(args, ui);
    let experiment = match Experiment::find(global, ui) {
        Ok(experiment) => experiment,
        Err(error) => {
            reports.fail_early(&error);
            return Err(error);
        }
    };
    reports.begin(&experiment)?;
    let (decision, evidence, steps) =
        judge(args, experiment, &reports).await.inspect_err(|error| reports.fail(error))?;
    conclude(&decision, &evidence, &steps)
}

/// Everything up to the verdict, which is then in the ledger, on the screen and in the reports.
async fn judge(args: &Gate, experiment: Experiment, to: &Reports) -> Result<(Decision, Evidence, Vec<StepReport>)> {
    let ui = experiment.ui.clone();
    let mut session = Session::open(experiment, Reading::Summary)?;
    if args.fresh && session.config.paired().is_some() {
        return Err(Error::usage("`gate --fresh` is not for `gate_rule: paired`").hint(
            "a comparison counts what each trial earned first, and runs again by itself what gave no evidence: drop --fresh.",
        ));
    }
    let cancel = Cancel::on_signals()?;
    session.require_views()?;
    if args.base.is_none() {
        measure::require_version(&session)?;
    }
    let base_commit = base_commit(&session, args.base.as_deref())?;
    let base = match args.base {
        Some(_) => session.repo.tree(&base_commit)?,
        None => session.repo.base_tree(&base_commit)?,
    };
    if args.base.is_none() {
        session.keep(&base_commit);
    }
    let guard = FileGuard { session: &session, base: &base, reports: &to.paths() };
    let found = match &args.base {
        Some(reference) => guard.on_a_branch(reference)?,
        None => guard.of_the_experiment()?,
    };
    let agent = agent::from_disk(&session, &base)?;
    let incumbent = agent::fingerprint(&session, &base)?;
    let mut evidence = Evidence::new(policy(&session, &agent.fingerprint, &incumbent));
    evidence.guard = shortened(found.lines.clone(), VIOLATIONS_SHOWN);
    tracing::info!(violations = evidence.guard.len(), "file guard done");
    if agent.fingerprint == incumbent {
        ui.warn("the agent is the one of the base commit: there is no edit to judge");
    }
    read_trials(&mut session, &agent.fingerprint, &incumbent)?;
    let runner = measure::runner(&session, &base, &cancel).await?;
    let mut terms = Terms {
        trial_protocol: String::new(),
        protocol: String::new(),
        split: TaskSplit::default(),
        is_drawn: false,
        data: BTreeMap::new(),
    };
    let mut reports = Vec::new();
    if evidence.guard.is_empty() {
        evidence.leaks = shortened(leak_scan::findings(&session, &base, &agent)?, LEAKS_SHOWN);
    }
    if !evidence.is_stopped() {
        evidence.preflight = agent::preflight(&session, &agent, runner.as_ref(), Some(&base), &cancel).await?;
    }
    if !evidence.is_stopped() {
        session.require_surroundings()?;
        let run = GateRun { args, runner: runner.as_ref(), cancel: &cancel, base: &base };
        let measured = async {
            terms = run.terms(&mut session).await?;
            let Some(policy) = evidence.policy.paired else {
                evidence.best = run.best(&mut session, &terms).await?;
                return run.measure(&mut session, &agent, &terms, &mut evidence).await;
            };
            if args.base.is_none() {
                evidence.best = session.state.summary.best(&terms.protocol).cloned();
            }
            let gate = PairedGate {
                runner: runner.as_ref(),
                cancel: &cancel,
                concurrency: args.in_flight.or(session.config.max_concurrency),
                policy,
                trial_protocol: &terms.trial_protocol,
                data: &terms.data,
                split: &terms.split,
                candidate: &agent,
                incumbent: &agent::from_tree(&session, &base)?,
            };
            gate.measure(&mut session, &mut evidence).await
        }
        .await;
        runner.close().await;
        reports = measured?;
    }
    let decision = decide(&evidence);
    let verdict = Verdict {
        agent: agent.fingerprint.clone(),
        trial_protocol: terms.trial_protocol,
        protocol: terms.protocol,
        base: base_commit,
        base_ref: args.base.clone(),
        evidence,
        decision: decision.clone(),
    };
    tracing::info!(status = decision.status.as_str(), "verdict");
    session.append(Event::Verdict(Box::new(verdict.clone())))?;
    session.finish()?;
    // A split drawn for this gate alone may be drawn differently later, and a task that is train now may then be held out.
    let train = if terms.is_drawn { &[] } else { &*terms.split.train };
    let flips = flips::of_verdict(&session, &verdict, &base, train);
    print(&session, &verdict, &base, &found, flips.as_ref());
    to.verdict(&session, &verdict, flips.as_ref());
    Ok((decision, verdict.evidence, reports))
}

/// Reads the trials that the verdict may stand on: the rule `paired` asks how reliable the suite's tasks are with every agent
/// that was accepted.
fn read_trials(session: &mut Session, candidate: &str, incumbent: &str) -> Result<()> {
    let summary = &session.state.summary;
    let known = match session.config.paired() {
        Some(_) => summary.accepted_agents.clone(),
        None => summary.recorded_agent.iter().cloned().collect(),
    };
    session.read_trials_of(&[candidate, incumbent].into_iter().chain(known.iter().map(String::as_str)).collect())
}

fn policy(session: &Session, agent: &str, incumbent: &str) -> Policy {
    let config = &session.config;
    let candidate = config.alpha_spending.then(|| session.state.summary.candidate_number(agent, incumbent, RULES));
    Policy {
        threshold: config.threshold,
        min_evidence: config.min_evidence,
        timeout_policy: config.timeout_policy,
        gate_split: config.gate_split,
        trials: config.trials,
        leak_scan: config.leak_scan,
        holdout_disclosure: config.disclosure(),
        paired: config.paired().map(|paired| PairedPolicy { candidate, ..paired }),
    }
}

/// The commit the file guard compares with.
fn base_commit(session: &Session, reference: Option<&str>) -> Result<String> {
    match reference {
        Some(reference) => {
            let head = session.repo.require_head()?;
            let other = session.repo.resolve(reference)?;
            session.repo.merge_base(&head, &other)
        }
        None => session.state.summary.base.clone().ok_or_else(not_prepared),
    }
}

/// What the score stands on.
struct Terms {
    trial_protocol: String,
    protocol: String,
    split: TaskSplit,
    /// Whether the split was drawn for this gate alone.
    is_drawn: bool,
    /// Digests of the provisioned data before the run.
    data: BTreeMap<String, String>,
}

struct GateRun<'a> {
    args: &'a Gate,
    runner: &'a dyn BenchmarkRunner,
    cancel: &'a Cancel,
    base: &'a BaseTree,
}

impl GateRun<'_> {
    fn measurement<'m>(
        &'m self,
        session: &Session,
        agent: &'m StagedAgent,
        (protocol, data): (&'m str, &'m BTreeMap<String, String>),
        fresh: bool,
    ) -> Measurement<'m> {
        Measurement {
            runner: self.runner,
            agent,
            trial_protocol: protocol,
            data,
            concurrency: self.args.in_flight.or(session.config.max_concurrency),
            fresh,
            cancel: self.cancel,
        }
    }

    /// The split and the protocol: the prepared ones, or on a branch those the benchmark brings.
    async fn terms(&self, session: &mut Session) -> Result<Terms> {
        let data = measure::data_digests(session)?;
        let trial_protocol = measure::trial_protocol(session, self.runner, self.base, &data)?;
        let prepared = session.state.summary.prepared.clone();
        if self.args.base.is_none() {
            let prepared = session.prepared()?.clone();
            let protocol = measure::protocol(session, &trial_protocol, &prepared.split);
            if protocol != prepared.protocol {
                return Err(measure::other_protocol());
            }
            return Ok(Terms { protocol, trial_protocol, split: prepared.split, is_drawn: false, data });
        }
        let base_agent = agent::from_tree(session, self.base)?;
        fs_err::create_dir_all(session.paths.logs())?;
        let log = session.paths.logs().join("list.log");
        let tasks = self.runner.tasks(&base_agent.staging, &log, self.cancel).await?.tasks;
        let given = measure::given_split(session.config.benchmark, &tasks, session.config.gate_split)?;
        let mut ids: Vec<String> = tasks.into_iter().map(|task| task.id).collect();
        ids.sort();
        let before = prepared.as_ref().map(|prepared| &prepared.split);
        let OpenTasks { given, ids, sealed } =
            set_aside(session.config.sealed, ids, given, before, |task| session.state.trials.has_run(task))?;
        let (split, is_drawn) = match (given, prepared) {
            (Some(split), _) => (split, false),
            (None, Some(prepared)) if prepared.split_drawn => (prepared.split, false),
            // No split anywhere: it is drawn from the base commit's agent, as `prepare` draws it from the baseline.
            (None, _) => {
                session.ui.status("no split yet: measuring the base commit's agent on every task");
                let step = Step::whole(&session.config, Purpose::Base, None, ids.clone());
                let measurement = self.measurement(session, &base_agent, (&trial_protocol, &data), false);
                let reports = evaluate(session, &measurement, &[step]).await?;
                let (rewards, _) = earned(session, &base_agent, &trial_protocol, &ids);
                let _ = fs_err::remove_dir_all(session.paths.private_traces());
                let score = rewards.score();
                if !score.is_enough(session.config.min_evidence) {
                    return Err(no_evidence(
                        &reports.into_iter().next().unwrap_or_default(),
                        score.evaluated,
                        score.expected,
                    ));
                }
                (TaskSplit { sealed, ..stratified(&rewards.0, SPLIT_SEED) }, true)
            }
        };
        measure::require_gate_tasks(&split, session.config.gate_split)?;
        let protocol = measure::protocol(session, &trial_protocol, &split);
        Ok(Terms { protocol, trial_protocol, split, is_drawn, data })
    }

    /// The score to reach: the best recorded; on a branch the base commit's agent, measured now where the ledger has no
    /// score of it.
    async fn best(&self, session: &mut Session, terms: &Terms) -> Result<Option<Reference>> {
        if self.args.base.is_none() {
            return Ok(session.state.summary.best(&terms.protocol).cloned());
        }
        let base_agent = agent::from_tree(session, self.base)?;
        let tasks = terms.split.tasks(session.config.gate_split).to_vec();
        let step = Step::whole(&session.config, Purpose::Base, Some(session.config.gate_split), tasks.clone());
        let measurement = self.measurement(session, &base_agent, (&terms.trial_protocol, &terms.data), false);
        let reports = evaluate(session, &measurement, &[step]).await?;
        outcomes::tell(session, "base", &base_agent.fingerprint, &terms.trial_protocol, &tasks);
        let (rewards, least) = earned(session, &base_agent, &terms.trial_protocol, &tasks);
        let score = rewards.score();
        let Some(val_score) = score.mean.filter(|_| score.is_enough(session.config.min_evidence)) else {
            return Err(no_evidence(&reports.into_iter().next().unwrap_or_default(), score.evaluated, score.expected));
        };
        let short = session.repo.short_id(self.base.commit())?;
        Ok(Some(Reference { val_score, source: format!("base {short}"), rewards: rewards.overlaid(&least) }))
    }

    /// Steps 1 to 3. Returns how the runs went.
    async fn measure(
        &self,
        session: &mut Session,
        agent: &StagedAgent,
        terms: &Terms,
        evidence: &mut Evidence,
    ) -> Result<Vec<StepReport>> {
        let in_train = |task: &&String| terms.split.of(task) == Some(Split::Train);
        let suite: Vec<String> =
            session.state.summary.suite_for(&agent.fingerprint).into_iter().filter(|task| in_train(&task)).collect();
        let holdout = terms.split.tasks(session.config.gate_split).to_vec();
        let steps = [
            Step::whole(&session.config, Purpose::Suite, Some(Split::Train), suite.clone()),
            Step::whole(&session.config, Purpose::HoldOut, Some(session.config.gate_split), holdout.clone()),
        ];
        // With `gate_split: train` the two steps share tasks, so they run one after the other and run nothing twice.
        let mut reports = Vec::new();
        let together = session.config.gate_split == Split::Test;
        for part in steps.chunks(if together { 2 } else { 1 }) {
            let measurement = self.measurement(
                session,
                agent,
                (&terms.trial_protocol, &terms.data),
                self.args.fresh && (together || reports.is_empty()),
            );
            reports.extend(evaluate(session, &measurement, part).await?);
        }
        let protocol = terms.trial_protocol.as_str();
        (evidence.suite, evidence.suite_least) = earned(session, agent, protocol, &suite);
        evidence.quarantined = session.state.summary.quarantined_of(&suite);
        (evidence.holdout, evidence.holdout_least) = earned(session, agent, protocol, &holdout);
        if decide(evidence).status == Status::Passed {
            let candidates: Vec<String> = session
                .state
                .summary
                .promotion_candidates(&agent.fingerprint)
                .into_iter()
                .filter(|task| in_train(&task))
                .collect();
            if !candidates.is_empty() {
                let step = Step::whole(&session.config, Purpose::Promotion, Some(Split::Train), candidates.clone());
                let measurement =
                    self.measurement(session, agent, (&terms.trial_protocol, &terms.data), self.args.fresh);
                reports.extend(evaluate(session, &measurement, &[step]).await?);
                let (rewards, least) = earned(session, agent, protocol, &candidates);
                evidence.promotion = rewards.sure(&least);
            }
        }
        Ok(reports)
    }
}

/// Rewards of `tasks` as the agent has earned them, and for tasks with missing trials the rewards with these counted 0.0.
fn earned(session: &Session, agent: &StagedAgent, trial_protocol: &str, tasks: &[String]) -> (Rewards, Rewards) {
    let (agent, known, scoring) = (&agent.fingerprint, &session.state.trials, session.config.scoring());
    (known.rewards(agent, trial_protocol, tasks, scoring), known.least(agent, trial_protocol, tasks, scoring))
}

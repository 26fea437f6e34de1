//! What `verify` finds wrong with a verdict: whether its evidence is what the trials before it earned, whether the rules were
//! those prepared with, and whether they give the same decision again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::in_force;
use crate::model::gate::{Decision, RULES, Status, decide};
use crate::model::paired::{Pairs, Rule};
use crate::model::score::Rewards;
use crate::model::split::TaskSplit;
use crate::model::trial::Split;
use crate::store::comparison::{AlreadyRun, Sides, at_best, at_worst, confirmed, promotion_numbers, suite_known};
use crate::store::event::Verdict;
use crate::store::state::State;

/// What is wrong with a verdict, given what the ledger added up to before it. `highest`: the highest score under its protocol,
/// which verdicts of the first rules had to reach.
pub(super) fn verdict(verdict: &Verdict, state: &State, highest: Option<f64>) -> Vec<String> {
    let mut check = Check { verdict, state, highest, wrong: Vec::new() };
    check.all();
    check.wrong
}

struct Check<'a> {
    verdict: &'a Verdict,
    state: &'a State,
    highest: Option<f64>,
    wrong: Vec<String>,
}

impl Check<'_> {
    fn wrong(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }

    /// The decision from its stored inputs, and the inputs from the trials before it.
    fn all(&mut self) {
        let (verdict, state) = (self.verdict, self.state);
        if !same_decision(&decide(&verdict.evidence), &verdict.decision) {
            self.wrong("the gate's rules applied to the stored evidence give another verdict");
        }
        let evidence = &verdict.evidence;
        if evidence.rules > RULES {
            self.wrong("the verdict was given by the rules of a newer version");
        }
        let none = Rewards::default();
        let steps = [
            ("regression suite", &evidence.suite, &evidence.suite_least),
            ("hold-out", &evidence.holdout, &evidence.holdout_least),
            ("promotion", &evidence.promotion, &none),
        ];
        for (name, stored, stored_least) in steps {
            let tasks: Vec<String> = stored.0.keys().cloned().collect();
            let (agent, protocol, policy) = (&verdict.agent, &verdict.trial_protocol, &evidence.policy);
            let scoring = policy.scoring();
            let sides = sides(verdict, state);
            let rewards = match (&sides, name) {
                (Some(sides), "regression suite") => at_best(&state.trials, sides, &tasks),
                (Some(sides), "hold-out") => confirmed(&state.trials, sides, &tasks),
                (Some(sides), _) => {
                    let again = policy.paired.map_or(0..0, |paired| promotion_numbers(&paired, policy.trials));
                    at_worst(&state.trials, sides, &tasks, again)
                }
                (None, _) => state.trials.rewards(agent, protocol, &tasks, scoring),
            };
            let least = match sides {
                Some(_) => none.clone(),
                None => state.trials.least(agent, protocol, &tasks, scoring),
            };
            // The first rules ignored missing trials; in a promotion the second ones did, too.
            let (rewards, least) = match (name, evidence.rules) {
                ("promotion", 0..=1) | (_, 0) => (rewards, none.clone()),
                ("promotion", _) => (rewards.sure(&least), none.clone()),
                _ => (rewards, least),
            };
            if !same_rewards(stored, &rewards) || !same_rewards(stored_least, &least) {
                self.wrong(format!("the rewards of the {name} are not those of its trials"));
            }
        }
        self.compared();
        self.suite();
        if verdict.base_ref.is_none() && !verdict.evidence.is_stopped() {
            let stored = evidence.best.as_ref();
            let is_best = match state.summary.best(&verdict.protocol) {
                _ if evidence.rules == 0 => stored.map(|best| best.val_score) == self.highest,
                None => stored.is_none(),
                Some(best) => {
                    stored.is_some_and(|it| it.val_score == best.val_score && same_rewards(&it.rewards, &best.rewards))
                }
            };
            if !is_best {
                self.wrong("the score to beat was not the best recorded");
            }
            self.tasks();
        }
    }

    /// What was known about the suite, and which of its tasks did not count.
    fn suite(&mut self) {
        let (verdict, state) = (self.verdict, self.state);
        let evidence = &verdict.evidence;
        let tasks: Vec<String> = evidence.suite.0.keys().cloned().collect();
        if evidence.quarantined != state.summary.quarantined_of(&tasks) {
            self.wrong("the tasks in quarantine are not those of that time");
        }
        let Some(known) = &evidence.suite_known else { return };
        let incumbent = evidence.compared.as_ref().map(|compared| compared.incumbent.as_str());
        let recorded = state.summary.recorded_agent.as_deref().filter(|_| verdict.base_ref.is_none());
        let Some(incumbent) = incumbent.or(recorded) else { return };
        let sides = sides(verdict, state).map(|sides| Sides {
            incumbent,
            is_first: state.summary.is_first(incumbent, evidence.rules),
            ..sides
        });
        if sides.is_none_or(|sides| suite_known(state, &sides, &tasks) != *known) {
            self.wrong("what was known of the regression suite is not what its trials earned");
        }
    }

    /// What the rule `paired` compared is what the trials earned.
    fn compared(&mut self) {
        let (verdict, state) = (self.verdict, self.state);
        let (Some(compared), Some(sides)) = (&verdict.evidence.compared, sides(verdict, state)) else { return };
        let policy = &verdict.evidence.policy;
        let of_all = verdict.evidence.rules > 1;
        let rule = policy
            .paired
            .map(|paired| Rule { of_all, ..Rule::new(paired.spent(), paired.max_rounds, policy.min_evidence) });
        if rule != Some(compared.rule) {
            self.wrong("the comparison's rule does not follow from the configuration");
        }
        let is_same = compared.incumbent == verdict.agent;
        if is_same != compared.pairs.is_empty() {
            self.wrong("an agent was compared with itself, or with none");
        }
        let (train, test) = (tasks_of(&compared.pairs, Split::Train), tasks_of(&compared.pairs, Split::Test));
        let sealed = state.summary.prepared.as_ref().map(|prepared| prepared.split.sealed.clone()).unwrap_or_default();
        let split = TaskSplit { train, test, sealed };
        if verdict.base_ref.is_none() && !is_same {
            let prepared = state.summary.prepared.as_ref().map(|prepared| &prepared.split);
            if prepared != Some(&split) {
                self.wrong("the comparison was not made on the whole split");
            }
            if state.summary.recorded_agent.as_ref() != Some(&compared.incumbent) {
                self.wrong("the agent to beat was not the one recorded last");
            }
        }
        if sides.pairs(&state.trials, &split, &tried(&compared.pairs)) != compared.pairs {
            self.wrong("the rewards of the comparison are not those of its trials");
        }
    }

    /// The steps covered exactly the tasks the rules name.
    fn tasks(&mut self) {
        let (verdict, state) = (self.verdict, self.state);
        let Some(prepared) = &state.summary.prepared else {
            return self.wrong("a verdict before `prepared`");
        };
        let in_train = |suite: BTreeSet<String>| -> BTreeSet<String> {
            suite.into_iter().filter(|task| prepared.split.of(task) == Some(Split::Train)).collect()
        };
        let suite: BTreeSet<String> = verdict.evidence.suite.0.keys().cloned().collect();
        let is_suite = match verdict.evidence.rules {
            // Of the tasks that unrecorded edits brought in, the first rules left out only those of the last edit.
            0 => {
                let kept = in_train(state.summary.kept.clone());
                let pending = in_train(state.summary.pending.values().flatten().cloned().collect());
                kept.is_subset(&suite) && suite.iter().all(|task| kept.contains(task) || pending.contains(task))
            }
            _ => suite == in_train(state.summary.suite_for(&verdict.agent)),
        };
        if !is_suite {
            self.wrong("the regression suite that was run is not the suite of that time");
        }
        // By the rule `paired` it holds the fresh trials of an accepted edit.
        let has_holdout = verdict.evidence.policy.paired.is_none() || verdict.decision.val_score.is_some();
        if has_holdout
            && !verdict.evidence.holdout.0.keys().eq(prepared.split.tasks(verdict.evidence.policy.gate_split))
        {
            self.wrong("the hold-out that was run is not the whole gate split");
        }
        // Candidates are listed by name, as rewards are.
        let waiting = state.summary.waiting(&suite);
        if verdict.decision.status == Status::Passed && !verdict.evidence.promotion.0.keys().eq(&waiting) {
            self.wrong("the tasks tried for promotion are not those that were waiting");
        }
        let policy = &verdict.evidence.policy;
        let (config, scan) = (&prepared.config, json!(policy.leak_scan));
        let spent = policy.paired.and_then(|paired| paired.candidate);
        let incumbent = state.summary.recorded_agent.as_deref().unwrap_or_default();
        let number = state.summary.candidate_number(&verdict.agent, incumbent, verdict.evidence.rules);
        if !in_force::decides_as(policy, config)
            || !in_force::is_as_configured(config, "leak_scan", &scan)
            || !in_force::is_as_configured(config, "holdout_disclosure", &json!(policy.holdout_disclosure))
            || spent.is_some_and(|candidate| candidate != number)
        {
            self.wrong("the gate's rules were not those prepared with");
        }
    }
}

/// Where the trials of a comparison are; `None` for verdicts by the rule `best`.
fn sides<'a>(verdict: &'a Verdict, state: &State) -> Option<Sides<'a>> {
    let policy = &verdict.evidence.policy;
    let paired = policy.paired?;
    let incumbent = verdict.evidence.compared.as_ref().map_or("", |compared| compared.incumbent.as_str());
    Some(Sides {
        candidate: &verdict.agent,
        incumbent,
        is_first: state.summary.is_first(incumbent, verdict.evidence.rules),
        protocol: &verdict.trial_protocol,
        timeouts: policy.timeout_policy,
        trials: policy.trials,
        confirm_trials: paired.confirm_trials,
        max_rounds: paired.max_rounds,
        rules: verdict.evidence.rules,
    })
}

fn tasks_of(pairs: &Pairs, split: Split) -> Vec<String> {
    pairs.iter().filter(|(_, pair)| pair.split == split).map(|(task, _)| task.clone()).collect()
}

/// The places where the stored comparison says that a trial was run and gave no evidence.
fn tried(pairs: &Pairs) -> AlreadyRun {
    let mut tried = AlreadyRun::new();
    for (task, pair) in pairs {
        if pair.candidate.first.contains(&None) {
            tried.insert((u32::from(pair.split == Split::Test), task.clone()));
        }
        for (round, (candidate, incumbent)) in (2..).zip(pair.candidate.rounds.iter().zip(&pair.incumbent.rounds)) {
            if candidate.is_none() || incumbent.is_none() {
                tried.insert((round, task.clone()));
            }
        }
    }
    tried
}

/// Wording may differ between versions; what was decided may not.
fn same_decision(a: &Decision, b: &Decision) -> bool {
    let steps = |decision: &Decision| -> Vec<(String, Status)> {
        decision.steps.iter().map(|step| (step.name.clone(), step.status)).collect()
    };
    a.status == b.status
        && steps(a) == steps(b)
        && a.val_score == b.val_score
        && (a.evals_passed, a.evals_total) == (b.evals_passed, b.evals_total)
        && a.promoted == b.promoted
}

fn same_rewards(a: &Rewards, b: &Rewards) -> bool {
    let close = |(a, b): (&Option<f64>, &Option<f64>)| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-12,
        (None, None) => true,
        _ => false,
    };
    let (a, b): (&BTreeMap<_, _>, &BTreeMap<_, _>) = (&a.0, &b.0);
    a.keys().eq(b.keys()) && a.values().zip(b.values()).all(close)
}

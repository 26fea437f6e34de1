//! The trials of the ledger by agent and protocol, so that none is paid for twice.

use std::ops::Range;

use foldhash::{HashMap, HashSet};
use smallvec::SmallVec;

use crate::model::outcomes::Outcomes;
use crate::model::score::{Rewards, Scoring, TimeoutPolicy, TrialEvidence, least_reward, task_reward};
use crate::model::trial::{Outcome, Split};

use self::errors::Errors;
use super::event::{Event, Trial};

mod errors;
mod silence;

/// All trials of one agent under one trial protocol, by the number of the task: ordered by trial number, and those of one
/// number as they were run.
#[derive(Debug, Default)]
struct AgentTrials {
    /// Most tasks have one trial of an agent.
    tasks: HashMap<u32, SmallVec<[StoredTrial; 1]>>,
}

#[derive(Debug, Clone, Copy)]
struct StoredTrial {
    number: u32,
    evidence: TrialEvidence,
    run: u32,
    tokens: Tokens,
    /// Its run ended and was judged as a whole. Until then it is unknown whether any model was reachable at all: the run may
    /// have been killed.
    settled: bool,
    /// Whether it takes the place of earlier ones (train), or counts beside them.
    replaces: bool,
    trace_lost: bool,
}

/// What a trial said about its model's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tokens {
    Unknown,
    Zero,
    Some,
}

impl StoredTrial {
    /// Trials without a model token count only once their run has ended and was not void: a run killed while the
    /// model's service was down must not leave zeros behind.
    fn counts(&self) -> bool {
        self.settled || self.tokens != Tokens::Zero
    }
}

/// Whose trials are meant, and what a timeout counts for.
#[derive(Debug, Clone, Copy)]
pub struct TrialsOf<'a> {
    /// Agent fingerprint.
    pub agent: &'a str,
    /// Fingerprint of what one trial depends on beside the agent.
    pub protocol: &'a str,
    /// What an agent timeout counts for.
    pub policy: TimeoutPolicy,
}

/// The protocol of trials of a comparison in rounds: they say something about these two agents only, so no other comparison
/// may find them.
pub(crate) fn versus(protocol: &str, other: &str) -> String {
    aside(protocol, &format!("versus {other}"))
}

/// The protocol of trials that choose among edits: no gate finds them. Otherwise the luckiest of several edits would carry its
/// luck into the comparison.
pub(crate) fn apart(protocol: &str) -> String {
    aside(protocol, "to choose")
}

/// The protocol of trials that only one purpose may find: the real protocol, a blank, and the purpose.
pub(crate) fn aside(protocol: &str, purpose: &str) -> String {
    format!("{protocol} {purpose}")
}

/// The real protocol of trials, without a purpose behind it: fingerprints have no blanks.
pub(crate) fn plain(key: &str) -> &str {
    key.split(' ').next().unwrap_or(key)
}

/// Every trial of the ledger.
///
/// A trial run again (`--fresh`) replaces the earlier one on train once it gave evidence. On the hold-out both count: a coin
/// tossed until it shows heads must not pass for a coin that always does.
#[derive(Debug, Default)]
pub struct Trials {
    /// Places in `sets`, by agent and trial protocol.
    by_agent: HashMap<String, HashMap<String, usize>>,
    sets: Vec<AgentTrials>,
    /// From the previous trial. Trials come in long runs, so this usually saves looking up all three.
    last: Option<Last>,
    runs: HashMap<String, u32>,
    errors: Errors,
    /// The same ids come with every agent: each is kept once.
    tasks: HashMap<String, u32>,
    /// How long each task took last time, by its number.
    seconds: Vec<Option<f64>>,
    /// Agents whose trials are in the ledger and were not read. Nobody may ask for them.
    unread: HashSet<String>,
}

#[derive(Debug)]
struct Last {
    run: String,
    agent: String,
    protocol: String,
    run_number: u32,
    place: usize,
}

impl Trials {
    /// None yet; those of these agents are in the ledger.
    pub(crate) fn without<'a>(agents: impl Iterator<Item = &'a str>) -> Trials {
        Trials { unread: agents.map(String::from).collect(), ..Trials::default() }
    }

    /// Trials of this agent will be taken in from the ledger.
    pub(crate) fn begin(&mut self, agent: &str) {
        self.unread.remove(agent);
    }

    /// Takes an event in.
    pub(crate) fn apply(&mut self, event: &Event<'_>) {
        match event {
            Event::Trial(trial) => self.insert(trial),
            Event::RunFinished(run) => {
                self.run_finished(&run.agent, &run.protocol, &run.run, &run.tasks, run.void);
                if run.tokenless {
                    self.forget(&run.agent, &run.protocol, &run.tasks);
                }
            }
            _ => {}
        }
    }

    pub fn insert(&mut self, trial: &Trial<'_>) {
        let (run, place) = self.place(&trial.run, &trial.agent, &trial.protocol);
        let task = self.task(&trial.task);
        if let Some(seconds) = trial.usage.seconds {
            self.seconds[task as usize] = Some(seconds);
        }
        let tokens = match trial.usage.tokens() {
            None if !trial.silent => Tokens::Unknown,
            None | Some(0) => Tokens::Zero,
            Some(_) => Tokens::Some,
        };
        let evidence = TrialEvidence { outcome: trial.outcome, reward: trial.reward };
        let replaces = trial.split != Some(Split::Test);
        let number = trial.trial;
        let trace_lost = trial.trace_lost;
        let stored = StoredTrial { number, evidence, run, tokens, settled: false, replaces, trace_lost };
        self.errors.note(place, task, trial);
        let known = self.sets[place].tasks.entry(task).or_default();
        if replaces {
            // These are no longer needed. A trial that gave evidence stays: this one may turn out to have given none.
            let ungraded =
                |stored: &StoredTrial| matches!(stored.evidence.outcome, Outcome::InfraError | Outcome::VerifierError);
            known.retain(|earlier| earlier.number != number || !ungraded(earlier));
        }
        known.insert(known.partition_point(|earlier| earlier.number <= number), stored);
    }

    /// The number of a task, which is its place in `seconds`.
    fn task(&mut self, id: &str) -> u32 {
        if let Some(task) = self.tasks.get(id) {
            return *task;
        }
        let task = u32::try_from(self.seconds.len()).unwrap_or(u32::MAX);
        self.seconds.push(None);
        self.tasks.insert(id.to_string(), task);
        task
    }

    /// The run's number, and the place of the agent's trials under the protocol.
    fn place(&mut self, run: &str, agent: &str, protocol: &str) -> (u32, usize) {
        if let Some(last) = &self.last
            && (last.run.as_str(), last.agent.as_str(), last.protocol.as_str()) == (run, agent, protocol)
        {
            return (last.run_number, last.place);
        }
        debug_assert!(!self.unread.contains(agent), "the trials of {agent} were not read");
        let run_number = self.run(run);
        let next = self.sets.len();
        let place = *self.by_agent.entry(agent.into()).or_default().entry(protocol.into()).or_insert(next);
        if place == next {
            self.sets.push(AgentTrials::default());
        }
        self.last = Some(Last { run: run.into(), agent: agent.into(), protocol: protocol.into(), run_number, place });
        (run_number, place)
    }

    fn run(&mut self, name: &str) -> u32 {
        match self.runs.get(name) {
            Some(run) => *run,
            None => {
                let run = u32::try_from(self.runs.len()).unwrap_or(u32::MAX);
                self.runs.insert(name.to_string(), run);
                run
            }
        }
    }

    /// A run over these tasks ended. When it is `void` (no model did anything, or it cannot be believed), its trials
    /// become infrastructure errors, as do those of killed runs that it continued.
    fn run_finished(&mut self, agent: &str, protocol: &str, run: &str, tasks: &[String], void: bool) {
        let run = self.run(run);
        for task in tasks {
            for stored in self.known_mut(agent, protocol, task).iter_mut().filter(|stored| !stored.settled) {
                stored.settled = true;
                // A silent trial of a killed run was run again by this one.
                if void || (stored.run != run && stored.tokens == Tokens::Zero) {
                    stored.evidence = TrialEvidence { outcome: Outcome::InfraError, reward: None };
                }
            }
        }
    }

    /// Such a baseline's trials become infrastructure errors, those of earlier runs included.
    fn forget(&mut self, agent: &str, protocol: &str, tasks: &[String]) {
        for task in tasks {
            for stored in self.known_mut(agent, protocol, task) {
                stored.evidence = TrialEvidence { outcome: Outcome::InfraError, reward: None };
            }
        }
    }

    /// The place in `sets` of the agent's trials under the protocol.
    fn place_of(&self, agent: &str, protocol: &str) -> Option<usize> {
        debug_assert!(!self.unread.contains(agent), "the trials of {agent} were not read");
        self.by_agent.get(agent)?.get(protocol).copied()
    }

    fn known(&self, set: Option<usize>, task: &str) -> &[StoredTrial] {
        let known = || self.sets[set?].tasks.get(self.tasks.get(task)?);
        known().map_or(&[][..], SmallVec::as_slice)
    }

    fn known_mut(&mut self, agent: &str, protocol: &str, task: &str) -> &mut [StoredTrial] {
        let (Some(set), Some(task)) = (self.place_of(agent, protocol), self.tasks.get(task)) else { return &mut [] };
        self.sets[set].tasks.get_mut(task).map_or(&mut [][..], SmallVec::as_mut_slice)
    }

    /// The evidence of a task's first `trials` trials, in order; numbers never run are skipped.
    pub fn evidence(
        &self,
        agent: &str,
        protocol: &str,
        task: &str,
        trials: u32,
    ) -> impl Iterator<Item = TrialEvidence> {
        let known = self.known(self.place_of(agent, protocol), task).iter();
        let first = known.take_while(move |stored| stored.number < trials);
        first.filter(|stored| stored.counts()).map(|stored| stored.evidence)
    }

    /// How the trials behind the rewards of these tasks ended. A trial that was run again until it gave evidence counts once,
    /// with its final outcome.
    pub fn outcomes(&self, agent: &str, protocol: &str, tasks: &[String], trials: u32) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let Some(place) = self.place_of(agent, protocol) else { return outcomes };
        for task in tasks {
            let Some(&id) = self.tasks.get(task) else { continue };
            for (number, stored) in first_numbers(self.known(Some(place), task), trials) {
                // A timeout is an outcome whether it counts or not.
                let ended = || standing(stored, TimeoutPolicy::Agent).map(|stored| stored.evidence.outcome);
                let evidence: Vec<Outcome> = ended().filter(|outcome| !outcome.is_no_evidence()).collect();
                let last = ended().last().filter(|_| evidence.is_empty());
                for outcome in evidence.into_iter().chain(last) {
                    outcomes.add(outcome, self.errors.of(place, id, number));
                }
            }
        }
        outcomes
    }

    /// Whether this trial need not be run: it gave evidence already. Trials of the `current` run count as they are; whether
    /// any model worked in it is judged when it ends.
    pub fn has_evidence(&self, of: &TrialsOf<'_>, task: &str, trial: u32, current: Option<&str>) -> bool {
        let current = current.and_then(|run| self.runs.get(run));
        self.stored(of, task, trial).iter().any(|stored| {
            (stored.counts() || current == Some(&stored.run)) && stored.evidence.value(of.policy).is_some()
        })
    }

    /// Whether the `run` itself had evidence of this trial.
    pub fn has_evidence_of(&self, of: &TrialsOf<'_>, task: &str, trial: u32, run: &str) -> bool {
        let Some(run) = self.runs.get(run) else { return false };
        self.stored(of, task, trial)
            .iter()
            .any(|stored| stored.run == *run && stored.evidence.value(of.policy).is_some())
    }

    /// Whether the trace of this trial, as it counts on train, was lost.
    pub fn trace_lost(&self, of: &TrialsOf<'_>, task: &str, trial: u32) -> bool {
        standing(self.stored(of, task, trial), of.policy)
            .next()
            .is_some_and(|stored| stored.replaces && stored.trace_lost)
    }

    fn stored(&self, of: &TrialsOf<'_>, task: &str, trial: u32) -> &[StoredTrial] {
        let known = self.known(self.place_of(of.agent, of.protocol), task);
        by_number(known).find(|stored| stored[0].number == trial).unwrap_or(&[])
    }

    /// What each of these trial numbers earned, if it was run: one that counts several times appears as often, one without
    /// evidence is `None`.
    pub fn values(
        &self,
        agent: &str,
        protocol: &str,
        task: &str,
        numbers: Range<u32>,
        policy: TimeoutPolicy,
    ) -> Vec<Option<f64>> {
        let run = self.run_of(agent, protocol, task, numbers);
        run.flat_map(|stored| {
            let values: Vec<_> =
                standing(stored, policy).filter_map(|stored| stored.evidence.value(policy)).map(Some).collect();
            if values.is_empty() { vec![None] } else { values }
        })
        .collect()
    }

    /// As [`Trials::values`], but of each number only what its first trial with evidence earned.
    pub(crate) fn first_values(
        &self,
        agent: &str,
        protocol: &str,
        task: &str,
        numbers: Range<u32>,
        policy: TimeoutPolicy,
    ) -> Vec<Option<f64>> {
        let value = |stored: &StoredTrial| stored.evidence.value(policy).filter(|_| stored.counts());
        self.run_of(agent, protocol, task, numbers).map(|stored| stored.iter().find_map(value)).collect()
    }

    /// What was run of these trial numbers, one slice a number.
    fn run_of(
        &self,
        agent: &str,
        protocol: &str,
        task: &str,
        numbers: Range<u32>,
    ) -> impl Iterator<Item = &[StoredTrial]> {
        let known = by_number(self.known(self.place_of(agent, protocol), task));
        known.filter(move |stored| numbers.contains(&stored[0].number))
    }

    /// Rewards of `tasks` as this agent has earned them so far; tasks without enough evidence map to `None`.
    pub fn rewards<'t>(
        &self,
        agent: &str,
        protocol: &str,
        tasks: impl IntoIterator<Item = &'t String>,
        scoring: Scoring,
    ) -> Rewards {
        let set = self.place_of(agent, protocol);
        let reward = |task: &String| task_reward(numbers(self.known(set, task), scoring).flatten(), scoring);
        tasks.into_iter().map(|task| (task.clone(), reward(task))).collect()
    }

    /// Those of `tasks` that have a reward although trials are missing: the reward with each missing trial counted 0.0.
    pub fn least<'t>(
        &self,
        agent: &str,
        protocol: &str,
        tasks: impl IntoIterator<Item = &'t String>,
        scoring: Scoring,
    ) -> Rewards {
        let set = self.place_of(agent, protocol);
        let least = |task: &String| least_reward(numbers(self.known(set, task), scoring), scoring);
        tasks.into_iter().filter_map(|task| Some((task.clone(), Some(least(task)?)))).collect()
    }

    /// Whether any trial of the task was read.
    pub(crate) fn has_run(&self, task: &str) -> bool {
        self.tasks.contains_key(task)
    }

    /// How long the task took last time, in seconds.
    pub fn seconds(&self, task: &str) -> Option<f64> {
        self.seconds[*self.tasks.get(task)? as usize]
    }
}

/// What a task has, one slice a trial number.
fn by_number(known: &[StoredTrial]) -> impl Iterator<Item = &[StoredTrial]> {
    known.chunk_by(|one, other| one.number == other.number)
}

/// Of the first `trials` trial numbers those that were run.
fn first_numbers(known: &[StoredTrial], trials: u32) -> impl Iterator<Item = (u32, &[StoredTrial])> {
    by_number(known).map(|stored| (stored[0].number, stored)).take_while(move |(number, _)| *number < trials)
}

/// What counts of a task's expected trials, by number.
fn numbers(known: &[StoredTrial], scoring: Scoring) -> impl Iterator<Item = impl Iterator<Item = TrialEvidence>> {
    let standing = move |stored| standing(stored, scoring.policy).map(|stored| stored.evidence);
    first_numbers(known, scoring.trials).map(move |(_, stored)| standing(stored))
}

/// Which of the trials of one number count: all of them, or on train the newest that gave evidence.
fn standing(stored: &[StoredTrial], policy: TimeoutPolicy) -> impl Iterator<Item = &StoredTrial> {
    let newest = stored.iter().rposition(|stored| stored.counts() && stored.evidence.value(policy).is_some());
    let from = newest.filter(|newest| stored[*newest].replaces).unwrap_or(0);
    stored[from..].iter().filter(|stored| stored.counts())
}

#[cfg(test)]
mod tests;

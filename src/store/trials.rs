//! The trials of the ledger by agent and protocol: what need not be paid for twice.

use std::collections::{BTreeMap, HashMap};

use crate::model::outcomes::Outcomes;
use crate::model::score::{Evidence, Rewards, TimeoutPolicy, least_reward, task_reward};
use crate::model::trial::{Outcome, Split};

use super::event::Trial;

/// All trials of one agent under one trial protocol: by task, by trial number, in the order they were run.
#[derive(Debug, Default)]
struct AgentTrials {
    tasks: HashMap<String, Vec<Vec<Stored>>>,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    evidence: Evidence,
    run: u32,
    tokens: Tokens,
    /// Its run ended and was judged as a whole. Until then nobody knows whether any model was there at all: the run may
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

impl Stored {
    /// Trials without a model token count only once their run has ended and was not found void: a run that was killed
    /// while the model's service was down must not leave zeros behind.
    fn counts(&self) -> bool {
        self.settled || self.tokens != Tokens::Zero
    }
}

/// Whose trials are meant, and what a timeout counts for.
#[derive(Debug, Clone, Copy)]
pub struct Of<'a> {
    /// Agent fingerprint.
    pub agent: &'a str,
    /// Fingerprint of what one trial depends on beside the agent.
    pub protocol: &'a str,
    /// What an agent timeout counts for.
    pub policy: TimeoutPolicy,
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
    /// Of the trial before. Trials come in long runs, so that this mostly saves looking all three up.
    last: Option<Last>,
    runs: HashMap<String, u32>,
    errors: Errors,
    seconds: HashMap<String, f64>,
}

/// What benchmarks said of train trials that were not graded: by place in `sets`, task and trial number.
#[derive(Debug, Default)]
struct Errors(HashMap<usize, HashMap<String, BTreeMap<u32, String>>>);

impl Errors {
    /// Keeps what is said of this trial, and forgets what was said of an earlier one in its place.
    fn note(&mut self, place: usize, trial: &Trial<'_>) {
        let graded = matches!(trial.outcome, Outcome::Passed | Outcome::Failed);
        match trial.error.as_deref().filter(|_| !graded && trial.split == Some(Split::Train)) {
            Some(error) => {
                let of_task = self.0.entry(place).or_default().entry(trial.task.to_string()).or_default();
                of_task.insert(trial.trial, error.to_string());
            }
            None => {
                if let Some(of_task) = self.0.get_mut(&place).and_then(|tasks| tasks.get_mut(trial.task.as_ref())) {
                    of_task.remove(&trial.trial);
                }
            }
        }
    }

    fn of(&self, place: usize, task: &str, trial: u32) -> Option<&str> {
        self.0.get(&place)?.get(task)?.get(&trial).map(String::as_str)
    }
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
    /// Adds a trial.
    pub fn insert(&mut self, trial: &Trial<'_>) {
        let (run, place) = self.place(&trial.run, &trial.agent, &trial.protocol);
        if let Some(seconds) = trial.seconds {
            match self.seconds.get_mut(trial.task.as_ref()) {
                Some(known) => *known = seconds,
                None => drop(self.seconds.insert(trial.task.to_string(), seconds)),
            }
        }
        let tokens = match (trial.tokens_in, trial.tokens_out) {
            (None, None) if trial.silent => Tokens::Zero,
            (None, None) => Tokens::Unknown,
            (input, output) if input.unwrap_or(0) == 0 && output.unwrap_or(0) == 0 => Tokens::Zero,
            _ => Tokens::Some,
        };
        let evidence = Evidence { outcome: trial.outcome, reward: trial.reward };
        let replaces = trial.split != Some(Split::Test);
        let stored = Stored { evidence, run, tokens, settled: false, replaces, trace_lost: trial.trace_lost };
        self.errors.note(place, trial);
        let index = trial.trial as usize;
        let put = |numbers: &mut Vec<Vec<Stored>>| {
            if numbers.len() <= index {
                numbers.resize_with(index + 1, Vec::new);
            }
            if replaces {
                // Of no use any more. What gave evidence stays: this trial may turn out to have given none.
                let ungraded =
                    |stored: &Stored| matches!(stored.evidence.outcome, Outcome::InfraError | Outcome::VerifierError);
                numbers[index].retain(|earlier| !ungraded(earlier));
            }
            // Mostly there is no second one, and in a long ledger room for more adds up.
            numbers[index].reserve_exact(1);
            numbers[index].push(stored);
        };
        let tasks = &mut self.sets[place].tasks;
        match tasks.get_mut(trial.task.as_ref()) {
            Some(numbers) => put(numbers),
            None => put(tasks.entry(trial.task.to_string()).or_default()),
        }
    }

    /// The run's number, and the place of the agent's trials under the protocol.
    fn place(&mut self, run: &str, agent: &str, protocol: &str) -> (u32, usize) {
        if let Some(last) = &self.last
            && (last.run.as_str(), last.agent.as_str(), last.protocol.as_str()) == (run, agent, protocol)
        {
            return (last.run_number, last.place);
        }
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

    /// A run over these tasks ended. When it is `void` (no model did anything, or it is not to be believed), its trials
    /// become infrastructure errors, and with them those of killed runs that it continued.
    pub fn run_finished(&mut self, agent: &str, protocol: &str, run: &str, tasks: &[String], void: bool) {
        let run = self.run(run);
        let place = self.by_agent.get(agent).and_then(|by_protocol| by_protocol.get(protocol));
        let Some(trials) = place.map(|place| &mut self.sets[*place]) else { return };
        for task in tasks {
            let numbers = trials.tasks.get_mut(task).map_or(&mut [][..], Vec::as_mut_slice);
            for stored in numbers.iter_mut().flatten().filter(|stored| !stored.settled) {
                stored.settled = true;
                // A silent trial of a killed run was run again by this one.
                if void || (stored.run != run && stored.tokens == Tokens::Zero) {
                    stored.evidence = Evidence { outcome: Outcome::InfraError, reward: None };
                }
            }
        }
    }

    /// Whether no model did anything in the run over `tasks` that is about to end, killed runs that it continues included.
    /// `reports_tokens`: the benchmark always says how many tokens were used, so silence means none.
    pub fn is_void(&self, agent: &str, protocol: &str, tasks: &[String], reports_tokens: bool) -> bool {
        let Some(known) = self.of(agent, protocol) else { return false };
        let newest = |stored: &'_ Vec<Stored>| match stored.last() {
            Some(last) if last.replaces => stored.len() - 1,
            _ => 0,
        };
        let stored = tasks.iter().filter_map(|task| known.tasks.get(task)).flatten();
        let stored = stored.flat_map(|stored| &stored[newest(stored)..]);
        // A crash before the first model call is the agent's own doing, and evidence.
        let graded = stored.filter(|stored| {
            let ungraded =
                matches!(stored.evidence.outcome, Outcome::AgentError | Outcome::InfraError | Outcome::VerifierError);
            !stored.settled && !ungraded
        });
        all_tokenless(graded, reports_tokens)
    }

    /// Whether no trial of this agent on `tasks` ever used a model token, whatever its outcome. A baseline of which that is
    /// true measures nothing: "0.0000" may as well be a provider that refuses a parameter, and any edit would beat it.
    pub fn is_tokenless(&self, agent: &str, protocol: &str, tasks: &[String], reports_tokens: bool) -> bool {
        let Some(known) = self.of(agent, protocol) else { return false };
        let stored = tasks.iter().filter_map(|task| known.tasks.get(task)).flatten().flatten();
        all_tokenless(stored.filter(|stored| !stored.evidence.outcome.is_no_evidence()), reports_tokens)
    }

    /// Such a baseline's trials become infrastructure errors, those of earlier runs included.
    pub fn forget(&mut self, agent: &str, protocol: &str, tasks: &[String]) {
        let place = self.by_agent.get(agent).and_then(|by_protocol| by_protocol.get(protocol));
        let Some(trials) = place.map(|place| &mut self.sets[*place]) else { return };
        for task in tasks {
            let numbers = trials.tasks.get_mut(task).map_or(&mut [][..], Vec::as_mut_slice);
            for stored in numbers.iter_mut().flatten() {
                stored.evidence = Evidence { outcome: Outcome::InfraError, reward: None };
            }
        }
    }

    fn of(&self, agent: &str, protocol: &str) -> Option<&AgentTrials> {
        Some(&self.sets[*self.by_agent.get(agent)?.get(protocol)?])
    }

    /// The evidence of a task's first `trials` trials, in order; numbers never run are skipped.
    pub fn evidence(&self, agent: &str, protocol: &str, task: &str, trials: u32) -> impl Iterator<Item = Evidence> {
        let numbers = self.of(agent, protocol).and_then(|known| known.tasks.get(task)).map_or(&[][..], Vec::as_slice);
        numbers.iter().take(trials as usize).flatten().filter(|stored| stored.counts()).map(|stored| stored.evidence)
    }

    /// How the trials behind the rewards of these tasks ended. A trial that was run again until it gave evidence counts once,
    /// as what it then was.
    pub fn outcomes(&self, agent: &str, protocol: &str, tasks: &[String], trials: u32) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let Some(&place) = self.by_agent.get(agent).and_then(|by_protocol| by_protocol.get(protocol)) else {
            return outcomes;
        };
        for task in tasks {
            let numbers = self.sets[place].tasks.get(task).map_or(&[][..], Vec::as_slice);
            for (number, stored) in (0..trials).zip(numbers) {
                // A timeout is an outcome whether it counts or not.
                let ended = || standing(stored, TimeoutPolicy::Agent).map(|stored| stored.evidence.outcome);
                let evidence: Vec<Outcome> = ended().filter(|outcome| !outcome.is_no_evidence()).collect();
                let last = ended().last().filter(|_| evidence.is_empty());
                for outcome in evidence.into_iter().chain(last) {
                    outcomes.add(outcome, self.errors.of(place, task, number));
                }
            }
        }
        outcomes
    }

    /// Whether this trial need not be run: it gave evidence already. Trials of the `current` run count as they are; whether
    /// any model worked in it is judged when it ends.
    pub fn has_evidence(&self, of: &Of<'_>, task: &str, trial: u32, current: Option<&str>) -> bool {
        let current = current.and_then(|run| self.runs.get(run));
        self.stored(of, task, trial).iter().any(|stored| {
            (stored.counts() || current == Some(&stored.run)) && stored.evidence.value(of.policy).is_some()
        })
    }

    /// Whether the `run` itself had evidence of this trial.
    pub fn has_evidence_of(&self, of: &Of<'_>, task: &str, trial: u32, run: &str) -> bool {
        let Some(run) = self.runs.get(run) else { return false };
        self.stored(of, task, trial)
            .iter()
            .any(|stored| stored.run == *run && stored.evidence.value(of.policy).is_some())
    }

    /// Whether the trace of this trial, as it counts on train, was lost.
    pub fn trace_lost(&self, of: &Of<'_>, task: &str, trial: u32) -> bool {
        standing(self.stored(of, task, trial), of.policy)
            .next()
            .is_some_and(|stored| stored.replaces && stored.trace_lost)
    }

    fn stored(&self, of: &Of<'_>, task: &str, trial: u32) -> &[Stored] {
        self.of(of.agent, of.protocol)
            .and_then(|known| known.tasks.get(task))
            .and_then(|numbers| numbers.get(trial as usize))
            .map_or(&[][..], Vec::as_slice)
    }

    /// Rewards of `tasks` as this agent has earned them so far; tasks without enough evidence map to `None`.
    pub fn rewards<'t>(
        &self,
        agent: &str,
        protocol: &str,
        tasks: impl IntoIterator<Item = &'t String>,
        trials: u32,
        policy: TimeoutPolicy,
    ) -> Rewards {
        let known = self.of(agent, protocol);
        let reward = |task: &String| task_reward(numbers(known, task, trials, policy).flatten(), trials, policy);
        Rewards(tasks.into_iter().map(|task| (task.clone(), reward(task))).collect::<BTreeMap<_, _>>())
    }

    /// Those of `tasks` that have a reward although trials are lacking: the reward with each lacking trial counted 0.0.
    pub fn least<'t>(
        &self,
        agent: &str,
        protocol: &str,
        tasks: impl IntoIterator<Item = &'t String>,
        trials: u32,
        policy: TimeoutPolicy,
    ) -> Rewards {
        let known = self.of(agent, protocol);
        let least = |task: &String| least_reward(numbers(known, task, trials, policy), trials, policy);
        Rewards(tasks.into_iter().filter_map(|task| Some((task.clone(), Some(least(task)?)))).collect())
    }

    /// How long the task took last time, in seconds.
    pub fn seconds(&self, task: &str) -> Option<f64> {
        self.seconds.get(task).copied()
    }
}

/// Whether there are trials, and none of them used a token. `reports_tokens`: silence means none.
fn all_tokenless<'s>(trials: impl Iterator<Item = &'s Stored>, reports_tokens: bool) -> bool {
    let mut trials = trials.peekable();
    trials.peek().is_some()
        && trials.all(|stored| match stored.tokens {
            Tokens::Unknown => reports_tokens,
            Tokens::Zero => true,
            Tokens::Some => false,
        })
}

/// What counts of a task's first `trials` trials, by number.
fn numbers<'s>(
    known: Option<&'s AgentTrials>,
    task: &str,
    trials: u32,
    policy: TimeoutPolicy,
) -> impl Iterator<Item = impl Iterator<Item = Evidence> + 's> + 's {
    let numbers = known.and_then(|known| known.tasks.get(task)).map_or(&[][..], Vec::as_slice);
    let numbers = numbers.iter().take(trials as usize);
    numbers.map(move |stored| standing(stored, policy).map(|stored| stored.evidence))
}

/// Which of the trials of one number count: all of them, or on train the newest that gave evidence.
fn standing(stored: &[Stored], policy: TimeoutPolicy) -> impl Iterator<Item = &Stored> {
    let newest = stored.iter().rposition(|stored| stored.counts() && stored.evidence.value(policy).is_some());
    let from = newest.filter(|newest| stored[*newest].replaces).unwrap_or(0);
    stored[from..].iter().filter(|stored| stored.counts())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::event::Purpose;

    fn trial(run: &str, split: Split, outcome: Outcome, tokens: Option<u64>) -> Trial<'_> {
        Trial {
            run: run.into(),
            purpose: Purpose::Benchmark,
            agent: "a".into(),
            protocol: "p".into(),
            split: Some(split),
            task: "t".into(),
            trial: 0,
            outcome,
            reward: match outcome {
                Outcome::Passed => Some(1.0),
                Outcome::Failed => Some(0.0),
                _ => None,
            },
            seconds: None,
            tokens_in: tokens,
            tokens_out: None,
            cost_usd: None,
            error: None,
            silent: false,
            trace_lost: false,
        }
    }

    fn of(policy: TimeoutPolicy) -> Of<'static> {
        Of { agent: "a", protocol: "p", policy }
    }

    fn reward(trials: &Trials) -> Option<f64> {
        trials.rewards("a", "p", &["t".to_string()], 1, TimeoutPolicy::Agent).0["t"]
    }

    #[test]
    fn tossing_again_on_the_hold_out_averages_and_on_train_replaces() {
        for (split, expected) in [(Split::Test, 0.5), (Split::Train, 1.0)] {
            let mut trials = Trials::default();
            trials.insert(&trial("r1", split, Outcome::Failed, None));
            trials.insert(&trial("r2", split, Outcome::Passed, None));
            assert_eq!(reward(&trials), Some(expected));
        }
    }

    #[test]
    fn only_evidence_replaces_evidence() {
        let tasks = ["t".to_string()];
        let after = |outcome, tokens, void| {
            let mut trials = Trials::default();
            trials.insert(&trial("r1", Split::Train, Outcome::Passed, Some(9)));
            trials.run_finished("a", "p", "r1", &tasks, false);
            trials.insert(&trial("r2", Split::Train, outcome, tokens));
            let while_it_runs = reward(&trials);
            trials.run_finished("a", "p", "r2", &tasks, void);
            (while_it_runs, reward(&trials))
        };
        assert_eq!(after(Outcome::InfraError, None, false), (Some(1.0), Some(1.0)));
        assert_eq!(after(Outcome::VerifierError, None, false), (Some(1.0), Some(1.0)));
        assert_eq!(after(Outcome::Failed, Some(0), true), (Some(1.0), Some(1.0)), "no model was there");
        assert_eq!(after(Outcome::Failed, Some(7), true), (Some(0.0), Some(1.0)), "nothing of the run is believed");
        assert_eq!(after(Outcome::Failed, Some(7), false), (Some(0.0), Some(0.0)));
        assert_eq!(after(Outcome::AgentError, None, false), (Some(0.0), Some(0.0)));
        let mut trials = Trials::default();
        trials.insert(&trial("r1", Split::Train, Outcome::Passed, Some(9)));
        trials.insert(&trial("r2", Split::Train, Outcome::AgentTimeout, None));
        let under = |policy| trials.rewards("a", "p", &tasks, 1, policy).0["t"];
        assert_eq!((under(TimeoutPolicy::Agent), under(TimeoutPolicy::Infra)), (Some(0.0), Some(1.0)));
    }

    #[test]
    fn a_run_knows_its_own_evidence_from_that_of_others() {
        let mut trials = Trials::default();
        trials.insert(&trial("r1", Split::Train, Outcome::Passed, Some(9)));
        trials.insert(&trial("r2", Split::Train, Outcome::InfraError, None));
        let of = of(TimeoutPolicy::Agent);
        assert!(trials.has_evidence_of(&of, "t", 0, "r1") && !trials.has_evidence_of(&of, "t", 0, "r2"));
        assert!(trials.has_evidence(&of, "t", 0, Some("r2")) && !trials.has_evidence_of(&of, "t", 0, "r3"));
    }

    #[test]
    fn agents_protocols_and_runs_are_kept_apart() {
        let mut trials = Trials::default();
        let tasks = ["t".to_string()];
        let whose = [("a", "p", Outcome::Passed), ("b", "p", Outcome::Failed), ("a", "q", Outcome::Failed)];
        for _ in 0..2 {
            for (agent, protocol, outcome) in whose {
                let of =
                    Trial { agent: agent.into(), protocol: protocol.into(), ..trial("r1", Split::Test, outcome, None) };
                trials.insert(&of);
            }
        }
        for (agent, protocol, outcome) in whose {
            let expected = Evidence { outcome, reward: Some(if outcome == Outcome::Passed { 1.0 } else { 0.0 }) };
            assert_eq!(
                trials.evidence(agent, protocol, "t", 1).collect::<Vec<_>>(),
                [expected; 2],
                "{agent} {protocol}"
            );
            let rewards = trials.rewards(agent, protocol, &tasks, 1, TimeoutPolicy::Agent);
            assert_eq!(rewards.0["t"], expected.reward, "{agent} {protocol}");
        }
        assert_eq!(trials.evidence("b", "q", "t", 1).count(), 0);
        // One agent, two runs: only the second had evidence.
        let mut trials = Trials::default();
        trials.insert(&trial("r1", Split::Test, Outcome::InfraError, None));
        trials.insert(&trial("r2", Split::Test, Outcome::Passed, None));
        let of = of(TimeoutPolicy::Agent);
        let had = |run| trials.has_evidence_of(&of, "t", 0, run);
        assert_eq!((had("r1"), had("r2")), (false, true));
    }

    #[test]
    fn the_evidence_of_a_task_is_that_of_its_first_trials_that_count() {
        let mut trials = Trials::default();
        let numbered = |number, outcome, tokens| Trial { trial: number, ..trial("r1", Split::Test, outcome, tokens) };
        trials.insert(&numbered(0, Outcome::Passed, Some(1)));
        trials.insert(&numbered(2, Outcome::Failed, Some(0)));
        trials.insert(&numbered(3, Outcome::InfraError, None));
        let outcomes = |trials: &Trials, count| -> Vec<Outcome> {
            trials.evidence("a", "p", "t", count).map(|evidence| evidence.outcome).collect()
        };
        assert_eq!(outcomes(&trials, 3), [Outcome::Passed], "no token, and its run has not ended");
        trials.run_finished("a", "p", "r1", &["t".to_string()], false);
        assert_eq!(outcomes(&trials, 3), [Outcome::Passed, Outcome::Failed]);
        assert_eq!(outcomes(&trials, 4), [Outcome::Passed, Outcome::Failed, Outcome::InfraError]);
        assert_eq!(outcomes(&trials, 0), []);
    }

    #[test]
    fn a_task_takes_as_long_as_last_time() {
        let mut trials = Trials::default();
        assert_eq!(trials.seconds("t"), None);
        // seconds of one more trial, what is known then
        for (seconds, known) in [(None, None), (Some(30.5), Some(30.5)), (None, Some(30.5)), (Some(7.0), Some(7.0))] {
            trials.insert(&Trial { seconds, ..trial("r1", Split::Train, Outcome::Passed, None) });
            assert_eq!(trials.seconds("t"), known, "{seconds:?}");
        }
        assert_eq!(trials.seconds("u"), None);
    }

    #[test]
    fn a_lost_trace_is_known_until_a_trial_brings_one() {
        let mut trials = Trials::default();
        let of = of(TimeoutPolicy::Agent);
        trials.insert(&Trial { trace_lost: true, ..trial("r1", Split::Train, Outcome::Failed, Some(9)) });
        assert!(trials.trace_lost(&of, "t", 0) && trials.has_evidence(&of, "t", 0, None));
        trials.insert(&trial("r2", Split::Train, Outcome::InfraError, None));
        assert!(trials.trace_lost(&of, "t", 0));
        trials.insert(&trial("r3", Split::Train, Outcome::Failed, Some(9)));
        assert!(!trials.trace_lost(&of, "t", 0));
    }

    #[test]
    fn a_retried_infrastructure_error_leaves_no_mark() {
        let mut trials = Trials::default();
        trials.insert(&trial("r1", Split::Test, Outcome::InfraError, None));
        assert!(!trials.has_evidence(&of(TimeoutPolicy::Agent), "t", 0, None));
        trials.insert(&trial("r1", Split::Test, Outcome::Passed, None));
        assert_eq!(reward(&trials), Some(1.0));
    }

    #[test]
    fn zeros_of_a_killed_run_without_a_token_do_not_count() {
        let tasks = ["t".to_string()];
        let mut trials = Trials::default();
        trials.insert(&trial("r1", Split::Test, Outcome::Failed, Some(0)));
        assert_eq!(reward(&trials), None);
        assert!(!trials.has_evidence(&of(TimeoutPolicy::Agent), "t", 0, None));
        assert!(
            trials.has_evidence(&of(TimeoutPolicy::Agent), "t", 0, Some("r1")),
            "while its own run goes on it counts"
        );
        // The next run, with the model back, runs it again.
        trials.insert(&trial("r2", Split::Test, Outcome::Passed, Some(7)));
        assert!(!trials.is_void("a", "p", &tasks, true));
        trials.run_finished("a", "p", "r2", &tasks, false);
        assert_eq!(reward(&trials), Some(1.0));
    }

    #[test]
    fn a_run_without_any_token_is_void() {
        let is_void = |outcome, tokens, reports| {
            let mut trials = Trials::default();
            trials.insert(&trial("r1", Split::Test, outcome, tokens));
            trials.is_void("a", "p", &["t".to_string()], reports)
        };
        assert!(is_void(Outcome::Failed, Some(0), false));
        assert!(!is_void(Outcome::Failed, Some(7), true));
        assert!(!is_void(Outcome::Failed, None, false));
        assert!(is_void(Outcome::Failed, None, true));
        assert!(!is_void(Outcome::AgentError, None, true));
    }

    #[test]
    fn a_run_is_void_for_what_stands_of_it_and_of_the_killed_run_before() {
        for (split, killed, own, void) in [
            (Split::Test, 0, 0, true),
            (Split::Test, 0, 9, false),
            // Beside what the killed run left.
            (Split::Test, 9, 0, false),
            (Split::Train, 0, 0, true),
            (Split::Train, 0, 9, false),
            // In place of it.
            (Split::Train, 9, 0, true),
        ] {
            let mut trials = Trials::default();
            trials.insert(&trial("r1", split, Outcome::Failed, Some(killed)));
            trials.insert(&trial("r2", split, Outcome::Failed, Some(own)));
            assert_eq!(trials.is_void("a", "p", &["t".to_string()], true), void, "{split} {killed} {own}");
        }
    }

    #[test]
    fn a_void_run_takes_its_trials_with_it_and_nothing_else() {
        let tasks = ["t".to_string()];
        let mut trials = Trials::default();
        trials.insert(&trial("r1", Split::Test, Outcome::Passed, Some(9)));
        trials.run_finished("a", "p", "r1", &tasks, false);
        trials.insert(&trial("r2", Split::Test, Outcome::Failed, Some(0)));
        trials.run_finished("a", "p", "r2", &tasks, true);
        assert_eq!(reward(&trials), Some(1.0));
    }

    #[test]
    fn outcomes_are_those_that_a_reward_stands_on() {
        let tasks = ["t".to_string()];
        let said = |trials: &Trials| trials.outcomes("a", "p", &tasks, 1).aloud();
        let with = |split, outcome, error: Option<&'static str>| Trial {
            error: error.map(Into::into),
            ..trial("r1", split, outcome, Some(1))
        };
        let mut trials = Trials::default();
        assert_eq!(said(&trials), None);
        trials.insert(&with(Split::Train, Outcome::AgentError, Some("KeyError: 'x'")));
        assert_eq!(said(&trials).as_deref(), Some("1 agent_error: KeyError"));
        trials.insert(&with(Split::Train, Outcome::AgentError, None));
        assert_eq!(said(&trials).as_deref(), Some("1 agent_error"));
        // On the hold-out no reason is ever told, and what was run again is not counted twice.
        let mut trials = Trials::default();
        trials.insert(&with(Split::Test, Outcome::VerifierError, Some("KeyError: 't'")));
        trials.insert(&with(Split::Test, Outcome::InfraError, Some("KeyError: 't'")));
        assert_eq!(said(&trials).as_deref(), Some("1 infra_error"));
        trials.insert(&with(Split::Test, Outcome::Passed, None));
        assert_eq!(said(&trials), None);
    }

    #[test]
    fn a_timeout_that_is_left_out_is_run_again() {
        let mut trials = Trials::default();
        trials.insert(&trial("r1", Split::Test, Outcome::AgentTimeout, None));
        assert!(trials.has_evidence(&of(TimeoutPolicy::Agent), "t", 0, None));
        assert!(!trials.has_evidence(&of(TimeoutPolicy::Infra), "t", 0, None));
    }

    #[test]
    fn silence_in_a_killed_run_counts_for_nothing_where_the_benchmark_always_reports() {
        for (silent, reward_now) in [(false, Some(0.0)), (true, None)] {
            for outcome in [Outcome::Failed, Outcome::AgentTimeout, Outcome::AgentError] {
                let mut trials = Trials::default();
                trials.insert(&Trial { silent, ..trial("r1", Split::Test, outcome, None) });
                assert_eq!(reward(&trials), reward_now, "{outcome:?} {silent}");
                let has = |current| trials.has_evidence(&of(TimeoutPolicy::Agent), "t", 0, current);
                assert_eq!((has(None), has(Some("r1"))), (!silent, true), "{outcome:?} {silent}");
            }
        }
        // A token is a token, and a run that ended in which a model worked gives silence its meaning back.
        let mut trials = Trials::default();
        trials.insert(&Trial { silent: true, ..trial("r1", Split::Test, Outcome::AgentError, None) });
        trials.run_finished("a", "p", "r1", &["t".to_string()], false);
        assert_eq!(reward(&trials), Some(0.0));
    }

    #[test]
    fn a_baseline_is_tokenless_when_none_of_its_trials_ever_used_a_token() {
        let tasks = ["t".to_string()];
        for (outcome, tokens, reports, tokenless) in [
            (Outcome::AgentError, None, true, true),
            (Outcome::AgentError, None, false, false),
            (Outcome::AgentError, Some(0), false, true),
            (Outcome::AgentError, Some(1), true, false),
            (Outcome::Failed, None, true, true),
            (Outcome::AgentTimeout, Some(0), true, true),
            (Outcome::InfraError, None, true, false),
            (Outcome::VerifierError, Some(0), true, false),
        ] {
            let mut trials = Trials::default();
            assert!(!trials.is_tokenless("a", "p", &tasks, reports), "no trial, no baseline");
            trials.insert(&trial("r1", Split::Test, outcome, tokens));
            assert_eq!(trials.is_tokenless("a", "p", &tasks, reports), tokenless, "{outcome:?} {tokens:?} {reports}");
            trials.run_finished("a", "p", "r1", &tasks, false);
            assert_eq!(trials.is_tokenless("a", "p", &tasks, reports), tokenless, "settled: {outcome:?} {tokens:?}");
            assert!(!trials.is_tokenless("a", "p", &["other".to_string()], reports));
            // One trial with a token speaks for all.
            trials.insert(&trial("r2", Split::Test, Outcome::Failed, Some(1)));
            assert!(!trials.is_tokenless("a", "p", &tasks, reports));
        }
    }

    #[test]
    fn what_is_forgotten_is_run_again() {
        let mut trials = Trials::default();
        trials.insert(&trial("r1", Split::Test, Outcome::AgentError, None));
        trials.run_finished("a", "p", "r1", &["t".to_string()], false);
        for (agent, protocol, task) in [("b", "p", "t"), ("a", "q", "t"), ("a", "p", "u")] {
            trials.forget(agent, protocol, &[task.to_string()]);
            assert_eq!(reward(&trials), Some(0.0), "{agent} {protocol} {task}");
        }
        trials.forget("a", "p", &["t".to_string()]);
        assert_eq!(reward(&trials), None);
        assert!(!trials.has_evidence(&of(TimeoutPolicy::Agent), "t", 0, None));
    }

    #[test]
    fn a_task_that_lacks_trials_is_worth_less_at_least() {
        let mut trials = Trials::default();
        trials.insert(&trial("r1", Split::Test, Outcome::Passed, None));
        let least = |trials: &Trials, count| trials.least("a", "p", &["t".to_string()], count, TimeoutPolicy::Agent).0;
        assert_eq!(least(&trials, 1), BTreeMap::new());
        assert_eq!(least(&trials, 2), BTreeMap::from([("t".to_string(), Some(0.5))]));
        assert_eq!(least(&trials, 3), BTreeMap::new(), "too few for a reward");
        trials.insert(&Trial { trial: 1, ..trial("r1", Split::Test, Outcome::Failed, None) });
        assert_eq!(least(&trials, 2), BTreeMap::new());
    }
}

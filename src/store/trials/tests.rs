//! What trials add up to, in tables.

use std::collections::BTreeMap;

use super::*;
use crate::model::usage::Usage;

const ONE: Scoring = Scoring { trials: 1, policy: TimeoutPolicy::Agent };

fn trial(run: &str, split: Split, outcome: Outcome, tokens: Option<u64>) -> Trial<'_> {
    Trial {
        run: run.into(),
        split: Some(split),
        outcome,
        reward: match outcome {
            Outcome::Passed => Some(1.0),
            Outcome::Failed => Some(0.0),
            _ => None,
        },
        usage: Usage { tokens_in: tokens, ..Usage::default() },
        ..Trial::example()
    }
}

fn of(policy: TimeoutPolicy) -> TrialsOf<'static> {
    TrialsOf { agent: "a", protocol: "p", policy }
}

fn reward(trials: &Trials) -> Option<f64> {
    trials.rewards("a", "p", &["t".to_string()], ONE).0["t"]
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
    let under = |policy| trials.rewards("a", "p", &tasks, Scoring { trials: 1, policy }).0["t"];
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
        let expected = TrialEvidence { outcome, reward: Some(if outcome == Outcome::Passed { 1.0 } else { 0.0 }) };
        assert_eq!(trials.evidence(agent, protocol, "t", 1).collect::<Vec<_>>(), [expected; 2], "{agent} {protocol}");
        let rewards = trials.rewards(agent, protocol, &tasks, ONE);
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
        let usage = Usage { seconds, ..Usage::default() };
        trials.insert(&Trial { usage, ..trial("r1", Split::Train, Outcome::Passed, None) });
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
    // Another trial of the task is no retry.
    let mut trials = Trials::default();
    trials.insert(&trial("r1", Split::Train, Outcome::InfraError, None));
    trials.insert(&Trial { trial: 1, ..trial("r1", Split::Train, Outcome::Passed, Some(1)) });
    assert_eq!(trials.outcomes("a", "p", &["t".to_string()], 2).summary().as_deref(), Some("1 infra_error"));
}

#[test]
fn zeros_of_a_killed_run_without_a_token_do_not_count() {
    let tasks = ["t".to_string()];
    let mut trials = Trials::default();
    trials.insert(&trial("r1", Split::Test, Outcome::Failed, Some(0)));
    assert_eq!(reward(&trials), None);
    assert!(!trials.has_evidence(&of(TimeoutPolicy::Agent), "t", 0, None));
    assert!(trials.has_evidence(&of(TimeoutPolicy::Agent), "t", 0, Some("r1")), "while its own run goes on it counts");
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
fn a_task_that_was_answered_without_a_model_voids_no_run_alone() {
    let known = |tokens, void| {
        let mut trials = Trials::default();
        let other = Trial { task: "other".into(), ..trial("r1", Split::Test, Outcome::Failed, Some(7)) };
        trials.insert(&other);
        trials.insert(&trial("r1", Split::Test, Outcome::Failed, tokens));
        trials.run_finished("a", "p", "r1", &["t".into(), "other".into()], void);
        trials
    };
    // Under the gate's protocol or a comparison's, the agent is the same.
    for protocol in ["p", "p versus b"] {
        for (tokens, void, expected) in
            [(Some(0), false, false), (None, false, false), (Some(7), false, true), (Some(0), true, true)]
        {
            let mut trials = known(tokens, void);
            let alone =
                Trial { protocol: protocol.into(), trial: 1, ..trial("r2", Split::Test, Outcome::Failed, Some(0)) };
            trials.insert(&alone);
            let tasks = ["t".to_string()];
            assert_eq!(trials.is_void("a", protocol, &tasks, true), expected, "{protocol} {tokens:?} {void}");
            // Beside one of which nothing is known, that one decides.
            trials.insert(&Trial { task: "new".into(), ..alone });
            assert!(trials.is_void("a", protocol, &["t".to_string(), "new".to_string()], true));
        }
    }
    // It says that the model works once it uses it.
    let mut speaks = known(Some(0), false);
    speaks.insert(&Trial { trial: 1, ..trial("r2", Split::Test, Outcome::Failed, Some(7)) });
    speaks.insert(&Trial { task: "new".into(), ..trial("r2", Split::Test, Outcome::Failed, Some(0)) });
    assert!(!speaks.is_void("a", "p", &["t".to_string(), "new".to_string()], true));
    let mut another = known(Some(0), false);
    another.insert(&Trial { agent: "b".into(), ..trial("r2", Split::Test, Outcome::Failed, Some(0)) });
    assert!(another.is_void("b", "p", &["t".to_string()], true), "another agent");
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
    let said = |trials: &Trials| trials.outcomes("a", "p", &tasks, 1).summary();
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
    // On the hold-out no reason is ever given, and a trial that was run again is not counted twice.
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
    let least = |trials: &Trials, count| trials.least("a", "p", &["t".to_string()], Scoring { trials: count, ..ONE }).0;
    assert_eq!(least(&trials, 1), BTreeMap::new());
    assert_eq!(least(&trials, 2), BTreeMap::from([("t".to_string(), Some(0.5))]));
    assert_eq!(least(&trials, 3), BTreeMap::new(), "too few for a reward");
    trials.insert(&Trial { trial: 1, ..trial("r1", Split::Test, Outcome::Failed, None) });
    assert_eq!(least(&trials, 2), BTreeMap::new());
    assert_eq!(reward(&trials), Some(1.0), "of one trial, whatever else was run");
}

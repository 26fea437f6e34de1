//! The rules of the gate, in tables.

use super::step::MISSING;
use super::*;
use crate::model::compare::Reference;
use crate::model::suite::{KnownTask, TaskHistory};
use std::collections::{BTreeMap, BTreeSet};

fn rewards(values: &[Option<f64>]) -> Rewards {
    Rewards(values.iter().enumerate().map(|(i, value)| (format!("t{i:02}"), *value)).collect())
}

/// A best score of an earlier version, which does not say what it is made of.
fn plain(val_score: f64) -> Option<Reference> {
    Some(Reference { val_score, source: "baseline".into(), rewards: Rewards::default() })
}

fn best(values: &[Option<f64>]) -> Option<Reference> {
    let rewards = rewards(values);
    Some(Reference { val_score: rewards.score().mean.unwrap(), source: "baseline".into(), rewards })
}

#[test]
fn many_violations_are_a_few_lines_and_a_count() {
    let lines = |count: usize| (0..count).map(|number| format!("f{number}: new")).collect::<Vec<_>>();
    assert_eq!(shortened(lines(20), VIOLATIONS_SHOWN), lines(20));
    let short = shortened(lines(30_000), VIOLATIONS_SHOWN);
    assert_eq!((short.len(), short[20].as_str()), (21, "and 29980 more"));
    let detail = |guard| decide(&Evidence { guard, ..evidence() }).steps[0].detail.clone();
    assert_eq!(detail(short), "f0: new; and 29999 more");
    assert_eq!(detail(lines(3)), "f0: new; and 2 more");
}

fn evidence() -> Evidence {
    Evidence {
        suite: rewards(&[Some(1.0); 10]),
        holdout: rewards(&[Some(1.0), Some(0.0)]),
        best: plain(0.5),
        ..Evidence::new(Policy::default())
    }
}

#[test]
fn equal_to_the_best_passes_and_below_fails() {
    assert_eq!(decide(&evidence()).status, Status::Passed);
    let better = Evidence { best: plain(0.5001), ..evidence() };
    assert_eq!(decide(&better).status, Status::Failed);
}

#[test]
fn no_record_yet_passes() {
    assert_eq!(decide(&Evidence { best: None, ..evidence() }).status, Status::Passed);
}

#[test]
fn the_threshold_is_inclusive() {
    let mut values = [Some(1.0); 10];
    values[0] = Some(0.0);
    values[1] = Some(0.49);
    assert_eq!(decide(&Evidence { suite: rewards(&values), ..evidence() }).status, Status::Passed);
    values[2] = Some(0.0);
    let decision = decide(&Evidence { suite: rewards(&values), ..evidence() });
    assert_eq!(decision.status, Status::Failed);
    assert!(decision.steps[1].detail.contains("t00, t01, t02"), "{:?}", decision.steps[1]);
}

#[test]
fn missing_evidence_decides_nothing() {
    let holdout = rewards(&[Some(1.0), None]);
    assert_eq!(decide(&Evidence { holdout, ..evidence() }).status, Status::Undecided);
    let suite = rewards(&[Some(1.0), None]);
    assert_eq!(decide(&Evidence { suite, ..evidence() }).status, Status::Undecided);
    assert_eq!(decide(&Evidence { holdout: Rewards::default(), ..evidence() }).status, Status::Undecided);
}

#[test]
fn a_decided_no_outweighs_a_step_that_decides_nothing() {
    let both = Evidence { suite: rewards(&[Some(0.0); 5]), holdout: rewards(&[None; 4]), ..evidence() };
    assert_eq!(decide(&both).status, Status::Failed);
}

#[test]
fn the_guard_comes_before_everything() {
    let decision = decide(&Evidence { guard: vec!["bench.py was modified".into()], ..evidence() });
    assert_eq!(decision.status, Status::Failed);
    assert_eq!(decision.steps.len(), 1);
    assert_eq!(decision.val_score, None);
}

#[test]
fn an_agent_that_cannot_be_imported_is_rejected_without_a_score() {
    let judged = Evidence { preflight: Some("SyntaxError: line 3".into()), ..evidence() };
    let decision = decide(&judged);
    let steps: Vec<_> =
        decision.steps.iter().map(|step| (step.name.as_str(), step.status, step.detail.as_str())).collect();
    let guard = ("file_guard", Status::Passed, "only editable files differ from the base commit");
    assert_eq!(steps, [guard, ("preflight", Status::Failed, "SyntaxError: line 3")]);
    assert_eq!((decision.status, decision.val_score, decision.evals_total), (Status::Failed, None, 0));
    // Files that may not be there are not looked into.
    let both = Evidence { guard: vec!["bench.py was modified".into()], ..judged };
    assert_eq!(decide(&both).steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["file_guard"]);
}

#[test]
fn words_are_stored_as_they_are_printed() {
    for status in [Status::Passed, Status::Failed, Status::Skipped, Status::Undecided] {
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
    }
    assert_eq!(Status::Undecided.as_str(), "undecided");
}

#[test]
fn the_suite_names_what_fails_now_and_counts_what_is_missing() {
    let policy = Policy { min_evidence: 0.5, ..evidence().policy };
    for (suite, status, detail) in [
        (vec![P, P], Status::Passed, "2/2 tasks pass, 1.00 >= 0.80"),
        (vec![P, P, P, P, F], Status::Passed, "4/5 tasks pass, 0.80 >= 0.80; now failing: t04"),
        (
            vec![P, F, None],
            Status::Failed,
            "1/2 tasks pass, 0.50 < 0.80; now failing: t01; 1 left out for lack of evidence",
        ),
    ] {
        let judged = Evidence { suite: rewards(&suite), policy: policy.clone(), ..evidence() };
        let step = decide(&judged).steps[1].clone();
        assert_eq!((step.status, step.detail.as_str()), (status, detail));
    }
}

#[test]
fn promotion_says_what_joins_the_suite() {
    for (promotion, status, detail) in [
        (vec![], Status::Skipped, "no train task was waiting to be fixed"),
        (vec![P, F], Status::Passed, "1 of 2 failing train tasks pass now and join the suite: t00"),
        (vec![F], Status::Passed, "none of 1 failing train tasks passes now"),
        (vec![F, None], Status::Passed, "none of 2 failing train tasks passes now; 1 left out for lack of evidence"),
    ] {
        let step = decide(&Evidence { promotion: rewards(&promotion), ..evidence() }).steps[3].clone();
        assert_eq!((step.name.as_str(), step.status, step.detail.as_str()), ("promotion", status, detail));
    }
}

#[test]
fn promotion_needs_both_steps() {
    let promotion = rewards(&[Some(1.0), Some(0.0), None]);
    let passed = decide(&Evidence { promotion: promotion.clone(), ..evidence() });
    assert_eq!(passed.promoted, ["t00"]);
    let best = plain(0.9);
    assert!(decide(&Evidence { promotion, best, ..evidence() }).promoted.is_empty());
}

#[test]
fn an_empty_suite_is_skipped_and_said_so() {
    let decision = decide(&Evidence { suite: Rewards(BTreeMap::new()), ..evidence() });
    assert_eq!(decision.steps[1].status, Status::Skipped);
    assert_eq!(decision.status, Status::Passed);
}

const P: Option<f64> = Some(1.0);
const F: Option<f64> = Some(0.0);

fn hold_out_of(evidence: &Evidence) -> (Status, String) {
    let decision = decide(evidence);
    let step = decision.steps.iter().find(|step| step.name == "hold_out").unwrap();
    (step.status, step.detail.clone())
}

/// Ten tasks, five of which pass; `changes` replaces some.
fn ten(changes: &[(usize, Option<f64>)]) -> Vec<Option<f64>> {
    let mut values = [[P; 5], [F; 5]].concat();
    changes.iter().for_each(|(task, value)| values[*task] = *value);
    values
}

#[test]
fn a_lost_task_neither_raises_a_score_nor_the_bar() {
    // candidate, best, how it ends, what is said at the end
    let cases: [(&[_], &[_], Status, &str); 8] = [
        (&[], &[], Status::Passed, "val_score 0.5000 (5/10 pass) >= best 0.5000 (baseline)"),
        (
            &[(9, None)],
            &[],
            Status::Passed,
            "val_score 0.5556 (5/9 pass) >= best 0.5000 (baseline); 1 left out for lack of evidence; \
             compared on the 9 tasks that both gave evidence for: 0.5556 >= 0.5556",
        ),
        (
            &[],
            &[(9, None)],
            Status::Passed,
            "val_score 0.5000 (5/10 pass) < best 0.5556 (baseline); \
             compared on the 9 tasks that both gave evidence for: 0.5556 >= 0.5556",
        ),
        (
            &[(0, None)],
            &[],
            Status::Undecided,
            "val_score 0.4444 (4/9 pass) < best 0.5000 (baseline); 1 left out for lack of evidence; compared on the 9 \
             tasks that both gave evidence for: 0.4444 >= 0.4444; whether it passes hangs on trials without evidence, \
             so nothing is decided",
        ),
        (
            &[(0, None), (9, P)],
            &[],
            Status::Passed,
            "val_score 0.5556 (5/9 pass) >= best 0.5000 (baseline); 1 left out for lack of evidence; \
             compared on the 9 tasks that both gave evidence for: 0.5556 >= 0.4444",
        ),
        (
            &[(9, None), (4, F)],
            &[],
            Status::Failed,
            "val_score 0.4444 (4/9 pass) < best 0.5000 (baseline); 1 left out for lack of evidence; \
             compared on the 9 tasks that both gave evidence for: 0.4444 < 0.5556",
        ),
        // 5/9 is more than 0.5, and yet a task that the best passes was broken.
        (
            &[(4, F), (9, P)],
            &[(9, None)],
            Status::Failed,
            "val_score 0.5000 (5/10 pass) < best 0.5556 (baseline); \
             compared on the 9 tasks that both gave evidence for: 0.4444 < 0.5556",
        ),
        (
            &[(9, None)],
            &[(8, None)],
            Status::Undecided,
            "8 of the 9 tasks of the best score gave evidence, 0.90 of them is needed; nothing is decided",
        ),
    ];
    for (candidate, reference, status, detail) in cases {
        let judged = Evidence { holdout: rewards(&ten(candidate)), best: best(&ten(reference)), ..evidence() };
        assert_eq!(hold_out_of(&judged), (status, detail.to_string()), "{candidate:?} {reference:?}");
    }
}

#[test]
fn trials_that_are_lacking_decide_nothing_in_favour_of_an_edit() {
    let least = Rewards(BTreeMap::from([("t00".into(), Some(0.5))]));
    let judged = Evidence { holdout_least: least.clone(), best: best(&[P, F]), ..evidence() };
    assert_eq!(hold_out_of(&judged).0, Status::Undecided);
    let lower = Evidence { best: best(&[Some(0.5), F]), ..judged };
    assert_eq!(hold_out_of(&lower).0, Status::Passed);
    let half = Rewards(BTreeMap::from([("t00".into(), Some(0.4)), ("t01".into(), Some(0.4))]));
    let one = |suite_least, n| Evidence { suite: rewards(&vec![P; n]), suite_least, ..evidence() };
    assert_eq!(decide(&one(half.clone(), 10)).steps[1].status, Status::Passed);
    assert_eq!(decide(&one(half, 9)).steps[1].status, Status::Undecided);
    assert_eq!(decide(&one(least, 1)).steps[1].status, Status::Passed);
}

#[test]
fn suite_tasks_that_give_no_evidence_do_not_pass() {
    let policy = Policy { min_evidence: 0.5, ..evidence().policy };
    // suite, how it ends
    for (suite, status) in [
        (vec![P, P, P, P, None], Status::Passed),
        (vec![P, P, P, None], Status::Undecided),
        (vec![P, P, P, P, F, None], Status::Undecided),
        (vec![P, P, F, None], Status::Failed),
        (vec![P, None, None], Status::Undecided),
    ] {
        let judged = Evidence { suite: rewards(&suite), policy: policy.clone(), ..evidence() };
        let step = decide(&judged).steps[1].clone();
        assert_eq!(step.status, status, "{suite:?}");
        let says = step.detail.ends_with(MISSING);
        assert_eq!(says, suite.len() < 7 && status == Status::Undecided && suite != [P, None, None], "{}", step.detail);
    }
}

#[test]
fn old_evidence_is_decided_by_the_old_rules() {
    let policy = Policy { min_evidence: 0.5, ..evidence().policy };
    let judged = Evidence {
        rules: 0,
        policy,
        suite: rewards(&[P, P, P, None]),
        holdout: rewards(&ten(&[(0, None), (9, P)])),
        ..evidence()
    };
    assert_eq!(decide(&Evidence { best: plain(5.0 / 9.0), ..judged.clone() }).status, Status::Passed);
    assert_eq!(decide(&Evidence { best: best(&ten(&[(8, None)])), ..judged.clone() }).status, Status::Passed);
    assert_eq!(decide(&Evidence { best: plain(0.6), ..judged.clone() }).status, Status::Failed);
    let mut old = serde_json::to_value(&Evidence { best: plain(0.5), ..judged }).unwrap();
    old.as_object_mut().unwrap().remove("rules");
    let read: Evidence = serde_json::from_value(old).unwrap();
    assert_eq!((read.rules, decide(&read).status), (0, Status::Passed));
}

#[test]
fn what_the_leak_scan_finds_warns_or_stops() {
    for (scan, leaks, status, stopped, detail) in [
        (LeakScan::Warn, 0, None, false, ""),
        (LeakScan::Warn, 1, Some(Status::Passed), false, "warning: line 0"),
        (LeakScan::Warn, 3, Some(Status::Passed), false, "warning: line 0; and 2 more"),
        (LeakScan::Fail, 0, None, false, ""),
        (LeakScan::Fail, 1, Some(Status::Failed), true, "line 0"),
        (LeakScan::Fail, 40, Some(Status::Failed), true, "line 0; and 39 more"),
    ] {
        let mut evidence = evidence();
        evidence.policy.leak_scan = scan;
        evidence.leaks = shortened((0..leaks).map(|n| format!("line {n}")).collect(), LEAKS_SHOWN);
        let decision = decide(&evidence);
        let step = decision.steps.iter().find(|step| step.name == "leak_scan");
        assert_eq!(step.map(|step| step.status), status, "{scan:?} {leaks}");
        assert_eq!(step.map_or("", |step| step.detail.as_str()), detail);
        assert_eq!((evidence.is_stopped(), decision.val_score.is_none()), (stopped, stopped));
        assert_eq!(decision.status, if stopped { Status::Failed } else { Status::Passed });
    }
}

/// A task of the suite by the rule `paired`: what it earned at best, how accepted agents fared, what both agents earned.
type SuiteTask<'a> = (f64, (u32, u32), &'a [f64], &'a [f64]);

fn suite(tasks: &[SuiteTask<'_>]) -> Evidence {
    let known = tasks.iter().enumerate().map(|(at, (_, (passed, of), candidate, incumbent))| {
        let history = TaskHistory { passed: *passed, of: *of };
        (format!("t{at:02}"), KnownTask { history, candidate: candidate.to_vec(), incumbent: incumbent.to_vec() })
    });
    let values: Vec<Option<f64>> = tasks.iter().map(|(reward, ..)| Some(*reward)).collect();
    let paired = PairedPolicy { alpha: 0.1, max_rounds: 3, confirm_trials: 3, promote_after: Some(3), candidate: None };
    Evidence {
        suite: rewards(&values),
        suite_known: Some(known.collect()),
        ..Evidence::new(Policy { paired: Some(paired), ..Policy::default() })
    }
}

#[test]
fn by_the_rule_paired_a_suite_is_broken_where_it_could_be_relied_on() {
    const ON: &[f64] = &[1.0];
    const OFF: &[f64] = &[0.0];
    const ALL: &[f64] = &[1.0, 1.0, 1.0];
    let solid = (1.0, (10, 10), ON, ALL);
    let step = |evidence: &Evidence| decide(evidence).steps[1].clone();
    let broken = step(&suite(&[solid, (0.0, (9, 10), OFF, ALL)]));
    assert_eq!(
        (broken.status, broken.detail.as_str()),
        (Status::Failed, "1/2 tasks pass, 0.50 < 0.80; now failing each time: t01")
    );
    // Nobody relies on it.
    let flaky = step(&suite(&[solid, (0.0, (7, 10), OFF, ALL)]));
    let detail = "1/1 tasks pass, 1.00 >= 0.80; failing, but accepted agents fail it too, so not counted: t01";
    assert_eq!((flaky.status, flaky.detail.as_str()), (Status::Passed, detail));
    let none = step(&suite(&[(0.0, (0, 3), OFF, ALL)]));
    assert_eq!(none.status, Status::Skipped);
    // Nothing is known of it: it was added by hand.
    assert_eq!(step(&suite(&[(0.0, (0, 0), OFF, &[])])).status, Status::Failed);
    // Each passes when tried again, but too many failed at first.
    let worn = step(&suite(&[(1.0, (10, 10), OFF, ALL); 6]));
    assert_eq!(worn.status, Status::Failed);
    assert!(worn.detail.contains("taken together they do worse"), "{}", worn.detail);
    assert_eq!(step(&suite(&[(1.0, (10, 10), OFF, ALL), solid, solid])).status, Status::Passed);
}

#[test]
fn what_is_in_quarantine_is_not_counted() {
    let aside = |tasks: &[&str], values: &[Option<f64>]| {
        let quarantined: BTreeSet<String> = tasks.iter().map(ToString::to_string).collect();
        decide(&Evidence { suite: rewards(values), quarantined, ..evidence() }).steps[1].clone()
    };
    let step = aside(&["t01"], &[Some(1.0), Some(0.0)]);
    assert_eq!((step.status, step.detail.as_str()), (Status::Passed, "1/1 tasks pass, 1.00 >= 0.80; 1 in quarantine"));
    assert_eq!(aside(&[], &[Some(1.0), Some(0.0)]).status, Status::Failed);
    let none = aside(&["t00"], &[Some(0.0)]);
    assert_eq!((none.status, none.detail.as_str()), (Status::Skipped, "no task counts; 1 in quarantine"));
    // Missing evidence does not matter there.
    assert_eq!(aside(&["t01"], &[Some(1.0), None]).status, Status::Passed);
}

#[test]
fn what_is_told_of_the_hold_out_is_as_configured() {
    let told = |disclosure, score: &[Option<f64>]| {
        let policy = Policy { holdout_disclosure: disclosure, ..evidence().policy };
        let decision = decide(&Evidence { holdout: rewards(score), policy: policy.clone(), ..evidence() });
        let told = decision.told(&policy);
        assert_eq!(told.status, decision.status);
        let step = told.steps.iter().find(|step| step.name == "hold_out").unwrap();
        (told.val_score, told.evals_total, step.detail.contains(|c: char| c.is_ascii_digit()))
    };
    let (up, down) = ([Some(1.0), Some(0.0)], [Some(0.0), Some(0.25)]);
    assert_eq!(told(Disclosure::Score, &up), (Some(0.5), 2, true));
    assert_eq!(told(Disclosure::Score, &down), (Some(0.125), 2, true));
    assert_eq!(told(Disclosure::Ladder, &up), (Some(0.5), 2, true));
    assert_eq!(told(Disclosure::Ladder, &down), (None, 0, false));
    assert_eq!(told(Disclosure::Bit, &up), (None, 0, false));
    assert_eq!(told(Disclosure::Bit, &down), (None, 0, false));
    // Missing evidence may be shown, a score may not.
    assert_eq!(told(Disclosure::Bit, &[None, None]), (None, 0, true));
    let spoilt = Evidence { holdout_least: rewards(&[Some(0.0)]), ..evidence() };
    let policy = Policy { holdout_disclosure: Disclosure::Ladder, ..evidence().policy };
    let best = best(&[Some(1.0), Some(0.0)]);
    let undecided = decide(&Evidence { policy: policy.clone(), best, ..spoilt });
    assert_eq!(undecided.status, Status::Undecided);
    assert!(!undecided.told(&policy).steps[2].detail.contains("val_score"));
    // A gate on train hides nothing.
    let train = Policy { gate_split: Split::Train, ..policy };
    assert_eq!(decide(&Evidence { policy: train.clone(), ..evidence() }).told(&train).val_score, Some(0.5));
}

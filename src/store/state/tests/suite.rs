//! Whose suite holds what.

use super::*;
use crate::model::suite::SuiteChange;
use proptest::prelude::*;

#[test]
fn what_an_unrecorded_edit_brought_in_binds_that_edit_alone() {
    // events, the suites of A, B and C, what suite.json shows
    for (words, a, b, c, shown) in [
        ("", "", "", "", ""),
        ("A+12", "12", "", "", "12"),
        ("A+12 r", "12", "12", "12", "12"),
        // Judged again, refused by the guard, rejected, or nothing decided in between.
        ("A+12 A+", "12", "", "", "12"),
        ("A+12 A!", "12", "", "", "12"),
        ("A+12 A-", "12", "", "", "12"),
        ("A+12 A?", "12", "", "", "12"),
        ("A+12 A+ r", "12", "12", "12", "12"),
        ("A+12 A! B-", "12", "", "", ""),
        ("A+12 B! A+", "12", "", "", "12"),
        ("A+12 A+ C+3", "12", "", "3", "3"),
        // Two that pass, one recorded, one after the other.
        ("A+1 B+2", "1", "2", "", "2"),
        ("A+1 B+2 r", "12", "2", "2", "2"),
        ("A+1 B+12 r", "12", "12", "12", "12"),
        ("A+12 B+2 r", "12", "2", "2", "2"),
        ("A+1 B+2 A+ r", "1", "12", "1", "1"),
        ("A+1 A+3 r B+2 C-", "13", "123", "13", "13"),
        ("A+1 B+2 r C+3 r", "123", "23", "23", "23"),
        // Branches promise nothing.
        ("A=12", "", "", "", ""),
        ("A+1 B=2", "1", "", "", "1"),
        // A human accepts an agent: what it brought in stays, what others promised is void.
        ("A+1 pA", "1", "1", "1", "1"),
        ("A+1 B+2 pA", "1", "1", "1", "1"),
        ("A+1 pB", "", "", "", ""),
        ("A+1 r pB", "1", "1", "1", "1"),
    ] {
        let story = story(words);
        let summary = story.summary();
        assert_eq!(["A", "B", "C"].map(|agent| summary.suite_for(agent)), [a, b, c].map(set), "{words:?}");
        assert_eq!(summary.suite(), set(shown), "{words:?}");
        let waiting = summary.promotion_candidates("B");
        assert_eq!(waiting.into_iter().collect::<BTreeSet<_>>(), &set("1234") - &set(b), "{words:?}");
    }
}

#[test]
fn what_was_put_aside_stays_aside_until_somebody_takes_it_back() {
    let change = |story: &mut Story, change, tasks: &str, by| {
        let tasks = tasks.chars().map(String::from).collect();
        story.tell(Event::SuiteChanged(SuiteChanged { change, tasks, reason: "why".into(), by }));
    };
    let mut told = story("A+12 r");
    change(&mut told, SuiteChange::Quarantine, "1", By::Gate);
    change(&mut told, SuiteChange::Retire, "2", By::Gate);
    let suite = |told: &Story| (told.summary().suite_for("B"), told.summary().quarantined_of(&strings(&["1", "2"])));
    assert_eq!(suite(&told), (set("1"), set("1")));
    assert_eq!(told.summary().retired["2"].reason, "why");
    assert_eq!(told.summary().promotion_candidates("B"), ["3", "4"], "what is retired does not join again by itself");
    assert_eq!(told.summary().suite_by_hand, 0);
    // An accepted agent that brings it in again does not take it back either.
    told.word("B+2").recorded();
    assert_eq!(suite(&told), (set("1"), set("1")));
    change(&mut told, SuiteChange::Add, "123", By::Hand);
    assert_eq!(suite(&told), (set("123"), set("")));
    change(&mut told, SuiteChange::Retire, "3", By::Hand);
    change(&mut told, SuiteChange::Quarantine, "3", By::Hand);
    assert_eq!(suite(&told).0, set("123"));
    assert!(told.summary().retired.is_empty() && told.summary().quarantined.contains_key("3"));
    assert_eq!(told.summary().suite_by_hand, 3);
    // What left the split is nowhere.
    told.prepared("0", |prepared| prepared.split.train = strings(&["1", "2"]));
    assert_eq!(suite(&told), (set("12"), set("")));
    assert!(told.summary().quarantined.is_empty());
}

proptest! {
    #[test]
    fn no_suite_holds_a_task_of_another_agents_unrecorded_edit(
        words in proptest::collection::vec(
            prop_oneof![
                6 => ("[ABC]", "[+]", "[1234]{0,3}").prop_map(|(agent, how, tasks)| format!("{agent}{how}{tasks}")),
                3 => "[ABC][-!?]",
                1 => "[ABC]=[1234]{0,3}",
                2 => Just("r".to_string()),
                1 => "p[ABC]",
            ],
            0..24,
        )
    ) {
        let mut told = story("");
        let mut happened: Vec<String> = Vec::new();
        for word in words {
            let passed = told.summary().last_decided.as_ref().map(|receipt| receipt.verdict.decision.status);
            if word == "r" && passed != Some(Status::Passed) {
                continue;
            }
            // Whom a record is about is written into the list.
            let agent = told.summary().last_decided.as_ref().map_or("", |receipt| &receipt.verdict.agent).to_string();
            told.word(&word);
            happened.push(if word == "r" { format!("r{agent}") } else { word });
        }
        for agent in ["A", "B", "C", "D"] {
            let suite = told.summary().suite_for(agent);
            for task in TRAIN {
                // An agent brought it in: this one, or one that was accepted before all was void.
                let brought = |(at, word): (usize, &String)| {
                    let rest = &happened[at + 1..];
                    let until = rest.iter().position(|word| word.starts_with('p')).map_or(rest.len(), |at| at + 1);
                    let accepted = |later: &String| ["r", "p"].iter().any(|how| *later == format!("{how}{}", &word[..1]));
                    let own = word.starts_with(agent) && until == rest.len() && !rest.iter().any(|word| word.starts_with('p'));
                    word[1..].starts_with('+') && word.contains(task) && (own || rest[..until].iter().any(accepted))
                };
                let expected = happened.iter().enumerate().any(brought);
                prop_assert_eq!(suite.contains(task), expected, "{} {} {:?}", agent, task, happened);
            }
        }
    }
}

#[test]
fn results_of_the_suite_are_those_of_its_last_run() {
    let mut told = story("A+12");
    let both = BTreeMap::from([("1".to_string(), Some(1.0)), ("2".to_string(), Some(1.0))]);
    assert_eq!(told.summary().suite_results, both);
    told.verdict("A", |evidence| evidence.suite = rewards(&[("1", Some(0.0)), ("2", Some(1.0))]));
    assert_eq!(told.summary().suite_results["1"], Some(0.0));
    assert_eq!(told.summary().suite_for("A"), set("12"));
    told.word("A!").verdict("B", |evidence| evidence.suite = Rewards::default());
    assert_eq!(told.summary().suite_results.len(), 2);
    // Promotions of a verdict that did not pass are none.
    let mut told = story("");
    told.verdict("A", |evidence| {
        evidence.holdout = holdout("0000");
        evidence.promotion = rewards(&[("1", Some(1.0))]);
    });
    assert!(told.summary().suite_results.is_empty());
}

#[test]
fn who_was_judged_by_more_under_the_first_rules_answers_for_it_once_recorded() {
    let mut told = story("A+1");
    told.verdict("B", |evidence| {
        (evidence.rules, evidence.suite) = (0, rewards(&[("1", Some(1.0))]));
        evidence.promotion = rewards(&[("2", Some(1.0))]);
    });
    assert_eq!(["A", "B", "C"].map(|agent| told.summary().suite_for(agent)), ["1", "12", ""].map(set));
    told.recorded();
    assert_eq!(told.summary().suite_for("C"), set("12"));
    // Judged by less: what it brought in before is forgotten, as it was then.
    let mut told = story("A+1");
    told.verdict("A", |evidence| (evidence.rules, evidence.suite) = (0, Rewards::default())).recorded();
    assert_eq!(told.summary().suite_for("C"), set(""));
}

#[test]
fn a_suite_keeps_to_the_split() {
    let mut told = story("A+14 r");
    told.prepared("A", |prepared| prepared.split.train = strings(&["1", "2"]));
    assert_eq!(told.summary().suite(), set("1"));
    assert_eq!(told.summary().suite_results.keys().cloned().collect::<BTreeSet<_>>(), set("1"));
}

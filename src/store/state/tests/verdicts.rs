//! What verdicts and records add up to.

use super::*;

#[test]
fn verdicts_are_counted() {
    // events; gates, without improvement, last status
    for (words, gates, without, status) in [
        ("", 0, 0, None),
        ("A+", 1, 0, Some(Status::Passed)),
        ("A-", 1, 1, Some(Status::Failed)),
        ("A- B-", 2, 2, Some(Status::Failed)),
        ("A- A!", 2, 1, Some(Status::Failed)),
        ("A- A?", 1, 1, Some(Status::Undecided)),
        ("A- B+", 2, 0, Some(Status::Passed)),
        ("A+ r B+", 2, 1, Some(Status::Passed)),
        ("A- B=", 1, 1, Some(Status::Failed)),
        ("B=", 0, 0, None),
    ] {
        let told = story(words);
        let summary = told.summary();
        assert_eq!(
            (summary.gates, summary.gates_without_improvement, summary.last_status),
            (gates, without, status),
            "{words}"
        );
    }
}

#[test]
fn verdicts_that_decide_nothing_are_counted_until_one_does() {
    // events; undecided in a row, the agent judged last
    for (words, undecided, judged) in [
        ("", 0, None),
        ("A?", 1, Some("A")),
        ("A? B? A?", 3, Some("A")),
        ("A? A? A!", 0, Some("A")),
        ("A? B+", 0, Some("B")),
        ("A? B- A?", 1, Some("A")),
        ("A? B=", 1, Some("A")),
        ("A? A? p0", 0, Some("A")),
    ] {
        let told = story(words);
        let summary = told.summary();
        assert_eq!((summary.undecided_in_a_row, summary.last_judged.as_deref()), (undecided, judged), "{words}");
    }
}

#[test]
fn only_a_score_that_is_surely_higher_is_an_improvement() {
    let known = |pattern| Some(Reference { val_score: 0.5, source: "x".into(), rewards: holdout(pattern) });
    let plain = |val_score| Some(Reference { val_score, source: "x".into(), rewards: Rewards::default() });
    for (candidate, best, without) in [
        ("PP00", known("P000"), 0),
        ("P000", known("P000"), 1),
        // A higher mean of fewer tasks is none.
        ("P00x", known("P000"), 1),
        ("P000", plain(0.2), 0),
        ("P000", plain(0.25), 1),
        ("P000", plain(0.3), 1),
        ("P000", None, 0),
    ] {
        let mut told = story("A-");
        told.verdict("B", |evidence| (evidence.holdout, evidence.best) = (holdout(candidate), best.clone()));
        let improved = told.summary().gates_without_improvement == 0;
        assert_eq!(improved, without == 0, "{candidate} {best:?}");
    }
    // The border itself is equal.
    let mut told = story("A-");
    told.verdict("B", |evidence| (evidence.holdout, evidence.best) = (rewards(&[("h1", Some(EPSILON))]), plain(0.0)));
    assert_eq!((told.summary().last_status, told.summary().gates_without_improvement), (Some(Status::Passed), 2));
    // Missing trials make no improvement, either.
    let mut told = story("A-");
    told.verdict("B", |evidence| {
        (evidence.holdout, evidence.best) = (holdout("PP00"), known("P000"));
        evidence.holdout_least = rewards(&[("h2", Some(0.0))]);
    });
    assert_eq!(told.summary().gates_without_improvement, 2);
}

#[test]
fn the_receipt_holds_what_the_agent_did_on_train() {
    let mut told = story("");
    told.trial("A", "1", Some(1.0)).trial("A", "h1", Some(1.0)).trial("B", "2", Some(1.0));
    told.word("A+");
    let seq = told.seq - 1;
    let receipt = told.summary().last_decided.clone().unwrap();
    assert_eq!((receipt.seq, receipt.train), (seq, rewards(&[("1", Some(1.0))]).0));
    assert_eq!(told.summary().accepted_results["1"], None, "not before it is recorded");
    told.recorded();
    let summary = told.summary();
    assert_eq!(summary.accepted_results["1"], Some(1.0));
    assert_eq!(summary.promotion_candidates("A"), ["2", "3", "4"]);
    assert_eq!(summary.last_recorded_receipt, Some(seq));
    assert_eq!(summary.recorded_agent.as_deref(), Some("A"));
    assert_eq!(summary.base.as_deref(), Some("commit of A"));
    assert_eq!(summary.rows.iter().map(|row| row.iteration).collect::<Vec<_>>(), [0, 1]);
    told.trial("B", "2", Some(1.0)).word("B-");
    assert!(told.summary().last_decided.as_ref().unwrap().train.is_empty(), "rejected");
}

#[test]
fn the_bar_is_what_the_best_recorded_agent_surely_has() {
    // hold-outs recorded one after the other; the source and the rewards of the best. The baseline is P000.
    for (recorded, source, best) in [
        (&[][..], "baseline", "P000"),
        (&["PP00"], "short of A", "PP00"),
        (&["P000"], "baseline", "P000"),
        (&["P00x"], "baseline", "P000"),
        (&["PP0x", "PP00"], "short of B", "PP00"),
        (&["PPP0", "PPPx"], "short of A", "PPP0"),
    ] {
        let mut told = story("");
        for (agent, pattern) in ["A", "B"].iter().zip(recorded) {
            told.verdict(agent, |evidence| evidence.holdout = holdout(pattern));
            assert_eq!(told.summary().last_status, Some(Status::Passed), "{recorded:?}");
            told.recorded();
        }
        let reached = told.summary().best("p").unwrap();
        assert_eq!((reached.source.as_str(), &reached.rewards), (source, &holdout(best)), "{recorded:?}");
    }
    let mut told = story("");
    told.verdict("A", |evidence| evidence.holdout_least = rewards(&[("h2", Some(0.5))])).recorded();
    assert_eq!(told.summary().best("p").unwrap().rewards.0["h2"], Some(0.5));
}

#[test]
fn a_record_without_its_receipt_gives_no_rewards() {
    let mut told = story("A+");
    let row = Row {
        iteration: 1,
        val_score: 0.9,
        commit: "c".into(),
        evals_passed: 1,
        evals_total: 2,
        timestamp: "t".into(),
    };
    told.trial("A", "1", Some(1.0));
    told.tell(Event::Recorded(Recorded {
        row,
        commit: "cc".into(),
        receipt: 999,
        agent: "A".into(),
        protocol: "p".into(),
    }));
    let best = told.summary().best("p").unwrap();
    assert_eq!((best.val_score, best.rewards.is_empty()), (0.9, true));
    assert_eq!(told.summary().accepted_results["1"], None);
}

//! Tables of events and what they add up to.

use super::*;
use crate::model::gate::{Evidence, Policy, RULES, decide};
use crate::model::split::TaskSplit;
use crate::model::trial::Outcome;
use crate::store::event::{Accepted, Adopted, Baseline, Revealed, Trial};
use proptest::prelude::*;
use serde_json::json;

const TRAIN: [&str; 4] = ["1", "2", "3", "4"];
const TEST: [&str; 4] = ["h1", "h2", "h3", "h4"];

/// Events one after the other, as commands append them.
#[derive(Default)]
struct Story {
    state: State,
    seq: u64,
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn set(letters: &str) -> BTreeSet<String> {
    letters.chars().map(String::from).collect()
}

fn rewards(list: &[(&str, Option<f64>)]) -> Rewards {
    Rewards(list.iter().map(|(task, reward)| (task.to_string(), *reward)).collect())
}

/// The hold-out's rewards: `P` passes, `0` does not, `x` gave no evidence.
fn holdout(pattern: &str) -> Rewards {
    let reward = |c: char| match c {
        'P' => Some(1.0),
        '0' => Some(0.0),
        _ => None,
    };
    Rewards(TEST.iter().map(ToString::to_string).zip(pattern.chars().map(reward)).collect())
}

impl Story {
    fn at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + i64::try_from(self.seq).unwrap(), 0).unwrap()
    }

    fn tell(&mut self, event: Event<'_>) -> &mut Story {
        let entry = Entry { v: ledger::VERSION, seq: self.seq, prev: "".into(), at: self.at(), event };
        self.state.apply(entry);
        self.seq += 1;
        self
    }

    fn summary(&self) -> &Summary {
        &self.state.summary
    }

    fn prepared(&mut self, agent: &str, change: impl FnOnce(&mut Prepared)) -> &mut Story {
        let mut prepared = Prepared {
            config: json!({"trials": 1, "timeout_policy": "agent", "threshold": 0.8, "gate_split": "test"}),
            config_digest: "d".into(),
            base: format!("commit of {agent}"),
            agent: agent.into(),
            trial_protocol: "tp".into(),
            protocol: "p".into(),
            split: TaskSplit { train: strings(&TRAIN), test: strings(&TEST) },
            split_drawn: false,
            data: BTreeMap::new(),
            baseline: Baseline { val_score: 0.25, evals_passed: 1, evals_total: 4 },
            adopted: None,
            protocol_version: 1,
            untried: None,
        };
        change(&mut prepared);
        self.tell(Event::Prepared(Box::new(prepared)))
    }

    fn trial(&mut self, agent: &str, task: &str, reward: Option<f64>) -> &mut Story {
        self.trial_with(agent, task, reward, |_| {})
    }

    fn trial_with(
        &mut self,
        agent: &str,
        task: &str,
        reward: Option<f64>,
        change: impl FnOnce(&mut Trial<'_>),
    ) -> &mut Story {
        let outcome = match reward {
            None => Outcome::InfraError,
            Some(reward) if reward >= 0.5 => Outcome::Passed,
            Some(_) => Outcome::Failed,
        };
        let mut trial = Trial {
            run: "run".into(),
            purpose: Purpose::Benchmark,
            agent: agent.to_string().into(),
            protocol: "tp".into(),
            split: Some(if task.starts_with('h') { Split::Test } else { Split::Train }),
            task: task.to_string().into(),
            trial: 0,
            outcome,
            reward,
            seconds: None,
            tokens_in: None,
            tokens_out: None,
            cost_usd: None,
            error: None,
            silent: false,
            trace_lost: false,
        };
        change(&mut trial);
        self.tell(Event::Trial(trial))
    }

    fn run_finished(&mut self, agent: &str, tasks: &[&str], change: impl FnOnce(&mut RunFinished)) -> &mut Story {
        let mut run = RunFinished {
            run: "run".into(),
            purpose: Purpose::Benchmark,
            agent: agent.into(),
            protocol: "tp".into(),
            split: Some(Split::Train),
            tasks: strings(tasks),
            run_trials: 0,
            fresh: false,
            reused_trials: 0,
            failure: None,
            void: false,
            tokenless: false,
        };
        change(&mut run);
        self.tell(Event::RunFinished(run))
    }

    /// A verdict on this evidence; what reaches the best under the protocol passes.
    fn verdict(&mut self, agent: &str, change: impl FnOnce(&mut Evidence)) -> &mut Story {
        self.verdict_on(None, agent, change)
    }

    fn verdict_on(&mut self, base_ref: Option<&str>, agent: &str, change: impl FnOnce(&mut Evidence)) -> &mut Story {
        let mut evidence = Evidence {
            rules: RULES,
            policy: Policy {
                threshold: 0.8,
                min_evidence: 0.75,
                timeout_policy: TimeoutPolicy::Agent,
                gate_split: Split::Test,
                trials: 1,
            },
            guard: Vec::new(),
            preflight: None,
            suite: Rewards(self.summary().suite_for(agent).into_iter().map(|task| (task, Some(1.0))).collect()),
            suite_least: Rewards::default(),
            holdout: holdout("PPPP"),
            holdout_least: Rewards::default(),
            best: self.summary().best("p").cloned(),
            promotion: Rewards::default(),
        };
        change(&mut evidence);
        let decision = decide(&evidence);
        self.tell(Event::Verdict(Box::new(Verdict {
            agent: agent.into(),
            trial_protocol: "tp".into(),
            protocol: "p".into(),
            base: "base".into(),
            base_ref: base_ref.map(str::to_string),
            evidence,
            decision,
        })))
    }

    /// Records the last verdict.
    fn recorded(&mut self) -> &mut Story {
        let receipt = self.summary().last_decided.clone().expect("a verdict");
        let decision = &receipt.verdict.decision;
        let row = Row {
            iteration: self.summary().rows.last().map_or(0, |row| row.iteration + 1),
            val_score: decision.val_score.unwrap(),
            commit: format!("short of {}", receipt.verdict.agent),
            evals_passed: decision.evals_passed,
            evals_total: decision.evals_total,
            timestamp: "t".into(),
        };
        let commit = format!("commit of {}", receipt.verdict.agent);
        let (agent, protocol) = (receipt.verdict.agent.clone(), receipt.verdict.protocol.clone());
        self.tell(Event::Recorded(Recorded { row, commit, receipt: receipt.seq, agent, protocol }))
    }

    /// One word of a story about the suite. `A+12`: A passes and brings in 1 and 2. `A-`: A is rejected. `A!`: the file
    /// guard refuses it. `A?`: nothing is decided. `A=12`: as `+`, for `gate --base`. `r`: the last one is recorded. `pA`:
    /// a human accepts A as the agent to start from.
    fn word(&mut self, word: &str) -> &mut Story {
        let (agent, rest) = word.split_at(1);
        if agent == "r" {
            return self.recorded();
        }
        if agent == "p" {
            return self.prepared(rest, |_| {});
        }
        let promotion = Rewards(rest[1..].chars().map(|task| (task.to_string(), Some(1.0))).collect());
        match rest.as_bytes()[0] {
            b'+' => self.verdict(agent, |evidence| evidence.promotion = promotion),
            b'=' => self.verdict_on(Some("main"), agent, |evidence| evidence.promotion = promotion),
            b'-' => self.verdict(agent, |evidence| evidence.holdout = holdout("0000")),
            b'!' => self.verdict(agent, |evidence| evidence.guard = vec!["bench.py was modified".into()]),
            b'?' => self.verdict(agent, |evidence| evidence.holdout = holdout("xxxx")),
            _ => panic!("{word}"),
        }
    }
}

fn story(words: &str) -> Story {
    let mut story = Story::default();
    for task in TEST {
        story.trial("0", task, Some(if task == "h1" { 1.0 } else { 0.0 }));
    }
    story.run_finished("0", &TEST, |run| (run.purpose, run.split) = (Purpose::Baseline, Some(Split::Test)));
    story.prepared("0", |_| {});
    words.split_whitespace().for_each(|word| {
        story.word(word);
    });
    story
}

// ---- the suite

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
                // Somebody brought it in, and that somebody is the agent itself or was accepted before all was void.
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

// ---- prepared

#[test]
fn the_baseline_is_where_everything_starts() {
    let mut told = Story::default();
    for (task, reward) in [("1", 1.0), ("2", 0.0), ("h1", 1.0), ("h2", 0.0), ("h3", 0.0)] {
        told.trial("0", task, Some(reward));
    }
    let at = told.at();
    told.prepared("0", |_| {});
    let summary = told.summary();
    assert_eq!(summary.base.as_deref(), Some("commit of 0"));
    assert_eq!(summary.recorded_agent.as_deref(), Some("0"));
    let row = Row {
        iteration: 0,
        val_score: 0.25,
        commit: "baseline".into(),
        evals_passed: 0,
        evals_total: 0,
        timestamp: "2023-11-14T22:13:25+00:00".into(),
    };
    assert_eq!((summary.rows.as_slice(), timestamp(at)), ([row.clone()].as_slice(), row.timestamp));
    let best = Reference { val_score: 0.25, source: "baseline".into(), rewards: holdout("P00x") };
    assert_eq!(summary.best("p"), Some(&best));
    assert_eq!(summary.best("other"), None);
    let train = rewards(&[("1", Some(1.0)), ("2", Some(0.0)), ("3", None), ("4", None)]).0;
    assert_eq!((&summary.train_results, &summary.accepted_results), (&train, &train));
    assert_eq!(summary.train_timestamp, Some(at));
    assert_eq!(summary.promotion_candidates("0"), ["2", "3", "4"]);
    assert_eq!(summary.waiting(&set("3")), ["2", "4"]);
    assert_eq!(Summary::default().promotion_candidates("0"), [""; 0]);
}

#[test]
fn the_configured_split_is_the_one_that_scores() {
    let mut told = Story::default();
    told.trial("0", "1", Some(1.0)).prepared("0", |prepared| prepared.config["gate_split"] = json!("train"));
    let rewards = &told.summary().best("p").unwrap().rewards;
    assert_eq!(rewards.0.keys().cloned().collect::<BTreeSet<_>>(), set("1234"));
}

#[test]
fn trials_are_counted_as_configured() {
    let policy = |config| {
        let mut story = Story::default();
        story.prepared("0", |prepared| prepared.config = config);
        story.summary().counting()
    };
    assert_eq!(Summary::default().counting(), (1, TimeoutPolicy::Agent));
    assert_eq!(policy(json!({"trials": 3, "timeout_policy": "infra"})), (3, TimeoutPolicy::Infra));
    assert_eq!(policy(json!({"trials": -1, "timeout_policy": "?"})), (1, TimeoutPolicy::Agent));
    // A lacking trial is none that the bar may stand on.
    let mut told = Story::default();
    told.trial("0", "h1", Some(1.0)).trial("0", "1", Some(1.0));
    told.prepared("0", |prepared| prepared.config["trials"] = json!(2));
    assert_eq!(told.summary().best("p").unwrap().rewards.0["h1"], Some(0.5));
    assert_eq!(told.summary().train_results["1"], Some(1.0));
}

#[test]
fn an_accepted_change_keeps_the_history() {
    let mut told = story("A+1 r");
    told.trial("A", "2", Some(1.0));
    told.prepared("A", |prepared| (prepared.protocol, prepared.baseline.val_score) = ("p2".into(), 0.5));
    told.tell(Event::Accepted(Accepted { from: "x".into(), to: "y".into(), changes: Vec::new() }));
    let summary = told.summary();
    assert_eq!(summary.rows.len(), 2);
    assert_eq!((summary.accepted, summary.base.as_deref()), (1, Some("y")));
    assert_eq!(summary.best("p").unwrap().source, "short of A");
    let best = summary.best("p2").unwrap();
    assert_eq!((best.val_score, best.source.as_str()), (0.5, "prepare"));
    assert_eq!(summary.train_results["2"], Some(1.0));
}

#[test]
fn a_workspace_of_the_original_is_taken_over() {
    let row = |iteration| Row {
        iteration,
        val_score: 0.5,
        commit: "c".into(),
        evals_passed: 1,
        evals_total: 2,
        timestamp: "t".into(),
    };
    let mut told = Story::default();
    told.prepared("0", |prepared| {
        prepared.adopted = Some(Adopted {
            rows: vec![row(0), row(1)],
            suite: strings(&["1", "gone"]),
            suite_results: rewards(&[("1", Some(1.0)), ("gone", None)]).0,
            split: false,
        });
    });
    let summary = told.summary();
    assert_eq!((summary.rows.len(), summary.adopted_rows), (2, 2));
    assert_eq!(summary.suite_for("anybody"), set("1"));
    assert_eq!(summary.suite_results, rewards(&[("1", Some(1.0))]).0);
    assert_eq!(summary.best("p").unwrap().source, "prepare");
}

#[test]
fn where_the_protocol_changed_is_known_by_the_rows_before() {
    let changes = |told: &Story| told.summary().protocol_changes.iter().copied().collect::<Vec<_>>();
    let mut told = story("");
    assert_eq!(changes(&told), [0; 0], "before the first there was none");
    told.word("p0");
    assert_eq!(changes(&told), [0; 0], "prepared again as it was");
    told.prepared("0", |prepared| prepared.protocol = "p2".into());
    assert_eq!(changes(&told), [1]);
    told.word("A+").recorded().prepared("A", |prepared| prepared.protocol = "p2".into());
    assert_eq!(changes(&told), [1]);
    told.prepared("A", |_| {});
    assert_eq!(changes(&told), [1, 2], "and back");
    // The original measured by a protocol of its own.
    for (rows, expected) in [(0, &[][..]), (2, &[2])] {
        let mut told = Story::default();
        let row = |iteration| Row {
            iteration,
            val_score: 0.5,
            commit: "c".into(),
            evals_passed: 1,
            evals_total: 2,
            timestamp: "t".into(),
        };
        told.prepared("0", |prepared| {
            prepared.adopted = Some(Adopted {
                rows: (0..rows).map(row).collect(),
                suite: Vec::new(),
                suite_results: BTreeMap::new(),
                split: false,
            });
        });
        assert_eq!(changes(&told), expected, "{rows}");
    }
}

// ---- verdicts and records

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
    // Nor is one whose lacking trials make it.
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

// ---- runs and trials

#[test]
fn train_results_are_those_of_benchmark_runs_over_train() {
    let mut told = story("");
    told.trial("A", "1", Some(1.0)).trial("A", "2", Some(0.0));
    let at = told.at();
    told.run_finished("A", &["1"], |_| {});
    let expected = rewards(&[("1", Some(1.0)), ("2", None), ("3", None), ("4", None)]).0;
    assert_eq!((&told.summary().train_results, told.summary().train_timestamp), (&expected, Some(at)));
    type Change = fn(&mut RunFinished);
    let others: [Change; 3] =
        [|run| run.purpose = Purpose::Suite, |run| run.split = Some(Split::Test), |run| run.split = None];
    for change in others {
        told.run_finished("A", &["1", "2"], change);
        assert_eq!((&told.summary().train_results, told.summary().train_timestamp), (&expected, Some(at)));
    }
    told.run_finished("A", &["1", "2"], |_| {});
    assert_eq!(told.summary().train_results["2"], Some(0.0));
}

#[test]
fn measuring_the_hold_out_again_is_counted() {
    let mut told = story("");
    told.run_finished("A", &["h1"], |run| run.split = Some(Split::Test));
    told.run_finished("A", &["1"], |run| run.fresh = true);
    assert_eq!(told.summary().rerolls, 0);
    told.run_finished("A", &["h1"], |run| (run.split, run.fresh) = (Some(Split::Test), true));
    assert_eq!(told.summary().rerolls, 1);
    told.tell(Event::Revealed(Revealed { command: "autoharness benchmark".into(), tasks: 3 }));
    assert_eq!(told.summary().looks, 1);
}

#[test]
fn a_run_that_gave_nothing_leaves_nothing() {
    for (void, tokenless, counts) in [(false, false, true), (true, false, false), (false, true, false)] {
        let mut told = Story::default();
        told.trial("A", "1", Some(0.0));
        told.run_finished("A", &["1"], |run| (run.void, run.tokenless) = (void, tokenless));
        assert_eq!(told.summary().train_results["1"], counts.then_some(0.0), "{void} {tokenless}");
    }
    // Of a baseline without a token, earlier runs count no more either.
    let mut told = Story::default();
    told.trial("A", "1", Some(0.0)).run_finished("A", &["1"], |_| {});
    told.run_finished("A", &["1"], |run| run.void = true);
    assert_eq!(told.summary().train_results["1"], Some(0.0));
    told.run_finished("A", &["1"], |run| (run.void, run.tokenless) = (true, true));
    assert_eq!(told.summary().train_results["1"], None);
}

#[test]
fn what_was_spent_adds_up_and_stays_finite() {
    let mut told = Story::default();
    let spend = |trial: &mut Trial<'_>| {
        (trial.seconds, trial.cost_usd) = (Some(1.5), Some(0.25));
        (trial.tokens_in, trial.tokens_out) = (Some(3), Some(4));
    };
    told.trial_with("A", "1", Some(1.0), spend).trial_with("A", "2", None, spend).trial("A", "3", None);
    let spent = told.summary().spent;
    assert_eq!((spent.trials, spent.seconds, spent.tokens, spent.cost_usd), (3, 3.0, 14, 0.5));
    for _ in 0..2 {
        told.trial_with("A", "1", Some(1.0), |trial| {
            (trial.seconds, trial.cost_usd, trial.tokens_in) = (Some(f64::MAX), Some(f64::MAX), Some(u64::MAX));
        });
    }
    let spent = told.summary().spent;
    assert_eq!((spent.seconds, spent.cost_usd, spent.tokens), (f64::MAX, f64::MAX, u64::MAX));
}

// ---- checkpoints

#[test]
fn a_checkpoint_of_another_format_is_made_again_but_still_shows_a_cut_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let (ledger, path) = (directory.path().join("ledger.jsonl"), directory.path().join("checkpoint.json"));
    let mut writer =
        ledger::Writer::open(&ledger, &ledger::read(&ledger, &Tip::genesis(), |_| Ok(())).unwrap()).unwrap();
    let told = story("A+1 r");
    let event = Event::Revealed(Revealed { command: "c".into(), tasks: 1 });
    let event = serde_json::value::to_raw_value(&event).unwrap();
    writer.append_with_sum(&event, told.at(), &told.summary().digest().unwrap()).unwrap();
    writer.sync().unwrap();
    Checkpoint::save(&path, writer.tip(), told.summary()).unwrap();
    let saved = Checkpoint::load(&path).unwrap();
    assert!(saved.is_current(&ledger).unwrap());
    saved.require_continued(&ledger).unwrap();
    assert_eq!(json!(saved.summary), json!(told.summary()));
    // As builds before this one left it, down to fields that are no more.
    let mut old: serde_json::Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    old.as_object_mut().unwrap().remove("format");
    old["summary"] = json!({"suite": ["1"], "spent": "not even of the right kind"});
    fs_err::write(&path, old.to_string()).unwrap();
    let old = Checkpoint::load(&path).unwrap();
    assert!(!old.is_understood() && !old.is_current(&ledger).unwrap());
    assert!(old.summary.suite().is_empty());
    old.require_continued(&ledger).unwrap();
    fs_err::write(&ledger, "").unwrap();
    for checkpoint in [&old, &saved] {
        assert!(!checkpoint.is_current(&ledger).unwrap());
        let error = checkpoint.require_continued(&ledger).unwrap_err();
        assert!(error.to_string().contains("is not the ledger that the last command left"), "{error}");
    }
    for broken in ["", "[]", "7", "{\"v\":1}", "{\"v\":2,\"format\":1}"] {
        fs_err::write(&path, broken).unwrap();
        assert!(Checkpoint::load(&path).is_none(), "{broken}");
    }
    fs_err::remove_file(&path).unwrap();
    assert!(Checkpoint::load(&path).is_none());
}

/// A ledger with a verdict between two looks at the hold-out, whose last line says what it adds up to, and its checkpoint.
fn ledger_with_a_verdict(ledger: &Path) -> (Checkpoint, ledger::Writer) {
    let look = || Event::Revealed(Revealed { command: "c".into(), tasks: 1 });
    let mut told = Story::default();
    let mut writer = ledger::Writer::open(ledger, &ledger::read(ledger, &Tip::genesis(), |_| Ok(())).unwrap()).unwrap();
    writer.append(&look(), told.at()).unwrap();
    told.tell(look()).word("A+1");
    let verdict = told.summary().last_decided.clone().unwrap().verdict;
    let append = |writer: &mut ledger::Writer, event: &Event<'_>, told: &Story| {
        let event = serde_json::value::to_raw_value(event).unwrap();
        writer.append_with_sum(&event, told.at(), &told.summary().digest().unwrap()).unwrap();
    };
    append(&mut writer, &Event::Verdict(Box::new(verdict)), &told);
    told.tell(look());
    append(&mut writer, &look(), &told);
    let path = ledger.with_file_name("checkpoint.json");
    Checkpoint::save(&path, writer.tip(), told.summary()).unwrap();
    let checkpoint = Checkpoint::load(&path).unwrap();
    assert!(checkpoint.is_understood() && checkpoint.is_current(ledger).unwrap());
    (checkpoint, writer)
}

#[test]
fn the_whole_ledger_confirms_a_checkpoint() {
    type Change = fn(&mut Checkpoint);
    for (what, confirmed, change) in [
        ("as it was left", true, (|_| {}) as Change),
        ("no verdict in it", true, |checkpoint| checkpoint.summary.last_decided = None),
        ("the verdict on another agent", false, |checkpoint| {
            checkpoint.summary.last_decided.as_mut().unwrap().verdict.agent = "B".into();
        }),
        ("at the line of something else", false, |checkpoint| {
            checkpoint.summary.last_decided.as_mut().unwrap().seq = 2;
        }),
        ("at no line", false, |checkpoint| checkpoint.summary.last_decided.as_mut().unwrap().seq = 99),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let ledger = directory.path().join("ledger.jsonl");
        let (mut checkpoint, _) = ledger_with_a_verdict(&ledger);
        change(&mut checkpoint);
        let report = checkpoint.confirm(&ledger).unwrap();
        assert_eq!(report.map(|report| report.tip), confirmed.then_some(checkpoint.tip), "{what}");
    }
}

#[test]
fn a_ledger_that_ends_otherwise_confirms_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("ledger.jsonl");
    let (mut checkpoint, mut writer) = ledger_with_a_verdict(&ledger);
    let whole = fs_err::read(&ledger).unwrap();
    writer.append(&Event::Revealed(Revealed { command: "c".into(), tasks: 1 }), Story::default().at()).unwrap();
    assert!(checkpoint.confirm(&ledger).unwrap().is_none(), "it goes on");
    fs_err::write(&ledger, [&whole[..], br#"{"v":1"#].concat()).unwrap();
    assert!(checkpoint.confirm(&ledger).unwrap().is_none(), "a torn line");
    let newer = format!(
        "{{\"v\":{},\"seq\":{},\"prev\":\"{}\",\"event\":{{}}}}\n",
        ledger::VERSION + 1,
        checkpoint.tip.next_seq,
        checkpoint.tip.last_hash
    );
    fs_err::write(&ledger, [&whole[..], newer.as_bytes()].concat()).unwrap();
    checkpoint.tip = ledger::read_links(&ledger, |_, _| {}).unwrap().tip;
    assert!(checkpoint.confirm(&ledger).unwrap().is_none(), "a newer build's line");
    let text = String::from_utf8(whole).unwrap();
    fs_err::write(&ledger, text.replacen("\"command\":\"c\"", "\"command\":\"d\"", 1)).unwrap();
    let error = checkpoint.confirm(&ledger).unwrap_err().to_string();
    assert!(error.contains("prev does not match the line before"), "{error}");
}

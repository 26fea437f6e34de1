//! Tables of events and what they add up to.

use super::*;
use crate::model::gate::{Evidence, Policy, decide};
use crate::model::score::{Scoring, TimeoutPolicy};
use crate::model::split::TaskSplit;
use crate::model::trial::Outcome;
use crate::model::usage::Usage;
use crate::store::event::{Accepted, Adopted, Baseline, By, Revealed, SuiteChanged, Trial};
use serde_json::json;

mod checkpoint;
mod suite;
mod verdicts;

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

/// A row of the Python original.
fn row(iteration: u32) -> Row {
    Row { iteration, val_score: 0.5, commit: "c".into(), evals_passed: 1, evals_total: 2, timestamp: "t".into() }
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
            split: TaskSplit { train: strings(&TRAIN), test: strings(&TEST), ..Default::default() },
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
            agent: agent.to_string().into(),
            protocol: "tp".into(),
            split: Some(if task.starts_with('h') { Split::Test } else { Split::Train }),
            task: task.to_string().into(),
            outcome,
            reward,
            ..Trial::example()
        };
        change(&mut trial);
        self.tell(Event::Trial(trial))
    }

    fn run_finished(&mut self, agent: &str, tasks: &[&str], change: impl FnOnce(&mut RunFinished)) -> &mut Story {
        let mut run = RunFinished {
            run: "run".into(),
            agent: agent.into(),
            protocol: "tp".into(),
            tasks: strings(tasks),
            ..RunFinished::example()
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
            suite: Rewards(self.summary().suite_for(agent).into_iter().map(|task| (task, Some(1.0))).collect()),
            holdout: holdout("PPPP"),
            best: self.summary().best("p").cloned(),
            ..Evidence::new(Policy { min_evidence: 0.75, ..Policy::default() })
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
        story.summary().scoring()
    };
    let of = |trials, policy| Scoring { trials, policy };
    assert_eq!(Summary::default().scoring(), of(1, TimeoutPolicy::Agent));
    assert_eq!(policy(json!({"trials": 3, "timeout_policy": "infra"})), of(3, TimeoutPolicy::Infra));
    assert_eq!(policy(json!({"trials": -1, "timeout_policy": "?"})), of(1, TimeoutPolicy::Agent));
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
    // If a baseline used no token, its earlier runs stop counting, too.
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
        trial.usage = Usage { seconds: Some(1.5), tokens_in: Some(3), tokens_out: Some(4), cost_usd: Some(0.25) };
    };
    told.trial_with("A", "1", Some(1.0), spend).trial_with("A", "2", None, spend).trial("A", "3", None);
    let spent = told.summary().spent;
    assert_eq!((spent.trials, spent.seconds, spent.tokens, spent.cost_usd), (3, 3.0, 14, 0.5));
    for _ in 0..2 {
        told.trial_with("A", "1", Some(1.0), |trial| {
            let (most, tokens_in) = (Some(f64::MAX), Some(u64::MAX));
            trial.usage = Usage { seconds: most, tokens_in, tokens_out: None, cost_usd: most };
        });
    }
    let spent = told.summary().spent;
    assert_eq!((spent.seconds, spent.cost_usd, spent.tokens), (f64::MAX, f64::MAX, u64::MAX));
}

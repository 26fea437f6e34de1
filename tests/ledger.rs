//! The ledger keeps what it was given, and shows every change that somebody else made to it.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use autoharness::internals::error::Kind;
use autoharness::internals::model::compare::Reference;
use autoharness::internals::model::gate::{Evidence, Policy, RULES, decide};
use autoharness::internals::model::proposal::Surface;
use autoharness::internals::model::score::{self, Rewards, Scoring, TimeoutPolicy, task_reward};
use autoharness::internals::model::split::TaskSplit;
use autoharness::internals::model::suite::SuiteChange;
use autoharness::internals::model::trial::{Outcome, Split};
use autoharness::internals::model::usage::Usage;
use autoharness::internals::store::checkpoint::Checkpoint;
use autoharness::internals::store::event::{
    Accepted, Baseline, By, Committed, End, Event, Outdone, Prepared, Proposed, Purpose, Recorded, Resampled, Revealed,
    Row, RunFinished, SessionUsage, SuiteChanged, Trial, Verdict,
};
use autoharness::internals::store::ledger::{self, Entry, Tip, VERSION, Writer};
use autoharness::internals::store::state::State;
use autoharness::internals::store::views;
use chrono::DateTime;
use fs_err as fs;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::json;

const AGENTS: [&str; 2] = ["agent-a", "agent-b"];
const PROTOCOL: &str = "protocol";

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_string()), Just("b/1".to_string()), Just("c \"q\" \\ \u{e9}\n".to_string()), ".{1,12}"]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Passed),
        Just(Outcome::Failed),
        Just(Outcome::AgentTimeout),
        Just(Outcome::AgentError),
        Just(Outcome::InfraError),
        Just(Outcome::VerifierError)
    ]
}

fn agent() -> impl Strategy<Value = String> {
    prop_oneof![Just(AGENTS[0].to_string()), Just(AGENTS[1].to_string())]
}

fn rewards() -> impl Strategy<Value = Rewards> {
    proptest::collection::btree_map(name(), option::of(0.0..=1.0), 0..5).prop_map(Rewards)
}

prop_compose! {
    fn trial()(agent in agent(), task in name(), trial in 0u32..3, outcome in outcome(), reward in option::of(0.0f64..=1.0),
               seconds in option::of(0.0f64..1e12), tokens in option::of(any::<u64>()), cost in option::of(0.0f64..1e3),
               error in option::of(".{0,20}"), train in option::of(any::<bool>()), silent in any::<bool>()) -> Event<'static> {
        Event::Trial(Trial {
            run: "run-1".into(), purpose: Purpose::Benchmark, agent: agent.into(), protocol: PROTOCOL.into(),
            split: train.map(|train| if train { Split::Train } else { Split::Test }), task: task.into(), trial, outcome,
            reward, usage: Usage { seconds, tokens_in: tokens, tokens_out: tokens, cost_usd: cost },
            error: error.map(Into::into), silent, trace_lost: false,
        })
    }
}

prop_compose! {
    fn run_finished()(agent in agent(), tasks in vec(name(), 0..5), void in any::<bool>(), fresh in any::<bool>(),
                      tokenless in any::<bool>()) -> Event<'static> {
        Event::RunFinished(RunFinished {
            run: "run-1".into(), purpose: Purpose::Benchmark, agent, protocol: PROTOCOL.into(), split: Some(Split::Train),
            tasks, fresh, run_trials: 1, reused_trials: 0, failure: None, fence: vec!["landlock".into()], void,
            tokenless,
        })
    }
}

prop_compose! {
    fn prepared()(agent in agent(), train in vec(name(), 0..5), test in vec(name(), 0..5), score in 0.0f64..=1.0)
        -> Event<'static> {
        Event::Prepared(Box::new(Prepared {
            config: json!({"trials": 2, "timeout_policy": "agent", "threshold": 0.8}), config_digest: "d".into(), protocol_version: 1,
            base: "c0ffee".into(), agent, trial_protocol: PROTOCOL.into(), protocol: "p".into(),
            split: TaskSplit { train, test, sealed: Vec::new() }, split_drawn: true, data: BTreeMap::new(),
            baseline: Baseline { val_score: score, evals_passed: 1, evals_total: 2 }, untried: None, adopted: None,
        }))
    }
}

prop_compose! {
    fn verdict()(agent in agent(), suite in rewards(), holdout in rewards(), least in rewards(), promotion in rewards(),
                 rules in 0..=RULES, best in option::of(rewards())) -> Event<'static> {
        let best = best.map(|rewards| Reference { val_score: 0.5, source: "x".into(), rewards });
        let evidence = Evidence {
            rules, suite, holdout, holdout_least: least, best, promotion,
            ..Evidence::new(Policy { trials: 2, ..Policy::default() })
        };
        let decision = decide(&evidence);
        Event::Verdict(Box::new(Verdict { agent, trial_protocol: PROTOCOL.into(), protocol: "p".into(), base: "c0ffee".into(),
                                          base_ref: None, evidence, decision }))
    }
}

fn event() -> impl Strategy<Value = Event<'static>> {
    prop_oneof![
        6 => trial(),
        2 => run_finished(),
        1 => prepared(),
        1 => verdict(),
        1 => (0.0f64..=1.0, 0u64..9).prop_map(|(val_score, receipt)| Event::Recorded(Recorded {
            row: Row { iteration: 1, val_score, commit: "c".into(), evals_passed: 1, evals_total: 2, timestamp: "t".into() },
            commit: "cc".into(), receipt, agent: AGENTS[0].into(), protocol: "p".into(),
        })),
        1 => name().prop_map(|text| Event::Accepted(Accepted { from: "a".into(), to: text.clone(), changes: vec![text] })),
        1 => (0..3usize, vec(name(), 1..3), any::<bool>()).prop_map(|(change, tasks, hand)| Event::SuiteChanged(SuiteChanged {
            change: [SuiteChange::Add, SuiteChange::Quarantine, SuiteChange::Retire][change], tasks, reason: "why".into(),
            by: if hand { By::Hand } else { By::Gate },
        })),
        1 => name().prop_map(|reason| Event::Proposed(Box::new(Proposed {
            iteration: 1, by: "claude".into(), base: "b".into(), agent: None, receipt: None, end: End::Unusable,
            reason: Some(reason), proposal: None, predicted: None, usage: SessionUsage { unpriced: 1, ..SessionUsage::default() },
            touched: vec!["prompt".into()],
            outdone: vec![Outdone { agent: "f".into(), hypothesis: "h".into(), surface: Surface::Tool, train: Some(0.5) }],
        }))),
        1 => (agent(), 0.0f64..=1.0).prop_map(|(agent, val_score)| Event::Resampled(Box::new(Resampled {
            run: 1, agent: Committed { agent, commit: "cc".into() }, trial_protocol: PROTOCOL.into(), protocol: "p".into(),
            val_score, evals_passed: 1, evals_total: 2,
        }))),
        1 => Just(Event::Revealed(Revealed { command: "autoharness benchmark".into(), tasks: 3 })),
    ]
}

/// Writes the events and applies them to a state, as a command does.
fn write(path: &Path, events: &[Event<'static>]) -> (State, Tip) {
    let report = ledger::read(path, &Tip::genesis(), |_| Ok(())).unwrap();
    let mut writer = Writer::open(path, &report).unwrap();
    let mut state = State::default();
    for (index, event) in events.iter().enumerate() {
        let at = DateTime::from_timestamp_millis(1_700_000_000_000 + 1001 * i64::try_from(index).unwrap()).unwrap();
        let seq = writer.append(event, at).unwrap();
        state.apply(Entry { v: VERSION, seq, prev: "".into(), at, event: event.clone() });
    }
    (state, writer.tip().clone())
}

fn summary(state: &State) -> String {
    serde_json::to_string(&state.summary).unwrap()
}

fn known(state: &State) -> Vec<Rewards> {
    let tasks: Vec<String> = ["a", "b/1", "c \"q\" \\ \u{e9}\n"].map(String::from).to_vec();
    let of = |agent| state.trials.rewards(agent, PROTOCOL, &tasks, Scoring { trials: 3, policy: TimeoutPolicy::Agent });
    AGENTS.map(of).to_vec()
}

/// The events as JSON, to be compared.
fn read_all(path: &Path) -> Result<(Vec<String>, ledger::ReadReport), autoharness::internals::error::Error> {
    let mut lines = Vec::new();
    let report = ledger::read(path, &Tip::genesis(), |entry| {
        lines.push(serde_json::to_string(&entry.event).unwrap());
        Ok(())
    })?;
    Ok((lines, report))
}

/// What may happen to a ledger file behind our back.
#[derive(Debug, Clone)]
enum Change {
    Byte(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index),
    Repeat(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => (index(), 1u8..=255).prop_map(|(at, by)| Change::Byte(at, by)),
        1 => index().prop_map(Change::Cut),
        1 => index().prop_map(Change::Remove),
        1 => index().prop_map(Change::Repeat),
        1 => (index(), index()).prop_map(|(a, b)| Change::Swap(a, b)),
    ]
}

fn apply(change: &Change, bytes: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let mut changed = bytes.to_vec();
    match change {
        Change::Byte(at, by) => changed[at.index(bytes.len())] ^= by,
        Change::Cut(at) => changed.truncate(at.index(bytes.len())),
        Change::Remove(at) => drop(lines.remove(at.index(lines.len()))),
        Change::Repeat(at) => lines.insert(at.index(lines.len()), lines[at.index(lines.len())]),
        Change::Swap(a, b) => {
            let length = lines.len();
            lines.swap(a.index(length), b.index(length));
        }
    }
    if matches!(change, Change::Byte(..) | Change::Cut(_)) { changed } else { lines.concat() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read(events in vec(event(), 0..20)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        let (state, tip) = write(&path, &events);
        let (lines, report) = read_all(&path).unwrap();
        let given: Vec<String> = events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
        prop_assert_eq!(lines, given);
        prop_assert_eq!((&report.tip, report.torn, report.newer), (&tip, 0, false));
        prop_assert!(ledger::tip_holds(&path, &tip).unwrap());
        let mut passed = Vec::new();
        prop_assert_eq!(ledger::read_links(&path, |seq, line| passed.push((seq, line.len() as u64 + 1))).unwrap().0, report);
        prop_assert_eq!(passed.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (0..tip.next_seq).collect::<Vec<_>>());
        prop_assert_eq!(passed.iter().map(|(_, length)| length).sum::<u64>(), tip.length);
        // What the command thought it did is what the next one reads.
        let (replayed, _) = State::replay(&path).unwrap();
        prop_assert_eq!(summary(&replayed), summary(&state));
        prop_assert_eq!(known(&replayed), known(&state));
    }

    #[test]
    fn a_change_is_noticed_unless_it_is_a_torn_tail(events in vec(event(), 1..12), change in change()) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        let (_, tip) = write(&path, &events);
        let (given, _) = read_all(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let changed = apply(&change, &bytes);
        prop_assume!(changed != bytes);
        fs::write(&path, &changed).unwrap();
        let end_holds = ledger::tip_holds(&path, &tip).unwrap();
        // Who only looks at the chain sees as much of a change, and refuses no ledger that is in order.
        let (read, links) = (read_all(&path), ledger::read_links(&path, |_, _| ()).map(|(report, _)| report));
        prop_assert!(read.as_ref().map_or(true, |(_, report)| links.as_ref().is_ok_and(|links| links == report)));
        prop_assert!(!end_holds || links.as_ref().map_or(true, |report| report.tip != tip), "unnoticed: {:?}", change);
        match read {
            Err(error) => prop_assert_eq!(error.kind(), Kind::Usage),
            Ok((lines, report)) => {
                // The chain shows changes before the last line, the remembered tip those of the end. Only repeating
                // the whole end (seq!) or moving the newline could slip through both, and neither does.
                prop_assert!(!end_holds || report.tip != tip, "unnoticed: {:?}", change);
                prop_assert!(lines.len() <= given.len());
                let untouched = lines.len().saturating_sub(1);
                prop_assert_eq!(&lines[..untouched], &given[..untouched]);
                if let Change::Cut(_) = change {
                    prop_assert_eq!(&lines[..], &given[..lines.len()]);
                    prop_assert_eq!(report.tip.length + report.torn, changed.len() as u64);
                }
            }
        }
    }

    #[test]
    fn a_torn_tail_is_cut_off_and_writing_goes_on(events in vec(event(), 1..8), at in any::<prop::sample::Index>()) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        write(&path, &events);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..at.index(bytes.len())]).unwrap();
        let (kept, _) = read_all(&path).unwrap();
        let report = ledger::read(&path, &Tip::genesis(), |_| Ok(())).unwrap();
        Writer::open(&path, &report).unwrap().append(&events[0], DateTime::UNIX_EPOCH).unwrap();
        let (lines, report) = read_all(&path).unwrap();
        prop_assert_eq!((lines.len(), report.torn), (kept.len() + 1, 0));
        prop_assert_eq!(&lines[..kept.len()], &kept[..]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400), json in any::<bool>()) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        let prefix = format!(r#"{{"v":1,"seq":0,"prev":"{}","at":"2026-01-31T12:00:00Z","event":{{"#, ledger::GENESIS);
        let bytes = if json { [prefix.as_bytes(), &bytes, b"}}\n"].concat() } else { bytes };
        fs::write(&path, &bytes).unwrap();
        if let Ok((lines, report)) = read_all(&path) {
            prop_assert_eq!(report.tip.length + report.torn, bytes.len() as u64);
            prop_assert_eq!(lines.len() as u64, report.tip.next_seq);
        }
        let any_tip = Tip { next_seq: 1, last_hash: autoharness::internals::model::hash::hash(&bytes), length: bytes.len() as u64 };
        let _ = ledger::tip_holds(&path, &any_tip);
        let _ = ledger::read(&path, &any_tip, |_| Ok(()));
    }

    #[test]
    fn replay_in_two_parts_is_replay_in_one(events in vec(event(), 0..24), at in any::<prop::sample::Index>()) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        let middle = at.index(events.len() + 1);
        let (mut state, tip) = write(&path, &events[..middle]);
        let mut writer = Writer::open(&path, &ledger::read(&path, &tip, |_| Ok(())).unwrap()).unwrap();
        for event in &events[middle..] {
            writer.append(event, DateTime::UNIX_EPOCH).unwrap();
        }
        let report = ledger::read(&path, &tip, |entry| { state.apply(entry); Ok(()) }).unwrap();
        let (whole, full) = State::replay(&path).unwrap();
        prop_assert_eq!(report, full);
        prop_assert_eq!(summary(&state), summary(&whole));
        prop_assert_eq!(known(&state), known(&whole));
    }

    #[test]
    fn a_checkpoint_comes_back_exactly(events in vec(event(), 0..24)) {
        let directory = tempfile::tempdir().unwrap();
        let (path, checkpoint) = (directory.path().join("ledger.jsonl"), directory.path().join("checkpoint.json"));
        let (state, _) = write(&path, &events);
        // What the ledger's last line says it adds up to is believed, and nothing else is.
        fs::write(&path, "").unwrap();
        let mut writer = Writer::open(&path, &ledger::read(&path, &Tip::genesis(), |_| Ok(())).unwrap()).unwrap();
        for (index, event) in events.iter().enumerate() {
            if index + 1 < events.len() {
                writer.append(event, DateTime::UNIX_EPOCH).unwrap();
            } else {
                let event = serde_json::value::to_raw_value(event).unwrap();
                writer.append_with_sum(1, &event, DateTime::UNIX_EPOCH, &state.summary.digest().unwrap()).unwrap();
            }
        }
        let tip = writer.tip().clone();
        Checkpoint::save(&checkpoint, &tip, &state.summary).unwrap();
        let loaded = Checkpoint::load(&checkpoint).unwrap();
        prop_assert!(events.is_empty() || loaded.is_current(&path).unwrap());
        let mut forged = loaded.summary.clone();
        forged.gates += 1;
        Checkpoint::save(&checkpoint, &tip, &forged).unwrap();
        prop_assert!(!Checkpoint::load(&checkpoint).unwrap().is_current(&path).unwrap());
        prop_assert_eq!(&loaded.tip, &tip);
        prop_assert_eq!(serde_json::to_string(&loaded.summary).unwrap(), summary(&state));
        prop_assert_eq!(views::render(&loaded.summary).unwrap(), views::render(&state.summary).unwrap());
    }

    #[test]
    fn a_score_is_a_mean_of_what_counted(values in vec(option::of(0.0f64..=1.0), 0..40)) {
        let rewards: BTreeMap<String, Option<f64>> =
            values.iter().enumerate().map(|(index, value)| (format!("{index:03}"), *value)).collect();
        let score = Rewards(rewards.clone()).score();
        let counted: Vec<f64> = values.iter().copied().flatten().collect();
        prop_assert_eq!((score.evaluated, score.expected, score.missing()),
                        (counted.len(), values.len(), values.len() - counted.len()));
        prop_assert_eq!(score.mean.is_some(), !counted.is_empty());
        if let Some(mean) = score.mean {
            let (low, high) = counted.iter().fold((1.0f64, 0.0f64), |(low, high), value| (low.min(*value), high.max(*value)));
            prop_assert!(low - 1e-12 <= mean && mean <= high + 1e-12);
        }
        prop_assert!(score.passed <= score.evaluated);
        // Evidence that went missing never makes enough of too little.
        for name in rewards.keys() {
            let mut fewer = rewards.clone();
            fewer.insert(name.clone(), None);
            let less = Rewards(fewer).score();
            prop_assert!(less.passed <= score.passed && less.evaluated <= score.evaluated);
            prop_assert!(score.is_enough(0.9) || !less.is_enough(0.9));
        }
    }

    #[test]
    fn trials_count_whatever_their_order(mut trials in vec((outcome(), 0.0f64..=1.0), 0..8), at in any::<prop::sample::Index>()) {
        let evidence = |trials: &[(Outcome, f64)]| -> Vec<score::TrialEvidence> {
            trials.iter().map(|(outcome, reward)| score::TrialEvidence { outcome: *outcome, reward: Some(*reward) }).collect()
        };
        for policy in [TimeoutPolicy::Agent, TimeoutPolicy::Infra] {
            let scoring = Scoring { trials: trials.len() as u32, policy };
            let before = task_reward(evidence(&trials), scoring);
            prop_assert!(before.is_none_or(|reward| (0.0..=1.0 + 1e-12).contains(&reward)));
            let middle = at.index(trials.len() + 1);
            trials.rotate_left(middle);
            let after = task_reward(evidence(&trials), scoring);
            prop_assert!(before.is_some() == after.is_some() && (before.unwrap_or(0.0) - after.unwrap_or(0.0)).abs() < 1e-12);
            // Crashing never pays: an agent error in place of any graded trial does not raise the reward.
            for index in 0..trials.len() {
                let mut crashed = trials.clone();
                if matches!(crashed[index].0, Outcome::Passed | Outcome::Failed | Outcome::AgentError) {
                    crashed[index].0 = Outcome::AgentError;
                    let crashed = task_reward(evidence(&crashed), scoring);
                    prop_assert!(crashed.unwrap_or(0.0) <= after.unwrap_or(0.0) + 1e-12);
                }
            }
        }
    }
}

/// One event written, and a writer that goes on.
fn begun(directory: &Path) -> (PathBuf, Writer) {
    let path = directory.join("ledger.jsonl");
    let mut writer = Writer::open(&path, &ledger::read(&path, &Tip::genesis(), |_| Ok(())).unwrap()).unwrap();
    writer.append(&look(), DateTime::UNIX_EPOCH).unwrap();
    (path, writer)
}

fn look() -> Event<'static> {
    Event::Revealed(Revealed { command: "autoharness benchmark".into(), tasks: 3 })
}

#[test]
fn nothing_is_written_into_a_ledger_that_is_no_longer_ours() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 4] = [
        ("was removed", |path| fs::remove_file(path).unwrap()),
        ("was replaced by another file", |path| {
            let copy = path.with_extension("copy");
            fs::copy(path, &copy).unwrap();
            fs::rename(copy, path).unwrap();
        }),
        ("was cut short", |path| fs::write(path, "").unwrap()),
        ("was written by another program", |path| {
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, text + "x\n").unwrap();
        }),
    ];
    for (what, change) in changes {
        let directory = tempfile::tempdir().unwrap();
        let (path, mut writer) = begun(directory.path());
        change(&path);
        let before = fs::read(&path).ok();
        for _ in 0..2 {
            let error = writer.append(&look(), DateTime::UNIX_EPOCH).unwrap_err();
            assert!(error.kind() == Kind::Usage && error.to_string().contains(what), "{error}");
        }
        assert_eq!(fs::read(&path).ok(), before, "{what}");
    }
}

#[test]
fn two_writers_never_share_a_ledger_even_without_the_lock() {
    let directory = tempfile::tempdir().unwrap();
    let (path, writer) = begun(directory.path());
    let report = ledger::read(&path, &Tip::genesis(), |_| Ok(())).unwrap();
    let error = Writer::open(&path, &report).unwrap_err();
    assert!(error.kind() == Kind::Usage && error.to_string().contains("being written by another command"), "{error}");
    drop(writer);
    Writer::open(&path, &report).unwrap();
}

#[test]
fn a_newer_ledger_is_read_but_not_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let (path, checkpoint) = (directory.path().join("ledger.jsonl"), directory.path().join("checkpoint.json"));
    let line = format!(
        r#"{{"v":{},"seq":0,"prev":"{}","at":"2026-01-31T12:00:00Z","event":{{"dreamed":{{}}}}}}"#,
        VERSION + 1,
        ledger::GENESIS
    );
    fs::write(&path, format!("{line}\n")).unwrap();
    let (lines, report) = read_all(&path).unwrap();
    assert!(lines.is_empty() && report.newer);
    let error = Writer::open(&path, &report).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    // Nor does its checkpoint make it look like one of ours.
    let state = State::default();
    Checkpoint::save(&checkpoint, &report.tip, &state.summary).unwrap();
    let newer = fs::read_to_string(&checkpoint).unwrap().replacen(
        &format!("\"v\":{VERSION}"),
        &format!("\"v\":{}", VERSION + 1),
        1,
    );
    fs::write(&checkpoint, newer).unwrap();
    assert!(Checkpoint::load(&checkpoint).is_none());
}

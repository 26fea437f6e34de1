//! `verify` and what every command checks first: each kind of tampering with ledger and views is found.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::io::Write;

use crate::support::Bed;
use serde_json::{Value, json};

const VIEWS: [&str; 4] = ["suite.json", "train_results.json", "results.tsv", "gate.json"];

/// The `number`th event with this name.
fn event<'e>(entries: &'e mut [Value], name: &str, number: usize) -> &'e mut Value {
    entries.iter_mut().filter_map(|entry| entry["event"].get_mut(name)).nth(number).unwrap()
}

/// A forged ledger must be found out, for this reason.
#[track_caller]
fn found_out(change: impl FnOnce(&mut Vec<Value>), reason: &str) {
    let bed = Bed::session();
    bed.forge(change);
    bed.run(&["verify"]).expect(1).says(reason).says("verify: failed ");
}

// ---- what is in order

#[test]
fn an_honest_session_is_verified() {
    let bed = Bed::session();
    assert_eq!(bed.run(&["verify"]).expect(0).stdout, "verify: ok trials=24 verdicts=2 records=1 problems=0\n");
    let summary = json!({"type": "verify", "status": "ok", "trials": 24, "verdicts": 2, "records": 1, "problems": 0});
    assert_eq!(bed.run(&["verify", "--format", "json"]).expect(0).json(), [summary]);
}

#[test]
fn without_a_ledger_there_is_nothing_to_verify() {
    Bed::table(json!({}), "")
        .run(&["verify"])
        .expect(2)
        .warns("error: there is no ledger here")
        .warns("autoharness prepare");
}

// ---- a ledger changed by hand

#[test]
fn a_change_of_any_field_of_a_line_is_found() {
    let bed = Bed::session();
    let whole = bed.ledger_lines();
    let changes: [(&str, &str); 8] = [
        ("\"v\":1", "\"v\":0"),
        ("\"seq\":3", "\"seq\":4"),
        ("\"prev\":\"", "\"prev\":\"0"),
        ("\"at\":\"2", "\"at\":\"3"),
        ("\"reward\":", "\"reward\":0.25,\"was\":"),
        ("\"outcome\":\"", "\"outcome\":\"agent_error\",\"was\":\""),
        ("{\"v\"", " {\"v\""),
        ("{\"v\":1", "garbage"),
    ];
    for (from, to) in changes {
        let mut edited = whole.clone();
        edited[3] = edited[3].replacen(from, to, 1);
        assert_ne!(edited[3], whole[3], "{from}");
        bed.write_ledger(&edited);
        bed.run(&["verify"]).expect(1).says("ledger.jsonl:").says("verify: failed");
        for command in ["gate", "benchmark", "prepare"] {
            bed.run(&[command]).expect(2).warns("ledger.jsonl:").warns("hint: the ledger was changed");
        }
    }
    bed.write_ledger(&whole);
    bed.run(&["verify"]).expect(0);
}

#[test]
fn missing_and_moved_lines_are_found() {
    let bed = Bed::session();
    let whole = bed.ledger_lines();
    let mut removed = whole.clone();
    removed.remove(5);
    let mut moved = whole.clone();
    moved.swap(5, 6);
    let mut doubled = whole.clone();
    doubled.insert(5, whole[5].clone());
    for edited in [removed, moved, doubled] {
        bed.write_ledger(&edited);
        bed.run(&["verify"]).expect(1).says("lines are missing or were moved");
        bed.run(&["gate"]).expect(2);
    }
}

#[test]
fn a_ledger_cut_short_or_changed_at_its_end_is_found() {
    let bed = Bed::session();
    let whole = bed.ledger_lines();
    let mut last = whole.clone();
    *last.last_mut().unwrap() = last.last().unwrap().replacen("\"at\":\"2", "\"at\":\"3", 1);
    let cut = whole[..whole.len() - 2].to_vec();
    for edited in [last, cut, vec![]] {
        bed.write_ledger(&edited);
        bed.run(&["verify"]).expect(1).says("is not the ledger that the last command left");
        for command in ["gate", "benchmark", "record", "prepare", "status"] {
            bed.run(&[command])
                .expect(2)
                .warns("is not the ledger that the last command left")
                .warns("checkpoint.json");
        }
    }
    std::fs::remove_file(bed.ledger()).unwrap();
    bed.run(&["gate"]).expect(2).warns("is not the ledger that the last command left");
    bed.write_ledger(&whole);
    bed.run(&["gate"]).expect(0);
}

#[test]
fn a_forged_decision_is_found() {
    found_out(|entries| event(entries, "verdict", 1)["decision"]["status"] = json!("passed"), "give another verdict");
    found_out(|entries| event(entries, "verdict", 0)["decision"]["val_score"] = json!(0.9), "give another verdict");
}

#[test]
fn forged_evidence_is_found() {
    let hold_out =
        |entries: &mut Vec<Value>| event(entries, "verdict", 0)["evidence"]["holdout"]["hard-3"] = json!(0.5);
    found_out(hold_out, "the rewards of the hold-out are not those of its trials");
    let suite = |entries: &mut Vec<Value>| {
        event(entries, "verdict", 1)["evidence"]["suite"].as_object_mut().unwrap().shift_remove("hard-1");
    };
    found_out(suite, "the regression suite that was run is not the suite of that time");
    let part = |entries: &mut Vec<Value>| {
        event(entries, "verdict", 1)["evidence"]["holdout"].as_object_mut().unwrap().shift_remove("hard-3");
    };
    found_out(part, "the hold-out that was run is not the whole gate split");
    let promotion = |entries: &mut Vec<Value>| {
        event(entries, "verdict", 0)["evidence"]["promotion"].as_object_mut().unwrap().shift_remove("odd-1");
    };
    found_out(promotion, "the tasks tried for promotion are not those that were waiting");
}

#[test]
fn forged_rules_are_found() {
    let lower = |entries: &mut Vec<Value>| event(entries, "verdict", 1)["evidence"]["best"]["val_score"] = json!(0.1);
    found_out(lower, "the score to beat was not the best recorded");
    let gone = |entries: &mut Vec<Value>| event(entries, "verdict", 1)["evidence"]["best"] = json!(null);
    found_out(gone, "the score to beat was not the best recorded");
    let policy =
        |entries: &mut Vec<Value>| event(entries, "verdict", 1)["evidence"]["policy"]["threshold"] = json!(0.0);
    found_out(policy, "the gate's rules were not those prepared with");
}

#[test]
fn a_forged_trial_is_found() {
    let held_out = |entries: &mut Vec<Value>| {
        let trials = entries.iter_mut().filter_map(|entry| entry["event"].get_mut("trial"));
        let trial = trials.filter(|trial| trial["task"] == "hard-3").last().unwrap();
        (trial["reward"], trial["outcome"]) = (json!(1.0), json!("passed"));
    };
    found_out(held_out, "the rewards of the hold-out are not those of its trials");
    let baseline = |entries: &mut Vec<Value>| {
        for entry in entries.iter_mut().take(12) {
            if let Some(trial) = entry["event"].get_mut("trial").filter(|trial| trial["task"] == "hard-3") {
                (trial["reward"], trial["outcome"]) = (json!(1.0), json!("passed"));
            }
        }
    };
    found_out(baseline, "the baseline's score is not the mean of its trials");
}

#[test]
fn a_forged_record_is_found() {
    let raise = |entries: &mut Vec<Value>| event(entries, "recorded", 0)["row"]["val_score"] = json!(0.9);
    found_out(raise, "the recorded row is not what its receipt says");
    let receipt = |entries: &mut Vec<Value>| event(entries, "recorded", 0)["receipt"] = json!(1);
    found_out(receipt, "recorded without a receipt");
    let bed = Bed::session();
    let other = bed.git(&["rev-parse", "HEAD~"]);
    bed.forge(|entries| event(entries, "recorded", 0)["commit"] = json!(other));
    bed.run(&["verify"]).expect(1).says("does not hold the agent that was measured");
    let bed = Bed::session();
    bed.forge(|entries| event(entries, "recorded", 0)["commit"] = json!("0123456789012345678901234567890123456789"));
    bed.run(&["verify"]).expect(1).says("cannot be read");
}

#[test]
fn a_recorded_commit_that_changed_the_benchmark_is_found() {
    let bed = Bed::session();
    bed.write("bench.py", "# easier\n");
    bed.git(&["commit", "-qam", "also the benchmark"]);
    let head = bed.git(&["rev-parse", "HEAD"]);
    bed.forge(|entries| event(entries, "recorded", 0)["commit"] = json!(head));
    bed.run(&["verify"]).expect(1).says("changes guarded files: bench.py: modified");
}

// ---- views changed by hand

#[test]
fn an_edited_view_is_refused_and_restored() {
    let bed = Bed::session();
    let honest = bed.views();
    for name in VIEWS {
        let path = format!("workspace/{name}");
        let edited = bed.read(&path).replace("0.8", "0.1").replace("1.0", "0.0");
        assert_ne!(edited, bed.read(&path), "{name}");
        bed.write(&path, &edited);
        bed.ran();
        for command in ["gate", "benchmark", "record", "prepare"] {
            let done = bed
                .run(&[command])
                .expect(2)
                .warns("error: changed outside of autoharness, so not to be trusted: ")
                .warns(name);
            done.warns("`autoharness verify --restore` rewrites them from it");
        }
        assert!(bed.ran().is_empty());
        bed.run(&["status"]).expect(0).says("changed     workspace/").says(name);
        bed.run(&["verify"]).expect(1).says(&format!("wrong  workspace/{name} is not what the ledger adds up to\n"));
        assert_eq!(bed.read(&path), edited, "verify alone changes nothing");
        bed.run(&["verify", "--restore"]).expect(0).says(&format!("restored {name}\n"));
        assert_eq!(bed.views(), honest);
    }
    bed.run(&["verify"]).expect(0);
    bed.run(&["gate"]).expect(0);
}

#[test]
fn a_deleted_view_comes_back() {
    let bed = Bed::session();
    let honest = bed.views();
    VIEWS.iter().for_each(|name| std::fs::remove_file(bed.root.join("workspace").join(name)).unwrap());
    bed.run(&["record"]).expect(1);
    assert_eq!(bed.views(), honest);
}

#[test]
fn a_view_that_should_not_exist_yet_is_refused() {
    let bed = Bed::prepared(json!({}), "");
    bed.write("workspace/gate.json", r#"{"status": "passed"}"#);
    bed.run(&["gate"]).expect(2).warns("gate.json");
    bed.run(&["verify", "--restore"]).expect(0).says("restored gate.json");
    assert!(!bed.root.join("workspace/gate.json").exists());
}

// ---- the ledger's end and its future

#[test]
fn a_torn_last_line_is_dropped_and_said() {
    let bed = Bed::session();
    let whole = bed.ledger_lines();
    let mut file = std::fs::OpenOptions::new().append(true).open(bed.ledger()).unwrap();
    file.write_all(b"{\"v\":1,\"se").unwrap();
    bed.run(&["status"]).expect(0);
    bed.run(&["verify"]).expect(0).warns("a torn last line of 10 bytes is not counted").says("verify: ok");
    bed.run(&["benchmark"]).expect(0).warns("dropped a torn last line of 10 bytes");
    assert_eq!(bed.ledger_lines()[..whole.len()], whole);
    assert!(!bed.run(&["verify"]).expect(0).stderr.contains("torn"));
}

#[test]
fn a_newer_ledger_is_read_and_not_written() {
    let bed = Bed::session();
    let mut newer = bed.ledger_lines();
    let previous = autoharness::internals::model::hash::hash(newer.last().unwrap().as_bytes());
    let v = autoharness::internals::store::ledger::VERSION + 1;
    newer.push(json!({"v": v, "seq": newer.len(), "prev": previous, "at": 7, "event": {"dreamt": {}}}).to_string());
    bed.write_ledger(&newer);
    bed.run(&["status"]).expect(0).says("best        val_score 1.0000");
    bed.run(&["verify"]).expect(0).warns("a newer autoharness");
    for command in ["gate", "benchmark", "record", "prepare"] {
        bed.run(&[command]).expect(2).warns("was written by a newer autoharness").warns("hint: upgrade autoharness");
    }
    assert_eq!(bed.ledger_lines(), newer);
}

#[test]
fn a_forged_checkpoint_is_found_and_made_again() {
    let bed = Bed::session();
    let path = bed.state().join("checkpoint.json");
    let honest = std::fs::read_to_string(&path).unwrap();
    let forged = honest.replacen("\"val_score\":0.5", "\"val_score\":0.4", 1);
    assert_ne!(forged, honest);
    std::fs::write(&path, forged).unwrap();
    bed.run(&["verify"]).expect(1).says("checkpoint.json is not what the ledger adds up to");
    bed.run(&["verify", "--restore"]).expect(0).says("removed checkpoint.json, which is made again from the ledger\n");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_checkpoint_is_never_believed_over_the_ledger() {
    let bed = Bed::session();
    let path = bed.state().join("checkpoint.json");
    let (honest, said) = (std::fs::read_to_string(&path).unwrap(), bed.run(&["status"]).expect(0).stdout);
    let tsv = bed.read("workspace/results.tsv");
    // Every number of it, and what was decided; the tip stays that of the ledger.
    let start = honest.find("\"summary\"").unwrap();
    let forgeries = [
        honest[..start].to_string() + &honest[start..].replace("1.0", "0.25"),
        honest.replacen("\"gates_without_improvement\":1", "\"gates_without_improvement\":9", 1),
        honest.replace("\"failed\"", "\"passed\""),
    ];
    for forged in forgeries {
        assert_ne!(forged, honest);
        std::fs::write(&path, forged).unwrap();
        assert_eq!(bed.run(&["status"]).expect(0).stdout, said);
        bed.run(&["record"]).expect(1);
        assert_eq!(bed.read("workspace/results.tsv"), tsv);
    }
    // And without one nothing is missing.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(bed.run(&["status"]).expect(0).stdout, said);
    bed.run(&["verify"]).expect(0).says("verify: ok");
}

/// Changes what the checkpoint says the ledger adds up to, and the sum of the ledger's last line with it.
fn forge_with_the_last_line(bed: &Bed, change: impl FnOnce(&str) -> String) {
    let path = bed.state().join("checkpoint.json");
    let honest = std::fs::read_to_string(&path).unwrap();
    let (start, summary) = honest.split_once("\"summary\":").unwrap();
    let summary = summary.strip_suffix('}').unwrap();
    let forged = change(summary);
    assert_ne!(forged, summary);
    let mut lines = bed.ledger_lines();
    let last = lines.last_mut().unwrap();
    let hash = |text: &str| autoharness::internals::model::hash::hash(text.as_bytes());
    let tip = hash(last);
    let said = last.rsplit_once("\"sum\":").unwrap().0.to_string();
    *last = format!("{said}\"sum\":\"{}\"}}", hash(&forged));
    let start = start.replace(&tip, &hash(last));
    bed.write_ledger(&lines);
    std::fs::write(&path, format!("{start}\"summary\":{forged}}}")).unwrap();
}

#[test]
fn a_forged_checkpoint_that_the_last_line_confirms_is_still_no_receipt() {
    let bed = Bed::session();
    bed.run(&["record"]).expect(1).warns("the last gate did not pass");
    // The gate that failed has passed, says the checkpoint, and the last line's sum agrees.
    forge_with_the_last_line(&bed, |summary| summary.replace("\"failed\"", "\"passed\""));
    assert!(bed.run(&["status"]).expect(0).stdout.contains("last gate   passed"), "the forgery fits");
    bed.run(&["record"]).expect(1).warns("the last gate did not pass");
    bed.run(&["verify"]).expect(1).says("checkpoint.json is not what the ledger adds up to");
}

#[test]
fn a_forged_checkpoint_lowers_no_bar() {
    let bed = Bed::session();
    let path = bed.state().join("checkpoint.json");
    let honest = std::fs::read_to_string(&path).unwrap();
    let (start, summary) = honest.split_once("\"summary\":").unwrap();
    let forged = summary.replace("\"val_score\":1.0", "\"val_score\":0.0");
    assert_ne!(forged, summary);
    std::fs::write(&path, format!("{start}\"summary\":{forged}")).unwrap();
    bed.agent(&["hard"]);
    bed.run(&["gate"]).expect(1).says("< best 1.0000");
    bed.run(&["verify"]).expect(0);
}

#[test]
fn a_bar_that_was_lowered_together_with_the_last_line_is_found_out() {
    let bed = Bed::session();
    forge_with_the_last_line(&bed, |summary| {
        let (start, references) = summary.split_once("\"references\":").unwrap();
        let (references, rest) = references.split_once("\"kept\":").unwrap();
        format!("{start}\"references\":{}\"kept\":{rest}", references.replace(":1.0", ":0.0"))
    });
    bed.agent(&["hard"]);
    bed.run(&["gate"]).expect(0).says(">= best 0.0000");
    bed.run(&["verify"]).expect(1).says("the score to beat was not the best recorded");
}

#[test]
fn a_checkpoint_saves_reading_the_ledger() {
    let bed = Bed::session();
    let said = bed.run(&["status"]).expect(0).stdout;
    // Only who reads the whole ledger notices a change in its middle.
    let mut lines = bed.ledger_lines();
    let changed = lines[2].replacen("\"seconds\":0.01", "\"seconds\":0.02", 1);
    assert_ne!(changed, lines[2]);
    lines[2] = changed;
    bed.write_ledger(&lines);
    assert_eq!(bed.run(&["status"]).expect(0).stdout, said);
    bed.run(&["record"]).expect(2).warns("prev does not match");
    bed.run(&["verify"]).expect(1);
}

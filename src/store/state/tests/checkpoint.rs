//! What of a checkpoint is believed.

use super::*;
use crate::store::checkpoint::Checkpoint;

#[test]
fn a_checkpoint_of_another_format_is_made_again_but_still_shows_a_cut_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let (ledger, path) = (directory.path().join("ledger.jsonl"), directory.path().join("checkpoint.json"));
    let mut writer =
        ledger::Writer::open(&ledger, &ledger::read(&ledger, &Tip::genesis(), |_| Ok(())).unwrap()).unwrap();
    let told = story("A+1 r");
    let event = Event::Revealed(Revealed { command: "c".into(), tasks: 1 });
    let event = serde_json::value::to_raw_value(&event).unwrap();
    writer.append_with_sum(1, &event, told.at(), &told.summary().digest().unwrap()).unwrap();
    writer.sync().unwrap();
    Checkpoint::save(&path, writer.tip(), told.summary()).unwrap();
    let saved = Checkpoint::load(&path).unwrap();
    assert!(saved.is_current(&ledger).unwrap());
    saved.require_continued(&ledger).unwrap();
    assert_eq!(json!(saved.summary), json!(told.summary()));
    // As older builds left it, with fields that no longer exist.
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
        writer.append_with_sum(1, &event, told.at(), &told.summary().digest().unwrap()).unwrap();
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
        assert_eq!(report.map(|(report, _)| report.tip), confirmed.then_some(checkpoint.tip), "{what}");
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
    checkpoint.tip = ledger::read_links(&ledger, |_, _| {}).unwrap().0.tip;
    assert!(checkpoint.confirm(&ledger).unwrap().is_none(), "a newer build's line");
    let text = String::from_utf8(whole).unwrap();
    fs_err::write(&ledger, text.replacen("\"command\":\"c\"", "\"command\":\"d\"", 1)).unwrap();
    let error = checkpoint.confirm(&ledger).unwrap_err().to_string();
    assert!(error.contains("prev does not match the line before"), "{error}");
}

//! What the three users read, whole: a change of any word of it shows in a diff of `tests/snapshots/`. After a change that is
//! meant, `INSTA_UPDATE=always cargo test --test all snapshots::` writes the new text.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::{Bed, Done};
use serde_json::json;

/// What differs from run to run, and what stands in its place.
const FILTERS: [(&str, &str); 10] = [
    // What doctor finds on this machine.
    (
        r"(?m)^\S+ +(git|command|python3|fence|interpreter|autoharness|platform|loop's fence)  .*\n( +fix: .*\n)?",
        "[machine] $1\n",
    ),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", "[time]"),
    (r"\b[0-9a-f]{40}\b", "[commit]"),
    (r"\b[0-9a-f]{7}\b( ?)", "[head]$1"),
    (r"trials, .* of trial time", "trials, [time] of trial time"),
    (r"SyntaxError: .*", "SyntaxError: [in Python's words]"),
    (r"\b\d+ (ms|s)\b", "[time] $1"),
    (r"Python 3\.\d+\.\d+\S*", "Python [version]"),
    (r"[^\s()`]*/python3[.\d]*", "[python3]"),
    (r"(?m)^`autoharness` is not on your PATH yet: .*\n", ""),
];

/// A command as somebody types it, what it printed on both streams, and its exit code.
fn transcript(bed: &Bed, commands: &[&[&str]]) -> String {
    let shown = |words: &[&str]| {
        let Done { code, stdout, stderr } = bed.run(words);
        let stderr: String = stderr.lines().map(|line| format!("! {line}\n")).collect();
        format!("$ autoharness {}\n{stdout}{stderr}[exit {code}]\n", words.join(" "))
    };
    commands.iter().map(|words| shown(words)).collect::<Vec<_>>().join("\n")
}

/// Compares a text with the snapshot of this name.
pub(crate) fn compare(name: &str, bed: &Bed, text: &str) {
    let text = text.replace(bed.root.to_str().unwrap(), "[experiment]");
    insta::with_settings!({ filters => FILTERS, omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn help() {
    let bed = Bed::empty();
    let top = bed.run(&["--help"]).expect(0).stdout;
    let commands = top.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let names = names.iter().filter(|name| !name.is_empty() && **name != "help");
    let page = |name: &&str| {
        let page = bed.run(&[name, "--help"]).expect(0).stdout;
        // The same below every command: the first page has them.
        let (own, common) = page.split_once("\nGlobal options:\n").unwrap();
        assert!(top.contains(common.trim_end()), "{name} has other global options:\n{common}");
        format!("{own}\nGlobal options: as above\n")
    };
    let pages = names.map(page);
    let rule = format!("\n{}\n\n", "-".repeat(100));
    compare("help", &bed, &[top.clone()].into_iter().chain(pages).collect::<Vec<_>>().join(&rule));
}

#[test]
fn an_edit_that_is_kept() {
    let bed = Bed::prepared(json!({}), "");
    bed.agent(&["easy", "hard"]);
    let judged = transcript(&bed, &[&["status"], &["benchmark"], &["gate"]]);
    bed.commit_agent();
    let kept = transcript(&bed, &[&["record"], &["status"], &["verify"]]);
    compare("kept", &bed, &format!("{judged}\n$ git commit -qm edit agent/agent.py\n\n{kept}"));
}

#[test]
fn edits_that_are_not() {
    let bed = Bed::session();
    bed.agent(&["easy"]);
    let worse = transcript(&bed, &[&["gate"], &["record"]]);
    bed.write("agent/agent.py", "SKILLS = {\n");
    bed.write("bench.py", "");
    let refused = transcript(&bed, &[&["gate"]]);
    bed.git(&["checkout", "-q", "--", "bench.py"]);
    let broken = transcript(&bed, &[&["gate"], &["benchmark"]]);
    bed.agent(&["easy", "odd", "hard"]);
    bed.mood(json!({"misbehave": {"hard-3": "infra_error"}}));
    let undecided = transcript(&bed, &[&["gate"], &["status"]]);
    compare("not_kept", &bed, &[worse, refused, broken, undecided].join("\n"));
}

#[test]
fn what_is_set_up_wrongly() {
    let bed = Bed::empty();
    let nothing = transcript(&bed, &[&["gate"], &["init"]]);
    let bed_table = Bed::table(json!({}), "tresholt: 0.9");
    let text = transcript(&bed_table, &[&["gate"]]);
    compare("nothing_there", &bed, &nothing);
    compare("misspelt", &bed_table, &text);
}

#[test]
fn checks() {
    let bed = Bed::session();
    bed.write("workspace/results.tsv", "mine\n");
    compare("checks", &bed, &transcript(&bed, &[&["doctor"], &["verify"], &["gate"]]));
}

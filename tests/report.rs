//! `report`: one page that holds the night, nothing of a held-out task, and no text of others that acts.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::Bed;
use chrono::DateTime;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor as _;
use serde_json::{Value, json};
use std::path::Path;

const EVIL: &str = "</script><img src=x onerror=alert(1)>\u{1b}[31m\u{202e}javascript:alert(2)";

fn page(bed: &Bed) -> String {
    bed.run(&["report"]).expect(0).says(&format!("report: {}\n", bed.root.join("workspace/report.html").display()));
    bed.read("workspace/report.html")
}

/// The JSON that the page's script reads.
fn data(page: &str) -> Value {
    let (_, data) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn the_page_holds_the_night_and_nothing_that_acts() {
    let hostile = format!("{EVIL}-1");
    let held = ["zebra-3", "zebra-4", "yak-3", "yak-4"];
    let trace = json!({"messages": [{"role": EVIL, "content": EVIL, "tool_calls": [{"name": EVIL, "arguments": {EVIL: EVIL}}]}], EVIL: EVIL});
    let bed = Bed::prepared(
        json!({"tasks": {"train": ["zebra-1", "zebra-2", "yak-1", "yak-2", hostile], "test": held},
            "misbehave": {hostile.clone(): {"reward": 0, "trace": trace, "error": EVIL, "detail": {EVIL: EVIL, "name": EVIL, "passed": false}}}}),
        "",
    );
    bed.agent(&["zebra"]);
    bed.run(&["gate"]).expect(0);
    let line = "gate: passed val_score=0.5000 evals_passed=2 evals_total=4";
    bed.write(
        "workspace/learnings.md",
        &format!("# Learnings\n\n## Iteration 1: {EVIL}\n\n- Result: {line}\n- Learned: {EVIL} indeed\n"),
    );
    bed.write("agent/agent.py", &format!("# {}\nSKILLS = {{\"zebra\", \"yak\"}}\n", EVIL.replace('\u{1b}', "")));
    bed.run(&["benchmark"]).expect(0);
    bed.run(&["gate"]).expect(0);
    bed.git(&["commit", "-qm", &format!("edit {}", EVIL.replace('\u{1b}', "")), "agent/agent.py"]);
    bed.run(&["record"]).expect(0);
    // Rejected: one that somebody gated by hand, and one that the loop kept, under a name that tells the newest.
    bed.write("agent/agent.py", "SKILLS = {\"yak\"}  # by the loop\n");
    bed.run(&["gate"]).expect(1);
    bed.git(&["add", "agent/agent.py"]);
    let (tree, base) = (bed.git(&["write-tree"]), bed.git(&["rev-parse", "HEAD"]));
    let kept = bed.git(&["commit-tree", "-p", &base, "-m", "take zebra away", &tree]);
    bed.git(&["update-ref", "refs/autoharness/candidates/10-1", &kept]);
    bed.git(&["update-ref", "refs/autoharness/candidates/9-1", &base]);
    bed.git(&["reset", "-q"]);
    bed.agent(&["zebra"]);
    bed.run(&["gate"]).expect(1);

    let page = page(&bed);
    for task in held {
        assert!(!page.contains(task), "the page names {task}");
    }
    assert!(!page.contains(['\u{1b}', '\u{202e}']) && !page.contains("<img"), "something acts");
    assert_eq!(page.matches("</script").count(), 2);
    assert!(!page.contains("href=\"javascript") && !page.contains("http:") && !page.contains("https:"));
    let (_, policy) = page.split_once("http-equiv=\"Content-Security-Policy\" content=\"").unwrap();
    let policy = policy.split_once('"').unwrap().0;
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    let head = bed.git(&["rev-parse", "--short", "HEAD"]);
    for words in [
        format!(
            "The agent recorded as {head} scores 100.0 % (95 % interval 51.0 % to 100.0 %, 4 tasks) on the held-out tasks"
        ),
        "the agent that the experiment started from scores 0.0 %".into(),
        "the difference is +100.0 points; p 0.125: could be noise".into(),
        "Single results of the hold-out were never looked at.".into(),
        "No measurement was made for this claim alone (confirm was not run).".into(),
        "No task is sealed: there is none that no gate ever saw.".into(),
        "The noise floor is not measured (calibrate)".into(),
        "2: yak-1, yak-2".into(),
        "<span class=\"add\">+SKILLS = {&quot;zebra&quot;, &quot;yak&quot;}\n</span>".into(),
        "- Learned: &lt;/script&gt;".into(),
        "take zebra away".into(),
        "git keeps it as <code>refs/autoharness/candidates/10-1</code>.".into(),
        "<span class=\"add\">+SKILLS = {&quot;yak&quot;}  # by the loop\n</span>".into(),
        format!("#1 {head}"),
        "1 train tasks failed when they were last run.".into(),
    ] {
        assert!(page.contains(&words), "the page lacks {words:?}");
    }
    assert_eq!(page.matches("No commit that is known here has it").count(), 1, "the one gated by hand alone");
    let tasks = data(&page)["tasks"].as_array().unwrap().clone();
    assert_eq!(tasks.len(), 5);
    let of = |name: &str| tasks.iter().find(|task| task["task"].as_str().unwrap().starts_with(name)).unwrap();
    assert_eq!(
        (&of("yak-1")["latest"]["outcome"], &of("yak-1")["baseline"]["outcome"]),
        (&json!("passed"), &json!("failed"))
    );
    assert_eq!(of("yak-1")["latest"]["turns"][0]["x"], "do yak-1");
    assert!(of("</script>")["latest"]["turns"][0]["c"][0][1].as_str().unwrap().contains("javascript:alert(2)"));
    // `#task=N` of the table is the N-th of them.
    let number = tasks.iter().position(|task| task["task"] == "yak-1").unwrap();
    assert!(page.contains(&format!("<a href=\"#task={number}\">yak-1</a>")));

    // Somewhere else, and not through a link that somebody put there.
    let outside = bed.outside().join("other.html");
    bed.run(&["report", "--out", outside.to_str().unwrap(), "--format", "json"]).expect(0).says("\"type\":\"report\"");
    assert!(std::fs::read_to_string(&outside).unwrap().starts_with("<!DOCTYPE html>"));
    let kept = bed.outside().join("kept");
    std::fs::write(&kept, "kept").unwrap();
    std::fs::remove_file(bed.root.join("workspace/report.html")).unwrap();
    std::os::unix::fs::symlink(&kept, bed.root.join("workspace/report.html")).unwrap();
    bed.run(&["report"]).expect(0);
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "kept");
    bed.run(&["report", "--out", "workspace"]).expect(2).warns("workspace is a directory");
}

#[test]
fn an_edit_that_the_rule_paired_did_not_accept_leaves_no_number_in_the_page() {
    let bed = Bed::prepared(json!({}), "gate_rule: paired\nmax_rounds: 1\nconfirm_trials: 1");
    bed.agent(&["easy", "odd"]);
    bed.run(&["gate"]).expect(1);
    let page = page(&bed);
    assert!(
        page.contains("rejected, no score told") && page.contains("No edit has been recorded under the present rules")
    );
    assert!(page.contains("so choosing did not raise it"));
    let bed = Bed::table(json!({}), "");
    bed.run(&["report"]).expect(2).warns("error: this experiment is not prepared");
}

/// Trials that are run of an old agent later were not spent before the scores after it.
#[test]
fn what_was_spent_is_told_in_the_order_of_the_ledger() {
    let bed = Bed::prepared(json!({}), "");
    bed.accept(&["easy", "hard"]);
    bed.run(&["confirm", "--trials", "1"]).expect(0);
    let page = page(&bed);
    let (_, plot) = page.split_once("aria-label=\"recorded score over trials spent\"").unwrap();
    let (_, line) = plot.split_once("<polyline").unwrap().1.split_once("points=\"").unwrap();
    let line = line.split_once('"').unwrap().0;
    let places: Vec<(i32, i32)> = line
        .split_whitespace()
        .filter_map(|place| place.split_once(','))
        .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
        .collect();
    // From the baseline's half up to all, then on while confirm was run.
    let [start, below, above, .., end] = places[..] else { panic!("{line}") };
    assert!(start.1 == below.1 && below.0 == above.0 && above.1 < below.1 && end.1 == above.1, "{line}");
    assert!(start.0 < above.0 && above.0 < end.0, "{line}");
}

/// What is looked for is the failure; and a link that somebody put there hides one trace, not the night.
#[test]
fn of_several_trials_the_failed_one_is_shown_and_a_link_hides_one_task_alone() {
    let bed = Bed::prepared(json!({"misbehave": {"easy-1": [1, 0, 0]}}), "trials: 3");
    let place = "workspace/traces/latest/hard-1";
    std::fs::remove_dir_all(bed.root.join(place)).unwrap();
    std::os::unix::fs::symlink("/etc", bed.root.join(place)).unwrap();
    let tasks = data(&page(&bed))["tasks"].as_array().unwrap().clone();
    let of = |name: &str| tasks.iter().find(|task| task["task"] == name).unwrap()["latest"].clone();
    assert_eq!((&of("easy-1")["trial"], &of("easy-1")["outcome"]), (&json!(1), &json!("failed")));
    assert_eq!((&of("easy-2")["trial"], &of("easy-2")["outcome"]), (&json!(0), &json!("passed")));
    assert!(of("hard-1")["without"].as_str().unwrap().contains("hard-1 is a link"), "{}", of("hard-1"));
    bed.run(&["show", "--failing"]).expect(0).says("hard-1").says("(its trace is of another trial)");
}

/// The JSON objects of a file, one a line.
fn read_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn tables_have_every_trial_and_no_name_of_a_held_out_task() {
    let bed = Bed::prepared(json!({"misbehave": {"odd-1": "agent_error"}}), "");
    bed.accept(&["easy", "hard"]);
    let held = ["easy-3", "easy-4", "hard-3", "hard-4"];
    let to = bed.outside().join("tables");
    let export = |arguments: &[&str]| bed.run(&[&["export", to.to_str().unwrap()], arguments].concat());
    let read = |name: &str| std::fs::read_to_string(to.join(name)).unwrap();
    export(&[]).expect(0).says("verdicts.csv (1 rows)").says("iterations.csv (2 rows)");
    let trials = read("trials.csv");
    assert!(held.iter().all(|task| !trials.contains(task)), "{trials}");
    assert_eq!(trials.lines().count(), 1 + bed.events("trial").len());
    let aliases: std::collections::BTreeSet<&str> =
        trials.split(',').filter(|cell| cell.starts_with("held-out-")).collect();
    assert_eq!((aliases.len(), trials.matches("held-out-").count()), (4, 8));
    assert!(trials.lines().filter(|line| line.contains("held-out-")).all(|line| line.starts_with(",,,")), "{trials}");
    assert!(trials.contains("agent_error as told at odd-1"));
    let columns = trials.lines().next().unwrap().split(',').map(str::to_string).collect::<Vec<_>>();
    let page = include_str!("../docs/src/report.md");
    for column in columns.iter().map(String::as_str).chain(read("verdicts.csv").lines().next().unwrap().split(',')) {
        assert!(page.contains(&format!("`{column}`")), "{column} is not described");
    }
    export(&["--to", "jsonl"]).expect(0);
    let rows = read_lines(&to.join("iterations.jsonl"));
    assert_eq!(
        (&rows[1]["val_score"], &rows[1]["evals_passed"], &rows[1]["rules_changed"]),
        (&json!(1.0), &json!(4), &json!(false))
    );
    assert_eq!(rows[1]["agent"], bed.events("recorded")[0]["agent"]);

    // The same with types: columns, rows and values.
    export(&["--to", "parquet"]).expect(0);
    let typed = |name: &str| SerializedFileReader::new(std::fs::File::open(to.join(name)).unwrap()).unwrap();
    let names = |file: &dyn FileReader| {
        let schema = file.metadata().file_metadata().schema_descr();
        schema.columns().iter().map(|column| column.name().to_string()).collect::<Vec<_>>()
    };
    let all = typed("trials.parquet");
    assert_eq!(names(&all), columns);
    let told: Vec<_> = all.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    let plain: Vec<Value> = read_lines(&to.join("trials.jsonl"));
    assert_eq!(told.len(), plain.len());
    for (row, plain) in told.iter().zip(&plain) {
        assert_eq!((row.get_long(0).ok(), row.get_double(10).ok()), (plain["seq"].as_i64(), plain["reward"].as_f64()));
        assert_eq!(row.get_string(7).unwrap(), plain["task"].as_str().unwrap());
        let at = plain["at"].as_str().map(|at| DateTime::parse_from_rfc3339(at).unwrap().timestamp_millis());
        assert_eq!(row.get_timestamp_millis(1).ok(), at);
    }
    let iterations = typed("iterations.parquet");
    let last = iterations.get_row_iter(None).unwrap().last().unwrap().unwrap();
    assert_eq!((last.get_long(0).unwrap(), last.get_double(1).unwrap(), last.get_bool(7).unwrap()), (1, 1.0, false));
    assert!(last.get_timestamp_millis(5).unwrap() > 1_700_000_000_000);
    let bytes = std::fs::read(to.join("trials.parquet")).unwrap();
    assert!(held.iter().all(|task| !bytes.windows(task.len()).any(|part| part == task.as_bytes())));

    export(&["--reveal-held-out"]).expect(0).warns("The look is written to the ledger.");
    assert!(held.iter().all(|task| read("trials.csv").contains(task)));
    assert_eq!(bed.events("revealed").len(), 1);
    bed.run(&["status"]).expect(0).says("looks       1 at per-task hold-out results\n");
    bed.run(&["verify"]).expect(0);
    bed.run(&["export", "bench.py"]).expect(2).warns("bench.py is not a directory");
    bed.run(&["export", "bench.py/tables"]).expect(2).warns("bench.py is not a directory");
}

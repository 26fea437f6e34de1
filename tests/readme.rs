//! README, CONTRIBUTING and CHANGELOG say what is true: their example runs, their tables are the program's own.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its documents should panic")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use autoharness::benchmarks::{self, keys};
use autoharness::cli::Cli;
use autoharness::config::{Key, Section, keys_of};
use autoharness::error::{EXIT_INFRASTRUCTURE, EXIT_OK, EXIT_REJECTED, EXIT_USAGE, Error};
use autoharness::store::views::RESULTS_HEADER;
use clap::CommandFactory;
use support::Bed;

const README: &str = include_str!("../README.md");
const CONTRIBUTING: &str = include_str!("../CONTRIBUTING.md");

/// The text between two lines of the README.
fn between(start: &str, end: &str) -> &'static str {
    let (_, rest) = README.split_once(start).unwrap_or_else(|| panic!("the README lacks {start:?}"));
    rest.split_once(end).unwrap_or_else(|| panic!("the README lacks {end:?} after {start:?}")).0
}

/// The README's section with this heading, up to the next one of the same level.
fn section(heading: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

/// The cells of every table below this header row, header and ruler left out.
fn rows(text: &str, header: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for part in text.split(&format!("{header}\n")).skip(1) {
        for line in part.lines().skip(1).take_while(|line| line.starts_with('|')) {
            let line = line.trim_matches('|').replace("\\|", "\0");
            rows.push(line.split('|').map(|cell| cell.trim().replace('\0', "|")).collect());
        }
    }
    assert!(!rows.is_empty(), "no table has the header {header:?}");
    rows
}

#[test]
fn the_example_benchmark_runs_as_printed() {
    let example = between("<!-- BEGIN bench.py", "<!-- END bench.py -->");
    let example = example.split_once("```python\n").unwrap().1.strip_suffix("```\n").unwrap();
    assert_eq!(example, include_str!("../agent/helpers/command/bench.py"));
    let bed = Bed::empty();
    bed.run(&["init", "--benchmark", "command"]).expect(0);
    assert_eq!(bed.read("bench.py"), example);
    bed.run(&["prepare"]).expect(0).says("split      4 train, 3 test").says("baseline   val_score 0.3333 (1/3 pass)");
    let agent = bed.read("agent/agent.py");
    let better = agent.replace(
        "    return \"I do not know\"",
        "    if \"reverse\" in words:\n        print(\"reversing\")\n        return words[-1][::-1]\n    return \"I do not know\"",
    );
    assert_ne!(agent, better);
    bed.write("agent/agent.py", &better);
    bed.run(&["benchmark"]).expect(0).says("train_score=0.5000 passed=2 evaluated=4 expected=4");
    let trace = bed.read_json("workspace/traces/latest/reverse/trace.json");
    assert_eq!(trace[1]["content"], "desserts");
    bed.run(&["gate"]).expect(0).says("gate: passed val_score=0.6667 evals_passed=2 evals_total=3");
    bed.commit_agent();
    bed.run(&["record"]).expect(0).says("recorded: iteration=1 val_score=0.6667");
    bed.write("agent/agent.py", "def solve(question):\n    raise RuntimeError(question)\n");
    bed.run(&["gate"]).expect(1).says("gate: failed val_score=0.0000");
    bed.git(&["checkout", "-q", "--", "agent/agent.py"]);
    bed.run(&["verify"]).expect(0).says("verify: ok");
}

/// What a configuration that says nothing has for this key.
fn default_of(owner: Option<&'static dyn Section>, key: &Key) -> String {
    if key.required {
        return "required".into();
    }
    let benchmark = owner.unwrap_or(benchmarks::find("command").unwrap());
    let mut text = format!("benchmark: {benchmark}\n");
    for required in keys_of(benchmark).filter(|key| key.required && key.name != "benchmark") {
        text.push_str(&format!("{}\n", required.example));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("experiment_config.yaml");
    fs_err::write(&path, text).unwrap();
    match &benchmarks::load(&path).unwrap().snapshot()[key.name] {
        serde_json::Value::Null => "none".into(),
        value => format!("`{value}`"),
    }
}

#[test]
fn the_configuration_table_has_every_key_with_its_default() {
    let table = rows(README, "| key | default | meaning |");
    for (owner, key) in keys() {
        // Two benchmarks may have a key of the same name, each with its row.
        let named: Vec<_> = table.iter().filter(|row| row[0] == format!("`{}`", key.name)).collect();
        assert!(!named.is_empty(), "the README does not list the key `{}`", key.name);
        let default = default_of(owner, key);
        let same = |row: &&&Vec<String>| row[1] == default || (key.required && row[1].starts_with(&default));
        let row = named.iter().find(same);
        let row = row.unwrap_or_else(|| panic!("`{}`: the README says {named:?}, the program {default}", key.name));
        assert!(!row[2].is_empty());
    }
    assert_eq!(table.len(), keys().len(), "the README lists a key that does not exist, or one twice");
}

#[test]
fn every_command_and_flag_is_listed_and_no_other() {
    let cli = Cli::command();
    let text = section("Commands");
    let table = rows(text, "| command | options | what it does |");
    let names = |row: &[String]| row[0].trim_matches('`').split(' ').next().unwrap().to_string();
    let listed: Vec<String> = table.iter().map(|row| names(row)).collect();
    let real: Vec<&clap::Command> = cli.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    assert_eq!(listed, real.iter().map(|command| command.get_name()).collect::<Vec<_>>());
    for (command, row) in real.iter().zip(&table) {
        let flags: BTreeSet<String> =
            command.get_arguments().filter_map(|flag| flag.get_long()).map(|flag| format!("--{flag}")).collect();
        let words = row[1].split([' ', '`', ',', '|']).filter(|word| word.starts_with("--")).map(str::to_string);
        assert_eq!(words.collect::<BTreeSet<_>>(), flags, "{}", command.get_name());
    }
    for flag in cli.get_arguments() {
        let long = flag.get_long().unwrap();
        assert!(text.contains(&format!("--{long}")), "--{long} is not mentioned");
        if let Some(short) = flag.get_short() {
            assert!(text.contains(&format!("`-{short}`")), "-{short} is not mentioned");
        }
    }
}

#[test]
fn the_exit_codes_are_the_contract() {
    let table = rows(section("Exit codes"), "| code | meaning | what to do |");
    let interrupted = [1, 2, 15].map(|signal| Error::interrupted(signal).exit_code().to_string()).join(", ");
    let contract = [
        (EXIT_OK.to_string(), "success"),
        (EXIT_REJECTED.to_string(), "said no"),
        (EXIT_USAGE.to_string(), "usage"),
        (EXIT_INFRASTRUCTURE.to_string(), "infrastructure"),
        (interrupted, "interrupted"),
    ];
    assert_eq!(table.len(), contract.len());
    let program = rows(include_str!("../program_templates/base.md"), "| code | meaning | what you do |");
    let help = Cli::command().render_help().to_string();
    for (row, (code, word)) in table.iter().zip(&contract) {
        assert_eq!(&row[0], code);
        assert!(row[1].contains(word), "{code}: {}", row[1]);
        assert!(program.iter().any(|row| row[0] == *code), "PROGRAM.md lacks {code}");
        let line = help.lines().find(|line| line.trim().starts_with(&format!("{} ", code.replace(", ", "/"))));
        assert!(line.is_some_and(|line| line.contains(word)), "--help lacks {code}: {help}");
    }
}

/// Names of events, views and columns that the README spells out.
#[test]
fn the_file_formats_name_what_is_written() {
    let files = section("Files");
    for column in RESULTS_HEADER {
        assert!(files.contains(&format!("`{column}`")), "{column}");
    }
    let bed = Bed::prepared(serde_json::json!({}), "");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    bed.run(&["benchmark", "--split", "test", "--reveal-held-out"]).expect(0);
    let events = rows(files, "| event | content |");
    let ledger = bed.read(".git/autoharness/ledger.jsonl");
    for line in ledger.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let (name, content) = entry["event"].as_object().unwrap().iter().next().unwrap();
        let row = events.iter().find(|row| row[0] == format!("`{name}`"));
        let row = row.unwrap_or_else(|| panic!("the README does not describe the event `{name}`"));
        for field in content.as_object().unwrap().keys().filter(|_| name == "trial") {
            assert!(row[1].contains(field.as_str()), "the README's `trial` lacks {field}");
        }
    }
    for item in fs_err::read_dir(bed.root.join("workspace")).unwrap() {
        let name = item.unwrap().file_name().into_string().unwrap();
        assert!(files.contains(&name), "workspace/{name} is not described");
    }
    for item in fs_err::read_dir(bed.state()).unwrap() {
        let name = item.unwrap().file_name().into_string().unwrap();
        assert!(files.contains(&format!("`{name}")), "{name} of the state directory is not described");
    }
}

/// Messages that the README explains are still in the sources, as far as they do not vary.
#[test]
fn the_messages_explained_exist() {
    let mut sources = String::new();
    for item in walkdir::WalkDir::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let item = item.unwrap();
        if item.file_type().is_file() {
            sources.push_str(&fs_err::read_to_string(item.path()).unwrap());
        }
    }
    for row in rows(section("Troubleshooting"), "| what you see | why, and what to do |") {
        let Some(message) = row[0].strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) else { continue };
        for piece in message.split("...").flat_map(|part| part.split(" N ")).flat_map(|part| part.split(" M ")) {
            let piece = piece.trim();
            assert!(sources.contains(piece), "no message has {piece:?}");
        }
    }
}

#[test]
fn links_and_paths_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let anchors: BTreeSet<String> = README
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')))
        .map(|heading| heading.to_lowercase().replace(' ', "-").replace([',', '/'], ""))
        .collect();
    for (name, text) in [("README.md", README), ("CONTRIBUTING.md", CONTRIBUTING)] {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            match link.strip_prefix('#') {
                Some(anchor) => assert!(anchors.contains(anchor), "{name}: no heading for #{anchor}"),
                None if link.starts_with("https://") => {}
                None => assert!(root.join(link).exists(), "{name} links to {link}"),
            }
        }
        let words = text.split(|c: char| c.is_whitespace() || "`(),;:\"'[]".contains(c));
        for path in words.map(|word| word.trim_end_matches('.')) {
            let ours =
                ["src/", "tests/", "program_templates/", "agent/", ".ci/"].iter().any(|top| path.starts_with(top));
            if ours && !path.contains(['<', '*', '{']) {
                assert!(root.join(path).exists(), "{name} names {path}");
            }
        }
    }
}

#[test]
fn the_changelog_has_this_version() {
    let changelog = include_str!("../CHANGELOG.md");
    let heading = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(changelog.lines().any(|line| line.starts_with(&heading)), "CHANGELOG.md lacks {heading}");
}

/// CI runs the tests as the README says, and so would a newcomer.
#[test]
fn ci_runs_what_the_readme_says() {
    let ci = include_str!("../.ci/run");
    assert!(README.contains("\n    cargo test\n") && ci.contains(" cargo test\n"));
    assert!(README.contains("\n    cargo run --release -- demo\n"));
}

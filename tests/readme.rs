//! README, CONTRIBUTING, CHANGELOG and the pages of docs/ say what is true: their example runs, their tables are the
//! program's own.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its documents should panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::Bed;
use autoharness::internals::benchmarks::{self, sections};
use autoharness::internals::cli::definition;
use autoharness::internals::config::{COMMON, Key, Section, keys_of, own_defaults};
use autoharness::internals::error::{Code, EXIT_INFRASTRUCTURE, EXIT_OK, EXIT_REJECTED, EXIT_USAGE, Error};
use autoharness::internals::store::views::RESULTS_HEADER;

const README: &str = include_str!("../README.md");

/// Where links to files of the repository lead that are no pages of the book.
const REPOSITORY: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/");

/// Where the pages of the book lie.
const BOOK: &str = "docs/src";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A page of the book by its path below docs/src, without `.md`.
fn page(name: &str) -> String {
    let path = root().join(BOOK).join(format!("{name}.md"));
    fs_err::read_to_string(path).unwrap_or_else(|error| panic!("{error}; copy the form of benchmarks/command.md"))
}

/// A page's section with this heading, up to the next one of the same level.
fn section(page: &str, heading: &str) -> String {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading:?}"));
    rest.split_once("\n## ").map_or(rest, |(section, _)| section).into()
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
    let page = page("own-benchmark");
    let (_, example) = page.split_once("<!-- BEGIN bench.py").unwrap();
    let example = example.split_once("<!-- END bench.py -->").unwrap().0;
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
    bed.run(&["gate"]).expect(1).says("gate: failed val_score=-");
    bed.git(&["checkout", "-q", "--", "agent/agent.py"]);
    bed.run(&["verify"]).expect(0).says("verify: ok");
}

/// What a configuration of this benchmark that says nothing has for this key.
fn default_of(key: &Key, benchmark: &'static dyn Section) -> String {
    if key.required {
        return "required".into();
    }
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

/// Compares a page's table with these keys: the same names in the same order, each with its default.
fn has_keys(page_name: &str, benchmark: &'static dyn Section, expected: &[&Key]) {
    let table = rows(&page(page_name), "| key | default | meaning |");
    let listed: Vec<&str> = table.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(listed, expected.iter().map(|key| key.name).collect::<Vec<_>>(), "{page_name}.md");
    for (row, key) in table.iter().zip(expected) {
        assert_eq!(row[1], default_of(key, benchmark), "{page_name}.md: `{}`", key.name);
        let told = row[2].starts_with(key.doc);
        assert!(told, "{page_name}.md: `{}` means something else to the program: run docs/configuration.py", key.name);
    }
}

#[test]
fn the_configuration_tables_have_every_key_with_its_default() {
    let common: Vec<&Key> = COMMON.iter().collect();
    has_keys("configuration", benchmarks::find("command").unwrap(), &common);
    let table = rows(&page("configuration"), "| key | default | meaning |");
    for benchmark in sections() {
        for (key, value) in own_defaults(benchmark) {
            let row = table.iter().find(|row| row[0] == format!("`{key}`")).unwrap();
            assert!(
                row[2].contains(&format!("{benchmark} {value}")),
                "configuration.md: `{key}` of {benchmark} is {value}"
            );
        }
        let own: Vec<&Key> = benchmark.keys().iter().collect();
        let page_name = format!("benchmarks/{benchmark}");
        match own.is_empty() {
            true => assert!(!page(&page_name).contains("| key |"), "{page_name}.md lists keys that do not exist"),
            false => has_keys(&page_name, benchmark, &own),
        }
    }
}

#[test]
fn every_command_and_flag_is_listed_and_no_other() {
    let cli = definition();
    let text = section(&page("commands"), "Commands");
    let table = rows(&text, "| command | options | what it does |");
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
    let table = rows(&section(&page("commands"), "Exit codes"), "| code | meaning | what to do |");
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
    let help = definition().render_help().to_string();
    for (row, (code, word)) in table.iter().zip(&contract) {
        assert_eq!(&row[0], code);
        assert!(row[1].contains(word), "{code}: {}", row[1]);
        assert!(program.iter().any(|row| row[0] == *code), "PROGRAM.md lacks {code}");
        let line = help.lines().find(|line| line.trim().starts_with(&format!("{} ", code.replace(", ", "/"))));
        assert!(line.is_some_and(|line| line.contains(word)), "--help lacks {code}: {help}");
    }
}

#[test]
fn the_table_of_error_codes_is_the_programs() {
    let listed = rows(&page("errors"), "| code | meaning | what to do |");
    let row = |code: &Code| vec![format!("`{}`", code.name()), code.meaning().to_string(), code.remedy().to_string()];
    assert_eq!(listed, Code::ALL.iter().map(row).collect::<Vec<_>>());
    let bed = Bed::empty();
    let explained = bed.run(&["explain", "--format", "json"]).expect(0).json();
    let names: Vec<&str> = explained.iter().filter_map(|line| line["code"].as_str()).collect();
    assert_eq!(names, Code::ALL.iter().map(|code| code.name()).collect::<Vec<_>>());
    for code in Code::ALL {
        bed.run(&["explain", code.name()]).expect(0).says(code.meaning()).says(code.remedy());
    }
}

/// Names of events, views and columns that the page spells out.
#[test]
fn the_file_formats_name_what_is_written() {
    let files = page("files");
    for column in RESULTS_HEADER {
        assert!(files.contains(&format!("`{column}`")), "{column}");
    }
    let bed = Bed::prepared(serde_json::json!({}), "");
    bed.agent(&["easy", "hard"]);
    bed.run(&["gate"]).expect(0);
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
    bed.run(&["benchmark", "--split", "test", "--reveal-held-out"]).expect(0);
    let events = rows(&files, "| event | content |");
    let ledger = bed.read(".git/autoharness/ledger.jsonl");
    for line in ledger.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let (name, content) = entry["event"].as_object().unwrap().iter().next().unwrap();
        let row = events.iter().find(|row| row[0] == format!("`{name}`"));
        let row = row.unwrap_or_else(|| panic!("the page does not describe the event `{name}`"));
        for field in content.as_object().unwrap().keys().filter(|_| name == "trial") {
            assert!(row[1].contains(field.as_str()), "the page's `trial` lacks {field}");
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

/// Messages that the page explains are still in the sources, as far as they do not vary.
#[test]
fn the_messages_explained_exist() {
    let mut sources = String::new();
    for item in walkdir::WalkDir::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let item = item.unwrap();
        if item.file_type().is_file() {
            sources.push_str(&fs_err::read_to_string(item.path()).unwrap());
        }
    }
    for row in rows(&page("troubleshooting"), "| what you see | why, and what to do |") {
        let Some(message) = row[0].strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) else { continue };
        for piece in message.split("...").flat_map(|part| part.split(" N ")).flat_map(|part| part.split(" M ")) {
            let piece = piece.trim();
            assert!(sources.contains(piece), "no message has {piece:?}");
        }
    }
}

/// README, CONTRIBUTING, the pages of docs/ and the guides in the source tree, relative to the repository.
fn documents() -> Vec<PathBuf> {
    let below = [BOOK, "src"].map(|top| walkdir::WalkDir::new(root().join(top)).sort_by_file_name());
    let found = below.into_iter().flatten().map(|item| item.unwrap().into_path());
    let pages = found.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let pages = pages.map(|path| path.strip_prefix(root()).unwrap().to_path_buf());
    ["README.md", "CONTRIBUTING.md"].map(PathBuf::from).into_iter().chain(pages).collect()
}

/// What GitHub and mdBook call the headings of a text.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut code = false;
    let headings = text.lines().filter(|line| {
        code ^= line.starts_with("```");
        !code && line.starts_with('#')
    });
    let headings = headings.map(|line| line.trim_start_matches('#').trim());
    let plain = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
    headings.map(|heading| heading.to_lowercase().chars().filter(plain).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn links_and_paths_lead_somewhere() {
    let mut links = 0;
    for document in documents() {
        let name = document.display();
        let text = fs_err::read_to_string(root().join(&document)).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let beside = document.parent().unwrap();
            let target = match path.strip_prefix(REPOSITORY) {
                Some(path) => root().join(path),
                None if path.starts_with("https://") => continue,
                None if path.is_empty() => root().join(&document),
                None => root().join(beside).join(path),
            };
            let target = target.canonicalize().unwrap_or_else(|_| panic!("{name} links to {link}"));
            // The book is read without the repository, too.
            let leaves = document.starts_with(BOOK) && !target.starts_with(root().join(BOOK));
            assert!(!leaves || path.starts_with(REPOSITORY), "{name}: {link} leads out of the book");
            if !anchor.is_empty() {
                let there = anchors(&fs_err::read_to_string(&target).unwrap());
                assert!(there.contains(anchor), "{name}: no heading for {link}");
            }
            links += 1;
        }
        let words = text.split(|c: char| c.is_whitespace() || "`(),;:\"'[]".contains(c));
        for path in words.map(|word| word.trim_end_matches('.')) {
            let ours =
                ["src/", "tests/", "program_templates/", "agent/", ".ci/"].iter().any(|top| path.starts_with(top));
            if ours && !path.contains(['<', '*', '{']) {
                assert!(root().join(path).exists(), "{name} names {path}");
            }
        }
    }
    assert!(links > 40, "only {links} links were found");
}

/// The book has every page once, a page for every benchmark, and `docs/llms.txt` is made of it.
#[test]
fn the_book_is_whole_and_the_program_prints_it() {
    let summary = page("SUMMARY");
    let mut listed: Vec<&str> = summary.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    let bed = Bed::empty();
    let all = bed.run(&["docs", "--all"]).expect(0).stdout;
    assert_eq!(all, include_str!("../docs/llms.txt"));
    let (mut rest, mut list) = (all.as_str(), bed.run(&["docs"]).expect(0));
    for path in &listed {
        let text = fs_err::read_to_string(root().join(BOOK).join(path)).unwrap();
        let (_, after) = rest
            .split_once(&format!("\n==== docs/src/{path}\n\n{text}"))
            .unwrap_or_else(|| panic!("docs/llms.txt lacks {path} as it is now, or in its place: run docs/llms.py"));
        rest = after;
        let name = path.rsplit('/').next().unwrap().trim_end_matches(".md");
        list = list.says(&format!("{name} "));
        assert_eq!(bed.run(&["docs", name]).expect(0).stdout, text);
        assert_eq!(bed.run(&["docs", &format!("benchmarks/{name}.md")]).expect(0).stdout, text);
    }
    assert_eq!(rest, "");
    bed.run(&["docs", "nothing"]).expect(2).warns("there is no page \"nothing\"").warns("`autoharness docs` lists");

    for benchmark in sections() {
        assert!(listed.contains(&format!("benchmarks/{benchmark}.md").as_str()), "no page for {benchmark}");
        let row = format!("| [`{benchmark}`](");
        assert!(
            README.contains(&row) && page("benchmarks").contains(&row),
            "README or benchmarks.md does not list {benchmark}"
        );
        let configuration = page("configuration");
        assert!(configuration.contains(&format!("`{benchmark}`")), "configuration.md does not name {benchmark}");
        let keys = format!("[{benchmark}](benchmarks/{benchmark}.md#keys)");
        assert!(
            benchmark.keys().is_empty() || configuration.contains(&keys),
            "configuration.md does not lead to its keys"
        );
        let stem = benchmark.to_string().replace('-', "_");
        for link in [
            format!("agent/templates/{stem}.py"),
            format!("agent/helpers/{stem}"),
            format!("program_templates/{stem}.md"),
        ] {
            assert!(root().join(&link).exists(), "there is no link {link}");
        }
    }
    listed.push("SUMMARY.md");
    let pages = documents().into_iter().filter_map(|path| path.strip_prefix(BOOK).ok().map(PathBuf::from));
    let listed: BTreeSet<PathBuf> = listed.into_iter().map(PathBuf::from).collect();
    assert_eq!(listed, pages.collect());
}

/// The picture is drawn by hand (docs/picture.py), from what the demo prints; tests/demo.rs holds the snapshot to that.
#[test]
fn the_picture_shows_what_the_demo_prints() {
    let (picture, printed) = (include_str!("../docs/demo.svg"), include_str!("snapshots/demo.snap"));
    let texts = picture.split("<text ").skip(1).filter_map(|text| text.split_once('>')?.1.split('<').next());
    let plain = [("&#160;", " "), ("&#x27;", "'"), ("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    let texts = texts.map(|text| plain.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to)));
    let texts = texts.map(|text| text.trim().trim_end_matches('…').trim().to_string());
    // Those with a commit or a time in them, which differ each time (so do rows of the history), and of another command.
    let differ = ["commit=", ", baseline ", "of trial time", "when last run", "verify: "];
    let is_row = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    let same = texts.filter(|text| text.len() > 20 && !is_row(text) && !differ.iter().any(|part| text.contains(part)));
    let same: Vec<String> = same.collect();
    assert!(same.len() > 20, "the picture was not understood: {same:?}");
    let other: Vec<&String> = same.iter().filter(|text| !printed.contains(text.as_str())).collect();
    assert!(other.is_empty(), "draw it anew: {other:#?}");
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

//! experiment_config.yaml, `.env` and the embedded templates: what is understood, what is refused and in which words.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like the tests themselves")]

use std::ffi::OsString;
use std::path::Path;

use autoharness::internals::benchmarks::{self, ALL, sections};
use autoharness::internals::config::{Config, Environment, TimeoutPolicy, is_secret_name, keys, names};
use autoharness::internals::error::Error;
use autoharness::internals::model::trial::Split;
use autoharness::internals::templates;
use serde_json::{Value, json};

/// Loads `text` as the configuration of an experiment.
fn load(text: &[u8]) -> Result<Config, Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("experiment_config.yaml");
    fs_err::write(&path, text).unwrap();
    benchmarks::load(&path)
}

/// The whole message of a refused configuration: message lines and hints, without the directory.
fn refusal(text: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("experiment_config.yaml");
    fs_err::write(&path, text).unwrap();
    let error = benchmarks::load(&path).expect_err(&format!("accepted: {}", String::from_utf8_lossy(text)));
    assert_eq!(error.exit_code(), 2);
    let lines: Vec<String> =
        error.chain().into_iter().chain(error.hints().iter().map(|hint| format!("hint: {hint}"))).collect();
    lines.join("\n").replace(&format!("{}/experiment_config.yaml", directory.path().display()), "C")
}

/// The snapshot value of `key` in a demo experiment that sets it to `value`.
fn read(key: &str, value: &str) -> Result<Value, Error> {
    load(format!("benchmark: demo\n{key}: {value}\n").as_bytes()).map(|config| config.snapshot()[key].clone())
}

#[test]
fn a_file_that_says_only_benchmark_gets_every_default() {
    let config = load(b"benchmark: demo\n").unwrap();
    assert_eq!(config.benchmark.name(), "demo");
    assert_eq!(config.agent_file(), "agent/agent.py");
    assert_eq!(config.gate_split, Split::Test);
    assert_eq!(config.timeout_policy, TimeoutPolicy::Agent);
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.text, "benchmark: demo\n");
    assert_eq!(config.digest, "312ddd4cafbdd1bf0ab6beee46295339df03eb306647931f184269f6f5952327");
    assert_eq!(
        config.snapshot(),
        json!({
            "benchmark": "demo", "editable": ["agent/agent.py"], "file_guard": true, "gate_split": "test", "sealed": 0.0,
            "threshold": 0.8, "min_evidence": 0.9, "trials": 1, "infra_retries": 1, "timeout_policy": "agent",
            "seed": 42, "max_concurrency": 4, "per_task_timeout": 10.0, "agent_model": null, "user_model": null,
            "reasoning_effort": null, "pass_env": [], "fence": "auto", "model_hosts": [], "data": [], "not_read": [], "leak_scan": "warn", "gate_rule": "best", "alpha": 0.1, "max_rounds": 3, "confirm_trials": 3,
            "promote_after": 3, "max_suite": null, "holdout_disclosure": "score", "alpha_spending": false,
            "surfaces": {}, "coding_agents": {}, "loop_env": [], "loop_timeout": 3600, "loop_prices": null, "trial_prices": null, "noise": 0.0
        })
    );
}

#[test]
fn concurrency_and_timeout_default_by_benchmark() {
    let expected = [("demo", 4, Some(10.0)), ("tau-bench", 3, None), ("terminal-bench", 50, None)];
    for (name, concurrency, timeout) in expected.into_iter().chain([("bird-interact", 3, None)]) {
        let config = load(format!("benchmark: {name}\n").as_bytes()).unwrap();
        assert_eq!((config.max_concurrency, config.per_task_timeout), (concurrency, timeout), "{name}");
    }
    let config = load(b"benchmark: command\ncommand: [x]\n").unwrap();
    assert_eq!((config.max_concurrency, config.per_task_timeout), (4, None));
}

#[test]
fn tau_bench_fills_in_what_follows() {
    let config = load(b"benchmark: tau-bench\nagent_model: openai/x\n").unwrap();
    assert_eq!((config.seed, config.user_model.as_deref()), (300, Some("openai/x")));
    assert_eq!(config.snapshot()["retrieval_config"], Value::Null);
    let text = "benchmark: tau-bench\nagent_model: a\nuser_model: b\nseed: 1\ndomain: banking_knowledge\n";
    let config = load(text.as_bytes()).unwrap();
    assert_eq!((config.seed, config.user_model.as_deref()), (1, Some("b")));
    assert_eq!(config.snapshot()["retrieval_config"], "bm25");
}

#[test]
fn a_full_configuration_is_read() {
    let text = "\u{feff}---\r\n# mine\r\nbenchmark: command\r\neditable:\r\n  - ./agent//agent.py\r\n  - agent/prompt.md\r\n\
        file_guard: No\r\ngate_split: train\r\nsealed: .25\r\nthreshold: 1\r\nmin_evidence: .5\r\ntrials: \"4\"\r\ninfra_retries: 0\r\n\
        timeout_policy: infra\r\nseed: 1_000\r\nmax_concurrency: 0x10\r\nper_task_timeout: 1e2\r\nagent_model: gpt-5 # c\r\n\
        user_model:\r\nreasoning_effort: off\r\npass_env: [OPENAI_API_KEY]\r\ndata: [bench_data/]\r\nnot_read: [docs/, '*.md']\r\nleak_scan: fail\r\ngate_rule: best\r\nalpha: 0.05\r\nmax_rounds: 2\r\nconfirm_trials: 1\r\npromote_after: 5\r\nmax_suite: 12\r\nholdout_disclosure: bit\r\nalpha_spending: true\r\n\
        surfaces: {prompt: [agent//prompt.md], code: [./agent/agent.py]}\r\ncoding_agents: {mine: {command: [x, '1'], prompt: argument, usage: u.jsonl}}\r\nloop_env: [A_KEY]\r\nloop_timeout: 60\r\nloop_prices: {input: 1, output: 2.5}\r\ntrial_prices: {input: 0, output: 3}\r\n\
        command: [python3, bench.py, '3']\r\noptions: {deep: [1, -2, 0.5, null, true], word: \"yes\"}\r\nagent_symbol: solve\r\n";
    let config = load(text.as_bytes()).unwrap();
    assert_eq!(config.text, text);
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(
        config.snapshot(),
        json!({
            "benchmark": "command", "editable": ["agent/agent.py", "agent/prompt.md"], "file_guard": false,
            "gate_split": "train", "sealed": 0.25, "threshold": 1.0, "min_evidence": 0.5, "trials": 4, "infra_retries": 0,
            "timeout_policy": "infra", "seed": 1000, "max_concurrency": 16, "per_task_timeout": 100.0,
            "agent_model": "gpt-5", "user_model": null, "reasoning_effort": "off", "pass_env": ["OPENAI_API_KEY"], "fence": "auto", "model_hosts": [],
            "data": ["bench_data"], "not_read": ["docs", "*.md"], "leak_scan": "fail", "gate_rule": "best", "alpha": 0.05, "max_rounds": 2, "confirm_trials": 1, "promote_after": 5, "max_suite": 12,
            "holdout_disclosure": "bit", "alpha_spending": true, "command": ["python3", "bench.py", "3"],
            "surfaces": {"prompt": ["agent/prompt.md"], "code": ["agent/agent.py"]}, "coding_agents": {"mine": {"command": ["x", "1"], "prompt": "argument", "usage": "u.jsonl"}}, "loop_env": ["A_KEY"],
            "loop_timeout": 60, "loop_prices": {"input": 1.0, "output": 2.5}, "trial_prices": {"input": 0.0, "output": 3.0},
            "options": {"deep": [1, -2, 0.5, null, true], "word": "yes"}, "agent_symbol": "solve",
            "import_agent": true
        })
    );
}

#[test]
fn every_refusal_names_file_line_and_remedy() {
    let table = include_str!("config/refusals.txt");
    let mut cases = 0;
    for case in table.split("==== configuration\n").skip(1) {
        let (text, expected) = case.split_once("---- is refused with\n").unwrap();
        let expected = expected.replace("{benchmarks}", &names(&sections()));
        assert_eq!(refusal(text.as_bytes()), expected.trim_end(), "for\n{text}");
        cases += 1;
    }
    assert!(cases > 70, "the table was not read");
    assert_eq!(refusal(b""), refusal(b"# only a comment\n"));
    assert_eq!(refusal(b"benchmark: demo\n# \xff\n"), "C:2: not UTF-8 text\nhint: save the file as UTF-8.");
}

#[test]
fn a_missing_file_says_how_to_get_one() {
    let error = benchmarks::load(Path::new("/nowhere/experiment_config.yaml")).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert_eq!(error.to_string(), "/nowhere/experiment_config.yaml does not exist");
    assert!(error.hints()[0].contains("autoharness init"), "{:?}", error.hints());
    assert!(error.hints()[0].contains("cp experiment_config.yaml.template experiment_config.yaml"));
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(benchmarks::load(directory.path()).unwrap_err().exit_code(), 2);
}

/// What PyYAML 6.0.3 makes of a scalar, and what we make of it: the same, or a refusal, or listed as understood better.
#[test]
fn scalars_of_yaml_1_1_are_never_misread() {
    let refused: Option<Value> = None;
    let same = |value: Value| Some(value);
    let better = |value: Value| Some(value);
    let table: &[(&str, &str, Value, Option<Value>)] = &[
        ("seed", "017", json!(15), refused.clone()),
        ("seed", "08", json!("08"), refused.clone()),
        ("seed", "0o17", json!("0o17"), better(json!(15))),
        ("seed", "0x1F", json!(31), same(json!(31))),
        ("seed", "0b11", json!(3), same(json!(3))),
        ("seed", "1_000", json!(1000), same(json!(1000))),
        ("seed", "+4", json!(4), same(json!(4))),
        ("seed", "'4'", json!("4"), better(json!(4))),
        ("seed", "12:30:45", json!(45045), refused.clone()),
        ("seed", "2024-01-31", json!("a date"), refused.clone()),
        ("seed", "1e3", json!("1e3"), refused.clone()),
        ("seed", "5.", json!(5.0), refused.clone()),
        ("seed", "yes", json!(true), refused.clone()),
        ("seed", "_1", json!("_1"), refused.clone()),
        ("seed", "~", json!(null), same(json!(42))),
        ("seed", "Null", json!(null), same(json!(42))),
        ("per_task_timeout", "1e3", json!("1e3"), better(json!(1000.0))),
        ("per_task_timeout", "1.5e+3", json!(1500.0), same(json!(1500.0))),
        ("per_task_timeout", "1_0.5", json!(10.5), same(json!(10.5))),
        ("per_task_timeout", "017", json!(15), refused.clone()),
        ("per_task_timeout", "1:30", json!(90), refused.clone()),
        ("per_task_timeout", ".inf", json!("infinity"), refused.clone()),
        ("threshold", ".5", json!(0.5), same(json!(0.5))),
        ("threshold", "1", json!(1), same(json!(1.0))),
        ("threshold", "inf", json!("inf"), refused.clone()),
        ("agent_model", "2024-01-31", json!("a date"), better(json!("2024-01-31"))),
        ("agent_model", "017", json!(15), better(json!("017"))),
        ("agent_model", "1.10", json!(1.1), refused.clone()),
        ("agent_model", "''", json!(""), better(json!(null))),
        ("reasoning_effort", "off", json!(false), better(json!("off"))),
        ("reasoning_effort", "true", json!(true), refused.clone()),
    ];
    for (key, scalar, pyyaml, expected) in table {
        assert_eq!(read(key, scalar).ok(), *expected, "{key}: {scalar} (PyYAML: {pyyaml})");
    }
    for (word, expected) in [("yes", true), ("On", true), ("TRUE", true), ("1", true), ("tRue", true)]
        .into_iter()
        .chain([("no", false), ("OFF", false), ("False", false), ("0", false), ("'no'", false), ("", true)])
    {
        assert_eq!(read("file_guard", word).unwrap(), json!(expected), "file_guard: {word}");
    }
}

#[test]
fn only_a_clear_no_switches_the_file_guard_off() {
    for value in ["n", "nope", "2", "[false]", "disabled", "-1", "0.0"] {
        let config = load(format!("benchmark: demo\nfile_guard: {value}\n").as_bytes()).unwrap();
        assert!(config.file_guard, "{value}");
        assert_eq!(config.warnings.len(), 1, "{value}");
        assert!(config.warnings[0].ends_with(":2: `file_guard` is neither true nor false and stays on"));
    }
}

#[test]
fn options_that_python_would_read_differently_are_kept_as_text_and_told() {
    let config =
        load(b"benchmark: command\ncommand: [x]\noptions:\n  a: yes\n  b: 'off'\n  c: 1_000\n  d: plain\n").unwrap();
    assert_eq!(config.snapshot()["options"], json!({"a": "yes", "b": "off", "c": "1_000", "d": "plain"}));
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(
        config.warnings[0].contains(":3: `options` keeps `options.a` as the text \"yes\""),
        "{:?}",
        config.warnings
    );
}

#[test]
fn the_snapshot_hides_secrets_and_the_diff_names_every_change() {
    let old = load(
        b"benchmark: command\ncommand: [x, --api-key, hunter2hunter2, --token=hunter2hunter2, --max-tokens, '5']\n\
        options: {api_key: hunter2hunter2, deep: [{password: hunter2hunter2}], max_tokens: 4096, gone: 1}\n",
    )
    .unwrap()
    .snapshot();
    assert!(!old.to_string().contains("hunter2"), "{old}");
    assert_eq!(old["command"], json!(["x", "--api-key", "(hidden)", "--token=(hidden)", "--max-tokens", "5"]));
    assert_eq!(old["options"]["max_tokens"], json!(4096));
    let new =
        load(b"benchmark: command\ncommand: [x]\nthreshold: 0.5\nagent_model: m\noptions: {max_tokens: 1}\n").unwrap();
    assert_eq!(
        Config::diff(&old, &new.snapshot()),
        [
            "threshold: 0.8 -> 0.5",
            "agent_model: (not set) -> \"m\"",
            "command: [\"x\",\"--api-key\",\"(hidden)\",\"--token=(hidden)\",\"--max-tokens\",\"5\"] -> [\"x\"]",
            "options.api_key: \"(hidden)\" -> (not set)",
            "options.deep: [{\"password\":\"(hidden)\"}] -> (not set)",
            "options.max_tokens: 4096 -> 1",
            "options.gone: 1 -> (not set)",
        ]
    );
    assert_eq!(Config::diff(&old, &old), Vec::<String>::new());
}

fn environment(process: &[(&str, &str)], file: &str) -> Result<Environment, Error> {
    let directory = tempfile::tempdir().unwrap();
    fs_err::write(directory.path().join(".env"), file).unwrap();
    let process = process.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Environment::with_process(process, directory.path())
}

#[test]
fn the_env_file_fills_gaps_and_never_overrides() {
    let file =
        "\u{feff}# keys\nexport FROM_FILE=file-value\r\nBOTH=from-file\nEMPTY=\nQUOTED='a $b #c'\nTWICE=1\nTWICE=2\n";
    let environment = environment(&[("BOTH", "from-process"), ("SET_EMPTY", "")], file).unwrap();
    assert_eq!(environment.get("FROM_FILE"), Some("file-value"));
    assert_eq!(environment.get("BOTH"), Some("from-process"));
    assert_eq!(environment.get("QUOTED"), Some("a $b #c"));
    assert_eq!(environment.get("TWICE"), Some("2"));
    assert_eq!(environment.get("NONE"), None);
    assert!(environment.has("FROM_FILE") && !environment.has("EMPTY") && !environment.has("SET_EMPTY"));
    assert!(!format!("{environment:?}").contains("file-value"));
    let nothing = tempfile::tempdir().unwrap();
    assert!(Environment::with_process([], nothing.path()).is_ok());
    fs_err::create_dir(nothing.path().join(".env")).unwrap();
    assert!(Environment::with_process([], nothing.path()).is_ok(), "a virtual environment called .env");
}

#[test]
fn a_broken_env_line_is_named_without_its_value() {
    let cases = [
        ("A=1\n\nhunter2hunter2\n", 3),
        ("A=1\nKEY: hunter2hunter2\n", 2),
        ("KEY=hunter2 hunter2\n", 1),
        ("KEY=hunter2 hunter2", 1),
        ("KEY='hunter2hunter2\n", 1),
        ("KEY=\"hunter2\nhunter2\n", 1),
        ("A='$ok'\nB=${A}\nKEY=hunter2$hunter2\n", 3),
    ];
    for (text, line) in cases {
        let error = environment(&[], text).expect_err(text);
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(&format!(".env:{line}: ")), "{error} for {text:?}");
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
        assert!(!error.hints().is_empty());
    }
}

#[test]
fn a_child_sees_what_it_needs_and_no_secret() {
    let process = [
        ("PATH", "/bin"),
        ("HOME", "/home/x"),
        ("OPENAI_API_KEY", "sk-process"),
        ("github_token", "t"),
        ("DB_PASSWD", "p"),
        ("AWS_CREDENTIAL_FILE", "c"),
        ("SSH_AUTH_SOCK", "/tmp/agent"),
        ("GIT_DIR", "/elsewhere"),
        ("PYTHONPATH", "/evil"),
        ("PYTHONHOME", "/evil"),
        ("PYTHONSTARTUP", "/evil"),
        ("AUTOHARNESS_STATE_DIR", "/state"),
        ("EXPORTED", "same-value"),
        ("AUTHOR", "Jane"),
    ];
    let environment = environment(&process, "EXPORTED=same-value\nFILE_ONLY=file-value\nPASSED_KEY=pk\n").unwrap();
    let extra = [(OsString::from("EXTRA"), OsString::from("1")), (OsString::from("HOME"), OsString::from("/sandbox"))];
    let child = environment.for_child(&["OPENAI_API_KEY".into(), "PASSED_KEY".into(), "UNSET_KEY".into()], &extra);
    let child: Vec<(&str, &str)> =
        child.iter().map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap())).collect();
    assert_eq!(
        child,
        [
            ("AUTHOR", "Jane"),
            ("EXTRA", "1"),
            ("HOME", "/sandbox"),
            ("OPENAI_API_KEY", "sk-process"),
            ("PASSED_KEY", "pk"),
            ("PATH", "/bin"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("PYTHONNOUSERSITE", "1"),
            ("PYTHONUNBUFFERED", "1"),
        ]
    );
}

#[test]
fn secret_values_are_complete_and_longest_first() {
    let process = [("A_KEY", "secret"), ("B_TOKEN", "secret-longer"), ("SHORT_KEY", "abcde"), ("PLAIN", "plain-value")];
    let environment = environment(&process, "URL=postgres://somewhere\nA_KEY=in-the-file\nTINY=x\n").unwrap();
    assert_eq!(environment.secret_values(), ["postgres://somewhere", "secret-longer", "in-the-file", "secret"]);
    assert!(is_secret_name("Authorization") && is_secret_name("--api-key") && !is_secret_name("GIT_AUTHOR_NAME"));
}

#[test]
fn every_scaffold_is_a_working_configuration() {
    for &benchmark in ALL {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in templates::scaffold(benchmark) {
            let path = directory.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, content).unwrap();
        }
        let config = benchmarks::load(&directory.path().join("experiment_config.yaml")).unwrap();
        assert_eq!(config.benchmark.name(), benchmark.name());
        assert_eq!(config.warnings, Vec::<String>::new());
        let program = templates::program(directory.path(), &config).unwrap();
        assert!(!program.contains("{{"), "a placeholder is left in the program of {}", benchmark.name());
        assert!(program.contains(&format!("The benchmark `{}` scores it", benchmark.name())));
        assert!(directory.path().join("agent/agent.py").is_file());
        assert_eq!(directory.path().join("bench.py").is_file(), benchmark.name() == "command");
        let ignored = fs_err::read_to_string(directory.path().join(".gitignore")).unwrap();
        for pattern in ["/workspace/", "/experiment_config.yaml", ".env", "__pycache__/", "*.pyc", ".venv/"] {
            assert!(ignored.lines().any(|line| line == pattern), "{pattern}");
        }
    }
}

/// Switching on every line of the template must change nothing but what has no default.
#[test]
fn the_template_lists_every_key_with_its_true_default() {
    let template = include_str!("../experiment_config.yaml.template");
    let made = templates::config_template();
    let differs = template.lines().zip(made.lines()).position(|(is, must)| is != must);
    let remedy = "run `cargo run -- config template > experiment_config.yaml.template`";
    assert!(template == made, "{remedy}; the first line that differs is {:?}", differs.map(|index| index + 1));
    let keys: Vec<_> = keys(&sections()).collect();
    for (_, key) in &keys {
        let listed =
            template.lines().filter(|line| line.trim_start_matches('#').starts_with(&format!("{}:", key.name)));
        let rows = keys.iter().filter(|(_, other)| other.name == key.name).count();
        assert_eq!(listed.count(), rows, "`{}` must be listed once for every benchmark that has it", key.name);
    }
    let active: Vec<&str> = template.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(active, ["benchmark: demo"]);
    for benchmark in ALL {
        let text = templates::config_for(*benchmark);
        let defaults = load(text.as_bytes()).unwrap().snapshot();
        for line in text.lines() {
            let Some(bare) = line.strip_prefix('#').filter(|bare| bare.starts_with(|c: char| c.is_ascii_lowercase()))
            else {
                continue;
            };
            // One at a time: some exclude each other.
            let Ok(one) = load(text.replacen(&format!("\n{line}\n"), &format!("\n{bare}\n"), 1).as_bytes()) else {
                let key = bare.split(':').next().unwrap();
                assert!(defaults[key].is_null(), "{} refuses its own default: {bare}", benchmark.name());
                continue;
            };
            for changed in Config::diff(&defaults, &one.snapshot()) {
                let key = changed.split([':', '.']).next().unwrap();
                assert!(
                    defaults[key].is_null(),
                    "{} has another default than its template: {changed}",
                    benchmark.name()
                );
            }
        }
    }
}

#[test]
fn the_program_is_the_whole_contract() {
    let directory = tempfile::tempdir().unwrap();
    let config = load(b"benchmark: demo\neditable: [agent/agent.py, 'agent/two words.md']\nthreshold: 0.75\n").unwrap();
    let program = templates::program(directory.path(), &config).unwrap();
    for needed in ["autoharness benchmark", "autoharness gate", "autoharness record", "autoharness status"]
        .into_iter()
        .chain(["| 0 |", "| 1 |", "| 2 |", "| 3 |", "| 129, 130, 143 |", "do NOT revert", "--format json"])
        .chain(["workspace/train_results.json", "workspace/traces/latest/<task>/trace.json", "workspace/gate.json"])
        .chain(["workspace/traces/baseline/", "workspace/suite.json", "workspace/results.tsv", "--reveal-held-out"])
        .chain(["## Iteration <n>: <one line>", "Hypothesis", "Learned", "5 iterations in a row", "--fresh", "0.75"])
        .chain(["git checkout -- agent/agent.py 'agent/two words.md'", "git add agent/agent.py 'agent/two words.md'"])
    {
        assert!(program.contains(needed), "the program does not mention {needed}");
    }
    assert!(include_str!("../program_templates/base.md").lines().count() <= 150);
    fs_err::create_dir(directory.path().join("program_templates")).unwrap();
    fs_err::write(directory.path().join("program_templates/base.md"), "own {{benchmark}}\n").unwrap();
    fs_err::write(directory.path().join("program_templates/demo.md"), "supplement {{gate_split}}\n").unwrap();
    assert_eq!(templates::program(directory.path(), &config).unwrap(), "own demo\n\nsupplement test\n");
}

#[test]
fn an_agent_on_disk_wins_and_only_the_untouched_placeholder_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let embedded = templates::agent_template(directory.path(), benchmarks::find("command").unwrap()).unwrap();
    assert!(embedded.contains("def solve("));
    fs_err::create_dir_all(directory.path().join("agent/templates")).unwrap();
    fs_err::write(directory.path().join("agent/templates/tau_bench.py"), "mine\n").unwrap();
    assert_eq!(templates::agent_template(directory.path(), benchmarks::find("tau-bench").unwrap()).unwrap(), "mine\n");
    let placeholder = include_str!("../agent/agent.py");
    assert!(templates::is_placeholder(placeholder.as_bytes()) && templates::is_placeholder(b"\n"));
    assert!(templates::is_placeholder(placeholder.replace('\n', "\r\n").as_bytes()));
    assert!(!templates::is_placeholder(format!("{placeholder}x = 1\n").as_bytes()));
    assert!(!templates::is_placeholder(embedded.as_bytes()) && !templates::is_placeholder(b"\xff"));
}

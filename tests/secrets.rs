//! Nothing secret reaches the benchmark that it was not given, nor any output; and nothing harmless is taken for a secret.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::ffi::OsString;

use crate::support::{Bed, done};
use autoharness::internals::config::Environment;
use autoharness::internals::process::Redactor;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use serde_json::value::RawValue;

/// Says all it knows wherever a benchmark can say something.
const GOSSIP: &str = r#"
import json, os, sys
request = json.load(sys.stdin)
say = lambda **fields: print(json.dumps(fields), flush=True)
if request["action"] == "list":
    for task, split in [("a-1", "train"), ("b-1", "train"), ("a-2", "test")]:
        say(event="task", task=task, split=split)
    sys.exit()
known = dict(os.environ, number=100000)
text = json.dumps(known)
say(event="log", level="warning", message=text)
sys.stderr.write(text + "\n")
for task in request["tasks"]:
    error = dict(error=text) if task == "b-1" else {}
    say(event="trial", task=task, trial=0, reward=1.0, trace=known, detail={"text": text, text: 1}, **error)
"#;

fn gossip(config: &str) -> Bed {
    let bed = Bed::table(json!({}), config);
    bed.write("bench.py", GOSSIP);
    bed.git(&["commit", "-qam", "gossip"]);
    bed
}

/// Everything that prepare, a run and a gate leave or say; `env` is set for them.
fn everything_said(bed: &Bed, env: &[(&str, &str)]) -> String {
    let mut said = String::new();
    for words in [&["prepare"][..], &["benchmark", "--fresh"], &["gate"], &["status"], &["verify"]] {
        let done = done(bed.command(words).envs(env.iter().copied()).output().unwrap()).expect(0);
        said += &(done.stdout + &done.stderr);
    }
    for entry in walkdir::WalkDir::new(&bed.root).into_iter().flatten() {
        if entry.file_type().is_file() && entry.file_name() != ".env" {
            said += &String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap());
        }
    }
    said
}

#[test]
fn no_secret_is_told_whatever_it_is_called() {
    let bed = gossip("");
    bed.write(".env", "ANYTHING=of-the-file-1\nPASS_ON='  padded-secret-1  '\n");
    let env = [
        ("DB_PASS", "hunter2hunter2"),
        ("GITHUB_PAT", "ghp_0123456789"),
        ("MYSQL_PWD", "mysqlmysql"),
        ("SSH_PASSPHRASE", "letmein123"),
        ("DATABASE_URL", "postgres://u:pgpgpgpg@h/db"),
        ("HTTPS_PROXY", "http://u:proxyproxy@h:3128"),
        ("CONNECTION", "Server=h;Password=connected1"),
        ("JAVA_OPTS", "-Dkey.password=optional1"),
        ("SOMETHING", "glpat-0123456789abcdefgh"),
    ];
    let said = everything_said(&bed, &env);
    let secrets = [
        "of-the-file-1",
        "padded-secret-1",
        "hunter2hunter2",
        "ghp_0123456789",
        "mysqlmysql",
        "letmein123",
        "pgpgpgpg",
        "proxyproxy",
        "connected1",
        "optional1",
        "glpat-0123456789abcdefgh",
    ];
    let told: Vec<&str> = secrets.into_iter().filter(|secret| said.contains(secret)).collect();
    assert_eq!(told, Vec::<&str>::new());
    // Through the proxy the benchmark gets, all the same.
    assert!(bed.read("workspace/traces/latest/a-1/trace.json").contains("\"HTTPS_PROXY\":\"http://***@h:3128\""));
}

#[test]
fn numbers_and_switches_stay_what_they_are() {
    let bed = gossip("");
    bed.write(".env", "LIMIT=100000\n");
    let env = [
        ("MAX_TOKENS", "100000"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("COMPASS", "north-west"),
        ("NO_PROXY", "localhost,h"),
    ];
    everything_said(&bed, &env);
    let seen = bed.read_json("workspace/traces/latest/a-1/trace.json");
    assert_eq!(seen["number"], json!(100_000));
    for (name, value) in env {
        assert_eq!(seen[name], json!(value), "{name}");
    }
}

#[test]
fn a_backslash_in_the_env_file_arrives_as_it_was_written() {
    for value in [r"pa\nss", r"ends\", r"C:\new\tools"] {
        let bed = Bed::table(json!({}), "pass_env: [MY_VALUE]");
        let spelled =
            GOSSIP.replace("known = dict(", "known = dict(spelled=[ord(c) for c in os.environ['MY_VALUE']], **");
        bed.write("bench.py", &spelled.replace("**os.environ", "**dict(os.environ)"));
        bed.git(&["commit", "-qam", "gossip"]);
        bed.write(".env", &format!("MY_VALUE={value}\n"));
        bed.run(&["prepare"]).expect(0);
        let spelled: Vec<u32> = value.chars().map(u32::from).collect();
        assert_eq!(bed.read_json("workspace/traces/latest/a-1/trace.json")["spelled"], json!(spelled), "{value}");
    }
}

fn secret_name() -> impl Strategy<Value = String> {
    let word = || prop::sample::select(vec!["DB", "GITHUB", "MYSQL", "my", "App2", "X"]);
    let promise = prop::sample::select(vec![
        "PASS",
        "PAT",
        "PWD",
        "PASSPHRASE",
        "API_KEY",
        "TOKEN",
        "SECRET",
        "AUTH",
        "CREDENTIALS",
        "password",
        "accessKey",
        "TOKENS",
    ]);
    (word(), promise).prop_map(|(word, promise)| format!("{word}_{promise}"))
}

/// No `*`, which is what a secret is replaced by, and no white space at an end.
fn secret() -> impl Strategy<Value = String> {
    "[a-zA-Z][a-zA-Z0-9/+=_\\-\"\\\\ äé$%&]{5,24}[a-zA-Z0-9]"
}

proptest! {
    #[test]
    fn no_secret_value_is_in_anything_redacted(
        named in vec((secret_name(), secret()), 0..6),
        filed in vec("[a-z][a-zA-Z0-9/+=_-]{5,24}", 0..4),
        addressed in vec(("[A-Z]{1,8}_(URL|PROXY|DSN)", "[a-zA-Z0-9_.~%-]{6,20}"), 0..4),
        order in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let lines: Vec<String> = filed.iter().enumerate().map(|(index, value)| format!("FILED{index}='{value}'\n")).collect();
        std::fs::write(directory.path().join(".env"), lines.concat()).unwrap();
        let mut process: std::collections::BTreeMap<String, String> = named.into_iter().collect();
        process.extend(addressed.into_iter().map(|(name, password)| (name, format!("postgres://u:{password}@h/db"))));
        let mut secrets = filed;
        for value in process.values() {
            let password = value.strip_prefix("postgres://u:").and_then(|rest| rest.strip_suffix("@h/db"));
            secrets.push(password.unwrap_or(value).to_string());
        }
        let variables = process.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let environment = Environment::with_process(variables, directory.path()).unwrap();
        let redactor = Redactor::new(environment.secret_values());

        let first = order.index(secrets.len() + 1);
        secrets.rotate_left(first);
        let text = format!("begin {} end {}", secrets.join(" and "), secrets.concat());
        let clean = |what: &str, text: &str| -> Result<(), TestCaseError> {
            for secret in &secrets {
                prop_assert!(!text.contains(secret.as_str()), "{what}: {secret:?} in {text:?}");
            }
            Ok(())
        };
        clean("text", &redactor.redact(&text))?;
        let mut stream = redactor.stream();
        let at = cut.index(text.len() + 1);
        let mut bytes = stream.push(&text.as_bytes()[..at]);
        bytes.extend(stream.push(&text.as_bytes()[at..]));
        bytes.extend(stream.finish());
        clean("stream", &String::from_utf8_lossy(&bytes))?;
        let json = RawValue::from_string(json!({"a": [text], text.as_str(): process}).to_string()).unwrap();
        let value: serde_json::Value = serde_json::from_str(redactor.redact_json(json).get()).unwrap();
        for leaf in leaves(&value) {
            clean("json", &leaf)?;
        }
        // Nor does a child get one that it was not given.
        for (name, value) in environment.for_child(&[], &[]) {
            let name = name.to_str().unwrap();
            prop_assert!(name.ends_with("_PROXY") || !secrets.iter().any(|secret| value.to_str().unwrap().contains(secret.as_str())), "{name}");
        }
    }
}

/// All texts in a JSON value, names too.
fn leaves(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::String(text) => vec![text.clone()],
        serde_json::Value::Array(items) => items.iter().flat_map(leaves).collect(),
        serde_json::Value::Object(fields) => {
            fields.iter().flat_map(|(name, field)| leaves(field).into_iter().chain([name.clone()])).collect()
        }
        _ => Vec::new(),
    }
}

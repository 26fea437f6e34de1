//! What `result.json` says of a trial: how it ended, and which of the grader's checks failed.

use serde_json::{Map, Value};

use super::text::one_line;
use crate::model::outcomes::exception_class;
use crate::model::usage::Usage;

/// How many failed checks are named; a grader with more repeats itself.
const MOST_CHECKS: usize = 20;
/// Longest name of a check, in characters.
const LONGEST: usize = 120;
/// Fields that say whether a check held.
const HELD: [&str; 10] =
    ["passed", "met", "match", "action_match", "db_match", "correct", "ok", "success", "satisfied", "resolved"];
/// Fields that name a check.
const NAMES: [&str; 8] = ["name", "id", "check", "assertion", "nl_assertion", "env_assertion", "info", "description"];
/// Fields that hold a score for each of several checks.
const SCORES: [&str; 5] = ["reward_breakdown", "rewards", "scores", "checks", "tests"];

/// A result file, read. Every text in it is harmless.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Breakdown {
    /// Fingerprint of the agent whose trial it was.
    pub agent: String,
    /// How it ended, as the file says.
    pub outcome: String,
    pub reward: Option<f64>,
    pub usage: Usage,
    /// Why it did not pass.
    pub error: Option<String>,
    /// The class of the exception behind that.
    pub exception: Option<String>,
    /// Checks that failed, the first ones.
    pub failed: Vec<String>,
    /// The grader's other words, as they are.
    pub detail: Value,
}

impl Breakdown {
    /// Reads a result file; missing fields stay empty.
    pub(crate) fn read(bytes: &[u8]) -> Breakdown {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice::<Value>(bytes) else { return Breakdown::default() };
        let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let number = |name: &str| fields.get(name).and_then(Value::as_f64);
        let count = |name: &str| fields.get(name).and_then(Value::as_u64);
        let error = text("error").map(|error| one_line(error, 2000));
        let mut read = Breakdown {
            agent: text("agent").map(|agent| one_line(agent, 64)).unwrap_or_default(),
            outcome: text("outcome").map(|outcome| one_line(outcome, 40)).unwrap_or_default(),
            reward: number("reward"),
            usage: Usage {
                seconds: number("seconds"),
                tokens_in: count("tokens_in"),
                tokens_out: count("tokens_out"),
                cost_usd: number("cost_usd"),
            },
            error,
            ..Breakdown::default()
        };
        let detail = fields.remove("detail").unwrap_or(Value::Null);
        let named = detail.get("exception_type").and_then(Value::as_str).map(|class| one_line(class, LONGEST));
        read.exception =
            named.or_else(|| exception_class(read.error.as_deref()?).map(|class| one_line(class, LONGEST)));
        read.failed = failed(&detail, read.passed());
        read.detail = detail;
        read
    }

    pub(crate) fn passed(&self) -> bool {
        self.outcome == "passed"
    }

    /// What the grader said besides the checks, one line for each short value.
    pub(crate) fn facts(&self) -> Vec<(String, String)> {
        let Some(fields) = self.detail.as_object() else { return Vec::new() };
        let said = fields.iter().filter(|(_, value)| !value.is_null() && **value != Value::String(String::new()));
        said.map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            (one_line(name, 40), one_line(&text, 300))
        })
        .collect()
    }
}

/// The checks that failed, in the order the grader has them.
fn failed(detail: &Value, passed: bool) -> Vec<String> {
    let mut found = FailedChecks::default();
    if let Some(output) = detail.get("test_output").and_then(Value::as_str) {
        tests(output, &mut found);
    }
    walk(detail, "", 0, &mut found);
    if found.0.is_empty()
        && !passed
        && let Some(family) = ["family", "category"].iter().find_map(|name| detail.get(name)?.as_str())
    {
        found.add(&format!("family {family}"));
    }
    // If a conversation did not end by itself, how it ended says more than what it did not reach.
    if let Some(reason) = detail.get("termination_reason").and_then(Value::as_str)
        && !matches!(reason, "user_stop" | "agent_stop")
    {
        found.0.insert(0, one_line(&format!("ended by {reason}"), LONGEST));
    }
    found.0
}

#[derive(Default)]
struct FailedChecks(Vec<String>);

impl FailedChecks {
    fn add(&mut self, name: &str) {
        let name = one_line(name, LONGEST);
        if !name.is_empty() && self.0.len() < MOST_CHECKS && !self.0.contains(&name) {
            self.0.push(name);
        }
    }
}

/// The failed tests in pytest's summary.
fn tests(output: &str, found: &mut FailedChecks) {
    for line in output.lines().filter_map(|line| line.trim_start().strip_prefix("FAILED ")) {
        let name = line.split(" - ").next().unwrap_or(line).trim();
        found.add(name.rsplit("::").next().unwrap_or(name));
    }
}

fn walk(value: &Value, place: &str, depth: usize, found: &mut FailedChecks) {
    match value {
        Value::Object(fields) if depth < 8 => {
            if let Some(flag) = HELD.iter().find(|flag| fields.get(**flag) == Some(&Value::Bool(false))) {
                found.add(&name_of(fields, place, flag));
                return;
            }
            for (name, value) in fields {
                match value.as_object().filter(|_| SCORES.contains(&name.as_str())) {
                    Some(scores) => scored(scores, found),
                    None => walk(value, name, depth + 1, found),
                }
            }
        }
        Value::Array(items) if depth < 8 => items.iter().for_each(|item| walk(item, place, depth + 1, found)),
        _ => {}
    }
}

/// Of several scores, those that are zero. A reward without a name is the trial's own.
fn scored(scores: &Map<String, Value>, found: &mut FailedChecks) {
    for (name, value) in scores.iter().filter(|(name, _)| *name != "reward") {
        match value {
            Value::Object(_) => walk(value, name, 1, found),
            value if value.as_f64() == Some(0.0) || *value == Value::Bool(false) => found.add(name),
            _ => {}
        }
    }
}

/// What a check is called: by itself, or by where it stands.
fn name_of(fields: &Map<String, Value>, place: &str, flag: &str) -> String {
    let own = NAMES.iter().find_map(|name| match fields.get(*name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        // Such as an assertion of an environment, with a function and its arguments.
        Value::Object(inner) => {
            NAMES.iter().chain(&["func_name"]).find_map(|name| Some(inner.get(*name)?.as_str()?.to_string()))
        }
        _ => None,
    });
    match own {
        Some(name) if place.is_empty() => name,
        Some(name) => format!("{} {name}", place.trim_end_matches("_checks").trim_end_matches("_assertions")),
        None if place.is_empty() => flag.to_string(),
        None => place.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(detail: Value) -> Breakdown {
        Breakdown::read(json!({"outcome": "failed", "reward": 0.0, "detail": detail}).to_string().as_bytes())
    }

    #[test]
    fn the_graders_of_our_benchmarks_say_what_failed() {
        let tau = of(
            json!({"termination_reason": "max_steps", "reward_breakdown": {"DB": 0.0, "COMMUNICATE": 1.0}, "db_check": {"db_match": false},
            "action_checks": [{"name": "cancel", "match": false}, {"name": "look", "match": true}],
            "nl_assertions": [{"nl_assertion": "is polite", "met": false}]}),
        );
        assert_eq!(tau.failed, ["ended by max_steps", "DB", "db_check", "action cancel", "nl is polite"]);
        let bird = of(json!({"mode": "a", "phase1": {"passed": true, "reward": 0.7}, "phase2": {"passed": false}}));
        assert_eq!(bird.failed, ["phase2"]);
        let harbor = of(json!({"rewards": {"reward": 0.0, "style": 0}, "exception_type": "AgentTimeoutError",
            "test_output": "..F\nFAILED ../tests/test_outputs.py::test_file - AssertionError: no\n1 failed"}));
        assert_eq!(
            (harbor.failed, harbor.exception.as_deref()),
            (vec!["test_file".to_string(), "style".into()], Some("AgentTimeoutError"))
        );
        assert_eq!(of(json!({"family": "dates", "expected": "x"})).failed, ["family dates"]);
        assert_eq!(of(json!({"x": {"checks": {"a": true, "b": false}}})).failed, ["b"]);
    }

    #[test]
    fn whatever_the_file_holds_is_survived() {
        for bytes in [&b""[..], b"[]", b"{", b"{\"detail\": [[[1]]], \"reward\": \"x\", \"error\": 3}"] {
            let _ = Breakdown::read(bytes);
        }
        let many: Vec<Value> = (0..99).map(|at| json!({"name": format!("c{at}\u{202e}"), "passed": false})).collect();
        let read = of(json!(many));
        assert_eq!((read.failed.len(), read.failed[0].as_str()), (MOST_CHECKS, "c0\\u{202e}"));
        let read = Breakdown::read(
            br#"{"outcome":"agent_error","error":"agent.py: KeyError: 'a'","tokens_in":3,"agent":"f"}"#,
        );
        assert_eq!((read.exception.as_deref(), read.usage.tokens(), read.passed()), (Some("KeyError"), Some(3), false));
    }
}

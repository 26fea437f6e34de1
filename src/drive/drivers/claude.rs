//! Claude Code.

use serde_json::Value;

use super::invocation::{Assignment, Invocation, sum};
use super::seen::Seen;

/// Turns after which it stops by itself. Our limit is the clock; this one is for what the clock misses.
const TURNS: &str = "200";

pub(super) fn invocation(ask: &Assignment<'_>) -> Invocation {
    let mut invocation = Invocation::new(&["claude", "-p", ask.prompt, "--output-format", "stream-json", "--verbose"]);
    // Its own permission to edit; the fence decides what it can reach.
    invocation.add(&["--permission-mode", "acceptEdits", "--allowedTools", "Read,Edit,Write,Glob,Grep,Bash"]);
    invocation.add(&["--max-turns", TURNS]);
    if let Some(budget) = ask.budget_usd {
        invocation.add(&["--max-budget-usd", &format!("{budget:.2}")]);
    }
    if let Some(model) = ask.model {
        invocation.add(&["--model", model]);
    }
    if let Some(session) = ask.resume {
        invocation.add(&["--resume", session]);
    }
    // Its ten retries of a permanent 429 take minutes; the loop knows better how to wait.
    invocation.env =
        vec![("CLAUDE_CODE_MAX_RETRIES", "2".into()), ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into())];
    invocation
}

pub(super) fn read(event: &Value, seen: &mut Seen) {
    if let Some(session) = event["session_id"].as_str() {
        seen.session = Some(session.to_string());
    }
    match event["type"].as_str() {
        Some("assistant") => {
            let message = &event["message"];
            let id = message["id"].as_str().map(str::to_string);
            // One answer comes in several events with the same sums.
            if id.is_none() || id != seen.counted {
                seen.turns += 1;
                count(&message["usage"], seen);
                seen.counted = id;
            }
        }
        Some("result") => result(event, seen),
        _ => {}
    }
}

fn result(event: &Value, seen: &mut Seen) {
    if let Some(turns) = event["num_turns"].as_u64() {
        seen.turns = turns;
    }
    if event["usage"].is_object() {
        (seen.tokens, seen.tokens_out) = (0, 0);
        count(&event["usage"], seen);
    }
    seen.cost_usd = event["total_cost_usd"].as_f64().filter(|cost| cost.is_finite()).or(seen.cost_usd);
    // HTTP 500 ends with subtype "success" and `is_error`; a denied tool with neither.
    let subtype = event["subtype"].as_str().unwrap_or_default();
    if event["is_error"].as_bool() == Some(true) || subtype.starts_with("error") {
        let text = event["result"].as_str().filter(|text| !text.is_empty());
        seen.error = Some(text.unwrap_or(subtype).to_string());
    }
    let denied = event["permission_denials"].as_array().map_or(&[][..], Vec::as_slice);
    seen.denied = denied.iter().map(|one| one["tool_name"].as_str().unwrap_or("a tool").to_string()).collect();
}

fn count(usage: &Value, seen: &mut Seen) {
    let read = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
    let written = sum(usage, &["output_tokens"]);
    seen.tokens_out = seen.tokens_out.saturating_add(written);
    seen.tokens = seen.tokens.saturating_add(sum(usage, &read)).saturating_add(written);
}

#[cfg(test)]
mod tests {
    use super::super::Driver;
    use super::*;

    const START: &str = r#"{"type":"system","subtype":"init","session_id":"s-1","model":"claude"}
{"type":"assistant","message":{"id":"m1","usage":{"input_tokens":10,"cache_read_input_tokens":5,"output_tokens":2}},"session_id":"s-1"}
{"type":"assistant","message":{"id":"m1","usage":{"input_tokens":10,"cache_read_input_tokens":5,"output_tokens":2}},"session_id":"s-1"}
{"type":"user","message":{"content":[]},"session_id":"s-1"}
{"type":"assistant","message":{"id":"m2","usage":{"input_tokens":20,"output_tokens":3}},"session_id":"s-1"}"#;

    fn seen(lines: &[&str]) -> Seen {
        let mut seen = Seen::default();
        lines.iter().flat_map(|part| part.lines()).for_each(|line| Driver::Claude.read(line.as_bytes(), &mut seen));
        seen
    }

    #[test]
    fn a_killed_session_is_counted_as_far_as_it_came() {
        let seen = seen(&[START]);
        assert_eq!((seen.session.as_deref(), seen.turns, seen.tokens, seen.tokens_out), (Some("s-1"), 2, 40, 5));
        assert_eq!((seen.cost_usd, seen.error), (None, None));
    }

    #[test]
    fn the_result_has_the_last_word() {
        let end = r#"{"type":"result","subtype":"success","is_error":false,"num_turns":7,"total_cost_usd":0.25,"usage":{"input_tokens":90,"output_tokens":10},"permission_denials":[],"session_id":"s-1"}"#;
        let seen = seen(&[START, end]);
        assert_eq!((seen.turns, seen.tokens, seen.cost_usd), (7, 100, Some(0.25)));
        assert!(seen.error.is_none() && seen.denied.is_empty());
    }

    #[test]
    fn errors_hide_behind_success() {
        let lines = [
            (
                r#"{"type":"result","subtype":"success","is_error":true,"result":"API Error: 500"}"#,
                Some("API Error: 500"),
            ),
            (r#"{"type":"result","subtype":"error_max_turns","is_error":false}"#, Some("error_max_turns")),
            (r#"{"type":"result","subtype":"success","is_error":false,"result":"done"}"#, None),
        ];
        for (line, error) in lines {
            assert_eq!(seen(&[line]).error.as_deref(), error, "{line}");
        }
        let denied =
            r#"{"type":"result","subtype":"success","is_error":false,"permission_denials":[{"tool_name":"Bash"}]}"#;
        assert_eq!(seen(&[denied]).denied, ["Bash"]);
    }

    #[test]
    fn the_command_line_is_the_tried_one() {
        let ask =
            Assignment { prompt: "go", model: Some("opus"), resume: Some("s-1"), budget_usd: Some(1.5), fenced: false };
        let words = invocation(&ask).words;
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(
            words.join(" "),
            "claude -p go --output-format stream-json --verbose --permission-mode acceptEdits --allowedTools \
             Read,Edit,Write,Glob,Grep,Bash --max-turns 200 --max-budget-usd 1.50 --model opus --resume s-1"
        );
    }
}

//! Gemini CLI.

use serde_json::Value;

use super::invocation::{Assignment, Invocation, message, sum};
use super::seen::Seen;

pub(super) fn invocation(ask: &Assignment<'_>) -> Invocation {
    let mut invocation = Invocation::new(&["gemini", "-p", ask.prompt]);
    if let Some(model) = ask.model {
        invocation.add(&["-m", model]);
    }
    invocation.add(&["--approval-mode", "yolo", "--output-format", "stream-json", "--skip-trust"]);
    invocation
}

pub(super) fn read(event: &Value, seen: &mut Seen) {
    match event["type"].as_str() {
        Some("init") => seen.session = event["session_id"].as_str().map(str::to_string),
        Some("tool_use") => seen.turns += 1,
        Some("result") => {
            let stats = &event["stats"];
            seen.tokens_out = sum(stats, &["output_tokens"]);
            let both = sum(stats, &["input_tokens", "output_tokens"]);
            seen.tokens = stats["total_tokens"].as_u64().unwrap_or(both);
            if event["status"].as_str().is_some_and(|status| status != "success") {
                seen.error = Some(message(&event["error"]));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Driver;
    use super::*;

    fn seen(lines: &[&str]) -> Seen {
        let mut seen = Seen::default();
        lines.iter().for_each(|line| Driver::Gemini.read(line.as_bytes(), &mut seen));
        seen
    }

    const INIT: &str = r#"{"type":"init","session_id":"g-1","model":"gemini-2.5-flash"}"#;

    #[test]
    fn a_session_is_counted() {
        let tool = r#"{"type":"tool_use","tool_name":"replace","parameters":{}}"#;
        let end = r#"{"type":"result","status":"success","stats":{"total_tokens":150,"input_tokens":120,"output_tokens":20}}"#;
        let seen = seen(&[INIT, tool, r#"{"type":"tool_result","status":"error"}"#, tool, end]);
        assert_eq!((seen.session.as_deref(), seen.turns, seen.tokens, seen.tokens_out), (Some("g-1"), 2, 150, 20));
        assert_eq!((seen.cost_usd, seen.error), (None, None), "a tool that failed once is no failed session");
    }

    #[test]
    fn an_error_at_the_end_fails_it() {
        let end = r#"{"type":"result","status":"error","error":{"type":"FatalError","message":"quota"},"stats":{}}"#;
        assert_eq!(seen(&[INIT, end]).error.as_deref(), Some("quota"));
    }

    #[test]
    fn the_command_line_is_the_tried_one() {
        let ask = Assignment { prompt: "go", model: Some("m"), resume: Some("g-1"), budget_usd: None, fenced: false };
        let words = ["gemini", "-p", "go", "-m", "m", "--approval-mode", "yolo", "--output-format", "stream-json"];
        assert_eq!(invocation(&ask).words, [&words[..], &["--skip-trust"]].concat());
    }
}

//! OpenCode.

use serde_json::Value;

use super::invocation::{Assignment, Invocation, message, sum};
use super::seen::Seen;

pub(super) fn invocation(ask: &Assignment<'_>) -> Invocation {
    let mut invocation = Invocation::new(&["opencode", "run", ask.prompt, "--format", "json"]);
    if let Some(model) = ask.model {
        invocation.add(&["--model", model]);
    }
    if let Some(session) = ask.resume {
        invocation.add(&["--session", session]);
    }
    invocation.env =
        ["OPENCODE_DISABLE_AUTOUPDATE", "OPENCODE_DISABLE_LSP_DOWNLOAD"].map(|name| (name, "1".into())).into();
    invocation
}

pub(super) fn read(event: &Value, seen: &mut Seen) {
    if let Some(session) = event["sessionID"].as_str() {
        seen.session = Some(session.to_string());
    }
    match event["type"].as_str() {
        Some("step_finish") => {
            let part = &event["part"];
            seen.turns += 1;
            let written = sum(&part["tokens"], &["output", "reasoning"]);
            let read =
                sum(&part["tokens"], &["input"]).saturating_add(sum(&part["tokens"]["cache"], &["read", "write"]));
            seen.tokens_out = seen.tokens_out.saturating_add(written);
            seen.tokens = seen.tokens.saturating_add(read).saturating_add(written);
            seen.pay(part["cost"].as_f64());
        }
        Some("error") => seen.error = Some(message(&event["error"])),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Driver;
    use super::*;

    #[test]
    fn steps_are_added_up_and_errors_heard() {
        let mut seen = Seen::default();
        let step = r#"{"type":"step_finish","sessionID":"o-1","part":{"cost":0.01,"tokens":{"input":10,"output":2,"reasoning":1,"cache":{"read":5,"write":0}}}}"#;
        for line in [r#"{"type":"step_start","sessionID":"o-1","part":{}}"#, step, step] {
            Driver::OpenCode.read(line.as_bytes(), &mut seen);
        }
        assert_eq!((seen.session.as_deref(), seen.turns, seen.tokens, seen.tokens_out), (Some("o-1"), 2, 36, 6));
        assert_eq!((seen.cost_usd, &seen.error), (Some(0.02), &None));
        let error =
            r#"{"type":"error","sessionID":"o-1","error":{"name":"APIError","data":{"message":"Too Many Requests"}}}"#;
        Driver::OpenCode.read(error.as_bytes(), &mut seen);
        assert_eq!(seen.error.as_deref(), Some("Too Many Requests"));
    }

    #[test]
    fn the_command_line_is_the_tried_one() {
        let ask = Assignment { prompt: "go", model: Some("p/m"), resume: None, budget_usd: None, fenced: false };
        assert_eq!(invocation(&ask).words, ["opencode", "run", "go", "--format", "json", "--model", "p/m"]);
    }
}

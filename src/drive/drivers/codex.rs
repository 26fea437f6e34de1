//! Codex. It has no limit of turns and no budget, and reports no dollars.

use serde_json::Value;

use super::invocation::{Assignment, Invocation, message, sum};
use super::seen::Seen;

pub(super) fn invocation(ask: &Assignment<'_>) -> Invocation {
    let mut invocation = Invocation::new(&["codex", "exec", "--json"]);
    // Before `resume`, which takes none of its own.
    invocation.add(&["-s", if ask.fenced { "danger-full-access" } else { "workspace-write" }]);
    if let Some(model) = ask.model {
        invocation.add(&["-m", model]);
    }
    if let Some(session) = ask.resume {
        invocation.add(&["resume", session]);
    }
    invocation.add(&[ask.prompt]);
    invocation
}

pub(super) fn read(event: &Value, seen: &mut Seen) {
    match event["type"].as_str() {
        Some("thread.started") => seen.session = event["thread_id"].as_str().map(str::to_string),
        // Its "turn" is the whole session; its "item" is what others call a turn. A warning is an item of type "error".
        Some("item.completed") if event["item"]["type"] != "error" => seen.turns += 1,
        Some("turn.completed") => {
            // For the whole session, including its use before it was resumed. Cached tokens are among those read.
            seen.tokens_out = sum(&event["usage"], &["output_tokens"]);
            seen.tokens = sum(&event["usage"], &["input_tokens"]).saturating_add(seen.tokens_out);
            seen.adds_up = true;
            seen.error = None;
        }
        Some("turn.failed") => seen.error = Some(message(&event["error"])),
        // It may recover; when it does, the turn completes.
        Some("error") => seen.error = Some(message(event)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Driver;
    use super::*;

    fn seen(lines: &[&str]) -> Seen {
        let mut seen = Seen::default();
        lines.iter().for_each(|line| Driver::Codex.read(line.as_bytes(), &mut seen));
        seen
    }

    const START: &str = r#"{"type":"thread.started","thread_id":"t-1"}"#;
    const ITEM: &str =
        r#"{"type":"item.completed","item":{"id":"item_0","type":"command_execution","status":"completed"}}"#;
    const END: &str =
        r#"{"type":"turn.completed","usage":{"input_tokens":100,"cached_input_tokens":80,"output_tokens":20}}"#;

    #[test]
    fn a_session_is_counted() {
        let seen = seen(&[START, r#"{"type":"turn.started"}"#, ITEM, ITEM, END]);
        assert_eq!((seen.session.as_deref(), seen.turns, seen.tokens, seen.tokens_out), (Some("t-1"), 2, 120, 20));
        assert_eq!((seen.cost_usd, seen.error), (None, None), "it names no dollars, which is not $0.00");
    }

    #[test]
    fn what_a_resumed_session_used_before_is_counted_once() {
        let mut counted = None;
        let mut first = seen(&[START, ITEM, END]);
        first.count_once(&mut counted);
        let mut failed = seen(&[START, r#"{"type":"turn.failed","error":{"message":"429"}}"#]);
        failed.count_once(&mut counted);
        let again = END.replace(":100,", ":250,").replace(":20}", ":50}");
        let mut second = seen(&[START, ITEM, &again]);
        second.count_once(&mut counted);
        let mut other = seen(&[r#"{"type":"thread.started","thread_id":"t-2"}"#, END]);
        other.count_once(&mut counted);
        let counts = [first, failed, second, other].map(|seen| (seen.tokens, seen.tokens_out));
        assert_eq!(counts, [(120, 20), (0, 0), (180, 30), (120, 20)]);
    }

    #[test]
    fn a_warning_is_no_turn() {
        let warning =
            r#"{"type":"item.completed","item":{"id":"item_0","type":"error","message":"metadata not found"}}"#;
        assert_eq!(seen(&[START, warning, ITEM, END]).turns, 1);
    }

    #[test]
    fn only_a_failed_turn_fails_it() {
        let error = r#"{"type":"error","message":"Reconnecting... 1/5"}"#;
        assert_eq!(seen(&[START, error, ITEM, END]).error, None);
        let failed =
            r#"{"type":"turn.failed","error":{"message":"exceeded retry limit, last status: 429 Too Many Requests"}}"#;
        let told = seen(&[START, error, failed]).error;
        assert_eq!(told.as_deref(), Some("exceeded retry limit, last status: 429 Too Many Requests"));
    }

    #[test]
    fn the_command_line_is_the_tried_one() {
        let ask = Assignment { prompt: "go", model: Some("gpt"), resume: None, budget_usd: Some(1.0), fenced: false };
        assert_eq!(invocation(&ask).words, ["codex", "exec", "--json", "-s", "workspace-write", "-m", "gpt", "go"]);
        let fenced = invocation(&Assignment { fenced: true, ..ask });
        assert_eq!(fenced.words, ["codex", "exec", "--json", "-s", "danger-full-access", "-m", "gpt", "go"]);
        let again = invocation(&Assignment { resume: Some("t-1"), model: None, ..ask });
        assert_eq!(again.words, ["codex", "exec", "--json", "-s", "workspace-write", "resume", "t-1", "go"]);
    }
}

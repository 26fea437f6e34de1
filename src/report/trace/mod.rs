//! A trace as a conversation, whatever wrote it: the templates of this program's benchmarks, ATIF trajectories (Harbor),
//! messages in the format of OpenAI's and Anthropic's APIs, events of google-adk. Any other JSON is shown as a tree.

pub(crate) mod conversation;
mod events;
mod messages;
mod pieces;
mod tree;

use serde_json::Value;

pub(crate) use conversation::{Trace, Turn};

impl Trace {
    /// Reads a trace file's bytes. It can show something for any bytes.
    pub(crate) fn read(bytes: &[u8]) -> Trace {
        if let Some(trace) = pieces::read(bytes) {
            return trace;
        }
        match serde_json::from_slice::<Value>(bytes) {
            Ok(value) => Trace::of(&value),
            Err(error) => Trace {
                form: "text",
                facts: vec![("not JSON".into(), error.to_string())],
                turns: vec![Turn::said("text", &String::from_utf8_lossy(bytes))],
            },
        }
    }

    /// Makes a conversation of JSON.
    pub(crate) fn of(value: &Value) -> Trace {
        match value {
            Value::Object(fields) => events::atif(fields)
                .or_else(|| events::adk(fields))
                .or_else(|| messages::in_fields(fields))
                .unwrap_or_else(|| whole(value)),
            Value::Array(items) => messages::in_list(items).unwrap_or_else(|| whole(value)),
            _ => whole(value),
        }
    }
}

/// JSON of an unknown shape as one turn.
fn whole(value: &Value) -> Trace {
    Trace { form: "tree", facts: Vec::new(), turns: vec![Turn::said("json", &tree::lines(value))] }
}

#[cfg(test)]
mod tests {
    use super::conversation::{Call, tells_of_failure};
    use super::*;
    use serde_json::json;

    fn roles(trace: &Trace) -> Vec<&str> {
        trace.turns.iter().map(|turn| turn.role.as_str()).collect()
    }

    #[test]
    fn the_traces_of_our_templates_are_conversations() {
        let demo =
            Trace::of(&json!({"messages": [{"role": "user", "content": "do"}, {"role": "assistant", "content": "x"}],
            "family": "dates", "expected": "y", "agent_output": ""}));
        assert_eq!((demo.form, roles(&demo)), ("messages", vec!["user", "assistant"]));
        assert_eq!(demo.facts, [("family".to_string(), "dates".to_string()), ("expected".into(), "y".into())]);

        let command = Trace::of(
            &json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"printed": "p"}]),
        );
        assert_eq!((command.form, roles(&command)), ("messages", vec!["user", "assistant", "printed"]));

        let tau = Trace::of(&json!({"messages": [
            {"role": "assistant", "content": null, "tool_calls": [{"name": "book", "arguments": {"id": 1}, "id": "c1"}]},
            {"role": "tool", "content": "no such flight", "id": "c1", "error": true},
            {"role": "user", "content": "bye"}]}));
        assert_eq!(tau.turns[0].calls, [Call { name: "book".into(), arguments: "{\"id\":1}".into() }]);
        assert_eq!((tau.turns[1].tool.as_deref(), tau.turns[1].failed), (Some("book"), true));
        assert_eq!(tau.last_failure().map(|(at, turn)| (at, turn.text.as_str())), Some((1, "no such flight")));

        let terminal = Trace::of(
            &json!({"stopped": "step limit", "seconds": 9.5, "steps": 1, "usage": {"input": 5}, "messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": "u"},
            {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {"name": "bash", "arguments": "{\"command\":\"ls\"}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "exit code: 2\nstderr:\nno"}], "left_out": [],
            "timeline": [{"at": 0, "step": 0, "what": "command", "seconds": 1.0}, {"at": 0, "step": 0, "what": "model call", "seconds": 2.5},
                {"at": 1, "step": 1, "what": "command", "seconds": 0.5, "exit_code": 2}]}),
        );
        assert_eq!((terminal.turns[2].seconds, terminal.turns[3].seconds), (Some(2.5), Some(0.5)));
        assert!(terminal.turns[3].failed && terminal.turns[3].tool.as_deref() == Some("bash"));
        assert_eq!(terminal.facts[0], ("stopped".to_string(), "step limit".to_string()));

        let bird = Trace::of(
            &json!({"task": "t", "mode": "a-interact", "dialogue_history": [{"role": "agent", "content": "which?"}],
            "tool_trajectory": [{"type": "tool", "tool": "execute_sql", "args": {"sql": "x"}, "result": "Error: no", "cost": 1}],
            "adk_events": [], "final_response": "done", "traceback": "Traceback (most recent call last):\nKeyError"}),
        );
        assert_eq!(
            (bird.form, roles(&bird)),
            ("adk", vec!["assistant", "tool", "agent", "final_response", "traceback"])
        );
        assert!(bird.turns[1].failed && bird.turns[4].failed);
        let bird = Trace::of(&json!({"task": "t", "adk_events": [{"type": "user_message", "message": "hello"},
            {"type": "adk_event", "author": "bird", "content": {"role": "model", "parts": [{"text": "thinking"},
                {"function_call": {"name": "get_schema", "args": {}}}]}},
            {"type": "adk_event", "author": "bird", "content": {"role": "user", "parts": [
                {"function_response": {"name": "get_schema", "response": {"error": "gone"}}}]}}]}));
        assert_eq!(roles(&bird), ["user", "assistant", "tool"]);
        assert!(bird.turns[2].failed && bird.turns[1].calls[0].name == "get_schema");
    }

    #[test]
    fn other_peoples_traces_are_conversations_too() {
        let atif = Trace::of(
            &json!({"schema_version": "ATIF-v1.6", "session_id": "s", "agent": {"name": "a", "version": "1"}, "steps": [
            {"step_id": 1, "source": "user", "message": "do it"},
            {"step_id": 2, "source": "agent", "message": "ok", "reasoning_content": "hm", "metrics": {"prompt_tokens": 7, "completion_tokens": 3},
             "tool_calls": [{"tool_call_id": "c", "function_name": "bash", "arguments": {"command": "false"}}],
             "observation": {"results": [{"source_call_id": "c", "content": "exit code: 1"}]}}]}),
        );
        assert_eq!((atif.form, roles(&atif)), ("atif", vec!["user", "assistant", "tool"]));
        assert_eq!((atif.turns[1].tokens, atif.turns[1].text.as_str()), (Some(10), "(thinking) hm\nok"));
        assert!(atif.turns[2].failed && atif.turns[2].tool.as_deref() == Some("bash"));

        let anthropic = Trace::of(&json!([{"role": "assistant", "content": [{"type": "text", "text": "look"},
            {"type": "tool_use", "id": "u", "name": "read", "input": {"path": "x"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "u", "is_error": true, "content": [{"type": "text", "text": "none"}]}]}]));
        assert_eq!(roles(&anthropic), ["assistant", "tool"]);
        assert!(anthropic.turns[1].failed && anthropic.turns[1].tool.as_deref() == Some("read"));

        let responses =
            Trace::of(&json!([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "{\"error\":\"x\"}"}]));
        assert_eq!(roles(&responses), ["user", "assistant", "tool"]);
        assert!(responses.turns[2].failed && responses.turns[2].tool.as_deref() == Some("f"));
    }

    #[test]
    fn any_json_is_a_tree_and_anything_else_text() {
        let tree = Trace::of(&json!({"a": {"b": [1, "two\nlines", {}]}, "messages": "none"}));
        assert_eq!(tree.form, "tree");
        assert_eq!(tree.turns[0].text, "a:\n  b:\n    - 1\n    - two\n      lines\n    - {}\nmessages: none");
        let odd = Trace::read(b"{\"a\": \xff\x1b");
        assert_eq!((odd.form, odd.turns[0].text.as_str()), ("text", "{\"a\": \u{fffd}\\u{1b}"));
        let deep = "[".repeat(5000);
        assert_eq!(Trace::read(deep.as_bytes()).form, "text");
        for odd in [
            json!(null),
            json!([]),
            json!({"messages": [1, null]}),
            json!({"steps": [{"source": 3}]}),
            json!({"adk_events": [null]}),
        ] {
            let _ = Trace::of(&odd);
        }
    }

    #[test]
    fn nothing_in_a_trace_acts() {
        let evil = "\u{1b}[2J\u{202e}";
        let trace = Trace::of(
            &json!({"messages": [{"role": evil, "content": evil, "tool_calls": [{"name": evil, "arguments": evil}]}], evil: evil}),
        );
        let shown = format!("{:?}", trace).replace("\\\\u", "");
        assert!(!shown.contains("\\u{1b}") && !shown.contains("\\u{202e}"), "{shown}");
    }

    #[test]
    fn failures_are_told_by_how_an_answer_begins() {
        for (text, failed) in [
            ("exit code: 0\nstdout:\nerror", false),
            ("exit code: 1", true),
            ("Error: no such table", true),
            ("Traceback (most recent call last):\n", true),
            ("{\"error\": null}", false),
            ("{\"error\": \"x\"}", true),
            ("the error is gone", false),
            ("", false),
        ] {
            assert_eq!(tells_of_failure(text), failed, "{text}");
        }
    }
}

//! The data of the trace reader: the newest and the first trace of every train task, as JSON in the page.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::inputs::{Inputs, TaskTraces};
use crate::model::score::Rewards;
use crate::report::evidence::Left;
use crate::report::history::marks;
use crate::report::text::{cut, one_line};
use crate::report::trace::Turn;

/// Bytes that all traces together may take in the page.
const ALL: usize = 3_000_000;
/// Bytes that any trace gets, if need be.
const LEAST: usize = 700;
/// Bytes that no trace gets more than.
const MOST: usize = 120_000;
/// How long such an escape is.
const ESCAPED: &str = "\\u003c";
/// Bytes of one text.
const TEXT: usize = 6_000;
/// Tool calls of one turn.
const CALLS: usize = 20;

/// How many bytes each trace gets when `left` bytes are there for `count` more of them; failing tasks come first and get more.
pub(crate) fn share(left: usize, count: usize, fails: bool) -> usize {
    let even = left / count.max(1);
    (if fails { even * 3 } else { even }).min(left / 2).clamp(LEAST, MOST)
}

/// What JSON takes in the page, in bytes: there no character of it may end the element that it stands in.
pub(crate) fn weight(json: &Value) -> usize {
    let text = json.to_string();
    text.len() + (ESCAPED.len() - 1) * text.bytes().filter(|byte| b"<>&".contains(byte)).count()
}

/// The bytes for all of them.
pub(crate) const fn all() -> usize {
    ALL
}

/// A trial as the page's script reads it, in about `room` bytes.
pub(crate) fn document(left: &Left, whose: &str, room: usize) -> Value {
    let result = &left.result;
    let mut document = json!({
        "place": left.place.as_str(), "trial": left.trial, "whose": whose, "file": left.trace_file, "outcome": result.outcome,
        "reward": result.reward, "seconds": result.usage.seconds, "tokens": result.usage.tokens(), "cost": result.usage.cost_usd,
        "error": result.error.as_ref().map(|error| one_line(error, 600)), "failed": result.failed,
        "facts": left.facts().into_iter().take(20).map(|(name, value)| (name, one_line(&value, 240))).collect::<Vec<_>>(),
        "without": left.without,
    });
    let turns = left.trace.as_ref().map_or(&[][..], |trace| &trace.turns);
    let (mut spent, mut shown) = (weight(&document), Vec::new());
    // The end says most: how it failed. So the room goes to the last turns, and the first one.
    let text = (room / 4).clamp(200, TEXT);
    for (at, turn) in turns.iter().enumerate().rev() {
        let value = spoken(at, turn, text);
        let size = weight(&value);
        if spent + size > room && !shown.is_empty() {
            break;
        }
        spent += size;
        shown.push(value);
    }
    shown.reverse();
    document["skipped"] = json!(turns.len() - shown.len());
    document["turns"] = json!(shown);
    document
}

fn spoken(at: usize, turn: &Turn, limit: usize) -> Value {
    let (text, mut is_cut) = cut(&turn.text, limit);
    is_cut |= turn.calls.len() > CALLS;
    let mut calls: Vec<(String, String)> = Vec::new();
    for call in turn.calls.iter().take(CALLS) {
        let (arguments, is_long) = cut(&call.arguments, limit);
        is_cut |= is_long;
        calls.push((one_line(&call.name, 80), arguments.into_owned()));
    }
    let mut value = json!({"n": at + 1, "r": one_line(&turn.role, 40), "x": text});
    if is_cut {
        value["cut"] = json!(true);
    }
    if !calls.is_empty() {
        value["c"] = json!(calls);
    }
    if let Some(tool) = &turn.tool {
        value["t"] = json!(one_line(tool, 80));
    }
    if turn.failed {
        value["f"] = json!(true);
    }
    if let Some(seconds) = turn.seconds {
        value["s"] = json!(seconds);
    }
    if let Some(tokens) = turn.tokens {
        value["k"] = json!(tokens);
    }
    value
}

/// The JSON in the page. Nothing in it can end the element that it stands in.
pub(super) fn data(inputs: &Inputs<'_>, columns: &[(usize, Rewards)], rows: &[String]) -> String {
    let suite = inputs.history.summary().suite();
    let traces: HashMap<&String, &TaskTraces> = inputs.traces.iter().map(|traces| (&traces.task, traces)).collect();
    let row = |task: &String| {
        let traces = traces.get(task);
        json!({
            "task": one_line(task, 300),
            "marks": marks(columns, task),
            "suite": suite.contains(task),
            "latest": traces.and_then(|traces| traces.latest.clone()),
            "baseline": traces.and_then(|traces| traces.baseline.clone()),
        })
    };
    let tasks: Vec<Value> = rows.iter().map(row).collect();
    json!({ "tasks": tasks }).to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::breakdown::Breakdown;
    use crate::report::trace::Trace;
    use crate::report::trace::conversation::Call;
    use crate::store::traces::TracePlace;

    #[test]
    fn a_trace_takes_no_more_room_than_it_is_given_and_keeps_its_end() {
        let messages: Vec<Value> =
            (0..500).map(|at| json!({"role": "user", "content": format!("said {at} {}", "<x".repeat(4500))})).collect();
        let left = Left {
            place: TracePlace::Latest,
            trial: 0,
            directory: "d".into(),
            trace_file: "d/trace.json".into(),
            result: Breakdown::default(),
            trace: Some(Trace::of(&json!(messages))),
            without: None,
        };
        for room in [LEAST, 5_000, MOST] {
            let document = document(&left, "baseline", room);
            assert!(weight(&document) < room + 2000, "{room}: {}", weight(&document));
            let last = document["turns"].as_array().unwrap().last().unwrap();
            assert!(last["n"] == 500 && last["cut"] == true && last["x"].as_str().unwrap().starts_with("said 499"));
            assert_eq!(
                document["skipped"].as_u64().unwrap() as usize + document["turns"].as_array().unwrap().len(),
                500
            );
        }
    }

    #[test]
    fn tool_calls_that_are_cut_or_left_out_are_called_so() {
        let turn = |calls: usize, length: usize| {
            let call = Call { name: "f".into(), arguments: "x".repeat(length) };
            spoken(0, &Turn { role: "assistant".into(), calls: vec![call; calls], ..Turn::default() }, 300)
        };
        assert!(turn(2, 10).get("cut").is_none());
        assert_eq!((&turn(1, 400)["cut"], &turn(21, 1)["cut"]), (&json!(true), &json!(true)));
    }

    #[test]
    fn failing_tasks_get_more_room_and_all_together_no_more_than_there_is() {
        assert!(share(ALL, 400, true) > 2 * share(ALL, 400, false));
        assert_eq!((share(ALL, 1, true), share(0, 5, false)), (MOST, LEAST));
    }
}

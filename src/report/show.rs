//! A trial on a screen: what failed first, then the end of the conversation.

use serde_json::{Value, json};

use super::evidence::Left;
use super::text::{excerpt, one_line};
use super::trace::{Trace, Turn};
use crate::model::usage::trial_in_dollars;
use crate::store::traces::TracePlace;
use crate::ui::duration;

/// How many lines are printed unless all are requested.
pub(crate) const LINES: usize = 60;
/// Characters of a line.
const WIDTH: usize = 160;
/// Lines of the grader's words.
const DETAILS: usize = 10;
/// Lines of one turn.
const OF_A_TURN: usize = 9;

/// What is shown besides the trial itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    pub task: String,
    /// Whether it is in the regression suite.
    pub in_suite: bool,
    /// Whose trial it is, in a few words.
    pub whose: String,
    /// Its history, a mark for each agent.
    pub history: String,
    /// Numbers of the trials that are there, when there are several.
    pub trials: Vec<u32>,
}

/// The trial as lines; at most [`LINES`] unless it is to be `full`.
pub(crate) fn lines(about: &About, left: &Left, full: bool) -> Vec<String> {
    let width = if full { usize::MAX } else { WIDTH };
    let mut out = head(about, left, full, width);
    match (&left.trace, &left.without) {
        (Some(trace), _) => conversation(trace, full, width, LINES.saturating_sub(out.len() + 2), &mut out),
        (None, Some(why)) => out.push(format!("no trace: {why}")),
        (None, None) => {}
    }
    out.push(format!("files: {}/", left.directory));
    out
}

fn head(about: &About, left: &Left, full: bool, width: usize) -> Vec<String> {
    let result = &left.result;
    let suite = if about.in_suite { ", in the regression suite" } else { "" };
    let mut out = vec![format!("task      {} (train{suite})", one_line(&about.task, width))];
    let others = about.trials.iter().filter(|trial| **trial != left.trial).map(u32::to_string).collect::<Vec<_>>();
    let others = if others.is_empty() { String::new() } else { format!("; also there: --trial {}", others.join(", ")) };
    let which = match left.place {
        TracePlace::Latest => "the newest",
        TracePlace::Baseline => "the first ever",
    };
    out.push(format!("trial     {} of {which}, by {}{others}", left.trial, about.whose));
    let reward = result.reward.map_or_else(|| "no reward".into(), |reward| format!("reward {reward:.2}"));
    let mut ended = format!("{}, {reward}", if result.outcome.is_empty() { "unknown" } else { &result.outcome });
    ended.push_str(&result.usage.seconds.map(|seconds| format!(", {}", duration(seconds))).unwrap_or_default());
    ended.push_str(&result.usage.tokens().map(|tokens| format!(", {tokens} tokens")).unwrap_or_default());
    ended.push_str(&result.usage.cost_usd.map(|cost| format!(", {}", trial_in_dollars(cost))).unwrap_or_default());
    out.push(format!("outcome   {ended}"));
    out.push(format!("history   {} (one mark per agent: . passes, x fails, ? no evidence, - not run)", about.history));
    if let Some(error) = &result.error {
        out.push(format!("error     {}", one_line(error, width)));
    }
    if !result.failed.is_empty() {
        out.push(format!("failed    {}", one_line(&result.failed.join("; "), width)));
    }
    if let Some((at, turn)) = left.trace.as_ref().and_then(Trace::last_failure) {
        let name = turn.tool.as_deref().unwrap_or(&turn.role);
        out.push(format!("tool      last error at [{}] {name}:", at + 1));
        out.extend(
            excerpt(&turn.text, if full { usize::MAX } else { 4 }, width)
                .iter()
                .map(|line| format!("          {line}")),
        );
    }
    let facts = left.facts();
    let shown = if full { facts.len() } else { DETAILS };
    for (name, value) in facts.iter().take(shown) {
        out.push(format!("          {name}: {}", one_line(value, width.saturating_sub(20))));
    }
    if facts.len() > shown {
        out.push(format!("          and {} more", facts.len() - shown));
    }
    out
}

/// The end of the conversation in at most `room` lines, or all of it.
fn conversation(trace: &Trace, full: bool, width: usize, room: usize, out: &mut Vec<String>) {
    let all = trace.turns.len();
    let as_lines = |at: usize| spoken(at, &trace.turns[at], if full { usize::MAX } else { OF_A_TURN }, width);
    // From the end, so that most of a long conversation is not read.
    let (mut used, mut from, mut last) = (0, all, Vec::new());
    while from > 0 {
        let turn = as_lines(from - 1);
        used += turn.len();
        if !full && used > room {
            break;
        }
        from -= 1;
        last.push(turn);
    }
    out.push(match from {
        0 => format!("conversation: {all} turns"),
        _ => format!("conversation: the last {} of {all} turns (--full shows all)", all - from),
    });
    out.extend(last.into_iter().rev().flatten());
}

/// A turn as lines: who, then what, indented.
fn spoken(at: usize, turn: &Turn, most: usize, width: usize) -> Vec<String> {
    let mut first = format!("[{}] {}", at + 1, one_line(&turn.role, 40));
    first.push_str(&turn.tool.as_ref().map(|tool| format!(" {}", one_line(tool, 60))).unwrap_or_default());
    first.push_str(&turn.seconds.map(|seconds| format!(", {}", duration(seconds))).unwrap_or_default());
    first.push_str(&turn.tokens.map(|tokens| format!(", {tokens} tokens")).unwrap_or_default());
    first.push_str(if turn.failed { "  FAILED" } else { "" });
    let indent = |line: String| format!("    {line}");
    let mut lines = vec![first];
    lines.extend(excerpt(&turn.text, most, width).into_iter().map(indent));
    for call in &turn.calls {
        let arguments = if most == usize::MAX { call.arguments.clone() } else { one_line(&call.arguments, width) };
        lines.push(format!("    -> {} {arguments}", one_line(&call.name, 60)));
    }
    // A turn may call many tools at once.
    if lines.len() > most.saturating_mul(2) {
        let more = lines.len() - most * 2;
        lines.truncate(most * 2);
        lines.push(format!("    [{more} lines left out]"));
    }
    lines
}

/// The trial as one JSON object. Texts are cut as on the screen unless it is to be `full`.
pub(crate) fn as_json(about: &About, left: &Left, full: bool) -> Value {
    let result = &left.result;
    let turn = |turn: &Turn| {
        let text = match full {
            true => turn.text.clone(),
            false => excerpt(&turn.text, OF_A_TURN, WIDTH).join("\n"),
        };
        let arguments = |text: &str| if full { text.to_string() } else { one_line(text, WIDTH) };
        let calls = turn.calls.iter().map(|call| json!({"name": call.name, "arguments": arguments(&call.arguments)}));
        json!({"role": turn.role, "tool": turn.tool, "text": text, "calls": calls.collect::<Vec<_>>(), "failed": turn.failed,
            "seconds": turn.seconds, "tokens": turn.tokens})
    };
    let turns = left.trace.as_ref().map_or(&[][..], |trace| &trace.turns);
    // A screen shows the last ones; a program gets as many as may fit there.
    let from = if full { 0 } else { turns.len().saturating_sub(LINES / 3) };
    let last = left.trace.as_ref().and_then(Trace::last_failure);
    json!({
        "type": "trace",
        "task": about.task,
        "in_suite": about.in_suite,
        "place": left.place.as_str(),
        "trial": left.trial,
        "agent": result.agent,
        "whose": about.whose,
        "history": about.history,
        "outcome": result.outcome,
        "reward": result.reward,
        "seconds": result.usage.seconds,
        "tokens": result.usage.tokens(),
        "cost_usd": result.usage.cost_usd,
        "error": result.error,
        "exception": result.exception,
        "failed_checks": result.failed,
        "signature": left.signature().to_string(),
        "last_tool_error": last.map(|(at, turn)| json!({"turn": at + 1, "tool": turn.tool, "text": excerpt(&turn.text, OF_A_TURN, WIDTH).join("\n")})),
        "facts": left.facts(),
        "form": left.trace.as_ref().map(|trace| trace.form),
        "turns": turns.len(),
        "first_shown": from + 1,
        "conversation": turns[from..].iter().map(turn).collect::<Vec<_>>(),
        "without": left.without,
        "directory": left.directory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::breakdown::Breakdown;

    fn trial(turns: usize) -> Left {
        let messages: Vec<Value> = (0..turns)
            .map(|at| json!({"role": if at % 2 == 0 { "assistant" } else { "tool" }, "content": format!("said {at}\n{}", "line\n".repeat(40))}))
            .collect();
        let detail: Value =
            (0..30).map(|at| (format!("fact{at}"), json!("x".repeat(900)))).collect::<serde_json::Map<_, _>>().into();
        Left {
            place: TracePlace::Latest,
            trial: 0,
            directory: "workspace/traces/latest/t".into(),
            trace_file: "workspace/traces/latest/t/trace.json".into(),
            result: Breakdown::read(
                json!({"outcome": "failed", "reward": 0.0, "error": "e\u{1b}\n".repeat(500), "detail": detail})
                    .to_string()
                    .as_bytes(),
            ),
            trace: Some(Trace::of(&json!({"messages": messages}))),
            without: None,
        }
    }

    #[test]
    fn whatever_a_trace_holds_it_is_a_screen_at_most() {
        let about = About { task: "t".into(), history: ".x".repeat(300), ..About::default() };
        for turns in [0, 1, 5, 400] {
            let shown = lines(&about, &trial(turns), false);
            assert!(shown.len() <= LINES, "{turns}: {}", shown.len());
            assert!(shown.iter().all(|line| !line.contains(['\u{1b}', '\n'])), "{shown:?}");
        }
        let shown = lines(&about, &trial(400), false);
        let said =
            shown.iter().any(|line| line.starts_with("conversation: the last ") && line.contains(" of 400 turns"));
        assert!(said && shown.iter().any(|line| line.contains("said 399")), "{shown:?}");
        let full = lines(&about, &trial(400), true);
        assert!(full.iter().any(|line| line.contains("said 0")) && full.len() > 400 * 40);
    }
}

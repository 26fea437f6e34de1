//! Reading `proposal.md`: front matter in YAML between two lines `---`, and text that says what was edited.

use std::collections::BTreeSet;

use serde_yaml::{Mapping, Value};

use crate::model::proposal::{Proposal, Surface};

/// Its name, at the top of the proposer's work tree.
pub(crate) const FILE: &str = "proposal.md";
/// Larger than any proposal, in bytes.
pub(crate) const LARGEST: u64 = 64 << 10;
/// Longer texts are cut: they go into the ledger and into commit messages.
const LONGEST: usize = 2000;
const KEYS: [&str; 6] = ["hypothesis", "failure_pattern", "predicted_fixes", "risk_tasks", "surface", "expected_gain"];

/// The form of a proposal, for the proposer.
pub(crate) const FORM: &str = "\
---
hypothesis: one line: which failures, and the cause you believe in
failure_pattern: what the failing traces have in common
predicted_fixes: [ids of train tasks that fail now and should pass]
risk_tasks: [ids of train tasks that pass now and may fail]
surface: prompt | tool | tool description | control loop | limits | memory | other
expected_gain: 0.05
---

What you edited, in a few lines.
";

/// Reads a proposal. `train`: the tasks that may be named. It reports all problems at once, one line each. Errors:
/// every reason why it is not a proposal.
pub(crate) fn parse(text: &str, train: &BTreeSet<&str>) -> Result<Proposal, Vec<String>> {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let Some((front, body)) = split(&text) else {
        return Err(vec![format!("{FILE} must begin with front matter: a line `---`, keys, a line `---`")]);
    };
    let mapping = match serde_yaml::from_str::<Value>(front) {
        Ok(Value::Mapping(mapping)) => mapping,
        Ok(_) => return Err(vec![format!("the front matter of {FILE} must be `key: value` lines")]),
        Err(error) => return Err(vec![format!("the front matter of {FILE} is not YAML: {error}")]),
    };
    let mut fields = Fields { mapping, problems: Vec::new() };
    fields.refuse_unknown();
    let hypothesis = fields.text("hypothesis");
    let failure_pattern = fields.text("failure_pattern");
    let predicted_fixes = fields.tasks("predicted_fixes", true, train);
    let risk_tasks = fields.tasks("risk_tasks", false, train);
    let surface = fields.surface();
    let expected_gain = fields.gain();
    match (surface, fields.problems.is_empty()) {
        (Some(surface), true) => Ok(Proposal {
            hypothesis: one_line(&hypothesis),
            failure_pattern: one_line(&failure_pattern),
            predicted_fixes,
            risk_tasks,
            surface,
            expected_gain,
            change: cut(body.trim()),
        }),
        _ => Err(fields.problems),
    }
}

/// Front matter and text.
fn split(text: &str) -> Option<(&str, &str)> {
    let rest = text.trim_start().strip_prefix("---\n")?;
    match rest.split_once("\n---\n") {
        Some(parts) => Some(parts),
        None => Some((rest.strip_suffix("\n---")?, "")),
    }
}

struct Fields {
    mapping: Mapping,
    problems: Vec<String>,
}

impl Fields {
    fn refuse_unknown(&mut self) {
        for key in self.mapping.keys() {
            if key.as_str().is_none_or(|key| !KEYS.contains(&key)) {
                let key = key.as_str().unwrap_or("that is no text");
                self.problems.push(format!("unknown key `{}`; the keys are {}", cut(key), KEYS.join(", ")));
            }
        }
    }

    fn text(&mut self, key: &str) -> String {
        match self.mapping.get(key) {
            Some(Value::String(text)) if !text.trim().is_empty() => return text.trim().to_string(),
            None | Some(Value::Null) => self.problems.push(format!("`{key}` is missing")),
            Some(_) => self.problems.push(format!("`{key}` must be a text that is not empty")),
        }
        String::new()
    }

    fn tasks(&mut self, key: &str, required: bool, train: &BTreeSet<&str>) -> Vec<String> {
        let mut tasks = Vec::new();
        match self.mapping.get(key) {
            None | Some(Value::Null) if !required => {}
            None | Some(Value::Null) => self.problems.push(format!("`{key}` is missing")),
            Some(Value::Sequence(items)) => {
                for item in items {
                    let id = match item {
                        Value::String(id) => id.clone(),
                        // An id such as 17 is written without quotes.
                        Value::Number(number) => number.to_string(),
                        _ => String::new(),
                    };
                    if train.contains(id.as_str()) {
                        tasks.push(id);
                    } else {
                        self.problems.push(format!("`{key}`: there is no train task `{}`", cut(&id)));
                    }
                }
                if required && items.is_empty() {
                    self.problems.push(format!("`{key}` is empty: an edit that is to fix no task cannot be tested"));
                }
            }
            Some(_) => self.problems.push(format!("`{key}` must be a list of train tasks, as in [a, b]")),
        }
        tasks.sort();
        tasks.dedup();
        tasks
    }

    fn surface(&mut self) -> Option<Surface> {
        let found = self.text("surface");
        let surface = Surface::parse(&found);
        if surface.is_none() && !found.is_empty() {
            let all = Surface::ALL.map(Surface::as_str).join(", ");
            self.problems.push(format!("`surface` is one of {all}, not `{}`", cut(&found)));
        }
        surface
    }

    fn gain(&mut self) -> Option<f64> {
        let found = self.mapping.get("expected_gain").filter(|value| !value.is_null())?;
        let gain = found.as_f64().filter(|gain| (-1.0..=1.0).contains(gain));
        if gain.is_none() {
            self.problems.push("`expected_gain` is a number of val_score from -1 to 1, such as 0.05".into());
        }
        gain
    }
}

fn one_line(text: &str) -> String {
    cut(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Proposal, Vec<String>> {
        parse(text, &["a", "b", "17"].into())
    }

    #[test]
    fn a_proposal_is_read_as_it_is_written() {
        let text = "---\r\nhypothesis: >\r\n  dates are read\r\n  as months\r\nfailure_pattern: 'day > 12'\r\npredicted_fixes: [b, a, 17]\r\n\
                    surface: Tool description\r\nexpected_gain: 0.05\r\n---\r\n\r\nSaid it in the tool.\r\n";
        let read = read(text).unwrap();
        assert_eq!(read.hypothesis, "dates are read as months");
        assert_eq!(read.failure_pattern, "day > 12");
        assert_eq!(read.predicted_fixes, ["17", "a", "b"]);
        assert_eq!((read.surface, read.expected_gain), (Surface::ToolDescription, Some(0.05)));
        assert_eq!((read.risk_tasks.len(), read.change.as_str()), (0, "Said it in the tool."));
    }

    #[test]
    fn what_is_wrong_is_said_at_once() {
        let problems =
            read("---\nhypothesis:\npredicted_fixes: [held-out]\nrisks: [a]\nsurface: vibes\nexpected_gain: 5%\n---\n")
                .unwrap_err();
        let expected = [
            "unknown key `risks`; the keys are hypothesis, failure_pattern, predicted_fixes, risk_tasks, surface, expected_gain",
            "`hypothesis` is missing",
            "`failure_pattern` is missing",
            "`predicted_fixes`: there is no train task `held-out`",
            "`surface` is one of prompt, tool, tool description, control loop, limits, memory, other, not `vibes`",
            "`expected_gain` is a number of val_score from -1 to 1, such as 0.05",
        ];
        assert_eq!(problems, expected);
        for (text, why) in [
            ("no front matter", "must begin with front matter"),
            ("---\n- a\n- b\n---\n", "must be `key: value` lines"),
            ("---\na: [\n---\n", "is not YAML"),
            ("---\nhypothesis: x\n", "must begin with front matter"),
        ] {
            let problems = read(text).unwrap_err();
            assert!(problems.len() == 1 && problems[0].contains(why), "{text:?}: {problems:?}");
        }
        let empty =
            read("---\nhypothesis: h\nfailure_pattern: p\npredicted_fixes: []\nsurface: tool\n---").unwrap_err();
        assert_eq!(empty, ["`predicted_fixes` is empty: an edit that is to fix no task cannot be tested"]);
    }

    #[test]
    fn the_form_shown_to_proposers_has_every_key() {
        let (front, body) = split(FORM).unwrap();
        let names: Vec<&str> = front.lines().map(|line| line.split_once(':').unwrap().0).collect();
        assert_eq!(names, KEYS);
        assert!(!body.trim().is_empty());
    }
}

//! What a coding agent says about its edit before the gate judges it, and how the gate's trials compare with that.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::score::passes;

/// The part of an agent that an edit works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    /// What the agent's model is told.
    Prompt,
    /// A tool of the agent.
    Tool,
    /// What the agent's model is told about a tool.
    ToolDescription,
    /// What happens between two answers of the model: retries, checks, order of steps.
    ControlLoop,
    /// Limits of steps, time, length.
    Limits,
    /// What the agent keeps from one step to the next.
    Memory,
    Other,
}

impl Surface {
    /// Every surface, in the order in which messages list them.
    pub const ALL: [Surface; 7] = [
        Surface::Prompt,
        Surface::Tool,
        Surface::ToolDescription,
        Surface::ControlLoop,
        Surface::Limits,
        Surface::Memory,
        Surface::Other,
    ];

    /// The words for people and for `proposal.md`.
    pub fn as_str(self) -> &'static str {
        match self {
            Surface::Prompt => "prompt",
            Surface::Tool => "tool",
            Surface::ToolDescription => "tool description",
            Surface::ControlLoop => "control loop",
            Surface::Limits => "limits",
            Surface::Memory => "memory",
            Surface::Other => "other",
        }
    }

    /// The surface that a word means; `-` and `_` count as a space.
    pub fn parse(text: &str) -> Option<Surface> {
        let words = text.trim().to_ascii_lowercase().replace(['-', '_'], " ");
        Surface::ALL.into_iter().find(|surface| surface.as_str() == words)
    }
}

/// `proposal.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Which failures, and their presumed cause: one line.
    pub hypothesis: String,
    /// What the failures have in common, as the traces show it.
    pub failure_pattern: String,
    /// Train tasks that fail and should pass.
    pub predicted_fixes: Vec<String>,
    /// Train tasks that pass and may fail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risk_tasks: Vec<String>,
    /// What the edit works on.
    pub surface: Surface,
    /// By how much val_score should rise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_gain: Option<f64>,
    /// What was edited, in the proposer's words.
    pub change: String,
}

/// How the predictions turned out, by the gate's train trials of the edit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredictionOutcome {
    /// Predicted, and so it came.
    pub fixed: Vec<String>,
    /// Predicted, and they still fail.
    pub not_fixed: Vec<String>,
    /// Predicted, and the gate did not run them, or they passed before.
    pub not_measured: Vec<String>,
    /// Named as a risk, and they fail now.
    pub risks_realised: Vec<String>,
    /// They passed before and fail now, and were not named.
    pub unattributed: Vec<String>,
    /// They failed before and pass now, and were not named.
    pub unpredicted: Vec<String>,
}

impl PredictionOutcome {
    /// Compares predictions with rewards of train tasks: those of the agent that was edited, and those of the edit, which has
    /// none where the gate did not run a task.
    pub fn new(
        proposal: &Proposal,
        before: &BTreeMap<String, Option<f64>>,
        after: &BTreeMap<String, Option<f64>>,
    ) -> PredictionOutcome {
        let known = |rewards: &BTreeMap<String, Option<f64>>, task: &str| rewards.get(task).copied().flatten();
        let failed_before = |task: &str| known(before, task).is_some_and(|reward| !passes(Some(reward)));
        let mut outcome = PredictionOutcome::default();
        for task in &proposal.predicted_fixes {
            let list = match known(after, task) {
                Some(_) if !failed_before(task) => &mut outcome.not_measured,
                Some(reward) if passes(Some(reward)) => &mut outcome.fixed,
                Some(_) => &mut outcome.not_fixed,
                None => &mut outcome.not_measured,
            };
            list.push(task.clone());
        }
        let predicted: BTreeSet<&String> = proposal.predicted_fixes.iter().collect();
        for (task, reward) in after {
            let Some(reward) = *reward else { continue };
            let (is, was) = (passes(Some(reward)), known(before, task));
            match was {
                Some(was) if passes(Some(was)) && !is => match proposal.risk_tasks.contains(task) {
                    true => outcome.risks_realised.push(task.clone()),
                    false => outcome.unattributed.push(task.clone()),
                },
                Some(was) if !passes(Some(was)) && is && !predicted.contains(task) => {
                    outcome.unpredicted.push(task.clone());
                }
                _ => {}
            }
        }
        outcome
    }

    /// One sentence for people and the next session. `trials`: how many each task had; a flip of a single trial may be
    /// noise.
    pub fn sentence(&self, trials: u32) -> String {
        let measured = self.fixed.len() + self.not_fixed.len();
        let mut parts = vec![match measured {
            0 => "no predicted fix was measured".to_string(),
            _ => format!("{} of {measured} measured predictions came true", self.fixed.len()),
        }];
        let lists = [
            ("fixed", &self.fixed),
            ("still failing", &self.not_fixed),
            ("not measured", &self.not_measured),
            ("risks realised", &self.risks_realised),
            ("broken unforeseen", &self.unattributed),
            ("fixed unforeseen", &self.unpredicted),
        ];
        parts.extend(lists.iter().filter(|(_, tasks)| !tasks.is_empty()).map(|(what, tasks)| {
            let shown: Vec<&str> = tasks.iter().take(5).map(String::as_str).collect();
            let more = tasks.len().saturating_sub(5);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{what}: {}{more}", shown.join(", "))
        }));
        let flips = !(self.fixed.is_empty() && self.unattributed.is_empty() && self.risks_realised.is_empty());
        if trials == 1 && flips {
            parts.push("with one trial a task, a single change of sides may be noise".into());
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surfaces_are_read_as_they_are_written_and_typed() {
        for surface in Surface::ALL {
            assert_eq!(Surface::parse(surface.as_str()), Some(surface));
            assert_eq!(Surface::parse(&surface.as_str().replace(' ', "_").to_uppercase()), Some(surface));
        }
        assert_eq!(Surface::parse("tool-description"), Some(Surface::ToolDescription));
        assert_eq!(Surface::parse("prompts"), None);
    }

    #[test]
    fn predictions_are_held_against_what_was_measured() {
        let list = |tasks: &[&str]| tasks.iter().map(ToString::to_string).collect::<Vec<_>>();
        let proposal = Proposal {
            hypothesis: "h".into(),
            failure_pattern: "p".into(),
            predicted_fixes: list(&["a", "b", "c", "d"]),
            risk_tasks: list(&["e"]),
            surface: Surface::Prompt,
            expected_gain: None,
            change: String::new(),
        };
        let rewards = |pairs: &[(&str, f64)]| {
            pairs.iter().map(|(task, reward)| (task.to_string(), Some(*reward))).collect::<BTreeMap<_, _>>()
        };
        let before =
            rewards(&[("a", 0.0), ("b", 0.4), ("c", 0.0), ("d", 1.0), ("e", 1.0), ("f", 1.0), ("g", 0.0), ("h", 1.0)]);
        let after = rewards(&[("a", 1.0), ("b", 0.49), ("d", 1.0), ("e", 0.0), ("f", 0.0), ("g", 0.5), ("h", 1.0)]);
        let outcome = PredictionOutcome::new(&proposal, &before, &after);
        assert_eq!(outcome.fixed, ["a"]);
        assert_eq!(outcome.not_fixed, ["b"]);
        assert_eq!(outcome.not_measured, ["c", "d"], "not run, or nothing to fix");
        assert_eq!(outcome.risks_realised, ["e"]);
        assert_eq!(outcome.unattributed, ["f"]);
        assert_eq!(outcome.unpredicted, ["g"]);
        assert_eq!(
            outcome.sentence(1),
            "1 of 2 measured predictions came true; fixed: a; still failing: b; not measured: c, d; risks realised: e; \
             broken unforeseen: f; fixed unforeseen: g; with one trial a task, a single change of sides may be noise"
        );
        assert_eq!(PredictionOutcome::default().sentence(1), "no predicted fix was measured");
        assert!(!outcome.sentence(3).contains("noise"));
    }
}

//! What the proposals in the ledger add up to: how many were accepted, what they cost, and how far predictions can be trusted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::{End, Proposed, SessionUsage};
use crate::model::proposal::Surface;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Proposals {
    /// Number of the last iteration.
    pub last: u32,
    /// How often each end came.
    pub accepted: u32,
    /// See [`End::Rejected`].
    pub rejected: u32,
    /// See [`End::Unusable`].
    pub unusable: u32,
    /// What all sessions used.
    pub usage: SessionUsage,
    /// Predicted fixes that were measured, and how many of them came true.
    pub predictions: u32,
    /// See `predictions`.
    pub came_true: u32,
    /// Tasks that were fixed without being predicted.
    pub unpredicted: u32,
    /// Proposals that reached the gate and those accepted, by what they worked on.
    pub surfaces: BTreeMap<Surface, (u32, u32)>,
    /// The same by the groups of editable paths that they touched; one that touched two counts for both.
    #[serde(default)]
    pub groups: BTreeMap<String, (u32, u32)>,
}

impl Proposals {
    pub(super) fn add(&mut self, proposed: &Proposed) {
        self.last = self.last.max(proposed.iteration);
        match proposed.end {
            End::Accepted => self.accepted += 1,
            End::Rejected => self.rejected += 1,
            End::Unusable => self.unusable += 1,
        }
        self.usage = self.usage.plus(proposed.usage);
        if let Some(outcome) = &proposed.predicted {
            self.came_true += count(&outcome.fixed);
            self.predictions += count(&outcome.fixed) + count(&outcome.not_fixed);
            self.unpredicted += count(&outcome.unpredicted);
        }
        if let Some(proposal) = proposed.proposal.as_ref().filter(|_| proposed.end != End::Unusable) {
            let won = u32::from(proposed.end == End::Accepted);
            let count = |sums: &mut (u32, u32)| *sums = (sums.0 + 1, sums.1 + won);
            for name in &proposed.touched {
                count(self.groups.entry(name.clone()).or_default());
            }
            count(self.surfaces.entry(proposal.surface).or_default());
        }
    }

    pub fn count(&self) -> u32 {
        self.accepted + self.rejected + self.unusable
    }
}

fn count(tasks: &[String]) -> u32 {
    u32::try_from(tasks.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::proposal::{PredictionOutcome, Proposal};

    #[test]
    fn proposals_are_counted_by_end_and_surface() {
        let proposal = Proposal {
            hypothesis: "h".into(),
            failure_pattern: "p".into(),
            predicted_fixes: vec!["a".into(), "b".into()],
            risk_tasks: vec![],
            surface: Surface::Tool,
            expected_gain: None,
            change: String::new(),
        };
        let proposed = |iteration, end, predicted| Proposed {
            iteration,
            by: "claude".into(),
            base: String::new(),
            agent: None,
            receipt: None,
            end,
            reason: None,
            proposal: Some(proposal.clone()),
            predicted,
            usage: SessionUsage { sessions: 1, seconds: 2.0, turns: 3, tokens: 4, cost_usd: 0.5, unpriced: 1 },
            touched: if iteration == 1 { vec!["a".into(), "b".into()] } else { vec!["b".into()] },
            outdone: Vec::new(),
        };
        let outcome =
            PredictionOutcome { fixed: vec!["a".into()], not_fixed: vec!["b".into()], ..PredictionOutcome::default() };
        let mut sums = Proposals::default();
        sums.add(&proposed(1, End::Accepted, Some(outcome)));
        sums.add(&proposed(2, End::Rejected, None));
        sums.add(&proposed(3, End::Unusable, None));
        assert_eq!((sums.last, sums.count(), sums.accepted, sums.unusable), (3, 3, 1, 1));
        assert_eq!((sums.predictions, sums.came_true), (2, 1));
        assert_eq!(sums.surfaces, BTreeMap::from([(Surface::Tool, (2, 1))]));
        assert_eq!(sums.groups, BTreeMap::from([("a".into(), (1, 1)), ("b".into(), (2, 1))]));
        assert_eq!((sums.usage.sessions, sums.usage.tokens, sums.usage.cost_usd), (3, 12, 1.5));
    }
}

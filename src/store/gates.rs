//! How many trials the gates took so far, to estimate the next one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::{Purpose, Trial};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GateTrials {
    /// Gates that ran anything.
    gates: u64,
    /// Trials that they ran.
    trials: u64,
    /// Trials since the last verdict that only a gate runs.
    own: u64,
    /// Trials since the last verdict that `benchmark` runs as well, by agent: a gate of the rule `paired` begins with those.
    shared: BTreeMap<String, u64>,
}

impl GateTrials {
    pub fn ran(&mut self, trial: &Trial<'_>) {
        match trial.purpose {
            Purpose::Benchmark => *self.shared.entry(trial.agent.to_string()).or_default() += 1,
            purpose if purpose.is_baseline() || purpose.is_aside() => {}
            _ => self.own += 1,
        }
    }

    /// Counts the verdict on this agent.
    pub fn judged(&mut self, agent: &str) {
        let ran = std::mem::take(&mut self.own) + self.shared.get(agent).copied().unwrap_or(0);
        self.shared.clear();
        if ran > 0 {
            self.gates += 1;
            self.trials += ran;
        }
    }

    /// What a gate took, rounded up; `None` before the first one.
    pub fn mean(&self) -> Option<u64> {
        (self.gates > 0).then(|| self.trials.div_ceil(self.gates))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_took_what_it_ran_and_what_was_run_of_its_agent() {
        let mut counts = GateTrials::default();
        let ran = |counts: &mut GateTrials, purpose: &str, agent: &str, times: u32| {
            for number in 0..times {
                let text = format!(
                    r#"{{"run":"r","purpose":"{purpose}","agent":"{agent}","protocol":"p","split":"train","task":"t","trial":{number},"outcome":"passed","reward":1.0}}"#
                );
                counts.ran(&serde_json::from_str(&text).unwrap());
            }
        };
        ran(&mut counts, "baseline", "first", 9);
        assert_eq!(counts.mean(), None);
        ran(&mut counts, "benchmark", "first", 5);
        ran(&mut counts, "benchmark", "edit", 3);
        ran(&mut counts, "round", "edit", 4);
        ran(&mut counts, "round", "first", 4);
        counts.judged("edit");
        assert_eq!(counts.mean(), Some(11), "evidence of another agent is no part of it");
        counts.judged("edit");
        assert_eq!(counts.mean(), Some(11), "a gate that knew everything says nothing of the next one");
        ran(&mut counts, "calibrate", "edit", 50);
        ran(&mut counts, "suite", "other", 2);
        counts.judged("other");
        assert_eq!(counts.mean(), Some(7), "6.5, rounded up");
    }
}

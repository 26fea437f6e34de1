//! Why a run is made, and what follows from it.

use serde::{Deserialize, Serialize};

/// Why a run was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The baseline, or the reference measured after an accepted change.
    Baseline,
    Benchmark,
    /// Step 1 of the gate.
    Suite,
    /// Step 2 of the gate.
    HoldOut,
    /// Step 3 of the gate.
    Promotion,
    /// The base commit's agent, for `gate --base`.
    Base,
    /// A round of the rule `paired`: the tasks in doubt, for both agents alike.
    Round,
    /// Run afresh, once an agent was chosen (or an experiment starts with it): the basis of its score.
    Confirm,
    /// `autoharness confirm`: the basis of the claim, and of nothing else.
    Claim,
    /// `autoharness calibrate`: how noisy an agent is.
    Calibrate,
    /// `autoharness loop --arm resample`: the scores of the unchanged agent by luck alone.
    Resample,
}

impl Purpose {
    /// Whether other agents are compared with what this measures.
    pub fn is_baseline(self) -> bool {
        matches!(self, Purpose::Baseline | Purpose::Base)
    }

    /// Whether its trials leave traces where the coding agent reads them. Those of a comparison do not: they show nothing
    /// new, and would replace newer ones.
    pub fn leaves_traces(self) -> bool {
        !self.is_aside() && !matches!(self, Purpose::Round | Purpose::Confirm)
    }

    /// Whether it is outside the search: no gate, score or view uses its trials.
    pub fn is_aside(self) -> bool {
        matches!(self, Purpose::Claim | Purpose::Calibrate | Purpose::Resample)
    }

    /// Whether the search for a better agent pays for it: what gates and `benchmark` run.
    pub fn is_search(self) -> bool {
        !self.is_aside() && !self.is_baseline()
    }

    /// The word used in run names.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Baseline => "baseline",
            Purpose::Benchmark => "benchmark",
            Purpose::Suite => "suite",
            Purpose::HoldOut => "hold-out",
            Purpose::Promotion => "promotion",
            Purpose::Base => "base",
            Purpose::Round => "round",
            Purpose::Confirm => "confirm",
            Purpose::Claim => "claim",
            Purpose::Calibrate => "calibrate",
            Purpose::Resample => "resample",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_have_words_and_baselines_are_compared_with() {
        for (purpose, word, is_baseline) in [
            (Purpose::Baseline, "baseline", true),
            (Purpose::Benchmark, "benchmark", false),
            (Purpose::Suite, "suite", false),
            (Purpose::HoldOut, "hold-out", false),
            (Purpose::Promotion, "promotion", false),
            (Purpose::Base, "base", true),
            (Purpose::Round, "round", false),
            (Purpose::Confirm, "confirm", false),
            (Purpose::Claim, "claim", false),
            (Purpose::Calibrate, "calibrate", false),
            (Purpose::Resample, "resample", false),
        ] {
            assert_eq!((purpose.as_str(), purpose.is_baseline()), (word, is_baseline));
        }
    }
}

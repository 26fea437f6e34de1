//! A step of a command: which tasks it measures, under which conditions, and how that went.

use std::collections::BTreeMap;
use std::ops::Range;

use super::agent::StagedAgent;
use super::plan::Conditions;
use super::session::Session;
use crate::benchmarks::runner::BenchmarkRunner;
use crate::config::Config;
use crate::model::outcomes::Outcomes;
use crate::model::trial::Split;
use crate::process::signals::Cancel;
use crate::store::event::Purpose;
use crate::store::trials::TrialsOf;

/// A set of tasks to be measured.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub purpose: Purpose,
    /// Their split; `None` while it is not drawn.
    pub split: Option<Split>,
    pub tasks: Vec<String>,
    /// The numbers of the trials that each of them needs.
    pub numbers: Range<u32>,
}

impl Step {
    /// The configured number of trials of these tasks.
    pub(super) fn whole(config: &Config, purpose: Purpose, split: Option<Split>, tasks: Vec<String>) -> Step {
        Step { purpose, split, tasks, numbers: config.all_trials() }
    }
}

#[derive(Debug, Default, Clone)]
pub(super) struct StepReport {
    /// Trials run now.
    pub run: usize,
    /// Trials the ledger already had.
    pub reused: usize,
    /// How the trials run now ended, repeated ones each time.
    pub ended: Outcomes,
    /// What interrupted the run, if anything did.
    pub failure: Option<String>,
    /// True when no trial showed any model activity.
    pub void: bool,
    /// True when the benchmark, or something in its name, reported what it could not know.
    pub untrusted: bool,
}

/// What is measured, and under which conditions.
pub(super) struct Measurement<'a> {
    pub runner: &'a dyn BenchmarkRunner,
    pub agent: &'a StagedAgent,
    /// Fingerprint of what one trial depends on beside the agent.
    pub trial_protocol: &'a str,
    /// Digests of the provisioned data that it stands on.
    pub data: &'a BTreeMap<String, String>,
    /// Most trials in flight, over all steps.
    pub concurrency: u32,
    /// Run again what the ledger has.
    pub fresh: bool,
    /// Fires on Ctrl-C and the like.
    pub cancel: &'a Cancel,
}

impl Measurement<'_> {
    /// Which trials a step may reuse. `current`: its present run, when planning what that has to run again.
    pub(super) fn conditions<'a>(&'a self, session: &Session, step: &Step, current: Option<&'a str>) -> Conditions<'a> {
        let of = TrialsOf {
            agent: &self.agent.fingerprint,
            protocol: self.trial_protocol,
            policy: session.config.timeout_policy,
        };
        // `benchmark` is run for its traces; a verdict does not need them.
        let traced = step.purpose == Purpose::Benchmark;
        Conditions { of, numbers: step.numbers.clone(), fresh: self.fresh, current, traced }
    }
}

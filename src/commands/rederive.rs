//! How `verify` derives measurements outside the search again.

use super::experiment::Experiment;
use crate::error::Result;
use crate::guard::agent_files::read_editable_from_tree;
use crate::guard::{Editable, agent_fingerprint};
use crate::model::score::Scoring;
use crate::model::split::{SPLIT_SEED, TaskSplit, sealed, sealed_count};
use crate::store::claims::{self, arms, repeated, run_rewards};
use crate::store::event::{Calibrated, Committed, Confirmed, Prepared, Resampled};
use crate::store::state::State;

/// What is wrong with a claim, one line each: it is decided again from its measurements, which are compared with the trials
/// and the commits.
pub(super) fn confirmed(confirmed: &Confirmed, state: &State, experiment: &Experiment) -> Vec<String> {
    let Confirmed { baseline, best, trial_protocol, sealed, look, measured, claim, .. } = confirmed;
    let Some(prepared) = &state.summary.prepared else { return vec!["`confirmed` before `prepared`".into()] };
    let mut wrong = Vec::new();
    if measured.claim().as_ref() != Some(claim) {
        wrong.push("what was measured gives another claim".into());
    }
    let tasks: Vec<String> = measured.tasks.keys().cloned().collect();
    if tasks != *claims::tasks(&prepared.split, *sealed) {
        wrong.push("the claim was not made on the whole hold-out, or on all that is sealed".into());
    }
    let policy = state.summary.scoring().policy;
    if arms(&state.trials, &baseline.agent, &best.agent, trial_protocol, &tasks, policy) != measured.tasks {
        wrong.push("the rewards of the claim are not those of its trials".into());
    }
    if prepared.trial_protocol != *trial_protocol || prepared.config["min_evidence"] != measured.min_evidence {
        wrong.push("the claim was not made under the conditions prepared with".into());
    }
    if state.summary.claims.look(confirmed) != *look {
        wrong.push("the claim counts other looks than the ledger has".into());
    }
    if state.summary.base.as_ref() != Some(&best.commit) {
        wrong.push("the best agent of the claim was not the one recorded last".into());
    }
    if confirmed.against.is_none() && state.summary.claims.first_base.as_ref() != Some(&baseline.commit) {
        wrong.push("the baseline of the claim is not what the experiment began with".into());
    }
    let editable = editable(prepared);
    wrong.extend([baseline, best].into_iter().filter_map(|side| holds(side, &editable, experiment)));
    wrong
}

/// What is wrong with a calibration: its noise is counted again from the trials. The simulation is not repeated.
pub(super) fn calibrated(calibrated: &Calibrated, state: &State, experiment: &Experiment) -> Vec<String> {
    let Calibrated { agent, trial_protocol, measured, noise, shrunk, .. } = calibrated;
    let Some(prepared) = &state.summary.prepared else { return vec!["`calibrated` before `prepared`".into()] };
    let mut wrong = Vec::new();
    let Scoring { trials, policy } = state.summary.scoring();
    let earned = repeated(&state.trials, &agent.agent, trial_protocol, &prepared.split, policy, measured.min_evidence);
    if earned != *measured {
        wrong.push("the rewards of the calibration are not those of its trials".into());
    }
    if measured.noise(prepared.gate_split(), trials).as_ref() != Some(noise) || measured.rates().shrunk != *shrunk {
        wrong.push("what was measured gives another noise".into());
    }
    if prepared.trial_protocol != *trial_protocol || prepared.config["min_evidence"] != measured.min_evidence {
        wrong.push("the calibration was not made under the conditions prepared with".into());
    }
    if state.summary.base.as_ref() != Some(&agent.commit) {
        wrong.push("the agent of the calibration was not the one recorded last".into());
    }
    wrong.extend(holds(agent, &editable(prepared), experiment));
    wrong
}

/// What is wrong with a run of the unchanged agent: its score is counted again from its trials.
pub(super) fn resampled(resampled: &Resampled, state: &State, experiment: &Experiment) -> Vec<String> {
    let summary = &state.summary;
    let Some(prepared) = &summary.prepared else { return vec!["`resampled` before `prepared`".into()] };
    let Resampled { run, agent, trial_protocol, protocol, .. } = resampled;
    let mut wrong = Vec::new();
    let scoring = summary.scoring();
    let tasks = prepared.split.tasks(prepared.gate_split());
    let score = run_rewards(&state.trials, resampled, tasks, scoring).score();
    if score.mean != Some(resampled.val_score)
        || (score.passed, score.evaluated) != (resampled.evals_passed, resampled.evals_total)
    {
        wrong.push("the score of a run of the unchanged agent is not the mean of its trials".into());
    }
    if summary.claims.next_run(&agent.agent, protocol) != *run {
        wrong.push("a run of the unchanged agent is missing before this one".into());
    }
    if (&prepared.trial_protocol, &prepared.protocol) != (trial_protocol, protocol) {
        wrong.push("the unchanged agent was not run under the conditions prepared with".into());
    }
    if summary.claims.first_base.as_ref() != Some(&agent.commit) {
        wrong.push("the unchanged agent is not the one that the experiment began with".into());
    }
    wrong.extend(holds(agent, &editable(prepared), experiment));
    wrong
}

fn editable(prepared: &Prepared) -> Vec<String> {
    serde_json::from_value(prepared.config["editable"].clone()).unwrap_or_default()
}

/// Whether the first sealed split is the one that the seed draws: from all tasks if the split was drawn here, from the hold-out
/// if it came from elsewhere.
pub(super) fn is_sealed_by_chance(prepared: &Prepared) -> bool {
    let split = &prepared.split;
    let is_taken_over = prepared.adopted.as_ref().is_some_and(|adopted| adopted.split);
    let pool = match prepared.split_drawn && !is_taken_over {
        true => split.all(),
        false => TaskSplit { train: Vec::new(), ..split.clone() }.all(),
    };
    let share = prepared.config["sealed"].as_f64().unwrap_or(0.0);
    sealed(&pool, sealed_count(share, pool.len()), SPLIT_SEED) == split.sealed
}

/// Why a commit does not hold the agent that was measured, when it does not.
fn holds(side: &Committed, editable: &[String], experiment: &Experiment) -> Option<String> {
    let fingerprint = || -> Result<String> {
        let tree = experiment.repo.tree(&side.commit)?;
        Ok(agent_fingerprint(&read_editable_from_tree(&tree, &Editable::new(editable)?)?))
    };
    let short: String = side.commit.chars().take(12).collect();
    match fingerprint() {
        Ok(found) if found == side.agent => None,
        Ok(_) => Some(format!("commit {short} does not hold the agent that it is about")),
        Err(error) => Some(format!("commit {short} cannot be read: {error}")),
    }
}

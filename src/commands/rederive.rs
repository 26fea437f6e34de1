//! What `verify` derives again of measurements beside the search.

use super::experiment::Experiment;
use crate::error::Result;
use crate::guard::staging::read_editable_from_tree;
use crate::guard::{Editable, agent_fingerprint};
use crate::store::claims::arms;
use crate::store::event::{Committed, Confirmed};
use crate::store::state::State;

/// What is wrong with a claim, one line each: it is decided again from what was measured, which is compared with the trials
/// and the commits.
pub(super) fn confirmed(confirmed: &Confirmed, state: &State, experiment: &Experiment) -> Vec<String> {
    let Confirmed { baseline, best, trial_protocol, look, measured, claim, .. } = confirmed;
    let Some(prepared) = &state.summary.prepared else { return vec!["`confirmed` before `prepared`".into()] };
    let mut wrong = Vec::new();
    if measured.claim().as_ref() != Some(claim) {
        wrong.push("what was measured gives another claim".into());
    }
    let tasks: Vec<String> = measured.tasks.keys().cloned().collect();
    if tasks != prepared.split.test {
        wrong.push("the claim was not made on the whole hold-out".into());
    }
    let (_, policy) = state.summary.counting();
    if arms(&state.trials, &baseline.agent, &best.agent, trial_protocol, &tasks, policy) != measured.tasks {
        wrong.push("the rewards of the claim are not those of its trials".into());
    }
    if prepared.trial_protocol != *trial_protocol || prepared.config["min_evidence"] != measured.min_evidence {
        wrong.push("the claim was not made under the conditions prepared with".into());
    }
    if state.summary.claims.look(&baseline.agent, &best.agent, trial_protocol, measured.trials()) != *look {
        wrong.push("the claim counts other looks than the ledger has".into());
    }
    if state.summary.base.as_ref() != Some(&best.commit) {
        wrong.push("the best agent of the claim was not the one recorded last".into());
    }
    if confirmed.against.is_none() && state.summary.claims.first_base.as_ref() != Some(&baseline.commit) {
        wrong.push("the baseline of the claim is not what the experiment began with".into());
    }
    let editable: Vec<String> = serde_json::from_value(prepared.config["editable"].clone()).unwrap_or_default();
    wrong.extend([baseline, best].into_iter().filter_map(|side| holds(side, &editable, experiment)));
    wrong
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
        Ok(_) => Some(format!("commit {short} does not hold the agent that the claim is about")),
        Err(error) => Some(format!("commit {short} cannot be read: {error}")),
    }
}

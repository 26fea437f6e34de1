//! Says how the trials behind a score ended, when any was not simply passed or failed.

use serde_json::json;

use super::session::Session;

/// One line and one JSON object; nothing when every trial was graded. `of` says whose trials: a split, or `base`.
pub(super) fn tell(session: &Session, of: &str, agent: &str, trial_protocol: &str, tasks: &[String]) {
    let outcomes = session.state.trials.outcomes(agent, trial_protocol, tasks, session.config.trials);
    let Some(summary) = outcomes.summary() else { return };
    session.ui.line(format!("{:<17} {of:<9} {summary}", "outcomes"));
    session.ui.json(&json!({
        "type": "outcomes",
        "of": of,
        "counts": outcomes.counts(),
        "reasons": outcomes.reasons(),
    }));
}

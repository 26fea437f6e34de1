//! What flipped on train against the incumbent, for `benchmark` and `gate`.

use super::agent;
use super::session::Session;
use crate::guard::BaseTree;
use crate::report::flips::{Counting, Flips};
use crate::store::event::Verdict;
use crate::ui::Ui;

/// What an agent fixed and broke of the train tasks; `None` where it is the incumbent itself, or both have no task in common.
pub(super) fn known(
    session: &Session,
    incumbent: &str,
    agent: &str,
    protocol: &str,
    tasks: &[String],
) -> Option<Flips> {
    let counting = Counting {
        trials: &session.state.trials,
        protocol,
        first: session.state.summary.first_agent.as_deref(),
        each: session.config.trials,
        policy: session.config.timeout_policy,
    };
    let flips = (incumbent != agent).then(|| Flips::of(&counting, incumbent, agent, tasks))?;
    (flips.compared > 0).then_some(flips)
}

/// The same after a verdict on these train tasks.
pub(super) fn of_verdict(session: &Session, verdict: &Verdict, base: &BaseTree, train: &[String]) -> Option<Flips> {
    let incumbent = agent::fingerprint(session, base).ok()?;
    known(session, &incumbent, &verdict.agent, &verdict.trial_protocol, train)
}

/// One line, when anything flipped.
pub(super) fn tell(ui: &Ui, flips: Option<&Flips>) {
    if let Some(flips) = flips.filter(|flips| !flips.is_none()) {
        ui.line(format!("{:<17} {:<9} {}", "flips", "train", flips.line()));
    }
}

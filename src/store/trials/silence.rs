//! Trials in which no model did anything: whether they are worth anything is judged over many of them.

use super::{StoredTrial, Tokens, Trials, by_number, plain};
use crate::model::trial::Outcome;

impl Trials {
    /// Whether no model did anything in the run over `tasks` that is about to end, killed runs that it continues included.
    /// `reports_tokens`: the benchmark always reports its tokens, so no report means none.
    ///
    /// A silent trial of a task that this agent has answered without a model before, in a run that counted, says nothing
    /// either way: alone in its run it would otherwise void it each time.
    pub fn is_void(&self, agent: &str, protocol: &str, tasks: &[String], reports_tokens: bool) -> bool {
        let newest = |stored: &[StoredTrial]| match stored.last() {
            Some(last) if last.replaces => stored.len() - 1,
            _ => 0,
        };
        let set = self.place_of(agent, protocol);
        let stored = tasks.iter().flat_map(|task| by_number(self.known(set, task)).map(move |stored| (task, stored)));
        let newest =
            stored.flat_map(|(task, stored)| stored[newest(stored)..].iter().map(move |stored| (task, stored)));
        let graded = newest.filter(|(_, stored)| !stored.settled && stored.is_graded());
        let telling = graded.filter(|(task, stored)| {
            !stored.is_silent(reports_tokens) || !self.was_silent(agent, protocol, task, reports_tokens)
        });
        all_tokenless(telling.map(|(_, stored)| stored), reports_tokens)
    }

    /// Whether a trial of this agent on the task, for whatever purpose, counts although it used no token.
    fn was_silent(&self, agent: &str, protocol: &str, task: &str, reports_tokens: bool) -> bool {
        let sets = self.by_agent.get(agent).into_iter().flatten();
        let mut sets = sets.filter(|(key, _)| plain(key) == plain(protocol));
        sets.any(|(_, set)| {
            let mut settled = self.known(Some(*set), task).iter().filter(|stored| stored.settled && stored.is_graded());
            settled.any(|stored| stored.is_silent(reports_tokens))
        })
    }

    /// Whether no trial of this agent on `tasks` ever used a model token, whatever its outcome. Such a baseline measures
    /// nothing: its "0.0000" may come from a provider that refuses a parameter, and any edit would beat it.
    pub fn is_tokenless(&self, agent: &str, protocol: &str, tasks: &[String], reports_tokens: bool) -> bool {
        let set = self.place_of(agent, protocol);
        let stored = tasks.iter().flat_map(|task| self.known(set, task));
        all_tokenless(stored.filter(|stored| !stored.evidence.outcome.is_no_evidence()), reports_tokens)
    }
}

impl StoredTrial {
    /// `reports_tokens`: no report means none.
    fn is_silent(&self, reports_tokens: bool) -> bool {
        match self.tokens {
            Tokens::Unknown => reports_tokens,
            Tokens::Zero => true,
            Tokens::Some => false,
        }
    }

    /// Whether somebody judged what the agent did. A crash before the first model call is the agent's own doing, and evidence.
    fn is_graded(&self) -> bool {
        !matches!(self.evidence.outcome, Outcome::AgentError | Outcome::InfraError | Outcome::VerifierError)
    }
}

/// Whether there are trials, and none of them used a token.
fn all_tokenless<'s>(trials: impl Iterator<Item = &'s StoredTrial>, reports_tokens: bool) -> bool {
    let mut trials = trials.peekable();
    trials.peek().is_some() && trials.all(|stored| stored.is_silent(reports_tokens))
}

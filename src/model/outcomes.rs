//! Counts of how trials ended: a score alone does not tell a weak agent from one that never started.

use std::collections::BTreeMap;

use super::trial::Outcome;

/// Longer reasons are cut.
const LONGEST_REASON: usize = 60;

/// Outcomes of the trials that a score is based on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes(BTreeMap<&'static str, Tally>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tally {
    count: usize,
    reasons: BTreeMap<String, usize>,
}

impl Outcomes {
    /// Counts one trial. `error` is what its benchmark said; never given for the hold-out, where it might name a task.
    pub fn add(&mut self, outcome: Outcome, error: Option<&str>) {
        let tally = self.0.entry(outcome.as_str()).or_default();
        tally.count += 1;
        if let Some(error) = error {
            *tally.reasons.entry(reason(error)).or_default() += 1;
        }
    }

    /// Everything that is neither passed nor failed, such as `27 agent_error: ModuleNotFoundError, 1 infra_error`; `None` when
    /// every trial was graded.
    pub fn summary(&self) -> Option<String> {
        let graded = [Outcome::Passed, Outcome::Failed].map(Outcome::as_str);
        let parts = self.0.iter().filter(|(outcome, _)| !graded.contains(outcome)).map(|(outcome, tally)| {
            let reason = match tally.commonest() {
                None => String::new(),
                Some((reason, count)) if count == tally.count => format!(": {reason}"),
                Some((reason, count)) => format!(": {reason} ({count} of them)"),
            };
            format!("{} {outcome}{reason}", tally.count)
        });
        let parts: Vec<String> = parts.collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// How many trials ended in each way.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.0.iter().map(|(outcome, tally)| (*outcome, tally.count)).collect()
    }

    /// The commonest reason for each way to end that has one.
    pub fn reasons(&self) -> BTreeMap<&'static str, &str> {
        self.0.iter().filter_map(|(outcome, tally)| Some((*outcome, tally.commonest()?.0))).collect()
    }
}

impl Tally {
    /// The first of them in the alphabet when several are equally common.
    fn commonest(&self) -> Option<(&str, usize)> {
        let most = self.reasons.values().max()?;
        self.reasons.iter().find(|(_, count)| *count == most).map(|(reason, count)| (reason.as_str(), *count))
    }
}

/// The first word of an error that looks like an exception's class.
pub(crate) fn exception_class(error: &str) -> Option<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    error.split(|c| !is_word(c)).find(|word| {
        let named = ["Error", "Exception", "Exit", "Interrupt", "Timeout"].iter().any(|end| word.ends_with(end));
        named && word.starts_with(char::is_uppercase)
    })
}

/// The kind of an error: the first word that looks like an exception's class, else how the text begins.
fn reason(error: &str) -> String {
    if let Some(class) = exception_class(error) {
        return class.chars().take(LONGEST_REASON).collect();
    }
    let line = error.lines().next().unwrap_or_default();
    let mut short: String = line.chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect();
    if line.chars().count() > LONGEST_REASON {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(trials: &[(Outcome, Option<&str>)]) -> Outcomes {
        let mut outcomes = Outcomes::default();
        trials.iter().for_each(|(outcome, error)| outcomes.add(*outcome, *error));
        outcomes
    }

    #[test]
    fn what_was_graded_needs_no_word() {
        assert_eq!(of(&[(Outcome::Passed, None), (Outcome::Failed, Some("wrong answer"))]).summary(), None);
    }

    #[test]
    fn the_commonest_reason_is_named_by_its_class() {
        let missing = Some("agent.py line 3: ModuleNotFoundError: No module named 'x'");
        let all = of(&[(Outcome::AgentError, missing), (Outcome::AgentError, missing), (Outcome::InfraError, None)]);
        assert_eq!(all.summary().as_deref(), Some("2 agent_error: ModuleNotFoundError, 1 infra_error"));
        let some = of(&[
            (Outcome::AgentError, Some("KeyError: 'a'")),
            (Outcome::AgentError, missing),
            (Outcome::AgentError, missing),
            (Outcome::AgentError, None),
        ]);
        assert_eq!(some.summary().as_deref(), Some("4 agent_error: ModuleNotFoundError (2 of them)"));
        assert_eq!(some.counts(), BTreeMap::from([("agent_error", 4)]));
        assert_eq!(some.reasons(), BTreeMap::from([("agent_error", "ModuleNotFoundError")]));
    }

    #[test]
    fn reasons_without_a_class_are_cut_and_forge_no_line() {
        assert_eq!(reason("the sandbox is gone\nfailed: forged"), "the sandbox is gone");
        assert_eq!(reason("a\u{1b}[31mb"), "a[31mb");
        assert_eq!(reason("The sandbox is gone"), "The sandbox is gone");
        assert_eq!(reason("no onError handler"), "no onError handler");
        assert_eq!(reason(&"x".repeat(99)), format!("{}...", "x".repeat(60)));
        assert_eq!(reason(&"x".repeat(60)), "x".repeat(60));
    }
}

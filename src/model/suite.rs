//! What is known of the tasks of the regression suite: which of them the gate counts, and which need not be run.
//!
//! A task that joined by luck would fail agents that changed nothing. So a task counts as broken only if accepted agents
//! pass it reliably. If they do not, it goes into quarantine (run, reported, not counted). If the suite has a limit, the
//! tasks that have passed for longest are retired. The trials of accepted agents decide all of this.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::paired::mantel::{Chance, Mantel, Stratum};

/// How many past trials of accepted agents are considered.
pub(crate) const REMEMBERED: usize = 10;
/// Trials after which a task can be put in quarantine: of one that passes 9 times in 10, fewer than 4 in 5 pass 8 times in 100.
const ENOUGH: u32 = 5;
/// Level at which the suite as a whole counts as worse.
const WORSE: f64 = 0.02;

/// How a task fared with accepted agents, over its last [`REMEMBERED`] trials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskHistory {
    /// Trials that passed.
    pub passed: u32,
    /// Trials that gave evidence.
    pub of: u32,
}

impl TaskHistory {
    /// From whether trials passed, newest first.
    pub fn of(newest_first: impl IntoIterator<Item = bool>) -> TaskHistory {
        let mut history = TaskHistory::default();
        for passed in newest_first.into_iter().take(REMEMBERED) {
            history.of += 1;
            history.passed += u32::from(passed);
        }
        history
    }

    /// Whether at least 4 of 5 passed. A task without known trials counts as reliable: it was added by hand.
    pub fn is_reliable(&self) -> bool {
        self.passed * 5 >= self.of * 4
    }
}

/// What is known of one task of the suite when an edit is judged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KnownTask {
    /// How accepted agents fared.
    pub history: TaskHistory,
    /// What the edit earned, trials that were run again because others failed left out.
    pub candidate: Vec<f64>,
    /// What the recorded agent earned afresh.
    pub incumbent: Vec<f64>,
}

/// Whether the suite as a whole is worse than with the recorded agent: Mantel's test, stratified by task.
pub(crate) fn is_worse<'k>(tasks: impl IntoIterator<Item = &'k KnownTask>) -> bool {
    let strata: Vec<Stratum> =
        tasks.into_iter().map(|known| Stratum::of(&known.candidate, &known.incumbent).turned()).collect();
    Mantel::of(&strata).delta > 0.0 && Chance::of(&strata).p <= WORSE
}

/// What is done to a task of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SuiteChange {
    /// It joins, or counts again.
    Add,
    /// It is run and reported, and not counted.
    Quarantine,
    /// It no longer runs.
    Retire,
}

impl SuiteChange {
    /// The word used on the command line and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            SuiteChange::Add => "add",
            SuiteChange::Quarantine => "quarantine",
            SuiteChange::Retire => "retire",
        }
    }
}

/// What should change before a suite is run, with the reason: `(task, change, why)`, by task. `most`: how many tasks may be run.
pub(crate) fn review(
    histories: &BTreeMap<String, TaskHistory>,
    quarantined: &BTreeSet<String>,
    most: Option<u32>,
) -> Vec<(String, SuiteChange, String)> {
    let mut changes = Vec::new();
    for (task, history) in histories.iter().filter(|(task, _)| !quarantined.contains(*task)) {
        if history.of >= ENOUGH && !history.is_reliable() {
            let why = format!("accepted agents passed it {} of {} times", history.passed, history.of);
            changes.push((task.clone(), SuiteChange::Quarantine, why));
        }
    }
    let surplus = most.map_or(0, |most| histories.len().saturating_sub(most as usize));
    // Those that have always passed, and for longest, are the least informative.
    let mut by_age: Vec<(&String, &TaskHistory)> = histories.iter().collect();
    by_age.sort_unstable_by_key(|(task, history)| (history.passed < history.of, std::cmp::Reverse(history.of), *task));
    for (task, history) in by_age.into_iter().take(surplus) {
        changes.retain(|(other, ..)| other != task);
        let most = most.unwrap_or_default();
        let why = format!(
            "at most {most} tasks (max_suite); accepted agents passed it {} of {} times",
            history.passed, history.of
        );
        changes.push((task.clone(), SuiteChange::Retire, why));
    }
    changes.sort_by(|one, other| one.0.cmp(&other.0));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(passed: u32, of: u32) -> TaskHistory {
        TaskHistory { passed, of }
    }

    #[test]
    fn only_the_last_trials_count() {
        assert_eq!(TaskHistory::of([]), history(0, 0));
        assert_eq!(TaskHistory::of([true, false, true]), history(2, 3));
        let long = std::iter::repeat_n(true, REMEMBERED).chain(std::iter::repeat_n(false, 50));
        assert_eq!(TaskHistory::of(long), history(10, 10));
    }

    #[test]
    fn what_accepted_agents_fail_is_put_in_quarantine_once() {
        let histories = BTreeMap::from([
            ("flaky".into(), history(3, 5)),
            ("new".into(), history(0, 4)),
            ("solid".into(), history(4, 5)),
            ("unknown".into(), history(0, 0)),
        ]);
        let why = "accepted agents passed it 3 of 5 times".to_string();
        let none = BTreeSet::new();
        assert_eq!(review(&histories, &none, None), [("flaky".into(), SuiteChange::Quarantine, why)]);
        assert_eq!(review(&histories, &BTreeSet::from(["flaky".into()]), None), []);
    }

    #[test]
    fn what_has_passed_for_longest_is_retired_first() {
        let histories = BTreeMap::from([
            ("a".into(), history(3, 3)),
            ("b".into(), history(10, 10)),
            ("c".into(), history(9, 10)),
            ("d".into(), history(2, 6)),
        ]);
        let done = |most| -> Vec<(String, SuiteChange)> {
            review(&histories, &BTreeSet::new(), Some(most))
                .into_iter()
                .map(|(task, change, _)| (task, change))
                .collect()
        };
        assert_eq!(done(4), [("d".into(), SuiteChange::Quarantine)]);
        assert_eq!(done(3), [("b".into(), SuiteChange::Retire), ("d".into(), SuiteChange::Quarantine)]);
        let all = ["a", "b", "c", "d"].map(|task| (task.to_string(), SuiteChange::Retire));
        assert_eq!(done(0), all);
    }

    #[test]
    fn a_suite_is_worse_only_when_chance_does_not_explain_it() {
        let task = |candidate: f64, incumbent: [f64; 3]| KnownTask {
            candidate: vec![candidate],
            incumbent: incumbent.to_vec(),
            ..KnownTask::default()
        };
        assert!(!is_worse(&[]));
        assert!(!is_worse(&vec![task(1.0, [1.0; 3]); 20]));
        assert!(!is_worse(&vec![task(0.0, [1.0; 3]); 2]));
        assert!(is_worse(&vec![task(0.0, [1.0; 3]); 4]));
        // Better is not worse.
        assert!(!is_worse(&vec![task(1.0, [0.0; 3]); 20]));
        assert!(!is_worse(&vec![task(0.0, [1.0, 0.0, 0.0]); 3]));
    }
}

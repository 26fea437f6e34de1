//! Which trials a step still needs, and how many of them may run at a time.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::store::trials::{Trials, TrialsOf};

/// The trials a step still needs: contiguous trial numbers `first..first + count`, with the tasks that need just those.
pub(super) struct Plan {
    /// Tasks, longest first, by the trial numbers they need: the first and how many.
    pub groups: BTreeMap<(u32, u32), Vec<String>>,
    /// Trials that the ledger has already.
    pub reused: usize,
    /// Trials that are needed only for their traces, which were lost.
    pub untraced: usize,
}

/// Which trials count as had.
pub(super) struct Conditions<'a> {
    /// The agent, the protocol and what a timeout counts as.
    pub of: TrialsOf<'a>,
    /// The numbers of the trials that a task needs.
    pub numbers: Range<u32>,
    /// Nothing is reused, except what the `current` run has done.
    pub fresh: bool,
    /// The current run, when this plans what it has to run again.
    pub current: Option<&'a str>,
    /// A trial whose trace was lost is not reused.
    pub traced: bool,
}

impl Plan {
    /// What `tasks` still need.
    pub(super) fn new(tasks: &[String], conditions: &Conditions<'_>, known: &Trials) -> Plan {
        let Conditions { of, numbers, fresh, current, traced } = conditions;
        // Longest first, so that the last trial in flight is a short one; unknown durations count as long.
        let seconds = |task: &str| known.seconds(task).unwrap_or(f64::INFINITY);
        let mut tasks: Vec<(f64, &String)> = tasks.iter().map(|task| (seconds(task), task)).collect();
        tasks.sort_unstable_by(|(a_seconds, a), (b_seconds, b)| b_seconds.total_cmp(a_seconds).then_with(|| a.cmp(b)));
        let (mut groups, mut reused, mut untraced) = (BTreeMap::<(u32, u32), Vec<String>>::new(), 0, 0);
        for (_, task) in tasks {
            let had = |trial| match current {
                Some(run) if *fresh => known.has_evidence_of(of, task, trial, run),
                None if *fresh => false,
                _ => known.has_evidence(of, task, trial, *current),
            };
            let lacks_trace = |trial| *traced && known.trace_lost(of, task, trial);
            let has = |trial| had(trial) && !lacks_trace(trial);
            untraced += numbers.clone().filter(|trial| had(*trial) && lacks_trace(*trial)).count();
            let mut trial = numbers.start;
            while trial < numbers.end {
                if has(trial) {
                    reused += 1;
                    trial += 1;
                    continue;
                }
                let first = trial;
                while trial < numbers.end && !has(trial) {
                    trial += 1;
                }
                groups.entry((first, trial - first)).or_default().push(task.clone());
            }
        }
        Plan { groups, reused, untraced }
    }

    /// How many trials that are.
    pub(super) fn count(&self) -> usize {
        self.groups.iter().map(|((_, count), tasks)| *count as usize * tasks.len()).sum()
    }
}

/// Splits the concurrency in proportion to the work; every step with work gets at least one, or the sum would be too
/// small and the caller runs the steps one after the other.
pub(super) fn share(total: u32, work: &[usize]) -> Vec<u32> {
    let sum: usize = work.iter().sum();
    let busy = work.iter().filter(|work| **work > 0).count();
    if busy <= 1 {
        return work.iter().map(|work| if *work > 0 { total } else { 0 }).collect();
    }
    if (total as usize) < busy {
        return vec![0; work.len()];
    }
    let mut left = total - busy as u32;
    let spare = left as usize;
    work.iter()
        .map(|work| {
            if *work == 0 {
                return 0;
            }
            let extra = u32::try_from((spare * work).div_ceil(sum)).unwrap_or(left).min(left);
            left -= extra;
            1 + extra
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrency_is_shared_and_never_exceeded() {
        assert_eq!(share(4, &[10, 0]), [4, 0]);
        assert_eq!(share(4, &[10, 10]), [2, 2]);
        assert_eq!(share(1, &[10, 10]), [0, 0]);
        for (total, work) in [(2, [1, 1000]), (50, [13, 27]), (3, [1000, 1]), (7, [5, 5])] {
            let shares = share(total, &work);
            assert!(shares.iter().sum::<u32>() <= total && shares.iter().all(|share| *share > 0), "{shares:?}");
        }
    }
}

//! Comparing two agents on the same tasks: which score must be reached, and whether it is.
//!
//! Two scores are compared on the tasks that both sides have evidence for. A mean over fewer tasks is another mean: an
//! agent whose failing task gave no evidence would rise from 5/10 to 5/9, and that lucky denominator would be the bar for
//! every later edit.
//!
//! Leaving tasks out on the candidate's side has a price, because the candidate may be what broke them. The rule: the
//! candidate *reaches* the reference when its mean over the common tasks does, and it *surely reaches* it when it still does
//! with everything that it lacks counted as 0.0. Between the two nothing is decided. That is safe, because an agent gains
//! nothing by spoiling the trials it would fail. It is also fair: losing a task to the network does no harm if the reference
//! fails it too, and costs only another run, not a verdict, if the reference passes it. And the bar cannot sink: a candidate
//! that surely reaches the reference has at least its sum of rewards, on whatever tasks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::score::Rewards;

/// Two scores closer than this are equal: both are means of the same rewards, summed in the same order.
pub(crate) const EPSILON: f64 = 1e-9;

/// The score to reach: the best recorded, or the base commit's agent measured now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    pub val_score: f64,
    /// Where it comes from: `baseline`, a short commit, or `base <short commit>`.
    pub source: String,
    /// Its rewards on the gate split, trials that it lacks counted 0.0: a trial that never ran must not raise or lower the
    /// bar. Empty in ledgers of earlier versions.
    #[serde(default, skip_serializing_if = "Rewards::is_empty")]
    pub rewards: Rewards,
}

impl Reference {
    /// Whether `other` is the score to reach from now on. It is if it is surely better. Of two equal ones, the one with
    /// evidence on more tasks counts, so that later edits are compared on more tasks.
    pub fn gives_way_to(&self, other: &Reference) -> bool {
        if self.rewards.is_empty() || other.rewards.is_empty() {
            return other.val_score > self.val_score;
        }
        let compared = Comparison::new(&other.rewards, &other.rewards, &self.rewards);
        let more = other.rewards.score().evaluated > self.rewards.score().evaluated;
        compared.surely_reaches() && (compared.is_surely_better() || more)
    }
}

/// A candidate and a reference, task by task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Comparison {
    /// Tasks that both have evidence for.
    pub common: usize,
    /// Tasks that the reference has evidence for.
    pub known: usize,
    /// Sum of the candidate's rewards over the common tasks.
    candidate: f64,
    /// The same with every trial that the candidate lacks counted 0.0.
    least: f64,
    /// Sum of the reference's rewards over the common tasks.
    reference: f64,
    /// Sum of the reference's rewards over all its tasks.
    whole: f64,
}

impl Comparison {
    /// Compares. `least` are the candidate's rewards with the trials that it lacks counted 0.0.
    pub(crate) fn new(candidate: &Rewards, least: &Rewards, reference: &Rewards) -> Comparison {
        let of = |rewards: &Rewards, task: &str| rewards.0.get(task).copied().flatten();
        let known: BTreeMap<&String, f64> =
            reference.0.iter().filter_map(|(task, reward)| Some((task, (*reward)?))).collect();
        let mut sums = Comparison {
            common: 0,
            known: known.len(),
            candidate: 0.0,
            least: 0.0,
            reference: 0.0,
            whole: known.values().sum(),
        };
        for (task, reward) in known {
            let Some(own) = of(candidate, task) else { continue };
            sums.common += 1;
            sums.candidate += own;
            sums.least += of(least, task).unwrap_or(0.0);
            sums.reference += reward;
        }
        sums
    }

    /// The candidate's mean over the common tasks; 0 when there are none.
    pub(crate) fn candidate_mean(&self) -> f64 {
        self.candidate / self.common.max(1) as f64
    }

    /// The reference's mean over the common tasks; 0 when there are none.
    pub(crate) fn reference_mean(&self) -> f64 {
        self.reference / self.common.max(1) as f64
    }

    /// Whether enough of the reference's tasks are common ones to decide anything.
    pub(crate) fn is_enough(&self, min_evidence: f64) -> bool {
        self.common > 0 && self.common as f64 >= min_evidence * self.known as f64 - EPSILON
    }

    /// Whether the candidate's score on the common tasks reaches the reference's.
    pub(crate) fn reaches(&self) -> bool {
        self.candidate + self.slack() >= self.reference
    }

    /// Whether it does so even if every missing trial counts 0.0.
    pub(crate) fn surely_reaches(&self) -> bool {
        self.least + self.slack() >= self.whole
    }

    /// Whether the candidate is above the reference, even if every missing trial counts 0.0.
    pub(crate) fn is_surely_better(&self) -> bool {
        self.least > self.whole + self.slack()
    }

    /// [`EPSILON`] of a mean, for sums.
    fn slack(&self) -> f64 {
        EPSILON * self.known.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `x` is no evidence, a digit that many tenths.
    fn rewards(pattern: &str) -> Rewards {
        let reward = |c: char| c.to_digit(10).map(|tenths| f64::from(tenths) / 10.0);
        let reward = |c: char| if c == 'P' { Some(1.0) } else { reward(c) };
        Rewards(pattern.chars().enumerate().map(|(i, c)| (format!("t{i:02}"), reward(c))).collect())
    }

    fn compare(candidate: &str, reference: &str) -> Comparison {
        Comparison::new(&rewards(candidate), &rewards(candidate), &rewards(reference))
    }

    #[test]
    fn scores_are_compared_on_common_tasks() {
        // candidate, reference, common, known, reaches, surely, better
        for (candidate, reference, common, known, reaches, surely, better) in [
            ("PP00", "PP00", 4, 4, true, true, false),
            ("PP0P", "PP00", 4, 4, true, true, true),
            ("P000", "PP00", 4, 4, false, false, false),
            // A task that the reference fails may be missing.
            ("PP0x", "PP00", 3, 4, true, true, false),
            // A task that it passes may not, unless something else makes up for it.
            ("Px00", "PP00", 3, 4, true, false, false),
            ("PxP0", "PP00", 3, 4, true, true, false),
            ("PxPP", "PP00", 3, 4, true, true, true),
            // Tasks that the reference lacks are neither gain nor loss.
            ("PP00", "PP0x", 3, 3, true, true, false),
            ("PP0P", "PP0x", 3, 3, true, true, false),
            ("P00P", "PP0x", 3, 3, false, false, false),
            ("xxPP", "PPxx", 0, 2, true, false, false),
            ("55", "P0", 2, 2, true, true, false),
            ("54", "P0", 2, 2, false, false, false),
            // The same rewards in another order: their sums differ in the last bit.
            ("321", "123", 3, 3, true, true, false),
            ("123", "321", 3, 3, true, true, false),
        ] {
            let got = compare(candidate, reference);
            let flags = (got.common, got.known, got.reaches(), got.surely_reaches(), got.is_surely_better());
            assert_eq!(flags, (common, known, reaches, surely, better), "{candidate} {reference}");
        }
        let some = compare("PxP0", "PP00");
        assert!((some.candidate_mean() - 2.0 / 3.0).abs() < 1e-12 && (some.reference_mean() - 1.0 / 3.0).abs() < 1e-12);
        let none = compare("xx", "PP");
        assert_eq!((none.candidate_mean(), none.reference_mean()), (0.0, 0.0));
    }

    #[test]
    fn means_that_are_close_are_equal_however_many_tasks_there_are() {
        for tasks in [1, 10, 1000] {
            let all = |reward: f64| Rewards((0..tasks).map(|task| (format!("t{task}"), Some(reward))).collect());
            let compare = |own, reference| Comparison::new(&all(own), &all(own), &all(reference));
            let (below, above) = (0.5, 0.5 + EPSILON / 2.0);
            assert!(compare(below, above).reaches() && compare(below, above).surely_reaches(), "{tasks}");
            assert!(!compare(above, below).is_surely_better(), "{tasks}");
            let above = 0.5 + EPSILON * 2.0;
            assert!(!compare(below, above).reaches() && compare(above, below).is_surely_better(), "{tasks}");
        }
        // The border itself is equal on both sides.
        let one = |reward: f64| Rewards([("t".to_string(), Some(reward))].into());
        let compare = |own: f64, reference: f64| Comparison::new(&one(own), &one(own), &one(reference));
        assert!(!compare(EPSILON, 0.0).is_surely_better());
        assert!(compare(0.0, EPSILON).reaches() && compare(0.0, EPSILON).surely_reaches());
    }

    #[test]
    fn a_trial_that_is_lacking_counts_for_nothing_where_it_must_be_sure() {
        let got = Comparison::new(&rewards("P0"), &rewards("50"), &rewards("P0"));
        assert!(got.reaches() && !got.surely_reaches() && !got.is_surely_better());
    }

    #[test]
    fn enough_is_a_share_of_what_the_reference_has() {
        assert!(compare("PPPPPPPPPx", "PPPPPPPPPP").is_enough(0.9));
        assert!(!compare("PPPPPPPPxx", "PPPPPPPPPP").is_enough(0.9));
        assert!(compare("xPPPPPPPPP", "xPPPPPPPPP").is_enough(1.0));
        assert!(!compare("xx", "PP").is_enough(0.0));
        assert!(!compare("PP", "xx").is_enough(0.0));
    }

    #[test]
    fn the_bar_goes_up_for_a_better_agent_and_for_more_evidence() {
        let reference = |pattern: &str| {
            let rewards = rewards(pattern);
            Reference { val_score: rewards.score().mean.unwrap_or(0.0), source: pattern.into(), rewards }
        };
        for (known, new, gives_way) in [
            ("PP00", "PPP0", true),
            ("PP00", "PP00", false),
            // 2/3 is more than 2/4 and yet not better.
            ("PP00", "PP0x", false),
            ("PP0x", "PP00", true),
            ("PP0x", "PP0P", true),
            ("PPP0", "PP00", false),
            ("PPP0", "PP0P", false),
            // Better where both were measured, but perhaps only for lack of what it broke.
            ("PP00", "PxP0", false),
            ("PP00", "PxPP", true),
            ("PPP0", "PxxP", false),
            ("xxxx", "PP00", true),
            ("PP00", "xxxx", false),
        ] {
            assert_eq!(reference(known).gives_way_to(&reference(new)), gives_way, "{known} {new}");
        }
        let plain = |val_score| Reference { val_score, source: "old".into(), rewards: Rewards::default() };
        assert!(plain(0.4).gives_way_to(&plain(0.5)) && plain(0.4).gives_way_to(&reference("PP00")));
        assert!(!plain(0.5).gives_way_to(&plain(0.5)) && !reference("PP00").gives_way_to(&plain(0.5)));
        // If one of them does not say what it is made of, the higher score stays.
        assert!(!plain(0.9).gives_way_to(&reference("PP00")) && reference("PP00").gives_way_to(&plain(0.9)));
    }

    fn pattern() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof![Just('P'), Just('0'), Just('x'), Just('5')], 8)
            .prop_map(|letters| letters.into_iter().collect())
    }

    proptest! {
        #[test]
        fn losing_evidence_never_helps_to_be_sure(candidate in pattern(), reference in pattern(), lost in 0usize..8) {
            let mut fewer: Vec<char> = candidate.chars().collect();
            fewer[lost] = 'x';
            let fewer: String = fewer.into_iter().collect();
            let (before, after) = (compare(&candidate, &reference), compare(&fewer, &reference));
            prop_assert!(before.surely_reaches() || !after.surely_reaches());
            prop_assert!(!before.surely_reaches() || before.reaches());
        }

        #[test]
        fn the_sum_behind_the_bar_never_sinks(patterns in proptest::collection::vec(pattern(), 1..8)) {
            let sum = |rewards: &Rewards| rewards.0.values().flatten().sum::<f64>();
            let reference = |pattern: &String| Reference { val_score: 0.0, source: String::new(), rewards: rewards(pattern) };
            let mut bar = reference(&patterns[0]);
            for next in &patterns[1..] {
                let next = reference(next);
                if bar.gives_way_to(&next) {
                    prop_assert!(sum(&next.rewards) + 1e-9 >= sum(&bar.rewards));
                    bar = next;
                }
            }
        }
    }
}

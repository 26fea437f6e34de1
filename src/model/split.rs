//! The 70/30 split, stratified by the baseline's pass/fail and bit-compatible with the Python original.
//!
//! Source of the algorithm: CPython's `random.seed(int)` (init_by_array), `getrandbits`, `_randbelow_with_getrandbits`
//! and `shuffle`; unchanged from CPython 3.2 to 3.13.

use std::collections::BTreeMap;

use rand_mt::Mt;

/// Seed of the split in the original and here.
pub(crate) const SPLIT_SEED: u32 = 42;
/// Share of each stratum that goes to train.
const TRAIN_SHARE: f64 = 0.7;

/// Mixed with the seed to draw the sealed split, so that it does not follow from the other draw.
const SEALED_STREAM: u32 = 0x5EA1;

/// Task ids of the splits, each sorted by code point.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct TaskSplit {
    /// Evidence for the coding agent.
    pub train: Vec<String>,
    /// The hold-out.
    pub test: Vec<String>,
    /// What no gate, benchmark or promotion ever runs: `confirm --sealed` alone does. Empty in ledgers of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<String>,
}

impl TaskSplit {
    /// The tasks of one split.
    pub fn tasks(&self, split: super::trial::Split) -> &[String] {
        match split {
            super::trial::Split::Train => &self.train,
            super::trial::Split::Test => &self.test,
        }
    }

    /// Every task, sorted.
    pub fn all(&self) -> Vec<String> {
        let mut all = [&*self.train, &*self.test, &*self.sealed].concat();
        all.sort();
        all
    }

    /// The split a task belongs to; none for a sealed one.
    pub fn of(&self, task: &str) -> Option<super::trial::Split> {
        let has = |tasks: &[String]| tasks.binary_search_by(|id| id.as_str().cmp(task)).is_ok();
        if has(&self.train) {
            Some(super::trial::Split::Train)
        } else if has(&self.test) {
            Some(super::trial::Split::Test)
        } else {
            None
        }
    }
}

/// How many tasks of so many are set aside.
pub(crate) fn sealed_count(share: f64, of: usize) -> usize {
    // A product that is whole up to rounding counts as whole.
    (share * of as f64 + 1e-9) as usize
}

/// Draws the tasks to be set aside. `tasks` are sorted; nothing has been run yet, so only chance chooses.
pub(crate) fn sealed(tasks: &[String], count: usize, seed: u32) -> Vec<String> {
    let mut drawn: Vec<&String> = tasks.iter().collect();
    shuffle(&mut Mt::new_with_key([seed, SEALED_STREAM]), &mut drawn);
    let mut drawn: Vec<String> = drawn.into_iter().take(count).cloned().collect();
    drawn.sort();
    drawn
}

/// Draws the split from what the baseline passed. Tasks without evidence count as failed, so that none is lost.
pub(crate) fn stratified(baseline: &BTreeMap<String, Option<f64>>, seed: u32) -> TaskSplit {
    let passes = |reward: &Option<f64>| reward.is_some_and(|r| r >= super::trial::PASS_THRESHOLD);
    // BTreeMap order is byte order of UTF-8, which is code point order: the same as Python's sorted().
    let (mut passed, mut failed): (Vec<&String>, Vec<&String>) = (Vec::new(), Vec::new());
    for (task, reward) in baseline {
        if passes(reward) { passed.push(task) } else { failed.push(task) }
    }
    let mut random = Mt::new_with_key([seed]);
    let mut split = TaskSplit::default();
    for stratum in [&mut passed, &mut failed] {
        shuffle(&mut random, stratum);
        // Python's int() truncates; both factors are exact doubles, so the product is the same double.
        let cut = (TRAIN_SHARE * stratum.len() as f64) as usize;
        split.train.extend(stratum[..cut].iter().map(ToString::to_string));
        split.test.extend(stratum[cut..].iter().map(ToString::to_string));
    }
    split.train.sort();
    split.test.sort();
    split
}

/// CPython's `random.shuffle`.
fn shuffle<T>(random: &mut Mt, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        let j = below(random, i + 1);
        items.swap(i, j);
    }
}

/// CPython's `_randbelow_with_getrandbits`: uniform in `0..n`. A split has fewer than 2^32 tasks.
fn below(random: &mut Mt, n: usize) -> usize {
    let bits = usize::BITS - n.leading_zeros();
    loop {
        let value = (random.next_u32() >> (32 - bits)) as usize;
        if value < n {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// The original's algorithm run by the real interpreter.
    const PYTHON: &str = r"
import json, random, sys
passed, failed = json.load(sys.stdin)
passed, failed = sorted(passed), sorted(failed)
random.seed(42)
random.shuffle(passed)
random.shuffle(failed)
a, b = int(0.7 * len(passed)), int(0.7 * len(failed))
print(json.dumps([sorted(passed[:a] + failed[:b]), sorted(passed[a:] + failed[b:])]))
";

    fn python(passed: &[String], failed: &[String]) -> TaskSplit {
        use std::io::Write;
        let mut child = Command::new("python3")
            .args(["-c", PYTHON])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3 is needed by the test suite");
        let input = serde_json::to_vec(&(passed, failed)).unwrap();
        child.stdin.take().unwrap().write_all(&input).unwrap();
        let output = child.wait_with_output().unwrap();
        let (train, test) = serde_json::from_slice(&output.stdout).unwrap();
        TaskSplit { train, test, sealed: Vec::new() }
    }

    #[test]
    fn the_split_is_bit_compatible_with_cpython() {
        for (n_passed, n_failed) in [(0, 0), (1, 0), (0, 1), (1, 1), (2, 3), (7, 10), (33, 56), (150, 150), (1, 1000)] {
            let passed: Vec<String> = (0..n_passed).map(|i| format!("task-{i}")).collect();
            let failed: Vec<String> = (0..n_failed).map(|i| format!("Ünlösbar [{i}]|x")).collect();
            let mut baseline: BTreeMap<String, Option<f64>> =
                passed.iter().map(|task| (task.clone(), Some(1.0))).collect();
            baseline.extend(failed.iter().enumerate().map(|(i, task)| (task.clone(), (i % 2 == 0).then_some(0.0))));
            assert_eq!(stratified(&baseline, SPLIT_SEED), python(&passed, &failed), "{n_passed}+{n_failed}");
        }
    }

    #[test]
    fn what_is_sealed_hangs_on_the_tasks_alone() {
        let tasks: Vec<String> = (10..99).map(|at| format!("t{at}")).collect();
        let drawn = sealed(&tasks, sealed_count(0.2, tasks.len()), SPLIT_SEED);
        assert_eq!(drawn.len(), 17);
        assert!(drawn.is_sorted() && drawn.iter().all(|task| tasks.contains(task)));
        assert_eq!(drawn, sealed(&tasks, 17, SPLIT_SEED));
        assert_ne!(drawn, sealed(&tasks, 17, SPLIT_SEED + 1));
        // The tasks that were set aside are set aside again, whatever lies beside them.
        assert_eq!(sealed(&drawn, 17, SPLIT_SEED), drawn);
        for (share, of, count) in [(0.2, 10, 2), (0.2, 4, 0), (0.3, 10, 3), (0.29, 100, 29), (0.49, 3, 1), (0.0, 9, 0)]
        {
            assert_eq!(sealed_count(share, of), count, "{share} of {of}");
        }
        let split = TaskSplit { train: vec!["b".into()], test: vec!["c".into()], sealed: vec!["a".into()] };
        assert_eq!((split.all(), split.of("a")), (vec!["a".to_string(), "b".into(), "c".into()], None));
    }

    #[test]
    fn a_split_without_a_sealed_part_is_written_as_ever() {
        let old = r#"{"train":["a"],"test":["b"]}"#;
        let read: TaskSplit = serde_json::from_str(old).unwrap();
        assert_eq!((read.sealed.len(), serde_json::to_string(&read).unwrap().as_str()), (0, old));
    }

    #[test]
    fn every_task_is_in_exactly_one_split() {
        let baseline = (0..89).map(|i| (format!("t{i}"), Some(f64::from(i % 3) / 2.0))).collect();
        let split = stratified(&baseline, SPLIT_SEED);
        let mut all: Vec<_> = split.train.iter().chain(&split.test).cloned().collect();
        all.sort();
        assert_eq!(all, baseline.keys().cloned().collect::<Vec<_>>());
        use super::super::trial::Split::{Test, Train};
        assert_eq!((split.tasks(Train), split.tasks(Test)), (&split.train[..], &split.test[..]));
        for part in [Train, Test] {
            assert!(split.tasks(part).iter().all(|task| split.of(task) == Some(part)), "{part}");
        }
        assert_eq!(split.of("nope"), None);
    }
}

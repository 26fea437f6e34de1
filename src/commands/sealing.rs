//! The sealed split, which is set aside before anything is run, and which no gate, benchmark or promotion ever sees.
//!
//! If the split is drawn here, the sealed tasks are drawn from all tasks, before the baseline and without it: finding out
//! which of them it passes would mean running them. If the benchmark or a workspace of the original brings a split, they are
//! taken out of its hold-out. A task that has run once is never sealed afterwards.

use serde_json::Value;

use crate::error::{Code, Error, Result};
use crate::model::split::{SPLIT_SEED, TaskSplit, sealed, sealed_count};

/// The tasks of a benchmark without what is sealed.
pub(super) struct OpenTasks {
    /// The split that the benchmark or a workspace brought, if any.
    pub(super) given: Option<TaskSplit>,
    /// All of them, sorted.
    pub(super) ids: Vec<String>,
    /// What is sealed, sorted.
    pub(super) sealed: Vec<String>,
}

/// Sets a share of the tasks aside. `ids` are all of them, sorted; `earlier` is the split that was in force so far, `was_run`
/// says whether a task was ever run.
/// Errors: usage when there are so few tasks that none would be sealed.
pub(super) fn set_aside(
    share: f64,
    mut ids: Vec<String>,
    mut given: Option<TaskSplit>,
    earlier: Option<&TaskSplit>,
    was_run: impl Fn(&str) -> bool,
) -> Result<OpenTasks> {
    if share == 0.0 {
        return Ok(OpenTasks { given, ids, sealed: Vec::new() });
    }
    let pool = given.as_ref().map_or(&ids, |split| &split.test);
    let count = sealed_count(share, pool.len());
    // What is sealed stays so, however many other tasks are left.
    let promised = |task: &&String| earlier.is_some_and(|split| split.sealed.binary_search(task).is_ok());
    let is_seen = |task: &&String| was_run(task) || earlier.is_some_and(|split| split.of(task).is_some());
    let mut drawn: Vec<String> = ids.iter().filter(promised).cloned().collect();
    let unseen: Vec<String> = pool.iter().filter(|task| !promised(task) && !is_seen(task)).cloned().collect();
    drawn.extend(sealed(&unseen, count.saturating_sub(drawn.len()), SPLIT_SEED));
    drawn.sort_unstable();
    if drawn.is_empty() {
        let (of, tasks) = (if given.is_some() { "hold-out tasks" } else { "tasks" }, pool.len());
        return Err(Error::usage(format!("`sealed: {share}` of {tasks} {of} is not a single one that was never run"))
            .code(Code::SplitInvalid)
            .hint("raise it, or take the line out of the configuration."));
    }
    let is_open = |task: &String| drawn.binary_search(task).is_err();
    ids.retain(is_open);
    if let Some(split) = &mut given {
        split.train.retain(is_open);
        split.test.retain(is_open);
        split.sealed.clone_from(&drawn);
    }
    Ok(OpenTasks { given, ids, sealed: drawn })
}

/// Refuses to accept another share than the one prepared with. Errors: usage: tasks that ran cannot be sealed, and
/// sealed ones have been promised.
pub(super) fn require_same(share: f64, prepared: &Value) -> Result<()> {
    let before = prepared["sealed"].as_f64().unwrap_or(0.0);
    if before == share {
        return Ok(());
    }
    Err(Error::usage(format!(
        "`sealed` was {before} when this experiment was prepared, and stays so: what was run once cannot be sealed"
    ))
    .code(Code::ConfigChanged)
    .hint(format!("set `sealed: {before}` again; another share needs a new experiment.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(range: std::ops::Range<u32>) -> Vec<String> {
        range.map(|at| format!("t{at:02}")).collect()
    }

    #[test]
    fn the_same_tasks_are_sealed_again_and_none_that_was_run() {
        let first = set_aside(0.2, ids(0..20), None, None, |_| false).unwrap();
        assert_eq!((first.sealed.len(), first.ids.len()), (4, 16));
        let split = TaskSplit { train: first.ids[..11].to_vec(), test: first.ids[11..].to_vec(), sealed: first.sealed };
        let again = set_aside(0.2, ids(0..20), None, Some(&split), |_| false).unwrap();
        assert_eq!(again.sealed, split.sealed);
        // The benchmark grows: only tasks that never ran are sealed.
        let more = set_aside(0.2, ids(0..40), None, Some(&split), |_| false).unwrap();
        assert_eq!(more.sealed.len(), 8);
        assert!(more.sealed.iter().all(|task| split.of(task).is_none()));
        // It shrinks to the tasks that ran.
        assert!(set_aside(0.2, split.train.clone(), None, Some(&split), |_| false).is_err());
        // Nothing is asked for.
        let none = set_aside(0.0, ids(0..20), None, Some(&split), |_| false).unwrap();
        assert_eq!((none.sealed.len(), none.ids.len()), (0, 20));
        assert!(set_aside(0.2, ids(0..4), None, None, |_| false).is_err());
    }

    #[test]
    fn what_is_sealed_stays_so_when_other_tasks_come_and_go() {
        let first = set_aside(0.2, ids(0..20), None, None, |_| false).unwrap();
        let open = |ids: &[String], sealed: &[String]| TaskSplit {
            train: ids[..8].to_vec(),
            test: ids[8..].to_vec(),
            sealed: sealed.to_vec(),
        };
        let split = open(&first.ids, &first.sealed);
        let gone = &first.ids[..6];
        let rest: Vec<String> = ids(0..20).into_iter().filter(|task| !gone.contains(task)).collect();
        let fewer = set_aside(0.2, rest, None, Some(&split), |_| false).unwrap();
        assert_eq!(fewer.sealed, first.sealed);
        // They come back, and were run before; as many tasks as would be sealed have never been.
        let split = open(&fewer.ids, &fewer.sealed);
        let back = set_aside(0.3, ids(0..22), None, Some(&split), |task| gone.contains(&task.to_string())).unwrap();
        assert_eq!(back.sealed, [&first.sealed[..], &ids(20..22)].concat());
    }

    #[test]
    fn of_a_split_that_is_given_the_hold_out_alone_is_sealed() {
        let given = TaskSplit { train: ids(0..10), test: ids(10..20), sealed: Vec::new() };
        let open = set_aside(0.3, ids(0..20), Some(given), None, |_| false).unwrap();
        let split = open.given.unwrap();
        assert_eq!((split.train.clone(), split.test.len(), split.sealed.len()), (ids(0..10), 7, 3));
        assert_eq!((open.ids.len(), &open.sealed), (17, &split.sealed));
        // Listed as a task to learn from afterwards, it stays sealed all the same.
        let given = TaskSplit { train: split.sealed[..1].to_vec(), test: split.test.clone(), sealed: Vec::new() };
        let listed = [&split.sealed[..1], &split.test[..]].concat();
        let again = set_aside(0.3, listed, Some(given), Some(&split), |_| false).unwrap();
        assert_eq!((again.sealed, again.given.unwrap().train), (split.sealed[..1].to_vec(), Vec::new()));
    }

    #[test]
    fn the_share_stays_as_it_was() {
        assert!(require_same(0.2, &serde_json::json!({"sealed": 0.2})).is_ok());
        assert!(require_same(0.0, &serde_json::json!({})).is_ok());
        assert!(require_same(0.2, &serde_json::json!({})).is_err());
        assert!(require_same(0.0, &serde_json::json!({"sealed": 0.2})).is_err());
    }
}

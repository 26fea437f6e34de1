//! Reads the files of BIRD-Interact's data set before anything is paid for. Changes nothing.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// How a file begins that git-lfs has not replaced with its content.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// What describes a database to an agent: the ends of three files' names.
const DESCRIPTIONS: [&str; 3] = ["_schema.txt", "_column_meaning_base.json", "_kb.jsonl"];

/// What provisioning needs to know about the tasks of a set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tasks {
    pub(super) count: usize,
    pub(super) databases: BTreeSet<String>,
    /// The tasks whose ground truth is not there, in the order of the file. The public file leaves all of it out, and such
    /// a task scores 0.0 in silence.
    pub(super) without_truth: Vec<String>,
}

/// Why there are no tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unread {
    /// There is no such file.
    Missing,
    /// It is a pointer file of git-lfs.
    Pointer,
    /// It cannot be used; says where and why.
    Broken(String),
}

/// Reads a set of tasks.
pub(super) fn read(path: &Path) -> Result<Tasks, Unread> {
    match fs_err::read(path) {
        Ok(bytes) => parse(&bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Unread::Missing),
        Err(error) => Err(Unread::Broken(error.to_string())),
    }
}

fn parse(bytes: &[u8]) -> Result<Tasks, Unread> {
    if bytes.starts_with(POINTER) {
        return Err(Unread::Pointer);
    }
    let mut tasks = Tasks::default();
    let mut ids = BTreeSet::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let broken = |what: String| Unread::Broken(format!("line {}: {what}", index + 1));
        let task: Value = serde_json::from_slice(line).map_err(|error| broken(error.to_string()))?;
        let text = |key: &str| task[key].as_str().filter(|text| is_name(text)).map(str::to_string);
        let id = text("instance_id").ok_or_else(|| broken("it has no usable instance_id".into()))?;
        let database =
            text("selected_database").ok_or_else(|| broken(format!("task {id} names no usable selected_database")))?;
        if !ids.insert(id.clone()) {
            return Err(broken(format!("task {id} stands there a second time")));
        }
        if lacks_truth(&task) {
            tasks.without_truth.push(id);
        }
        tasks.databases.insert(database);
        tasks.count += 1;
    }
    if tasks.count == 0 { Err(Unread::Broken("it holds no tasks".into())) } else { Ok(tasks) }
}

/// Ids and databases end up in addresses, file names and names of databases.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn lacks_truth(task: &Value) -> bool {
    let follow_up = &task["follow_up"];
    let follows = follow_up["query"].as_str().is_some_and(|query| !query.is_empty());
    half_lacks_truth(task) || (follows && half_lacks_truth(follow_up))
}

/// A query needs its solution, a change of the database its tests too. A solution is one statement or a list.
fn half_lacks_truth(half: &Value) -> bool {
    let is_statement = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
    let solution = &half["sol_sql"];
    let solved = is_statement(solution) || solution.as_array().is_some_and(|list| list.iter().any(is_statement));
    let tested =
        half["test_cases"].as_array().is_some_and(|tests| !tests.is_empty()) || is_statement(&half["test_cases"]);
    !solved || (half["category"].as_str().unwrap_or("Query") != "Query" && !tested)
}

/// The files that describe the databases to the agent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Described {
    /// Those that are nowhere, as `<database>/<file>`.
    pub(super) absent: Vec<String>,
    /// Those that are pointer files of git-lfs.
    pub(super) pointers: Vec<PathBuf>,
}

/// Looks for the descriptions of `databases` in the first of these directories that knows a database at all.
pub(super) fn described(databases: &BTreeSet<String>, directories: &[PathBuf]) -> Described {
    let mut found = Described::default();
    for database in databases {
        let folder = directories.iter().map(|directory| directory.join(database)).find(|folder| folder.is_dir());
        for ending in DESCRIPTIONS {
            let name = format!("{database}{ending}");
            match folder.as_ref().map(|folder| folder.join(&name)).filter(|path| path.is_file()) {
                None => found.absent.push(format!("{database}/{name}")),
                Some(path) if is_pointer(&path) => found.pointers.push(path),
                Some(_) => {}
            }
        }
    }
    found
}

fn is_pointer(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = fs_err::File::open(path).and_then(|file| file.take(POINTER.len() as u64).read_to_end(&mut start));
    read.is_ok() && start == POINTER
}

/// A few of many names: `a, b, c and 15 more`.
pub(super) fn few<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(SHOWN);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn without(tasks: &[Value]) -> Vec<String> {
        let text: String = tasks.iter().map(|task| format!("{task}\n")).collect();
        parse(text.as_bytes()).unwrap().without_truth
    }

    #[test]
    fn every_task_needs_the_truth_of_both_its_halves() {
        let task = |id: &str, more: Value| {
            let mut task = json!({"instance_id": id, "selected_database": "alien", "sol_sql": ["SELECT 1"]});
            task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            task
        };
        let fine = [
            task("a_1", json!({})),
            task("a_2", json!({"sol_sql": "SELECT 1", "follow_up": null})),
            task("a_M_1", json!({"category": "Management", "test_cases": ["def test_case(): pass"]})),
            task("a_3", json!({"follow_up": {"query": "and?", "sol_sql": "SELECT 2"}})),
            task("a_4", json!({"follow_up": {"query": "", "sol_sql": []}})),
        ];
        assert_eq!(without(&fine), [] as [&str; 0]);
        let lacking = [
            task("b_1", json!({"sol_sql": []})),
            task("b_2", json!({"sol_sql": [" "]})),
            task("b_M_1", json!({"category": "Management", "test_cases": []})),
            task("b_3", json!({"follow_up": {"query": "and?", "sol_sql": []}})),
            task("b_4", json!({"follow_up": {"query": "and?", "sol_sql": "x", "category": "Management"}})),
        ];
        assert_eq!(without(&lacking), ["b_1", "b_2", "b_M_1", "b_3", "b_4"]);
        // One merged task does not speak for the others.
        assert_eq!(without(&[fine[0].clone(), lacking[0].clone()]), ["b_1"]);
    }

    #[test]
    fn what_makes_no_sense_is_named_by_its_line() {
        let broken = |text: &str| match parse(text.as_bytes()) {
            Err(Unread::Broken(what)) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(broken("\n\n"), "it holds no tasks");
        assert!(broken("\n{\"a\": 1").starts_with("line 2: EOF"));
        assert_eq!(broken("{\"instance_id\": \"a'b\"}"), "line 1: it has no usable instance_id");
        assert_eq!(broken("{\"instance_id\": \"a\"}"), "line 1: task a names no usable selected_database");
        let twice = "{\"instance_id\": \"a\", \"selected_database\": \"b\"}\n".repeat(2);
        assert_eq!(broken(&twice), "line 2: task a stands there a second time");
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 719177\n";
        assert_eq!(parse(pointer.as_bytes()), Err(Unread::Pointer));
    }

    #[test]
    fn many_names_are_cut_short() {
        assert_eq!(few(&["a", "b"]), "a, b");
        assert_eq!(few(&["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more");
    }
}

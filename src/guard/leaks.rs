//! The leak scan: what an edit took from the train split's tasks instead of learning from them, and settings that are no
//! improvement of the agent. It reads added lines only: the edit is not to blame for older ones.
//!
//! It finds patterns and proves nothing: a finding is a reason to look, or, with `leak_scan: fail`, to stop for free.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::editable_files::{EditableFile, EditableFiles};
use super::files::show_path;
use crate::error::{Context as _, Result};
use crate::model::trial::show;

/// This many words in a row are no coincidence.
const RUN: usize = 8;

/// An expected answer shorter than this may stand in any program.
const SHORTEST_ANSWER: usize = 4;

/// A piece of a task's text in quotes that is shorter than this may stand in any program.
const SHORTEST_PIECE: usize = 12;

/// Words that this many tasks share are the benchmark's, not one task's.
const SHARED: usize = 3;

/// Fields of a trace or a breakdown that hold what a task asks.
const ASKED: [&str; 6] = ["instruction", "question", "query", "problem", "amb_user_query", "task_description"];

/// Fields that hold what is expected.
const EXPECTED: [&str; 7] =
    ["expected", "expected_answer", "gold", "gold_sql", "sol_sql", "reference_answer", "solution"];

/// No trace holds a task's text deeper than this.
const DEEPEST: usize = 8;

/// A train task, as the coding agent can read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TaskText {
    pub id: String,
    pub asked: Vec<String>,
    pub expected: Vec<String>,
}

impl TaskText {
    /// Adds what a trace or a breakdown reveals about the task: what the user says, and what was expected.
    pub(crate) fn read(&mut self, document: &Value) {
        self.walk(document, DEEPEST);
    }

    fn walk(&mut self, value: &Value, depth: usize) {
        if depth == 0 {
            return;
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item, depth - 1)),
            Value::Object(fields) => {
                if fields.get("role").and_then(Value::as_str) == Some("user") {
                    match fields.get("content") {
                        Some(Value::String(said)) => self.asked.push(said.clone()),
                        Some(Value::Array(parts)) => {
                            let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
                            self.asked.extend(texts.map(str::to_string));
                        }
                        _ => {}
                    }
                }
                for (name, inner) in fields {
                    match inner.as_str() {
                        Some(text) if ASKED.contains(&name.as_str()) => self.asked.push(text.into()),
                        Some(text) if EXPECTED.contains(&name.as_str()) => self.expected.push(text.into()),
                        Some(_) => {}
                        None => self.walk(inner, depth - 1),
                    }
                }
            }
            _ => {}
        }
    }
}

/// A line that an edit adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddedLine {
    /// The file, as people read it.
    pub file: String,
    /// Its number there, from 1.
    pub number: u32,
    pub text: String,
}

/// The lines that are in `now` and not in `before`.
/// Errors: infrastructure when libgit2 cannot compare two files.
pub(crate) fn added(before: &EditableFiles, now: &EditableFiles) -> Result<Vec<AddedLine>> {
    let mut lines = Vec::new();
    for (path, file) in now {
        let old = before.get(path).map_or(&[][..], |file: &EditableFile| file.bytes.as_slice());
        if old == file.bytes {
            continue;
        }
        let name = show_path(path);
        let failed = || format!("cannot compare {name} with the base commit's");
        let mut options = git2::DiffOptions::new();
        options.context_lines(0).force_text(true);
        let patch = git2::Patch::from_buffers(old, None, &file.bytes, None, Some(&mut options)).infra(failed)?;
        for hunk in 0..patch.num_hunks() {
            for line in 0..patch.num_lines_in_hunk(hunk).infra(failed)? {
                let line = patch.line_in_hunk(hunk, line).infra(failed)?;
                if let (Some(number), '+') = (line.new_lineno(), line.origin()) {
                    let text = String::from_utf8_lossy(line.content()).trim_end().to_string();
                    lines.push(AddedLine { file: name.clone(), number, text });
                }
            }
        }
    }
    Ok(lines)
}

/// What the added lines contain and should not, one line each, in their order. `before` is the text of the editable files as
/// they were: what it holds already is not the edit's. `models` are the models that the experiment is configured with.
pub(crate) fn scan(
    added: &[AddedLine],
    sought: &Sought,
    before: &str,
    tasks: &[TaskText],
    models: &[&str],
) -> Vec<String> {
    let known = KnownTexts::new(before, tasks, sought);
    let copied = known.runs(added);
    let mut findings = Vec::new();
    for (index, line) in added.iter().enumerate() {
        let found = known
            .named(&line.text)
            .map(|task| format!("names train task {}", show(task)))
            .or_else(|| {
                known.answer(&line.text).map(|task| format!("holds the expected answer of train task {}", show(task)))
            })
            .or_else(|| {
                copied.get(&index).map(|task| format!("repeats {RUN} words or more of train task {}", show(task)))
            })
            .or_else(|| known.piece(&line.text).map(|task| format!("quotes train task {}", show(task))))
            .or_else(|| setting(&line.text, models));
        findings.extend(found.map(|found| format!("{}:{}: {found}", line.file, line.number)));
    }
    findings
}

/// What the added lines hold: of ten thousand tasks, only what is among it has to be remembered.
pub(crate) struct Sought {
    runs: HashSet<Vec<String>>,
    quoted: HashSet<String>,
}

impl Sought {
    pub(crate) fn new(added: &[AddedLine]) -> Sought {
        let runs = blocks(added).flat_map(|(_, block)| {
            let text: Vec<String> = block.iter().flat_map(|line| words(&line.text)).collect();
            text.windows(RUN).map(<[String]>::to_vec).collect::<Vec<_>>()
        });
        let quoted = added.iter().flat_map(|line| literals(&line.text)).map(|literal| plain(&literal));
        Sought { runs: runs.collect(), quoted: quoted.collect() }
    }

    /// Whether there is anything that tasks' texts are needed for. Ids are known without them.
    pub(crate) fn needs_texts(&self) -> bool {
        !self.runs.is_empty() || !self.quoted.is_empty()
    }
}

/// Consecutive lines, which are one text, each with the index of its first.
fn blocks(added: &[AddedLine]) -> impl Iterator<Item = (usize, &[AddedLine])> {
    let follows = |one: &AddedLine, next: &AddedLine| one.file == next.file && one.number + 1 == next.number;
    added.chunk_by(follows).scan(0, |start, block| {
        let first = *start;
        *start += block.len();
        Some((first, block))
    })
}

/// What is known of the train tasks, ready to be looked for.
struct KnownTexts<'t> {
    before: String,
    ids: HashSet<&'t str>,
    /// Runs of words, and the task that alone (or nearly) has them.
    runs: HashMap<Vec<String>, &'t str>,
    answers: HashMap<String, &'t str>,
    tasks: &'t [TaskText],
    asked: Vec<String>,
}

impl<'t> KnownTexts<'t> {
    fn new(before: &str, tasks: &'t [TaskText], sought: &Sought) -> KnownTexts<'t> {
        let before = plain(before);
        let earlier: BTreeSet<Vec<String>> = words(&before).windows(RUN).map(<[String]>::to_vec).collect();
        let mut owners = HashMap::<Vec<String>, BTreeSet<&str>>::new();
        let mut answers = HashMap::<String, BTreeSet<&str>>::new();
        for task in tasks {
            let texts = task.asked.iter().chain(&task.expected).filter(|_| !sought.runs.is_empty());
            let known = |run: &&[String]| sought.runs.contains(*run) && !earlier.contains(*run);
            for text in texts {
                for run in words(text).windows(RUN).filter(known) {
                    owners.entry(run.to_vec()).or_default().insert(&task.id);
                }
            }
            for text in task.expected.iter().map(|text| plain(text)) {
                let long = text.chars().count() >= SHORTEST_ANSWER;
                if long && sought.quoted.contains(&text) && !before.contains(&text) {
                    answers.entry(text).or_default().insert(&task.id);
                }
            }
        }
        KnownTexts {
            ids: tasks.iter().map(|task| task.id.as_str()).collect(),
            runs: rare(owners),
            answers: rare(answers),
            asked: tasks
                .iter()
                .map(|task| task.asked.iter().map(|text| plain(text)).collect::<Vec<_>>().join("\n"))
                .collect(),
            tasks,
            before,
        }
    }

    /// The task whose id the line holds. An id that could be any number or word counts only if the line mentions tasks.
    fn named(&self, line: &str) -> Option<&'t str> {
        let of_tasks = line.to_lowercase().contains("task");
        let quoted = literals(line);
        let whole = quoted.iter().find_map(|literal| {
            let id = *self.ids.get(literal.as_str())?;
            (of_tasks || is_telling(id)).then_some(id)
        });
        whole.or_else(|| {
            tokens(line).find_map(|token| {
                let id = *self.ids.get(token)?;
                is_telling(id).then_some(id)
            })
        })
    }

    /// The task that expects what the line has in quotes.
    fn answer(&self, line: &str) -> Option<&'t str> {
        literals(line).iter().find_map(|literal| self.answers.get(&plain(literal)).copied())
    }

    /// The task whose text the line has a piece of in quotes.
    fn piece(&self, line: &str) -> Option<&'t str> {
        literals(line).iter().map(|literal| plain(literal)).find_map(|literal| {
            let long = literal.chars().count() >= SHORTEST_PIECE && literal.contains(' ');
            if !long || self.before.contains(&literal) {
                return None;
            }
            let mut owners = (0..self.tasks.len()).filter(|index| self.asked[*index].contains(&literal));
            let first = owners.next()?;
            (owners.take(SHARED - 1).count() < SHARED - 1).then(|| self.tasks[first].id.as_str())
        })
    }

    /// Added lines, by index, in which a run of a task's words begins.
    fn runs(&self, added: &[AddedLine]) -> BTreeMap<usize, &'t str> {
        let mut found = BTreeMap::new();
        for (start, block) in blocks(added) {
            let (mut text, mut places) = (Vec::new(), Vec::new());
            for (index, line) in (start..).zip(block) {
                text.extend(words(&line.text));
                places.resize(text.len(), index);
            }
            for (run, place) in text.windows(RUN).zip(places) {
                if let Some(task) = self.runs.get(run) {
                    found.entry(place).or_insert(*task);
                }
            }
        }
        found
    }
}

/// What few tasks have, with the first of them.
fn rare<K: std::hash::Hash + Eq>(owners: HashMap<K, BTreeSet<&str>>) -> HashMap<K, &str> {
    let few = owners.into_iter().filter(|(_, tasks)| tasks.len() < SHARED);
    few.filter_map(|(key, tasks)| Some((key, tasks.first().copied()?))).collect()
}

/// Whether an id can hardly stand in a program for another reason: long enough, and no plain word or number.
fn is_telling(id: &str) -> bool {
    let letters = id.chars().any(char::is_alphabetic);
    let others = id.chars().any(|c| !c.is_alphabetic());
    id.chars().count() >= 6 && letters && others
}

/// A setting that makes another experiment rather than a better agent.
fn setting(line: &str, models: &[&str]) -> Option<String> {
    let lower = line.to_lowercase();
    let quoted = literals(&lower);
    let configured = models.iter().find(|model| quoted.iter().any(|literal| literal == &model.to_lowercase()));
    if let Some(model) = configured {
        return Some(format!("names the model {}", show(model)));
    }
    if let Some(model) = quoted.iter().find(|literal| is_model(literal)) {
        return Some(format!("names the model {}", show(model)));
    }
    let assigns = |name: &str| {
        lower.match_indices(name).any(|(at, _)| {
            let begins = !lower[..at].ends_with(|c: char| c.is_alphanumeric());
            let rest = lower[at + name.len()..].trim_start_matches(['"', '\'', ']']).trim_start();
            begins && (rest.starts_with('=') && !rest.starts_with("==") || rest.starts_with(':'))
        })
    };
    if ["reasoning_effort", "thinking_budget", "budget_tokens"].iter().any(|name| assigns(name)) {
        return Some("sets a reasoning effort".into());
    }
    (assigns("seed") || lower.contains("random.seed(")).then(|| "sets a seed".into())
}

/// Whether a string in quotes is a model's name as providers write it.
fn is_model(literal: &str) -> bool {
    let name = literal.rsplit('/').next().unwrap_or(literal);
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c));
    let family = ["gpt-", "claude-", "gemini-", "llama-", "mistral-", "deepseek-", "qwen", "grok-", "kimi-", "glm-"];
    let numbered = ["o1", "o3", "o4"].iter().any(|start| *start == name || name.starts_with(&format!("{start}-")));
    plain
        && (numbered || family.iter().any(|start| name.starts_with(start)) && name.chars().any(|c| c.is_ascii_digit()))
}

/// Words in lower case, without what stands between them.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// A text in lower case with single spaces.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// What could be ids: runs of everything but spaces, quotes and what code has around a value.
fn tokens(line: &str) -> impl Iterator<Item = &str> {
    let parts = line.split(|c: char| c.is_whitespace() || "\"'`()[]{},;=".contains(c));
    parts.map(|part| part.trim_matches([':', '.', '!', '?'])).filter(|token| !token.is_empty())
}

/// The strings in quotes of a line. Escaped quotes stay part of them.
fn literals(line: &str) -> Vec<String> {
    let (mut found, mut open, mut text, mut escaped) = (Vec::new(), None, String::new(), false);
    for c in line.chars() {
        match open {
            None if c == '"' || c == '\'' => open = Some(c),
            None => {}
            Some(_) if escaped => {
                text.push(c);
                escaped = false;
            }
            Some(_) if c == '\\' => escaped = true,
            Some(quote) if c == quote => {
                found.push(std::mem::take(&mut text));
                open = None;
            }
            Some(_) => text.push(c),
        }
    }
    found.retain(|literal| !literal.is_empty());
    found
}

#[cfg(test)]
mod tests;

//! The ledger as tables, for pandas, DuckDB and notebooks.
//!
//! Hold-out tasks appear under aliases. An alias comes from the ledger, which is out of bounds for the coding agent, so it
//! cannot be computed from a name. Its rows show neither time nor order, because trials run in the order of their tasks, and
//! the neighbours of a missing name would reveal it.

mod column;
mod parquet;
mod table;

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

pub(crate) use column::{CellKind, Column};
pub(crate) use table::{Form, Table};

use super::history::{AgentVersion, History, chosen_at};
use crate::error::Result;
use crate::model::hash::hash;
use crate::model::trial::{Outcome, Split};
use crate::model::usage::Usage;
use crate::store::event::{Event, Purpose, Verdict};
use crate::store::ledger::Entry;
use table::TableWriter;

pub(crate) const TRIALS: [Column; 16] = [
    ("seq", CellKind::Count),
    ("at", CellKind::Time),
    ("run", CellKind::Text),
    ("purpose", CellKind::Text),
    ("agent", CellKind::Text),
    ("protocol", CellKind::Text),
    ("split", CellKind::Text),
    ("task", CellKind::Text),
    ("trial", CellKind::Count),
    ("outcome", CellKind::Text),
    ("reward", CellKind::Number),
    ("seconds", CellKind::Number),
    ("tokens_in", CellKind::Count),
    ("tokens_out", CellKind::Count),
    ("cost_usd", CellKind::Number),
    ("error", CellKind::Text),
];
/// The names of the tables, in the order in which they are written.
pub(crate) const TABLES: [&str; 3] = ["trials", "verdicts", "iterations"];
pub(crate) const VERDICTS: [Column; 16] = [
    ("seq", CellKind::Count),
    ("at", CellKind::Time),
    ("agent", CellKind::Text),
    ("status", CellKind::Text),
    ("val_score", CellKind::Number),
    ("evals_passed", CellKind::Count),
    ("evals_total", CellKind::Count),
    ("chosen_at", CellKind::Number),
    ("best", CellKind::Number),
    ("rule", CellKind::Text),
    ("base", CellKind::Text),
    ("base_ref", CellKind::Text),
    ("suite_tasks", CellKind::Count),
    ("promoted", CellKind::Count),
    ("steps", CellKind::Text),
    ("protocol", CellKind::Text),
];
pub(crate) const ITERATIONS: [Column; 8] = [
    ("iteration", CellKind::Count),
    ("val_score", CellKind::Number),
    ("commit", CellKind::Text),
    ("evals_passed", CellKind::Count),
    ("evals_total", CellKind::Count),
    ("timestamp", CellKind::Time),
    ("agent", CellKind::Text),
    ("rules_changed", CellKind::Flag),
];

/// Collects rows while the ledger is read: only its end shows what may be disclosed.
#[derive(Default)]
pub(crate) struct Gathered {
    salt: String,
    trials: Vec<LedgerTrial>,
    verdicts: Vec<[Value; VERDICTS.len()]>,
    /// Texts that many trials share.
    texts: HashSet<Rc<str>>,
}

/// A trial as the ledger has it.
struct LedgerTrial {
    seq: u64,
    at: DateTime<Utc>,
    run: Rc<str>,
    purpose: Purpose,
    agent: Rc<str>,
    protocol: Rc<str>,
    split: Option<Split>,
    task: Rc<str>,
    trial: u32,
    outcome: Outcome,
    reward: Option<f64>,
    usage: Usage,
    error: Option<Box<str>>,
}

impl Gathered {
    /// Takes in a line of the ledger.
    pub(crate) fn take(&mut self, entry: &Entry<'_>) {
        // The second line's link is the digest of the first: of this ledger alone.
        if entry.seq == 1 {
            self.salt = entry.prev.to_string();
        }
        match &entry.event {
            Event::Trial(trial) => {
                let kept = LedgerTrial {
                    seq: entry.seq,
                    at: entry.at,
                    run: self.text(&trial.run),
                    purpose: trial.purpose,
                    agent: self.text(&trial.agent),
                    protocol: self.text(&trial.protocol),
                    split: trial.split,
                    task: self.text(&trial.task),
                    trial: trial.trial,
                    outcome: trial.outcome,
                    reward: trial.reward,
                    usage: trial.usage,
                    error: trial.error.as_deref().map(Box::from),
                };
                self.trials.push(kept);
            }
            Event::Verdict(verdict) => self.verdicts.push(judged(verdict, entry.seq, entry.at)),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) -> Rc<str> {
        if let Some(known) = self.texts.get(text) {
            return Rc::clone(known);
        }
        let text = Rc::from(text);
        self.texts.insert(Rc::clone(&text));
        text
    }

    /// The three tables. With `reveal` hold-out tasks appear under their names. Errors: when a table cannot be written.
    pub(crate) fn tables(self, history: &History, form: Form, reveal: bool) -> Result<Vec<Table>> {
        let secret = Secrecy::of(history, reveal);
        let mut trials = TableWriter::new(TABLES[0], &TRIALS, form)?;
        let mut held = Vec::new();
        for trial in &self.trials {
            if !secret.hides(trial) {
                trials.row(trial.row(secret.is_train(trial)))?;
            } else if secret.tells_of(history, trial) {
                let order = format!("{}\n{}", trial.agent, trial.trial);
                held.push((order, alias(&self.salt, &trial.task), trial));
            }
        }
        held.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
        for (_, alias, trial) in held {
            trials.row(trial.hidden_row(&alias))?;
        }
        let mut verdicts = TableWriter::new(TABLES[1], &VERDICTS, form)?;
        self.verdicts.into_iter().try_for_each(|row| verdicts.row(row))?;
        let mut rows = TableWriter::new(TABLES[2], &ITERATIONS, form)?;
        iterations(history).try_for_each(|row| rows.row(row))?;
        [trials, verdicts, rows].into_iter().map(TableWriter::finish).collect()
    }
}

/// What may not be disclosed.
struct Secrecy {
    train: BTreeSet<String>,
    test: BTreeSet<String>,
    sealed: BTreeSet<String>,
    reveal: bool,
}

impl Secrecy {
    fn of(history: &History, reveal: bool) -> Secrecy {
        let split = history.summary().prepared.as_ref().map(|prepared| prepared.split.clone()).unwrap_or_default();
        let [train, test, sealed] = [split.train, split.test, split.sealed].map(|tasks| tasks.into_iter().collect());
        Secrecy { train, test, sealed, reveal }
    }

    /// A baseline runs before the split is drawn, so the split decides. For a task that left the split, its trial decides.
    fn is_train(&self, trial: &LedgerTrial) -> bool {
        let known = self.train.contains(&*trial.task)
            || (!self.test.contains(&*trial.task) && trial.split == Some(Split::Train));
        known && trial.split != Some(Split::Test)
    }

    fn hides(&self, trial: &LedgerTrial) -> bool {
        // We promised that nothing names a sealed task.
        self.sealed.contains(&*trial.task) || (!self.reveal && !self.is_train(trial))
    }

    /// Whether a hidden trial has a row at all. The rounds of a comparison run tasks on which both agents differ, so those
    /// tasks reveal something about the other agent, too.
    fn tells_of(&self, history: &History, trial: &LedgerTrial) -> bool {
        trial.purpose != Purpose::Round && history.is_told(&trial.agent)
    }
}

/// A name for a task that does not reveal which it is.
fn alias(salt: &str, task: &str) -> String {
    format!("held-out-{}", &hash(format!("{salt}\n{task}").as_bytes())[..10])
}

impl LedgerTrial {
    fn row(&self, with_error: bool) -> [Value; TRIALS.len()] {
        let error = self.error.as_deref().filter(|_| with_error);
        self.values(json!(self.seq), json!(time(self.at)), json!(*self.run), json!(self.split), &self.task, error)
    }

    /// The values of a hold-out task leave out the run, because its name contains a time, too.
    fn hidden_row(&self, alias: &str) -> [Value; TRIALS.len()] {
        self.values(Value::Null, Value::Null, Value::Null, json!(Split::Test), alias, None)
    }

    fn values(
        &self,
        seq: Value,
        at: Value,
        run: Value,
        split: Value,
        task: &str,
        error: Option<&str>,
    ) -> [Value; TRIALS.len()] {
        [
            seq,
            at,
            run,
            json!(self.purpose),
            json!(*self.agent),
            json!(*self.protocol),
            split,
            json!(task),
            json!(self.trial),
            json!(self.outcome),
            json!(self.reward),
            json!(self.usage.seconds),
            json!(self.usage.tokens_in),
            json!(self.usage.tokens_out),
            json!(self.usage.cost_usd),
            json!(error),
        ]
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn judged(verdict: &Verdict, seq: u64, at: DateTime<Utc>) -> [Value; VERDICTS.len()] {
    let (evidence, decision) = (&verdict.evidence, verdict.told());
    let steps: Map<String, Value> = decision.steps.iter().map(|step| (step.name.clone(), json!(step.status))).collect();
    [
        json!(seq),
        json!(time(at)),
        json!(verdict.agent),
        json!(decision.status),
        json!(decision.val_score),
        json!(decision.evals_passed),
        json!(decision.evals_total),
        json!(chosen_at(verdict)),
        json!(evidence.best.as_ref().map(|best| best.val_score)),
        json!(if evidence.policy.paired.is_some() { "paired" } else { "best" }),
        json!(verdict.base),
        json!(verdict.base_ref),
        json!(evidence.suite.0.len()),
        json!(decision.promoted.len()),
        json!(Value::Object(steps).to_string()),
        json!(verdict.protocol),
    ]
}

fn iterations(history: &History) -> impl Iterator<Item = [Value; ITERATIONS.len()]> {
    let summary = history.summary();
    let agent = |iteration: u32| {
        let of = |version: &&AgentVersion| version.recorded.as_ref().is_some_and(|it| it.iteration == iteration);
        history.versions.iter().find(of).map(|version| version.agent.as_str())
    };
    summary.rows.iter().enumerate().map(move |(place, row)| {
        let agent = if row.iteration == 0 { summary.first_agent.as_deref() } else { agent(row.iteration) };
        [
            json!(row.iteration),
            json!(row.val_score),
            json!(row.commit),
            json!(row.evals_passed),
            json!(row.evals_total),
            json!(row.timestamp),
            json!(agent),
            json!(summary.protocol_changes.contains(&place)),
        ]
    })
}

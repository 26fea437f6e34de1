//! The ledger as tables, for pandas, DuckDB and notebooks.
//!
//! A task of the hold-out stands there under an alias. The alias comes from the ledger, which the coding agent has no
//! business in, so that nobody can make it from a name; and its rows say neither when they were made nor in which order, for
//! trials run in the order of their tasks, and the neighbours of a missing name would tell it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::history::History;
use crate::error::{Context as _, Result};
use crate::model::hash::hash;
use crate::model::trial::Split;
use crate::store::event::{Event, Purpose, Trial, Verdict};
use crate::store::ledger::{self, Tip};

/// Columns of `trials`.
pub const TRIALS: [&str; 16] = [
    "seq",
    "at",
    "run",
    "purpose",
    "agent",
    "protocol",
    "split",
    "task",
    "trial",
    "outcome",
    "reward",
    "seconds",
    "tokens_in",
    "tokens_out",
    "cost_usd",
    "error",
];
/// Columns of `verdicts`.
pub const VERDICTS: [&str; 16] = [
    "seq",
    "at",
    "agent",
    "status",
    "val_score",
    "evals_passed",
    "evals_total",
    "chosen_at",
    "best",
    "rule",
    "base",
    "base_ref",
    "suite_tasks",
    "promoted",
    "steps",
    "protocol",
];
/// Columns of `iterations`.
pub const ITERATIONS: [&str; 8] =
    ["iteration", "val_score", "commit", "evals_passed", "evals_total", "timestamp", "agent", "rules_changed"];

/// How tables are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Comma-separated values with a header
    Csv,
    /// One JSON object per line
    Jsonl,
}

impl Form {
    /// How such files end.
    pub fn extension(self) -> &'static str {
        match self {
            Form::Csv => "csv",
            Form::Jsonl => "jsonl",
        }
    }
}

/// A table: its name, its content, its rows.
pub struct Table {
    /// The file's name without its end.
    pub name: &'static str,
    /// The bytes.
    pub content: Vec<u8>,
    /// How many rows it has.
    pub rows: usize,
}

/// The three tables. With `reveal` tasks of the hold-out stand under their names.
///
/// # Errors
/// As reading the ledger.
pub fn tables(history: &History, ledger: &Path, form: Form, reveal: bool) -> Result<Vec<Table>> {
    let mut salt = String::new();
    let (mut trials, mut verdicts) = (Vec::new(), Vec::new());
    let mut held: Vec<(String, Value)> = Vec::new();
    let secret = Secrecy::of(history, reveal);
    ledger::read(ledger, &Tip::genesis(), |entry| {
        let at = entry.at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        // The second line's link is the digest of the first: of this ledger alone.
        if entry.seq == 1 {
            salt = entry.prev.to_string();
        }
        match &entry.event {
            Event::Trial(trial) if !secret.hides(trial) => {
                trials.push(row(trial, &trial.task, json!(entry.seq), json!(at), secret.is_train(trial)))
            }
            Event::Trial(trial) if secret.tells_of(history, trial) => {
                let name = format!("{}\n{}", trial.agent, trial.trial);
                held.push((name, row(trial, &trial.task, Value::Null, Value::Null, false)));
            }
            Event::Verdict(verdict) => verdicts.push(judged(verdict, entry.seq, &at)),
            _ => {}
        }
        Ok(())
    })?;
    let mut rows: Vec<(String, String, Value)> = held
        .into_iter()
        .map(|(order, mut row)| {
            let alias = alias(&salt, row["task"].as_str().unwrap_or_default());
            row["task"] = json!(alias);
            (order, alias, row)
        })
        .collect();
    rows.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
    trials.extend(rows.into_iter().map(|(_, _, row)| row));
    Ok(vec![
        table("trials", &TRIALS, &trials, form)?,
        table("verdicts", &VERDICTS, &verdicts, form)?,
        table("iterations", &ITERATIONS, &iterations(history), form)?,
    ])
}

/// What may not be told of.
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

    /// A baseline is run before the split is drawn: then the split says it. Of a task that left the split its trial does.
    fn is_train(&self, trial: &Trial<'_>) -> bool {
        let known = self.train.contains(&*trial.task)
            || (!self.test.contains(&*trial.task) && trial.split == Some(Split::Train));
        known && trial.split != Some(Split::Test)
    }

    fn hides(&self, trial: &Trial<'_>) -> bool {
        // What is sealed was promised to be named by nothing.
        self.sealed.contains(&*trial.task) || (!self.reveal && !self.is_train(trial))
    }

    /// Of a hidden trial whether its row is there at all. In the rounds of a comparison tasks are run that both agents differ
    /// on: which those are tells of the other agent, too.
    fn tells_of(&self, history: &History, trial: &Trial<'_>) -> bool {
        trial.purpose != Purpose::Round && history.is_told(&trial.agent)
    }
}

/// A name for a task that does not tell which it is.
fn alias(salt: &str, task: &str) -> String {
    format!("held-out-{}", &hash(format!("{salt}\n{task}").as_bytes())[..10])
}

fn row(trial: &Trial<'_>, task: &str, seq: Value, at: Value, with_error: bool) -> Value {
    let is_held = seq.is_null();
    // A run's name has its time in it.
    let run = if is_held { Value::Null } else { json!(trial.run) };
    let error = if with_error { trial.error.as_ref().map(Cow::as_ref) } else { None };
    json!({"seq": seq, "at": at, "run": run, "purpose": trial.purpose, "agent": trial.agent, "protocol": trial.protocol,
        "split": if is_held { Some(Split::Test) } else { trial.split }, "task": task, "trial": trial.trial, "outcome": trial.outcome,
        "reward": trial.reward, "seconds": trial.seconds, "tokens_in": trial.tokens_in, "tokens_out": trial.tokens_out,
        "cost_usd": trial.cost_usd, "error": error})
}

fn judged(verdict: &Verdict, seq: u64, at: &str) -> Value {
    let (evidence, decision) = (&verdict.evidence, verdict.told());
    let steps: Map<String, Value> = decision.steps.iter().map(|step| (step.name.clone(), json!(step.status))).collect();
    let told = super::history::chosen_at(verdict);
    json!({"seq": seq, "at": at, "agent": verdict.agent, "status": decision.status, "val_score": decision.val_score,
        "evals_passed": decision.evals_passed, "evals_total": decision.evals_total, "chosen_at": told,
        "best": evidence.best.as_ref().map(|best| best.val_score), "rule": if evidence.policy.paired.is_some() { "paired" } else { "best" },
        "base": verdict.base, "base_ref": verdict.base_ref, "suite_tasks": evidence.suite.0.len(), "promoted": decision.promoted.len(),
        "steps": Value::Object(steps).to_string(), "protocol": verdict.protocol})
}

fn iterations(history: &History) -> Vec<Value> {
    let summary = history.summary();
    let agent = |iteration: u32| {
        let of =
            |version: &&super::history::Version| version.recorded.as_ref().is_some_and(|it| it.iteration == iteration);
        history.versions.iter().find(of).map(|version| version.agent.as_str())
    };
    let rows = summary.rows.iter().enumerate().map(|(place, row)| {
        let agent = if row.iteration == 0 { summary.first_agent.as_deref() } else { agent(row.iteration) };
        json!({"iteration": row.iteration, "val_score": row.val_score, "commit": row.commit, "evals_passed": row.evals_passed,
            "evals_total": row.evals_total, "timestamp": row.timestamp, "agent": agent,
            "rules_changed": summary.protocol_changes.contains(&place)})
    });
    rows.collect()
}

fn table(name: &'static str, columns: &[&str], rows: &[Value], form: Form) -> Result<Table> {
    let failed = || format!("cannot write the table {name}");
    let content = match form {
        Form::Csv => {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(columns).infra(failed)?;
            for row in rows {
                let cell = |column: &&str| match &row[*column] {
                    Value::Null => String::new(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                writer.write_record(columns.iter().map(cell)).infra(failed)?;
            }
            writer.into_inner().map_err(|error| error.into_error()).infra(failed)?
        }
        Form::Jsonl => rows.iter().flat_map(|row| format!("{row}\n").into_bytes()).collect(),
    };
    Ok(Table { name, content, rows: rows.len() })
}

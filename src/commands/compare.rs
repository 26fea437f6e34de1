//! `compare`: two agents from the ledger's trials, task by task on train, as a sum on the hold-out.

use serde_json::json;

use super::experiment::Experiment;
use super::missing::not_prepared;
use crate::cli::{Compare, Global};
use crate::error::{Code, EXIT_OK, Error, Result};
use crate::guard::agent_files::read_editable_from_tree;
use crate::guard::{Editable, agent_fingerprint};
use crate::model::score::Scoring;
use crate::report::flips::{Counting, Flips};
use crate::report::history::History;
use crate::report::text::one_line;
use crate::store::event::Prepared;
use crate::ui::Ui;

/// Tasks named before the rest is only counted.
const SHOWN: usize = 25;

/// An agent that was asked for.
struct AskedAgent {
    name: String,
    fingerprint: String,
    /// Whether its hold-out score may be shown: the rule `paired` shows no number of an edit that it did not accept.
    is_told: bool,
}

/// Errors: usage for an unknown name, and where the ledger lacks trials of both.
pub(super) fn run(args: &Compare, global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let history = experiment.read_history()?;
    let summary = history.summary();
    let prepared = summary.prepared.as_ref().ok_or_else(not_prepared)?;
    let one = find(&args.first, prepared, &history, &experiment)?;
    let other = find(&args.second, prepared, &history, &experiment)?;
    if one.fingerprint == other.fingerprint {
        return Err(Error::usage(format!("{} and {} are the same agent", one.name, other.name)));
    }
    let Scoring { trials: each, policy } = summary.scoring();
    let counting = Counting {
        trials: &history.state.trials,
        protocol: &prepared.trial_protocol,
        first: summary.first_agent.as_deref(),
        each,
        policy,
    };
    let compare = |tasks: &[String]| Flips::of(&counting, &one.fingerprint, &other.fingerprint, tasks);
    let train = compare(&prepared.split.train);
    if train.compared == 0 {
        return Err(no_evidence(&one, &other, &history, prepared));
    }
    ui.line(format!("A         {} (agent {})", one.name, short(&one.fingerprint)));
    ui.line(format!("B         {} (agent {})", other.name, short(&other.fingerprint)));
    ui.line(format!("train     {}", words(&train)));
    for (word, tasks) in [("fixed", &train.fixed), ("broken", &train.broken)] {
        tasks.iter().take(SHOWN).for_each(|task| ui.line(format!("{word:<9} {}", one_line(task, 160))));
        if tasks.len() > SHOWN {
            ui.line(format!("{word:<9} and {} more", tasks.len() - SHOWN));
        }
    }
    let holdout = (one.is_told && other.is_told).then(|| compare(&prepared.split.test));
    ui.line(match &holdout {
        None => "hold-out  not told of an edit that the gate did not accept".to_string(),
        Some(sums) if sums.compared == 0 => "hold-out  no task that both were run on".to_string(),
        Some(sums) => format!("hold-out  {}", words(sums)),
    });
    ui.line(format!(
        "compare: fixed={} broken={} compared={} effect={:+.4} p={}",
        train.fixed.len(),
        train.broken.len(),
        train.compared,
        train.means.1 - train.means.0,
        train.p.map_or_else(|| "-".into(), |p| format!("{p:.4}"))
    ));
    let agent = |agent: &AskedAgent| json!({"name": agent.name, "agent": agent.fingerprint});
    ui.json(&json!({"type": "compare", "a": agent(&one), "b": agent(&other), "train": train.as_json(),
        "holdout": holdout.map(|sums| sums.summary())}));
    Ok(EXIT_OK)
}

fn short(fingerprint: &str) -> String {
    fingerprint.chars().take(12).collect()
}

fn words(flips: &Flips) -> String {
    let (before, after) = flips.means;
    let (were, are) = flips.passed;
    format!(
        "A {before:.4} ({were}/{2} pass), B {after:.4} ({are}/{2} pass): {0} fixed, {1} broken, {3:+.1} points, {4}",
        flips.fixed.len(),
        flips.broken.len(),
        flips.compared,
        100.0 * (after - before),
        flips.noise()
    )
}

fn find(name: &str, prepared: &Prepared, history: &History, experiment: &Experiment) -> Result<AskedAgent> {
    let summary = history.summary();
    let label = |agent: &str| {
        let place = history.versions.iter().rposition(|version| version.agent == agent);
        place.map(|place| history.label(place)).filter(|label| label != name)
    };
    let fingerprint = match name {
        "baseline" => summary.first_agent.clone().unwrap_or_else(|| prepared.agent.clone()),
        "best" => best(prepared, history),
        revision => {
            let tree = experiment.repo.tree(&experiment.repo.resolve(revision)?)?;
            let paths = prepared.config["editable"].as_array().map_or(&[][..], Vec::as_slice);
            let paths: Vec<&str> = paths.iter().filter_map(serde_json::Value::as_str).collect();
            agent_fingerprint(&read_editable_from_tree(&tree, &Editable::new(&paths)?)?)
        }
    };
    let name =
        label(&fingerprint).map_or_else(|| one_line(name, 80), |label| format!("{} = {label}", one_line(name, 80)));
    Ok(AskedAgent { name, is_told: history.is_told(&fingerprint), fingerprint })
}

/// The agent whose score is to be reached.
fn best(prepared: &Prepared, history: &History) -> String {
    let summary = history.summary();
    let source = summary.best(&prepared.protocol).map(|best| best.source.as_str());
    let recorded = history.versions.iter().rfind(|version| {
        let row = version.recorded.as_ref().map(|recorded| recorded.short.as_str());
        row.is_some() && row == source
    });
    recorded.map_or_else(|| prepared.agent.clone(), |version| version.agent.clone())
}

/// Which command runs the missing trials.
fn no_evidence(one: &AskedAgent, other: &AskedAgent, history: &History, prepared: &Prepared) -> Error {
    let has = |agent: &AskedAgent| {
        let same = |version: &&crate::report::history::AgentVersion| {
            version.agent == agent.fingerprint && version.protocol == prepared.trial_protocol
        };
        history.versions.iter().find(same).is_some_and(|version| !history.train_rewards(version).is_empty())
    };
    let lacking: Vec<&AskedAgent> = [one, other].into_iter().filter(|agent| !has(agent)).collect();
    let names = match lacking[..] {
        [] => "both on one train task".to_string(),
        _ => lacking.iter().map(|agent| agent.name.clone()).collect::<Vec<_>>().join(", "),
    };
    Error::usage(format!("the ledger has no train trials of {names} under the present rules")).code(Code::NothingToShow).hint(
        "bring that agent's file back (`git checkout COMMIT -- FILE`), run `autoharness benchmark`, and put yours in its place again.",
    )
}

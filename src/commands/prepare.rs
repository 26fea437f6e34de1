//! `prepare`: environment, workspace, templates, split, baseline. Safe to run again.

use std::collections::{BTreeMap, BTreeSet};

use super::adopt;
use super::agent::{self, StagedAgent};
use super::evaluate::{evaluate, no_evidence};
use super::experiment::Experiment;
use super::measure;
use super::outcomes;
use super::outlook::{expectation, forecast, rehearse};
use super::sealing::{self, OpenTasks, set_aside};
use super::session::{Reading, Session};
use super::split_file;
use super::step::{Measurement, Step};
use crate::benchmarks::runner::Catalogue;
use crate::benchmarks::{self, Depth};
use crate::cli::{Global, Prepare};
use crate::error::{Code, EXIT_OK, Error, Result};
use crate::files;
use crate::guard::agent_files::read_editable_from_tree;
use crate::guard::{BaseTree, Editable, agent_fingerprint, causes, compare_trees, scan, violations};
use crate::model::gate::{VIOLATIONS_SHOWN, shortened};
use crate::model::score::Score;
use crate::model::split::{SPLIT_SEED, TaskSplit, stratified};
use crate::model::trial::Split;
use crate::process::signals::Cancel;
use crate::provision;
use crate::store::event::{Accepted, Baseline, Event, Prepared, Purpose};
use crate::store::{atomic, context, traces};
use crate::templates;
use crate::ui::Ui;

/// Errors: usage for what the user must fix, infrastructure when the baseline gave no evidence.
pub(super) async fn run(args: &Prepare, global: &Global, ui: &Ui) -> Result<i32> {
    let experiment = Experiment::find(global, ui)?;
    let mut session = Session::open(experiment, Reading::Trials)?;
    session.require_views()?;
    let cancel = Cancel::on_signals()?;
    let supervisor = session.supervisor()?;
    let (benchmark, ground) = (benchmarks::of(&session.config), session.ground(&supervisor, &cancel));
    provision::require(&benchmarks::check(benchmark, &ground, Depth::Needed).await?)?;
    let ui = session.ui.clone();
    benchmark.provide(&ground, &|message| ui.status(message)).await?;
    workspace(&session, args.reset_agent)?;
    let head = session.repo.require_head()?;
    let earlier = session.state.summary.prepared.clone();
    match &earlier {
        None => {
            let base = session.repo.tree(&head)?;
            require_committed(&session, &base)?;
            let agent = agent::from_disk(&session, &base)?;
            establish(&mut session, &cancel, args.fresh, &head, &base, &agent, None).await?;
            warn_uncommitted(&session, &base, &agent)?;
        }
        Some(prepared) if args.accept => accept(&mut session, &cancel, args.fresh, &head, prepared).await?,
        Some(prepared) => check_again(&session, prepared)?,
    }
    if let Some(base) = &session.state.summary.base {
        session.keep(base);
    }
    session.finish()?;
    let base = session.state.summary.base.clone().unwrap_or_else(|| head.clone());
    split_file::write(&session, &session.repo.tree(&base)?)?;
    print(&session, &base);
    Ok(EXIT_OK)
}

/// Creates what is missing and says what exists.
fn workspace(session: &Session, reset_agent: bool) -> Result<()> {
    let (paths, ui) = (&session.paths, &session.ui);
    fs_err::create_dir_all(paths.workspace().join("traces"))?;
    let create = |path: &std::path::Path, content: &str| -> Result<()> {
        let name = path.strip_prefix(&paths.root).unwrap_or(path).display().to_string();
        if path.exists() {
            ui.status(format!("{name} already exists"));
            return Ok(());
        }
        ui.status(format!("creating {name}"));
        atomic::replace(path, content.as_bytes())
    };
    create(&paths.learnings(), "# Learnings\n")?;
    create(&paths.program(), &templates::program(&paths.root, &session.config)?)?;
    let file = session.config.agent_file();
    let path = paths.root.join(file);
    let kept = files::read_if_there(&path, files::LARGEST)?.is_some_and(|bytes| !templates::is_placeholder(&bytes));
    if kept && !reset_agent {
        ui.status(format!("{file} already exists and is kept (--reset-agent replaces it by the template)"));
        return Ok(());
    }
    ui.status(format!("writing {file} from the {} template", session.config.benchmark));
    atomic::replace(&path, templates::agent_template(&paths.root, benchmarks::of(&session.config))?.as_bytes())
}

/// The baseline is measured on the agent as it lies on disk; a coding agent that reverts gets the committed one.
fn warn_uncommitted(session: &Session, base: &BaseTree, agent: &StagedAgent) -> Result<()> {
    let editable = Editable::new(&session.config.editable)?;
    let committed = read_editable_from_tree(base, &editable).map(|files| agent_fingerprint(&files));
    if committed.is_ok_and(|committed| committed == agent.fingerprint) {
        return Ok(());
    }
    let (file, list) = (session.config.agent_file(), super::hints::editable_words(session));
    session.ui.warn(format!("{file} is not committed as it was measured: reverting an edit would not bring it back"));
    session.ui.hint(format!("commit it: git add {list} && git commit -m \"baseline agent\""));
    Ok(())
}

/// Only committed files are scored, so everything but the agent must be committed.
fn require_committed(session: &Session, base: &BaseTree) -> Result<()> {
    if !session.config.file_guard {
        return Ok(());
    }
    let editable = Editable::new(&session.config.editable)?;
    let found = violations(&scan(&session.repo, base)?, &editable);
    if found.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = found.iter().take(10).map(|violation| format!("  {violation}")).collect();
    let more = found.len().saturating_sub(10);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    let error = Error::usage(format!("these files differ from the last commit:\n{}{more}", list.join("\n")))
        .code(Code::Uncommitted);
    let causes = causes(&session.repo, base, &found);
    let error = causes.hints.into_iter().fold(error, Error::hint);
    if causes.explained == found.len() {
        // Git sees nothing to commit.
        return Err(error);
    }
    Err(error.hint(
        "commit them first (`git add -A && git commit`), or add what is not part of the experiment to .gitignore: \
         only committed files are scored.",
    ))
}

/// Measures the agent on everything, draws the split where the benchmark brings none, and writes `prepared`.
async fn establish(
    session: &mut Session,
    cancel: &Cancel,
    fresh: bool,
    commit: &str,
    base: &BaseTree,
    agent: &StagedAgent,
    earlier: Option<&Prepared>,
) -> Result<()> {
    let found = if earlier.is_none() { adopt::read(&session.paths.workspace())? } else { None };
    let runner = measure::runner(session, base, cancel).await?;
    if let Some(failure) = agent::preflight(session, agent, runner.as_ref(), None, cancel).await? {
        let mut error = Error::usage(format!("preflight failed: {failure}")).code(Code::PreflightFailed);
        // Only committed files are accepted, whatever is on the disk.
        let elsewhere = agent::from_disk(session, base).is_ok_and(|disk| disk.fingerprint != agent.fingerprint);
        error = error.hint(if elsewhere {
            "this is the agent as HEAD has it, and the one on disk is another: commit that, then run the same command again."
        } else {
            "fix the agent file, or start over with `autoharness prepare --reset-agent`."
        });
        if runner.agent_python().is_some_and(|python| python.import.is_some()) {
            let python = runner.agent_python().map(|python| python.program).unwrap_or_default();
            error = error.hint(format!("a module that is missing must be installed for {}.", python.display()));
        }
        if let Some(switch) = benchmarks::of(&session.config).import_switch() {
            error = error.hint(format!(
                "when your program puts something in place before it imports the agent, set `{switch}`."
            ));
        }
        return Err(error);
    }
    let data = measure::data_digests(session)?;
    let trial_protocol = measure::trial_protocol(session, runner.as_ref(), base, &data)?;
    fs_err::create_dir_all(session.paths.logs())?;
    let Catalogue { tasks, context: shared } =
        runner.tasks(&agent.staging, &session.paths.logs().join("list.log"), cancel).await?;
    context::write(&session.paths.workspace(), &shared)?;
    let given = measure::given_split(session.config.benchmark, &tasks, session.config.gate_split)?;
    let drawn = given.is_none();
    let mut ids: Vec<String> = tasks.iter().map(|task| task.id.clone()).collect();
    ids.sort();
    let taken_over = if drawn && earlier.is_none() { split_file::adopt(session, &ids)? } else { None };
    let is_taken_over = taken_over.is_some();
    // A drawn split stays as long as the tasks do: redrawing would mix hold-out and train.
    let kept = earlier.filter(|earlier| drawn && earlier.split_drawn && earlier.split.all() == ids);
    let before = earlier.map(|earlier| &earlier.split);
    let was_run = |task: &str| session.state.trials.has_run(task);
    let OpenTasks { given, ids, sealed } =
        set_aside(session.config.sealed, ids, given.or(taken_over), before, was_run)?;
    if !sealed.is_empty() {
        session
            .ui
            .status(format!("sealed: {} tasks are set aside; `confirm --sealed` alone ever runs them", sealed.len()));
    }
    let expectation = expectation(session, tasks.iter().filter(|task| sealed.binary_search(&task.id).is_err()));
    let known = given.or_else(|| kept.map(|earlier| earlier.split.clone()));
    let steps: Vec<Step> = match &known {
        Some(split) => [Split::Train, Split::Test]
            .into_iter()
            .map(|part| Step::whole(&session.config, Purpose::Baseline, Some(part), split.tasks(part).to_vec()))
            .collect(),
        None => vec![Step::whole(&session.config, Purpose::Baseline, None, ids.clone())],
    };
    // Before anything is paid for. No baseline gives more train tasks than one in which all tasks end alike.
    let alike = || stratified(&ids.iter().map(|task| (task.clone(), None)).collect(), SPLIT_SEED);
    let at_best = known.clone().unwrap_or_else(alike);
    measure::require_gate_tasks(&at_best, session.config.gate_split)?;
    let gated = at_best.tasks(session.config.gate_split).len();
    session.ui.status(forecast(session, gated));
    rehearse(session, agent, cancel).await?;
    session.ui.status(format!("baseline: {expectation}"));
    let measurement = Measurement {
        runner: runner.as_ref(),
        agent,
        trial_protocol: &trial_protocol,
        data: &data,
        concurrency: session.config.max_concurrency,
        fresh,
        cancel,
    };
    let reports = evaluate(session, &measurement, &steps).await;
    runner.close().await;
    let reports = reports?;
    let scoring = session.config.scoring();
    let rewards = session.state.trials.rewards(&agent.fingerprint, &trial_protocol, &ids, scoring);
    let all = rewards.score();
    let report = reports.iter().find(|report| report.failure.is_some() || report.void).or(reports.first());
    let report = report.cloned().unwrap_or_default();
    let tell = || {
        for step in &steps {
            let of = step.split.map_or("all", Split::as_str);
            outcomes::tell(session, of, &agent.fingerprint, &trial_protocol, &step.tasks);
        }
    };
    if !all.is_enough(session.config.min_evidence) {
        tell();
        return Err(no_evidence(&report, all.evaluated, all.expected));
    }
    let split = known.unwrap_or_else(|| TaskSplit { sealed, ..stratified(&rewards.0, SPLIT_SEED) });
    measure::require_gate_tasks(&split, session.config.gate_split)?;
    if drawn {
        let private = session.paths.private_traces();
        traces::publish(&private, &session.paths.workspace(), &split.train)?;
        let _ = fs_err::remove_dir_all(private);
    }
    let gate_tasks = split.tasks(session.config.gate_split);
    let score = session.state.trials.rewards(&agent.fingerprint, &trial_protocol, gate_tasks, scoring).score();
    let Score { mean: Some(val_score), passed, evaluated, .. } = score else {
        tell();
        return Err(no_evidence(&report, 0, score.expected));
    };
    if !score.is_enough(session.config.min_evidence) {
        tell();
        return Err(no_evidence(&report, evaluated, score.expected));
    }
    let mut adopted = found.map(|found| found.adopt(&split, &session.ui));
    if is_taken_over {
        adopted.get_or_insert_default().split = true;
    }
    session.append(Event::Prepared(Box::new(Prepared {
        config: session.config.snapshot(),
        config_digest: session.config.digest.clone(),
        base: commit.to_string(),
        agent: agent.fingerprint.clone(),
        protocol: measure::protocol(session, &trial_protocol, &split),
        trial_protocol,
        protocol_version: measure::PROTOCOL_VERSION,
        split,
        split_drawn: drawn,
        data,
        baseline: Baseline { val_score, evals_passed: passed, evals_total: evaluated },
        untried: runner.untried(),
        adopted,
    })))?;
    Ok(())
}

/// A human accepts what changed: HEAD becomes the base commit, and its agent is measured where the protocol changed.
async fn accept(session: &mut Session, cancel: &Cancel, fresh: bool, head: &str, prepared: &Prepared) -> Result<()> {
    sealing::require_same(session.config.sealed, &prepared.config)?;
    let base = session.repo.tree(head)?;
    require_committed(session, &base)?;
    let from = session.state.summary.base.clone().unwrap_or_else(|| prepared.base.clone());
    let editable = Editable::new(&session.config.editable)?;
    let mut changes = if session.repo.holds(&from)? {
        let changes = compare_trees(&session.repo.tree(&from)?, &base);
        shortened(violations(&changes, &editable).iter().map(ToString::to_string).collect(), VIOLATIONS_SHOWN)
    } else {
        let short: String = from.chars().take(12).collect();
        vec![format!("the base commit {short} is not in this repository: the files of HEAD are taken as they are")]
    };
    changes.extend(session.config.changes_since(&prepared.config));
    for (path, digest) in &measure::data_digests(session)? {
        if prepared.data.get(path) != Some(digest) {
            changes.push(format!("data {path} changed"));
        }
    }
    if prepared.protocol_version != measure::PROTOCOL_VERSION {
        changes.push(measure::version_changed().into());
    }
    if changes.is_empty() {
        // Changes that the files do not show: another version of an upstream, of Python, of a package.
        let runner = measure::runner(session, &base, cancel).await?;
        let data = measure::data_digests(session)?;
        if measure::trial_protocol(session, runner.as_ref(), &base, &data)? != prepared.trial_protocol {
            changes.push("the benchmark's program, its version or its packages changed".into());
        } else {
            let agent = agent::from_tree(session, &base)?;
            let log = session.paths.logs().join("list.log");
            let tasks = runner.tasks(&agent.staging, &log, cancel).await?.tasks;
            let given = measure::given_split(session.config.benchmark, &tasks, session.config.gate_split)?;
            let listed: Vec<String> = tasks.into_iter().map(|task| task.id).collect();
            changes.extend(other_tasks(&listed, given.as_ref(), &prepared.split));
        }
        runner.close().await;
    }
    if changes.is_empty() {
        session
            .ui
            .status("nothing to accept: configuration, data, guarded files and benchmark are those prepared with");
        return Ok(());
    }
    session.ui.status("changes to accept:");
    changes.iter().for_each(|change| session.ui.status(format!("  {change}")));
    let agent = agent::from_tree(session, &base)?;
    establish(session, cancel, fresh, head, &base, &agent, Some(prepared)).await?;
    session.append(Event::Accepted(Accepted { from, to: head.to_string(), changes }))?;
    Ok(())
}

/// How many tasks of a benchmark came, went, or are given to another split since a split was made. Without their names: some may
/// be held out.
fn other_tasks(listed: &[String], given: Option<&TaskSplit>, split: &TaskSplit) -> Option<String> {
    let known: BTreeSet<String> = split.all().into_iter().collect();
    let new = listed.iter().filter(|task| !known.contains(*task)).count();
    let gone = known.len().saturating_sub(listed.len() - new);
    let is_moved =
        |task: &&String| split.of(task).is_some() && given.is_some_and(|given| given.of(task) != split.of(task));
    let moved = listed.iter().filter(is_moved).count();
    (new + gone + moved > 0)
        .then(|| format!("the benchmark lists other tasks: {new} new, {gone} gone, {moved} in another split"))
}

/// A second `prepare` changes nothing; it says what no longer fits.
fn check_again(session: &Session, prepared: &Prepared) -> Result<()> {
    measure::require_version(session)?;
    session.require_same_config()?;
    measure::require_same_data(prepared, &measure::data_digests(session)?)?;
    let base = session.state.summary.base.as_deref().unwrap_or(&prepared.base);
    if session.config.file_guard {
        let editable = Editable::new(&session.config.editable)?;
        let tree = session.repo.base_tree(base)?;
        let found = violations(&scan(&session.repo, &tree)?, &editable);
        for violation in shortened(found.iter().map(ToString::to_string).collect(), VIOLATIONS_SHOWN) {
            session.ui.warn(format!("{violation}; the gate will refuse this"));
        }
        causes(&session.repo, &tree, &found).hints.iter().for_each(|hint| session.ui.hint(hint));
        if !found.is_empty() {
            session.ui.hint("revert these files; a human who wants the changes commits them and runs `autoharness prepare --accept`.");
        }
    }
    session.ui.status("already prepared; nothing to measure");
    Ok(())
}

/// `base`: the commit that gates compare with. HEAD may be ahead of it.
fn print(session: &Session, base: &str) {
    let Some(prepared) = &session.state.summary.prepared else { return };
    let short = session.repo.short_id(base).unwrap_or_else(|_| base.to_string());
    let baseline = &prepared.baseline;
    let mut values = BTreeMap::new();
    values.insert("type", serde_json::json!("prepared"));
    values.insert("benchmark", serde_json::json!(session.config.benchmark.name()));
    values.insert("train", serde_json::json!(prepared.split.train.len()));
    values.insert("test", serde_json::json!(prepared.split.test.len()));
    values.insert("sealed", serde_json::json!(prepared.split.sealed.len()));
    values.insert("val_score", serde_json::json!(baseline.val_score));
    values.insert("evals_passed", serde_json::json!(baseline.evals_passed));
    values.insert("evals_total", serde_json::json!(baseline.evals_total));
    session.ui.json(&values);
    let train = session.state.summary.train_results.values();
    let (passing, total) = (train.clone().filter(|r| crate::model::score::passes(**r)).count(), train.count());
    session.ui.line(format!("benchmark  {}", session.config.benchmark));
    session.ui.line(format!("base       {short}"));
    let sealed = match prepared.split.sealed.len() {
        0 => String::new(),
        tasks => format!(", {tasks} sealed"),
    };
    let (train, test) = (prepared.split.train.len(), prepared.split.test.len());
    session.ui.line(format!("split      {train} train, {test} test{sealed}"));
    session.ui.line(format!(
        "baseline   val_score {:.4} ({}/{} pass); train {passing}/{total} pass",
        baseline.val_score, baseline.evals_passed, baseline.evals_total
    ));
    for part in [Split::Train, Split::Test] {
        let tasks = prepared.split.tasks(part);
        outcomes::tell(session, part.as_str(), &prepared.agent, &prepared.trial_protocol, tasks);
    }
    if let Some(fix) = super::doctor::not_on_path(&session.environment) {
        session.ui.hint(format!("the coding agent calls `autoharness` by its name, put it on the PATH: {fix}"));
    }
    session.ui.hint("open your coding agent here and say: Read PROGRAM.md and start the optimization loop.");
}

//! The agent that is scored: the base commit's files plus the editable files' bytes, staged outside the work tree.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::session::Session;
use crate::benchmarks;
use crate::benchmarks::agent_python::AgentPython;
use crate::benchmarks::runner::BenchmarkRunner;
use crate::error::{Code, Error, Result};
use crate::guard::{
    self, BaseTree, Editable, EditableFiles, NotRead,
    agent_files::{read_editable_from_disk, read_editable_from_tree},
    agent_fingerprint,
    staging::{self, Link, altered, copy},
};
use crate::process::signals::Cancel;

/// Staged copies kept for later commands; more are removed.
const KEPT_COPIES: usize = 4;

/// An agent, ready to be imported by a benchmark.
#[derive(Clone)]
pub(super) struct StagedAgent {
    pub fingerprint: String,
    /// The staged copy of the experiment from which the others are made. Only listings and checks, which run alone and
    /// before any trial, may run here.
    pub staging: PathBuf,
    /// The agent file in it.
    pub file: PathBuf,
    base: BaseTree,
    editable: Editable,
    files: EditableFiles,
    /// Provisioned data is not committed and may be large: copies get links to it. The gate checks its digest.
    data: Vec<Link>,
}

/// A copy for one start of the benchmark, removed with it, so that no start sees what another one does.
pub(super) struct StagedCopy<'a> {
    agent: &'a StagedAgent,
    /// The staged copy of the experiment.
    pub staging: PathBuf,
    /// The agent file in it.
    pub file: PathBuf,
}

impl StagedAgent {
    /// The editable files that it is made of.
    pub(super) fn files(&self) -> &EditableFiles {
        &self.files
    }

    /// Brings the first copy back to what was staged. Nothing may be running in it.
    pub(super) fn refresh(&self) -> Result<()> {
        staging::stage(&self.base, &self.editable, &self.files, &self.data, &self.staging)
    }

    /// A copy of the first one at `staging`, which must not exist.
    pub(super) fn copy(&self, staging: PathBuf) -> Result<StagedCopy<'_>> {
        let file = staging.join(self.file.strip_prefix(&self.staging).unwrap_or(&self.file));
        // Created first, so that a half-made copy is removed again if the disk fills up.
        let made = StagedCopy { agent: self, file, staging };
        fs_err::create_dir_all(made.staging.parent().unwrap_or(Path::new("")))?;
        copy(&self.base, &self.editable, &self.files, &self.data, &self.staging, &made.staging)?;
        Ok(made)
    }
}

impl StagedCopy<'_> {
    /// What was changed in the copy since it was made, one line each.
    /// Errors: when the copy cannot be read.
    pub(super) fn altered(&self) -> Result<Vec<String>> {
        let StagedAgent { base, editable, files, .. } = self.agent;
        altered(base, editable, files, &self.staging)
    }
}

impl Drop for StagedCopy<'_> {
    fn drop(&mut self) {
        // The next command removes any leftovers with the scratch directory.
        let _ = fs_err::remove_dir_all(&self.staging);
    }
}

/// Stages the agent as it lies on disk.
/// Errors: usage when an editable file is missing or no plain file.
pub(super) fn from_disk(session: &Session, base: &BaseTree) -> Result<StagedAgent> {
    let editable = Editable::new(&session.config.editable)?;
    let files = read_editable_from_disk(&session.repo, base, &editable)?;
    stage(session, base, &editable, &files)
}

/// Stages the agent as a commit has it.
/// Errors: usage when the commit has no agent file.
pub(super) fn from_tree(session: &Session, tree: &BaseTree) -> Result<StagedAgent> {
    let editable = Editable::new(&session.config.editable)?;
    let files = read_editable_from_tree(tree, &editable)?;
    stage(session, tree, &editable, &files)
}

/// Stages the agent of one commit among the other files of another, so that two agents run in the same surroundings.
/// Errors: usage when the commit has no agent file.
pub(super) fn among(session: &Session, base: &BaseTree, tree: &BaseTree) -> Result<StagedAgent> {
    let editable = Editable::new(&session.config.editable)?;
    let files = read_editable_from_tree(tree, &editable)?;
    stage(session, base, &editable, &files)
}

/// Fingerprint of the agent as a commit has it.
/// Errors: usage when the commit has no agent file.
pub(super) fn fingerprint(session: &Session, tree: &BaseTree) -> Result<String> {
    Ok(agent_fingerprint(&files_of(session, tree)?))
}

/// The editable files as a commit has them.
/// Errors: usage when the commit has no agent file.
pub(super) fn files_of(session: &Session, tree: &BaseTree) -> Result<EditableFiles> {
    read_editable_from_tree(tree, &Editable::new(&session.config.editable)?)
}

/// The error of a command that runs no agent because the preflight failed like this.
pub(super) fn refused(failure: &str) -> Error {
    Error::rejected(format!("preflight failed: {failure}"))
        .code(Code::PreflightFailed)
        .hint("fix the agent file; nothing was run.")
}

/// Why the staged agent cannot be imported, in words that name its place in the experiment; `None` when it can. `base` holds the
/// unedited agent: if that cannot be imported either, the edit is not to blame. Errors: usage when Python is missing;
/// infrastructure when it does not work, or when not even the unedited agent can be imported; `Interrupted`.
pub(super) async fn preflight(
    session: &Session,
    agent: &StagedAgent,
    runner: &dyn BenchmarkRunner,
    base: Option<&BaseTree>,
    cancel: &Cancel,
) -> Result<Option<String>> {
    let (failure, late) = match look(session, agent, runner, cancel).await? {
        ImportCheck::Fine => return Ok(None),
        ImportCheck::NotParsed(failure) => return Ok(Some(failure)),
        ImportCheck::NotImported { failure, late } => (failure, late),
    };
    let Some(unedited) = base.and_then(|base| from_tree(session, base).ok()) else { return Ok(Some(failure)) };
    let before = if unedited.fingerprint == agent.fingerprint {
        failure
    } else {
        session.ui.detail("preflight: trying the unedited agent as well");
        let started = Instant::now();
        match look(session, &unedited, runner, cancel).await? {
            ImportCheck::NotImported { failure, .. } => failure,
            // On a machine where importing takes that long, the machine may be to blame, not the edit.
            ImportCheck::Fine if late && started.elapsed() > limit(runner) / 4 => {
                let seconds = started.elapsed().as_secs();
                let slow = format!("{failure}; but the unedited agent takes {seconds} s, too");
                return Err(Error::infrastructure(slow)
                    .code(Code::MachineTooSlow)
                    .hint("do not revert; wait until this machine has less to do."));
            }
            ImportCheck::Fine | ImportCheck::NotParsed(_) => return Ok(Some(failure)),
        }
    };
    let mut error = Error::infrastructure(format!("the unedited agent cannot be imported (anymore): {before}"))
        .code(Code::UneditedAgentFails)
        .hint("do not revert; fix the environment that the benchmark runs in, and run the same command again.");
    if let Some(switch) = benchmarks::of(&session.config).import_switch() {
        error = error.hint(format!(
            "when your program puts something in place before it imports the agent, a human sets `{switch}` and runs \
             `autoharness prepare --accept`."
        ));
    }
    Err(error)
}

fn limit(runner: &dyn BenchmarkRunner) -> Duration {
    runner.agent_python().map_or(guard::preflight::TIME_LIMIT, |python| python.limit)
}

enum ImportCheck {
    Fine,
    /// It is not valid Python, or does not define what it must: only the file itself is to blame.
    NotParsed(String),
    NotImported {
        failure: String,
        /// It is only that it took too long.
        late: bool,
    },
}

async fn look(
    session: &Session,
    agent: &StagedAgent,
    runner: &dyn BenchmarkRunner,
    cancel: &Cancel,
) -> Result<ImportCheck> {
    let supervisor = session.supervisor()?;
    let symbol = runner.agent_symbol();
    // If it is unknown what runs the agent, any Python may parse it.
    let python = runner.agent_python().unwrap_or_else(|| AgentPython {
        program: "python3".into(),
        options: Vec::new(),
        environment: session.environment.for_child(&[], &[]),
        import: None,
        limit: guard::preflight::TIME_LIMIT,
    });
    let preflight = guard::Preflight {
        python: &python.program,
        options: &python.options,
        environment: &python.environment,
        directory: &agent.staging,
        supervisor: &supervisor,
        cancel,
    };
    let redactor = session.redactor();
    let words = |failure: guard::PreflightFailure| {
        let place = failure.line.map(|line| format!(":{line}")).unwrap_or_default();
        redactor.redact(&format!("{}{place}: {}", session.config.agent_file(), failure.message)).into_owned()
    };
    if let Err(failure) = preflight.parse(&agent.file, symbol, guard::preflight::TIME_LIMIT).await? {
        return Ok(ImportCheck::NotParsed(words(failure)));
    }
    let Some(import) = python.import.as_ref().filter(|_| agent.file.extension() == Some("py".as_ref())) else {
        return Ok(ImportCheck::Fine);
    };
    agent.refresh()?;
    let request = python.request(import, &agent.staging, &agent.file, symbol);
    let imported = preflight.import(&agent.file, &request, python.limit).await?;
    // It may have changed the copy, or left files there.
    agent.refresh()?;
    Ok(match imported {
        Ok(()) => ImportCheck::Fine,
        Err(failure) => ImportCheck::NotImported { late: failure.late, failure: words(failure) },
    })
}

/// Stages these files on the base commit.
pub(super) fn stage(
    session: &Session,
    base: &BaseTree,
    editable: &Editable,
    files: &EditableFiles,
) -> Result<StagedAgent> {
    let fingerprint = agent_fingerprint(files);
    let short = |text: &str| text.chars().take(16).collect::<String>();
    let name = format!("{}-{}", short(base.commit()), short(&fingerprint));
    let staging = session.paths.staging().join(&name);
    let agent = StagedAgent {
        fingerprint,
        file: staging.join(session.config.agent_file()),
        // The copy leaves out what the benchmark does not read.
        base: base.without(&NotRead::new(&session.config.not_read)?),
        editable: editable.clone(),
        files: files.clone(),
        data: session
            .config
            .data
            .iter()
            .map(|path| Link { path: path.into(), to: session.paths.root.join(path) })
            .collect(),
        staging,
    };
    agent.refresh()?;
    remove_old_copies(session, &name)?;
    Ok(agent)
}

fn remove_old_copies(session: &Session, current: &str) -> Result<()> {
    let mut copies = Vec::new();
    for entry in fs_err::read_dir(session.paths.staging())? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(guard::staging::UNFINISHED.as_bytes()) {
            // Left by a killed command.
            let _ = fs_err::remove_dir_all(entry.path());
        } else if entry.file_name() != current {
            copies.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    copies.sort();
    for (_, path) in copies.iter().rev().skip(KEPT_COPIES) {
        let _ = fs_err::remove_dir_all(path);
    }
    Ok(())
}

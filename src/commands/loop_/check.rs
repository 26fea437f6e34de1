//! Whether a proposal may go to the gate: all checks that cost nothing.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use super::context::Loop;
use super::iteration::{base_of, is_infrastructure};
use crate::commands::session::{Reading, Session};
use crate::commands::{agent, leak_scan, measure};
use crate::config::touched;
use crate::drive::proposal;
use crate::drive::state::{Current, Rival, Stage};
use crate::drive::worktree::too_deep;
use crate::error::{Error, Result};
use crate::guard::agent_files::{read_editable_from_disk, read_editable_from_tree};
use crate::guard::{BaseTree, Difference, Editable, EditableFiles, Repo, differing, scan, show_path, violations};
use crate::model::proposal::Proposal;
use crate::paths::Paths;
use crate::process::Redactor;
use crate::report::text::one_line;
use crate::store::beneath::Dir;

/// The most problems that are reported; more would not help.
const SHOWN: usize = 10;
/// The most characters of a problem that are reported.
const LONGEST_PROBLEM: usize = 1000;
/// The shortest secret that no file holds by chance, in bytes.
const SHORTEST_KEY: usize = 16;
/// Directories that coding agents create for themselves where they work.
const OWN: [&[u8]; 4] = [b".claude/", b".codex/", b".gemini/", b".opencode/"];

impl Loop<'_> {
    /// Checks the proposal. One that cannot be judged is sent back once.
    pub(super) async fn check(&mut self) -> Result<()> {
        let Some(mut current) = self.state.current.clone() else { return Ok(()) };
        let found = match self.look(&current).await {
            Err(error) if is_infrastructure(&error) => return self.failed(&error.to_string()),
            found => found?,
        };
        match found {
            Ok((rival, receipt_before)) => {
                current.receipt_before = receipt_before;
                current.rivals.push(rival);
                self.advance(&mut current)?;
            }
            Err(problems) => {
                let text = told(&problems);
                if current.sent_back.is_none() {
                    self.ui.status(format!("iteration {}: sent back: {}", current.iteration, problems[0]));
                    current.sent_back = Some(text);
                    current.stage = Stage::Proposing;
                } else {
                    current.reason = Some(problems[0].clone());
                    self.advance(&mut current)?;
                }
            }
        }
        self.state.current = Some(current);
        self.save()
    }

    /// The proposal kept as a candidate, and `seq` of the last verdict; or every reason why it cannot be judged.
    async fn look(&self, current: &Current) -> Result<Result<(Rival, Option<u64>), Vec<String>>> {
        let session = self.open(Reading::Summary)?;
        let base = base_of(&session)?;
        if base.commit() != current.base {
            return Err(Error::usage(format!(
                "the base commit has changed since iteration {} began: another command recorded or accepted something",
                current.iteration
            ))
            .hint(format!(
                "remove {} to give that iteration up, then run the loop again.",
                self.paths.loop_state().display()
            )));
        }
        let mut problems = Vec::new();
        let proposal = read_proposal(&session, current, &mut problems)?;
        let editable = Editable::new(&session.config.editable)?;
        let Some(files) = edit_of(&self.paths, current, &base, &editable, &mut problems)? else {
            return Ok(Err(problems));
        };
        let before = read_editable_from_tree(&base, &editable)?;
        problems.extend(keys_in(&session, &before, &files));
        if files == before {
            problems.push(format!("no editable file was changed ({})", session.config.editable.join(", ")));
        }
        let Some(proposal) = proposal.filter(|_| problems.is_empty()) else { return Ok(Err(problems)) };
        let staged = agent::stage(&session, &base, &editable, &files)?;
        if session.config.leak_scan == crate::model::gate::LeakScan::Fail {
            problems.extend(leak_scan::findings(&session, &base, &staged)?);
        }
        let runner = measure::runner(&session, &base, &self.now).await?;
        let failure = agent::preflight(&session, &staged, runner.as_ref(), Some(&base), &self.now).await;
        runner.close().await;
        problems.extend(failure?.map(|failure| format!("the agent cannot be imported: {failure}")));
        if current.rivals.iter().any(|rival| rival.agent == staged.fingerprint) {
            problems.push("another proposal of this iteration is the same edit: make a different one".into());
        }
        if !problems.is_empty() {
            return Ok(Err(problems));
        }
        let name = name(current.iteration, current.number);
        let message = format!("{}\n\n{}\n", title(&proposal), proposal.change);
        let candidate = session.repo.keep_candidate(&name, &base, &editable, &files, &message)?;
        let receipt_before = session.state.summary.last_decided.as_ref().map(|receipt| receipt.seq);
        // The paths of `surfaces` are text.
        let changed = differing(&before, &files).into_iter().map(String::from_utf8_lossy).collect::<Vec<_>>();
        let touched = touched(&session.config.surfaces, changed.iter().map(|path| &**path));
        let rival =
            Rival { number: current.number, proposal, candidate, agent: staged.fingerprint, touched, train: None };
        Ok(Ok((rival, receipt_before)))
    }
}

/// The editable files as the coding agent left them; `None`, and why, if they cannot be determined. Other problems are reported, too.
pub(super) fn edit_of(
    paths: &Paths,
    current: &Current,
    base: &BaseTree,
    editable: &Editable,
    problems: &mut Vec<String>,
) -> Result<Option<EditableFiles>> {
    if !current.worktree.is_dir() || current.worktree.is_symlink() {
        problems.push("your work tree is gone: make your edit anew".into());
        return Ok(None);
    }
    if let Some(deep) = too_deep(&current.worktree) {
        let name = deep.strip_prefix(&current.worktree).unwrap_or(&deep).components().next();
        let name = name.map(|name| name.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
        problems.push(format!("{}: directories are nested too deeply there", one_line(&name, LONGEST_PROBLEM)));
        return Ok(None);
    }
    let repo = base.seen_at(&current.worktree, &paths.loop_view())?;
    let others = other_files(&repo, base, editable)?;
    // Such files decide what git says about the editable ones, and a pipe among them would keep us waiting.
    if !others.is_empty() {
        problems.extend(others);
        return Ok(None);
    }
    match read_editable_from_disk(&repo, base, editable) {
        Ok(files) => Ok(Some(files)),
        Err(error) if is_infrastructure(&error) => Err(error),
        Err(error) => {
            problems.push(error.to_string());
            Ok(None)
        }
    }
}

/// What a candidate is called below `refs/autoharness/candidates`.
pub(super) fn name(iteration: u32, number: u32) -> String {
    format!("{iteration}-{number}")
}

/// The first line of a commit.
pub(super) fn title(proposal: &Proposal) -> String {
    const LONGEST: usize = 72;
    match proposal.hypothesis.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &proposal.hypothesis[..at]),
        None => proposal.hypothesis.clone(),
    }
}

/// What the coding agent wrote into its proposal, or why it cannot be read. A link there might lead to something that the
/// coding agent may not read, and errors quote what they read.
pub(super) fn written(worktree: &Path) -> Result<String, String> {
    let is = |what: &str| format!("{} {what}", proposal::FILE);
    let found = Dir::open(worktree).and_then(|dir| dir.read_within(proposal::FILE, proposal::LARGEST));
    match found.map_err(|error| error.to_string())? {
        None if worktree.join(proposal::FILE).is_symlink() => Err(is("is a link: write the file itself")),
        None => Err(is("is missing")),
        Some(Err(size)) => Err(is(&format!("is too large: {size} bytes"))),
        Some(Ok(bytes)) => String::from_utf8(bytes).map_err(|_| is("is not UTF-8 text")),
    }
}

fn read_proposal(session: &Session, current: &Current, problems: &mut Vec<String>) -> Result<Option<Proposal>> {
    let text = match written(&current.worktree) {
        Ok(text) => text,
        Err(why) => {
            problems.push(why);
            return Ok(None);
        }
    };
    let train: BTreeSet<&str> = session.prepared()?.split.train.iter().map(String::as_str).collect();
    // All of it goes into the ledger, into commits and to the next proposer.
    let redactor = Redactor::new(session.environment.secret_values());
    let hide = |text: &mut String| *text = redactor.redact(text).into_owned();
    match proposal::parse(&text, &train) {
        Ok(mut proposal) => {
            let texts = [&mut proposal.hypothesis, &mut proposal.failure_pattern, &mut proposal.change];
            texts.into_iter().for_each(hide);
            Ok(Some(proposal))
        }
        Err(mut why) => {
            why.iter_mut().for_each(hide);
            problems.extend(why);
            Ok(None)
        }
    }
}

/// Changed files that hold a key in clear: they are committed and shown. Shorter secrets may be words.
fn keys_in(session: &Session, before: &EditableFiles, files: &EditableFiles) -> Vec<String> {
    let keys = session.environment.secret_values().into_iter().filter(|value| value.len() >= SHORTEST_KEY);
    let redactor = Redactor::new(keys);
    let holds = |text: &str| matches!(redactor.redact(text), Cow::Owned(_));
    let changed = files.iter().filter(|(path, file)| before.get(*path).is_none_or(|was| was.bytes != file.bytes));
    let held = changed.filter(|(_, file)| holds(&String::from_utf8_lossy(&file.bytes)));
    held.map(|(path, _)| format!("{} holds a secret: read it from the environment", show_path(path))).collect()
}

/// Other files than the editable ones that were changed.
fn other_files(repo: &Repo, base: &BaseTree, editable: &Editable) -> Result<Vec<String>> {
    let found = violations(&scan(repo, base)?, editable);
    let fresh = |difference| matches!(difference, Difference::Added | Difference::AddedSpecial);
    let ours = |path: &[u8]| path == proposal::FILE.as_bytes() || OWN.iter().any(|own| path.starts_with(own));
    let others = found.iter().filter(|found| !(fresh(found.difference) && ours(&found.path)));
    Ok(others.map(|found| format!("only editable files may be changed: {found}")).collect())
}

/// Problems in words for the coding agent.
fn told(problems: &[String]) -> String {
    // They quote the coding agent's text, which may be endless, and the prompt is a single command-line argument.
    let told = |problem: &String| format!("- {}", one_line(problem, LONGEST_PROBLEM));
    let mut lines: Vec<String> = problems.iter().take(SHOWN).map(told).collect();
    if problems.len() > SHOWN {
        lines.push(format!("- and {} more", problems.len() - SHOWN));
    }
    lines.join("\n")
}

//! What to do after a gate, as commands to run: an edit may be on disk, staged or committed, and CI reverts nothing.

use std::path::Path;

use super::file_guard::GuardFindings;
use super::session::Session;
use crate::guard::agent_files::{read_editable_from_disk, read_editable_from_tree};
use crate::guard::{BaseTree, Editable, Violation, differing, is_staged, shell_path};
use crate::model::gate::Status;
use crate::store::event::Verdict;

/// The most files that a command names.
const NAMED: usize = 10;

/// The hint after a verdict; none when the error says it.
pub(super) fn after(session: &Session, verdict: &Verdict, base: &BaseTree, found: &GuardFindings) -> Option<String> {
    let branch = verdict.base_ref.as_deref();
    match (verdict.decision.status, branch) {
        (Status::Passed, Some(_)) => Some("this branch may be merged.".into()),
        (Status::Passed, None) => Some(record(session, verdict, base)),
        (Status::Failed, _) if !verdict.evidence.guard.is_empty() => Some(undo(session, base, &found.files, branch)),
        (Status::Failed, _) if verdict.evidence.preflight.is_none() && verdict.evidence.is_stopped() => Some(
            "take out what was copied from train tasks and what sets a model, an effort or a seed; nothing was measured.".into(),
        ),
        (Status::Failed, None) if verdict.evidence.preflight.is_some() => {
            Some("fix the agent file and run the gate again; nothing was measured.".into())
        }
        (Status::Failed, Some(_)) if verdict.evidence.preflight.is_some() => {
            Some("fix the agent file on the branch and push again; nothing was measured.".into())
        }
        (Status::Failed, Some(reference)) => Some(format!(
            "this branch must not be merged into {reference} as it is; there is nothing to revert here: push a better edit."
        )),
        (Status::Failed, None) => Some(revert(session, base)),
        (Status::Undecided | Status::Skipped, _) => None,
    }
}

/// The editable entries that git can add, as they are typed into a shell.
pub(super) fn editable_words(session: &Session) -> String {
    let head = session.repo.head().ok().flatten().and_then(|head| session.repo.tree(&head).ok());
    let there = |path: &&String| {
        let known = head.as_ref().is_some_and(|head| head.get(path.as_bytes()).is_some());
        known || session.paths.root.join(Path::new(path.as_str())).exists()
    };
    let words: Vec<String> =
        session.config.editable.iter().filter(there).map(|path| shell_path(path.as_bytes())).collect();
    words.join(" ")
}

fn record(session: &Session, verdict: &Verdict, base: &BaseTree) -> String {
    if super::agent::fingerprint(session, base).is_ok_and(|agent| agent == verdict.agent) {
        return "the agent is the base commit's: there is nothing to commit or to record.".into();
    }
    let committed = head_tree(session).and_then(|head| super::agent::fingerprint(session, &head).ok());
    if committed.as_ref() == Some(&verdict.agent) {
        return "the edit is committed already: run `autoharness record`.".into();
    }
    format!(
        "commit the edit with `git add {} && git commit -m \"what changed and why\"`, then run `autoharness record`.",
        editable_words(session)
    )
}

fn head_tree(session: &Session) -> Option<BaseTree> {
    let head = session.repo.head().ok().flatten()?;
    session.repo.tree(&head).ok()
}

fn short(session: &Session, base: &BaseTree) -> String {
    session.repo.short_id(base.commit()).unwrap_or_else(|_| base.commit().to_string())
}

/// How guarded files come back.
fn undo(session: &Session, base: &BaseTree, files: &[Violation], branch: Option<&str>) -> String {
    let head = head_tree(session);
    let differs = |path: &[u8]| head.as_ref().is_some_and(|head| head.get(path) != base.get(path));
    let committed = files.iter().any(|file| differs(&file.path));
    let (known, fresh): (Vec<&Violation>, Vec<&Violation>) =
        files.iter().partition(|file| base.get(&file.path).is_some());
    let mut commands = Vec::new();
    if !files.is_empty() && files.len() <= NAMED {
        if !known.is_empty() {
            commands.push(format!(
                "git checkout {} -- {}",
                short(session, base),
                words(known.iter().map(|file| &*file.path))
            ));
        }
        let (tracked, stray): (Vec<&Violation>, Vec<&Violation>) =
            fresh.into_iter().partition(|file| head.as_ref().is_some_and(|head| head.get(&file.path).is_some()));
        if !tracked.is_empty() {
            commands.push(format!("git rm -q -- {}", words(tracked.iter().map(|file| &*file.path))));
        }
        if !stray.is_empty() {
            commands.push(format!("rm -r -- {}", words(stray.iter().map(|file| &*file.path))));
        }
        if committed {
            commands.push("git commit -m \"undo\"".into());
        }
    }
    let how = if commands.is_empty() { String::new() } else { format!(" (`{}`)", commands.join(" && ")) };
    let place = if committed { " in a new commit" } else { "" };
    match branch {
        Some(reference) if committed || files.is_empty() => format!(
            "this branch must not be merged into {reference}: undo the changes named above{place}{how} and push it again."
        ),
        Some(_) => format!(
            "undo the changes named above{how}: they are in no commit of the branch; reports and build results belong outside the checkout."
        ),
        None => format!(
            "undo the changes named above{place}{how}; a human who wants them commits them and runs `autoharness prepare --accept`."
        ),
    }
}

/// How to bring the base commit's agent back, depending on whether the edit is on disk, staged or committed.
fn revert(session: &Session, base: &BaseTree) -> String {
    plan(session, base).unwrap_or_else(|| {
        let words: Vec<String> = session.config.editable.iter().map(|path| shell_path(path.as_bytes())).collect();
        format!("revert with `git checkout {} -- {}` and try something else.", short(session, base), words.join(" "))
    })
}

fn plan(session: &Session, base: &BaseTree) -> Option<String> {
    let editable = Editable::new(&session.config.editable).ok()?;
    let now = read_editable_from_disk(&session.repo, base, &editable).ok()?;
    let was = read_editable_from_tree(base, &editable).ok()?;
    let head = head_tree(session)?;
    let committed = read_editable_from_tree(&head, &editable).ok()?;
    let changed = differing(&was, &now);
    let (known, fresh): (Vec<&[u8]>, Vec<&[u8]>) = changed.iter().copied().partition(|path| was.contains_key(*path));
    if changed.is_empty() {
        return Some("the agent is the base commit's: there is nothing to revert.".into());
    }
    if changed.len() > NAMED {
        return None;
    }
    let is_committed = committed != was;
    let mut commands = Vec::new();
    if !known.is_empty() {
        let from = match (is_committed, is_staged(&session.repo, &head, &editable)) {
            (true, _) => format!("{} ", short(session, base)),
            // What is staged is what a plain `git checkout` brings back.
            (false, true) => "HEAD ".into(),
            (false, false) => String::new(),
        };
        commands.push(format!("git checkout {from}-- {}", words(known.into_iter())));
    }
    let (tracked, stray): (Vec<&[u8]>, Vec<&[u8]>) = fresh.into_iter().partition(|path| head.get(path).is_some());
    if !tracked.is_empty() {
        commands.push(format!("git rm -qf -- {}", words(tracked.into_iter())));
    }
    if !stray.is_empty() {
        commands.push(format!("git rm -q --cached --ignore-unmatch -- {0} && rm -f -- {0}", words(stray.into_iter())));
    }
    if is_committed {
        commands.push("git commit -m \"revert\"".into());
        return Some(format!("the edit is committed: revert with `{}` and try something else.", commands.join(" && ")));
    }
    Some(format!("revert with `{}` and try something else.", commands.join(" && ")))
}

fn words<'p>(paths: impl Iterator<Item = &'p [u8]>) -> String {
    paths.map(shell_path).collect::<Vec<_>>().join(" ")
}

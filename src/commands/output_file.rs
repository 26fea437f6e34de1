//! What a file that the user has us write may not be: an option's typing error must cost nobody the ledger, a view or the agent.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::experiment::Experiment;
use super::report_file::{self, ReportTarget};
use crate::benchmarks;
use crate::config::CONFIG_FILE;
use crate::error::{Code, Error, Result};
use crate::guard::Editable;
use crate::store::{context, traces, views};

/// Links that lead to links: as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Errors: usage when one of these files would take the place of something of ours or of the experiment, or lie among what
/// belongs to git; nothing is written. Links are followed, for some outputs are written through them.
pub(super) fn refuse_ours<'a>(experiment: &Experiment, files: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    for file in files.into_iter().filter(|file| report_file::target(file) != ReportTarget::Stream) {
        for place in places(file) {
            if let Some(why) = ours(experiment, &place)? {
                return Err(Error::usage(format!("the output file {} {why}", file.display()))
                    .code(Code::ReportUnwritable)
                    .hint("name a file of another name, best outside the checkout; in workspace/ any name that is not taken."));
            }
        }
    }
    Ok(())
}

/// Whether a report may go to this file while nothing is known of the experiment: in a repository only where nothing is yet.
pub(super) fn is_free(file: &Path) -> bool {
    let in_repository = |place: &PathBuf| place.ancestors().any(|above| above.join(".git").symlink_metadata().is_ok());
    let in_git = |place: &PathBuf| place.components().any(|part| part.as_os_str() == ".git");
    let is_taken = |place: &PathBuf| in_git(place) || (in_repository(place) && place.exists());
    report_file::target(file) == ReportTarget::Stream || !places(file).iter().any(is_taken)
}

/// What this place is to the experiment or to us, as the end of a sentence.
fn ours(experiment: &Experiment, place: &Path) -> Result<Option<String>> {
    let (paths, repo) = (&experiment.paths, &experiment.repo);
    if [repo.common_dir(), &paths.state].iter().any(|own| place.starts_with(real(own))) {
        return Ok(Some("belongs to git or to the state of the experiment".into()));
    }
    if let Ok(name) = place.strip_prefix(real(&paths.workspace()))
        && let Some(Component::Normal(first)) = name.components().next()
        && is_kept(first)
    {
        return Ok(Some(format!("would replace what autoharness keeps in workspace/: {}", first.display())));
    }
    let replaces = || Ok(Some("would replace a file of the experiment".into()));
    if place == real(&paths.config) {
        return replaces();
    }
    let Ok(relative) = place.strip_prefix(repo.experiment()) else { return Ok(None) };
    if [CONFIG_FILE, ".env", ".git", "PROGRAM.md"].iter().any(|name| relative.starts_with(name)) {
        return replaces();
    }
    let relative = relative.as_os_str().as_bytes();
    // A configuration that cannot be read is reported by whatever needs it.
    let editable = benchmarks::load(&paths.config).and_then(|config| Editable::new(&config.editable));
    if editable.is_ok_and(|editable| editable.contains(relative)) {
        return replaces();
    }
    match repo.head()? {
        Some(head) if repo.tree(&head)?.get(relative).is_some() => replaces(),
        _ => Ok(None),
    }
}

/// Whether an entry of `workspace/` has a name of ours.
fn is_kept(name: &OsStr) -> bool {
    let others = ["learnings.md", "sessions", ".desk", traces::DIRECTORY, context::DIRECTORY];
    views::NAMES.iter().chain(&others).any(|kept| name == *kept)
}

/// Where a file lies: the place that its path names, and those to which links there lead. A file that is replaced takes the
/// first, one that is written into the last.
fn places(file: &Path) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let mut next = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    while places.len() <= MAX_LINKS {
        let (Some(above), Some(name)) = (next.parent(), next.file_name()) else {
            places.push(real(&next));
            break;
        };
        let place = real(above).join(name);
        let link = fs_err::read_link(&place);
        places.push(place);
        let Ok(link) = link else { break };
        next = real(above).join(link);
    }
    places
}

/// The path without `..` and with every link followed, as far as it exists: `..` behind a link leaves the link's target.
fn real(path: &Path) -> PathBuf {
    let mut real = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                real.pop();
            }
            part => {
                real.push(part);
                if let Ok(found) = fs_err::canonicalize(&real) {
                    real = found;
                }
            }
        }
    }
    real
}

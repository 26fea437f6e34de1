//! Differences that git itself does not show: their cause, and the way out. "Commit it" does not help, because git sees
//! nothing to commit.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use git2::{AttrCheckFlags, AttrValue};

use super::base::BaseTree;
use super::change::Difference;
use super::convert::{clean_ident, without_crlf};
use super::files::{self, shell_path};
use super::policy::Violation;
use super::repo::Repo;
use super::watch::reading;

/// How many files are examined, and named in one command.
const LOOKED_AT: usize = 20;

/// What we know about differences caused by git's configuration.
#[derive(Debug, Default)]
pub struct Causes {
    /// Each with the way out.
    pub hints: Vec<String>,
    /// How many of the violations they explain.
    pub explained: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Endings,
    Ident,
    Modes,
    Filter,
    Submodule,
}

/// Names the reason why files that git takes for unchanged differ from the base commit.
pub fn causes(repo: &Repo, base: &BaseTree, violations: &[Violation]) -> Causes {
    let mut found: Vec<(Cause, String)> = Vec::new();
    for violation in violations.iter().take(LOOKED_AT) {
        if let Some(cause) = cause(repo, base, violation) {
            found.push((cause, shell_path(&violation.path)));
        }
    }
    let mut causes = Causes { explained: found.len(), hints: Vec::new() };
    for kind in [Cause::Endings, Cause::Ident, Cause::Modes, Cause::Filter, Cause::Submodule] {
        let paths: Vec<&str> =
            found.iter().filter(|(cause, _)| *cause == kind).map(|(_, path)| path.as_str()).collect();
        if !paths.is_empty() {
            causes.hints.push(way_out(kind, &paths.join(" ")));
        }
    }
    causes
}

fn way_out(cause: Cause, paths: &str) -> String {
    match cause {
        Cause::Endings => format!(
            "only line endings differ, and git converts them (core.autocrlf, or an attribute that is not committed): commit a \
             .gitattributes with the line `* text=auto`, which the guard goes by; or have git write files as they are \
             committed: `git config core.autocrlf false && rm -- {paths} && git checkout HEAD -- {paths}`."
        ),
        Cause::Ident => format!(
            "only what stands in `$Id$` differs (attribute ident): `rm -- {paths} && git checkout HEAD -- {paths}` writes it \
             anew; commit the .gitattributes that says `ident`, or take the attribute away."
        ),
        Cause::Modes => format!(
            "git does not see executable bits here (core.fileMode is false): set them as they are committed (`chmod +x` or \
             `chmod -x`); where the file system cannot hold them, commit them as they are: \
             `git -c core.fileMode=true add -- {paths} && git commit`."
        ),
        Cause::Filter => format!(
            "a git filter (as of Git LFS) makes {paths} other bytes than those committed: keep such files out of the \
             experiment, or name them in `data:` and .gitignore."
        ),
        Cause::Submodule => format!(
            "the files of a checked-out submodule are in another repository, so nobody can tell whether they changed: copy \
             them into this one; or have them outside of the experiment, named in `data:`, and run \
             `git submodule deinit -- {paths}`."
        ),
    }
}

fn cause(repo: &Repo, base: &BaseTree, violation: &Violation) -> Option<Cause> {
    let path = violation.path.as_slice();
    if violation.difference == Difference::Submodule {
        return Some(Cause::Submodule);
    }
    if violation.difference == Difference::ModeChanged {
        let config = repo.git().config().ok()?;
        return (!config.get_bool("core.fileMode").unwrap_or(true)).then_some(Cause::Modes);
    }
    let entry = base.get(path).filter(|_| violation.difference == Difference::Modified)?;
    let (file, metadata) = files::open_regular(&files::join(repo.experiment(), path)).ok()??;
    let size = base.size(entry).ok()?;
    if size > super::agent_files::MAX_FILE_BYTES || metadata.len() > 2 * size + 4096 {
        return has_filter(repo, path).then_some(Cause::Filter);
    }
    let on_disk = files::read_up_to(file, metadata.len()).ok()??;
    let committed = base.content(path, entry).ok()?;
    let (plain, was) = (without_crlf(&on_disk), without_crlf(&committed));
    if plain == was {
        Some(Cause::Endings)
    } else if clean_ident(&plain) == clean_ident(&was) {
        Some(Cause::Ident)
    } else {
        has_filter(repo, path).then_some(Cause::Filter)
    }
}

fn has_filter(repo: &Repo, path: &[u8]) -> bool {
    let full = files::join_bytes(repo.prefix(), path);
    let place = Path::new(OsStr::from_bytes(&full));
    let read = || repo.git().get_attr_bytes(place, "filter", AttrCheckFlags::default());
    let found = reading(|| "git attributes".into(), read).ok().flatten();
    matches!(AttrValue::from_bytes(found), AttrValue::String(_) | AttrValue::Bytes(_))
}

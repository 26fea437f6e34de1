//! Where a coding agent in its work tree asks the loop outside for what it cannot do itself: run train tasks, show a trace. A
//! request is a file in a directory of the work tree, and so is the answer, so that no sandbox is in the way. The coding agent
//! can write anything there: we follow no link, and treat what it wrote as data.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::store::atomic;
use crate::store::beneath::Dir;

/// The directory, in the work tree.
const PLACE: &str = "workspace/.desk";
/// Exists as long as the loop answers.
const OPEN: &str = "open";
const REQUEST: &str = "request-";
const ANSWER: &str = "answer-";
const ENDING: &str = ".json";
/// Larger than any request that names tasks, in bytes.
const LARGEST_REQUEST: u64 = 4 << 20;
/// Larger than any answer, in bytes.
const LARGEST_ANSWER: u64 = 16 << 20;
/// Requests handled in one go; a flood waits.
const AT_ONCE: usize = 16;
/// Longer than the name of any request of ours.
const LONGEST_NAME: usize = 64;

/// What may be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Run the edited agent on train.
    Benchmark {
        /// On these tasks; none: on all.
        tasks: Vec<String>,
        json: bool,
    },
    /// Print a trace, or the table of failing tasks.
    Show {
        task: Option<String>,
        /// The table instead.
        failing: bool,
        /// The first trace, not the newest.
        baseline: bool,
        trial: u32,
        full: bool,
        json: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum DeskReply {
    /// The command was run outside.
    Said { code: i32, stdout: String, stderr: String },
    Refused {
        message: String,
        hints: Vec<String>,
        /// Whether the coding agent can do something about it.
        is_usage: bool,
    },
}

/// The loop's side.
pub(crate) struct Desk(Dir);

impl Desk {
    /// Opens the desk of a work tree. Requests that a killed loop left unanswered are removed: their commands died with it.
    /// Errors: usage where a link is in the way, infrastructure when the disk refuses or something other than a file is there.
    pub(crate) fn open(worktree: &Path) -> Result<Desk> {
        let desk = Desk::closed(worktree)?;
        desk.0.replace(OPEN, b"")?;
        Ok(desk)
    }

    /// A closed desk: a command that asks there is told so.
    pub(crate) fn closed(worktree: &Path) -> Result<Desk> {
        let dir = Dir::open(worktree)?.make_below(Path::new(PLACE))?;
        for name in dir.names()? {
            // Best effort: a directory of this name is not a request.
            let _ = dir.remove(&name);
        }
        Ok(Desk(dir))
    }

    /// The loop no longer answers.
    pub(crate) fn close(self) -> Result<()> {
        self.0.remove(OPEN)
    }

    /// Takes requests off the desk: the name for the answer, and the request, if it can be read.
    pub(crate) fn take(&self) -> Result<Vec<(String, Option<Request>)>> {
        let name = |name: &str| Some(name.strip_prefix(REQUEST)?.strip_suffix(ENDING)?.to_string());
        // Our names are short and of plain characters; a file that we cannot name again we cannot remove.
        let is_ours = |id: &String| id.len() < LONGEST_NAME && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let mut taken = Vec::new();
        for id in self.0.names()?.iter().filter_map(|one| name(one)).filter(is_ours) {
            let file = format!("{REQUEST}{id}{ENDING}");
            let bytes = self.0.read_within(&file, LARGEST_REQUEST).ok().flatten().and_then(std::result::Result::ok);
            // A directory of this name would come up again and again.
            if self.0.remove(&file).is_err() {
                continue;
            }
            taken.push((id, bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok())));
            if taken.len() == AT_ONCE {
                break;
            }
        }
        Ok(taken)
    }

    pub(crate) fn answer(&self, id: &str, answer: &DeskReply) -> Result<()> {
        let bytes = serde_json::to_vec(answer).infra(|| "cannot render an answer".into())?;
        self.0.replace(&format!("{ANSWER}{id}{ENDING}"), &bytes)
    }
}

/// The coding agent's side: a request that lies on the desk.
pub(crate) struct Asked {
    place: PathBuf,
    id: String,
}

/// The work tree at or above `here` that has a desk, open or not.
pub(crate) fn worktree(here: &Path) -> Option<&Path> {
    here.ancestors().find(|place| place.join(PLACE).is_dir())
}

impl Asked {
    /// Puts a request on the desk of a work tree. Errors: usage when the desk is closed, infrastructure when it cannot
    /// be written to.
    pub(crate) fn lay(worktree: &Path, request: &Request) -> Result<Asked> {
        let place = worktree.join(PLACE);
        let bytes = serde_json::to_vec(request).infra(|| "cannot render a request".into())?;
        // Process numbers are not unique: a fence has its own.
        let name = tempfile::Builder::new()
            .prefix("")
            .rand_bytes(12)
            .tempfile_in(&place)
            .infra(|| format!("cannot ask the loop: {} cannot be written to", place.display()))?;
        let id = name.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        atomic::replace(&place.join(format!("{REQUEST}{id}{ENDING}")), &bytes)?;
        let asked = Asked { place, id };
        if asked.is_closed() { Err(closed()) } else { Ok(asked) }
    }

    /// The answer, once it is there.
    /// Errors: usage when the desk was closed without one, infrastructure when it cannot be read.
    pub(crate) fn answer(&self) -> Result<Option<DeskReply>> {
        let was_closed = self.is_closed();
        let path = self.place.join(format!("{ANSWER}{}{ENDING}", self.id));
        match files::read_if_there(&path, LARGEST_ANSWER)? {
            Some(bytes) => {
                let _ = fs_err::remove_file(&path);
                serde_json::from_slice(&bytes).map(Some).infra(|| format!("{} is no answer", path.display()))
            }
            None if was_closed => Err(closed()),
            None => Ok(None),
        }
    }

    fn is_closed(&self) -> bool {
        !self.place.join(OPEN).exists()
    }
}

fn closed() -> Error {
    Error::usage("the loop does not answer in this work tree, or no longer does")
        .hint("make your edit, write proposal.md, and stop: the loop does the rest.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(task: &str) -> Request {
        Request::Show { task: Some(task.into()), failing: false, baseline: false, trial: 0, full: false, json: false }
    }

    #[test]
    fn what_is_asked_is_answered_once() {
        let worktree = tempfile::tempdir().unwrap();
        let desk = Desk::open(worktree.path()).unwrap();
        let asked = Asked::lay(worktree.path(), &show("a")).unwrap();
        assert_eq!(asked.answer().unwrap(), None);
        let taken = desk.take().unwrap();
        assert_eq!(taken, [(asked.id.clone(), Some(show("a")))]);
        assert_eq!(desk.take().unwrap(), []);
        let answer = DeskReply::Said { code: 1, stdout: "x\n".into(), stderr: String::new() };
        desk.answer(&taken[0].0, &answer).unwrap();
        assert_eq!(asked.answer().unwrap(), Some(answer));
        desk.close().unwrap();
        assert_eq!(asked.answer().unwrap_err().exit_code(), 2);
        assert_eq!(Asked::lay(worktree.path(), &show("a")).err().map(|error| error.exit_code()), Some(2));
        assert_eq!(super::worktree(&worktree.path().join("deep/er")), Some(worktree.path()));
    }

    #[test]
    fn links_lead_nowhere() {
        let (worktree, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = outside.path().join("secret");
        fs_err::write(&secret, serde_json::to_vec(&show("secret")).unwrap()).unwrap();
        let desk = Desk::open(worktree.path()).unwrap();
        let place = worktree.path().join(PLACE);
        let link = |name: &str, to: &Path| std::os::unix::fs::symlink(to, place.join(name)).unwrap();
        link("request-a.json", &secret);
        link("answer-a.json", &secret);
        fs_err::write(place.join("request-b.json"), "{\"command\": \"gate\"}").unwrap();
        assert_eq!(desk.take().unwrap(), [("a".to_string(), None), ("b".to_string(), None)]);
        desk.answer("a", &DeskReply::Refused { message: "no".into(), hints: Vec::new(), is_usage: true }).unwrap();
        assert_eq!(fs_err::read(&secret).unwrap(), serde_json::to_vec(&show("secret")).unwrap());

        let (worktree, place) = (tempfile::tempdir().unwrap(), outside.path().join("desk"));
        fs_err::create_dir_all(&place).unwrap();
        fs_err::create_dir_all(worktree.path().join("workspace")).unwrap();
        std::os::unix::fs::symlink(&place, worktree.path().join(PLACE)).unwrap();
        assert_eq!(Desk::open(worktree.path()).err().map(|error| error.exit_code()), Some(2));
        assert_eq!(fs_err::read_dir(&place).unwrap().count(), 0);
    }
}

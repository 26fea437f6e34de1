//! The tasks of BIRD-Interact: downloaded to where the benchmark looks for them, and useless until the user has merged the
//! ground truth, which the authors send by mail.

use std::path::{Path, PathBuf};

use super::clone::{self, quoted, yaml};
use super::setup::BirdSetup;
use super::tasks::{self, Described, Tasks, Unread, few};
use crate::error::{Code, Error, Result};
use crate::provision::need::home;
use crate::provision::{Finding, Surroundings, require};

/// Who sends the ground truth.
const MAIL: &str = "bird.bench25@gmail.com";
/// The fix for everything that `prepare` makes itself.
const PREPARE: &str = "autoharness prepare";

/// Where the tasks are, and what is around them.
#[derive(Debug, Clone)]
pub(super) struct TaskSource<'a> {
    /// `lite` or `full`.
    pub(super) set: &'a str,
    /// The file with the tasks.
    pub(super) file: PathBuf,
    /// Whether the user named it; then nothing is downloaded or changed.
    pub(super) named: bool,
    /// The directory in which the benchmark itself looks for the set.
    pub(super) own: PathBuf,
    /// The directory of the services.
    pub(super) adk: PathBuf,
}

impl<'a> TaskSource<'a> {
    /// Where a configuration has its tasks.
    pub(super) fn of(setup: &BirdSetup<'a>) -> TaskSource<'a> {
        let (set, adk) = (setup.set(), setup.adk());
        TaskSource {
            set,
            file: setup.data(),
            named: setup.names_data(),
            own: adk.join(format!("bird-interact-{set}")),
            adk,
        }
    }

    /// The tasks; those of an unfinished clone do not count.
    fn tasks(&self) -> Result<Tasks, Unread> {
        if !self.named && clone::is_unfinished(&self.own) { Err(Unread::Missing) } else { tasks::read(&self.file) }
    }

    fn described(&self, tasks: &Tasks) -> Described {
        let beside = self.file.parent().map(Path::to_path_buf);
        tasks::described(&tasks.databases, &beside.into_iter().chain([self.own.clone()]).collect::<Vec<_>>())
    }

    /// The clone that holds a file, for git-lfs.
    fn clone_of(&self, file: &Path) -> PathBuf {
        let holder = file.ancestors().skip(1).find(|directory| directory.join(".git").exists());
        holder.or(file.parent()).unwrap_or(file).to_path_buf()
    }

    /// The databases of the tasks, where these can be read.
    pub(super) fn databases(&self) -> Vec<String> {
        self.tasks().map(|tasks| tasks.databases.into_iter().collect()).unwrap_or_default()
    }
}

/// What is there, and what `prepare` would do about the rest.
pub(super) async fn findings(place: &TaskSource<'_>, around: &Surroundings<'_>) -> Result<Vec<Finding>> {
    let path = place.file.display();
    let found = match place.tasks() {
        Ok(found) => found,
        Err(Unread::Broken(what)) => {
            return Ok(vec![Finding::fail(
                "data",
                format!("{path} cannot be used: {what}"),
                "merge it again, or download the data set again",
            )]);
        }
        Err(Unread::Pointer) => return Ok(vec![stand_ins(place, &[&place.file], around).await?]),
        Err(Unread::Missing) if place.named => {
            let fix = format!(
                "correct `bird_data_path:`, or leave it out: then `prepare` downloads the public tasks; {}",
                ask_for_truth(place, around)
            );
            return Ok(vec![Finding::fail("data", format!("the tasks are missing: {path}"), fix)]);
        }
        Err(Unread::Missing) => return Ok(vec![missing(place, around).await?]),
    };
    let mut findings =
        vec![Finding::ok("data", format!("{} tasks on {} databases", found.count, found.databases.len()))];
    if found.without_truth.is_empty() {
        findings.push(Finding::ok("ground truth", "every task has it"));
        findings.extend(readable(&place.file, around.root));
    } else {
        findings.push(truth(place, &found, around));
    }
    let described = place.described(&found);
    if !described.pointers.is_empty() {
        let pointers: Vec<&PathBuf> = described.pointers.iter().collect();
        findings.push(stand_ins(place, &pointers, around).await?);
    }
    if !described.absent.is_empty() {
        findings.push(Finding::fail(
            "schemas",
            format!("these files are neither beside {path} nor in {}: {}", place.own.display(), few(&described.absent)),
            format!(
                "the agent would be told that there is no schema: git lfs install && git clone {} {}",
                clone::data_url(place.set),
                quoted(&place.own)
            ),
        ));
    }
    Ok(findings)
}

/// Downloads what is missing and may be downloaded, and then insists on the ground truth.
/// Errors: usage for what the user must fix, infrastructure when a download fails; `Interrupted`.
pub(super) async fn ensure(place: &TaskSource<'_>, around: &Surroundings<'_>, say: &dyn Fn(String)) -> Result<()> {
    if !place.named && place.tasks() == Err(Unread::Missing) {
        if !clone::has_lfs(around).await? {
            return Err(Error::usage("git-lfs is not installed, and the data set comes through it")
                .code(Code::EnvironmentNotReady)
                .hint(clone::INSTALL_LFS));
        }
        clone::data(place.set, &place.own, around, say).await?;
    }
    if clone::is_ours(&place.own) && !pointers(place).is_empty() {
        clone::smudge(&place.own, around, say).await?;
    }
    require(&findings(place, around).await?)
}

/// Pointer files of git-lfs among the files of a set.
fn pointers(place: &TaskSource<'_>) -> Vec<PathBuf> {
    match place.tasks() {
        Ok(found) => place.described(&found).pointers,
        Err(Unread::Pointer) => vec![place.file.clone()],
        Err(_) => Vec::new(),
    }
}

async fn missing(place: &TaskSource<'_>, around: &Surroundings<'_>) -> Result<Finding> {
    let path = place.file.display();
    if place.own.is_dir() && !clone::is_unfinished(&place.own) {
        let fix = format!("remove {}, and `autoharness prepare` downloads it anew", quoted(&place.own));
        return Ok(Finding::fail("data", format!("the tasks are missing: {path}"), fix));
    }
    if !clone::has_lfs(around).await? {
        return Ok(Finding::fail("git-lfs", "is not installed, and the data set comes through it", clone::INSTALL_LFS));
    }
    Ok(Finding::warn(
        "data",
        format!(
            "not here yet; `autoharness prepare` downloads {} to {}",
            clone::data_url(place.set),
            place.own.display()
        ),
        PREPARE,
    ))
}

/// Files whose content git-lfs has not fetched.
async fn stand_ins(place: &TaskSource<'_>, files: &[&PathBuf], around: &Surroundings<'_>) -> Result<Finding> {
    let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    let what = format!("stand-ins of git-lfs, not the files themselves: {}", few(&names));
    if !clone::has_lfs(around).await? {
        return Ok(Finding::fail("git-lfs", format!("is not installed, and these are {what}"), clone::INSTALL_LFS));
    }
    let directory = files.first().map(|file| place.clone_of(file)).unwrap_or_default();
    Ok(if directory == place.own && clone::is_ours(&place.own) {
        Finding::warn("data", what, PREPARE)
    } else {
        Finding::fail("data", what, clone::pull_command(&directory))
    })
}

fn truth(place: &TaskSource<'_>, tasks: &Tasks, around: &Surroundings<'_>) -> Finding {
    let without = &tasks.without_truth;
    Finding::fail(
        "ground truth",
        format!(
            "{} of the {} tasks in {} have none ({}): they would score 0.0 whatever the agent does",
            without.len(),
            tasks.count,
            place.file.display(),
            few(without)
        ),
        ask_for_truth(place, around),
    )
}

/// How to get what the public data set leaves out. The merged file holds all answers, so it belongs outside the work
/// tree; and the benchmark's own program empties its input when that is the output as well.
fn ask_for_truth(place: &TaskSource<'_>, around: &Surroundings<'_>) -> String {
    let set = place.set;
    let home = home(around.environment).filter(|home| home.is_absolute() && !home.starts_with(around.root));
    let above = home.or_else(|| around.root.parent().map(Path::to_path_buf)).unwrap_or_else(|| "/".into());
    let mut target = above.join(format!("bird-interact-{set}-merged"));
    if target.starts_with(around.root) {
        target.set_extension("truth");
    }
    let (program, fetch) = clone::merge_program(&place.adk);
    let merged = target.join("bird_interact_data.jsonl");
    let own = place.own.join("bird_interact_data.jsonl");
    let public = if own.exists() || place.file == merged || !place.file.exists() { own } else { place.file.clone() };
    format!(
        "send a mail to {MAIL} with the subject \"[bird-interact-{set} GT&Test Cases]\"; an answer with a file comes by itself. \
         Save that file as {sent}, and run: mkdir -p {target} && {fetch}python3 {program} {public} {sent} {merged} (the output must \
         be another file than the input, which would be emptied). Then set `bird_data_path: {value}`",
        sent = quoted(&above.join(format!("bird-interact-{set}-truth.jsonl"))),
        target = quoted(&target),
        fetch = fetch.unwrap_or_default(),
        program = quoted(&program),
        public = quoted(&public),
        merged = quoted(&merged),
        value = yaml(&merged),
    )
}

/// The coding agent can read gold SQL in the work tree, that of the hold-out included.
fn readable(data: &Path, root: &Path) -> Option<Finding> {
    let inside = fs_err::canonicalize(data).ok()?.starts_with(fs_err::canonicalize(root).ok()?);
    inside.then(|| {
        Finding::warn(
            "hold-out",
            format!("{} lies inside the experiment, where the coding agent can read the gold SQL", data.display()),
            "move the tasks and their folders elsewhere, and name them in `bird_data_path:`",
        )
    })
}

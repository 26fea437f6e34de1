//! Clones for BIRD-Interact: the benchmark's code, and its data set. A half-made clone always carries a mark.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Code, Error, Result};
use crate::process::Limits;
use crate::process::git::Git;
use crate::provision::Surroundings;
use crate::provision::need::{ask, find_program};

/// Where the code comes from.
pub(super) const CODE: &str = "https://github.com/bird-bench/BIRD-Interact";
/// The revision that the helper is tested with.
const REVISION: &str = "451fe2c3518ee1cf908d8139e2913483bd519381";
/// Marks an incomplete clone.
const UNFINISHED: &str = ".autoharness-unfinished";
/// Marks a complete clone of a data set that we made, and may therefore change.
const OURS: &str = ".git/autoharness-clone";
/// How long a clone may take.
const LIMITS: Limits = Limits { time: Duration::from_secs(30 * 60), output: 64 * 1024 };
pub(super) const INSTALL_LFS: &str =
    "install git-lfs (Debian, Ubuntu: `apt-get install git-lfs`; macOS: `brew install git-lfs`)";

/// Whether there is an unfinished clone.
pub(super) fn is_unfinished(directory: &Path) -> bool {
    directory.join(UNFINISHED).exists()
}

/// Whether a clone of a data set is one that we made.
pub(super) fn is_ours(directory: &Path) -> bool {
    directory.join(OURS).is_file()
}

pub(super) async fn has_lfs(around: &Surroundings<'_>) -> Result<bool> {
    let Some(git) = find_program(around.environment, around.root, "git") else { return Ok(false) };
    Ok(ask(&git, &["lfs", "version"], around).await?.is_some_and(|said| said.exit.success()))
}

/// Where the data set of a name comes from.
pub(super) fn data_url(set: &str) -> String {
    format!("https://huggingface.co/datasets/birdsql/bird-interact-{set}")
}

/// The benchmark's code at the pinned revision.
/// Errors: usage when something else is in the way; infrastructure when it cannot be fetched; `Interrupted`.
pub(super) async fn code(directory: &Path, around: &Surroundings<'_>, say: &dyn Fn(String)) -> Result<()> {
    begin(directory, "`bird_repo:`", say)?;
    say(format!("cloning {CODE} at {}", &REVISION[..7]));
    let offline = "check the network, or clone it yourself and name the checkout in `bird_repo:`.";
    let made = async {
        run(&["init", "--quiet"], directory, around).await?;
        run(&["fetch", "--quiet", "--depth", "1", CODE, REVISION], directory, around).await?;
        run(&["checkout", "--quiet", "--detach", "FETCH_HEAD"], directory, around).await
    };
    finish(directory, made.await.map_err(|error: Error| error.hint_unless_interrupted(offline)))
}

/// The newest state of a data set, with the files that git-lfs keeps.
pub(super) async fn data(set: &str, directory: &Path, around: &Surroundings<'_>, say: &dyn Fn(String)) -> Result<()> {
    begin(directory, "the tasks in `bird_data_path:`", say)?;
    let url = data_url(set);
    say(format!("downloading the data set from {url}"));
    let made = async {
        run(&["init", "--quiet"], directory, around).await?;
        run(&["config", "core.autocrlf", "false"], directory, around).await?;
        run(&["remote", "add", "origin", &url], directory, around).await?;
        run(&["fetch", "--quiet", "--depth", "1", "origin", "HEAD"], directory, around).await?;
        // Without filters, whatever the user has installed: git-lfs below fetches everything at once, not file by file.
        let plain = ["-c", "filter.lfs.smudge=", "-c", "filter.lfs.process=", "-c", "filter.lfs.required=false"];
        run(&[&plain[..], &["checkout", "--quiet", "--detach", "FETCH_HEAD"]].concat(), directory, around).await?;
        large_files(directory, around).await?;
        fs_err::write(directory.join(OURS), "")?;
        Ok(())
    };
    let by_hand = format!(
        "tried {url} with git and git-lfs: check the network and proxies. A mirror: `git config --global \
         url.https://MIRROR/.insteadOf https://huggingface.co/`. By hand: `git lfs install && git clone {url}` on another machine, and copy it to {}. Then run \
         `autoharness prepare` again.",
        quoted(directory)
    );
    finish(directory, made.await.map_err(|error: Error| error.hint_unless_interrupted(by_hand)))
}

/// Fetches the files that git-lfs left as pointers in a clone of ours. Errors: infrastructure when they cannot be
/// fetched; `Interrupted`.
pub(super) async fn smudge(directory: &Path, around: &Surroundings<'_>, say: &dyn Fn(String)) -> Result<()> {
    say(format!("fetching what git-lfs has left out in {}", directory.display()));
    let by_hand = format!("check the network; by hand: {}", pull_command(directory));
    large_files(directory, around).await.map_err(|error: Error| error.hint_unless_interrupted(by_hand))
}

/// The command that does the same in a user's clone.
pub(super) fn pull_command(directory: &Path) -> String {
    let directory = quoted(directory);
    format!("git -C {directory} lfs install --local && git -C {directory} lfs pull")
}

async fn large_files(directory: &Path, around: &Surroundings<'_>) -> Result<()> {
    // Only for this clone, and without hooks: we must not touch the user's own set-up.
    run(&["lfs", "install", "--local", "--skip-repo"], directory, around).await?;
    run(&["lfs", "pull", "origin"], directory, around).await
}

async fn run(arguments: &[&str], directory: &Path, around: &Surroundings<'_>) -> Result<()> {
    let Surroundings { supervisor, environment, cancel, .. } = around;
    let git = Git { supervisor, environment, directory, cancel };
    let moves_much = ["fetch", "checkout", "lfs"].iter().any(|word| arguments.contains(word));
    if moves_much {
        git.run_within(LIMITS, String::new(), arguments).await?;
    } else {
        git.run(arguments).await?;
    }
    Ok(())
}

/// An empty directory that is marked as unfinished.
fn begin(directory: &Path, instead: &str, say: &dyn Fn(String)) -> Result<()> {
    if is_unfinished(directory) {
        say(format!("removing a clone that was interrupted: {}", directory.display()));
        fs_err::remove_dir_all(directory)?;
    }
    if directory.symlink_metadata().is_ok() {
        return Err(Error::usage(format!("{} exists, and is not what belongs there", directory.display()))
            .code(Code::EnvironmentNotReady)
            .hint(format!("remove it, and `autoharness prepare` makes it anew; or name {instead}")));
    }
    fs_err::create_dir_all(directory)?;
    fs_err::write(directory.join(UNFINISHED), "")?;
    Ok(())
}

/// Removes the mark; after a failure the directory, so that nothing is in the way of a copy made by hand.
fn finish(directory: &Path, made: Result<()>) -> Result<()> {
    match made {
        Ok(()) => fs_err::remove_file(directory.join(UNFINISHED))?,
        Err(error) => {
            // What cannot be removed now keeps its mark, and is removed next time.
            let _ = fs_err::remove_dir_all(directory);
            return Err(error);
        }
    }
    Ok(())
}

/// A path for a shell's command line.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A path as a value in YAML.
pub(super) fn yaml(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.starts_with('/') && text.chars().all(plain) { text } else { serde_json::json!(text).to_string() }
}

/// The program that merges the ground truth into the public tasks: the checkout's, and where else it can be had.
pub(super) fn merge_program(adk: &Path) -> (PathBuf, Option<String>) {
    const NAME: &str = "combine_public_with_gt.py";
    let own = adk.parent().unwrap_or(adk).join(NAME);
    if own.is_file() {
        return (own, None);
    }
    let raw = CODE.replace("github.com", "raw.githubusercontent.com");
    (PathBuf::from(NAME), Some(format!("curl -fsSLO {raw}/{REVISION}/{NAME} && ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_a_shell_and_a_configuration() {
        assert_eq!(quoted(Path::new("/a/b-c.d")), "/a/b-c.d");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
        assert_eq!(yaml(Path::new("/a/b")), "/a/b");
        assert_eq!(yaml(Path::new("/a b: c")), "\"/a b: c\"");
    }
}

//! Checkouts of tau2: fetches the needed part of one commit, never half of it under its final name, and finds the checkout
//! that an editable installation runs from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::config::TauBenchSettings;
use crate::error::{Error, Result};
use crate::process::Limits;
use crate::process::git::Git;
use crate::provision::Surroundings;
use crate::store::atomic;

/// Directory of the experiment that holds checkouts, one per commit. git ignores it.
pub(super) const DIRECTORY: &str = "tau2_data";

/// The needed parts of the repository: the package, and what its build reads. The rest (web site, figures) is large.
const CHECKOUT: &str =
    "/src/\n/data/tau2/domains/\n/data/tau2/user_simulator/\n/pyproject.toml\n/README.md\n/LICENSE\n";

/// Long enough for a first download on a slow line.
const DOWNLOAD: Limits = Limits { time: Duration::from_secs(30 * 60), ..Limits::SMALL };

/// One commit's code and data, into `tau2_data/<commit>`. The directory gets its name only when complete, so an interrupted
/// one is never taken for a complete one. Errors: infrastructure when the commit cannot be had, or not within half an hour;
/// `Interrupted`.
pub(super) async fn fetch(
    settings: &TauBenchSettings,
    place: &Path,
    around: &Surroundings<'_>,
    say: &dyn Fn(String),
) -> Result<()> {
    if place.is_dir() {
        return Ok(());
    }
    let TauBenchSettings { tau2_revision: revision, tau2_repository: repository, .. } = settings;
    let above = around.root.join(DIRECTORY);
    fs_err::create_dir_all(&above)?;
    let partial = above.join(format!("{}.partial", &revision[..12]));
    if !partial.join(".git").is_dir() {
        // Nothing to continue from.
        if partial.symlink_metadata().is_ok() {
            fs_err::remove_dir_all(&partial)?;
        }
        fs_err::create_dir_all(&partial)?;
    } else {
        say("continuing a download of tau2 that was interrupted".into());
        // Locks of a git that was killed.
        for lock in ["index.lock", "shallow.lock", "config.lock"] {
            let _ = fs_err::remove_file(partial.join(".git").join(lock));
        }
    }
    say(format!("fetching tau2 {} from {repository}", &revision[..12]));
    let Surroundings { supervisor, environment, cancel, .. } = around;
    let git = Git { supervisor, environment, directory: &partial, cancel };
    git.run(&["init", "--quiet"]).await?;
    for (name, value) in [
        ("remote.origin.url", repository.as_str()),
        // Then only the files that are checked out are downloaded, if the server supports it.
        ("remote.origin.promisor", "true"),
        ("remote.origin.partialCloneFilter", "blob:none"),
        ("core.autocrlf", "false"),
        ("core.sparseCheckout", "true"),
        ("gc.auto", "0"),
    ] {
        git.run(&["config", name, value]).await?;
    }
    let hint = |error: Error| {
        error.hint_unless_interrupted(format!(
            "check the network and proxies, and that {repository} has the commit {revision}; `tau2_repository` names a mirror, \
             `tau2_python` an installation of your own. The same command continues."
        ))
    };
    let fetch = ["fetch", "--quiet", "--depth=1", "--no-tags", "--filter=blob:none", "origin", revision];
    git.run_within(DOWNLOAD, String::new(), &fetch).await.map_err(hint)?;
    // Not by naming paths: then git would download file by file.
    fs_err::create_dir_all(partial.join(".git/info"))?;
    atomic::replace_unsynced(&partial.join(".git/info/sparse-checkout"), CHECKOUT.as_bytes())?;
    let checkout = ["checkout", "--quiet", "--force", "--detach", revision];
    git.run_within(DOWNLOAD, String::new(), &checkout).await.map_err(hint)?;
    fs_err::remove_dir_all(partial.join(".git"))?;
    fs_err::rename(&partial, place)?;
    Ok(())
}

/// Where an installation came from, as every installer notes it (PEP 610).
#[derive(Deserialize)]
struct Origin {
    url: String,
    #[serde(default)]
    dir_info: DirectoryInfo,
}

#[derive(Default, Deserialize)]
struct DirectoryInfo {
    #[serde(default)]
    editable: bool,
}

/// The data directory beside the source that an interpreter has installed editable (`pip install -e`, `uv sync`): there
/// tau2 looks as well. `None` for any other installation, whose checkout may have moved on since. Starts no process.
pub(super) fn data_of_editable(python: &Path) -> Option<PathBuf> {
    // Not the canonical path: an environment's `python` is a link to that of the system.
    let lib = python.parent()?.parent()?.join("lib");
    let entries =
        |directory: &Path| fs_err::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = |path: &Path, start: &str, end: &str| {
        path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with(start) && name.ends_with(end)
        })
    };
    let versions = entries(&lib).filter(|path| named(path, "python3", "")).map(|path| path.join("site-packages"));
    let mut notes = versions
        .flat_map(|packages| entries(&packages).filter(|path| named(path, "tau2-", ".dist-info")).collect::<Vec<_>>())
        .filter_map(|notes| fs_err::read(notes.join("direct_url.json")).ok());
    let origin: Origin = notes.find_map(|bytes| serde_json::from_slice(&bytes).ok())?;
    let data = path_of_url(&origin.url)?.join("data");
    (origin.dir_info.editable && data.is_dir()).then_some(data)
}

/// The path that a `file:` URL names.
fn path_of_url(url: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut left = url.strip_prefix("file://")?.bytes();
    let mut path = Vec::new();
    while let Some(byte) = left.next() {
        path.push(match byte {
            b'%' => {
                let digits = [left.next()?, left.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_paths() {
        for (url, path) in [
            ("file:///a%20b/%C3%BC%231/x-y_z.0", Some("/a b/ü#1/x-y_z.0")),
            ("file:///a%2", None),
            ("file:///a%zz", None),
            ("file://host/a", None),
            ("https://host/a", None),
        ] {
            assert_eq!(path_of_url(url).as_deref(), path.map(Path::new), "{url}");
        }
    }
}

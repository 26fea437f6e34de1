//! Which other users' repositories the user trusts, by git's own rules. libgit2 knows only exact paths.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use git2::{Config, Repository};

/// Opens a repository that belongs to another user, when `safe.directory` allows it; `None` when it does not. Errors:
/// what libgit2 says about the repository itself.
pub(super) fn open_if_trusted(root: &Path) -> Result<Option<Repository>, git2::Error> {
    let home = std::env::home_dir();
    if !trusts(&configured(), root, home.as_deref()) {
        return Ok(None);
    }
    // A bare repository is opened without an owner check; then the work tree is set.
    let git = Repository::open_bare(git_directory(root))?;
    git.set_workdir(root, false)?;
    Ok(Some(git))
}

/// The values of `safe.directory`, from the system's and the user's configuration only: a repository must not vouch for
/// itself.
fn configured() -> Vec<String> {
    let files = [Config::find_system(), Config::find_xdg(), Config::find_global()];
    let mut values = Vec::new();
    for config in files.into_iter().flatten().filter_map(|file| Config::open(&file).ok()) {
        let Ok(entries) = config.multivar("safe.directory", None) else { continue };
        let _ = entries.for_each(|entry| values.push(entry.value().unwrap_or_default().to_string()));
    }
    values
}

/// Git's rule: values add up, an empty one clears those before it, `*` is everything, `DIR/*` is all below DIR.
fn trusts(values: &[String], root: &Path, home: Option<&Path>) -> bool {
    let real = |path: PathBuf| fs::canonicalize(&path).unwrap_or(path);
    values.iter().fold(false, |trusted, value| {
        let value = value.strip_prefix("%(prefix)/").filter(|rest| rest.starts_with('/')).unwrap_or(value);
        let expanded = |path: &str| match (path.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(path),
        };
        match value {
            "" => false,
            "*" => true,
            pattern => {
                trusted
                    || match pattern.strip_suffix("/*") {
                        Some(above) => {
                            let above = real(expanded(if above.is_empty() { "/" } else { above }));
                            root != above && root.starts_with(above)
                        }
                        None => {
                            let path = expanded(pattern);
                            path.is_absolute() && real(path) == root
                        }
                    }
            }
        }
    })
}

/// The directory that `.git` is or, in a linked work tree, names.
fn git_directory(root: &Path) -> PathBuf {
    let place = root.join(".git");
    let text = if place.is_file() { fs::read(&place).unwrap_or_default() } else { Vec::new() };
    match text.strip_prefix(b"gitdir:") {
        Some(named) => root.join(OsStr::from_bytes(named.trim_ascii())),
        None => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_trusted_as_git_does() {
        let root = Path::new("/nowhere/work/e");
        let trusted = |values: &[&str]| {
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            trusts(&values, root, Some(Path::new("/nowhere")))
        };
        let yes = ["*", "/nowhere/work/e", "/nowhere/work/e/", "/nowhere/*", "/nowhere/work/*", "/*", "~/work/e"];
        for value in yes.into_iter().chain(["%(prefix)//nowhere/work/e"]) {
            assert!(trusted(&[value]), "{value}");
        }
        for value in ["", "/nowhere/work", "/nowhere/work/e/*", "/nowhere/wor*", "/nowhere/w/*", "work/e", ".", "e"] {
            assert!(!trusted(&[value]), "{value}");
        }
        assert!(!trusted(&["*", ""]), "an empty value takes back what came before");
        assert!(trusted(&["", "/nowhere/work/e", "/other"]));
    }
}

//! Finds a Python interpreter of a wanted version on this machine.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Surroundings;
use super::need::{ask, find_program, home};
use crate::error::Result;

/// A version of Python, such as 3.12.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Parses `3.12.1`; what follows the third number is ignored.
    pub fn parse(text: &str) -> Option<Version> {
        let mut numbers = text.trim().split('.').map(|part| {
            let digits = part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            digits.parse::<u32>().ok()
        });
        Some(Version(numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// The acceptable versions: from `min` (minor version of Python 3) up to, but not including, `below`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Least minor version: 12 for Python 3.12.
    pub min: u32,
    /// First minor version that is too new.
    pub below: u32,
}

impl Range {
    /// Whether a version will do.
    pub fn contains(self, version: Version) -> bool {
        version.0 == 3 && (self.min..self.below).contains(&version.1)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.below.saturating_sub(1) {
            last if last == self.min => write!(f, "Python 3.{last}"),
            last => write!(f, "Python 3.{} to 3.{last}", self.min),
        }
    }
}

/// An interpreter that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPython {
    /// The interpreter itself, not a shim that leads to it.
    pub path: PathBuf,
    pub version: Version,
}

/// The result of a search for an interpreter.
#[derive(Debug, Default)]
pub struct Search {
    /// The first interpreter that will do.
    pub found: Option<FoundPython>,
    /// What else was found, for messages: `/usr/bin/python3 is 3.11.2`.
    pub rejected: Vec<String>,
}

/// Looks for an interpreter: for every wanted version, newest first, `python3.N` and those of pyenv, which may hide behind a shim
/// that does not answer; then `python3`, and what uv knows.
/// Each is asked for its version, within a bounded time; one that does not answer is passed over.
///
/// # Errors
/// `Interrupted`.
pub async fn search(range: Range, around: &Surroundings<'_>) -> Result<Search> {
    let environment = around.environment;
    let mut search = Search::default();
    let mut candidates: Vec<PathBuf> = Vec::new();
    for minor in (range.min..range.below).rev() {
        candidates.extend(find_program(environment, around.root, &format!("python3.{minor}")));
        candidates.extend(of_pyenv(around, Range { min: minor, below: minor + 1 }));
    }
    candidates.extend(find_program(environment, around.root, "python3"));
    for candidate in candidates {
        if try_one(&candidate, range, around, &mut search).await? {
            return Ok(search);
        }
    }
    if let Some(uv) = find_program(environment, around.root, "uv") {
        let wanted = format!(">=3.{},<3.{}", range.min, range.below);
        let said = ask(&uv, &["python", "find", "--no-python-downloads", &wanted], around).await?;
        if let Some(path) =
            said.filter(|said| said.exit.success()).map(|said| said.text()).filter(|path| !path.is_empty())
        {
            try_one(Path::new(&path), range, around, &mut search).await?;
        }
    }
    Ok(search)
}

async fn try_one(candidate: &Path, range: Range, around: &Surroundings<'_>, search: &mut Search) -> Result<bool> {
    match interrogate(candidate, around).await? {
        Some(interpreter) if range.contains(interpreter.version) => {
            search.found = Some(interpreter);
            return Ok(true);
        }
        Some(other) => search.rejected.push(format!("{} is {}", candidate.display(), other.version)),
        // Most often a shim of pyenv for a version that is not switched on.
        None => search.rejected.push(format!("{} does not answer", candidate.display())),
    }
    Ok(false)
}

/// Installed versions of pyenv within the range, newest first.
fn of_pyenv(around: &Surroundings<'_>, range: Range) -> Vec<PathBuf> {
    let root = around.environment.get("PYENV_ROOT").map(PathBuf::from);
    let Some(root) = root.or_else(|| Some(home(around.environment)?.join(".pyenv"))) else { return Vec::new() };
    let Ok(entries) = fs_err::read_dir(root.join("versions")) else { return Vec::new() };
    let mut versions: Vec<(Version, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let version = Version::parse(entry.file_name().to_str()?)?;
            let path = entry.path().join("bin/python3");
            (range.contains(version) && path.exists()).then_some((version, path))
        })
        .collect();
    versions.sort();
    versions.into_iter().rev().map(|(_, path)| path).collect()
}

/// Asks an interpreter for its version and path. `None` when it does not answer as an interpreter.
pub(crate) async fn interrogate(python: &Path, around: &Surroundings<'_>) -> Result<Option<FoundPython>> {
    let script = "import sys; print('%d.%d.%d' % sys.version_info[:3]); print(sys.executable or '')";
    let Some(said) = ask(python, &["-I", "-S", "-c", script], around).await? else { return Ok(None) };
    let text = said.text();
    let mut lines = text.lines();
    let version = lines.next().and_then(Version::parse).filter(|_| said.exit.success());
    let path = lines.next().filter(|path| path.starts_with('/')).map_or_else(|| python.to_owned(), PathBuf::from);
    Ok(version.map(|version| FoundPython { path, version }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let range = Range { min: 12, below: 14 };
        assert!(range.contains(Version::parse("3.12.1").unwrap()));
        assert!(range.contains(Version::parse("3.13.0rc2").unwrap()));
        assert!(!range.contains(Version::parse("3.9.18").unwrap()));
        assert!(!range.contains(Version::parse("3.14").unwrap()));
        assert!(!range.contains(Version::parse("2.13.0").unwrap()));
        assert!(Version::parse("system").is_none());
        assert_eq!(range.to_string(), "Python 3.12 to 3.13");
    }
}

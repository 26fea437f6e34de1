//! `surfaces:`: names for groups of editable paths, which tell edits apart.

use serde_json::Value;

use super::field::Field;
use super::key::{Config, Surfaces};
use super::parse::Document;
use crate::error::{Code, Error, Result};

pub(super) fn read(field: &Field<'_>) -> Result<Surfaces> {
    let (mapping, _) = field.mapping()?;
    let mut surfaces = Surfaces::new();
    for (name, value) in mapping {
        let is_word = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_');
        if name.is_empty() || !name.chars().all(is_word) {
            return Err(field.error(format!("cannot name a group {name:?}: letters, digits, `-` and `_` make a name")));
        }
        let items: Option<Vec<&str>> =
            value.as_array().and_then(|items| items.iter().map(Value::as_str).collect::<Option<_>>());
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            return Err(field.error(format!("expects a list of paths for `{name}`")));
        };
        let paths = items.into_iter().map(|item| field.path(item)).collect::<Result<_>>()?;
        surfaces.insert(name, paths);
    }
    Ok(surfaces)
}

/// Every path may be edited: a group of anything else could never be touched.
pub(super) fn check(document: &Document, config: &Config) -> Result<()> {
    let is_editable = |path: &&String| config.editable.iter().any(|editable| is_below(path, editable));
    for (name, paths) in &config.surfaces {
        if let Some(path) = paths.iter().find(|path| !is_editable(path)) {
            let entry = document.entry("surfaces");
            let place = entry.map_or_else(|| document.path.display().to_string(), |entry| document.place(entry));
            return Err(Error::usage(format!("{place}: `surfaces` has `{path}` in `{name}`, but it is not editable"))
                .code(Code::ConfigInvalid)
                .hint(format!("name paths within `editable` ({}), or add it there.", config.editable.join(", "))));
        }
    }
    Ok(())
}

/// The groups that these files are in, in the order of their names. A file may be in several, or in none.
pub(crate) fn touched<'a>(surfaces: &Surfaces, files: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let has = |paths: &Vec<String>| files.clone().any(|file| paths.iter().any(|path| is_below(file, path)));
    surfaces.iter().filter(|(_, paths)| has(paths)).map(|(name, _)| name.clone()).collect()
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_touches_the_groups_that_its_files_are_in() {
        let surfaces: Surfaces = [("tools", vec!["agent/tools", "agent/agent.py"]), ("prompt", vec!["agent/prompts"])]
            .map(|(name, paths)| (name.to_string(), paths.into_iter().map(str::to_string).collect()))
            .into();
        let of = |files: &[&str]| touched(&surfaces, files.iter().copied());
        assert_eq!(of(&["agent/tools/a.py", "agent/prompts/x/y.md"]), ["prompt", "tools"]);
        assert_eq!(of(&["agent/agent.py"]), ["tools"]);
        assert_eq!(of(&["agent/tools2/a.py", "agent/agent.pyc"]), [""; 0]);
        assert_eq!(of(&[]), [""; 0]);
    }
}

//! The Python programs of ours that run benchmarks, embedded in the binary and written out where they are needed.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::Result;
use crate::model::hash::hash;
use crate::store::atomic;

/// The files of one helper.
#[derive(Debug)]
pub(crate) struct Helper {
    /// Its directory. Modules of a package import each other by that name.
    pub name: &'static str,
    /// Names and texts.
    pub files: &'static [(&'static str, &'static str)],
}

/// The files of `helper/` beside the file that calls this.
macro_rules! helper {
    ($helper:literal: $($name:literal),* $(,)?) => {
        $crate::benchmarks::helper::Helper {
            name: $helper,
            files: &[$(($name, include_str!(concat!("helper/", $name)))),*],
        }
    };
}
pub(crate) use helper;

impl Helper {
    /// Writes the helper below `directory` (outside the work tree) and returns the directory with its programs. Other files
    /// there are removed: they were tampered with, or belong to another version, and could be imported in place of one of
    /// Python's own modules. Errors: infrastructure when it cannot be written.
    pub(crate) fn write(&self, directory: &Path) -> Result<PathBuf> {
        let helper = directory.join(self.name);
        fs_err::create_dir_all(&helper)?;
        for entry in fs_err::read_dir(&helper)? {
            let path = entry?.path();
            let known = self.files.iter().any(|(name, _)| path.file_name().is_some_and(|found| found == *name));
            if path.is_dir() && !path.is_symlink() {
                fs_err::remove_dir_all(&path)?;
            } else if !known {
                fs_err::remove_file(&path)?;
            }
        }
        for (name, text) in self.files {
            let path = helper.join(name);
            if fs_err::read(&path).ok().as_deref() != Some(text.as_bytes()) {
                atomic::replace(&path, text.as_bytes())?;
            }
        }
        Ok(helper)
    }

    /// One hash over its files, for the protocol fingerprint.
    pub(crate) fn fingerprint(&self) -> String {
        if let [(_, text)] = self.files {
            return hash(text.as_bytes());
        }
        let files: Vec<_> = self.files.iter().map(|(name, text)| (name, hash(text.as_bytes()))).collect();
        hash(json!(files).to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::ALL;
    use crate::benchmarks::tau_bench::HELPER as TAU_BENCH;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs_err::read_dir(directory).expect("readable");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The files of `helper/` that a benchmark's sources embed: what `helper!` lists after the helper's name, and single ones.
    fn embedded(source: &str) -> Vec<&str> {
        let lists = source.split("helper!(").skip(1).filter_map(|rest| rest.split(')').next());
        let single =
            source.split(concat!("include_str", "!(\"helper/")).skip(1).filter_map(|rest| rest.split('"').next());
        lists.flat_map(|list| list.split('"').skip(3).step_by(2)).chain(single).collect()
    }

    #[test]
    fn every_file_of_a_helper_is_embedded() {
        for benchmark in ALL {
            let slice = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/benchmarks").join(benchmark.file_stem());
            if !slice.join("helper").exists() {
                continue;
            }
            let sources = names(&slice).into_iter().filter(|name| name.ends_with(".rs"));
            let texts = sources.map(|name| fs_err::read_to_string(slice.join(name)).expect("sources are text"));
            let text = texts.collect::<String>();
            let (embedded, found) = (embedded(&text), names(&slice.join("helper")));
            let for_people = |name: &str| name == "__pycache__" || name.ends_with(".md");
            let left: Vec<_> =
                found.iter().filter(|name| !for_people(name) && !embedded.contains(&name.as_str())).collect();
            assert!(left.is_empty(), "{} embeds {embedded:?} and leaves out {left:?}", slice.display());
        }
    }

    #[test]
    fn what_lies_beside_a_helper_goes() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let helper = TAU_BENCH.write(directory.path()).expect("writable");
        fs_err::write(helper.join("random.py"), "evil").expect("writable");
        fs_err::write(helper.join("bench.py"), "evil").expect("writable");
        fs_err::create_dir(helper.join("json")).expect("writable");
        std::os::unix::fs::symlink("/", helper.join("root")).expect("writable");
        assert_eq!(TAU_BENCH.write(directory.path()).expect("writable"), helper);
        assert_eq!(names(&helper), TAU_BENCH.files.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        let bench = TAU_BENCH.files.iter().find(|(name, _)| *name == "bench.py").map(|(_, text)| *text);
        assert_eq!(fs_err::read_to_string(helper.join("bench.py")).ok().as_deref(), bench);
    }
}

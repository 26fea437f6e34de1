//! Traces of train tasks: `traces/latest/<task>/` the newest, `traces/baseline/<task>/` the first ever seen.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::atomic;
use crate::error::{Context, Result};
use crate::model::trial::TrialResult;

/// Longest name of one path component; file systems allow 255 bytes.
const COMPONENT: usize = 240;

/// The directory of a task below `traces/latest` and the like: the whole id, made safe for a file system reversibly.
///
/// Bytes other than letters, digits and `-_.,:=+@[]|~ ` become `%XX`, as does a dot or space that begins a part; a name
/// longer than 240 bytes continues in a sub-directory, each part but the last ending in `%`. Two tasks never share a directory, and none
/// lies inside another's.
pub fn directory_name(task: &str) -> PathBuf {
    let mut parts = vec![String::new()];
    for byte in task.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.,:=+@[]|~ ".contains(&byte);
        let piece = |plain: bool| if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        let full = parts.last().is_some_and(|part| part.len() + piece(plain).len() >= COMPONENT);
        // A part `.` or `..` would not be a directory of its own.
        let begins = full || parts.last().is_some_and(String::is_empty);
        let piece = piece(plain && !(begins && b". ".contains(&byte)));
        if full {
            if let Some(part) = parts.last_mut() {
                part.push('%');
            }
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push_str(&piece);
        }
    }
    parts.iter().collect()
}

/// Keeps the trace and the result of one train trial. The first trace of a task becomes its baseline, for ever. Trial 0
/// gives `trace.json` and `result.json`; further trials of the same task `trace.1.json`, `result.1.json` and so on.
///
/// # Errors
/// Infrastructure when the disk refuses.
pub fn keep(workspace: &Path, agent: &str, result: &TrialResult) -> Result<()> {
    let name = directory_name(&result.task);
    let latest = workspace.join("traces/latest").join(&name);
    write(&latest, agent, result)?;
    let baseline = workspace.join("traces/baseline").join(&name);
    if !baseline.join(file_name("result", result.trial)).exists() {
        write(&baseline, agent, result)?;
    }
    Ok(())
}

/// Writes `trace.json` and `result.json` into `directory`.
///
/// # Errors
/// Infrastructure when the disk refuses.
pub fn write(directory: &Path, agent: &str, result: &TrialResult) -> Result<()> {
    let trace = directory.join(file_name("trace", result.trial));
    match &result.trace {
        Some(content) => atomic::replace_unsynced(&trace, content.get().as_bytes())?,
        // An older trial's trace beside the new result would lie.
        None if trace.exists() => fs_err::remove_file(&trace)?,
        None => {}
    }
    let summary = json!({
        "task": result.task,
        "trial": result.trial,
        "agent": agent,
        "outcome": result.outcome,
        "reward": result.reward,
        "seconds": result.seconds,
        "tokens_in": result.tokens_in,
        "tokens_out": result.tokens_out,
        "cost_usd": result.cost_usd,
        "error": result.error,
        "detail": result.detail,
    });
    let bytes = serde_json::to_vec_pretty(&summary).infra(|| format!("cannot write the result of {}", result.task))?;
    atomic::replace_unsynced(&directory.join(file_name("result", result.trial)), &bytes)
}

fn file_name(stem: &str, trial: u32) -> String {
    if trial == 0 { format!("{stem}.json") } else { format!("{stem}.{trial}.json") }
}

/// The fingerprint of the agent that the newest kept result of a task is about; `None` when there is none.
pub fn latest_agent(workspace: &Path, task: &str) -> Option<String> {
    let path = workspace.join("traces/latest").join(directory_name(task)).join(file_name("result", 0));
    let result: serde_json::Value =
        serde_json::from_slice(&crate::files::read(&path, crate::files::LARGEST).ok()?).ok()?;
    result["agent"].as_str().map(str::to_string)
}

/// Moves privately kept traces of `tasks` into the work space: the baseline of a benchmark whose split was drawn after it.
///
/// # Errors
/// Infrastructure when the disk refuses.
pub fn publish(private: &Path, workspace: &Path, tasks: &[String]) -> Result<()> {
    for task in tasks {
        let name = directory_name(task);
        let from = private.join(&name);
        if !from.is_dir() {
            continue;
        }
        for place in ["traces/latest", "traces/baseline"] {
            let to = workspace.join(place).join(&name);
            fs_err::create_dir_all(&to)?;
            for entry in fs_err::read_dir(&from)? {
                let entry = entry?;
                let target = to.join(entry.file_name());
                if entry.file_type()?.is_file() && !(place.ends_with("baseline") && target.exists()) {
                    // A torn baseline would stay for ever.
                    atomic::replace_unsynced(&target, &fs_err::read(entry.path())?)?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    /// Reverses [`directory_name`], to show that it can be done.
    fn task_of(path: &Path) -> String {
        let mut bytes = Vec::new();
        for part in path.components() {
            let part = part.as_os_str().as_bytes();
            let part = part.strip_suffix(b"%").unwrap_or(part);
            let mut i = 0;
            while i < part.len() {
                if part[i] == b'%' {
                    let hex = std::str::from_utf8(&part[i + 1..i + 3]).unwrap();
                    bytes.push(u8::from_str_radix(hex, 16).unwrap());
                    i += 3;
                } else {
                    bytes.push(part[i]);
                    i += 1;
                }
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    proptest::proptest! {
        #[test]
        fn a_directory_name_is_the_whole_id_and_safe(task in ".{1,300}") {
            let name = directory_name(&task);
            proptest::prop_assert_eq!(task_of(&name), task);
            for part in name.components() {
                proptest::prop_assert!(matches!(part, std::path::Component::Normal(_)));
                proptest::prop_assert!(part.as_os_str().len() <= 255);
            }
        }
    }

    #[test]
    fn ids_that_look_alike_get_directories_of_their_own() {
        let ids = ["a/b", "a%2Fb", "..", ".", "a", "A b", "[x]|y:z", &"x".repeat(250), &"x".repeat(239)];
        let names: std::collections::BTreeSet<_> = ids.iter().map(|id| directory_name(id)).collect();
        assert_eq!(names.len(), ids.len());
        let (dots, parent) = (format!("{}..", "x".repeat(239)), Path::new("a"));
        assert_eq!(parent.join(directory_name(&dots)), parent.join(format!("{}%/%2E.", "x".repeat(239))));
        assert_eq!(directory_name("[mms_issue]a|b[PERSONA:Easy]").to_str(), Some("[mms_issue]a|b[PERSONA:Easy]"));
    }
}

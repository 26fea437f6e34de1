//! The id of a task as a path: complete, reversible and safe, whatever a benchmark calls its tasks.

use std::fmt::Write as _;
use std::path::PathBuf;

/// Longest name of one path component; file systems allow 255 bytes.
const COMPONENT: usize = 240;

/// The directory of a task below `traces/latest` and its siblings: the whole id, reversibly made safe for a file system.
///
/// Bytes other than letters, digits and `-_.,:=+@[]|~ ` become `%XX`, as does a dot or space that begins a part; a name
/// longer than 240 bytes continues in a sub-directory, each part but the last ending in `%`. Two tasks never share a directory, and none
/// lies inside another's.
pub(crate) fn directory_name(task: &str) -> PathBuf {
    let (mut parts, mut part) = (Vec::new(), String::new());
    for byte in task.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.,:=+@[]|~ ".contains(&byte);
        let full = part.len() + if plain { 1 } else { 3 } >= COMPONENT;
        // A part `.` or `..` would not be a directory of its own.
        let begins = full || part.is_empty();
        if full {
            part.push('%');
            parts.push(std::mem::take(&mut part));
        }
        if plain && !(begins && b". ".contains(&byte)) {
            part.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(part, "%{byte:02X}");
        }
    }
    parts.push(part);
    parts.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    /// Reverses [`directory_name`], to show that it is reversible.
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

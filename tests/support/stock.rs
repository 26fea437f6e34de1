//! Beds that many tests begin with: made by real commands once in a process, kept in memory, and laid out again in a directory of its
//! own for each test. What is not hashed may name the place where they were made: the new one is put there.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

enum Kept {
    Directory,
    File(Vec<u8>),
    Link(PathBuf),
}

/// Everything below a directory with its permissions, parents first, and where that was.
pub struct Contents(PathBuf, Vec<(PathBuf, u32, Kept)>);

type Shelf = BTreeMap<String, Arc<OnceLock<Contents>>>;
static SHELF: Mutex<Shelf> = Mutex::new(BTreeMap::new());

/// The contents of this name. The first caller makes them; callers that come meanwhile wait.
pub fn kept(name: &str, make: impl FnOnce() -> Contents) -> Arc<OnceLock<Contents>> {
    let place = SHELF.lock().unwrap_or_else(PoisonError::into_inner).entry(name.into()).or_default().clone();
    place.get_or_init(make);
    place
}

impl Contents {
    /// Keeps what is in a directory.
    pub fn read(directory: &Path) -> Contents {
        let keep = |entry: walkdir::DirEntry| {
            let kept = match entry.file_type() {
                kind if kind.is_dir() => Kept::Directory,
                kind if kind.is_symlink() => Kept::Link(std::fs::read_link(entry.path()).unwrap()),
                _ => Kept::File(std::fs::read(entry.path()).unwrap()),
            };
            let mode = entry.metadata().unwrap().permissions().mode();
            (entry.path().strip_prefix(directory).unwrap().to_path_buf(), mode, kept)
        };
        let all = walkdir::WalkDir::new(directory).min_depth(1).into_iter().map(|entry| keep(entry.unwrap()));
        Contents(directory.canonicalize().unwrap(), all.collect())
    }

    /// Puts it into another one.
    pub fn write(&self, directory: &Path) {
        let new = directory.canonicalize().unwrap();
        for (path, mode, kept) in &self.1 {
            let path = directory.join(path);
            match kept {
                Kept::Directory => std::fs::create_dir_all(&path).unwrap(),
                Kept::File(bytes) => std::fs::write(&path, moved(bytes, &self.0, &new)).unwrap(),
                Kept::Link(to) => {
                    symlink(to, path).unwrap();
                    continue;
                }
            }
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode)).unwrap();
        }
    }
}

/// This content with one path in the place of another.
fn moved(bytes: &[u8], from: &Path, to: &Path) -> Vec<u8> {
    let (from, to) = (from.as_os_str().as_encoded_bytes(), to.as_os_str().as_encoded_bytes());
    let mut moved = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memmem::find(rest, from) {
        moved.extend_from_slice(&rest[..at]);
        moved.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    moved.extend_from_slice(rest);
    moved
}

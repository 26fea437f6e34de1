//! Where the tests' beds lie.
#![allow(unreachable_pub, reason = "several test programs use it")]

use std::path::{Path, PathBuf};

/// In memory where there is a gigabyte of it and programs may be started there, unless `TMPDIR` says otherwise. Beds are
/// made and removed by the hundred, and everything in them is synchronised.
pub fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let fits = rustix::fs::statvfs(memory).is_ok_and(|found| {
        found.f_bavail * found.f_frsize > 1 << 30 && !found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC)
    });
    if fits && std::env::var_os("TMPDIR").is_none() { memory.to_path_buf() } else { std::env::temp_dir() }
}

//! A root directory for the fenced program: what it may read, read-only and nothing else, and an empty `/tmp`. All of it
//! exists in this namespace of mounts alone, and goes with the last process in it.

use std::io;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use rustix::process::pivot_root;

use super::files::{DEVICES, PRIVATE, PROC};

/// Where the old and the new root are while one is made from the other. A file system of ours covers it meanwhile.
const WORKSHOP: &str = "/tmp";
const OLD: &str = "/old";
const NEW: &str = "/new";

/// The first step to a new root, in a namespace of mounts of this process's own: after it, mounting is known to be
/// allowed. If it is refused, nothing has changed. Errors: when mounting is forbidden, as it is in many containers.
pub(super) fn workshop() -> io::Result<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    mount("fence", WORKSHOP, "tmpfs", quiet, c"mode=0755,size=1m")?;
    let made = std::env::set_current_dir(WORKSHOP).and_then(|()| {
        fs::create_dir(Path::new(WORKSHOP).join(&OLD[1..]))?;
        fs::create_dir(Path::new(WORKSHOP).join(&NEW[1..]))?;
        // The workshop becomes the root, which uncovers what it hid.
        Ok(pivot_root(".", &OLD[1..])?)
    });
    if made.is_err() {
        unmount(WORKSHOP, UnmountFlags::DETACH)?;
    }
    made
}

/// Moves this process from the workshop into a new root that has `readable` in it, and `writable` to be changed. `proc`: with the
/// machine's `/proc`, to be covered by one of its own. Errors: when a step of it is refused. Then nothing may be started any
/// more, because the root is half made.
pub(super) fn enter(readable: &[PathBuf], writable: &[PathBuf], proc: bool) -> io::Result<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV;
    let old = |path: &Path| Path::new(OLD).join(path.strip_prefix("/").unwrap_or(path));
    let new = |path: &Path| Path::new(NEW).join(path.strip_prefix("/").unwrap_or(path));

    std::env::set_current_dir("/")?;

    mount("fence", NEW, "tmpfs", quiet, c"mode=0755,size=1m")?;
    fs::create_dir(new(Path::new(PRIVATE)))?;
    mount("fence", new(Path::new(PRIVATE)), "tmpfs", quiet, c"mode=1777,size=256m,nr_inodes=16k")?;
    for path in outermost(readable) {
        show(&old(&path), &new(&path), MountFlags::RDONLY)?;
    }
    for path in outermost(writable) {
        show(&old(&path), &new(&path), MountFlags::empty())?;
    }
    if proc {
        // The machine's, until the inner process has mounted its own over it, where it may.
        show(&old(Path::new(PROC)), &new(Path::new(PROC)), MountFlags::RDONLY)?;
    }
    fs::create_dir_all(new(Path::new("/dev")))?;
    for (device, _) in DEVICES {
        let device = Path::new(device);
        if old(device).exists() {
            fs::write(new(device), "")?;
            mount_bind(old(device), new(device))?;
        }
    }
    // Where libraries put what processes share; not where something that may be read lies there.
    let shared = new(Path::new("/dev/shm"));
    if !shared.exists() {
        std::os::unix::fs::symlink(PRIVATE, shared)?;
    }
    mount_remount(NEW, MountFlags::BIND | MountFlags::RDONLY | quiet, c"")?;
    std::env::set_current_dir(NEW)?;
    pivot_root(".", ".")?; // Now the old root lies over the new one.
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")
}

/// Lets one file or directory be seen: read-only, or to be changed.
fn show(from: &Path, to: &Path, access: MountFlags) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(from) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if metadata.is_symlink() {
        // It is there when what holds it can be seen.
        if to.is_symlink() {
            return Ok(());
        }
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    if metadata.is_dir() {
        fs::create_dir_all(to)?;
    } else if !to.exists() {
        fs::write(to, "")?;
    }
    mount_bind_recursive(from, to)?;
    // What the machine's own mount forbids must stay forbidden, or the kernel refuses.
    let had = statvfs(to)?.f_flag;
    let mut flags = access | MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::NOEXEC, had.contains(StatVfsMountFlags::NOEXEC));
    flags.set(MountFlags::NOATIME, had.contains(StatVfsMountFlags::NOATIME));
    flags.set(MountFlags::NODIRATIME, had.contains(StatVfsMountFlags::NODIRATIME));
    flags.set(MountFlags::RELATIME, had.contains(StatVfsMountFlags::RELATIME));
    mount_remount(to, flags, c"")?;
    Ok(())
}

/// Mounts the processes of this process's own namespace, of which it must be the first one.
/// Errors: when the kernel refuses, as it does where the machine's own `/proc` is partly hidden.
pub(super) fn mount_proc() -> io::Result<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("proc", PROC, "proc", quiet, c"")?)
}

/// Takes the machine's `/proc` away again.
pub(super) fn hide_proc() -> io::Result<()> {
    Ok(unmount(PROC, UnmountFlags::DETACH)?)
}

/// These paths without those that lie inside another, in an order in which each can be made.
fn outermost(paths: &[PathBuf]) -> Vec<PathBuf> {
    let plain = |path: &&PathBuf| path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    let mut sorted: Vec<&PathBuf> = paths.iter().filter(plain).collect();
    sorted.sort();
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in sorted {
        if !kept.iter().any(|outer| path.starts_with(outer)) {
            kept.push(path.components().collect());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_inside_another_is_not_shown_twice() {
        let paths: Vec<PathBuf> = ["/b/c", "/a", "/b", "relative", "/b-side", "/a/../etc"].map(PathBuf::from).into();
        assert_eq!(outermost(&paths), ["/a", "/b", "/b-side"].map(PathBuf::from));
    }
}

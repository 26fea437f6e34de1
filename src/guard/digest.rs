//! The digest of provisioned data: a file, or a directory with everything in it.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fs_err as fs;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::files;
use crate::error::{Error, Result};
use crate::model::hash::hex;

/// SHA-256 (hex) of a file or a directory tree: relative paths, executable bits, bytes, targets of links and the files they
/// lead to, because readers of the data follow links.
///
/// Time stamps, owners and empty directories do not count. A link that leads nowhere counts by its target alone, and so does
/// one to a directory above it, whose files are counted there.
/// Errors: when something cannot be read, or is neither file, directory nor link.
pub(crate) fn digest_path(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(b"autoharness data 1\n");
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        let path = fs::canonicalize(path)?;
        add_file(&mut hash, b"", &path)?;
        return Ok(hex(&hash.finalize()));
    }
    for entry in WalkDir::new(path).min_depth(1).sort_by_file_name().follow_links(true) {
        let (found, is_link, is_directory) = match &entry {
            Ok(entry) => (entry.path(), entry.path_is_symlink(), entry.file_type().is_dir()),
            Err(error) => match error.path() {
                Some(link) if leads_nowhere(error) && link.is_symlink() => (link, true, true),
                _ => {
                    let message = error.to_string();
                    return Err(Error::infrastructure(format!(
                        "cannot read the data in {}: {message}",
                        path.display()
                    )));
                }
            },
        };
        // Every entry lies below the directory that is walked.
        let relative = found.strip_prefix(path).unwrap_or(found).as_os_str().as_bytes();
        if is_link {
            let target = fs::read_link(found)?;
            add_item(&mut hash, b'l', relative, target.as_os_str().len() as u64);
            hash.update(target.as_os_str().as_bytes());
        }
        if !is_directory {
            add_file(&mut hash, relative, &if is_link { fs::canonicalize(found)? } else { found.to_path_buf() })?;
        }
    }
    Ok(hex(&hash.finalize()))
}

/// Whether a link could not be followed because nothing is there, or because it is circular. One that we are not
/// allowed to follow may well lead somewhere.
fn leads_nowhere(error: &walkdir::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let circle = |error: &std::io::Error| error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    error.loop_ancestor().is_some()
        || error.io_error().is_some_and(|error| matches!(error.kind(), NotFound | NotADirectory) || circle(error))
}

fn add_file(hash: &mut Sha256, relative: &[u8], path: &Path) -> Result<()> {
    let Some((file, metadata)) = files::open_regular(path)? else {
        return Err(Error::usage(format!("{} is not a file, directory or link", path.display())));
    };
    add_item(hash, if files::is_executable(&metadata) { b'x' } else { b'f' }, relative, metadata.len());
    let mut file = file.take(metadata.len());
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => hash.update(&buffer[..count]),
        }
    }
}

fn add_item(hash: &mut Sha256, kind: u8, path: &[u8], length: u64) {
    hash.update([kind]);
    hash.update((path.len() as u64).to_be_bytes());
    hash.update(path);
    hash.update(length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn every_change_of_the_data_shows_and_time_stamps_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("sub")).unwrap();
        fs::write(root.join("sub/a"), "one").unwrap();
        symlink("sub/a", root.join("link")).unwrap();
        let mut seen = vec![digest_path(root).unwrap()];
        let mut changed = |what: &str| {
            let digest = digest_path(root).unwrap();
            assert!(!seen.contains(&digest), "{what} went unseen");
            seen.push(digest);
        };
        fs::write(root.join("sub/a"), "two").unwrap();
        changed("an edit");
        fs::set_permissions(root.join("sub/a"), std::fs::Permissions::from_mode(0o755)).unwrap();
        changed("the executable bit");
        fs::rename(root.join("sub/a"), root.join("sub/b")).unwrap();
        changed("a new name");
        fs::remove_file(root.join("link")).unwrap();
        symlink("sub/b", root.join("link")).unwrap();
        changed("a link's target");
        // What a link leads to outside: a file, a directory, a chain of links.
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("more")).unwrap();
        fs::write(outside.path().join("answers"), "one").unwrap();
        symlink(outside.path().join("answers"), outside.path().join("chain")).unwrap();
        symlink(outside.path().join("chain"), root.join("outside")).unwrap();
        symlink(outside.path().join("more"), root.join("more")).unwrap();
        changed("a link to the outside");
        fs::write(outside.path().join("answers"), "two").unwrap();
        changed("a file behind a chain of links");
        fs::write(outside.path().join("more/x"), "").unwrap();
        changed("a file in a directory behind a link");
        symlink("..", root.join("sub/circle")).unwrap();
        changed("a link to a directory above it");
        symlink("loop", root.join("loop")).unwrap();
        changed("a link to itself");
        fs::remove_file(outside.path().join("answers")).unwrap();
        changed("a link that no longer leads anywhere");
        let last = digest_path(root).unwrap();
        fs::File::options()
            .append(true)
            .open(root.join("sub/b"))
            .unwrap()
            .file()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
        assert_eq!(digest_path(root).unwrap(), last);
    }

    #[test]
    fn a_missing_path_is_named() {
        let error = digest_path(Path::new("/nonexistent/data")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/data"));
    }
}

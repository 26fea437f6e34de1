//! What is scored: the export holds the base commit and the editable files, and nothing else.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use autoharness::internals::guard::agent_files::{read_editable_from_disk, read_editable_from_tree};
use autoharness::internals::guard::staging::{Link, copy};
use autoharness::internals::guard::{Editable, EditableFiles, agent_fingerprint, stage};
use fs_err as fs;

use super::bed::{Bed, EDITABLE};

fn editable() -> Editable {
    Editable::new(&EDITABLE).unwrap()
}

fn on_disk(bed: &Bed, editable: &Editable) -> EditableFiles {
    read_editable_from_disk(&bed.repo(), &bed.tree(), editable).unwrap()
}

fn failure(bed: &Bed, editable: &Editable) -> String {
    read_editable_from_disk(&bed.repo(), &bed.tree(), editable).unwrap_err().to_string()
}

/// Every file below `root` with its content, links as `-> target`, executables marked.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let files = walkdir::WalkDir::new(root).into_iter().map(|entry| entry.unwrap());
    files
        .filter(|entry| !entry.file_type().is_dir())
        .map(|entry| {
            let name = entry.path().strip_prefix(root).unwrap().display().to_string();
            if entry.file_type().is_symlink() {
                return (name, format!("-> {}", fs::read_link(entry.path()).unwrap().display()));
            }
            let mode = entry.metadata().unwrap().mode() & 0o777;
            (name, format!("{mode:o} {}", fs::read_to_string(entry.path()).unwrap()))
        })
        .collect()
}

#[test]
fn the_export_is_the_base_commit_plus_the_editable_files() {
    let bed = Bed::new();
    bed.write("agent/agent.py", "class HarnessAgent: ...\n");
    bed.write("agent/__pycache__/other.cpython-311.pyc", "planted");
    bed.write("agent/untracked.py", "planted");
    bed.edit();
    let target = bed.beside("staging/one");
    stage(&bed.tree(), &editable(), &on_disk(&bed, &editable()), &[], &target).unwrap();
    let expected = [
        (".gitignore", "644 /workspace/\n__pycache__/\n*.pyc\n.env\n"),
        ("agent/agent.py", "644 class HarnessAgent: ...\n"),
        ("agent/helpers/util.py", "644 x = 1\n"),
        ("agent/other.py", "644 # $Id$\nlimit = 10\n"),
        ("link", "-> PROGRAM.md"),
        ("run.sh", "755 #!/bin/sh\n"),
    ];
    let expected = expected.map(|(path, content)| (path.to_string(), content.to_string()));
    assert_eq!(listing(&target), BTreeMap::from(expected));
    let left: Vec<_> = fs::read_dir(bed.beside("staging")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["one"], "nothing temporary stays behind");
}

#[test]
fn an_export_is_reused_only_when_nothing_in_it_changed() {
    let bed = Bed::new();
    let (tree, files) = (bed.tree(), on_disk(&bed, &editable()));
    let target = bed.beside("one");
    let stage = || stage(&tree, &editable(), &files, &[], &target).unwrap();
    let inode = || fs::metadata(&target).unwrap().ino();
    stage();
    let (clean, first) = (listing(&target), inode());
    stage();
    assert_eq!(inode(), first, "an untouched export is kept");
    let tampering: [fn(&Path); 4] = [
        |target| fs::write(target.join("agent/agent.py"), "score = 1\n").unwrap(),
        |target| fs::write(target.join("agent/planted.pyc"), "code").unwrap(),
        |target| fs::remove_file(target.join("run.sh")).unwrap(),
        |target| fs::set_permissions(target.join("run.sh"), std::fs::Permissions::from_mode(0o644)).unwrap(),
    ];
    for tamper in tampering {
        tamper(&target);
        assert_ne!(listing(&target), clean);
        stage();
        assert_eq!(listing(&target), clean);
    }
}

#[test]
fn a_copy_shares_nothing_that_can_be_written() {
    let bed = Bed::new();
    let (tree, editable) = (bed.tree(), editable());
    let files = on_disk(&bed, &editable);
    let (data, other) = (bed.beside("data"), bed.beside("other"));
    fs::write(&data, "data").unwrap();
    fs::write(&other, "other").unwrap();
    let links = [Link { path: "in/data".into(), to: data.clone() }];
    let (first, second) = (bed.beside("staging/first"), bed.beside("second"));
    stage(&tree, &editable, &files, &links, &first).unwrap();
    let clean = listing(&first);
    assert_eq!(clean["in/data"], format!("-> {}", data.display()));
    fs::write(first.join("left.txt"), "left").unwrap();
    copy(&tree, &editable, &files, &links, &first, &second).unwrap();
    assert_eq!(listing(&second), clean, "what was left in the first one is not copied");
    for path in ["agent/agent.py", "agent/other.py"] {
        fs::OpenOptions::new().append(true).open(second.join(path)).unwrap().write_all(b"spoilt").unwrap();
    }
    fs::remove_file(second.join("in/data")).unwrap();
    fs::remove_file(first.join("left.txt")).unwrap();
    assert_eq!(listing(&first), clean);
    let inode = || fs::metadata(&first).unwrap().ino();
    let before = inode();
    stage(&tree, &editable, &files, &links, &first).unwrap();
    assert_eq!(inode(), before, "links are part of what an export holds");
    // A link that leads elsewhere by now is neither kept nor copied.
    fs::remove_file(first.join("in/data")).unwrap();
    symlink(&other, first.join("in/data")).unwrap();
    let third = bed.beside("third");
    copy(&tree, &editable, &files, &links, &first, &third).unwrap();
    stage(&tree, &editable, &files, &links, &first).unwrap();
    assert_eq!((listing(&third), listing(&first)), (clean.clone(), clean));
}

#[test]
fn an_export_never_goes_through_a_link() {
    let bed = Bed::new();
    let elsewhere = bed.beside("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("kept"), "kept").unwrap();
    let target = bed.beside("one");
    symlink(&elsewhere, &target).unwrap();
    stage(&bed.tree(), &editable(), &on_disk(&bed, &editable()), &[], &target).unwrap();
    assert!(fs::symlink_metadata(&target).unwrap().is_dir());
    assert_eq!(listing(&elsewhere).len(), 1);
}

#[test]
fn a_link_that_leads_out_is_refused() {
    let mut bed = Bed::new();
    symlink("../../secret", bed.path("agent/out")).unwrap();
    bed.base = bed.commit();
    let target = bed.beside("one");
    let error = stage(&bed.tree(), &editable(), &on_disk(&bed, &editable()), &[], &target).unwrap_err();
    assert!(error.to_string().contains("agent/out"), "{error}");
    assert!(!target.exists());
}

#[test]
fn an_editable_directory_holds_what_would_be_committed() {
    let bed = Bed::new();
    let editable = Editable::new(&["agent/agent.py", "agent/helpers/"]).unwrap();
    bed.remove("agent/helpers/util.py");
    bed.write("agent/helpers/new/tool.py", "y = 2\n");
    bed.write("agent/helpers/stray.pyc", "code");
    bed.write("agent/helpers/__pycache__/x", "code");
    let files = on_disk(&bed, &editable);
    let names: Vec<_> = files.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    assert_eq!(names, ["agent/agent.py", "agent/helpers/new/tool.py"]);
    let target = bed.beside("one");
    stage(&bed.tree(), &editable, &files, &[], &target).unwrap();
    assert!(!target.join("agent/helpers/util.py").exists(), "deleted on disk, so absent");
    bed.commit();
    let committed = read_editable_from_tree(&bed.repo().tree("HEAD").unwrap(), &editable).unwrap();
    assert_eq!(agent_fingerprint(&files), agent_fingerprint(&committed));
}

#[test]
fn the_fingerprint_follows_bytes_and_the_executable_bit() {
    let bed = Bed::new();
    let print = || agent_fingerprint(&on_disk(&bed, &editable()));
    let committed = agent_fingerprint(&read_editable_from_tree(&bed.tree(), &editable()).unwrap());
    assert_eq!(print(), committed);
    fs::set_permissions(bed.path("agent/agent.py"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let executable = print();
    assert_ne!(executable, committed);
    bed.write("agent/agent.py", "class HarnessAgent:\r\n    pass\r\n");
    assert_ne!(print(), executable);
}

#[test]
fn agent_files_that_cannot_be_scored_are_named() {
    let bed = Bed::new();
    bed.remove("agent/agent.py");
    assert!(failure(&bed, &editable()).contains("the agent file agent/agent.py is missing on disk"));
    symlink("other.py", bed.path("agent/agent.py")).unwrap();
    assert!(failure(&bed, &editable()).contains("agent/agent.py is not a regular file"));
    bed.remove("agent/agent.py");
    let large = fs::File::create(bed.path("agent/agent.py")).unwrap();
    large.set_len((16 << 20) + 1).unwrap();
    assert!(failure(&bed, &editable()).contains("larger than 16 MiB"));
    fs::rename(bed.path("agent"), bed.beside("agent")).unwrap();
    symlink(bed.beside("agent"), bed.path("agent")).unwrap();
    assert!(failure(&bed, &editable()).contains("agent is not a plain directory"));
}

//! Commits that go away, and merges that take nothing.

use autoharness::internals::error::Kind;

use super::bed::Bed;

#[test]
fn a_base_commit_is_kept_when_no_branch_has_it() {
    let bed = Bed::new();
    // Another message each time: within one second the same one makes the same commit.
    let collect = |message: &str| {
        bed.git(["commit", "-q", "--amend", "-m", message]);
        bed.git(["reflog", "expire", "--expire=now", "--all"]);
        bed.git(["gc", "-q", "--prune=now"]);
    };
    bed.repo().keep(&bed.base).unwrap();
    bed.repo().keep(&bed.base).unwrap();
    let amended = bed.git(["rev-parse", "HEAD"]);
    collect("better said");
    let holds = |commit: &str| bed.repo().holds(commit).unwrap();
    assert!(holds(&bed.base));
    bed.repo().base_tree(&bed.base).unwrap();
    // Only what is named is kept.
    let other = bed.git(["rev-parse", "HEAD"]);
    assert_eq!(amended, bed.base);
    collect("best said");
    assert!(!holds(&other) && holds(&bed.base));
    let error = bed.repo().base_tree(&other).err().unwrap();
    let text = format!("{error} {}", error.hints().join(" "));
    assert_eq!(error.kind(), Kind::Usage);
    assert!(text.contains(&other[..12]) && text.contains("prepare --accept") && text.contains("git fetch"), "{text}");
    assert!(!holds("HEAD") && !holds("nonsense"));
}

#[test]
fn a_damaged_pack_is_not_taken_for_a_commit_that_went_away() {
    let bed = Bed::new();
    bed.repo().keep(&bed.base).unwrap();
    bed.git(["gc", "-q"]);
    let packs = fs_err::read_dir(bed.path(".git/objects/pack")).unwrap().map(|entry| entry.unwrap().path());
    let pack = packs.into_iter().find(|path| path.extension() == Some("pack".as_ref())).unwrap();
    let bytes = fs_err::read(&pack).unwrap();
    fs_err::remove_file(&pack).unwrap();
    fs_err::write(&pack, &bytes[..bytes.len() / 2]).unwrap();
    let error = bed.repo().base_tree(&bed.base).err().unwrap();
    assert_eq!(error.kind(), Kind::Infrastructure, "{error}");
    assert!(error.to_string().contains(&bed.base) && error.hints()[0].contains("git fsck"), "{error}");
}

#[test]
fn a_base_commit_is_kept_for_all_work_trees() {
    let bed = Bed::new();
    let linked = bed.beside("linked");
    bed.git(["worktree", "add", "-q", linked.to_str().unwrap()]);
    autoharness::internals::guard::Repo::open(&linked).unwrap().keep(&bed.base).unwrap();
    let name = format!("refs/autoharness/base/{}", bed.base);
    assert_eq!(bed.git(["rev-parse", &name]), bed.base);
    assert_eq!(bed.git_in(&linked, ["rev-parse", &name]), bed.base);
}

#[test]
fn a_lock_that_a_killed_command_has_left_keeps_no_name_from_being_written() {
    let bed = Bed::new();
    let name = format!("refs/autoharness/base/{}", bed.base);
    let lock = bed.path(format!(".git/{name}.lock"));
    fs_err::create_dir_all(lock.parent().unwrap()).unwrap();
    fs_err::write(&lock, "").unwrap();
    bed.repo().keep(&bed.base).unwrap();
    assert_eq!(bed.git(["rev-parse", &name]), bed.base);
}

/// What main threw away of branch `edit`, which changed the guarded `agent/other.py` before main merged it.
fn thrown_away(merge: &[&str]) -> (Bed, Vec<String>) {
    let bed = Bed::new();
    bed.git(["checkout", "-q", "-b", "edit"]);
    bed.edit();
    bed.commit();
    bed.git(["checkout", "-q", "main"]);
    bed.write("PROGRAM.md", "# Main\n");
    bed.commit();
    if !merge.is_empty() {
        bed.git([&["merge", "-q", "-m", "merge"], merge].concat());
    }
    bed.git(["commit", "-q", "--allow-empty", "-m", "main goes on"]);
    bed.git(["checkout", "-q", "edit"]);
    bed.write("agent/agent.py", "class HarnessAgent: ...\n");
    bed.commit();
    let found = lost(&bed);
    (bed, found)
}

fn lost(bed: &Bed) -> Vec<String> {
    let repo = bed.repo();
    let base = repo.merge_base("edit", "main").unwrap();
    let found = repo.thrown_away(&base, "main").unwrap();
    found.into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
}

#[test]
fn what_a_merge_took_nothing_of_is_no_base() {
    assert_eq!(thrown_away(&[]).1, [""; 0], "never merged");
    assert_eq!(thrown_away(&["--no-ff", "edit"]).1, [""; 0], "merged");
    let (bed, found) = thrown_away(&["-s", "ours", "edit"]);
    assert_eq!(found, ["agent/other.py"]);
    // The way out.
    bed.git(["merge", "-q", "-m", "main", "main"]);
    assert_eq!(lost(&bed), [""; 0]);
    assert_eq!(bed.repo().merge_base("edit", "main").unwrap(), bed.git(["rev-parse", "main"]));
}

#[test]
fn a_branch_that_threw_main_away_is_compared_with_main() {
    let bed = Bed::new();
    bed.git(["checkout", "-q", "-b", "edit"]);
    bed.write("agent/agent.py", "class HarnessAgent: ...\n");
    bed.commit();
    bed.git(["checkout", "-q", "main"]);
    bed.edit();
    let main = bed.commit();
    bed.git(["checkout", "-q", "edit"]);
    bed.git(["merge", "-q", "-s", "ours", "-m", "ours", "main"]);
    assert_eq!(bed.repo().merge_base("edit", "main").unwrap(), main);
    assert_eq!(lost(&bed), [""; 0]);
}

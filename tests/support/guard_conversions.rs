//! Line endings, `$Id$` and executable bits: what git converts between disk and commit.

use std::os::unix::fs::PermissionsExt;

use autoharness::internals::guard::EditableFile;
use autoharness::internals::guard::agent_files::read_editable_from_disk;
use autoharness::internals::guard::{Difference::*, Editable, causes, scan, violations};
use fs_err as fs;

use super::bed::{Bed, EDITABLE};
use super::pairs;

/// A bed whose commit has these attributes, checked out anew.
fn checked_out(attributes: &str) -> Bed {
    let mut bed = Bed::new();
    bed.write(".gitattributes", attributes);
    bed.base = bed.commit();
    bed.git(["rm", "-rq", "--cached", "."]);
    bed.git(["reset", "-q", "--hard"]);
    for name in ["agent/agent.py", "agent/other.py"] {
        bed.remove(name);
        bed.git(["checkout", "-q", "HEAD", "--", name]);
    }
    assert_eq!(bed.git(["status", "--porcelain"]), "");
    bed
}

#[test]
fn line_endings_that_the_commit_asks_for_are_no_change() {
    let bed = checked_out("* text=auto eol=crlf\n");
    let text = fs::read_to_string(bed.path("agent/other.py")).unwrap();
    assert_eq!(text, "# $Id$\r\nlimit = 10\r\n");
    assert_eq!(bed.changes(), []);
    for edit in
        ["# $Id$\r\nlimit = 99\r\n", "# $Id$\r\r\nlimit = 10\r\n", "# $Id$\r\nlimit = 10\r\n\r\n", "# $Id$ limit = 10"]
    {
        bed.write("agent/other.py", edit);
        assert_eq!(bed.changes(), pairs(&[("agent/other.py", Modified)]), "{edit:?}");
    }
    bed.write("agent/other.py", "# $Id$\nlimit = 10\r\n");
    assert_eq!(bed.changes(), [], "an editor that writes other line endings");
    fs::set_permissions(bed.path("agent/other.py"), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(bed.changes(), pairs(&[("agent/other.py", ModeChanged)]));
}

#[test]
fn what_the_commit_calls_binary_is_compared_as_it_is() {
    let bed = checked_out("* text=auto eol=crlf\nother.py -text\n");
    bed.write("agent/other.py", "# $Id$\r\nlimit = 10\r\n");
    assert_eq!(bed.changes(), pairs(&[("agent/other.py", Modified)]));
}

#[test]
fn an_id_is_no_change_when_it_is_gits_own() {
    let bed = checked_out("other.py ident\n");
    let text = fs::read_to_string(bed.path("agent/other.py")).unwrap();
    assert!(text.starts_with("# $Id: ") && text.len() > 60, "{text}");
    assert_eq!(bed.changes(), []);
    bed.write("agent/other.py", "# $Id: import evil $\nlimit = 10\n");
    assert_eq!(bed.git(["diff", "--stat"]), "");
    assert_eq!(bed.changes(), pairs(&[("agent/other.py", Modified)]));
}

/// What `git add` would commit of the agent file, and what would be scored.
fn committed_and_scored(bed: &Bed) -> (EditableFile, EditableFile) {
    let editable = Editable::new(&EDITABLE).unwrap();
    let scored = read_editable_from_disk(&bed.repo(), &bed.tree(), &editable).unwrap();
    bed.git(["-c", "core.safecrlf=false", "add", "agent/agent.py"]);
    let staged = bed.beside("staged");
    bed.git(["-c", &format!("alias.x=!git cat-file blob :agent/agent.py > '{}'", staged.display()), "x"]);
    let executable = bed.git(["ls-files", "-s", "agent/agent.py"]).starts_with("100755");
    let committed = EditableFile { bytes: fs::read(staged).unwrap(), executable };
    (committed, scored.into_values().next().unwrap())
}

#[test]
fn what_is_scored_is_what_git_would_commit() {
    let attributes = [
        "",
        "* text",
        "* text=auto",
        "* -text",
        "* eol=crlf",
        "* eol=lf",
        "* text=auto eol=crlf",
        "* crlf",
        "* crlf=input",
        "* -crlf",
        "* binary",
        "* ident",
        "* text ident",
        "* !text eol=crlf",
    ];
    let texts: [&[u8]; 7] =
        [b"a\r\nb\r\n", b"a\nb\r\n", b"a\r\nb\rc\r\n", b"a\r\n\0", b"a\x01\r\n", b"# $Id: x $\r\n$Id: y\r\n", b"a\n"];
    let editable = Editable::new(&["agent/many/"]).unwrap();
    for automatic in ["false", "true", "input"] {
        for before in ["class A: pass\n", "class A: pass\r\n"] {
            let mut bed = Bed::new();
            let name = |number: usize| format!("agent/many/{number}.py");
            (0..texts.len()).for_each(|number| bed.write(name(number), before));
            bed.base = bed.commit();
            bed.config("core.autocrlf", automatic);
            bed.config("core.safecrlf", "false");
            for attribute in attributes {
                bed.git(["reset", "-q"]);
                bed.write(".gitattributes", attribute);
                texts.iter().enumerate().for_each(|(number, text)| bed.write(name(number), text));
                let scored = read_editable_from_disk(&bed.repo(), &bed.tree(), &editable).unwrap();
                bed.git(["add", "agent"]);
                let staged = bed.git(["ls-files", "-s", "agent/many"]);
                for ((number, text), line) in texts.iter().enumerate().zip(staged.lines()) {
                    let bytes = &scored[name(number).as_bytes()].bytes;
                    let id = git2::Oid::hash_object(git2::ObjectType::Blob, bytes).unwrap();
                    assert!(
                        line.contains(&id.to_string()),
                        "{attribute:?}, autocrlf={automatic}, {before:?}: {} became {}, {line}",
                        text.escape_ascii(),
                        bytes.escape_ascii()
                    );
                }
            }
        }
    }
}

#[test]
fn the_executable_bit_is_the_one_git_would_commit() {
    let bed = Bed::new();
    bed.config("core.fileMode", "false");
    fs::set_permissions(bed.path("agent/agent.py"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let (committed, scored) = committed_and_scored(&bed);
    assert_eq!((scored.executable, committed.executable), (false, false));
    bed.git(["update-index", "--chmod=+x", "agent/agent.py"]);
    let (committed, scored) = committed_and_scored(&bed);
    assert_eq!((scored.executable, committed.executable), (true, true));
    bed.config("core.fileMode", "true");
    assert!(committed_and_scored(&bed).1.executable);
}

#[test]
fn an_agent_behind_a_filter_is_refused_and_the_filter_not_run() {
    for (attribute, named) in [("filter=evil", "filter=evil"), ("working-tree-encoding=UTF-16", "UTF-16")] {
        let bed = Bed::new();
        bed.config("filter.evil.clean", format!("touch {}", bed.marker().display()));
        bed.attribute(attribute);
        let editable = Editable::new(&EDITABLE).unwrap();
        let error = read_editable_from_disk(&bed.repo(), &bed.tree(), &editable).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(named) && error.hints()[1].contains(".gitattributes"), "{error}");
        assert!(!bed.marker().exists());
    }
    let bed = Bed::new();
    bed.attribute("filter=nobody-configured-it");
    committed_and_scored(&bed);
}

/// The hints for what the scan finds, and whether they explain all of it.
fn hints(bed: &Bed) -> (String, bool) {
    let (repo, tree) = (bed.repo(), bed.tree());
    let found = violations(&scan(&repo, &tree).unwrap(), &Editable::new(&EDITABLE).unwrap());
    assert!(!found.is_empty());
    let causes = causes(&repo, &tree, &found);
    (causes.hints.join("\n"), causes.explained == found.len())
}

#[test]
fn what_git_does_not_show_is_given_its_cause() {
    let bed = Bed::new();
    bed.config("core.autocrlf", "true");
    bed.write("agent/other.py", "# $Id$\r\nlimit = 10\r\n");
    let (text, all) = hints(&bed);
    assert!(all && text.contains("* text=auto") && text.contains("core.autocrlf"), "{text}");
    bed.write("more.txt", "");
    assert!(!hints(&bed).1, "a new file is git's to show");
    bed.remove("more.txt");
    // What the hint says ends it.
    bed.config("core.autocrlf", "false");
    bed.remove("agent/other.py");
    bed.git(["checkout", "HEAD", "--", "agent/other.py"]);
    assert_eq!(bed.changes(), []);

    bed.attribute("ident");
    bed.write("agent/other.py", "# $Id: import evil $\nlimit = 10\n");
    assert!(hints(&bed).0.contains("$Id$"));
    bed.edit();
    assert_eq!(hints(&bed), (String::new(), false), "a plain edit");
    bed.config("filter.lfs.clean", "false");
    bed.attribute("filter=lfs");
    assert!(hints(&bed).0.contains("Git LFS) makes agent/other.py"), "{:?}", hints(&bed));

    let bed = Bed::new();
    bed.config("core.fileMode", "false");
    fs::set_permissions(bed.path("run.sh"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (text, all) = hints(&bed);
    assert!(all && text.contains("`git -c core.fileMode=true add -- run.sh && git commit`"), "{text}");
    bed.git(["-c", "core.fileMode=true", "add", "--", "run.sh"]);
    bed.git(["commit", "-qm", "modes"]);
    let mut bed = bed;
    bed.base = bed.git(["rev-parse", "HEAD"]);
    assert_eq!(bed.changes(), []);
}

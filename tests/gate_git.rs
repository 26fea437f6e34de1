//! The gate and the git repository it stands on: commits that go away, line endings, damage, owners, and what to do after
//! a verdict.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::process::{Command, Stdio};

use crate::support::{Bed, Done, done};
use serde_json::json;

/// Runs the command that a hint shows between its first backticks, as a reader would.
#[track_caller]
fn obey(bed: &Bed, done: &Done, start: &str) -> String {
    let (_, hint) = done.stderr.split_once(start).unwrap_or_else(|| panic!("no {start:?} in:\n{}", done.stderr));
    let command = hint.split('`').nth(1).unwrap().to_string();
    let mut shell = bed.command(&[]);
    let environment: Vec<_> =
        shell.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    shell = Command::new("bash");
    shell.env_clear().args(["-ec", &command]).current_dir(&bed.root);
    shell.envs(environment.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    command
}

fn collect_garbage(bed: &Bed) {
    bed.git(&["reflog", "expire", "--expire=now", "--all"]);
    bed.git(&["gc", "-q", "--prune=now"]);
}

#[test]
fn an_amended_and_collected_commit_stops_nothing() {
    let bed = Bed::prepared(json!({}), "");
    bed.git(&["commit", "-q", "--amend", "-m", "start, better said"]);
    collect_garbage(&bed);
    bed.accept(&["easy", "hard"]);
    bed.git(&["commit", "-q", "--amend", "-m", "edit, better said"]);
    collect_garbage(&bed);
    bed.run(&["gate"]).expect(0);
    bed.run(&["verify"]).expect(0);
    let refs = bed.git(&["for-each-ref", "--format=%(refname)", "refs/autoharness/"]);
    assert_eq!(refs.lines().count(), 2, "{refs}");
    bed.git(&["clone", "-q", ".", bed.outside().join("copy").to_str().unwrap()]);
    let copied = bed.git(&["-C", bed.outside().join("copy").to_str().unwrap(), "for-each-ref"]);
    assert!(!copied.contains("refs/autoharness"), "{copied}");
}

#[test]
fn a_base_commit_that_is_gone_is_accepted_from_head() {
    // As in a new clone to which the old state was restored.
    let bed = Bed::prepared(json!({}), "");
    bed.accept(&["easy", "hard"]);
    bed.git(&["commit", "-q", "--amend", "-m", "edit, better said"]);
    let list = bed.git(&["for-each-ref", "--format=%(refname)", "refs/autoharness/"]);
    list.lines().for_each(|name| drop(bed.git(&["update-ref", "-d", name])));
    collect_garbage(&bed);
    for command in ["gate", "prepare", "benchmark"] {
        let done = bed.run(&[command]).expect(2).warns("is not in this repository").warns("git fetch origin");
        done.warns("hint: a human starts from HEAD with `autoharness prepare --accept`.");
    }
    bed.ran();
    bed.run(&["prepare", "--accept"]).expect(0).warns("the files of HEAD are taken as they are");
    assert_eq!(bed.events("accepted")[0]["to"], json!(bed.git(&["rev-parse", "HEAD"])));
    bed.run(&["gate"]).expect(0);
    bed.agent(&["easy", "hard", "odd"]);
    bed.run(&["gate"]).expect(0);
    bed.commit_agent();
    bed.run(&["record"]).expect(0);
}

#[test]
fn an_edit_in_a_crlf_checkout_is_recorded() {
    for (attributes, automatic) in [("*.py text eol=crlf\n", "false"), ("* text=auto\n", "true"), ("", "true")] {
        let bed = Bed::table(json!({}), "");
        bed.write(".gitattributes", attributes);
        bed.git(&["add", "-A"]);
        bed.git(&["commit", "-qm", "attributes"]);
        bed.git(&["config", "core.autocrlf", automatic]);
        bed.git(&["config", "core.safecrlf", "false"]);
        let files = if attributes.is_empty() { vec!["agent/agent.py"] } else { vec!["agent/agent.py", "bench.py"] };
        for file in files {
            std::fs::remove_file(bed.root.join(file)).unwrap();
            bed.git(&["checkout", "-q", "HEAD", "--", file]);
            assert!(bed.read(file).contains("\r\n"), "{file}");
        }
        let done = bed.run(&["prepare"]).expect(0);
        assert!(!done.stderr.contains("is not committed"), "{}", done.stderr);
        bed.write("agent/agent.py", "SKILLS = {\"easy\", \"hard\"}\r\n");
        bed.run(&["gate"]).expect(0);
        bed.commit_agent();
        bed.run(&["record"]).expect(0);
        bed.git(&["checkout", "-qb", "branch"]);
        bed.run(&["gate", "--base", "main"]).expect(0);
    }
}

#[test]
fn line_endings_only_the_configuration_knows_of_name_the_way_out() {
    let bed = Bed::table(json!({}), "");
    bed.git(&["config", "core.autocrlf", "true"]);
    std::fs::remove_file(bed.root.join("bench.py")).unwrap();
    bed.git(&["checkout", "-q", "HEAD", "--", "bench.py"]);
    let refused = bed.run(&["prepare"]).expect(2).warns("bench.py: modified").warns("only line endings differ");
    assert!(!refused.stderr.contains("git add -A"), "git sees nothing to commit: {}", refused.stderr);
    let (_, command) = refused.stderr.split_once("as they are committed: `").unwrap();
    let command = command.split('`').next().unwrap();
    obey(&bed, &Done { stderr: format!("do `{command}`"), code: 0, stdout: String::new() }, "do");
    bed.run(&["prepare"]).expect(0);
    bed.git(&["config", "core.fileMode", "false"]);
    use std::os::unix::fs::PermissionsExt;
    for file in ["bench.py", "agent/agent.py"] {
        std::fs::set_permissions(bed.root.join(file), std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    bed.run(&["gate"]).expect(1).says("bench.py: executable bit changed").warns("core.fileMode is false");
    std::fs::set_permissions(bed.root.join("bench.py"), std::fs::Permissions::from_mode(0o644)).unwrap();
    bed.accept(&["easy", "hard"]);
}

#[test]
fn an_edit_is_reverted_by_the_command_shown() {
    let revert = "revert with";
    // On disk, staged, committed, and with a file that the base commit does not have.
    let bed = Bed::prepared(json!({}), "editable: [agent/agent.py, agent/more/, 'agent/two words.md']");
    let clean = || {
        assert_eq!(bed.git(&["status", "--porcelain", "agent"]), "");
        assert_eq!(bed.read("agent/agent.py"), "SKILLS = {\"easy\"}\n");
    };
    let fail = || bed.run(&["gate", "--fresh"]).expect(1);
    bed.agent(&[]);
    assert_eq!(obey(&bed, &fail(), revert), "git checkout -- agent/agent.py");
    clean();
    bed.agent(&[]);
    bed.git(&["add", "agent"]);
    assert_eq!(obey(&bed, &fail(), revert), "git checkout HEAD -- agent/agent.py");
    clean();
    for staged in [false, true] {
        bed.agent(&[]);
        bed.write("agent/two words.md", "x");
        bed.write("agent/more/x.py", "x");
        if staged {
            bed.git(&["add", "agent"]);
        }
        let command = obey(&bed, &fail(), revert);
        assert!(command.contains("'agent/two words.md'"), "{command}");
        clean();
        assert!(!bed.root.join("agent/two words.md").exists() && !bed.root.join("agent/more/x.py").exists());
    }
    bed.agent(&[]);
    bed.write("agent/two words.md", "x");
    bed.git(&["add", "agent"]);
    bed.git(&["commit", "-qm", "bad edit"]);
    let done = fail();
    assert!(done.stderr.contains("the edit is committed: "), "{}", done.stderr);
    obey(&bed, &done, revert);
    clean();
    assert_eq!(bed.git(&["show", "HEAD:agent/agent.py"]), "SKILLS = {\"easy\"}");
    bed.run(&["gate"]).expect(0).warns("the agent is the base commit's: there is nothing to commit or to record");
}

#[test]
fn a_passing_edit_is_committed_by_the_command_shown() {
    let bed = Bed::prepared(json!({}), "editable: [agent/agent.py, 'agent/two words.md', agent/absent.py]");
    bed.agent(&["easy", "hard"]);
    bed.write("agent/two words.md", "x");
    let done = bed.run(&["gate"]).expect(0);
    let command = obey(&bed, &done, "commit the edit with");
    assert!(command.starts_with("git add agent/agent.py 'agent/two words.md' && git commit"), "{command}");
    bed.run(&["gate"]).expect(0).warns("hint: the edit is committed already: run `autoharness record`.");
    bed.run(&["record"]).expect(0);
}

#[test]
fn guarded_files_come_back_by_the_command_shown() {
    let bed = Bed::prepared(json!({}), "");
    let undo = "undo the changes named above";
    bed.write("bench.py", "print()\n");
    bed.write("my notes.txt", "x");
    let done = bed.run(&["gate"]).expect(1);
    assert!(obey(&bed, &done, undo).contains("rm -r -- 'my notes.txt'"));
    bed.run(&["gate"]).expect(0);
    bed.write("bench.py", "print()\n");
    bed.write("notes.txt", "x");
    bed.git(&["add", "bench.py", "notes.txt"]);
    bed.git(&["commit", "-qm", "guarded"]);
    let done = bed.run(&["gate"]).expect(1);
    obey(&bed, &done, "undo the changes named above in a new commit");
    bed.run(&["gate"]).expect(0);
}

#[test]
fn a_thousand_stray_files_are_a_few_lines_and_a_count() {
    let bed = Bed::prepared(json!({}), "");
    for number in 0..1000 {
        bed.write(&format!("node_modules/some_module_{number:04}.js"), "");
    }
    let done = bed.run(&["gate"]).expect(1);
    done.says("node_modules/some_module_0000.js: new; and 999 more\n").says(" and 980 more\ngate: failed");
    let kept = bed.events("verdict")[0]["evidence"]["guard"].as_array().unwrap().clone();
    assert_eq!((kept.len(), &kept[20]), (21, &json!("and 980 more")));
    let lines = bed.run(&["gate", "--format", "json"]).expect(1).json();
    assert_eq!(lines.last().unwrap()["violations"], json!(kept));
    let again = bed.run(&["prepare"]).expect(0);
    assert_eq!(again.stderr.matches("the gate will refuse this").count(), 21);
    bed.run(&["verify"]).expect(0);
    bed.git(&["add", "-A"]);
    bed.git(&["commit", "-qm", "all of it"]);
    bed.run(&["prepare", "--accept"]).expect(0).warns("and 980 more");
    assert_eq!(bed.events("accepted")[0]["changes"].as_array().unwrap().len(), 21);
}

#[test]
fn a_truncated_object_does_not_make_the_gate_deaf() {
    let bed = Bed::prepared(json!({}), "");
    let id = bed.git(&["rev-parse", "HEAD:.gitignore"]);
    let object = bed.root.join(".git/objects").join(&id[..2]).join(&id[2..]);
    let bytes = std::fs::read(&object).unwrap();
    std::fs::remove_file(&object).unwrap();
    std::fs::write(&object, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let junit = bed.outside().join("gate.xml");
    let mut command = bed.command(&["gate", "--junit", junit.to_str().unwrap()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It listens to signals before it reads the tree.
    let status = format!("/proc/{}/status", child.id());
    let listens = || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << 14) != 0)
    };
    while !listens() {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let done = done(child.wait_with_output().unwrap()).expect(143).warns("error: interrupted by SIGTERM");
    done.warns(&format!("git was still reading blob {id}")).warns("`git fsck --full`");
    let report = std::fs::read_to_string(junit).unwrap();
    assert!(report.contains("<error message=\"the gate did not finish\"/>"), "{report}");
}

#[test]
fn a_repository_of_another_user_is_opened_where_git_opens_it() {
    let bed = Bed::prepared(json!({}), "");
    // Only root can give files away.
    if !Command::new("chown").args(["-R", "12345:12345"]).arg(&bed.root).output().unwrap().status.success() {
        return;
    }
    let config = bed.outside().join("home/.gitconfig");
    let above = bed.root.parent().unwrap().display().to_string();
    let root = bed.root.display().to_string();
    for (value, opens) in [
        (format!("{above}/*"), true),
        (format!("{root}/"), true),
        (root.clone(), true),
        ("*".into(), true),
        (format!("{above}/other"), false),
        (format!("{root}/*"), false),
    ] {
        std::fs::write(&config, format!("[safe]\n\tdirectory = {value}\n")).unwrap();
        let code = if opens { 0 } else { 2 };
        bed.run(&["status"]).expect(code);
        let done = bed.run(&["gate"]).expect(code);
        assert!(opens || done.stderr.contains("belongs to another user"), "{}", done.stderr);
    }
    // What lies in the repository does not vouch for it.
    std::fs::remove_file(&config).unwrap();
    let mut own = std::fs::read_to_string(bed.root.join(".git/config")).unwrap();
    own.push_str("[safe]\n\tdirectory = *\n");
    std::fs::write(bed.root.join(".git/config"), own).unwrap();
    bed.run(&["status"]).expect(2);
}

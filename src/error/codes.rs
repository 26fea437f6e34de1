//! Errors with stable names: a coding agent or CI acts on the name, whatever the message says. `autoharness explain` prints
//! this table.

macro_rules! codes {
    ($($variant:ident $name:literal: $meaning:literal, $remedy:literal;)*) => {
        /// What went wrong, by its name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)*
        }

        impl Code {
            /// All of them, in the order of the table.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// The name, as JSON output has it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Code::$variant => $name,)*
                }
            }

            /// What it means, in a line.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Code::$variant => $meaning,)*
                }
            }

            /// What to do about it.
            pub fn remedy(self) -> &'static str {
                match self {
                    $(Code::$variant => $remedy,)*
                }
            }
        }
    };
}

codes! {
    // The experiment and its configuration.
    NoExperiment "no_experiment": "there is no experiment in this directory, nor in one above it",
        "Go to the experiment, or name it with `-C DIR`. `autoharness init DIR --benchmark NAME` makes a new one. In a fresh clone copy experiment_config.yaml.template to experiment_config.yaml, which git does not carry.";
    ConfigMissing "config_missing": "the configuration file does not exist",
        "Copy experiment_config.yaml.template to experiment_config.yaml and set it up, or correct `--config`.";
    ConfigInvalid "config_invalid": "the configuration or .env cannot be read, or has a key or a value that is not allowed",
        "Fix the line that the message names. `autoharness config template` shows every key.";
    ConfigChanged "config_changed": "the configuration is not the one the experiment was prepared with",
        "Undo the change. A human who wants it runs `autoharness prepare --accept`.";
    NotPrepared "not_prepared": "the experiment has no baseline yet",
        "Run `autoharness prepare`.";
    InUse "in_use": "another command is at work on this experiment",
        "Wait until it has finished, then run the same command again.";
    EnvironmentNotReady "environment_not_ready": "something that the benchmark needs is missing here",
        "Run `autoharness doctor`: it names each thing with the command that fixes it. `autoharness prepare` installs most of them.";
    InstallFailed "install_failed": "an installer failed",
        "Read the log that the message names, fix the cause, run the same command again.";
    DataChanged "data_changed": "provisioned data is missing, is not what the experiment was prepared with, or changed while trials ran",
        "Restore it. A human who wants the change adapts `data:` and runs `autoharness prepare --accept`.";
    BenchmarkChanged "benchmark_changed": "the benchmark's program, version or files are not those prepared with",
        "Undo the change. A human who wants it runs `autoharness prepare --accept`, which measures the score to beat anew.";
    OtherVersion "other_version": "another version of autoharness prepared this experiment, and scores would not compare",
        "A human runs `autoharness prepare --accept`, which measures the score to beat anew.";
    SplitInvalid "split_invalid": "the benchmark's tasks, or the split file, do not make a split",
        "Give every task a split or none, with at least one task to gate on; fix the split file that the message names.";

    // git.
    NoRepository "no_repository": "the directory is in no usable git repository",
        "Run `git init` and commit; where the repository belongs to another user, the hint says how to trust it.";
    NoCommit "no_commit": "the repository has no commit yet",
        "Run `git add -A && git commit -m \"start\"`.";
    Uncommitted "uncommitted": "files differ from the last commit, and only committed files are scored",
        "Commit them, or add what is not part of the experiment to .gitignore and commit that.";
    AgentNotCommitted "agent_not_committed": "the committed agent is not the one on disk, or not the one that passed the gate",
        "Commit the edit, then run the same command again; or run `autoharness gate` on what is committed.";
    BaseCommitMissing "base_commit_missing": "the base commit is not in this repository",
        "Run `git fetch`. Where it was amended away, a human starts from HEAD with `autoharness prepare --accept`.";
    UnknownRevision "unknown_revision": "no commit has this name, or it has no ancestor in common with HEAD",
        "Correct `--base`. In a shallow clone fetch the history: `fetch-depth: 0`, or `git fetch --unshallow`.";
    GitUnreadable "git_unreadable": "git's index or one of its objects cannot be read",
        "Do what the hint says; `git fsck --full` names damaged objects: fetch them anew, or clone.";

    // The agent.
    PreflightFailed "preflight_failed": "the agent file cannot be parsed or imported, so nothing was run",
        "Fix the agent file at the line that the message names, then run the same command again.";
    UneditedAgentFails "unedited_agent_fails": "not even the agent of the base commit can be imported: the edit is not to blame",
        "Do not revert. Fix the Python that runs the agent (`autoharness doctor`), then run the same command again.";
    MachineTooSlow "machine_too_slow": "importing the agent takes too long on this machine to say anything about the edit",
        "Do not revert. Run the same command again when the machine is less busy.";
    AgentFileUnusable "agent_file_unusable": "an editable file is missing, or is not a plain file of a size that can be scored",
        "Bring it back with `git checkout -- FILE`, or make it a plain file.";

    // The ledger and what is derived from it.
    LedgerBroken "ledger_broken": "the ledger's chain is broken, or lines at its end are missing",
        "Restore it from a backup. A human who wants a new history moves it and checkpoint.json away and runs `autoharness prepare`.";
    LedgerNewer "ledger_newer": "a newer autoharness wrote the ledger",
        "Upgrade autoharness.";
    LedgerMoved "ledger_moved": "another process wrote, replaced or removed the ledger while the command ran",
        "Put the right file back, then run the same command again. Two commands must not share a state directory without its lock.";
    ViewsChanged "views_changed": "something other than autoharness changed a file in workspace/ that is derived from the ledger",
        "Run `autoharness verify --restore`, and leave these files alone.";

    // benchmark and gate.
    UnknownTask "unknown_task": "the split has no task of this name",
        "Take a name from workspace/train_results.json.";
    NothingToShow "nothing_to_show": "the ledger or the workspace lacks what was to be shown or compared",
        "Run the command that the hint names; it makes the evidence.";
    HoldOutSubset "hold_out_subset": "the hold-out can only be run as a whole",
        "Leave out `--task-ids`: single results of the hold-out are for humans.";
    NoEvidence "no_evidence": "too few trials gave evidence, so nothing was decided",
        "Do not revert. Fix the cause (`autoharness doctor`), then run the same command again: finished trials are kept.";
    BenchmarkFailed "benchmark_failed": "the benchmark's program does not start, or does not do what it was asked",
        "Do not revert. Read the message and the log that it names, fix the cause, run the same command again.";
    ChildTimeout "child_timeout": "a program did not end within its time",
        "Run the same command again. If it keeps happening, run that program by hand and see why.";
    ReportUnwritable "report_unwritable": "a report, a page or a table cannot be written where it was asked for",
        "Name another file, outside the checkout. Nothing takes the place of a file of the experiment or of this program's own.";

    // record.
    NoPassingGate "no_passing_gate": "no gate has passed that could be recorded, or the experiment was changed after it",
        "Run `autoharness gate`; record only after exit code 0.";
    NumbersDiffer "numbers_differ": "the numbers given are not those that were measured",
        "Run `autoharness record` without numbers.";
    RecordedAlready "recorded_already": "the last passing gate is recorded already",
        "Run `autoharness gate` on the new edit first.";
    GuardedFilesCommitted "guarded_files_committed": "commits since the base commit change files other than the editable ones",
        "Undo those changes in a new commit. A human who wants them runs `autoharness prepare --accept`.";

    // Whatever the command.
    FileUnusable "file_unusable": "a file cannot be read: it is too large, not text, or not a file at all",
        "Put the right file in its place, or remove what is there.";
    ReadOnly "read_only": "the state directory or `.git` is read-only here, as in a coding agent's sandbox",
        "Do not revert. Make both writable: Codex needs `--add-dir .git`. Or let `autoharness loop` drive the coding agent: it runs gate, commit and record outside of the sandbox.";
    DiskFull "disk_full": "the disk is full, or a quota is used up",
        "Do not revert. Free some space and run the same command again: finished trials are kept.";
    Interrupted "interrupted": "a signal ended the command",
        "Run the same command again: finished trials are kept.";

    // What has no code of its own.
    Rejected "rejected": "the answer is no",
        "Read the message and its hints: revert or fix, then try something else.";
    Usage "usage": "the command, the configuration or the files must change",
        "Read the message and its hints, fix what they name, run the command again.";
    Infrastructure "infrastructure": "the machine, the network or a program failed, and nothing was decided",
        "Do not revert. Fix what the message names, then run the same command again.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Code;

    #[test]
    fn every_code_has_a_name_of_its_own_and_says_what_to_do() {
        let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            let name = code.name();
            assert!(name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'), "{name}");
            assert!(name.len() < 24 && code.meaning().len() < 110, "{name}");
            assert!(!code.meaning().ends_with('.') && code.remedy().ends_with('.'), "{name}");
        }
    }

    /// A code that nothing uses would explain an error that never occurs.
    #[test]
    fn every_code_is_given_somewhere() {
        let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let files = walkdir::WalkDir::new(src).into_iter().map(Result::unwrap);
        let texts: Vec<String> = files
            .filter(|file| file.path().extension().is_some_and(|extension| extension == "rs"))
            .map(|file| fs_err::read_to_string(file.path()).unwrap())
            .map(|text| text.split("#[cfg(test)]").next().unwrap_or_default().to_string())
            .collect();
        for code in Code::ALL {
            let word = format!("Code::{code:?}");
            let given = |text: &String| {
                text.match_indices(&word)
                    .any(|(at, _)| text[at + word.len()..].chars().next().is_some_and(|next| !next.is_alphanumeric()))
            };
            assert!(texts.iter().any(given), "{word}");
        }
    }
}

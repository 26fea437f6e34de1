//! What a trial leaves besides its `result.json`: facts for the judgement, and evidence for the coding agent.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::file::{Phase, TrialFile};
use super::judgement::{Facts, Judgement};
use crate::benchmarks::trial_protocol::python::fix;
use crate::model::trial::Outcome;
use crate::process::Redactor;
use crate::store::beneath::Dir;

/// The end of what the tests and the agent printed that is kept, in bytes.
const OUTPUT: usize = 8 * 1024;
/// A trace larger than this is not kept: it would be too long to read.
const TRACE: u64 = 64 * 1024 * 1024;
/// Characters of an exception's message that are kept.
const MESSAGE: usize = 2000;

/// The facts about the verifier's files in a trial's directory.
pub(super) fn facts(trial: &Path) -> Facts {
    let mut facts = Facts::default();
    for verifier in verifiers(trial) {
        // A link counts as well: the tests did not make it.
        let has = |name: &str| fs_err::symlink_metadata(verifier.join(name)).is_ok();
        let (json, text) = (has("reward.json"), has("reward.txt"));
        facts.reward_json |= json;
        // Both in one directory: of several steps each has its own.
        facts.reward_txt |= json && text;
        facts.test_output |= has("test-stdout.txt");
    }
    facts
}

/// The verifier's directory, and those of the steps of tasks that have several.
fn verifiers(trial: &Path) -> Vec<PathBuf> {
    let mut found = vec![trial.join("verifier")];
    if let Ok(steps) = fs_err::read_dir(trial.join("steps")) {
        found.extend(steps.flatten().map(|step| step.path().join("verifier")));
    }
    found
}

/// Reads evidence from a trial's directory, free of secrets.
pub(super) struct Keep<'a> {
    pub(super) redactor: &'a Redactor,
    pub(super) directory: &'a Path,
}

impl Keep<'_> {
    /// The agent's trace, as JSON. One that is no JSON is kept as text, so that a crash while writing it loses nothing.
    pub(super) fn trace(&self) -> Option<Box<RawValue>> {
        let agent = Path::new("agent");
        let (file, length) = ["trace.json", "trajectory.json"].iter().find_map(|name| self.plain_file(agent, name))?;
        if length > TRACE {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(TRACE).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let value: Box<RawValue> = match serde_json::from_str(&fix(&text)) {
            Ok(value) => value,
            Err(_) => serde_json::value::to_raw_value(&json!({"unparsable": text})).ok()?,
        };
        Some(self.redactor.redact_json(value))
    }

    /// A regular file of the trial. The sandbox may have this directory mounted, and may have left links to files of this machine.
    fn plain_file(&self, directory: &Path, name: &str) -> Option<(std::fs::File, u64)> {
        Dir::open(self.directory).ok()?.below(directory).ok()??.plain_file(name).ok()?
    }

    /// The end of a text file.
    fn end_of(&self, directory: &Path, name: &str) -> Option<String> {
        let (mut file, length) = self.plain_file(directory, name)?;
        let start = length.saturating_sub(OUTPUT as u64);
        file.seek(SeekFrom::Start(start)).ok()?;
        let mut bytes = Vec::new();
        file.take(OUTPUT as u64).read_to_end(&mut bytes).ok()?;
        let cut = if start > 0 { "[the beginning is left out]\n" } else { "" };
        Some(format!("{cut}{}", String::from_utf8_lossy(&bytes)))
    }

    /// The breakdown beside the trace.
    pub(super) fn detail(&self, file: &TrialFile, judgement: &Judgement) -> Option<Box<RawValue>> {
        let message = |text: &str| text.chars().take(MESSAGE).collect::<String>();
        let exception = file.exception_info.as_ref();
        let seconds = |phase: &Option<Phase>| phase.as_ref().and_then(Phase::seconds);
        let mut detail = json!({
            "trial_name": file.trial_name,
            "rewards": file.verifier_result.as_ref().and_then(|result| result.rewards.as_ref()),
            "exception_type": exception.map(|info| &info.exception_type),
            "message": exception.map(|info| message(&info.exception_message)),
            "reason": judgement.reason,
            "note": judgement.note.as_deref().map(message),
            "seconds": {
                "environment_setup": seconds(&file.environment_setup),
                "agent_setup": seconds(&file.agent_setup),
                "agent": seconds(&file.agent_execution),
                "verifier": seconds(&file.verifier),
            },
        });
        if let Some(printed) = self.end_of(Path::new("agent"), "agent-output.txt") {
            detail["agent_output"] = printed.into();
        }
        if judgement.outcome != Outcome::Passed {
            detail["test_output"] = self.test_output().map_or(Value::Null, Value::from);
            if judgement.outcome == Outcome::AgentError {
                let traceback = exception.map(|info| tail(&info.exception_traceback, OUTPUT));
                detail["traceback"] = traceback.map_or(Value::Null, Value::from);
            }
        }
        let raw = serde_json::value::to_raw_value(&detail).ok()?;
        Some(self.redactor.redact_json(raw))
    }

    fn test_output(&self) -> Option<String> {
        verifiers(self.directory)
            .iter()
            .find_map(|verifier| self.end_of(verifier.strip_prefix(self.directory).ok()?, "test-stdout.txt"))
    }
}

/// The last `length` bytes of a text, or a few less.
fn tail(text: &str, length: usize) -> &str {
    let mut start = text.len().saturating_sub(length);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_the_sandbox_left_shows_no_file_of_this_machine() {
        let directory = tempfile::tempdir().unwrap();
        let (trial, secret) = (directory.path().join("trial"), directory.path().join("secret"));
        let redactor = Redactor::default();
        let keep = Keep { redactor: &redactor, directory: &trial };
        fs_err::create_dir_all(trial.join("agent")).unwrap();
        fs_err::write(&secret, r#"{"of": "the machine"}"#).unwrap();
        std::os::unix::fs::symlink(&secret, trial.join("agent/trace.json")).unwrap();
        std::os::unix::fs::symlink(directory.path(), trial.join("verifier")).unwrap();
        fs_err::write(directory.path().join("test-stdout.txt"), "of the machine").unwrap();
        assert!(keep.trace().is_none());
        assert_eq!(keep.test_output(), None);
        fs_err::write(trial.join("agent/trajectory.json"), r#"{"of": "the agent"}"#).unwrap();
        assert_eq!(keep.trace().unwrap().get(), r#"{"of": "the agent"}"#);
        fs_err::remove_file(trial.join("verifier")).unwrap();
        fs_err::create_dir(trial.join("verifier")).unwrap();
        fs_err::write(trial.join("verifier/test-stdout.txt"), "of the tests").unwrap();
        assert_eq!(keep.test_output().as_deref(), Some("of the tests"));
    }
}

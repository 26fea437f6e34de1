//! Checks a program's answers in one run against the request: nothing else is believed, and nothing is passed on that must
//! stay hidden.

use std::collections::HashSet;

use super::line::{self, ProtocolEvent};
use crate::benchmarks::runner::{RunEvent, RunRequest, Sink};
use crate::model::trial::{Split, TrialResult};
use crate::process::{Log, Redactor};

/// How much of an offending line is quoted, in characters.
const EXCERPT: usize = 120;

/// One run: what was asked, and what has been answered.
pub(super) struct Exchange<'a> {
    /// What messages call the program.
    program: &'a str,
    redactor: &'a Redactor,
    sink: Sink,
    log: Log,
    trials: u32,
    tasks: HashSet<&'a str>,
    started: HashSet<(String, u32)>,
    finished: HashSet<(String, u32)>,
    /// Then nothing of a conversation may be kept.
    pub(super) held_out: bool,
    /// Some of these tasks are, or may turn out to be, hold-out: no message may name one or quote the program.
    discreet: bool,
    /// The program reported what it could not know.
    pub(super) untrusted: bool,
    /// Whether the warning about a field that should hold a number has been given.
    odd: bool,
    pub(super) done: u64,
    pub(super) total: u64,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        program: &'a str,
        redactor: &'a Redactor,
        request: &'a RunRequest,
        sink: Sink,
        log: Log,
    ) -> Exchange<'a> {
        Exchange {
            program,
            redactor,
            sink,
            log,
            trials: request.trials,
            tasks: request.tasks.iter().map(String::as_str).collect(),
            started: HashSet::new(),
            finished: HashSet::new(),
            held_out: !request.keep_traces || request.split == Some(Split::Test),
            discreet: !request.keep_traces || request.split != Some(Split::Train),
            untrusted: false,
            odd: false,
            done: 0,
            total: request.tasks.len() as u64 * u64::from(request.trials),
        }
    }

    pub(super) async fn line(&mut self, number: u64, line: &[u8]) -> Result<(), String> {
        let event = line::parse(line).map_err(|why| {
            let excerpt = if self.discreet { String::new() } else { excerpt(self.redactor, line) };
            format!("line {number} {why}{excerpt}")
        })?;
        match event {
            None => Ok(()),
            Some(ProtocolEvent::Task { .. } | ProtocolEvent::Context { .. }) => {
                Err(format!("line {number} lists tasks, but trials were asked for"))
            }
            Some(ProtocolEvent::Log { message, .. }) if self.discreet => {
                self.log.line(&message);
                Ok(())
            }
            Some(ProtocolEvent::Log { warning, message }) => {
                let message = self.clean_line(&message);
                self.send(RunEvent::Log { warning, message }).await
            }
            Some(ProtocolEvent::Started { task, trial }) => {
                self.expect(number, &task, trial)?;
                if self.started.insert((task.clone(), trial)) {
                    self.send(RunEvent::Started { task, trial }).await?;
                }
                Ok(())
            }
            Some(ProtocolEvent::Trial { result, problem, odd }) => {
                self.expect(number, &result.task, result.trial)?;
                if !self.finished.insert((result.task.clone(), result.trial)) {
                    let which = self.name(&result.task, result.trial);
                    self.untrusted = true;
                    return Err(format!("line {number} reports {which} a second time"));
                }
                self.done += 1;
                if let Some(field) = odd.filter(|_| !std::mem::replace(&mut self.odd, true)) {
                    let message =
                        format!("{} reports a `{field}` that is no such number; it is not counted", self.program);
                    self.send(RunEvent::Log { warning: true, message }).await?;
                }
                let result = self.clean(result, problem);
                self.send(RunEvent::Finished(result)).await
            }
        }
    }

    /// Refuses what was not asked for.
    fn expect(&mut self, number: u64, task: &str, trial: u32) -> Result<(), String> {
        if self.tasks.contains(task) && trial < self.trials {
            return Ok(());
        }
        self.untrusted = true;
        Err(format!("line {number} reports {}, which was not asked for", self.name(task, trial)))
    }

    fn name(&self, task: &str, trial: u32) -> String {
        if self.discreet {
            return "a trial".into();
        }
        format!("trial {trial} of task {:?}", self.clean_line(task))
    }

    fn clean_line(&self, text: &str) -> String {
        line::one_line(&self.redactor.redact(text))
    }

    fn clean(&self, mut result: Box<TrialResult>, problem: Option<String>) -> Box<TrialResult> {
        let redactor = self.redactor;
        if self.held_out {
            result.trace = None;
            result.detail = None;
            result.error = problem;
            return result;
        }
        result.trace = result.trace.map(|trace| redactor.redact_json(trace));
        result.detail = result.detail.map(|detail| redactor.redact_json(detail));
        let error = result.error.map(|error| self.clean_line(&error));
        result.error = match (problem, error) {
            (Some(problem), Some(error)) => Some(format!("{problem} ({error})")),
            (problem, error) => problem.or(error),
        };
        result
    }

    async fn send(&self, event: RunEvent) -> Result<(), String> {
        self.sink.send(event).await.map_err(|_| "the receiver of its trials is gone".into())
    }
}

/// `: "the line's beginning"`, free of secrets and control characters.
pub(super) fn excerpt(redactor: &Redactor, line: &[u8]) -> String {
    // Redacted before it is cut, or half a secret would escape.
    let text = String::from_utf8_lossy(&line[..line.len().min(64 * 1024)]);
    let text = redactor.redact(&text);
    let cut = text.chars().count() > EXCERPT;
    let text: String = text.chars().take(EXCERPT).collect();
    format!(": {text:?}{}", if cut { "..." } else { "" })
}

//! The trial protocol (DESIGN §6): any program that reads one JSON object on stdin and answers with one per line.
//!
//! This file makes the request and says how it ended; `exchange` checks the answers, `conversation` runs and bounds the
//! conversation, `line` reads a line. Benchmarks `command` and `demo` are this runner; `tau-bench` is this runner and a helper.

mod conversation;
mod exchange;
pub(crate) mod line;
pub(crate) mod python;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use self::conversation::{Bounds, ConversationEnd, converse};
use self::exchange::{Exchange, excerpt};
use self::line::ProtocolEvent;
use super::agent_python::AgentPython;
use super::contract::Ground;
use super::fencing::Fencing;
use super::runner::{BenchmarkRunner, BoxFuture, Catalogue, RunReport, RunRequest, Sink, TaskInfo};
use crate::error::{Code, Context as _, Error, Result};
use crate::fence::Layers;
use crate::model::trial::Split;
use crate::process::signals::Cancel;
use crate::process::{Child, Command, Log, Redactor, Stderr, Supervisor, log};

/// Version of the trial protocol that is spoken.
pub(crate) const PROTOCOL_VERSION: u32 = 1;

/// Names the run's scratch directory to the program. It is removed after the run.
pub(crate) const SCRATCH_VARIABLE: &str = "AUTOHARNESS_SCRATCH";

/// How long a program may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(10);

/// The models a program is told to use.
#[derive(Debug, Clone, Default)]
pub struct AgentSettings {
    pub model: Option<String>,
    /// The model that plays the user.
    pub user_model: Option<String>,
    pub reasoning_effort: Option<String>,
}

/// Bounds on a program's patience with us, and ours with it.
#[derive(Debug, Clone, Copy)]
pub struct WaitLimits {
    /// Longest silence where trials have no time limit.
    pub silence: Duration,
    /// Added to every bound that follows from the trials' time limit: starting up and grading take time too.
    pub slack: Duration,
    /// How long a program may take to exit after it closed its output.
    pub exit: Duration,
}

impl Default for WaitLimits {
    fn default() -> WaitLimits {
        WaitLimits { silence: Duration::from_secs(1800), slack: Duration::from_secs(120), exit: Duration::from_secs(5) }
    }
}

/// A benchmark behind the trial protocol.
#[derive(Debug, Clone)]
pub struct ProtocolRunner {
    /// What messages call the program, such as `tau-bench`.
    pub name: String,
    /// The program and its arguments; relative paths are relative to the staged copy, where it runs.
    pub command: Vec<String>,
    /// Its complete environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The request's `options`.
    pub options: Map<String, Value>,
    /// The fence that the program can start its agent behind; `None`: the request mentions none.
    pub fence: Option<Fencing>,
    /// Whether trials count although the program that reported them failed afterwards: true if only the program itself can
    /// have ended it.
    pub outlives_failure: bool,
    /// The request's models.
    pub agent: AgentSettings,
    /// The agent file, relative to the staged copy; named in `list` requests.
    pub agent_file: PathBuf,
    /// See [`BenchmarkRunner::agent_symbol`].
    pub symbol: Option<String>,
    /// See [`BenchmarkRunner::agent_python`].
    pub agent_python: Option<AgentPython>,
    /// See [`BenchmarkRunner::protocol`].
    pub protocol: Value,
    /// See [`BenchmarkRunner::reports_tokens`].
    pub reports_tokens: bool,
    /// What the program's exit statuses mean, if it has agreed on some with us. For a run that touches the hold-out
    /// only these may be reported, because they say nothing about a task.
    pub exits: &'static [(i32, &'static str)],
    /// How long the program may take to end when it is asked to.
    pub grace: Duration,
    /// Everything else it may take.
    pub limits: WaitLimits,
    pub supervisor: Supervisor,
    /// Hides secrets in the program's output.
    pub redactor: Redactor,
}

impl ProtocolRunner {
    /// A runner for this configuration, without a program yet.
    pub fn new(ground: &Ground<'_>) -> ProtocolRunner {
        let config = ground.config;
        ProtocolRunner {
            name: config.benchmark.name().into(),
            command: Vec::new(),
            environment: ground.environment.for_child(&config.pass_env, &[]),
            options: Map::new(),
            fence: None,
            outlives_failure: false,
            agent: AgentSettings {
                model: config.agent_model.clone(),
                user_model: config.user_model.clone(),
                reasoning_effort: config.reasoning_effort.clone(),
            },
            agent_file: config.agent_file().into(),
            symbol: None,
            agent_python: None,
            protocol: Value::Null,
            reports_tokens: false,
            exits: &[],
            grace: GRACE,
            limits: WaitLimits::default(),
            supervisor: ground.supervisor.clone(),
            redactor: ground.redactor(),
        }
    }
}

impl BenchmarkRunner for ProtocolRunner {
    fn protocol(&self) -> Result<Value> {
        Ok(self.protocol.clone())
    }

    fn agent_symbol(&self) -> Option<&str> {
        self.symbol.as_deref()
    }

    fn agent_python(&self) -> Option<AgentPython> {
        self.agent_python.clone()
    }

    fn reports_tokens(&self) -> bool {
        self.reports_tokens
    }

    fn fence(&self) -> Option<&Layers> {
        self.fence.as_ref().map(|fence| &fence.layers)
    }

    fn tasks<'a>(&'a self, staging: &'a Path, log: &'a Path, cancel: &'a Cancel) -> BoxFuture<'a, Result<Catalogue>> {
        Box::pin(self.list(staging, log, cancel))
    }

    fn run<'a>(&'a self, request: &'a RunRequest, sink: Sink, cancel: &'a Cancel) -> BoxFuture<'a, Result<RunReport>> {
        Box::pin(self.run_trials(request, sink, cancel))
    }
}

impl ProtocolRunner {
    async fn list(&self, staging: &Path, log: &Path, cancel: &Cancel) -> Result<Catalogue> {
        cancel.check()?;
        // All listings share a log, which must not grow with every one of them.
        let _ = fs_err::remove_file(log);
        let log = self.open_log(log)?;
        let request = json!({
            "protocol": PROTOCOL_VERSION,
            "action": "list",
            "tasks": null,
            "split": null,
            "trials": 1,
            "concurrency": 1,
            "seed": 0,
            "timeout_s": null,
            "keep_traces": false,
            "agent": self.agent_json(&staging.join(&self.agent_file)),
            "options": self.options,
        });
        let child = self.start(&request, staging, None, &log)?;
        let Catalogue { mut tasks, mut context } = Catalogue::default();
        let mut seen = HashMap::new();
        let bounds = Bounds { silence: self.limits.silence, wall: None, exit: self.limits.exit, grace: self.grace };
        let end = converse(child, bounds, cancel, async |number, line| {
            match line::parse(line) {
                Ok(None) => {}
                Ok(Some(ProtocolEvent::Log { message, .. })) => log.line(&message),
                Ok(Some(ProtocolEvent::Task { id, split })) => {
                    if let Some(earlier) = seen.insert(id.clone(), number) {
                        return Err(format!("line {number} names the task `{id}` again (first in line {earlier})"));
                    }
                    tasks.push(TaskInfo { id, split, limit_s: None });
                }
                Ok(Some(ProtocolEvent::Context { name, text })) => {
                    if context.iter().any(|(earlier, _)| *earlier == name) {
                        return Err(format!("line {number} has the context `{name}` again"));
                    }
                    context.push((name, text));
                }
                Ok(Some(_)) => {
                    return Err(format!("line {number} is about a trial, but only the tasks were asked for"));
                }
                Err(why) => return Err(format!("line {number} {why}{}", excerpt(&self.redactor, line))),
            }
            Ok(())
        })
        .await?;
        let where_to_look = format!("see its log: {}", log.path().display());
        let name = &self.name;
        match end {
            ConversationEnd::Exited(exit) if !exit.success() => {
                let message = format!("{name} ended with {exit} while listing its tasks");
                Err(Error::infrastructure(message).code(Code::BenchmarkFailed).hint(where_to_look))
            }
            ConversationEnd::Exited(_) if tasks.is_empty() => {
                Err(Error::usage(format!("{name} listed no tasks")).code(Code::BenchmarkFailed).hint(where_to_look))
            }
            ConversationEnd::Exited(_) => Ok(Catalogue { tasks, context }),
            ConversationEnd::Stalled(why) => {
                Err(Error::infrastructure(format!("{name} {why} while listing its tasks"))
                    .code(Code::BenchmarkFailed)
                    .hint(where_to_look))
            }
            ConversationEnd::Misbehaved(why) => Err(Error::usage(format!("{name} breaks the trial protocol: {why}"))
                .code(Code::BenchmarkFailed)
                .hint("a benchmark program may print nothing but events to stdout; everything else belongs to stderr.")
                .hint(where_to_look)),
        }
    }

    async fn run_trials(&self, request: &RunRequest, sink: Sink, cancel: &Cancel) -> Result<RunReport> {
        cancel.check()?;
        let log = self.open_log(&request.log)?;
        let mut exchange = Exchange::new(&self.name, &self.redactor, request, sink, log.clone());
        let mut message = json!({
            "protocol": PROTOCOL_VERSION,
            "action": "run",
            "tasks": request.tasks,
            "split": request.split.map(Split::as_str),
            "trials": request.trials,
            "concurrency": request.concurrency,
            "seed": request.seed,
            "timeout_s": request.timeout_s,
            "keep_traces": !exchange.held_out,
            "agent": self.agent_json(&request.agent_file),
            "options": self.options,
        });
        if let Some(fence) = &self.fence {
            message["fence"] = json!(fence.prefix());
        }
        let child = self.start(&message, &request.staging, Some(&request.scratch), &log)?;
        let bounds = self.bounds(request);
        let end = converse(child, bounds, cancel, async |number, line| exchange.line(number, line).await).await?;
        if let ConversationEnd::Exited(exit) = &end {
            // Its last output cannot be told from that of an agent that speaks in its name and then ends it.
            exchange.untrusted |= !exit.success() && exchange.done > 0 && !self.outlives_failure;
        }
        let what = match end {
            ConversationEnd::Exited(exit) if exit.success() && exchange.done == exchange.total => {
                return Ok(RunReport::default());
            }
            ConversationEnd::Exited(exit) if exit.success() => "ended".to_owned(),
            ConversationEnd::Exited(exit) => match self.exits.iter().find(|(status, _)| *status == exit.code) {
                Some((_, meaning)) => format!("ended with {exit} ({meaning})"),
                None => format!("ended with {exit}"),
            },
            ConversationEnd::Stalled(why) => format!("{why} and was stopped"),
            ConversationEnd::Misbehaved(why) => format!("broke the trial protocol and was stopped: {why};"),
        };
        let (name, done, total) = (&self.name, exchange.done, exchange.total);
        // The log of a run that touches the hold-out is removed; naming it would only invite a look.
        let whole = request.split == Some(Split::Train);
        let log = if whole { format!("; its log: {}", log.path().display()) } else { String::new() };
        let distrust = if exchange.untrusted { "; none of this run's trials count" } else { "" };
        Ok(RunReport {
            failure: Some(format!("{name} {what} after {done} of {total} trials{distrust}{log}")),
            untrusted: exchange.untrusted,
        })
    }

    fn bounds(&self, request: &RunRequest) -> Bounds {
        let WaitLimits { silence, slack, exit } = self.limits;
        let bounds = Bounds { silence, wall: None, exit, grace: self.grace };
        let Some(timeout) = request.timeout_s else { return bounds };
        let trials = request.tasks.len() as u64 * u64::from(request.trials);
        let rounds = trials.div_ceil(u64::from(request.concurrency.max(1)));
        // An absurd limit is no limit: a duration of years overflows the clock.
        let seconds = |seconds: f64| {
            Duration::try_from_secs_f64(seconds).ok().filter(|time| *time < Duration::from_secs(365 * 24 * 3600))
        };
        Bounds {
            silence: seconds(2.0 * timeout).map_or(silence, |silence| silence + slack),
            wall: seconds(rounds as f64 * timeout * 1.5).map(|wall| wall + slack),
            ..bounds
        }
    }

    /// Opens a log that no secret of ours gets into.
    pub(super) fn open_log(&self, path: &Path) -> Result<Log> {
        Log::open(path, log::DEFAULT_CAP, self.redactor.clone())
    }

    fn agent_json(&self, path: &Path) -> Value {
        json!({
            "path": path.to_string_lossy(),
            "model": self.agent.model,
            "user_model": self.agent.user_model,
            "reasoning_effort": self.agent.reasoning_effort,
        })
    }

    fn start(&self, request: &Value, cwd: &Path, scratch: Option<&Path>, log: &Log) -> Result<Child> {
        self.supervisor.spawn(self.invocation(request, cwd, scratch, log)?)
    }

    /// The program with this request on its stdin, not started yet.
    pub(super) fn invocation(&self, request: &Value, cwd: &Path, scratch: Option<&Path>, log: &Log) -> Result<Command> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(Error::usage(format!("{} has no command to run", self.name)));
        };
        let mut stdin = serde_json::to_vec(request).infra(|| "cannot write the request".into())?;
        stdin.push(b'\n');
        let mut environment = self.environment.clone();
        // Python buffers its output to a pipe, so a killed run would lose trials that had long ended.
        if !environment.iter().any(|(name, _)| name == "PYTHONUNBUFFERED") {
            environment.push(("PYTHONUNBUFFERED".into(), "1".into()));
        }
        if let Some(scratch) = scratch {
            environment.push((SCRATCH_VARIABLE.into(), scratch.into()));
        }
        Ok(Command {
            stdin,
            stderr: Stderr::Log(log.clone()),
            grace: self.grace,
            ..Command::new(program, cwd).args(arguments).env(environment)
        })
    }
}

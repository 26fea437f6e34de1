//! Runs BIRD-Interact: the trial protocol, and beside it a *host*, one process that keeps the benchmark's own services
//! running for all runs of a command. They take seconds to start, and their first call of a model much longer.
//!
//! The host is started at the first run, started anew when it has ended, and stopped by [`BenchmarkRunner::close`]. When the
//! tool dies, the watcher of the host ends it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::ChildStdout;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::templates::TemplateDigests;
use crate::benchmarks::agent_python::AgentPython;
use crate::benchmarks::runner::{BenchmarkRunner, BoxFuture, Catalogue, RunReport, RunRequest, Sink};
use crate::benchmarks::trial_protocol::{PROTOCOL_VERSION, ProtocolRunner};
use crate::error::{Code, Error, Result};
use crate::fence::Layers;
use crate::process::output::LineReader;
use crate::process::signals::Cancel;
use crate::process::{Ask, Child, Command, Log};

/// How long the host may take until it accepts runs; its services come up after that, while a run prepares.
const DOOR: Duration = Duration::from_secs(120);

/// From SIGTERM to SIGKILL: the host kills its services and removes their files.
const GRACE: Duration = Duration::from_secs(20);

/// BIRD-Interact with its services kept warm.
pub(super) struct BirdRunner {
    /// The helper program: runs trials, lists tasks, and is the host.
    pub bench: ProtocolRunner,
    /// The template databases that its trials work on copies of.
    pub templates: TemplateDigests,
    /// Private directory for the host's files, outside the work tree; removed when the host ends.
    pub scratch: PathBuf,
    /// Where runs have the copies that their agents are imported from: what the host's fence lets through.
    pub copies: PathBuf,
    /// File for the host's output; removed when it ends normally.
    pub log: PathBuf,
    /// The host, once a run has needed it.
    pub host: Mutex<Option<Host>>,
}

#[derive(Debug)]
pub(super) struct Host {
    /// What a run must know to use it. It has a key, so it goes only into a run's stdin.
    described: Value,
    /// It has ended, or is about to.
    over: Arc<AtomicBool>,
    stop: oneshot::Sender<()>,
    keeper: JoinHandle<()>,
}

impl Host {
    async fn close(self) {
        let _ = self.stop.send(());
        let _ = self.keeper.await;
    }
}

impl BenchmarkRunner for BirdRunner {
    fn protocol(&self) -> Result<Value> {
        self.bench.protocol()
    }

    fn agent_symbol(&self) -> Option<&str> {
        self.bench.agent_symbol()
    }

    fn agent_python(&self) -> Option<AgentPython> {
        self.bench.agent_python()
    }

    fn reports_tokens(&self) -> bool {
        self.bench.reports_tokens()
    }

    fn fence(&self) -> Option<&Layers> {
        self.bench.fence()
    }

    fn tasks<'a>(&'a self, staging: &'a Path, log: &'a Path, cancel: &'a Cancel) -> BoxFuture<'a, Result<Catalogue>> {
        self.bench.tasks(staging, log, cancel)
    }

    fn run<'a>(&'a self, request: &'a RunRequest, sink: Sink, cancel: &'a Cancel) -> BoxFuture<'a, Result<RunReport>> {
        Box::pin(async move {
            let mut bench = self.bench.clone();
            match self.host(cancel).await {
                Ok(described) => bench.options.insert("host".into(), described),
                Err(error) if cancel.signal().is_some() => return Err(error),
                Err(error) => return Ok(RunReport { failure: Some(error.to_string()), untrusted: false }),
            };
            let report = bench.run(request, sink, cancel).await?;
            // A server that does not answer is no sign of a change; the next code that needs it will report it.
            let changed = self.templates.changed(cancel).await.unwrap_or_default();
            if changed.is_empty() {
                return Ok(report);
            }
            let failure = format!(
                "{}_template changed while the run was at work, so none of its trials counts: load it anew from its dump, and \
                 give the benchmark a role that may not write there (`autoharness doctor` says which)",
                changed.join("_template, ")
            );
            Ok(RunReport { failure: Some(failure), untrusted: true })
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(host) = self.host.lock().await.take() {
                host.close().await;
                let _ = fs_err::remove_file(&self.log);
            }
            let _ = fs_err::remove_dir_all(&self.scratch);
        })
    }
}

impl BirdRunner {
    /// The description of a host that seems healthy. Runs that ask at the same time get the same one.
    async fn host(&self, cancel: &Cancel) -> Result<Value> {
        let mut current = self.host.lock().await;
        if let Some(host) = current.take_if(|host| host.over.load(Ordering::Relaxed)) {
            host.close().await;
        }
        if let Some(host) = &*current {
            return Ok(host.described.clone());
        }
        cancel.check()?;
        let host = self.start(cancel).await?;
        let described = host.described.clone();
        *current = Some(host);
        Ok(described)
    }

    async fn start(&self, cancel: &Cancel) -> Result<Host> {
        let bench = &self.bench;
        fs_err::create_dir_all(&self.scratch)?;
        fs_err::create_dir_all(&self.copies)?;
        let log = bench.open_log(&self.log)?;
        let agent = &bench.agent;
        let request = json!({
            "protocol": PROTOCOL_VERSION,
            "action": "host",
            "agent": {"model": agent.model, "user_model": agent.user_model},
            "options": bench.options,
        });
        let command = bench.invocation(&request, &self.scratch, Some(&self.scratch), &log)?;
        let mut child = bench.supervisor.spawn(Command { grace: GRACE, ask: Ask::Leader, ..command })?;
        let Some(stdout) = child.take_stdout() else {
            return Err(Error::infrastructure(format!("`{}` was started without an output", child.name())));
        };
        let mut reader = LineReader::new(stdout);
        let described = tokio::select! {
            described = timeout(DOOR, describe(&mut reader, &log)) => described.unwrap_or_else(|_| {
                Err(Some(format!("no sign of them within {} s", DOOR.as_secs())))
            }),
            signal = cancel.cancelled() => {
                child.stop(GRACE).await?;
                return Err(Error::interrupted(signal));
            }
        };
        match described {
            Ok(described) => Ok(keep(child, reader, described, log)),
            Err(reason) => {
                let exit = child.stop(GRACE).await?;
                let reason = reason.unwrap_or_else(|| exit.to_string());
                let reason = bench.redactor.redact(&reason);
                let place = self.log.display();
                Err(Error::infrastructure(format!(
                    "the services of {} did not start: {reason}; their log: {place}",
                    bench.name
                ))
                .code(Code::BenchmarkFailed))
            }
        }
    }
}

/// Reads until the host describes itself; otherwise returns its reason, if it gave one.
async fn describe(reader: &mut LineReader<ChildStdout>, log: &Log) -> Result<Value, Option<String>> {
    let mut reason = None;
    while let Ok(Some(line)) = reader.next_line().await {
        let Ok(mut event) = serde_json::from_slice::<Value>(&line) else { continue };
        if event["event"] == "host" {
            return Ok(event["host"].take());
        }
        if let Some(message) = event["message"].as_str() {
            log.line(message);
            reason = Some(message.to_owned());
        }
    }
    Err(reason)
}

/// Watches a host until it ends by itself or is to be stopped.
fn keep(mut child: Child, mut reader: LineReader<ChildStdout>, described: Value, log: Log) -> Host {
    let over = Arc::new(AtomicBool::new(false));
    let (stop, stopped) = oneshot::channel();
    let ending = Arc::clone(&over);
    let keeper = tokio::spawn(async move {
        tokio::select! {
            () = async {
                // The next thing it says is why it can no longer be used; the end of its output says the same.
                while let Ok(Some(line)) = reader.next_line().await {
                    ending.store(true, Ordering::Relaxed);
                    log.line(&String::from_utf8_lossy(&line));
                }
                ending.store(true, Ordering::Relaxed);
                let _ = child.wait().await;
            } => {}
            // Even when no receiver is left to ask for a stop.
            _ = stopped => {
                let _ = child.stop(GRACE).await;
            }
        }
    });
    Host { described, over, stop, keeper }
}

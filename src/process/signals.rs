//! The first Ctrl-C (or SIGTERM, SIGHUP) asks everything to stop; the tool then ends its children and exits 128 + signal.

use std::sync::atomic::{AtomicI32, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::{Context, Error, Result, signal_name};

const HANGUP: i32 = 1;
const INTERRUPT: i32 = 2;

/// Whether our parent had a signal ignored. Known on Linux only.
fn is_ignored(signal: i32) -> bool {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

static ARRIVED: AtomicI32 = AtomicI32::new(0);

/// The first signal that asked this process to stop, once [`Cancel::on_signals`] listens.
pub(crate) fn arrived() -> Option<i32> {
    Some(ARRIVED.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
}

/// Tells long-running work that a signal arrived.
#[derive(Debug, Clone)]
pub struct Cancel {
    receiver: watch::Receiver<Option<i32>>,
    /// Fires as well; see [`Cancel::linked`].
    parent: Option<Box<Cancel>>,
}

impl Cancel {
    /// Installs the handlers; call once per command. A separate thread listens: the main one may be busy where nothing wakes
    /// it, and its watcher must learn of the signal all the same.
    ///
    /// # Errors
    /// When the operating system refuses a handler or a thread.
    pub fn on_signals() -> Result<Cancel> {
        let (trigger, cancel) = Cancel::manual();
        listen(move |number| {
            let _ = ARRIVED.compare_exchange(0, number, Ordering::SeqCst, Ordering::SeqCst);
            trigger.fire(number);
        })?;
        Ok(cancel)
    }

    /// As [`Cancel::on_signals`], for work that can end after a step: the first Ctrl-C asks for that and fires only the first
    /// of the two; a second one, or any other signal, fires both.
    ///
    /// # Errors
    /// As [`Cancel::on_signals`].
    pub fn in_two_steps() -> Result<(Cancel, Cancel)> {
        let ((soft, after_step), (hard, now)) = (Cancel::manual(), Cancel::manual());
        listen(move |number| {
            if number != INTERRUPT || after_step_fired(&soft) {
                let _ = ARRIVED.compare_exchange(0, number, Ordering::SeqCst, Ordering::SeqCst);
                hard.fire(number);
            }
            soft.fire(number);
        })?;
        Ok((after_step, now))
    }

    /// The signal that arrived, if one did.
    pub fn signal(&self) -> Option<i32> {
        (*self.receiver.borrow()).or_else(|| self.parent.as_ref()?.signal())
    }

    /// Completes when a signal arrives; never otherwise.
    pub async fn cancelled(&self) -> i32 {
        match &self.parent {
            None => fired(self.receiver.clone()).await,
            Some(parent) => tokio::select! {
                signal = fired(self.receiver.clone()) => signal,
                signal = Box::pin(parent.cancelled()) => signal,
            },
        }
    }

    /// `Err(Interrupted)` when a signal has arrived.
    ///
    /// # Errors
    /// [`Error::interrupted`] with that signal.
    pub fn check(&self) -> Result<()> {
        match self.signal() {
            Some(signal) => Err(Error::interrupted(signal)),
            None => Ok(()),
        }
    }
}

fn after_step_fired(trigger: &Trigger) -> bool {
    trigger.0.borrow().is_some()
}

/// Passes every signal that asks this process to stop to `heard`.
fn listen(heard: impl Fn(i32) + Clone + Send + 'static) -> Result<()> {
    let failed = || "cannot install signal handlers".to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().infra(failed)?;
    let streams = {
        let _inside = runtime.enter();
        // Under `nohup` a closing terminal must be ignored.
        let wanted = |(_, number): &(SignalKind, i32)| *number != HANGUP || !is_ignored(*number);
        let open = |(kind, number)| Ok((signal(kind)?, number));
        [(SignalKind::interrupt(), INTERRUPT), (SignalKind::terminate(), 15), (SignalKind::hangup(), HANGUP)]
            .into_iter()
            .filter(wanted)
            .map(open)
            .collect::<std::io::Result<Vec<_>>>()
            .infra(failed)?
    };
    let run = move || {
        runtime.block_on(futures_util::future::join_all(streams.into_iter().map(|(mut stream, number)| {
            let heard = heard.clone();
            async move {
                while stream.recv().await.is_some() {
                    tracing::warn!(signal = signal_name(number), "signal received");
                    heard(number);
                }
            }
        })));
    };
    std::thread::Builder::new().name("signals".into()).spawn(run).map(drop).infra(failed)
}

async fn fired(mut receiver: watch::Receiver<Option<i32>>) -> i32 {
    loop {
        if let Some(signal) = *receiver.borrow_and_update() {
            return signal;
        }
        if receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Cancels by hand what holds the [`Cancel`] it came with; dropping it cancels nothing.
#[derive(Debug, Clone)]
pub struct Trigger(watch::Sender<Option<i32>>);

impl Trigger {
    /// Acts as if this signal had arrived.
    pub fn fire(&self, signal: i32) {
        self.0.send_modify(|current| *current = current.or(Some(signal)));
    }
}

impl Cancel {
    /// A cancellation that no signal causes, only the trigger.
    pub fn manual() -> (Trigger, Cancel) {
        let (sender, receiver) = watch::channel(None);
        (Trigger(sender), Cancel { receiver, parent: None })
    }

    /// A cancellation that the trigger causes, or whatever causes this one.
    pub fn linked(&self) -> (Trigger, Cancel) {
        let (trigger, cancel) = Cancel::manual();
        (trigger, Cancel { parent: Some(Box::new(self.clone())), ..cancel })
    }
}

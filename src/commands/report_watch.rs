//! `report --watch`: the page in a browser, as it grows.

use std::fs::Metadata;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use fs_err as fs;
use hyper::body::Bytes;
use serde_json::json;
use tokio::sync::{oneshot, watch};

use super::experiment::Experiment;
use super::missing::not_prepared;
use super::report_page;
use crate::cli::{Global, ReportArgs};
use crate::error::{Context as _, EXIT_OK, Error, Result};
use crate::process::signals::Cancel;
use crate::report::serve::{Server, Source};
use crate::ui::Ui;

/// How often the files are checked while a browser shows the page.
const EVERY: Duration = Duration::from_secs(1);
/// The pause after a page, as a multiple of the time it took to make: a benchmark runs at the same time.
const REST: u32 = 4;
const INTERRUPT: i32 = 2;

/// Errors: usage before the experiment is prepared and when the port is taken; interrupted by another signal than Ctrl-C.
pub(super) async fn run(args: &ReportArgs, global: &Global, ui: &Ui) -> Result<i32> {
    let cancel = Cancel::on_signals()?;
    let news = Arc::new(watch::Sender::new(0));
    let ((asks, asked), (ready, is_ready)) = (channel(), oneshot::channel());
    // A big page takes seconds, so a thread of its own makes it: requests do not wait for each other, nor Ctrl-C for the page.
    let make = {
        let (global, ui, news) = (global.clone(), ui.clone(), Arc::clone(&news));
        move || match Experiment::find(&global, &ui).and_then(|experiment| Pages::new(experiment, ui, news)) {
            Ok(pages) => {
                let _ = ready.send(Ok(()));
                pages.serve(&asked);
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    };
    std::thread::Builder::new().name("pages".into()).spawn(make).infra(|| "cannot start a thread".into())?;
    let server = Server::bind(args.port).await?;
    let serving = async {
        is_ready.await.map_err(|_| Error::infrastructure("the page could not be made"))??;
        announce(&server.url(), args, ui);
        match server.run(Source { asks, news }).await {}
    };
    tokio::select! {
        signal = cancel.cancelled() => if signal == INTERRUPT { Ok(EXIT_OK) } else { Err(Error::interrupted(signal)) },
        failed = serving => failed,
    }
}

fn announce(url: &str, args: &ReportArgs, ui: &Ui) {
    ui.line(url);
    ui.json(&json!({"type": "watch", "url": url}));
    ui.status("serving the report to this machine alone; Ctrl-C ends it");
    if args.open {
        report_page::open(url.as_ref(), ui);
    }
}

/// Shows whether there is something new: size and time of the ledger, which every trial goes into, and of the learnings.
type Stamp = [Option<(u64, std::time::SystemTime)>; 2];

/// The page, made again when there is something new and a browser asks for it.
struct Pages {
    experiment: Experiment,
    ui: Ui,
    page: Bytes,
    /// What the files were like before it was made.
    stamp: Stamp,
    news: Arc<watch::Sender<u64>>,
    made: Instant,
    rest: Duration,
    /// Why the last attempt failed: said once.
    trouble: Option<String>,
}

impl Pages {
    fn new(experiment: Experiment, ui: Ui, news: Arc<watch::Sender<u64>>) -> Result<Pages> {
        let (made, rest) = (Instant::now(), EVERY);
        let mut pages =
            Pages { experiment, ui, page: Bytes::new(), stamp: Stamp::default(), news, made, rest, trouble: None };
        pages.make(pages.look())?;
        Ok(pages)
    }

    /// Serves the page until no more requests can come.
    fn serve(mut self, asked: &Receiver<oneshot::Sender<Bytes>>) {
        loop {
            let place = match asked.recv_timeout(EVERY) {
                Ok(place) => Some(place),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if place.is_some() || self.news.receiver_count() > 0 {
                self.refresh();
            }
            if let Some(place) = place {
                // The browser that asked may be gone.
                let _ = place.send(self.page.clone());
            }
        }
    }

    fn refresh(&mut self) {
        if self.made.elapsed() < self.rest {
            return;
        }
        let stamp = self.look();
        if stamp == self.stamp {
            return;
        }
        // The previous page stays; the next check tries again.
        let trouble = self.make(stamp).err().map(|error| error.chain().join(": "));
        if trouble != self.trouble
            && let Some(trouble) = &trouble
        {
            self.ui.warn(format!("the page is not brought up to date: {trouble}"));
        }
        self.trouble = trouble;
    }

    fn look(&self) -> Stamp {
        let paths = &self.experiment.paths;
        let of = |metadata: Metadata| Some((metadata.len(), metadata.modified().ok()?));
        [paths.ledger(), paths.learnings()].map(|path| fs::metadata(path).ok().and_then(of))
    }

    fn make(&mut self, stamp: Stamp) -> Result<()> {
        let began = Instant::now();
        let number = *self.news.borrow() + 1;
        let made = self.render(number);
        (self.made, self.rest) = (Instant::now(), (began.elapsed() * REST).max(EVERY));
        self.page = Bytes::from(made?);
        self.stamp = stamp;
        self.news.send_replace(number);
        Ok(())
    }

    fn render(&self, number: u64) -> Result<String> {
        let history = self.experiment.read_history()?;
        let prepared = history.summary().prepared.as_ref().ok_or_else(not_prepared)?;
        report_page::page(&self.experiment, &history, prepared, Some(number), &self.ui)
    }
}

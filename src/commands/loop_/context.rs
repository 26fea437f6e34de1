//! The loop while it runs: what it holds, what it was given to spend, what it has spent.

use std::path::{Path, PathBuf};

use chrono::Utc;

use crate::cli::{Global, LoopArgs, LoopArm};
use crate::commands::experiment::Experiment;
use crate::commands::session::{Reading, Session};
use crate::config::{Config, Environment};
use crate::drive::budget::{Budget, Reason};
use crate::drive::drivers::Driver;
use crate::drive::spending::Spending;
use crate::drive::state::{LoopState, Night};
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::process::Supervisor;
use crate::process::signals::Cancel;
use crate::store::summary::Summary;
use crate::ui::Ui;

/// Failures of the infrastructure in a row that end the loop.
const FAILURES: u32 = 3;

/// A loop under way.
pub(super) struct Loop<'a> {
    pub args: &'a LoopArgs,
    pub global: Global,
    pub ui: &'a Ui,
    pub paths: Paths,
    pub config: Config,
    pub environment: Environment,
    pub driver: Driver,
    pub budget: Budget,
    pub supervisor: Supervisor,
    /// Fires when the current step is to be the last.
    pub after_step: Cancel,
    /// Fires when everything shall stop.
    pub now: Cancel,
    pub state: LoopState,
    /// Where work trees are made.
    pub place: PathBuf,
}

impl Loop<'_> {
    /// The held experiment; until it is dropped, no other command can work.
    pub(super) fn open(&self, need: Reading) -> Result<Session> {
        let session = Session::open(Experiment::find(&self.global, self.ui)?, need)?;
        session.require_views()?;
        session.require_same_config()?;
        Ok(session)
    }

    pub(super) fn save(&mut self) -> Result<()> {
        self.state.save(&self.paths.loop_state())?;
        self.show();
        Ok(())
    }

    pub(super) fn night(&self) -> Result<&Night> {
        let night = match self.args.arm {
            LoopArm::Search => &self.state.night,
            LoopArm::Resample => &self.state.resampling,
        };
        night.as_ref().ok_or_else(not_begun)
    }

    pub(super) fn night_mut(&mut self) -> &mut Option<Night> {
        match self.args.arm {
            LoopArm::Search => &mut self.state.night,
            LoopArm::Resample => &mut self.state.resampling,
        }
    }

    pub(super) fn best(&self) -> Result<Option<f64>> {
        let summary = self.summary()?;
        let prepared = summary.prepared.as_ref();
        Ok(prepared.and_then(|prepared| summary.best(&prepared.protocol)).map(|best| best.val_score))
    }

    /// What the ledger adds up to now.
    pub(super) fn summary(&self) -> Result<Summary> {
        Experiment::find(&self.global, self.ui)?.read_summary()
    }

    /// Why the next paid step may not begin. `next`: what it costs, from what is known.
    pub(super) fn over(&self, next: impl Fn(&Summary) -> Spending) -> Result<Option<Reason>> {
        let summary = self.summary()?;
        let (night, spent) = (self.night()?, self.spent(&summary)?);
        Ok(self.budget.before_step(night, Utc::now(), spent, next(&summary)))
    }

    /// What was spent since the loop was begun.
    pub(super) fn spent(&self, summary: &Summary) -> Result<Spending> {
        let night = self.night()?;
        // An unfinished iteration waits for the search; the other arm does not pay for it.
        let current = self.state.current.as_ref().filter(|_| self.args.arm == LoopArm::Search);
        let now = current.map(|current| current.usage).unwrap_or_default();
        let (all, before) = (taken(summary), night.before);
        Ok(Spending {
            usd: (all.usd + now.cost_usd - before.usd).max(0.0),
            unpriced: (all.unpriced + now.unpriced).saturating_sub(before.unpriced),
            tokens: all.tokens.saturating_add(now.tokens).saturating_sub(before.tokens),
            trials: all.trials.saturating_sub(before.trials),
        })
    }

    /// What is left of the budget, in US dollars.
    pub(super) fn dollars_left(&self) -> Result<Option<f64>> {
        let Some(budget) = self.budget.usd else { return Ok(None) };
        let summary = self.summary()?;
        Ok(Some((budget - self.spent(&summary)?.usd).max(0.0)))
    }

    /// Notes a failure of the infrastructure: three in a row end the loop.
    pub(super) fn failed(&mut self, why: &str) -> Result<()> {
        let failures = self.night_mut().as_mut().map_or(FAILURES, |night| {
            night.failures += 1;
            night.failures
        });
        self.save()?;
        if failures >= FAILURES {
            return Err(Error::infrastructure(format!("{failures} failures in a row; the last: {why}"))
                .hint("nothing is lost: fix what it names and run `autoharness loop` again."));
        }
        self.ui.warn(format!("{why} (failure {failures} of {FAILURES} in a row)"));
        Ok(())
    }

    /// A step went well.
    pub(super) fn went_well(&mut self) {
        if let Some(night) = self.night_mut() {
            night.failures = 0;
        }
    }
}

pub(super) fn not_begun() -> Error {
    Error::infrastructure("the loop has not begun")
}

/// What trials and ended sessions took so far.
pub(super) fn taken(summary: &Summary) -> Spending {
    let (spent, usage) = (&summary.spent, &summary.proposals.usage);
    let (usd, unpriced) = spent.dollars();
    Spending {
        usd: usd + usage.cost_usd,
        unpriced: usage.unpriced.saturating_add(u32::try_from(unpriced).unwrap_or(u32::MAX)),
        tokens: spent.tokens.saturating_add(usage.tokens),
        trials: spent.trials,
    }
}

/// Where the records of the next session go.
pub(super) fn records(workspace: &Path) -> Result<PathBuf> {
    let all = workspace.join("sessions");
    if all.is_symlink() {
        return Err(Error::usage(format!("{} is a link", all.display())).hint("remove it: sessions are kept there."));
    }
    fs_err::create_dir_all(&all)?;
    let mut last = 0;
    for entry in fs_err::read_dir(&all)? {
        last = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()).unwrap_or(0).max(last);
    }
    Ok(all.join(format!("{:03}", last + 1)))
}

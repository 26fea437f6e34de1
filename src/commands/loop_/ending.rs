//! The end of an iteration: puts the base commit's agent back, writes the result into the ledger and learnings.md, and
//! leaves nothing over.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::check::{name, title};
use super::context::Loop;
use super::judging::restore;
use crate::commands::agent;
use crate::commands::learnings::LARGEST;
use crate::commands::session::{Reading, Session};
use crate::drive::learnings::{Learning, Learnings};
use crate::drive::state::Current;
use crate::drive::worktree;
use crate::error::Result;
use crate::files;
use crate::model::proposal::PredictionOutcome;
use crate::model::score::Rewards;
use crate::model::trial::Split;
use crate::model::usage::in_dollars;
use crate::store::atomic;
use crate::store::event::{End, Event, Outdone, Proposed};
use crate::store::views;

impl Loop<'_> {
    /// Writes down the result of the iteration and tidies up.
    pub(super) async fn conclude(&mut self) -> Result<()> {
        let Some(mut current) = self.state.current.clone() else { return Ok(()) };
        let end = current.end.unwrap_or(End::Unusable);
        let mut session = self.open(Reading::Trials)?;
        if end == End::Rejected {
            restore(&session, &current)?;
        }
        let judged = if end == End::Unusable { None } else { judgement(&session, &current)? };
        if session.state.summary.proposals.last < current.iteration {
            let receipt = session.state.summary.last_decided.as_ref().filter(|_| end != End::Unusable);
            let receipt = receipt.map(|receipt| receipt.seq);
            session.append(Event::Proposed(Box::new(Proposed {
                iteration: current.iteration,
                by: self.driver.name().to_string(),
                base: current.base.clone(),
                agent: current.agent.clone(),
                receipt,
                end,
                reason: current.reason.clone(),
                proposal: current.proposal.clone(),
                predicted: judged.as_ref().map(|judged| judged.predicted.clone()),
                usage: current.usage,
                touched: current.touched.clone(),
                outdone: current.outdone.clone(),
            })))?;
            session.finish()?;
        }
        let trials = session.config.trials;
        if end == End::Accepted {
            session.repo.forget_candidate(&name(current.iteration, current.number))?;
        }
        drop(session);
        self.learn(&mut current, judged.as_ref(), trials)?;
        worktree::retire(&current.worktree)?;
        if let Some(night) = &mut self.state.night {
            night.done += 1;
            night.without += 1;
            if end == End::Accepted {
                night.accepted += 1;
                night.without = 0;
            }
        }
        self.state.current = None;
        self.save()?;
        self.say(&current, end, judged.as_ref()).await;
        Ok(())
    }

    /// Appends the section of this iteration to learnings.md, once.
    fn learn(&mut self, current: &mut Current, judged: Option<&ToldVerdict>, trials: u32) -> Result<()> {
        let path = self.paths.learnings();
        let mut text = files::read_text_if_there(&path, LARGEST)?.unwrap_or_else(|| "# Learnings\n".into());
        let read = Learnings::parse(&text);
        let number = current.section.unwrap_or_else(|| read.next_number());
        if read.sections.iter().any(|section| section.number == number) {
            return Ok(());
        }
        current.section = Some(number);
        self.state.current = Some(current.clone());
        self.save()?;
        let proposal = current.proposal.as_ref();
        let reason = current.reason.clone().unwrap_or_default();
        let section = Learning {
            number,
            title: proposal.map_or_else(|| "no usable proposal".into(), title),
            hypothesis: proposal.map_or_else(
                || "none that could be read".into(),
                |one| format!("{} ({})", one.hypothesis, one.failure_pattern),
            ),
            change: proposal.map_or_else(|| "none that was judged".into(), |one| one.change.clone()),
            surface: proposal.map(|one| one.surface),
            touched: current.touched.clone(),
            result: judged.map_or_else(|| format!("not judged: {reason}"), |judged| judged.line.clone()),
            learned: judged.map_or_else(|| "an iteration was lost".into(), |judged| judged.predicted.sentence(trials))
                + &outdone(current),
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&section.render());
        atomic::replace(&path, text.as_bytes())
    }

    async fn say(&self, current: &Current, end: End, judged: Option<&ToldVerdict>) {
        let told = match (judged, &current.reason) {
            (Some(judged), _) => judged.line.clone(),
            (None, Some(reason)) => reason.clone(),
            (None, None) => String::new(),
        };
        let usage = current.usage;
        let cost = match usage.unpriced {
            0 => in_dollars(usage.cost_usd),
            _ => "dollars not reported".into(),
        };
        let about = current
            .proposal
            .as_ref()
            .map_or(String::new(), |one| format!(" [{}]{} {}", one.surface.as_str(), touched(current), title(one)));
        self.ui.verdict(format!("iteration {}: {}{about}; {told}; {cost}", current.iteration, end.as_str()));
        let said = json!({
            "type": "iteration", "iteration": current.iteration, "end": end, "reason": current.reason,
            "proposal": current.proposal, "predicted": judged.map(|judged| &judged.predicted), "verdict": judged.map(|judged| &judged.verdict), "usage": usage,
            "touched": current.touched, "outdone": current.outdone, "by": self.driver.name(),
        });
        self.ui.json(&said);
        self.hook(self.args.on_iteration.as_deref(), "iteration", &said).await;
    }
}

/// The groups of files that the edit touched, for the line of an iteration.
fn touched(current: &Current) -> String {
    if current.touched.is_empty() { String::new() } else { format!(" ({})", current.touched.join(", ")) }
}

/// The part of the gate's answer that may be shown.
struct ToldVerdict {
    /// As gate.json has it.
    verdict: Value,
    /// The gate's last line.
    line: String,
    /// What became of the predictions.
    predicted: PredictionOutcome,
}

/// What the candidate beat on train, for the next proposer.
fn outdone(current: &Current) -> String {
    let each = |one: &Outdone| {
        let train = one.train.map_or_else(|| "unmeasured".into(), |mean| format!("{mean:.2}"));
        format!(". Behind it on train ({train}): {}", one.hypothesis.trim_end_matches('.'))
    };
    current.outdone.iter().map(each).collect()
}

fn judgement(session: &Session, current: &Current) -> Result<Option<ToldVerdict>> {
    let summary = &session.state.summary;
    let (Some(receipt), Some(verdict), Some(proposal)) =
        (&summary.last_decided, views::gate(summary), &current.proposal)
    else {
        return Ok(None);
    };
    let evidence = &receipt.verdict.evidence;
    // Train only: the next proposer reads this.
    let train = &session.prepared()?.split.train;
    let scoring = summary.scoring();
    let known = session.state.trials.rewards(&receipt.verdict.agent, &receipt.verdict.trial_protocol, train, scoring);
    let mut after: BTreeMap<String, Option<f64>> = known.0;
    if let Some(compared) = &evidence.compared {
        for (task, pair) in compared.pairs.iter().filter(|(_, pair)| pair.split == Split::Train) {
            let values: Vec<f64> =
                pair.candidate.first.iter().chain(&pair.candidate.rounds).flatten().copied().collect();
            if !values.is_empty() {
                after.insert(task.clone(), Some(values.iter().sum::<f64>() / values.len() as f64));
            }
        }
    }
    for (task, reward) in measured(&evidence.suite).chain(measured(&evidence.promotion)) {
        after.insert(task.clone(), reward);
    }
    after.retain(|task, _| train.binary_search(task).is_ok());
    // Once the edit is recorded, the results on train are its own.
    let edited = agent::fingerprint(session, &session.repo.tree(&current.base)?)?;
    let before = session.state.trials.rewards(&edited, &receipt.verdict.trial_protocol, train, scoring);
    let predicted = PredictionOutcome::new(proposal, &before.0, &after);
    Ok(Some(ToldVerdict { verdict, line: receipt.verdict.told().line(), predicted }))
}

fn measured(rewards: &Rewards) -> impl Iterator<Item = (&String, Option<f64>)> {
    rewards.0.iter().filter(|(_, reward)| reward.is_some()).map(|(task, reward)| (task, *reward))
}

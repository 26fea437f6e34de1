//! Several proposals of one iteration: they race on train, so that all of them together cost one look at the hold-out.

use super::context::Loop;
use super::iteration::ended;
use super::judging::{files_of, put_files, restore};
use super::plan::cost;
use crate::commands::session::Reading;
use crate::drive::budget::Reason;
use crate::drive::state::{Current, Rival, Stage};
use crate::drive::worktree;
use crate::error::{EXIT_OK, Result};
use crate::model::paired::mantel::{Mantel, Stratum, upper_tail};
use crate::model::score::Rewards;
use crate::store::event::{End, Outdone};
use crate::store::trials::apart;

/// With fewer train tasks all of them are run at once.
const WORTH_HALVING: usize = 8;
/// Chance at which a candidate that only looks worse than the leader is left behind half way.
const LEFT_BEHIND: f64 = 0.1;

impl Loop<'_> {
    /// The current proposer has ended: decides on the next one, the race, the gate, or nothing to judge.
    pub(super) fn advance(&self, current: &mut Current) -> Result<()> {
        current.sent_back = None;
        current.session = None;
        current.tried = 0;
        if current.number < self.args.candidates {
            worktree::retire(&current.worktree)?;
            current.number += 1;
            current.worktree = self.place.join(format!("{}-{}", current.iteration, current.number));
            current.stage = Stage::Proposing;
            return Ok(());
        }
        match current.rivals.len() {
            0 => (current.stage, current.end) = (Stage::Ended, Some(End::Unusable)),
            1 => choose(current, 0),
            _ => current.stage = Stage::Racing,
        }
        Ok(())
    }

    /// Measures the candidates on train, apart from what the gate counts, and sends the best one to the gate, or says why it may not go
    /// on.
    pub(super) async fn race(&mut self) -> Result<Option<Reason>> {
        let Some(mut current) = self.state.current.clone() else { return Ok(None) };
        let train = self.open(Reading::Summary)?.prepared()?.split.train.clone();
        let half = if train.len() < WORTH_HALVING { 0 } else { train.len().div_ceil(2) };
        let mut running: Vec<usize> = (0..current.rivals.len()).collect();
        let mut winner = 0;
        // Every other task, because neighbours in the alphabet are often similar.
        let first: Vec<String> = train.iter().step_by(2).take(half).cloned().collect();
        for tasks in [first, train].iter().filter(|tasks| !tasks.is_empty()) {
            for number in &running {
                if let Some(reason) =
                    self.over(|summary| cost(summary, tasks.len() as u64 * u64::from(summary.scoring().trials)))?
                {
                    return Ok(Some(reason));
                }
                if !self.measure(&current, *number, tasks).await? {
                    return Ok(None);
                }
            }
            let rewards = self.rewards(&current, tasks)?;
            winner = leader(&running, &rewards);
            running = still_in(&running, winner, &rewards);
            for (rival, rewards) in current.rivals.iter_mut().zip(&rewards) {
                rival.train = rewards.score().mean;
            }
            if running.len() < 2 {
                break;
            }
        }
        restore(&self.open(Reading::Summary)?, &current)?;
        self.ui.status(format!("iteration {}: candidate {} leads on train", current.iteration, winner + 1));
        choose(&mut current, winner);
        self.state.current = Some(current);
        self.save().map(|()| None)
    }

    /// Runs those of these trials that the ledger lacks. Returns whether that went well.
    async fn measure(&mut self, current: &Current, number: usize, tasks: &[String]) -> Result<bool> {
        let rival = &current.rivals[number];
        {
            let session = self.open(Reading::Summary)?;
            put_files(&session, current, &files_of(&session, &rival.candidate)?)?;
        }
        self.ui.status(format!(
            "iteration {}: candidate {} on {} train tasks",
            current.iteration,
            number + 1,
            tasks.len()
        ));
        let words: Vec<&str> =
            ["benchmark", "--apart", "--task-ids"].into_iter().chain(tasks.iter().map(String::as_str)).collect();
        let said = self.own(&words).await?;
        match said.code {
            EXIT_OK => {
                self.went_well();
                Ok(true)
            }
            3 => self.failed(&format!("benchmark: {}", said.message)).map(|()| false),
            code => Err(ended(code, "benchmark", &said.message)),
        }
    }

    /// What each candidate has earned on these tasks.
    fn rewards(&self, current: &Current, tasks: &[String]) -> Result<Vec<Rewards>> {
        let session = self.open(Reading::Trials)?;
        let summary = &session.state.summary;
        let protocol = &apart(&session.prepared()?.trial_protocol);
        let scoring = summary.scoring();
        let of = |rival: &Rival| session.state.trials.rewards(&rival.agent, protocol, tasks, scoring);
        Ok(current.rivals.iter().map(of).collect())
    }
}

/// The one with the best mean; of equal ones the first.
fn leader(running: &[usize], rewards: &[Rewards]) -> usize {
    let mean = |number: usize| rewards[number].score().mean.unwrap_or(0.0);
    let better = |best: usize, one: usize| if mean(one) > mean(best) { one } else { best };
    running.iter().copied().reduce(better).unwrap_or(0)
}

/// Those that are not plainly behind the leader, in the order of their proposals.
fn still_in(running: &[usize], leader: usize, rewards: &[Rewards]) -> Vec<usize> {
    let values =
        |number: usize, task: &String| rewards[number].0.get(task).copied().flatten().into_iter().collect::<Vec<_>>();
    let behind = |number: usize| {
        let strata = rewards[leader].0.keys().map(|task| Stratum::of(&values(leader, task), &values(number, task)));
        let strata: Vec<Stratum> = strata.collect();
        upper_tail(Mantel::of(&strata).z()) < LEFT_BEHIND
    };
    running.iter().copied().filter(|number| *number == leader || !behind(*number)).collect()
}

/// Sends this one to the gate, and writes down which ones it beat.
fn choose(current: &mut Current, winner: usize) {
    let rival = current.rivals.remove(winner);
    let outdone = |rival: &Rival| Outdone {
        agent: rival.agent.clone(),
        hypothesis: rival.proposal.hypothesis.clone(),
        surface: rival.proposal.surface,
        train: rival.train,
    };
    current.outdone = current.rivals.iter().map(outdone).collect();
    current.number = rival.number;
    current.proposal = Some(rival.proposal);
    current.candidate = Some(rival.candidate);
    current.agent = Some(rival.agent);
    current.touched = rival.touched;
    current.stage = Stage::Gating;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_plainly_behind_is_left_behind() {
        let rewards = |passed: usize| {
            Rewards((0..12).map(|task| (format!("t{task:02}"), Some(f64::from(u8::from(task < passed))))).collect())
        };
        let all = [rewards(9), rewards(10), rewards(2), rewards(10)];
        let nothing = [Rewards::default(), Rewards::default()];
        assert_eq!(still_in(&[0, 1, 2, 3], leader(&[0, 1, 2, 3], &all), &all), [0, 1, 3]);
        assert_eq!(still_in(&[2], leader(&[2], &all), &all), [2]);
        assert_eq!(still_in(&[0, 1], leader(&[0, 1], &nothing), &nothing), [0, 1]);
    }
}

//! Two agents, task by task: what the second one fixed and broke, and whether that is more than noise.

use serde_json::{Value, json};

use super::text::one_line;
use crate::model::paired::mantel::{Chance, Mantel, Stratum};
use crate::model::score::{TimeoutPolicy, passes};
use crate::store::comparison::unchosen;
use crate::store::trials::{Trials, apart};

/// Tasks of each kind that are named on one line.
const NAMED: usize = 5;
/// The chance below which a difference counts as more than noise.
pub(crate) const LEVEL: f64 = 0.05;
/// The share of the tasks that both must have trials of.
const NEARLY_ALL: f64 = 0.9;

/// Where the trials of both are, and how they count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counting<'a> {
    pub trials: &'a Trials,
    /// Fingerprint of what one trial depends on.
    pub protocol: &'a str,
    /// The agent that the experiment began with: no trial of it chose it.
    pub first: Option<&'a str>,
    /// Trials of a task as configured.
    pub each: u32,
    /// What an agent timeout counts for.
    pub policy: TimeoutPolicy,
}

impl Counting<'_> {
    /// What an agent earned on a task, trial by trial. For an agent chosen by its first trials only the fresh ones count, if
    /// there are any. Trials that chose among edits count only if there are no others.
    fn earned(&self, agent: &str, task: &str) -> Vec<f64> {
        let afresh = unchosen(self.trials, agent, self.first == Some(agent), self.protocol, task, self.policy);
        if !afresh.is_empty() {
            return afresh;
        }
        let first = |protocol: &str| -> Vec<f64> {
            self.trials.values(agent, protocol, task, 0..self.each, self.policy).into_iter().flatten().collect()
        };
        let counted = first(self.protocol);
        if counted.is_empty() { first(&apart(self.protocol)) } else { counted }
    }
}

/// One agent against another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Flips {
    /// Tasks that fail for the first and pass for the second.
    pub fixed: Vec<String>,
    /// The other way round.
    pub broken: Vec<String>,
    /// Tasks that both have evidence for.
    pub compared: usize,
    /// Tasks compared that each passes.
    pub passed: (usize, usize),
    /// Mean rewards of both over the tasks compared.
    pub means: (f64, f64),
    /// The chance that equally good agents would differ as much, in either direction (exact where it can be; Mantel's test,
    /// which with one trial each is McNemar's). `None` unless nearly all tasks were run for both: those that were run may
    /// have been chosen by what they earned.
    pub p: Option<f64>,
}

impl Flips {
    /// Compares `second` with `first` on these tasks.
    pub(crate) fn of(counting: &Counting<'_>, first: &str, second: &str, tasks: &[String]) -> Flips {
        let mut flips =
            Flips { fixed: vec![], broken: vec![], compared: 0, passed: (0, 0), means: (0.0, 0.0), p: None };
        let mut strata = Vec::new();
        for task in tasks {
            let (was, now) = (counting.earned(first, task), counting.earned(second, task));
            if was.is_empty() || now.is_empty() {
                continue;
            }
            let mean = |earned: &[f64]| earned.iter().sum::<f64>() / earned.len() as f64;
            let (before, after) = (mean(&was), mean(&now));
            flips.compared += 1;
            flips.means = (flips.means.0 + before, flips.means.1 + after);
            let (passed, passes) = (passes(Some(before)), passes(Some(after)));
            flips.passed = (flips.passed.0 + usize::from(passed), flips.passed.1 + usize::from(passes));
            match (passed, passes) {
                (false, true) => flips.fixed.push(task.clone()),
                (true, false) => flips.broken.push(task.clone()),
                _ => {}
            }
            strata.push(Stratum::of(&now, &was));
        }
        let count = flips.compared.max(1) as f64;
        flips.means = (flips.means.0 / count, flips.means.1 / count);
        let turned: Vec<Stratum> = strata.iter().map(Stratum::turned).collect();
        if flips.compared > 0 && flips.compared as f64 >= NEARLY_ALL * tasks.len() as f64 {
            flips.p = Some(match Mantel::of(&strata).informative {
                0 => 1.0,
                _ => (2.0 * Chance::of(&strata).p.min(Chance::of(&turned).p)).min(1.0),
            });
        }
        flips
    }

    pub(crate) fn is_none(&self) -> bool {
        self.fixed.is_empty() && self.broken.is_empty()
    }

    /// Whether the difference is more than noise, in words.
    pub(crate) fn noise(&self) -> String {
        match self.p {
            None => "too few were run for both to tell noise".into(),
            Some(p) if p < 0.0005 => "p < 0.001: more than noise".into(),
            Some(p) => format!("p {p:.3}: {}", if p <= LEVEL { "more than noise" } else { "could be noise" }),
        }
    }

    /// All of it on one line.
    pub(crate) fn line(&self) -> String {
        self.line_with(str::to_string)
    }

    /// The same with each task's name formatted for its page.
    pub(crate) fn line_with(&self, dress: impl Fn(&str) -> String) -> String {
        let part = |tasks: &[String], word: &str| {
            let mut names: Vec<String> = tasks.iter().take(NAMED).map(|task| dress(&one_line(task, 60))).collect();
            if tasks.len() > NAMED {
                names.push(format!("{} more", tasks.len() - NAMED));
            }
            let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
            format!("{} {word}{names}", tasks.len())
        };
        let (fixed, broken) = (part(&self.fixed, "fixed"), part(&self.broken, "broken"));
        format!("{fixed}, {broken}, of {} compared with the recorded agent; {}", self.compared, self.noise())
    }

    /// All of it for programs.
    pub(crate) fn as_json(&self) -> Value {
        let mut value = self.summary();
        value["fixed"] = json!(self.fixed);
        value["broken"] = json!(self.broken);
        value
    }

    /// The same without a task's name.
    pub(crate) fn summary(&self) -> Value {
        json!({"compared": self.compared, "fixed": self.fixed.len(), "broken": self.broken.len(), "means": [self.means.0, self.means.1],
            "passed": [self.passed.0, self.passed.1], "effect": self.means.1 - self.means.0, "p": self.p, "noise": self.p.map(|p| p > LEVEL)})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::trial::Outcome;
    use crate::store::event::Trial;

    fn known(rows: &[(&str, &str, u32, f64)]) -> Trials {
        let mut trials = Trials::default();
        for (agent, task, number, reward) in rows {
            trials.insert(&Trial {
                agent: (*agent).into(),
                task: (*task).into(),
                trial: *number,
                outcome: if *reward >= 0.5 { Outcome::Passed } else { Outcome::Failed },
                reward: Some(*reward),
                ..Trial::example()
            });
        }
        trials
    }

    fn compare(trials: &Trials, tasks: &[String]) -> Flips {
        let counting = Counting { trials, protocol: "p", first: Some("a"), each: 1, policy: TimeoutPolicy::Agent };
        Flips::of(&counting, "a", "b", tasks)
    }

    #[test]
    fn it_is_mcnemars_test_where_each_has_one_trial() {
        // Fixed, broken, two-sided p (STATISTICS: the exact test).
        for (fixed, broken, p) in
            [(3, 0, 0.25), (5, 0, 0.0625), (8, 2, 0.109375), (2, 8, 0.109375), (9, 1, 0.021484), (0, 0, 1.0)]
        {
            let tasks: Vec<String> = (0..20).map(|at| format!("t{at:02}")).collect();
            let mut rows = Vec::new();
            for (at, task) in tasks.iter().enumerate() {
                let (was, now) = match at {
                    at if at < fixed => (0.0, 1.0),
                    at if at < fixed + broken => (1.0, 0.0),
                    _ => (1.0, 1.0),
                };
                rows.extend([("a", task.as_str(), 0, was), ("b", task.as_str(), 0, now)]);
            }
            let flips = compare(&known(&rows), &tasks);
            assert!((flips.p.unwrap() - p).abs() < 1e-6, "{fixed} {broken}: {flips:?}");
            assert_eq!((flips.fixed.len(), flips.broken.len(), flips.compared), (fixed, broken, 20));
            assert_eq!(flips.noise().ends_with("more than noise"), p <= LEVEL);
        }
    }

    #[test]
    fn what_chose_an_agent_does_not_count_for_it_and_names_are_few() {
        let tasks: Vec<String> = (0..8).map(|at| format!("t{at}")).collect();
        let mut rows = Vec::new();
        for task in &tasks {
            // It was lucky when it was chosen, but not when run afresh.
            rows.extend([("a", task.as_str(), 0, 1.0), ("b", task.as_str(), 0, 1.0), ("b", task.as_str(), 1000, 0.0)]);
        }
        let flips = compare(&known(&rows), &tasks);
        assert_eq!((flips.broken.len(), flips.compared, flips.means), (8, 8, (1.0, 0.0)));
        let line = "0 fixed, 8 broken (t0, t1, t2, t3, t4, 3 more), of 8 compared with the recorded agent; p 0.008: more than noise";
        assert_eq!(flips.line(), line);
        // On the failing tasks alone an agent can only look better.
        let more: Vec<String> = (0..20).map(|at| format!("t{at}")).collect();
        let flips = compare(&known(&rows), &more);
        assert_eq!((flips.p, flips.noise().as_str()), (None, "too few were run for both to tell noise"));
        assert!(flips.summary().to_string().contains("\"broken\":8") && !flips.summary().to_string().contains("t1"));
    }
}

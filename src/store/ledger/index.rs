//! Where the trials of each agent are in the ledger, so that a command reads those of the agents that it is about.

use std::collections::BTreeSet;

use foldhash::HashMap;

use super::line::ChainPlace;
use super::written::{self, Whose};

/// Two stretches of an agent that are as near as this, in bytes, are read as one.
const NEAR: u64 = 1 << 16;

/// Whole lines that follow each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub from: ChainPlace,
    pub to: ChainPlace,
}

/// Where the trials of each agent and the ends of their runs are.
#[derive(Debug, Default)]
pub struct Index {
    /// Places in `stretches`.
    agents: HashMap<String, usize>,
    /// In the order of the ledger.
    stretches: Vec<Vec<Stretch>>,
    /// Lines that may be anybody's.
    unknown: Vec<Stretch>,
    /// What the last line of an agent says of it, which the next line usually says as well, and the agent's place.
    last: Option<(String, usize)>,
}

impl Index {
    /// Takes the next line in: what it says after its time, unless it has another form.
    pub(super) fn add(&mut self, after_time: Option<&str>, line: Stretch) {
        let of = match after_time.map(|said| self.place(said)) {
            None | Some(Err(Whose::Unknown)) => &mut self.unknown,
            Some(Err(_)) => return,
            Some(Ok(place)) => &mut self.stretches[place],
        };
        match of.last_mut() {
            Some(last) if line.from.length - last.to.length <= NEAR => last.to = line.to,
            _ => of.push(line),
        }
    }

    /// The place of the agent whose trial or run it is, or why there is none.
    fn place<'a>(&mut self, after_time: &'a str) -> Result<usize, Whose<'a>> {
        if let Some((_, place)) = self.last.as_ref().filter(|(last, _)| after_time.starts_with(last)) {
            return Ok(*place);
        }
        let (whose, length) = written::whose(after_time);
        let Whose::Agent(agent) = whose else { return Err(whose) };
        let place = *self.agents.entry(agent.into()).or_insert(self.stretches.len());
        if place == self.stretches.len() {
            self.stretches.push(Vec::new());
        }
        self.last = Some((after_time[..length].into(), place));
        Ok(place)
    }

    /// The agents that have trials.
    pub(crate) fn agents(&self) -> impl Iterator<Item = &str> {
        self.agents.keys().map(String::as_str)
    }

    /// Where the lines of these agents are, and those that may be theirs: in order, none twice.
    pub(super) fn of(&self, agents: &BTreeSet<&str>) -> Vec<Stretch> {
        let known = agents.iter().filter_map(|agent| self.stretches.get(*self.agents.get(*agent)?));
        let mut all: Vec<Stretch> = known.chain([&self.unknown]).flatten().copied().collect();
        all.sort_unstable_by_key(|stretch| stretch.from.length);
        all.dedup_by(|next, last| {
            let joins = next.from.length <= last.to.length;
            if joins && next.to.length > last.to.length {
                last.to = next.to;
            }
            joins
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use chrono::DateTime;

    use crate::store::event::{Event, Revealed, RunFinished, Trial};
    use crate::store::ledger::{Tip, Writer, read, read_links, read_of};

    /// Writes trials of these agents, one after the other; `!` is a run of its agent with very many tasks.
    fn ledger(path: &Path, agents: &[&str]) {
        let report = read(path, &Tip::genesis(), |_| Ok(())).unwrap();
        let mut writer = Writer::open(path, &report).unwrap();
        for (number, agent) in (0..).zip(agents) {
            let event = match agent.strip_suffix('!') {
                Some(agent) => Event::RunFinished(RunFinished {
                    agent: agent.into(),
                    tasks: vec!["a very long name of a task".into(); 4_000],
                    ..RunFinished::example()
                }),
                None if agent.is_empty() => Event::Revealed(Revealed { command: "c".into(), tasks: 1 }),
                None => Event::Trial(Trial { agent: (*agent).into(), trial: number, ..Trial::example() }),
            };
            writer.append(&event, DateTime::from_timestamp(1_700_000_000, 0).unwrap()).unwrap();
        }
    }

    #[test]
    fn the_lines_of_an_agent_are_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        // An agent with a quote in its name is written in a form that is left to the parser.
        let agents =
            ["a", "ab", "a", "", "b", "a!", "b", "", "\"", "a", "c!", "c!", "a", "b", "c!", "b!", "\"", "d", "a"];
        ledger(&path, &agents);
        let (report, index) = read_links(&path, |_, _| {}).unwrap();
        assert_eq!(report.tip.next_seq, agents.len() as u64);
        for wanted in
            [&[][..], &["a"], &["b"], &["\""], &["a", "d"], &["ab"], &["b", "c", "nobody"], &["d", "c", "b", "a", "\""]]
        {
            let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
            let is_wanted = |event: &Event<'_>| event.agent_run().is_some_and(|agent| wanted.contains(agent));
            let (mut all, mut found, mut seen) = (Vec::new(), Vec::new(), 0);
            read(&path, &Tip::genesis(), |entry| {
                all.extend(is_wanted(&entry.event).then_some(entry.seq));
                Ok(())
            })
            .unwrap();
            read_of(&path, &index, &wanted, &mut |entry| {
                seen += 1;
                found.extend(is_wanted(&entry.event).then_some(entry.seq));
                Ok(())
            })
            .unwrap();
            assert_eq!(found, all, "{wanted:?}");
            assert!(wanted.len() > 2 || seen < agents.len(), "{wanted:?} took {seen} lines");
        }
    }

    #[test]
    fn a_line_that_was_changed_after_it_was_indexed_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        ledger(&path, &["a", "b!", "a"]);
        let (_, index) = read_links(&path, |_, _| {}).unwrap();
        let text = fs_err::read_to_string(&path).unwrap();
        for (was, is) in [("\"trial\":0", "\"trial\":1"), ("\"trial\":2", "\"trial\":3")] {
            fs_err::write(&path, text.replacen(was, is, 1)).unwrap();
            assert!(read_of(&path, &index, &["a"].into(), &mut |_| Ok(())).is_err(), "{was}");
        }
        fs_err::write(&path, text).unwrap();
        read_of(&path, &index, &["a"].into(), &mut |_| Ok(())).unwrap();
    }
}

//! `workspace/learnings.md`: one section per iteration, in the format that PROGRAM.md asks for. Coding agents write it by
//! hand, and the loop writes it for its proposers; the next session must be able to read both.

use crate::model::proposal::Surface;

/// Lines that a section must have, each as `- NAME: text`.
const REQUIRED: [&str; 4] = ["Hypothesis", "Change", "Result", "Learned"];
/// A line that it may have.
const SURFACE: &str = "Surface";
/// Another one: groups of files, separated by commas.
const TOUCHED: &str = "Touched";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotedVerdict {
    Kept,
    Rejected,
    /// Neither: nothing was decided, or the edit never reached the gate.
    None,
}

impl NotedVerdict {
    /// The word for people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            NotedVerdict::Kept => "kept",
            NotedVerdict::Rejected => "rejected",
            NotedVerdict::None => "none",
        }
    }

    /// What a copied verdict line says.
    fn of(result: &str) -> NotedVerdict {
        let said = result.to_ascii_lowercase();
        let at = |word: &str| said.find(word);
        match (at("passed"), at("failed").into_iter().chain(at("rejected")).min()) {
            (Some(passed), Some(failed)) if failed < passed => NotedVerdict::Rejected,
            (Some(_), _) => NotedVerdict::Kept,
            (None, Some(_)) => NotedVerdict::Rejected,
            (None, None) => NotedVerdict::None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Learning {
    pub number: u32,
    /// Its heading after the number.
    pub title: String,
    /// Which failures, and their presumed cause.
    pub hypothesis: String,
    pub change: String,
    /// What the edit worked on, where it says so.
    pub surface: Option<Surface>,
    /// The groups of files that the edit touched, where they have names.
    pub touched: Vec<String>,
    /// The gate's verdict line.
    pub result: String,
    /// What the next session should know.
    pub learned: String,
}

impl Learning {
    pub(crate) fn verdict(&self) -> NotedVerdict {
        NotedVerdict::of(&self.result)
    }

    /// The section as it is in the file, with an empty line before it.
    pub(crate) fn render(&self) -> String {
        let line = |name: &str, text: &str| format!("- {name}: {}\n", flat(text));
        let mut text = format!("\n## Iteration {}: {}\n\n", self.number, flat(&self.title));
        text.push_str(&line(REQUIRED[0], &self.hypothesis));
        text.push_str(&line(REQUIRED[1], &self.change));
        if let Some(surface) = self.surface {
            text.push_str(&line(SURFACE, surface.as_str()));
        }
        if !self.touched.is_empty() {
            text.push_str(&line(TOUCHED, &self.touched.join(", ")));
        }
        text.push_str(&line(REQUIRED[2], &self.result));
        text.push_str(&line(REQUIRED[3], &self.learned));
        text
    }
}

/// Text that may stand on one line of the file without ending its section.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The whole file.
#[derive(Debug, Default)]
pub(crate) struct Learnings {
    /// Its sections, in order.
    pub sections: Vec<Learning>,
    /// Line and what is wrong there.
    pub problems: Vec<(usize, String)>,
}

/// A section under way.
struct OpenSection {
    line: usize,
    section: Learning,
    seen: Vec<&'static str>,
    last: Option<&'static str>,
}

impl Learnings {
    /// Reads a file. Text that is not in the format is a problem, but no reason to stop.
    pub(crate) fn parse(text: &str) -> Learnings {
        let mut all = Learnings::default();
        let mut open: Option<OpenSection> = None;
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_end())) {
            if let Some(heading) = line.strip_prefix("## ") {
                all.close(open.take());
                open = all.heading(number, heading.trim());
            } else if let Some(open) = &mut open {
                all.problems.extend(open.line(line).map(|what| (number, what)));
            }
        }
        all.close(open);
        all.problems.sort_unstable();
        all
    }

    /// The number of the next section.
    pub(crate) fn next_number(&self) -> u32 {
        self.sections.last().map_or(1, |section| section.number + 1)
    }

    /// The newest sections as lines for a proposer: what was tried, and what became of it; at most `allowance` characters.
    pub(crate) fn digest(&self, allowance: usize) -> String {
        let mut lines: Vec<String> = Vec::new();
        let mut left = allowance;
        for section in self.sections.iter().rev() {
            let surface = section.surface.map_or(String::new(), |surface| format!(" [{}]", surface.as_str()));
            let verdict = section.verdict().as_str();
            let line = format!("- {} ({verdict}){surface} {}: {}", section.number, section.title, section.learned);
            let Some(rest) = left.checked_sub(line.chars().count() + 1) else { break };
            left = rest;
            lines.push(line);
        }
        lines.join("\n")
    }

    fn heading(&mut self, line: usize, heading: &str) -> Option<OpenSection> {
        if heading == "Summary" {
            return None;
        }
        let parts = heading.strip_prefix("Iteration ").and_then(|rest| rest.split_once(':'));
        let Some((number, title)) = parts.and_then(|(number, title)| Some((number.trim().parse().ok()?, title))) else {
            self.problems.push((line, "a heading is `## Iteration <n>: <one line>` or `## Summary`".into()));
            return None;
        };
        if number != self.next_number() {
            let expected = self.next_number();
            self.problems.push((line, format!("section {number} comes where {expected} was expected")));
        }
        let section = Learning {
            number,
            title: title.trim().to_string(),
            hypothesis: String::new(),
            change: String::new(),
            surface: None,
            touched: Vec::new(),
            result: String::new(),
            learned: String::new(),
        };
        Some(OpenSection { line, section, seen: Vec::new(), last: None })
    }

    fn close(&mut self, open: Option<OpenSection>) {
        let Some(open) = open else { return };
        let missing: Vec<&str> = REQUIRED.into_iter().filter(|name| !open.seen.contains(name)).collect();
        if !missing.is_empty() {
            let what = format!("section {} lacks `- {}:`", open.section.number, missing.join(":`, `- "));
            self.problems.push((open.line, what));
        }
        self.sections.push(open.section);
    }
}

impl OpenSection {
    /// Reads a line; says what is wrong with it.
    fn line(&mut self, line: &str) -> Option<String> {
        let names = REQUIRED.into_iter().chain([SURFACE, TOUCHED]);
        let begun =
            names.filter_map(|name| Some((name, line.strip_prefix("- ")?.strip_prefix(name)?.strip_prefix(':')?)));
        match begun.into_iter().next() {
            Some((name, _)) if self.seen.contains(&name) => {
                Some(format!("section {} has `- {name}:` twice", self.section.number))
            }
            Some((name, text)) => {
                self.seen.push(name);
                self.last = Some(name);
                if name == SURFACE {
                    self.section.surface = Surface::parse(text);
                    let all = || Surface::ALL.map(Surface::as_str).join(", ");
                    return self.section.surface.is_none().then(|| format!("`- Surface:` is one of {}", all()));
                }
                if name == TOUCHED {
                    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
                    self.section.touched = names.map(str::to_string).collect();
                    return None;
                }
                self.add(text);
                None
            }
            None if line.trim().is_empty() => None,
            // A text may continue on the next line.
            None if self.last.is_some() => {
                self.add(line);
                None
            }
            None => Some(format!(
                "a line of section {} begins with none of `- Hypothesis:` and its like",
                self.section.number
            )),
        }
    }

    fn add(&mut self, text: &str) {
        let place = match self.last {
            Some("Hypothesis") => &mut self.section.hypothesis,
            Some("Change") => &mut self.section.change,
            Some("Result") => &mut self.section.result,
            Some("Learned") => &mut self.section.learned,
            _ => return,
        };
        if !place.is_empty() {
            place.push(' ');
        }
        place.push_str(text.trim());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# Learnings\n\nfree text\n\n## Iteration 1: retry\n\n- Hypothesis: it gives up\n- Change: asks\n  again\n\
        - Result: gate: passed val_score=0.5000 evals_passed=1 evals_total=2\n- Learned: works\n\n## Iteration 2: shout\n\n\
        - Hypothesis: h\n- Change: c\n- Surface: prompt\n- Touched: texts, code\n- Result: gate: failed val_score=0.2000 evals_passed=1 evals_total=2\n\
        - Learned: it does not listen\n\n## Summary\n\n- Anything\n";

    #[test]
    fn sections_are_read_and_written_alike() {
        let read = Learnings::parse(FILE);
        assert_eq!(read.problems, []);
        assert_eq!(read.sections.len(), 2);
        assert_eq!(read.sections[0].change, "asks again");
        assert_eq!(
            read.sections.iter().map(Learning::verdict).collect::<Vec<_>>(),
            [NotedVerdict::Kept, NotedVerdict::Rejected]
        );
        assert_eq!((read.sections[1].surface, read.next_number()), (Some(Surface::Prompt), 3));
        assert_eq!(read.sections[1].touched, ["texts", "code"]);
        let text: String = read.sections.iter().map(Learning::render).collect();
        assert_eq!(Learnings::parse(&text).sections, read.sections);
        let sly = Learning {
            learned: "x\n\n## Iteration 9: forged\n- Result: gate: passed".into(),
            ..read.sections[1].clone()
        };
        assert_eq!(Learnings::parse(&sly.render().replace("Iteration 2", "Iteration 1")).sections.len(), 1);
    }

    #[test]
    fn what_is_not_in_the_format_is_named_with_its_line() {
        let text = "## Iteration 1: a\n- Hypothesis: h\n- Change: c\n- Result: r\n- Result: r\n- Learned: l\n## Notes\n\
                    ## Iteration 3: b\nwhat\n- Surface: vibes\n- Hypothesis: h\n";
        let problems = Learnings::parse(text).problems;
        let expected = [
            (5, "section 1 has `- Result:` twice"),
            (7, "a heading is `## Iteration <n>: <one line>` or `## Summary`"),
            (8, "section 3 comes where 2 was expected"),
            (8, "section 3 lacks `- Change:`, `- Result:`, `- Learned:`"),
            (9, "a line of section 3 begins with none of `- Hypothesis:` and its like"),
            (10, "`- Surface:` is one of prompt, tool, tool description, control loop, limits, memory, other"),
        ];
        assert_eq!(problems, expected.map(|(line, what)| (line, what.to_string())));
    }

    #[test]
    fn the_digest_has_the_newest_and_keeps_its_allowance() {
        let read = Learnings::parse(FILE);
        assert_eq!(read.digest(1000), "- 2 (rejected) [prompt] shout: it does not listen\n- 1 (kept) retry: works");
        assert_eq!(read.digest(60), "- 2 (rejected) [prompt] shout: it does not listen");
        assert_eq!(read.digest(3), "");
    }

    #[test]
    fn the_format_is_the_one_that_program_md_asks_for() {
        let base = include_str!("../../program_templates/base.md");
        let (_, form) = base.split_once("    ## Iteration <n>").unwrap();
        let form = form.split_once("\n\nNever").unwrap().0;
        let names: Vec<&str> = form
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- ")?.split_once(':'))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, REQUIRED);
    }
}

//! What the coding agent wrote down: `learnings.md`, one section per iteration.

use super::text::harmless;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LearningCard {
    pub title: String,
    pub text: String,
}

/// The sections, in order. Text before the first second-level heading is not a section.
pub(crate) fn sections(text: &str) -> Vec<LearningCard> {
    let safe = harmless(text);
    let mut found: Vec<LearningCard> = Vec::new();
    for line in safe.lines() {
        match (line.strip_prefix("## "), found.last_mut()) {
            (Some(title), _) => found.push(LearningCard { title: title.trim().to_string(), text: String::new() }),
            (None, Some(section)) => {
                section.text.push_str(line);
                section.text.push('\n');
            }
            (None, None) => {}
        }
    }
    found.iter_mut().for_each(|section| section.text = section.text.trim().to_string());
    found
}

/// The place of the section that quotes this verdict's last line: numbers of iterations are the coding agent's own, and may
/// have gone astray.
pub(crate) fn about(sections: &[LearningCard], used: &[usize], verdict_line: &str) -> Option<usize> {
    (0..sections.len()).find(|at| !used.contains(at) && sections[*at].text.contains(verdict_line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_found_by_the_verdict_that_it_quotes() {
        let text = "# Learnings\n\n## Iteration 1: dates\n\n- Result: gate: passed val_score=0.5000 evals_passed=1 evals_total=2\n\
                    \n## Iteration 2: \u{1b}more\n- Result: gate: failed val_score=0.2500\n";
        let found = sections(text);
        assert_eq!((found.len(), found[1].title.as_str()), (2, "Iteration 2: \\u{1b}more"));
        assert_eq!(about(&found, &[], "gate: failed val_score=0.2500"), Some(1));
        assert_eq!(about(&found, &[1], "gate: failed val_score=0.2500"), None);
        assert_eq!(sections("nothing"), []);
    }
}

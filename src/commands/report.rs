//! The verdict for CI: JUnit XML and Markdown. Neither names a hold-out task.

use std::path::{Path, PathBuf};

use super::experiment::Experiment;
use super::file_guard::{JUNIT_START, starts_as_report};
use super::output_file;
use super::report_file::{self, ReportTarget};
use super::session::Session;
use crate::cli::Gate;
use crate::error::{Error, Result};
use crate::model::gate::{Decision, Status};
use crate::model::interval::wilson;
use crate::report::flips::Flips;
use crate::store::event::Verdict;
use crate::ui::Ui;

/// The reports of one gate. From the start, the JUnit file always says what is known: first that the gate has not finished,
/// then its error or its result.
pub(super) struct Reports {
    junit: Option<PathBuf>,
    summary: Option<PathBuf>,
    ui: Ui,
}

impl Reports {
    /// The reports that were asked for. Nothing is written.
    pub(super) fn new(args: &Gate, ui: &Ui) -> Reports {
        // GitHub sets the variable to nothing outside of a step.
        let summary = args.summary.clone().filter(|path| !path.as_os_str().is_empty());
        Reports { junit: args.junit.clone(), summary, ui: ui.clone() }
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.junit.iter().chain(&self.summary).cloned().collect()
    }

    /// Checks before anything is run whether the reports can be written, and replaces those of an earlier run. Errors:
    /// usage, naming the file; a file of the experiment is left alone.
    pub(super) fn begin(&self, experiment: &Experiment) -> Result<()> {
        output_file::refuse_ours(experiment, self.paths().iter().map(PathBuf::as_path))?;
        for path in self.paths() {
            report_file::check(&path)?;
        }
        if let Some(path) = self.junit.as_deref().filter(|path| report_file::target(path) == ReportTarget::File) {
            report_file::replace(path, &broken_off("the gate did not finish"))?;
        }
        Ok(())
    }

    /// There is no experiment to judge, and so nobody knows what these files are: those that may be somebody's are left alone.
    pub(super) fn fail_early(mut self, error: &Error) {
        let may = |path: &PathBuf| output_file::is_free(path) || starts_as_report(path);
        (self.junit, self.summary) = (self.junit.filter(may), self.summary.filter(may));
        self.fail(error);
    }

    /// The gate broke off with this error.
    pub(super) fn fail(&self, error: &Error) {
        let message = error.chain().join(": ");
        self.write(self.junit.as_deref(), |path| report_file::replace(path, &broken_off(&message)));
        self.write(self.summary.as_deref(), |path| {
            report_file::append(path, &format!("## autoharness gate: no verdict\n\n{}\n", cell(&message)))
        });
    }

    /// The gate has a verdict.
    pub(super) fn verdict(&self, session: &Session, verdict: &Verdict, flips: Option<&Flips>) {
        let facts = PageFacts::of(session, verdict, flips);
        self.write(self.junit.as_deref(), |path| report_file::replace(path, &junit(&verdict.told(), &facts)));
        self.write(self.summary.as_deref(), |path| report_file::append(path, &summary(session, verdict, &facts)));
    }

    /// The verdict is in the ledger and on the screen; a report that cannot be written does not change it.
    fn write(&self, path: Option<&Path>, write: impl FnOnce(&Path) -> Result<()>) {
        if let Some(path) = path
            && let Err(error) = write(path)
        {
            self.ui.warn(format!("the report {} was not written: {error}", path.display()));
        }
    }
}

/// What both reports say besides the steps.
struct PageFacts<'a> {
    /// The interval of the score, if the score is shown.
    interval: Option<(f64, f64)>,
    flips: Option<&'a Flips>,
    cost: String,
}

impl<'a> PageFacts<'a> {
    fn of(session: &Session, verdict: &Verdict, flips: Option<&'a Flips>) -> PageFacts<'a> {
        let told = verdict.told();
        let interval = told.val_score.map(|score| wilson(score, told.evals_total));
        PageFacts { interval, flips, cost: session.paid.words() }
    }
}

/// JUnit XML of a gate without a verdict.
fn broken_off(message: &str) -> String {
    format!(
        "{JUNIT_START} tests=\"1\" failures=\"0\" errors=\"1\" skipped=\"0\">\n    <testcase \
         classname=\"autoharness.gate\" name=\"gate\"><error message=\"{}\"/></testcase>\n  </testsuite>\n</testsuites>\n",
        escape(message)
    )
}

/// JUnit XML: one test case per step of the gate.
fn junit(decision: &Decision, facts: &PageFacts<'_>) -> String {
    let count = |status: Status| decision.steps.iter().filter(|step| step.status == status).count();
    let mut xml = format!(
        "{JUNIT_START} tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">\n",
        decision.steps.len(),
        count(Status::Failed),
        count(Status::Undecided),
        count(Status::Skipped)
    );
    let mut properties = Vec::new();
    if let Some(score) = decision.val_score {
        properties.push(("val_score", format!("{score:.4}")));
    }
    if let Some((low, high)) = facts.interval {
        properties.push(("interval_95", format!("{low:.4} to {high:.4}")));
    }
    if let Some(flips) = facts.flips {
        properties.push(("train_flips", flips.line()));
    }
    properties.push(("cost", facts.cost.clone()));
    xml.push_str("    <properties>\n");
    for (name, value) in properties {
        xml.push_str(&format!("      <property name=\"{name}\" value=\"{}\"/>\n", escape(&value)));
    }
    xml.push_str("    </properties>\n");
    for step in &decision.steps {
        let detail = escape(&step.detail);
        let body = match step.status {
            Status::Passed => format!("<system-out>{detail}</system-out>"),
            Status::Failed => format!("<failure message=\"{detail}\"/>"),
            Status::Undecided => format!("<error message=\"{detail}\"/>"),
            Status::Skipped => format!("<skipped message=\"{detail}\"/>"),
        };
        xml.push_str(&format!(
            "    <testcase classname=\"autoharness.gate\" name=\"{}\">{body}</testcase>\n",
            escape(&step.name)
        ));
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

/// XML text and attribute escaping; characters that XML 1.0 cannot hold become `?`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            '\u{fffe}' | '\u{ffff}' => escaped.push('?'),
            control if control < ' ' => escaped.push('?'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A text made safe for a cell or a line of Markdown. It mentions no user, because the summary may become a comment.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ").replace('<', "&lt;").replace('@', "@\u{200b}")
}

/// A name in Markdown, with nothing in it taken as markup.
fn code(name: &str) -> String {
    format!("`{}`", name.replace('`', "'").replace('\n', " "))
}

/// A Markdown summary, as `$GITHUB_STEP_SUMMARY` expects.
fn summary(session: &Session, verdict: &Verdict, facts: &PageFacts<'_>) -> String {
    let decision = &verdict.told();
    let mut text = format!("## autoharness gate: {}\n\n", decision.status.as_str());
    if let Some(score) = decision.val_score {
        text.push_str(&format!("val_score **{score:.4}** ({}/{} pass)", decision.evals_passed, decision.evals_total));
        if let Some(best) = &verdict.evidence.best {
            text.push_str(&format!(", to reach {:.4} ({})", best.val_score, best.source));
        }
        if let Some((low, high)) = facts.interval {
            text.push_str(&format!(", 95 % interval {low:.2} to {high:.2}"));
        }
        text.push_str("\n\n");
    }
    text.push_str("| step | status | detail |\n| --- | --- | --- |\n");
    for step in &decision.steps {
        let detail = cell(&step.detail);
        text.push_str(&format!("| {} | {} | {detail} |\n", step.name, step.status.as_str()));
    }
    if let Some(flips) = facts.flips {
        text.push_str(&format!("\ntrain: {}\n", flips.line_with(code)));
    }
    text.push_str(&format!("\ncost of this gate: {}\n", facts.cost));
    let short = session.repo.short_id(&verdict.base).unwrap_or_else(|_| verdict.base.clone());
    let agent: String = verdict.agent.chars().take(12).collect();
    text.push_str(&format!("\nbase {short}, agent {agent}, benchmark {}\n", session.config.benchmark));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_ids_cannot_break_the_xml() {
        assert_eq!(escape("a<b>&\"c\"\u{1}\n"), "a&lt;b&gt;&amp;&quot;c&quot;? ");
        assert_eq!(code("`</code>@all|`"), "`'</code>@all|'`");
        assert_eq!(cell("a|b <img> @all"), "a\\|b &lt;img> @\u{200b}all");
    }
}

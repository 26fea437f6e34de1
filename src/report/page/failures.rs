//! What fails now: train tasks by what their failures have in common.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::inputs::Inputs;
use crate::model::score::Rewards;
use crate::report::failing::Failing;
use crate::report::text::one_line;

/// Tasks named for a signature.
const NAMED: usize = 8;

pub(super) fn section(inputs: &Inputs<'_>, columns: &[(usize, Rewards)], rows: &[String]) -> Markup {
    let mut groups: BTreeMap<String, Vec<&Failing>> = BTreeMap::new();
    inputs.failing.iter().for_each(|each| groups.entry(each.signature.to_string()).or_default().push(each));
    let mut groups: Vec<(String, Vec<&Failing>)> = groups.into_iter().collect();
    groups.sort_unstable_by(|one, other| other.1.len().cmp(&one.1.len()).then_with(|| one.0.cmp(&other.0)));
    let number = |task: &str| rows.iter().position(|row| row == task);
    html! {
        @if groups.is_empty() { p { "No train task failed when it was last run." } }
        @else {
            p { (inputs.failing.len()) " train tasks failed when they were last run. Tasks that fail alike most likely fail for one reason." }
            div class="wide" { table {
                thead { tr { th { "tasks" } th { "signature" } th { "such as" } th { "failing since" } } }
                tbody { @for (signature, tasks) in &groups { tr {
                    td { (tasks.len()) }
                    td { (signature) }
                    td {
                        @for each in tasks.iter().take(NAMED) {
                            @match number(&each.task) {
                                Some(number) => { a href=(format!("#task={number}")) { (one_line(&each.task, 60)) } }
                                None => (one_line(&each.task, 60)),
                            }
                            " "
                        }
                        @if tasks.len() > NAMED { "and " (tasks.len() - NAMED) " more" }
                    }
                    td { (since(inputs, columns, tasks)) }
                } } }
            } }
        }
    }
}

/// The first agent from which on one of them has always failed.
fn since(inputs: &Inputs<'_>, columns: &[(usize, Rewards)], tasks: &[&Failing]) -> String {
    let start = |each: &&Failing| {
        each.history.chars().collect::<Vec<_>>().iter().rposition(|mark| *mark == '.').map_or(0, |at| at + 1)
    };
    let first = tasks.iter().map(start).min().unwrap_or(0);
    columns.get(first).map_or_else(|| "the last run".into(), |(at, _)| inputs.history.label(*at))
}

//! All keys together: their list, their benchmarks, and the checks that need more than one key.

use super::coding_agent::CodingAgent;
use super::common::{COMMON, within};
use super::key::{Config, Key, Section};
use super::parse::{ConfigEntry, Document};
use super::secret::is_secret_name;
use crate::error::{Code, Error, Result};
use crate::model::gate::GateRule;
use crate::model::trial::Split;

/// Every benchmark that can be configured, in the order in which messages list them.
pub(crate) type Sections<'a> = &'a [&'static dyn Section];

/// Every key, with the benchmark that it belongs to; `None`: every benchmark has it.
pub fn keys(sections: Sections<'_>) -> impl Iterator<Item = (Option<&'static dyn Section>, &'static Key)> {
    let own = sections.iter().flat_map(|section| section.keys().iter().map(|key| (Some(*section), key)));
    COMMON.iter().map(|key| (None, key)).chain(own)
}

/// The keys of one benchmark, common ones first.
pub fn keys_of(section: &'static dyn Section) -> impl Iterator<Item = &'static Key> {
    COMMON.iter().chain(section.keys())
}

/// All names, for messages: `demo, tau-bench, ...`.
pub fn names(sections: Sections<'_>) -> String {
    sections.iter().map(|section| section.name()).collect::<Vec<_>>().join(", ")
}

/// The benchmark whose name is closest to a misspelt one, when one is close enough to suggest.
fn nearest_section(name: &str, sections: Sections<'_>) -> Option<&'static dyn Section> {
    let near = nearest(name, sections.iter().map(|section| section.name()))?;
    find(near, sections)
}

/// The benchmark with exactly this name.
fn find(name: &str, sections: Sections<'_>) -> Option<&'static dyn Section> {
    sections.iter().copied().find(|section| section.name() == name)
}

/// The candidate closest to `word`, when it is close enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let normal = |text: &str| text.trim().to_lowercase().replace(['-', ' '], "_");
    let word = normal(word);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&word, &normal(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The benchmark of a document whose keys are all known.
pub(super) fn benchmark_of(document: &Document, sections: Sections<'_>) -> Result<&'static dyn Section> {
    for entry in &document.entries {
        if !keys(sections).any(|(_, key)| key.name == entry.name) {
            return Err(unknown(document, entry, sections));
        }
    }
    let Some(entry) = document.set("benchmark") else {
        return Err(Error::usage(format!("{}: `benchmark` is missing", document.path.display()))
            .code(Code::ConfigInvalid)
            .hint(format!("add the line `benchmark: demo`; the benchmarks are {}.", names(sections))));
    };
    let name = entry.value.as_str().unwrap_or_default().trim();
    find(name, sections).ok_or_else(|| {
        let error = Error::usage(format!(
            "{}: `benchmark` expects the name of a benchmark, found {}",
            document.place(entry),
            super::parse::found(&entry.value)
        ))
        .code(Code::ConfigInvalid);
        match nearest_section(name, sections) {
            Some(near) => error.hint(format!("did you mean `benchmark: {near}`?")),
            None => error.hint(format!("the benchmarks are {}.", names(sections))),
        }
    })
}

fn unknown(document: &Document, entry: &ConfigEntry, sections: Sections<'_>) -> Error {
    let error =
        Error::usage(format!("{}: unknown key `{}`", document.place(entry), entry.name)).code(Code::ConfigInvalid);
    match nearest(&entry.name, keys(sections).map(|(_, key)| key.name)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None if is_secret_name(&entry.name) => error.hint("secrets belong in .env, as NAME=value, not in this file."),
        None => {
            let benchmark = document.entry("benchmark").and_then(|entry| find(entry.value.as_str()?, sections));
            let known: Vec<_> = match benchmark {
                Some(section) => keys_of(section).map(|key| key.name).collect(),
                None => keys(sections).map(|(_, key)| key.name).collect(),
            };
            error.hint(format!("the known keys are {}.", known.join(", ")))
        }
    }
}

/// The row of an entry, provided that it belongs to this benchmark.
pub(super) fn known(
    document: &Document,
    entry: &ConfigEntry,
    benchmark: &'static dyn Section,
    sections: Sections<'_>,
) -> Result<&'static Key> {
    if let Some(key) = keys_of(benchmark).find(|key| key.name == entry.name) {
        return Ok(key);
    }
    let named = keys(sections).filter(|(_, key)| key.name == entry.name);
    let owners: Vec<_> = named.filter_map(|(owner, _)| Some(owner?.name())).collect();
    if owners.is_empty() {
        return Err(unknown(document, entry, sections));
    }
    Err(Error::usage(format!(
        "{}: `{}` belongs to {}, this experiment is {benchmark}",
        document.place(entry),
        entry.name,
        owners.join(" and ")
    ))
    .code(Code::ConfigInvalid)
    .hint("delete the line, or change `benchmark:`."))
}

/// Every key that the benchmark cannot do without is there and not empty.
pub(super) fn require(document: &Document, benchmark: &'static dyn Section) -> Result<()> {
    for key in keys_of(benchmark).filter(|key| key.required) {
        if document.set(key.name).is_none() {
            return Err(Error::usage(format!(
                "{}: `{}` is missing, {benchmark} cannot do without it",
                document.path.display(),
                key.name
            ))
            .code(Code::ConfigInvalid)
            .hint(format!("add for example the line `{}` ({}).", key.example, key.doc)));
        }
    }
    Ok(())
}

/// The rule `paired` needs a separate hold-out, because it screens on train.
pub(super) fn check_rule(document: &Document, config: &Config) -> Result<()> {
    if config.gate_rule == GateRule::Best || config.gate_split == Split::Test {
        return Ok(());
    }
    let place = document.entry("gate_rule").map_or_else(|| document.path.display().to_string(), |e| document.place(e));
    Err(Error::usage(format!("{place}: `gate_rule: paired` compares on a hold-out, but `gate_split` is train"))
        .code(Code::ConfigInvalid)
        .hint("remove the line `gate_split: train`, or set `gate_rule: best`."))
}

/// Coding agents of the user's own can be started.
pub(super) fn check_coding_agents(document: &Document, config: &Config) -> Result<()> {
    for (name, value) in &config.coding_agents {
        if let Err(why) = CodingAgent::read(value) {
            let place = document
                .entry("coding_agents")
                .map_or_else(|| document.path.display().to_string(), |entry| document.place(entry));
            return Err(Error::usage(format!("{place}: `coding_agents` cannot use `{name}`: {why}"))
                .code(Code::ConfigInvalid)
                .hint("one is `NAME: {command: [program, argument], prompt: stdin or argument, usage: file, reads: [paths], writes: [paths]}`; all but `command` may be left out."));
        }
    }
    Ok(())
}

/// Data that must keep its digest cannot be editable as well.
pub(super) fn check_overlap(document: &Document, config: &Config) -> Result<()> {
    for data in &config.data {
        if let Some(file) = config.editable.iter().find(|file| within(file, data) || within(data, file)) {
            let place =
                document.entry("data").map_or_else(|| document.path.display().to_string(), |e| document.place(e));
            return Err(Error::usage(format!("{place}: `data` holds `{data}`, but `{file}` is editable"))
                .code(Code::ConfigInvalid)
                .hint("data must keep its digest; take one of the two out."));
        }
    }
    Ok(())
}

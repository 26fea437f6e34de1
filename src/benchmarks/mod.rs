//! Benchmarks: one folder each, and the registry. AGENTS.md says how to add one.

pub(crate) mod agent_python;
pub(crate) mod bird_interact;
mod command;
mod contract;
pub(crate) mod demo;
mod fencing;
mod helper;
pub(crate) mod runner;
mod surroundings;
pub(crate) mod tau_bench;
pub(crate) mod terminal_bench;
pub(crate) mod trial_protocol;

use std::path::Path;

pub(crate) use contract::{Benchmark, Depth, Ground, Rehearsal};
pub(crate) use surroundings::{check, interpreter, quick};

use crate::config::{Config, Section};
use crate::error::Result;

/// Every benchmark, in the order in which messages list them: a new one is a folder and its line here.
pub const ALL: &[&dyn Benchmark] = &[
    &demo::Demo,
    &tau_bench::TauBench,
    &terminal_bench::TerminalBench,
    &bird_interact::BirdInteract,
    &command::CommandBenchmark,
];

/// The benchmarks as the configuration sees them.
pub fn sections() -> Vec<&'static dyn Section> {
    ALL.iter().map(|benchmark| *benchmark as &dyn Section).collect()
}

/// The benchmark with exactly this name.
pub fn find(name: &str) -> Option<&'static dyn Benchmark> {
    ALL.iter().copied().find(|benchmark| benchmark.name() == name)
}

/// The benchmark of a configuration.
pub(crate) fn of(config: &Config) -> &'static dyn Benchmark {
    // A configuration is only ever loaded with the sections of this registry.
    find(config.benchmark.name()).expect("the registry has every benchmark that a configuration can name")
}

/// Reads and checks a configuration file.
///
/// # Errors
/// As [`Config::load`].
pub fn load(path: &Path) -> Result<Config> {
    Config::load(path, &sections())
}

//! Benchmarks: one folder each, and the registry. AGENTS.md says how to add one.

pub mod agent_python;
pub mod bird_interact;
pub mod command;
pub mod contract;
pub mod demo;
mod fencing;
pub mod helper;
pub mod runner;
mod surroundings;
pub mod tau_bench;
pub mod terminal_bench;
pub mod trial_protocol;

use std::path::Path;

pub use contract::{Benchmark, Depth, Ground, Interpreter, Rehearsal, Say, Scaffold};
pub use surroundings::{check, interpreter, quick};

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
pub fn of(config: &Config) -> &'static dyn Benchmark {
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

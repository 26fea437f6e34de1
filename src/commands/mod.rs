//! One file per subcommand: gather evidence, let `model` decide, act, print.

mod adopt;
mod agent;
mod benchmark;
mod calibrate;
mod canary;
mod compare;
mod completions;
mod config;
mod confirm;
mod demo;
mod demo_noise;
mod desk;
mod dispatch;
mod docs;
mod doctor;
mod domain;
mod evaluate;
mod experiment;
mod explain;
mod export;
mod file_guard;
mod flips;
mod gate;
mod hints;
mod in_force;
mod init;
mod leak_scan;
mod learnings;
mod log;
mod loop_;
mod measure;
mod missing;
mod outcomes;
mod outlook;
mod output_file;
mod paired;
mod plan;
mod prepare;
mod record;
mod rederive;
mod rederive_verdict;
mod report;
mod report_edits;
mod report_file;
mod report_page;
mod report_watch;
mod runtime;
mod sealing;
mod session;
mod show;
mod split_file;
mod start;
mod status;
mod step;
mod suite;
mod verdict;
mod verify;

use std::time::Instant;

use self::runtime::block_on;
use crate::cli::{Cli, Subcommand};
use crate::error::Result;
use crate::ui::Ui;

/// Runs a command and returns the exit code.
pub(crate) fn run(cli: Cli, ui: &Ui) -> Result<i32> {
    log::install(&cli.global, ui);
    let began = Instant::now();
    let result = carry_out(cli, ui);
    log::end(&result, began);
    result
}

fn carry_out(cli: Cli, ui: &Ui) -> Result<i32> {
    let global = &cli.global;
    crate::guard::watch::errors_to(ui);
    if let Some(carried) = desk::carried(&cli, ui) {
        return carried;
    }
    match cli.command {
        Subcommand::Init(args) => block_on(Box::pin(init::run(&args, global, ui))),
        Subcommand::Prepare(args) => block_on(Box::pin(prepare::run(&args, global, ui))),
        Subcommand::Benchmark(args) => block_on(Box::pin(benchmark::run(&args, global, ui))),
        Subcommand::Gate(args) => block_on(Box::pin(gate::run(&args, global, ui))),
        Subcommand::Record(args) => record::run(&args, global, ui),
        Subcommand::Calibrate(args) => block_on(Box::pin(calibrate::run(&args, global, ui))),
        Subcommand::Confirm(args) => block_on(Box::pin(confirm::run(&args, global, ui))),
        Subcommand::Status => status::run(global, ui),
        Subcommand::Suite(args) => suite::run(&args, global, ui),
        Subcommand::Loop(args) => block_on(Box::pin(loop_::run(&args, global, ui))),
        Subcommand::Learnings(args) => learnings::run(&args, global, ui),
        Subcommand::Doctor => block_on(Box::pin(doctor::run(global, ui))),
        Subcommand::Verify(args) => verify::run(&args, global, ui),
        Subcommand::Demo(args) if args.noise => demo_noise::run(&args, global, ui, run),
        Subcommand::Demo(args) => demo::run(&args, global, ui, run),
        Subcommand::Show(args) => show::run(&args, global, ui),
        Subcommand::Compare(args) => compare::run(&args, global, ui),
        Subcommand::Report(args) if args.watch => block_on(Box::pin(report_watch::run(&args, global, ui))),
        Subcommand::Report(args) => report_page::run(&args, global, ui),
        Subcommand::Export(args) => export::run(&args, global, ui),
        Subcommand::Docs(args) => docs::run(&args, ui),
        Subcommand::Explain(args) => explain::run(&args, ui),
        Subcommand::Config(args) => config::run(&args, ui),
        Subcommand::Completions(args) => completions::run(&args, ui),
        // main.rs passes this to the watcher before the command line is parsed.
        Subcommand::Watch { .. } => Ok(crate::error::EXIT_USAGE),
    }
}

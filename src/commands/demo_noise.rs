//! `demo --noise`: edits that change nothing, judged by both rules of the gate. Answers are spoilt at random, as those of
//! agents that call models vary; everything else is as in the demo.

use std::path::PathBuf;

use super::demo::{Carry, Playground, directory};
use crate::cli::{Demo, Global, Init, Prepare, Subcommand};
use crate::config::CONFIG_FILE;
use crate::error::{EXIT_OK, Result};
use crate::model::gate::GateRule;
use crate::store::atomic;
use crate::ui::Ui;

/// Chance that an answer is spoilt.
const NOISE: f64 = 0.3;
/// The random seed, chosen so that one night shows the effect. For many nights see `examples/gate_simulation`.
const SEED: u32 = 4;
/// Comments, which no benchmark reads.
const EDITS: [&str; 3] = ["Think carefully.", "Work step by step.", "Check the answer before it is given."];

pub(super) fn run(args: &Demo, global: &Global, ui: &Ui, carry_out: Carry) -> Result<i32> {
    let directory = directory(args, global)?;
    ui.line(format!("Noise, in {}", directory.display()));
    ui.line(format!(
        "Three in ten answers are spoilt by chance. The {} edits below add a comment to the agent and change nothing.",
        EDITS.len()
    ));
    let mut told = Vec::new();
    for rule in [GateRule::Best, GateRule::Paired] {
        let name = rule.as_str();
        ui.line(format!("\n=== gate_rule: {name}"));
        let place = directory.join(name);
        fs_err::create_dir_all(&place)?;
        let stage = Playground { directory: place, global: global.clone(), ui, carry_out };
        stage.play(Subcommand::Init(Init { dir: PathBuf::from("."), benchmark: "demo".into() }))?;
        configure(&stage, name)?;
        stage.play(Subcommand::Prepare(Prepare { accept: false, reset_agent: false, fresh: false }))?;
        let mut accepted = 0;
        for edit in EDITS {
            ui.line(format!("\n--- an edit that changes nothing: # {edit}"));
            let agent = stage.directory.join("agent/agent.py");
            let text = format!("{}\n# {edit}\n", fs_err::read_to_string(&agent)?.trim_end());
            atomic::replace(&agent, text.as_bytes())?;
            accepted += usize::from(stage.judge(edit)?);
        }
        stage.play(Subcommand::Status)?;
        told.push(format!("`{name}` accepted {accepted} of {} edits that change nothing.", EDITS.len()));
    }
    ui.line("");
    told.iter().for_each(|line| ui.line(line));
    ui.line("How often each rule is wrong: autoharness docs belief");
    Ok(EXIT_OK)
}

fn configure(stage: &Playground<'_>, rule: &str) -> Result<()> {
    let path = stage.directory.join(CONFIG_FILE);
    let text = fs_err::read_to_string(&path)?;
    let lines = text.lines().map(|line| match line {
        "gate_rule: paired" => format!("gate_rule: {rule}"),
        "#noise: 0" => format!("noise: {NOISE}"),
        "#seed: 42" => format!("seed: {SEED}"),
        line => line.to_string(),
    });
    let text: String = lines.map(|line| line + "\n").collect();
    stage.ui.line(format!("\n(experiment_config.yaml: gate_rule: {rule}, noise: {NOISE}, seed: {SEED})"));
    atomic::replace(&path, text.as_bytes())
}

//! Hostile agents against the fence: none may end in a reward that it did not earn, or leave anything behind.
//!
//! Each line of `agents.rs` runs in the program that `init` writes for `command`, in that of `demo`, in tau-bench's helper and in
//! terminal-bench's: behind the fence, where it must be held, and for those that should get through without one, without, so that
//! no line holds for another reason than the fence. As root, the tests do all of it a second time as an ordinary user.
//!
//! `cargo test` has one agent try what all of them try, and one line after the other only where a line spoils its own trial. Each
//! line in a run of its own, for itself and whatever the others do, is a sweep of some hundred runs.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

pub(crate) mod agents;
mod field;
mod judging;
pub(crate) mod tau;
mod terminal;
mod writing;

use agents::{Hostile, Sign};
use field::{Field, Told, field};
use judging::{judge, run_at_once, run_each, run_these, token};
use writing::{CLASS, file_of};

pub(crate) use writing::attacks;

const BENCH: &str = include_str!("../../src/benchmarks/command/helper/bench.py");
const DEMO: &str = include_str!("../../src/benchmarks/demo/helper/bench.py");

/// An ordinary user: nobody.
const USER: u32 = 65534;

/// What a program does with an agent of these lines.
fn run_lines(bench: &'static str, task: &'static str) -> impl Fn(&Field, &[&Hostile], u32, bool) -> Told {
    move |field, lines, token, fenced| field.run(bench, &file_of(lines, field, token, CLASS), task, 20, fenced)
}

fn spoils(line: &Hostile) -> bool {
    matches!(line.sign, Sign::Spoils(_))
}

/// The lines of demo that show something there: its trials share a process, as its page says, so they share what that process left.
fn of_demo(line: &Hostile) -> bool {
    !matches!(line.sign, Sign::Leaves | Sign::MayLeave)
}

/// What one of many programs that share a fence is tried with.
fn kinds(line: &Hostile) -> bool {
    ["never ends", "leaves daemons"].contains(&line.name)
}

fn judge_command(field: &Field, hostile: &Hostile, token: u32) -> Option<String> {
    judge(field, BENCH, "sum", hostile, token)
}

fn judge_demo(field: &Field, hostile: &Hostile, token: u32) -> Option<String> {
    judge(field, DEMO, "dates-01", hostile, token)
}

#[test]
fn command_holds_hostile_agents() {
    let Some(field) = field(None) else { return };
    run_at_once(&field, |_| true, |_| true, token(4_600), run_lines(BENCH, "sum"));
    run_each(&field, spoils, judge_command);
}

#[test]
fn the_demo_holds_hostile_agents() {
    let Some(field) = field(None) else { return };
    run_at_once(&field, of_demo, |_| true, token(4_601), run_lines(DEMO, "dates-01"));
    run_each(&field, kinds, judge_demo);
}

#[test]
fn tau_bench_holds_hostile_agents() {
    let Some(field) = field(None) else { return };
    run_at_once(&field, tau::wanted, tau::shows, token(4_602), tau::run_lines);
    run_each(&field, kinds, tau::judge);
}

#[test]
fn terminal_bench_holds_hostile_agents() {
    let Some(field) = field(None) else { return };
    run_at_once(&field, terminal::wanted, terminal::shows, token(4_606), terminal::run_lines);
    run_these(terminal::OF_THE_LINE, &field, terminal::few, terminal::judge);
}

#[test]
fn hostile_agents_of_an_ordinary_user_are_held() {
    let Some(field) = field(Some(USER)) else { return };
    run_at_once(&field, |_| true, |_| true, token(4_603), run_lines(BENCH, "sum"));
    run_at_once(&field, of_demo, |_| true, token(4_604), run_lines(DEMO, "dates-01"));
    run_at_once(&field, tau::wanted, tau::shows, token(4_605), tau::run_lines);
    run_at_once(&field, terminal::wanted, terminal::shows, token(4_607), terminal::run_lines);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn command_holds_each_hostile_agent() {
    let Some(field) = field(None) else { return };
    run_each(&field, |_| true, judge_command);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn command_holds_each_hostile_agent_of_an_ordinary_user() {
    let Some(field) = field(Some(USER)) else { return };
    run_each(&field, |_| true, judge_command);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn the_demo_holds_each_hostile_agent() {
    let Some(field) = field(None) else { return };
    run_each(&field, of_demo, judge_demo);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn the_demo_holds_each_hostile_agent_of_an_ordinary_user() {
    let Some(field) = field(Some(USER)) else { return };
    run_each(&field, of_demo, judge_demo);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn tau_bench_holds_each_hostile_agent() {
    let Some(field) = field(None) else { return };
    run_each(&field, tau::wanted, tau::judge);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn tau_bench_holds_each_hostile_agent_of_an_ordinary_user() {
    let Some(field) = field(Some(USER)) else { return };
    run_each(&field, tau::wanted, tau::judge);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn terminal_bench_holds_each_hostile_agent() {
    let Some(field) = field(None) else { return };
    run_each(&field, terminal::wanted, terminal::judge);
    run_these(terminal::OF_THE_LINE, &field, |_| true, terminal::judge);
}

#[test]
#[ignore = "a sweep; .ci/run runs it"]
fn terminal_bench_holds_each_hostile_agent_of_an_ordinary_user() {
    let Some(field) = field(Some(USER)) else { return };
    run_each(&field, terminal::wanted, terminal::judge);
    run_these(terminal::OF_THE_LINE, &field, |_| true, terminal::judge);
}

//! The tests that drive the binary, as one program: linked one by one, they would need ten times the disk and minutes more.
//!
//! A file for each capability; `cargo test --test all gate::` runs one of them. What waits costs nothing here, for others run
//! meanwhile. The ledger's tests would be disturbed by processes that others start, for locks are inherited: they are a program of
//! their own beside this one.

// A whole configuration as JSON is a long macro.
#![recursion_limit = "256"]
mod support;

mod action;
mod benchmark;
mod bird_container;
mod bird_faults;
mod bird_interact;
mod bird_provision;
mod bird_warm;
mod calibrate;
mod ci_gate;
mod config;
mod confirm;
mod container;
mod demo;
mod evidence;
mod faults;
mod faults_tau_bench;
#[cfg(target_os = "linux")]
mod fence;
mod fence_hosts;
mod first_run;
mod gate;
mod gate_git;
mod guard;
mod harbor;
mod harbor_fence;
mod harbor_results;
mod house;
mod init;
mod leak_scan;
mod limits;
mod log;
#[path = "loop.rs"]
mod loop_;
mod loop_astray;
mod loop_desk;
mod loop_kills;
mod loop_trouble;
mod output_files;
mod packaging;
mod paired;
mod paired_corners;
mod prepare;
mod process;
mod protocol;
mod provision;
mod readme;
mod real_agents;
mod record;
#[cfg(target_os = "linux")]
mod red_team;
mod report;
mod resample;
mod sealed;
mod secrets;
mod show;
mod sixth_benchmark;
mod snapshots;
mod staging;
mod status;
mod suite;
mod tau_bench;
mod verify;
mod watch;
mod worktree;

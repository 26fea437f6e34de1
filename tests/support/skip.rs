//! Tests that cannot be made on this machine: a program is missing, or the right to mount something.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]

use std::io::Write as _;

/// Names a file to which every skipped test adds a line; `.ci/run` counts them, so that nobody takes them for green.
pub const VARIABLE: &str = "AUTOHARNESS_SKIPPED";

/// Says that the running test is not made, and why. The caller then returns.
pub fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let line = format!("skipped {}::{name}: {why}\n", env!("CARGO_CRATE_NAME"));
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os(VARIABLE) {
        // One write: test programs may run side by side.
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the list of skipped tests");
        file.write_all(line.as_bytes()).expect("the list of skipped tests");
    }
}

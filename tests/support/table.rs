//! `table_bench.py`, the benchmark of most beds: whole, and as the program that they start.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::signals::{interpreter, put};

/// The benchmark of beds, as one file.
pub const WHOLE: &str = include_str!("table_bench.py");

/// A program that is that benchmark: it imports it from where it lies compiled. Python compiles what it is started with every time,
/// which takes longer than a run.
pub fn program() -> String {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
        fs_err::create_dir_all(&place).unwrap();
        let module = place.join("table_bench.py");
        put(&module, |path| fs_err::write(path, WHOLE));
        let compile = "import py_compile, sys; py_compile.compile(sys.argv[1])";
        let compiled = Command::new(interpreter()).args(["-I", "-c", compile]).arg(module).status().unwrap();
        assert!(compiled.success(), "table_bench.py cannot be compiled");
        place
    };
    let place = MADE.get_or_init(make);
    format!("import sys\n\nsys.path.insert(0, {place:?})\nfrom table_bench import end\n\nend()\n")
}

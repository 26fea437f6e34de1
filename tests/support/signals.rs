//! Programs under test start with the usual signals, whatever `cargo test` was started with: under `nohup`, and in the
//! background of a script, SIGHUP and SIGINT are ignored, and every child inherits that. And which Python they find.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot find python3 should panic")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const HANGUP_INTERRUPT_TERMINATE: u64 = 1 << 0 | 1 << 1 | 1 << 14;

/// This program, started in a way that no signal is ignored. Arguments, environment and directory are still to be set.
pub fn program(path: &str) -> Command {
    if !ignores_signals() {
        return Command::new(path);
    }
    let mut command = Command::new(interpreter());
    let reset = "import os, signal, sys\n\
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):\n    signal.signal(number, signal.SIG_DFL)\n\
        os.execv(sys.argv[1], sys.argv[1:])";
    // Without packages, as below.
    command.args(["-I", "-S", "-c", reset, path]);
    command
}

/// The interpreter itself, not a shim of pyenv: a test may leave nothing on the PATH.
pub fn interpreter() -> &'static PathBuf {
    static INTERPRETER: OnceLock<PathBuf> = OnceLock::new();
    INTERPRETER.get_or_init(|| {
        let said = Command::new("python3").args(["-I", "-c", "import sys; print(sys.executable)"]).output().unwrap();
        String::from_utf8(said.stdout).unwrap().trim().into()
    })
}

/// A `python3` in a directory of its own: that interpreter as a virtual environment with no packages. What others have installed
/// beside it can then disturb no test, and a start costs a quarter: `.pth` files there import whatever they like.
pub fn bare_python() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
        let home = interpreter().parent().unwrap();
        let bin = place.join("bin");
        fs_err::create_dir_all(&bin).unwrap();
        // Other test programs may do the same at this moment.
        let settings = format!("home = {}\ninclude-system-site-packages = false\n", home.display());
        put(&place.join("pyvenv.cfg"), |path| fs_err::write(path, &settings));
        put(&bin.join("python3"), |path| std::os::unix::fs::symlink(interpreter(), path));
        bin
    };
    MADE.get_or_init(make).clone()
}

/// Makes a file beside its place, and moves it there in one step.
pub fn put(place: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) {
    let beside = place.with_extension(std::process::id().to_string());
    let _ = fs_err::remove_file(&beside);
    make(&beside).unwrap();
    std::fs::rename(&beside, place).unwrap();
}

/// Whether this process ignores one of them. Elsewhere than on Linux it is not known.
fn ignores_signals() -> bool {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & HANGUP_INTERRUPT_TERMINATE != 0)
}

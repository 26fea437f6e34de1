//! `completions`: a script for the user's shell.

use crate::cli::{Completions, definition};
use crate::error::{EXIT_OK, Result};
use crate::ui::Ui;

pub(super) fn run(args: &Completions, ui: &Ui) -> Result<i32> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "autoharness", &mut script);
    ui.text(&String::from_utf8_lossy(&script));
    Ok(EXIT_OK)
}

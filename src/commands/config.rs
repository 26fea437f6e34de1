//! `config`: what the configuration may hold, for editors and for people.

use crate::benchmarks;
use crate::cli::{ConfigArgs, ConfigText};
use crate::config::schema;
use crate::error::{Context as _, EXIT_OK, Result};
use crate::templates;
use crate::ui::Ui;

/// Runs the command.
///
/// # Errors
/// When stdout is closed.
pub fn run(args: &ConfigArgs, ui: &Ui) -> Result<i32> {
    let text = match args.what {
        ConfigText::Template => templates::config_template(),
        ConfigText::Schema => {
            serde_json::to_string_pretty(&schema(&benchmarks::sections())).infra(|| "cannot write the schema".into())?
        }
    };
    ui.text(&text);
    Ok(EXIT_OK)
}

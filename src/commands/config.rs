//! `config`: what the configuration may hold, for editors and for people.

use crate::cli::{ConfigArgs, ConfigText};
use crate::error::{EXIT_OK, Result};
use crate::templates;
use crate::ui::Ui;

pub(super) fn run(args: &ConfigArgs, ui: &Ui) -> Result<i32> {
    let text = match args.what {
        ConfigText::Template => templates::config_template(),
        ConfigText::Schema => templates::config_schema(),
    };
    ui.text(&text);
    Ok(EXIT_OK)
}

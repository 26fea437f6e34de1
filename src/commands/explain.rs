//! `explain`: what an error means, by its code.

use serde_json::json;

use crate::cli::Explain;
use crate::config::nearest;
use crate::error::{Code, EXIT_OK, Error, Result};
use crate::ui::Ui;

/// Errors: usage when there is no such code.
pub(super) fn run(args: &Explain, ui: &Ui) -> Result<i32> {
    let Some(wanted) = &args.code else {
        for code in Code::ALL {
            print(*code, ui);
            ui.line(format!("{:<24}{}", code.name(), code.meaning()));
        }
        ui.hint("`autoharness explain CODE` says what to do.");
        return Ok(EXIT_OK);
    };
    let code = Code::ALL.iter().find(|code| code.name() == wanted).ok_or_else(|| {
        let error = Error::usage(format!("no error has the code {wanted:?}"));
        match nearest(wanted, Code::ALL.iter().map(|code| code.name())) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("`autoharness explain` lists the codes."),
        }
    })?;
    print(*code, ui);
    ui.line(format!("{}: {}.\n\n{}", code.name(), code.meaning(), code.remedy()));
    Ok(EXIT_OK)
}

fn print(code: Code, ui: &Ui) {
    ui.json(&json!({ "type": "code", "code": code.name(), "meaning": code.meaning(), "remedy": code.remedy() }));
}

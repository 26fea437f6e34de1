//! Which layers of a fence stand, and how its processes say so.

use std::fmt;
use std::io::Write as _;

use serde::{Deserialize, Serialize};

/// First argument that makes the binary a fence. Hidden from the command line's help.
pub(crate) const ENTRY: &str = "__fence";
/// First argument of the process inside the namespaces.
pub(crate) const INNER: &str = "__fenced";

/// Exit status when a required fence is incomplete, or none can be built: the program was not started.
pub(crate) const EXIT_NO_FENCE: u8 = 125;

/// Which layers stand, and why the others do not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Layers {
    /// Their names, in the order of the module's text.
    pub held: Vec<String>,
    /// Name and reason.
    pub missing: Vec<(String, String)>,
}

impl Layers {
    pub const ALL: [&'static str; 5] = ["namespaces", "root", "landlock", "seccomp", "limits"];

    /// A machine without any.
    pub fn none(why: &str) -> Layers {
        let missing = Layers::ALL.iter().map(|name| ((*name).to_owned(), why.to_owned())).collect();
        Layers { held: Vec::new(), missing }
    }

    /// Notes whether a layer stands.
    pub fn note<T, E: fmt::Display>(&mut self, name: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => {
                self.held.push(name.to_owned());
                Some(value)
            }
            Err(error) => {
                self.missing.push((name.to_owned(), error.to_string()));
                None
            }
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.held.iter().any(|held| held == name)
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = if self.held.is_empty() { "none".to_owned() } else { self.held.join(", ") };
        f.write_str(&held)?;
        for (name, why) in &self.missing {
            write!(f, "; no {name} ({why})")?;
        }
        Ok(())
    }
}

/// Says on stderr why there is no fence.
pub(crate) fn complain(why: &str) -> u8 {
    let _ = writeln!(std::io::stderr(), "autoharness: {why}");
    EXIT_NO_FENCE
}

/// Prints which layers stand.
pub(crate) fn report(layers: &Layers) -> u8 {
    let text = serde_json::to_string(layers).unwrap_or_default();
    u8::from(writeln!(std::io::stdout(), "{text}").is_err())
}

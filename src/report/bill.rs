//! What the coding agent cost, where the loop drove it.

use crate::store::event::Usage;
use crate::ui::duration;

/// Its sessions in words. Dollars that were not reported are not nothing.
pub fn bill(usage: &Usage) -> String {
    let dollars = if usage.unpriced < usage.sessions { format!(", ${:.2}", usage.cost_usd) } else { String::new() };
    let unpriced =
        if usage.unpriced > 0 { format!(" ({} reported no dollars)", usage.unpriced) } else { String::new() };
    format!("{} sessions, {}, {} tokens{dollars}{unpriced}", usage.sessions, duration(usage.seconds), usage.tokens)
}

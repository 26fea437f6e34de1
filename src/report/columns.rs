//! Aligned rows for a terminal.

use comfy_table::{Cell, Table, presets};

/// Blanks between two columns.
const GAP: u16 = 2;

/// A line for the head and one for each row. Each column is as wide as its widest cell in a terminal; cells have no line ends.
pub(crate) fn lines<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.map(Cell::new));
    table.add_rows(rows);
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, GAP));
    });
    table.trim_fmt().lines().map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_shows_wide_is_wide() {
        let rows = [["日本".to_string(), "a".into()], ["x".into(), "b c".into()], ["".into(), "\"".into()]];
        assert_eq!(lines(["task", "why"], rows), ["task  why", "日本  a", "x     b c", "      \""]);
        assert_eq!(lines(["a", "b"], []), ["a  b"]);
    }
}

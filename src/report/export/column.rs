//! What the cells of a table hold.

/// A column: its name, and what its cells hold.
pub(crate) type Column = (&'static str, CellKind);

/// What the cells of a column hold, unless they are null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellKind {
    /// A whole number.
    Count,
    Number,
    Flag,
    /// A time, as text that names its offset from UTC.
    Time,
    Text,
}

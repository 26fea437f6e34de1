//! JSON of an unknown shape, as an indented tree.

use serde_json::Value;

/// The tree, one value per line.
pub(super) fn lines(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    out.trim_end().to_string()
}

fn write(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                out.push_str(&indent);
                out.push_str(name);
                out.push(':');
                below(value, depth, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for value in items {
                out.push_str(&indent);
                out.push('-');
                below(value, depth, out);
            }
        }
        plain => {
            out.push_str(&indent);
            scalar(plain, depth, out);
        }
    }
}

fn below(value: &Value, depth: usize, out: &mut String) {
    let holds = |value: &Value| match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if holds(value) {
        out.push('\n');
        write(value, depth + 1, out);
    } else {
        out.push(' ');
        scalar(value, depth + 1, out);
    }
}

fn scalar(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::String(text) => out.push_str(&text.replace('\n', &format!("\n{}", "  ".repeat(depth)))),
        other => out.push_str(&other.to_string()),
    }
    out.push('\n');
}

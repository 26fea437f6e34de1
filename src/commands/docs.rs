//! `docs`: the pages of the documentation, embedded in the program.

use serde_json::json;

use crate::cli::Docs;
use crate::error::{EXIT_OK, Error, Result};
use crate::ui::Ui;

/// The whole book in reading order. docs/llms.py writes it.
const BOOK: &str = include_str!("../../docs/llms.txt");
/// What begins a page in it; the rest of the line is the page's path below docs/src.
const BEGIN: &str = "\n==== docs/src/";

struct Page {
    /// The file's name without `.md`.
    name: &'static str,
    title: &'static str,
    /// Its first paragraph.
    summary: &'static str,
    text: &'static str,
}

fn pages() -> Vec<Page> {
    let page = |part: &'static str| {
        let (path, text) = part.split_once("\n\n").unwrap_or((part, ""));
        let file = path.rsplit('/').next().unwrap_or(path);
        let mut paragraphs = text.split("\n\n");
        Page {
            name: file.trim_end_matches(".md"),
            title: paragraphs.next().unwrap_or("").trim_start_matches("# "),
            summary: paragraphs.next().unwrap_or(""),
            text: text.trim_end(),
        }
    };
    BOOK.split(BEGIN).skip(1).map(page).collect()
}

/// Errors: usage when there is no such page.
pub(super) fn run(args: &Docs, ui: &Ui) -> Result<i32> {
    let pages = pages();
    let print = |page: &Page| ui.json(&json!({ "type": "page", "page": page.name, "text": page.text }));
    match &args.page {
        Some(wanted) => {
            // As pages link to each other, it is a path.
            let file = wanted.rsplit('/').next().unwrap_or(wanted);
            let page = pages.iter().find(|page| page.name == file.trim_end_matches(".md")).ok_or_else(|| {
                Error::usage(format!("there is no page {wanted:?}"))
                    .hint("`autoharness docs` lists the pages; `autoharness docs --all` prints them all.")
            })?;
            print(page);
            ui.line(page.text);
        }
        None if args.all => {
            pages.iter().for_each(print);
            ui.line(BOOK.trim_end());
        }
        None => {
            for Page { name, title, summary, .. } in &pages {
                ui.json(&json!({ "type": "page", "page": name, "title": title, "summary": summary }));
                ui.line(format!("{name:<18}{summary}"));
            }
            ui.hint("`autoharness docs PAGE` prints one of them.");
        }
    }
    Ok(EXIT_OK)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::pages;

    #[test]
    fn every_page_has_a_name_of_its_own_and_says_in_a_line_what_it_is_about() {
        let pages = pages();
        let names: BTreeSet<&str> = pages.iter().map(|page| page.name).collect();
        assert!(pages.len() > 10 && names.len() == pages.len(), "{names:?}");
        for page in pages {
            let line = page.summary;
            assert!(page.name.len() < 18 && page.text.starts_with(&format!("# {}\n", page.title)), "{}", page.name);
            assert!((10..100).contains(&line.len()) && !line.contains('\n'), "{}: {line}", page.name);
        }
    }
}

//! The report: one self-contained HTML file. It is built from the ledger, the workspace and git; the commands gather that.
//!
//! It has only sums for the hold-out, and under the rule `paired` none for an edit that was not accepted. maud escapes
//! foreign texts, or they are JSON in an element that nothing runs. The page's policy lets only its own script run, known by
//! its digest, and lets nothing be fetched; a served page may ask its own server for a newer one.

mod claim;
mod diff;
mod edits;
mod failures;
mod inputs;
mod matrix;
mod plots;
mod progress;
mod reader;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

pub(crate) use diff::{Edit, room};
pub(crate) use inputs::{Inputs, TaskTraces};
pub(crate) use reader::{all, document, share, weight};

use super::text::harmless;
use crate::model::hash::base64;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Only in a served page: nothing else here sends a request.
const WATCH: &str = include_str!("watch.js");

/// The whole page. With a number it is one of those that are served: it then asks its server, and nothing else, for newer ones.
pub(crate) fn render(inputs: &Inputs<'_>, number: Option<u64>) -> String {
    let watch = number.map_or(String::new(), |_| format!(" 'sha256-{}'; connect-src 'self'", digest(WATCH)));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'{watch}; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        digest(SCRIPT),
        digest(STYLE)
    );
    let columns = inputs.history.columns();
    let rows = matrix::order(inputs.history, &columns);
    let sections: [(&str, &str, Markup); 8] = [
        ("claim", "What may be claimed", claim::section(inputs.history)),
        ("scores", "val_score over the verdicts", progress::scores(inputs.history)),
        ("matrix", "Train tasks", matrix::section(inputs.history, &columns, &rows)),
        ("flips", "Fixed and broken on train", progress::flips(inputs.history)),
        ("cost", "Money and time", progress::cost(inputs.history)),
        ("outcomes", "How train trials ended", progress::outcomes(inputs.history, &columns)),
        ("edits", "The edits", edits::section(inputs)),
        ("failures", "What fails now", failures::section(inputs, &columns, &rows)),
    ];
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (harmless(&inputs.name)) " – autoharness report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (harmless(&inputs.name)) }
                    p class="meta" { "autoharness " (env!("CARGO_PKG_VERSION")) ", made " (inputs.made) ". " @if number.is_none() { "Nothing here is fetched, and nothing leaves this file." } }
                    @if number.is_some() { p class="meta" id="live" role="status" {} }
                    nav aria-label="Sections" {
                        @for (id, title, _) in &sections { a href=(format!("#{id}")) { (title) } }
                        button id="theme" type="button" { "light / dark" }
                    }
                    div class="search" {
                        label for="search" { "Search all traces" }
                        input id="search" type="search" autocomplete="off" spellcheck="false";
                        p id="found" aria-live="polite" {}
                    }
                    noscript { p { "Without JavaScript everything is here but the traces; they lie in workspace/traces/." } }
                }
                main data-page=[number] {
                    @for (number, (id, title, body)) in sections.iter().enumerate() {
                        section id=(id) aria-labelledby=(format!("{id}-title")) {
                            h2 id=(format!("{id}-title")) { (number + 1) ". " (title) }
                            (body)
                        }
                    }
                }
                dialog id="reader" aria-labelledby="reader-title" {
                    div class="bar-top" {
                        h2 id="reader-title" {}
                        button id="close" type="button" { "Close (Esc)" }
                    }
                    p id="reader-about" {}
                    div id="sides" {}
                }
                // The script runs nothing of it: it is read as JSON, and shown as text.
                script type="application/json" id="data" { (PreEscaped(reader::data(inputs, &columns, &rows))) }
                script { (PreEscaped(SCRIPT)) }
                @if number.is_some() { script { (PreEscaped(WATCH)) } }
            }
        }
    };
    page.into_string()
}

/// SHA-256 of a text, in base64 as a policy wants it.
fn digest(text: &str) -> String {
    base64(&Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_that_browsers_know() {
        // The digest of nothing, and an example of the specification (CSP level 2).
        assert_eq!(digest(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(digest("alert('Hello, world.');"), "qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
    }

    #[test]
    fn the_script_writes_no_markup_and_the_style_fetches_nothing() {
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "fetch(",
            "XMLHttp",
            "http:",
            "https:",
        ] {
            assert!(!SCRIPT.contains(word), "{word}");
            assert!(word == "fetch(" || !WATCH.contains(word), "{word}");
        }
        for word in ["url(", "@import"] {
            assert!(!STYLE.contains(word), "{word}");
        }
        assert!(!SCRIPT.contains("</script") && !WATCH.contains("</script") && !STYLE.contains("</style"));
    }
}

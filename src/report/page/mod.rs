//! The report as web pages: one self-contained file per experiment, and an index over all.
//!
//! | part | owns |
//! | --- | --- |
//! | [`experiment`] | what stands on an experiment's page |
//! | [`index`] | the index, made from the summaries that lie beside the pages |
//! | `words` | times, sizes and counts in words |
//! | `*.html`, `style.css`, `script.js` | templates |
//!
//! Templates escape whatever they are given; only what this program rendered itself (plots, tables) is put in as
//! it is. A page asks nothing of any network, and its content security policy forbids it to.

pub mod experiment;
pub mod index;
mod words;

#[cfg(test)]
mod tests;

use minijinja::{Environment, Value, context};
use std::sync::LazyLock;

/// A template that can't be rendered: a defect of the program.
#[derive(Debug, thiserror::Error)]
#[error("can't make the page {page}: {message}")]
pub struct PageError {
    pub page: String,
    pub message: String,
}

const LAYOUT: &str = "layout.html";
const EXPERIMENT: &str = "experiment.html";
const INDEX: &str = "index-of-reports.html";

/// The templates. Their names end in `.html`, which turns escaping on.
static TEMPLATES: LazyLock<Result<Environment<'static>, String>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    for (name, text) in [
        (LAYOUT, include_str!("layout.html")),
        (EXPERIMENT, include_str!("experiment.html")),
        (INDEX, include_str!("index.html")),
    ] {
        environment
            .add_template(name, text)
            .map_err(|error| format!("{error:#}"))?;
    }
    Ok(environment)
});

fn render(template: &str, page: &str, values: Value) -> Result<String, PageError> {
    let failed = |message: String| PageError {
        page: page.to_owned(),
        message,
    };
    let templates = TEMPLATES.as_ref().map_err(|error| failed(error.clone()))?;
    templates
        .get_template(template)
        .and_then(|template| template.render(values))
        .map_err(|error| failed(format!("{error:#}")))
}

/// A whole page around `body`.
fn whole(page: &str, title: &str, body: String) -> Result<String, PageError> {
    // Known to this page's own script and style, and to no label that got into it: it depends on all of them.
    let nonce = blake3::hash(body.as_bytes()).to_hex()[..24].to_owned();
    render(
        LAYOUT,
        page,
        context! {
            title,
            nonce,
            version => env!("CARGO_PKG_VERSION"),
            style => Value::from_safe_string(include_str!("style.css").to_owned()),
            script => Value::from_safe_string(include_str!("script.js").to_owned()),
            body => Value::from_safe_string(body),
        },
    )
}

/// Text for a template: without what is invisible or turns the direction of writing.
fn clean(text: &str) -> String {
    crate::report::text::clean(text)
}

//! The documentation of the views: `docs/views.md`, which the program carries.

const PAGE: &str = include_str!("../../docs/views.md");

/// A view of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewDoc {
    pub name: String,
    /// What a row is.
    pub text: String,
    pub columns: Vec<ColumnDoc>,
}

/// A column of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDoc {
    pub name: String,
    /// `text`, `integer` or `real`; any column may be NULL where its text says so.
    pub kind: String,
    pub text: String,
}

/// The documented views in the page's order.
pub fn view_docs() -> Vec<ViewDoc> {
    let mut views: Vec<ViewDoc> = Vec::new();
    for line in PAGE.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            views.push(ViewDoc {
                name: name.trim_matches('`').to_owned(),
                text: String::new(),
                columns: Vec::new(),
            });
            continue;
        }
        let Some(view) = views.last_mut() else {
            continue;
        };
        if line.starts_with("| `") {
            let mut cells = line.trim_matches('|').splitn(3, '|').map(str::trim);
            let mut next = || cells.next().unwrap_or("").to_owned();
            view.columns.push(ColumnDoc {
                name: next().trim_matches('`').to_owned(),
                kind: next(),
                text: next(),
            });
        } else if !line.starts_with('|') && !line.is_empty() {
            if !view.text.is_empty() {
                view.text.push(' ');
            }
            view.text.push_str(line);
        }
    }
    views
}

//! Arguments with placeholders: `--lr={optimizer.lr}`.
//!
//! `{PATH}` stands for a value of the stage's configuration; `{{` and `}}` are the braces themselves.

use super::problem::{Position, Report};

/// A text with placeholders, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    pub position: Position,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Place(String),
}

impl Template {
    /// Reads `text`.
    pub fn parse(text: &str, position: Position) -> Result<Template, Report> {
        let wrong = |message: String, hint: &str| {
            Err(Report::error(position, message).hint(hint.to_owned()))
        };
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, found) = rest.split_at(at);
            plain.push_str(before);
            let brace = &found[..1];
            if found[1..].starts_with(brace) {
                plain.push_str(brace);
                rest = &found[2..];
                continue;
            }
            if brace == "}" {
                return wrong(
                    format!("`{text}` closes a placeholder that it doesn't open"),
                    "write `}}` for the brace itself",
                );
            }
            let Some(end) = found.find('}') else {
                return wrong(
                    format!("`{text}` doesn't close a placeholder"),
                    "write `{path}`, or `{{` for the brace itself",
                );
            };
            let name = found[1..end].trim();
            if name.is_empty() || name.contains('{') {
                return wrong(
                    format!("`{}` is no placeholder", &found[..=end]),
                    "write `{path}`, or `{{` for the brace itself",
                );
            }
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Place(name.to_owned()));
            rest = &found[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Template { position, pieces })
    }

    /// Names of the placeholders.
    pub fn places(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Place(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The text, with what `value` says of each placeholder.
    pub fn fill(&self, mut value: impl FnMut(&str) -> String) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Place(name) => value(name),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Template, Report> {
        Template::parse(text, Position::default())
    }

    #[test]
    fn placeholders_are_filled_and_braces_escaped() {
        let template = parse("a{x}{ y.z }b{{c}}").unwrap();
        assert_eq!(template.places().collect::<Vec<_>>(), ["x", "y.z"]);
        assert_eq!(template.fill(|name| format!("<{name}>")), "a<x><y.z>b{c}");
        assert_eq!(parse("").unwrap().fill(|_| unreachable!()), "");
        // What a value holds is no template.
        assert_eq!(parse("{x}").unwrap().fill(|_| "{x}".into()), "{x}");
    }

    #[test]
    fn halves_are_problems() {
        for (text, part) in [
            ("{x", "doesn't close"),
            ("x}", "doesn't open"),
            ("{}", "no placeholder"),
            ("{a{b}", "no placeholder"),
        ] {
            assert!(parse(text).unwrap_err().message.contains(part), "{text}");
        }
    }
}

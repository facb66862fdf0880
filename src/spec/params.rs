//! Free parameters: what stages of a program of the user's own can be told besides the recipe's fields.
//!
//! A parameter is declared by the section `params` of an experiment or a recipe, which gives it its kind
//! and its value; patches set it as `params.NAME`. Names may be dotted (`params.schedule.power`).

use super::document::{Content, Node, ScalarKind};
use super::problem::{Position, Report, is_invisible};
use super::value::Value;

/// The section's name.
pub const SECTION: &str = "params";

/// Most parameters of an experiment.
pub const MOST: usize = 500;

/// Longest text and longest list that a parameter holds.
const LONGEST_TEXT: usize = 10_000;
const LONGEST_LIST: usize = 10_000;

/// Whether `path` names a parameter.
pub fn is_path(path: &str) -> bool {
    name_of(path).is_some()
}

/// The parameter's name in a path: `width` of `params.width`.
pub fn name_of(path: &str) -> Option<&str> {
    path.strip_prefix(SECTION)?
        .strip_prefix('.')
        .filter(|name| !name.is_empty())
}

/// Whether `name` can be a parameter's.
pub fn check_name(name: &str, position: Position) -> Result<(), Report> {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
    };
    if name.len() <= 100 && name.split('.').all(plain) {
        return Ok(());
    }
    Err(
        Report::error(position, format!("`{name}` is no name for a parameter"))
            .hint("use letters, digits, `_` and `-`, a letter first; `.` joins parts"),
    )
}

/// The value in `node`: a scalar, null, or a list of scalars.
pub fn read(name: &str, node: &Node) -> Result<Value, Report> {
    match &node.content {
        Content::List(items) => {
            if items.len() > LONGEST_LIST {
                let message = format!("`params.{name}` has more than {LONGEST_LIST} items");
                return Err(Report::error(node.position, message));
            }
            items
                .iter()
                .map(|item| scalar(name, item))
                .collect::<Result<_, _>>()
                .map(Value::List)
        }
        _ => scalar(name, node),
    }
}

fn scalar(name: &str, node: &Node) -> Result<Value, Report> {
    let wrong = |message: String| Err(Report::error(node.position, message));
    match &node.content {
        Content::Null => Ok(Value::Null),
        Content::Scalar(scalar) => match scalar.kind {
            ScalarKind::Bool(value) => Ok(Value::Bool(value)),
            ScalarKind::Integer(value) => Ok(Value::Integer(value)),
            ScalarKind::Number(value) if value.is_finite() => Ok(Value::number(value)),
            ScalarKind::Number(_) => wrong(format!("`params.{name}` must be finite")),
            // Plain YAML, and never meant as text.
            ScalarKind::Text if is_no_finite_number(&scalar.text) => {
                wrong(format!("`params.{name}` must be finite"))
            }
            ScalarKind::Text if scalar.text.len() > LONGEST_TEXT => wrong(format!(
                "`params.{name}` has more than {LONGEST_TEXT} bytes"
            )),
            // Lines of a script are fine.
            ScalarKind::Text
                if scalar
                    .text
                    .chars()
                    .any(|c| is_invisible(c) && c != '\n' && c != '\t') =>
            {
                wrong(format!("`params.{name}` contains an invisible character"))
            }
            ScalarKind::Text => Ok(Value::Text(scalar.text.clone())),
        },
        Content::List(_) | Content::Map(_) => wrong(format!(
            "`params.{name}` expects scalars, not {}",
            node.noun()
        )),
    }
}

/// Whether a text is YAML's infinity or NaN.
fn is_no_finite_number(text: &str) -> bool {
    let text = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
    text == ".inf" || text == ".nan"
}

/// What a value is, in words. Whole numbers are numbers.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Integer(_) | Value::Number(_) => "a number",
        Value::Text(_) => "a string",
        Value::List(_) => "a list",
    }
}

/// Whether a parameter that was declared as `declared` may be set to `value`. Null says nothing of a kind.
pub fn fits(declared: &Value, value: &Value) -> bool {
    *declared == Value::Null || *value == Value::Null || kind(declared) == kind(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::document;
    use crate::spec::problem::Sources;

    fn value(text: &str) -> Result<Value, Report> {
        let mut sources = Sources::default();
        let source = sources.add("x", text);
        read(
            "x",
            &document::parse(&sources, source, &mut Vec::new()).unwrap(),
        )
    }

    #[test]
    fn scalars_keep_their_kind() {
        assert_eq!(value("64").unwrap(), Value::Integer(64));
        assert_eq!(value("1e-3").unwrap(), Value::Number(1e-3));
        assert_eq!(value("true").unwrap(), Value::Bool(true));
        assert_eq!(value("no").unwrap(), Value::Text("no".into()));
        assert_eq!(value("null").unwrap(), Value::Null);
        let list = vec![Value::Integer(64), Value::Text("a".into())];
        assert_eq!(value("[64, a]").unwrap(), Value::List(list));
        assert!(
            value("[[1]]")
                .unwrap_err()
                .message
                .contains("expects scalars")
        );
        assert!(value(".inf").unwrap_err().message.contains("finite"));
    }

    #[test]
    fn whole_numbers_are_numbers() {
        assert!(fits(&Value::Integer(1), &Value::Number(0.5)));
        assert!(fits(&Value::Null, &Value::Text("x".into())));
        assert!(!fits(&Value::Number(1.0), &Value::Text("1".into())));
    }

    #[test]
    fn names_are_plain() {
        for good in ["a", "a.b-c", "_x9"] {
            assert!(check_name(good, Position::default()).is_ok(), "{good}");
        }
        for bad in ["9", "a..b", "a b", "", ".a"] {
            assert!(check_name(bad, Position::default()).is_err(), "{bad}");
        }
        assert_eq!(name_of("params.a.b"), Some("a.b"));
        assert!(!is_path("params") && !is_path("params.") && !is_path("paramsx.a"));
    }
}

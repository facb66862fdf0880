//! Values of recipe fields: from a node of a document to a typed value, and its canonical text.

use super::document::{Content, Node, Scalar, ScalarKind};
use super::fields::{Field, Kind, Range};
use super::problem::{Report, is_invisible, nearest};

/// A field's value. Equal values have equal canonical texts.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    /// Finite; no negative zero.
    Number(f64),
    Text(String),
    List(Vec<Value>),
}

impl Value {
    /// The text that fingerprints are made of; valid YAML and JSON.
    pub fn canonical(&self) -> String {
        match self {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            // Shortest text that reads back as the same number.
            Value::Number(value) => format!("{value:?}"),
            Value::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(Value::canonical).collect();
                format!("[{}]", items.join(","))
            }
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Number(value) => (*value).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Value::to_json).collect(),
        }
    }

    /// From JSON that a `Recipe` was turned into; `None` where the field can't hold it.
    pub fn from_json(field: &Field, json: &serde_json::Value) -> Option<Value> {
        if json.is_null() {
            return field.nullable.then_some(Value::Null);
        }
        let number = |json: &serde_json::Value| json.as_f64().map(Value::number);
        match field.kind {
            Kind::Bool => json.as_bool().map(Value::Bool),
            Kind::Integer { .. } => json.as_i64().map(Value::Integer),
            Kind::Number(_) => number(json),
            Kind::Pair(_) | Kind::Couple(_) => json
                .as_array()?
                .iter()
                .map(number)
                .collect::<Option<_>>()
                .map(Value::List),
            Kind::Choice(_) | Kind::Text | Kind::Policy => {
                json.as_str().map(|text| Value::Text(text.to_owned()))
            }
            Kind::Integers { .. } => json
                .as_array()?
                .iter()
                .map(|item| item.as_i64().map(Value::Integer))
                .collect::<Option<_>>()
                .map(Value::List),
            Kind::Choices(_) | Kind::Names => json
                .as_array()?
                .iter()
                .map(|item| item.as_str().map(|text| Value::Text(text.to_owned())))
                .collect::<Option<_>>()
                .map(Value::List),
        }
    }

    /// A number without negative zero.
    pub fn number(value: f64) -> Value {
        Value::Number(if value == 0.0 { 0.0 } else { value })
    }

    /// The number, of an integer too.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Integer(value) => Some(*value as f64),
            Value::Number(value) => Some(*value),
            _ => None,
        }
    }

    /// The non-negative integer.
    pub fn as_count(&self) -> Option<u64> {
        match self {
            Value::Integer(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Value] {
        match self {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The field's value in `node`, or what is wrong with it.
pub fn coerce(field: &Field, node: &Node) -> Result<Value, Report> {
    let path = field.path;
    let wrong = |message: String| Report::error(node.position, message);
    if node.content == Content::Null {
        return if field.nullable {
            Ok(Value::Null)
        } else {
            Err(wrong(format!(
                "`{path}` can't be null; it expects {}",
                expected(field)
            )))
        };
    }
    let mistyped = || {
        let report = wrong(format!(
            "`{path}` expects {}, not {}",
            expected(field),
            shown(node)
        ));
        match trap(field, node) {
            Some(hint) => report.hint(hint),
            None => report,
        }
    };
    match field.kind {
        Kind::Bool => match node.content {
            Content::Scalar(Scalar {
                kind: ScalarKind::Bool(value),
                ..
            }) => Ok(Value::Bool(value)),
            _ => Err(mistyped()),
        },
        Kind::Integer { min, max } => {
            number(node).ok_or_else(mistyped)?;
            integer(path, min, max, node).map(Value::Integer)
        }
        Kind::Number(range) => {
            let value = number(node).ok_or_else(mistyped)?;
            in_range(&range, value).map(Value::number).ok_or_else(|| {
                let words = range.words_against(value);
                wrong(format!("`{path}` must be {words}, not {}", node.brief()))
            })
        }
        Kind::Pair(range) | Kind::Couple(range) => {
            let Content::List(items) = &node.content else {
                return Err(mistyped());
            };
            let numbers: Vec<f64> = items.iter().filter_map(number).collect();
            if items.len() != 2 || numbers.len() != 2 {
                return Err(mistyped());
            }
            if let Some(index) = numbers.iter().position(|n| !range.contains(*n)) {
                let message = format!(
                    "`{path}` must be {}, not {}",
                    range.words_against(numbers[index]),
                    items[index].brief()
                );
                return Err(Report::error(items[index].position, message));
            }
            if matches!(field.kind, Kind::Pair(_)) && numbers[0] > numbers[1] {
                return Err(wrong(format!("`{path}` must ascend, not {}", node.brief())));
            }
            Ok(Value::List(
                numbers.into_iter().map(Value::number).collect(),
            ))
        }
        Kind::Choice(choices) => choice(path, choices, node).map(Value::Text),
        Kind::Choices(choices) => {
            let Content::List(items) = &node.content else {
                return Err(mistyped());
            };
            let chosen = distinct(path, items, |item| choice(path, choices, item))?;
            Ok(Value::List(chosen.into_iter().map(Value::Text).collect()))
        }
        // The order of a set says nothing, so equal sets have one text.
        Kind::Integers { min, max } => {
            let Content::List(items) = &node.content else {
                return Err(mistyped());
            };
            let mut found = distinct(path, items, |item| integer(path, min, max, item))?;
            found.sort_unstable();
            Ok(Value::List(found.into_iter().map(Value::Integer).collect()))
        }
        Kind::Names => {
            let Content::List(items) = &node.content else {
                return Err(mistyped());
            };
            let mut found = distinct(path, items, |item| name(path, item))?;
            found.sort_unstable();
            Ok(Value::List(found.into_iter().map(Value::Text).collect()))
        }
        Kind::Text => {
            let text = node.text().ok_or_else(mistyped)?;
            if text.trim().is_empty() {
                return Err(wrong(format!("`{path}` is empty")));
            }
            if text.chars().any(is_invisible) {
                return Err(wrong(format!("`{path}` contains an invisible character")));
            }
            Ok(Value::Text(text.to_owned()))
        }
        Kind::Policy => policy(path, node).map(Value::Text),
    }
}

fn number(node: &Node) -> Option<f64> {
    match &node.content {
        Content::Scalar(scalar) => match scalar.kind {
            ScalarKind::Integer(value) => Some(value as f64),
            ScalarKind::Number(value) => Some(value),
            _ => None,
        },
        _ => None,
    }
}

/// A whole number in `min..=max`.
fn integer(path: &str, min: i64, max: i64, node: &Node) -> Result<i64, Report> {
    let wrong = |message: String| Report::error(node.position, message);
    let value = number(node)
        .filter(|value| value.fract() == 0.0 && value.abs() < 9e15)
        .ok_or_else(|| {
            wrong(format!(
                "`{path}` expects a whole number, not {}",
                shown(node)
            ))
        })? as i64;
    if value < min || value > max {
        return Err(wrong(format!(
            "`{path}` must be {min} to {max}, not {value}"
        )));
    }
    Ok(value)
}

/// The items of a list, each by `read`, no two alike.
fn distinct<T: PartialEq + std::fmt::Display>(
    path: &str,
    items: &[Node],
    read: impl Fn(&Node) -> Result<T, Report>,
) -> Result<Vec<T>, Report> {
    let mut found: Vec<T> = Vec::with_capacity(items.len());
    for item in items {
        let value = read(item)?;
        if found.contains(&value) {
            let message = format!("`{path}` names `{value}` twice");
            return Err(Report::error(item.position, message));
        }
        found.push(value);
    }
    Ok(found)
}

/// Name of an evaluation set.
fn name(path: &str, node: &Node) -> Result<String, Report> {
    const LONGEST: usize = 64;
    let wrong = |message: String| Report::error(node.position, message);
    let Some(text) = node.text() else {
        return Err(wrong(format!(
            "`{path}` expects names of data sets, not {}",
            node.noun()
        )));
    };
    let plain = text.len() <= LONGEST
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !plain {
        return Err(wrong(format!(
            "`{path}` expects names of data sets, not {}",
            shown(node)
        ))
        .hint("a name has letters, digits, `-`, `_` and `.`, at most 64"));
    }
    if text == "val" {
        return Err(wrong(format!("`{path}` can't hold `val`"))
            .hint("it is always evaluated; leave it out"));
    }
    Ok(text.to_owned())
}

fn in_range(range: &Range, value: f64) -> Option<f64> {
    range.contains(value).then_some(value)
}

fn choice(path: &str, choices: &[&'static str], node: &Node) -> Result<String, Report> {
    let list = choices.join(", ");
    let Some(text) = node.text() else {
        let message = format!("`{path}` expects one of {list}, not {}", node.noun());
        return Err(Report::error(node.position, message));
    };
    if choices.contains(&text) {
        return Ok(text.to_owned());
    }
    let report = Report::error(
        node.position,
        format!("`{path}` must be one of {list}, not `{text}`"),
    );
    Err(match nearest(text, choices.iter().copied()) {
        Some(name) => report.hint(format!("did you mean `{name}`?")),
        None => report,
    })
}

fn policy(path: &str, node: &Node) -> Result<String, Report> {
    let Some(text) = node.text() else {
        let message = format!("`{path}` expects a string, not {}", node.noun());
        return Err(Report::error(node.position, message).hint(super::policy::HELP));
    };
    match super::policy::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err((why, advice)) => {
            let message = format!("`{path}`: {why}");
            Err(Report::error(node.position, message).hint(advice))
        }
    }
}

/// What a field expects, in words.
pub fn expected(field: &Field) -> String {
    let what = match field.kind {
        Kind::Bool => "`true` or `false`".to_owned(),
        Kind::Integer { .. } => "a whole number".to_owned(),
        Kind::Number(_) => "a number".to_owned(),
        Kind::Pair(_) | Kind::Couple(_) => "two numbers `[a, b]`".to_owned(),
        Kind::Choice(choices) => format!("one of {}", choices.join(", ")),
        Kind::Choices(choices) => format!("a list of {}", choices.join(", ")),
        Kind::Integers { .. } => "a list of whole numbers".to_owned(),
        Kind::Names => "a list of names of data sets".to_owned(),
        Kind::Text | Kind::Policy => "a string".to_owned(),
    };
    if field.nullable {
        format!("{what} or null")
    } else {
        what
    }
}

fn shown(node: &Node) -> String {
    match &node.content {
        Content::Scalar(scalar) if scalar.text.chars().count() <= 40 => match scalar.kind {
            ScalarKind::Text => format!("the string `{}`", scalar.text),
            _ => format!("`{}`", scalar.text),
        },
        _ => node.noun().to_owned(),
    }
}

/// The advice for scalars that mean something else in YAML 1.2 than people expect.
fn trap(field: &Field, node: &Node) -> Option<String> {
    let text = node.text()?;
    let lower = text.to_lowercase();
    if field.nullable && matches!(lower.as_str(), "none" | "off" | "no" | "false") {
        return Some("write `null` to switch it off".to_owned());
    }
    match field.kind {
        Kind::Bool => match lower.as_str() {
            "no" | "off" | "n" | "f" | "0" => Some(format!(
                "`{text}` is {} in YAML 1.2; write `false`",
                node.noun()
            )),
            "yes" | "on" | "y" | "t" | "1" => Some(format!(
                "`{text}` is {} in YAML 1.2; write `true`",
                node.noun()
            )),
            "true" | "false" => Some("write it without quotes".to_owned()),
            _ => None,
        },
        Kind::Integer { .. } | Kind::Number(_) => {
            let digits = lower.trim_start_matches(['+', '-']);
            if matches!(digits, ".nan" | ".inf" | "nan" | "inf" | "infinity") {
                Some("the number must be finite".to_owned())
            } else if digits.len() > 1
                && digits.starts_with('0')
                && digits
                    .bytes()
                    .all(|b| b.is_ascii_digit() || b == b'.' || b == b'_')
            {
                let decimal = digits.trim_start_matches('0');
                let decimal = if decimal.is_empty() || decimal.starts_with('.') {
                    format!("0{decimal}")
                } else {
                    decimal.to_owned()
                };
                Some(format!(
                    "a leading zero means octal to some readers of YAML and nothing to others; write `{decimal}`"
                ))
            } else if digits.contains('_') && digits.replace('_', "").parse::<f64>().is_ok() {
                Some(format!(
                    "YAML 1.2 has no `_` in numbers; write `{}`",
                    text.replace('_', "")
                ))
            } else if text.parse::<f64>().is_ok() {
                Some("write it without quotes".to_owned())
            } else if text.contains(',') && text.replace(',', ".").parse::<f64>().is_ok() {
                Some(format!("write `{}`", text.replace(',', ".")))
            } else if matches!(digits, "no" | "off" | "yes" | "on") {
                Some(format!("`{text}` is a string in YAML 1.2"))
            } else {
                None
            }
        }
        _ => None,
    }
}

//! Documents: a YAML text as a tree in which every node knows its place.
//!
//! Scalars follow the core schema of YAML 1.2, strictly: `true` and `false` are the only booleans,
//! `010` and `1_000` are strings. What a field expects is decided later (`spec::value`), where such
//! traps end in an error that names them. Anchors, aliases and merge keys work within a budget that
//! no honest file comes near.

use super::problem::{Position, Report, Sources, is_invisible};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml as yaml;
use std::collections::HashMap;
use std::fmt;

/// Largest text that is read, in bytes.
pub const MAX_BYTES: usize = 4 << 20;
/// Deepest nesting of lists and maps.
const MAX_DEPTH: usize = 48;
/// Most nodes, counted after the expansion of aliases.
const MAX_NODES: usize = 200_000;

/// Most nodes that aliases may add.
const MAX_REPLAYED: usize = 20_000;

/// A value in a document, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub position: Position,
    pub content: Content,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A scalar that is not null.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// As written, without quotes.
    pub text: String,
    pub kind: ScalarKind,
}

/// What a scalar is by the core schema.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScalarKind {
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text,
}

/// One entry of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub position: Position,
    pub value: Node,
}

impl Node {
    /// What the node is, for messages: `a list`.
    pub fn noun(&self) -> &'static str {
        match &self.content {
            Content::Null => "null",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
            Content::Scalar(scalar) => match scalar.kind {
                ScalarKind::Bool(_) => "a boolean",
                ScalarKind::Integer(_) | ScalarKind::Number(_) => "a number",
                ScalarKind::Text => "a string",
            },
        }
    }

    /// The scalar as written; `None` for lists, maps and null.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// A short form for messages and labels, as it would be written on one line.
    pub fn brief(&self) -> String {
        match &self.content {
            Content::Null => "null".to_owned(),
            Content::Scalar(scalar) => scalar.text.clone(),
            Content::List(items) => {
                format!(
                    "[{}]",
                    items.iter().map(Node::brief).collect::<Vec<_>>().join(", ")
                )
            }
            Content::Map(_) => "{...}".to_owned(),
        }
    }
}

/// Reads the text of source number `source`. `None`: it can't be read at all. Reports are added
/// to `reports` either way.
pub fn parse(sources: &Sources, source: u32, reports: &mut Vec<Report>) -> Option<Node> {
    let text = &*sources.get(source)?.text;
    let whole = Position {
        source,
        line: 0,
        column: 0,
    };
    if text.len() > MAX_BYTES {
        let message = format!(
            "the file has {} bytes; at most {MAX_BYTES} are read",
            text.len()
        );
        reports.push(Report::error(whole, message));
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(report) = invisible(text, source) {
        reports.push(report);
        return None;
    }
    let options = yaml::options! {
        budget: yaml::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: 2,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES + 100,
            max_anchors: 1_000,
            max_aliases: 1_000,
            max_merge_keys: 1_000,
        },
        alias_limits: yaml::alias_limits! {
            max_total_replayed_events: MAX_REPLAYED,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: yaml::options::DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: yaml::options::NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        emit_comments: false,
        with_snippet: false,
    };
    match yaml::from_str_with_options::<yaml::Spanned<Raw>>(text, options) {
        Ok(raw) => {
            let mut reader = Reader {
                text,
                source,
                reports,
                nodes: 0,
            };
            Some(reader.node(raw))
        }
        Err(error) => {
            let place = error.location().filter(|place| place.line() > 0);
            let position = place.map_or(whole, |place| position(source, place));
            let (message, hint) = describe(&error);
            let report = Report::error(position, message);
            reports.push(match hint {
                Some(hint) => report.hint(hint),
                None => report,
            });
            None
        }
    }
}

fn position(source: u32, place: yaml::Location) -> Position {
    Position {
        source,
        line: place.line() as u32,
        column: place.column() as u32,
    }
}

/// Control and bidirectional-formatting characters make a file show something else than it says.
fn invisible(text: &str, source: u32) -> Option<Report> {
    let bad = |c: char| is_invisible(c) && !matches!(c, '\n' | '\r' | '\t');
    let offset = text.find(bad)?;
    let before = &text[..offset];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = 1 + before.matches('\n').count() as u32;
    let column = 1 + before[start..].chars().count() as u32;
    let c = text[offset..].chars().next()?;
    let report = Report::error(
        Position {
            source,
            line,
            column,
        },
        format!("invisible character U+{:04X} is not allowed", c as u32),
    );
    Some(report.hint("remove it"))
}

/// The parser's error in one line, and advice for the ones that have a usual cause.
fn describe(error: &yaml::Error) -> (String, Option<String>) {
    use yaml::Error as E;
    use yaml::budget::BudgetBreach as Breach;
    const HONEST: &str = "no experiment needs that";
    let limit = match error.without_snippet() {
        E::Budget {
            breach: Breach::Depth { .. },
            ..
        } => Some(format!("nested deeper than {MAX_DEPTH} levels")),
        E::Budget {
            breach: Breach::Nodes { .. } | Breach::Events { .. },
            ..
        } => Some(format!("more than {MAX_NODES} values")),
        E::Budget { .. } => Some("too many anchors, aliases or merge keys".to_owned()),
        // Inside aliases and the scanner, errors come wrapped: what they say has to do.
        error => {
            let text = error.to_string();
            if text.contains("alias replay limit exceeded") {
                Some(format!("aliases stand for more than {MAX_REPLAYED} values"))
            } else if text.contains("recursion limit exceeded") {
                Some(format!("nested deeper than {MAX_DEPTH} levels"))
            } else {
                None
            }
        }
    };
    if let Some(limit) = limit {
        return (limit, Some(HONEST.to_owned()));
    }
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    // The position stands in front of our message already.
    let line = match line.find(" at line ") {
        Some(end) if !line[end..].contains('`') => &line[..end],
        _ => line,
    };
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let lower = line.to_lowercase();
    let hint = if matches!(error.without_snippet(), yaml::Error::Eof { .. }) {
        Some("the file is empty")
    } else if lower.contains("tab") {
        Some("indent with spaces")
    } else if lower.contains("multiple documents") {
        Some("one experiment a file: remove `---`")
    } else {
        None
    };
    (format!("not valid YAML: {line}"), hint.map(str::to_owned))
}

/// A node as the deserializer hands it over.
enum Raw {
    Null,
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<yaml::Spanned<Raw>>),
    Map(Vec<(yaml::Spanned<Raw>, yaml::Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(i64::try_from(value).map_or(Raw::Number(value as f64), Raw::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

/// Turns raw nodes into nodes: positions, texts as written, keys as strings, no key twice.
struct Reader<'a> {
    text: &'a str,
    source: u32,
    reports: &'a mut Vec<Report>,
    nodes: usize,
}

impl Reader<'_> {
    fn node(&mut self, raw: yaml::Spanned<Raw>) -> Node {
        self.nodes += 1;
        let position = position(self.source, raw.referenced);
        let written = self.written(raw.defined);
        let scalar = |kind, fallback: String| {
            Content::Scalar(Scalar {
                text: written.map_or(fallback, str::to_owned),
                kind,
            })
        };
        let content = match raw.value {
            Raw::Null => Content::Null,
            Raw::Bool(value) => scalar(ScalarKind::Bool(value), value.to_string()),
            Raw::Integer(value) => scalar(ScalarKind::Integer(value), value.to_string()),
            Raw::Number(value) => scalar(ScalarKind::Number(value), value.to_string()),
            Raw::Text(text) => Content::Scalar(Scalar {
                text,
                kind: ScalarKind::Text,
            }),
            Raw::List(items) => {
                Content::List(items.into_iter().map(|item| self.node(item)).collect())
            }
            Raw::Map(entries) => Content::Map(self.entries(entries)),
        };
        Node { position, content }
    }

    /// The characters of a plain scalar as they stand in the file.
    fn written(&self, place: yaml::Location) -> Option<&str> {
        let start = place.span().byte_offset()? as usize;
        let length = place.span().byte_len()? as usize;
        let written = self.text.get(start..start.checked_add(length)?)?.trim();
        (!written.is_empty() && written.len() < 64).then_some(written)
    }

    fn entries(&mut self, raw: Vec<(yaml::Spanned<Raw>, yaml::Spanned<Raw>)>) -> Vec<Entry> {
        let mut first: HashMap<String, Position> = HashMap::with_capacity(raw.len());
        let mut entries = Vec::with_capacity(raw.len());
        for (key, value) in raw {
            let key = self.node(key);
            let value = self.node(value);
            let name = match &key.content {
                Content::Scalar(scalar) => scalar.text.clone(),
                Content::Null => "null".to_owned(),
                _ => {
                    let message = format!("a key must be a scalar, this one is {}", key.noun());
                    self.reports.push(Report::error(key.position, message));
                    continue;
                }
            };
            if let Some(earlier) = first.get(&name) {
                let message = format!("key `{name}` stands twice in this map");
                let hint = format!("the other one is in line {}", earlier.line);
                self.reports
                    .push(Report::error(key.position, message).hint(hint));
                continue;
            }
            first.insert(name.clone(), key.position);
            entries.push(Entry {
                key: name,
                position: key.position,
                value,
            });
        }
        entries
    }
}

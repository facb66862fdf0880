//! Seeds: the replicates of every variant.

use super::document::{Content, Node, ScalarKind};
use super::problem::{Position, Report, Sources};

/// Seeds of the replicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seeds {
    /// 0, 1, ..., n - 1.
    Count(u64),
    List(Vec<u64>),
}

impl Seeds {
    /// How many.
    pub fn len(&self) -> u64 {
        match self {
            Seeds::Count(count) => *count,
            Seeds::List(list) => list.len() as u64,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The seeds themselves.
    pub fn to_vec(&self) -> Vec<u64> {
        match self {
            Seeds::Count(count) => (0..*count).collect(),
            Seeds::List(list) => list.clone(),
        }
    }
}

/// Reads `seeds`: a count or a list.
pub fn read_seeds(node: &Node, reports: &mut Vec<Report>) -> Seeds {
    let seed = |node: &Node| match &node.content {
        Content::Scalar(scalar) => match scalar.kind {
            ScalarKind::Integer(value) => u64::try_from(value).ok(),
            ScalarKind::Number(value) if value.fract() == 0.0 && (0.0..9e15).contains(&value) => {
                Some(value as u64)
            }
            _ => None,
        },
        _ => None,
    };
    const HINT: &str = "write a count (`3`) or a list (`[0, 1, 2]`)";
    if let Content::List(items) = &node.content {
        let mut list = Vec::with_capacity(items.len());
        let mut seen = std::collections::HashSet::new();
        for item in items {
            match seed(item) {
                Some(value) if !seen.insert(value) => {
                    reports.push(Report::error(
                        item.position,
                        format!("seed {value} stands twice"),
                    ));
                }
                Some(value) => list.push(value),
                None => {
                    let message =
                        format!("a seed is a whole number from 0, not `{}`", item.brief());
                    reports.push(Report::error(item.position, message));
                }
            }
        }
        if items.is_empty() {
            reports.push(Report::error(node.position, "`seeds` is empty").hint(HINT));
        }
        return Seeds::List(list);
    }
    match seed(node) {
        Some(0) => reports.push(Report::error(node.position, "`seeds` must be at least 1")),
        Some(count) => return Seeds::Count(count),
        None => {
            let message = format!("`seeds` expects a count or a list, not `{}`", node.brief());
            reports.push(Report::error(node.position, message).hint(HINT));
        }
    }
    Seeds::Count(1)
}

/// Reads `--seeds`.
pub fn read_seeds_argument(text: &str, sources: &mut Sources, reports: &mut Vec<Report>) -> Seeds {
    let source = sources.add(format!("--seeds {text}"), "");
    let position = Position {
        source,
        line: 0,
        column: 0,
    };
    let wrong = |reports: &mut Vec<Report>| {
        let message = format!("`{text}` is neither a count nor a list of seeds");
        reports.push(Report::error(position, message).hint("write `--seeds 5` or `--seeds 0,1,2`"));
        Seeds::Count(1)
    };
    if !text.contains(',') {
        return match text.trim().parse() {
            Ok(count) if count > 0 => Seeds::Count(count),
            _ => wrong(reports),
        };
    }
    let list: Result<Vec<u64>, _> = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::parse)
        .collect();
    match list {
        Ok(list) if !list.is_empty() => {
            let mut unique = list.clone();
            unique.sort_unstable();
            unique.dedup();
            if unique.len() == list.len() {
                Seeds::List(list)
            } else {
                wrong(reports)
            }
        }
        _ => wrong(reports),
    }
}

//! Reads the published numbers of the section, and the variants that they belong to.

use super::{DIRECTIONS, METRICS, Reader, all};
use crate::spec::document::Node;
use crate::spec::patch;
use crate::spec::problem::suggestion;
use crate::spec::published;
use crate::spec::report::{Direction, ReferenceSpec};

const REFERENCE_KEYS: &[&str] = &[
    "at",
    "id",
    "curve",
    "value",
    "std",
    "metric",
    "stage",
    "set",
    "direction",
    "source",
    "confidence",
];

impl Reader<'_> {
    pub(super) fn reference(&mut self, node: &Node) -> Option<ReferenceSpec> {
        let place = "a reference of `report`";
        let entries = patch::map(node, place, self.reports)?;
        let mut reference = ReferenceSpec {
            at: vec![None; self.axes.len()],
            ..ReferenceSpec::default()
        };
        let mut metric = None;
        let before = self.reports.len();
        for entry in entries {
            let node = &entry.value;
            match entry.key.as_str() {
                "at" => {
                    if let Some(labels) = self.labels(node, "`at`") {
                        reference.at = labels;
                    }
                }
                "id" => reference.id = self.published(node),
                "curve" => {
                    let names = published::curve_names();
                    let text = self.text(node, "`curve`")?;
                    if names.contains(&text) {
                        reference.curve = Some(text);
                    } else {
                        let hint = suggestion(&text, names.iter().map(String::as_str))
                            .or_else(|| Some(range(names)));
                        let message = format!("no published curve is called `{text}`");
                        self.error(node.position, message, hint);
                    }
                }
                "value" => reference.value = self.number(node, "`value`"),
                "std" => reference.std = self.positive(node, "`std`"),
                "metric" => metric = self.metric(node),
                "stage" => reference.stage = self.stage(node, "`stage`"),
                "set" => reference.set = self.text(node, "`set`"),
                "direction" => {
                    reference.direction = self
                        .choice(node, "direction", DIRECTIONS)
                        .and_then(|name| serde_json::from_value::<Direction>(name.into()).ok());
                }
                "source" => reference.source = self.text(node, "`source`").unwrap_or_default(),
                "confidence" => {
                    reference.confidence = self.text(node, "`confidence`").unwrap_or_default();
                }
                _ => self.unknown_key(entry, place, REFERENCE_KEYS),
            }
        }
        if self.reports.len() > before {
            return None;
        }
        let published = reference.id.as_deref().and_then(published::result);
        let statement = published.is_some_and(|row| row.value.is_none());
        match (&reference.id, reference.value) {
            (Some(id), _) if statement != reference.direction.is_some() => {
                let message = if statement {
                    format!(
                        "`{id}` is published as a statement without a number: say with `direction` what it says of \
                         these variants against the baseline"
                    )
                } else {
                    format!("`{id}` is published as a number, which has a direction of its own")
                };
                let hint = statement.then(|| all(DIRECTIONS));
                self.error(node.position, message, hint);
            }
            (None, _) if reference.direction.is_some() => {
                let message =
                    "`direction` is for an `id` that is published as a statement".to_owned();
                self.error(node.position, message, None);
            }
            (Some(_), Some(_)) => {
                let message = "a reference has an `id` or a `value`, not both".to_owned();
                self.error(node.position, message, None);
            }
            (None, Some(_)) if reference.source.is_empty() => {
                let message = "a published `value` needs its `source`".to_owned();
                self.error(node.position, message, None);
            }
            (None, None) if reference.curve.is_none() => {
                let message = format!("{place} needs an `id`, a `value` or a `curve`");
                self.error(node.position, message, None);
            }
            _ => {}
        }
        reference.metric = match (metric, published.filter(|_| !statement)) {
            (Some(metric), Some(row)) if metric != row.metric => {
                let message = format!("`{}` is published as {}, not {metric}", row.id, row.metric);
                self.error(node.position, message, None);
                metric
            }
            (_, Some(row)) => row.metric.clone(),
            (Some(metric), None) => metric,
            (None, None) => "top1".to_owned(),
        };
        Some(reference)
    }

    /// The number of a published result that has a value of a metric that we measure, or that is a statement.
    fn published(&mut self, node: &Node) -> Option<String> {
        let id = self.text(node, "`id`")?;
        match published::result(&id) {
            Some(row) if row.value.is_none() || METRICS.contains(&row.metric.as_str()) => {
                return Some(id);
            }
            Some(row) => {
                let message = format!(
                    "`{id}` is published as `{}`; a reference has one of {}",
                    row.metric,
                    METRICS.join(", ")
                );
                self.error(node.position, message, None);
            }
            None => {
                let ids: Vec<String> = published::results()
                    .iter()
                    .map(|row| row.id.clone())
                    .collect();
                let hint = suggestion(&id, ids.iter().map(String::as_str))
                    .map_or_else(|| range(&ids), |near| format!("{near} {}", range(&ids)));
                let message = format!("no published result is called `{id}`");
                self.error(node.position, message, Some(hint));
            }
        }
        None
    }
}

/// The names of a long list by its ends.
fn range(names: &[String]) -> String {
    match (names.first(), names.last()) {
        (Some(first), Some(last)) => format!(
            "known: {first} to {last} (`ablate query \"SELECT * FROM v_reference\"` lists the results)"
        ),
        _ => String::new(),
    }
}

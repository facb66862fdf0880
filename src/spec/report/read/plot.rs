//! Reads the plots of the section.

use super::{PLOT_KINDS, PLOT_X, Reader, all};
use crate::spec::document::Node;
use crate::spec::patch;
use crate::spec::report::{PlotKind, PlotSpec, PlotX};

const PLOT_KEYS: &[&str] = &[
    "kind", "name", "title", "metric", "x", "stage", "rows", "columns", "count",
];

impl Reader<'_> {
    pub(super) fn plots(&mut self, node: &Node) -> Vec<PlotSpec> {
        let mut plots: Vec<PlotSpec> = Vec::new();
        for item in self.items(node, "`report.plots`") {
            let plot = if item.text().is_some() {
                self.choice(item, "plot", PLOT_KINDS)
                    .and_then(plot_kind)
                    .map(|kind| PlotSpec {
                        kind,
                        ..PlotSpec::default()
                    })
            } else {
                self.plot(item)
            };
            let Some(plot) = plot else { continue };
            let taken = plot.name.is_some() && plots.iter().any(|known| known.name == plot.name);
            if taken {
                let name = plot.name.as_deref().unwrap_or_default();
                self.error(
                    item.position,
                    format!("two plots are called `{name}`"),
                    None,
                );
            }
            plots.push(plot);
        }
        plots
    }

    fn plot(&mut self, node: &Node) -> Option<PlotSpec> {
        let place = "a plot of `report`";
        let entries = patch::map(node, place, self.reports)?;
        let mut plot = PlotSpec::default();
        let mut kind = None;
        for entry in entries {
            let node = &entry.value;
            match entry.key.as_str() {
                "kind" => kind = Some(self.choice(node, "plot", PLOT_KINDS)),
                "name" => plot.name = self.name(node, "`name`"),
                "title" => plot.title = self.text(node, "`title`"),
                "metric" => plot.metric = self.metric(node),
                "x" => {
                    plot.x = self
                        .choice(node, "quantity", PLOT_X)
                        .and_then(|name| serde_json::from_value::<PlotX>(name.into()).ok());
                }
                "stage" => plot.stage = self.stage(node, "`stage`"),
                "rows" => plot.rows = self.axis(node, "`rows`"),
                "columns" => plot.columns = self.axis(node, "`columns`"),
                "count" => {
                    let count = self.positive(node, "`count`");
                    plot.count = count.map(|count| count.round().clamp(1.0, 64.0) as u32);
                }
                _ => self.unknown_key(entry, place, PLOT_KEYS),
            }
        }
        match kind {
            Some(kind) => plot.kind = plot_kind(kind?)?,
            None => {
                let message = format!("{place} needs a `kind`");
                self.error(node.position, message, Some(all(PLOT_KINDS)));
                return None;
            }
        }
        Some(plot)
    }
}

fn plot_kind(name: &str) -> Option<PlotKind> {
    serde_json::from_value(name.into()).ok()
}

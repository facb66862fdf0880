//! The result by variant: every run as a ring, the mean with its 95 % t interval, the baseline as a line.

use super::canvas::{Anchor, Canvas, Text, draw};
use super::rows::{self, RowLabel, Rows};
use super::scale::Scale;
use super::series::{n_words, scale_for};
use super::style::{self, Look, Mark};
use super::{Plot, PlotError};
use crate::report::frame;
use crate::report::metric::Metric;
use crate::report::statistics::{Interval, Sample};
use crate::report::table::Cell;
use crate::report::table::cells::{Cells, Source};
use crate::report::text::sentence;
use polars::prelude::*;

/// Above this a plot is no longer read; the table and `results.csv` are.
const MOST_ROWS: usize = 80;

/// One variant of the plot.
struct Item {
    name: String,
    label: String,
    values: Vec<(u64, f64)>,
    sample: Option<Sample>,
    interval: Option<Interval>,
    /// Whether the interval is over images (one run) instead of over seeds.
    over_images: bool,
    state: String,
    baseline: Option<u32>,
    is_baseline: bool,
}

/// The plot; `None` where no variant has a result.
pub fn plot(cells: &Cells<'_>, source: &Source, name: String) -> Result<Option<Plot>, PlotError> {
    if cells.variants.len() > MOST_ROWS {
        return Ok(None);
    }
    let metric = cells.data.metric(&source.metric);
    let mut items: Vec<Item> = cells
        .variants
        .iter()
        .map(|variant| {
            let values = cells.values(variant.index, source).to_vec();
            let sample = cells.sample(variant.index, source);
            let over_seeds = sample.and_then(|sample| sample.t_interval());
            let over_images = cells.image_interval(variant, source);
            let baseline = cells.baseline(variant);
            let is_baseline = baseline == Some(variant.index);
            let state = match cells.value(variant, source, 0, true) {
                Cell::State(state) => state.words(),
                _ => String::new(),
            };
            Item {
                name: variant.name.to_owned(),
                label: cells.display_name(variant),
                values,
                sample,
                interval: over_seeds.or(over_images),
                over_images: over_seeds.is_none(),
                state,
                baseline,
                is_baseline,
            }
        })
        .collect();
    // Variants that share a baseline stand together, in the order of the plan.
    let mut order: Vec<Option<u32>> = Vec::new();
    for item in &items {
        if !order.contains(&item.baseline) {
            order.push(item.baseline);
        }
    }
    items.sort_by_key(|item| order.iter().position(|baseline| *baseline == item.baseline));

    let numbers: Vec<f64> = items
        .iter()
        .flat_map(|item| item.values.iter().map(|(_, value)| *value))
        .collect();
    let intervals = items
        .iter()
        .filter_map(|item| Some((item.interval?, item.values.len())));
    let Some(scale) = scale_for(&numbers, intervals) else {
        return Ok(None);
    };
    let svg = paint(
        &name,
        &items,
        scale,
        &metric,
        &order,
        &cells.data.experiment.title,
    )?;
    Ok(Some(Plot {
        caption: caption(cells, source, &items, &metric),
        svg,
        csv: csv(&items)?,
        name,
        pictures: Vec::new(),
    }))
}

fn paint(
    name: &str,
    items: &[Item],
    scale: Scale,
    metric: &Metric,
    order: &[Option<u32>],
    title: &str,
) -> Result<String, PlotError> {
    let labels: Vec<RowLabel> = items
        .iter()
        .map(|item| RowLabel::new(&item.label, item.is_baseline))
        .collect();
    let groups: Vec<usize> = items
        .iter()
        .map(|item| {
            let group = order.iter().position(|baseline| *baseline == item.baseline);
            group.unwrap_or_default()
        })
        .collect();
    let rows = Rows::new(&labels, &groups, scale, 0.0);
    draw(name, (style::WIDTH, rows.height), title, |canvas| {
        rows.draw_grid(canvas, &labels);
        for group in 0..order.len() {
            let members: Vec<usize> = (0..items.len())
                .filter(|index| groups[*index] == group)
                .collect();
            let mean = members
                .iter()
                .map(|index| &items[*index])
                .find(|item| item.is_baseline)
                .and_then(|item| item.sample)
                .map(|sample| sample.mean);
            if let (Some(mean), [first, .., last]) = (mean, &members[..]) {
                let x = rows.scale.at(mean);
                canvas.path(
                    &[(x, rows.places[*first].0), (x, rows.places[*last].1)],
                    style::FAINT_INK,
                    style::AXIS_LINE,
                    Some((3.0, 2.0)),
                );
            }
        }
        for (index, item) in items.iter().enumerate() {
            row(canvas, item, rows.middle(index), &rows);
        }
        rows.draw_axis(canvas, &metric.words);
    })
}

fn row(canvas: &mut Canvas<'_>, item: &Item, middle: f64, rows: &Rows) {
    let Some(sample) = item.sample else {
        canvas.text(
            &item.state,
            (rows.panel.left + style::GAP, middle),
            Anchor::Left,
            Text::FAINT,
        );
        return;
    };
    let look = if item.is_baseline {
        Look::baseline()
    } else {
        Look {
            mark: Mark::Circle,
            ..Look::of(0)
        }
    };
    // The runs a little below the mean, so that neither hides the other.
    let (mean_y, run_y) = if item.values.len() > 1 {
        (middle - 2.5, middle + 4.0)
    } else {
        (middle, middle)
    };
    if let Some(interval) = item.interval {
        let bounds = (interval.low, interval.high);
        rows::interval(
            canvas,
            &rows.scale,
            bounds,
            mean_y,
            look.colour,
            item.over_images,
        );
    }
    if item.values.len() > 1 {
        for (_, value) in &item.values {
            canvas.ring((rows.scale.at(*value), run_y), 1.7, look.colour);
        }
    }
    canvas.mark((rows.scale.at(sample.mean), mean_y), &look);
}

fn caption(cells: &Cells<'_>, source: &Source, items: &[Item], metric: &Metric) -> String {
    let counts = || {
        items
            .iter()
            .filter_map(|item| item.sample)
            .map(|sample| sample.n)
    };
    let several = items.iter().any(|item| item.values.len() > 1);
    let after = if cells.data.stages().len() > 1 {
        format!(" after {}", source.stage)
    } else {
        String::new()
    };
    let mut text = format!(
        "{}{after} by variant ({}).",
        sentence(&metric.words),
        n_words(counts())
    );
    if several {
        text.push_str(" Rings: single runs; marks: their mean with its 95 % t interval.");
    }
    if items
        .iter()
        .any(|item| item.over_images && item.interval.is_some())
    {
        text.push_str(
            " Dotted: a single run with the 95 % Wilson interval over the evaluation set's images.",
        );
    }
    if let Some(baseline) = cells.data.baseline_words() {
        text.push_str(&format!(
            " Dashed line: the mean of the baseline ({baseline})."
        ));
    }
    text
}

fn csv(items: &[Item]) -> Result<String, PlotError> {
    let rows: Vec<(&Item, Option<(u64, f64)>)> = items
        .iter()
        .flat_map(|item| {
            let values: Vec<_> = if item.values.is_empty() {
                vec![None]
            } else {
                item.values.iter().copied().map(Some).collect()
            };
            values.into_iter().map(move |value| (item, value))
        })
        .collect();
    let kind = |item: &Item| match (item.interval, item.over_images) {
        (None, _) => None,
        (Some(_), true) => Some("wilson over images"),
        (Some(_), false) => Some("t over seeds"),
    };
    let frame = df!(
        "variant" => rows.iter().map(|(item, _)| item.name.as_str()).collect::<Vec<_>>(),
        "baseline" => rows.iter().map(|(item, _)| item.is_baseline).collect::<Vec<_>>(),
        "seed" => rows.iter().map(|(_, value)| value.map(|value| value.0)).collect::<Vec<_>>(),
        "value" => rows.iter().map(|(_, value)| value.map(|value| value.1)).collect::<Vec<_>>(),
        "n" => rows.iter().map(|(item, _)| item.values.len() as u64).collect::<Vec<_>>(),
        "mean" => rows.iter().map(|(item, _)| item.sample.map(|sample| sample.mean)).collect::<Vec<_>>(),
        "low" => rows.iter().map(|(item, _)| item.interval.map(|interval| interval.low)).collect::<Vec<_>>(),
        "high" => rows.iter().map(|(item, _)| item.interval.map(|interval| interval.high)).collect::<Vec<_>>(),
        "interval" => rows.iter().map(|(item, _)| kind(item)).collect::<Vec<_>>(),
    )
    .map_err(|source| frame::FrameError { what: "the plot by variant", source })?;
    Ok(frame::to_csv(frame)?)
}

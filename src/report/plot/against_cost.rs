//! A metric against what it costs: training epochs, floating-point operations, parameters, or images per
//! second. One mark per variant; variants that differ only in what drives the cost are a line.

use super::against::{self, Point, Series, Sweep};
use super::scale::{Tick, extent};
use super::series::file_part;
use super::{Plot, PlotError};
use crate::report::background::VariantCost;
use crate::report::data::Variant;
use crate::report::metric;
use crate::report::table::cells::{Cells, Source};

/// What stands on the horizontal axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    Epochs,
    Flops,
    Parameters,
    Throughput,
}

/// More variants than this are no longer told apart.
pub(super) const MOST_VARIANTS: usize = 256;
/// Costs that differ by less than this factor are one: throughput is measured, and never twice the same.
pub(super) const SAME: f64 = 1.1;

impl Cost {
    pub const ALL: [Cost; 4] = [
        Cost::Epochs,
        Cost::Flops,
        Cost::Parameters,
        Cost::Throughput,
    ];

    /// Its name in an experiment file.
    pub fn name(self) -> &'static str {
        match self {
            Cost::Epochs => "epochs",
            Cost::Flops => "flops",
            Cost::Parameters => "parameters",
            Cost::Throughput => "throughput",
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Cost::Epochs => "training epochs",
            Cost::Flops => "floating-point operations of a run",
            Cost::Parameters => "parameters",
            Cost::Throughput => "training throughput",
        }
    }

    pub(super) fn of(self, cost: &VariantCost) -> Option<f64> {
        match self {
            Cost::Epochs => cost.epochs,
            Cost::Flops => Some(cost.flops),
            Cost::Parameters => Some(cost.parameters as f64),
            Cost::Throughput => cost.throughput,
        }
        .filter(|value| value.is_finite() && *value > 0.0)
    }
}

/// The plot of `source`'s metric against `cost`; `None` where the cost isn't known or is the same everywhere.
pub fn plot(
    cells: &Cells<'_>,
    source: &Source,
    cost: Cost,
    name: Option<String>,
) -> Result<Option<Plot>, PlotError> {
    if cells.variants.len() > MOST_VARIANTS {
        return Ok(None);
    }
    let costs: Vec<Option<f64>> = cells
        .variants
        .iter()
        .map(|variant| cost.of(&cells.data.background.cost(variant)?))
        .collect();
    let with_results: Vec<(usize, f64)> = costs
        .iter()
        .enumerate()
        .filter_map(|(index, cost)| Some((index, (*cost)?)))
        .filter(|(index, _)| {
            let variant = cells.variants[*index].index;
            cells.sample(variant, source).is_some()
        })
        .collect();
    let Some((low, high)) = extent(with_results.iter().map(|(_, value)| *value)) else {
        return Ok(None);
    };
    if high < low * SAME {
        return Ok(None);
    }
    let (factor, unit) = match cost {
        Cost::Epochs => (1.0, String::new()),
        Cost::Throughput => (1.0, "images/s".to_owned()),
        Cost::Flops => scaled(high, "FLOP"),
        Cost::Parameters => match high {
            high if high >= 1e9 => (1e9, "billions".to_owned()),
            high if high >= 1e6 => (1e6, "millions".to_owned()),
            _ => (1e3, "thousands".to_owned()),
        },
    };
    let driving = driving_axes(cells, &costs);
    let mut series: Vec<Series> = Vec::new();
    let mut keys: Vec<Vec<&str>> = Vec::new();
    for (index, value) in &with_results {
        let variant = &cells.variants[*index];
        let Some(point) = Point::of(cells, variant.index, source, value / factor) else {
            continue;
        };
        let key = key(variant, &driving);
        let place = keys.iter().position(|known| *known == key);
        let place = place.unwrap_or_else(|| {
            keys.push(key);
            series.push(Series {
                label: label(cells, variant, &driving),
                points: Vec::new(),
            });
            series.len() - 1
        });
        series[place].points.push(point);
    }
    for line in &mut series {
        line.points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    // Epochs are few and whole: each has its tick.
    let mut ticks: Vec<Tick> = Vec::new();
    if cost == Cost::Epochs {
        let mut values: Vec<f64> = with_results.iter().map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        ticks = values
            .into_iter()
            .map(|value| Tick {
                value,
                label: metric::number(value, 0),
            })
            .collect();
    }
    let several = cells.data.stages().len() > 1;
    let after = if several {
        format!(", over all stages, after {}", source.stage)
    } else {
        String::new()
    };
    against::plot(
        cells,
        Sweep {
            name: name.unwrap_or_else(|| format!("against-{}", file_part(cost.name()))),
            metric: &source.metric,
            words: cost.words(),
            unit: &unit,
            ticks,
            series,
            published: Vec::new(),
            baseline: None,
            after,
            log: Some(true),
            joined: driving.len() == 1,
        },
    )
}

/// The axes that the cost depends on: changing such an axis alone changes it somewhere by more than noise.
/// Empty where variants are named by their design.
fn driving_axes(cells: &Cells<'_>, costs: &[Option<f64>]) -> Vec<usize> {
    if !cells.by_labels() {
        return Vec::new();
    }
    let axes = cells.data.experiment.axes.len();
    (0..axes)
        .filter(|&axis| {
            let mut lowest_highest: Vec<(Vec<&str>, f64, f64)> = Vec::new();
            for (variant, cost) in cells.variants.iter().zip(costs) {
                let Some(cost) = *cost else { continue };
                let key = key(variant, &[axis]);
                match lowest_highest.iter_mut().find(|(known, ..)| *known == key) {
                    Some((_, low, high)) => (*low, *high) = (low.min(cost), high.max(cost)),
                    None => lowest_highest.push((key, cost, cost)),
                }
            }
            lowest_highest
                .iter()
                .any(|(_, low, high)| *high >= low * SAME)
        })
        .collect()
}

/// A variant's labels on all axes but `without`.
fn key<'a>(variant: &Variant<'a>, without: &[usize]) -> Vec<&'a str> {
    if without.is_empty() {
        return vec![variant.name];
    }
    variant
        .labels
        .iter()
        .enumerate()
        .filter(|(axis, _)| !without.contains(axis))
        .map(|(_, label)| label.as_str())
        .collect()
}

/// The name of a variant's line.
fn label(cells: &Cells<'_>, variant: &Variant<'_>, driving: &[usize]) -> String {
    if driving.is_empty() {
        return cells.display_name(variant);
    }
    let parts = key(variant, driving);
    if parts.is_empty() {
        "all variants".to_owned()
    } else {
        parts.join(", ")
    }
}

/// The SI prefix that leaves `value` at 1 to 1000, as a factor and the unit with it.
fn scaled(value: f64, unit: &str) -> (f64, String) {
    const PREFIXES: [(f64, &str); 7] = [
        (1e21, "Z"),
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
    ];
    let prefix = PREFIXES.into_iter().find(|(factor, _)| value >= *factor);
    let (factor, letter) = prefix.unwrap_or((1.0, ""));
    (factor, format!("{letter}{unit}"))
}

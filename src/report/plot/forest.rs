//! Forest plot: for each variant the difference to its baseline with the 95 % interval, and the line at
//! zero.

use super::canvas::{Anchor, Text, draw};
use super::rows::{self, RowLabel, Rows};
use super::series::{n_words, scale_for};
use super::style::{self, Look, Mark};
use super::{Plot, PlotError};
use crate::report::data::Variant;
use crate::report::frame;
use crate::report::metric::{self, Metric};
use crate::report::statistics::{Interval, Method};
use crate::report::table::cells::{Cells, Source};
use crate::report::table::{Cell, Delta, Verdict};
use crate::spec::report::Correction;
use polars::prelude::*;

/// Above this a plot is no longer read.
const MOST_ROWS: usize = 80;

/// One comparison.
struct Item<'a> {
    variant: &'a Variant<'a>,
    label: String,
    baseline: u32,
    /// Or, where there is none, why.
    difference: Result<Delta, String>,
    /// Dunnett's difference and interval, which are shown where there are any.
    simultaneous: Option<(f64, Interval)>,
    /// Runs of the variant and of its baseline.
    n: (usize, usize),
}

impl Item<'_> {
    fn interval(&self) -> Option<Interval> {
        if let Some((_, interval)) = self.simultaneous {
            return Some(interval);
        }
        let (interval, _) = self.difference.as_ref().ok()?.interval?;
        Some(interval)
    }

    fn method(&self) -> Option<Method> {
        let (_, method) = self.difference.as_ref().ok()?.interval?;
        self.simultaneous.is_none().then_some(method)
    }

    fn mean(&self) -> Option<f64> {
        match self.simultaneous {
            Some((mean, _)) => Some(mean),
            None => Some(self.difference.as_ref().ok()?.mean),
        }
    }

    /// Better, worse or unclear, by mark as well as by colour; as in the tables, after the correction for the number
    /// of comparisons.
    fn look(&self) -> Look {
        match self.difference.as_ref().map(|delta| delta.verdict) {
            Ok(Verdict::Better) => Look {
                mark: Mark::Triangle,
                ..Look::of(0)
            },
            Ok(Verdict::Worse) => Look {
                mark: Mark::TriangleDown,
                ..Look::of(1)
            },
            _ => Look {
                mark: Mark::Circle,
                colour: style::FAINT_INK,
                dash: None,
                joined: false,
            },
        }
    }
}

/// The plot of `source`'s metric; `None` without a baseline or without a difference.
pub fn plot(cells: &Cells<'_>, source: &Source, name: String) -> Result<Option<Plot>, PlotError> {
    let metric = cells.data.metric(&source.metric);
    let family = cells.family(source);
    let mut items: Vec<Item<'_>> = cells
        .variants
        .iter()
        .filter_map(|variant| {
            let baseline = cells
                .baseline(variant)
                .filter(|own| *own != variant.index)?;
            let (ours, theirs) = (
                cells.values(variant.index, source),
                cells.values(baseline, source),
            );
            Some(Item {
                variant,
                label: cells.display_name(variant),
                baseline,
                difference: match cells.delta(variant, source, 0) {
                    // As in the tables: of single runs with known images, the interval over those.
                    Cell::Delta(delta) => Ok(delta),
                    _ => Err(match cells.value(variant, source, 0, true) {
                        Cell::State(state) => state.words(),
                        // It is the baseline that has no result.
                        _ => "no baseline".to_owned(),
                    }),
                },
                simultaneous: family
                    .get((variant.index, baseline))
                    .and_then(|comparison| comparison.simultaneous),
                n: (ours.len(), theirs.len()),
            })
        })
        .collect();
    if items.iter().all(|item| item.difference.is_err()) || items.len() > MOST_ROWS {
        return Ok(None);
    }
    let mut order: Vec<u32> = Vec::new();
    for item in &items {
        if !order.contains(&item.baseline) {
            order.push(item.baseline);
        }
    }
    let group = |item: &Item<'_>| order.iter().position(|baseline| *baseline == item.baseline);
    items.sort_by_key(&group);
    let groups: Vec<usize> = items
        .iter()
        .map(|item| group(item).unwrap_or_default())
        .collect();

    // The zero line is part of the picture.
    let numbers: Vec<f64> = items.iter().filter_map(Item::mean).chain([0.0]).collect();
    let intervals = items
        .iter()
        .filter_map(|item| Some((item.interval()?, item.n.0.min(item.n.1))));
    let Some(scale) = scale_for(&numbers, intervals) else {
        return Ok(None);
    };
    let decimals = family.decimals(cells.decimals(source));
    let means: Vec<String> = items
        .iter()
        .map(|item| {
            let mean = item.mean();
            mean.map_or(String::new(), |mean| metric::signed(mean, decimals))
        })
        .collect();
    let widest = means
        .iter()
        .map(|text| Text::TICK.width(text))
        .fold(0.0, f64::max);
    let labels: Vec<RowLabel> = items
        .iter()
        .map(|item| RowLabel::new(&item.label, false))
        .collect();
    let rows = Rows::new(&labels, &groups, scale, widest + style::GAP + 2.0);
    let words = metric.difference_words();
    let svg = draw(
        &name,
        (style::WIDTH, rows.height),
        &cells.data.experiment.title,
        |canvas| {
            rows.draw_grid(canvas, &labels);
            let zero = rows.scale.at(0.0);
            canvas.line(
                (zero, rows.panel.top),
                (zero, rows.panel.bottom),
                style::INK,
                style::AXIS_LINE,
            );
            for (index, (item, text)) in items.iter().zip(&means).enumerate() {
                let y = rows.middle(index);
                let mean = match (&item.difference, item.mean()) {
                    (Ok(difference), mean) => mean.unwrap_or(difference.mean),
                    (Err(state), _) => {
                        let left = (rows.panel.left + style::GAP, y);
                        canvas.text(state, left, Anchor::Left, Text::FAINT);
                        continue;
                    }
                };
                let look = item.look();
                if let Some(Interval { low, high }) = item.interval() {
                    rows::interval(canvas, &rows.scale, (low, high), y, look.colour, false);
                }
                canvas.mark((rows.scale.at(mean), y), &look);
                canvas.text(
                    text,
                    (style::WIDTH - style::MARGIN, y),
                    Anchor::Right,
                    Text::TICK,
                );
            }
            rows.draw_axis(canvas, &words);
        },
    )?;
    Ok(Some(Plot {
        caption: caption(cells, &items, &metric, source),
        csv: csv(cells, &items)?,
        svg,
        name,
        pictures: Vec::new(),
    }))
}

fn caption(cells: &Cells<'_>, items: &[Item<'_>], metric: &Metric, source: &Source) -> String {
    let family = cells.family(source);
    let stage = &source.stage;
    let baseline =
        cells
            .data
            .baseline_words()
            .map_or("the baseline".to_owned(), |words| match words.as_str() {
                "baseline" => "the baseline".to_owned(),
                words => format!("the baseline ({words})"),
            });
    let after = if cells.data.stages().len() > 1 {
        format!(" after {stage}")
    } else {
        String::new()
    };
    let unit = match metric.difference_unit() {
        Some(unit) => format!(", in {unit}"),
        None => String::new(),
    };
    let counts = items
        .iter()
        .filter(|item| item.difference.is_ok())
        .flat_map(|item| [item.n.0, item.n.1]);
    let mut text = format!(
        "Difference in {}{after} to {baseline}{unit} ({}).",
        metric.words.trim_end_matches(" (%)"),
        n_words(counts)
    );
    let has = |method| items.iter().any(|item| item.method() == Some(method));
    let mut kinds = match (has(Method::Paired), has(Method::Welch)) {
        (true, false) => vec!["paired t over the shared seeds"],
        (false, true) => vec!["Welch's t"],
        (true, true) => vec![
            "paired t over shared seeds, Welch's t where those are fewer than two or less than half",
        ],
        (false, false) => Vec::new(),
    };
    if has(Method::Images) {
        kinds.push("of two single runs a bootstrap over the evaluation set's images");
    }
    if items.iter().any(|item| item.simultaneous.is_some()) {
        kinds.push("Dunnett's simultaneous ones, which all hold their difference at once");
    }
    if kinds.is_empty() {
        text.push_str(" There is no spread over seeds, and so no interval.");
        return text;
    }
    let name = match family.correction {
        Correction::None => None,
        Correction::Holm => Some("Holm"),
        Correction::Dunnett => Some("Dunnett"),
    };
    let marks = match name {
        Some(name) if items.len() > 1 => format!(
            "Triangle up: better, down: worse, by p ({name}) for {} comparisons; circle: not told from zero.",
            items.len()
        ),
        _ => "Triangle up: better, down: worse, circle: the interval holds zero.".to_owned(),
    };
    let corrected = if items.len() == 1 || items.iter().all(|item| item.simultaneous.is_some()) {
        ""
    } else {
        ", each for itself"
    };
    text.push_str(&format!(
        " Bars: 95 % intervals ({}){corrected}; an arrow head: it goes on. {marks}",
        kinds.join("; ")
    ));
    text
}

fn csv(cells: &Cells<'_>, items: &[Item<'_>]) -> Result<String, PlotError> {
    let name = |index: u32| {
        cells
            .variants
            .iter()
            .find(|variant| variant.index == index)
            .map(|variant| variant.name)
    };
    let method = |item: &Item<'_>| match item.method() {
        _ if item.simultaneous.is_some() => Some("dunnett simultaneous"),
        Some(Method::Paired) => Some("paired t"),
        Some(Method::Welch) => Some("welch t"),
        Some(Method::Images) => Some("images"),
        None => None,
    };
    let frame = df!(
        "variant" => items.iter().map(|item| item.variant.name).collect::<Vec<_>>(),
        "baseline" => items.iter().map(|item| name(item.baseline)).collect::<Vec<_>>(),
        "n" => items.iter().map(|item| item.n.0 as u64).collect::<Vec<_>>(),
        "n_baseline" => items.iter().map(|item| item.n.1 as u64).collect::<Vec<_>>(),
        "delta" => items.iter().map(Item::mean).collect::<Vec<_>>(),
        "low" => items.iter().map(|item| item.interval().map(|interval| interval.low)).collect::<Vec<_>>(),
        "high" => items.iter().map(|item| item.interval().map(|interval| interval.high)).collect::<Vec<_>>(),
        "interval" => items.iter().map(method).collect::<Vec<_>>(),
        "state" => items.iter().map(|item| item.difference.as_ref().err().map(String::as_str)).collect::<Vec<_>>(),
    )
    .map_err(|source| frame::FrameError { what: "the forest plot", source })?;
    Ok(frame::to_csv(frame)?)
}

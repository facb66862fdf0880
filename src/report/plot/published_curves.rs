//! Published training curves beside ours, where the experiment file references them. The published runs are longer
//! and of other data, so each curve is drawn over the share of its own training unless the lengths are alike.

use super::canvas::draw;
use super::chart::{Axis, Chart};
use super::curves::{self, Line, MOST_BANDS, marked};
use super::scale::{Scale, extent};
use super::series::{file_part, n_words};
use super::style::{self, Look};
use super::{Plot, PlotError};
use crate::report::data::Variant;
use crate::report::frame;
use crate::report::table::cells::Cells;
use crate::report::text::sentence;
use crate::spec::published;
use crate::spec::report::ReferenceSpec;
use polars::prelude::*;

/// Lengths that differ by less than this factor are one.
const SAME: f64 = 1.1;
/// More published curves than this can't be told apart by their marks.
const MOST: usize = 7;

/// A published curve: its name with model and resolution, its source, (epoch, value).
struct Theirs {
    label: String,
    source: String,
    points: Vec<(f64, f64)>,
}

/// One plot per stage, or of `only` one, that the file references curves for; their metric is top-1.
pub fn plots(cells: &Cells<'_>, only: Option<&str>) -> Result<Vec<Plot>, PlotError> {
    let references: Vec<&ReferenceSpec> = cells
        .data
        .experiment
        .report
        .reference
        .iter()
        .filter(|reference| reference.curve.is_some())
        .collect();
    if references.is_empty() {
        return Ok(Vec::new());
    }
    let last = cells.data.stages().last();
    let mut plots = Vec::new();
    for (position, stage) in cells.data.stages().iter().enumerate() {
        let of_stage: Vec<&ReferenceSpec> = references
            .iter()
            .copied()
            .filter(|reference| reference.stage.as_ref().or(last) == Some(stage))
            .collect();
        if of_stage.is_empty() || only.is_some_and(|only| only != stage) {
            continue;
        }
        // Ours are the variants that the references belong to.
        let mut own = cells.clone();
        own.variants
            .retain(|variant| of_stage.iter().any(|reference| belongs(reference, variant)));
        if own.variants.is_empty() || own.variants.len() > curves::MOST_LINES {
            continue;
        }
        let set = &cells.sets()[0];
        let points = frame::curve_points(cells.data, stage, &format!("{set}/top1"));
        let ours = curves::lines(&own, position, &points, false);
        plots.extend(plot(cells, stage, set, &ours, theirs(&of_stage))?);
    }
    Ok(plots)
}

fn belongs(reference: &ReferenceSpec, variant: &Variant<'_>) -> bool {
    let mut labels = reference.at.iter().zip(variant.labels);
    labels.all(|(wanted, label)| wanted.as_ref().is_none_or(|wanted| wanted == label))
}

fn theirs(references: &[&ReferenceSpec]) -> Vec<Theirs> {
    let mut names: Vec<&str> = Vec::new();
    for name in references
        .iter()
        .filter_map(|reference| reference.curve.as_deref())
    {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
        .into_iter()
        .take(MOST)
        .filter_map(|name| {
            let (words, source) = published::curve_words(name)?;
            Some(Theirs {
                label: format!("published {name}: {words}"),
                source,
                points: published::curve(name),
            })
        })
        .filter(|theirs| theirs.points.len() > 1)
        .collect()
}

fn plot(
    cells: &Cells<'_>,
    stage: &str,
    set: &str,
    ours: &[Line],
    theirs: Vec<Theirs>,
) -> Result<Option<Plot>, PlotError> {
    let ends: Vec<f64> = ours
        .iter()
        .map(Line::end)
        .chain(
            theirs
                .iter()
                .filter_map(|curve| Some(curve.points.last()?.0)),
        )
        .collect();
    let Some((shortest, longest)) = extent(ends).filter(|_| !ours.is_empty()) else {
        return Ok(None);
    };
    let shares = longest > shortest * SAME;
    let at_x = |epoch: f64, end: f64| {
        if shares { 100.0 * epoch / end } else { epoch }
    };
    let with_bands = ours.len() <= MOST_BANDS;
    let band = |sd: Option<f64>| if with_bands { sd.unwrap_or(0.0) } else { 0.0 };
    let samples = || ours.iter().flat_map(|line| &line.points);
    let values = samples()
        .flat_map(|(_, s)| [s.mean - band(s.sd), s.mean + band(s.sd)])
        .chain(
            theirs
                .iter()
                .flat_map(|curve| curve.points.iter().map(|point| point.1)),
        );
    let Some((low, high)) = extent(values) else {
        return Ok(None);
    };
    let metric = cells.data.metric("top1");
    let x_scale = Scale::linear(0.0, if shares { 100.0 } else { longest });
    let y_scale = Scale::linear(low, high).padded(0.04);
    let x = Axis {
        label: if shares {
            "share of the training (%)".to_owned()
        } else {
            "epoch".to_owned()
        },
        scale: x_scale,
        ticks: x_scale.ticks(6, true),
    };
    let y = Axis {
        label: metric.words.clone(),
        scale: y_scale,
        ticks: y_scale.ticks(6, false),
    };
    let baselines: Vec<usize> = (0..ours.len())
        .filter(|index| ours[*index].is_baseline)
        .collect();
    let baseline = match baselines[..] {
        [one] => Some(one),
        _ => None,
    };
    let looks = Look::all(ours.len(), baseline);
    let their_looks: Vec<Look> = (0..theirs.len())
        .map(|index| Look {
            mark: Look::of(index + 4).mark,
            ..Look::published()
        })
        .collect();
    let entries = ours
        .iter()
        .map(|line| format!("ours: {}", line.label))
        .chain(theirs.iter().map(|curve| curve.label.clone()))
        .zip(looks.iter().chain(&their_looks).copied())
        .collect();
    let chart = Chart::new(x, y, entries);
    let several = cells.data.stages().len() > 1;
    let name = if several {
        format!("curves-published-{}", file_part(stage))
    } else {
        "curves-published".to_owned()
    };
    let title = &cells.data.experiment.title;
    let svg = draw(&name, (chart.width, chart.height), title, |canvas| {
        chart.draw(canvas);
        let at = |x: f64, y: f64| (chart.x.scale.at(x), chart.y.scale.at(y));
        for (index, (curve, look)) in theirs.iter().zip(&their_looks).enumerate() {
            let end = curve.points.last().map_or(1.0, |point| point.0);
            let path: Vec<_> = curve
                .points
                .iter()
                .map(|(epoch, value)| at(at_x(*epoch, end), *value))
                .collect();
            canvas.path(&path, look.colour, style::DATA_LINE, look.dash);
            for place in marked(path.len(), index, theirs.len()) {
                canvas.mark(path[place], look);
            }
        }
        for (index, (line, look)) in ours.iter().zip(&looks).enumerate() {
            let end = line.end();
            let x = |epoch: u32| at_x(f64::from(epoch), end);
            if with_bands && line.varies() {
                let edge = |sign: f64| {
                    line.points.iter().map(move |(epoch, sample)| {
                        at(x(*epoch), sample.mean + sign * sample.sd.unwrap_or(0.0))
                    })
                };
                let outline: Vec<_> = edge(1.0).chain(edge(-1.0).rev()).collect();
                canvas.area(&outline, look.colour, style::BAND);
            }
            let path: Vec<_> = line
                .points
                .iter()
                .map(|(epoch, sample)| at(x(*epoch), sample.mean))
                .collect();
            canvas.path(&path, look.colour, style::DATA_LINE, look.dash);
            for place in marked(path.len(), index, ours.len()) {
                canvas.mark(path[place], look);
            }
        }
    })?;
    let after = if several {
        format!(" of {stage}")
    } else {
        String::new()
    };
    let mut sources: Vec<&str> = theirs.iter().map(|curve| curve.source.as_str()).collect();
    sources.dedup();
    let over = if shares {
        ", each over its own length"
    } else {
        ""
    };
    let caption = format!(
        "{} on {set} during the training{after}{over}. Coloured: ours, means over seeds ({}){}. Grey: published single runs, \
         each of its own setting ({}).",
        sentence(&metric.words),
        n_words(samples().map(|(_, sample)| sample.n)),
        if with_bands && ours.iter().any(Line::varies) {
            " with bands of one standard deviation"
        } else {
            ""
        },
        sources.join("; ")
    );
    Ok(Some(Plot {
        csv: csv(ours, &theirs)?,
        name,
        caption,
        svg,
        pictures: Vec::new(),
    }))
}

fn csv(ours: &[Line], theirs: &[Theirs]) -> Result<String, PlotError> {
    /// Series, epoch, n, mean, standard deviation.
    type Row = (String, f64, Option<u64>, f64, Option<f64>);
    let mut rows: Vec<Row> = Vec::new();
    for line in ours {
        rows.extend(line.points.iter().map(|(epoch, sample)| {
            let n = Some(sample.n as u64);
            (
                line.label.clone(),
                f64::from(*epoch),
                n,
                sample.mean,
                sample.sd,
            )
        }));
    }
    for curve in theirs {
        let points = curve.points.iter();
        rows.extend(points.map(|(epoch, value)| (curve.label.clone(), *epoch, None, *value, None)));
    }
    let frame = df!(
        "series" => rows.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(),
        "epoch" => rows.iter().map(|row| row.1).collect::<Vec<_>>(),
        "n" => rows.iter().map(|row| row.2).collect::<Vec<_>>(),
        "mean" => rows.iter().map(|row| row.3).collect::<Vec<_>>(),
        "sd" => rows.iter().map(|row| row.4).collect::<Vec<_>>(),
    )
    .map_err(|source| frame::FrameError {
        what: "the published curves",
        source,
    })?;
    Ok(frame::to_csv(frame)?)
}

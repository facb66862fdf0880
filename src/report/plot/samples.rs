//! What each augmentation does to the same pictures: a row of samples per policy, like the figure of the
//! 3-Augment paper (DeiT III, arXiv 2204.07118, figure 3).
//!
//! The pictures are of the data set in the program whatever an experiment trained on, and every draw is keyed, so
//! the plot is the same on every machine.

use super::canvas::{Anchor, Rect, Text, draw};
use super::style;
use super::{Picture, Plot, PlotError, font};
use crate::data::ops::resize::{resize, shorter_side};
use crate::data::{Dataset, EvalTransform, Rgb8, Split, TrainTransform};
use crate::report::frame;
use crate::report::table::cells::Cells;
use crate::rng::{KeyedRng, Purpose};
use crate::spec::recipe::AugmentConfig;
use polars::prelude::*;

/// Pictures of each row, unless an experiment asks for another number.
const COLUMNS: usize = 6;
/// Classes of the data set in the program, each of which gives one picture.
const MOST_COLUMNS: usize = 9;
/// More policies than this don't fit a page.
const MOST_ROWS: usize = 12;
/// Variants beyond these have no configuration in memory.
const MOST_VARIANTS: usize = crate::report::background::MOST_CONFIGS as usize;
/// Side of a picture in the file, at most, in its own pixels.
const MOST_PIXELS: usize = 96;
const BETWEEN: f64 = 2.0;
const BETWEEN_ROWS: f64 = 4.0;
/// Share of the width that labels may take.
const LABELS: f64 = 0.27;
/// Seed of the draws: the plot shows kinds of change, not the samples of some run.
const SEED: u64 = 0;

struct Row {
    label: String,
    /// What was drawn for each picture, in words.
    draws: Vec<String>,
    pictures: Vec<Rgb8>,
}

/// The plot; `None` unless at least two variants differ in their augmentation.
///
/// `wanted`: the file asks for it, with this many pictures a row or the usual number; then one augmentation is
/// enough.
pub fn plot(
    cells: &Cells<'_>,
    name: String,
    wanted: Option<Option<u32>>,
) -> Result<Option<Plot>, PlotError> {
    if cells.variants.len() > MOST_VARIANTS {
        return Ok(None);
    }
    let policies = policies(cells);
    let least = if wanted.is_some() { 1 } else { 2 };
    let columns = wanted
        .flatten()
        .map_or(COLUMNS, |count| (count as usize).clamp(1, MOST_COLUMNS));
    if policies.len() < least || policies.len() > MOST_ROWS {
        return Ok(None);
    }
    let failed = |message: String| PlotError::Draw {
        plot: name.clone(),
        message,
    };
    let originals = originals(columns).map_err(|error| failed(error.to_string()))?;
    let resolution = policies
        .iter()
        .map(|(_, _, side)| *side)
        .max()
        .unwrap_or(48);
    let plain = EvalTransform::new(resolution, 1.0).map_err(|error| failed(error.to_string()))?;
    let mut rows = vec![Row {
        label: "as they are".to_owned(),
        draws: vec![String::new(); originals.len()],
        pictures: originals
            .iter()
            .map(|(_, image)| small(&plain.crop(image)))
            .collect(),
    }];
    for (label, config, side) in &policies {
        let transform =
            TrainTransform::new(config, *side).map_err(|error| failed(error.to_string()))?;
        let mut row = Row {
            label: label.clone(),
            draws: Vec::new(),
            pictures: Vec::new(),
        };
        for (index, (_, image)) in originals.iter().enumerate() {
            let mut rng = KeyedRng::new(SEED, Purpose::Augment, 0, index as u64);
            let draw = transform.draw(image.width(), image.height(), &mut rng);
            row.draws.push(words(&draw));
            row.pictures
                .push(small(&transform.apply_draw(image, &draw)));
        }
        rows.push(row);
    }
    let (svg, pictures) = paint(&name, &rows, originals.len(), &cells.data.experiment.title)?;
    Ok(Some(Plot {
        caption: format!(
            "What the training transforms do to the same {} pictures (of the data set in the program), \
             one row per augmentation, before normalisation, random erasing and mixing.",
            originals.len()
        ),
        csv: csv(&rows, &originals)?,
        svg,
        name,
        pictures,
    }))
}

/// The distinct augmentations of the variants' first stages: label, configuration, training resolution.
fn policies(cells: &Cells<'_>) -> Vec<(String, AugmentConfig, usize)> {
    let mut found: Vec<(String, AugmentConfig, usize)> = Vec::new();
    let axes = &cells.data.experiment.axes;
    // Where variants also differ in other things, only the axes that change the augmentation name a row.
    let mut specs = Vec::new();
    for variant in &cells.variants {
        let spec = cells.data.background.config(variant, 0);
        // A program of the user's own does what it likes to images.
        if let Some(spec) = spec.filter(|spec| spec.command.is_none()) {
            specs.push((variant, spec));
        }
    }
    let tells = |axis: usize| {
        specs.iter().any(|(a, one)| {
            specs.iter().any(|(b, other)| {
                one.recipe.augment != other.recipe.augment
                    && a.labels
                        .iter()
                        .zip(b.labels)
                        .enumerate()
                        .all(|(own, (a, b))| (a != b) == (own == axis))
            })
        })
    };
    let telling: Vec<usize> = (0..axes.len()).filter(|axis| tells(*axis)).collect();
    for (variant, spec) in &specs {
        if found
            .iter()
            .any(|(_, known, _)| *known == spec.recipe.augment)
        {
            continue;
        }
        let label = if cells.by_labels() && !telling.is_empty() {
            let labels = telling.iter().filter_map(|axis| variant.labels.get(*axis));
            labels.cloned().collect::<Vec<_>>().join(", ")
        } else {
            cells.display_name(variant)
        };
        let recipe = &spec.recipe;
        found.push((label, recipe.augment.clone(), recipe.train.resolution));
    }
    found
}

/// One picture of each of the classes that show the most, from the train split: class and image. Much of the
/// Earth is one colour, on which no operation shows.
fn originals(columns: usize) -> Result<Vec<(String, Rgb8)>, crate::data::DataError> {
    /// Every so many files are looked at.
    const STEP: usize = 10;
    let data = Dataset::embedded();
    let mut best: Vec<Option<(f64, std::sync::Arc<Rgb8>)>> = vec![None; data.classes().len()];
    for index in (0..data.len(Split::Train)).step_by(STEP) {
        let image = data.image(Split::Train, index)?;
        let contrast = contrast(&image);
        let label = data.label(Split::Train, index) as usize;
        if let Some(known) = best.get_mut(label)
            && known.as_ref().is_none_or(|(most, _)| contrast > *most)
        {
            *known = Some((contrast, image));
        }
    }
    let mut chosen: Vec<(usize, f64, std::sync::Arc<Rgb8>)> = best
        .into_iter()
        .enumerate()
        .filter_map(|(label, found)| found.map(|(contrast, image)| (label, contrast, image)))
        .collect();
    chosen.sort_by(|a, b| b.1.total_cmp(&a.1));
    chosen.truncate(columns);
    chosen.sort_by_key(|(label, ..)| *label);
    Ok(chosen
        .into_iter()
        .map(|(label, _, image)| (data.classes()[label].clone(), (*image).clone()))
        .collect())
}

/// Variance of the bytes, with that between the channels' means: a picture with structure and colour.
fn contrast(image: &Rgb8) -> f64 {
    let bytes = image.data();
    let n = bytes.len() as f64;
    let mean = bytes.iter().map(|byte| f64::from(*byte)).sum::<f64>() / n;
    let squares: f64 = bytes
        .iter()
        .map(|byte| (f64::from(*byte) - mean).powi(2))
        .sum();
    squares / n
}

/// At most [`MOST_PIXELS`] wide and high.
fn small(image: &Rgb8) -> Rgb8 {
    if image.width().min(image.height()) <= MOST_PIXELS {
        return image.clone();
    }
    let (width, height) = shorter_side(image.width(), image.height(), MOST_PIXELS);
    resize(image, width, height)
}

/// What was drawn, for the data beside the plot.
fn words(draw: &crate::data::transform::Draw) -> String {
    let mut parts = vec![format!("{:?}", draw.crop)];
    if draw.hflip {
        parts.push("hflip".to_owned());
    }
    parts.extend(draw.ops.iter().map(|op| format!("{op:?}")));
    parts.join("; ")
}

fn paint(
    name: &str,
    rows: &[Row],
    columns: usize,
    title: &str,
) -> Result<(String, Vec<Picture>), PlotError> {
    let room = style::WIDTH * LABELS;
    let labels: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let label = crate::report::text::clean(&row.label);
            font::wrap(&label, style::SMALL_TEXT, false, room, 3)
        })
        .collect();
    let widest = labels
        .iter()
        .flatten()
        .map(|line| Text::TICK.width(line))
        .fold(0.0, f64::max);
    let left = style::MARGIN + widest + style::GAP + 2.0;
    let side =
        (style::WIDTH - style::MARGIN - left - BETWEEN * (columns - 1) as f64) / columns as f64;
    let height =
        2.0 * style::MARGIN + rows.len() as f64 * (side + BETWEEN_ROWS) - BETWEEN_ROWS + 4.0;
    let mut pictures = Vec::new();
    let svg = draw(name, (style::WIDTH, height), title, |canvas| {
        for (index, (row, lines)) in rows.iter().zip(&labels).enumerate() {
            // The originals stand a little apart.
            let gap = if index > 0 { 4.0 } else { 0.0 };
            let top = style::MARGIN + gap + index as f64 * (side + BETWEEN_ROWS);
            for (number, line) in lines.iter().enumerate() {
                let y = top + side / 2.0 + 10.5 * (number as f64 - (lines.len() - 1) as f64 / 2.0);
                let at = (left - style::GAP - 2.0, y);
                canvas.text(line, at, Anchor::Right, Text::TICK);
            }
            for (column, image) in row.pictures.iter().enumerate() {
                let x = left + column as f64 * (side + BETWEEN);
                pictures.push(Picture {
                    place: Rect {
                        left: x,
                        top,
                        right: x + side,
                        bottom: top + side,
                    },
                    image: image.clone(),
                });
            }
        }
    })?;
    let svg = super::picture::embed(name, &svg, &pictures)?;
    Ok((svg, pictures))
}

fn csv(rows: &[Row], originals: &[(String, Rgb8)]) -> Result<String, PlotError> {
    let cells: Vec<(&Row, usize)> = rows
        .iter()
        .flat_map(|row| (0..row.draws.len()).map(move |column| (row, column)))
        .collect();
    let frame = df!(
        "augmentation" => cells.iter().map(|(row, _)| row.label.as_str()).collect::<Vec<_>>(),
        "picture" => cells.iter().map(|(_, column)| *column as u32).collect::<Vec<_>>(),
        "class" => cells.iter().map(|(_, column)| originals[*column].0.as_str()).collect::<Vec<_>>(),
        "drawn" => cells.iter().map(|(row, column)| row.draws[*column].as_str()).collect::<Vec<_>>(),
    )
    .map_err(|source| frame::FrameError { what: "the samples", source })?;
    Ok(frame::to_csv(frame)?)
}

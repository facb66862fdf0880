//! Plots: plotters draws SVG, and PNG and PDF are made from that same SVG, so the three can't differ.
//!
//! One file per kind of plot; what they share lies in [`style`] (the house style), `canvas` (pen
//! and paper), `chart` (numeric axes), `rows` (labelled rows), `legend` and `picture`.

mod against;
mod against_cost;
mod canvas;
mod chart;
mod curves;
mod font;
mod forest;
mod heatmap;
mod legend;
mod pdf;
mod picture;
mod published_curves;
mod raster;
mod reason;
mod rows;
mod samples;
mod scale;
mod series;
mod slopes;
pub mod style;
mod sweep;
mod test_resolution;
mod variants;
mod wanted;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod wanted_tests;

pub use against_cost::Cost;
pub use pdf::pdf;
pub use picture::Picture;
pub use raster::png;

use super::data::ExperimentData;
use super::frame::FrameError;
use super::table::build::headline;
use super::table::cells::Cells;
use curves::Curves;

/// Curves of more variants than this can't be told apart, and aren't drawn.
pub const MOST_CURVES: usize = curves::MOST_LINES;

/// A plot and the numbers in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// Stem of its files (`curves-val-top1`).
    pub name: String,
    /// What it shows, for the caption and for readers who don't see it.
    pub caption: String,
    pub svg: String,
    /// Its data as CSV.
    pub csv: String,
    /// Pictures in it, which the SVG holds too.
    pub pictures: Vec<Picture>,
}

/// Why a plot can't be made.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("can't draw {plot}: {message}")]
    Draw { plot: String, message: String },
    #[error("can't turn {plot} into a PNG: {message}")]
    Raster { plot: String, message: String },
    #[error("can't turn {plot} into a PDF: {message}")]
    Pdf { plot: String, message: String },
}

/// The plots of an experiment, and why some that its file asks for are missing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plots {
    pub drawn: Vec<Plot>,
    /// Sentences for readers of the report.
    pub missing: Vec<String>,
}

/// The plots that the experiment file lists, else all that the results allow.
pub fn plots(data: &ExperimentData) -> Result<Plots, PlotError> {
    plots_of(&Cells::new(data)?)
}

/// [`plots`] of results that are grouped already.
pub(super) fn plots_of(cells: &Cells<'_>) -> Result<Plots, PlotError> {
    let mut plots = Plots::default();
    match &cells.data.experiment.report.plots {
        Some(specs) => {
            for spec in specs {
                let found = wanted::plots(cells, spec)?;
                if found.is_empty() {
                    plots.missing.push(reason::missing(cells, spec));
                }
                // `usual` beside one of its kinds: each plot once.
                for plot in found {
                    if !plots.drawn.contains(&plot) || spec.name.is_some() {
                        plots.drawn.push(plot);
                    }
                }
            }
        }
        None => plots.drawn = usual(cells)?,
    }
    tell_apart(&mut plots.drawn);
    // A screen reader hears what each of them shows.
    for plot in &mut plots.drawn {
        let shows = plot.caption.split(". ").next().unwrap_or_default();
        let title = format!("{}: {shows}", cells.data.experiment.title);
        plot.svg = canvas::entitle(&plot.svg, title.trim_start_matches(": "));
    }
    Ok(plots)
}

/// All plots that the results allow, where the file lists none.
fn usual(cells: &Cells<'_>) -> Result<Vec<Plot>, PlotError> {
    let mut plots = Vec::new();
    let headline = headline(cells);
    plots.extend(variants::plot(cells, &headline, "result".to_owned())?);
    plots.extend(forest::plot(cells, &headline, "forest".to_owned())?);
    plots.extend(sweep::plots(cells, &headline, "", None)?);
    plots.extend(test_resolution::plots(cells, &headline, None)?);
    plots.extend(heatmap::plot(
        cells,
        &headline,
        "heatmap".to_owned(),
        [None, None],
    )?);
    plots.extend(slopes::plot(cells, &headline, "slopes".to_owned())?);
    // Throughput depends on what else a machine did: only on request.
    for cost in [Cost::Flops, Cost::Parameters] {
        plots.extend(against_cost::plot(cells, &headline, cost, None)?);
    }
    let metric = Curves::Metric(&headline.metric);
    plots.extend(curves::plots(cells, metric, None)?);
    plots.extend(published_curves::plots(cells, None)?);
    for what in [Curves::TrainLoss, Curves::EvalLoss, Curves::LearningRate] {
        plots.extend(curves::plots(cells, what, None)?);
    }
    plots.extend(samples::plot(cells, "samples".to_owned(), None)?);
    Ok(plots)
}

/// Numbers plots whose names are alike (two axes may end in the same word).
fn tell_apart(plots: &mut [Plot]) {
    let mut known: Vec<String> = Vec::new();
    for plot in plots {
        let stem = plot.name.clone();
        let mut number = 2;
        while known.contains(&plot.name) {
            plot.name = format!("{stem}-{number}");
            number += 1;
        }
        known.push(plot.name.clone());
    }
}

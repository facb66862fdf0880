//! Plots: plotters draws SVG, and the PNG is made from that same SVG, so the two can't differ.
//!
//! One file per kind of plot; what they share lies in [`style`] (the house style), `canvas` (pen
//! and paper), `chart` (axes) and `legend`.

mod against;
mod canvas;
mod chart;
mod curves;
mod font;
mod legend;
mod raster;
mod scale;
mod series;
pub mod style;
mod sweep;
mod test_resolution;
mod variants;

#[cfg(test)]
mod tests;

pub use raster::png;

use super::data::ExperimentData;
use super::frame::FrameError;
use super::table::cells::Cells;

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
}

/// All plots that the experiment's results allow: none before the first result.
pub fn plots(data: &ExperimentData) -> Result<Vec<Plot>, PlotError> {
    let cells = Cells::new(data)?;
    let mut plots = Vec::new();
    plots.extend(variants::plot(&cells)?);
    plots.extend(sweep::plots(&cells)?);
    plots.extend(test_resolution::plots(&cells)?);
    plots.extend(curves::plots(&cells)?);
    tell_apart(&mut plots);
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

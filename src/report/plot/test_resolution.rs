//! The headline metric against the test resolution, where a stage's final weights were evaluated at
//! several: one line per variant (Touvron et al., "Fixing the train-test resolution discrepancy",
//! arXiv 1906.06423).

use super::against::{self, Point, Series, Sweep};
use super::scale::Tick;
use super::series::file_part;
use super::{Plot, PlotError};
use crate::report::table::cells::{Cells, Source};

/// One plot of `source`'s metric per stage, or of `only` one, with several test resolutions.
pub fn plots(
    cells: &Cells<'_>,
    source: &Source,
    only: Option<&str>,
) -> Result<Vec<Plot>, PlotError> {
    let stages = cells.data.stages();
    let several: Vec<&String> = stages
        .iter()
        .filter(|stage| cells.resolutions(stage).count() > 1)
        .filter(|stage| only.is_none_or(|only| only == stage.as_str()))
        .collect();
    let mut plots = Vec::new();
    for stage in &several {
        plots.extend(plot(
            cells,
            source,
            stage,
            several.len() > 1,
            stages.len() > 1,
        )?);
    }
    Ok(plots)
}

fn plot(
    cells: &Cells<'_>,
    headline: &Source,
    stage: &str,
    in_name: bool,
    in_caption: bool,
) -> Result<Option<Plot>, PlotError> {
    let resolutions: Vec<u32> = cells.resolutions(stage).collect();
    let mut series = Vec::new();
    let mut baselines = Vec::new();
    for variant in &cells.variants {
        let points: Vec<Point> = resolutions
            .iter()
            .filter_map(|&resolution| {
                let source = Source {
                    stage: stage.to_owned(),
                    resolution: Some(resolution),
                    ..headline.clone()
                };
                Point::of(cells, variant.index, &source, f64::from(resolution))
            })
            .collect();
        if points.is_empty() {
            continue;
        }
        if cells.is_baseline(variant) {
            baselines.push(series.len());
        }
        series.push(Series {
            label: cells.display_name(variant),
            points,
        });
    }
    let ticks = resolutions
        .iter()
        .map(|&resolution| Tick {
            value: f64::from(resolution),
            label: resolution.to_string(),
        })
        .collect();
    let name = if in_name {
        format!("by-test-resolution-{}", file_part(stage))
    } else {
        "by-test-resolution".to_owned()
    };
    against::plot(
        cells,
        Sweep {
            name,
            metric: &headline.metric,
            words: "test resolution",
            unit: "px",
            ticks,
            series,
            published: Vec::new(),
            baseline: match baselines[..] {
                [one] => Some(one),
                _ => None,
            },
            after: if in_caption {
                format!(" after {stage}")
            } else {
                String::new()
            },
            log: None,
            joined: true,
        },
    )
}

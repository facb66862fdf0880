//! The plots that an experiment file lists under `report: plots:`.

use super::against_cost::{self, Cost};
use super::curves::{self, Curves};
use super::{
    Plot, PlotError, forest, heatmap, published_curves, samples, slopes, sweep, test_resolution,
    variants,
};
use crate::report::table::build::headline;
use crate::report::table::cells::{Cells, Source};
use crate::spec::report::{PlotKind, PlotSpec, PlotX};

/// The plots of one entry; none where the results don't allow them.
pub fn plots(cells: &Cells<'_>, spec: &PlotSpec) -> Result<Vec<Plot>, PlotError> {
    let source = source(cells, spec);
    let name = |usual: &str| spec.name.clone().unwrap_or_else(|| usual.to_owned());
    let stage = spec.stage.as_deref();
    let one = |plot: Option<Plot>| plot.into_iter().collect::<Vec<_>>();
    let mut plots = match spec.kind {
        PlotKind::Usual => super::usual(cells)?,
        PlotKind::Result => one(variants::plot(cells, &source, name("result"))?),
        PlotKind::Curves => {
            let metric = Curves::Metric(&source.metric);
            let mut plots = curves::plots(cells, metric, stage)?;
            if source.metric == "top1" {
                plots.extend(published_curves::plots(cells, stage)?);
            }
            plots
        }
        PlotKind::Loss => {
            let mut plots = curves::plots(cells, Curves::TrainLoss, stage)?;
            plots.extend(curves::plots(cells, Curves::EvalLoss, stage)?);
            plots
        }
        PlotKind::Lr => curves::plots(cells, Curves::LearningRate, stage)?,
        PlotKind::Against => one(against_cost::plot(cells, &source, cost(spec), None)?),
        PlotKind::Resolution => {
            let mut plots = sweep::plots(cells, &source, "resolution", stage)?;
            plots.extend(test_resolution::plots(cells, &source, stage)?);
            plots
        }
        PlotKind::Forest => one(forest::plot(cells, &source, name("forest"))?),
        PlotKind::Slopes => one(slopes::plot(cells, &source, name("slopes"))?),
        PlotKind::Heatmap => {
            let axes = [spec.rows.as_deref(), spec.columns.as_deref()];
            one(heatmap::plot(cells, &source, name("heatmap"), axes)?)
        }
        PlotKind::Samples => one(samples::plot(cells, name("samples"), Some(spec.count))?),
    };
    if spec.kind == PlotKind::Usual {
        return Ok(plots);
    }
    for plot in &mut plots {
        if let Some(name) = &spec.name {
            // Several plots of one entry are numbered like any that are named alike.
            plot.name.clone_from(name);
        }
        if let Some(title) = &spec.title {
            plot.caption = format!("{}. {}", title.trim_end_matches('.'), plot.caption);
        }
    }
    Ok(plots)
}

/// What an entry is about.
pub(super) fn source(cells: &Cells<'_>, spec: &PlotSpec) -> Source {
    let headline = headline(cells);
    Source {
        stage: spec.stage.clone().unwrap_or(headline.stage),
        metric: spec.metric.clone().unwrap_or(headline.metric),
        ..headline
    }
}

/// What `against` has along x.
pub(super) fn cost(spec: &PlotSpec) -> Cost {
    match spec.x.unwrap_or(PlotX::Flops) {
        PlotX::Epochs => Cost::Epochs,
        PlotX::Flops => Cost::Flops,
        PlotX::Parameters => Cost::Parameters,
        PlotX::Throughput => Cost::Throughput,
    }
}

//! The smallest effect that the runs at hand could have shown.

use super::cells::{Cells, Source};
use crate::report::metric;
use crate::report::statistics::{self, TEstimate};

/// From which size on a difference could have been told from zero, observed and true, by the spread of the
/// comparisons that are made; before that by the planned seeds, in standard deviations. `None` without a baseline, or
/// where one seed is all there will be.
pub fn words(cells: &Cells<'_>, source: &Source) -> Option<String> {
    cells.baseline.as_ref()?;
    let family = cells.family(source);
    let mut estimates: Vec<TEstimate> = family
        .comparisons
        .iter()
        .filter_map(|comparison| comparison.estimate())
        .collect();
    let half = |estimate: &TEstimate| estimate.interval().half_width();
    estimates.sort_by(|a, b| half(a).total_cmp(&half(b)));
    let (Some(least), Some(most)) = (estimates.first(), estimates.last()) else {
        return planned(cells);
    };
    let metric = cells.data.metric(&source.metric);
    let decimals = family.decimals(cells.decimals(source));
    let print = |value: f64| metric::number(value, decimals);
    let (least, most) = (print(half(least)), print(half(most)));
    let from = if least == most {
        metric.amount(&least)
    } else {
        format!("{least} to {}", metric.amount(&most))
    };
    // The comparison in the middle stands for all.
    let true_one = statistics::detectable_effect(&estimates[estimates.len() / 2]);
    Some(format!(
        "Smallest effect: by the spread of these runs, and before a correction for the number of comparisons, an \
         observed difference is told from zero from {from} on, the half-width of its interval; a true one of {} \
         would be with a probability of {:.0} %",
        metric.amount(&print(true_one)),
        100.0 * statistics::POWER
    ))
}

fn planned(cells: &Cells<'_>) -> Option<String> {
    let seeds = cells
        .variants
        .iter()
        .map(|variant| variant.runs.len())
        .min()?;
    let effect = statistics::smallest_effect(seeds);
    effect.is_finite().then(|| {
        format!(
            "Smallest effect: with {seeds} seeds a variant the paired interval tells an observed difference from zero \
             from {effect:.1} standard deviations between seeds on, less where a seed's results go together over the \
             variants"
        )
    })
}

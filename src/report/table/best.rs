//! The best of some cells.

use super::Cell;
use crate::report::metric::Metric;

/// Marks the best of `cells`: all whose printed mean is the best one's, so that values which can't be
/// told apart share it. Nothing is best among fewer than two, nor where all print alike.
pub fn mark_best(cells: &mut [&mut Cell], metric: &Metric) {
    let values = || {
        cells.iter().filter_map(|cell| match &**cell {
            Cell::Value(value) => Some(value),
            _ => None,
        })
    };
    if values().count() < 2 {
        return;
    }
    let Some(best) = values().reduce(|a, b| if metric.better(b.mean, a.mean) { b } else { a })
    else {
        return;
    };
    let best = best.printed();
    if values().all(|value| value.printed() == best) {
        return;
    }
    for cell in cells.iter_mut() {
        if let Cell::Value(value) = &mut **cell {
            value.best = value.printed() == best;
        }
    }
}

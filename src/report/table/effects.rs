//! Main effects and two-way interactions of a factorial design.

use super::build::{headline, title};
use super::cells::Cells;
use super::{Cell, Column, Delta, Kind, Row, Table, Verdict, caption};
use crate::report::data::axis_words;
use crate::report::statistics::{self, CellRuns, Factorial, Method};
use crate::spec::report::{DesignKind, TableSpec};
use std::collections::HashMap;

/// More effects than this are a screening, not a table.
const MOST_EFFECTS: usize = 100;

/// The table; `None` unless every combination of the axes' labels has a finished run, two axes vary, and
/// some spread is known.
pub fn table(cells: &Cells<'_>, spec: &TableSpec) -> Option<Table> {
    let data = cells.data;
    let axes = &data.experiment.axes;
    if data.experiment.report.design != DesignKind::Product {
        return None;
    }
    let source = headline(cells);
    let levels: Vec<usize> = axes.iter().map(|axis| axis.labels.len()).collect();
    let others: usize = levels.iter().map(|count| count - 1).sum();
    if others * others.saturating_sub(1) / 2 + others > 4 * MOST_EFFECTS {
        return None;
    }
    let runs: HashMap<Vec<usize>, CellRuns> = cells
        .variants
        .iter()
        .map(|variant| {
            let key = (0..axes.len())
                .map(|axis| cells.label_order(variant, axis))
                .collect();
            (key, cells.values(variant.index, &source).to_vec())
        })
        .collect();
    let design = Factorial::new(&levels, runs)?;
    let reference = |axis: usize| {
        let label = cells.baseline.as_ref()?.get(axis)?.as_ref()?;
        axes[axis].labels.iter().position(|known| known == label)
    };
    let references: Vec<usize> = (0..axes.len())
        .map(|axis| reference(axis).unwrap_or(0))
        .collect();
    let effects = design.effects(&references);
    if effects.is_empty() || effects.len() > MOST_EFFECTS {
        return None;
    }
    let p: Vec<f64> = effects.iter().map(|effect| effect.estimate.p()).collect();
    let adjusted = statistics::holm(&p);
    let metric = data.metric(&source.metric);
    let decimals = cells.decimals(&source);
    let paired = effects.iter().all(|effect| effect.paired);
    let rows: Vec<Row> = effects
        .iter()
        .zip(p.iter().zip(&adjusted))
        .map(|(effect, (p, adjusted))| {
            let words: Vec<String> = effect
                .factors
                .iter()
                .map(|&(axis, level, reference)| {
                    let labels = &axes[axis].labels;
                    format!(
                        "{}: {} against {}",
                        axis_words(&axes[axis].name),
                        labels[level],
                        labels[reference]
                    )
                })
                .collect();
            let interval = effect.estimate.interval();
            let is_main = effect.factors.len() == 1;
            let verdict = match (interval.contains(0.0), is_main) {
                (false, true) if metric.better(effect.estimate.mean, 0.0) => Verdict::Better,
                (false, true) => Verdict::Worse,
                // An interaction is neither good nor bad.
                _ => Verdict::Unclear,
            };
            let method = if effect.paired {
                Method::Paired
            } else {
                Method::Welch
            };
            let row = vec![
                Cell::Label(words.join(" × ")),
                Cell::Delta(Delta {
                    mean: effect.estimate.mean,
                    interval: Some((interval, method)),
                    decimals,
                    verdict,
                }),
                Cell::Probability(*p),
                Cell::Probability(*adjusted),
            ];
            Row {
                group: Some(
                    if is_main {
                        "main effects"
                    } else {
                        "interactions"
                    }
                    .to_owned(),
                ),
                ..Row::new(row)
            }
        })
        .collect();
    let how = if paired {
        "t intervals over the seeds' contrasts, since all variants have the same seeds"
    } else {
        "Satterthwaite's t intervals with a variance for each variant"
    };
    let caption = format!(
        "{}. Main effect: how much a label changes it against the other, averaged over the labels of the other \
         axes; interaction: how much larger the first effect is with the second label than with its reference. In \
         brackets 95 % intervals ({how}); {} effects, p (Holm) adjusted for their number.",
        caption::subject(cells, std::slice::from_ref(&source)),
        effects.len()
    );
    Some(Table {
        name: spec.name.clone(),
        title: title(cells, "main effects and interactions"),
        caption,
        footnotes: caption::footnotes(cells),
        columns: vec![
            Column::new("effect", Kind::Label),
            Column::new(format!("Δ {}", metric.short), Kind::Delta),
            Column::new("p (t)", Kind::Probability),
            Column::new("p (Holm)", Kind::Probability),
        ],
        rows,
        experiment: String::new(),
        transposed: false,
    })
}

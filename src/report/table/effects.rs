//! Main effects and two-way interactions of a factorial design.

use super::build::{headline, title};
use super::cells::Cells;
use super::{Cell, Column, Delta, Kind, Row, State, Table, Verdict, caption};
use crate::report::statistics::{self, CellRuns, Contrast, Factorial, Method};
use crate::spec::report::{DesignKind, TableSpec};
use std::collections::HashMap;

/// More effects than this are a screening, not a table.
const MOST_EFFECTS: usize = 100;

/// Whether the design is one of several axes with all combinations, each in two runs, and not too many effects.
pub fn suits(cells: &Cells<'_>) -> bool {
    let several = cells.variants.iter().all(|variant| variant.runs.len() > 1);
    several && design(cells).is_ok()
}

/// The axes' reference labels and the effects (axis, label, reference) of the design; or why it has none.
fn design(cells: &Cells<'_>) -> Result<(Vec<usize>, Vec<Contrast>), String> {
    let data = cells.data;
    let axes = &data.experiment.axes;
    if data.experiment.report.design != DesignKind::Product {
        return Err("the design isn't a product of axes".to_owned());
    }
    let levels: Vec<usize> = axes.iter().map(|axis| axis.labels.len()).collect();
    if levels.iter().filter(|count| **count > 1).count() < 2 {
        return Err("effects and interactions need two axes with several labels".to_owned());
    }
    let others: usize = levels.iter().map(|count| count - 1).sum();
    // Before the effects are listed.
    let many = || format!("there are more than {MOST_EFFECTS} effects");
    if others * others.saturating_sub(1) / 2 + others > 4 * MOST_EFFECTS {
        return Err(many());
    }
    if cells.variants.len() != levels.iter().product::<usize>() {
        return Err("the grid lacks a combination of the axes' labels".to_owned());
    }
    let reference = |axis: usize| {
        let label = cells.baseline.as_ref()?.get(axis)?.as_ref()?;
        axes[axis].labels.iter().position(|known| known == label)
    };
    let references: Vec<usize> = (0..axes.len())
        .map(|axis| reference(axis).unwrap_or(0))
        .collect();
    let contrasts = statistics::contrasts(&levels, &references);
    if contrasts.len() > MOST_EFFECTS {
        return Err(many());
    }
    Ok((references, contrasts))
}

/// The table; or why there is none.
pub fn table(cells: &Cells<'_>, spec: &TableSpec) -> Result<Table, String> {
    let data = cells.data;
    let axes = &data.experiment.axes;
    let (references, contrasts) = design(cells)?;
    let source = headline(cells);
    let levels: Vec<usize> = axes.iter().map(|axis| axis.labels.len()).collect();
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
    let metric = data.metric(&source.metric);
    let name = |factors: &[(usize, usize, usize)]| {
        let words: Vec<String> = factors
            .iter()
            .map(|&(axis, level, reference)| {
                let labels = &axes[axis].labels;
                format!(
                    "{}: {} against {}",
                    data.axis_words(axis),
                    labels[level],
                    labels[reference]
                )
            })
            .collect();
        Cell::Label(words.join(" × "))
    };
    let group = |factors: &[(usize, usize, usize)]| {
        let group = match factors.len() {
            1 => "main effects",
            _ => "interactions",
        };
        Some(group.to_owned())
    };
    let design = Factorial::new(&levels, runs);
    let effects = design
        .as_ref()
        .map(|design| design.effects(&references))
        .unwrap_or_default();
    let made = |caption: String, footnotes: Vec<String>, rows: Vec<Row>| Table {
        name: spec.name.clone(),
        title: title(cells, "main effects and interactions"),
        caption,
        footnotes,
        columns: vec![
            Column::new("effect", Kind::Label),
            Column::new(caption::delta_head(cells, &source), Kind::Delta),
            Column::new("p (t)", Kind::Probability),
            Column::new("p (Holm)", Kind::Probability),
        ],
        rows,
        experiment: String::new(),
        transposed: false,
    };
    // An effect needs the spread of every variant that it compares, where no two seeds are common to all.
    let single = cells
        .variants
        .iter()
        .find(|variant| cells.values(variant.index, &source).len() == 1)
        .map(|variant| format!("{} has a single run", cells.display_name(variant)));
    if effects.is_empty() {
        // A variant without a number, or nothing known of the spread.
        let without = cells
            .variants
            .iter()
            .find(|variant| cells.values(variant.index, &source).is_empty());
        let (state, why) = match without {
            Some(variant) => (
                cells.value(variant, &source, 0, true),
                format!("{} has no result", cells.display_name(variant)),
            ),
            None => (
                Cell::State(State::Missing),
                format!(
                    "nothing is known of the spread{}",
                    single.map_or(String::new(), |words| format!(": {words}"))
                ),
            ),
        };
        let rows = contrasts.iter().map(|factors| Row {
            group: group(factors),
            ..Row::new(vec![
                name(factors),
                state.clone(),
                Cell::State(State::Missing),
                Cell::State(State::Missing),
            ])
        });
        let caption = format!(
            "{}. An effect is averaged over all combinations of the axes' labels, and {why}.",
            caption::subject(cells, std::slice::from_ref(&source)),
        );
        return Ok(made(caption, caption::footnotes(cells), rows.collect()));
    }
    let effect = |factors: &Contrast| effects.iter().find(|effect| effect.factors == *factors);
    let p: Vec<Option<f64>> = contrasts
        .iter()
        .map(|factors| {
            let effect = effect(factors).filter(|effect| !effect.still)?;
            Some(effect.estimate.p())
        })
        .collect();
    let known: Vec<f64> = p.iter().flatten().copied().collect();
    // Planned ones that can't be made count.
    let mut adjusted = statistics::holm(&known, p.len()).into_iter();
    let adjusted: Vec<Option<f64>> = p.iter().map(|p| p.and_then(|_| adjusted.next())).collect();
    let decimals = cells.decimals(&source);
    let paired = effects.iter().all(|effect| effect.paired);
    let rows: Vec<Row> = contrasts
        .iter()
        .zip(p.iter().zip(&adjusted))
        .map(|(factors, (p, adjusted))| {
            let Some(effect) = effect(factors) else {
                let missing = || Cell::State(State::Missing);
                return Row {
                    group: group(factors),
                    ..Row::new(vec![name(factors), missing(), missing(), missing()])
                };
            };
            let interval = effect.estimate.interval();
            // After the correction for their number; an interaction is neither good nor bad.
            let is_clear = adjusted.is_some_and(|p| p < 0.05) && effect.factors.len() == 1;
            let verdict = match (is_clear, metric.better(effect.estimate.mean, 0.0)) {
                (true, true) => Verdict::Better,
                (true, false) => Verdict::Worse,
                (false, _) => Verdict::Unclear,
            };
            let method = if effect.paired {
                Method::Paired
            } else {
                Method::Welch
            };
            let probability =
                |p: &Option<f64>| p.map_or(Cell::State(State::Missing), Cell::Probability);
            let row = vec![
                name(&effect.factors),
                Cell::Delta(Delta {
                    mean: effect.estimate.mean,
                    interval: p.map(|_| (interval, method)),
                    decimals,
                    verdict,
                }),
                probability(p),
                probability(adjusted),
            ];
            Row {
                group: group(&effect.factors),
                ..Row::new(row)
            }
        })
        .collect();
    let seeds = design.as_ref().and_then(Factorial::common_seeds);
    let how = match (&seeds, paired) {
        (Some(seeds), true) => format!(
            "t intervals over the contrasts of the {} seeds that all variants have",
            seeds.len()
        ),
        _ => "Satterthwaite's t intervals with a variance for each variant, as if runs of different variants with the \
              same seed were independent"
            .to_owned(),
    };
    let caption = format!(
        "{}. Main effect: how much a label changes it against its reference, averaged over the labels of the other \
         axes; interaction: how much larger the first effect is with the second label than with its reference. In \
         brackets 95 % intervals ({how}); {}, p (Holm) adjusted for their number, and only a main effect with \
         p (Holm) < 0.05 is coloured where there is colour.",
        caption::subject(cells, std::slice::from_ref(&source)),
        match effects.len() == contrasts.len() {
            true => format!("{} effects", effects.len()),
            false => format!("{} of {} planned effects", effects.len(), contrasts.len()),
        }
    );
    let mut footnotes = caption::footnotes(cells);
    if let Some(seeds) = seeds.filter(|_| paired) {
        let left_out: Vec<String> = data
            .seeds()
            .into_iter()
            .filter(|seed| !seeds.contains(seed))
            .map(|seed| seed.to_string())
            .collect();
        if !left_out.is_empty() {
            footnotes.push(format!(
                "Over the seeds that all variants have, without {}",
                left_out.join(", ")
            ));
        }
    }
    if let Some(words) = single.filter(|_| effects.len() < contrasts.len()) {
        footnotes.push(format!("Effects without a number: {words}"));
    }
    if effects.iter().any(|effect| effect.still) {
        footnotes.push(
            "Without an interval and p where the effect is the same for every seed, as if the runs didn't depend on it"
                .to_owned(),
        );
    }
    Ok(made(caption, footnotes, rows))
}

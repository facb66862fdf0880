//! Designs: from axes to variants.
//!
//! Variants are counted before they are made, so that a grid of 10^9 cells is refused at once.

use super::model::Variant;
use crate::spec::axes::{Axis, Cell, Design};
use crate::spec::experiment::Experiment;
use crate::spec::problem::Report;
use std::collections::HashSet;

/// Number of variants before `exclude`, `include` and `--only`.
pub fn count(experiment: &Experiment) -> u128 {
    let lengths = experiment.axes.iter().map(|axis| axis.values.len() as u128);
    match &experiment.design {
        Design::Product => lengths.fold(1, u128::saturating_mul),
        Design::Zip => lengths.min().unwrap_or(1),
        Design::List(cells) => cells.len() as u128,
        Design::OneAtATime | Design::Path => {
            1 + lengths.map(|length| length.saturating_sub(1)).sum::<u128>()
        }
        Design::LeaveOneOut => 1 + experiment.axes.len() as u128,
    }
}

/// The baseline's labels, one per axis: what the file names, `leave_one_out`'s full recipe, and the
/// first label of axes that nothing is said about.
pub fn reference(experiment: &Experiment) -> Vec<u32> {
    experiment
        .axes
        .iter()
        .enumerate()
        .map(|(index, axis)| match &experiment.design {
            Design::LeaveOneOut => axis
                .values
                .iter()
                .position(|value| value.label != "off")
                .unwrap_or(0) as u32,
            _ => experiment
                .baseline
                .as_ref()
                .and_then(|baseline| baseline[index])
                .unwrap_or(0),
        })
        .collect()
}

/// What deltas are taken against, one entry per axis; `None`: nothing.
pub fn baseline(experiment: &Experiment) -> Option<Vec<Option<String>>> {
    let label = |axis: &Axis, index: u32| axis.values[index as usize].label.clone();
    let complete = matches!(
        experiment.design,
        Design::OneAtATime | Design::LeaveOneOut | Design::Path
    );
    if complete && !experiment.axes.is_empty() {
        let labels = reference(experiment);
        return Some(
            experiment
                .axes
                .iter()
                .zip(labels)
                .map(|(axis, index)| Some(label(axis, index)))
                .collect(),
        );
    }
    let baseline = experiment.baseline.as_ref()?;
    Some(
        experiment
            .axes
            .iter()
            .zip(baseline)
            .map(|(axis, index)| index.map(|index| label(axis, index)))
            .collect(),
    )
}

/// All variants, in the file's order: the last axis varies fastest.
pub fn expand(experiment: &Experiment) -> Result<Vec<Variant>, Vec<Report>> {
    let axes = &experiment.axes;
    let mut reports = Vec::new();
    let mut variants = match &experiment.design {
        Design::Product => product(experiment),
        Design::Zip => {
            let length = axes.iter().map(|axis| axis.values.len()).min().unwrap_or(1) as u32;
            (0..length)
                .map(|index| named(axes, vec![index; axes.len()]))
                .collect()
        }
        Design::List(cells) => cells
            .iter()
            .map(|cell| listed(experiment, cell, &mut reports))
            .collect(),
        Design::OneAtATime => around(experiment, false),
        Design::Path => around(experiment, true),
        Design::LeaveOneOut => leave_one_out(experiment),
    };
    // `product` leaves excluded cells out by itself.
    if experiment.design != Design::Product {
        variants.retain(|variant| {
            !experiment
                .exclude
                .iter()
                .any(|cell| cell.matches(&variant.labels))
        });
    }
    if !experiment.include.is_empty() {
        let mut known: HashSet<Vec<u32>> = variants
            .iter()
            .map(|variant| variant.labels.clone())
            .collect();
        for cell in &experiment.include {
            let variant = listed(experiment, cell, &mut reports);
            if known.insert(variant.labels.clone()) {
                variants.push(variant);
            }
        }
    }
    if !experiment.only.is_empty() {
        variants.retain(|variant| {
            experiment
                .only
                .iter()
                .all(|cell| cell.matches(&variant.labels))
        });
    }
    if variants.is_empty() && reports.is_empty() {
        let message = if experiment.only.is_empty() {
            "`exclude` leaves no variant"
        } else {
            "no variant has all the labels of `--only`"
        };
        reports.push(Report::error(experiment.design_position, message));
    }
    let ambiguous = experiment.design != Design::Product
        || axes
            .iter()
            .any(|axis| axis.values.iter().any(|value| value.label.contains(',')));
    if ambiguous {
        let mut names = HashSet::with_capacity(variants.len());
        for variant in &variants {
            if !names.insert(variant.name.as_str()) {
                let message = format!("two variants are called `{}`", variant.name);
                reports.push(
                    Report::error(experiment.design_position, message)
                        .hint("give their labels other names"),
                );
                break;
            }
        }
    }
    if reports.is_empty() {
        Ok(variants)
    } else {
        Err(reports)
    }
}

/// The variant with these labels, named by them.
fn named(axes: &[Axis], labels: Vec<u32>) -> Variant {
    let mut name = String::new();
    for (axis, &label) in axes.iter().zip(&labels) {
        if !name.is_empty() {
            name.push(',');
        }
        name.push_str(&axis.values[label as usize].label);
    }
    if axes.is_empty() {
        name.push_str("default");
    }
    Variant { labels, name }
}

fn product(experiment: &Experiment) -> Vec<Variant> {
    let axes = &experiment.axes;
    if axes.iter().any(|axis| axis.values.is_empty()) {
        return Vec::new();
    }
    let mut labels = vec![0; axes.len()];
    let mut variants = Vec::with_capacity(count(experiment).min(1 << 24) as usize);
    loop {
        if !experiment.exclude.iter().any(|cell| cell.matches(&labels)) {
            variants.push(named(axes, labels.clone()));
        }
        // The odometer's next reading.
        let mut axis = axes.len();
        loop {
            if axis == 0 {
                return variants;
            }
            axis -= 1;
            labels[axis] += 1;
            if (labels[axis] as usize) < axes[axis].values.len() {
                break;
            }
            labels[axis] = 0;
        }
    }
}

fn listed(experiment: &Experiment, cell: &Cell, reports: &mut Vec<Report>) -> Variant {
    let mut labels = reference(experiment);
    for ((axis, label), named) in experiment.axes.iter().zip(&mut labels).zip(&cell.labels) {
        match named.as_deref() {
            None | Some([]) => {}
            Some([one]) => *label = *one,
            Some(_) => {
                let message = format!("a combination names one label of axis `{}`", axis.name);
                reports.push(Report::error(cell.position, message));
            }
        }
    }
    named(&experiment.axes, labels)
}

/// The baseline, then every other label of every axis: alone (`one_at_a_time`) or on top of those
/// before (`path`).
fn around(experiment: &Experiment, cumulative: bool) -> Vec<Variant> {
    let start = reference(experiment);
    let mut current = start.clone();
    let mut variants = vec![Variant {
        labels: start.clone(),
        name: "baseline".to_owned(),
    }];
    let mut taken = HashSet::new();
    for (index, axis) in experiment.axes.iter().enumerate() {
        for (label, value) in axis.values.iter().enumerate() {
            if label as u32 == start[index] {
                continue;
            }
            let mut labels = if cumulative {
                current.clone()
            } else {
                start.clone()
            };
            labels[index] = label as u32;
            let name = if cumulative {
                if taken.insert(value.label.as_str()) {
                    format!("+ {}", value.label)
                } else {
                    format!("+ {}={}", axis.name, value.label)
                }
            } else {
                format!("{}={}", axis.name, value.label)
            };
            current[index] = label as u32;
            variants.push(Variant { labels, name });
        }
    }
    variants
}

fn leave_one_out(experiment: &Experiment) -> Vec<Variant> {
    let full = reference(experiment);
    let mut variants = vec![Variant {
        labels: full.clone(),
        name: "full".to_owned(),
    }];
    for (index, axis) in experiment.axes.iter().enumerate() {
        if let Some(off) = axis.find("off") {
            let mut labels = full.clone();
            labels[index] = off;
            variants.push(Variant {
                labels,
                name: format!("- {}", axis.name),
            });
        }
    }
    variants
}

//! Published numbers beside ours, with what sets the two settings apart.

use super::build::{headline, title};
use super::cells::{Cells, Source};
use super::{Cell, Column, Estimate, Kind, Row, State, Table, Tone, Value, Within, caption};
use crate::report::data::Variant;
use crate::report::statistics::{Sample, TEstimate};
use crate::rundir::stage::StageSpec;
use crate::spec::published::{self, Published};
use crate::spec::report::{ReferenceSpec, TableSpec};

/// Precision of the trainings behind the published results that this program carries.
const PUBLISHED_PRECISION: &str = "float16 mixed";

/// A published number.
struct Theirs<'a> {
    value: f64,
    std: Option<f64>,
    source: &'a str,
    confidence: &'a str,
    /// The row of the published results; `None` where the experiment file gives the number.
    row: Option<&'static Published>,
}

impl<'a> Theirs<'a> {
    fn of(reference: &'a ReferenceSpec) -> Option<Self> {
        let row = reference.id.as_deref().and_then(published::result);
        match row {
            Some(row) => Some(Theirs {
                value: row.value?,
                std: row.std,
                source: &row.source,
                confidence: &row.confidence,
                row: Some(row),
            }),
            None => Some(Theirs {
                value: reference.value?,
                std: reference.std,
                source: &reference.source,
                confidence: &reference.confidence,
                row: None,
            }),
        }
    }
}

/// The table; or why there is none.
pub fn table(cells: &Cells<'_>, spec: &TableSpec) -> Result<Table, String> {
    let references = &cells.data.experiment.report.reference;
    let numbers: Vec<(&ReferenceSpec, Theirs<'_>)> = references
        .iter()
        .filter_map(|reference| Some((reference, Theirs::of(reference)?)))
        .collect();
    if numbers.is_empty() {
        return Err("the report's `reference` names no published number".to_owned());
    }
    let mut rows = Vec::new();
    let mut deviations = Deviations::default();
    for variant in &cells.variants {
        for (reference, theirs) in numbers
            .iter()
            .filter(|(reference, _)| matches(reference, variant))
        {
            deviations.add(cells, variant, theirs.row);
            rows.push(row(cells, variant, reference, theirs, &numbers));
        }
    }
    let has_baseline = cells.baseline.is_some();
    let mut columns = vec![
        Column::new("variant", Kind::Label),
        Column::new("metric", Kind::Word),
        Column::new("ours", Kind::Value),
        Column {
            note: Some('a'),
            ..Column::new("published", Kind::Value)
        },
        Column::new("ours − published", Kind::Estimate),
        Column::new("in our prediction interval", Kind::Estimate),
    ];
    if has_baseline {
        columns.push(Column::new("Δ ours", Kind::Delta));
        columns.push(Column::new("Δ published", Kind::Estimate));
        columns.push(Column::new("direction", Kind::Word));
    }
    columns.push(Column::new("source", Kind::Label));
    columns.push(Column::new("read", Kind::Label));
    let mut footnotes = vec![format!("a: {}", deviations.words())];
    let unmatched = numbers
        .iter()
        .filter(|(reference, _)| {
            !cells
                .variants
                .iter()
                .any(|variant| matches(reference, variant))
        })
        .count();
    if unmatched > 0 {
        footnotes.push(format!(
            "{unmatched} published numbers belong to no variant of this grid"
        ));
    }
    footnotes.extend(caption::footnotes(cells));
    Ok(Table {
        name: spec.name.clone(),
        title: title(cells, "published numbers beside ours"),
        caption: words(cells, &rows, has_baseline),
        footnotes,
        columns,
        rows,
        transposed: false,
    })
}

/// Whether a variant has all labels that a reference names.
fn matches(reference: &ReferenceSpec, variant: &Variant<'_>) -> bool {
    reference
        .at
        .iter()
        .zip(variant.labels)
        .all(|(wanted, label)| wanted.as_ref().is_none_or(|wanted| wanted == label))
}

fn row(
    cells: &Cells<'_>,
    variant: &Variant<'_>,
    reference: &ReferenceSpec,
    theirs: &Theirs<'_>,
    numbers: &[(&ReferenceSpec, Theirs<'_>)],
) -> Row {
    let source = source(cells, reference);
    let metric = cells.data.metric(&source.metric);
    let decimals = cells.decimals(&source);
    let ours = cells.value(variant, &source, decimals, false);
    let sample = cells.sample(variant.index, &source);
    let missing = || Cell::State(State::Missing);
    let published = printed_decimals(theirs.value);
    let signed = |value: f64, decimals: usize| {
        Cell::Estimate(Estimate {
            value,
            interval: None,
            decimals,
            signed: true,
        })
    };
    let mut row = vec![
        Cell::Label(cells.display_name(variant)),
        Cell::Word(metric.short.clone(), Tone::Plain),
        ours,
        Cell::Value(Value {
            mean: theirs.value,
            sd: theirs.std,
            // How many runs a published number is of is rarely said.
            n: None,
            planned: None,
            images: None,
            best: false,
            decimals: published,
            says_n: false,
        }),
        match sample {
            Some(Sample { mean, .. }) => {
                signed(mean - theirs.value, decimals.min(published.max(1)))
            }
            None => missing(),
        },
        match sample.map(|sample| TEstimate::prediction(&sample)) {
            Some(Some(interval)) => Cell::Within(Within {
                inside: interval.contains(theirs.value),
                interval,
                decimals,
            }),
            Some(None) if cells.values(variant.index, &source).len() > 1 => {
                Cell::Word("unknown (no spread)".to_owned(), Tone::Faint)
            }
            Some(None) => Cell::Word("unknown (n = 1)".to_owned(), Tone::Faint),
            None => missing(),
        },
    ];
    if cells.baseline.is_some() {
        row.extend(deltas(cells, variant, &source, theirs, numbers));
    }
    row.push(Cell::Label(theirs.source.to_owned()));
    row.push(Cell::Label(theirs.confidence.to_owned()));
    Row {
        is_baseline: cells.is_baseline(variant),
        ..Row::new(row)
    }
}

/// Our delta, the published one, and whether they point the same way.
fn deltas(
    cells: &Cells<'_>,
    variant: &Variant<'_>,
    source: &Source,
    theirs: &Theirs<'_>,
    numbers: &[(&ReferenceSpec, Theirs<'_>)],
) -> [Cell; 3] {
    let missing = || Cell::State(State::Missing);
    let ours = cells.delta(variant, source, cells.decimals(source));
    if cells.is_baseline(variant) {
        return [Cell::Baseline, Cell::Baseline, missing()];
    }
    let place = theirs.row.map(|row| &row.table_or_figure);
    // Of several published numbers of the baseline the one from the same table.
    let baseline = cells
        .baseline(variant)
        .and_then(|index| cells.variant(index));
    let mut candidates: Vec<&Theirs<'_>> = numbers
        .iter()
        .filter(|(reference, _)| {
            baseline.is_some_and(|baseline| matches(reference, baseline))
                && self::source(cells, reference).metric == source.metric
        })
        .map(|(_, theirs)| theirs)
        .collect();
    candidates.sort_by_key(|other| other.row.map(|row| &row.table_or_figure) != place);
    let Some(baseline) = candidates.first() else {
        return [ours, missing(), missing()];
    };
    let published = theirs.value - baseline.value;
    let decimals = printed_decimals(theirs.value).max(printed_decimals(baseline.value));
    let direction = match &ours {
        Cell::Delta(delta) => match (delta.interval, delta.mean * published > 0.0) {
            (Some((interval, _)), same) if !interval.contains(0.0) && published != 0.0 => {
                match same {
                    true => Cell::Word("the same".to_owned(), Tone::Good),
                    false => Cell::Word("opposite".to_owned(), Tone::Bad),
                }
            }
            _ => Cell::Word("undecided".to_owned(), Tone::Faint),
        },
        _ => missing(),
    };
    let published = Cell::Estimate(Estimate {
        value: published,
        interval: None,
        decimals,
        signed: true,
    });
    [ours, published, direction]
}

fn source(cells: &Cells<'_>, reference: &ReferenceSpec) -> Source {
    let headline = headline(cells);
    Source {
        stage: reference.stage.clone().unwrap_or(headline.stage),
        metric: reference.metric.clone(),
        ..headline
    }
}

/// Decimals with which a number was printed.
fn printed_decimals(value: f64) -> usize {
    value
        .to_string()
        .split_once('.')
        .map_or(0, |(_, fraction)| fraction.len())
        .min(3)
}

fn words(cells: &Cells<'_>, rows: &[Row], has_baseline: bool) -> String {
    let headline = headline(cells);
    // Ours stand in the third column.
    let n = rows.iter().filter_map(|row| match row.cells.get(2) {
        Some(Cell::Value(value)) => value.n,
        _ => None,
    });
    let n = match (n.clone().min(), n.max()) {
        (Some(least), Some(most)) if least == most => format!(" (n = {most})"),
        (Some(least), Some(most)) => format!(" (n = {least} to {most})"),
        _ => " (no run has finished yet)".to_owned(),
    };
    let mut sentences = vec![
        format!(
            "Ours on {}: mean ± standard deviation over seeds{n}, against published numbers, mostly of single runs",
            headline.set
        ),
        "Prediction interval: where one further run of ours would lie with a probability of 95 % (mean ± t s √(1 + \
         1/n))"
            .to_owned(),
    ];
    if has_baseline {
        let baseline = cells.baseline_words().unwrap_or_default();
        sentences.push(format!(
            "Δ: against {baseline}; direction: whether both deltas have the same sign, undecided where our 95 % \
             interval holds zero"
        ));
    }
    sentences
        .iter()
        .map(|sentence| format!("{sentence}."))
        .collect::<Vec<_>>()
        .join(" ")
}

/// What sets our settings apart from the published ones: for each field our values and theirs.
#[derive(Default)]
struct Deviations {
    fields: Vec<(&'static str, Vec<String>, Vec<String>)>,
    compared: bool,
    unknown: bool,
}

impl Deviations {
    fn add(&mut self, cells: &Cells<'_>, variant: &Variant<'_>, row: Option<&'static Published>) {
        let stages = variant.runs.first().map(|run| {
            let configs = &cells.data.background.configs;
            run.stages
                .iter()
                .map(|stage| configs.get(stage))
                .collect::<Option<Vec<_>>>()
        });
        let (Some(row), Some(Some(stages))) = (row, stages) else {
            self.unknown = true;
            return;
        };
        let (Some(first), Some(last)) = (stages.first(), stages.last()) else {
            self.unknown = true;
            return;
        };
        self.compared = true;
        let set = |name: &str| match name {
            "imagenet-1k" => "IN-1k".to_owned(),
            "imagenet-21k" => "IN-21k".to_owned(),
            other => other.to_owned(),
        };
        let mut trained: Vec<String> = stages
            .iter()
            .map(|stage| set(&stage.recipe.data.name))
            .collect();
        trained.dedup();
        self.compare("training data", trained.join("->"), row.train_set.clone());
        let tested = set(&last.recipe.data.name);
        // `IN-1k val` is the validation split of IN-1k.
        if !row.dataset.starts_with(&tested) {
            self.compare(
                "evaluation data",
                format!("{tested} val"),
                row.dataset.clone(),
            );
        }
        self.compare("model", model(last), row.model.clone());
        let epochs: Vec<String> = stages
            .iter()
            .map(|stage| stage.recipe.train.epochs.to_string())
            .collect();
        self.compare("epochs", epochs.join("+"), row.epochs.clone());
        let pixels = |side: usize| side.to_string();
        self.compare(
            "training resolution",
            pixels(first.recipe.train.resolution),
            row.train_res.clone(),
        );
        self.compare(
            "test resolution",
            pixels(last.recipe.eval.resolution),
            row.test_res.clone(),
        );
        self.compare("precision", precision(last), PUBLISHED_PRECISION.to_owned());
    }

    /// What isn't published is not compared.
    fn compare(&mut self, field: &'static str, ours: String, theirs: String) {
        if ours == theirs || theirs.is_empty() {
            return;
        }
        let index = match self.fields.iter().position(|(name, ..)| *name == field) {
            Some(index) => index,
            None => {
                self.fields.push((field, Vec::new(), Vec::new()));
                self.fields.len() - 1
            }
        };
        let (_, known_ours, known_theirs) = &mut self.fields[index];
        for (list, value) in [(known_ours, ours), (known_theirs, theirs)] {
            if !list.contains(&value) {
                list.push(value);
            }
        }
    }

    fn words(&self) -> String {
        let list: Vec<String> = self
            .fields
            .iter()
            .map(|(field, ours, theirs)| {
                format!(
                    "{field} {} instead of {}",
                    ours.join(", "),
                    theirs.join(", ")
                )
            })
            .collect();
        let mut text = match (list.is_empty(), self.compared) {
            (false, _) => format!(
                "ours is not the published setting, so this is no replication: {}",
                list.join("; ")
            ),
            (true, true) => "ours has the published data, model, epochs, resolutions and precision, as far as they \
                             are published"
                .to_owned(),
            (true, false) => String::new(),
        };
        if self.unknown {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(
                "where a number's setting isn't known, nothing is said of deviations from it",
            );
        }
        text
    }
}

/// The model's name in the field, or its sizes.
fn model(stage: &StageSpec) -> String {
    let model = &stage.recipe.model;
    let name = match (
        model.embed_dim,
        model.depth,
        model.patch_size,
        model.parallel_branches,
    ) {
        (192, 12, 16, 1) => "ViT-Ti",
        (384, 12, 16, 1) => "ViT-S",
        (512, 12, 16, 1) => "ViT-M",
        (768, 12, 16, 1) => "ViT-B",
        (1024, 24, 16, 1) => "ViT-L",
        (1280, 32, 14, 1) => "ViT-H",
        _ => {
            return format!(
                "ViT of width {}, depth {}, patches of {} px",
                model.embed_dim, model.depth, model.patch_size
            );
        }
    };
    name.to_owned()
}

/// The arithmetic of training, where the recipe names it; float32 otherwise.
fn precision(stage: &StageSpec) -> String {
    let recipe = serde_json::to_value(&stage.recipe).unwrap_or_default();
    match recipe
        .pointer("/train/precision")
        .and_then(|name| name.as_str())
    {
        Some(name) => name.to_owned(),
        None => "float32".to_owned(),
    }
}

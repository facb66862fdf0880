//! Published numbers beside ours, with what sets the two settings apart.

use super::build::{headline, title};
use super::cells::{Cells, Source};
use super::deviations::Deviations;
use super::{Cell, Column, Delta, Estimate, Kind, Row, State, Table, Tone, Value, Within, caption};
use crate::report::data::Variant;
use crate::report::statistics::{Interval, Method, Sample, TEstimate};
use crate::spec::published::{self, Published};
use crate::spec::report::{Direction, ReferenceSpec, TableSpec};

/// A published number, or a statement without one.
struct Theirs<'a> {
    says: Says,
    std: Option<f64>,
    /// Decimals with which the number was printed.
    decimals: usize,
    /// The statement in words; empty for a number.
    statement: &'a str,
    source: &'a str,
    confidence: &'a str,
    /// The row of the published results; `None` where the experiment file gives the number.
    row: Option<&'static Published>,
}

#[derive(Clone, Copy)]
enum Says {
    Number(f64),
    /// How the variant compares with its baseline.
    Direction(Direction),
}

impl Says {
    fn number(self) -> Option<f64> {
        match self {
            Says::Number(number) => Some(number),
            Says::Direction(_) => None,
        }
    }
}

impl<'a> Theirs<'a> {
    fn of(reference: &'a ReferenceSpec) -> Option<Self> {
        let row = reference.id.as_deref().and_then(published::result);
        match row {
            Some(row) => Some(Theirs {
                says: match row.value {
                    Some(value) => Says::Number(value),
                    None => Says::Direction(reference.direction?),
                },
                std: row.std,
                decimals: row.decimals,
                statement: if row.value.is_none() {
                    &row.variant
                } else {
                    ""
                },
                source: &row.source,
                confidence: &row.confidence,
                row: Some(row),
            }),
            None => Some(Theirs {
                says: Says::Number(reference.value?),
                std: reference.std,
                decimals: printed_decimals(reference.value?),
                statement: "",
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
    let statements = numbers
        .iter()
        .any(|(_, theirs)| !theirs.statement.is_empty());
    let mut rows = Vec::new();
    let mut deviations = Deviations::default();
    let mut elsewhere = Vec::new();
    for variant in &cells.variants {
        for (reference, theirs) in numbers
            .iter()
            .filter(|(reference, _)| matches(reference, variant))
        {
            deviations.add(cells, variant, theirs.row, &source(cells, reference).set);
            let mut row = row(cells, variant, reference, theirs, &numbers);
            let other = of_baseline(cells, variant, (reference, theirs), &numbers);
            if let Some(other) = other.filter(|_| theirs.says.number().is_some())
                && let (Some(own), Some(other)) = (place(theirs), place(other))
                && own != other
                && !cells.is_baseline(variant)
            {
                elsewhere.push(format!(
                    "Δ published of {} is between two of the paper's tables or figures: {own}; {other}",
                    cells.display_name(variant)
                ));
            }
            let texts = [theirs.statement, theirs.source, theirs.confidence];
            for text in texts.into_iter().skip(usize::from(!statements)) {
                row.cells.push(Cell::Label(text.to_owned()));
            }
            rows.push(row);
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
    if statements {
        columns.push(Column::new("statement", Kind::Source));
    }
    columns.push(Column::new("source", Kind::Source));
    columns.push(Column::new("how it was read", Kind::Source));
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
    match unmatched {
        0 => {}
        1 => footnotes.push("1 published number belongs to no variant of this grid".to_owned()),
        more => footnotes.push(format!(
            "{more} published numbers belong to no variant of this grid"
        )),
    }
    let mut unknown: Vec<String> = numbers
        .iter()
        .map(|(reference, _)| source(cells, reference).set)
        .filter(|set| !cells.sets().contains(set))
        .collect();
    unknown.sort();
    unknown.dedup();
    footnotes.extend(
        unknown
            .iter()
            .map(|set| format!("No run was evaluated on {set}")),
    );
    footnotes.extend(elsewhere);
    footnotes.extend(caption::footnotes(cells));
    Ok(Table {
        name: spec.name.clone(),
        title: title(cells, "published numbers beside ours"),
        caption: words(cells, &rows, has_baseline),
        footnotes,
        columns,
        rows,
        experiment: String::new(),
        transposed: false,
    })
}

/// Whether a variant has all labels that a reference names.
pub(super) fn matches(reference: &ReferenceSpec, variant: &Variant<'_>) -> bool {
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
    let mut row = vec![
        Cell::Label(cells.display_name(variant)),
        Cell::Word(
            if source.set == headline(cells).set {
                metric.short.clone()
            } else {
                format!("{} on {}", metric.short, source.set)
            },
            Tone::Plain,
        ),
        ours,
    ];
    match theirs.says {
        Says::Number(number) => {
            let printed = (theirs.std, theirs.decimals);
            row.extend(beside(cells, variant, &source, sample, number, printed));
        }
        Says::Direction(_) => row.extend([
            Cell::Word("no number".to_owned(), Tone::Faint),
            Cell::State(State::Missing),
            Cell::State(State::Missing),
        ]),
    }
    if cells.baseline.is_some() {
        row.extend(deltas(
            cells,
            variant,
            &source,
            (reference, theirs),
            numbers,
        ));
    }
    Row {
        is_baseline: cells.is_baseline(variant),
        ..Row::new(row)
    }
}

/// The published number, our difference to it, and whether it lies in our prediction interval.
fn beside(
    cells: &Cells<'_>,
    variant: &Variant<'_>,
    source: &Source,
    sample: Option<Sample>,
    number: f64,
    (std, published): (Option<f64>, usize),
) -> [Cell; 3] {
    let missing = || Cell::State(State::Missing);
    let decimals = cells.decimals(source);
    [
        Cell::Value(Value {
            mean: number,
            sd: std,
            // How many runs a published number is of is rarely said.
            n: None,
            planned: None,
            images: None,
            best: false,
            decimals: published,
            says_n: false,
        }),
        match sample {
            Some(Sample { mean, .. }) => Cell::Estimate(Estimate {
                value: mean - number,
                interval: None,
                decimals: decimals.min(published.max(1)),
                signed: true,
            }),
            None => missing(),
        },
        match sample.map(|sample| TEstimate::prediction(&sample)) {
            Some(Some(interval)) => Cell::Within(Within {
                inside: interval.contains(number),
                interval,
                decimals,
            }),
            Some(None) if cells.values(variant.index, source).len() > 1 => {
                Cell::Word("unknown (no spread)".to_owned(), Tone::Faint)
            }
            Some(None) => Cell::Word("unknown (n = 1)".to_owned(), Tone::Faint),
            None => missing(),
        },
    ]
}

/// The set that a published number was measured on, where the file or its row says so.
fn evaluation_set<'a>(reference: &'a ReferenceSpec, theirs: &Theirs<'_>) -> Option<&'a str> {
    let of_row = theirs.row.and_then(Published::evaluation_set);
    // The validation split has no name among published rows.
    let named = reference.set.as_deref();
    named.or(of_row).filter(|set| *set != "val")
}

/// The published number of a variant's baseline that belongs to `theirs`: of several the one from the same table.
fn of_baseline<'n, 'a>(
    cells: &Cells<'_>,
    variant: &Variant<'_>,
    (reference, theirs): (&ReferenceSpec, &Theirs<'_>),
    numbers: &'n [(&'a ReferenceSpec, Theirs<'a>)],
) -> Option<&'n Theirs<'a>> {
    let source = source(cells, reference);
    let baseline = cells.variant(cells.baseline(variant)?)?;
    let mut candidates: Vec<&Theirs<'a>> = numbers
        .iter()
        .filter(|(other, _)| matches(other, baseline) && self::source(cells, other) == source)
        .filter(|(_, own)| own.says.number().is_some())
        // Where ours has no second set, numbers of several sets stand beside the same one of ours.
        .filter(|(other, own)| evaluation_set(other, own) == evaluation_set(reference, theirs))
        .map(|(_, own)| own)
        .collect();
    candidates.sort_by_key(|own| place(own) != place(theirs));
    candidates.first().copied()
}

/// Where a published number stands.
fn place<'a>(theirs: &Theirs<'_>) -> Option<&'a str> {
    theirs.row.map(|row| row.table_or_figure.as_str())
}

/// Our delta, the published one, and whether they point the same way.
fn deltas(
    cells: &Cells<'_>,
    variant: &Variant<'_>,
    source: &Source,
    (reference, theirs): (&ReferenceSpec, &Theirs<'_>),
    numbers: &[(&ReferenceSpec, Theirs<'_>)],
) -> [Cell; 3] {
    let missing = || Cell::State(State::Missing);
    let ours = cells.delta(variant, source, cells.decimals(source));
    if cells.is_baseline(variant) {
        return [Cell::Baseline, Cell::Baseline, missing()];
    }
    let number = match theirs.says {
        Says::Number(number) => number,
        Says::Direction(direction) => {
            let word = match direction {
                Direction::Better => "better",
                Direction::Worse => "worse",
                Direction::None => "no difference",
            };
            let agrees = agreement(cells, source, &ours, direction);
            return [ours, Cell::Word(word.to_owned(), Tone::Plain), agrees];
        }
    };
    let baseline = of_baseline(cells, variant, (reference, theirs), numbers);
    let Some((baseline, of_theirs)) =
        baseline.and_then(|own| Some((own.says.number()?, own.decimals)))
    else {
        return [ours, missing(), missing()];
    };
    let published = number - baseline;
    let decimals = theirs.decimals.max(of_theirs);
    let direction = match &ours {
        Cell::Delta(delta) => match (over_seeds(delta), delta.mean * published > 0.0) {
            (Some(interval), same) if !interval.contains(0.0) && published != 0.0 => match same {
                true => Cell::Word("the same".to_owned(), Tone::Good),
                false => Cell::Word("opposite".to_owned(), Tone::Bad),
            },
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

/// The interval of a difference that says something of other seeds.
fn over_seeds(delta: &Delta) -> Option<Interval> {
    let (interval, method) = delta.interval?;
    (method != Method::Images).then_some(interval)
}

/// Whether our delta goes as a statement says. "No difference" needs a declared margin to be agreed with; our interval
/// beyond zero, or beyond the margin, contradicts it.
fn agreement(cells: &Cells<'_>, source: &Source, ours: &Cell, direction: Direction) -> Cell {
    let Cell::Delta(delta) = ours else {
        return Cell::State(State::Missing);
    };
    let undecided = Cell::Word("undecided".to_owned(), Tone::Faint);
    let Some(interval) = over_seeds(delta) else {
        return undecided;
    };
    let metric = cells.data.metric(&source.metric);
    let better = metric.better(delta.mean, 0.0);
    let margin = cells.data.experiment.report.margin;
    let margin = margin.filter(|_| cells.data.metrics().first() == Some(&source.metric));
    let agrees = match direction {
        Direction::None => match margin {
            Some(margin) if -margin < interval.low && interval.high < margin => true,
            Some(margin) if interval.low > margin || interval.high < -margin => false,
            None if !interval.contains(0.0) => false,
            _ => return undecided,
        },
        _ if interval.contains(0.0) => return undecided,
        Direction::Better => better,
        Direction::Worse => !better,
    };
    match agrees {
        true => Cell::Word("the same".to_owned(), Tone::Good),
        false => Cell::Word("opposite".to_owned(), Tone::Bad),
    }
}

/// What of ours a reference is about: on the evaluation set that it names, else that of its row where we have it, else
/// the headline's.
pub(in crate::report) fn source(cells: &Cells<'_>, reference: &ReferenceSpec) -> Source {
    let headline = headline(cells);
    let row = reference.id.as_deref().and_then(published::result);
    let of_row = row.and_then(Published::evaluation_set);
    let set = reference.set.clone().or_else(|| {
        of_row
            .map(str::to_owned)
            .filter(|set| cells.sets().contains(set))
    });
    Source {
        stage: reference.stage.clone().unwrap_or(headline.stage),
        metric: reference.metric.clone(),
        set: set.unwrap_or(headline.set),
        ..headline
    }
}

/// Decimals of a number of the experiment file.
fn printed_decimals(value: f64) -> usize {
    value
        .to_string()
        .split_once('.')
        .map_or(0, |(_, fraction)| fraction.len())
        .min(3)
}

fn lower_first(sentence: &str) -> String {
    let mut characters = sentence.chars();
    let first = characters.next().map(|c| c.to_lowercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}

fn words(cells: &Cells<'_>, rows: &[Row], has_baseline: bool) -> String {
    let headline = headline(cells);
    // Ours stand in the third column.
    let n = rows.iter().filter_map(|row| match row.cells.get(2) {
        Some(Cell::Value(value)) => value.n,
        _ => None,
    });
    let has_images = rows.iter().any(|row| match row.cells.get(2) {
        Some(Cell::Value(value)) => value.images.is_some(),
        _ => false,
    });
    let ours = match (n.clone().min(), n.max()) {
        (Some(1), Some(1)) => "n = 1".to_owned(),
        (Some(least), Some(most)) if least == most => {
            format!("mean ± standard deviation over seeds (n = {most})")
        }
        (Some(least), Some(most)) => {
            format!(
                "mean ± standard deviation over seeds (n = {least} to {most}; none where n = 1)"
            )
        }
        _ => lower_first(&caption::no_number(cells)),
    };
    let images = match has_images {
        true => ", in brackets the 95 % interval of a single run over the set's images",
        false => "",
    };
    let mut sentences = vec![
        format!(
            "Ours on {}, or the set that is named: {ours}{images}, against published numbers, mostly of single runs",
            headline.set
        ),
        "Prediction interval: where one further run of ours would lie with a probability of 95 % (mean ± t s √(1 + \
         1/n))"
            .to_owned(),
    ];
    if has_baseline {
        let baseline = cells.baseline_words().unwrap_or_default();
        let methods: Vec<Method> = rows
            .iter()
            .flat_map(|row| &row.cells)
            .filter_map(|cell| match cell {
                Cell::Delta(delta) => Some(delta.interval?.1),
                _ => None,
            })
            .collect();
        let named: Vec<&str> = [
            (Method::Paired, "paired t over the shared seeds"),
            (Method::Welch, "Welch's t"),
            (
                Method::Images,
                "bootstrap over images, which says nothing of other seeds",
            ),
        ]
        .into_iter()
        .filter(|(method, _)| methods.contains(method))
        .map(|(_, words)| words)
        .collect();
        let interval = match named.is_empty() {
            true => String::new(),
            false => format!(", in brackets the 95 % interval ({})", named.join(" or ")),
        };
        sentences.push(format!(
            "Δ: against {baseline}{interval}; direction: whether both deltas have the same sign, undecided where our \
             interval over seeds holds zero or there is none"
        ));
    }
    sentences
        .iter()
        .map(|sentence| format!("{sentence}."))
        .collect::<Vec<_>>()
        .join(" ")
}

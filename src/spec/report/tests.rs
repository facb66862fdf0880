use super::*;
use crate::spec::experiment::{self, Options};

const HEAD: &str = "recipe: quick
axes:
  loss: {ce: {loss.name: ce}, bce: {loss.name: bce}}
  train.epochs: [2, 4]
stages:
  pretrain: {}
  finetune: {from: pretrain}
";

fn read(report: &str) -> Result<ReportSpec, String> {
    let text = format!("{HEAD}report: {report}\n");
    match experiment::read("f.yaml", &text, None, &Options::default()) {
        Ok(experiment) => Ok(experiment.report),
        Err(problems) => Err(problems.to_string()),
    }
}

#[track_caller]
fn refused(report: &str, expected: &[&str]) {
    let message = read(report).expect_err("a problem");
    for part in expected {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn everything_is_read() {
    let spec = read(
        "
  metrics: [top1, loss]
  rows: train.epochs
  columns: [loss]
  correction: dunnett
  margin: 0.5
  bootstrap: 10000
  tables:
    - pivot
    - {name: long, title: All of it, kind: variants, sort: -top1, groups: loss, footnotes: One run was repeated., metrics: top1}
    - {kind: comparisons, baseline: {loss: ce}, transposed: true}
    - {name: parts, ticks: {loss: {Sigmoid: bce, Any: [ce, bce]}}}
  plots:
    - curves
    - {kind: against, x: flops, metric: top5, name: cost}
    - {kind: heatmap, rows: loss, columns: train.epochs}
    - usual
    - result
  reference:
    - {at: {loss: bce}, id: R0161}
    - {at: {loss: ce, train.epochs: 4}, value: 80.9, source: a paper, stage: finetune}
    - {curve: run01}
    - {at: {loss: bce}, id: R0162, direction: none}
    - {at: {loss: bce}, id: R0161, set: imagenet-v2}",
    )
    .unwrap();
    assert_eq!(spec.design, DesignKind::Product);
    assert_eq!(spec.metrics, ["top1", "loss"]);
    assert_eq!(
        (&spec.rows[..], &spec.columns[..]),
        (&["train.epochs".to_owned()][..], &["loss".to_owned()][..])
    );
    assert_eq!(spec.correction, Correction::Dunnett);
    assert_eq!((spec.margin, spec.bootstrap), (Some(0.5), 10_000));
    let tables = spec.tables.as_ref().unwrap();
    assert_eq!(
        tables
            .iter()
            .map(|table| (table.name.as_str(), table.kind))
            .collect::<Vec<_>>(),
        [
            ("table", TableKind::Pivot),
            ("long", TableKind::Variants),
            ("comparisons", TableKind::Comparisons),
            ("parts", TableKind::Auto)
        ]
    );
    assert_eq!(
        tables[1].sort,
        Some(Sort {
            by: "top1".to_owned(),
            reversed: true
        })
    );
    assert_eq!(tables[1].groups.as_deref(), Some("loss"));
    assert_eq!(tables[1].footnotes, ["One run was repeated."]);
    assert_eq!(tables[2].baseline, Some(vec![Some("ce".to_owned()), None]));
    assert!(tables[2].transposed);
    let tick = |part: &str, labels: &[&str]| Tick {
        axis: "loss".to_owned(),
        part: part.to_owned(),
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
    };
    let ticks = [tick("Sigmoid", &["bce"]), tick("Any", &["ce", "bce"])];
    assert_eq!(tables[3].ticks, ticks);
    let plots = spec.plots.as_ref().unwrap();
    assert_eq!(
        (plots[1].kind, plots[1].x, plots[1].metric.as_deref()),
        (PlotKind::Against, Some(PlotX::Flops), Some("top5"))
    );
    assert_eq!(plots[2].rows.as_deref(), Some("loss"));
    assert_eq!(spec.reference[0].at, [Some("bce".to_owned()), None]);
    assert_eq!(spec.reference[1].value, Some(80.9));
    assert_eq!(spec.reference[2].curve.as_deref(), Some("run01"));
    assert_eq!(spec.reference[3].direction, Some(Direction::None));
    assert_eq!(spec.reference[4].set.as_deref(), Some("imagenet-v2"));
    let numbers: Vec<Option<f64>> = spec.reference.iter().map(ReferenceSpec::number).collect();
    // Of a row, of the file, the end of a curve (81.394 in the published log), and a statement.
    assert_eq!(numbers[..2], [Some(82.2), Some(80.9)]);
    assert!((numbers[2].unwrap() - 81.4).abs() < 0.1, "{numbers:?}");
    assert_eq!(numbers[3..], [None, Some(82.2)]);
    // As it is stored.
    let stored = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<ReportSpec>(&stored).unwrap(), spec);
}

#[test]
fn what_an_older_program_stored_is_read() {
    let old = r#"{"metrics":["top1"],"rows":["loss"],"columns":[]}"#;
    let spec: ReportSpec = serde_json::from_str(old).unwrap();
    assert_eq!(spec.rows, ["loss"]);
    assert_eq!((spec.tables, spec.correction), (None, Correction::Holm));
}

#[test]
fn a_statement_needs_a_direction_and_a_number_has_one() {
    refused(
        "{reference: {at: {loss: bce}, id: R0162}}",
        &[
            "f.yaml:8:21: `R0162` is published as a statement without a number: say with `direction`",
            "known: better, worse, none",
        ],
    );
    refused(
        "{reference: {at: {loss: bce}, id: R0161, direction: better}}",
        &["`R0161` is published as a number"],
    );
    refused(
        "{reference: {at: {loss: bce}, value: 80, source: x, direction: better}}",
        &["`direction` is for an `id` that is published as a statement"],
    );
    refused(
        "{reference: {at: {loss: bce}, id: R0162, direction: beter}}",
        &["unknown direction `beter`; did you mean `better`?"],
    );
}

#[test]
fn mistakes_name_their_position_and_the_valid_names() {
    refused(
        "{rows: [los]}",
        &["f.yaml:8:17: unknown axis `los`; did you mean `loss`?"],
    );
    refused(
        "{rows: [x]}",
        &["unknown axis `x`; known: loss, train.epochs"],
    );
    refused(
        "{metrics: [top2]}",
        &["f.yaml:8:20: unknown metric `top2`; did you mean `top5`?"],
    );
    refused(
        "{metrics: [fid]}",
        &["unknown metric `fid`; known: top1, top5, loss"],
    );
    refused(
        "{metrics: [top1, top1]}",
        &["f.yaml:8:26: `report.metrics` names metric `top1` twice"],
    );
    refused(
        "{rows: [loss], columns: [loss]}",
        &["f.yaml:8:34: `report` names axis `loss` twice"],
    );
    refused(
        "{correction: bonferoni}",
        &["f.yaml:8:22: unknown correction `bonferoni`; known: none, holm, dunnett"],
    );
    refused(
        "{margin: -1}",
        &["f.yaml:8:18: `report.margin` must be positive"],
    );
    refused(
        "{bootstrap: many}",
        &["`report.bootstrap` expects a number of draws"],
    );
    refused(
        "{tables: [pivott]}",
        &["f.yaml:8:19: unknown table `pivott`; did you mean `pivot`?"],
    );
    refused(
        "{plots: [forrest]}",
        &["f.yaml:8:18: unknown plot `forrest`; did you mean `forest`?"],
    );
    refused(
        "{plots: [{kind: against, x: flop}]}",
        &["unknown quantity `flop`; did you mean `flops`?"],
    );
    refused(
        "{plots: [{metric: top1}]}",
        &["needs a `kind`; known: usual, result, curves, against"],
    );
    refused(
        "{tables: [{sort: lss}]}",
        &["no metric and no axis is called `lss`; did you mean `loss`?"],
    );
    refused(
        "{tables: [{groups: epochs}]}",
        &["unknown axis `epochs`; did you mean `train.epochs`?"],
    );
    refused(
        "{tables: [{baseline: {loss: cee}}]}",
        &["axis `loss` has no label `cee`; did you mean `ce`?"],
    );
    refused(
        "{tables: [{name: ../x}]}",
        &["`../x` is no name for a file of a report"],
    );
    refused(
        "{tables: [{name: report}]}",
        &["`report` is a file that every report has"],
    );
    refused(
        "{tables: [{name: a}, {name: a}]}",
        &["f.yaml:8:30: two tables are called `a`"],
    );
    refused(
        "{tables: [{titel: a}]}",
        &["unknown key `titel` in a table of `report`; did you mean `title`?"],
    );
    refused(
        "{tables: [{ticks: {los: {x: ce}}}]}",
        &["unknown axis `los`; did you mean `loss`?"],
    );
    refused(
        "{tables: [{ticks: {loss: {x: [cee]}}}]}",
        &["f.yaml:8:39: axis `loss` has no label `cee`; did you mean `ce`?"],
    );
    refused(
        "{tables: [{kind: pivot, ticks: {loss: {x: ce}}}]}",
        &["f.yaml:8:33: `ticks` are columns of a table of variants"],
    );
    refused(
        "{plots: [{kind: curves, stage: pretrian}]}",
        &["unknown stage `pretrian`; did you mean `pretrain`?"],
    );
    refused(
        "{reference: [{id: R9999}]}",
        &[
            "f.yaml:8:27: no published result is called `R9999`; did you mean `R0",
            "known: R0001 to R0392",
        ],
    );
    refused(
        "{reference: [{id: R0003}]}",
        &["`R0003` is published as `params_M`; a reference has one of top1, top5, loss"],
    );
    refused(
        "{reference: [{at: {loss: ce}}]}",
        &["needs an `id`, a `value` or a `curve`"],
    );
    refused(
        "{reference: [{value: 80}]}",
        &["a published `value` needs its `source`"],
    );
    refused(
        "{reference: [{curve: run1}]}",
        &["no published curve is called `run1`; did you mean `run"],
    );
    refused(
        "{reference: [{id: R0161, at: {los: ce}}]}",
        &["unknown axis `los`"],
    );
}

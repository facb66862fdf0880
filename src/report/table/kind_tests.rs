//! Kinds of tables, what an experiment file asks of them, and the renderings that [`super::tests`] has not.

use super::fixture::{self, Fixture};
use super::render::{Csv, Html, JsonForm, Latex, Markdown, Render, Terminal};
use super::{Cell, Kind, State, Table, summary_table, tables};
use crate::report::data::ExperimentData;
use crate::spec::report::{DesignKind, ReferenceSpec, Sort, TableKind, TableSpec, Tick};
use crate::store::rows::Status;

pub(super) fn spec(kind: TableKind) -> TableSpec {
    TableSpec {
        kind,
        ..TableSpec::default()
    }
}

/// The first table where the file asks for `spec`.
pub(super) fn asked(mut data: ExperimentData, spec: TableSpec) -> Table {
    data.experiment.report.tables = Some(vec![spec]);
    tables(&data).unwrap().remove(0)
}

pub(super) fn heads(table: &Table) -> Vec<String> {
    table
        .columns
        .iter()
        .map(|column| column.full_head())
        .collect()
}

pub(super) fn texts(table: &Table, column: usize) -> Vec<String> {
    table
        .rows
        .iter()
        .map(|row| row.cells[column].words().text)
        .collect()
}

pub(super) fn text(table: &Table, row: usize, head: &str) -> String {
    let column = heads(table)
        .iter()
        .position(|own| own == head)
        .expect("the column");
    table.rows[row].cells[column].words().text
}

#[test]
fn a_product_of_two_axes_is_a_pivot_where_nothing_is_said() {
    let mut data = fixture::loss().data;
    data.experiment.report.columns.clear();
    let table = summary_table(&data).unwrap();
    // Along the columns the axis that the baseline gives a label of: what is compared stands side by side.
    assert_eq!(heads(&table), ["model", "ce", "bce", "Δ bce"]);
    assert_eq!(texts(&table, 0), ["ViT-Ti", "ViT-S"]);
    // Without a baseline the last axis.
    let mut plain = data.clone();
    plain.experiment.baseline = None;
    let table = summary_table(&plain).unwrap();
    assert_eq!(heads(&table), ["loss", "ViT-Ti", "ViT-S"]);
    // Of a baseline that gives all labels every variant has its difference.
    data.experiment.baseline = Some(vec![Some("ce".to_owned()), Some("ViT-S".to_owned())]);
    let table = summary_table(&data).unwrap();
    assert_eq!(
        heads(&table),
        ["loss", "ViT-Ti", "ViT-S", "Δ ViT-Ti", "Δ ViT-S"]
    );
    assert_eq!(text(&table, 0, "Δ ViT-S"), "baseline");
    assert!(text(&table, 1, "Δ ViT-Ti").starts_with('−'));
    assert!(
        table
            .caption
            .contains("to the baseline ce, ViT-S, in brackets"),
        "{}",
        table.caption
    );
}

#[test]
fn a_pivot_has_a_group_of_columns_for_every_metric() {
    let mut data = fixture::loss().data;
    data.experiment.report.metrics = vec!["top1".to_owned(), "loss".to_owned()];
    let table = summary_table(&data).unwrap();
    assert_eq!(
        heads(&table),
        [
            "model",
            "top-1 (%) ce",
            "top-1 (%) bce",
            "top-1 (%) Δ bce",
            "val loss ce",
            "val loss bce"
        ]
    );
    assert_eq!(
        table.column_groups(),
        [(None, 1), (Some("top-1 (%)"), 3), (Some("val loss"), 2)]
    );
    // The best of its row, of each metric: a high accuracy, a low loss.
    let best: Vec<bool> = table.rows[0]
        .cells
        .iter()
        .map(|cell| cell.words().bold)
        .collect();
    assert_eq!(best, [false, true, false, false, true, false]);
    assert!(
        table
            .caption
            .starts_with("Top-1 accuracy (%) and loss on val.")
    );
    let wide = Fixture::product(
        "wide",
        &[("a", &["x", "y"]), ("b", &["1", "2", "3", "4", "5"])],
        2,
        &["train"],
    )
    .baseline(&[None, Some("1")])
    .finish(0.3, |variant, _| 50.0 + variant as f64)
    .data;
    let table = summary_table(&wide).unwrap();
    assert!(
        table.caption.ends_with(
            "Differences to b 1 are too many for this table and stand in that of the variants."
        ),
        "{}",
        table.caption
    );
}

#[test]
fn one_at_a_time_is_an_ingredient_table() {
    let variants = vec![
        (
            "baseline".to_owned(),
            vec!["ce".to_owned(), "none".to_owned()],
        ),
        (
            "loss=bce".to_owned(),
            vec!["bce".to_owned(), "none".to_owned()],
        ),
        (
            "augment=three".to_owned(),
            vec!["ce".to_owned(), "three".to_owned()],
        ),
    ];
    let axes = [
        ("loss", &["ce", "bce"][..]),
        ("augment", &["none", "three"][..]),
    ];
    let mut data = Fixture::list("one", &axes, variants, 3, &["train"])
        .baseline(&[Some("ce"), Some("none")])
        .finish(0.3, |variant, _| [50.0, 52.0, 55.0][variant])
        .data;
    data.experiment.report.design = DesignKind::OneAtATime;
    let table = summary_table(&data).unwrap();
    assert_eq!(
        heads(&table),
        [
            "change",
            "from",
            "to",
            "top-1 (%)",
            "n",
            "Δ top-1",
            "failed"
        ]
    );
    assert_eq!(texts(&table, 0), ["baseline", "loss", "augment"]);
    assert_eq!(texts(&table, 2), ["", "bce", "three"]);
    assert_eq!(text(&table, 0, "Δ top-1"), "baseline");
    assert!(text(&table, 2, "Δ top-1").starts_with('+'));
}

#[test]
fn leave_one_out_marks_its_ingredients() {
    let variants = vec![
        ("full".to_owned(), vec!["on".to_owned(), "on".to_owned()]),
        (
            "- mixup".to_owned(),
            vec!["off".to_owned(), "on".to_owned()],
        ),
        (
            "- layer_scale".to_owned(),
            vec!["on".to_owned(), "off".to_owned()],
        ),
    ];
    let axes = [
        ("mixup", &["on", "off"][..]),
        ("layer_scale", &["on", "off"][..]),
    ];
    let mut data = Fixture::list("leave", &axes, variants, 3, &["train"])
        .baseline(&[Some("on"), Some("on")])
        .finish(0.3, |variant, _| [55.0, 52.0, 54.0][variant])
        .data;
    data.experiment.report.design = DesignKind::LeaveOneOut;
    let table = summary_table(&data).unwrap();
    assert_eq!(heads(&table)[..3], ["recipe", "mixup", "layer scale"]);
    assert_eq!(texts(&table, 1), ["✓", "–", "✓"]);
    assert_eq!(texts(&table, 2), ["✓", "✓", "–"]);
}

#[test]
fn labels_are_told_by_what_they_stand_for() {
    let axes = [("loss", &["ce", "bce", "both"][..])];
    let mut data = Fixture::product("ticks", &axes, 2, &["train"])
        .finish(0.3, |variant, _| 50.0 + variant as f64)
        .data;
    let tick = |axis: &str, part: &str, labels: &[&str]| Tick {
        axis: axis.to_owned(),
        part: part.to_owned(),
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
    };
    data.experiment.report.tables = Some(vec![TableSpec {
        ticks: vec![
            tick("loss", "Softmax", &["ce", "both"]),
            tick("loss", "Sigmoid", &["bce", "both"]),
            tick("gone", "Nothing", &["ce"]),
        ],
        ..TableSpec::default()
    }]);
    let table = summary_table(&data).unwrap();
    assert_eq!(heads(&table)[..3], ["loss", "Softmax", "Sigmoid"]);
    assert_eq!(texts(&table, 0), ["ce", "bce", "both"]);
    assert_eq!(texts(&table, 1), ["✓", "–", "✓"]);
    assert_eq!(texts(&table, 2), ["–", "✓", "✓"]);
}

#[test]
fn a_path_is_a_roadmap() {
    let variants = ["baseline", "+ bce", "+ three"];
    let variants = variants.iter().enumerate().map(|(step, name)| {
        let label = |done: bool| if done { "on" } else { "off" }.to_owned();
        ((*name).to_owned(), vec![label(step > 0), label(step > 1)])
    });
    let axes = [("bce", &["off", "on"][..]), ("three", &["off", "on"][..])];
    let mut data = Fixture::list("path", &axes, variants.collect(), 3, &["train"])
        .baseline(&[Some("off"), Some("off")])
        .finish(0.0, |variant, _| [50.0, 52.0, 55.0][variant])
        .data;
    data.experiment.report.design = DesignKind::Path;
    let table = summary_table(&data).unwrap();
    assert_eq!(
        heads(&table),
        [
            "step",
            "top-1 (%)",
            "n",
            "Δ step top-1",
            "Δ total top-1",
            "failed"
        ]
    );
    let mean = |row: usize, column: usize| match &table.rows[row].cells[column] {
        Cell::Delta(delta) => delta.mean,
        other => panic!("{other:?}"),
    };
    assert_eq!(table.rows[0].cells[3], Cell::Baseline);
    assert!((mean(1, 3) - 2.0).abs() < 0.06 && (mean(2, 3) - 3.0).abs() < 0.06);
    assert!((mean(2, 4) - 5.0).abs() < 0.06, "{}", mean(2, 4));
}

#[test]
fn test_resolutions_are_columns_of_one_group() {
    let data = fixture::test_resolutions(3).data;
    let all = tables(&data).unwrap();
    let table = all
        .iter()
        .find(|table| table.name == "resolutions")
        .unwrap();
    assert_eq!(
        table.columns[1].group.as_deref(),
        Some("pretrain tested at")
    );
    assert_eq!(table.columns[1].head, "24 px");
    assert_eq!(
        table.column_groups(),
        [(None, 1), (Some("pretrain tested at"), 6)]
    );
    assert!(
        Html.render(table)
            .contains("<th colspan=\"6\" scope=\"colgroup\">pretrain tested at</th>")
    );
    assert!(
        table.caption.starts_with(
            "Top-1 accuracy (%) on val, at the end of pretrain. \u{201c}Tested at … px\u{201d}: the same weights"
        ),
        "{}",
        table.caption
    );
    let latex = Latex.render(table);
    assert!(
        latex.contains("\\multicolumn{6}{c}{pretrain tested at} \\\\\n\\cmidrule(lr){2-7}\n"),
        "{latex}"
    );
}

#[test]
fn what_the_file_asks_for() {
    let table = asked(
        fixture::loss().data,
        TableSpec {
            title: Some("Losses".to_owned()),
            sort: Some(Sort {
                by: "top1".to_owned(),
                reversed: false,
            }),
            metrics: vec!["top1".to_owned(), "loss".to_owned()],
            baseline: Some(vec![Some("bce".to_owned()), None]),
            footnotes: vec!["A note.".to_owned()],
            ..spec(TableKind::Variants)
        },
    );
    assert_eq!(table.title, "Losses");
    assert_eq!(
        heads(&table),
        [
            "loss",
            "model",
            "top-1 (%)",
            "val loss",
            "n",
            "Δ top-1",
            "failed"
        ]
    );
    // Best first.
    assert_eq!(texts(&table, 0), ["bce", "ce", "ce", "bce"]);
    assert_eq!(text(&table, 0, "Δ top-1"), "baseline");
    assert!(
        table
            .caption
            .contains("to the otherwise equal variant with bce"),
        "{}",
        table.caption
    );
    assert_eq!(table.footnotes, ["A note."]);
    let worst_first = Sort {
        by: "top1".to_owned(),
        reversed: true,
    };
    let table = asked(
        fixture::loss().data,
        TableSpec {
            sort: Some(worst_first),
            ..spec(TableKind::Variants)
        },
    );
    assert_eq!(texts(&table, 1), ["ViT-Ti", "ViT-Ti", "ViT-S", "ViT-S"]);
}

#[test]
fn groups_head_their_rows_in_every_form() {
    let table = asked(
        fixture::loss().data,
        TableSpec {
            groups: Some("model".to_owned()),
            ..spec(TableKind::Variants)
        },
    );
    assert_eq!(heads(&table)[..2], ["loss", "top-1 (%)"]);
    let groups: Vec<_> = table
        .rows
        .iter()
        .map(|row| row.group.clone().unwrap())
        .collect();
    assert_eq!(
        groups,
        ["model ViT-Ti", "model ViT-Ti", "model ViT-S", "model ViT-S"]
    );
    let terminal = Terminal { colour: false }.render(&table);
    assert!(terminal.contains("\n model ViT-S:"), "{terminal}");
    assert!(Markdown.render(&table).contains("\n| *model ViT-Ti* |  |"));
    let html = Html.render(&table);
    assert!(
        html.contains(
            "<tr class=\"group\"><th colspan=\"5\" scope=\"rowgroup\">model ViT-S</th></tr>"
        ),
        "{html}"
    );
    assert!(
        Latex
            .render(&table)
            .contains("{\\itshape model ViT{-}S} \\\\")
    );
    assert!(Csv.render(&table).starts_with("group,loss,"));
    // In a pivot, too.
    let pivot = asked(
        fixture::loss().data,
        TableSpec {
            groups: Some("model".to_owned()),
            ..spec(TableKind::Pivot)
        },
    );
    assert_eq!(pivot.rows[0].group.as_deref(), Some("model ViT-Ti"));
    assert_eq!(heads(&pivot), ["ce", "bce", "Δ bce"]);
}

#[test]
fn transposed_for_people_and_as_it_is_for_machines() {
    let plain = asked(fixture::crop(3).data, spec(TableKind::Variants));
    let turned = asked(
        fixture::crop(3).data,
        TableSpec {
            transposed: true,
            ..spec(TableKind::Variants)
        },
    );
    assert_eq!(Csv.render(&plain), Csv.render(&turned));
    let shown = turned.shown();
    assert_eq!(heads(&shown), ["crop", "rrc", "src"]);
    assert_eq!(texts(&shown, 0), ["top-1 (%)", "n", "Δ top-1", "failed"]);
    assert_eq!(shown.columns[1].kind, Kind::Mixed);
    let text = Terminal { colour: false }.render(&turned);
    assert!(text.contains("\n Δ top-1     baseline"), "{text}");
}

pub(super) fn with_references() -> ExperimentData {
    let mut data = fixture::loss().data;
    let at = |loss: &str| vec![Some(loss.to_owned()), Some("ViT-S".to_owned())];
    let reference = |loss: &str, id: &str| ReferenceSpec {
        at: at(loss),
        id: Some(id.to_owned()),
        ..ReferenceSpec::default()
    };
    data.experiment.report.reference = vec![
        reference("ce", "R0160"),
        reference("bce", "R0161"),
        ReferenceSpec {
            at: at("bce"),
            value: Some(57.2),
            std: Some(0.3),
            source: "<b>a & b</b>".to_owned(),
            ..ReferenceSpec::default()
        },
    ];
    data
}

#[test]
fn published_numbers_stand_beside_ours() {
    let all = tables(&with_references()).unwrap();
    let table = all.iter().find(|table| table.name == "published").unwrap();
    assert_eq!(table.rows.len(), 3);
    assert_eq!(text(table, 0, "published"), "80.9");
    assert_eq!(text(table, 1, "published"), "82.2");
    assert_eq!(text(table, 1, "in our prediction interval")[..4], *"no [");
    assert_eq!(text(table, 2, "in our prediction interval")[..5], *"yes [");
    assert_eq!(text(table, 2, "published"), "57.2 ± 0.3");
    assert_eq!(text(table, 1, "Δ published"), "+1.3");
    assert_eq!(text(table, 1, "direction"), "the same");
    assert!(text(table, 1, "ours − published").starts_with('−'));
    assert!(text(table, 0, "how it was read").contains("article"));
    assert_eq!(table.columns[3].note, Some('a'));
    assert!(
        table.footnotes[0].starts_with("a: "),
        "{:?}",
        table.footnotes
    );
}

#[test]
fn an_experiment_without_runs_has_pending_cells_in_every_table() {
    let mut data = Fixture::product(
        "new",
        &[("loss.name", &["ce", "bce"]), ("model", &["S", "B"])],
        3,
        &["pretrain", "finetune"],
    )
    .baseline(&[Some("ce"), None])
    .data;
    data.experiment.report.reference = vec![ReferenceSpec {
        at: vec![Some("bce".to_owned()), None],
        id: Some("R0161".to_owned()),
        ..ReferenceSpec::default()
    }];
    let kinds = [
        TableKind::Auto,
        TableKind::Variants,
        TableKind::Pivot,
        TableKind::Ingredients,
        TableKind::Roadmap,
    ];
    for kind in kinds {
        let table = asked(data.clone(), spec(kind));
        let pending = table.rows.iter().flat_map(|row| &row.cells);
        assert!(
            pending
                .filter(|cell| **cell == Cell::State(State::Pending))
                .count()
                > 0,
            "{kind:?}"
        );
    }
    let all = tables(&data).unwrap();
    assert_eq!(
        all.iter()
            .map(|table| table.name.as_str())
            .collect::<Vec<_>>(),
        ["table", "variants", "comparisons", "effects", "published"]
    );
    let published = all.last().unwrap();
    assert_eq!(text(published, 0, "ours"), "pending");
    for table in &all {
        assert!(!table.rows.is_empty(), "{}", table.name);
        for form in [
            &Terminal { colour: false } as &dyn Render,
            &Markdown,
            &Html,
            &Csv,
            &JsonForm,
            &Latex,
        ] {
            assert!(form.render(table).contains("pending"));
        }
    }
}

#[test]
fn out_of_memory_is_said() {
    let data = fixture::crop(1)
        .lose(1, 0, Status::Failed, Some("out_of_memory"))
        .data;
    let table = summary_table(&data).unwrap();
    assert_eq!(table.rows[1].cells[1], Cell::State(State::OutOfMemory));
    assert!(Latex.render(&table).contains("{\\ablatebad OOM}"));
}

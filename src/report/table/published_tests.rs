//! Published numbers and statements beside ours.

use super::cells::Cells;
use super::fixture;
use super::kind_tests::with_references;
use super::render::{Csv, Markdown, Render};
use super::{Table, deviations, tables};
use crate::report::data::ExperimentData;
use crate::spec::report::{Direction, ReferenceSpec};

fn text(table: &Table, row: usize, head: &str) -> String {
    let mut columns = table.columns.iter();
    let column = columns.position(|column| column.full_head() == head);
    table.rows[row].cells[column.expect("the column")]
        .words()
        .text
}

#[test]
fn a_published_statement_is_agreed_with_or_not() {
    let mut data = with_references();
    let statement = |direction| ReferenceSpec {
        at: vec![Some("bce".to_owned()), None],
        id: Some("R0162".to_owned()),
        direction: Some(direction),
        ..ReferenceSpec::default()
    };
    let mut said = |direction, margin| -> Vec<[String; 3]> {
        data.experiment.report.reference = vec![statement(direction)];
        data.experiment.report.margin = margin;
        let all = tables(&data).unwrap();
        let table = all.iter().find(|table| table.name == "published").unwrap();
        (0..table.rows.len())
            .map(|row| ["published", "Δ published", "direction"].map(|head| text(table, row, head)))
            .collect()
    };
    // ViT-S: +0.9 [+0.2, +1.6]; the interval of ViT-Ti holds zero or not by its own numbers.
    let better = said(Direction::Better, None);
    assert_eq!(better[1], ["no number", "better", "the same"]);
    assert_eq!(said(Direction::Worse, None)[1][2], "opposite");
    // Not clearly different is not the same, unless a margin says what is.
    assert_eq!(
        said(Direction::None, None)[1][1..],
        ["no difference", "opposite"]
    );
    assert_eq!(said(Direction::None, Some(0.5))[1][2], "undecided");
    assert_eq!(said(Direction::None, Some(2.0))[1][2], "the same");
    assert_eq!(said(Direction::None, Some(0.1))[1][2], "opposite");
}

#[test]
fn sources_are_notes_for_people_and_words_for_machines() {
    let mut data = with_references();
    data.experiment.report.reference.push(ReferenceSpec {
        at: vec![Some("bce".to_owned()), None],
        id: Some("R0162".to_owned()),
        direction: Some(Direction::None),
        ..ReferenceSpec::default()
    });
    let all = tables(&data).unwrap();
    let table = all.iter().find(|table| table.name == "published").unwrap();
    let markdown = Markdown.render(table);
    let article = "an article about the paper (Chinese blog, 2022-05-15)";
    assert!(markdown.contains("| b |\n"), "{markdown}");
    assert!(
        markdown.contains(&format!(
            "\n- b: {article}; how it was read: article about the paper\n"
        )),
        "{markdown}"
    );
    assert!(
        markdown.contains("statement: BCE vs CE: little effect"),
        "{markdown}"
    );
    // `a` is the note of a head.
    assert!(table.shown().footnotes[0].starts_with("a: "));
    let csv = Csv.render(table);
    assert!(
        csv.lines()
            .next()
            .unwrap()
            .ends_with("statement,source,how it was read"),
        "{csv}"
    );
    assert!(
        csv.contains(&format!("\"{article}\",article about the paper")),
        "{csv}"
    );
}

#[test]
fn a_number_stands_beside_our_result_on_its_own_evaluation_set() {
    let mut data = fixture::loss().set("imagenet-v2", &["top1", "loss"]).data;
    data.experiment.report.metrics = vec!["top1".to_owned()];
    let at = vec![Some("bce".to_owned()), Some("ViT-S".to_owned())];
    let reference = |id: &str, set: Option<&str>| ReferenceSpec {
        at: at.clone(),
        id: Some(id.to_owned()),
        set: set.map(str::to_owned),
        ..ReferenceSpec::default()
    };
    // R0002: 70.5 % on ImageNet-V2; R0001 on the validation split.
    data.experiment.report.reference = vec![
        reference("R0001", None),
        reference("R0002", None),
        reference("R0001", Some("elsewhere")),
    ];
    let all = tables(&data).unwrap();
    let table = all.iter().find(|table| table.name == "published").unwrap();
    assert_eq!(text(table, 0, "metric"), "top-1");
    assert_eq!(text(table, 1, "metric"), "top-1 on imagenet-v2");
    assert_ne!(text(table, 0, "ours"), text(table, 1, "ours"));
    assert_eq!(text(table, 2, "ours"), "—");
    assert!(
        table
            .footnotes
            .contains(&"No run was evaluated on elsewhere".to_owned()),
        "{:?}",
        table.footnotes
    );
}

#[test]
fn only_a_report_beside_published_numbers_says_that_it_is_no_replication() {
    let setting = |data: &ExperimentData| {
        let cells = Cells::new(data).unwrap();
        deviations::setting(&cells)
    };
    let mut data = fixture::loss().configurations("loss").data;
    assert_eq!(setting(&data), None);
    data.experiment.report.reference = with_references().experiment.report.reference;
    let words = setting(&data).unwrap();
    assert!(
        words.starts_with("It is not the published setting (") && words.contains("epochs"),
        "{words}"
    );
    // The profile's name makes it no replication.
    data.experiment.profile = "paper".to_owned();
    assert_eq!(setting(&data), Some(words));
    data.background.configs.clear();
    assert!(setting(&data).unwrap().contains("isn't known"));
}

/// As they were printed: `83.0` isn't `83`.
#[test]
fn published_numbers_keep_their_decimals() {
    let row = crate::spec::published::result("R0013").unwrap();
    assert_eq!((row.value, row.decimals), (Some(83.0), 1));
    let mut data = fixture::loss().data;
    data.experiment.report.reference = vec![ReferenceSpec {
        at: vec![None, None],
        id: Some("R0013".to_owned()),
        ..ReferenceSpec::default()
    }];
    let all = tables(&data).unwrap();
    let table = all.iter().find(|table| table.name == "published").unwrap();
    assert_eq!(text(table, 0, "published"), "83.0");
}

/// A difference of two numbers that were published in different places says so.
#[test]
fn a_difference_between_two_published_tables_says_so() {
    let mut data = fixture::epochs(3).baseline(&[Some("6")]).data;
    let reference = |label: &str, id: &str| ReferenceSpec {
        at: vec![Some(label.to_owned())],
        id: Some(id.to_owned()),
        ..ReferenceSpec::default()
    };
    let notes = |data: &ExperimentData| {
        let all = tables(data).unwrap();
        let table = all.iter().find(|table| table.name == "published");
        table.unwrap().footnotes.join("; ")
    };
    // Table 15 twice, then a baseline of another one.
    data.experiment.report.reference = vec![reference("6", "R0156"), reference("16", "R0158")];
    assert!(!notes(&data).contains("between two"), "{}", notes(&data));
    data.experiment.report.reference = vec![reference("6", "R0146"), reference("16", "R0158")];
    assert!(
        notes(&data).contains("is between two of the paper's tables or figures: Table 15"),
        "{}",
        notes(&data)
    );
}

use super::fixture::{self, Fixture};
use super::render::{Csv, Markdown, Render, Terminal};
use super::{Cell, State, Table, Verdict, summary_table, tables};
use crate::store::rows::Status;

const PLAIN: Terminal = Terminal { colour: false };

/// Compares with a golden file. `ABLATE_UPDATE_GOLDEN=1` writes the files anew, for a person to read the
/// difference.
#[track_caller]
fn golden(name: &str, ours: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/report/table/golden")
        .join(name);
    if std::env::var_os("ABLATE_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, ours).unwrap();
    }
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(ours, golden, "\n{ours}");
}

fn cell<'a>(table: &'a Table, row: usize, head: &str) -> &'a Cell {
    let column = table
        .columns
        .iter()
        .position(|column| column.head == head)
        .expect("the column");
    &table.rows[row].cells[column]
}

#[test]
fn a_pivot_on_the_terminal() {
    golden(
        "pivot.txt",
        &PLAIN.render(&summary_table(&fixture::loss().data).unwrap()),
    );
}

#[test]
fn one_row_per_variant_in_markdown() {
    let tables = tables(&fixture::loss().data).unwrap();
    assert_eq!(
        tables
            .iter()
            .map(|table| table.name.as_str())
            .collect::<Vec<_>>(),
        ["table", "variants", "comparisons", "effects"]
    );
    golden("variants.md", &Markdown.render(&tables[1]));
}

#[test]
fn stages_stand_side_by_side() {
    golden(
        "stages.txt",
        &PLAIN.render(&summary_table(&fixture::fixres(3).data).unwrap()),
    );
}

#[test]
fn a_single_run_has_no_plus_minus() {
    golden(
        "single.txt",
        &PLAIN.render(&summary_table(&fixture::crop(1).predictions().data).unwrap()),
    );
    let without = PLAIN.render(&summary_table(&fixture::crop(1).data).unwrap());
    assert!(
        !without.contains('±') && !without.contains("Wilson") && without.contains("n = 1"),
        "{without}"
    );
}

#[test]
fn failed_diverged_waiting_and_missing_cells_are_shown() {
    let data = fixture::loss()
        .lose(0, 1, Status::Failed, Some("out_of_memory"))
        .lose(2, 0, Status::Failed, Some("diverged"))
        .lose(2, 1, Status::Failed, Some("diverged"))
        .lose(2, 2, Status::Failed, Some("diverged"))
        .lose(3, 0, Status::Pending, None)
        .lose(3, 1, Status::Running, None)
        .exclude(1)
        .data;
    golden("states.txt", &PLAIN.render(&summary_table(&data).unwrap()));
    let long = &tables(&data).unwrap()[1];
    assert_eq!(*cell(long, 0, "failed"), Cell::Failures(1));
    assert_eq!(*cell(long, 1, "top-1 (%)"), Cell::State(State::Diverged));
    assert_eq!(*cell(long, 1, "n"), Cell::Count { n: 0, of: 3 });
    assert_eq!(*cell(long, 2, "Δ top-1"), Cell::State(State::Missing));
}

#[test]
fn an_experiment_that_has_not_run_is_a_table_of_pending_cells() {
    let data = Fixture::product("new", &[("loss.name", &["ce", "bce"])], 3, &["train"])
        .baseline(&[Some("ce")])
        .data;
    let table = summary_table(&data).unwrap();
    for row in 0..2 {
        assert_eq!(*cell(&table, row, "top-1 (%)"), Cell::State(State::Pending));
    }
    assert!(
        table.caption.contains("No run has finished yet"),
        "{}",
        table.caption
    );
    assert_eq!(
        table.footnotes,
        ["Not final: of 6 runs, 0 running and 6 pending"]
    );
}

#[test]
fn deviations_are_said_under_the_table() {
    let mut data = Fixture::product("new", &[("loss.name", &["ce", "bce"])], 3, &["train"]).data;
    let what = "train.accumulation: 1 -> 2";
    data.deviations = (0..6)
        .map(|run| {
            (
                format!("new/ce/s{run}"),
                "train".to_owned(),
                what.to_owned(),
            )
        })
        .collect();
    let table = summary_table(&data).unwrap();
    let note = table.footnotes.last().unwrap();
    assert_eq!(
        note,
        "Deviation, for memory was short: train.accumulation: 1 -> 2 (new/ce/s0, new/ce/s1, new/ce/s2, \
         new/ce/s3 and 2 more); the same batches and draws, sums in another order"
    );
}

#[test]
fn all_failed_names_the_class() {
    let data = Fixture::product("new", &[("loss.name", &["ce"])], 1, &["train"])
        .lose(0, 0, Status::Failed, Some("device_lost"))
        .data;
    let table = summary_table(&data).unwrap();
    assert_eq!(
        cell(&table, 0, "top-1 (%)").words().text,
        "failed (device lost)"
    );
    // No baseline: no delta column.
    assert!(
        table
            .columns
            .iter()
            .all(|column| !column.head.contains('Δ'))
    );
}

#[test]
fn values_that_print_alike_share_the_mark() {
    let data = Fixture::product("ties", &[("label", &["a", "b", "c"])], 3, &["train"])
        .finish(0.9, |variant, _| [50.0, 50.0, 48.0][variant])
        .data;
    let mut data = data;
    // The second variant a hair better than the first: less than the printed digits.
    let first: Vec<f64> = data
        .results
        .iter()
        .filter(|row| row.variant_index == 0 && row.metric == "top1")
        .map(|row| row.value)
        .collect();
    for row in data
        .results
        .iter_mut()
        .filter(|row| row.variant_index == 1 && row.metric == "top1")
    {
        row.value = first[row.seed as usize] + 1e-6;
    }
    let table = summary_table(&data).unwrap();
    let best: Vec<bool> = (0..3)
        .map(|row| cell(&table, row, "top-1 (%)").words().bold)
        .collect();
    assert_eq!(best, [true, true, false]);
}

#[test]
fn lower_is_better_for_a_loss() {
    let mut data = fixture::crop(3).data;
    data.experiment.report.metrics = vec!["loss".to_owned(), "top1".to_owned()];
    let table = summary_table(&data).unwrap();
    let heads: Vec<&str> = table
        .columns
        .iter()
        .map(|column| column.head.as_str())
        .collect();
    assert_eq!(
        heads,
        ["crop", "val loss", "top-1 (%)", "n", "Δ loss", "failed"]
    );
    assert!(cell(&table, 1, "val loss").words().bold && !cell(&table, 0, "val loss").words().bold);
    let Cell::Delta(delta) = cell(&table, 1, "Δ loss") else {
        panic!("a delta")
    };
    assert!(delta.mean < 0.0);
    let (interval, _) = delta.interval.unwrap();
    assert_eq!(delta.verdict == Verdict::Better, interval.high < 0.0);
}

#[test]
fn a_value_that_is_not_finite_is_no_number() {
    let mut data = fixture::crop(3).data;
    for row in data.results.iter_mut().filter(|row| row.variant_index == 1) {
        row.value = f64::NAN;
    }
    let table = summary_table(&data).unwrap();
    assert_eq!(*cell(&table, 1, "top-1 (%)"), Cell::State(State::Diverged));
}

#[test]
fn designs_that_name_their_variants_show_the_names() {
    let variants = vec![
        ("full".to_owned(), vec!["on".to_owned(), "on".to_owned()]),
        (
            "- layer_scale".to_owned(),
            vec!["off".to_owned(), "on".to_owned()],
        ),
        (
            "- mixup".to_owned(),
            vec!["on".to_owned(), "off".to_owned()],
        ),
    ];
    let data = Fixture::list(
        "leave",
        &[("layer_scale", &["on", "off"]), ("mixup", &["on", "off"])],
        variants,
        3,
        &["train"],
    )
    .baseline(&[Some("on"), Some("on")])
    .finish(0.3, |variant, _| [55.0, 52.0, 54.0][variant])
    .data;
    let table = summary_table(&data).unwrap();
    assert_eq!(table.columns[0].head, "variant");
    assert_eq!(*cell(&table, 0, "Δ top-1"), Cell::Baseline);
    assert!(table.rows[0].is_baseline && !table.rows[1].is_baseline);
    assert!(
        matches!(cell(&table, 1, "Δ top-1"), Cell::Delta(delta) if delta.verdict == Verdict::Worse)
    );
    assert!(
        table.caption.contains("to the baseline full"),
        "{}",
        table.caption
    );
}

/// Labels that try to break out of every form.
fn hostile() -> Table {
    let labels = [
        "a|b\nc\td",
        "\u{1b}[31mred\u{7}\u{9b}0m",
        "\u{202e}evil\u{200f}\u{2066}\u{feff}",
        "<script>alert(1)</script>&amp;",
        "=HYPERLINK(\"http://x\",\"y\")",
        "+1",
        "-2",
        "@SUM(A1)",
        "**bold** _it_ `code` [x](y) ![z](w) ~~s~~ $m$ \\|",
        "\u{2061}\u{2063}marks\u{2060}",
    ];
    let data = Fixture::product("hostile", &[("label", &labels)], 2, &["train"])
        .baseline(&[Some(labels[0])])
        .finish(0.4, |variant, _| 50.0 + variant as f64)
        .data;
    summary_table(&data).unwrap()
}

#[test]
fn hostile_labels_on_the_terminal() {
    let text = PLAIN.render(&hostile());
    assert!(
        text.chars()
            .all(|c| c == '\n' || !crate::report::text::is_unsafe(c)),
        "{text:?}"
    );
    assert!(
        text.contains(" a|b c d ") && text.contains("\\u{1b}[31mred\\u{7}\\u{9b}0m"),
        "{text}"
    );
    // One line per row: head, three rules, ten rows, title, then the text below.
    assert_eq!(
        text.lines().filter(|line| line.starts_with(' ')).count(),
        11,
        "{text}"
    );
    let coloured = Terminal { colour: true }.render(&hostile());
    assert!(coloured.contains("\\u{2061}\\u{2063}marks\\u{2060}"));
    assert!(!coloured.contains("\u{1b}[31mred"));
}

#[test]
fn colour_changes_nothing_but_colour() {
    for data in [fixture::loss().data, fixture::augmentation(3).data] {
        let mut data = data;
        data.experiment.report.correction = crate::spec::report::Correction::None;
        let table = summary_table(&data).unwrap();
        let coloured = Terminal { colour: true }.render(&table);
        assert!(
            coloured.contains("\u{1b}[32m+") && coloured.contains("\u{1b}[31m−"),
            "{coloured:?}"
        );
        let mut stripped = String::new();
        let mut rest = coloured.as_str();
        while let Some(start) = rest.find('\u{1b}') {
            stripped.push_str(&rest[..start]);
            rest = &rest[start + rest[start..].find('m').unwrap() + 1..];
        }
        stripped.push_str(rest);
        // The star that marks the best without colour is bold type with it.
        let width = |text: &str| text.replace(['*', ' ', '─', '\n'], "");
        assert_eq!(width(&stripped), width(&PLAIN.render(&table)));
        let rule = stripped.lines().nth(1).unwrap().chars().count();
        assert!(
            stripped
                .lines()
                .skip(1)
                .take_while(|line| !line.starts_with("Top"))
                .all(|l| l.chars().count() <= rule)
        );
    }
}

#[test]
fn hostile_labels_in_markdown() {
    let text = Markdown.render(&hostile());
    assert!(
        text.chars()
            .all(|c| c == '\n' || !crate::report::text::is_unsafe(c)),
        "{text:?}"
    );
    let rows: Vec<&str> = text.lines().take(12).collect();
    for row in &rows {
        // Every row has the same number of bars that aren't escaped.
        let bars = row
            .replace("\\\\", "")
            .replace("\\|", "")
            .matches('|')
            .count();
        assert_eq!(bars, 6, "{row}");
    }
    assert!(rows[2].starts_with("| a\\|b c d |"), "{}", rows[2]);
    assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;"));
    assert!(text.contains("\\*\\*bold\\*\\* \\_it\\_ \\`code\\` \\[x\\](y) !\\[z\\](w) \\~\\~s\\~\\~ \\$m\\$ \\\\\\|"), "{text}");
}

#[test]
fn hostile_labels_in_csv() {
    let text = Csv.render(&hostile());
    assert!(text.contains("\n\"a|b\nc\td\","), "{text}");
    assert!(
        text.contains("\n\"=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\","),
        "{text}"
    );
    assert!(
        text.contains("\n+1,") && text.contains("\n-2,") && text.contains("\n@SUM(A1),"),
        "{text}"
    );
}

#[test]
fn csv_has_every_digit() {
    golden(
        "crop.csv",
        &Csv.render(&summary_table(&fixture::crop(3).data).unwrap()),
    );
    let single = Csv.render(&summary_table(&fixture::crop(1).predictions().data).unwrap());
    assert!(single.starts_with(
        "crop,top-1 (%),top-1 (%) sd,top-1 (%) n,top-1 (%) image low,top-1 (%) image high,n,"
    ));
}

#[test]
fn further_sets_and_resolutions_are_further_columns() {
    let mut data = fixture::test_resolutions(3).data;
    data.experiment.report.metrics = vec!["top1".to_owned(), "loss".to_owned()];
    // Beside a table of the resolutions the main one leaves them out.
    let short = summary_table(&data).unwrap();
    assert_eq!(short, tables(&data).unwrap().remove(0));
    data.experiment.report.tables = Some(vec![crate::spec::report::TableSpec::default()]);
    let table = tables(&data).unwrap().remove(0);
    assert_eq!(short.columns.len(), table.columns.len() - 6);
    assert!(!short.caption.contains("at that test resolution"));
    let heads: Vec<&str> = table.columns.iter().map(|column| &*column.head).collect();
    assert_eq!(
        heads,
        [
            "resolution",
            "pretrain val top-1 (%)",
            "finetune val top-1 (%)",
            "finetune imagenet-real top-1 (%)",
            "finetune imagenet-v2 top-1 (%)",
            "finetune val loss",
            "finetune imagenet-v2 loss",
            "pretrain top-1 at 24 px",
            "pretrain top-1 at 32 px",
            "pretrain top-1 at 40 px",
            "pretrain top-1 at 48 px",
            "pretrain top-1 at 56 px",
            "pretrain top-1 at 64 px",
            "n",
            "Δ finetune val top-1",
            "failed"
        ]
    );
    // The headline is each variant's own resolution, wherever it lies among the others.
    let mean = |table: &Table, row: usize, head: &str| match cell(table, row, head) {
        Cell::Value(value) => value.mean,
        other => panic!("{other:?}"),
    };
    for (row, side) in [24, 32, 40, 48].into_iter().enumerate() {
        let own = mean(&table, row, &format!("pretrain top-1 at {side} px"));
        assert_eq!(mean(&table, row, "pretrain val top-1 (%)"), own);
        let plain = summary_table(&fixture::fixres(3).data).unwrap();
        assert!((own - mean(&plain, row, "pretrain top-1 (%)")).abs() < 1e-9);
    }
    assert!(
        table
            .caption
            .starts_with("Top-1 accuracy (%) and loss on val and imagenet-real and imagenet-v2")
            && table
                .caption
                .contains("the same weights at that test resolution"),
        "{}",
        table.caption
    );
}

//! What tables say of differences, and where they have none.

use super::fixture::{self, Fixture};
use super::kind_tests::{asked, heads, spec, text, texts};
use super::render::{Html, Latex, Markdown, Render, Terminal};
use super::{Cell, Row, Table, Verdict, summary_table, tables};
use crate::report::data::ExperimentData;
use crate::spec::report::{Correction, Sort, TableKind, TableSpec};
use crate::store::rows::{RunRow, Status};

#[test]
fn comparisons_say_what_every_view_says() {
    let mut data = fixture::augmentation(5).data;
    data.experiment.report.margin = Some(1.0);
    let table = &comparisons(&data);
    assert_eq!(
        heads(table),
        [
            "variant",
            "against",
            "n",
            "Δ top-1",
            "p (t)",
            "p (permutation)",
            "p (Holm)",
            "Hedges' g",
            "P(better)",
            "p (equivalent)",
            "equivalent"
        ]
    );
    assert_eq!(table.rows.len(), 6);
    assert_eq!(
        (text(table, 0, "against"), text(table, 0, "n")),
        ("rand-augment".to_owned(), "5 pairs".to_owned())
    );
    // Five pairs of one sign: 2 of 32 flips.
    assert_eq!(text(table, 0, "p (permutation)"), "0.062");
    assert!(
        table.caption.contains("adjusted for 6 comparisons"),
        "{}",
        table.caption
    );
    assert!(
        table
            .caption
            .contains("less than 1 percentage points either way (p < 0.05, not corrected for the number of comparisons), the margin that the experiment file declares"),
        "{}",
        table.caption
    );
    let p = |head: &str, row: usize| {
        text(table, row, head)
            .trim_start_matches("< ")
            .parse::<f64>()
            .unwrap()
    };
    for row in 0..6 {
        assert!(p("p (Holm)", row) >= p("p (t)", row));
    }
    assert!(
        table.footnotes.iter().any(|note| note.starts_with(
            "Smallest effect: by the spread of these runs, and before a correction for the number of comparisons, an \
             observed difference is told from zero from "
        ) && note.contains("percentage points on, the half-width")
            && note.ends_with("with a probability of 80 %")),
        "{:?}",
        table.footnotes
    );
}

fn comparisons(data: &ExperimentData) -> Table {
    let found = tables(data).unwrap().into_iter();
    let mut found = found.filter(|table| table.name == "comparisons");
    found.next().expect("the comparisons")
}

fn deltas(table: &Table, head: &str) -> Vec<Verdict> {
    let column = heads(table).iter().position(|own| own == head).unwrap();
    let verdict = |row: &Row| match &row.cells[column] {
        Cell::Delta(delta) => Some(delta.verdict),
        _ => None,
    };
    table.rows.iter().filter_map(verdict).collect()
}

#[test]
fn dunnett_has_simultaneous_intervals() {
    let mut data = fixture::augmentation(5).data;
    data.experiment.report.correction = Correction::Dunnett;
    let table = comparisons(&data);
    assert!(
        table.caption.contains(
            "6 comparisons with one baseline at once, one variance for all and the 5 seeds that all share as blocks"
        ),
        "{}",
        table.caption
    );
    let at = |head: &str| heads(&table).iter().position(|own| own == head).unwrap();
    let (pair, all) = (at("Δ top-1"), at("Δ top-1, simultaneous"));
    for row in &table.rows {
        let (Cell::Delta(delta), Cell::Estimate(estimate)) = (&row.cells[pair], &row.cells[all])
        else {
            panic!("{row:?}")
        };
        assert!((delta.mean - estimate.value).abs() < 1e-9);
        // What is coloured is what the simultaneous interval shows.
        let clear = !estimate.interval.unwrap().contains(0.0);
        assert_eq!(clear, delta.verdict != Verdict::Unclear, "{row:?}");
    }
    // A baseline a model: the two comparisons share the 5 %, as Holm's would.
    let mut data = fixture::loss().data;
    data.experiment.report.correction = Correction::Dunnett;
    let table = comparisons(&data);
    assert!(
        table
            .caption
            .contains("2 comparisons with 2 baselines, which share the 5 % in equal parts at once"),
        "{}",
        table.caption
    );
    let alone = |row: usize| text(&table, row, "p (t)").parse::<f64>();
    let both = |row: usize| text(&table, row, "p (Dunnett)").parse::<f64>();
    // One comparison a family: its p is twice the paired t test's.
    if let (Ok(alone), Ok(both)) = (alone(1), both(1)) {
        assert!((both - 2.0 * alone).abs() < 0.002, "{both} {alone}");
    }
}

/// A difference is better or worse in every table only where the corrected p says so.
#[test]
fn what_is_coloured_is_what_the_correction_leaves() {
    let base = [53.0, 52.0, 54.0];
    // Differences +1.0, +1.2, +1.4: p (t) is 0.0091; and +1, +2, +2.6: p (t) is 0.057 (stats.ttest_rel).
    let mut data = Fixture::product(
        "few",
        &[("x", &["a", "b", "c", "d", "e", "f"])],
        3,
        &["train"],
    )
    .baseline(&[Some("a")])
    .finish(0.0, |_, _| 50.0)
    .data;
    for row in data.results.iter_mut().filter(|row| row.metric == "top1") {
        let seed = row.seed as usize;
        row.value = base[seed]
            + match row.variant_index {
                0 => 0.0,
                1 => [1.0, 1.2, 1.4][seed],
                _ => [1.0, 2.0, 2.6][seed],
            };
    }
    data.experiment.report.correction = Correction::None;
    let delta = |data: &ExperimentData| deltas(&summary_table(data).unwrap(), "Δ top-1");
    assert_eq!(delta(&data)[..2], [Verdict::Better, Verdict::Unclear]);
    // Times five comparisons: 0.0457; times six: 0.0548.
    data.experiment.report.correction = Correction::Holm;
    assert_eq!(delta(&data)[..2], [Verdict::Better, Verdict::Unclear]);
    let table = summary_table(&data).unwrap();
    assert!(
        table.caption.contains(
            "; 5 comparisons, their intervals not corrected for their number: by the corrected p (Holm) 1 of them \
             differs from zero; it alone is coloured where there is colour"
        ),
        "{}",
        table.caption
    );
    // One more comparison, whose runs all failed: it was planned, and counts.
    for run in data
        .runs
        .clone()
        .into_iter()
        .filter(|run| run.variant_index == 5)
    {
        data.runs.push(RunRow {
            id: format!("few/g/s{}", run.seed),
            variant: "g".to_owned(),
            variant_index: 6,
            labels: vec!["g".to_owned()],
            status: Status::Failed,
            failure: Some("diverged".to_owned()),
            ..run
        });
    }
    data.experiment.axes[0].labels.push("g".to_owned());
    assert_eq!(delta(&data)[..2], [Verdict::Unclear, Verdict::Unclear]);
    let table = comparisons(&data);
    assert!(
        table
            .caption
            .contains("p (t) adjusted for 5 of 6 planned comparisons"),
        "{}",
        table.caption
    );
    assert_eq!(text(&table, 5, "Δ top-1"), "diverged");
    let caption = summary_table(&data).unwrap().caption;
    assert!(
        caption.contains("none of them differs from zero"),
        "{caption}"
    );
}

/// A failed seed doesn't throw the pairing away.
#[test]
fn a_seed_that_failed_in_one_variant_is_left_out_of_both() {
    let mut data = fixture::crop(4)
        .lose(1, 1, Status::Failed, Some("diverged"))
        .data;
    // Far apart seeds, and nearly the same difference in each.
    let values = [[50.0, 60.0, 40.0, 55.0], [51.8, 0.0, 42.0, 56.98]];
    for row in data.results.iter_mut().filter(|row| row.metric == "top1") {
        row.value = values[row.variant_index as usize][row.seed as usize];
    }
    let table = comparisons(&data);
    assert_eq!(text(&table, 0, "n"), "3 pairs (3, 4)");
    // stats.ttest_rel([51.8,42,56.98],[50,40,55])
    // The values vary by ten points, the differences by a tenth: they have the digits of their own interval.
    assert_eq!(text(&table, 0, "Δ top-1"), "+1.93 [+1.65, +2.20]");
    assert_eq!(text(&table, 0, "p (permutation)"), "0.25");
    assert_eq!(text(&table, 0, "P(better)")[..4], *"1.00");
    let note = "Compared over the seeds that both variants have, without seed 1 that only one of them has: src";
    for table in [table, summary_table(&data).unwrap()] {
        assert!(
            table.footnotes.iter().any(|own| own == note),
            "{:?}",
            table.footnotes
        );
    }
}

#[test]
fn runs_that_ignore_their_seed_have_no_interval() {
    let data = fixture::crop(3).finish(0.0, |variant, _| 50.0 + variant as f64);
    let mut data = data.data;
    for row in &mut data.results {
        row.value = 50.0 + f64::from(row.variant_index);
    }
    let table = comparisons(&data);
    assert_eq!(text(&table, 0, "Δ top-1"), "+1.0");
    for head in [
        "p (t)",
        "p (permutation)",
        "p (Holm)",
        "Hedges' g",
        "P(better)",
    ] {
        assert_eq!(text(&table, 0, head), "—", "{head}");
    }
    assert!(
        table
            .footnotes
            .iter()
            .any(|note| note.ends_with("as if the runs didn't depend on it: src")),
        "{:?}",
        table.footnotes
    );
    assert!(
        table
            .caption
            .contains("without a spread over seeds it has no interval"),
        "{}",
        table.caption
    );
}

/// One seed whose predictions are there: the two trained models on the same images.
#[test]
fn single_runs_are_compared_on_their_images() {
    let table = comparisons(&fixture::crop(1).predictions().data);
    assert_eq!(
        heads(&table)[2..],
        [
            "n",
            "Δ top-1",
            "right alone",
            "p (McNemar)",
            "mid-p",
            "p (Holm)"
        ]
    );
    // The better run has all images right that the other has, and 28 more: 2 * 0.5^28, and half of it.
    assert_eq!(text(&table, 0, "right alone"), "28, 0");
    assert_eq!(text(&table, 0, "n"), "1 pair");
    let p = |head: &str| match &table.rows[0].cells
        [heads(&table).iter().position(|own| own == head).unwrap()]
    {
        Cell::Probability(p) => *p,
        other => panic!("{other:?}"),
    };
    assert!((p("p (McNemar)") - 2f64.powi(-27)).abs() < 1e-15);
    assert!((p("mid-p") - 2f64.powi(-28)).abs() < 1e-15);
    assert!(
        table
            .caption
            .contains("p (Holm): mid-p adjusted for 1 comparison."),
        "{}",
        table.caption
    );
}

#[test]
fn a_table_that_can_not_be_made_says_why() {
    for (kind, why) in [
        (TableKind::Comparisons, "the experiment has no baseline"),
        (
            TableKind::Effects,
            "effects and interactions need two axes with several labels",
        ),
        (
            TableKind::Resolutions,
            "no stage has results at several test resolutions",
        ),
        (
            TableKind::Published,
            "the report's `reference` names no published number",
        ),
    ] {
        let mut data = fixture::crop(3).data;
        data.experiment.baseline = None;
        let table = asked(data.clone(), spec(kind));
        assert_eq!(table.caption, format!("Left out, since {why}."));
        assert!(table.rows.is_empty());
        for form in [
            &Terminal { colour: false } as &dyn Render,
            &Markdown,
            &Html,
            &Latex,
        ] {
            assert!(form.render(&table).contains("Left out, since"));
        }
        data.experiment.report.tables = Some(vec![spec(kind)]);
        let summary = summary_table(&data).unwrap();
        assert!(!summary.rows.is_empty());
        let note = format!("Table table: left out, since {why}");
        assert_eq!(summary.footnotes, [note]);
    }
    // A grid with a hole has no effects.
    let table = asked(fixture::loss().exclude(3).data, spec(TableKind::Effects));
    assert_eq!(
        table.caption,
        "Left out, since the grid lacks a combination of the axes' labels."
    );
}

#[test]
fn units_of_programs_metrics() {
    let mut data = fixture::crop(3).data;
    for row in data.results.iter_mut().filter(|row| row.metric == "top1") {
        row.metric = "acc".to_owned();
    }
    data.experiment.report.metrics = vec!["acc".to_owned()];
    data.experiment.report.described = vec![crate::spec::command::Metric {
        name: "acc".to_owned(),
        better: None,
        unit: Some("%".to_owned()),
    }];
    data.experiment.report.margin = Some(0.5);
    data.experiment.report.bootstrap = 100;
    let table = comparisons(&data);
    assert!(
        table
            .caption
            .contains("Δ: difference, in percentage points, to the baseline rrc")
            && table
                .caption
                .contains("less than 0.5 percentage points either way"),
        "{}",
        table.caption
    );
    assert!(
        table
            .footnotes
            .iter()
            .any(|note| note.contains("of acc there is none")),
        "{:?}",
        table.footnotes
    );
}

#[test]
fn differences_after_a_stage_say_so() {
    let table = summary_table(&fixture::fixres(3).data).unwrap();
    assert!(heads(&table).contains(&"Δ finetune top-1".to_owned()));
    assert!(
        table.caption.contains(
            "Δ: difference of top-1 after finetune, in percentage points, to the baseline resolution 48"
        ),
        "{}",
        table.caption
    );
}

#[test]
fn a_result_that_is_not_finite_is_counted_as_failed() {
    let mut data = fixture::crop(3).data;
    for row in &mut data.results {
        if row.variant_index == 1 && row.seed == 2 {
            row.value = f64::NAN;
        }
    }
    let table = summary_table(&data).unwrap();
    assert_eq!(text(&table, 1, "n"), "2 of 3");
    assert_eq!(text(&table, 1, "failed"), "1");
    assert!(
        table.footnotes.contains(
            &"src: 1 of 3 runs ended with a top-1 that isn't a finite number and is counted as failed (seed 2)"
                .to_owned()
        ),
        "{:?}",
        table.footnotes
    );
}

#[test]
fn the_bootstrap_over_seeds_and_images_is_shown_where_it_is_asked_for() {
    let mut data = fixture::crop(3).predictions().data;
    data.experiment.report.bootstrap = 500;
    let all = tables(&data).unwrap();
    let table = all
        .iter()
        .find(|table| table.name == "comparisons")
        .unwrap();
    let cell = text(table, 0, "Δ top-1, seeds and images");
    assert!(cell.starts_with("+1.4") && cell.contains('['), "{cell}");
    assert!(
        table
            .caption
            .contains("two-way bootstrap, widened for few seeds; 500 draws, their seed 0"),
        "{}",
        table.caption
    );
}

#[test]
fn single_runs_have_the_interval_over_their_images() {
    let table = summary_table(&fixture::crop(1).predictions().data).unwrap();
    let Cell::Delta(delta) = &table.rows[1].cells[3] else {
        panic!("{:?}", table.rows[1])
    };
    let (interval, _) = delta.interval.unwrap();
    assert!(interval.low < delta.mean && delta.mean < interval.high && interval.low > 0.0);
    assert_eq!(delta.verdict, Verdict::Better);
    assert!(
        table
            .caption
            .contains("over the evaluation set's images (bootstrap of the two runs"),
        "{}",
        table.caption
    );
}

#[test]
fn effects_of_a_factorial_design() {
    let all = tables(&fixture::loss().data).unwrap();
    let table = all.iter().find(|table| table.name == "effects").unwrap();
    assert_eq!(
        texts(table, 0),
        [
            "loss: bce against ce",
            "model: ViT-S against ViT-Ti",
            "loss: bce against ce × model: ViT-S against ViT-Ti"
        ]
    );
    assert_eq!(table.rows[2].group.as_deref(), Some("interactions"));
    // A hole in the grid: nothing is averaged over what is not there.
    let all = tables(&fixture::loss().exclude(3).data).unwrap();
    assert!(all.iter().all(|table| table.name != "effects"));
}

#[test]
fn effects_that_cannot_be_made_keep_their_rows() {
    let axes = [("a", &["x", "y", "z"][..]), ("b", &["p", "q"][..])];
    let grid = |lost: &[u64]| {
        let mut grid = Fixture::product("grid", &axes, 3, &["train"])
            .finish(0.4, |variant, _| 50.0 + 3.0 * variant as f64);
        for seed in lost {
            grid = grid.lose(5, *seed, Status::Failed, Some("killed"));
        }
        let all = tables(&grid.data).unwrap();
        all.into_iter()
            .find(|table| table.name == "effects")
            .unwrap()
    };
    let (all, some) = (grid(&[]), grid(&[1, 2]));
    assert_eq!(texts(&all, 0), texts(&some, 0));
    // Whatever compares z, or the labels of b, needs the spread of (z, q), which has one run.
    let missing = texts(&some, 1)
        .iter()
        .filter(|text| text.as_str() == "—")
        .count();
    assert_eq!((missing, some.rows.len()), (3, 5), "{:?}", texts(&some, 1));
    assert!(
        some.caption.contains("2 of 5 planned effects"),
        "{}",
        some.caption
    );
    assert!(
        some.footnotes
            .iter()
            .any(|note| note.starts_with("Effects without a number: ")
                && note.ends_with("has a single run")),
        "{:?}",
        some.footnotes
    );
}

/// A single pair says nothing of other seeds, and the column is about these, too.
#[test]
fn a_single_pair_has_no_interval_over_seeds_and_images() {
    let mut data = fixture::crop(3)
        .predictions()
        .lose(1, 1, Status::Failed, Some("bug"))
        .lose(1, 2, Status::Failed, Some("bug"))
        .data;
    data.experiment.report.bootstrap = 500;
    let table = comparisons(&data);
    assert_eq!(text(&table, 0, "n"), "1 pair (1, 3)");
    let over_both = "Δ top-1, seeds and images";
    if heads(&table).iter().any(|head| head == over_both) {
        assert_eq!(text(&table, 0, over_both), "—");
    }
    assert!(!table.caption.contains("two-way bootstrap") || table.rows.len() > 1);
}

/// Rows come in the order that this table asks for, whatever tables stand before it.
#[test]
fn comparisons_are_sorted_as_their_own_table_says() {
    let best_first = || {
        Some(Sort {
            by: "top1".to_owned(),
            reversed: false,
        })
    };
    let order = |specs: Vec<TableSpec>| {
        let mut data = fixture::augmentation(5).data;
        data.experiment.report.tables = Some(specs);
        let all = tables(&data).unwrap();
        let table = all.iter().find(|table| table.name == "own").unwrap();
        texts(table, 0)
    };
    let own = |sort| TableSpec {
        name: "own".to_owned(),
        sort,
        ..spec(TableKind::Comparisons)
    };
    let other = |sort| TableSpec {
        name: "other".to_owned(),
        sort,
        ..spec(TableKind::Variants)
    };
    let (planned, sorted) = (order(vec![own(None)]), order(vec![own(best_first())]));
    assert_ne!(planned, sorted);
    assert_eq!(order(vec![other(None), own(best_first())]), sorted);
    assert_eq!(order(vec![other(best_first()), own(None)]), planned);
    let grouped = |specs: Vec<TableSpec>| {
        let mut data = fixture::loss().data;
        data.experiment.report.tables = Some(specs);
        let all = tables(&data).unwrap();
        let table = all.into_iter().find(|table| table.name == "own").unwrap();
        let groups: Vec<_> = table.rows.iter().map(|row| row.group.clone()).collect();
        groups
    };
    let by_model = TableSpec {
        groups: Some("model".to_owned()),
        ..own(None)
    };
    let groups = grouped(vec![other(None), by_model]);
    assert!(groups.iter().all(Option::is_some), "{groups:?}");
    assert!(grouped(vec![own(None)]).iter().all(Option::is_none));
}

/// Two axes that end in the same word are told apart by their whole names.
#[test]
fn axes_that_end_alike_have_heads_of_their_own() {
    let data = Fixture::product(
        "sizes",
        &[
            ("encoder.depth", &["4", "8"]),
            ("decoder.depth", &["007", "1e-3"]),
        ],
        2,
        &["train"],
    )
    .finish(0.4, |variant, _| 50.0 + variant as f64)
    .data;
    let all = tables(&data).unwrap();
    let variants = all.iter().find(|table| table.name == "variants");
    let table = variants.unwrap_or(&all[0]);
    assert_eq!(heads(table)[..2], ["encoder.depth", "decoder.depth"]);
    let effects = all.iter().find(|table| table.name == "effects").unwrap();
    assert_eq!(text(effects, 0, "effect"), "encoder.depth: 8 against 4");
}

//! What an experiment file asks of the plots: kinds, published numbers and curves, and why one is missing.

use super::{Plots, plots};
use crate::report::data::ExperimentData;
use crate::report::table::fixture::{self, Fixture};
use crate::spec::report::{PlotKind, PlotSpec, PlotX, ReferenceSpec};

fn kind(kind: PlotKind) -> PlotSpec {
    PlotSpec {
        kind,
        ..PlotSpec::default()
    }
}

fn asked(mut data: ExperimentData, specs: Vec<PlotSpec>) -> Plots {
    data.experiment.report.plots = Some(specs);
    plots(&data).unwrap()
}

fn names(plots: &Plots) -> Vec<&str> {
    plots.drawn.iter().map(|plot| plot.name.as_str()).collect()
}

#[test]
fn the_usual_plots_and_one_more() {
    let data = fixture::loss()
        .costs(
            |variant| [2.1e13, 8.4e13][variant % 2],
            |variant| [55_000, 210_000][variant % 2],
        )
        .configurations("loss")
        .data;
    let usual = plots(&data).unwrap();
    let with = asked(
        data.clone(),
        vec![
            kind(PlotKind::Usual),
            PlotSpec {
                x: Some(PlotX::Throughput),
                ..kind(PlotKind::Against)
            },
            // It is there already.
            kind(PlotKind::Forest),
        ],
    );
    let mut expected = names(&usual);
    expected.push("against-throughput");
    assert_eq!(names(&with), expected);
    assert_eq!(
        names(&asked(data, vec![kind(PlotKind::Result)])),
        ["result"]
    );
}

#[test]
fn metric_and_stage_choose_what_the_result_shows() {
    let first = |spec: PlotSpec| {
        let plots = asked(fixture::fixres(3).data, vec![spec]);
        plots.drawn.into_iter().next().unwrap()
    };
    let usual = first(kind(PlotKind::Result));
    assert!(
        usual.caption.contains("after finetune"),
        "{}",
        usual.caption
    );
    let early = first(PlotSpec {
        stage: Some("pretrain".to_owned()),
        name: Some("early".to_owned()),
        ..kind(PlotKind::Result)
    });
    assert_eq!(early.name, "early");
    assert!(
        early.caption.contains("after pretrain"),
        "{}",
        early.caption
    );
    assert_ne!(early.csv, usual.csv);
    let loss = first(PlotSpec {
        metric: Some("loss".to_owned()),
        ..kind(PlotKind::Result)
    });
    assert!(
        loss.caption.starts_with("Loss after finetune"),
        "{}",
        loss.caption
    );
    let one = first(PlotSpec {
        stage: Some("pretrain".to_owned()),
        ..kind(PlotKind::Resolution)
    });
    assert!(!one.csv.contains("after finetune"), "{}", one.csv);
}

#[test]
fn a_plot_that_is_asked_for_and_missing_says_why() {
    let all = [
        PlotKind::Usual,
        PlotKind::Result,
        PlotKind::Curves,
        PlotKind::Against,
        PlotKind::Resolution,
        PlotKind::Forest,
        PlotKind::Slopes,
        PlotKind::Heatmap,
        PlotKind::Samples,
        PlotKind::Loss,
        PlotKind::Lr,
    ];
    // Nothing has run: every one says so in its way, and nothing is drawn.
    let pending = Fixture::product("pending", &[("loss", &["ce", "bce"])], 3, &["train"]).data;
    let plots = asked(pending, all.map(kind).to_vec());
    assert_eq!((plots.drawn.len(), plots.missing.len()), (0, all.len()));
    for sentence in &plots.missing {
        assert!(
            sentence.starts_with("Asked for and not drawn: "),
            "{sentence}"
        );
    }
    let because = |data: ExperimentData, spec: PlotSpec| {
        let plots = asked(data, vec![spec]);
        assert_eq!(names(&plots), [""; 0]);
        plots.missing[0]
            .split_once(", because ")
            .unwrap()
            .1
            .to_owned()
    };
    let mut without = fixture::crop(3).data;
    without.experiment.baseline = None;
    assert_eq!(
        because(without, kind(PlotKind::Forest)),
        "the experiment has no `baseline`."
    );
    assert!(because(fixture::crop(1).data, kind(PlotKind::Slopes)).contains("shares two seeds"));
    assert_eq!(
        because(fixture::crop(3).data, kind(PlotKind::Heatmap)),
        "it needs two axes that vary, and 1 do."
    );
    assert!(
        because(fixture::crop(3).data, kind(PlotKind::Resolution))
            .contains("no axis is a resolution")
    );
    let flat = fixture::crop(3).costs(|_| 1e13, |_| 55_000).data;
    assert!(because(flat, kind(PlotKind::Against)).contains("all variants have the same"));
    assert!(
        because(fixture::crop(3).data, kind(PlotKind::Against)).contains("nothing is known of the")
    );
    let many: Vec<String> = (0..30).map(|label| format!("v{label}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let many = Fixture::product("many", &[("v", &many)], 2, &["train"])
        .finish(0.5, |variant, _| 50.0 + variant as f64)
        .data;
    assert!(because(many, kind(PlotKind::Curves)).starts_with("30 lines can't be told apart"));
}

pub(super) fn with_references() -> ExperimentData {
    let mut data = fixture::epochs(3).data;
    data.experiment.name = "referenced".to_owned();
    let at = |label: &str| vec![Some(label.to_owned())];
    data.experiment.report.reference = vec![
        ReferenceSpec {
            at: at("6"),
            id: Some("R0156".to_owned()),
            ..ReferenceSpec::default()
        },
        ReferenceSpec {
            at: at("16"),
            id: Some("R0158".to_owned()),
            ..ReferenceSpec::default()
        },
        ReferenceSpec {
            at: at("16"),
            curve: Some("run01".to_owned()),
            ..ReferenceSpec::default()
        },
        // Of another metric.
        ReferenceSpec {
            at: at("12"),
            value: Some(99.0),
            metric: "top5".to_owned(),
            source: "somebody".to_owned(),
            ..ReferenceSpec::default()
        },
    ];
    data
}

#[test]
fn published_numbers_stand_in_the_plot_along_their_axis() {
    let all = plots(&with_references()).unwrap();
    let plot = all
        .drawn
        .iter()
        .find(|plot| plot.name == "by-epochs")
        .unwrap();
    let published: Vec<&str> = plot
        .csv
        .lines()
        .filter(|line| line.starts_with("published,"))
        .collect();
    // The end of a curve would be a second number of 16 epochs.
    assert_eq!(
        published,
        ["published,6.0,,79.9,,,", "published,16.0,,81.4,,,"]
    );
    assert!(
        plot.caption
            .contains("Grey marks without bars: the published numbers")
    );
    assert!(plot.svg.contains("\npublished\n") && plot.svg.contains("\nours\n"));
}

#[test]
fn a_published_curve_is_drawn_over_its_own_length() {
    let all = plots(&with_references()).unwrap();
    let plot = all
        .drawn
        .iter()
        .find(|plot| plot.name == "curves-published")
        .unwrap();
    assert!(
        plot.caption.contains("each over its own length")
            && plot.caption.contains("README_revenge"),
        "{}",
        plot.caption
    );
    // Ours are the variants that the reference is about: one, of 10 epochs in the fixture.
    let lines: Vec<&str> = plot.csv.lines().skip(1).collect();
    let ours = lines
        .iter()
        .filter(|line| !line.starts_with("\"published"))
        .count();
    assert_eq!((ours, lines.len() - ours), (10, 161));
    assert!(
        plots(&fixture::epochs(3).data)
            .unwrap()
            .drawn
            .iter()
            .all(|plot| plot.name != "curves-published")
    );
}

#[test]
fn curves_say_what_their_bands_and_lines_are() {
    let caption = |data: &ExperimentData, name: &str| {
        let all = plots(data).unwrap();
        let plot = all
            .drawn
            .into_iter()
            .find(|plot| plot.name == name)
            .unwrap();
        (plot.caption, plot.csv)
    };
    let data = fixture::loss().configurations("loss").data;
    let (lr, csv) = caption(&data, "curves-lr");
    assert_eq!(
        lr,
        "Learning rate per epoch; line: mean over seeds (n = 3), all alike. The same for all variants."
    );
    assert!(
        csv.lines().nth(1).unwrap().starts_with("all variants,1,3,"),
        "{csv}"
    );
    let (top1, _) = caption(&data, "curves-val-top1");
    assert!(top1.contains("band: ± one standard deviation"), "{top1}");
    // Two losses are two quantities.
    let (loss, _) = caption(&data, "curves-train_loss");
    assert!(loss.contains("different losses (ce, bce)"), "{loss}");
    let (loss, _) = caption(
        &fixture::crop(3).configurations("crop").data,
        "curves-train_loss",
    );
    assert!(!loss.contains("different losses"), "{loss}");
    let (many, _) = caption(&fixture::augmentation(3).data, "curves-val-top1");
    assert!(
        many.contains("without bands, which 7 lines would hide"),
        "{many}"
    );
}

/// Published numbers of several recipes have marks and names of their own, a curve's end stands for a number only where
/// there is none, and nothing that isn't joined has a line in the legend.
#[test]
fn published_numbers_of_several_lines_are_told_apart() {
    let mut data = fixture::Fixture::product(
        "two",
        &[
            ("train.epochs", &["6", "16"]),
            ("recipe", &["ours", "DeiT"]),
        ],
        3,
        &["train"],
    )
    .finish(0.5, |variant, _| 50.0 + variant as f64)
    .data;
    let reference = |epochs: &str, recipe: &str| ReferenceSpec {
        at: vec![Some(epochs.to_owned()), Some(recipe.to_owned())],
        ..ReferenceSpec::default()
    };
    let number = |epochs: &str, recipe: &str, id: &str| ReferenceSpec {
        id: Some(id.to_owned()),
        ..reference(epochs, recipe)
    };
    data.experiment.report.reference = vec![
        number("6", "ours", "R0156"),
        number("6", "DeiT", "R0146"),
        // A statement is no number, so the curve's end stays.
        number("16", "ours", "R0162"),
        ReferenceSpec {
            curve: Some("run01".to_owned()),
            ..reference("16", "ours")
        },
    ];
    let all = plots(&data).unwrap();
    let plot = all.drawn.iter().find(|plot| plot.name == "by-epochs");
    let plot = plot.unwrap();
    let published = |label: &str| {
        let begin = format!("\"published, {label}\",");
        plot.csv
            .lines()
            .filter(|line| line.starts_with(&begin))
            .count()
    };
    assert_eq!(
        (published("ours"), published("DeiT")),
        (2, 1),
        "{}",
        plot.csv
    );
    assert!(plot.svg.contains("\npublished, DeiT\n"));
    assert!(
        plot.svg
            .contains("<title>The two ablation: Top-1 accuracy (%) against epochs"),
        "{}",
        &plot.svg[..400]
    );
}

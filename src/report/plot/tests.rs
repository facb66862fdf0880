use super::{Cost, Plot, PlotError, against_cost, pdf, png, raster};
use crate::report::data::ExperimentData;
use crate::report::table::build::headline;
use crate::report::table::cells::Cells;
use crate::report::table::fixture::{self, Fixture};
use crate::spec::report::{PlotKind, PlotSpec, PlotX};
use crate::store::rows::Status;
use resvg::usvg;

/// The plots that are drawn.
fn plots(data: &ExperimentData) -> Result<Vec<Plot>, PlotError> {
    super::plots(data).map(|plots| plots.drawn)
}

/// Experiments of every shape that plots must stand: few and many variants, one and three seeds, long
/// and hostile labels, missing and failed cells.
fn gallery() -> Vec<ExperimentData> {
    let many: Vec<String> = (0..15)
        .map(|i| {
            let words = [
                "warmup",
                "layer-scale",
                "stochastic depth",
                "repeated augmentation with three copies",
            ];
            format!("- {} {i}", words[i % 4])
        })
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let eight: Vec<String> = (0..8)
        .map(|i| format!("variant-{}", (b'a' + i) as char))
        .collect();
    let eight: Vec<&str> = eight.iter().map(String::as_str).collect();
    let hostile = [
        "a<script>&\"'|\n# b",
        "\u{1b}[31mred\u{202e}desrever\u{0}",
        "Überlänge ohne-jede_Trennung/wirklich-sehr-lange-Bezeichnung-die-nie-endet-und-weiter-geht",
        "模型 α → β",
    ];
    vec![
        fixture::loss()
            .costs(
                |variant| [2.1e13, 8.4e13][variant % 2],
                |variant| [55_000, 210_000][variant % 2],
            )
            .configurations("loss")
            .data,
        fixture::augmentation(3).configurations("augmentation").data,
        fixture::fixres(3).data,
        fixture::test_resolutions(3).data,
        fixture::epochs(3)
            .costs(|variant| [6e12, 8e12, 12e12, 16e12][variant], |_| 210_000)
            .configurations("epochs")
            .data,
        super::wanted_tests::with_references(),
        fixture::crop(1).predictions().data,
        fixture::epochs(1).predictions().data,
        fixture::fixres(2).data,
        Fixture::product("fifteen", &[("ingredient", &many)], 3, &["train"])
            .baseline(&[Some("- warmup 0")])
            .finish(0.6, |variant, _| 55.0 - 0.4 * variant as f64)
            .data,
        Fixture::product("eight", &[("model.name", &eight)], 1, &["train"])
            .finish(0.6, |variant, _| 50.0 + 0.8 * variant as f64)
            .lose(2, 0, Status::Failed, Some("out_of_memory"))
            .lose(5, 0, Status::Pending, None)
            .data,
        Fixture::product("hostile", &[("label", &hostile)], 3, &["train"])
            .baseline(&[Some(hostile[0])])
            .finish(0.6, |variant, _| 50.0 + variant as f64)
            .lose(1, 1, Status::Failed, Some("diverged"))
            .data,
        Fixture::product(
            "grid",
            &[
                ("optimizer.lr", &["1e-4", "1e-3", "1e-2"]),
                ("loss.name", &["ce", "bce"]),
            ],
            3,
            &["train"],
        )
        .baseline(&[None, Some("ce")])
        .finish(0.8, |variant, _| {
            [45.0, 44.0, 53.0, 55.0, 41.0, 48.0][variant]
        })
        .lose(4, 0, Status::Failed, Some("diverged"))
        .exclude(5)
        .data,
    ]
}

fn all_plots() -> Vec<(String, Plot)> {
    gallery()
        .iter()
        .flat_map(|data| {
            plots(data)
                .unwrap()
                .into_iter()
                .map(|plot| (format!("{}/{}", data.experiment.name, plot.name), plot))
        })
        .collect()
}

/// Writes the gallery to `ABLATE_PLOT_GALLERY`, to be looked at.
#[test]
fn gallery_to_look_at() {
    let Some(out) = std::env::var_os("ABLATE_PLOT_GALLERY").map(std::path::PathBuf::from) else {
        return;
    };
    std::fs::create_dir_all(&out).unwrap();
    for (name, plot) in all_plots() {
        let stem = name.replace('/', "-");
        std::fs::write(out.join(format!("{stem}.svg")), &plot.svg).unwrap();
        std::fs::write(out.join(format!("{stem}.png")), png(&plot).unwrap()).unwrap();
        std::fs::write(out.join(format!("{stem}.pdf")), pdf(&plot).unwrap()).unwrap();
    }
}

#[test]
fn every_kind_is_there() {
    let names: Vec<String> = all_plots().into_iter().map(|(name, _)| name).collect();
    for name in [
        "loss/result",
        "loss/forest",
        "loss/heatmap",
        "loss/slopes",
        "loss/against-flops",
        "loss/against-parameters",
        "loss/curves-lr",
        "augmentation/samples",
        "epochs/against-flops",
        "fifteen/forest",
        "hostile/slopes",
        "grid/heatmap",
        "loss/curves-train_loss",
        "loss/curves-val-top1",
        "epochs/by-epochs",
        "fixres/by-resolution",
        "fixres/curves-pretrain-val-top1",
        "fixres/curves-finetune-train_loss",
        "grid/by-learning-rate",
        "test-resolutions/by-test-resolution",
        "referenced/curves-published",
    ] {
        assert!(
            names.iter().any(|other| other == name),
            "{name} is missing: {names:?}"
        );
    }
}

#[test]
fn a_second_drawing_is_the_same_to_the_byte() {
    let first = all_plots();
    let second = all_plots();
    assert_eq!(first, second);
    for ((name, a), (_, b)) in first.iter().zip(&second).step_by(5) {
        assert_eq!(png(a).unwrap(), png(b).unwrap(), "{name}");
        assert_eq!(pdf(a).unwrap(), pdf(b).unwrap(), "{name}");
    }
}

/// Bounding boxes of all texts, as the PNG is drawn.
fn texts(group: &usvg::Group, found: &mut Vec<(String, usvg::Rect)>) {
    for node in group.children() {
        match node {
            usvg::Node::Group(group) => texts(group, found),
            usvg::Node::Text(text) => {
                let words = text
                    .chunks()
                    .iter()
                    .map(|chunk| chunk.text())
                    .collect::<String>();
                found.push((words, text.abs_bounding_box()));
            }
            _ => {}
        }
    }
}

#[test]
fn no_text_is_cut_off_or_overlaps_another() {
    for (name, plot) in all_plots() {
        let tree = raster::parse(&plot.svg).unwrap_or_else(|error| panic!("{name}: {error}"));
        let size = tree.size();
        let mut found = Vec::new();
        texts(tree.root(), &mut found);
        assert!(found.len() > 2, "{name}: {found:?}");
        for (words, area) in &found {
            assert!(
                area.left() >= 0.0
                    && area.top() >= 0.0
                    && area.right() <= size.width() + 0.01
                    && area.bottom() <= size.height() + 0.01,
                "{name}: {words:?} at {area:?} reaches out of {size:?}"
            );
        }
        for (position, (words, a)) in found.iter().enumerate() {
            for (other, b) in &found[..position] {
                // Boxes are as high as the font's ascent and descent: lines may share a little of that.
                let overlap = a.right().min(b.right()) - a.left().max(b.left());
                let depth = a.bottom().min(b.bottom()) - a.top().max(b.top());
                assert!(
                    overlap <= 0.5 || depth <= 2.5,
                    "{name}: {words:?} and {other:?} overlap"
                );
            }
        }
    }
}

#[test]
fn svgs_are_sound_and_alone() {
    for (name, plot) in all_plots() {
        assert!(
            plot.svg
                .starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width="),
            "{name}"
        );
        for bad in [
            "<script", "http", "\u{1b}", "\u{0}", "\u{202e}", ">NaN", ">inf",
        ] {
            let body = plot.svg.split_once('>').unwrap().1;
            assert!(!body.contains(bad), "{name} contains {bad:?}");
        }
        // Pictures are in the file itself.
        assert_eq!(
            plot.svg.matches("href=").count(),
            plot.svg.matches("href=\"data:image/png;base64,").count()
        );
        assert_eq!(plot.svg.matches("href=").count(), plot.pictures.len());
        assert!(plot.svg.contains(
            "font-family=\"Ablate Sans, Liberation Sans, Arial, Helvetica, sans-serif\""
        ));
    }
}

#[test]
fn the_png_has_the_svgs_size_times_three() {
    let plot = &plots(&fixture::crop(3).data).unwrap()[0];
    let image = image::load_from_memory(&png(plot).unwrap()).unwrap();
    let size = raster::parse(&plot.svg).unwrap().size();
    assert_eq!(
        (image.width(), image.height()),
        (3 * size.width() as u32, 3 * size.height() as u32)
    );
    // Not empty: it has ink, and the paper is white.
    let pixels = image.to_rgb8();
    assert_eq!(pixels.get_pixel(0, 0).0, [255, 255, 255]);
    assert!(
        pixels
            .pixels()
            .filter(|pixel| pixel.0.iter().all(|value| *value < 100))
            .count()
            > 500
    );
}

#[test]
fn an_experiment_without_results_has_no_plots() {
    let data = Fixture::product("pending", &[("loss", &["ce", "bce"])], 3, &["train"]).data;
    assert_eq!(plots(&data).unwrap(), []);
}

#[test]
fn a_plot_against_the_test_resolution() {
    let all = plots(&fixture::test_resolutions(3).data).unwrap();
    let named = |name: &str| all.iter().find(|plot| plot.name == name);
    let plot = named("by-test-resolution").unwrap();
    assert_eq!(
        plot.caption.split(". ").next().unwrap(),
        "Top-1 accuracy (%) against test resolution after pretrain (n = 3)"
    );
    let lines: Vec<&str> = plot.csv.lines().collect();
    assert_eq!(lines[0], "series,test resolution,n,mean,sd,low,high");
    assert_eq!(lines.len(), 1 + 4 * 6);
    assert!(
        lines[1].starts_with("resolution 24,24.0,3,"),
        "{}",
        lines[1]
    );
    // The plot against the training resolution stays that of the headline.
    let by_axis = |data: &ExperimentData| {
        let all = plots(data).unwrap();
        all.into_iter()
            .find(|plot| plot.name == "by-resolution")
            .unwrap()
    };
    assert_eq!(
        by_axis(&fixture::test_resolutions(3).data)
            .csv
            .lines()
            .count(),
        by_axis(&fixture::fixres(3).data).csv.lines().count()
    );
    let without = plots(&fixture::fixres(3).data).unwrap();
    assert!(without.iter().all(|plot| plot.name != "by-test-resolution"));
}

#[test]
fn data_lies_beside_a_plot() {
    let all = plots(&fixture::fixres(3).data).unwrap();
    let by_axis = all
        .iter()
        .find(|plot| plot.name == "by-resolution")
        .unwrap();
    let lines: Vec<&str> = by_axis.csv.lines().collect();
    assert_eq!(lines[0], "series,resolution,n,mean,sd,low,high");
    assert_eq!(lines.len(), 9);
    assert!(
        lines[1].starts_with("after pretrain,24.0,3,38.2"),
        "{}",
        lines[1]
    );
    let curve = all
        .iter()
        .find(|plot| plot.name == "curves-pretrain-val-top1")
        .unwrap();
    assert_eq!(curve.csv.lines().count(), 1 + 4 * 10);
}

#[test]
fn a_metric_against_every_cost() {
    let data = fixture::loss()
        .costs(
            |variant| [2.1e13, 8.4e13][variant % 2],
            |variant| [55_000, 210_000][variant % 2],
        )
        .configurations("epochs")
        .data;
    let cells = Cells::new(&data).unwrap();
    let headline = headline(&cells);
    for (cost, label) in [
        (Cost::Flops, "floating-point operations of a run"),
        (Cost::Parameters, "parameters"),
        (Cost::Throughput, "training throughput"),
        (Cost::Epochs, "training epochs"),
    ] {
        let plot = against_cost::plot(&cells, &headline, cost, None).unwrap();
        let plot = plot.unwrap_or_else(|| panic!("{cost:?}"));
        let lines: Vec<&str> = plot.csv.lines().collect();
        assert_eq!(lines[0], format!("series,{label},n,mean,sd,low,high"));
        // Two models by two losses: a mark per variant.
        assert_eq!(lines.len(), 1 + 4, "{cost:?}");
        if cost == Cost::Flops {
            // And a line per loss, in units that are read easily.
            assert!(lines[1].starts_with("ce,21.0,3,"), "{}", lines[1]);
            assert!(lines[4].starts_with("bce,84.0,3,"), "{}", lines[4]);
        }
    }
}

#[test]
fn a_pdf_has_one_page_of_the_plots_size_and_the_embedded_font() {
    let plot = &plots(&fixture::crop(3).data).unwrap()[0];
    let bytes = pdf(plot).unwrap();
    assert!(bytes.starts_with(b"%PDF-"));
    let text = String::from_utf8_lossy(&bytes);
    let size = raster::parse(&plot.svg).unwrap().size();
    let page = format!("/MediaBox[0 0 {}", 0.75 * size.width());
    assert!(
        text.replace("/MediaBox [", "/MediaBox[").contains(&page),
        "{page}"
    );
    assert!(text.contains("AblateSans-Regular"));
    assert!(!text.contains("CreationDate"));
}

#[test]
fn a_variant_that_failed_has_its_row_in_the_forest() {
    let data = fixture::augmentation(3)
        .lose(3, 0, Status::Failed, Some("diverged"))
        .lose(3, 1, Status::Failed, Some("diverged"))
        .lose(3, 2, Status::Failed, Some("diverged"))
        .data;
    let all = plots(&data).unwrap();
    let forest = all.iter().find(|plot| plot.name == "forest").unwrap();
    let lines: Vec<&str> = forest.csv.lines().collect();
    assert_eq!(lines.len(), 1 + 6);
    assert_eq!(lines[3], "solarize,rand-augment,0,3,,,,,diverged");
    assert!(forest.svg.contains("diverged"));
    assert!(forest.caption.contains("(n = 3)"), "{}", forest.caption);
}

/// The names of the plots of an experiment whose file lists these.
fn listed(data: &ExperimentData, specs: Vec<PlotSpec>) -> Vec<String> {
    let mut data = data.clone();
    data.experiment.report.plots = Some(specs);
    let plots = plots(&data).unwrap();
    plots.into_iter().map(|plot| plot.name).collect()
}

#[test]
fn a_file_that_lists_plots_gets_those() {
    let data = fixture::loss()
        .costs(
            |variant| [2.1e13, 8.4e13][variant % 2],
            |variant| [55_000, 210_000][variant % 2],
        )
        .configurations("loss")
        .data;
    let kind = |kind| PlotSpec {
        kind,
        ..PlotSpec::default()
    };
    for (kind_of, expected) in [
        (PlotKind::Curves, "curves-val-top1"),
        (PlotKind::Loss, "curves-train_loss"),
        (PlotKind::Lr, "curves-lr"),
        (PlotKind::Forest, "forest"),
        (PlotKind::Slopes, "slopes"),
        (PlotKind::Heatmap, "heatmap"),
        (PlotKind::Samples, "samples"),
        (PlotKind::Against, "against-flops"),
    ] {
        assert_eq!(listed(&data, vec![kind(kind_of)]), [expected]);
    }
    // What the results don't allow is left out; no entries, no plots.
    assert_eq!(listed(&data, vec![kind(PlotKind::Resolution)]), [""; 0]);
    assert_eq!(listed(&data, Vec::new()), [""; 0]);
    let resolutions = listed(
        &fixture::test_resolutions(3).data,
        vec![kind(PlotKind::Resolution)],
    );
    assert_eq!(resolutions, ["by-resolution", "by-test-resolution"]);
    // A name, a title, a metric, a quantity of the file's own; names that are alike are numbered.
    let named = PlotSpec {
        kind: PlotKind::Against,
        name: Some("mine".to_owned()),
        title: Some("My title".to_owned()),
        metric: Some("loss".to_owned()),
        x: Some(PlotX::Throughput),
        ..PlotSpec::default()
    };
    assert_eq!(
        listed(&data, vec![named.clone(), named.clone()]),
        ["mine", "mine-2"]
    );
    let mut with = data.clone();
    with.experiment.report.plots = Some(vec![named]);
    let plot = &plots(&with).unwrap()[0];
    assert!(
        plot.caption
            .starts_with("My title. Loss against training throughput"),
        "{}",
        plot.caption
    );
    // The axes of a heatmap change places.
    let turned = |rows: &str, columns: &str| {
        let mut data = data.clone();
        data.experiment.report.plots = Some(vec![PlotSpec {
            rows: Some(rows.to_owned()),
            columns: Some(columns.to_owned()),
            ..kind(PlotKind::Heatmap)
        }]);
        plots(&data).unwrap()[0]
            .csv
            .lines()
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        turned("model", "loss.name"),
        "axis:model,axis:loss.name,n,mean,sd,state"
    );
    assert_eq!(
        turned("loss.name", "model"),
        "axis:loss.name,axis:model,n,mean,sd,state"
    );
    // As many pictures a row as the file asks for.
    let three = PlotSpec {
        count: Some(3),
        ..kind(PlotKind::Samples)
    };
    let mut with = data.clone();
    with.experiment.report.plots = Some(vec![three]);
    assert_eq!(plots(&with).unwrap()[0].pictures.len(), 2 * 3);
}

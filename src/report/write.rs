//! `reports/<experiment>/`: the report as files.
//!
//! Every file is written beside its place and renamed over it, so a reader never sees half of one. What an earlier
//! report wrote and this one has no more (a table of other axes, a plot of another list) is removed, nothing else. A
//! second report over the same store writes the same bytes.

use super::data::ExperimentData;
use super::files::{folder_name, replace};
use super::frame::{self, FrameError};
use super::page::PageError;
use super::page::experiment::{self, Content, FINAL_WEIGHTS};
use super::page::index::{self, Summary};
use super::plot::{self, PlotError, Plots};
use super::table::Table;
use super::table::build::{headline, tables_of};
use super::table::cells::Cells;
use super::table::deviations;
use super::table::power;
use super::table::render::escape_markdown as escape;
use super::table::render::{Csv, JsonForm, Latex, LatexPreview, Markdown, Render};
use crate::store::rows::Status;
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Why a report can't be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Plot(#[from] PlotError),
    #[error(transparent)]
    Page(#[from] PageError),
    #[error("can't write {path}: {source}")]
    Io {
        path: String,
        source: std::io::Error,
    },
}

/// The files of a table: what its name ends with, and its form.
const FORMS: [(&str, &dyn Render); 5] = [
    (".md", &Markdown),
    (".csv", &Csv),
    (".json", &JsonForm),
    (".tex", &Latex),
    ("-preview.tex", &LatexPreview),
];

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// The files, `report.md` first.
    pub paths: Vec<PathBuf>,
    /// Why plots that the experiment file asks for are missing.
    pub missing: Vec<String>,
}

/// Writes the report of one experiment below `out`.
pub fn write(data: &ExperimentData, out: &Path, with_plots: bool) -> Result<Written, WriteError> {
    let cells = Cells::new(data)?;
    let tables = tables_of(&cells);
    // The table of comparisons says it, too.
    let effect = power::words(&cells, &headline(&cells))
        .filter(|words| !tables.iter().any(|table| table.footnotes.contains(words)))
        .map(|words| format!("{words}."));
    let Plots {
        drawn: mut plots,
        missing,
    } = if with_plots {
        plot::plots_of(&cells)?
    } else {
        Plots::default()
    };
    let setting = deviations::setting(&cells);
    // Tables and plots have their numbers in `<name>.csv`.
    let mut taken: Vec<String> = tables.iter().map(|table| table.name.clone()).collect();
    for plot in &mut plots {
        let others = std::iter::once("-plot".to_owned())
            .chain((2..).map(|number| format!("-plot-{number}")))
            .map(|ending| format!("{}{ending}", plot.name));
        let free = std::iter::once(plot.name.clone())
            .chain(others)
            .find(|name| !taken.contains(name));
        plot.name = free.unwrap_or_default();
        taken.push(plot.name.clone());
    }
    let mut files: Vec<(String, Vec<u8>)> = vec![(
        "report.md".to_owned(),
        page(&Content {
            data,
            tables: &headed(&tables),
            plots: &plots,
            missing: &missing,
            setting: setting.as_deref(),
            effect: effect.as_deref(),
            files: Vec::new(),
        })
        .into_bytes(),
    )];
    for table in &tables {
        for (ending, form) in FORMS {
            files.push((
                format!("{}{ending}", table.name),
                form.render(table).into_bytes(),
            ));
        }
    }
    if !data.results.is_empty() {
        files.push((
            "results.csv".to_owned(),
            frame::to_csv(frame::results(data)?)?.into_bytes(),
        ));
    }
    files.push((
        "index.html".to_owned(),
        experiment::page(&Content {
            data,
            tables: &headed(&tables),
            plots: &plots,
            missing: &missing,
            setting: setting.as_deref(),
            effect: effect.as_deref(),
            files: page_files(data, &tables),
        })?
        .into_bytes(),
    ));
    let folder = out.join(folder_name(&data.experiment.name));
    let earlier = Summary::read(&folder);
    let mut summary = Summary::of(
        data,
        &cells,
        plots.first().map(|plot| format!("{}.svg", plot.name)),
    );
    // Most of a report's time: all processors at once.
    let rendered: Vec<(Vec<u8>, Vec<u8>)> = plots
        .par_iter()
        .map(|plot| Ok((plot::png(plot)?, plot::pdf(plot)?)))
        .collect::<Result<_, PlotError>>()?;
    for (plot, (png, pdf)) in plots.into_iter().zip(rendered) {
        files.push((format!("{}.png", plot.name), png));
        files.push((format!("{}.pdf", plot.name), pdf));
        files.push((format!("{}.svg", plot.name), plot.svg.into_bytes()));
        files.push((format!("{}.csv", plot.name), plot.csv.into_bytes()));
    }
    summary.files = files.iter().map(|(name, _)| name.clone()).collect();
    let mut obsolete = Vec::new();
    if let Some(earlier) = earlier {
        obsolete = earlier.files;
        obsolete.retain(|name| !summary.files.contains(name) && name != index::SUMMARY);
        if !with_plots {
            // Its plots are still there.
            summary.plot = earlier.plot;
            let stem = |name: &str| name.rsplit_once('.').map(|(stem, _)| stem.to_owned());
            let plots: Vec<_> = obsolete
                .iter()
                .filter(|name| name.ends_with(".svg"))
                .map(|name| stem(name))
                .collect();
            let of_plots = |name: &mut String| plots.contains(&stem(name));
            summary.files.extend(obsolete.extract_if(.., of_plots));
        }
    }
    summary.files.sort();
    std::fs::create_dir_all(&folder).map_err(|source| WriteError::Io {
        path: folder.display().to_string(),
        source,
    })?;
    let mut paths = Vec::with_capacity(files.len() + 1);
    let mut put = |name: &str, bytes: &[u8]| -> Result<(), WriteError> {
        let path = folder.join(name);
        replace(&path, bytes).map_err(|source| WriteError::Io {
            path: path.display().to_string(),
            source,
        })?;
        paths.push(path);
        Ok(())
    };
    for (name, bytes) in files {
        put(&name, &bytes)?;
    }
    // Names of ours, not paths to somewhere else.
    for name in obsolete.iter().filter(|name| index::is_own(name)) {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        std::fs::remove_file(&path).map_err(|source| WriteError::Io {
            path: path.display().to_string(),
            source,
        })?;
    }
    // Last: until then the earlier one tells what may have to go.
    let mut text = serde_json::to_string_pretty(&summary).expect("plain data");
    text.push('\n');
    put(index::SUMMARY, text.as_bytes())?;
    Ok(Written { paths, missing })
}

/// Writes `index.html`, the index over all reports in `out`, and returns its path and what had to be left out of
/// it; `None` if there are no reports.
pub fn write_index(out: &Path) -> Result<Option<(PathBuf, Vec<String>)>, WriteError> {
    let Some((page, warnings)) = index::page(out)? else {
        return Ok(None);
    };
    let path = out.join("index.html");
    replace(&path, page.as_bytes()).map_err(|source| WriteError::Io {
        path: path.display().to_string(),
        source,
    })?;
    Ok(Some((path, warnings)))
}

/// The tables under their headings.
fn headed(tables: &[Table]) -> Vec<(String, &Table)> {
    let headed = tables.iter().enumerate();
    headed
        .map(|(position, table)| (heading(position, table), table))
        .collect()
}

/// The data files that the web page names.
fn page_files(data: &ExperimentData, tables: &[Table]) -> Vec<(String, String)> {
    let file = |name: &str, words: &str| (name.to_owned(), words.to_owned());
    let mut files = vec![file("report.md", "this report in Markdown")];
    for table in tables {
        for ending in [".csv", ".json", ".tex"] {
            let name = format!("{}{ending}", table.name);
            files.push((name.clone(), name));
        }
    }
    if !data.results.is_empty() {
        files.push(file("results.csv", "every result of every run"));
    }
    files
}

/// What stands above the table at `position`.
fn heading(position: usize, table: &Table) -> String {
    let head = match table.name.as_str() {
        _ if position == 0 => "Result",
        "variants" => "By variant",
        "resolutions" => "Test resolutions",
        "comparisons" => "Comparisons",
        "effects" => "Main effects and interactions",
        "published" => "Published numbers beside ours",
        _ => &table.title,
    };
    head.to_owned()
}

/// The page: title, claim, where it comes from, tables, plots.
fn page(content: &Content<'_>) -> String {
    let data = content.data;
    let experiment = &data.experiment;
    let title = if experiment.title.is_empty() {
        &experiment.name
    } else {
        &experiment.title
    };
    let mut page = format!("# {}\n\n", escape(title));
    if !experiment.claim.is_empty() {
        page.push_str(&format!("{}\n\n", escape(experiment.claim.trim())));
    }
    page.push_str(&format!("{}\n\n", provenance(data, content.setting)));
    for (head, table) in content.tables {
        let head = escape(head);
        page.push_str(&format!("## {head}\n\n{}\n", Markdown.render(table)));
        page.push_str(&format!(
            "As files: [Markdown]({0}.md), [CSV]({0}.csv), [JSON]({0}.json), [LaTeX]({0}.tex) and \
             [a document around it]({0}-preview.tex).\n\n",
            table.name
        ));
    }
    if let Some(sentence) = content.effect {
        page.push_str(&format!("{}\n\n", escape(sentence)));
    }
    if !(content.plots.is_empty() && content.missing.is_empty()) {
        page.push_str("## Plots\n\n");
    }
    for sentence in content.missing {
        page.push_str(&format!("{}\n\n", escape(sentence)));
    }
    for plot in content.plots {
        let caption = escape(&plot.caption);
        let alternative = caption.split(". ").next().unwrap_or_default();
        page.push_str(&format!(
            "![{alternative}]({0}.svg)\n\n{caption} As files: [SVG]({0}.svg), [PNG]({0}.png), [PDF]({0}.pdf), [data]({0}.csv).\n\n",
            plot.name
        ));
    }
    if !data.results.is_empty() {
        page.push_str("Every result of every run: [results.csv](results.csv).\n");
    }
    page
}

/// Which setting this is, how much of it has run, when, and by what.
fn provenance(data: &ExperimentData, setting: Option<&str>) -> String {
    let experiment = &data.experiment;
    let done = data
        .runs
        .iter()
        .filter(|run| run.status == Status::Done)
        .count();
    let data_set = match &data.data_set {
        Some(name) => format!(" on the data set `{}`", code(name)),
        None => String::new(),
    };
    let setting = setting.map_or(String::new(), |sentence| format!(" {}", escape(sentence)));
    let weights = if data.trained_here() {
        format!(" {FINAL_WEIGHTS}")
    } else {
        String::new()
    };
    format!(
        "This is the `{}` profile{data_set}.{setting} {done} of {} runs are done; last run on {}.{weights} Made by \
         ablate {}.",
        code(&experiment.profile),
        data.runs.len(),
        date(experiment.updated),
        env!("CARGO_PKG_VERSION")
    )
}

/// What fits between backticks.
fn code(text: &str) -> String {
    super::text::clean(text).replace('`', "'")
}

/// The day of a Unix time, in UTC.
fn date(unix: f64) -> String {
    // Howard Hinnant's days-to-civil algorithm.
    let days = (unix / 86_400.0).floor() as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::table::fixture;
    use crate::spec::report::TableSpec;
    use std::collections::BTreeMap;

    fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (
                    entry.file_name().into_string().unwrap(),
                    std::fs::read(entry.path()).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn a_second_report_has_the_same_bytes_and_leaves_other_files() {
        let out = tempfile::tempdir().unwrap();
        let data = fixture::loss().data;
        let paths = write(&data, out.path(), true).unwrap().paths;
        let folder = out.path().join("loss");
        assert_eq!(paths[0], folder.join("report.md"));
        let first = contents(&folder);
        assert_eq!(first.len(), paths.len());
        for name in [
            "table.md",
            "table.csv",
            "variants.md",
            "variants.csv",
            "result.svg",
            "result.png",
            "result.csv",
            "results.csv",
            "curves-val-top1.svg",
            "curves-val-top1.pdf",
            "forest.svg",
            "index.html",
            "summary.json",
        ] {
            assert!(
                first.contains_key(name),
                "{name} is missing of {:?}",
                first.keys()
            );
        }
        std::fs::write(folder.join("notes.txt"), "mine").unwrap();
        std::fs::write(folder.join("table.csv"), "torn").unwrap();
        write(&data, out.path(), true).unwrap();
        let mut second = contents(&folder);
        assert_eq!(second.remove("notes.txt").unwrap(), b"mine");
        assert_eq!(first, second);
    }

    /// A table or a plot of an earlier report would be taken for one of this.
    #[test]
    fn what_is_no_more_in_the_report_is_removed() {
        let out = tempfile::tempdir().unwrap();
        let folder = out.path().join("loss");
        let mut data = fixture::loss().data;
        write(&data, out.path(), true).unwrap();
        let first = contents(&folder);
        assert!(first.contains_key("variants.tex") && first.contains_key("forest.pdf"));
        std::fs::write(folder.join("mine.tex"), "mine").unwrap();

        // Without plots those of before stay, and the index keeps its picture.
        write(&data, out.path(), false).unwrap();
        let mut same = contents(&folder);
        for changed in ["mine.tex", "report.md", "index.html"] {
            same.remove(changed).unwrap();
        }
        let mut expected = first.clone();
        for changed in ["report.md", "index.html"] {
            expected.remove(changed).unwrap();
        }
        assert_eq!(same, expected);

        // Its tables are those of this one all the same.
        let mut others = fixture::loss().data;
        others.experiment.report.tables = Some(vec![TableSpec {
            name: "table".to_owned(),
            ..TableSpec::default()
        }]);
        write(&others, out.path(), false).unwrap();
        let fewer = contents(&folder);
        assert!(!fewer.contains_key("variants.tex") && fewer.contains_key("forest.csv"));

        let only = TableSpec {
            name: "own".to_owned(),
            ..TableSpec::default()
        };
        data.experiment.report.tables = Some(vec![only]);
        data.experiment.baseline = None;
        write(&data, out.path(), true).unwrap();
        let third = contents(&folder);
        assert!(third.contains_key("own.tex") && third.contains_key("mine.tex"));
        assert!(!third.contains_key("variants.tex") && !third.contains_key("forest.pdf"));

        // A list that names other places removes nothing there.
        let outside = out.path().join("kept.txt");
        std::fs::write(&outside, "kept").unwrap();
        let summary = folder.join("summary.json");
        let text = std::fs::read_to_string(&summary).unwrap();
        let text = text.replace("\"own.tex\"", "\"../kept.txt\", \"own.tex\"");
        std::fs::write(&summary, text).unwrap();
        write(&data, out.path(), true).unwrap();
        assert!(outside.exists());
    }

    #[test]
    fn tables_and_plots_have_files_of_their_own() {
        let out = tempfile::tempdir().unwrap();
        let mut data = fixture::loss().data;
        let table = |name: &str| TableSpec {
            name: name.to_owned(),
            ..TableSpec::default()
        };
        data.experiment.report.tables = Some(vec![table("forest"), table("forest-plot")]);
        let paths = write(&data, out.path(), true).unwrap().paths;
        let mut names: Vec<_> = paths.iter().map(|path| path.file_name().unwrap()).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(names.iter().any(|name| *name == "forest-plot-2.svg"));
    }

    /// Of a program's metric the file says what it likes.
    #[test]
    fn units_are_escaped_on_the_page() {
        let out = tempfile::tempdir().unwrap();
        let mut data = fixture::crop(3).data;
        for row in data.results.iter_mut().filter(|row| row.metric == "top1") {
            row.metric = "acc".to_owned();
        }
        data.experiment.report.metrics = vec!["acc".to_owned()];
        data.experiment.report.described = vec![crate::spec::command::Metric {
            name: "acc".to_owned(),
            better: None,
            unit: Some("<b>![p](http://e)".to_owned()),
        }];
        data.experiment.report.tables = Some(vec![TableSpec {
            name: "table".to_owned(),
            ..TableSpec::default()
        }]);
        write(&data, out.path(), false).unwrap();
        let page = std::fs::read_to_string(out.path().join("crop/report.md")).unwrap();
        assert!(page.contains("half-width"), "{page}");
        assert!(!page.contains("<b>") && !page.contains("![p]("), "{page}");
    }

    #[test]
    fn the_page_links_only_to_files_that_are_there() {
        let out = tempfile::tempdir().unwrap();
        let data = fixture::fixres(3).data;
        write(&data, out.path(), true).unwrap();
        let folder = out.path().join("fixres");
        let page = std::fs::read_to_string(folder.join("report.md")).unwrap();
        if let Some(copy) = std::env::var_os("ABLATE_PLOT_GALLERY") {
            std::fs::write(Path::new(&copy).join("report.md"), &page).unwrap();
        }
        let mut links = 0;
        for part in page.split("](").skip(1) {
            let link = part.split(')').next().unwrap();
            assert!(folder.join(link).is_file(), "{link}");
            links += 1;
        }
        assert!(links > 10);
        assert!(page.starts_with("# The fixres ablation\n"), "{page}");
        assert!(page.contains(
            "This is the `quick` profile on the data set `bluemarble-climate`. 12 of 12 runs are done; last run on \
             2025-11-24."
        ));
        assert!(
            page.contains("Smallest effect: by the spread of these runs"),
            "{page}"
        );
    }

    #[test]
    fn a_plot_that_is_called_like_a_table_overwrites_nothing() {
        let out = tempfile::tempdir().unwrap();
        let mut data = fixture::crop(3).data;
        data.experiment.report.plots = Some(vec![crate::spec::report::PlotSpec {
            kind: crate::spec::report::PlotKind::Forest,
            name: Some("table".to_owned()),
            ..Default::default()
        }]);
        write(&data, out.path(), true).unwrap();
        let files = contents(&out.path().join("crop"));
        assert!(files["table.csv"].starts_with(b"crop,"));
        assert!(files["table-plot.csv"].starts_with(b"variant,baseline,"));
        assert!(files.contains_key("table-plot.pdf") && !files.contains_key("table.pdf"));
    }

    #[test]
    fn without_plots_and_without_results() {
        let out = tempfile::tempdir().unwrap();
        let data = crate::report::table::fixture::Fixture::product(
            "empty",
            &[("loss", &["ce", "bce"])],
            2,
            &["train"],
        )
        .data;
        let paths = write(&data, out.path(), true).unwrap().paths;
        let is_plot = |path: &PathBuf| {
            let form = path.extension().unwrap();
            form == "svg" || form == "png" || form == "pdf"
        };
        assert!(!paths.iter().any(is_plot), "{paths:?}");
        let page = std::fs::read_to_string(&paths[0]).unwrap();
        assert!(page.contains("| ce | pending |"), "{page}");
        let paths = write(&fixture::crop(1).data, out.path(), false)
            .unwrap()
            .paths;
        assert!(!paths.iter().any(is_plot), "{paths:?}");
    }

    #[test]
    fn dates() {
        assert_eq!(date(0.0), "1970-01-01");
        assert_eq!(date(951_782_400.0), "2000-02-29");
        assert_eq!(date(1_764_000_000.0), "2025-11-24");
        assert_eq!(date(4_107_542_399.0), "2100-02-28");
    }
}

//! The renderings that [`super::tests`] has not: what hostile labels become in them, and whether LaTeX takes them.

use super::fixture::{self, Fixture};
use super::kind_tests::{asked, spec, with_references};
use super::render::{Html, JsonForm, Latex, LatexPreview, Markdown, Render};
use super::{Table, summary_table, tables};
use crate::spec::report::{TableKind, TableSpec};

/// Labels that try to break out of every form.
const HOSTILE: [&str; 12] = [
    "a|b\nc\td",
    "\u{1b}[31mred\u{7}\u{9b}0m",
    "\u{202e}evil\u{200f}\u{2066}\u{feff}",
    "<script>alert(1)</script>&amp;",
    "\" onclick='x'",
    "\\input{/etc/passwd} \\end{tabular} %",
    "$x$ #1 & _ ^ ~ {} \\\\[3cm] *",
    "[opt] -- --- ?` !` << >>",
    "'; DROP TABLE runs; --",
    "模型 ≥ α ✓",
    "\u{2061}\u{2063}marks\u{2060}",
    "]]> --> {{x}} {% y %}",
];

fn hostile() -> Table {
    let data = Fixture::product("hostile", &[("label", &HOSTILE)], 2, &["train"])
        .baseline(&[Some(HOSTILE[0])])
        .finish(0.4, |variant, _| 50.0 + variant as f64)
        .data;
    summary_table(&data).unwrap()
}

#[test]
fn hostile_labels_in_html() {
    let text = Html.render(&hostile());
    assert!(
        text.chars()
            .all(|c| c == '\n' || !crate::report::text::is_unsafe(c)),
        "{text:?}"
    );
    assert!(text.contains("<bdi>&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;</bdi>"));
    assert!(text.contains("<bdi>&quot; onclick=&#39;x&#39;</bdi>"));
    assert!(text.contains("\\u{202e}evil\\u{200f}"));
    // Every tag is one of ours.
    for tag in text.split('<').skip(1) {
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        let ours = [
            "div", "table", "thead", "tbody", "tr", "th", "td", "bdi", "strong", "p", "ul", "li",
            "sup",
        ];
        assert!(ours.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn hostile_labels_in_json() {
    let text = JsonForm.render(&hostile());
    assert!(
        text.chars()
            .all(|c| c == '\n' || !crate::report::text::is_unsafe(c)),
        "{text:?}"
    );
    // Nothing is lost by that.
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (row, label) in HOSTILE.iter().enumerate() {
        assert_eq!(json["rows"][row]["cells"][0]["text"], *label);
    }
    assert_eq!(json["rows"][1]["cells"][1]["n"], 2);
    assert!(json["rows"][1]["cells"][3]["low"].is_number());
    assert_eq!(json["columns"][1]["kind"], "value");
}

#[test]
fn hostile_labels_in_latex() {
    let text = Latex.render(&hostile());
    assert!(text.is_ascii(), "{text}");
    assert!(
        text.contains(
            "{\\textbackslash{}input\\{/etc/passwd\\} \\textbackslash{}end\\{tabular\\} \\%}"
        ),
        "{text}"
    );
    assert!(text.contains("\\$x\\$ \\#1 \\& \\_ \\textasciicircum{} \\textasciitilde{} \\{\\} \\textbackslash{}\\textbackslash{}[3cm] *"));
    assert!(
        text.contains("\\ablatechar{6A21}\\ablatechar{578B} $\\ge$ \\ablatechar{03B1} $\\surd$"),
        "{text}"
    );
    // Braces balance, whatever is in the labels.
    let plain = text.replace("\\{", "").replace("\\}", "");
    assert_eq!(plain.matches('{').count(), plain.matches('}').count());
    assert_eq!(text.matches("\\\\\n").count(), 13);
}

#[test]
fn latex_sets_numbers_in_their_columns() {
    let text = Latex.render(&summary_table(&fixture::loss().data).unwrap());
    assert!(text.contains("\\begin{tabular}{@{}lS[table-format = 2.1(2)]S[table-format = 2.1(1)]S[table-format = +1.1]@{\\,}>{\\scriptsize}l@{}}"), "{text}");
    assert!(text.contains("{ViT{-}S} & 56.4(10) & \\ablatebest 57.3(7) & \\ablategood +0.9 & \\ablategood [+0.2, +1.6] \\\\"), "{text}");
    assert!(
        text.contains("\\multicolumn{2}{c}{$\\Delta$ bce}"),
        "{text}"
    );
    assert!(text.contains("\\label{tab:loss-table}"));
    assert!(
        LatexPreview
            .render(&summary_table(&fixture::loss().data).unwrap())
            .contains("\\input{table.tex}")
    );
}

/// Every kind of table, and the hostile one, go through LaTeX. Left out where there is no pdflatex.
#[test]
fn latex_compiles() {
    let known = std::process::Command::new("pdflatex")
        .arg("--version")
        .output();
    if !known.is_ok_and(|known| known.status.success()) {
        // Not through `eprintln!`, which a test that passes keeps to itself.
        use std::io::Write;
        let _ = std::io::stderr().write_all(
            b"left out: hostile tables in LaTeX, since this machine has no pdflatex (`apt-get install \
              texlive-latex-extra texlive-science`)\n",
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut all = vec![Table {
        name: "hostile".to_owned(),
        ..hostile()
    }];
    all.extend(tables(&with_references()).unwrap());
    for table in tables(&fixture::test_resolutions(3).data).unwrap() {
        all.push(Table {
            name: format!("resolutions-{}", table.name),
            ..table
        });
    }
    for (name, data) in [
        ("single", fixture::crop(1).predictions().data),
        (
            "pending",
            Fixture::product("new", &[("loss", &["ce"])], 1, &["train"]).data,
        ),
    ] {
        all.push(Table {
            name: name.to_owned(),
            ..summary_table(&data).unwrap()
        });
    }
    let grouped = TableSpec {
        groups: Some("model".to_owned()),
        name: "grouped".to_owned(),
        ..spec(TableKind::Variants)
    };
    all.push(asked(fixture::loss().data, grouped));
    let turned = TableSpec {
        transposed: true,
        name: "turned".to_owned(),
        ..spec(TableKind::Variants)
    };
    all.push(asked(fixture::loss().data, turned));
    let mut document = LatexPreview.render(&all[0]);
    let inputs: String = all
        .iter()
        .map(|table| format!("\\input{{{}.tex}}\\clearpage\n", table.name))
        .collect();
    document = document.replace("\\input{hostile.tex}\n", &inputs);
    for table in &all {
        std::fs::write(
            folder.path().join(format!("{}.tex", table.name)),
            Latex.render(table),
        )
        .unwrap();
    }
    std::fs::write(folder.path().join("all.tex"), document).unwrap();
    let output = std::process::Command::new("pdflatex")
        .args([
            "-interaction=nonstopmode",
            "-halt-on-error",
            "-no-shell-escape",
            "all.tex",
        ])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stdout);
    if let Some(copy) = std::env::var_os("ABLATE_LATEX_GALLERY") {
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(
                &path,
                std::path::Path::new(&copy).join(path.file_name().unwrap()),
            )
            .unwrap();
        }
    }
    assert!(output.status.success(), "{log}");
    assert!(folder.path().join("all.pdf").is_file());
}

/// What GitHub makes of plain text, taken from its help pages: addresses, mentions, issues' numbers, pictures.
#[test]
fn github_makes_no_links_of_labels() {
    let labels = [
        "https://example.com/x",
        "WWW.example.com",
        "@someone",
        "a@b.example",
        "#12",
        ":tada:",
        "top-1: 80 %",
        "C# 7:30",
    ];
    let data = Fixture::product("links", &[("label", &labels)], 2, &["train"])
        .finish(0.4, |variant, _| 50.0 + variant as f64)
        .data;
    let text = Markdown.render(&summary_table(&data).unwrap());
    for wanted in [
        "| https\\://example.com/x |",
        "| WWW\\.example.com |",
        "| @<!-- -->someone |",
        "| a@<!-- -->b.example |",
        "| #<!-- -->12 |",
        "| :<!-- -->tada: |",
        "| top-1: 80 % |",
        "| C# 7:30 |",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
}

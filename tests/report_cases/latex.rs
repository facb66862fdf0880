//! The tables in LaTeX, as `ablate report` writes them: every preview compiles, and nothing runs off its page.

use crate::store::{trained, wide};
use std::path::Path;
use std::process::Command;

/// Points of the widest line of `log` that runs off the page.
fn overfull(log: &str) -> f64 {
    let parts = log.split("Overfull \\hbox (").skip(1);
    let points = parts.filter_map(|part| part.split("pt").next()?.parse::<f64>().ok());
    points.fold(0.0, f64::max)
}

fn compile(folder: &Path, file: &str) -> (bool, String) {
    let output = Command::new("pdflatex")
        .args([
            "-interaction=nonstopmode",
            "-halt-on-error",
            "-no-shell-escape",
            file,
        ])
        .current_dir(folder)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), log)
}

#[test]
fn previews_compile_and_fit_their_page() {
    let known = Command::new("pdflatex").arg("--version").output();
    if !known.is_ok_and(|known| known.status.success()) {
        use std::io::Write;
        let _ = std::io::stderr().write_all(
            b"left out: the tables in LaTeX, since this machine has no pdflatex (`apt-get install texlive-latex-extra \
              texlive-science`)\n",
        );
        return;
    }
    let place = trained();
    std::fs::write(place.path().join("wide.yaml"), wide()).unwrap();
    place.done(&[
        "report",
        "wide.yaml",
        "other",
        "--out",
        "latex",
        "--no-plots",
    ]);
    let mut inputs = String::new();
    for experiment in ["tiny", "other"] {
        let folder = place.path().join("latex").join(experiment);
        let mut previews: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with("-preview.tex"))
            .collect();
        previews.sort();
        assert!(!previews.is_empty());
        for preview in previews {
            let (done, log) = compile(&folder, &preview);
            assert!(done, "{experiment}/{preview}: {log}");
            assert!(overfull(&log) < 1.0, "{experiment}/{preview}: {log}");
            let table = preview.replace("-preview", "");
            inputs.push_str(&format!("\\input{{{experiment}/{table}}}\\clearpage\n"));
        }
        if let Some(copy) = std::env::var_os("ABLATE_LATEX_GALLERY") {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "pdf") {
                    let name = format!(
                        "{experiment}-{}",
                        path.file_name().unwrap().to_str().unwrap()
                    );
                    std::fs::copy(&path, Path::new(&copy).join(name)).unwrap();
                }
            }
        }
    }
    // Tables of several experiments in one paper: no label twice.
    let paper = format!(
        "\\documentclass{{article}}\\usepackage[T1]{{fontenc}}\\usepackage{{array, booktabs, siunitx, xcolor}}\n\
         \\begin{{document}}\n{inputs}\\end{{document}}\n"
    );
    let folder = place.path().join("latex");
    std::fs::write(folder.join("paper.tex"), paper).unwrap();
    let (done, log) = compile(&folder, "paper.tex");
    assert!(done && !log.contains("multiply defined"), "{log}");
}

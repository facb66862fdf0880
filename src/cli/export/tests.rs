//! The command's parts that need no store; the rest is tested on a real one in `tests/export.rs`.

use super::*;
use clap::{CommandFactory, Parser};

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    export: ExportArgs,
}

#[test]
fn the_command_line_is_sound() {
    Line::command().debug_assert();
    let line = Line::parse_from([
        "export",
        "out",
        "loss",
        "--what",
        "runs,tables",
        "--format",
        "csv",
    ]);
    assert_eq!(line.export.out, Path::new("out"));
    assert_eq!(line.export.experiments, ["loss"]);
    assert_eq!(line.export.what, [What::Runs, What::Tables]);
    assert_eq!(line.export.format, ExportForm::Csv);
}

#[tokio::test]
async fn tensorboard_takes_curves_only() {
    let line = Line::parse_from(["export", "out", "--format", "tensorboard", "--what", "runs"]);
    let error = export(&line.export).await.unwrap_err().to_string();
    assert!(error.starts_with("TensorBoard shows curves"), "{error}");
}

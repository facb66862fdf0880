//! Image files to RGB.

use crate::fixture::{Report, list, text};
use crate::tolerance::Deviation;

#[test]
fn decode() {
    let mut report = Report::open("decode", &["cases"]);
    let manifest = report.manifest.clone();
    for case in list(&manifest, "cases") {
        let file = text(case, "file");
        report.settings(file, case, &["file", "expected", "tolerance", "wh"]);
        report.case(file, |report| {
            let image = report.image(file);
            let expected = report.image(text(case, "expected"));
            let wh = [0, 1].map(|i| case["wh"][i].as_u64().expect("wh") as usize);
            assert_eq!([image.width(), image.height()], wh);
            let tolerance = report.tolerance_text(text(case, "tolerance"));
            for (what, measured, bound) in Deviation::between(&image, &expected).clauses(&tolerance)
            {
                report.check(file, &what, measured, bound);
            }
        });
    }
    report.finish();
}

//! `ablate report --watch` beside a run.

use crate::store::{command, untrained};
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn report_watches_a_run_and_ends_with_it() {
    let place = untrained();
    let mut run = command(place.path())
        .args(["run", "tiny.yaml", "--quiet"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // From the first plan on there is something to report.
    let database = place.path().join("store/ablate.db");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !database.is_file()
        || place
            .ablate(&["report", "--no-plots", "--out", "probe"])
            .status
            .code()
            != Some(0)
    {
        assert!(Instant::now() < deadline, "no store");
        std::thread::sleep(Duration::from_millis(50));
    }
    let watch = command(place.path())
        .args(["report", "--watch", "--no-plots", "--out", "watched"])
        .output()
        .unwrap();
    assert!(watch.status.success(), "{watch:?}");
    // It has seen the end: no cell is pending, and no `ablate run` is at work.
    let text = String::from_utf8(watch.stdout).unwrap();
    let last = text.rsplit("Crop and length").next().unwrap();
    assert!(
        !last.contains("pending") && !last.contains("running"),
        "{text}"
    );
    let page = std::fs::read_to_string(place.path().join("watched/tiny/index.html")).unwrap();
    assert!(page.contains("8 of 8 runs done"));
    assert!(run.wait().unwrap().success());
}

#[test]
fn report_watches_forever_until_it_is_interrupted() {
    let place = crate::store::trained();
    let mut watch = command(place.path())
        .args([
            "report",
            "tiny",
            "--watch",
            "--forever",
            "--no-plots",
            "--out",
            "forever",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The first report is out before it waits.
    let mut first = [0];
    watch
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        watch.try_wait().unwrap().is_none(),
        "it has ended by itself"
    );
    // SAFETY: a signal to our own child, which has not been waited for.
    unsafe { libc::kill(watch.id() as i32, libc::SIGINT) };
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}

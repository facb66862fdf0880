//! Measured figures: `cargo test --release --lib figures -- --ignored --nocapture`. Nothing is asserted
//! about time.

use super::*;
use std::time::Instant;

fn said(what: &str, clock: Instant) {
    println!("{what}: {:.1} ms", clock.elapsed().as_secs_f64() * 1e3);
}

#[tokio::test]
#[ignore = "a measurement"]
async fn figures_of_a_large_plan() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let small = Sample::new("small", 1000, 10);
    let clock = Instant::now();
    small.save(&store).await;
    said("save a plan of 10,000 runs, 10,010 stages", clock);
    let clock = Instant::now();
    small.save(&store).await;
    said("save it again, unchanged", clock);
    let clock = Instant::now();
    assert_eq!(store.runs(Some("small")).await.unwrap().len(), 10_000);
    said("read its 10,000 runs", clock);

    let large = Sample::new("large", 10_000, 10);
    let clock = Instant::now();
    large.save(&store).await;
    said("save a plan of 100,000 runs", clock);
    store.status(None).await.unwrap();
    let clock = Instant::now();
    store.status(None).await.unwrap();
    said("status over 110,000 runs", clock);
    let reader = Store::open_read_only(folder.path()).await.unwrap();
    let clock = Instant::now();
    reader.status(None).await.unwrap();
    reader.running(None).await.unwrap();
    said("status over 110,000 runs, store just opened", clock);

    let shared = large.fingerprint(0);
    let clock = Instant::now();
    let attempt = store.begin_attempt(&shared, &start()).await.unwrap();
    said("begin an attempt at a stage that 10,000 runs share", clock);
    store
        .end_attempt(&shared, attempt, &end(Status::Done))
        .await
        .unwrap();
    let clock = Instant::now();
    for index in 1..201 {
        let fingerprint = large.fingerprint(index);
        let attempt = store.begin_attempt(&fingerprint, &start()).await.unwrap();
        store
            .end_attempt(&fingerprint, attempt, &end(Status::Done))
            .await
            .unwrap();
    }
    println!(
        "an attempt begun and ended, two commits on disk: {:.2} ms",
        clock.elapsed().as_secs_f64() * 1e3 / 200.0
    );
}

#[tokio::test]
#[ignore = "a measurement"]
async fn figures_of_a_million_rows() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 100, 10);
    sample.save(&store).await;
    let clock = Instant::now();
    for index in 0..1000 {
        let events: Vec<Event> = (1..=1000)
            .map(|seq| event(seq, 1, step(seq, 1.0)))
            .collect();
        store
            .record_events(&sample.fingerprint(index), &events)
            .await
            .unwrap();
    }
    println!(
        "{:.0} step rows a second",
        1e6 / clock.elapsed().as_secs_f64()
    );
    let clock = Instant::now();
    for index in 0..1000 {
        let evaluations = (0..250).map(|epoch| evaluated(epoch, 50.0, epoch == 249));
        let epochs = (0..250).map(|number| epoch(number, 1.0));
        let events: Vec<Event> = evaluations
            .chain(epochs)
            .zip(1001..)
            .map(|(kind, seq)| event(seq, 1, kind))
            .collect();
        store
            .record_events(&sample.fingerprint(index), &events)
            .await
            .unwrap();
    }
    println!(
        "{:.0} evaluation and epoch rows a second",
        750e3 / clock.elapsed().as_secs_f64()
    );
    for (what, sql) in [
        (
            "group 500,000 evaluation rows",
            "SELECT series, COUNT(*), AVG(value) FROM evaluations GROUP BY series",
        ),
        (
            "group v_metrics of val/top1",
            "SELECT variant, AVG(value) FROM v_metrics WHERE metric = 'val/top1' GROUP BY 1",
        ),
        (
            "group all of v_metrics",
            "SELECT metric, COUNT(*), AVG(value) FROM v_metrics GROUP BY 1",
        ),
        (
            "one run of v_metrics",
            "SELECT metric, COUNT(*), AVG(value) FROM v_metrics WHERE run = 'loss/l7/s3' GROUP BY 1",
        ),
        (
            "group v_results",
            "SELECT variant, metric, AVG(value) FROM v_results GROUP BY 1, 2",
        ),
    ] {
        let clock = Instant::now();
        store.query_all(sql).await.unwrap();
        said(what, clock);
    }
    let clock = Instant::now();
    let curves = store.curves("loss").await.unwrap();
    said(&format!("read {} points of curves", curves.len()), clock);
    let clock = Instant::now();
    store.results("loss").await.unwrap();
    said("read results", clock);
}

use super::*;

#[tokio::test]
async fn events_become_results_curves_and_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 1, 1);
    sample.save(&store).await;
    assert_eq!(store.throughput().await.unwrap(), None);
    finish(&store, &sample, 0, 40.0).await;
    let last = sample.fingerprint(1);
    store.begin_attempt(&last, &start()).await.unwrap();
    store.record_events(&last, &history(57.0)).await.unwrap();

    let running = &store.running(Some("loss")).await.unwrap()[0];
    assert_eq!(
        (running.step, running.total_steps, running.loss),
        (Some(13), Some(100), Some(1.8))
    );
    assert_eq!(
        (running.stage.as_deref(), running.run.as_deref()),
        (Some("finetune"), Some("loss/l0/s0"))
    );
    assert_eq!(
        (running.device.as_str(), running.pid, running.last_event),
        ("cpu", Some(77), Some(1011.0))
    );
    assert!(store.running(Some("other")).await.unwrap().is_empty());

    store
        .end_attempt(&last, 1, &end(Status::Done))
        .await
        .unwrap();
    let results = store.results("loss").await.unwrap();
    let values: Vec<(&str, &str, f64)> = results
        .iter()
        .map(|row| (row.stage.as_str(), row.metric.as_str(), row.value))
        .collect();
    let expected = [
        ("pretrain", "loss", 1.5),
        ("pretrain", "top1", 40.0),
        ("finetune", "loss", 1.5),
        ("finetune", "top1", 57.0),
    ];
    assert_eq!(values, expected);
    let curves = store.curves("loss").await.unwrap();
    let top1: Vec<(u32, f64)> = curves
        .iter()
        .filter(|row| &*row.stage == "finetune" && &*row.metric == "val/top1")
        .map(|row| (row.epoch, row.value))
        .collect();
    assert_eq!(top1, [(0, 56.0), (1, 57.0)]);
    assert_eq!(
        curves
            .iter()
            .filter(|row| &*row.metric == "train_loss")
            .count(),
        4
    );
    let attempt = &store.attempts(&last).await.unwrap()[0];
    assert_eq!(attempt.peak_rss_bytes, Some(5_000_000_000));
    assert_eq!(attempt.status, Status::Done);
    assert_eq!(store.runs(None).await.unwrap()[0].wall_seconds, Some(9.0));
    // 1e12 operations in 4 CPU seconds.
    assert_eq!(store.throughput().await.unwrap(), Some(2.5e11));
    // Two step rows with four metrics, two epochs with three, two evaluations with two; two stages.
    assert_eq!(
        number(&store, "SELECT COUNT(*) FROM v_metrics").await,
        2 * (2 * 4 + 2 * 3 + 2 * 2)
    );
    assert_eq!(number(&store, "SELECT COUNT(*) FROM warnings").await, 2);
}

#[tokio::test]
async fn storing_events_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 1, 1);
    sample.save(&store).await;
    let fingerprint = sample.fingerprint(0);
    store.begin_attempt(&fingerprint, &start()).await.unwrap();
    let events = history(50.0);
    let dump = "SELECT group_concat(run || metric || step || ifnull(value, 'null') || time) FROM v_metrics";
    assert_eq!(store.last_seq(&fingerprint).await.unwrap(), 0);
    assert_eq!(
        store.record_events(&fingerprint, &events).await.unwrap(),
        events.len()
    );
    let whole = store.query_all(dump).await.unwrap();
    // Every overlapping piece of the log, again.
    for from in 0..events.len() {
        for to in from..=events.len() {
            assert_eq!(
                store
                    .record_events(&fingerprint, &events[from..to])
                    .await
                    .unwrap(),
                0
            );
        }
    }
    assert_eq!(store.query_all(dump).await.unwrap(), whole);
    assert_eq!(
        store.last_seq(&fingerprint).await.unwrap(),
        events.len() as u64
    );

    // In pieces it is the same as at once.
    let other = tempfile::tempdir().unwrap();
    let store = open(other.path()).await;
    sample.save(&store).await;
    store.begin_attempt(&fingerprint, &start()).await.unwrap();
    for event in &events {
        store
            .record_events(&fingerprint, std::slice::from_ref(event))
            .await
            .unwrap();
    }
    assert_eq!(store.query_all(dump).await.unwrap(), whole);
    assert!(store.record_events("none", &events).await.is_err());
}

#[tokio::test]
async fn lost_work_leaves_the_curves() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 1, 2);
    sample.save(&store).await;
    let first = [
        started(0),
        step(5, 2.0),
        epoch(0, 2.0),
        evaluated(0, 10.0, false),
        step(15, 9.0),
        step(18, 9.0),
    ];
    let second = [
        started(10),
        step(16, 1.5),
        epoch(1, 1.4),
        evaluated(1, 20.0, true),
    ];
    let first: Vec<Event> = first
        .into_iter()
        .zip(1..)
        .map(|(kind, seq)| event(seq, 1, kind))
        .collect();
    let second: Vec<Event> = second
        .into_iter()
        .zip(7..)
        .map(|(kind, seq)| event(seq, 2, kind))
        .collect();
    // In two transactions and in one.
    let (apart, joined) = (sample.fingerprint(0), sample.fingerprint(2));
    for fingerprint in [&apart, &joined] {
        store.begin_attempt(fingerprint, &start()).await.unwrap();
    }
    store.record_events(&apart, &first).await.unwrap();
    store.record_events(&apart, &second).await.unwrap();
    store
        .record_events(&joined, &[first, second].concat())
        .await
        .unwrap();
    for fingerprint in [apart, joined] {
        let steps = format!(
            "SELECT group_concat(step) FROM v_metrics WHERE metric = 'step/loss' AND fingerprint = '{fingerprint}'"
        );
        let steps = store.query_all(&steps).await.unwrap();
        assert_eq!(steps.rows, [[Cell::Text("5,16".to_owned())]]);
    }
    // A log that a power loss cut: the next attempt uses sequence numbers again.
    let again = event(8, 3, step(25, 1.0));
    assert_eq!(
        store
            .record_events(&sample.fingerprint(0), &[again])
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn values_that_are_not_finite_are_marked() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 3, 1);
    sample.save(&store).await;
    for (index, top1) in [(1, f64::NAN), (2, f64::INFINITY), (3, f64::NEG_INFINITY)] {
        let fingerprint = sample.fingerprint(index);
        store.begin_attempt(&fingerprint, &start()).await.unwrap();
        let kinds = [
            started(0),
            step(1, top1),
            epoch(0, top1),
            evaluated(0, top1, true),
        ];
        let events: Vec<Event> = kinds
            .into_iter()
            .zip(1..)
            .map(|(kind, seq)| event(seq, 1, kind))
            .collect();
        store.record_events(&fingerprint, &events).await.unwrap();
    }
    let results = store.results("loss").await.unwrap();
    let values: Vec<f64> = results
        .iter()
        .filter(|row| row.metric == "top1")
        .map(|row| row.value)
        .collect();
    assert!(values[0].is_nan());
    assert_eq!(values[1..], [f64::INFINITY, f64::NEG_INFINITY]);
    assert!(
        store
            .curves("loss")
            .await
            .unwrap()
            .iter()
            .any(|row| &*row.metric == "train_loss" && row.value.is_nan())
    );
    for (view, count) in [("v_results", 3), ("v_metrics", 9)] {
        let sql = format!("SELECT COUNT(*) FROM {view} WHERE finite = 0 AND value IS NULL");
        assert_eq!(number(&store, &sql).await, count, "{view}");
        let sql = format!("SELECT COUNT(*) FROM {view} WHERE finite = 1 AND value IS NULL");
        assert_eq!(number(&store, &sql).await, 0, "{view}");
    }
}

#[tokio::test]
async fn the_headline_is_told_from_further_evaluations() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 1, 1);
    sample.save(&store).await;
    let fingerprint = sample.fingerprint(0);
    let last = |set: &str, resolution: u32, top1: f64| EventKind::Evaluated {
        epoch: 1,
        step: 20,
        set: set.to_owned(),
        resolution,
        metrics: BTreeMap::from([("top1".to_owned(), top1)]),
        last: true,
    };
    // In any order: what is the headline doesn't hang on it.
    let kinds = [
        started(0),
        epoch(0, 1.9),
        evaluated(0, 40.0, false),
        epoch(1, 1.8),
        last("val", 64, 44.0),
        last("val", 48, 42.0),
        last("val", 32, 30.0),
        last("other", 48, 20.0),
    ];
    let events: Vec<Event> = kinds
        .into_iter()
        .zip(1..)
        .map(|(kind, seq)| event(seq, 1, kind))
        .collect();
    store.record_events(&fingerprint, &events).await.unwrap();
    let results = store.results("loss").await.unwrap();
    let told: Vec<(&str, u32, bool)> = results
        .iter()
        .map(|row| (row.set.as_str(), row.resolution, row.headline))
        .collect();
    assert_eq!(
        told,
        [
            ("other", 48, false),
            ("val", 32, false),
            ("val", 48, true),
            ("val", 64, false)
        ]
    );
    let rows = store
        .query_all("SELECT value FROM v_results WHERE headline ORDER BY resolution")
        .await
        .unwrap();
    assert_eq!(rows.rows.concat(), [Cell::Real(42.0)]);
    let curve: Vec<(u32, f64)> = store
        .curves("loss")
        .await
        .unwrap()
        .into_iter()
        .filter(|row| &*row.metric == "val/top1")
        .map(|row| (row.epoch, row.value))
        .collect();
    assert_eq!(curve, [(0, 40.0), (1, 42.0)]);
}

/// Weights that were removed are made again: until that is done, what is known of the stage stays.
#[tokio::test]
async fn a_stage_that_is_made_again_keeps_its_results() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 1, 1);
    sample.save(&store).await;
    let fingerprint = sample.fingerprint(0);
    let attempt = store.begin_attempt(&fingerprint, &start()).await.unwrap();
    let first = history(50.0);
    store.record_events(&fingerprint, &first).await.unwrap();
    store
        .end_attempt(&fingerprint, attempt, &end(Status::Done))
        .await
        .unwrap();
    let results = store.results("loss").await.unwrap();
    let curves = store.curves("loss").await.unwrap();
    assert!(!results.is_empty() && !curves.is_empty());
    store.begin_attempt(&fingerprint, &start()).await.unwrap();
    let next = first.len() as u64 + 1;
    let again = [event(next, 2, started(0)), event(next + 1, 2, step(3, 2.5))];
    store.record_events(&fingerprint, &again).await.unwrap();
    let now = store.results("loss").await.unwrap();
    assert_eq!(now.len(), results.len());
    assert_eq!(store.curves("loss").await.unwrap().len(), curves.len());
}

#[tokio::test]
async fn abandoned_attempts_end_as_their_events_say() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 3, 1);
    sample.save(&store).await;
    for index in 0..4 {
        store
            .begin_attempt(&sample.fingerprint(index), &start())
            .await
            .unwrap();
    }
    store
        .record_events(&sample.fingerprint(0), &history(50.0))
        .await
        .unwrap();
    let failed = EventKind::Failed {
        class: FailureClass::OutOfMemory,
        message: "no memory".to_owned(),
    };
    store
        .record_events(
            &sample.fingerprint(1),
            &[event(1, 1, started(0)), event(2, 1, failed)],
        )
        .await
        .unwrap();
    store
        .end_attempt(&sample.fingerprint(3), 1, &end(Status::Done))
        .await
        .unwrap();
    assert_eq!(store.abandon_running(&[], |_| false).await.unwrap(), 3);
    assert_eq!(store.abandon_running(&[], |_| false).await.unwrap(), 0);
    let all: Vec<String> = (0..4).map(|index| sample.fingerprint(index)).collect();
    let states = store.stage_states(&all).await.unwrap();
    let state = |index: usize| (states[&all[index]].status, states[&all[index]].failure);
    assert_eq!(state(0), (Status::Done, None));
    assert_eq!(state(1), (Status::Failed, Some(FailureClass::OutOfMemory)));
    assert_eq!(state(2), (Status::Pending, Some(FailureClass::Killed)));
    assert_eq!(state(3), (Status::Done, None));
    let killed = &store.attempts(&all[2]).await.unwrap()[0];
    assert_eq!(
        (killed.status, killed.failure.as_deref()),
        (Status::Failed, Some("killed"))
    );
    assert_eq!(
        store.attempts(&all[0]).await.unwrap()[0].ended,
        Some(1011.0),
        "when it was last heard of"
    );
    assert!(store.running(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_hundred_thousand_steps_are_stored_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 1, 1);
    sample.save(&store).await;
    let fingerprint = sample.fingerprint(0);
    let events: Vec<Event> = (1..=100_000)
        .map(|seq| event(seq, 1, step(seq, 1.0)))
        .collect();
    let clock = std::time::Instant::now();
    store.record_events(&fingerprint, &events).await.unwrap();
    eprintln!("100000 step rows stored in {:?}", clock.elapsed());
    let clock = std::time::Instant::now();
    let sql =
        "SELECT COUNT(*) FROM (SELECT run, metric, AVG(value) FROM v_metrics GROUP BY run, metric)";
    assert_eq!(number(&store, sql).await, 4);
    eprintln!("400000 rows of v_metrics grouped in {:?}", clock.elapsed());
}

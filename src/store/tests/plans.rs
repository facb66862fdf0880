use super::*;

#[tokio::test]
async fn a_plan_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 2, 3);
    sample.save(&store).await;
    let experiments = store.experiments().await.unwrap();
    assert_eq!(experiments.len(), 1);
    assert_eq!(experiments[0].axes, sample.axes);
    assert_eq!(experiments[0].stage_names, sample.experiment.stage_names);
    assert_eq!(experiments[0].report, sample.experiment.report);
    let runs = store.runs(Some("loss")).await.unwrap();
    assert_eq!(runs.len(), 6);
    assert_eq!(runs[0].id, "loss/l0/s0");
    assert_eq!(runs[0].labels, ["l0", "ViT \"S\""]);
    assert_eq!(
        runs[0].stages,
        [sample.fingerprint(0), sample.fingerprint(1)]
    );
    assert_eq!(runs[0].status, Status::Pending);
    assert!(store.runs(Some("other")).await.unwrap().is_empty());
    assert_eq!(store.runs(None).await.unwrap(), runs);
    let config = store
        .stage_config(&sample.fingerprint(1))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        serde_json::from_str::<StageSpec>(&config).unwrap(),
        sample.spec(1)
    );
    assert_eq!(store.stage_config("none").await.unwrap(), None);
    let label = "SELECT labels ->> 'loss.name' FROM v_runs WHERE run = 'loss/l1/s2'";
    assert_eq!(
        store.query_all(label).await.unwrap().rows,
        [[Cell::Text("l1".to_owned())]]
    );
}

#[tokio::test]
async fn what_leaves_the_plan_is_kept_but_not_current() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let wide = Sample::new("loss", 3, 2);
    wide.save(&store).await;
    finish(&store, &wide, 0, 50.0).await;
    finish(&store, &wide, 3, 50.0).await; // l2, seed 0
    assert_eq!(
        run_statuses(&store, "loss").await["loss/l2/s0"],
        Status::Done
    );

    let narrow = Sample::new("loss", 2, 2);
    narrow.save(&store).await;
    let runs = run_statuses(&store, "loss").await;
    assert_eq!(runs.len(), 4);
    assert!(!runs.contains_key("loss/l2/s0"));
    assert_eq!(number(&store, "SELECT COUNT(*) FROM v_runs").await, 4);
    assert_eq!(number(&store, "SELECT COUNT(*) FROM runs").await, 6);
    assert_eq!(
        number(
            &store,
            "SELECT COUNT(*) FROM v_results WHERE variant = 'l2'"
        )
        .await,
        0
    );
    assert_eq!(number(&store, "SELECT COUNT(*) FROM v_attempts").await, 2);

    // It returns, with its result.
    wide.save(&store).await;
    assert_eq!(
        run_statuses(&store, "loss").await["loss/l2/s0"],
        Status::Done
    );
    assert_eq!(number(&store, "SELECT COUNT(*) FROM runs").await, 6);
    assert_eq!(number(&store, "SELECT COUNT(*) FROM plans").await, 3);
    assert_eq!(
        number(
            &store,
            "SELECT COUNT(*) FROM pragma_foreign_key_list('runs')"
        )
        .await,
        3
    );
}

#[tokio::test]
async fn a_run_with_another_configuration_is_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let mut sample = Sample::new("loss", 1, 1);
    sample.save(&store).await;
    finish(&store, &sample, 0, 50.0).await;
    finish(&store, &sample, 1, 50.0).await;
    sample.stages[1] = stage(1, ("changed", 0, 0), Some(0));
    sample.save(&store).await;
    let runs = store.runs(Some("loss")).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].status, Status::Pending);
    assert_eq!(runs[0].stages[1], sample.fingerprint(1));
    assert_eq!(
        store.results("loss").await.unwrap().len(),
        2,
        "those of the shared first stage"
    );
}

#[tokio::test]
async fn an_unchanged_plan_writes_nothing_but_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 2, 2);
    sample.save(&store).await;
    let before = store.experiments().await.unwrap()[0].updated;
    sample.save(&store).await;
    assert_eq!(number(&store, "SELECT COUNT(*) FROM plans").await, 1);
    assert!(store.experiments().await.unwrap()[0].updated >= before);
    store
        .save_parts(
            sample.parts(),
            |index| sample.spec(index),
            &provenance("ablate run --seeds 2 x.yaml"),
        )
        .await
        .unwrap();
    assert_eq!(number(&store, "SELECT COUNT(*) FROM plans").await, 2);
}

#[tokio::test]
async fn equal_stages_of_two_experiments_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let first = Sample::new("loss", 2, 1);
    let mut second = Sample::new("loss", 2, 1);
    second.experiment.name = "again".to_owned();
    first.save(&store).await;
    second.save(&store).await;
    assert_eq!(number(&store, "SELECT COUNT(*) FROM stages").await, 3);
    for index in 0..3 {
        finish(&store, &first, index, 50.0).await;
    }
    for name in ["loss", "again"] {
        assert!(
            run_statuses(&store, name)
                .await
                .values()
                .all(|&status| status == Status::Done)
        );
    }
    assert_eq!(
        store.results("loss").await.unwrap().len(),
        store.results("again").await.unwrap().len()
    );
    assert_eq!(
        number(
            &store,
            "SELECT runs FROM v_attempts ORDER BY started LIMIT 1"
        )
        .await,
        4
    );
}

#[tokio::test]
async fn runs_follow_their_stages() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 2, 1);
    sample.save(&store).await;
    let (shared, last) = (sample.fingerprint(0), sample.fingerprint(2));
    let both = |status| {
        HashMap::from([
            ("loss/l0/s0".to_owned(), status),
            ("loss/l1/s0".to_owned(), status),
        ])
    };

    let attempt = store.begin_attempt(&shared, &start()).await.unwrap();
    assert_eq!(attempt, 1);
    assert_eq!(run_statuses(&store, "loss").await, both(Status::Running));
    let worker = Change::Worker {
        fingerprint: shared.clone(),
        attempt: 1,
        pid: 4242,
        start: None,
    };
    store
        .transition(&leases::owner("me"), &[worker])
        .await
        .unwrap();
    store
        .end_attempt(&shared, 1, &end(Status::Failed))
        .await
        .unwrap();
    assert_eq!(run_statuses(&store, "loss").await, both(Status::Failed));
    let runs = store.runs(Some("loss")).await.unwrap();
    assert_eq!(runs[0].failure.as_deref(), Some("diverged"));
    let attempts = store.attempts(&shared).await.unwrap();
    assert_eq!(attempts[0].pid, Some(4242));
    assert_eq!(attempts[0].message.as_deref(), Some("the loss is NaN"));
    let states = store
        .stage_states(&[shared.clone(), last.clone(), "none".to_owned()])
        .await
        .unwrap();
    assert_eq!(states.len(), 2);
    assert_eq!(states[&shared].failure, Some(FailureClass::Diverged));
    assert_eq!(states[&shared].attempts, 1);
    assert_eq!(states[&shared].log.as_deref(), Some("attempt-1.log"));

    assert_eq!(store.begin_attempt(&shared, &start()).await.unwrap(), 2);
    store
        .end_attempt(&shared, 2, &end(Status::Done))
        .await
        .unwrap();
    assert_eq!(run_statuses(&store, "loss").await, both(Status::Pending));
    assert_eq!(store.runs(Some("loss")).await.unwrap()[0].failure, None);
    let state = &store
        .stage_states(std::slice::from_ref(&shared))
        .await
        .unwrap()[&shared];
    assert_eq!((state.failure, state.message.clone()), (None, None));
    store.begin_attempt(&last, &start()).await.unwrap();
    store
        .end_attempt(&last, 1, &end(Status::Done))
        .await
        .unwrap();
    let statuses = run_statuses(&store, "loss").await;
    assert_eq!(
        (statuses["loss/l0/s0"], statuses["loss/l1/s0"]),
        (Status::Pending, Status::Done)
    );
    assert_eq!(
        store.finished().await.unwrap(),
        [shared, last].into_iter().collect()
    );

    let status = &store.status(None).await.unwrap()[0];
    assert_eq!(
        (
            status.runs,
            status.done,
            status.pending,
            status.failed,
            status.running
        ),
        (2, 1, 1, 0, 0)
    );

    let unknown = store.begin_attempt("none", &start()).await.unwrap_err();
    assert_eq!(unknown.to_string(), "no stage `none` in the store");
    assert!(
        store
            .end_attempt(&sample.fingerprint(1), 9, &end(Status::Done))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn an_experiment_without_runs_has_a_status() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    Sample::new("empty", 0, 0).save(&store).await;
    let status = store.status(Some("empty")).await.unwrap();
    assert_eq!((status.len(), status[0].runs, status[0].pending), (1, 0, 0));
    assert!(store.status(Some("none")).await.unwrap().is_empty());
}

#[tokio::test]
async fn ten_thousand_runs_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("large", 1000, 10);
    sample.save(&store).await;
    assert_eq!(store.status(None).await.unwrap()[0].pending, 10_000);
    assert_eq!(store.runs(Some("large")).await.unwrap().len(), 10_000);
    let all: Vec<String> = (0..sample.stages.len() as u32)
        .map(|index| sample.fingerprint(index))
        .collect();
    assert_eq!(store.stage_states(&all).await.unwrap().len(), all.len());
}

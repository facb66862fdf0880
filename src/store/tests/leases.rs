//! Claims, ends and take-overs, by several owners and by several processes' worth of connections.

use super::*;

/// An owner of that name, on no host.
pub(super) fn owner(id: &str) -> Owner {
    Owner {
        id: id.to_owned(),
        host: "bench".to_owned(),
        boot_id: "boot".to_owned(),
        pid: 7,
        start_time: 42,
        since: 1000.5,
    }
}

fn claim(fingerprint: &str, seen: u32) -> Change {
    Change::Claim {
        fingerprint: fingerprint.to_owned(),
        device: "cpu".to_owned(),
        gpus: Vec::new(),
        seen,
    }
}

fn ended(fingerprint: &str, attempt: u32, status: Status, keep: bool) -> Change {
    Change::End {
        fingerprint: fingerprint.to_owned(),
        attempt,
        end: end(status),
        keep,
    }
}

async fn one(store: &Store, me: &Owner, change: Change) -> Vec<Claim> {
    store.transition(me, &[change]).await.unwrap()
}

/// Two handles on one store, as two schedulers have them.
async fn two(dir: &Path) -> (Store, Store, Sample) {
    let first = open(dir).await;
    let sample = Sample::new("loss", 4, 1);
    sample.save(&first).await;
    (first, Store::join(dir).await.unwrap(), sample)
}

#[tokio::test]
async fn a_stage_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second, sample) = two(folder.path()).await;
    let (a, b) = (owner("a"), owner("b"));
    let stage = sample.fingerprint(0);
    assert_eq!(
        one(&first, &a, claim(&stage, 0)).await,
        [Claim::Won { attempt: 1 }]
    );
    assert_eq!(
        one(&second, &b, claim(&stage, 0)).await,
        [Claim::Held(a.clone())]
    );
    let leases = second.leases().await.unwrap();
    assert_eq!(leases.len(), 1);
    assert_eq!(
        (leases[0].fingerprint.as_str(), &leases[0].owner),
        (stage.as_str(), &a)
    );
    let attempts = first.attempts(&stage).await.unwrap();
    assert_eq!(attempts[0].log, format!("stages/{stage}/attempt-1.log"));

    // Over the pause before a retry it stays ours.
    one(&first, &a, ended(&stage, 1, Status::Pending, true)).await;
    assert_eq!(
        one(&second, &b, claim(&stage, 0)).await,
        [Claim::Held(a.clone())]
    );
    assert_eq!(
        one(&first, &a, claim(&stage, 1)).await,
        [Claim::Won { attempt: 2 }]
    );
    let worker = Change::Worker {
        fingerprint: stage.clone(),
        attempt: 2,
        pid: 99,
        start: Some(123),
    };
    one(&first, &a, worker).await;
    let lease = &first.leases_of(std::slice::from_ref(&stage)).await.unwrap()[0];
    assert_eq!((lease.attempt, lease.worker), (2, Some((99, Some(123)))));

    // Whoever knows of fewer attempts is told how it ended; whoever knows of all of them may try again.
    one(&first, &a, ended(&stage, 2, Status::Failed, false)).await;
    assert!(first.leases().await.unwrap().is_empty());
    assert_eq!(
        one(&second, &b, claim(&stage, 0)).await,
        [Claim::Failed {
            class: FailureClass::Diverged,
            message: "the loss is NaN".to_owned()
        }]
    );
    assert_eq!(
        one(&second, &b, claim(&stage, 2)).await,
        [Claim::Won { attempt: 3 }]
    );
    one(&second, &b, ended(&stage, 3, Status::Done, false)).await;
    assert_eq!(one(&first, &a, claim(&stage, 2)).await, [Claim::Done]);
    // Its weights are gone, say: what is known to be done can be done again.
    assert_eq!(
        one(&first, &a, claim(&stage, 3)).await,
        [Claim::Won { attempt: 4 }]
    );
    let release = Change::Release {
        fingerprint: stage.clone(),
    };
    one(&second, &b, release.clone()).await;
    assert_eq!(
        first.leases().await.unwrap().len(),
        1,
        "only its owner gives a lease back"
    );
    one(&first, &a, release).await;
    assert!(first.leases().await.unwrap().is_empty());
}

/// What a scheduler that dies right after has noted: the GPUs come with the claim, or not at all.
#[tokio::test]
async fn a_claim_notes_its_gpus() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second, sample) = two(folder.path()).await;
    let stage = sample.fingerprint(0);
    let on = |uuid: &str| Change::Claim {
        fingerprint: stage.clone(),
        device: "cuda:0".to_owned(),
        gpus: vec![AttemptGpu {
            uuid: uuid.to_owned(),
            name: "A GPU".to_owned(),
            driver: "570".to_owned(),
            memory: 80 << 30,
        }],
        seen: 0,
    };
    let won = [Claim::Won { attempt: 1 }];
    assert_eq!(one(&first, &owner("a"), on("GPU-1")).await, won);
    one(&second, &owner("b"), on("GPU-2")).await;
    let rows = first
        .query_all("SELECT attempt, uuid FROM v_gpus")
        .await
        .unwrap();
    let expected = [[Cell::Integer(1), Cell::Text("GPU-1".to_owned())]];
    assert_eq!(rows.rows, expected);
}

#[tokio::test]
async fn a_transition_is_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 4, 1);
    sample.save(&store).await;
    let a = owner("a");
    let changes = [
        claim(&sample.fingerprint(0), 0),
        claim(&sample.fingerprint(1), 0),
        ended("unknown", 1, Status::Done, false),
    ];
    let error = store.transition(&a, &changes).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Unknown { what: "stage", .. }),
        "{error}"
    );
    assert!(store.leases().await.unwrap().is_empty());
    assert_eq!(number(&store, "SELECT COUNT(*) FROM attempts").await, 0);
    let won = store.transition(&a, &changes[..2]).await.unwrap();
    assert_eq!(won, [Claim::Won { attempt: 1 }, Claim::Won { attempt: 1 }]);
}

#[tokio::test]
async fn only_the_leases_of_the_dead_are_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let (store, other, sample) = two(folder.path()).await;
    let (a, b) = (owner("a"), owner("b"));
    let names: Vec<String> = (0..4).map(|index| sample.fingerprint(index)).collect();
    for (index, me) in [(0, &a), (1, &a), (2, &b)] {
        one(&store, me, claim(&names[index], 0)).await;
    }
    store
        .record_events(
            &names[1],
            &[
                event(1, 1, started(0)),
                event(2, 1, EventKind::Finished { step: 9 }),
            ],
        )
        .await
        .unwrap();
    // An attempt from before there were leases.
    store.begin_attempt(&names[3], &start()).await.unwrap();
    assert_eq!(
        other
            .abandon_running(&["a".to_owned()], |_| false)
            .await
            .unwrap(),
        3
    );
    let states = other.stage_states(&names).await.unwrap();
    let of = |index: usize| states[&names[index]].status;
    assert_eq!(
        [of(0), of(1), of(2), of(3)],
        [
            Status::Pending,
            Status::Done,
            Status::Running,
            Status::Pending
        ]
    );
    assert_eq!(
        other
            .abandon_running(&["a".to_owned()], |_| false)
            .await
            .unwrap(),
        0
    );
    let leases = other.leases().await.unwrap();
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].owner, b);
}

/// What a worker said of its end before its scheduler died is no verdict where circumstances were to blame.
#[tokio::test]
async fn stages_that_were_asked_to_stop_are_free_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, other, sample) = two(folder.path()).await;
    let a = owner("a");
    let told = [
        (FailureClass::Killed, Status::Pending),
        (FailureClass::OutOfMemory, Status::Pending),
        (FailureClass::DiskFull, Status::Pending),
        (FailureClass::Diverged, Status::Failed),
    ];
    let names: Vec<String> = (0..4).map(|index| sample.fingerprint(index)).collect();
    for (name, (class, _)) in names.iter().zip(told) {
        one(&store, &a, claim(name, 0)).await;
        let message = "why".to_owned();
        let events = [
            event(1, 1, started(0)),
            event(2, 1, EventKind::Failed { class, message }),
        ];
        store.record_events(name, &events).await.unwrap();
    }
    let dead = ["a".to_owned()];
    let is_transient = |class| class != FailureClass::Diverged;
    assert_eq!(other.abandon_running(&dead, is_transient).await.unwrap(), 4);
    let states = other.stage_states(&names).await.unwrap();
    for (name, (class, expected)) in names.iter().zip(told) {
        let state = &states[name];
        assert_eq!(state.status, expected, "{class:?}");
        // Why its attempt ended is known all the same.
        assert_eq!(state.failure, Some(class));
    }
}

/// Several schedulers that all want every stage: each goes to one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_exclude_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 40, 1);
    sample.save(&store).await;
    let mut tasks = Vec::new();
    for id in ["a", "b", "c"] {
        let names: Vec<String> = (0..40).map(|index| sample.fingerprint(index)).collect();
        let dir = folder.path().to_owned();
        tasks.push(tokio::spawn(async move {
            let store = Store::join(&dir).await.unwrap();
            let me = owner(id);
            let mut won = Vec::new();
            for name in names {
                if let [Claim::Won { attempt: 1 }] = one(&store, &me, claim(&name, 0)).await[..] {
                    won.push(name);
                }
            }
            won
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    assert_eq!(all.len(), 40);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 40);
}

#[tokio::test]
async fn the_first_scheduler_makes_the_store_and_later_ones_join() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let (lock, store) = Store::enter(&dir).await.unwrap();
    assert!(StoreLock::exclusive(&dir).is_err());
    let (second_lock, second) = Store::enter(&dir).await.unwrap();
    drop(lock);
    assert!(
        StoreLock::exclusive(&dir).is_err(),
        "the second is still in"
    );
    drop((store, second, second_lock));
    StoreLock::exclusive(&dir).unwrap();
}

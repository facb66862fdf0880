use super::*;

fn read(text: &str) -> Vec<EventKind> {
    let mut reports = Reports::default();
    let mut events = reports.read(text.as_bytes());
    events.extend(reports.finish());
    events
}

fn warning(events: &[EventKind]) -> &str {
    match events {
        [EventKind::Warning { message }] => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_become_events() {
    let events = read(concat!(
        "{\"kind\":\"started\",\"total_steps\":20}\n",
        "{\"kind\":\"step\",\"step\":10,\"loss\":0.5}\n\n",
        "{\"kind\":\"epoch\",\"epoch\":0,\"loss\":0.4,\"seconds\":2}\n",
        "{\"kind\":\"evaluated\",\"metrics\":{\"accuracy\":91.2}}\n",
        "{\"kind\":\"checkpointed\",\"file\":\"c.json\"}\n",
        "{\"kind\":\"resources\",\"peak_rss_bytes\":1}\n",
        "{\"kind\":\"finished\"}",
    ));
    assert_eq!(events.len(), 5, "{events:?}");
    assert!(matches!(
        events[0],
        EventKind::Started {
            resumed_step: 0,
            total_steps: 20,
            ..
        }
    ));
    let EventKind::Step {
        step: 10,
        epoch: 0,
        loss,
        lr,
        ..
    } = events[1]
    else {
        panic!("{events:?}")
    };
    assert!(loss == 0.5 && lr.is_nan());
    let EventKind::Epoch {
        epoch: 0,
        step: 10,
        train_loss,
        ..
    } = events[2]
    else {
        panic!("{events:?}")
    };
    assert_eq!(train_loss, 0.4);
    let EventKind::Evaluated {
        epoch,
        step,
        set,
        resolution,
        metrics,
        last,
    } = &events[3]
    else {
        panic!("{events:?}")
    };
    assert_eq!(
        (*epoch, *step, set.as_str(), *resolution, *last),
        (0, 10, "val", 0, false)
    );
    assert_eq!(metrics["accuracy"], 91.2);
    assert_eq!(
        events[4],
        EventKind::Checkpointed {
            step: 10,
            file: "c.json".into()
        }
    );
}

#[test]
fn numbers_that_json_lacks_are_understood() {
    for (written, value) in [
        ("NaN", f64::NAN),
        ("\"nan\"", f64::NAN),
        ("null", f64::NAN),
        ("Infinity", f64::INFINITY),
        ("-Infinity", f64::NEG_INFINITY),
        ("\"-inf\"", f64::NEG_INFINITY),
        ("3", 3.0),
    ] {
        let line = format!("{{\"kind\":\"step\",\"step\":1,\"loss\":{written}}}\n");
        let [EventKind::Step { loss, .. }] = read(&line)[..] else {
            panic!("{written}: {:?}", read(&line))
        };
        assert!(
            loss == value || (loss.is_nan() && value.is_nan()),
            "{written}: {loss}"
        );
    }
    let line = "{\"kind\":\"warning\",\"message\":\"loss is NaN \\\"NaN\\\"\"}\n";
    assert_eq!(warning(&read(line)), "loss is NaN \"NaN\"");
}

#[test]
fn what_is_not_understood_is_a_warning_with_its_line() {
    for (line, part) in [
        ("nonsense", "not JSON"),
        ("[1]", "not a JSON object"),
        ("{}", "no `kind`"),
        ("{\"kind\":\"stepp\",\"step\":1}", "unknown kind `stepp`"),
        ("{\"kind\":\"step\"}", "no `step`"),
        ("{\"kind\":\"step\",\"step\":-1}", "no whole number"),
        ("{\"kind\":\"step\",\"step\":1.5}", "no whole number"),
        ("{\"kind\":\"step\",\"step\":1e300}", "no whole number"),
        (
            "{\"kind\":\"step\",\"step\":1,\"loss\":\"low\"}",
            "`loss` is no number",
        ),
        ("{\"kind\":\"evaluated\"}", "no map `metrics`"),
        ("{\"kind\":\"evaluated\",\"metrics\":{}}", "0 entries"),
        (
            "{\"kind\":\"evaluated\",\"metrics\":{\"a/b\":1}}",
            "no name for a metric",
        ),
        (
            "{\"kind\":\"evaluated\",\"metrics\":{\"a\":[]}}",
            "no number",
        ),
        (
            "{\"kind\":\"evaluated\",\"metrics\":{\"a\":1},\"set\":\"../x\"}",
            "`set`",
        ),
        (
            "{\"kind\":\"failed\",\"class\":\"tired\"}",
            "unknown failure class `tired`",
        ),
    ] {
        let events = read(&format!("{{\"kind\":\"finished\"}}\n{line}\n"));
        let message = warning(&events);
        assert!(
            message.starts_with("report, line 2: ") && message.contains(part),
            "{line}: {message}"
        );
    }
}

#[test]
fn unknown_keys_are_told_once_and_the_rest_is_kept() {
    let line = "{\"kind\":\"step\",\"step\":1,\"los\":0.5}\n";
    let events = read(&line.repeat(3));
    assert_eq!(events.len(), 4, "{events:?}");
    assert!(
        matches!(&events[0], EventKind::Warning { message } if message.contains("`step` has no `los`"))
    );
}

#[test]
fn hostile_bytes_are_bounded() {
    let mut bytes = vec![b'x'; 10 * MAX_LINE];
    bytes.push(b'\n');
    bytes.extend(b"\xff\xfe{}\n");
    bytes.extend([0u8; 100]);
    bytes.push(b'\n');
    bytes.extend("[".repeat(1000).bytes());
    bytes.push(b'\n');
    for _ in 0..1000 {
        bytes.extend(b"junk\n");
    }
    bytes.extend(b"{\"kind\":\"step\",\"step\":7}\n");
    let mut reports = Reports::default();
    let mut events = Vec::new();
    for chunk in bytes.chunks(1000) {
        events.extend(reports.read(chunk));
        assert!(reports.line.len() <= MAX_LINE);
    }
    assert_eq!(events.len(), MAX_WARNINGS as usize + 1);
    let EventKind::Warning { message } = &events[0] else {
        panic!()
    };
    assert!(message.contains("line 1: longer than"), "{message}");
    let EventKind::Warning { message } = &events[1] else {
        panic!()
    };
    assert!(message.contains("line 2: not UTF-8 (byte 0)"), "{message}");
    assert!(matches!(
        events.last(),
        Some(EventKind::Step { step: 7, .. })
    ));
}

#[test]
fn chunks_make_no_difference() {
    let text = "{\"kind\":\"step\",\"step\":1,\"loss\":0.25}\nnonsense é\n{\"kind\":\"evaluated\",\"metrics\":{\"a\":1}}\n";
    let whole = read(text);
    for size in 1..text.len() {
        let mut reports = Reports::default();
        let events: Vec<EventKind> = text
            .as_bytes()
            .chunks(size)
            .flat_map(|part| reports.read(part))
            .collect();
        assert_eq!(format!("{events:?}"), format!("{whole:?}"), "{size}");
    }
}

#[test]
fn steps_beyond_the_limit_are_dropped_but_results_are_kept() {
    let mut reports = Reports {
        events: MAX_EVENTS,
        ..Reports::default()
    };
    let events = reports.read(
        b"{\"kind\":\"step\",\"step\":1}\n{\"kind\":\"step\",\"step\":2}\n{\"kind\":\"evaluated\",\"metrics\":{\"a\":1}}\n",
    );
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(matches!(events[0], EventKind::Warning { .. }));
    assert!(matches!(events[1], EventKind::Evaluated { .. }));
}

#[test]
fn results_are_the_last_of_every_metric() {
    let mut reports = Reports::default();
    reports.read(concat!(
        "{\"kind\":\"evaluated\",\"step\":5,\"metrics\":{\"accuracy\":50,\"loss\":2}}\n",
        "{\"kind\":\"evaluated\",\"step\":9,\"metrics\":{\"accuracy\":60}}\n",
        "{\"kind\":\"evaluated\",\"set\":\"test\",\"metrics\":{\"accuracy\":55},\"last\":true}\n",
    ).as_bytes());
    let results = reports.results(false);
    let [
        EventKind::Evaluated {
            set,
            step,
            metrics,
            last: true,
            ..
        },
    ] = &results[..]
    else {
        panic!("{results:?}")
    };
    assert_eq!((set.as_str(), *step), ("val", 9));
    assert_eq!(
        metrics
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect::<Vec<_>>(),
        [("accuracy", 60.0), ("loss", 2.0)]
    );
    // A file says what the results are.
    assert!(
        reports
            .add_file(b"{\"accuracy\": 61.5, \"test\": {\"f1\": NaN}}")
            .is_empty()
    );
    let results = reports.results(true);
    assert_eq!(results.len(), 2);
    let EventKind::Evaluated { set, metrics, .. } = &results[1] else {
        panic!()
    };
    assert_eq!((set.as_str(), metrics["accuracy"]), ("val", 61.5));
    for bad in ["[]", "{", "{\"a\": \"b\"}", "\u{0}"] {
        let events = Reports::default().add_file(bad.as_bytes());
        assert!(warning(&events).starts_with("metrics.json: "), "{bad}");
    }
}

#[test]
fn results_of_an_attempt_that_had_nothing_left_to_do_are_of_where_it_went_on() {
    let mut reports = Reports::going_on(vec![(10, 1), (20, 2), (30, 3)], 10);
    assert_eq!(reports.step(), 10);
    reports.read(b"{\"kind\":\"started\",\"resumed_step\":25}\n");
    reports.add_file(b"{\"accuracy\": 5}");
    let results = reports.results(true);
    assert!(
        matches!(
            results[..],
            [EventKind::Evaluated {
                step: 25,
                epoch: 2,
                ..
            }]
        ),
        "{results:?}"
    );
}

use super::*;
use crate::rundir::event::FailureClass;
use std::collections::BTreeMap;

fn kinds() -> Vec<EventKind> {
    vec![
        EventKind::Started {
            host: "bench \"é\"\t\n".to_owned(),
            pid: 7,
            device: "cpu".to_owned(),
            program: "ablate 0.1.0".to_owned(),
            resumed_step: 0,
            total_steps: 9,
        },
        EventKind::Step {
            step: 3,
            epoch: 0,
            loss: f64::NAN,
            lr: 1e-3,
            grad_norm: f64::INFINITY,
            images_per_second: 5.0,
        },
        EventKind::Evaluated {
            epoch: 0,
            step: 9,
            set: "val".to_owned(),
            resolution: 48,
            metrics: BTreeMap::from([
                ("loss".to_owned(), f64::NEG_INFINITY),
                ("top1".to_owned(), 12.5),
            ]),
            last: true,
        },
        EventKind::Warning {
            message: "slow".to_owned(),
        },
        EventKind::Finished { step: 9 },
    ]
}

fn write(path: &Path) -> Vec<Event> {
    let mut log = EventLog::open(path, 1).unwrap();
    kinds()
        .into_iter()
        .map(|kind| log.append(kind).unwrap())
        .collect()
}

/// Equality that takes NaN for equal to itself.
fn same(a: &[Event], b: &[Event]) -> bool {
    a.iter().map(encode).eq(b.iter().map(encode))
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let written = write(&path);
    let back = read(&path).unwrap();
    assert!(same(&back, &written), "{back:?}");
    let EventKind::Step {
        loss, grad_norm, ..
    } = back[1].kind
    else {
        panic!()
    };
    assert!(loss.is_nan() && grad_norm == f64::INFINITY);
    // One line an event: control characters in texts don't break lines.
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), written.len());
    assert!(read(&folder.path().join("none")).unwrap().is_empty());
}

#[test]
fn a_log_cut_anywhere_reads_up_to_the_cut_and_is_written_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let written = write(&path);
    let bytes = std::fs::read(&path).unwrap();
    for length in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let whole = bytes[..length]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        assert!(same(&read(&path).unwrap(), &written[..whole]), "{length}");
        let mut log = EventLog::open(&path, 2).unwrap();
        assert_eq!(log.last_seq(), whole as u64);
        let event = log.append(EventKind::Finished { step: 1 }).unwrap();
        assert_eq!((event.seq, event.attempt), (whole as u64 + 1, 2));
        drop(log);
        assert_eq!(read(&path).unwrap().len(), whole + 1, "{length}");
    }
}

#[test]
fn a_changed_byte_is_found_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let written = write(&path);
    let bytes = std::fs::read(&path).unwrap();
    let last_line = bytes[..bytes.len() - 1]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .unwrap()
        + 1;
    for position in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff, bytes[position] ^ b'\n'] {
            let mut bad = bytes.clone();
            bad[position] ^= change;
            if bad == bytes {
                continue;
            }
            std::fs::write(&path, &bad).unwrap();
            let line = bytes[..position]
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count() as u64
                + 1;
            let mut tail = Tail::new(&path);
            let good = tail.poll();
            if position >= last_line && position + 1 < bytes.len() && bad[position] != b'\n' {
                // A torn last line and a changed one can't be told apart, except behind its checksum.
                let good = good.unwrap();
                assert!(
                    same(&good, &written[..written.len() - 1]),
                    "byte {position}"
                );
                assert!(tail.poll().unwrap().is_empty());
                continue;
            }
            let error = match good {
                Ok(events) if !events.is_empty() => {
                    assert!(
                        same(&events, &written[..line as usize - 1]),
                        "byte {position}"
                    );
                    tail.poll().unwrap_err()
                }
                Ok(_) => panic!("byte {position} went unnoticed"),
                Err(error) => error,
            };
            let LogError::Damaged { line: found, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!(*found, line, "byte {position}: {error}");
            assert!(
                error
                    .to_string()
                    .contains(&format!("events.jsonl, line {line}: ")),
                "{error}"
            );
            // The writer keeps the damaged log, and goes on behind what verifies.
            let mut log = EventLog::open(&path, 2).unwrap();
            log.append(EventKind::Finished { step: 10 }).unwrap();
            drop(log);
            let aside = folder.path().join("events.jsonl.damaged-1");
            assert_eq!(std::fs::read(&aside).unwrap(), bad);
            std::fs::remove_file(&aside).unwrap();
            let whole = read(&path).unwrap();
            let kept = line as usize - 1;
            assert!(same(&whole[..kept], &written[..kept]));
            let EventKind::Warning { message } = &whole[kept].kind else {
                panic!("{:?}", whole[kept])
            };
            let parts = ["events.jsonl.damaged-1", &format!("line {line}: ")];
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
            assert_eq!(whole.len(), kept + 2);
        }
    }
}

#[test]
fn lost_repeated_and_swapped_lines_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    write(&path);
    let bytes = std::fs::read(&path).unwrap();
    let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    for order in [
        vec![1, 2],
        vec![0, 2],
        vec![0, 0],
        vec![0, 1, 1, 2],
        vec![0, 2, 1],
    ] {
        let changed: Vec<u8> = order
            .iter()
            .flat_map(|&line| lines[line].to_vec())
            .collect();
        std::fs::write(&path, &changed).unwrap();
        assert!(
            matches!(read(&path), Err(LogError::Damaged { .. })),
            "{order:?}"
        );
    }
}

#[test]
fn a_tail_follows_a_log_written_byte_by_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let written = write(&path);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut tail = Tail::new(&path);
    assert!(tail.poll().unwrap().is_empty());
    let mut file = File::create(&path).unwrap();
    let mut seen = Vec::new();
    for byte in &bytes {
        file.write_all(&[*byte]).unwrap();
        let events = tail.poll().unwrap();
        assert_eq!(events.len(), usize::from(*byte == b'\n'));
        seen.extend(events);
        // Going on from a stored position is the same as going on.
        tail = Tail::at(&path, tail.position());
    }
    assert!(same(&seen, &written));
    assert_eq!(tail.position().offset, bytes.len() as u64);
    // A log that shrinks behind the reader's back is damage.
    file.set_len(3).unwrap();
    assert!(matches!(tail.poll(), Err(LogError::Damaged { .. })));
}

#[test]
fn a_log_longer_than_one_reading_is_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let message = "x".repeat(3 * MAX_MESSAGE);
    let mut log = EventLog::open(&path, 1).unwrap();
    for _ in 0..600 {
        log.append(EventKind::Warning {
            message: message.clone(),
        })
        .unwrap();
    }
    assert!(std::fs::metadata(&path).unwrap().len() > 8 << 20);
    let events = read(&path).unwrap();
    assert_eq!(events.len(), 600);
    let EventKind::Warning { message } = &events[599].kind else {
        panic!()
    };
    assert!(message.len() < MAX_MESSAGE + 10 && message.ends_with(" [...]"));
}

#[test]
fn a_second_writer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let first = EventLog::open(&path, 1).unwrap();
    assert!(matches!(
        EventLog::open(&path, 2),
        Err(LogError::InUse { .. })
    ));
    drop(first);
    EventLog::open(&path, 2).unwrap();
}

#[test]
fn a_newer_format_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let json = r#"{"v":2,"seq":1,"time":0.0,"attempt":1,"kind":"new"}"#;
    let line = format!("{json}\t{:08x}\n", crc32fast::hash(json.as_bytes()));
    std::fs::write(&path, &line).unwrap();
    let error = EventLog::open(&path, 2).unwrap_err().to_string();
    assert!(error.contains("newer"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), line);
}

#[test]
fn a_failed_write_leaves_no_half_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let written = write(&path);
    let bytes = std::fs::read(&path).unwrap();
    // What a failed write leaves: part of a line behind what the log counts as good.
    let mut log = EventLog::open(&path, 2).unwrap();
    OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"{\"v\":1,")
        .unwrap();
    log.dirty = true;
    log.append(EventKind::Failed {
        class: FailureClass::Killed,
        message: String::new(),
    })
    .unwrap();
    let events = read(&path).unwrap();
    assert_eq!(events.len(), written.len() + 1);
    assert!(std::fs::read(&path).unwrap().starts_with(&bytes));
}

#[test]
fn a_log_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let mut bytes = b"{\"v\":2,\"seq\":1,\"what\":\"else\"}".to_vec();
    bytes.extend(format!("\t{:08x}\n", crc32fast::hash(&bytes)).into_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let error = EventLog::open(&path, 1).unwrap_err();
    assert!(error.to_string().contains("update ablate"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn setting_a_log_aside_may_fail_at_any_step() {
    use crate::rundir::durable::fault;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let written = write(&path);
    let mut bad = std::fs::read(&path).unwrap();
    let second = encode(&written[0]).len();
    bad[second + 9] ^= 1;
    let mut steps = 0;
    loop {
        std::fs::write(&path, &bad).unwrap();
        fault::fail_at(folder.path(), steps + 1, libc::EIO);
        let opened = EventLog::open(&path, 2);
        if fault::take(folder.path()).is_none() {
            break;
        }
        assert_eq!(opened.unwrap_err().class(), FailureClass::IoError);
        // Whatever failed: the next one finds the damaged log or the repaired one.
        drop(EventLog::open(&path, 3).unwrap());
        let events = read(&path).unwrap();
        assert!(same(&events[..1], &written[..1]));
        steps += 1;
    }
    assert!(steps >= 5, "{steps}");
}

/// Somebody reads it under a lock, or a worker that was given up still dies: another attempt may find it free.
#[test]
fn a_log_that_is_in_use_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let _first = EventLog::open(&path, 1).unwrap();
    let error = EventLog::open(&path, 2).unwrap_err();
    assert!(matches!(error, LogError::InUse { .. }), "{error}");
    assert_eq!(error.class(), FailureClass::Killed);
}

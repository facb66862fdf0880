//! fsync that fails: of the store's database, its log, event logs, checkpoints, weights, folders. A small library
//! in front of the C library counts the calls of all processes and lets one of them fail. Building it needs a C
//! compiler, as building the program does; without, a line says that nothing was tested.

use crate::lab::{Lab, SMALL};
use std::path::PathBuf;
use std::process::Command;

const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(void) {
    const char *path = getenv("FSYNC_COUNT"), *at = getenv("FSYNC_FAIL_AT");
    if (!path || !at) return 0;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) return 0;
    flock(file, LOCK_EX);
    char text[32] = {0};
    if (pread(file, text, sizeof text - 1, 0) < 0) text[0] = 0;
    long count = atol(text) + 1;
    int length = snprintf(text, sizeof text, "%ld\n", count);
    int fail = pwrite(file, text, length, 0) == length && count == atol(at);
    close(file);
    return fail;
}

int fsync(int file) {
    if (fails()) { errno = EIO; return -1; }
    return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    if (fails()) { errno = EIO; return -1; }
    return (int)syscall(SYS_fdatasync, file);
}
"#;

/// Builds the library; `None` without a compiler.
fn library(lab: &Lab) -> Option<PathBuf> {
    lab.write("fsync.c", LIBRARY);
    let (source, library) = (lab.path("fsync.c"), lab.path("fsync.so"));
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .status();
    match built {
        Ok(status) if status.success() => Some(library),
        other => {
            println!("not tested: there is no C compiler ({other:?})");
            None
        }
    }
}

/// Calls that are let fail, unless `ABLATE_TEST_EVERY_FSYNC` asks for all.
const SOME: u64 = 8;

#[test]
fn whichever_fsync_fails_the_next_run_has_the_same_result() {
    let lab = Lab::with_pictures(6);
    let Some(library) = library(&lab) else {
        return;
    };
    let yaml = SMALL
        .replace("seeds: 2", "seeds: 1")
        .replace("epochs: 2", "epochs: 1")
        .replace(
            "axes:\n  loss:\n    ce: {loss.name: ce}\n    bce: {loss.name: bce}\nbaseline: {loss: ce}\n",
            "stages:\n  pretrain: {set: {train.resolution: 24}}\n  tune: {from: pretrain}\n\
             execution:\n  checkpoints: {every: 1ms, best: true}\n",
        );
    assert!(yaml.contains("pretrain"));
    lab.write("small.yaml", &yaml);
    let run = |store: &str, fail_at: u64| {
        let line = format!("run small.yaml --slots 1 --store {store}");
        let mut command = lab.command(line.split_whitespace());
        command
            .env("LD_PRELOAD", &library)
            .env("FSYNC_COUNT", lab.path("count"))
            .env("FSYNC_FAIL_AT", fail_at.to_string());
        let _ = std::fs::remove_file(lab.path("count"));
        lab.finish(command)
    };
    run("calm", 0).expect(0);
    let text = std::fs::read_to_string(lab.path("count")).unwrap();
    let all: u64 = text.trim().parse().unwrap();
    assert!(all > 30, "only {all} calls were counted");

    let every = std::env::var_os("ABLATE_TEST_EVERY_FSYNC").is_some();
    let step = if every { 1 } else { all.div_ceil(SOME) };
    let mut codes = std::collections::BTreeMap::new();
    for fail_at in (1..=all).step_by(step as usize) {
        let store = format!("store-{fail_at}");
        let answer = run(&store, fail_at);
        assert!(
            matches!(answer.code, Some(0 | 1 | 3)),
            "call {fail_at}: {answer:#?}"
        );
        assert!(!answer.stderr.contains("panicked"), "{answer:#?}");
        *codes.entry(answer.code).or_insert(0) += 1;
        let said = answer.stderr.clone();
        lab.ablate(
            &format!("run small.yaml --retry-failed --store {store}"),
            &[],
        )
        .expect(0);
        lab.same_results("calm", &store);
        let check = lab.ask(&store, "SELECT * FROM pragma_integrity_check");
        assert_eq!(check[0]["integrity_check"], "ok", "call {fail_at}");
        let done = lab.ask(
            &store,
            "SELECT fingerprint, SUM(status = 'done') AS done FROM v_attempts GROUP BY fingerprint",
        );
        assert_eq!(done.len(), 2);
        assert!(done.iter().all(|row| row["done"] == 1), "{done:?}: {said}");
    }
    println!("{all} calls, exit codes {codes:?}");
}

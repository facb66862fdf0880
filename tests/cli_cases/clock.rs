//! A wall clock that is set while runs go on: it only labels. A small library in front of the C library sets it for
//! one test alone; building it needs a C compiler, and without one a line says that nothing was tested.

use crate::lab::{Lab, longer, wait_for};
use std::process::{Command, Stdio};

/// The clock is ahead by as many days as the file has bytes beyond 10.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int status = (int)syscall(SYS_clock_gettime, clock, now);
    const char *path = getenv("CLOCK_STEP");
    struct stat file;
    if (status == 0 && clock == CLOCK_REALTIME && path && stat(path, &file) == 0)
        now->tv_sec += (file.st_size - 10) * 86400;
    return status;
}
"#;

#[test]
fn a_clock_that_is_set_changes_no_more_than_labels() {
    let lab = Lab::with_pictures(20);
    lab.write("longer.yaml", &longer());
    lab.write("clock.c", LIBRARY);
    let library = lab.path("clock.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &lab.path("clock.c")])
        .status();
    if !built.is_ok_and(|status| status.success()) {
        println!("not tested: there is no C compiler");
        return;
    }
    lab.ablate("run longer.yaml --store calm", &[]).expect(0);
    let set = |days: usize| lab.write("step", &"x".repeat(days));
    let start = || {
        // A day is longer than any limit.
        let line = "run longer.yaml --store s --slots 2 --timeout 10m --budget 1h";
        let mut command = lab.command(line.split_whitespace());
        command
            .env("LD_PRELOAD", &library)
            .env("CLOCK_STEP", lab.path("step"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let epochs = || {
        let stages = lab.stages("s");
        let of = |stage: &String| {
            let events = lab.events("s", stage);
            events
                .iter()
                .filter(|event| event["kind"] == "epoch")
                .count()
        };
        stages.iter().map(of).max().unwrap_or(0)
    };
    set(10);
    let mut run = start();
    // Two days ahead, then five days behind.
    wait_for("some epochs", || (epochs() >= 2).then_some(()));
    set(12);
    wait_for("further epochs", || (epochs() >= 4).then_some(()));
    set(5);
    wait_for("further epochs", || (epochs() >= 6).then_some(()));
    run.kill().unwrap();
    run.wait().unwrap();
    // Whoever takes over lives in the past of the dead one.
    set(1);
    let mut run = start();
    wait_for("further epochs", || (epochs() >= 8).then_some(()));
    set(11);
    assert!(run.wait().unwrap().success());
    lab.same_results("calm", "s");
    let failures = lab.ask(
        "s",
        "SELECT failure, COUNT(*) AS n FROM v_attempts WHERE status = 'failed' GROUP BY failure",
    );
    // Those that were killed along with their scheduler.
    assert!(
        failures.iter().all(|row| row["failure"] == "killed"),
        "{failures:?}"
    );
    let odd = lab.ask(
        "s",
        "SELECT * FROM v_runs WHERE wall_seconds IS NULL OR wall_seconds < 0 OR wall_seconds > 3600",
    );
    assert!(odd.is_empty(), "{odd:?}");
}

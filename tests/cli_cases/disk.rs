//! A real file system that is full, a small one in memory. Mounting needs root: without, a line says that
//! nothing was tested.

use crate::lab::{Lab, PATIENCE, longer, wait_for};
use std::ffi::CString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Instant;

/// A file system of its own, unmounted in the end.
struct Small {
    path: PathBuf,
}

impl Small {
    /// Mounts one of `mib` MiB at `path`; `None` if that isn't allowed here.
    fn mount(path: &Path, mib: u32) -> Option<Small> {
        Small::mount_with(path, &format!("size={mib}m"))
    }

    /// Mounts one with the options of `tmpfs`.
    fn mount_with(path: &Path, options: &str) -> Option<Small> {
        std::fs::create_dir_all(path).unwrap();
        let target = CString::new(path.to_str().unwrap()).unwrap();
        let options = CString::new(options).unwrap();
        // SAFETY: all strings end with a zero and live until the call is over.
        let status = unsafe {
            libc::mount(
                c"tmpfs".as_ptr(),
                target.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                options.as_ptr().cast(),
            )
        };
        if status == 0 {
            return Some(Small { path: path.into() });
        }
        println!(
            "not tested: no file system can be mounted here ({})",
            std::io::Error::last_os_error()
        );
        None
    }

    /// Takes all but `left` bytes, or all.
    fn fill(&self, left: u64) -> PathBuf {
        let filler = self.path.join("filler");
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&filler)
            .unwrap();
        let block = vec![b'x'; 4096];
        while free(&self.path) > left && file.write_all(&block).is_ok() {}
        filler
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let path = CString::new(self.path.to_str().unwrap()).unwrap();
        // SAFETY: the string ends with a zero.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

fn free(path: &Path) -> u64 {
    ablate::schedule::space::free_bytes(path).unwrap()
}

/// The program with its stderr in a file that can be read while it runs.
struct Running {
    child: Child,
    stderr: PathBuf,
}

impl Running {
    fn start(lab: &Lab, line: &str) -> Running {
        let stderr = lab.path("stderr");
        let mut command = lab.command(line.split_whitespace());
        command
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&stderr).unwrap());
        Running {
            child: command.spawn().unwrap(),
            stderr,
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }

    fn end(mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.said());
            }
            assert!(begun.elapsed() < PATIENCE, "it hangs: {}", self.said());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn experiment(lab: &Lab) {
    let eager = longer() + "execution:\n  checkpoints: {every: 0.05s}\n";
    lab.write("longer.yaml", &eager);
}

#[test]
fn below_the_reserve_nothing_starts_until_there_is_room() {
    let lab = Lab::with_pictures(12);
    experiment(&lab);
    let Some(small) = Small::mount(&lab.path("small"), 48) else {
        return;
    };
    let filler = small.fill(12 << 20);
    let run = Running::start(&lab, "run longer.yaml --store small/store --min-free 16M");
    wait_for("the message", || {
        run.said().contains("no stage is started").then_some(())
    });
    assert_eq!(lab.stages("small/store").len(), 0, "{}", run.said());
    std::fs::remove_file(filler).unwrap();
    let (status, said) = run.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("going on"), "{said}");
    let attempts = lab.ask("small/store", "SELECT COUNT(*) AS n FROM v_attempts");
    assert_eq!(attempts[0]["n"], 2);
}

/// Nothing of the run is stored yet: it waits all the same.
#[test]
fn a_store_that_is_full_when_a_run_begins_is_waited_for() {
    let lab = Lab::with_pictures(12);
    experiment(&lab);
    let Some(small) = Small::mount(&lab.path("small"), 48) else {
        return;
    };
    let filler = small.fill(0);
    let run = Running::start(&lab, "run longer.yaml --store small/store --min-free 1M");
    wait_for("the message", || {
        run.said()
            .contains("waiting until there is some")
            .then_some(())
    });
    std::fs::remove_file(&filler).unwrap();
    let (status, said) = run.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("no space left for"), "{said}");
    // It isn't waited for against the will of whoever has begun it.
    small.fill(0);
    let run = Running::start(&lab, "run longer.yaml --store small/other");
    wait_for("the message", || {
        run.said()
            .contains("waiting until there is some")
            .then_some(())
    });
    // SAFETY: a system call without memory.
    unsafe { libc::kill(run.child.id() as i32, libc::SIGINT) };
    let (status, said) = run.end();
    assert_ne!(status.code(), Some(0), "{said}");
}

#[test]
fn a_disk_that_fills_up_costs_time_only() {
    let lab = Lab::with_pictures(20);
    experiment(&lab);
    let Some(small) = Small::mount(&lab.path("small"), 48) else {
        return;
    };
    lab.ablate("run longer.yaml --store calm", &[]).expect(0);
    let run = Running::start(&lab, "run longer.yaml --store small/store --min-free 1M");
    wait_for("two workers with checkpoints", || {
        let stages = lab.stages("small/store");
        let written = stages.iter().filter(|stage| {
            let events = lab.events("small/store", stage);
            events.iter().any(|event| event["kind"] == "checkpointed")
        });
        (written.count() == 2).then_some(())
    });
    // Whatever a worker frees is taken, too, until its next checkpoint has failed.
    let filler = wait_for("the end of the disk", || {
        let filler = small.fill(0);
        let said = run.said();
        (said.contains("disk_full") || said.contains("no space left for")).then_some(filler)
    });
    // And for a while longer: the store itself meets the end, too.
    let begun = Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(2) {
        small.fill(0);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    std::fs::remove_file(filler).unwrap();
    let (status, said) = run.end();
    assert_eq!(status.code(), Some(0), "{said}");
    lab.same_results("calm", "small/store");
    let failures = lab.ask(
        "small/store",
        "SELECT failure, COUNT(*) AS n FROM v_attempts WHERE status = 'failed' GROUP BY failure",
    );
    assert_eq!(failures.len(), 1, "{failures:?}: {said}");
    assert_eq!(failures[0]["failure"], "disk_full", "{said}");
    let check = lab.ask("small/store", "SELECT * FROM pragma_integrity_check");
    assert_eq!(check[0]["integrity_check"], "ok");
}

/// An experiment whose only stage runs `script`.
fn program(lab: &Lab, script: &str) {
    let text = format!(
        "name: program\nparams: {{script: \"\"}}\nseeds: 1\nstages:\n  it:\n    command: [sh, -c, \"{{params.script}}\"]
    metrics: [accuracy]\naxes:\n  it:\n    only:\n      params.script: |\n        {}\n",
        script.replace('\n', "\n        ")
    );
    lab.write("program.yaml", &text);
}

/// The work folder of the only stage in `small/store`.
fn work(lab: &Lab) -> PathBuf {
    let stages = lab.stages("small/store");
    assert_eq!(stages.len(), 1);
    lab.path(&format!("small/store/stages/{}/work", stages[0]))
}

/// Attempts of the only stage: one that met the full disk, one that is done.
#[track_caller]
fn once_more(lab: &Lab, run: Running) {
    let (status, said) = run.end();
    assert_eq!(status.code(), Some(0), "{said}");
    let found = lab.ask(
        "small/store",
        "SELECT failure, message FROM v_attempts ORDER BY attempt",
    );
    assert_eq!(found.len(), 2, "{found:?}: {said}");
    assert_eq!(found[0]["failure"], "disk_full", "{found:?}");
    let message = found[0]["message"].as_str().unwrap();
    assert!(message.starts_with("the disk is full: "), "{message}");
    assert!(found[1]["failure"].is_null(), "{found:?}");
}

const REPORT: &str = r#"echo '{"kind":"evaluated","metrics":{"accuracy":50}}' >> "$ABLATE_EVENTS""#;

#[test]
fn a_program_that_meets_a_full_disk_waits_for_room() {
    let lab = Lab::new();
    let Some(small) = Small::mount(&lab.path("small"), 48) else {
        return;
    };
    program(
        &lab,
        &format!("head -c 20000000 /dev/zero > \"$ABLATE_RUN_DIR/model\" || exit 1\n{REPORT}"),
    );
    let filler = small.fill(10 << 20);
    let run = Running::start(&lab, "run program.yaml --store small/store --min-free 1M");
    wait_for("the hold", || {
        run.said().contains("no stage is started").then_some(())
    });
    std::fs::remove_file(filler).unwrap();
    once_more(&lab, run);
    assert_eq!(
        std::fs::metadata(work(&lab).join("model")).unwrap().len(),
        20_000_000
    );
}

/// The file system has all its bytes, and yet no file can be made.
#[test]
fn a_program_that_meets_the_last_inode_waits_for_some() {
    let lab = Lab::new();
    let Some(_small) = Small::mount_with(&lab.path("small"), "size=48m,nr_inodes=400") else {
        return;
    };
    program(
        &lab,
        &format!(
            "if [ -e \"$ABLATE_RUN_DIR/f0\" ]; then {REPORT}; exit; fi\ni=0\n\
             while [ $i -lt 1000 ]; do : > \"$ABLATE_RUN_DIR/f$i\"; i=$((i + 1)); done"
        ),
    );
    let run = Running::start(&lab, "run program.yaml --store small/store --min-free 1M");
    wait_for("the hold", || {
        run.said().contains("or no inodes?").then_some(())
    });
    for entry in std::fs::read_dir(work(&lab)).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("f0") {
            std::fs::remove_file(path).unwrap();
        }
    }
    once_more(&lab, run);
}

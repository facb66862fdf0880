//! Runs and their terminals: a terminal that is lost, Ctrl-Z, Ctrl-C twice, runs without a terminal. Real
//! terminals (pseudo-terminals of the kernel), real signals.

use crate::lab::{Lab, SMALL, is_alive, longer, wait_for};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A program that leads a session on a terminal of its own, as a shell's job in the foreground.
struct OnTerminal {
    child: Child,
    /// The end that a person sits at; `None` once the terminal is lost.
    person: Arc<Mutex<Option<File>>>,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl OnTerminal {
    fn start(mut command: Command) -> OnTerminal {
        let (mut ours, mut theirs) = (-1, -1);
        let size = libc::winsize {
            ws_row: 30,
            ws_col: 160,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the two integers are written, the size is read, and nothing is kept.
        let result = unsafe {
            libc::openpty(
                &mut ours,
                &mut theirs,
                std::ptr::null_mut(),
                std::ptr::null(),
                &size,
            )
        };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: both are open and nobody else's; the other end is not for the program.
        let (ours, theirs) = unsafe {
            libc::fcntl(ours, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(ours, libc::F_SETFL, libc::O_NONBLOCK);
            (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
        };
        let terminal = theirs.as_raw_fd();
        // SAFETY: only system calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                if libc::setsid() < 0 || libc::ioctl(terminal, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command
            .env("TERM", "xterm-256color")
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs)
            .spawn()
            .unwrap();
        // The program has the only copies of its end now.
        drop(command);
        let person = Arc::new(Mutex::new(Some(ours)));
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (eyes, seen) = (Arc::clone(&person), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            loop {
                let read = match eyes.lock().unwrap().as_mut() {
                    Some(file) => file.read(&mut part),
                    None => return,
                };
                match read {
                    Ok(length) if length > 0 => {
                        seen.lock().unwrap().extend_from_slice(&part[..length]);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    // Linux says EIO once the program has closed its end.
                    _ => return,
                }
            }
        });
        OnTerminal {
            child,
            person,
            screen,
        }
    }

    fn pid(&self) -> i64 {
        self.child.id().into()
    }

    /// Presses keys.
    fn press(&mut self, keys: &[u8]) {
        let mut person = self.person.lock().unwrap();
        person.as_mut().unwrap().write_all(keys).unwrap();
    }

    /// The line is cut: the kernel hangs up.
    fn lose(&mut self) {
        *self.person.lock().unwrap() = None;
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, text: &str) {
        wait_for(text, || self.screen().contains(text).then_some(()));
    }

    /// Its exit code and all that it has shown.
    fn end(mut self) -> (Option<i32>, String) {
        let status = wait_for("the program's end", || self.child.try_wait().unwrap());
        // What is on its way is still shown.
        std::thread::sleep(Duration::from_millis(50));
        (status.code(), self.screen())
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        self.lose();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(pid: i64, signal: i32) {
    // SAFETY: a system call without memory, on a process that was seen alive.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
}

/// State of a process: `R`, `S`, `T` (stopped), …; `None` if it is gone.
fn state(pid: i64) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// Workers that are in the middle of training in `store`.
fn workers(lab: &Lab, store: &str) -> Option<Vec<i64>> {
    let pids: Vec<i64> = lab
        .stages(store)
        .into_iter()
        .filter_map(|stage| {
            let events = lab.events(store, &stage);
            let started = events
                .iter()
                .rev()
                .find(|event| event["kind"] == "started")?;
            let trains = events.iter().any(|event| event["kind"] == "epoch");
            let over = events.iter().any(|event| event["kind"] == "finished");
            let pid = started["pid"].as_i64()?;
            (trains && !over && is_alive(pid)).then_some(pid)
        })
        .collect();
    (!pids.is_empty()).then_some(pids)
}

/// A folder with an experiment that takes a while.
fn lab() -> Lab {
    let lab = Lab::with_pictures(20);
    lab.write(
        "longer.yaml",
        &longer().replace("epochs: 24", "epochs: 100"),
    );
    lab
}

const LINE: [&str; 6] = ["run", "longer.yaml", "--store", "cut", "--slots", "1"];

#[test]
fn ctrl_c_drains_and_a_second_one_kills() {
    let lab = lab();
    let mut run = OnTerminal::start(lab.command(LINE));
    let pids = wait_for("a worker in training", || workers(&lab, "cut"));
    // A worker that doesn't hear the first one.
    send(pids[0], libc::SIGSTOP);
    run.press(b"\x03");
    run.wait_for("SIGINT: waiting for 1 workers");
    assert!(is_alive(pids[0]), "it has ten seconds");
    run.press(b"\x03");
    run.wait_for("ending the workers");
    let (code, screen) = run.end();
    assert_eq!(code, Some(130), "{screen}");
    assert!(screen.contains("the same command goes on"), "{screen}");
    assert!(!is_alive(pids[0]));
}

#[test]
fn a_lost_terminal_drains_a_run_that_was_not_detached() {
    let lab = lab();
    let mut run = OnTerminal::start(lab.command(LINE));
    let pids = wait_for("a worker in training", || workers(&lab, "cut"));
    run.lose();
    let (code, _) = run.end();
    assert_eq!(code, Some(129));
    assert!(!is_alive(pids[0]));
    let stage = &lab.stages("cut")[0];
    let left = lab.list(&format!("cut/stages/{stage}/checkpoints"));
    assert!(!left.is_empty(), "it has drained");
}

#[test]
fn ctrl_z_stops_the_workers_too() {
    let lab = lab();
    let mut run = OnTerminal::start(lab.command(LINE));
    let pids = wait_for("a worker in training", || workers(&lab, "cut"));
    run.press(b"\x1a");
    wait_for("both to stand still", || {
        (state(run.pid()) == Some('T') && state(pids[0]) == Some('T')).then_some(())
    });
    // Nobody who watches is left waiting.
    lab.ablate("attach --store cut", &[])
        .expect(5)
        .says(&["doesn't answer", "kill -CONT"]);
    send(run.pid(), libc::SIGCONT);
    wait_for("both to go on", || {
        (state(run.pid()) != Some('T') && state(pids[0]) != Some('T')).then_some(())
    });
    // A run that stands still can be stopped all the same.
    run.press(b"\x1a");
    wait_for("it to stand still again", || {
        (state(run.pid()) == Some('T')).then_some(())
    });
    lab.ablate("stop --store cut", &[])
        .expect(0)
        .says(&["waits for its workers to write checkpoints", "is gone"]);
    let (code, screen) = run.end();
    assert_eq!(code, Some(138), "{screen}");
}

#[test]
fn a_detached_run_needs_no_terminal() {
    let lab = lab();
    let mut line = LINE.to_vec();
    line.push("--detach");
    let mut starter = OnTerminal::start(lab.command(&line));
    starter.wait_for("`ablate attach --store cut` shows its progress");
    starter.lose();
    let (code, screen) = starter.end();
    assert_eq!(code, Some(0), "{screen}");
    let status = lab
        .ablate("status --store cut --format json", &[])
        .expect(0)
        .json();
    let pid = status["scheduler"]["pid"].as_i64().unwrap();
    assert!(screen.contains(&format!("pid {pid}")), "{screen}");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!(fields[3], pid.to_string(), "it leads a session");
    assert_eq!(fields[4], "0", "which has no terminal");
    assert!(stat.contains("(ablate)"), "{stat}");
    let pids = wait_for("a worker in training", || workers(&lab, "cut"));
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", pids[0])).unwrap();
    assert_eq!(comm, "ablate-worker\n");
    // Whatever hangs up now.
    send(pid, libc::SIGHUP);

    // On another terminal it shows again, and Ctrl-C there leaves it alone.
    let mut watcher = OnTerminal::start(lab.command(["attach", "--store", "cut"]));
    watcher.wait_for("train");
    watcher.wait_for("epoch");
    watcher.press(b"\x03");
    let (code, screen) = watcher.end();
    assert_eq!(code, Some(130), "{screen}");
    assert!(screen.contains(&format!("pid {pid} goes on")), "{screen}");
    assert!(is_alive(pid) && is_alive(pids[0]));

    // A watcher that stays is told how it ends.
    let watcher = lab.start("attach --store cut");
    lab.ablate("stop --store cut", &[])
        .expect(0)
        .says(&[&format!("pid {pid} is gone")]);
    watcher.end().expect(138).says(&["exit code 138"]);
    assert!(!is_alive(pid) && !is_alive(pids[0]));
    let log = lab
        .list("cut/logs")
        .into_iter()
        .find(|file| file.ends_with(&format!("-{pid}.log")))
        .unwrap();
    let log = String::from_utf8(lab.read(&log)).unwrap();
    assert!(
        log.contains("start  train") && log.contains("the same command goes on"),
        "{log}"
    );
    assert_eq!(lab.list("cut/owners"), Vec::<String>::new());
    lab.ablate("attach --store cut", &[])
        .expect(5)
        .says(&["no `ablate run` is at work"]);
    lab.ablate("stop --store cut", &[])
        .expect(0)
        .says(&["no `ablate run` is at work"]);
    let checkpoints = lab.list("cut/stages");
    assert!(
        checkpoints.iter().any(|file| file.contains("step-")),
        "{checkpoints:?}"
    );
}

#[test]
fn stopping_now_kills() {
    let lab = lab();
    let run = lab.start("run longer.yaml --store cut --slots 1");
    let pids = wait_for("a worker in training", || workers(&lab, "cut"));
    send(pids[0], libc::SIGSTOP);
    lab.ablate("stop --store cut --pid 1", &[])
        .expect(5)
        .says(&["no `ablate run` with pid 1", &run.pid().to_string()]);
    lab.ablate("stop --now --store cut", &[])
        .expect(0)
        .says(&["ends its workers", "is gone"]);
    run.end().expect(140).says(&["SIGUSR2"]);
    assert!(!is_alive(pids[0]));
}

#[test]
fn what_fails_before_it_is_detached_fails_at_once() {
    let lab = Lab::with_pictures(4);
    lab.write("small.yaml", SMALL);
    lab.ablate("run small.yaml --detach --set nonsense=1", &[])
        .expect(2)
        .says(&["unknown key `nonsense`"]);
    assert!(!lab.path("ablate-store").exists(), "nothing was changed");
    lab.write("ablate-store/ablate.db", "no database, for all to see");
    lab.ablate("run small.yaml --detach", &[])
        .expect(3)
        .says(&["error: ", "ablate.db"]);
    lab.ablate("attach --store nowhere", &[])
        .expect(3)
        .says(&["there is no store at nowhere"]);
    lab.ablate("stop --store nowhere", &[])
        .expect(3)
        .says(&["there is no store at nowhere"]);

    // To its end, watched.
    let one = [
        "--only",
        "loss=ce",
        "--seeds",
        "1",
        "--set",
        "train.epochs=8",
    ];
    lab.ablate("run small.yaml --detach --store s", &one)
        .expect(0)
        .says(&["runs in the background", "`ablate stop --store s`"]);
    let watched = lab.ablate("attach --store s", &[]);
    // It may be over before anybody could look.
    assert!(matches!(watched.code, Some(0 | 5)), "{watched:?}");
    wait_for("the end", || lab.list("s/owners").is_empty().then_some(()));
    // What is done needs no background.
    lab.ablate("run small.yaml --detach --store s", &one)
        .expect(0)
        .says(&["1 of 1 stages already done"])
        .shows(&["top-1"]);
}

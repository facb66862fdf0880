//! On a terminal: colours where they are welcome, and bars that move.

use crate::lab::{Lab, SMALL, wait_for};
use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

/// A terminal of 100 by 30 characters: the end that a person looks at, and the program's end.
pub fn open_terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let size = libc::winsize {
        ws_row: 30,
        ws_col: 100,
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
    // SAFETY: both are open and nobody else's.
    unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}

/// What `command` shows on a terminal; stdout only where stderr is left out.
fn shown(mut command: Command, with_stderr: bool) -> String {
    let (mut ours, theirs) = open_terminal();
    command.env("TERM", "xterm-256color");
    let stderr = match with_stderr {
        true => theirs.try_clone().unwrap().into(),
        false => Stdio::null(),
    };
    let mut child = command.stderr(stderr).stdout(theirs).spawn().unwrap();
    // The program has the only copies of its end now, so that we see when it closes them.
    drop(command);
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        // Linux says EIO where a file would end.
        let _ = ours.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let status = wait_for("the program", || child.try_wait().unwrap());
    let text = reader.join().unwrap();
    assert_eq!(status.code(), Some(0), "{text}");
    text
}

#[test]
fn colours_and_bars_are_for_terminals() {
    let lab = Lab::with_pictures(8);
    lab.write("small.yaml", SMALL);
    let mut run = vec!["run", "small.yaml", "--slots", "1"];
    let bars = shown(lab.command(&run), true);
    for part in [
        "\u{1b}[",
        "train ce s0",
        "stages",
        "4 of 4 stages done",
        "top-1",
    ] {
        assert!(bars.contains(part), "no {part:?} in {bars:?}");
    }
    assert!(
        !bars.contains("start  train"),
        "lines are for files: {bars:?}"
    );

    run.push("--quiet");
    let report = ["report", "--no-plots"];
    for arguments in [&run[..], &report] {
        let coloured = shown(lab.command(arguments), false);
        assert!(coloured.contains("\u{1b}["), "{coloured:?}");
        let mut command = lab.command(arguments);
        command.env("NO_COLOR", "1");
        let plain = shown(command, false);
        assert!(
            !plain.contains('\u{1b}') && plain.contains("top-1"),
            "{plain:?}"
        );
    }
}

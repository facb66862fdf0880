//! The guard: a process between us and a program, which lets nothing of the program outlive us.
//!
//! A program of the user's own starts what it likes: loaders, servers, processes that leave their group and their
//! parent. The guard is the parent of the program and the reaper of all that descends from it
//! (`PR_SET_CHILD_SUBREAPER`): when the program ends, when we ask for it, or when we die (`PR_SET_PDEATHSIG`), it kills
//! everything that is left, and then it ends as the program did. It is a fork of this process that never executes
//! another file: starting this program anew would cost more than the whole stage may (`docs/decisions`). Hence it is
//! written in system calls alone: after a fork in a process with threads nothing else is allowed.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What can be said to a program from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM to its process group.
    Terminate,
    /// SIGKILL to all that descends from it.
    Kill,
    /// SIGSTOP to its process group.
    Suspend,
    /// SIGCONT to it.
    Resume,
}

/// Asks the guard to kill everything. It is its death signal, too.
const KILL: libc::c_int = libc::SIGUSR1;
/// Asks it to stop the program.
const SUSPEND: libc::c_int = libc::SIGUSR2;

/// How a program ended.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct End {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// Largest resident set of the program or any process that it has waited for, in bytes.
    pub peak_rss_bytes: u64,
    /// User and system time of all of them.
    pub cpu_seconds: f64,
}

/// A program under guard.
#[derive(Debug)]
pub struct Guard {
    /// The guard's process; `None` once it is reaped, so that a number that the system has given to another process is
    /// never signalled.
    guard: Mutex<Option<libc::pid_t>>,
    program: libc::pid_t,
    /// Readable when the guard has ended.
    handle: Option<OwnedFd>,
}

impl Guard {
    /// Starts `command` under a guard. The program leads a process group of its own.
    ///
    /// The guard's death signal is tied to the calling thread, which must live until the program has ended.
    ///
    /// # Errors
    /// No process can be started, or the program can't be executed.
    pub fn spawn(mut command: Command) -> io::Result<Guard> {
        let (mut read, write) = io::pipe()?;
        let pipe = write.as_raw_fd();
        let parent = std::process::id() as libc::pid_t;
        // SAFETY: `divide` makes system calls only. The pipe is open until the command has been started.
        unsafe { command.pre_exec(move || divide(parent, pipe)) };
        let child = command.spawn()?;
        drop(write);
        let mut bytes = [0; 4];
        read.read_exact(&mut bytes)?;
        let guard = child.id() as libc::pid_t;
        Ok(Guard {
            guard: Mutex::new(Some(guard)),
            program: libc::pid_t::from_ne_bytes(bytes),
            handle: handle(guard),
        })
    }

    /// The program's process.
    pub fn program(&self) -> u32 {
        self.program as u32
    }

    /// Passes a request on; nothing happens when the program has ended.
    pub fn request(&self, request: Request) {
        let signal = match request {
            Request::Terminate => libc::SIGTERM,
            Request::Kill => KILL,
            Request::Suspend => SUSPEND,
            Request::Resume => libc::SIGCONT,
        };
        if let Some(guard) = *self.guard.lock().unwrap_or_else(PoisonError::into_inner) {
            // SAFETY: a system call without memory. The guard isn't reaped yet: the number is its own.
            unsafe { libc::kill(guard, signal) };
        }
    }

    /// Waits until the program has ended, `other` is readable, a signal has come to this thread, or `patience` is over.
    /// Says whether the program has ended.
    pub fn wait(&self, other: Option<&OwnedFd>, patience: Option<Duration>) -> bool {
        let mut polled: Vec<libc::pollfd> = [self.handle.as_ref(), other]
            .into_iter()
            .flatten()
            .map(|file| libc::pollfd {
                fd: file.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        // Without a handle the end can only be looked for now and then.
        let patience = match self.handle {
            Some(_) => patience,
            None => Some(patience.map_or(LOOK, |patience| patience.min(LOOK))),
        };
        let milliseconds = patience.map_or(-1, |patience| {
            libc::c_int::try_from(patience.as_millis()).unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: `polled` is writable and its length is given.
        unsafe {
            libc::poll(
                polled.as_mut_ptr(),
                polled.len() as libc::nfds_t,
                milliseconds,
            )
        };
        self.has_ended()
    }

    fn has_ended(&self) -> bool {
        let Some(guard) = *self.guard.lock().unwrap_or_else(PoisonError::into_inner) else {
            return true;
        };
        // SAFETY: siginfo_t is plain data for which zeroes are valid, and it is writable. WNOWAIT leaves the guard a
        // zombie: its number stays taken.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG;
            let answer = libc::waitid(libc::P_PID, guard as libc::id_t, &mut info, flags);
            answer != 0 || info.si_pid() == guard
        }
    }

    /// How it ended. Call it when [`Guard::wait`] says so.
    pub fn reap(&self) -> End {
        let mut own = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(guard) = own.take() else {
            return End::default();
        };
        let mut status = 0;
        // SAFETY: rusage is plain data, and zero is a valid value of it.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: system calls on our own child, which isn't reaped before this, and writable memory. The program's
        // group is its guard's child's: were the guard killed by somebody, something may be left of it.
        let reaped = unsafe {
            let reaped = libc::wait4(guard, &mut status, 0, &mut usage);
            if libc::WIFSIGNALED(status) {
                libc::killpg(self.program, libc::SIGKILL);
            }
            reaped
        };
        if reaped != guard {
            return End::default();
        }
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
        End {
            code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
            // Linux counts it in KiB.
            peak_rss_bytes: (usage.ru_maxrss.max(0) as u64).saturating_mul(1024),
            cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        }
    }
}

/// Time between two looks at a guard without a handle (Linux before 5.3).
const LOOK: Duration = Duration::from_millis(50);

fn handle(pid: libc::pid_t) -> Option<OwnedFd> {
    // SAFETY: a system call without memory; what it returns is a descriptor of our own, closed on exec.
    unsafe {
        let file = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (file >= 0).then(|| OwnedFd::from_raw_fd(file as libc::c_int))
    }
}

/// Divides the new process into guard and program. Returns in the program only.
fn divide(parent: libc::pid_t, pipe: libc::c_int) -> io::Result<()> {
    // SAFETY: system calls, with memory of this function only.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, KILL) != 0
            || libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) != 0
        {
            return Err(io::Error::last_os_error());
        }
        // It may have died before that: then nobody will ever send the signal.
        if libc::getppid() != parent {
            libc::_exit(libc::EXIT_FAILURE);
        }
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
        let guard = libc::getpid();
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                libc::setpgid(0, 0);
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::getppid() != guard {
                    libc::_exit(libc::EXIT_FAILURE);
                }
                let own = libc::getpid().to_ne_bytes();
                libc::write(pipe, own.as_ptr().cast(), own.len());
                libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
                Ok(())
            }
            program => watch(program),
        }
    }
}

/// The guard's life. All signals are blocked; they are taken one by one.
///
/// # Safety
/// To be called in a process of one thread that has no other use.
unsafe fn watch(program: libc::pid_t) -> ! {
    // SAFETY: system calls, with memory of this function only.
    unsafe {
        libc::setpgid(program, program);
        libc::prctl(libc::PR_SET_NAME, c"ablate-guard".as_ptr());
        // Logs and pipes must not be held open by the guard.
        if libc::syscall(libc::SYS_close_range, 0u32, u32::MAX, 0u32) != 0 {
            (0..1024).for_each(|file| {
                libc::close(file);
            });
        }
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        let mut status = None;
        loop {
            match libc::sigwaitinfo(&all, std::ptr::null_mut()) {
                libc::SIGCHLD => {
                    bury(program, &mut status);
                    if status.is_some() {
                        kill_all(program, &mut status);
                        end_like(status.unwrap_or_default());
                    }
                }
                KILL => {
                    kill_all(program, &mut status);
                    end_like(status.unwrap_or(libc::SIGKILL));
                }
                libc::SIGTERM | libc::SIGINT | libc::SIGHUP => {
                    libc::kill(-program, libc::SIGTERM);
                }
                SUSPEND => {
                    libc::kill(-program, libc::SIGSTOP);
                }
                libc::SIGCONT => {
                    libc::kill(-program, libc::SIGCONT);
                }
                _ => {}
            }
        }
    }
}

/// Reaps all children that have ended; notes the program's status. Says whether any is left.
unsafe fn bury(program: libc::pid_t, status: &mut Option<libc::c_int>) -> bool {
    loop {
        let mut own = 0;
        // SAFETY: a system call with memory of this function.
        match unsafe { libc::waitpid(-1, &mut own, libc::WNOHANG) } {
            -1 => return false,
            0 => return true,
            pid if pid == program => *status = Some(own),
            _ => {}
        }
    }
}

/// Longest time that the guard waits for processes that don't die of SIGKILL (stuck in the kernel).
const STUCK: Duration = Duration::from_secs(5);

/// Kills and reaps everything that descends from this process: children first, then those that lost their parents by
/// that and are ours now.
unsafe fn kill_all(program: libc::pid_t, status: &mut Option<libc::c_int>) {
    let begun = Instant::now();
    // SAFETY: system calls, with memory of this function only.
    unsafe {
        if status.is_none() {
            libc::kill(-program, libc::SIGKILL);
            libc::kill(program, libc::SIGKILL);
        } else {
            libc::kill(-program, libc::SIGKILL);
        }
        let mut child: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut child);
        libc::sigaddset(&mut child, libc::SIGCHLD);
        while bury(program, status) && begun.elapsed() < STUCK {
            kill_children();
            let pause = libc::timespec {
                tv_sec: 0,
                tv_nsec: 5_000_000,
            };
            libc::sigtimedwait(&child, std::ptr::null_mut(), &pause);
        }
    }
}

/// Sends SIGKILL to every child of this process.
unsafe fn kill_children() {
    let mut buffer = [0u8; 4096];
    // SAFETY: system calls, with memory of this function only.
    let length = unsafe {
        let path = c"/proc/thread-self/children";
        let file = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return;
        }
        let length = libc::read(file, buffer.as_mut_ptr().cast(), buffer.len());
        libc::close(file);
        length
    };
    let mut pid: libc::pid_t = 0;
    for &byte in &buffer[..usize::try_from(length).unwrap_or(0)] {
        if byte.is_ascii_digit() {
            pid = pid
                .wrapping_mul(10)
                .wrapping_add(libc::pid_t::from(byte - b'0'));
        } else {
            // A number that the buffer cuts off has no space behind it.
            if pid > 1 {
                // SAFETY: a system call without memory.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            pid = 0;
        }
    }
}

/// Ends this process as another has ended.
unsafe fn end_like(status: libc::c_int) -> ! {
    // SAFETY: system calls, with memory of this function only.
    unsafe {
        if libc::WIFEXITED(status) {
            libc::_exit(libc::WEXITSTATUS(status));
        }
        let signal = libc::WTERMSIG(status);
        let nothing = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // The program has left its core, if it was to leave one.
        libc::setrlimit(libc::RLIMIT_CORE, &nothing);
        libc::signal(signal, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::kill(libc::getpid(), signal);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::_exit(128 + signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    fn spawn(script: &str) -> Guard {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0);
        Guard::spawn(command).unwrap()
    }

    fn end(guard: &Guard) -> End {
        while !guard.wait(None, None) {}
        guard.reap()
    }

    fn alive(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        !matches!(state, None | Some('Z' | 'X'))
    }

    fn number(path: &std::path::Path) -> i32 {
        loop {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if let Some(line) = text.strip_suffix('\n') {
                return line.parse().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn it_ends_as_the_program_does() {
        let ended = end(&spawn("exit 7"));
        assert_eq!((ended.code, ended.signal), (Some(7), None));
        assert!(ended.peak_rss_bytes > 0);
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGSEGV, libc::SIGABRT] {
            let ended = end(&spawn(&format!("kill -{signal} $$; sleep 60")));
            assert_eq!((ended.code, ended.signal), (None, Some(signal)));
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let error = Guard::spawn(Command::new("/nowhere/program")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn nothing_is_left_when_the_program_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        // In a session of its own, its parent gone: nothing but the reaper leads to it.
        let script = format!(
            "(setsid sh -c 'echo $$ > {0}; sleep 60' &) ; while [ ! -s {0} ]; do sleep 0.01; done; exit 3",
            path.display()
        );
        let guard = spawn(&script);
        let stray = number(&path);
        assert_eq!(end(&guard).code, Some(3));
        assert!(!alive(stray));
    }

    #[test]
    fn requests_reach_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let script = format!(
            "trap 'exit 5' TERM; echo $$ > {}; while :; do sleep 0.01; done",
            path.display()
        );
        let guard = spawn(&script);
        assert_eq!(number(&path) as u32, guard.program());
        guard.request(Request::Suspend);
        let stat = format!("/proc/{}/stat", guard.program());
        while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
            std::thread::sleep(Duration::from_millis(5));
        }
        guard.request(Request::Resume);
        guard.request(Request::Terminate);
        assert_eq!(end(&guard).code, Some(5));
        let guard = spawn("trap '' TERM; sleep 60 & wait; sleep 60");
        guard.request(Request::Terminate);
        assert!(!guard.wait(None, Some(Duration::from_millis(50))));
        guard.request(Request::Kill);
        assert_eq!(end(&guard).signal, Some(libc::SIGKILL));
        guard.request(Request::Kill);
    }

    #[test]
    fn nothing_is_left_when_the_starting_thread_dies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let script = format!(
            "(setsid sh -c 'echo $$ > {}; sleep 60' &); sleep 60",
            path.display()
        );
        let guard = std::thread::spawn(move || spawn(&script)).join().unwrap();
        let program = guard.program() as i32;
        let _ = end(&guard);
        assert!(!alive(program));
        // It may have died before it had written its number.
        if path.exists() && std::fs::metadata(&path).unwrap().len() > 0 {
            assert!(!alive(number(&path)));
        }
    }
}

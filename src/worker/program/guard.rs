//! The guard: a process between us and a program, which lets nothing of the program outlive us.
//!
//! A program of the user's own starts what it likes: loaders, servers, processes that leave their group and their
//! parent. The guard is the parent of the program and the reaper of all that descends from it
//! (`PR_SET_CHILD_SUBREAPER`): when the program ends, when we ask for it, or when we die (`PR_SET_PDEATHSIG`), it kills
//! everything that is left, and leaves word of how the program ended. Should somebody kill the guard itself, what it
//! leaves becomes ours, and is killed here.
//!
//! It costs next to nothing: neither this program is started anew, which takes longer than a short stage may, nor is
//! its memory copied as `fork` does. Guard and program begin as processes that share our memory (`clone` with
//! `CLONE_VM`), each on a stack of its own; the program leaves it by executing its file, the guard stays and touches
//! nothing but its stack. Hence it is written in bare system calls ([`raw`]).

use super::raw;
use super::start::Start;
use std::ffi::CStr;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

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

/// What a guard calls itself.
pub const NAME: &str = "ablate-guard";

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
    /// What the guard stands on.
    stack: Stack,
}

impl Guard {
    /// Starts a program under a guard. The program leads a process group of its own.
    ///
    /// The guard's death signal is tied to the calling thread, which must live until the program has ended.
    ///
    /// # Errors
    /// No process can be started, or the program can't be executed.
    pub fn spawn(start: &Start) -> io::Result<Guard> {
        adopt_orphans();
        let (mut read, write) = io::pipe()?;
        let (stack, program_stack) = (Stack::new()?, Stack::new()?);
        let mut birth = Birth {
            start: start.raw(),
            parent: std::process::id() as libc::pid_t,
            pipe: write.as_raw_fd(),
            stack: program_stack.top(),
            status: stack.status(),
            guard: 0,
        };
        // What comes in between would be handled by our handlers in their process, with our memory.
        let mut before: libc::sigset_t = unblocked();
        // SAFETY: `guard` runs on a stack of its own that lives as long as it does: `Guard` keeps it, and where it was
        // not started well it has ended before the answer comes. What it reads of `birth` is read before the answer.
        let pid = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            let pid = libc::clone(
                guard,
                stack.top().cast(),
                libc::CLONE_VM | libc::SIGCHLD,
                (&raw mut birth).cast(),
            );
            let error = io::Error::last_os_error();
            libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
            if pid < 0 {
                return Err(error);
            }
            pid
        };
        drop(write);
        // First the program's number, then, if it couldn't be executed, why.
        let mut numbers = Vec::new();
        let heard = read.read_to_end(&mut numbers);
        let number = |index: usize| {
            let bytes = numbers.get(4 * index..4 * index + 4)?;
            Some(i32::from_ne_bytes(bytes.try_into().ok()?))
        };
        match (heard, number(0), number(1)) {
            (Ok(_), Some(program), None) if program > 0 => Ok(Guard {
                guard: Mutex::new(Some(pid)),
                program,
                handle: handle(pid),
                stack,
            }),
            (_, first, second) => {
                let mut status = 0;
                // SAFETY: a system call on our own child, which ends by itself now.
                unsafe { libc::waitpid(pid, &mut status, 0) };
                let error = second.or(first.filter(|first| *first < 0).map(|first| -first));
                Err(error.map_or_else(
                    || io::Error::other("the guard has ended"),
                    io::Error::from_raw_os_error,
                ))
            }
        }
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
        // SAFETY: a system call on our own child, which isn't reaped before this, and writable memory.
        if unsafe { libc::wait4(guard, &mut status, 0, &mut usage) } != guard {
            return End::default();
        }
        // SAFETY: the stack is mapped as long as `self` lives.
        match unsafe { &*self.stack.status() }.load(Ordering::Acquire) {
            // Somebody has killed the guard. The program died with it; what else it had is ours now.
            0 => {
                // SAFETY: a system call without memory.
                unsafe { libc::kill(-self.program, libc::SIGKILL) };
                kill_orphans();
            }
            known => status = known & !KNOWN,
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

/// Makes this process the parent of what loses its own: whatever a guard that is killed leaves behind.
fn adopt_orphans() {
    static ONCE: Once = Once::new();
    // SAFETY: a system call without memory. A kernel that doesn't know it changes nothing.
    ONCE.call_once(|| unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
    });
}

/// Kills the processes that have become our children by losing their parents, and what they leave in turn. The kernel
/// gives them to the first thread of this process, which starts none itself while programs run: each of our own
/// children belongs to the thread that looks after it.
fn kill_orphans() {
    let own = std::process::id();
    let path = format!("/proc/self/task/{own}/children");
    for _ in 0..ROUNDS {
        let children: Vec<libc::pid_t> = std::fs::read_to_string(&path)
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect();
        let mut is_left = false;
        for pid in children {
            let mut status = 0;
            // SAFETY: system calls on a child that nobody else waits for, and writable memory.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                is_left |= libc::waitpid(pid, &mut status, libc::WNOHANG) == 0;
            }
        }
        if !is_left {
            // What they have left came to us before they could be waited for.
            let rest = std::fs::read_to_string(&path).unwrap_or_default();
            if rest.trim().is_empty() {
                return;
            }
            continue;
        }
        std::thread::sleep(Duration::from_millis(5));
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

pub(super) fn unblocked() -> libc::sigset_t {
    // SAFETY: a set is plain data for which zeroes are valid, and sigemptyset fills it.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        none
    }
}

/// A stack for a process that shares our memory.
#[derive(Debug)]
pub(super) struct Stack {
    start: *mut libc::c_void,
}

// SAFETY: the memory belongs to this value alone, whichever thread holds it.
unsafe impl Send for Stack {}
// SAFETY: nothing can be done with a shared reference.
unsafe impl Sync for Stack {}

impl Stack {
    /// Only what is touched takes memory.
    const SIZE: usize = 64 << 10;

    pub(super) fn new() -> io::Result<Stack> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: new memory, of a size that isn't 0.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), Stack::SIZE, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Stack { start })
    }

    /// Where it begins: it grows downwards.
    pub(super) fn top(&self) -> *mut u8 {
        self.start.cast::<u8>().wrapping_add(Stack::SIZE)
    }

    /// A number at its other end; 0 in the beginning.
    fn status(&self) -> *const AtomicI32 {
        self.start.cast_const().cast()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this size; who stood on it has ended.
        unsafe { libc::munmap(self.start, Stack::SIZE) };
    }
}

/// What the guard and the program are born with. It lies in our memory; they read it before they answer.
struct Birth {
    start: super::start::Raw,
    parent: libc::pid_t,
    pipe: libc::c_int,
    /// The program's stack.
    stack: *mut u8,
    /// Where the guard leaves how the program ended; on the guard's own stack.
    status: *const AtomicI32,
    /// The guard, as the program is to see it.
    guard: libc::pid_t,
}

/// The guard's life. All signals are blocked; they are taken one by one.
extern "C" fn guard(birth: *mut libc::c_void) -> libc::c_int {
    // SAFETY: our parent keeps it until it has read our answer.
    let birth = unsafe { &mut *birth.cast::<Birth>() };
    raw::block(raw::ALL);
    raw::prctl(libc::PR_SET_PDEATHSIG, KILL as usize);
    raw::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
    // It may have died before that: then nobody will ever send the signal.
    if raw::parent() != birth.parent {
        raw::exit(libc::EXIT_FAILURE);
    }
    raw::lead_group(0);
    birth.guard = raw::own();
    let (pipe, place) = (birth.pipe, birth.status);
    let argument: *mut Birth = birth;
    // SAFETY: the child has a stack of its own; we stand still until it has executed its file or ended.
    let program = unsafe { vfork(argument) };
    if program < 0 {
        raw::tell(pipe, program as i32);
        raw::exit(libc::EXIT_FAILURE);
    }
    let program = program as libc::pid_t;
    const GUARD: &CStr = c"ablate-guard";
    raw::prctl(libc::PR_SET_NAME, GUARD.as_ptr() as usize);
    // Logs and pipes must not be held open by the guard. From here on our parent's memory may change: nothing but this
    // stack is touched.
    raw::close_from(0);
    let mut status = None;
    loop {
        match raw::wait_for(raw::ALL, None) {
            libc::SIGCHLD => {
                bury(program, &mut status);
                if let Some(own) = status {
                    kill_all(program, &mut status);
                    end(place, own);
                }
            }
            KILL => {
                kill_all(program, &mut status);
                end(place, status.unwrap_or(libc::SIGKILL));
            }
            libc::SIGTERM | libc::SIGINT | libc::SIGHUP => raw::kill(-program, libc::SIGTERM),
            SUSPEND => raw::kill(-program, libc::SIGSTOP),
            libc::SIGCONT => raw::kill(-program, libc::SIGCONT),
            _ => {}
        }
    }
}

/// Starts [`program`] on its stack; comes back when that has left our memory.
///
/// # Safety
/// `birth` and the stack in it are valid.
unsafe fn vfork(birth: *mut Birth) -> isize {
    // SAFETY: as promised; the C library's `clone` writes an error number, if at all, before the child exists, while the
    // thread whose memory that is waits for the pipe.
    unsafe {
        libc::clone(
            program,
            (*birth).stack.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            birth.cast(),
        ) as isize
    }
}

/// What the program does before it is the program.
extern "C" fn program(birth: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the guard stands still until we are gone.
    let birth = unsafe { &*birth.cast::<Birth>() };
    raw::lead_group(0);
    raw::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize);
    if raw::parent() != birth.guard {
        raw::exit(libc::EXIT_FAILURE);
    }
    raw::tell(birth.pipe, raw::own());
    // SAFETY: what it points to lives in our parent until we have executed the file.
    let error = unsafe { birth.start.execute() };
    raw::tell(birth.pipe, error);
    raw::exit(127)
}

/// Reaps all children that have ended; notes the program's status. Says whether any is left.
fn bury(program: libc::pid_t, status: &mut Option<libc::c_int>) -> bool {
    loop {
        match raw::reap() {
            (0, _) => return true,
            (pid, own) if pid == program => *status = Some(own),
            (pid, _) if pid < 0 => return false,
            _ => {}
        }
    }
}

/// Rounds of 5 ms in which the guard waits for processes that don't die of SIGKILL (stuck in the kernel).
const ROUNDS: u32 = 1_000;

/// Kills and reaps everything that descends from this process: children first, then those that lost their parents by
/// that and are ours now.
fn kill_all(program: libc::pid_t, status: &mut Option<libc::c_int>) {
    raw::kill(-program, libc::SIGKILL);
    for _ in 0..ROUNDS {
        if !bury(program, status) {
            return;
        }
        if status.is_none() {
            raw::kill(program, libc::SIGKILL);
        }
        kill_children();
        raw::wait_for(raw::only(libc::SIGCHLD), Some(5_000_000));
    }
}

/// Sends SIGKILL to every child of this process.
fn kill_children() {
    let mut buffer = [0u8; 4096];
    let path = c"/proc/thread-self/children".as_ptr() as usize;
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
    // SAFETY: the path ends with a zero, the buffer is writable and its length is given.
    let length = unsafe {
        let file = raw::call(
            libc::SYS_openat,
            [libc::AT_FDCWD as usize, path, flags, 0, 0],
        );
        if file < 0 {
            return;
        }
        let to = &raw mut buffer as usize;
        let length = raw::call(libc::SYS_read, [file as usize, to, buffer.len(), 0, 0]);
        raw::call(libc::SYS_close, [file as usize, 0, 0, 0, 0]);
        length
    };
    let mut pid: libc::pid_t = 0;
    for &byte in buffer.iter().take(usize::try_from(length).unwrap_or(0)) {
        if byte.is_ascii_digit() {
            pid = pid
                .wrapping_mul(10)
                .wrapping_add(libc::pid_t::from(byte & 15));
        } else {
            // A number that the buffer cuts off has no space behind it.
            if pid > 1 {
                raw::kill(pid, libc::SIGKILL);
            }
            pid = 0;
        }
    }
}

/// Set in a status, so that it isn't 0 where there is one.
const KNOWN: i32 = 1 << 30;

/// Leaves the program's status and ends. (Ending as the program did would dump core where it did: ours, which is the
/// scheduler's memory.)
fn end(place: *const AtomicI32, status: libc::c_int) -> ! {
    // SAFETY: it lies on our own stack's mapping, which our parent keeps until it has reaped us.
    unsafe { &*place }.store(status | KNOWN, Ordering::Release);
    raw::exit(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::process::Command;

    fn begin(command: Command) -> io::Result<Guard> {
        let log = File::options().write(true).open("/dev/null").unwrap();
        Guard::spawn(&Start::new(&command, log, &[])?)
    }

    fn spawn(script: &str) -> Guard {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        begin(command).unwrap()
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
    fn the_programs_end_is_told() {
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
        let error = begin(Command::new("/nowhere/program")).unwrap_err();
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
        // A shell that is just starting something stands still along with its child, uninterruptibly.
        let stands_still = |stat: &str| stat.contains(") T ") || stat.contains(") D ");
        while !stands_still(&std::fs::read_to_string(&stat).unwrap()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        guard.request(Request::Resume);
        guard.request(Request::Terminate);
        assert_eq!(end(&guard).code, Some(5));
        let deaf = folder.path().join("deaf");
        let script = format!(
            "trap '' TERM; echo $$ > {}; sleep 60 & wait; sleep 60",
            deaf.display()
        );
        let guard = spawn(&script);
        // It is deaf once it has said so.
        number(&deaf);
        guard.request(Request::Terminate);
        assert!(!guard.wait(None, Some(Duration::from_millis(50))));
        guard.request(Request::Kill);
        assert_eq!(end(&guard).signal, Some(libc::SIGKILL));
        guard.request(Request::Kill);
    }

    #[test]
    fn nothing_is_left_when_the_guard_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let (child, orphan) = (folder.path().join("child"), folder.path().join("orphan"));
        let script = format!(
            "setsid sh -c 'echo $$ > {}; sleep 60 & wait' & (setsid sh -c 'echo $$ > {}; sleep 60' &) ; wait",
            child.display(),
            orphan.display()
        );
        let guard = spawn(&script);
        let strays = [number(&child), number(&orphan)];
        let own = guard.guard.lock().unwrap().unwrap();
        // SAFETY: a system call without memory on a child that isn't reaped yet.
        unsafe { libc::kill(own, libc::SIGKILL) };
        assert_eq!(end(&guard).signal, Some(libc::SIGKILL));
        assert!(!alive(guard.program() as i32));
        for stray in strays {
            assert!(!alive(stray), "{stray}");
        }
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

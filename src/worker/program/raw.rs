//! System calls without the C library, for a process that shares its memory with a thread of ours: the library would
//! write its error numbers where that thread keeps its own.

/// A system call; a negative answer is an error number.
///
/// # Safety
/// As the call itself.
#[cfg(target_arch = "x86_64")]
pub unsafe fn call(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let answer: isize;
    // SAFETY: the kernel's convention; what it does to memory is for the caller to know.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// A system call; a negative answer is an error number.
///
/// # Safety
/// As the call itself.
#[cfg(target_arch = "aarch64")]
pub unsafe fn call(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let answer: isize;
    // SAFETY: the kernel's convention; what it does to memory is for the caller to know.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] => answer,
            in("x1") arguments[1],
            in("x2") arguments[2],
            in("x3") arguments[3],
            in("x4") arguments[4],
            options(nostack),
        );
    }
    answer
}

/// Sends `signal` to a process, or to a group where `pid` is negative.
pub fn kill(pid: libc::pid_t, signal: libc::c_int) {
    // SAFETY: a system call without memory.
    unsafe { call(libc::SYS_kill, [pid as usize, signal as usize, 0, 0, 0]) };
}

/// Ends this process.
pub fn exit(code: libc::c_int) -> ! {
    loop {
        // SAFETY: a system call without memory.
        unsafe { call(libc::SYS_exit_group, [code as usize, 0, 0, 0, 0]) };
    }
}

/// `prctl` of one number.
pub fn prctl(option: libc::c_int, value: usize) -> isize {
    // SAFETY: options of numbers only are used here.
    unsafe { call(libc::SYS_prctl, [option as usize, value, 0, 0, 0]) }
}

/// Makes `pid` the leader of a group of its own.
pub fn lead_group(pid: libc::pid_t) {
    // SAFETY: a system call without memory.
    unsafe { call(libc::SYS_setpgid, [pid as usize, pid as usize, 0, 0, 0]) };
}

/// The parent of this process.
pub fn parent() -> libc::pid_t {
    // SAFETY: a system call without memory.
    unsafe { call(libc::SYS_getppid, [0; 5]) as libc::pid_t }
}

/// This process.
pub fn own() -> libc::pid_t {
    // SAFETY: a system call without memory.
    unsafe { call(libc::SYS_getpid, [0; 5]) as libc::pid_t }
}

/// The kernel's sets of signals: a bit for each.
pub type Signals = u64;

/// The set of one signal.
pub const fn only(signal: libc::c_int) -> Signals {
    1 << (signal - 1)
}

/// Every signal that can be blocked.
pub const ALL: Signals = u64::MAX;

/// Blocks exactly `signals`.
pub fn block(signals: Signals) {
    let set = &raw const signals as usize;
    let size = size_of::<Signals>();
    // SAFETY: the set is readable and its size is given.
    unsafe {
        call(
            libc::SYS_rt_sigprocmask,
            [libc::SIG_SETMASK as usize, set, 0, size, 0],
        )
    };
}

/// Lets `signal` have no effect on this process.
pub fn ignore(signal: libc::c_int) {
    // Handler, flags, restorer and mask, as the kernel has them.
    let action = [libc::SIG_IGN, 0, 0, 0];
    let from = &raw const action as usize;
    let size = size_of::<Signals>();
    // SAFETY: the action is readable, and the size of its set is given.
    unsafe { call(libc::SYS_rt_sigaction, [signal as usize, from, 0, size, 0]) };
}

/// Waits for one of `signals`, which are blocked, at most `nanoseconds` below a second, or without end. Negative: there
/// was none.
pub fn wait_for(signals: Signals, nanoseconds: Option<u32>) -> libc::c_int {
    let set = &raw const signals as usize;
    let pause = libc::timespec {
        tv_sec: 0,
        tv_nsec: nanoseconds.unwrap_or(0) as libc::c_long,
    };
    let pause = match nanoseconds {
        Some(_) => &raw const pause as usize,
        None => 0,
    };
    let size = size_of::<Signals>();
    // SAFETY: set and time are readable and their sizes are given.
    unsafe { call(libc::SYS_rt_sigtimedwait, [set, 0, pause, size, 0]) as libc::c_int }
}

/// Reaps a child that has ended, if one has: its number and status; 0: none has; negative: there is none.
pub fn reap() -> (libc::pid_t, libc::c_int) {
    let mut status: libc::c_int = 0;
    let to = &raw mut status as usize;
    // SAFETY: the status is writable.
    let pid = unsafe {
        call(
            libc::SYS_wait4,
            [-1isize as usize, to, libc::WNOHANG as usize, 0, 0],
        )
    };
    (pid as libc::pid_t, status)
}

/// Closes all descriptors from `first` on.
pub fn close_from(first: u32) {
    // SAFETY: a system call without memory; descriptors of this process are no other's.
    unsafe {
        let all = [first as usize, u32::MAX as usize, 0, 0, 0];
        if call(libc::SYS_close_range, all) < 0 {
            // Linux before 5.9.
            for file in first as usize..1024 {
                call(libc::SYS_close, [file, 0, 0, 0, 0]);
            }
        }
    }
}

/// Writes a number to a pipe.
pub fn tell(file: libc::c_int, number: i32) {
    let bytes = number.to_ne_bytes();
    let from = &raw const bytes as usize;
    // SAFETY: the bytes are readable and their number is given.
    unsafe { call(libc::SYS_write, [file as usize, from, bytes.len(), 0, 0]) };
}

//! What the system lets this process have: checked before the first worker starts, not met in the middle.

use std::io;

/// Descriptors that a scheduler needs without workers: store, logs, notices, terminal, with room to spare.
const BASE: u64 = 128;

/// Descriptors per worker: its log and pipes while it starts, its event log while it is read.
const PER_WORKER: u64 = 8;

/// Lets this process open as many files as it may (the hard limit), and says what is wrong if that is too few
/// for so many workers.
pub fn check(workers: usize) -> Option<String> {
    let needed = BASE + PER_WORKER * workers as u64;
    let allowed = match raise() {
        Ok(allowed) => allowed,
        Err(error) => return Some(format!("can't ask for the limit of open files: {error}")),
    };
    (allowed < needed).then(|| {
        format!(
            "only {allowed} open files are allowed here (ulimit -n), {workers} workers may need {needed}: some may \
             fail to start; use fewer (--slots) or raise the limit"
        )
    })
}

/// Raises the limit of open files as far as it goes; returns it.
fn raise() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the memory is writable.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the memory is readable.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } == 0;
    #[allow(clippy::unnecessary_cast, reason = "the type depends on the system")]
    Ok(if raised { limit.rlim_max } else { before } as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_descriptors_are_told() {
        assert_eq!(check(1), None);
        let allowed = raise().unwrap();
        let many = usize::try_from(allowed / PER_WORKER).unwrap_or(usize::MAX / 16) + 1;
        if many < usize::MAX / 16 {
            let text = check(many).unwrap();
            assert!(text.contains("ulimit -n"), "{text}");
        }
    }
}

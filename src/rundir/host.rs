//! Facts about this machine and process that go into events.

/// Resources that this process has used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Largest resident set so far.
    pub peak_rss_bytes: u64,
    /// User and system time of all threads.
    pub cpu_seconds: f64,
}

/// The host's name, or `unknown`.
pub fn name() -> String {
    let mut buffer = [0u8; 256];
    // SAFETY: the buffer is writable and its length is passed on.
    let result = unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), buffer.len()) };
    let length = buffer
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(buffer.len());
    match (result, std::str::from_utf8(&buffer[..length])) {
        (0, Ok(name)) if !name.is_empty() => name.to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// Sets what `ps` and `top` call this process: at most 15 bytes are kept. A process that was started
/// through `/proc/self/exe` would be called `exe`.
pub fn set_process_name(name: &str) {
    #[cfg(target_os = "linux")]
    if let Ok(name) = std::ffi::CString::new(name) {
        // SAFETY: the name ends with a zero byte and is only read.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

/// Resources used by this process so far.
///
/// The kernel's own count (`ru_maxrss`) starts with what the process that started this one had, for `exec`
/// carries it along; the memory map's (`VmHWM`) doesn't. The former counts only where there is no `/proc`.
pub fn usage() -> Usage {
    // SAFETY: `rusage` is plain data for which zeroes are valid, and getrusage fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    // Kibibytes on Linux, bytes on macOS.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    let own = std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| peak_field(&status));
    Usage {
        peak_rss_bytes: own.unwrap_or(usage.ru_maxrss.max(0) as u64 * unit),
        cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
    }
}

/// Bytes of the line `VmHWM` of `/proc/<pid>/status` (proc(5)).
fn peak_field(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Identifier of the running kernel: another one after every boot, the same in all containers of a host.
/// Empty where the system has none.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// When process `pid` began, in clock ticks since the boot; `None` if there is no such process, or
/// only what is left of it until its parent asks how it ended. A process is known by its id and this: ids are used again, by then it is later.
pub fn process_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    start_field(&stat)
}

/// Field 22 of `/proc/<pid>/stat` (proc(5)); the name of the program before it may hold anything.
fn start_field(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Started by a process of 200 MiB, `ablate bench train` would show at least that much.
    #[test]
    fn the_peak_is_this_process_s_own() {
        let status = "Name:\tablate\nVmPeak:\t  900 kB\nVmHWM:\t     123 kB\nVmRSS:\t 7 kB\n";
        assert_eq!(peak_field(status), Some(123 << 10));
        assert_eq!(peak_field("Name:\tablate\n"), None);
        let before = usage().peak_rss_bytes;
        assert!(before > 1 << 20);
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(usage().peak_rss_bytes >= 64 << 20 && touched[1 << 20] == 1);
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = process_start(std::process::id()).unwrap();
        assert_eq!(process_start(std::process::id()), Some(own));
        assert_eq!(process_start(u32::MAX), None);
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 4711 9 9";
        assert_eq!(start_field(stat), Some(4711));
        assert_eq!(start_field(&stat.replace(" S ", " Z ")), None);
        assert_eq!(boot_id(), boot_id());
    }
}

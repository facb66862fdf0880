//! Waiting for other programs: somebody's `BEGIN EXCLUSIVE` in the `sqlite3` shell, a GUI that keeps a read
//! transaction open.
//!
//! Readers never block a writer (WAL). Where another program writes, the writing connection waits, with growing,
//! jittered pauses, on SQLite's own thread; workers go on meanwhile. After some seconds it says so, and only after
//! many minutes it gives up. A reader that never ends keeps the write-ahead log from being reused; when that has
//! grown large, it is said too.

use libsqlite3_sys as ffi;
use sqlx::SqliteConnection;
use std::ffi::{c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After this long somebody is told.
const TELL: Duration = Duration::from_secs(3);

/// After this long a write is given up.
pub(super) const GIVE_UP: Duration = Duration::from_secs(600);

/// Longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of write-ahead log from which on a reader must be keeping it from shrinking. SQLite reuses the log from
/// about 4 MiB on.
const LARGE_LOG: u64 = 512 << 20;

/// Commits between two looks at the log's size.
const LOOK: u64 = 64;

type Listener = Box<dyn Fn(&str) + Send + Sync>;

/// What one store's writer knows of its waits.
pub(super) struct Patience {
    path: PathBuf,
    listener: Mutex<Option<Listener>>,
    /// When the wait that goes on began, and whether it was told.
    wait: Mutex<Option<(Instant, bool)>>,
    commits: AtomicU64,
    /// Size of the log at which it is told next.
    threshold: AtomicU64,
    /// State of the jitter.
    seed: AtomicU64,
    /// Nobody waits any more.
    is_over: AtomicBool,
}

impl std::fmt::Debug for Patience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patience")
            .field("path", &self.path)
            .finish()
    }
}

impl Patience {
    /// The patience of a store. SQLite keeps a pointer to it for as long as a connection closes, which nobody
    /// waits for, so it lives on: some hundred bytes per store that is opened.
    pub(super) fn of(path: &Path) -> &'static Patience {
        Box::leak(Box::new(Patience {
            path: path.to_owned(),
            listener: Mutex::new(None),
            wait: Mutex::new(None),
            commits: AtomicU64::new(0),
            threshold: AtomicU64::new(LARGE_LOG),
            seed: AtomicU64::new(u64::from(std::process::id()) << 32 | 0x9e37_79b9),
            is_over: AtomicBool::new(false),
        }))
    }

    /// Makes the connection wait in this way.
    pub(super) async fn attach(
        &'static self,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let mut handle = connection.lock_handle().await?;
        let database = handle.as_raw_handle().as_ptr();
        let state = std::ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: the handle is open and locked; `self` is never freed and used through shared references only.
        unsafe { ffi::sqlite3_busy_handler(database, Some(busy), state) };
        Ok(())
    }

    pub(super) fn listen(&self, listener: impl Fn(&str) + Send + Sync + 'static) {
        *lock(&self.listener) = Some(Box::new(listener));
    }

    /// Ends the waits that go on, once they have lasted longer than another program needs for a change of its own.
    pub(super) fn give_up(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Later waits are patient again.
    pub(super) fn wait_again(&self) {
        self.is_over.store(false, Ordering::Relaxed);
    }

    fn tell(&self, text: &str) {
        if let Some(listener) = lock(&self.listener).as_ref() {
            listener(text);
        }
    }

    /// The lock is held by another program, for the `count`-th time in this wait. Returns whether to try again.
    fn wait(&self, count: u32) -> bool {
        let mut wait = lock(&self.wait);
        if count == 0 || wait.is_none() {
            *wait = Some((Instant::now(), false));
        }
        let Some((begun, told)) = wait.as_mut() else {
            return false;
        };
        let waited = begun.elapsed();
        if waited >= GIVE_UP || waited >= TELL && self.is_over.load(Ordering::Relaxed) {
            return false;
        }
        if waited >= TELL && !*told {
            *told = true;
            self.tell(&format!(
                "waiting: another program holds {} locked; workers go on",
                self.path.display()
            ));
        }
        drop(wait);
        std::thread::sleep(self.pause(count));
        true
    }

    /// Between half and all of a pause that doubles from 1 ms on: programs that wait for each other must not do
    /// so in step.
    fn pause(&self, count: u32) -> Duration {
        let pause = Duration::from_millis(1 << count.min(10)).min(PAUSE);
        // Xorshift (Marsaglia 2003): good enough to be out of step.
        let mut x = self.seed.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.seed.store(x, Ordering::Relaxed);
        pause.mul_f64(0.5 + 0.5 * (x >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// After a commit: now and then looks at the size of the write-ahead log, and tells when it has doubled past
    /// what is normal.
    pub(super) fn look_at_log(&self, bytes: impl FnOnce() -> u64) {
        if !self
            .commits
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(LOOK)
        {
            return;
        }
        let bytes = bytes();
        if bytes >= self.threshold.load(Ordering::Relaxed) {
            self.threshold
                .store(bytes.saturating_mul(2), Ordering::Relaxed);
            self.tell(&format!(
                "warning: the write-ahead log of {} holds {} MiB: some program keeps an old read transaction open",
                self.path.display(),
                bytes >> 20
            ));
        }
    }
}

/// SQLite calls this whenever it finds a lock held by another connection.
unsafe extern "C" fn busy(state: *mut c_void, count: c_int) -> c_int {
    // SAFETY: the pointer that `attach` gave, to a value that is never freed.
    let patience = unsafe { &*state.cast::<Patience>() };
    c_int::from(patience.wait(u32::try_from(count).unwrap_or(0)))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn pauses_grow_and_differ() {
        let patience = Patience::of(Path::new("x"));
        let first = patience.pause(0);
        assert!(first >= Duration::from_micros(500) && first <= Duration::from_millis(1));
        let late: Vec<Duration> = (0..20).map(|_| patience.pause(50)).collect();
        assert!(
            late.iter()
                .all(|pause| *pause >= PAUSE / 2 && *pause <= PAUSE)
        );
        assert!(late.windows(2).all(|pair| pair[0] != pair[1]), "{late:?}");
    }

    #[test]
    fn a_log_that_grows_is_told_once_per_doubling() {
        let patience = Patience::of(Path::new("x"));
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = told.clone();
        patience.listen(move |text| lock(&heard).push(text.to_owned()));
        for (bytes, times) in [
            (1 << 20, 0),
            (600 << 20, 1),
            (700 << 20, 1),
            (1300 << 20, 2),
        ] {
            for _ in 0..LOOK {
                patience.look_at_log(|| bytes);
            }
            assert_eq!(lock(&told).len(), times, "{bytes}");
        }
        assert!(lock(&told)[0].contains("600 MiB"), "{:?}", lock(&told));
    }
}

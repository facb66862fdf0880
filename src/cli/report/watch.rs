//! `ablate report --watch`: the report again whenever the store has changed.
//!
//! It sleeps until the kernel says that one of the store's files has changed; there is no polling.

use super::{ReportArgs, ReportError, finish, report};
use crate::cli::exit::Exit;
use crate::cli::planning::say;
use crate::store::{Store, StoreLock};
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;

/// Changes come in bursts; this long nothing is drawn after the first of them, so that training isn't slowed by
/// drawing.
const PAUSE: Duration = Duration::from_secs(2);
/// Drawing takes at most one part in so many of the time.
const SHARE: u32 = 10;

/// Sizes and times of the database's files: what tells whether something was written since.
type Stamp = [Option<(u64, SystemTime)>; 2];

/// Runs the command until no `ablate run` is at work on the store (or, with `--forever`, until it is stopped).
pub async fn run(args: &ReportArgs) -> Exit {
    match watch(args).await {
        Ok(()) => Exit::Done,
        Err(error) => finish(error),
    }
}

async fn watch(args: &ReportArgs) -> Result<(), ReportError> {
    let (sender, mut changes) = tokio::sync::mpsc::unbounded_channel();
    let failed = |message: String| ReportError::Watch {
        store: args.store.display().to_string(),
        message,
    };
    let watching = |source: notify::Error| failed(source.to_string());
    let mut stop = Stop::listen().map_err(|source| failed(source.to_string()))?;
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| matters(&event)) {
            // The receiver is gone only when the command ends.
            let _ = sender.send(());
        }
    })
    .map_err(watching)?;
    // A store that isn't there is told by opening it.
    drop(Store::open_read_only(&args.store).await?);
    watcher
        .watch(&args.store, RecursiveMode::NonRecursive)
        .map_err(watching)?;
    let owners = args.store.join("owners");
    let mut knows_owners = false;
    let (mut drawn, mut last_text): (Option<Stamp>, String) = (None, String::new());
    loop {
        if !knows_owners && owners.is_dir() {
            knows_owners = watcher.watch(&owners, RecursiveMode::NonRecursive).is_ok();
        }
        // Looked at first: what is written from here on is seen by the next round.
        let at_work = !StoreLock::holders(&args.store).is_empty();
        let now = stamp(&args.store);
        let began = Instant::now();
        if drawn != Some(now) {
            let store = Store::open_read_only(&args.store).await?;
            let (text, files) = report(args, &store).await?;
            if text != last_text {
                super::print(&text)?;
                last_text = text;
            }
            match drawn {
                None => files.iter().for_each(|path| say(path.display())),
                Some(_) => say(format_args!("{} files up to date", files.len())),
            }
            drawn = Some(now);
        }
        if !at_work && !args.forever {
            return Ok(());
        }
        let pause = PAUSE.max(began.elapsed() * SHARE);
        if !wait(&mut stop, &mut changes, pause).await {
            return Ok(());
        }
    }
}

/// What ends the command: heard from its start on, so that none is lost while it draws.
struct Stop {
    interrupted: Signal,
    terminated: Signal,
}

impl Stop {
    fn listen() -> std::io::Result<Stop> {
        Ok(Stop {
            interrupted: signal(SignalKind::interrupt())?,
            terminated: signal(SignalKind::terminate())?,
        })
    }

    async fn heard(&mut self) {
        tokio::select! {
            _ = self.interrupted.recv() => {}
            _ = self.terminated.recv() => {}
        }
    }
}

/// Waits for a change and then for `pause`, in which further ones count as the same. False: the user has had
/// enough.
async fn wait(stop: &mut Stop, changes: &mut UnboundedReceiver<()>, pause: Duration) -> bool {
    let changed = async {
        let some = changes.recv().await.is_some();
        tokio::time::sleep(pause).await;
        while changes.try_recv().is_ok() {}
        some
    };
    tokio::select! {
        () = stop.heard() => false,
        some = changed => some,
    }
}

/// Whether an event is a change of the database, or the end of a process that held the store. Reading the database
/// makes events, too.
fn matters(event: &Event) -> bool {
    let is_write = match event.kind {
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => true,
        EventKind::Access(AccessKind::Close(mode)) => mode == AccessMode::Write,
        _ => false,
    };
    is_write
        && event.paths.iter().any(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| {
                matches!(name, "ablate.db" | "ablate.db-wal" | "lock" | "owners")
                    || name.ends_with(".lock")
            })
        })
}

fn stamp(store: &Path) -> Stamp {
    ["ablate.db", "ablate.db-wal"].map(|name| {
        let metadata = std::fs::metadata(store.join(name)).ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, ModifyKind};

    #[test]
    fn only_writes_to_the_stores_own_files_matter() {
        let event = |kind, path: &str| Event::new(kind).add_path(path.into());
        let write = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let close = |mode| EventKind::Access(AccessKind::Close(mode));
        for (kind, path, expected) in [
            (write, "store/ablate.db-wal", true),
            (write, "store/ablate.db-shm", false),
            (close(AccessMode::Read), "store/ablate.db", false),
            (close(AccessMode::Write), "store/owners/7f.lock", true),
            (EventKind::Create(CreateKind::Folder), "store/stages", false),
            (
                EventKind::Access(AccessKind::Open(AccessMode::Any)),
                "store/lock",
                false,
            ),
        ] {
            assert_eq!(matters(&event(kind, path)), expected, "{kind:?} {path}");
        }
    }
}

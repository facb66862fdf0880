//! Notices of the file system: which event logs have grown, and that other schedulers have news.
//!
//! The kernel tells (inotify), nobody polls. What comes in while the last notice is still unheard is
//! gathered, so a worker that writes a thousand lines costs one message.

use crate::schedule::actor::Input;
use crate::store::owner_folder;
use notify::event::{EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::UnboundedSender;

/// What is watched, and what of it has changed.
pub struct Notices {
    watcher: Option<RecommendedWatcher>,
    shared: Arc<Shared>,
    /// The folder of the owners is watched.
    hears_peers: bool,
}

struct Shared {
    inputs: UnboundedSender<Input>,
    /// Folder of the owners, and our own file in it: what we change there ourselves is no news.
    owners: PathBuf,
    own: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Run directories that are watched.
    stages: HashMap<PathBuf, usize>,
    /// Stages whose run directory has changed since [`Notices::changed`].
    changed: BTreeSet<usize>,
    /// [`Input::Peers`] is on its way.
    peers: bool,
}

impl Notices {
    /// Watches the owners of the store at `dir`, apart from the file `own`, and tells `inputs`.
    pub fn new(dir: &Path, own: &Path, inputs: UnboundedSender<Input>) -> Notices {
        let shared = Arc::new(Shared {
            inputs,
            owners: absolute(&owner_folder(dir)),
            own: absolute(own),
            state: Mutex::default(),
        });
        let handler = Arc::clone(&shared);
        // Without notices (a system that has none left) everything is looked at now and then.
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
                Ok(event) => handler.hear(&event),
                Err(_) => handler.lost(),
            })
            .ok();
        let hears_peers = watcher.as_mut().is_some_and(|watcher| {
            watcher
                .watch(&shared.owners, RecursiveMode::NonRecursive)
                .is_ok()
        });
        Notices {
            watcher,
            shared,
            hears_peers,
        }
    }

    /// Whether other schedulers are heard of.
    pub fn hears_peers(&self) -> bool {
        self.hears_peers
    }

    /// Watches the run directory of a stage; says whether that works.
    pub fn watch(&mut self, stage: usize, run_dir: &Path) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let run_dir = absolute(run_dir);
        let heard = watcher.watch(&run_dir, RecursiveMode::NonRecursive).is_ok();
        self.shared.state().stages.insert(run_dir, stage);
        heard
    }

    /// Ends that.
    pub fn unwatch(&mut self, run_dir: &Path) {
        let run_dir = absolute(run_dir);
        // The lock is given back first: the watcher's thread may want it.
        let known = self.shared.state().stages.remove(&run_dir);
        if known.is_some()
            && let Some(watcher) = &mut self.watcher
        {
            // The folder may be gone, and its watch with it.
            let _ = watcher.unwatch(&run_dir);
        }
    }

    /// The stages whose run directories have changed since the last call.
    pub fn changed(&self) -> BTreeSet<usize> {
        std::mem::take(&mut self.shared.state().changed)
    }

    /// [`Input::Peers`] was heard: from now on there may be another.
    pub fn heard_peers(&self) {
        self.shared.state().peers = false;
    }
}

/// As the notices name it: they come with absolute paths, whatever was asked for.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, event: &notify::Event) {
        if event.need_rescan() {
            return self.lost();
        }
        let is_news = match event.kind {
            EventKind::Create(_) | EventKind::Remove(_) => true,
            EventKind::Modify(kind) => !matches!(kind, ModifyKind::Metadata(_)),
            _ => false,
        };
        if !is_news {
            return;
        }
        for path in &event.paths {
            let Some(folder) = path.parent() else {
                continue;
            };
            if folder == self.owners {
                if *path != self.own && path.extension().is_some_and(|end| end == "lock") {
                    self.tell_peers(&mut self.state());
                }
            } else if path
                .extension()
                .is_some_and(|end| end == "jsonl" || end == "log")
            {
                let mut state = self.state();
                if let Some(&stage) = state.stages.get(folder) {
                    self.tell(&mut state, [stage]);
                }
            }
        }
    }

    /// Notices were lost: anything may have changed.
    fn lost(&self) {
        let mut state = self.state();
        let all: Vec<usize> = state.stages.values().copied().collect();
        self.tell(&mut state, all);
        self.tell_peers(&mut state);
    }

    fn tell(&self, state: &mut State, stages: impl IntoIterator<Item = usize>) {
        let heard = state.changed.is_empty();
        state.changed.extend(stages);
        if heard && !state.changed.is_empty() {
            // Nobody listens any more once the execution is over.
            let _ = self.inputs.send(Input::Wrote);
        }
    }

    fn tell_peers(&self, state: &mut State) {
        if !std::mem::replace(&mut state.peers, true) {
            let _ = self.inputs.send(Input::Peers);
        }
    }
}

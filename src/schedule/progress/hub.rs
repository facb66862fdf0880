//! The scheduler's end of `ablate attach`: a Unix socket beside its lock in the store.
//!
//! Whoever connects is told where the execution stands and then all that happens, line by line. Nobody who
//! watches can hold the scheduler up: one that doesn't read fast enough is let go.

use super::news::{Because, Began, Ended, News, Request};
use crate::rundir::event::{Event, EventKind};
use crate::schedule::clock::Stopwatch;
use crate::store::Owner;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

/// News that a watcher may lag behind.
const LAG: usize = 4096;

/// What was said that those who come later are told.
const RECENT: usize = 10;

/// Pause after a watcher could not be let in.
const TURNED_AWAY: Duration = Duration::from_secs(1);

/// How long the last news may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Longest request.
const REQUEST_BYTES: u64 = 4096;

/// What every watcher is told. Copies are the same hub.
#[derive(Clone)]
pub struct Hub(Arc<Mutex<State>>);

struct State {
    began: Began,
    watch: Stopwatch,
    slots: Vec<Option<Running>>,
    recent: VecDeque<String>,
    watchers: Vec<Sender<Arc<str>>>,
    writers: Vec<JoinHandle<()>>,
}

/// A worker and the last that it said of each kind that is shown.
struct Running {
    stage: usize,
    heard: [Option<Event>; 3],
}

impl Hub {
    pub fn new(began: Began) -> Hub {
        Hub(Arc::new(Mutex::new(State {
            slots: began.slots.iter().map(|_| None).collect(),
            began,
            watch: Stopwatch::start(),
            recent: VecDeque::new(),
            watchers: Vec::new(),
            writers: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn started(&self, slot: usize, stage: usize) {
        let mut state = self.state();
        if let Some(place) = state.slots.get_mut(slot) {
            *place = Some(Running {
                stage,
                heard: [None, None, None],
            });
        }
        state.tell(|| News::Started { slot, stage });
    }

    pub fn heard(&self, slot: usize, stage: usize, event: &Event) {
        let kind = match event.kind {
            EventKind::Started { .. } => 0,
            EventKind::Step { .. } | EventKind::Epoch { .. } => 1,
            EventKind::Evaluated { .. } => 2,
            EventKind::Warning { .. } => 3,
            _ => return,
        };
        let mut state = self.state();
        if let Some(Some(running)) = state.slots.get_mut(slot)
            && let Some(place) = running.heard.get_mut(kind)
        {
            *place = Some(event.clone());
        }
        state.tell(|| News::Heard {
            slot,
            stage,
            event: event.clone(),
        });
    }

    pub fn left(&self, slot: usize) {
        let mut state = self.state();
        if let Some(place) = state.slots.get_mut(slot) {
            *place = None;
        }
        state.tell(|| News::Left { slot });
    }

    pub fn ended(&self, stage: usize, end: &Ended, log: Option<&str>) {
        let mut state = self.state();
        state.began.ended.push((stage, end.clone()));
        state.tell(|| News::Ended {
            stage,
            end: end.clone(),
            log: log.map(str::to_owned),
        });
    }

    pub fn said(&self, text: &str) {
        let mut state = self.state();
        state.recent.truncate(RECENT - 1);
        state.recent.push_front(text.to_owned());
        state.tell(|| News::Said {
            text: text.to_owned(),
        });
    }

    pub fn why(&self, stages: Vec<Because>) {
        self.state().tell(|| News::Why { stages });
    }

    pub fn tick(&self) {
        self.state().tell(|| News::Tick);
    }

    /// It is over, and so is what watchers have to see. Waits until they have been told, but not for those
    /// that don't listen.
    pub async fn over(&self, code: u8) {
        let writers = {
            let mut state = self.state();
            state.tell(|| News::Over { code });
            state.watchers.clear();
            std::mem::take(&mut state.writers)
        };
        let told = async {
            for writer in writers {
                // One that was ended has nothing more to tell.
                let _ = writer.await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, told).await;
    }

    /// Lets watchers of the owner `id` of the store at `dir` in, through a socket beside the owner's lock; what
    /// they ask for goes to `ask`. Call it within a runtime. An error means that this file system has no
    /// sockets: nobody can watch then.
    pub fn serve(
        &self,
        dir: &Path,
        id: &str,
        ask: impl Fn(Request) + Clone + Send + 'static,
    ) -> io::Result<Socket> {
        let folder = folder(dir);
        sweep(dir);
        let listener = UnixListener::bind(Reach::of(dir)?.address(id))?;
        let hub = self.clone();
        let task = tokio::spawn(async move {
            // Accepting fails for want of descriptors only; whoever is turned away may come again.
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => hub.admit(stream, ask.clone()),
                    Err(_) => tokio::time::sleep(TURNED_AWAY).await,
                }
            }
        });
        Ok(Socket {
            path: folder.join(format!("{id}.sock")),
            task,
        })
    }

    fn admit(&self, stream: UnixStream, ask: impl Fn(Request) + Send + 'static) {
        let (sender, news) = channel(LAG);
        let first = {
            let mut state = self.state();
            state.watchers.push(sender);
            state.snapshot()
        };
        let (reader, writer) = stream.into_split();
        let writing = tokio::spawn(async move {
            // Whoever goes away has seen enough.
            let _ = write(writer, first, news).await;
        });
        let mut state = self.state();
        state.writers.retain(|writer| !writer.is_finished());
        state.writers.push(writing);
        drop(state);
        tokio::spawn(async move {
            let mut lines =
                BufReader::new(tokio::io::AsyncReadExt::take(reader, REQUEST_BYTES)).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(request) = serde_json::from_str(&line) {
                    ask(request);
                }
            }
        });
    }
}

async fn write(
    mut writer: tokio::net::unix::OwnedWriteHalf,
    first: Vec<Arc<str>>,
    mut news: Receiver<Arc<str>>,
) -> io::Result<()> {
    for line in first {
        writer.write_all(line.as_bytes()).await?;
    }
    while let Some(line) = news.recv().await {
        writer.write_all(line.as_bytes()).await?;
    }
    writer.shutdown().await
}

impl State {
    /// Tells all watchers; lets those go that are gone or lag too far behind.
    fn tell(&mut self, news: impl FnOnce() -> News) {
        if !self.watchers.is_empty() {
            let line = line(&news());
            self.watchers
                .retain(|watcher| watcher.try_send(Arc::clone(&line)).is_ok());
        }
    }

    /// Where it stands.
    fn snapshot(&self) -> Vec<Arc<str>> {
        let began = Began {
            seconds: self.watch.elapsed().as_secs_f64(),
            ..self.began.clone()
        };
        let mut lines = vec![line(&News::Began(began))];
        for (slot, running) in self.slots.iter().enumerate() {
            let Some(running) = running else {
                continue;
            };
            let stage = running.stage;
            lines.push(line(&News::Started { slot, stage }));
            lines.extend(running.heard.iter().flatten().map(|event| {
                let event = event.clone();
                line(&News::Heard { slot, stage, event })
            }));
        }
        lines.extend(self.recent.iter().rev().map(|text| {
            let text = text.clone();
            line(&News::Said { text })
        }));
        lines
    }
}

fn line(news: &News) -> Arc<str> {
    // A number that JSON can't hold stands as null; such news is not understood, and no harm done.
    let mut text = serde_json::to_string(news).unwrap_or_default();
    text.push('\n');
    text.into()
}

/// An open socket; the file goes with it.
pub struct Socket {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Folder of the sockets in the store at `dir`: that of the owners' locks.
fn folder(dir: &Path) -> PathBuf {
    dir.join("owners")
}

/// Removes the sockets of owners that were killed.
fn sweep(dir: &Path) {
    let entries = std::fs::read_dir(folder(dir)).into_iter().flatten();
    let sockets: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "sock"))
        .collect();
    // Asked after they were listed: an owner has its lock before its socket.
    let owners = Owner::at_work(dir);
    for path in sockets {
        let is_of = |owner: &Owner| path.file_stem().is_some_and(|id| *id == *owner.id);
        if !owners.iter().any(is_of) {
            // Somebody else may have done it.
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// A way to the sockets of a store however long its path is: the address of a socket has 108 bytes at most.
pub struct Reach(File);

impl Reach {
    /// To those of the store at `dir`.
    pub fn of(dir: &Path) -> io::Result<Reach> {
        File::open(folder(dir)).map(Reach)
    }

    /// Address of the socket of the owner `id`, as long as this lives.
    pub fn address(&self, id: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{id}.sock", self.0.as_raw_fd()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, Write};

    fn next(lines: &mut impl Iterator<Item = io::Result<String>>) -> News {
        serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn watchers_are_told_where_it_stands_and_what_happens() {
        let temporary = tempfile::tempdir().unwrap();
        // Longer than the address of a socket may be.
        let dir = temporary.path().join("x".repeat(120));
        std::fs::create_dir_all(folder(&dir)).unwrap();
        std::fs::write(folder(&dir).join("killed.sock"), "").unwrap();
        let hub = Hub::new(Began {
            labels: vec!["a".into(), "b".into()],
            flops: vec![1.0, 2.0],
            open: vec![true; 2],
            slots: vec!["cpu:0".into()],
            ..Began::default()
        });
        let (sender, requests) = std::sync::mpsc::channel();
        let socket = hub
            .serve(&dir, "me", move |request| sender.send(request).unwrap())
            .unwrap();
        assert!(!folder(&dir).join("killed.sock").exists());
        hub.started(0, 0);
        hub.ended(0, &Ended::Done, None);
        hub.left(0);
        hub.said("so far, so good");
        hub.started(0, 1);
        let event = |epoch| Event {
            v: 1,
            seq: 1,
            time: 0.0,
            attempt: 1,
            kind: EventKind::Step {
                step: 3,
                epoch,
                loss: f64::NAN,
                lr: 0.1,
                grad_norm: 1.0,
                images_per_second: 2.0,
            },
        };
        hub.heard(0, 1, &event(1));

        let reach = Reach::of(&dir).unwrap();
        let mut stream = std::os::unix::net::UnixStream::connect(reach.address("me")).unwrap();
        let mut lines = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
        let News::Began(began) = next(&mut lines) else {
            panic!("where it stands comes first");
        };
        assert_eq!(began.labels, ["a", "b"]);
        assert_eq!(began.ended, [(0, Ended::Done)]);
        assert!(matches!(
            next(&mut lines),
            News::Started { slot: 0, stage: 1 }
        ));
        assert!(matches!(next(&mut lines), News::Heard { stage: 1, .. }));
        assert!(matches!(next(&mut lines), News::Said { .. }));

        hub.heard(0, 1, &event(2));
        assert!(matches!(
            next(&mut lines),
            News::Heard {
                event: Event {
                    kind: EventKind::Step { epoch: 2, .. },
                    ..
                },
                ..
            }
        ));
        stream
            .write_all(b"nonsense\n{\"request\":\"check_devices\"}\n")
            .unwrap();
        assert_eq!(requests.recv().unwrap(), Request::CheckDevices);
        hub.over(1).await;
        assert!(matches!(next(&mut lines), News::Over { code: 1 }));
        assert!(lines.next().is_none());
        drop(socket);
        assert!(!folder(&dir).join("me.sock").exists());
    }

    #[tokio::test]
    async fn nobody_holds_it_up() {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder(temporary.path())).unwrap();
        let hub = Hub::new(Began::default());
        let _socket = hub.serve(temporary.path(), "me", |_| {}).unwrap();
        let reach = Reach::of(temporary.path()).unwrap();
        let lazy = UnixStream::connect(reach.address("me")).await.unwrap();
        while hub.state().watchers.is_empty() {
            tokio::task::yield_now().await;
        }
        // Nothing is written meanwhile: this is the only thread.
        for _ in 0..=LAG {
            hub.tick();
        }
        assert!(hub.state().watchers.is_empty());
        drop(lazy);
    }
}

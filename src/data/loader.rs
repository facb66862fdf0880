//! Batches of an epoch, prepared ahead by threads.
//!
//! A sample's draws are keyed by its position in the epoch, so batches are bit for bit the same with
//! any number of threads and from any step on. Threads share the work sample by sample in small
//! chunks, so that all of them work on the batch that is needed first; at most [`AHEAD`] batches
//! wait or are in the making.

use super::{DataError, Dataset, EvalTransform, Sampler, Split, TrainTransform};
use crate::rng::{KeyedRng, Purpose};
use rayon::prelude::*;
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Batches that are prepared ahead of the one in use.
pub const AHEAD: usize = 2;

/// Samples that a thread takes at a time.
const CHUNK: usize = 8;

/// The input of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Normalised images, `[B, 3, R, R]`.
    pub images: Vec<f32>,
    /// Labels, `[B]`.
    pub labels: Vec<u32>,
    /// Step of the epoch, from 0 (for an evaluation: number of the batch).
    pub step: usize,
}

/// An iterator over the batches of an epoch, in order. Ends after an error.
pub struct Loader {
    job: Arc<Job>,
    next: usize,
    pool: Option<Pool>,
}

/// What is to be prepared: immutable, shared by the threads.
struct Job {
    dataset: Dataset,
    work: Work,
    /// Index of the sample at each position.
    order: Vec<u32>,
    batch_size: usize,
}

enum Work {
    Train {
        transform: TrainTransform,
        seed: u64,
        epoch: u32,
    },
    Eval {
        transform: EvalTransform,
    },
}

impl Loader {
    /// The training batches of `epoch` from step `start` on. `threads` of 0 prepares each batch in
    /// the caller's thread when it is asked for.
    pub fn train(
        dataset: &Dataset,
        transform: &TrainTransform,
        sampler: &Sampler,
        epoch: u32,
        start: usize,
        threads: usize,
    ) -> Loader {
        let transform = transform.clone();
        let work = Work::Train {
            transform,
            seed: sampler.seed(),
            epoch,
        };
        let batch_size = sampler.batch_size();
        let order = sampler.epoch(epoch);
        Loader::start(
            Job {
                dataset: dataset.clone(),
                work,
                order,
                batch_size,
            },
            start,
            threads,
        )
    }

    /// The whole val split in order; the last batch may be short.
    pub fn eval(
        dataset: &Dataset,
        transform: &EvalTransform,
        batch_size: usize,
        threads: usize,
    ) -> Loader {
        let order = (0..dataset.len(Split::Val) as u32).collect();
        let work = Work::Eval {
            transform: *transform,
        };
        let batch_size = batch_size.max(1);
        Loader::start(
            Job {
                dataset: dataset.clone(),
                work,
                order,
                batch_size,
            },
            0,
            threads,
        )
    }

    fn start(job: Job, start: usize, threads: usize) -> Loader {
        let job = Arc::new(job);
        let next = start.min(job.batches());
        let pool = (threads > 0).then(|| Pool::start(&job, next, threads));
        Loader { job, next, pool }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.job.batches() {
            return None;
        }
        let step = self.next;
        let images = match &self.pool {
            Some(pool) => pool.take(),
            // On the threads that compute, which wait for it.
            None => self
                .job
                .prepare(self.job.positions(step), rayon::current_num_threads() > 1),
        };
        self.next = if images.is_ok() {
            step + 1
        } else {
            self.job.batches()
        };
        Some(images.map(|images| Batch {
            images,
            labels: self.job.labels(step),
            step,
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.job.batches() - self.next;
        (0, Some(left))
    }
}

impl Job {
    fn batches(&self) -> usize {
        self.order.len().div_ceil(self.batch_size)
    }

    fn positions(&self, batch: usize) -> Range<usize> {
        let start = batch * self.batch_size;
        start..(start + self.batch_size).min(self.order.len())
    }

    fn split(&self) -> Split {
        match self.work {
            Work::Train { .. } => Split::Train,
            Work::Eval { .. } => Split::Val,
        }
    }

    fn labels(&self, batch: usize) -> Vec<u32> {
        let indices = &self.order[self.positions(batch)];
        indices
            .iter()
            .map(|&index| self.dataset.label(self.split(), index as usize))
            .collect()
    }

    /// The images at `positions`, one after the other; `side_by_side`: on the threads of the current pool. The draws
    /// of each are keyed by its position, so both are the same to the bit.
    fn prepare(&self, positions: Range<usize>, side_by_side: bool) -> Result<Vec<f32>, DataError> {
        let resolution = match &self.work {
            Work::Train { transform, .. } => transform.resolution(),
            Work::Eval { transform } => transform.resolution(),
        };
        let sample = 3 * resolution * resolution;
        let mut images = vec![0.0; positions.len() * sample];
        if side_by_side {
            let outs = images.par_chunks_exact_mut(sample);
            let failed = positions
                .into_par_iter()
                .zip(outs)
                .find_map_first(|(position, out)| self.image(position, out).err());
            return failed.map_or(Ok(images), Err);
        }
        for (position, out) in positions.zip(images.chunks_exact_mut(sample)) {
            self.image(position, out)?;
        }
        Ok(images)
    }

    /// The image at `position`.
    fn image(&self, position: usize, out: &mut [f32]) -> Result<(), DataError> {
        let index = self.order[position] as usize;
        let image = self.dataset.image(self.split(), index)?;
        match &self.work {
            Work::Train {
                transform,
                seed,
                epoch,
            } => {
                let key = position as u64;
                let mut rng = KeyedRng::new(*seed, Purpose::Augment, *epoch, key);
                transform.apply(&image, &mut rng, out);
            }
            Work::Eval { transform } => transform.apply(&image, out),
        }
        Ok(())
    }

    /// [`Job::prepare`], with a panic turned into an error: the other side waits for an answer.
    fn prepare_guarded(&self, positions: Range<usize>) -> Result<Vec<f32>, DataError> {
        catch_unwind(AssertUnwindSafe(|| self.prepare(positions, false))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            Err(DataError::LoaderPanicked(
                text.unwrap_or_else(|| "no message".to_owned()),
            ))
        })
    }
}

type Images = Result<Vec<f32>, DataError>;

/// The threads and what they share.
struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    job: Arc<Job>,
    queue: Mutex<Queue>,
    /// There is work, or the end has come.
    work: Condvar,
    /// The first batch may be ready.
    ready: Condvar,
}

struct Queue {
    /// Batches in the making or waiting, in order.
    batches: VecDeque<Making>,
    /// The next batch that is not among them.
    next: usize,
    stop: bool,
}

/// A batch in the making.
struct Making {
    positions: Range<usize>,
    /// Chunks that were handed to threads.
    taken: usize,
    /// Chunks that are still to come.
    missing: usize,
    chunks: Vec<Option<Images>>,
    images: Option<Images>,
}

impl Making {
    fn new(positions: Range<usize>) -> Making {
        let missing = positions.len().div_ceil(CHUNK);
        let chunks = std::iter::repeat_with(|| None).take(missing).collect();
        Making {
            positions,
            taken: 0,
            missing,
            chunks,
            images: None,
        }
    }

    fn chunk(&self, chunk: usize) -> Range<usize> {
        let start = self.positions.start + chunk * CHUNK;
        start..(start + CHUNK).min(self.positions.end)
    }
}

impl Pool {
    fn start(job: &Arc<Job>, first: usize, threads: usize) -> Pool {
        let mut queue = Queue {
            batches: VecDeque::new(),
            next: first,
            stop: false,
        };
        for _ in 0..AHEAD {
            queue.push(job);
        }
        let shared = Arc::new(Shared {
            job: job.clone(),
            queue: Mutex::new(queue),
            work: Condvar::new(),
            ready: Condvar::new(),
        });
        let threads = (0..threads)
            .filter_map(|i| {
                let shared = shared.clone();
                let builder = std::thread::Builder::new().name(format!("loader-{i}"));
                builder.spawn(move || shared.run()).ok()
            })
            .collect();
        Pool { shared, threads }
    }

    /// The first batch in the queue. Call it once per batch of the job.
    fn take(&self) -> Images {
        if self.threads.is_empty() {
            // The system gave no threads: do the work here.
            while self.shared.work_once() {}
        }
        let mut queue = self.shared.lock();
        loop {
            let first = queue.batches.front_mut();
            if let Some(images) = first.and_then(|batch| batch.images.take()) {
                queue.batches.pop_front();
                queue.push(&self.shared.job);
                self.shared.work.notify_all();
                return images;
            }
            queue = self
                .shared
                .ready
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // Threads do not panic: their work is guarded.
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn push(&mut self, job: &Job) {
        if self.next < job.batches() {
            self.batches
                .push_back(Making::new(job.positions(self.next)));
            self.next += 1;
        }
    }

    /// The next chunk that no thread has: its batch's first position, its number, its positions.
    fn take_chunk(&mut self) -> Option<(usize, usize, Range<usize>)> {
        let batch = self
            .batches
            .iter_mut()
            .find(|batch| batch.taken < batch.chunks.len())?;
        batch.taken += 1;
        let chunk = batch.taken - 1;
        Some((batch.positions.start, chunk, batch.chunk(chunk)))
    }

    /// Stores a chunk; the chunks of its batch if it was the last one.
    fn put_chunk(&mut self, start: usize, chunk: usize, images: Images) -> Option<Vec<Images>> {
        let batch = self
            .batches
            .iter_mut()
            .find(|batch| batch.positions.start == start)?;
        batch.chunks[chunk] = Some(images);
        batch.missing -= 1;
        let chunks = batch.chunks.iter_mut();
        (batch.missing == 0).then(|| chunks.filter_map(Option::take).collect())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life.
    fn run(&self) {
        loop {
            while self.work_once() {}
            let queue = self.lock();
            if queue.stop {
                return;
            }
            let idle = |queue: &mut Queue| {
                !queue.stop
                    && queue
                        .batches
                        .iter()
                        .all(|batch| batch.taken == batch.chunks.len())
            };
            drop(
                self.work
                    .wait_while(queue, idle)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }

    /// Prepares one chunk; false if there is none to take. Whoever brings the last chunk of a batch
    /// joins them, so that the caller does not have to.
    fn work_once(&self) -> bool {
        let taken = {
            let mut queue = self.lock();
            if queue.stop { None } else { queue.take_chunk() }
        };
        let Some((start, chunk, positions)) = taken else {
            return false;
        };
        let images = self.job.prepare_guarded(positions);
        let complete = self.lock().put_chunk(start, chunk, images);
        if let Some(chunks) = complete {
            let joined = join(chunks);
            let mut queue = self.lock();
            if let Some(batch) = queue
                .batches
                .iter_mut()
                .find(|b| b.positions.start == start)
            {
                batch.images = Some(joined);
            }
            self.ready.notify_all();
        }
        true
    }
}

/// The chunks in one vector, or the first error.
fn join(chunks: Vec<Images>) -> Images {
    let chunks = chunks.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(chunks.concat())
}

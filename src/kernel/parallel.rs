//! Splitting work into blocks, and memory that is written once. Where a sum goes over blocks, their borders depend on
//! shapes only.
//!
//! A kernel's output is memory fresh from the allocator: setting it to zero first would cost a pass over
//! it. So kernels write into a [`Hole`] and give back what they wrote as a slice of numbers; only that
//! slice, of the same place and length, makes a hole's vector complete. What writes holes is `map1` to
//! `map3` in [`super::simd`], the matrix product, and [`each_row`] and [`build`] here.

use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Memory for numbers that nothing was written to yet.
pub type Hole<'a> = &'a mut [MaybeUninit<f32>];

/// Rows of a matrix product's output per job, by the number of threads.
///
/// Every job packs the other operand anew, which costs 5 to 10 % of its time at 100 rows: one thread has few jobs,
/// several have enough of them to be busy to the end. No result depends on it: a value's sum goes over the other
/// dimension, which `gemm` cuts by its length alone, but for products of at most 64 by 64 values and for vectors. So a job
/// has more than 64 rows, or it is the only one.
pub fn job_rows(rows: usize) -> usize {
    /// Beyond this, what an epilogue reads isn't in the cache any more.
    const MOST: usize = 2048;
    /// The last job has up to 31 rows less, and so 65 at least.
    const LEAST: usize = 96;
    const MOST_JOBS: usize = 32;
    let jobs = match rayon::current_num_threads() {
        1 => rows.div_ceil(MOST),
        threads => (4 * threads)
            .min(MOST_JOBS)
            .min(rows / LEAST)
            .max(rows.div_ceil(MOST)),
    };
    rows.div_ceil(jobs.max(1)).max(1)
}

/// Rows per block for `rows` rows: about 16 blocks, each a multiple of 64 rows between 64 and 768.
pub fn block_rows(rows: usize) -> usize {
    rows.div_ceil(16).next_multiple_of(64).clamp(64, 768)
}

/// Whether `written` is all of the memory at `start`, of `len` values.
fn is_all(written: &[f32], start: *const MaybeUninit<f32>, len: usize) -> bool {
    std::ptr::eq(written.as_ptr(), start.cast()) && written.len() == len
}

/// Says that one block was written: panics unless `written` is the whole of it.
fn check(written: &[f32], start: *const MaybeUninit<f32>, len: usize) {
    assert!(is_all(written, start, len), "a job writes all of its block");
}

/// A vector of `len` values made in blocks of `block` values: `work(index, hole)` writes the whole of its
/// block.
pub fn build(
    len: usize,
    block: usize,
    work: impl for<'a> Fn(usize, Hole<'a>) -> &'a mut [f32] + Sync + Send,
) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    let hole = &mut values.spare_capacity_mut()[..len];
    let job = |(index, hole): (usize, Hole<'_>)| {
        let (start, len) = (hole.as_ptr(), hole.len());
        check(work(index, hole), start, len);
    };
    if rayon::current_num_threads() == 1 || len <= block {
        hole.chunks_mut(block.max(1)).enumerate().for_each(job);
    } else {
        hole.par_chunks_mut(block.max(1)).enumerate().for_each(job);
    }
    // SAFETY: the chunks cover the first `len` values, and each job has shown all of its chunk as
    // initialised numbers.
    unsafe { values.set_len(len) };
    values
}

/// Two vectors made together: job `index` writes the whole of block `index` of both. `sizes` and `blocks`
/// are values of each vector and of each one's blocks.
///
/// # Panics
/// If the vectors don't have the same number of blocks.
pub fn build_pair(
    sizes: [usize; 2],
    blocks: [usize; 2],
    work: impl for<'a> Fn(usize, Hole<'a>, Hole<'a>) -> (&'a mut [f32], &'a mut [f32]) + Sync + Send,
) -> (Vec<f32>, Vec<f32>) {
    let blocks = blocks.map(|block| block.max(1));
    assert_eq!(
        sizes[0].div_ceil(blocks[0]),
        sizes[1].div_ceil(blocks[1]),
        "as many blocks in both vectors"
    );
    let (mut first, mut second) = (Vec::with_capacity(sizes[0]), Vec::with_capacity(sizes[1]));
    let holes = (
        &mut first.spare_capacity_mut()[..sizes[0]],
        &mut second.spare_capacity_mut()[..sizes[1]],
    );
    let job = |(index, (first, second)): (usize, (Hole<'_>, Hole<'_>))| {
        let (start_1, len_1) = (first.as_ptr(), first.len());
        let (start_2, len_2) = (second.as_ptr(), second.len());
        let (written_1, written_2) = work(index, first, second);
        check(written_1, start_1, len_1);
        check(written_2, start_2, len_2);
    };
    if rayon::current_num_threads() == 1 || sizes[0] <= blocks[0] {
        let chunks = holes
            .0
            .chunks_mut(blocks[0])
            .zip(holes.1.chunks_mut(blocks[1]));
        chunks.enumerate().for_each(job);
    } else {
        let second = holes.1.par_chunks_mut(blocks[1]);
        let chunks = holes.0.par_chunks_mut(blocks[0]).zip(second);
        chunks.enumerate().for_each(job);
    }
    // SAFETY: as in `build`, for both: they have the same number of chunks, so none was left out.
    unsafe {
        first.set_len(sizes[0]);
        second.set_len(sizes[1]);
    }
    (first, second)
}

/// Writes `out` row by row: `work(index, hole)` writes the whole of its row of `width` values. Not for the
/// inside of a `simd!` kernel: a closure of some size is not compiled for the kernel's instruction set.
///
/// # Panics
/// If `out` is no whole number of rows.
#[inline(always)]
pub fn each_row<'a>(
    out: Hole<'a>,
    width: usize,
    mut work: impl for<'r> FnMut(usize, Hole<'r>) -> &'r mut [f32],
) -> &'a mut [f32] {
    assert!(out.len().is_multiple_of(width), "whole rows");
    for (index, row) in out.chunks_exact_mut(width).enumerate() {
        let (start, len) = (row.as_ptr(), row.len());
        check(work(index, row), start, len);
    }
    // SAFETY: the rows cover `out`, and each was shown as initialised numbers.
    unsafe { out.assume_init_mut() }
}

/// Runs `work` for every index below `count` and returns the results in order.
pub fn map_blocks<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    if rayon::current_num_threads() == 1 || count <= 1 {
        (0..count).map(work).collect()
    } else {
        (0..count).into_par_iter().map(work).collect()
    }
}

/// Runs both, side by side if there are threads.
pub fn join<A: Send, B: Send>(
    a: impl FnOnce() -> A + Send,
    b: impl FnOnce() -> B + Send,
) -> (A, B) {
    if rayon::current_num_threads() == 1 {
        (a(), b())
    } else {
        rayon::join(a, b)
    }
}

/// Adds `parts` into one vector of `width` values, in order.
pub fn sum_in_order(parts: Vec<Vec<f32>>, width: usize) -> Vec<f32> {
    let mut total = vec![0.0; width];
    for part in parts {
        super::simd::add_assign(&mut total, &part);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill<'a>(hole: Hole<'a>, value: f32) -> &'a mut [f32] {
        for slot in hole.iter_mut() {
            slot.write(value);
        }
        // SAFETY: every value was written.
        unsafe { hole.assume_init_mut() }
    }

    #[test]
    fn blocks_are_in_order_and_cover_everything() {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let values = build(10, 4, |index, hole| fill(hole, index as f32));
                assert_eq!(values, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0]);
                assert!(build(0, 4, |_, hole| fill(hole, 1.0)).is_empty());
                let (a, b) = build_pair([4, 6], [2, 3], |index, a, b| {
                    (fill(a, index as f32), fill(b, -(index as f32)))
                });
                assert_eq!(
                    (a, b),
                    (
                        vec![0.0, 0.0, 1.0, 1.0],
                        vec![0.0, 0.0, 0.0, -1.0, -1.0, -1.0]
                    )
                );
            });
        }
    }

    #[test]
    #[should_panic(expected = "all of its block")]
    fn a_job_that_leaves_a_gap_is_caught() {
        build(10, 4, |_, hole| {
            let end = hole.len() - 1;
            fill(&mut hole[..end], 1.0)
        });
    }

    #[test]
    #[should_panic(expected = "as many blocks")]
    fn vectors_made_together_have_the_same_blocks() {
        build_pair([4, 6], [2, 2], |_, a, b| (fill(a, 0.0), fill(b, 0.0)));
    }
}

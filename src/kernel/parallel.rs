//! Splitting work into blocks whose borders depend on shapes only.

use rayon::prelude::*;

/// Rows per block for `rows` rows: about 16 blocks, each a multiple of 64 rows between 64 and 768.
///
/// Matrix products lose about a tenth of their speed below some 100 rows a block, and 16 blocks
/// keep several threads busy to the end.
pub fn block_rows(rows: usize) -> usize {
    rows.div_ceil(16).next_multiple_of(64).clamp(64, 768)
}

/// Runs `work(block index, rows before the block, block of output)` over blocks of `out`, each of
/// `rows_per_block` rows of `width` values.
pub fn for_blocks(
    out: &mut [f32],
    width: usize,
    rows_per_block: usize,
    work: impl Fn(usize, usize, &mut [f32]) + Sync + Send,
) {
    let block = width * rows_per_block;
    if rayon::current_num_threads() == 1 || out.len() <= block {
        for (index, chunk) in out.chunks_mut(block.max(1)).enumerate() {
            work(index, index * rows_per_block, chunk);
        }
    } else {
        out.par_chunks_mut(block.max(1))
            .enumerate()
            .for_each(|(index, chunk)| work(index, index * rows_per_block, chunk));
    }
}

/// Runs `work` for every index below `count` and returns the results in order.
pub fn map_blocks<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    if rayon::current_num_threads() == 1 || count <= 1 {
        (0..count).map(work).collect()
    } else {
        (0..count).into_par_iter().map(work).collect()
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

/// A vector of `len` values that are all written before they are read.
///
/// Zeroed on purpose: fresh pages come zeroed from the kernel anyway, and uninitialised floats would
/// need unsafe code at every caller.
pub fn buffer(len: usize) -> Vec<f32> {
    vec![0.0; len]
}

//! Mixup: each image becomes a weighted mean with its partner, sample B - 1 - i of a group of B.

/// Mixes `images`, a group `[B, ...]` of samples of `sample` values: `lam x + (1 - lam) partner`.
pub fn apply(images: &mut [f32], sample: usize, lam: f64) {
    let (own, other) = (lam as f32, (1.0 - lam) as f32);
    for_partners(images, sample, |a, b| {
        for (a, b) in a.iter_mut().zip(b) {
            (*a, *b) = (own * *a + other * *b, own * *b + other * *a);
        }
    });
}

/// Calls `f` on the values of each pair of partners.
pub(in crate::data) fn for_partners(
    images: &mut [f32],
    sample: usize,
    mut f: impl FnMut(&mut [f32], &mut [f32]),
) {
    let pairs = images.len() / sample / 2;
    let (first, second) = images.split_at_mut(images.len() - pairs * sample);
    let forward = first.chunks_exact_mut(sample);
    forward
        .zip(second.chunks_exact_mut(sample).rev())
        .for_each(|(a, b)| f(a, b));
}

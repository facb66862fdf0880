//! Element-wise kernels, compiled for several instruction sets and chosen at run time.
//!
//! Each kernel is written once as plain loops that the compiler vectorises; [`simd!`] compiles its
//! body for AVX-512, for AVX2 with FMA and for the target's baseline. Multiply-adds are written
//! with `mul_add`, so all three give the same bits (the baseline of x86-64 without FMA is slow but
//! correct). The matrix product between them is the crate `gemm`'s, which sums in an order of each
//! instruction set: whole results agree to the bit between processors of one kind only.

use super::parallel::Hole;

/// Number of partial sums in reductions: fixed, so that sums don't depend on the instruction set.
pub const LANES: usize = 16;

/// Takes AVX-512 (`avx2`), or AVX2 as well (`baseline`), from the kernels of the processes that see it. For
/// tests and comparison; the crate `gemm` doesn't look at it.
pub const SWITCH: &str = "ABLATE_SIMD";

/// Instruction set that kernels use: 2 AVX-512, 1 AVX2 with FMA, 0 baseline.
#[cfg(target_arch = "x86_64")]
pub fn level() -> u8 {
    use std::sync::OnceLock;
    static LEVEL: OnceLock<u8> = OnceLock::new();
    #[cfg(test)]
    if let Some(level) = FORCED.get() {
        return level;
    }
    *LEVEL.get_or_init(|| {
        let most = match std::env::var(SWITCH).as_deref() {
            Ok("baseline") => 0,
            Ok("avx2") => 1,
            _ => 2,
        };
        detected().min(most)
    })
}

#[cfg(all(test, target_arch = "x86_64"))]
thread_local! {
    /// What [`level`] says in this thread.
    static FORCED: std::cell::Cell<Option<u8>> = const { std::cell::Cell::new(None) };
}

/// Runs `work`, all in one thread, at every level that this processor has, the baseline first.
#[cfg(all(test, target_arch = "x86_64"))]
pub(super) fn at_every_level<R: Send>(work: impl Fn(u8) -> R + Sync) -> Vec<R> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    pool.install(|| {
        (0..=detected())
            .map(|level| {
                FORCED.set(Some(level));
                let result = work(level);
                FORCED.set(None);
                result
            })
            .collect()
    })
}

#[cfg(target_arch = "x86_64")]
fn detected() -> u8 {
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
    {
        2
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        1
    } else {
        0
    }
}

/// Defines a function whose body is compiled for several instruction sets.
macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$life:lifetime>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name $(<$life>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body $(<$life>)? ($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn v4 $(<$life>)? ($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn v3 $(<$life>)? ($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                match $crate::kernel::simd::level() {
                    // SAFETY: `level` has checked that the processor has these features.
                    2 => return unsafe { v4($($arg),*) },
                    1 => return unsafe { v3($($arg),*) },
                    _ => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use simd;

/// Writes `f(a)` for each value of `a`.
#[inline(always)]
pub fn map1<'h>(out: Hole<'h>, a: &[f32], f: impl Fn(f32) -> f32) -> &'h mut [f32] {
    assert_eq!(a.len(), out.len(), "as many values as places");
    for (o, a) in out.iter_mut().zip(a) {
        o.write(f(*a));
    }
    // SAFETY: each value was written just now.
    unsafe { out.assume_init_mut() }
}

/// Writes `f(a, b)` for each pair of values.
#[inline(always)]
pub fn map2<'h>(out: Hole<'h>, a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> &'h mut [f32] {
    assert!(
        a.len() == out.len() && b.len() == out.len(),
        "as many values as places"
    );
    for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
        o.write(f(*a, *b));
    }
    // SAFETY: each value was written just now.
    unsafe { out.assume_init_mut() }
}

/// Writes `f(a, b, c)` for each triple of values.
#[inline(always)]
pub fn map3<'h>(
    out: Hole<'h>,
    a: &[f32],
    b: &[f32],
    c: &[f32],
    f: impl Fn(f32, f32, f32) -> f32,
) -> &'h mut [f32] {
    let len = out.len();
    assert!(
        a.len() == len && b.len() == len && c.len() == len,
        "as many values as places"
    );
    for (((o, a), b), c) in out.iter_mut().zip(a).zip(b).zip(c) {
        o.write(f(*a, *b, *c));
    }
    // SAFETY: each value was written just now.
    unsafe { out.assume_init_mut() }
}

/// Sum of `values` in [`LANES`] partial sums.
#[inline(always)]
pub fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        lanes[lane] += value;
    }
    fold(lanes)
}

/// Sum of products of `a` and `b`, of equal length.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks_a, chunks_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (rest_a, rest_b) = (chunks_a.remainder(), chunks_b.remainder());
    for (a, b) in chunks_a.zip(chunks_b) {
        for lane in 0..LANES {
            lanes[lane] = a[lane].mul_add(b[lane], lanes[lane]);
        }
    }
    for (lane, (a, b)) in rest_a.iter().zip(rest_b).enumerate() {
        lanes[lane] = a.mul_add(*b, lanes[lane]);
    }
    fold(lanes)
}

/// Sum of the lanes by halving.
#[inline(always)]
pub fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Largest of `values`; negative infinity if there are none.
#[inline(always)]
pub fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = if chunk[lane] > lanes[lane] {
                chunk[lane]
            } else {
                lanes[lane]
            };
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        lanes[lane] = if *value > lanes[lane] {
            *value
        } else {
            lanes[lane]
        };
    }
    lanes
        .into_iter()
        .fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
}

simd! {
    /// `total += part`.
    pub fn add_assign(total: &mut [f32], part: &[f32]) {
        for (t, p) in total.iter_mut().zip(part) {
            *t += p;
        }
    }
}

/// e^x for x <= 0 or moderate x: Cephes' `expf` (Moshier), within 2 units in the last place; 0 below
/// -87.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "coefficients as published")]
pub fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_375;
    const LN2_LOW: f32 = -2.121_944_40e-4;
    let clamped = x.clamp(-87.3, 88.3);
    // Rounding by adding and subtracting 1.5 * 2^23.
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, 12_582_912.0);
    let n = shifted - 12_582_912.0;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let mut p = 1.987_569_150_0e-4f32;
    p = p.mul_add(r, 1.398_199_950_7e-3);
    p = p.mul_add(r, 8.333_451_907_3e-3);
    p = p.mul_add(r, 4.166_579_589_4e-2);
    p = p.mul_add(r, 1.666_666_545_9e-1);
    p = p.mul_add(r, 5.000_000_120_1e-1);
    let value = p.mul_add(r * r, r + 1.0);
    let scale = f32::from_bits(((n as i32 + 127) << 23) as u32);
    let result = value * scale;
    if x < -87.3 { 0.0 } else { result }
}

/// The error function: the rational minimax approximation that Eigen and XLA use, within a few
/// units in the last place.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "coefficients as published")]
pub fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let x2 = x * x;
    let mut p = -2.726_142_258_013_06e-10f32;
    p = p.mul_add(x2, 2.770_681_424_959_02e-8);
    p = p.mul_add(x2, -2.101_024_020_825_08e-6);
    p = p.mul_add(x2, -5.692_506_394_623_46e-5);
    p = p.mul_add(x2, -7.349_906_303_268_55e-4);
    p = p.mul_add(x2, -2.954_599_808_540_25e-3);
    p = p.mul_add(x2, -1.609_603_332_624_15e-2);
    let mut q = -1.456_607_184_649_96e-5f32;
    q = q.mul_add(x2, -2.133_740_552_789_05e-4);
    q = q.mul_add(x2, -1.682_826_974_382_03e-3);
    q = q.mul_add(x2, -7.373_329_167_204_68e-3);
    q = q.mul_add(x2, -1.426_473_905_141_89e-2);
    x * p / q
}

/// Exact GELU at `x`; the same bits as in [`gelu_with_derivative`].
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    let cdf = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
    x * cdf
}

/// Exact GELU and its derivative at `x`.
#[inline(always)]
pub fn gelu_with_derivative(x: f32) -> (f32, f32) {
    const INVERSE_SQRT_2: f32 = std::f32::consts::FRAC_1_SQRT_2;
    const INVERSE_SQRT_2_PI: f32 = 0.398_942_3;
    let cdf = 0.5 * (1.0 + erf(x * INVERSE_SQRT_2));
    let pdf = INVERSE_SQRT_2_PI * exp(-0.5 * x * x);
    (x * cdf, x.mul_add(pdf, cdf))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate() {
        for i in 0..=4000 {
            let x = -80.0 + i as f32 * 0.021;
            let reference = f64::from(x).exp();
            let relative = (f64::from(exp(x)) - reference).abs() / reference;
            assert!(relative < 2.5e-7, "exp({x}): {relative}");
        }
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }

    /// Values of erf from Abramowitz and Stegun, table 7.1.
    #[test]
    fn erf_matches_the_tables() {
        for (x, reference) in [
            (0.0, 0.0),
            (0.1, 0.112_462_916),
            (0.5, 0.520_499_878),
            (1.0, 0.842_700_793),
            (1.5, 0.966_105_146),
            (2.0, 0.995_322_265),
            (3.0, 0.999_977_910),
            (9.0, 1.0),
        ] {
            assert!((f64::from(erf(x)) - reference).abs() < 3e-7, "erf({x})");
            assert_eq!(erf(-x), -erf(x));
        }
    }

    #[test]
    fn gelu_derivative_matches_differences() {
        for i in -60..60 {
            let x = i as f32 * 0.1;
            let (_, derivative) = gelu_with_derivative(x);
            let h = 1e-2;
            let difference =
                (gelu_with_derivative(x + h).0 - gelu_with_derivative(x - h).0) / (2.0 * h);
            assert!((derivative - difference).abs() < 2e-4, "at {x}");
        }
    }

    #[test]
    fn reductions_cover_odd_lengths() {
        for len in 0..70usize {
            let values: Vec<f32> = (0..len).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
            assert_eq!(sum(&values), values.iter().sum::<f32>());
            assert_eq!(
                dot(&values, &values),
                values.iter().map(|v| v * v).sum::<f32>()
            );
            let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&values), largest);
        }
    }
}

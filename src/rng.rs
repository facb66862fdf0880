//! Keyed random numbers.
//!
//! Randomness in `ablate` is keyed, never streamed: a draw is a pure function of
//! (seed, purpose, epoch, index, draw number). Results therefore do not depend on the number of
//! loader threads, on the order in which samples are prepared, or on where a run was interrupted.
//!
//! The generator is Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3",
//! SC 2011): a counter-based generator whose 128-bit counter and 64-bit key are filled from the key
//! of the draw.

/// What a stream of numbers is for. The discriminants are part of the trainer's semantics: changing
/// one changes results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Initial weights; index = position of the parameter in the model.
    Init = 1,
    /// Order of the training samples in an epoch.
    Order = 2,
    /// Augmentation of one sample; index = position of the sample in the epoch's order.
    Augment = 3,
    /// Mixup/CutMix draws; index = step of the epoch x groups + group.
    Mix = 4,
    /// Stochastic depth masks; index = step of the epoch.
    DropPath = 5,
    /// Statistics (bootstrap, permutation).
    Statistics = 6,
    /// Tests and benchmarks.
    Test = 7,
    /// Random erasing noise of one sample; index as for `Augment`.
    Erase = 8,
}

/// A stream of random numbers under one key.
#[derive(Debug, Clone)]
pub struct KeyedRng {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl KeyedRng {
    /// The stream of (`seed`, `purpose`, `epoch`, `index`). Up to 2^32 blocks of four 32-bit numbers.
    pub fn new(seed: u64, purpose: Purpose, epoch: u32, index: u64) -> Self {
        // The purpose takes the top byte of the 64-bit index word: indices stay below 2^56.
        let index = index | ((purpose as u64) << 56);
        KeyedRng {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, epoch, index as u32, (index >> 32) as u32],
            block: [0; 4],
            used: 4,
        }
    }

    /// Next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | (u64::from(self.next_u32()) << 32)
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [low, high).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform integer in [0, n), without bias. `n` must be positive.
    pub fn below(&mut self, n: u64) -> u64 {
        debug_assert!(n > 0);
        // Lemire's method with rejection.
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Standard normal (Box-Muller, cosine branch: two uniforms a draw).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Beta(a, b) by the ratio of gamma draws.
    pub fn beta(&mut self, a: f64, b: f64) -> f64 {
        let x = self.gamma(a);
        let y = self.gamma(b);
        if x + y == 0.0 { 0.5 } else { x / (x + y) }
    }

    /// Gamma(shape, 1): Marsaglia and Tsang (2000), boosted for shapes below one.
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = (1.0 - self.unit()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v <= 0.0 {
                continue;
            }
            let u = 1.0 - self.unit();
            if u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Shuffles in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key[0] = key[0].wrapping_add(0x9E37_79B9);
        key[1] = key[1].wrapping_add(0xBB67_AE85);
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the authors' Random123 distribution (kat_vectors, philox4x32 10 rounds).
    #[test]
    fn philox_known_answers() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn moments() {
        let mut rng = KeyedRng::new(3, Purpose::Test, 0, 0);
        let n = 200_000;
        let mean = |f: &mut dyn FnMut() -> f64| (0..n).map(|_| f()).sum::<f64>() / n as f64;
        assert!((mean(&mut || rng.unit()) - 0.5).abs() < 0.005);
        assert!(mean(&mut || rng.normal()).abs() < 0.02);
        assert!((mean(&mut || rng.normal().powi(2)) - 1.0).abs() < 0.02);
        assert!((mean(&mut || rng.beta(0.8, 0.8)) - 0.5).abs() < 0.01);
        // Var Beta(a, a) = 1 / (4 (2a + 1))
        let variance = mean(&mut || (rng.beta(0.8, 0.8) - 0.5).powi(2));
        assert!((variance - 1.0 / (4.0 * 2.6)).abs() < 0.002);
    }

    #[test]
    fn keys_separate_streams() {
        let first =
            |seed, purpose, epoch, index| KeyedRng::new(seed, purpose, epoch, index).next_u64();
        let base = first(0, Purpose::Augment, 0, 0);
        assert_ne!(base, first(1, Purpose::Augment, 0, 0));
        assert_ne!(base, first(0, Purpose::Mix, 0, 0));
        assert_ne!(base, first(0, Purpose::Augment, 1, 0));
        assert_ne!(base, first(0, Purpose::Augment, 0, 1));
        assert_eq!(base, first(0, Purpose::Augment, 0, 0));
    }
}

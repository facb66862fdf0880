//! Which images a run has right, one bit each: 50,000 images are 6.25 kB.

/// The images that a run has right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitset {
    length: usize,
    words: Vec<u64>,
}

impl Bitset {
    /// From one flag per image.
    pub fn new(right: impl IntoIterator<Item = bool>) -> Self {
        let mut bits = Bitset {
            length: 0,
            words: Vec::new(),
        };
        for right in right {
            if bits.length.is_multiple_of(64) {
                bits.words.push(0);
            }
            if right && let Some(word) = bits.words.last_mut() {
                *word |= 1 << (bits.length % 64);
            }
            bits.length += 1;
        }
        bits
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether image `index` is right.
    pub fn get(&self, index: usize) -> bool {
        self.words[index / 64] >> (index % 64) & 1 == 1
    }

    /// Number of images that are right.
    pub fn count(&self) -> u64 {
        self.words
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    /// Number of images that only this run has right, not the other.
    pub fn only(&self, other: &Bitset) -> u64 {
        self.words
            .iter()
            .zip(&other.words)
            .map(|(ours, theirs)| u64::from((ours & !theirs).count_ones()))
            .sum()
    }
}

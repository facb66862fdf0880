//! Tolerances that a manifest words.

use ablate::data::Rgb8;

/// Numbers in `text`, in order; what stands in parentheses is left out.
pub fn numbers(text: &str) -> Vec<f64> {
    let mut depth = 0usize;
    let plain: String = text
        .chars()
        .map(|c| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ if depth == 0 => return c,
                _ => {}
            }
            ' '
        })
        .collect();
    plain
        .split(|c: char| !(c.is_ascii_digit() || "+-.e".contains(c)))
        .filter(|word| word.contains(|c: char| c.is_ascii_digit()))
        .filter_map(|word| word.trim_end_matches('.').parse().ok())
        .collect()
}

/// How far an image is from the expected bytes.
#[derive(Debug, Clone, Copy)]
pub struct Deviation {
    pub max: u8,
    pub mean: f64,
    /// Histogram of the differences.
    counts: [usize; 256],
    total: usize,
}

impl Deviation {
    pub fn between(ours: &Rgb8, reference: &Rgb8) -> Deviation {
        assert_eq!(
            (ours.width(), ours.height()),
            (reference.width(), reference.height()),
            "size"
        );
        let mut counts = [0usize; 256];
        for (a, b) in ours.data().iter().zip(reference.data()) {
            counts[usize::from(a.abs_diff(*b))] += 1;
        }
        let total = ours.data().len();
        let sum: usize = counts.iter().enumerate().map(|(d, n)| d * n).sum();
        Deviation {
            max: counts.iter().rposition(|n| *n > 0).unwrap_or(0) as u8,
            mean: sum as f64 / total as f64,
            counts,
            total,
        }
    }

    /// Fraction of bytes that differ by more than `bound`.
    fn beyond(&self, bound: usize) -> f64 {
        let beyond: usize = self.counts[(bound + 1).min(256)..].iter().sum();
        beyond as f64 / self.total as f64
    }

    /// Measured values and bounds of each clause of `tolerance`.
    ///
    /// # Panics
    /// If it has a clause of another form.
    pub fn clauses(&self, tolerance: &str) -> Vec<(String, f64, f64)> {
        let end = tolerance.find('(').unwrap_or(tolerance.len());
        let parse = |clause: &str| {
            let clause = clause.trim();
            let value = numbers(clause);
            let has = |part: &str| clause.contains(part);
            let result = if clause == "every byte equal" {
                ("max difference", f64::from(self.max), 0.0)
            } else if has("max difference") && has("% of bytes") && value.len() == 2 {
                let measured = self.beyond(value[0] as usize);
                ("bytes beyond", measured, 1.0 - value[1] / 100.0)
            } else if has("max difference") && value.len() == 1 {
                ("max difference", f64::from(self.max), value[0])
            } else if has("at least") && has("% of bytes equal") && value.len() == 1 {
                ("bytes unequal", self.beyond(0), 1.0 - value[0] / 100.0)
            } else if has("mean") && has("below") && value.len() == 1 {
                ("mean difference", self.mean, value[0])
            } else {
                panic!("unknown tolerance {clause:?}")
            };
            (result.0.to_owned(), result.1, result.2)
        };
        tolerance[..end].split(',').map(parse).collect()
    }
}

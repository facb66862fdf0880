//! Two arms and the seeds that both have.

/// The values of two arms, each a list of (seed, value), as they are compared: seed by seed where enough
/// seeds are shared, else each arm for itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairing {
    /// By seed. Where paired, `ours[i]` and `theirs[i]` have the same seed.
    pub ours: Vec<f64>,
    pub theirs: Vec<f64>,
    pub paired: bool,
    /// The seeds of the pairs, ascending; empty where there are none.
    pub seeds: Vec<u64>,
    /// Seeds that finished in one arm only and are left out of the pairs, ascending.
    pub left_out: Vec<u64>,
}

impl Pairing {
    /// Pairs the arms over the seeds that both have, if these are two and at least half of the smaller arm, or
    /// if without them nothing could be said of the spread; else both arms are as they are. A seed that is
    /// missing in one arm takes its partner with it: the difference is then one of equal seeds, and not also
    /// one of lucky and unlucky ones.
    pub fn of(ours: &[(u64, f64)], theirs: &[(u64, f64)]) -> Self {
        let (ours, theirs) = (by_seed(ours), by_seed(theirs));
        let shared: Vec<(u64, (f64, f64))> = ours
            .iter()
            .filter_map(|(seed, value)| {
                let at = theirs.binary_search_by_key(seed, |(seed, _)| *seed).ok()?;
                Some((*seed, (*value, theirs[at].1)))
            })
            .collect();
        let smaller = ours.len().min(theirs.len());
        let paired = match shared.len() {
            0 => false,
            1 => smaller < 2,
            pairs => 2 * pairs >= smaller,
        };
        if !paired {
            let values = |arm: Vec<(u64, f64)>| arm.into_iter().map(|(_, value)| value).collect();
            return Pairing {
                ours: values(ours),
                theirs: values(theirs),
                paired: false,
                seeds: Vec::new(),
                left_out: Vec::new(),
            };
        }
        let has = |arm: &[(u64, f64)], seed: u64| {
            arm.binary_search_by_key(&seed, |(seed, _)| *seed).is_ok()
        };
        let alone = |arm: &[(u64, f64)], other: &[(u64, f64)]| -> Vec<u64> {
            let seeds = arm.iter().map(|(seed, _)| *seed);
            seeds.filter(|seed| !has(other, *seed)).collect()
        };
        let mut left_out = alone(&ours, &theirs);
        left_out.extend(alone(&theirs, &ours));
        left_out.sort_unstable();
        let (seeds, values): (Vec<u64>, Vec<(f64, f64)>) = shared.into_iter().unzip();
        let (ours, theirs) = values.into_iter().unzip();
        Pairing {
            ours,
            theirs,
            paired: true,
            seeds,
            left_out,
        }
    }

    /// Whether neither arm varies at all: runs that don't depend on their seed are no sample.
    pub fn is_constant(&self) -> bool {
        let still = |values: &[f64]| {
            values
                .iter()
                .all(|value| negligible(value - values[0], values[0]))
        };
        (self.ours.len() > 1 || self.theirs.len() > 1) && still(&self.ours) && still(&self.theirs)
    }
}

/// Whether a spread is nothing but rounding of numbers of this size.
pub(super) fn negligible(spread: f64, size: f64) -> bool {
    spread.abs() <= 1e-9 * size.abs()
}

/// The seeds that all arms have, ascending.
pub fn common_seeds<'a>(arms: impl IntoIterator<Item = &'a [(u64, f64)]>) -> Vec<u64> {
    let mut arms = arms.into_iter();
    let mut common: Vec<u64> = arms
        .next()
        .map(|arm| by_seed(arm).into_iter().map(|(seed, _)| seed).collect())
        .unwrap_or_default();
    for arm in arms {
        let known: std::collections::HashSet<u64> = arm.iter().map(|(seed, _)| *seed).collect();
        common.retain(|seed| known.contains(seed));
    }
    common
}

fn by_seed(arm: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let mut arm = arm.to_vec();
    arm.sort_by_key(|(seed, _)| *seed);
    arm.dedup_by_key(|(seed, _)| *seed);
    arm
}

//! Draws of random parameters against their laws. Seeds are fixed: a draw is the same every time.

use crate::data::random_erasing;
use crate::data::simple_random_crop::SimpleRandomCrop;
use crate::rng::{KeyedRng, Purpose};

pub(super) const DRAWS: u64 = 50_000;

pub(super) fn rng(index: u64) -> KeyedRng {
    KeyedRng::new(11, Purpose::Test, 0, index)
}

/// Frequency within 5 standard errors of one that comes from `reference_draws` draws.
pub(super) fn assert_frequency(
    what: &str,
    count: usize,
    of: u64,
    expected: f64,
    reference_draws: f64,
) {
    let got = count as f64 / of as f64;
    let spread = expected * (1.0 - expected) * (1.0 / reference_draws + 1.0 / of as f64);
    assert!(
        (got - expected).abs() <= 5.0 * spread.sqrt() + 1e-4,
        "{what}: {got}, {expected}"
    );
}

#[test]
fn simple_random_crops_are_uniform_over_all_corners() {
    let crop = SimpleRandomCrop {
        size: 20,
        padding: 4,
    };
    // 40 x 27 becomes 29 x 20: free are 29 + 8 - 20 columns and 8 rows, both ends included.
    let mut tops = [0usize; 9];
    let mut lefts = [0usize; 18];
    for i in 0..DRAWS {
        let corner = crop.draw(40, 27, &mut rng(i));
        tops[corner.top] += 1;
        lefts[corner.left] += 1;
    }
    for count in tops {
        assert_frequency("top", count, DRAWS, 1.0 / 9.0, 1e12);
    }
    for count in lefts {
        assert_frequency("left", count, DRAWS, 1.0 / 18.0, 1e12);
    }
}

#[test]
fn random_erasing_boxes() {
    let mut boxes = 0;
    for i in 0..DRAWS {
        if let Some(rect) = random_erasing::draw(0.25, 64, 48, &mut rng(i)) {
            boxes += 1;
            assert!(rect.width < 64 && rect.height < 48);
            assert!(rect.left + rect.width <= 64 && rect.top + rect.height <= 48);
            let area = (rect.width * rect.height) as f64 / (64.0 * 48.0);
            assert!((0.015..0.345).contains(&area), "{rect:?}");
        }
    }
    assert_frequency("erased", boxes, DRAWS, 0.25, 1e12);
    // A box of the only pixel would not be smaller than the image; an empty one is.
    for i in 0..100 {
        let rect = random_erasing::draw(1.0, 1, 1, &mut rng(i));
        assert!(rect.is_none_or(|rect| rect.width * rect.height == 0));
    }
}

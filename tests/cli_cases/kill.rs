//! SIGKILL at random moments, of schedulers, workers and both, until the experiment is done: the same store as
//! without.
//!
//! The rounds themselves and the comparison, row by row and byte by byte, are `ablate bench soak`, so that
//! a longer one is a command; here some dozens of kills, and that the comparison can fail.

use crate::lab::Lab;

#[test]
fn kills_at_random_moments_change_nothing() {
    let lab = Lab::new();
    let soak = lab
        .ablate("bench soak --kills 24 --seed 3 --format json", &[])
        .expect(0)
        .json();
    assert!(soak["kills"].as_u64() >= Some(24), "{soak}");
    assert_eq!(soak["stages_per_round"], 6);
    for what in ["of_schedulers", "of_workers", "of_both", "resumed"] {
        assert!(soak[what].as_u64() > Some(0), "{what}: {soak}");
    }
    assert_eq!(lab.list("ablate-soak-broken"), Vec::<String>::new());
}

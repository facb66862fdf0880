//! Many comparisons: Holm's step-down procedure.

/// The p values adjusted for their number, in the order given (Holm 1979): whatever the dependence between
/// the tests, those below 0.05 are all right with a probability of at least 0.95. `planned` comparisons were to be
/// made; those that can't be made yet count as if they would show nothing, so that the correction doesn't grow as
/// runs finish.
pub fn holm(p: &[f64], planned: usize) -> Vec<f64> {
    let count = planned.max(p.len());
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut largest = 0.0f64;
    for (rank, &index) in order.iter().enumerate() {
        largest = largest.max(((count - rank) as f64 * p[index]).min(1.0));
        adjusted[index] = largest;
    }
    adjusted
}

//! The order of the stages that are ready.

use super::model::{Prior, Stage};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// What a stage's turn depends on: higher priority first, then the longest remaining path, then the order
/// of the plan.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rank {
    priority: i32,
    path: f64,
    stage: usize,
}

impl Eq for Rank {}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        self.priority
            .cmp(&other.priority)
            .then(self.path.total_cmp(&other.path))
            .then(Reverse(self.stage).cmp(&Reverse(other.stage)))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Stages that are ready, each once, the next one first.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    ready: BinaryHeap<Rank>,
    ranks: Vec<Rank>,
    /// Own expected work.
    flops: Vec<f64>,
}

impl Queue {
    /// An empty queue for `stages`.
    pub fn new(stages: &[Stage]) -> Queue {
        Queue {
            ready: BinaryHeap::new(),
            ranks: ranks(stages),
            flops: stages.iter().map(work).collect(),
        }
    }

    pub fn push(&mut self, stage: usize) {
        self.ready.push(self.ranks[stage]);
    }

    /// The next stage.
    pub fn peek(&self) -> Option<usize> {
        self.ready.peek().map(|rank| rank.stage)
    }

    /// Takes `stage` out; fast if it is the next one.
    pub fn take(&mut self, stage: usize) {
        match self.ready.peek() {
            Some(next) if next.stage == stage => {
                self.ready.pop();
            }
            _ => self.retain(|other| other != stage),
        }
    }

    /// Takes out what `keep` doesn't want. Slow: for the rare cases.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        self.ready.retain(|rank| keep(rank.stage));
    }

    /// Whether `stage` comes before `other` where both are ready.
    pub fn is_before(&self, stage: usize, other: usize) -> bool {
        self.ranks[stage] > self.ranks[other]
    }

    /// The cheapest stage of the highest priority.
    pub fn cheapest(&self) -> Option<usize> {
        let key = |rank: &Rank| (Reverse(rank.priority), self.flops[rank.stage], rank.stage);
        self.ready
            .iter()
            .min_by(|a, b| {
                let (a, b) = (key(a), key(b));
                a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2))
            })
            .map(|rank| rank.stage)
    }
}

/// Work that is still to be done; what isn't finite counts as none.
fn work(stage: &Stage) -> f64 {
    if stage.flops.is_finite() && stage.prior == Prior::Pending {
        stage.flops.max(0.0)
    } else {
        0.0
    }
}

/// Work from each stage to the end of its longest descent, itself included, and the highest priority there:
/// whatever an urgent stage waits for is urgent. Stages that are done weigh nothing.
fn ranks(stages: &[Stage]) -> Vec<Rank> {
    let mut ranks: Vec<Rank> = (0..stages.len())
        .map(|stage| Rank {
            priority: i32::MIN,
            path: 0.0,
            stage,
        })
        .collect();
    let mut open_children = vec![0usize; stages.len()];
    for parent in stages.iter().filter_map(|stage| stage.parent) {
        open_children[parent] += 1;
    }
    // From the leaves up, each stage once all its children are known.
    let mut leaves: Vec<usize> = (0..stages.len())
        .filter(|&stage| open_children[stage] == 0)
        .collect();
    while let Some(stage) = leaves.pop() {
        ranks[stage].path += work(&stages[stage]);
        if stages[stage].prior == Prior::Pending {
            ranks[stage].priority = ranks[stage].priority.max(stages[stage].priority);
        }
        if let Some(parent) = stages[stage].parent {
            ranks[parent].path = ranks[parent].path.max(ranks[stage].path);
            ranks[parent].priority = ranks[parent].priority.max(ranks[stage].priority);
            open_children[parent] -= 1;
            if open_children[parent] == 0 {
                leaves.push(parent);
            }
        }
    }
    ranks
}

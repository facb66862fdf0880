//! Losses on logits and soft targets.

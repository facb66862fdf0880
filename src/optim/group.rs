//! Which parameters decay.
//!
//! The reference's rule (timm's `param_groups_weight_decay` with `no_weight_decay`): no decay for
//! 1-D tensors (biases, norms, LayerScale), names ending in `.bias`, `pos_embed` and `cls_token`.
//!
//! Trap: with LAMB the same rule decides where the trust ratio applies, so a weight decay of 0 turns
//! it off everywhere and leaves Adam with clipping.

/// A parameter's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Decay,
    NoDecay,
}

impl Group {
    /// The group of the parameter `name` of shape `shape`.
    pub fn of(name: &str, shape: &[usize]) -> Self {
        let exempt = shape.len() <= 1
            || name.ends_with(".bias")
            || name == "pos_embed"
            || name == "cls_token";
        if exempt { Group::NoDecay } else { Group::Decay }
    }

    /// The weight decay in this group.
    pub fn weight_decay(self, weight_decay: f64) -> f64 {
        match self {
            Group::Decay => weight_decay,
            Group::NoDecay => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_rule() {
        for (name, shape, group) in [
            ("blocks.0.attn.qkv.weight", &[192, 64][..], Group::Decay),
            ("patch_embed.proj.weight", &[64, 3, 16, 16], Group::Decay),
            ("head.weight", &[10, 64], Group::Decay),
            ("head.bias", &[10], Group::NoDecay),
            ("blocks.0.gamma_1", &[64], Group::NoDecay),
            ("norm.weight", &[64], Group::NoDecay),
            ("pos_embed", &[1, 4, 64], Group::NoDecay),
            ("cls_token", &[1, 1, 64], Group::NoDecay),
        ] {
            assert_eq!(Group::of(name, shape), group, "{name}");
        }
    }
}

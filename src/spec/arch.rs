//! `model.arch`: names of Vision Transformers as shorthand for five fields of `model`.
//!
//! Sizes are those of the reference (facebookresearch/deit, models_v2.py), whose names are
//! understood too (`deit_small_patch16_LS`), and a few small ones for CPUs.

/// The fields that `model.arch` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arch {
    pub patch_size: i64,
    pub embed_dim: i64,
    pub depth: i64,
    pub num_heads: i64,
    pub parallel_branches: i64,
}

/// Name, width, depth, heads.
const SIZES: &[(&str, i64, i64, i64)] = &[
    ("nano", 48, 3, 3),
    ("micro", 64, 4, 2),
    ("mini", 128, 6, 4),
    ("tiny", 192, 12, 3),
    ("small", 384, 12, 6),
    ("medium", 512, 12, 8),
    ("base", 768, 12, 12),
    ("large", 1024, 24, 16),
    ("huge", 1280, 32, 16),
    ("giant", 1408, 40, 16),
    ("Giant", 1664, 48, 16),
];

/// Names to offer: any patch size may follow `patch`, and a depth (`_36`) or depth and branches
/// (`_18x2`) may follow that.
pub const NAMES: &[&str] = &[
    "vit_nano_patch8",
    "vit_micro_patch8",
    "vit_mini_patch8",
    "vit_tiny_patch16",
    "vit_small_patch16",
    "vit_small_patch16_36",
    "vit_small_patch16_18x2",
    "vit_medium_patch16",
    "vit_base_patch16",
    "vit_base_patch16_36x1",
    "vit_base_patch16_18x2",
    "vit_large_patch16",
    "vit_huge_patch14",
    "vit_huge_patch14_52",
    "vit_huge_patch14_26x2",
    "vit_giant_patch14",
    "vit_Giant_patch14",
];

/// The fields behind a name; the error says why there are none.
pub fn expand(name: &str) -> Result<Arch, String> {
    let unknown = || match super::problem::nearest(name, NAMES.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => {
            "names look like `vit_small_patch16`; or set patch_size, embed_dim, depth and num_heads"
                .to_owned()
        }
    };
    let body = name
        .strip_prefix("vit_")
        .or_else(|| name.strip_prefix("deit_"))
        .ok_or_else(unknown)?;
    let body = body.strip_suffix("_LS").unwrap_or(body);
    let mut parts = body.split('_');
    let size = parts.next().unwrap_or_default();
    let &(_, embed_dim, depth, num_heads) = SIZES
        .iter()
        .find(|(known, ..)| *known == size)
        .ok_or_else(unknown)?;
    let mut arch = Arch {
        patch_size: 0,
        embed_dim,
        depth,
        num_heads,
        parallel_branches: 1,
    };
    for part in parts {
        if let Some(patch) = part.strip_prefix("patch") {
            if arch.patch_size != 0 {
                return Err(unknown());
            }
            arch.patch_size = patch
                .parse()
                .ok()
                .filter(|p| (1..=256).contains(p))
                .ok_or_else(unknown)?;
            continue;
        }
        let (depth, branches) = part.split_once('x').unwrap_or((part, "1"));
        arch.depth = depth
            .parse()
            .ok()
            .filter(|d| (1..=512).contains(d))
            .ok_or_else(unknown)?;
        arch.parallel_branches = branches
            .parse()
            .ok()
            .filter(|b| (1..=8).contains(b))
            .ok_or_else(unknown)?;
        if arch.depth >= 96 && !part.contains('x') {
            return Err("an architecture has no image size; set `train.resolution`".to_owned());
        }
    }
    if arch.patch_size == 0 {
        return Err(unknown());
    }
    Ok(arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offered_names_and_names_of_the_reference_expand() {
        for name in NAMES {
            expand(name).unwrap();
        }
        let small = Arch {
            patch_size: 16,
            embed_dim: 384,
            depth: 12,
            num_heads: 6,
            parallel_branches: 1,
        };
        assert_eq!(expand("deit_small_patch16_LS"), Ok(small));
        assert_eq!(
            expand("deit_small_patch16_18x2_LS"),
            Ok(Arch {
                depth: 18,
                parallel_branches: 2,
                ..small
            })
        );
        assert_eq!(
            expand("deit_giant_40_patch14_LS"),
            expand("vit_giant_patch14")
        );
        assert_eq!(
            expand("vit_small_patch16_36").map(|arch| arch.depth),
            Ok(36)
        );
    }

    #[test]
    fn unknown_names_get_advice() {
        assert_eq!(
            expand("vit_smal_patch16"),
            Err("did you mean `vit_small_patch16`?".to_owned())
        );
        assert!(
            expand("vit_small_patch16_224")
                .unwrap_err()
                .contains("train.resolution")
        );
        assert!(expand("resnet50").is_err());
        assert!(expand("vit_small").is_err());
        assert!(expand("vit_small_patch0").is_err());
        assert!(expand("vit_small_patch99999999999999999999").is_err());
    }
}

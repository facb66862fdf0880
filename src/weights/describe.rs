//! What a model is, seen from the shapes of its parameters.

use crate::model::Architecture;
use crate::model::weights::WeightsError;
use crate::spec::recipe::DropPathRule;
use std::collections::{BTreeSet, HashMap};

/// An architecture as far as shapes tell it.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    pub patch_size: usize,
    pub channels: usize,
    pub embed_dim: usize,
    pub depth: usize,
    pub mlp_hidden: usize,
    pub parallel_branches: usize,
    pub layer_scale: bool,
    /// Whether the position embedding has a place for the class token.
    pub pos_embed_class: bool,
    /// Patches along one side.
    pub grid: usize,
    pub classes: usize,
    pub parameters: u64,
}

/// Widths whose heads are not 64 wide: (width, heads).
const WIDE_HEADS: [(usize, usize); 3] = [(1280, 16), (1408, 16), (1664, 16)];

/// Sizes of the reference: name, width, depth.
const SIZES: [(&str, usize, usize); 8] = [
    ("Ti", 192, 12),
    ("S", 384, 12),
    ("M", 512, 12),
    ("B", 768, 12),
    ("L", 1024, 24),
    ("H", 1280, 32),
    ("g", 1408, 40),
    ("G", 1664, 48),
];

impl Description {
    /// Reads shapes under official names.
    ///
    /// # Errors
    /// Names what is missing, what no Vision Transformer of the reference has, and the first shape
    /// that doesn't go with the others.
    pub fn of<'a>(
        shapes: impl Iterator<Item = (&'a str, &'a [usize])>,
    ) -> Result<Description, WeightsError> {
        let found: HashMap<&str, &[usize]> = shapes.collect();
        let get = |name: &str| {
            found
                .get(name)
                .copied()
                .ok_or_else(|| WeightsError::Missing {
                    names: name.to_owned(),
                })
        };
        let wrong = |name: &str, expected: Vec<usize>| WeightsError::Shape {
            name: name.to_owned(),
            found: found
                .get(name)
                .map(|shape| shape.to_vec())
                .unwrap_or_default(),
            expected,
        };
        let proj = "patch_embed.proj.weight";
        let &[embed_dim, channels, patch_size, _] = get(proj)? else {
            return Err(wrong(proj, vec![768, 3, 16, 16]));
        };
        if embed_dim == 0 || channels == 0 || patch_size == 0 {
            return Err(wrong(proj, vec![768, 3, 16, 16]));
        }
        let fc1 = "blocks.0.mlp.fc1.weight";
        let &[mlp_hidden, _] = get(fc1)? else {
            return Err(wrong(fc1, vec![4 * embed_dim, embed_dim]));
        };
        let &[classes, _] = get("head.weight")? else {
            return Err(wrong("head.weight", vec![1000, embed_dim]));
        };
        let &[_, positions, _] = get("pos_embed")? else {
            return Err(wrong("pos_embed", vec![1, 196, embed_dim]));
        };
        let square = |n: usize| Some(n.isqrt()).filter(|side| side * side == n && n > 0);
        let (grid, pos_embed_class) = match (square(positions), square(positions.saturating_sub(1)))
        {
            (Some(side), _) => (side, false),
            (None, Some(side)) => (side, true),
            (None, None) => {
                let side = positions.isqrt();
                return Err(wrong("pos_embed", vec![1, side * side, embed_dim]));
            }
        };
        let blocks: BTreeSet<usize> = found
            .keys()
            .filter_map(|name| {
                name.strip_prefix("blocks.")?
                    .split_once('.')?
                    .0
                    .parse()
                    .ok()
            })
            .collect();
        let mut description = Description {
            patch_size,
            channels,
            embed_dim,
            // A gap in the numbers ends the depth; what lies behind it is then too much.
            depth: (0..).take_while(|index| blocks.contains(index)).count(),
            mlp_hidden,
            parallel_branches: (1..)
                .take_while(|number| {
                    found.contains_key(format!("blocks.0.attn{number}.qkv.weight").as_str())
                })
                .count()
                + 1,
            layer_scale: found.contains_key("blocks.0.gamma_1"),
            pos_embed_class,
            grid,
            classes,
            parameters: 0,
        };
        if description
            .depth
            .saturating_mul(description.parallel_branches)
            > found.len()
        {
            // Such a list would be far longer than the file.
            let what = format!("most of blocks.0 to blocks.{}", description.depth - 1);
            return Err(WeightsError::missing(vec![what]));
        }
        let expected = description.shapes();
        let missing: Vec<String> = expected
            .iter()
            .filter(|(name, _)| !found.contains_key(name.as_str()))
            .map(|(name, _)| name.clone())
            .collect();
        if !missing.is_empty() {
            return Err(WeightsError::missing(missing));
        }
        if found.len() > expected.len() {
            let known: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
            let extra = found.keys().filter(|name| !known.contains(*name));
            return Err(WeightsError::extra(
                extra.map(|name| (*name).to_owned()).collect(),
            ));
        }
        for (name, shape) in &expected {
            if found.get(name.as_str()).is_none_or(|found| found != shape) {
                return Err(wrong(name, shape.clone()));
            }
        }
        // Shapes that agree with tensors in a file don't overflow.
        description.parameters = expected
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>() as u64)
            .sum();
        Ok(description)
    }

    /// Names and shapes of all parameters, in the order of the reference's state dict.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (dim, hidden) = (self.embed_dim, self.mlp_hidden);
        let positions = self
            .grid
            .saturating_mul(self.grid)
            .saturating_add(usize::from(self.pos_embed_class));
        let mut list = vec![
            ("cls_token".to_owned(), vec![1, 1, dim]),
            ("pos_embed".to_owned(), vec![1, positions, dim]),
            (
                "patch_embed.proj.weight".to_owned(),
                vec![dim, self.channels, self.patch_size, self.patch_size],
            ),
            ("patch_embed.proj.bias".to_owned(), vec![dim]),
        ];
        for block in 0..self.depth {
            for (place, inner) in [(1, "attn"), (2, "mlp")] {
                for branch in 0..self.parallel_branches {
                    let (number, gamma) = match branch {
                        0 => (String::new(), String::new()),
                        _ => (branch.to_string(), format!("_{branch}")),
                    };
                    let mut add = |name: String, shape: Vec<usize>| {
                        list.push((format!("blocks.{block}.{name}"), shape));
                    };
                    add(format!("norm{place}{number}.weight"), vec![dim]);
                    add(format!("norm{place}{number}.bias"), vec![dim]);
                    let layers = match inner {
                        "attn" => [("qkv", dim.saturating_mul(3), dim), ("proj", dim, dim)],
                        _ => [("fc1", hidden, dim), ("fc2", dim, hidden)],
                    };
                    for (layer, outputs, inputs) in layers {
                        let name = format!("{inner}{number}.{layer}");
                        add(format!("{name}.weight"), vec![outputs, inputs]);
                        add(format!("{name}.bias"), vec![outputs]);
                    }
                    if self.layer_scale {
                        add(format!("gamma_{place}{gamma}"), vec![dim]);
                    }
                }
            }
        }
        list.push(("norm.weight".to_owned(), vec![dim]));
        list.push(("norm.bias".to_owned(), vec![dim]));
        list.push(("head.weight".to_owned(), vec![self.classes, dim]));
        list.push(("head.bias".to_owned(), vec![self.classes]));
        list
    }

    /// Number of heads, which no shape tells: 64 channels each, but for the reference's H, g and G.
    /// `None` for a width that this rule can't divide.
    pub fn usual_heads(&self) -> Option<usize> {
        let wide = WIDE_HEADS.iter().find(|(dim, _)| *dim == self.embed_dim);
        match wide {
            Some((_, heads)) => Some(*heads),
            None => self
                .embed_dim
                .is_multiple_of(64)
                .then_some(self.embed_dim / 64),
        }
    }

    /// Side of the images in pixels that the position embedding is for.
    pub fn resolution(&self) -> usize {
        self.grid * self.patch_size
    }

    /// The paper's name: `ViT-S/16`, `ViT-H/14 (26x2)`, or the numbers.
    pub fn title(&self) -> String {
        let size = SIZES.iter().find(|(_, dim, _)| *dim == self.embed_dim);
        let shape = match self.parallel_branches {
            1 => self.depth.to_string(),
            branches => format!("{}x{branches}", self.depth),
        };
        match size {
            Some((name, _, depth)) if *depth == self.depth && self.parallel_branches == 1 => {
                format!("ViT-{name}/{}", self.patch_size)
            }
            Some((name, ..)) => format!("ViT-{name}/{} ({shape} blocks)", self.patch_size),
            None => format!(
                "ViT, width {}, {shape} blocks, patches of {}",
                self.embed_dim, self.patch_size
            ),
        }
    }

    /// The architecture with `num_heads` heads, at the resolution of the position embedding.
    pub fn architecture(&self, num_heads: usize) -> Architecture {
        let mut mlp_ratio = self.mlp_hidden as f64 / self.embed_dim as f64;
        if (self.embed_dim as f64 * mlp_ratio) as usize != self.mlp_hidden {
            mlp_ratio = (self.mlp_hidden as f64 + 0.5) / self.embed_dim as f64;
        }
        Architecture {
            resolution: self.resolution(),
            channels: self.channels,
            patch_size: self.patch_size,
            embed_dim: self.embed_dim,
            depth: self.depth,
            num_heads,
            mlp_ratio,
            parallel_branches: self.parallel_branches,
            // Only whether there is one matters to weights that are loaded.
            layer_scale: self.layer_scale.then_some(1e-4),
            drop_path: 0.0,
            drop_path_rule: DropPathRule::Constant,
            pos_embed_class: self.pos_embed_class,
            classes: self.classes,
        }
    }
}

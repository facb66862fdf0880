//! Whether weights fit a recipe's model, told from a file's shapes before anything is started.
//!
//! What may differ: the grid of the position embedding, which is interpolated, and the number of
//! classes of a stage that trains, whose head is then initialised anew. The number of heads leaves no
//! trace in shapes.

use super::Description;
use crate::spec::recipe::ModelConfig;

impl Description {
    /// In what these weights can't be those of `model`, each as `field is A in the file and B in the
    /// stage`; empty: they fit.
    pub fn misfits(&self, model: &ModelConfig) -> Vec<String> {
        let hidden = (model.embed_dim as f64 * model.mlp_ratio) as usize;
        let numbers = [
            ("model.patch_size", self.patch_size, model.patch_size),
            ("model.embed_dim", self.embed_dim, model.embed_dim),
            ("model.depth", self.depth, model.depth),
            ("the width of the MLPs", self.mlp_hidden, hidden),
            (
                "model.parallel_branches",
                self.parallel_branches,
                model.parallel_branches,
            ),
        ];
        let mut misfits: Vec<String> = numbers
            .into_iter()
            .filter(|(_, file, stage)| file != stage)
            .map(|(field, file, stage)| {
                format!("{field} is {file} in the file and {stage} in the stage")
            })
            .collect();
        let switches = [
            ("LayerScale", self.layer_scale, model.layer_scale.is_some()),
            (
                "a position of the class token",
                self.pos_embed_class,
                model.pos_embed_class,
            ),
        ];
        let has = |has: bool| if has { "has" } else { "lacks" };
        for (what, file, stage) in switches {
            if file != stage {
                misfits.push(format!(
                    "the file {} {what} and the stage {} it",
                    has(file),
                    has(stage)
                ));
            }
        }
        misfits
    }
}

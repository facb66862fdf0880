//! The Vision Transformer, piece by piece.
//!
//! Parameters carry the official names of the DeiT III reference (`blocks.0.attn.qkv.weight`,
//! `blocks.0.gamma_1`) and PyTorch's layouts (linear weights `[out, in]`).

pub mod attention;
pub mod block;
pub mod drop_path;
pub mod init;
pub mod layer_norm;
pub mod linear;
pub mod mlp;
pub mod parameter;
pub mod patch_embed;
pub mod pos_embed;
pub mod vit;
pub mod weights;

pub use drop_path::DropPathMasks;
pub use vit::{Architecture, VisionTransformer};

#[cfg(test)]
mod tests;

//! Weights in files: published ones in, ours out.
//!
//! Reads files of `torch.save` and safetensors with the reference's names or timm's, and writes
//! safetensors that both understand. A file comes from anywhere: nothing in it is run, and no memory
//! is taken because a header asks for it.

mod describe;
mod dtype;
mod error;
mod fault;
mod fit;
mod names;
mod pickle;
mod read;
mod safetensors_file;
mod torch;
mod write;

pub use describe::Description;
pub use dtype::Dtype;
pub use error::WeightsFileError;
pub use names::{Naming, naming, official, timm};
pub use read::{Format, Weights, read};
pub use write::{digest, export, replace_with, write_atomically};

//! Tests of the data room on whole data sets, loaders and made-up images. Its agreement with PyTorch,
//! torchvision, timm and Pillow is tested in `tests/parity.rs`.

mod datasets;
mod evaluation_sets;
mod loading;
mod mixing;
mod policies;
mod sampling;
mod statistics;
mod transforms;

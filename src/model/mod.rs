//! The Vision Transformer, piece by piece.

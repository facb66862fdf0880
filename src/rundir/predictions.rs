//! `predictions.bin`: what the final evaluation said of every image.
//!
//! Layout, little-endian: the eight bytes `ABLPRED1`; u32 number of images; then per image, in the
//! order of the data set, u32 label, u32 class with the largest logit, u32 rank of the label (0: top-1
//! correct, 4: within top-5), f32 cross-entropy; last, the BLAKE3 of all before it (32 bytes).

use std::path::Path;

const MAGIC: &[u8; 8] = b"ABLPRED1";

/// What the model said of one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    pub label: u32,
    pub class: u32,
    /// Number of classes with a larger logit than the label's.
    pub rank: u32,
    pub loss: f32,
}

/// Why a predictions file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PredictionsError {
    #[error("can't read {path}: {source}")]
    Io {
        path: String,
        source: std::io::Error,
    },
    #[error("{path} is damaged: {what}")]
    Damaged { path: String, what: &'static str },
}

/// The file's bytes for `predictions`.
pub fn encode(predictions: &[Prediction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12 + 16 * predictions.len() + 32);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(predictions.len() as u32).to_le_bytes());
    for p in predictions {
        bytes.extend_from_slice(&p.label.to_le_bytes());
        bytes.extend_from_slice(&p.class.to_le_bytes());
        bytes.extend_from_slice(&p.rank.to_le_bytes());
        bytes.extend_from_slice(&p.loss.to_le_bytes());
    }
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

/// Reads and verifies the file at `path`.
pub fn read(path: &Path) -> Result<Vec<Prediction>, PredictionsError> {
    let name = path.display().to_string();
    let damaged = |what| PredictionsError::Damaged {
        path: name.clone(),
        what,
    };
    let bytes = std::fs::read(path).map_err(|source| PredictionsError::Io {
        path: name.clone(),
        source,
    })?;
    if bytes.len() < 44 || &bytes[..8] != MAGIC {
        return Err(damaged("it doesn't start as a predictions file"));
    }
    let (body, digest) = bytes.split_at(bytes.len() - 32);
    if blake3::hash(body).as_bytes() != digest {
        return Err(damaged("its checksum doesn't match"));
    }
    let word = |chunk: &[u8], i: usize| {
        [
            chunk[4 * i],
            chunk[4 * i + 1],
            chunk[4 * i + 2],
            chunk[4 * i + 3],
        ]
    };
    let count = u32::from_le_bytes(word(body, 2)) as usize;
    if body.len() != 12 + 16 * count {
        return Err(damaged("its length doesn't match its count"));
    }
    Ok(body[12..]
        .chunks_exact(16)
        .map(|chunk| Prediction {
            label: u32::from_le_bytes(word(chunk, 0)),
            class: u32::from_le_bytes(word(chunk, 1)),
            rank: u32::from_le_bytes(word(chunk, 2)),
            loss: f32::from_le_bytes(word(chunk, 3)),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_refused() {
        let predictions: Vec<_> = (0..5)
            .map(|i| Prediction {
                label: i,
                class: 2,
                rank: i % 3,
                loss: i as f32,
            })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("predictions.bin");
        let bytes = encode(&predictions);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap(), predictions);
        for position in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[position] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            assert!(read(&path).is_err(), "byte {position}");
        }
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(read(&path).is_err());
    }
}

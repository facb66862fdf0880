//! A small image folder: some pictures of the embedded data set, as files.

use ablate::data::{Dataset, Split};
use std::path::Path;

/// Writes the first pictures of every class into `folder`: `per_class` of train and of val, in the
/// format that `extension` names (`png` keeps every pixel).
pub fn write(folder: &Path, per_class: [usize; 2], extension: &str) {
    let embedded = Dataset::embedded();
    let splits = [(Split::Train, "train"), (Split::Val, "val")];
    for ((split, name), per_class) in splits.into_iter().zip(per_class) {
        let mut taken = vec![0; embedded.classes().len()];
        for index in 0..embedded.len(split) {
            let label = embedded.label(split, index) as usize;
            if taken[label] == per_class {
                continue;
            }
            taken[label] += 1;
            let class = folder.join(name).join(&embedded.classes()[label]);
            std::fs::create_dir_all(&class).unwrap();
            let picture = embedded.image(split, index).unwrap();
            let path = class.join(format!("{index:05}.{extension}"));
            let pixels = picture.data().to_vec();
            image::RgbImage::from_raw(picture.width() as u32, picture.height() as u32, pixels)
                .unwrap()
                .save(path)
                .unwrap();
        }
    }
}

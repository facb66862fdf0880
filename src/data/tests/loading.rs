//! Batches: the same with any number of threads, errors in order, short last batches.

use super::datasets::{png, write};
use super::transforms::config;
use crate::data::{
    Batch, DataError, Dataset, EvalTransform, Loader, Sampler, Split, TrainTransform,
};
use crate::spec::recipe::CropName;

fn transform(resolution: usize) -> TrainTransform {
    TrainTransform::new(&config(CropName::Rrc, "three_augment"), resolution).unwrap()
}

fn all(loader: Loader) -> Vec<Batch> {
    loader.collect::<Result<_, _>>().unwrap()
}

#[test]
fn bit_identical_for_any_number_of_threads_and_any_start() {
    let set = Dataset::embedded();
    let sampler = Sampler::new(set.len(Split::Train), 100, 3, 2, 5).unwrap();
    let transform = transform(16);
    let reference = all(Loader::train(&set, &transform, &sampler, 2, 0, 0));
    assert_eq!(reference.len(), 39);
    let order = sampler.epoch(2);
    for (step, batch) in reference.iter().enumerate() {
        assert_eq!(batch.step, step);
        assert_eq!(batch.images.len(), 100 * 3 * 16 * 16);
        let labels = order[step * 100..][..100].iter();
        let labels: Vec<u32> = labels
            .map(|i| set.label(Split::Train, *i as usize))
            .collect();
        assert_eq!(batch.labels, labels);
    }
    for threads in [1, 2, 5] {
        assert_eq!(
            all(Loader::train(&set, &transform, &sampler, 2, 0, threads)),
            reference
        );
        assert_eq!(
            all(Loader::train(&set, &transform, &sampler, 2, 37, threads)),
            reference[37..]
        );
    }
    // On the threads that compute.
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let batches = pool.install(|| all(Loader::train(&set, &transform, &sampler, 2, 0, 0)));
        assert_eq!(batches, reference);
    }
    assert!(all(Loader::train(&set, &transform, &sampler, 2, 99, 2)).is_empty());
    let other = Loader::train(&set, &transform, &sampler, 3, 0, 2)
        .next()
        .unwrap()
        .unwrap();
    assert_ne!(other.images, reference[0].images);
}

#[test]
fn evaluation_covers_the_split_in_order() {
    let set = Dataset::embedded();
    let transform = EvalTransform::new(16, 0.875).unwrap();
    for threads in [0, 3] {
        let batches = all(Loader::eval(&set, &transform, 128, threads));
        let lengths: Vec<usize> = batches.iter().map(|batch| batch.labels.len()).collect();
        assert_eq!(lengths, [128, 128, 128, 128, 128, 128, 128, 39]);
        let labels: Vec<u32> = batches
            .iter()
            .flat_map(|batch| batch.labels.clone())
            .collect();
        let expected: Vec<u32> = set.samples(Split::Val).iter().map(|s| s.label).collect();
        assert_eq!(labels, expected);
        let mut last = vec![0.0; 3 * 16 * 16];
        transform.apply(&set.image(Split::Val, 934).unwrap(), &mut last);
        assert!(batches[7].images.ends_with(&last));
    }
}

#[test]
fn the_first_unreadable_image_ends_the_epoch() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..40 {
        write(
            folder.path(),
            &format!("train/a/{i:02}.png"),
            &png(8, 8, [i; 3]),
        );
    }
    write(folder.path(), "val/a/1.png", &png(8, 8, [0; 3]));
    write(folder.path(), "train/a/21.png", b"broken");
    let set = Dataset::open_folder("x", folder.path()).unwrap();
    let sampler = Sampler::new(40, 10, 1, 1, 0).unwrap();
    let position = sampler.epoch(0).iter().position(|i| *i == 21).unwrap();
    for threads in [0, 1, 4] {
        let results: Vec<_> = Loader::train(&set, &transform(8), &sampler, 0, 0, threads).collect();
        assert_eq!(results.len(), position / 10 + 1);
        let (last, good) = results.split_last().unwrap();
        assert!(good.iter().all(Result::is_ok));
        let message = last.as_ref().unwrap_err().to_string();
        assert!(message.contains("train/a/21.png"), "{message}");
        assert!(matches!(last, Err(DataError::Decode { .. })));
    }
}

#[test]
fn a_loader_can_be_dropped_at_any_time() {
    let set = Dataset::embedded();
    let sampler = Sampler::new(set.len(Split::Train), 64, 1, 1, 0).unwrap();
    let transform = transform(48);
    for taken in 0..4 {
        let mut loader = Loader::train(&set, &transform, &sampler, 0, 0, 3);
        assert_eq!(
            loader
                .by_ref()
                .take(taken)
                .filter(|batch| batch.is_ok())
                .count(),
            taken
        );
        drop(loader);
    }
}

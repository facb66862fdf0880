//! Pretraining on one data set, fine-tuning on another with a new head, evaluation on several sets: the
//! shipped experiment `in21k`, as it is but for its size.

use crate::lab::Lab;
use crate::small_data;
use std::path::Path;

/// Moves class folders into coarser ones: another data set with fewer classes.
fn coarsen(folder: &Path) {
    for split in ["train", "val"] {
        let split = folder.join(split);
        let mut classes: Vec<_> = std::fs::read_dir(&split)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        classes.sort();
        for (number, class) in classes.iter().enumerate() {
            let coarse = split.join(["cold", "dry", "green", "wet"][number % 4]);
            std::fs::create_dir_all(&coarse).unwrap();
            for image in std::fs::read_dir(class).unwrap() {
                let image = image.unwrap();
                std::fs::rename(image.path(), coarse.join(image.file_name())).unwrap();
            }
            std::fs::remove_dir(class).unwrap();
        }
    }
}

/// ImageNet-V2's layout: class folders named by numbers. Returns the classes.
fn number_classes(folder: &Path) -> Vec<String> {
    let val = folder.join("val");
    let mut classes: Vec<String> = std::fs::read_dir(&val)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    classes.sort();
    for (number, class) in classes.iter().enumerate() {
        std::fs::rename(val.join(class), folder.join(number.to_string())).unwrap();
    }
    std::fs::remove_dir_all(folder.join("val")).unwrap();
    std::fs::remove_dir_all(folder.join("train")).unwrap();
    classes
}

/// Several labels an image: its own class and the next one.
fn relabel(folder: &Path, classes: &[String]) {
    let mut labels = serde_json::Map::new();
    for (number, class) in classes.iter().enumerate() {
        for image in std::fs::read_dir(folder.join("val").join(class)).unwrap() {
            let name = image.unwrap().file_name().into_string().unwrap();
            let shown = [number, (number + 1) % classes.len()];
            labels.insert(format!("{class}/{name}"), shown.to_vec().into());
        }
    }
    std::fs::remove_dir_all(folder.join("train")).unwrap();
    let text = serde_json::Value::Object(labels).to_string();
    std::fs::write(folder.join("labels.json"), text).unwrap();
}

#[test]
fn imagenet_21k_to_1k_is_one_experiment() {
    let lab = Lab::new();
    for (name, per_class) in [
        ("21k", [6, 2]),
        ("1k", [4, 4]),
        ("v2", [1, 3]),
        ("real", [1, 4]),
    ] {
        small_data::write(&lab.path(name), per_class, "png");
    }
    coarsen(&lab.path("21k"));
    let classes = number_classes(&lab.path("v2"));
    relabel(&lab.path("real"), &classes);
    let options = "--seeds 1 --store store \
        --data imagenet-21k=21k --data imagenet-1k=1k --data imagenet-v2=v2 --data imagenet-real=real \
        --set model.arch=vit_nano_patch8 --set train.batch_size=16 --set mix.groups=1 \
        --set stages.finetune.train.epochs=1 --set train.epochs=1 --set schedule.warmup_epochs=0 \
        --set train.resolution=32 --set eval.resolutions=[32,48]";
    let mut run = vec!["in21k"];
    run.extend(options.split_whitespace());
    // Both lengths are one epoch here, but their stochastic depth differs.
    lab.ablate("run", &run)
        .expect(0)
        .says(&["4 of 4 stages done", "head re-initialised for 9 classes"]);

    let sets = lab.ask(
        "store",
        "SELECT stage, eval_set, resolution, group_concat(metric) AS metrics, headline FROM v_results
         GROUP BY variant, stage, eval_set, resolution ORDER BY variant_index, stage, eval_set, resolution",
    );
    // The same for each of the two lengths.
    assert_eq!(sets.len(), 12);
    let first: Vec<String> = sets[..6]
        .iter()
        .map(|row| {
            let mut metrics: Vec<&str> = row["metrics"].as_str().unwrap().split(',').collect();
            metrics.sort_unstable();
            format!(
                "{} {} {} {} {}",
                row["stage"].as_str().unwrap(),
                row["eval_set"].as_str().unwrap(),
                row["resolution"],
                metrics.join("+"),
                row["headline"]
            )
        })
        .collect();
    assert_eq!(
        first,
        [
            "finetune imagenet-real 32 top1 0",
            "finetune imagenet-v2 32 loss+top1+top5 0",
            "finetune val 32 loss+top1+top5 1",
            "finetune val 48 loss+top1+top5 0",
            "pretrain val 32 loss+top1+top5 1",
            "pretrain val 48 loss+top1+top5 0",
        ]
    );
}

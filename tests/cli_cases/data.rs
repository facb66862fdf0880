//! Data sets: where they are found, and what is said when one is missing, damaged or changed.

use crate::lab::{Lab, SMALL};
use crate::small_data;

/// [`SMALL`] with one variant and one seed, its data set by name only.
fn named() -> String {
    SMALL
        .replace(", root: pictures", "")
        .replace("seeds: 2", "seeds: 1")
        .replace("    bce: {loss.name: bce}\n", "")
}

#[test]
fn three_ways_to_say_where_a_data_set_is() {
    let lab = Lab::with_pictures(8);
    lab.write("named.yaml", &named());
    // The user's file is below `$XDG_CONFIG_HOME`, or else below `~/.config`.
    let file = lab.path("home/.config/ablate/data.yaml");
    for command in ["run", "plan"] {
        lab.ablate(command, &["named.yaml"]).expect(2).says(&[
            "named.yaml:9:16: data set `pictures` is not known",
            "--data pictures=PATH",
            "ABLATE_DATA_PICTURES",
            "`pictures: PATH` in",
            file.to_str().unwrap(),
        ]);
    }
    assert!(!lab.path("ablate-store").exists());
    lab.ablate("plan named.yaml --data picture=pictures", &[])
        .expect(2)
        .says(&["did you mean `picture`?"]);

    lab.ablate("run named.yaml --data pictures=pictures", &[])
        .expect(0);
    // The pictures' content counts, not the way to them.
    let done = |answer: crate::lab::Answer| answer.expect(0).shows(&["1 done, 0 to run"]);
    let mut command = lab.command(["plan", "named.yaml"]);
    command.env("ABLATE_DATA_PICTURES", "pictures");
    done(lab.finish(command));

    let pictures = lab.path("pictures");
    lab.write(
        "config/ablate/data.yaml",
        &format!("pictures: {}\n", pictures.display()),
    );
    let mut command = lab.command(["plan", "named.yaml"]);
    command.env("XDG_CONFIG_HOME", lab.path("config"));
    done(lab.finish(command));

    lab.write(
        "home/.config/ablate/data.yaml",
        "pictures: ../../../pictures\n",
    );
    done(lab.ablate("plan named.yaml", &[]));

    std::fs::rename(&pictures, lab.path("moved")).unwrap();
    done(lab.ablate("plan named.yaml --data pictures=moved", &[]));
    lab.write(
        "root.yaml",
        &SMALL
            .replace("root: pictures", "root: moved")
            .replace("seeds: 2", "seeds: 1"),
    );
    done(lab.ablate("plan root.yaml --only loss=ce", &[]));
    lab.ablate("plan named.yaml --data pictures=nowhere", &[])
        .expect(2)
        .says(&["nowhere"]);

    // One picture more is another data set.
    let ice = lab.path("moved/train/ice");
    let first = std::fs::read_dir(&ice).unwrap().next().unwrap().unwrap();
    std::fs::copy(first.path(), ice.join("99999.png")).unwrap();
    lab.ablate("plan named.yaml --data pictures=moved", &[])
        .expect(0)
        .shows(&["0 done, 1 to run"]);
}

#[test]
fn folders_that_are_no_data_set_are_refused_before_anything_runs() {
    let lab = Lab::with_pictures(2);
    lab.write("named.yaml", &named());
    let refused = |folder: &str, parts: &[&str]| {
        let option = format!("pictures={folder}");
        let answer = lab.ablate("run named.yaml --data", &[&option]).expect(2);
        answer.says(&["named.yaml:9:16: "]).says(parts);
        assert!(!lab.path("ablate-store").exists());
    };
    std::fs::create_dir(lab.path("empty")).unwrap();
    refused("empty", &["empty", "train"]);
    std::fs::create_dir_all(lab.path("half/train/ice")).unwrap();
    std::fs::create_dir_all(lab.path("half/val/ice")).unwrap();
    refused("half", &["half/train/ice"]);
    refused("named.yaml", &["named.yaml"]);
    std::fs::create_dir(lab.path("pictures/val/swamp")).unwrap();
    refused("pictures", &["swamp"]);
}

#[test]
fn jpeg_folders_train_and_a_truncated_picture_is_named() {
    let lab = Lab::new();
    small_data::write(&lab.path("pictures"), [8, 4], "jpg");
    lab.write("small.yaml", SMALL);
    lab.ablate("run small.yaml --only loss=ce --seeds 1", &[])
        .expect(0);

    let class = lab.path("pictures/train/ice");
    let mut files: Vec<_> = std::fs::read_dir(&class)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let bytes = std::fs::read(&files[3]).unwrap();
    std::fs::write(&files[3], &bytes[..bytes.len() / 3]).unwrap();
    let name = files[3].file_name().unwrap().to_str().unwrap();
    let answer = lab
        .ablate("run small.yaml --only loss=ce --seeds 1", &[])
        .expect(1)
        .says(&[
            "failed: train ce s0: data: ",
            &format!("train/ice/{name}"),
            "log: ",
            "hint: check the data set (--data NAME=PATH)",
        ]);
    assert!(answer.stdout.contains("data"), "{}", answer.stdout);
    let rows = lab.ask("ablate-store", "SELECT status, failure FROM v_runs");
    assert_eq!(
        rows,
        [serde_json::json!({"status": "failed", "failure": "data"})]
    );

    // Mended, it is the first data set again, whose stage is done.
    std::fs::write(&files[3], &bytes).unwrap();
    lab.ablate("run small.yaml --only loss=ce --seeds 1", &[])
        .expect(0)
        .says(&["1 of 1 stages already done"]);
}

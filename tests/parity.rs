//! Agreement with the reference implementation, measured against numeric fixtures from PyTorch,
//! torchvision, timm and Pillow.
//!
//! Fixtures lie in `tests/parity`, or in the folder that `ABLATE_PARITY_DIR` names. Each folder is a
//! test; every case of its manifest is run, and one line a case prints the measured deviation beside
//! the tolerance, which is the manifest's (`cargo test --release --test parity -- --nocapture`). A
//! case, a setting, a file or a tensor that no check reads fails the folder and is named.

#[path = "parity_cases/fixture.rs"]
mod fixture;
#[path = "parity_cases/tolerance.rs"]
mod tolerance;

#[path = "parity_cases/augment.rs"]
mod augment;
#[path = "parity_cases/checkpoint.rs"]
mod checkpoint;
#[path = "parity_cases/decode.rs"]
mod decode;
#[path = "parity_cases/losses.rs"]
mod losses;
#[path = "parity_cases/metrics.rs"]
mod metrics;
#[path = "parity_cases/mixup.rs"]
mod mixup;
#[path = "parity_cases/models.rs"]
mod models;
#[path = "parity_cases/optim.rs"]
mod optim;
#[path = "parity_cases/posembed.rs"]
mod posembed;
#[path = "parity_cases/random.rs"]
mod random;
#[path = "parity_cases/sampler.rs"]
mod sampler;
#[path = "parity_cases/schedule.rs"]
mod schedule;
#[path = "parity_cases/shapes.rs"]
mod shapes;
#[path = "parity_cases/trace.rs"]
mod trace;

/// All folders; each has its module.
const FOLDERS: [&str; 14] = [
    "augment",
    "checkpoint",
    "decode",
    "losses",
    "metrics",
    "mixup",
    "models",
    "optim",
    "posembed",
    "random",
    "sampler",
    "schedule",
    "shapes",
    "trace",
];

/// No folder is without its test, and none is missing.
#[test]
fn folders() {
    let entries = std::fs::read_dir(fixture::root()).expect("a folder of fixtures");
    let mut found: Vec<String> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    found.sort();
    assert_eq!(found, FOLDERS, "folders of {}", fixture::root().display());
}

/// Folders about data, which neither fusion nor instruction sets have a part in.
const OF_DATA: [&str; 6] = [
    "augment", "decode", "mixup", "random", "sampler", "schedule",
];

/// Runs all folders but [`OF_DATA`] once more, in a process whose variable `switch` is `value`.
fn once_more(switch: &str, value: &str) {
    // In such a process already.
    let switches = [ablate::kernel::SWITCH, ablate::kernel::simd::SWITCH];
    if switches
        .iter()
        .any(|switch| std::env::var_os(switch).is_some())
    {
        return;
    }
    let program = std::env::current_exe().expect("this test");
    let mut command = std::process::Command::new(program);
    command.env(switch, value).arg("--nocapture");
    for folder in OF_DATA {
        command.args(["--skip", &format!("{folder}::")]);
    }
    let output = command.output().expect("this test runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    for folder in FOLDERS {
        let ran = text.contains(&format!("test {folder}::"));
        assert_eq!(ran, !OF_DATA.contains(&folder), "{folder} in:\n{text}");
    }
}

#[test]
fn without_fusion() {
    once_more(ablate::kernel::SWITCH, "off");
}

#[test]
fn with_avx2() {
    once_more(ablate::kernel::simd::SWITCH, "avx2");
}

#[test]
fn with_the_baseline() {
    once_more(ablate::kernel::simd::SWITCH, "baseline");
}

//! What is measured: memory beside its estimate, energy, and `bench train`.

use crate::lab::{Lab, SMALL};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One stage of a size at which the tensors count, with evaluations and checkpoints.
fn a_stage() -> String {
    SMALL
        .replace(
            "seeds: 2",
            "seeds: 1\nexecution: {checkpoints: {every_epochs: 2}}",
        )
        .replace("vit_nano_patch8", "vit_micro_patch8")
        .replace(
            "epochs: 2, batch_size: 16",
            "epochs: 6, batch_size: 64, resolution: 64",
        )
}

fn the_peak(lab: &Lab, fusion: &str) -> (f64, f64) {
    let store = format!("store-{fusion}");
    let line = format!("--only loss=ce --store {store} --device cpu");
    let run = |line: String| {
        let mut command = lab.command(line.split_whitespace());
        command.env("ABLATE_FUSION", fusion);
        lab.finish(command).expect(0)
    };
    let plan = run(format!(
        "plan stage.yaml --format json --only loss=ce --store {store}"
    ))
    .json();
    run(format!("run stage.yaml {line}"));
    let rows = lab.ask(
        &store,
        "SELECT peak_rss_bytes AS peak, deviation FROM v_attempts",
    );
    assert_eq!(rows.len(), 1);
    let told = rows[0]["deviation"] == "fused operations: on -> off";
    assert_eq!(told, fusion == "off", "{rows:?}");
    let peak = rows[0]["peak"].as_f64().unwrap();
    (plan["memory_bytes"].as_f64().unwrap(), peak)
}

/// The bound that `docs/performance.md` states. The worker has one thread, so what it takes doesn't depend on
/// chance.
#[test]
fn memory_is_estimated_within_its_bound() {
    let lab = Lab::with_pictures(16);
    lab.write("stage.yaml", &a_stage());
    for fusion in ["on", "off"] {
        let (estimate, peak) = the_peak(&lab, fusion);
        let ratio = estimate / peak;
        assert!(
            (0.85..1.15).contains(&ratio),
            "fusion {fusion}: {estimate} estimated, {peak} measured: {ratio}"
        );
    }
}

/// A folder in the place of `/sys/class/powercap`, whose counter runs all the time.
#[test]
fn energy_is_shared_by_the_attempts() {
    let lab = Lab::with_pictures(4);
    lab.write(
        "small.yaml",
        &SMALL.replace("batch_size: 16", "batch_size: 8"),
    );
    lab.write("powercap/intel-rapl:0/name", "package-0\n");
    lab.write("powercap/intel-rapl:0/max_energy_range_uj", "1000000000\n");
    let counter = lab.path("powercap/intel-rapl:0/energy_uj");
    let count = |joules: u64| {
        let next = lab.path("powercap/next");
        std::fs::write(&next, format!("{}\n", joules * 1_000_000)).unwrap();
        std::fs::rename(&next, &counter).unwrap();
    };
    count(0);
    let done = AtomicBool::new(false);
    let last = std::thread::scope(|scope| {
        let clock = scope.spawn(|| {
            let mut joules = 0;
            while !done.load(Ordering::Relaxed) {
                joules += 1;
                count(joules);
                std::thread::sleep(Duration::from_millis(2));
            }
            joules
        });
        let mut command = lab.command("run small.yaml --device cpu --slots 2".split_whitespace());
        command.env("ABLATE_POWERCAP", lab.path("powercap"));
        let answer = lab.finish(command);
        done.store(true, Ordering::Relaxed);
        answer.expect(0);
        clock.join().unwrap()
    });
    let rows = lab.ask("ablate-store", "SELECT energy_joules AS j FROM v_attempts");
    let shares: Vec<f64> = rows.iter().map(|row| row["j"].as_f64().unwrap()).collect();
    assert_eq!(shares.len(), 4);
    assert!(shares.iter().all(|share| *share > 0.0), "{shares:?}");
    let total: f64 = shares.iter().sum();
    assert!(total <= last as f64 + 1e-6, "{shares:?} of {last}");
    lab.ablate("report small --out report", &[]).expect(0);
    let page = String::from_utf8(lab.read("report/small/index.html")).unwrap();
    assert!(page.contains("Energy is an attempt"), "the page says so");
}

#[test]
fn where_no_energy_is_counted_nothing_is_said_of_it() {
    let lab = Lab::with_pictures(4);
    lab.write(
        "small.yaml",
        &SMALL.replace("batch_size: 16", "batch_size: 8"),
    );
    let mut command = lab.command("run small.yaml --seeds 1 --device cpu".split_whitespace());
    command.env("ABLATE_POWERCAP", lab.path("nothing"));
    lab.finish(command).expect(0);
    let rows = lab.ask("ablate-store", "SELECT energy_joules AS j FROM v_attempts");
    assert!(rows.iter().all(|row| row["j"].is_null()), "{rows:?}");
    lab.ablate("report small --out report", &[]).expect(0);
    let page = String::from_utf8(lab.read("report/small/index.html")).unwrap();
    assert!(!page.contains("Energy is"));
}

#[test]
fn bench_train_says_what_a_step_takes() {
    let lab = Lab::new();
    let small =
        "bench train --arch vit_nano_patch8 --resolution 24 --batch 4 --classes 5 --steps 2";
    for (more, fused) in [("", true), (" --unfused", false)] {
        let line = format!("{small} --format json{more}");
        let figures = lab.ablate(&line, &[]).expect(0).json();
        let number = |name: &str| figures[name].as_f64().unwrap();
        assert_eq!(figures["fused"], Value::Bool(fused));
        let speed = number("images_per_second");
        assert!((speed * number("median_seconds") - 4.0).abs() < 1e-6);
        // Three times a forward pass: patches, three blocks of width 48 with ten tokens, head.
        let block = 10.0 * 2.0 * 12.0 * 48.0 * 48.0 + 4.0 * 100.0 * 48.0;
        let forward = 2.0 * 9.0 * 192.0 * 48.0 + 3.0 * block + 2.0 * 48.0 * 5.0;
        let ratio = number("flops_per_second") / (speed * 3.0 * forward);
        assert!((ratio - 1.0).abs() < 1e-9, "{ratio}");
        for name in [
            "peak_flops_per_second",
            "products_seconds",
            "peak_rss_bytes",
            "estimated_bytes",
            "share_around",
            "checkpoint_seconds",
            "best_seconds",
            "worst_seconds",
        ] {
            assert!(number(name) > 0.0, "{name}");
        }
        let phases = figures["seconds"].as_object().unwrap();
        let total: f64 = phases
            .values()
            .map(|seconds| seconds.as_f64().unwrap())
            .sum();
        assert_eq!(phases.len(), 6);
        assert!(total <= 1.01 * number("worst_seconds") * 2.0);
    }
    lab.ablate(small, &[])
        .expect(0)
        .shows(&["images/s", "fused operations", "peak memory"]);
    for (more, why) in [
        ("--arch vit_nanno_patch8", "vit_nano_patch8"),
        ("--accumulation 3", "don't divide a batch of 4"),
        ("--resolution 4", "less than a patch of 8"),
    ] {
        // A later argument wins where it is the same one.
        let line = match more.starts_with("--accumulation") {
            true => format!("{small} {more}"),
            false => format!("bench train --steps 2 --batch 4 {more}"),
        };
        lab.ablate(&line, &[]).expect(2).says(&[why]);
    }
}

/// A child has the peak of its own memory, not that of the process that started it.
#[test]
fn a_fat_parent_doesn_t_count() {
    let lab = Lab::new();
    let ballast = vec![1u8; 400 << 20];
    let line =
        "bench train --arch vit_nano_patch8 --resolution 24 --batch 1 --steps 1 --format json";
    let figures = lab.ablate(line, &[]).expect(0).json();
    let peak = figures["peak_rss_bytes"].as_f64().unwrap();
    assert!(ballast[17] == 1 && peak < f64::from(300 << 20), "{peak}");
}

//! Mixup, CutMix and their targets.

use crate::data::Mixer;
use crate::spec::recipe::MixConfig;

fn config(mixup_alpha: f64, cutmix_alpha: f64, groups: usize) -> MixConfig {
    MixConfig {
        mixup_alpha,
        cutmix_alpha,
        prob: 1.0,
        switch_prob: 0.5,
        groups,
    }
}

#[test]
fn groups_draw_apart_and_mix_within() {
    let (side, batch, groups) = (4, 12, 3);
    let mixer = Mixer::new(&config(0.8, 0.0, groups), 5, 0.0).unwrap();
    let sample = 3 * side * side;
    let original: Vec<f32> = (0..batch).flat_map(|i| vec![i as f32; sample]).collect();
    let labels: Vec<u32> = (0..batch as u32).map(|i| i % 5).collect();
    let mut images = original.clone();
    let targets = mixer
        .mix_batch(&mut images, &labels, side, side, 1, 2, 3)
        .unwrap();
    assert_eq!(targets.len(), batch * 5);
    let mut lams = Vec::new();
    for group in 0..groups {
        let lam_of = |i: usize| {
            let (own, partner) = (i as f32, (group * 4 + 3 - (i - group * 4)) as f32);
            (images[i * sample] - partner) / (own - partner)
        };
        let lam = lam_of(group * 4);
        for i in group * 4..group * 4 + 4 {
            assert!((lam_of(i) - lam).abs() < 1e-5);
            assert!((targets[i * 5 + labels[i] as usize] - lam).abs() < 1e-5);
        }
        lams.push(lam);
    }
    assert!(lams[0] != lams[1] && lams[1] != lams[2]);

    let mut again = original.clone();
    mixer
        .mix_batch(&mut again, &labels, side, side, 1, 2, 3)
        .unwrap();
    assert_eq!(again, images);
    let mut other = original.clone();
    mixer
        .mix_batch(&mut other, &labels, side, side, 1, 2, 4)
        .unwrap();
    assert_ne!(other, images);
}

#[test]
fn odd_groups_are_refused_only_where_mixing_is_on() {
    let on = Mixer::new(&config(0.8, 1.0, 2), 3, 0.0).unwrap();
    let message = on.check_batch(6).unwrap_err().to_string();
    assert!(
        message.starts_with("mix.groups: ") && message.contains("groups of 3"),
        "{message}"
    );
    assert!(on.check_batch(5).is_err());
    assert!(on.check_batch(8).is_ok());
    let off = Mixer::new(&config(0.0, 0.0, 2), 3, 0.1).unwrap();
    assert!(off.check_batch(6).is_ok());
    let mut images = vec![1.0; 6 * 12];
    let targets = off
        .mix_batch(&mut images, &[0, 1, 2, 0, 1, 2], 2, 2, 0, 0, 0)
        .unwrap();
    assert!(images.iter().all(|v| *v == 1.0));
    assert!((targets[0] - (0.9 + 0.1 / 3.0)).abs() < 1e-6);
    assert!(Mixer::new(&config(f64::NAN, 1.0, 1), 3, 0.0).is_err());
    assert!(Mixer::new(&config(0.8, 1.0, 0), 3, 0.0).is_err());
}

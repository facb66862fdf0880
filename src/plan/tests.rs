//! Tests of planning: built-in experiments, layers, designs, sharing, problems of whole plans.

use super::*;
use crate::plan::model::{DataDescription, Plan};
use crate::rundir::stage::{DataShape, NamedSet, Task};
use crate::spec::experiment::{self, Options};
use crate::spec::library;
use crate::spec::problem::Problems;
use crate::spec::recipe::DataConfig;
use proptest::prelude::*;
use std::collections::HashSet;

fn data(config: &DataConfig) -> Result<DataDescription, String> {
    let shape = match config.name.as_str() {
        "imagenet-1k" => DataShape {
            classes: 1000,
            train_images: 1_281_167,
            val_images: 50_000,
            kept_bytes: 0,
        },
        "imagenet-21k" => DataShape {
            classes: 21_841,
            train_images: 13_153_500,
            val_images: 50_000,
            kept_bytes: 0,
        },
        "bluemarble-climate" => DataShape {
            classes: 9,
            train_images: 3_906,
            val_images: 926,
            kept_bytes: 0,
        },
        "cifar-10" => DataShape {
            classes: 10,
            train_images: 50_000,
            val_images: 10_000,
            kept_bytes: 0,
        },
        "inat-2018" => DataShape {
            classes: 8_142,
            train_images: 437_513,
            val_images: 24_426,
            kept_bytes: 0,
        },
        other => return Err(format!("data set `{other}` is not known")),
    };
    Ok(DataDescription {
        hash: blake3::hash(config.name.as_bytes()).to_string(),
        shape,
    })
}

fn plan_text(text: &str, options: &Options) -> Result<Plan, Problems> {
    plan(
        experiment::read("e.yaml", text, None, options)?,
        None,
        &data,
    )
}

fn planned(text: &str) -> Plan {
    plan_text(text, &Options::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(text: &str) -> String {
    plan_text(text, &Options::default())
        .map(|plan| plan.variants.len())
        .unwrap_err()
        .to_string()
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.variants
        .iter()
        .map(|variant| variant.name.as_str())
        .collect()
}

fn builtin(name: &str, profile: &str) -> Plan {
    let text = library::experiments()
        .find(|(known, _)| *known == name)
        .unwrap()
        .1;
    let options = Options {
        profile: Some(profile.to_owned()),
        ..Options::default()
    };
    let resolvers = Resolvers {
        data: &data,
        sets: &sets,
    };
    experiment::read("e.yaml", text, None, &options)
        .and_then(|experiment| plan_with(experiment, None, &resolvers))
        .unwrap_or_else(|problems| panic!("{name} {profile}:\n{problems}"))
}

#[test]
fn built_in_experiments_plan_without_a_problem() {
    let sizes = [
        ("loss", "quick", 12, 12),
        ("loss", "paper", 12, 12),
        ("augmentation", "quick", 21, 21),
        ("augmentation", "paper", 42, 42),
        ("crop", "quick", 12, 12),
        ("crop", "paper", 6, 12),
        ("epochs", "quick", 24, 24),
        ("epochs", "paper", 24, 24),
        ("fixres", "quick", 12, 24),
        ("fixres", "paper", 72, 144),
        ("in21k", "paper", 6, 12),
    ];
    for (name, profile, runs, stages) in sizes {
        let plan = builtin(name, profile);
        assert_eq!(
            (plan.runs.len(), plan.stages.len()),
            (runs, stages),
            "{name} {profile}"
        );
        assert_eq!(plan.warnings, [], "{name} {profile}");
        assert_eq!(plan.experiment.profile, profile);
        assert!(!plan.experiment.title.is_empty() && !plan.experiment.claim.is_empty());
    }
    // All have both profiles but for the last, whose small form would need another data set.
    assert_eq!(library::experiments().count() * 2 - 1, sizes.len());
}

#[test]
fn every_built_in_recipe_plans_without_a_problem() {
    // Recipes of the trainer, that is: the one that is left out has parameters of a program.
    for name in library::recipe_names().filter(|name| *name != "ade20k_upernet") {
        let plan = plan_text(&format!("recipe: {name}\n"), &Options::default())
            .unwrap_or_else(|problems| panic!("{name}:\n{problems}"));
        assert_eq!(plan.warnings, [], "{name}");
        assert_eq!((plan.runs.len(), plan.stages.len()), (1, 1));
    }
}

#[test]
fn a_stage_file_has_the_fingerprint_of_the_plan() {
    for (name, _) in library::experiments() {
        for profile in ["quick", "paper"] {
            if (name, profile) == ("in21k", "quick") {
                continue;
            }
            let plan = builtin(name, profile);
            for (index, stage) in plan.stages.iter().enumerate() {
                let spec = plan.stage_spec(index as u32);
                assert_eq!(spec.compute_fingerprint(), stage.fingerprint);
                assert_eq!(spec.fingerprint, stage.fingerprint.to_string());
                assert_eq!(
                    cost::of_recipe(
                        &spec.recipe,
                        spec.task,
                        spec.data_shape,
                        &spec.evaluation_sets
                    ),
                    stage.cost
                );
                let json = serde_json::to_string(&spec).unwrap();
                let read: crate::rundir::stage::StageSpec = serde_json::from_str(&json).unwrap();
                assert_eq!(read.compute_fingerprint(), stage.fingerprint);
                assert_eq!(read, spec);
            }
        }
    }
}

#[test]
fn paper_profiles_hold_the_published_values() {
    let plan = builtin("loss", "paper");
    let spec = plan.stage_spec(plan.runs[9].stages[0]);
    assert_eq!(
        plan.variants[plan.runs[9].variant as usize].name,
        "bce,ViT-B"
    );
    let recipe = spec.recipe;
    assert_eq!(
        (
            recipe.train.epochs,
            recipe.train.batch_size,
            recipe.train.repeated_augmentation
        ),
        (300, 2048, 3)
    );
    assert_eq!(
        (recipe.optimizer.lr, recipe.optimizer.weight_decay),
        (3e-3, 0.02)
    );
    assert_eq!(recipe.optimizer.max_grad_norm, Some(1.0));
    assert_eq!((recipe.model.embed_dim, recipe.model.drop_path), (768, 0.1));
    assert_eq!(recipe.eval.resolution, 224);
    let plan = builtin("fixres", "paper");
    let run = &plan.runs[0];
    let (pretrain, finetune) = (
        plan.stage_spec(run.stages[0]).recipe,
        plan.stage_spec(run.stages[1]).recipe,
    );
    assert_eq!(
        (pretrain.train.resolution, finetune.train.resolution),
        (128, 224)
    );
    assert_eq!((pretrain.optimizer.lr, finetune.optimizer.lr), (3e-3, 1e-5));
    assert_eq!(
        (pretrain.model.drop_path, finetune.model.drop_path),
        (0.1, 0.2)
    );
    assert_eq!(finetune.augment.policy, "rand-m9-mstd0.5-inc1");
    assert_eq!(
        plan.stages[run.stages[1] as usize].parent,
        Some(run.stages[0])
    );
}

/// Where it has the published resolutions, each row of `fixres` is the published recipe of its model and length.
#[test]
fn fixres_trains_by_the_published_recipes() {
    let plan = builtin("fixres", "paper");
    let published = |name: &str| {
        let plan = plan_text(&format!("recipe: {name}\n"), &Options::default());
        let recipe = plan
            .unwrap_or_else(|problems| panic!("{problems}"))
            .stage_spec(0)
            .recipe;
        serde_json::to_value(recipe).unwrap()
    };
    for (variant, pretrain, finetune) in [
        ("ViT-B 400,192", "deit3_400_vit_b", "deit3_fixres"),
        ("ViT-B 800,192", "deit3_800_vit_b", "deit3_fixres"),
        ("ViT-L 400,192", "deit3_400_vit_l", "deit3_fixres_vit_l"),
        ("ViT-L 800,192", "deit3_800_vit_l", "deit3_fixres_vit_l"),
        ("ViT-H 400,160", "deit3_400_vit_h", "deit3_fixres_vit_h"),
        ("ViT-H 800,160", "deit3_800_vit_h", "deit3_fixres_vit_h"),
    ] {
        let index = plan.variants.iter().position(|own| own.name == variant);
        let index = index.unwrap_or_else(|| panic!("{variant}")) as u32;
        let run = plan.runs.iter().find(|run| run.variant == index).unwrap();
        for (stage, name) in run.stages.iter().zip([pretrain, finetune]) {
            let mut ours = serde_json::to_value(plan.stage_spec(*stage).recipe).unwrap();
            let theirs = published(name);
            // It is tested at further resolutions, too.
            ours["eval"]["resolutions"] = theirs["eval"]["resolutions"].clone();
            ours["eval"]["resolution"] = theirs["eval"]["resolution"].clone();
            assert_eq!(ours, theirs, "{variant}, {name}");
        }
    }
}

#[test]
fn parameters_and_operations_are_those_of_the_reference() {
    use cost::VitShape;
    // Name, image side, LayerScale, parameters, operations of a forward pass: counted on the
    // reference's modules.
    let published = [
        (
            "deit_tiny_patch16_LS",
            224,
            true,
            5_721_832,
            2_507_366_400.0,
        ),
        (
            "deit_small_patch16_LS",
            224,
            true,
            22_059_496,
            9_197_764_608.0,
        ),
        (
            "deit_small_patch16_LS",
            384,
            true,
            22_205_416,
            30_980_702_208.0,
        ),
        (
            "deit_medium_patch16_LS",
            224,
            true,
            38_849_512,
            15_981_936_640.0,
        ),
        (
            "deit_base_patch16_LS",
            192,
            true,
            86_545_384,
            25_577_521_152.0,
        ),
        (
            "deit_base_patch16_LS",
            224,
            true,
            86_585_320,
            35_127_656_448.0,
        ),
        (
            "deit_base_patch16_LS",
            384,
            true,
            86_877_160,
            110_968_700_928.0,
        ),
        (
            "deit_large_patch16_LS",
            192,
            true,
            304_321_512,
            89_872_449_536.0,
        ),
        (
            "deit_large_patch16_LS",
            224,
            true,
            304_374_760,
            123_109_425_152.0,
        ),
        (
            "deit_large_patch16_LS",
            384,
            true,
            304_763_880,
            382_132_600_832.0,
        ),
        (
            "deit_huge_patch14_LS",
            128,
            true,
            631_902_440,
            104_406_026_240.0,
        ),
        (
            "deit_huge_patch14_LS",
            160,
            true,
            631_953_640,
            156_134_819_840.0,
        ),
        (
            "deit_huge_patch14_LS",
            224,
            true,
            632_126_440,
            334_590_218_240.0,
        ),
        (
            "deit_huge_patch14_52_LS",
            224,
            true,
            1_025_726_440,
            543_466_659_840.0,
        ),
        (
            "deit_huge_patch14_26x2_LS",
            224,
            true,
            1_025_726_440,
            543_466_659_840.0,
        ),
        (
            "deit_giant_40_patch14_LS",
            224,
            true,
            955_030_504,
            504_419_739_648.0,
        ),
        (
            "deit_Giant_48_patch14_LS",
            224,
            true,
            1_599_158_248,
            841_376_573_440.0,
        ),
        (
            "deit_small_patch16_36_LS",
            224,
            true,
            64_665_064,
            27_360_546_816.0,
        ),
        (
            "deit_small_patch16_36",
            224,
            false,
            64_637_416,
            27_360_546_816.0,
        ),
        (
            "deit_small_patch16_18x2_LS",
            224,
            true,
            64_665_064,
            27_360_546_816.0,
        ),
        (
            "deit_small_patch16_18x2",
            224,
            false,
            64_637_416,
            27_360_546_816.0,
        ),
        (
            "deit_base_patch16_18x2_LS",
            224,
            true,
            256_731_112,
            104_917_475_328.0,
        ),
        (
            "deit_base_patch16_18x2",
            224,
            false,
            256_675_816,
            104_917_475_328.0,
        ),
        (
            "deit_base_patch16_36x1_LS",
            224,
            true,
            256_731_112,
            104_917_475_328.0,
        ),
        (
            "deit_base_patch16_36x1",
            224,
            false,
            256_675_816,
            104_917_475_328.0,
        ),
    ];
    for (name, side, layer_scale, parameters, flops) in published {
        let arch = crate::spec::arch::expand(name).unwrap();
        let shape = VitShape {
            patch_size: arch.patch_size as u64,
            embed_dim: arch.embed_dim as u64,
            depth: arch.depth as u64,
            num_heads: 1,
            parallel_branches: arch.parallel_branches as u64,
            mlp_ratio: 4.0,
            layer_scale,
            pos_embed_class: false,
            classes: 1000,
        };
        assert_eq!(shape.parameters(side), parameters, "{name} {side}");
        assert_eq!(shape.forward_flops(side), flops, "{name} {side}");
    }
}

#[test]
fn costs_add_up() {
    let plan = planned("recipe: quick\nset: {train.epochs: 10, eval.every: 4}\n");
    let cost = plan.stages[0].cost;
    assert_eq!(cost.steps, 10 * (3_906 / 64));
    let spec = plan.stage_spec(0);
    let shape = cost::VitShape {
        patch_size: 8,
        embed_dim: 64,
        depth: 4,
        num_heads: 1,
        parallel_branches: 1,
        mlp_ratio: 4.0,
        layer_scale: true,
        pos_embed_class: false,
        classes: 9,
    };
    let forward = shape.forward_flops(48);
    // Evaluations after epochs 4, 8 and 10.
    assert_eq!(
        cost.flops,
        3.0 * forward * (cost.steps * 64) as f64 + 3.0 * forward * 926.0
    );
    assert_eq!(cost.disk_bytes, 4 * cost.parameters * 4 + 16 * 926 + 44);
    assert_eq!(spec.data_shape.classes, 9);
}

const TWO: &str = "recipe: quick\naxes:\n  a: {x: {optimizer.lr: 1e-3}, y: {optimizer.lr: 2e-3}}\n  b: {p: {optimizer.weight_decay: 0.1}, q: {optimizer.weight_decay: 0.2}, r: {optimizer.weight_decay: 0.3}}\n";

#[test]
fn product_varies_the_last_axis_fastest() {
    let plan = planned(TWO);
    assert_eq!(names(&plan), ["x,p", "x,q", "x,r", "y,p", "y,q", "y,r"]);
    assert_eq!(plan.axes[1].labels, ["p", "q", "r"]);
    let lr = |run: usize| {
        plan.stage_spec(plan.runs[run].stages[0])
            .recipe
            .optimizer
            .lr
    };
    assert_eq!((lr(0), lr(5)), (1e-3, 2e-3));
}

#[test]
fn designs() {
    let with = |design: &str| planned(&format!("{TWO}{design}"));
    assert_eq!(
        names(&with("design: one_at_a_time\n")),
        ["baseline", "a=y", "b=q", "b=r"]
    );
    assert_eq!(
        names(&with("design: one_at_a_time\nbaseline: {b: q}\n")),
        ["baseline", "a=y", "b=p", "b=r"]
    );
    let path = with("design: path\nbaseline: {a: y}\n");
    assert_eq!(names(&path), ["baseline", "+ x", "+ q", "+ r"]);
    assert_eq!(path.variants[3].labels, [0, 2]);
    assert_eq!(
        path.experiment.baseline,
        Some(vec![Some("y".to_owned()), Some("p".to_owned())])
    );
    assert_eq!(
        names(&with("design: {list: [{a: y, b: r}, {b: q}]}\n")),
        ["y,r", "x,q"]
    );
    assert_eq!(
        names(&with("exclude: [{a: x, b: [p, q]}, {b: r}]\n")),
        ["y,p", "y,q"]
    );
    assert_eq!(
        names(&with("exclude: {a: x}\ninclude: {a: x, b: r}\n")),
        ["y,p", "y,q", "y,r", "x,r"]
    );
    let zip = planned(
        "recipe: quick\ndesign: zip\naxes: {optimizer.lr: [1e-3, 2e-3], train.epochs: [5, 6]}\n",
    );
    assert_eq!(names(&zip), ["1e-3,5", "2e-3,6"]);
    assert_eq!(names(&planned("recipe: quick\n")), ["default"]);
    assert_eq!(
        with("baseline: {a: x}\n").experiment.baseline,
        Some(vec![Some("x".to_owned()), None])
    );
    assert_eq!(with("").experiment.baseline, None);
}

#[test]
fn leave_one_out_takes_one_ingredient_away() {
    let plan = planned(
        "recipe: quick\ndesign: leave_one_out\naxes:\n  layer_scale: {on: {}, off: {model.layer_scale: null}}\n  mix: {on: , off: {mix.prob: 0}}\n",
    );
    assert_eq!(names(&plan), ["full", "- layer_scale", "- mix"]);
    let scale = |run: usize| {
        plan.stage_spec(plan.runs[run].stages[0])
            .recipe
            .model
            .layer_scale
    };
    assert_eq!(
        (scale(0), scale(1), scale(2)),
        (Some(1e-4), None, Some(1e-4))
    );
    assert_eq!(
        plan.experiment.baseline,
        Some(vec![Some("on".to_owned()), Some("on".to_owned())])
    );
}

#[test]
fn later_layers_win() {
    let text = "
recipe: quick
set: {optimizer.lr: 0.1, train.epochs: 11, stages: {b: {train.batch_size: 16}}}
axes:
  x: {one: {optimizer.lr: 0.2, train.epochs: 12, eval.every: 3, stages: {b: {eval.every: 4, augment.hflip: 0.25}}}}
  y: {one: {train.epochs: 13}}
stages:
  a: {}
  b: {from: a, set: {train.epochs: 14, augment.hflip: 0.75, eval.every: 2}}
";
    let options = Options {
        set: vec![
            "eval.crop_ratio=0.5".into(),
            "stages.b.mix.prob=0.25".into(),
        ],
        ..Options::default()
    };
    let plan = plan_text(text, &options).unwrap_or_else(|problems| panic!("{problems}"));
    let recipe = |stage: usize| plan.stage_spec(plan.runs[0].stages[stage]).recipe;
    let (a, b) = (recipe(0), recipe(1));
    assert_eq!(
        (
            a.optimizer.lr,
            a.train.epochs,
            a.eval.every,
            a.augment.hflip
        ),
        (0.2, 13, 3, 0.5)
    );
    assert_eq!(
        (
            b.optimizer.lr,
            b.train.epochs,
            b.eval.every,
            b.augment.hflip
        ),
        (0.2, 14, 4, 0.25)
    );
    assert_eq!((a.train.batch_size, b.train.batch_size), (64, 16));
    assert_eq!((a.eval.crop_ratio, b.eval.crop_ratio), (0.5, 0.5));
    assert_eq!((a.mix.prob, b.mix.prob), (0.5, 0.25));
}

#[test]
fn explicit_fields_win_over_arch_and_later_arch_over_earlier_fields() {
    let recipe = |text: &str| planned(text).stage_spec(0).recipe.model;
    assert_eq!(
        recipe("recipe: quick\nset: {model: {depth: 7, arch: vit_tiny_patch16}}\n").depth,
        7
    );
    assert_eq!(
        recipe("recipe: quick\nset: {model.depth: 7}\naxes: {model.arch: [vit_tiny_patch16]}\n")
            .depth,
        12
    );
}

#[test]
fn stages_that_variants_share_are_planned_once() {
    let text = "
recipe: quick
seeds: [3, 7]
stages: {pretrain: {}, finetune: {from: pretrain}}
axes:
  lr: {values: [1e-3, 2e-3, 3e-3], path: optimizer.lr, stages: [finetune]}
";
    let plan = planned(text);
    assert_eq!((plan.runs.len(), plan.stages.len()), (6, 2 + 6));
    let pretrain: HashSet<u32> = plan.runs.iter().map(|run| run.stages[0]).collect();
    assert_eq!(pretrain.len(), 2);
    assert_eq!(plan.runs[1].seed, 7);
    for run in &plan.runs {
        assert_eq!(
            plan.stages[run.stages[1] as usize].parent,
            Some(run.stages[0])
        );
        assert_eq!(plan.stage_spec(run.stages[0]).recipe.optimizer.lr, 1e-2);
        assert_eq!(plan.seed(run.stages[1]), run.seed);
    }
    // The child's identity includes its parent's.
    let other = planned(&text.replace("pretrain: {}", "pretrain: {set: {train.epochs: 3}}"));
    assert_ne!(
        plan.stages[plan.runs[0].stages[1] as usize].fingerprint,
        other.stages[other.runs[0].stages[1] as usize].fingerprint
    );
}

#[test]
fn the_last_leaf_of_the_file_is_the_result() {
    let plan = planned(
        "recipe: quick\nstages:\n  late: {from: base, set: {train.epochs: 2}}\n  early: {set: {train.epochs: 3}}\n  base: {}\n  check: {from: base, task: evaluate}\n  again: {from: check, set: {train.epochs: 4}}\n  side: {from: base, set: {train.epochs: 5}}\n",
    );
    assert_eq!(
        plan.experiment.stage_names,
        ["early", "base", "late", "check", "again", "side"]
    );
    assert_eq!(plan.task(3), Task::Evaluate);
    assert_eq!(plan.stages[3].cost.steps, 0);
}

#[test]
fn location_of_data_and_unused_axes_do_not_change_identity() {
    let a = planned("recipe: quick\n");
    let mut experiment = experiment::read(
        "e.yaml",
        "recipe: quick\nname: other\nset: {data.root: /x}\n",
        None,
        &Options::default(),
    )
    .unwrap();
    experiment.title = "something else".to_owned();
    let b = plan(experiment, None, &data).unwrap();
    assert_eq!(a.stages[0].fingerprint, b.stages[0].fingerprint);
    let c = planned("recipe: quick\nset: {optimizer.lr: 4.0000001e-3}\n");
    assert_ne!(a.stages[0].fingerprint, c.stages[0].fingerprint);
}

#[test]
fn the_resolver_is_asked_once_for_each_data_set() {
    let asked = std::sync::Mutex::new(Vec::new());
    let resolver = |config: &DataConfig| {
        asked.lock().unwrap().push(config.name.clone());
        data(config)
    };
    let text = "recipe: quick\nseeds: 3\naxes: {data.name: [imagenet-1k, bluemarble-climate], optimizer.lr: [1e-3, 2e-3]}\nstages: {a: {}, b: {from: a, set: {train.epochs: 2}}}\n";
    let plan = plan(
        experiment::read("e.yaml", text, None, &Options::default()).unwrap(),
        None,
        &resolver,
    )
    .unwrap();
    assert_eq!(
        *asked.lock().unwrap(),
        ["imagenet-1k", "bluemarble-climate"]
    );
    assert_eq!(plan.data().count(), 2);
    let text = text.replace("imagenet-1k", "imagenet-2k");
    assert_eq!(
        problems(&text),
        "e.yaml:3:20: data set `imagenet-2k` is not known\n  3 | axes: {data.name: [imagenet-2k, bluemarble-climate], optimizer.lr: [1e-3, 2e-3]}\n    |                    ^"
    );
}

fn sets(name: &str, data: &DataConfig) -> Result<NamedSet, String> {
    if name == "gone" {
        return Err(format!("data set `{name}` is not known"));
    }
    Ok(NamedSet {
        name: name.to_owned(),
        hash: blake3::hash(format!("{name} {}", data.name).as_bytes()).to_string(),
        images: 100,
    })
}

fn plan_sets(text: &str, sets: &SetResolver<'_>) -> Result<Plan, Problems> {
    let experiment = experiment::read("e.yaml", text, None, &Options::default())?;
    plan_with(experiment, None, &Resolvers { data: &data, sets })
}

#[test]
fn further_evaluations_are_part_of_a_stage() {
    let base = "recipe: quick\nset: {eval.resolutions: RESOLUTIONS, eval.sets: SETS}\n";
    let with = |resolutions: &str, names: &str| {
        let text = base
            .replace("RESOLUTIONS", resolutions)
            .replace("SETS", names);
        plan_sets(&text, &sets).unwrap_or_else(|problems| panic!("{problems}"))
    };
    let plan = with("[64, 32]", "[v2, real]");
    let spec = plan.stage_spec(0);
    assert_eq!(spec.recipe.eval.resolutions, [32, 64]);
    assert_eq!(spec.recipe.eval.sets, ["real", "v2"]);
    let names: Vec<&str> = spec.evaluation_sets.iter().map(|set| &*set.name).collect();
    assert_eq!(names, ["real", "v2"]);
    assert_eq!(plan.evaluation_sets().count(), 2);
    assert_eq!(spec.compute_fingerprint(), plan.stages[0].fingerprint);
    // The order says nothing; the content of a set and its name do.
    let fingerprint = |plan: &Plan| plan.stages[0].fingerprint;
    assert_eq!(
        fingerprint(&with("[32, 64]", "[real, v2]")),
        fingerprint(&plan)
    );
    let others = [
        with("[]", "[real, v2]"),
        with("[32, 64]", "[real]"),
        with("[32, 64]", "[]"),
        with("[32, 48]", "[real, v2]"),
    ];
    let mut all: HashSet<_> = others.iter().map(fingerprint).collect();
    all.insert(fingerprint(&plan));
    let mut changed = spec.clone();
    changed.evaluation_sets[1].hash = "0".repeat(32);
    all.insert(changed.compute_fingerprint());
    assert_eq!(all.len(), 6);
    assert_eq!(
        plan.differences(0, &others[1].stage_spec(0)).len(),
        2,
        "the field and the content"
    );

    // Both count in what a stage costs, and the headline's resolution counts once.
    let cost = |plan: &Plan| plan.stages[0].cost;
    for plan in others.iter().chain([&plan]) {
        let spec = plan.stage_spec(0);
        let of_recipe = cost::of_recipe(
            &spec.recipe,
            spec.task,
            spec.data_shape,
            &spec.evaluation_sets,
        );
        assert_eq!(of_recipe, cost(plan));
    }
    let none = with("[]", "[]");
    assert!(cost(&none).flops < cost(&others[0]).flops);
    assert!(cost(&others[0]).flops < cost(&plan).flops);
    assert_eq!(
        cost(&with("[]", "[v2]")).disk_bytes - cost(&none).disk_bytes,
        16 * 100 + 44
    );
    assert_eq!(cost(&with("[48]", "[]")), cost(&none));
}

#[test]
fn every_evaluation_set_is_asked_for_once() {
    let asked = std::sync::Mutex::new(Vec::new());
    let resolver = |name: &str, data: &DataConfig| {
        asked
            .lock()
            .unwrap()
            .push(format!("{name} of {}", data.name));
        sets(name, data)
    };
    let text = "recipe: quick\nseeds: 2\naxes: {data.name: [imagenet-1k, bluemarble-climate], x: {a: {eval.sets: [v2]}, b: {eval.sets: [real, v2]}, c: {}}}\n";
    let plan = plan_sets(text, &resolver).unwrap_or_else(|problems| panic!("{problems}"));
    let mut asked = asked.lock().unwrap().clone();
    asked.sort_unstable();
    assert_eq!(
        asked,
        [
            "real of bluemarble-climate",
            "real of imagenet-1k",
            "v2 of bluemarble-climate",
            "v2 of imagenet-1k"
        ]
    );
    for (index, stage) in plan.stages.iter().enumerate() {
        let spec = plan.stage_spec(index as u32);
        assert_eq!(spec.compute_fingerprint(), stage.fingerprint);
        assert_eq!(spec.evaluation_sets.len(), spec.recipe.eval.sets.len());
    }
}

#[test]
fn a_missing_evaluation_set_is_shown_where_it_is_named() {
    let text = "recipe: quick\nset:\n  eval.sets: [v2, gone]\n";
    let problem = "e.yaml:3:14: data set `gone` is not known\n  3 |   eval.sets: [v2, gone]\n    |              ^";
    let shown = plan_sets(text, &sets).map(|_| ()).unwrap_err().to_string();
    assert_eq!(shown, problem);
    for (value, message) in [
        (
            "eval.sets: v2",
            "`eval.sets` expects a list of names of data sets",
        ),
        ("eval.sets: [val]", "`eval.sets` can't hold `val`"),
        (
            "eval.sets: [../v2]",
            "`eval.sets` expects names of data sets, not the string `../v2`",
        ),
        ("eval.sets: [v2, v2]", "`eval.sets` names `v2` twice"),
        (
            "eval.resolutions: 32",
            "`eval.resolutions` expects a list of whole numbers, not `32`",
        ),
        (
            "eval.resolutions: [32, 32]",
            "`eval.resolutions` names `32` twice",
        ),
        (
            "eval.resolutions: [32, 0]",
            "`eval.resolutions` must be 1 to 4096, not 0",
        ),
        (
            "eval.resolutions: [32.5]",
            "`eval.resolutions` expects a whole number, not `32.5`",
        ),
        (
            "eval.resolutions: [32, 6]",
            "`eval.resolutions` has 6, which is smaller than one patch (8)",
        ),
    ] {
        let text = format!("recipe: quick\nset: {{{value}}}\n");
        let shown = plan_sets(&text, &sets).map(|_| ()).unwrap_err().to_string();
        assert!(shown.contains(message), "{shown}");
    }
}

#[test]
fn command_line_changes() {
    let options = |f: &dyn Fn(&mut Options)| {
        let mut options = Options::default();
        f(&mut options);
        options
    };
    let plan = plan_text(TWO, &options(&|o| o.seeds = Some("0,4".into()))).unwrap();
    assert_eq!(plan.runs[1].seed, 4);
    let plan = plan_text(TWO, &options(&|o| o.seeds = Some("5".into()))).unwrap();
    assert_eq!(plan.runs.len(), 30);
    let plan = plan_text(
        TWO,
        &options(&|o| o.only = vec!["a=y".into(), "b=p".into(), "b=r".into()]),
    )
    .unwrap();
    assert_eq!(names(&plan), ["y,p", "y,r"]);
    let error = |f: &dyn Fn(&mut Options)| {
        plan_text(TWO, &options(f))
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error(&|o| o.only = vec!["b=z".into()]),
        "--only b=z: axis `b` has no label `z`; known: p, q, r"
    );
    assert_eq!(
        error(&|o| o.only = vec!["c=z".into()]),
        "--only c=z: unknown axis `c`; known: a, b"
    );
    assert_eq!(
        error(&|o| o.set = vec![
            "optimizer.lr=fast".into(),
            "optimzer.lr=1".into(),
            "x".into()
        ]),
        "--set:1:14: `optimizer.lr` expects a number, not the string `fast`\n  1 | optimizer.lr=fast\n    |              ^\n\
         --set:1:1: unknown key `optimzer.lr` in recipe; did you mean `optimizer.lr`?\n  1 | optimzer.lr=1\n    | ^\n\
         --set:1:1: `x` is no `path=value`; write `--set optimizer.lr=1e-3`\n  1 | x\n    | ^"
    );
    assert_eq!(
        error(&|o| o.seeds = Some("many".into())),
        "--seeds many: `many` is neither a count nor a list of seeds; write `--seeds 5` or `--seeds 0,1,2`"
    );
    assert_eq!(
        error(&|o| o.profile = Some("papr".into())),
        "--profile papr: e.yaml has no profile `papr`; it has no profiles"
    );
    assert_eq!(
        error(&|o| o.set = vec!["optimizer.lr=1".into()]),
        "e.yaml:3:3: axis `a` has no effect; `--set` overrides what it sets\n  3 |   a: {x: {optimizer.lr: 1e-3}, y: {optimizer.lr: 2e-3}}\n    |   ^"
    );
}

#[test]
fn a_profile_is_a_patch_over_the_file() {
    let text = "
recipe: quick
set: {train.epochs: 4}
axes: {optimizer.lr: [1e-3, 2e-3], augment.hflip: [0, 0.5]}
stages: {a: {set: {mix.prob: 0.1}}}
exclude: [{optimizer.lr: 1e-3, augment.hflip: 0.5}]
profiles:
  quick: {seeds: 2}
  big:
    set: {train.batch_size: 128}
    axes: {augment.hflip: null, train.repeated_augmentation: [1, 3]}
    stages: {a: {set: {mix.switch_prob: 0.25}}, b: {from: a}}
    exclude: null
";
    assert_eq!(planned(text).runs.len(), 6);
    let options = Options {
        profile: Some("big".into()),
        ..Options::default()
    };
    let plan = plan_text(text, &options).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(names(&plan), ["1e-3,1", "1e-3,3", "2e-3,1", "2e-3,3"]);
    let recipe = plan.stage_spec(plan.runs[0].stages[0]).recipe;
    assert_eq!((recipe.train.epochs, recipe.train.batch_size), (4, 128));
    assert_eq!((recipe.mix.prob, recipe.mix.switch_prob), (0.1, 0.25));
    assert_eq!(plan.experiment.stage_names, ["a", "b"]);
    // The problems of profiles that are not used show, too.
    let broken = text.replace("train.batch_size: 128", "train.batch_sizes: 128");
    assert!(problems(&broken).starts_with(
        "e.yaml:10:11: unknown key `train.batch_sizes` in `set`; did you mean `train.batch_size`?"
    ));
}

#[test]
fn rules_between_fields_point_at_what_was_set_last() {
    assert_eq!(
        problems(
            "recipe: quick\naxes:\n  optimizer.lr: [1e-3, 2e-3]\n  model.num_heads: [2, 3]\nset:\n  loss.label_smoothing: 0.1\n"
        ),
        "e.yaml:4:24: `model.embed_dim` 64 is no multiple of `model.num_heads` 3 (variant `1e-3,3`)\n  4 |   model.num_heads: [2, 3]\n    |                        ^\n\
         e.yaml:6:25: `loss.name` bce can't be used with `loss.label_smoothing` 0.1 (variant `1e-3,2`); every class would become positive; set it to 0, or use `bce_soft`\n  6 |   loss.label_smoothing: 0.1\n    |                         ^"
    );
    for (set, message) in [
        (
            "train.resolution: 6",
            "`train.resolution` 6 is smaller than one patch (8)",
        ),
        (
            "eval.resolution: 6",
            "`eval.resolution` 6 is smaller than one patch (8)",
        ),
        (
            "mix.groups: 3",
            "`train.batch_size` 64 is no multiple of `train.accumulation` 1 x `mix.groups` 3",
        ),
        (
            "mix.groups: 64",
            "Mixup and CutMix pair images, but a mixing group has 1 of them",
        ),
        (
            "train.batch_size: 8192",
            "`train.batch_size` 8192 is larger than the training set (3906 images)",
        ),
        (
            "schedule.warmup_epochs: 21",
            "`schedule.warmup_epochs` 21 is more than `train.epochs` 20",
        ),
        (
            "ema.eval: true",
            "`ema.eval` needs an average, but `ema.decay` is null",
        ),
        (
            "augment: {policy: three_augment, three_augment_ops: []}",
            "has no operation to choose from",
        ),
        (
            "augment: {crop: src, src_padding: 48}",
            "can't be reflected from 48 pixels",
        ),
    ] {
        let shown = problems(&format!("recipe: quick\nset:\n  {set}\n"));
        assert!(
            shown.starts_with("e.yaml:3:") && shown.contains(message),
            "{shown}"
        );
    }
    assert_eq!(
        planned("recipe: quick\nset: {mix: {groups: 64, prob: 0}}\n").warnings,
        []
    );
    let text = "recipe: quick\nset: {optimizer: {weight_decay: 0, always_adapt: true}}\n";
    assert_eq!(planned(text).warnings, []);
    for policy in ["rand-m9", "autoaugment", "v0-mstd0.5", "trivialaugment"] {
        let set = format!("augment: {{policy: {policy}, color_jitter: 0.3}}");
        let plan = planned(&format!("recipe: quick\nset: {{{set}}}\n"));
        let warning = plan.warnings[0].to_string();
        let expected =
            format!("`augment.color_jitter` is not used with `augment.policy` {policy};");
        assert!(warning.contains(&expected), "{warning}");
    }
    let plan = planned("recipe: quick\nset: {optimizer.weight_decay: 0}\n");
    assert_eq!(
        plan.warnings[0].to_string(),
        "e.yaml:2:31: warning: LAMB with `optimizer.weight_decay` 0 has no trust ratio; it is Adam then, as in the reference; a small decay or `optimizer.always_adapt` keeps the ratio\n  2 | set: {optimizer.weight_decay: 0}\n    |                               ^"
    );
}

#[test]
fn dead_axes_and_equal_variants() {
    let shown = problems(
        "recipe: quick\naxes: {train.epochs: [1, 2]}\nstages: {a: {set: {train.epochs: 4}}}\n",
    );
    assert!(shown.starts_with("e.yaml:2:8: axis `train.epochs` has no effect; every stage overrides what it sets (line 3)"), "{shown}");
    let plan = planned(
        "recipe: quick\naxes: {x: {a: {train.epochs: 2}, b: {train: {epochs: 2.0}}, c: {train.epochs: 3}}}\n",
    );
    assert_eq!(plan.stages.len(), 2);
    assert!(
        plan.warnings[0]
            .to_string()
            .contains("warning: variants `a` and `b` are the same in every stage")
    );
}

#[test]
fn open_fields_are_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("recipes")).unwrap();
    std::fs::write(
        folder.path().join("recipes/mine.yaml"),
        "optimizer.lr: 1e-3\n",
    )
    .unwrap();
    std::fs::write(folder.path().join("recipes/loop.yaml"), "inherits: pool\n").unwrap();
    std::fs::write(folder.path().join("recipes/pool.yaml"), "inherits: loop\n").unwrap();
    let file = folder.path().join("e.yaml");
    let plan_it = |text: &str| {
        std::fs::write(&file, text).unwrap();
        plan_file(&file, &Request::default(), &data)
            .map(|plan| plan.runs.len())
            .unwrap_err()
            .to_string()
    };
    let shown = plan_it("recipe: mine\naxes: {model.depth: [1, 2]}\n");
    assert!(shown.contains("e.yaml:1:9: recipe `mine` leaves `model.patch_size`, `model.embed_dim`, `model.num_heads`, `train.resolution`"), "{shown}");
    assert_eq!(shown.matches("leaves").count(), 1);
    assert!(!shown.contains("model.depth`,"), "{shown}");
    let shown = plan_it("recipe: loop\n");
    assert!(
        shown.contains("pool.yaml:1:11: recipes inherit in a circle: loop -> pool -> loop"),
        "{shown}"
    );
    let shown = plan_it("recipe: mien\n");
    assert!(
        shown.contains("e.yaml:1:9: unknown recipe `mien`; did you mean `mine`?"),
        "{shown}"
    );
    let shown = plan_it("recipe: ../../etc/passwd\n");
    assert!(shown.contains("is no name of a recipe"), "{shown}");
}

#[test]
fn large_grids_are_counted_not_made() {
    let mut text = "recipe: quick\naxes:\n".to_owned();
    for path in [
        "optimizer.lr",
        "optimizer.weight_decay",
        "optimizer.eps",
        "schedule.min_lr",
        "mix.mixup_alpha",
        "mix.cutmix_alpha",
        "schedule.warmup_lr",
        "augment.color_jitter",
        "model.drop_path",
    ] {
        let values: Vec<String> = (1..=10)
            .map(|i| format!("{:?}", f64::from(i) / 20.0))
            .collect();
        text.push_str(&format!("  {path}: [{}]\n", values.join(", ")));
    }
    let shown = problems(&text);
    assert!(
        shown.contains(
            "the experiment has 1.000e9 cells (1.000e9 variants x 1 seeds), more than 100000"
        ),
        "{shown}"
    );
    assert!(shown.contains("--max-cells"));
    let shown = problems("recipe: quick\nseeds: 1000000000000\n");
    assert!(shown.contains("1.000e12 cells"), "{shown}");
}

/// Sizes at which anything quadratic would take minutes.
#[test]
fn long_axes_and_broken_grids_are_quick() {
    let values = (1..=60_000)
        .map(|i| format!("{i}e-6"))
        .collect::<Vec<_>>()
        .join(", ");
    let start = std::time::Instant::now();
    for design in ["path", "one_at_a_time", "zip", "product"] {
        let plan = planned(&format!(
            "recipe: quick\ndesign: {design}\naxes: {{optimizer.lr: [{values}]}}\n"
        ));
        assert_eq!(plan.runs.len(), 60_000);
    }
    // Every cell breaks a rule, each with another value.
    let shown = problems(&format!(
        "recipe: quick\nset: {{loss.name: bce}}\naxes: {{loss.label_smoothing: [{values}]}}\n"
    ));
    assert!(
        shown.contains("and ") && shown.lines().count() < 400,
        "{shown}"
    );
    assert!(
        start.elapsed() < std::time::Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
}

fn grid(side: usize) -> String {
    let values = |f: &dyn Fn(usize) -> f64| {
        (0..side)
            .map(|i| format!("{:?}", f(i)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    format!(
        "recipe: quick\naxes:\n  optimizer.lr: [{}]\n  optimizer.weight_decay: [{}]\n",
        values(&|i| 1e-3 + i as f64 * 1e-6),
        values(&|i| 0.01 + i as f64 * 1e-5)
    )
}

/// Not a test but a measurement: `cargo test --release -- --ignored --nocapture planning_speed`.
#[test]
#[ignore = "a measurement"]
fn planning_speed() {
    for side in [10, 100, 1000] {
        let text = grid(side);
        let start = std::time::Instant::now();
        let experiment = experiment::read("e.yaml", &text, None, &Options::default()).unwrap();
        let read = start.elapsed();
        let plan = plan(experiment, Some(u64::MAX), &data).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap_or_default()
            .to_owned();
        println!(
            "{} cells: {:?} (reading {read:?}), {} stages, {peak}",
            side * side,
            start.elapsed(),
            plan.stages.len()
        );
    }
}

#[test]
fn differences_name_what_changed() {
    let a = planned("recipe: quick\n");
    let b = planned("recipe: quick\nset: {optimizer.lr: 1e-3}\nseeds: [2]\n");
    assert_eq!(
        b.differences(0, &a.stage_spec(0)),
        ["optimizer.lr: 0.01 -> 0.001", "seed: 0 -> 2"]
    );
    assert_eq!(a.differences(0, &a.stage_spec(0)), [] as [&str; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Counts before and after expansion agree for every design, and names are unique.
    #[test]
    fn counts_agree(lengths in prop::collection::vec(1usize..5, 0..4), design in 0usize..4, seeds in 1u64..4) {
        let paths = ["optimizer.lr", "optimizer.weight_decay", "mix.prob", "augment.hflip"];
        let mut text = format!("recipe: quick\nseeds: {seeds}\n");
        if !lengths.is_empty() {
            text.push_str("axes:\n");
        }
        for (axis, length) in lengths.iter().enumerate() {
            let length = if design == 1 { lengths[0] } else { *length };
            let values: Vec<String> = (1..=length).map(|i| format!("{}", i as f64 / 10.0)).collect();
            text.push_str(&format!("  {}: [{}]\n", paths[axis], values.join(", ")));
        }
        text.push_str(["", "design: zip\n", "design: one_at_a_time\n", "design: path\n"][design]);
        let expected = match design {
            0 => lengths.iter().product::<usize>(),
            1 => lengths.first().copied().unwrap_or(1),
            _ => 1 + lengths.iter().map(|length| length - 1).sum::<usize>(),
        };
        let experiment = experiment::read("e.yaml", &text, None, &Options::default()).unwrap();
        prop_assert_eq!(design::count(&experiment), expected as u128);
        let plan = plan(experiment, None, &data).unwrap();
        prop_assert_eq!(plan.variants.len(), expected);
        prop_assert_eq!(plan.runs.len(), expected * seeds as usize);
        // Every variant sets something of its own, so no two runs share a stage.
        prop_assert_eq!(plan.stages.len(), plan.runs.len());
        let names: HashSet<&str> = plan.variants.iter().map(|variant| variant.name.as_str()).collect();
        prop_assert_eq!(names.len(), expected);
    }

    /// The order in which a file names its axes changes the order of runs, not their identity.
    #[test]
    fn identity_does_not_depend_on_order(lr in prop::collection::btree_set(1u32..1000, 1..4), wd in prop::collection::btree_set(1u32..1000, 1..4)) {
        let list = |set: &std::collections::BTreeSet<u32>| set.iter().map(|n| format!("{}", f64::from(*n) / 1000.0)).collect::<Vec<_>>().join(", ");
        let a = planned(&format!("recipe: quick\naxes:\n  optimizer.lr: [{}]\n  optimizer.weight_decay: [{}]\n", list(&lr), list(&wd)));
        let b = planned(&format!("recipe: quick\naxes:\n  optimizer: {{values: [{}], path: optimizer.weight_decay}}\n  optimizer.lr: [{}]\n", list(&wd), list(&lr)));
        let set = |plan: &Plan| plan.stages.iter().map(|stage| stage.fingerprint).collect::<HashSet<_>>();
        prop_assert_eq!(set(&a), set(&b));
    }

    /// Whatever layers set a field, the last of them wins, in each stage.
    #[test]
    fn the_last_layer_wins(layers in prop::collection::vec(any::<bool>(), 7)) {
        let value = |layer: usize| 30 + layer;
        let part = |layer: usize, text: &dyn Fn(usize) -> String| if layers[layer] { text(value(layer)) } else { String::new() };
        let epochs = |value: usize| format!("train.epochs: {value}");
        let first = part(1, &epochs);
        let own = part(4, &|value| format!("stages: {{b: {{train.epochs: {value}}}}}"));
        let comma = if first.is_empty() || own.is_empty() { "" } else { ", " };
        // The axis also sets something else, so that it has an effect in any case.
        let text = format!(
            "recipe: quick\nset: {{{}}}\naxes:\n  x: {{p: {{{first}{comma}{own}}}, q: {{mix.prob: 0}}}}\n  y: {{r: {{{}}}, s: {{augment.hflip: 0}}}}\nstages: {{a: {{}}, b: {{from: a, set: {{{}}}}}}}\n",
            part(0, &epochs), part(2, &epochs), part(3, &epochs),
        );
        let mut options = Options { only: vec!["x=p".into(), "y=r".into()], ..Options::default() };
        if layers[5] {
            options.set.push(format!("train.epochs={}", value(5)));
        }
        if layers[6] {
            options.set.push(format!("stages.b.train.epochs={}", value(6)));
        }
        let plan = plan_text(&text, &options).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
        let epochs = |stage: usize| plan.stage_spec(plan.runs[0].stages[stage]).recipe.train.epochs;
        let last = |order: &[usize]| order.iter().rev().find(|layer| layers[**layer]).map_or(20, |layer| value(*layer));
        prop_assert_eq!(epochs(0), last(&[0, 1, 2, 5]));
        prop_assert_eq!(epochs(1), last(&[0, 1, 2, 3, 4, 5, 6]));
    }

    /// Stages: parents stand before children, fingerprints differ, every run has one stage a name.
    #[test]
    fn shared_stages_form_a_forest(pretrain in 1usize..4, finetune in 1usize..4, seeds in 1u64..4) {
        let list = |count: usize, first: usize| (first..first + count).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
        let plan = planned(&format!(
            "recipe: quick\nseeds: {seeds}\nstages: {{a: {{}}, b: {{from: a}}}}\naxes:\n  p: {{values: [{}], path: train.epochs, stages: [a]}}\n  q: {{values: [{}], path: eval.every, stages: [b]}}\n",
            list(pretrain, 11), list(finetune, 2),
        ));
        let seeds = seeds as usize;
        prop_assert_eq!(plan.stages.len(), seeds * (pretrain + pretrain * finetune));
        let mut known = HashSet::new();
        for (index, stage) in plan.stages.iter().enumerate() {
            prop_assert!(stage.parent.is_none_or(|parent| (parent as usize) < index));
            prop_assert!(known.insert(stage.fingerprint));
        }
        for run in &plan.runs {
            let names: Vec<u32> = run.stages.iter().map(|&stage| plan.stages[stage as usize].name).collect();
            prop_assert_eq!(&names, &[0, 1]);
            prop_assert_eq!(plan.stages[run.stages[1] as usize].parent, Some(run.stages[0]));
        }
    }
}
